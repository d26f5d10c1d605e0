package reconcile_test

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	appstreamapi "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"pgregory.net/rapid"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/compute"
	"github.com/oriel-project/oriel/internal/store"
)

// hands are an administrator's at the container engine: before and after any look at a machine and anything that is done with it, they may remove it, stop
// it or start it. They note each machine that the server makes under an ID: another one has another disk.
type hands struct {
	compute.Provider
	w     *world
	moves []int // one for each opportunity, in turn: 0 removes, 1 stops, 2 starts, others leave alone

	worked bool // a disk must have had its job done when it is captured

	mu   sync.Mutex
	busy bool
	next int
	made map[string][]time.Time // by ID
}

func (h *hands) work(busy bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.busy = busy
}

// move is one opportunity. The call that it is before or after takes as long as it does.
func (h *hands) move(id string) {
	h.mu.Lock()
	move, busy := h.moves[h.next%len(h.moves)], h.busy
	h.next++
	h.mu.Unlock()
	ctx := context.Background()
	m, err := h.Provider.Observe(ctx, id)
	if !busy || err != nil || m.Phase == appstream.MachineAbsent {
		return
	}
	switch move {
	case 0:
		err = h.Provider.EnsureGone(ctx, id)
	case 1:
		err = h.Provider.EnsureStopped(ctx, id)
	case 2:
		err = h.Provider.EnsureStarted(ctx, appstream.MachineSpec{ID: id, AgentVersion: m.AgentVersion})
	default:
		return
	}
	for err == nil {
		if m, err = h.Provider.Observe(ctx, id); m.NextChange.IsZero() {
			break
		}
		time.Sleep(time.Until(m.NextChange))
	}
	switch l := h.w.labour(); {
	case l == nil:
	case move == 0:
		l.renew(id)
	case move == 1:
		l.forget(id)
	}
}

// labour is the work that the agents of the world do; nil for none.
func (w *world) labour() *labour {
	switch a := w.agents.(type) {
	case *workers:
		return a.labour
	case *crew:
		return a.labour
	}
	return nil
}

func (h *hands) around(id string, do func() error) error {
	h.move(id)
	err := do()
	h.move(id)
	return err
}

// making notes a machine that is made.
func (h *hands) making(id string, do func() error) error {
	return h.around(id, func() error {
		before, errBefore := h.Provider.Observe(context.Background(), id)
		err := do()
		after, errAfter := h.Provider.Observe(context.Background(), id)
		if errBefore == nil && errAfter == nil && before.Phase == appstream.MachineAbsent && after.Phase != appstream.MachineAbsent {
			h.mu.Lock()
			h.made[id] = append(h.made[id], time.Now())
			h.mu.Unlock()
			h.unused(id)
		}
		return err
	})
}

func (h *hands) Observe(ctx context.Context, id string) (m appstream.Machine, err error) {
	err = h.around(id, func() error {
		m, err = h.Provider.Observe(ctx, id)
		return err
	})
	return m, err
}

func (h *hands) EnsureRunning(ctx context.Context, spec appstream.MachineSpec) error {
	return h.making(spec.ID, func() error { return h.Provider.EnsureRunning(ctx, spec) })
}

func (h *hands) EnsureStarted(ctx context.Context, spec appstream.MachineSpec) error {
	return h.making(spec.ID, func() error { return h.Provider.EnsureStarted(ctx, spec) })
}

func (h *hands) EnsureMade(ctx context.Context, spec appstream.MachineSpec) error {
	return h.making(spec.ID, func() error { return h.Provider.EnsureMade(ctx, spec) })
}

func (h *hands) EnsureStopped(ctx context.Context, id string) error {
	return h.around(id, func() error { return h.Provider.EnsureStopped(ctx, id) })
}

func (h *hands) EnsureGone(ctx context.Context, id string) error {
	return h.around(id, func() error {
		err := h.Provider.EnsureGone(ctx, id)
		if l := h.w.labour(); l != nil && err == nil {
			l.renew(id)
		}
		return err
	})
}

func (h *hands) EnsureCaptured(ctx context.Context, id, ref string) error {
	return h.around(id, func() error {
		err := h.Provider.EnsureCaptured(ctx, id, ref)
		if l := h.w.labour(); h.worked && err == nil {
			l.mu.Lock()
			defer l.mu.Unlock()
			if !l.done[id] {
				h.w.t.Errorf("the disk of %s is captured, on which nothing was done", id)
			}
		}
		return err
	})
}

func (h *hands) SaveChanges(ctx context.Context, id string, out io.Writer) error {
	return h.around(id, func() error { return h.Provider.SaveChanges(ctx, id, out) })
}

