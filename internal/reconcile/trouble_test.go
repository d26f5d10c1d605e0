package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	appstreamapi "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/compute"
	"github.com/oriel-project/oriel/internal/compute/sim"
	"github.com/oriel-project/oriel/internal/reconcile"
	"github.com/oriel-project/oriel/internal/service"
	"github.com/oriel-project/oriel/internal/store"
)

// with is like in, with something between the engine and the provider.
func with(t *testing.T, wrap func(compute.Provider) compute.Provider, fn func(w *world)) {
	in(t, fn, func(w *world) { w.wrap = wrap })
}

func TestShutdownInABurst(t *testing.T) {
	in(t, func(w *world) {
		w.config.Quotas.ImageBuilders = 300
		w.svc = service.New(w.config)
		for n := range 300 {
			w.must(w.create(fmt.Sprint("b", n)))
		}
		start := time.Now()
		w.restart() // returns when no pass is under way any more; synctest calls it a deadlock if that never comes
		if took := time.Since(start); took > time.Minute {
			t.Errorf("the engine came to rest after %s", took)
		}
		w.wait("all RUNNING", 10*time.Minute, w.steady)
	})
}

// An image whose data cannot be removed does not stay DELETING, and can be deleted when they can.
func TestImageThatCannotBeRemoved(t *testing.T) {
	in(t, func(w *world) {
		w.must(w.create("hello"))
		w.reach("hello", "RUNNING")
		w.must(w.do("image", "hello"))
		w.reach("hello", "STOPPED")
		w.setInject(failing("EnsureImageGone", errors.New("a container uses it")))
		w.must(w.do("delete image", "hello"))
		w.wait("given up", time.Hour, func() bool { return w.image("image-of-hello").State == types.ImageStateFailed })
		// The log says so once in each state, DELETING and FAILED, however often it was tried.
		if n := strings.Count(w.log.String(), "pass will be repeated"); n < 1 || n > 2 {
			t.Errorf("the log has %d warnings", n)
		}
		w.setInject(nil)
		w.must(w.do("delete image", "hello"))
		w.wait("gone", time.Minute, func() bool { return w.image("image-of-hello") == nil })
		w.check()
	})
}

// A lasting fault is final even if cleaning up after it fails for a while.
func TestNoSpaceToCleanUpEither(t *testing.T) {
	in(t, func(w *world) {
		w.must(w.create("hello"))
		w.reach("hello", "RUNNING")
		captures := 0
		w.setInject(func(method, id string, when sim.When) error {
			if method == "EnsureCaptured" && when == sim.Before {
				captures++
				return &compute.Fault{Message: "no space left on device"}
			}
			return failing("EnsureImageGone", errors.New("no space left on device"))(method, id, when)
		})
		w.must(w.do("image", "hello"))
		w.reach("hello", "STOPPED")
		time.Sleep(time.Hour)
		synctest.Wait()
		if state := w.image("image-of-hello").State; state != types.ImageStateFailed || captures != 1 {
			t.Errorf("the image is %s after %d captures", state, captures)
		}
		w.setInject(nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		w.check()
	})
}

func failing(verb string, err error) func(string, string, sim.When) error {
	return func(method, _ string, when sim.When) error {
		if method == verb && when == sim.Before {
			return err
		}
		return nil
	}
}

// What was asked for before a night without a server is done the next morning.
func TestServerOffOverNight(t *testing.T) {
	for op, end := range map[string]string{"create": "RUNNING", "delete": "", "stop": "STOPPED", "image": "STOPPED"} {
		t.Run(op, func(t *testing.T) {
			in(t, func(w *world) {
				if op != "create" {
					w.must(w.create("hello"))
					w.reach("hello", "RUNNING")
				}
				w.kill() // nothing is begun any more
				w.must(w.do(op, "hello"))
				w.stop()
				time.Sleep(12 * time.Hour)
				w.start()
				if took := w.reach("hello", end); took > time.Minute {
					t.Errorf("took %s", took)
				}
				if op == "image" && w.image("image-of-hello").State != types.ImageStateAvailable {
					t.Errorf("image is %s", w.image("image-of-hello").State)
				}
				w.check()
			})
		})
	}
}

// slow makes captures take their time. They can be cancelled, as a contract-abiding provider's can.
type slow struct {
	compute.Provider
	takes            time.Duration
	running, begun   atomic.Int32
	overlapped, done atomic.Bool
}

func (s *slow) EnsureCaptured(ctx context.Context, id, ref string) error {
	if s.done.Load() {
		return s.Provider.EnsureCaptured(ctx, id, ref)
	}
	s.begun.Add(1)
	if s.running.Add(1) > 1 {
		s.overlapped.Store(true)
	}
	defer s.running.Add(-1)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(s.takes):
		s.done.Store(true)
		return s.Provider.EnsureCaptured(ctx, id, ref)
	}
}

