package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	appstreamapi "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/compute"
	"github.com/oriel-project/oriel/internal/compute/sim"
	"github.com/oriel-project/oriel/internal/service"
	"github.com/oriel-project/oriel/internal/store"
	"pgregory.net/rapid"
)

// workers is the agents of simulated builders: they are ready when their machine is, and do jobs.
type workers struct {
	*labour
	w *world
}

// withWorkers gives the world's machines agents that do jobs. They live in the machines: a server that is killed does not end them.
func withWorkers(w *world) *labour {
	a := &workers{w: w}
	a.labour = newLabour(func(machine string) bool {
		m, err := w.provider.Observe(context.WithoutCancel(w.ctx()), machine)
		return err == nil && m.Phase == appstream.MachineRunning && m.NextChange.IsZero()
	})
	w.agents = a
	w.restart()
	return a.labour
}

func (a *workers) Status(_ context.Context, id string, _ time.Duration) appstream.Agent {
	up := a.up(id)
	if !up {
		a.forget(id)
	}
	return appstream.Agent{Answers: up, Ready: up}
}

func (a *workers) Seat(context.Context, string, string, time.Duration) appstream.SeatStatus {
	return appstream.SeatStatus{}
}
func (a *workers) Begin(context.Context, string, appstream.Seat) error {
	return errors.New("no seats here")
}
func (a *workers) End(context.Context, string, string) error { return errors.New("no seats here") }

