package reconcile_test

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
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

// in runs a test with a world in a bubble. prepare sets what the world begins with.
func in(t *testing.T, fn func(w *world), prepare ...func(*world)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, prepare...)
		defer func() { w.stop() }()
		fn(w)
	})
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// reach waits for a builder to reach a state, "" for gone.
func (w *world) reach(name, state string) time.Duration {
	w.t.Helper()
	return w.wait(name+" → "+state, time.Hour, func() bool { return w.builder(name) == state })
}

func TestLifeOfAnImageBuilder(t *testing.T) {
	in(t, func(w *world) {
		w.must(w.create("hello"))
		if took := w.reach("hello", "RUNNING"); took < delay || took > delay+time.Second {
			t.Errorf("PENDING → RUNNING took %s, a start takes %s", took, delay)
		}
		b := w.describe("hello")
		n := b.NetworkAccessConfiguration
		if n == nil || aws.ToString(n.EniPrivateIpAddress) == "" || len(n.EniIpv6Addresses) == 0 || !strings.HasPrefix(aws.ToString(n.EniId), "eni-") {
			t.Errorf("NetworkAccessConfiguration = %+v", n)
		}
		w.must(w.do("stop", "hello"))
		w.reach("hello", "STOPPED")
		w.must(w.do("start", "hello"))
		w.reach("hello", "RUNNING")
		w.must(w.do("image", "hello"))
		if state := w.builder("hello"); state != "SNAPSHOTTING" {
			t.Errorf("after CreateImage the builder is %s", state)
		}
		w.reach("hello", "STOPPED")
		if image := w.image("image-of-hello"); image.State != types.ImageStateAvailable || aws.ToString(image.ImageBuilderName) != "hello" {
			t.Errorf("image = %+v", image)
		}
		w.must(w.do("delete", "hello"))
		w.reach("hello", "")
		w.check()
		w.must(w.do("delete image", "hello"))
		w.wait("image gone", time.Minute, func() bool { return w.image("image-of-hello") == nil })
		w.check()
	})
}

func TestNewerAgentPassesThroughUpdatingAgent(t *testing.T) {
	in(t, func(w *world) {
		_, err := w.svc.CreateImageBuilder(w.ctx(), &appstreamapi.CreateImageBuilderInput{Name: aws.String("hello"), ImageName: aws.String("base"),
			InstanceType: aws.String("stream.standard.small"), AppstreamAgentVersion: aws.String("01-01-2026")})
		w.must(err)
		w.reach("hello", "RUNNING")
		if b := w.describe("hello"); b.LatestAppstreamAgentVersion != types.LatestAppstreamAgentVersionFalse {
			t.Errorf("LatestAppstreamAgentVersion = %s", b.LatestAppstreamAgentVersion)
		}
		w.must(w.do("stop", "hello"))
		w.reach("hello", "STOPPED")
		_, err = w.svc.StartImageBuilder(w.ctx(), &appstreamapi.StartImageBuilderInput{Name: aws.String("hello"), AppstreamAgentVersion: aws.String("LATEST")})
		w.must(err)
		w.reach("hello", "UPDATING_AGENT")
		w.reach("hello", "RUNNING")
		b := w.describe("hello")
		if aws.ToString(b.AppstreamAgentVersion) != "11-21-2026" || b.LatestAppstreamAgentVersion != types.LatestAppstreamAgentVersionTrue {
			t.Errorf("agent %s, latest %s", aws.ToString(b.AppstreamAgentVersion), b.LatestAppstreamAgentVersion)
		}
		w.check()
	})
}