func TestLongCapture(t *testing.T) {
	s := &slow{takes: 100 * time.Minute}
	with(t, func(p compute.Provider) compute.Provider { s.Provider = p; return s }, func(w *world) {
		w.must(w.create("hello"))
		w.reach("hello", "RUNNING")
		w.must(w.do("image", "hello"))
		for n := range 5 { // tags do not disturb it
			time.Sleep(10 * time.Minute)
			_, err := w.svc.TagResource(w.ctx(), &appstreamapi.TagResourceInput{
				ResourceArn: aws.String("arn:aws:appstream:us-east-1:123456789012:image/image-of-hello"), Tags: map[string]string{"n": fmt.Sprint(n)}})
			w.must(err)
		}
		w.wait("captured", 3*time.Hour, func() bool { return w.builder("hello") == "STOPPED" })
		if state := w.image("image-of-hello").State; state != types.ImageStateAvailable || s.overlapped.Load() {
			t.Errorf("image is %s; captures overlapped: %v", state, s.overlapped.Load())
		}
		w.check()
	})
}

func TestCaptureThatNeverEnds(t *testing.T) {
	s := &slow{takes: 1000 * time.Hour}
	with(t, func(p compute.Provider) compute.Provider { s.Provider = p; return s }, func(w *world) {
		w.must(w.create("hello"))
		w.reach("hello", "RUNNING")
		w.must(w.do("image", "hello"))
		w.wait("given up", 5*time.Hour, func() bool { return w.builder("hello") == "STOPPED" })
		image := w.image("image-of-hello")
		if image.State != types.ImageStateFailed || !strings.Contains(aws.ToString(image.StateChangeReason.Message), "not done within") {
			t.Errorf("image is %s: %s", image.State, aws.ToString(image.StateChangeReason.Message))
		}
		w.check()
	})
}

// Delete does not wait for a capture that is under way, also when too much goes on for the engine to be told of it.
func TestDeleteDuringALongCapture(t *testing.T) {
	for name, lags := range map[string]bool{"told": false, "told of too much": true} {
		t.Run(name, func(t *testing.T) {
			s := &slow{takes: 100 * time.Minute}
			in(t, func(w *world) {
				w.must(w.create("hello"))
				w.reach("hello", "RUNNING")
				w.must(w.do("image", "hello"))
				w.wait("capturing", time.Minute, func() bool { return s.running.Load() == 1 })
				_, err := w.svc.TagResource(w.ctx(), &appstreamapi.TagResourceInput{ // that does not disturb it
					ResourceArn: aws.String("arn:aws:appstream:us-east-1:123456789012:image/image-of-hello"), Tags: map[string]string{"a": "b"}})
				w.must(err)
				w.settle()
				if n := s.begun.Load(); n != 1 {
					t.Errorf("tags have the capture begin anew: %d times", n)
				}
				w.must(w.do("delete image", "hello"))
				if took := w.wait("image gone", time.Hour, func() bool { return w.image("image-of-hello") == nil }); took > time.Minute {
					t.Errorf("took %s", took)
				}
				w.reach("hello", "STOPPED")
				w.check()
			}, func(w *world) {
				w.lags = lags
				w.wrap = func(p compute.Provider) compute.Provider { s.Provider = p; return s }
			})
		})
	}
}

// hanging is a provider that does not answer.
type hanging struct {
	compute.Provider
	hangs atomic.Bool
}

func (h *hanging) Observe(ctx context.Context, id string) (appstream.Machine, error) {
	if h.hangs.Load() {
		<-ctx.Done()
		return appstream.Machine{}, ctx.Err()
	}
	return h.Provider.Observe(ctx, id)
}

func TestProviderThatHangs(t *testing.T) {
	h := &hanging{}
	with(t, func(p compute.Provider) compute.Provider { h.Provider = p; return h }, func(w *world) {
		h.hangs.Store(true)
		w.must(w.create("hello"))
		time.Sleep(time.Hour)
		synctest.Wait()
		if b := w.describe("hello"); b.State != types.ImageBuilderStatePending || b.StateChangeReason == nil || !strings.Contains(*b.StateChangeReason.Message, "no answer") {
			t.Errorf("%s, reason %+v", b.State, b.StateChangeReason)
		}
		h.hangs.Store(false)
		if took := w.reach("hello", "RUNNING"); took > 2*time.Minute {
			t.Errorf("RUNNING only %s after it answered again", took)
		}
	})
}