// check looks whether a record that was RUNNING got another machine without its administrator being told: by then it must have been in a state of
// told since, in which it says what has become of the first.
func (h *hands) check(told ...string) {
	h.w.t.Helper()
	for id, made := range h.made {
		var events []store.Event
		h.w.must(h.w.store.View(h.w.ctx(), func(tx store.Tx) (err error) {
			events, err = tx.Events(store.LogQuery{ID: id, Forward: true})
			return err
		}))
		for n := 1; n < len(made); n++ {
			silent := false
			for _, e := range events {
				switch {
				case e.At.Before(made[n-1]), e.At.After(made[n]):
				case e.To == "RUNNING":
					silent = true
				case slices.Contains(told, e.To):
					silent = false
				}
			}
			if silent {
				h.w.t.Errorf("%s was RUNNING, and has had another machine since %s without a word: %+v", id, made[n], events)
			}
		}
	}
}

// unused looks whether somebody works on the instance whose machine was made.
func (h *hands) unused(instance string) {
	err := h.w.store.View(context.Background(), func(tx store.Tx) error {
		sessions, err := store.List[appstream.Session](tx, store.Query{Noun: appstream.NounSession, States: []string{appstream.SessionActive}})
		for _, s := range sessions {
			if s.InstanceID == instance {
				h.w.t.Errorf("the session %s goes on on another machine", s.ID)
			}
		}
		return err
	})
	if err != nil {
		h.w.t.Error(err)
	}
}

// life is what is asked for while hands are at work.
type life struct {
	asks  []string
	with  func(*world) // agents; nil for none
	begin func(*world) // before hands are at work; nil for nothing
	ask   func(*world, string) error
	end   func(*world) // when they rest: waits until all is at rest
	works bool         // what is captured has had a job done
	check func(*world, *hands)
}

func (w *world) atRest() {
	w.wait("rest", 12*time.Hour, w.steady)
	time.Sleep(2 * time.Minute) // a sweep or two
	synctest.Wait()
	w.wait("rest", time.Hour, w.steady)
}

