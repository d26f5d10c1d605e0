package reconcile_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
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
	"github.com/oriel-project/oriel/internal/oci"
	"github.com/oriel-project/oriel/internal/service"
	"github.com/oriel-project/oriel/internal/store"
	"pgregory.net/rapid"
)

// workers is the agents of simulated builders: they are ready when their machine is, and do jobs.
type workers struct {
	*labour
	w *world
}

// withWorkers gives a world's machines agents that do jobs. They live in the machines: a server that is killed does not end them.
func withWorkers(w *world) {
	a := &workers{w: w}
	a.labour = newLabour(func(machine string) bool {
		m, err := w.provider.Observe(context.WithoutCancel(w.ctx()), machine)
		return err == nil && m.Phase == appstream.MachineRunning && m.NextChange.IsZero()
	})
	w.agents = a
	w.reading = func(machine string) (appstream.Catalogue, error) {
		if !a.up(machine) {
			return appstream.Catalogue{}, errors.New("no answer")
		}
		return appstream.Catalogue{Icons: map[string]string{"xterm": "icon"}, Applications: []types.Application{
			{Name: aws.String("xterm"), DisplayName: aws.String("Terminal"), LaunchPath: aws.String("/usr/bin/xterm")}, {Name: aws.String("gimp"), LaunchPath: aws.String("/usr/bin/gimp")}}}, nil
	}
}

// inWorkshop runs a test with a world in a bubble whose machines do jobs.
func inWorkshop(t *testing.T, fn func(w *world, work *labour)) {
	in(t, func(w *world) { fn(w, w.work()) }, withWorkers)
}

// work gives the work that the agents do.
func (w *world) work() *labour { return w.agents.(*workers).labour }

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
func (a *workers) ScriptLogs(context.Context, string, string) ([]appstream.ScriptLog, error) {
	return nil, errors.New("no seats here")
}

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

// givenArchive is an archive that an administrator has put there.
const givenArchive = "123456789012/ami-0123456789abcdef0.tar"

// give puts it there.
func (w *world) give() {
	w.t.Helper()
	const config = `{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[]}}`
	w.must(w.archives.Save(w.ctx(), givenArchive, func(out io.Writer) error {
		return oci.Write(out, oci.Image{Config: []byte(config), Platform: oci.Platform{Architecture: "amd64", OS: "linux"}, Name: "any:thing"})
	}))
}