// madeFor finds the builder that is made for an image; nil when there is none.
func (w *world) madeFor(image string) *appstream.ImageBuilder {
	w.t.Helper()
	var found *appstream.ImageBuilder
	err := w.store.View(context.Background(), func(tx store.Tx) error {
		list, err := store.List[appstream.ImageBuilder](tx, store.Query{Noun: appstream.NounImageBuilder})
		for _, b := range list {
			if b.Making != nil && strings.HasPrefix(b.Name, image+"-") {
				found = &b
			}
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return found
}

// original makes the image image-of-hello, with two applications, and deletes its builder.
func (w *world) original() {
	w.t.Helper()
	w.must(w.create("hello"))
	w.reach("hello", "RUNNING")
	_, err := w.svc.CreateImage(w.ctx(), &service.CreateImageInput{ImageBuilderName: aws.String("hello"), Name: aws.String("image-of-hello"),
		Applications: []types.Application{{Name: aws.String("xterm"), LaunchPath: aws.String("/usr/bin/xterm")}, {Name: aws.String("gimp"), LaunchPath: aws.String("/usr/bin/gimp")}}})
	w.must(err)
	w.reach("hello", "STOPPED")
	w.must(w.do("delete", "hello"))
	w.reach("hello", "")
}

func (w *world) state(image string) types.ImageState {
	if i := w.image(image); i != nil {
		return i.State
	}
	return ""
}

func TestUpdateOfAnImage(t *testing.T) {
	in(t, func(w *world) {
		work := withWorkers(w)
		w.original()
		w.must(w.do("update", "hello"))
		b := w.madeFor("update-of-hello")
		if b == nil || b.State != "UPDATING" || *b.View.InstanceType != "stream.standard.small" {
			t.Fatalf("the builder of the update is %+v", b)
		}
		if err := w.do("delete image", "hello"); appstream.KindOf(err) != appstream.ResourceInUse {
			t.Errorf("an image that is being updated was deleted: %v", err)
		}
		var seen []string
		note := func() bool {
			i := w.image("update-of-hello")
			line := string(i.State)
			if b := w.madeFor("update-of-hello"); b != nil {
				line += " " + b.State
			}
			if i.StateChangeReason != nil {
				line += ": " + *i.StateChangeReason.Message
			}
			if len(seen) == 0 || seen[len(seen)-1] != line {
				seen = append(seen, line)
			}
			return i.State == types.ImageStateAvailable && w.madeFor("update-of-hello") == nil
		}
		took := w.wait("update", time.Hour, note)
		if took > 8*delay+10*time.Second {
			t.Errorf("an update with two starts, a stop, a capture and two removals of %s each took %s", delay, took)
		}
		story := strings.Join(seen, "\n")
		for _, part := range []string{"CREATING UPDATING", "CREATING PENDING_QUALIFICATION", "capturing the disk", "AVAILABLE DELETING"} {
			if !strings.Contains(story, part) {
				t.Errorf("never seen: %s, but:\n%s", part, story)
			}
		}
		if len(work.steps["work"]) != 1 || !strings.Contains(work.steps["work"][0].Command, "dist-upgrade") {
			t.Errorf("the work was %+v", work.steps["work"])
		}
		if s := work.steps["test"]; len(s) != 2 || s[0].Launch != "xterm" || s[1].Launch != "gimp" {
			t.Errorf("the test was %+v", s)
		}
		if i := w.image("update-of-hello"); i.ImageBuilderName != nil || len(i.Applications) != 2 || i.StateChangeReason != nil {
			t.Errorf("the new image is %+v", i)
		}
		w.must(w.do("delete image", "hello"))
		w.wait("source gone", time.Minute, func() bool { return w.image("image-of-hello") == nil })
		time.Sleep(time.Minute)
		w.check()
		if w.state("update-of-hello") != types.ImageStateAvailable {
			t.Errorf("without its source the update is %s", w.state("update-of-hello"))
		}
	})
}

// Work or a test that fails leaves a FAILED image with the reason, and nothing else.
func TestUpdateFails(t *testing.T) {
	for _, step := range []string{"update the packages", "start gimp"} {
		in(t, func(w *world) {
			work := withWorkers(w)
			w.original()
			work.fails[step] = step + ": exit status 1"
			w.must(w.do("update", "hello"))
			w.wait("FAILED", time.Hour, func() bool {
				return w.state("update-of-hello") == types.ImageStateFailed && w.madeFor("update-of-hello") == nil
			})
			i := w.image("update-of-hello")
			if r := i.StateChangeReason; r.Code != types.ImageStateChangeReasonCodeImageUpdateFailure || !strings.Contains(*r.Message, step+": exit status 1") || !strings.Contains(*r.Message, "the last line of "+step) {
				t.Errorf("StateChangeReason = %s %s", r.Code, *r.Message)
			}
			if len(i.ImageErrors) != 1 {
				t.Errorf("ImageErrors = %+v", i.ImageErrors)
			}
			time.Sleep(time.Minute)
			w.check()
		})
	}
}

// A machine that is turned off, or vanishes, in the middle of its work does it again.
func TestUpdateSurvivesItsMachine(t *testing.T) {
	for _, trouble := range []string{"stopped", "gone"} {
		for _, at := range []string{"UPDATING", "PENDING_QUALIFICATION"} {
			in(t, func(w *world) {
				work := withWorkers(w)
				w.original()
				w.must(w.do("update", "hello"))
				job := map[string]string{"UPDATING": "work", "PENDING_QUALIFICATION": "test"}[at]
				w.wait(at, time.Minute, func() bool {
					b := w.madeFor("update-of-hello")
					work.mu.Lock()
					defer work.mu.Unlock()
					return b.State == at && work.count[job] > 0
				})
				id := w.madeFor("update-of-hello").ID
				if trouble == "gone" {
					w.must(w.provider.EnsureGone(w.ctx(), id))
				} else {
					w.must(w.provider.EnsureStopped(w.ctx(), id))
				}
				w.wait("AVAILABLE", time.Hour, func() bool { return w.state("update-of-hello") == types.ImageStateAvailable })
				if work.count[job] != 2 {
					t.Errorf("%s in %s: the job was begun %d times", trouble, at, work.count[job])
				}
				w.wait("builder gone", time.Minute, func() bool { return w.madeFor("update-of-hello") == nil })
				w.check()
			})
		}
	}
}

// Deleting either record gives the update up, at any point of it.
func TestDeleteGivesAnUpdateUp(t *testing.T) {
	for _, what := range []string{"image", "builder"} {
		for after := time.Duration(0); after < 14*time.Second; after += 700 * time.Millisecond {
			in(t, func(w *world) {
				withWorkers(w)
				w.original()
				w.must(w.do("update", "hello"))
				time.Sleep(after)
				synctest.Wait()
				if w.state("update-of-hello") == types.ImageStateAvailable {
					return
				}
				if what == "image" {
					w.must(w.do("delete update", "hello"))
					w.wait("all gone", time.Minute, func() bool { return w.image("update-of-hello") == nil && w.madeFor("update-of-hello") == nil })
				} else {
					name := w.madeFor("update-of-hello").Name
					w.must(w.do("delete", name))
					w.wait("builder gone", time.Minute, func() bool {
						return w.madeFor("update-of-hello") == nil && w.state("update-of-hello") == types.ImageStateFailed
					})
					if m := *w.image("update-of-hello").StateChangeReason.Message; !strings.Contains(m, "The image builder "+name+" was deleted") {
						t.Errorf("after %s: %s", after, m)
					}
				}
				time.Sleep(time.Minute)
				w.check()
			})
		}
	}
}

// A server that is killed before or after any action of an update comes to the same end.
func TestCrashAroundEveryActionOfAnUpdate(t *testing.T) {
	for crash := range 200 {
		var where string
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			defer func() { w.stop() }()
			work := withWorkers(w)
			w.original()
			calls := 0
			inject := func(method, _ string, when sim.When) error {
				if strings.HasPrefix(method, "Ensure") {
					if calls++; calls == crash+1 {
						where = fmt.Sprint(when, " ", method)
						w.kill()
					}
				}
				return nil
			}
			work.around = inject
			w.setInject(inject)
			w.must(w.do("update", "hello"))
			w.wait("update", time.Hour, func() bool {
				if w.dead.Load() {
					w.restart()
				}
				return w.state("update-of-hello") == types.ImageStateAvailable && w.madeFor("update-of-hello") == nil
			})
			w.check()
		})
		if t.Failed() {
			t.Fatalf("crash number %d: %s", crash, where)
		}
		if where == "" {
			t.Logf("killed around each of %d calls", crash)
			if crash < 12 {
				t.Errorf("only %d calls: the script does not do what it should", crash)
			}
			return
		}
	}
	t.Error("the script never came to an end without a crash")
}

// Whatever happens to updates, in the end every image rests, and no builder that was made for one is left.
func TestRandomUpdates(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		type step struct {
			Op   string
			Wait time.Duration
		}
		steps := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step {
			return step{
				rapid.SampledFrom([]string{"update", "update", "delete update", "delete image", "delete builder", "kill", "restart", "machine stops", "machine goes", "tag"}).Draw(t, "op"),
				time.Duration(rapid.IntRange(0, 9000).Draw(t, "wait ms")) * time.Millisecond,
			}
		}), 1, 20).Draw(rt, "steps")
		faults := rapid.SliceOfN(rapid.IntRange(0, 40), 64, 64).Draw(rt, "faults")
		failing := rapid.SampledFrom([]string{"", "", "update the packages", "start xterm"}).Draw(rt, "failing")
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			defer func() { w.stop() }()
			work := withWorkers(w)
			w.original()
			if failing != "" {
				work.fails[failing] = "exit status 1"
			}
			n := 0
			w.setInject(func(method, _ string, _ sim.When) error {
				n++
				switch f := faults[n%len(faults)]; {
				case f == 0:
					return fmt.Errorf("injected: %w", compute.ErrUnavailable)
				case f == 1:
					return errors.New("injected")
				case f == 2 && method == "EnsureCaptured":
					return &compute.Fault{Message: "injected: no space left"}
				}
				return nil
			})
			for _, s := range steps {
				made := w.madeFor("update-of-hello")
				var err error
				switch s.Op {
				case "kill":
					w.kill()
					w.restart()
				case "restart":
					w.restart()
				case "delete builder":
					if made != nil {
						err = w.do("delete", made.Name)
					}
				case "machine stops":
					if made != nil {
						_ = w.provider.EnsureStopped(w.ctx(), made.ID)
					}
				case "machine goes":
					if made != nil {
						_ = w.provider.EnsureGone(w.ctx(), made.ID)
					}
				case "tag":
					if made != nil {
						_, err = w.svc.TagResource(w.ctx(), &appstreamapi.TagResourceInput{ResourceArn: aws.String(made.ARN()), Tags: map[string]string{"a": "b"}})
					}
				default:
					err = w.do(s.Op, "hello")
				}
				if kind := appstream.KindOf(err); err != nil && (kind == appstream.Internal || kind == appstream.NotImplemented) {
					t.Fatalf("%s: %v", s.Op, err)
				}
				time.Sleep(s.Wait)
				synctest.Wait()
			}
			w.setInject(nil)
			w.wait("rest", 12*time.Hour, w.steady)
			time.Sleep(2 * time.Minute) // a sweep or two
			synctest.Wait()
			w.wait("rest", time.Hour, w.steady)
			w.check()
			if b := w.madeFor("update-of-hello"); b != nil {
				t.Errorf("left: %s, %s, %+v", b.Name, b.State, b.Making)
			}
		})
		if t.Failed() {
			rt.Fatalf("steps: %+v", steps)
		}
	})
}