// An orphan that cannot be removed does not keep the sweep from the rest.
func TestStubbornOrphan(t *testing.T) {
	in(t, func(w *world) {
		w.must(w.create("hello"))
		w.reach("hello", "RUNNING")
		machines, err := w.provider.List(w.ctx())
		w.must(err)
		w.must(w.provider.EnsureRunning(w.ctx(), appstream.MachineSpec{ID: "ib-orphan", ImageRef: "base-new"}))
		w.must(w.provider.EnsureGone(w.ctx(), machines[0].ID))
		w.setInject(func(method, id string, when sim.When) error {
			if id == "ib-orphan" {
				return failing("EnsureGone", errors.New("device or resource busy"))(method, id, when)
			}
			return nil
		})
		w.reach("hello", "FAILED")
		w.setInject(nil)
		w.must(w.do("delete", "hello"))
		w.reach("hello", "")
		time.Sleep(time.Minute)
		synctest.Wait()
		w.check()
	})
}

// An image that Oriel made and whose record is gone is removed.
func TestOrphanImage(t *testing.T) {
	in(t, func(w *world) {
		w.must(w.create("hello"))
		w.reach("hello", "RUNNING")
		w.must(w.do("stop", "hello"))
		w.reach("hello", "STOPPED")
		machines, err := w.provider.List(w.ctx())
		w.must(err)
		w.rest()
		w.must(w.provider.EnsureCaptured(w.ctx(), machines[0].ID, "oriel/image:orphan"))
		w.wait("captured", time.Minute, func() bool { refs, _ := w.provider.ListImages(w.ctx()); return len(refs) == 1 })
		w.wait("removed", time.Minute, func() bool { refs, _ := w.provider.ListImages(w.ctx()); return len(refs) == 0 })
	})
}

// The records of public images follow what is on offer.
func TestPublicImagesChange(t *testing.T) {
	in(t, func(w *world) {
		w.images = []compute.PublicImage{
			{Name: "base", Platform: "DEBIAN_12", Ref: "base-new", DisplayName: "changed"},
			{Name: "old", Platform: "DEBIAN_12", State: appstream.ImageFailed},
		}
		w.restart()
		if image := w.image("base"); aws.ToString(image.DisplayName) != "changed" {
			t.Errorf("DisplayName = %q", aws.ToString(image.DisplayName))
		}
		if image := w.image("base"); image.ManagedSoftwareIncluded == nil || *image.ManagedSoftwareIncluded || image.DynamicAppProvidersEnabled != types.DynamicAppProvidersEnabledDisabled {
			t.Errorf("the base image is %+v", image)
		}
		if image := w.image("old"); image.State != types.ImageStateFailed {
			t.Errorf("old is %s", image.State)
		}
		w.images = w.images[:1]
		w.restart()
		if image := w.image("old"); image != nil {
			t.Errorf("old is still there: %s", image.State)
		}
	})
}

// quiet are agents that can fall silent.
type quiet struct {
	reconcile.Agents
	silent, unready atomic.Bool
}

func (q *quiet) Status(ctx context.Context, _ string, wait time.Duration) appstream.Agent {
	if q.silent.Load() {
		return appstream.Agent{Problem: "no answer"}
	}
	if q.unready.Load() {
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		return appstream.Agent{Answers: true, Problem: "the display does not start"}
	}
	return appstream.Agent{Answers: true, Ready: true}
}

// Events go when they are as old as the settings say, and audit lines stay.
func TestOldEventsGo(t *testing.T) {
	in(t, func(w *world) {
		w.retention = 3 * time.Hour
		w.restart()
		w.must(w.create("hello"))
		w.reach("hello", "RUNNING")
		lines := func() (events, audits int) {
			w.must(w.store.View(w.ctx(), func(tx store.Tx) error {
				list, err := tx.Events(store.LogQuery{})
				log, err2 := tx.Audits(store.LogQuery{})
				events, audits = len(list), len(log)
				return errors.Join(err, err2)
			}))
			return events, audits
		}
		time.Sleep(2 * time.Hour)
		if events, audits := lines(); events != 2 || audits != 1 {
			t.Errorf("after 2 hours there are %d events and %d audit lines", events, audits)
		}
		time.Sleep(2 * time.Hour)
		if events, audits := lines(); events != 1 || audits != 1 { // the newest stays
			t.Errorf("after 4 hours there are %d events and %d audit lines", events, audits)
		}
	})
}