func TestUpdateOfAnImage(t *testing.T) {
	inWorkshop(t, func(w *world, work *labour) {
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
		for _, part := range []string{"CREATING UPDATING", "CREATING PENDING_QUALIFICATION", "update the packages (step 1 of 1)", "capturing the disk", "0 of 2 applications have started", "AVAILABLE DELETING"} {
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
		inWorkshop(t, func(w *world, work *labour) {
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

// An import has what was asked for: its states, its builder, the catalogue of its disk.
func TestImport(t *testing.T) {
	for op, want := range map[string][]string{
		"import":          {"IMPORTING", "AVAILABLE"},
		"import and test": {"IMPORTING PENDING_QUALIFICATION", "AVAILABLE DELETING", "AVAILABLE"},
		"import and add":  {"IMPORTING PENDING_IMAGE_IMPORT", "IMPORTING PENDING_QUALIFICATION", "AVAILABLE DELETING", "AVAILABLE"},
	} {
		inWorkshop(t, func(w *world, work *labour) {
			w.give()
			w.must(w.do(op, "hello"))
			if b := w.madeFor("import-of-hello"); b != nil && *b.View.InstanceType != "stream.standard.medium" {
				t.Errorf("%s: the builder is a %s", op, *b.View.InstanceType)
			}
			var seen []string
			w.wait(op, time.Hour, func() bool {
				i, b := w.image("import-of-hello"), w.madeFor("import-of-hello")
				line := string(i.State)
				if b != nil {
					line += " " + b.State
				}
				if !slices.Contains(seen, line) {
					seen = append(seen, line)
				}
				return i.State == types.ImageStateAvailable && b == nil
			})
			for _, line := range want {
				if !slices.Contains(seen, line) {
					t.Errorf("%s was never %s, but %q", op, line, seen)
				}
			}
			i := w.image("import-of-hello")
			if i.Platform != "DEBIAN_12" || i.ImageBuilderName != nil || i.StateChangeReason != nil {
				t.Errorf("%s: %+v", op, i)
			}
			if op == "import" {
				if len(i.Applications) > 0 {
					t.Errorf("nobody has read a catalogue, but the image has %+v", i.Applications)
				}
			} else if len(i.Applications) != 2 || aws.ToString(i.Applications[0].DisplayName) != "Terminal" || aws.ToString(i.Applications[0].IconURL) == "" {
				t.Errorf("%s: the catalogue is %+v", op, i.Applications)
			}
			if n := len(work.steps["work"]); (n == 2) != (op == "import and add") {
				t.Errorf("%s: %d steps of work", op, n)
			}
			time.Sleep(time.Minute)
			w.check()
			w.must(w.do("delete import", "hello"))
			w.wait("gone", time.Minute, func() bool { return w.image("import-of-hello") == nil })
			w.check()
		})
	}
}

// What is wrong with the archive or its applications is told, and nothing of it stays.
func TestImportFails(t *testing.T) {
	for name, test := range map[string]struct {
		op, step string
		spoil    func(w *world)
		says     string
	}{
		"no archive any more": {"import", "", func(w *world) { w.must(w.archives.Remove(w.ctx(), givenArchive)) }, "does not exist (any more)"},
		"a damaged archive": {"import and add", "", func(w *world) {
			w.must(w.archives.Remove(w.ctx(), givenArchive))
			w.must(w.archives.Save(w.ctx(), givenArchive, func(out io.Writer) error {
				_, err := io.WriteString(out, strings.Repeat("no archive ", 1000))
				return err
			}))
		}, "checking the archive: "},
		"an application that is not there":   {"import and add", "add application 2 of 2", nil, "the last line of add application 2 of 2"},
		"an application that does not start": {"import and test", "start gimp", nil, "the last line of start gimp"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorkshop(t, func(w *world, work *labour) {
				w.give()
				if test.step != "" {
					work.fails[test.step] = test.step + ": exit status 1"
				}
				if test.spoil != nil { // before the first pass
					w.engineStop()
				}
				w.must(w.do(test.op, "hello"))
				if test.spoil != nil {
					test.spoil(w)
					w.restart()
				}
				w.wait("FAILED", time.Hour, func() bool {
					return w.state("import-of-hello") == types.ImageStateFailed && w.madeFor("import-of-hello") == nil
				})
				i := w.image("import-of-hello")
				if r := i.StateChangeReason; r.Code != types.ImageStateChangeReasonCodeImageImportFailure || !strings.Contains(*r.Message, test.says) || len(i.ImageErrors) != 1 {
					t.Errorf("%s %s, %d errors", r.Code, *r.Message, len(i.ImageErrors))
				}
				time.Sleep(time.Minute)
				w.check()
				if strings.Contains(w.log.String(), "/usr/bin/gimp") {
					t.Error("the log has a path of the catalogue")
				}
			})
		})
	}
}

// What a machine says that is no catalogue is not asked for again and again: the import fails at once, and says why.
func TestImportOfABrokenCatalogue(t *testing.T) {
	inWorkshop(t, func(w *world, _ *labour) {
		w.original()
		w.give()
		w.reading = func(string) (appstream.Catalogue, error) {
			return appstream.Catalogue{}, appstream.Errorf(appstream.OperationNotPermitted, "it has 51 applications")
		}
		w.restart()
		w.must(w.do("import and add", "hello"))
		took := w.wait("FAILED", 10*time.Minute, func() bool { return w.state("import-of-hello") == types.ImageStateFailed })
		if m := *w.image("import-of-hello").StateChangeReason.Message; took > 5*time.Minute || !strings.Contains(m, "it has 51 applications") {
			t.Errorf("after %s: %s", took, m)
		}
		w.wait("builder gone", time.Minute, func() bool { return w.madeFor("import-of-hello") == nil })
		w.check()
	})
}

// A machine that is turned off, or vanishes, in the middle of its work does it again.
func TestUpdateSurvivesItsMachine(t *testing.T) {
	for _, trouble := range []string{"stopped", "gone"} {
		for _, at := range []string{"UPDATING", "PENDING_QUALIFICATION"} {
			inWorkshop(t, func(w *world, work *labour) {
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

// Deleting either record gives an update or an import up, at any point of it.
func TestDeleteGivesAnUpdateUp(t *testing.T) { deleteGivesUp(t, "update") }
func TestDeleteGivesAnImportUp(t *testing.T) { deleteGivesUp(t, "import and add") }

func deleteGivesUp(t *testing.T, op string) {
	kind, _, _ := strings.Cut(op, " ")
	image := kind + "-of-hello"
	for _, what := range []string{"image", "builder"} {
		for after := time.Duration(0); after < 16*time.Second; after += 1300 * time.Millisecond {
			inWorkshop(t, func(w *world, _ *labour) {
				w.original()
				w.give()
				w.must(w.do(op, "hello"))
				time.Sleep(after)
				synctest.Wait()
				if w.state(image) == types.ImageStateAvailable {
					return
				}
				if what == "image" {
					w.must(w.do("delete "+kind, "hello"))
					w.wait("all gone", time.Minute, func() bool { return w.image(image) == nil && w.madeFor(image) == nil })
				} else {
					name := w.madeFor(image).Name
					w.must(w.do("delete", name))
					w.wait("builder gone", time.Minute, func() bool {
						return w.madeFor(image) == nil && w.state(image) == types.ImageStateFailed
					})
					if m := *w.image(image).StateChangeReason.Message; !strings.Contains(m, "The image builder "+name+" was deleted") {
						t.Errorf("after %s: %s", after, m)
					}
				}
				time.Sleep(time.Minute)
				w.check()
			})
		}
	}
}

// An update that is given up in the midst of long work is over in moments: nobody waits for the work.
func TestDeleteEndsLongWorkSoon(t *testing.T) {
	for after := 5 * time.Second; after < 8*time.Second; after += 700 * time.Millisecond {
		inWorkshop(t, func(w *world, work *labour) {
			work.takes = time.Hour
			w.original()
			w.must(w.do("update", "hello"))
			w.wait("the job", time.Minute, func() bool {
				work.mu.Lock()
				defer work.mu.Unlock()
				return work.count["work"] > 0
			})
			time.Sleep(after)
			began := time.Now()
			w.must(w.do("delete update", "hello"))
			w.wait("end", time.Minute, func() bool {
				b := w.madeFor("update-of-hello")
				return b == nil || b.State == appstream.BuilderDeleting
			})
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("after %s of the work: it took %s", after, took)
			}
		})
	}
}

// Whatever happens to updates and imports, in the end every image rests, and no builder that was made for one is left.
func TestRandomManagedBuilders(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		type step struct {
			Op   string
			Wait time.Duration
		}
		steps := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step {
			return step{
				rapid.SampledFrom([]string{"update", "update", "delete update", "delete image", "import", "import and test", "import and add", "import and add", "delete import", "delete builder", "kill", "restart", "machine stops", "machine goes", "tag", "take"}).Draw(t, "op"),
				time.Duration(rapid.IntRange(0, 9000).Draw(t, "wait ms")) * time.Millisecond,
			}
		}), 1, 20).Draw(rt, "steps")
		faults := rapid.SliceOfN(rapid.IntRange(0, 40), 64, 64).Draw(rt, "faults")
		failing := rapid.SampledFrom([]string{"", "", "update the packages", "start xterm", "add application 2 of 2"}).Draw(rt, "failing")
		inWorkshop(t, func(w *world, work *labour) {
			w.original()
			w.give()
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
				case f == 2 && (method == "EnsureCaptured" || method == "EnsureImageImported" || method == "InspectArchive"):
					return &compute.Fault{Message: "injected: no space left"}
				}
				return nil
			})
			for _, s := range steps {
				made := cmp.Or(w.madeFor("update-of-hello"), w.madeFor("import-of-hello"))
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
				case "take":
					err = w.archives.Remove(w.ctx(), givenArchive)
				case "tag":
					if made != nil {
						_, err = w.svc.TagResource(w.ctx(), &appstreamapi.TagResourceInput{ResourceArn: aws.String(made.ARN()), Tags: map[string]string{"a": "b"}})
					}
				default:
					err = w.do(s.Op, "hello")
				}
				if kind := appstream.KindOf(err); err != nil && kind == appstream.Internal {
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
			if b := cmp.Or(w.madeFor("update-of-hello"), w.madeFor("import-of-hello")); b != nil {
				t.Errorf("left: %s, %s, %+v", b.Name, b.State, b.Making)
			}
		})
		if t.Failed() {
			rt.Fatalf("steps: %+v", steps)
		}
	})
}