// Whatever is asked for in whatever order, with crashes and faults at random moments: in the end every record rests in a steady
// state, and nothing is left that belongs to no record.
func TestRandomLives(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		type step struct {
			Op, Name string
			Wait     time.Duration
		}
		steps := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step {
			return step{
				rapid.SampledFrom([]string{"create", "create", "start", "stop", "delete", "image", "delete image", "copy", "delete copy", "export", "kill", "restart"}).Draw(t, "op"),
				rapid.SampledFrom([]string{"a", "b"}).Draw(t, "name"),
				time.Duration(rapid.IntRange(0, 6000).Draw(t, "wait ms")) * time.Millisecond,
			}
		}), 1, 25).Draw(rt, "steps")
		faults := rapid.SliceOfN(rapid.IntRange(0, 30), 64, 64).Draw(rt, "faults")
		in(t, func(w *world) {
			n := 0
			w.setInject(func(method, _ string, _ sim.When) error {
				n++
				switch f := faults[n%len(faults)]; {
				case f == 0:
					return fmt.Errorf("injected: %w", compute.ErrUnavailable)
				case f == 1:
					return errors.New("injected")
				case f == 2 && (method == "EnsureCaptured" || method == "EnsureImageCopied" || method == "SaveImage"):
					return &compute.Fault{Message: "injected: no space left"}
				}
				return nil
			})
			for _, s := range steps {
				switch s.Op {
				case "kill":
					w.kill()
					w.restart()
				case "restart":
					w.restart()
				default:
					err := w.do(s.Op, s.Name)
					if kind := appstream.KindOf(err); err != nil && kind == appstream.Internal {
						t.Fatalf("%s %s: %v", s.Op, s.Name, err)
					}
				}
				time.Sleep(s.Wait)
				synctest.Wait()
			}
			w.setInject(nil)
			w.wait("rest", 4*time.Hour, w.steady)
			time.Sleep(2 * time.Minute) // a sweep or two
			synctest.Wait()
			w.wait("rest", time.Hour, w.steady)
			w.check()
		})
		if t.Failed() {
			rt.Fatalf("steps: %+v", steps)
		}
	})
}

func TestEngineDown(t *testing.T) {
	in(t, func(w *world) {
		down := true
		w.setInject(func(string, string, sim.When) error {
			if down {
				return fmt.Errorf("dial unix docker.sock: connection refused: %w", compute.ErrUnavailable)
			}
			return nil
		})
		w.must(w.create("hello"))
		time.Sleep(3 * time.Hour) // longer than PENDING may take
		synctest.Wait()
		b := w.describe("hello")
		if b.State != types.ImageBuilderStatePending || b.StateChangeReason == nil || !strings.Contains(*b.StateChangeReason.Message, "connection refused") {
			t.Fatalf("during an outage: %s, reason %+v", b.State, b.StateChangeReason)
		}
		down = false
		if took := w.reach("hello", "RUNNING"); took > 30*time.Second {
			t.Errorf("RUNNING only %s after the outage", took)
		}
		if b := w.describe("hello"); b.StateChangeReason != nil {
			t.Errorf("the reason stays after the outage: %s", *b.StateChangeReason.Message)
		}
	})
}

func TestNoSpaceWhileCapturing(t *testing.T) {
	in(t, func(w *world) {
		w.must(w.create("hello"))
		w.reach("hello", "RUNNING")
		w.setInject(func(method, _ string, when sim.When) error {
			if method == "EnsureCaptured" && when == sim.Before {
				return &compute.Fault{Message: "no space left on device"}
			}
			return nil
		})
		w.must(w.do("image", "hello"))
		w.reach("hello", "STOPPED")
		image := w.image("image-of-hello")
		if image.State != types.ImageStateFailed || !strings.Contains(aws.ToString(image.StateChangeReason.Message), "no space left") || len(image.ImageErrors) != 1 {
			t.Errorf("image = %s, %+v, %v", image.State, image.StateChangeReason, image.ImageErrors)
		}
		w.setInject(nil)
		w.must(w.do("delete image", "hello"))
		w.must(w.do("start", "hello"))
		w.reach("hello", "RUNNING") // the builder is usable again
		w.must(w.do("image", "hello"))
		w.wait("second try", time.Minute, func() bool {
			image := w.image("image-of-hello")
			return image != nil && image.State == types.ImageStateAvailable
		})
		w.reach("hello", "STOPPED")
		w.check()
	})
}

