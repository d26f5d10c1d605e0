package reconcile_test

import (
	"fmt"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/store"
)

// setClock sets the host's clock forward, or back: everything that was noted before is as much longer ago, or in the future.
func (w *world) setClock(forward time.Duration) {
	w.t.Helper()
	w.must(w.store.Update(w.ctx(), func(tx store.Tx) error {
		for _, noun := range []appstream.Noun{appstream.NounFleet, appstream.NounInstance, appstream.NounSession} {
			err := tx.Scan(store.Query{Noun: noun}, func(_ appstream.Meta, decode func(appstream.Record) error) error {
				rec := map[appstream.Noun]appstream.Record{appstream.NounFleet: &appstream.Fleet{}, appstream.NounInstance: &appstream.Instance{},
					appstream.NounSession: &appstream.Session{}}[noun]
				if err := decode(rec); err != nil {
					return err
				}
				shift(reflect.ValueOf(rec).Elem(), -forward)
				return tx.Put(rec)
			})
			if err != nil {
				return err
			}
		}
		return nil
	}))
}

// shift moves all times in a struct.
func shift(v reflect.Value, by time.Duration) {
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
		if at := v.Interface().(time.Time); !at.IsZero() {
			v.Set(reflect.ValueOf(at.Add(by)))
		}
	case v.Kind() == reflect.Pointer && !v.IsNil():
		shift(v.Elem(), by)
	case v.Kind() == reflect.Struct:
		for n := range v.NumField() {
			if v.Type().Field(n).IsExported() {
				shift(v.Field(n), by)
			}
		}
	}
}

// The clock may be set at any moment: nothing waits for a time that is far away now, nothing is given up that had no time yet.
func TestClockIsSet(t *testing.T) {
	for _, c := range []struct {
		moment string
		do     func(w *world, c *crew)
		check  func(w *world)
	}{
		{"a fleet starts", func(w *world, _ *crew) {
			w.must(w.stopFleet("lab"))
			w.reachFleet("lab", types.FleetStateStopped, 0)
			w.must(w.startFleet("lab"))
			time.Sleep(delay / 2)
		},
			func(w *world) { w.reachFleet("lab", types.FleetStateRunning, 2) }},
		{"a session begins", func(w *world, _ *crew) { _, err := w.open("lab", "ada"); w.must(err); time.Sleep(desktopTime / 2) },
			func(w *world) { w.reachSession(w.sessions("lab")[0].ID, appstream.SessionActive) }},
		{"a session ends", func(w *world, c *crew) {
			c.scripts = 40 * time.Second
			w.must(w.svc.EndSession(w.ctx(), w.sit("lab", "ada").ID))
			time.Sleep(time.Second)
		}, func(w *world) { w.reachFleet("lab", types.FleetStateRunning, 2) }},
		{"a fleet stops", func(w *world, c *crew) {
			c.scripts = 40 * time.Second
			w.sit("lab", "ada")
			w.must(w.stopFleet("lab"))
			time.Sleep(time.Second)
		}, func(w *world) { w.reachFleet("lab", types.FleetStateStopped, 0) }},
		{"someone works", func(w *world, _ *crew) { w.must(w.svc.SessionConnected(w.ctx(), w.sit("lab", "ada").ID, laptop)) }, func(w *world) {
			time.Sleep(time.Minute)
			if s := w.sessions("lab"); len(s) != 1 || s[0].State != appstream.SessionActive {
				w.t.Errorf("the sessions are %+v", s)
			}
		}},
	} {
		for _, kind := range []types.FleetType{types.FleetTypeAlwaysOn, types.FleetTypeOnDemand} {
			for _, jump := range []time.Duration{3 * time.Hour, -3 * time.Hour} {
				t.Run(fmt.Sprint(c.moment, " ", kind, " ", jump), func(t *testing.T) {
					inFleets(t, 1, func(w *world, crew *crew) {
						w.fleet("lab", kind, 2, 1)
						w.reachFleet("lab", types.FleetStateRunning, 2)
						c.do(w, crew)
						synctest.Wait()
						w.setClock(jump)
						began := time.Now()
						c.check(w)
						if took := time.Since(began); took > 2*time.Minute {
							t.Errorf("it took %s", took)
						}
						w.checkSeats("lab")
						w.settleFleets("lab")
						w.checkFleets()
					})
				})
			}
		}
	}
}
