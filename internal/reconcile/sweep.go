package reconcile

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/compute"
	"github.com/oriel-project/oriel/internal/store"
	"uuid"
)

// sweepLoop compares the world with the records: at the start, and every so often.
func (e *Engine) sweepLoop(ctx context.Context) {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		if err := e.Sweep(ctx); err != nil && ctx.Err() == nil {
			e.Log.Warn("sweep failed", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// sight is what a sweep depends on, save what time brings nearer by itself.
type sight struct {
	at       time.Time // by the host's clock
	commits  uint64
	offered  []compute.PublicImage
	machines []appstream.Machine
	refs     []string
}

// same tells whether a sweep of s would find what one of the earlier sight has found. A clock that has been set back makes records wait that did not wait too long.
func (s *sight) same(earlier *sight) bool {
	return earlier != nil && s.commits == earlier.commits && !s.at.Before(earlier.at) &&
		reflect.DeepEqual(s.offered, earlier.offered) && reflect.DeepEqual(s.machines, earlier.machines) && slices.Equal(s.refs, earlier.refs)
}

// Sweep wakes the records whose machine is not as their state says and those that wait for too long, removes machines and images that belong to no
// record, and takes up the provider's public images.
// One that fails does not keep the others from being done. Where nothing has changed since there was nothing to do, no record is read.
func (e *Engine) Sweep(ctx context.Context) error {
	e.sweeping.Lock()
	defer e.sweeping.Unlock()
	// The provider first: a machine or an image is made after its record, so one without a record now will never have one.
	now := &sight{at: time.Now().Round(0), commits: e.Store.Generation()}
	var errOffered, errMachines, errImages error
	now.offered, errOffered = e.Provider.PublicImages(ctx)
	now.machines, errMachines = e.Provider.List(ctx)
	now.refs, errImages = e.Provider.ListImages(ctx)
	errLogs := e.sweepLogs(ctx)
	if errOffered == nil && errMachines == nil && errImages == nil && now.same(e.swept) {
		return errLogs
	}
	removed := false
	if errOffered == nil {
		errOffered = e.offerPublicImages(ctx, now.offered)
	}
	errWaits := e.sweepWaits(ctx)
	if errMachines == nil {
		removed, errMachines = e.sweepMachines(ctx, now.machines)
	}
	if errImages == nil {
		var more bool
		more, errImages = e.sweepImages(ctx, now.refs)
		removed = removed || more
	}
	err := errors.Join(errOffered, errWaits, errMachines, errImages, errLogs)
	if e.swept = now; removed || err != nil {
		e.swept = nil
	}
	return err
}

// maxEvents is how many events there are at most, about 300 MB.
const maxEvents = 1_000_000

// trimAtOnce is how many lines of a log one sweep removes: others' writes wait for it.
const trimAtOnce = 5000

// sweepLogs removes lines of the logs that are too old or too many.
func (e *Engine) sweepLogs(ctx context.Context) error {
	now := time.Now()
	if now.Before(e.trim) {
		return nil
	}
	since := func(kept time.Duration) time.Time {
		if kept == 0 {
			return time.Time{}
		}
		return now.Add(-kept)
	}
	events, audits := 0, 0
	err := e.Store.Update(ctx, func(tx store.Tx) (err error) {
		events, err = tx.Trim(store.EventLog, since(e.Retention.Events), maxEvents, trimAtOnce)
		if err == nil {
			audits, err = tx.Trim(store.AuditLog, since(e.Retention.Audit), math.MaxInt64, trimAtOnce)
		}
		return err
	})
	if err == nil && max(events, audits) < trimAtOnce-1 { // nothing is left to remove
		e.trim = now.Add(trimEvery)
	}
	return err
}

// trimEvery is how often the logs are looked at.
const trimEvery = time.Hour

// longestWait is how far ahead a record can be due, save those that are patient.
const longestWait = 15 * time.Minute

// patient says of the nouns whose records wait longer in which state they do: for the end of a session, or for a date, whatever the clock was when they began
// to wait. Waking them would be a write each, at every sweep.
var patient = map[appstream.Noun]string{
	appstream.NounSession:      appstream.SessionActive,
	appstream.NounLicenseUsage: appstream.LicenseRecorded,
	appstream.NounUsageRecord:  appstream.UsageRecorded,
	appstream.NounUsageReports: appstream.SubscriptionActive,
}

// sweepWaits wakes what is due too far ahead: since that was written, the host's clock has been set back.
func (e *Engine) sweepWaits(ctx context.Context) error {
	limit := time.Now().Add(longestWait)
	var wake []appstream.Key
	err := e.Store.View(ctx, func(tx store.Tx) error {
		for noun := range e.nouns {
			err := tx.Scan(store.Query{Noun: noun, Heads: true}, func(head appstream.Meta, _ func(appstream.Record) error) error {
				if head.Due.After(limit) && head.State != patient[noun] {
					wake = append(wake, head.Key)
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return e.wake(ctx, wake)
}

// steady says of each noun that has machines which phase they have in the states that the engine does not look at by itself.
var steady = map[appstream.Noun]map[string]appstream.Phase{
	appstream.NounImageBuilder: {
		appstream.BuilderRunning: appstream.MachineRunning,
		appstream.BuilderStopped: appstream.MachineStopped,
	},
	appstream.NounAppBlockBuilder: {
		appstream.AppBlockBuilderRunning: appstream.MachineRunning,
		appstream.AppBlockBuilderStopped: appstream.MachineAbsent,
	},
	appstream.NounInstance: {
		appstream.InstancePrepared:  appstream.MachineStopped,
		appstream.InstanceAvailable: appstream.MachineRunning,
		appstream.InstanceInUse:     appstream.MachineRunning,
		appstream.InstanceDraining:  appstream.MachineRunning,
	},
	appstream.NounComposition: {}, // it has a machine only while it is on its way
}

// sweepMachines looks for machines that are not as their records say, and removes those without one. It tells whether there were any.
func (e *Engine) sweepMachines(ctx context.Context, machines []appstream.Machine) (removed bool, err error) {
	phase := make(map[string]appstream.Phase, len(machines))
	for _, m := range machines {
		phase[m.ID] = m.Phase
	}
	known := map[string]bool{}
	var wake []appstream.Key
	err = e.Store.View(ctx, func(tx store.Tx) error {
		for noun, phases := range steady {
			err := tx.Scan(store.Query{Noun: noun, Heads: true}, func(head appstream.Meta, _ func(appstream.Record) error) error {
				known[head.ID] = true
				if want, ok := phases[head.State]; ok && phase[head.ID] != want && head.Due.IsZero() {
					wake = append(wake, head.Key)
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return false, err
	}
	errs := []error{e.wake(ctx, wake)}
	for _, m := range machines {
		if !known[m.ID] {
			e.Log.Warn("removing a machine that belongs to no record", "id", m.ID, "phase", m.Phase)
			removed = true
			errs = append(errs, e.Provider.EnsureGone(ctx, m.ID))
		}
	}
	return removed, errors.Join(errs...)
}

// sweepImages looks for compositions whose image has vanished, and removes images that no record names. It tells whether there were any.
func (e *Engine) sweepImages(ctx context.Context, refs []string) (removed bool, err error) {
	known := map[string]bool{}
	var vanished []appstream.Key // compositions
	err = e.Store.View(ctx, func(tx store.Tx) error {
		err := tx.Scan(store.Query{Noun: appstream.NounImage}, func(_ appstream.Meta, decode func(appstream.Record) error) error {
			var image appstream.Image
			if err := decode(&image); err != nil {
				return err
			}
			known[image.Ref], known[image.LoadedRef] = true, true
			return nil
		})
		if err != nil {
			return err
		}
		return tx.Scan(store.Query{Noun: appstream.NounComposition}, func(head appstream.Meta, decode func(appstream.Record) error) error {
			var c appstream.Composition
			if err := decode(&c); err != nil {
				return err
			}
			known[c.Ref] = true
			if head.State == appstream.CompositionReady && head.Due.IsZero() && !slices.Contains(refs, c.Ref) {
				vanished = append(vanished, head.Key)
			}
			return nil
		})
	})
	if err != nil {
		return false, err
	}
	errs := []error{e.wake(ctx, vanished)}
	for _, ref := range refs {
		if !known[ref] {
			e.Log.Warn("removing an image that belongs to no record", "ref", ref)
			removed = true
			errs = append(errs, e.Provider.EnsureImageGone(ctx, ref))
		}
	}
	return removed, errors.Join(errs...)
}

// offerPublicImages makes the records of public images agree with what the provider offers, in every region.
func (e *Engine) offerPublicImages(ctx context.Context, offered []compute.PublicImage) error {
	for _, region := range e.Regions {
		var stale []appstream.Image // records that are to be removed
		var fresh []appstream.Image // records that are to be written
		have := map[string]appstream.Image{}
		err := e.Store.View(ctx, func(tx store.Tx) error {
			list, err := store.List[appstream.Image](tx, store.Query{Noun: appstream.NounImage, Region: region, Accounts: []string{""}})
			for _, image := range list {
				have[image.Name] = image
			}
			return err
		})
		if err != nil {
			return err
		}
		for _, p := range newest(offered) {
			image, ok := have[p.Name]
			delete(have, p.Name)
			next := publicImage(image, p, region)
			if same, err := equal(next, image); err != nil {
				return err
			} else if !ok || !same {
				fresh = append(fresh, next)
			}
		}
		for _, image := range have {
			stale = append(stale, image)
		}
		if len(stale)+len(fresh) == 0 {
			continue
		}
		err = e.Store.Update(ctx, func(tx store.Tx) error {
			for _, image := range stale {
				if err := tx.Delete(&image); err != nil {
					return err
				}
			}
			for _, image := range fresh {
				write := tx.Put
				if image.Version == 0 {
					write = tx.Insert
				}
				if err := write(&image); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, image := range fresh {
			e.Log.Info("public image", "name", image.Name, "region", region, "state", image.State)
		}
	}
	return nil
}

// newest keeps of public images of the same name (an engine may have an old build beside the new one) the latest release.
func newest(offered []compute.PublicImage) map[string]compute.PublicImage {
	byName := map[string]compute.PublicImage{}
	for _, p := range offered {
		if had, ok := byName[p.Name]; !ok || p.Released.After(had.Released) || p.Released.Equal(had.Released) && p.Ref > had.Ref {
			byName[p.Name] = p
		}
	}
	return byName
}

// publicImage brings the record of a public image, which is empty if there is none yet, in line with the provider's offer.
func publicImage(image appstream.Image, p compute.PublicImage, region string) appstream.Image {
	now := time.Now().UTC()
	if image.ID == "" {
		image.Key = appstream.Key{Region: region, Noun: appstream.NounImage, Name: p.Name}
		image.ID = "img-" + uuid.New().String()
		image.Created = now
	}
	state := p.State
	if state == "" {
		state = appstream.ImageAvailable
	}
	if image.State != state {
		image.Enter(state, now)
	}
	image.Ref = p.Ref
	image.View = types.Image{
		DisplayName:                appstream.Optional(p.DisplayName),
		Description:                appstream.Optional(p.Description),
		Platform:                   types.PlatformType(p.Platform),
		ImageBuilderSupported:      new(true),
		AppstreamAgentVersion:      new("LATEST"),
		DynamicAppProvidersEnabled: types.DynamicAppProvidersEnabledDisabled,
		ImageType:                  types.ImageTypeNative,
		ManagedSoftwareIncluded:    new(false),
		SupportedInstanceFamilies:  appstream.CommonFamilies(),
	}
	if !p.Released.IsZero() {
		image.View.PublicBaseImageReleasedDate = new(p.Released)
	}
	return image
}

// equal tells whether two records say the same, in the form in which they are kept.
func equal(a, b appstream.Image) (bool, error) {
	ja, err := json.Marshal(a)
	if err != nil {
		return false, err
	}
	jb, err := json.Marshal(b)
	return a.State == b.State && bytes.Equal(ja, jb), err
}

// wake makes records due now.
func (e *Engine) wake(ctx context.Context, keys []appstream.Key) error {
	if len(keys) == 0 {
		return nil
	}
	return e.Store.Update(ctx, func(tx store.Tx) error {
		for _, key := range keys {
			if err := tx.Wake(key, time.Now()); err != nil {
				return err
			}
		}
		return nil
	})
}