func TestDeleteCancelsWhateverIsUnderWay(t *testing.T) {
	for _, state := range []string{"PENDING", "RUNNING", "STOPPING", "STOPPED", "SNAPSHOTTING"} {
		t.Run(state, func(t *testing.T) {
			in(t, func(w *world) {
				w.must(w.create("hello"))
				if state != "PENDING" {
					w.reach("hello", "RUNNING")
				}
				switch state {
				case "STOPPING", "STOPPED":
					w.must(w.do("stop", "hello"))
				case "SNAPSHOTTING":
					w.must(w.do("image", "hello"))
				}
				w.reach("hello", state)
				w.must(w.do("delete", "hello"))
				if got := w.builder("hello"); got != "DELETING" && got != "" { // it may be gone already, if nothing was made
					t.Errorf("after DeleteImageBuilder: %s", got)
				}
				if took := w.reach("hello", ""); took > 3*delay {
					t.Errorf("gone only after %s", took)
				}
				if state == "SNAPSHOTTING" {
					w.wait("image", time.Minute, func() bool { return w.image("image-of-hello").State == types.ImageStateFailed })
				}
				w.check()
			})
		})
	}
}

func TestDeleteOfAPendingImageFreesItsBuilder(t *testing.T) {
	in(t, func(w *world) {
		w.must(w.create("hello"))
		w.reach("hello", "RUNNING")
		w.must(w.do("image", "hello"))
		w.must(w.do("delete image", "hello"))
		w.reach("hello", "STOPPED")
		w.wait("image gone", time.Minute, func() bool { return w.image("image-of-hello") == nil })
		w.check()
	})
}

// A copy goes into another region, and each of the two lives on without the other.
func TestCopyIntoAnotherRegion(t *testing.T) {
	in(t, func(w *world) {
		w.must(w.create("hello"))
		w.reach("hello", "RUNNING")
		w.must(w.do("image", "hello"))
		w.reach("hello", "STOPPED")
		far := appstream.Key{Account: caller.Account, Region: "eu-west-1", Noun: appstream.NounImage, Name: "far"}
		state := func() string {
			var image appstream.Image
			err := w.store.View(w.ctx(), func(tx store.Tx) error { return tx.Get(far, &image) })
			if errors.Is(err, store.ErrNotFound) {
				return ""
			}
			w.must(err)
			return image.State
		}
		_, err := w.svc.CopyImage(w.ctx(), &appstreamapi.CopyImageInput{SourceImageName: new("image-of-hello"), DestinationImageName: &far.Name, DestinationRegion: &far.Region})
		w.must(err)
		if got := state(); got != "COPYING" {
			t.Errorf("after CopyImage: %s", got)
		}
		if took := w.wait("copied", time.Minute, func() bool { return state() == "AVAILABLE" }); took < delay || took > delay+3*time.Second {
			t.Errorf("COPYING → AVAILABLE took %s, a copy takes %s", took, delay)
		}
		w.check()
		w.must(w.do("delete image", "hello"))
		w.wait("source gone", time.Minute, func() bool { return w.image("image-of-hello") == nil })
		time.Sleep(time.Minute) // sweeps
		w.check()
		if got := state(); got != "AVAILABLE" {
			t.Errorf("without its source the copy is %s", got)
		}
	})
}

// A copy that is deleted while it is made is given up; its source can be deleted then, not before.
func TestDeleteGivesACopyUp(t *testing.T) {
	in(t, func(w *world) {
		w.must(w.create("hello"))
		w.reach("hello", "RUNNING")
		w.must(w.do("image", "hello"))
		w.reach("hello", "STOPPED")
		w.must(w.do("copy", "hello"))
		if err := w.do("delete image", "hello"); appstream.KindOf(err) != appstream.ResourceInUse {
			t.Errorf("the source of a copy that is COPYING was deleted: %v", err)
		}
		w.must(w.do("delete copy", "hello"))
		if took := w.wait("copy gone", time.Minute, func() bool { return w.image("copy-of-hello") == nil }); took > delay {
			t.Errorf("gone only after %s", took)
		}
		w.must(w.do("delete image", "hello"))
		w.wait("source gone", time.Minute, func() bool { return w.image("image-of-hello") == nil })
		time.Sleep(time.Minute)
		w.check()
	})
}

