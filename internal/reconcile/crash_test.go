package reconcile_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/google/go-cmp/cmp"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/compute/sim"
)

// questions are the calls that change nothing outside, so that it is all the same to be killed at them or at the next call.
var questions = []string{"Observe", "List", "HasImage", "ListImages", "PublicImages"}

// killAroundEveryCall has a life be lived again and again, and kills the server each time at another call to the provider, to an agent or to what keeps files: once before the call has its
// effect and once after. The life must come to the same end; its waits start the server again. From begin on calls are counted, and there must be at least least.
func killAroundEveryCall(t *testing.T, least int, life func(w *world, begin func()), prepare ...func(*world)) {
	t.Helper()
	for kill := range 400 {
		where := ""
		in(t, func(w *world) {
			calls, last, repeated := 0, "", 0
			life(w, func() {
				w.setInject(func(method, id string, when sim.When) error {
					if slices.Contains(questions, method) {
						return nil
					}
					if repeated++; method+id != last {
						last, repeated = method+id, 0
					}
					if repeated >= 4 { // it is asked for again and again until it is done: the second time is like the tenth
						return nil
					}
					if calls++; calls == kill+1 {
						where = fmt.Sprint(when, " ", method)
						w.kill()
					}
					return nil
				})
			})
		}, prepare...)
		if t.Failed() {
			t.Fatalf("kill number %d: %s", kill+1, where)
		}
		if where == "" {
			t.Logf("killed around each of %d calls", kill)
			if kill < least {
				t.Errorf("only %d calls: the life does not do what it should", kill)
			}
			return
		}
	}
	t.Error("the life never came to an end undisturbed")
}

func TestKillBuilder(t *testing.T) {
	killAroundEveryCall(t, 26, func(w *world, begin func()) {
		begin()
		end := map[string]string{"create": "RUNNING", "image": "STOPPED", "copy": "STOPPED", "export": "STOPPED", "start": "RUNNING", "stop": "STOPPED", "delete": ""}
		for _, op := range []string{"create", "image", "copy", "export", "start", "stop", "delete"} {
			w.must(w.do(op, "hello"))
			w.wait(op, time.Hour, func() bool {
				if op == "copy" && w.image("copy-of-hello").State != types.ImageStateAvailable {
					return false
				}
				if op == "export" && w.exports()[0].State != types.ExportImageTaskStateCompleted {
					return false
				}
				return w.builder("hello") == end[op]
			})
		}
		if image := w.image("image-of-hello"); image == nil || image.State != types.ImageStateAvailable {
			w.t.Errorf("image = %+v", image)
		}
		w.must(w.do("delete copy", "hello"))
		w.wait("copy gone", time.Minute, func() bool { return w.image("copy-of-hello") == nil })
		w.check()
	})
}

// A job goes on while the server is away: it is not begun twice on a machine.
func TestKillSoftware(t *testing.T) {
	killAroundEveryCall(t, 12, func(w *world, begin func()) {
		work := w.work()
		work.fails["install Draw"] = "it ended with code 1"
		begin()
		w.must(w.createWith("hello", "base", []string{"Calc", "Draw"}, nil))
		w.reach("hello", "RUNNING")
		w.has(appstream.NounImageBuilder, "hello", "Calc INSTALLED, Draw FAILED_TO_INSTALL")
		w.must(w.stage("hello", false, "Calc"))
		w.must(w.stage("hello", true, "Word"))
		w.must(w.deploy("hello", false))
		w.reach("hello", "RUNNING")
		w.has(appstream.NounImageBuilder, "hello", "Draw FAILED_TO_INSTALL, Word INSTALLED")
		w.must(w.do("image", "hello"))
		w.reach("hello", "STOPPED")
		w.has(appstream.NounImage, "image-of-hello", "Word INSTALLED")
		for job, n := range work.count {
			if n != 1 {
				w.t.Errorf("the job %s was begun %d times", job, n)
			}
		}
		if len(work.count) != 4 {
			w.t.Errorf("%d jobs: %v", len(work.count), work.count)
		}
		steps := []string{"begun: install Calc", "done: install Calc", "begun: install Draw", "failed: install Draw; DescribeSoftwareAssociations says why",
			"begun: uninstall Calc", "done: uninstall Calc", "begun: install Word", "done: install Word"}
		if d := cmp.Diff(steps, w.steps(appstream.NounImageBuilder, "hello")); d != "" {
			w.t.Errorf("its steps (-want +got):\n%s", d)
		}
		w.check()
	}, withWorkers)
}