func TestSilentAgentIsRebooted(t *testing.T) {
	q := &quiet{}
	in(t, func(w *world) {
		w.must(w.create("hello"))
		w.reach("hello", "RUNNING")
		q.silent.Store(true)
		w.must(w.wake("hello"))
		w.reach("hello", "REBOOTING")
		q.silent.Store(false)
		w.reach("hello", "RUNNING")
		w.check()
	}, func(w *world) { w.agents = q })
}

func TestAgentThatIsNeverReady(t *testing.T) {
	q := &quiet{}
	q.unready.Store(true)
	in(t, func(w *world) {
		w.must(w.create("hello"))
		w.reach("hello", "FAILED")
		if reason := w.describe("hello").StateChangeReason; !strings.Contains(aws.ToString(reason.Message), "the display does not start") {
			t.Errorf("reason: %s", aws.ToString(reason.Message))
		}
	}, func(w *world) { w.agents = q })
}

// The store goes away under the engine: it says so now and then, and ends when it is told to.
func TestStoreClosedUnderTheEngine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.must(w.store.Close())
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := strings.Count(w.log.String(), "cannot claim"); n == 0 || n > 100 {
			t.Errorf("%d complaints within a minute", n)
		}
		w.engineStop()
	})
}

// snatcher removes a machine between the look at it and its start, as an administrator's hand may.
type snatcher struct {
	compute.Provider
	snatches *atomic.Bool
}

func (s snatcher) EnsureRunning(ctx context.Context, spec appstream.MachineSpec) error {
	return errors.Join(s.snatch(ctx, spec.ID), s.Provider.EnsureRunning(ctx, spec))
}

func (s snatcher) EnsureStarted(ctx context.Context, spec appstream.MachineSpec) error {
	return errors.Join(s.snatch(ctx, spec.ID), s.Provider.EnsureStarted(ctx, spec))
}

func (s snatcher) snatch(ctx context.Context, id string) error {
	if !s.snatches.CompareAndSwap(true, false) {
		return nil
	}
	if err := s.Provider.EnsureGone(ctx, id); err != nil {
		return err
	}
	for {
		m, err := s.Provider.Observe(ctx, id)
		if err != nil || m.Phase == appstream.MachineAbsent {
			return err
		}
		time.Sleep(time.Until(m.NextChange))
	}
}

// A machine that was removed while it was about to be started is not silently replaced by an empty one.
func TestMachineRemovedBeforeItsStart(t *testing.T) {
	t.Run("image builder", func(t *testing.T) {
		var snatches atomic.Bool
		with(t, func(p compute.Provider) compute.Provider { return snatcher{p, &snatches} }, func(w *world) {
			w.must(w.create("hello"))
			w.reach("hello", "RUNNING")
			w.must(w.do("stop", "hello"))
			w.reach("hello", "STOPPED")
			snatches.Store(true)
			w.must(w.do("start", "hello"))
			w.reach("hello", "FAILED")
			if b := w.describe("hello"); b.StateChangeReason == nil || !strings.Contains(*b.StateChangeReason.Message, "vanished") {
				t.Errorf("the reason is %+v", b.StateChangeReason)
			}
			w.must(w.do("start", "hello")) // now that is what was asked for
			w.reach("hello", "RUNNING")
			w.check()
		})
	})
	t.Run("app block builder", func(t *testing.T) {
		var snatches atomic.Bool
		with(t, func(p compute.Provider) compute.Provider { return snatcher{p, &snatches} }, func(w *world) {
			w.packager()
			w.must(w.pack("start"))
			w.reachPackager("RUNNING")
			list, err := w.provider.List(w.ctx())
			w.must(err)
			snatches.Store(true)
			w.must(w.provider.EnsureStopped(w.ctx(), list[0].ID)) // as a machine that ends by itself: it would be started again
			w.reachPackager("STOPPED")
			if b := w.describePackager(); len(b.AppBlockBuilderErrors) != 1 || !strings.Contains(*b.AppBlockBuilderErrors[0].ErrorMessage, "vanished") {
				t.Errorf("%+v", b)
			}
			w.checkPackager()
		})
	})
}