// DeleteImage gives up the exports of the image that are under way; archives that are complete stay.
func TestDeleteGivesAnExportUp(t *testing.T) {
	in(t, func(w *world) {
		w.must(w.create("hello"))
		w.reach("hello", "RUNNING")
		w.must(w.do("image", "hello"))
		w.reach("hello", "STOPPED")
		w.must(w.do("export", "hello"))
		if took := w.wait("COMPLETED", time.Minute, func() bool { return w.exports()[0].State == "COMPLETED" }); took < delay || took > delay+time.Second {
			t.Errorf("EXPORTING → COMPLETED took %s, an export takes %s", took, delay)
		}
		w.must(w.do("export", "hello"))
		time.Sleep(delay / 2)
		w.must(w.do("delete image", "hello"))
		second := w.exports()[1]
		if second.State != types.ExportImageTaskStateFailed || second.AmiId != nil || !strings.Contains(*second.ErrorDetails[0].ErrorMessage, "image-of-hello was deleted") {
			t.Errorf("after DeleteImage the export is %+v", second)
		}
		if first := w.exports()[0]; first.State != types.ExportImageTaskStateCompleted {
			t.Errorf("the complete export is %s", first.State)
		}
		w.wait("image gone", time.Minute, func() bool { return w.image("image-of-hello") == nil })
		time.Sleep(time.Minute)
		w.check()
	})
}

// An export that finds no room fails and leaves nothing; one that always meets trouble is given up in the end.
func TestExportFails(t *testing.T) {
	for _, test := range []struct {
		err   error
		state types.ExportImageTaskState
		after time.Duration
	}{
		{fmt.Errorf("write: %w", syscall.ENOSPC), "FAILED", time.Minute},
		{&compute.Fault{Message: "the image does not exist"}, "FAILED", time.Minute},
		{errors.New("the engine stumbled"), "TIMED_OUT", 5 * time.Hour},
	} {
		in(t, func(w *world) {
			w.must(w.create("hello"))
			w.reach("hello", "RUNNING")
			w.must(w.do("image", "hello"))
			w.reach("hello", "STOPPED")
			w.setInject(func(method, _ string, when sim.When) error {
				if method == "SaveImage" && when == sim.After {
					return test.err
				}
				return nil
			})
			w.must(w.do("export", "hello"))
			w.wait(string(test.state), test.after, func() bool { return w.exports()[0].State == test.state })
			if e := w.exports()[0]; len(e.ErrorDetails) != 1 || *e.ErrorDetails[0].ErrorMessage == "" {
				t.Errorf("%s with %+v", e.State, e.ErrorDetails)
			}
			time.Sleep(time.Minute)
			w.check()
		})
	}
}

// When there is no room, the copy says so, and the next one is not hindered by what is left of it.
func TestNoSpaceWhileCopying(t *testing.T) {
	in(t, func(w *world) {
		w.must(w.create("hello"))
		w.reach("hello", "RUNNING")
		w.must(w.do("image", "hello"))
		w.reach("hello", "STOPPED")
		w.setInject(func(method, _ string, when sim.When) error {
			if method == "EnsureImageCopied" && when == sim.After {
				return &compute.Fault{Message: "no space left on device"}
			}
			return nil
		})
		w.must(w.do("copy", "hello"))
		w.wait("FAILED", time.Minute, func() bool { return w.image("copy-of-hello").State == types.ImageStateFailed })
		image := w.image("copy-of-hello")
		if r := image.StateChangeReason; r == nil || r.Code != types.ImageStateChangeReasonCodeImageCopyFailure || !strings.Contains(*r.Message, "no space left") || len(image.ImageErrors) != 1 {
			t.Errorf("reason %+v, errors %v", r, image.ImageErrors)
		}
		w.setInject(nil)
		w.must(w.do("delete copy", "hello"))
		w.wait("copy gone", time.Minute, func() bool { return w.image("copy-of-hello") == nil })
		w.must(w.do("copy", "hello"))
		w.wait("AVAILABLE", time.Minute, func() bool { return w.image("copy-of-hello").State == types.ImageStateAvailable })
		w.check()
	})
}