var lives = map[string]life{
	"image builder": {
		asks: []string{"create", "create", "start", "start", "stop", "delete", "image", "delete image"},
		ask:  func(w *world, op string) error { return w.do(op, "hello") },
		end:  (*world).atRest,
		check: func(w *world, h *hands) {
			w.check()
			h.check("FAILED")
		},
	},
	"software": {
		asks: []string{"create", "create", "deploy", "stop", "start", "delete"},
		with: withWorkers,
		ask: func(w *world, op string) error {
			switch op {
			case "create":
				return w.createWith("hello", "base", []string{"Calc", "Draw"}, nil)
			case "deploy":
				return errors.Join(w.stage("hello", true, "Word"), w.deploy("hello", true))
			}
			return w.do(op, "hello")
		},
		end: (*world).atRest,
		check: func(w *world, h *hands) {
			w.check()
			h.check("FAILED")
		},
	},
	"update": {
		asks:  []string{"update", "update", "delete update"},
		with:  withWorkers,
		works: true,
		begin: (*world).original,
		ask:   func(w *world, op string) error { return w.do(op, "hello") },
		end:   (*world).atRest,
		check: func(w *world, h *hands) {
			w.check()
			if b := w.madeFor("update-of-hello"); b != nil {
				w.t.Errorf("left: %s, %s, %+v", b.Name, b.State, b.Making)
			}
		},
	},
	"app block builder": {
		asks:  []string{"start", "start", "stop", "package"},
		begin: (*world).packager,
		ask:   (*world).pack,
		end: func(w *world) {
			still := func() bool { s := w.describePackager().State; return s == "RUNNING" || s == "STOPPED" }
			w.wait("rest", 4*time.Hour, still)
			time.Sleep(2 * time.Minute)
			synctest.Wait()
			w.wait("rest", time.Hour, still)
			if w.describePackager().State == "RUNNING" {
				w.must(w.pack("stop"))
			}
			w.reachPackager("STOPPED")
		},
		check: func(w *world, h *hands) {
			w.checkPackager()
			h.check("STOPPING")
		},
	},
	"Elastic fleet": {
		asks:  []string{"start", "start", "open", "end", "package", "stop"},
		with:  withCrew(1),
		works: true,
		begin: func(w *world) { w.elastic("lab", 1, "calc") },
		ask: func(w *world, op string) (err error) {
			switch op {
			case "start":
				err = w.startFleet("lab")
			case "stop":
				err = w.stopFleet("lab")
			case "open":
				_, err = w.open("lab", "ada")
			case "package":
				w.object("calc.tar", time.Now().String())
			default:
				for _, s := range w.sessions("lab") {
					err = w.svc.EndSession(w.ctx(), s.ID)
				}
			}
			w.checkSeats("lab")
			return err
		},
		end: func(w *world) {
			w.wait("every session over", 24*time.Hour, func() bool { w.checkSeats("lab"); return len(w.sessions("lab")) == 0 })
			if w.describeFleet("lab").State != types.FleetStateStarting {
				w.wait("not on its way", time.Hour, func() bool { return w.describeFleet("lab").State != types.FleetStateStopping })
			}
			if w.describeFleet("lab").State == types.FleetStateStopped {
				w.must(w.startFleet("lab"))
			}
			serves := func() bool { return w.serves("lab", 1, "calc") && len(w.compositions()) == 1 }
			w.wait("it serves", 2*time.Hour, serves)
			time.Sleep(2 * time.Minute)
			synctest.Wait()
			w.wait("it serves", 2*time.Hour, serves)
			w.settleFleets("lab")
		},
		check: func(w *world, _ *hands) {
			for id, n := range w.labour().tries {
				if n > 1 {
					w.t.Errorf("%d jobs were begun on the disk of %s", n, id)
				}
			}
			w.checkFleets()
			w.checkCompositions()
			w.withdraw("lab")
		},
	},
	"fleet": {
		asks:  []string{"open", "open", "open another", "end", "expire", "stop", "start"},
		with:  withCrew(2),
		begin: func(w *world) { w.fleet("lab", types.FleetTypeOnDemand, 4, 2) },
		ask: func(w *world, op string) (err error) {
			switch op {
			case "open", "open another":
				_, err = w.open("lab", op)
			case "stop":
				err = w.stopFleet("lab")
			case "start":
				err = w.startFleet("lab")
			default:
				for _, s := range w.sessions("lab") {
					if op == "end" {
						err = w.svc.EndSession(w.ctx(), s.ID)
					} else {
						_, err = w.svc.ExpireSession(w.ctx(), &appstreamapi.ExpireSessionInput{SessionId: &s.ID})
					}
				}
			}
			w.checkSeats("lab")
			return err
		},
		end: func(w *world) {
			w.wait("every session over", 24*time.Hour, func() bool { w.checkSeats("lab"); return len(w.sessions("lab")) == 0 })
			full := func() bool {
				f := w.describeFleet("lab")
				return f.State == types.FleetStateStopped || f.State == types.FleetStateRunning && *f.ComputeCapacityStatus.Available == *f.ComputeCapacityStatus.Desired
			}
			w.wait("rest", time.Hour, full)
			time.Sleep(2 * time.Minute)
			synctest.Wait()
			w.wait("rest", time.Hour, full)
			w.settleFleets("lab")
		},
		check: func(w *world, _ *hands) { w.checkFleets() },
	},
}

// Whatever somebody does to machines behind the server's back, and at whichever moment: nothing hangs, nothing is left, and no machine is silently another.
func TestRandomHands(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		type step struct {
			Ask  string
			Wait time.Duration
		}
		name := rapid.SampledFrom(slices.Sorted(maps.Keys(lives))).Draw(rt, "life")
		life := lives[name]
		asks := append(slices.Clone(life.asks), "kill")
		steps := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step {
			return step{rapid.SampledFrom(asks).Draw(t, "ask"), time.Duration(rapid.IntRange(0, 9000).Draw(t, "wait ms")) * time.Millisecond}
		}), 1, 15).Draw(rt, "steps")
		h := &hands{moves: rapid.SliceOfN(rapid.IntRange(0, 24), 64, 64).Draw(rt, "moves"), made: map[string][]time.Time{}}
		in(t, func(w *world) {
			if life.begin != nil {
				life.begin(w)
			}
			h.worked = life.works
			h.work(true)
			for _, s := range steps {
				if s.Ask == "kill" {
					w.kill()
					w.restart()
				} else if err := life.ask(w, s.Ask); err != nil && appstream.KindOf(err) == appstream.Internal {
					t.Errorf("%s: %v", s.Ask, err)
				}
				time.Sleep(s.Wait)
				synctest.Wait()
			}
			h.work(false)
			life.end(w)
			life.check(w, h)
		}, func(w *world) {
			if life.with != nil {
				life.with(w)
			}
			h.w, w.wrap = w, func(p compute.Provider) compute.Provider {
				h.Provider = p
				return h
			}
		})
		if t.Failed() {
			rt.Fatalf("%s, steps: %+v, moves: %v", name, steps, h.moves)
		}
	})
}