// managedSteps are the steps of making an image, by what was asked for.
var managedSteps = map[string][]string{
	"update": {"begun: update the packages (step 1 of 1)", "done: update the packages (step 1 of 1)", "begun: capture the disk", "done: capture the disk",
		"begun: start xterm (step 1 of 2)", "begun: start gimp (step 2 of 2)", "done: start gimp (step 2 of 2)"},
	"import":          nil,
	"import and test": {"done: load the archive", "begun: start xterm (step 1 of 2)", "begun: start gimp (step 2 of 2)", "done: start gimp (step 2 of 2)"},
	"import and add": {"done: load the archive", "begun: add application 1 of 2 (step 1 of 2)", "begun: add application 2 of 2 (step 2 of 2)",
		"done: add application 2 of 2 (step 2 of 2)", "begun: capture the disk", "done: capture the disk",
		"begun: start xterm (step 1 of 2)", "begun: start gimp (step 2 of 2)", "done: start gimp (step 2 of 2)"},
}

func TestKillManagedBuilders(t *testing.T) {
	for op, least := range map[string]int{"update": 24, "import": 6, "import and test": 18, "import and add": 32} {
		t.Run(op, func(t *testing.T) {
			killAroundEveryCall(t, least, func(w *world, begin func()) {
				image := "import-of-hello"
				if op == "update" {
					image = "update-of-hello"
					w.original()
				} else {
					w.give()
				}
				begin()
				w.must(w.do(op, "hello"))
				w.wait(op, time.Hour, func() bool { return w.state(image) == types.ImageStateAvailable && w.madeFor(image) == nil })
				// Of a machine that was started just before a kill nobody has noted that; all else is noted once.
				steps := slices.DeleteFunc(w.steps(appstream.NounImage, image), func(s string) bool { return strings.HasPrefix(s, "begun: start the machine") })
				if d := cmp.Diff(managedSteps[op], steps); d != "" {
					w.t.Errorf("its steps (-want +got):\n%s", d)
				}
				w.check()
			}, withWorkers)
		})
	}
}

// The package is made all the same, once and whole.
func TestKillAppBlockBuilder(t *testing.T) {
	killAroundEveryCall(t, 12, func(w *world, begin func()) {
		begin()
		w.packager()
		for _, step := range []struct {
			op    string
			state types.AppBlockBuilderState
		}{{"start", "RUNNING"}, {"stop", "STOPPED"}, {"start", "RUNNING"}, {"package", "STOPPED"}} {
			w.must(w.pack(step.op))
			w.reachPackager(step.state)
		}
		w.setInject(nil)
		if block, keys := w.suite(), w.packages(); block.State != types.AppBlockStateActive || len(keys) != 1 || *block.SourceS3Location.S3Key != keys[0] {
			w.t.Errorf("the app block is %s, the packages are %v", block.State, keys)
		}
		if steps, key := w.steps(appstream.NounAppBlockBuilder, "b"), w.packages()[0]; !slices.Equal(steps, []string{"begun: write the package " + key, "done: write the package " + key}) {
			w.t.Errorf("its steps are %q", steps)
		}
		w.checkPackager()
	})
}

// A package that is given up as soon as it is written, before anybody has noted that, is removed.
func TestKillAbandonedPackage(t *testing.T) {
	killAroundEveryCall(t, 12, func(w *world, begin func()) {
		w.packager()
		w.must(w.pack("start"))
		w.reachPackager("RUNNING")
		begin()
		kill, stop := w.inject, sync.OnceValue(func() error { return w.pack("stop") })
		w.setInject(func(method, id string, when sim.When) error {
			err := kill(method, id, when)
			if method == "EnsureReported" && when == sim.After && !w.dead.Load() {
				w.must(stop())
			}
			return err
		})
		w.must(w.pack("package"))
		w.reachPackager("STOPPED")
		w.setInject(nil)
		w.noPackage()
	})
}