// Machines that vanish behind Oriel's back are noticed, said so, and made anew by Start.
func TestVanishedMachine(t *testing.T) {
	in(t, func(w *world) {
		w.must(w.create("hello"))
		w.reach("hello", "RUNNING")
		machines, err := w.provider.List(w.ctx())
		w.must(err)
		w.rest()
		w.must(w.provider.EnsureGone(w.ctx(), machines[0].ID))
		if took := w.reach("hello", "FAILED"); took > time.Minute {
			t.Errorf("noticed only after %s", took)
		}
		if b := w.describe("hello"); !strings.Contains(aws.ToString(b.StateChangeReason.Message), "vanished") || len(b.ImageBuilderErrors) == 0 {
			t.Errorf("reason %+v, errors %v", b.StateChangeReason, b.ImageBuilderErrors)
		}
		w.must(w.do("start", "hello"))
		w.reach("hello", "RUNNING")
		w.check()
	})
}

// One that vanishes while the provider cannot say which there are is noticed when it can.
func TestMachineVanishesUnseen(t *testing.T) {
	in(t, func(w *world) {
		w.must(w.create("hello"))
		w.reach("hello", "RUNNING")
		w.rest()
		w.setInject(failing("List", errors.New("no answer")))
		w.must(w.provider.EnsureGone(w.ctx(), w.record("hello").ID))
		w.rest()
		w.setInject(nil)
		if took := w.reach("hello", "FAILED"); took > time.Minute {
			t.Errorf("noticed only after %s", took)
		}
	})
}

// Of two builds of a public image in the engine, the newer one is offered.
func TestPublicImages(t *testing.T) {
	in(t, func(w *world) {
		err := w.store.View(w.ctx(), func(tx store.Tx) error {
			images, err := store.List[appstream.Image](tx, store.Query{Noun: appstream.NounImage, Region: "us-east-1"})
			if len(images) != 2 || images[0].Ref != "base-new" || images[1].State != appstream.ImageDeprecated {
				t.Errorf("images = %+v", images)
			}
			return err
		})
		w.must(err)
	})
}

// rest lets so much time pass that sweeps have had nothing to do.
func (w *world) rest() {
	time.Sleep(5 * sweepEvery)
	synctest.Wait()
}

const sweepEvery = 20 * time.Second

// A record that waits for a time that is far away, because the clock was another when it was written, does not.
func TestRecordThatWaitsTooLong(t *testing.T) {
	in(t, func(w *world) {
		w.must(w.create("hello"))
		w.reach("hello", "RUNNING")
		w.rest()
		w.must(w.store.Update(w.ctx(), func(tx store.Tx) error {
			b := w.record("hello")
			b.Due = time.Now().Add(3 * time.Hour)
			return tx.Put(&b)
		}))
		if took := w.wait("it waits for something near", time.Hour, func() bool { return time.Until(w.record("hello").Due) < time.Hour }); took > sweepEvery+time.Second {
			t.Errorf("noticed only after %s", took)
		}
	})
}

// A machine that Oriel made and whose record is gone (a restored backup, say) is removed.
func TestOrphanMachine(t *testing.T) {
	in(t, func(w *world) {
		w.rest()
		w.must(w.provider.EnsureRunning(w.ctx(), appstream.MachineSpec{ID: "ib-orphan", ImageRef: "base-new"}))
		w.wait("orphan removed", time.Minute, func() bool {
			machines, err := w.provider.List(w.ctx())
			w.must(err)
			return len(machines) == 0
		})
	})
}

func TestThousandBuilders(t *testing.T) {
	if testing.Short() {
		t.Skip("a thousand builders take a few seconds of real time")
	}
	in(t, func(w *world) {
		w.config.Quotas.ImageBuilders = 1000
		w.svc = service.New(w.config)
		for n := range 1000 {
			w.must(w.create(fmt.Sprintf("b%04d", n)))
		}
		w.wait("all RUNNING", time.Minute, func() bool {
			for _, state := range w.states() {
				if state == "PENDING" {
					return false
				}
			}
			return true
		})
	})
}