func TestKillFleet(t *testing.T) {
	for _, kind := range []types.FleetType{types.FleetTypeAlwaysOn, types.FleetTypeOnDemand} {
		t.Run(string(kind), func(t *testing.T) {
			killAroundEveryCall(t, 14, func(w *world, begin func()) {
				begin()
				w.fleet("lab", kind, 1, 1)
				w.reachFleet("lab", types.FleetStateRunning, 1)
				session := w.sit("lab", "ada")
				w.must(w.svc.EndSession(w.ctx(), session.ID))
				w.reachFleet("lab", types.FleetStateRunning, 1)
				w.wait("cleared", time.Hour, func() bool { return w.session(session.ID).Cleared })
				if code := w.session(session.ID).EndCode; code != appstream.EndByUser {
					w.t.Errorf("the session ended by %q", code)
				}
				w.must(w.stopFleet("lab"))
				w.reachFleet("lab", types.FleetStateStopped, 0)
				w.checkFleets()
				w.checkSeats("lab")
			}, withCrew(1))
		})
	}
}

func TestKillElasticFleet(t *testing.T) {
	killAroundEveryCall(t, 60, func(w *world, begin func()) {
		w.elastic("lab", 1, "calc")
		begin()
		w.must(w.startFleet("lab"))
		w.wait("RUNNING", time.Hour, func() bool { return w.serves("lab", 1, "calc") })
		w.composedInSteps("lab")
		session := w.sit("lab", "ada")
		w.object("calc.tar", "newer")
		w.must(w.svc.EndSession(w.ctx(), session.ID))
		w.wait("composed again", time.Hour, func() bool {
			return w.serves("lab", 1, "calc") && len(w.compositions()) == 1 && w.compositions()[0].Recipe.Blocks[0].Package.Size == 5
		})
		w.must(w.stopFleet("lab"))
		w.wait("STOPPED", time.Hour, func() bool { return w.describeFleet("lab").State == types.FleetStateStopped })
		w.checkCompositions()
		w.checkSeats("lab")
		w.setInject(nil)
		w.withdraw("lab")
	}, withCrew(1))
}

// composedInSteps looks whether the last image of a fleet, of the application calc, was made in these steps, each of them once. A machine that had to begin anew begins its steps anew.
func (w *world) composedInSteps(fleet string) {
	w.t.Helper()
	want := []string{"begun: start the machine that its image is made on",
		"done: put packages/calc.tar on the machine (file 1 of 2)", "done: put packages/calc.sh on the machine (file 2 of 2)",
		"begun: set up the app block calc (step 1 of 3)", "begun: add the application calc (step 2 of 3)", "begun: clean up (step 3 of 3)", "done: clean up (step 3 of 3)",
		"begun: capture the disk", "done: capture the disk"}
	steps := w.steps(appstream.NounFleet, fleet)
	for n := len(steps) - 1; n > 0; n-- {
		if steps[n] == want[0] {
			steps = steps[n:]
		}
	}
	if d := cmp.Diff(want, steps); d != "" {
		w.t.Errorf("its steps (-want +got):\n%s", d)
	}
}

// A report is there once, whole.
func TestKillUsageReport(t *testing.T) {
	killAroundEveryCall(t, 4, func(w *world, begin func()) {
		w.fleet("lab", types.FleetTypeAlwaysOn, 1, 1)
		w.reachFleet("lab", types.FleetStateRunning, 1)
		w.subscribe()
		s := w.sit("lab", "ada")
		w.must(w.svc.ApplicationLaunched(w.ctx(), s.ID, "editor"))
		w.must(w.svc.EndSession(w.ctx(), s.ID))
		w.wait("recorded", time.Minute, func() bool { return len(w.records()) == 1 })
		w.stop()
		time.Sleep(26 * time.Hour)
		begin()
		w.start()
		w.wait("the report", time.Hour, func() bool { return w.subscription().LastGeneratedReportDate != nil })
		if got := w.reported(); len(got) != 1 || !slices.Equal(got["2000-01-01"], []string{s.ID}) {
			w.t.Errorf("the reports are %v", got)
		}
		if rows := w.reports()["daily-app-report-2000-01-01.csv"]; len(rows) != 1 {
			w.t.Errorf("the launches are %v", rows)
		}
	}, withCrew(1))
}
