package reconcile_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/png"
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
	"github.com/oriel-project/oriel/internal/objects"
	"github.com/oriel-project/oriel/internal/store"
	"pgregory.net/rapid"
)

func inBucket(key string) *types.S3Location {
	return &types.S3Location{S3Bucket: aws.String("packages"), S3Key: &key}
}

func (w *world) object(key, text string) {
	w.t.Helper()
	w.must(w.files.Put(w.ctx(), objects.Location{Account: caller.Account, Bucket: "packages", Key: key}, strings.NewReader(text)))
}

// application makes an app block and an application of it, both of that name.
func (w *world) application(name string) {
	w.t.Helper()
	var icon bytes.Buffer
	w.must(png.Encode(&icon, image.NewGray(image.Rect(0, 0, 8, 8))))
	w.object("icon.png", icon.String())
	w.object(name+".tar", "package of "+name)
	w.object(name+".sh", "script of "+name)
	block, err := w.svc.CreateAppBlock(w.ctx(), &appstreamapi.CreateAppBlockInput{Name: &name, SourceS3Location: inBucket(name + ".tar"),
		SetupScriptDetails: &types.ScriptDetails{ScriptS3Location: inBucket(name + ".sh"), ExecutablePath: aws.String(name + ".sh"), ExecutableParameters: aws.String("--all"), TimeoutInSeconds: aws.Int32(60)}})
	w.must(err)
	_, err = w.svc.CreateApplication(w.ctx(), &appstreamapi.CreateApplicationInput{Name: &name, AppBlockArn: block.AppBlock.Arn, IconS3Location: inBucket("icon.png"),
		LaunchPath: aws.String("/opt/" + name), DisplayName: aws.String("The " + name), Platforms: []types.PlatformType{"DEBIAN_12"}, InstanceFamilies: []string{"GENERAL_PURPOSE"}})
	w.must(err)
}

func (w *world) associate(fleet, app string) error {
	_, err := w.svc.AssociateApplicationFleet(w.ctx(), &appstreamapi.AssociateApplicationFleetInput{FleetName: &fleet, ApplicationArn: aws.String("arn:aws:appstream:us-east-1:123456789012:application/" + app)})
	return err
}

func (w *world) disassociate(fleet, app string) error {
	_, err := w.svc.DisassociateApplicationFleet(w.ctx(), &appstreamapi.DisassociateApplicationFleetInput{FleetName: &fleet, ApplicationArn: aws.String("arn:aws:appstream:us-east-1:123456789012:application/" + app)})
	return err
}

// elastic makes an Elastic fleet of a stack of that name, for most sessions, with applications. It is not started.
func (w *world) elastic(name string, most int, apps ...string) {
	w.t.Helper()
	_, err := w.svc.CreateFleet(w.ctx(), &appstreamapi.CreateFleetInput{Name: &name, FleetType: types.FleetTypeElastic, Platform: "DEBIAN_12",
		InstanceType: aws.String("stream.standard.small"), MaxConcurrentSessions: aws.Int32(int32(most))})
	w.must(err)
	_, err = w.svc.CreateStack(w.ctx(), &appstreamapi.CreateStackInput{Name: &name})
	w.must(err)
	_, err = w.svc.AssociateFleet(w.ctx(), &appstreamapi.AssociateFleetInput{FleetName: &name, StackName: &name})
	w.must(err)
	for _, app := range apps {
		w.application(app)
		w.must(w.associate(name, app))
	}
}

func (w *world) fleetRecord(fleet string) (f appstream.Fleet) {
	w.t.Helper()
	w.must(w.store.View(w.ctx(), func(tx store.Tx) error {
		return tx.Get(appstream.Key{Account: caller.Account, Region: caller.Region, Noun: appstream.NounFleet, Name: fleet}, &f)
	}))
	return f
}

func (w *world) compositions() (list []appstream.Composition) {
	w.t.Helper()
	w.must(w.store.View(context.Background(), func(tx store.Tx) (err error) {
		list, err = store.List[appstream.Composition](tx, store.Query{Noun: appstream.NounComposition})
		return err
	}))
	return list
}

// spare tells how many instances of the fleet's present image wait for people.
func (w *world) spare(fleet string) (n int) {
	w.t.Helper()
	ref := w.fleetRecord(fleet).ImageRef
	for _, i := range w.instances(fleet) {
		if i.State == appstream.InstancePrepared && i.Spec.ImageRef == ref {
			n++
		}
	}
	return n
}

// serves tells whether a fleet runs, has n spare instances, has the applications and is content.
func (w *world) serves(fleet string, n int, apps ...string) bool {
	w.t.Helper()
	f := w.fleetRecord(fleet)
	var have []string
	for _, a := range f.Catalogue.Applications {
		have = append(have, *a.Name)
	}
	return f.State == appstream.FleetRunning && f.Trouble == "" && w.spare(fleet) == n && slices.Equal(have, apps)
}

// checkCompositions looks, at rest, for machines and images that nobody needs.
func (w *world) checkCompositions() {
	w.t.Helper()
	refs, err := w.provider.ListImages(w.ctx())
	w.must(err)
	for _, c := range w.compositions() {
		if c.State != appstream.CompositionReady {
			continue
		}
		if !slices.Contains(refs, c.Ref) {
			w.t.Errorf("the composition %s is READY, and its image is not there", c.Name)
		}
		refs = slices.DeleteFunc(refs, func(ref string) bool { return ref == c.Ref })
		m, err := w.provider.Observe(w.ctx(), c.ID)
		if err != nil || m.Phase != appstream.MachineAbsent {
			w.t.Errorf("the composition %s is READY and has a machine: %v, %v", c.Name, m, err)
		}
	}
	if len(refs) > 0 {
		w.t.Errorf("images without a composition: %v", refs)
	}
	allowed := map[string]bool{}
	for noun, table := range appstream.Transitions() {
		for _, tr := range table {
			allowed[fmt.Sprint(noun, tr.From, "→", tr.To)] = true
		}
	}
	w.must(w.store.View(context.Background(), func(tx store.Tx) error {
		for _, c := range w.compositions() {
			w.history(tx, c.Meta, allowed)
		}
		return nil
	}))
}

func (w *world) withdraw(fleet string) {
	w.t.Helper()
	w.must(w.stopFleet(fleet))
	w.wait("STOPPED", time.Hour, func() bool { return w.describeFleet(fleet).State == types.FleetStateStopped })
	_, err := w.svc.DisassociateFleet(w.ctx(), &appstreamapi.DisassociateFleetInput{FleetName: &fleet, StackName: &fleet})
	w.must(err)
	_, err = w.svc.DeleteFleet(w.ctx(), &appstreamapi.DeleteFleetInput{Name: &fleet})
	w.must(err)
	w.wait("nothing is left", time.Hour, func() bool { return len(w.compositions()) == 0 })
	w.checkCompositions()
	w.checkFleets()
}

// An Elastic fleet is made of its applications' packages, gives everyone a clean machine as fast as it can, and never more of them than it may.
func TestLifeOfAnElasticFleet(t *testing.T) {
	inFleets(t, 1, func(w *world, c *crew) {
		w.elastic("lab", 4, "calc", "edit")
		w.object("scripts.zip", "session scripts")
		_, err := w.svc.UpdateFleet(w.ctx(), &appstreamapi.UpdateFleetInput{Name: aws.String("lab"), SessionScriptS3Location: inBucket("scripts.zip")})
		w.must(err)
		w.must(w.startFleet("lab"))
		w.wait("RUNNING", time.Hour, func() bool { return w.serves("lab", 2, "calc", "edit") })
		made := w.compositions()[0]
		files, steps := c.files[made.ID], c.steps["compose"]
		if files["/opt/appstream/AppBlocks/calc/calc.tar"] != "package of calc" || files["/opt/appstream/AppBlocks/edit/edit.sh"] != "script of edit" || files["/opt/appstream/SessionScripts.zip"] != "session scripts" {
			t.Errorf("the machine had %q", files)
		}
		var names []string
		for _, s := range steps {
			names = append(names, s.Name)
		}
		if got := strings.Join(names, ", "); got != "set up the app block calc, set up the app block edit, unpack the session scripts, add the application calc, add the application edit, clean up" {
			t.Errorf("it did %s", got)
		}
		if want := "cd '/opt/appstream/AppBlocks/calc'\n'./calc.sh' --all"; steps[0].Command != want || steps[0].Time != time.Minute {
			t.Errorf("it did %q within %s", steps[0].Command, steps[0].Time)
		}
		v := w.describeFleet("lab")
		if v.ComputeCapacityStatus != nil || v.ImageArn != nil || len(v.FleetErrors) > 0 {
			t.Errorf("the fleet is %+v", v)
		}

		began := time.Now()
		ada := w.sit("lab", "ada")
		if took := time.Since(began); took > delay+desktopTime+500*time.Millisecond {
			t.Errorf("a session on a spare instance took %s", took)
		}
		first := w.session(ada.ID).InstanceID
		w.wait("two spare again", time.Hour, func() bool { return w.spare("lab") == 2 })
		var more []appstream.Session
		for _, user := range []string{"bob", "cy", "dan"} { // at once: one more than there are spare ones
			s, err := w.open("lab", user)
			w.must(err)
			more = append(more, s)
		}
		if _, err := w.open("lab", "eve"); appstream.KindOf(err) != appstream.InsufficientCapacity {
			t.Errorf("the fifth of four: %v", err)
		}
		w.checkSeats("lab")
		for _, s := range more {
			w.reachSession(s.ID, appstream.SessionActive)
		}
		w.settleFleets("lab")
		if n := w.spare("lab"); n != 0 {
			t.Errorf("%d spare instances beside four sessions of four", n)
		}
		w.must(w.svc.EndSession(w.ctx(), ada.ID))
		w.wait("a place is free", time.Hour, func() bool { return w.spare("lab") == 1 })
		eve := w.sit("lab", "eve")
		if w.session(eve.ID).InstanceID == first {
			t.Error("eve is where ada was")
		}

		// While people come and go, what it is made of is looked at each minute only.
		w.settleFleets("lab")
		looks, since := w.looks.Load(), time.Now()
		for range 10 {
			w.must(w.svc.EndSession(w.ctx(), eve.ID))
			w.wait("a place is free", time.Hour, func() bool { return w.spare("lab") == 1 })
			eve = w.sit("lab", "eve")
		}
		if n, most := w.looks.Load()-looks, int64(time.Since(since)/time.Minute+2)*5; n > most {
			t.Errorf("in %s it has looked at objects %d times", time.Since(since), n)
		}

		// What it is made of changes: those who are on it stay, the others get the new one.
		w.must(w.disassociate("lab", "edit"))
		w.must(w.svc.EndSession(w.ctx(), more[0].ID))
		w.wait("composed again", time.Hour, func() bool { return w.serves("lab", 1, "calc") })
		if w.session(eve.ID).State != appstream.SessionActive || w.instanceOf(eve).Spec.ImageRef != made.Ref {
			t.Errorf("eve's session is %s on %s", w.session(eve.ID).State, w.instanceOf(eve).Spec.ImageRef)
		}
		if n := len(w.compositions()); n != 2 {
			t.Errorf("there are %d compositions while somebody is on the old one", n)
		}
		for _, s := range append(more[1:], eve) {
			w.must(w.svc.EndSession(w.ctx(), s.ID))
		}
		w.wait("the old image is gone", time.Hour, func() bool { return len(w.compositions()) == 1 && w.serves("lab", 2, "calc") })
		w.checkCompositions()
		was := w.fleetRecord("lab").ImageRef
		w.object("calc.tar", "the newer package of calc")
		w.wait("the fleet has the new image", time.Hour, func() bool { return w.fleetRecord("lab").ImageRef != was })
		zoe := w.sit("lab", "zoe") // though those of the older form wait for people still
		if got, want := w.instanceOf(zoe).Spec.ImageRef, w.fleetRecord("lab").ImageRef; got != want {
			t.Errorf("zoe is on %s, the fleet has %s", got, want)
		}
		w.must(w.svc.EndSession(w.ctx(), zoe.ID))
		w.wait("composed with the new package", time.Hour, func() bool {
			return w.serves("lab", 2, "calc") && w.fleetRecord("lab").ImageRef != was && len(w.compositions()) == 1
		})
		w.checkCompositions()

		// A stopped fleet keeps its image, and starts with it.
		w.must(w.stopFleet("lab"))
		w.wait("STOPPED", time.Hour, func() bool { return w.describeFleet("lab").State == types.FleetStateStopped })
		was = w.fleetRecord("lab").ImageRef
		w.must(w.startFleet("lab"))
		if took := w.wait("RUNNING", time.Hour, func() bool { return w.serves("lab", 2, "calc") }); took > delay+time.Second || w.fleetRecord("lab").ImageRef != was {
			t.Errorf("starting with the image that there is took %s", took)
		}
		w.must(w.provider.EnsureImageGone(w.ctx(), was)) // behind everybody's back
		w.wait("its image is noticed to be gone", time.Hour, func() bool { return w.compositions()[0].State != appstream.CompositionReady })
		w.wait("made again", time.Hour, func() bool { return w.compositions()[0].State == appstream.CompositionReady })
		w.withdraw("lab")
	})
}

func (w *world) instanceOf(s appstream.Session) (i appstream.Instance) {
	w.t.Helper()
	w.must(w.store.View(w.ctx(), func(tx store.Tx) error { return tx.Find(s.InstanceID, &i) }))
	return i
}

// What goes wrong is told, at the fleet and at the app block, and tried again; what is mended helps at once. A fleet that runs goes on as it was.
func TestElasticFleetThatCannotBeMade(t *testing.T) {
	inFleets(t, 1, func(w *world, c *crew) {
		w.elastic("lab", 3, "calc")
		errors := func() string {
			var text []string
			for _, e := range w.describeFleet("lab").FleetErrors {
				text = append(text, *e.ErrorMessage)
			}
			return strings.Join(text, "\n")
		}
		blames := func() (text string) {
			out, err := w.svc.DescribeAppBlocks(w.ctx(), &appstreamapi.DescribeAppBlocksInput{})
			w.must(err)
			for _, b := range out.AppBlocks {
				for _, e := range b.AppBlockErrors {
					text += *b.Name + ": " + *e.ErrorMessage + "\n"
				}
			}
			return text
		}
		c.fails["set up the app block calc"] = "set up the app block calc: it exited with code 3"
		w.must(w.startFleet("lab"))
		w.wait("the failure is told", time.Hour, func() bool { return strings.Contains(errors(), "code 3") })
		if !strings.Contains(errors(), "the last line of set up the app block calc") || !strings.HasPrefix(blames(), "calc: set up the app block calc: it exited with code 3") {
			t.Errorf("the fleet says %q, the app blocks %q", errors(), blames())
		}
		time.Sleep(time.Hour)
		tries := c.count["compose"]
		if w.describeFleet("lab").State != types.FleetStateStarting || tries < 5 || tries > 15 {
			t.Errorf("after an hour it is %s and was tried %d times", w.describeFleet("lab").State, tries)
		}
		w.checkCompositions()
		delete(c.fails, "set up the app block calc")
		w.object("calc.sh", "the script, mended")
		if took := w.wait("it runs", time.Hour, func() bool { return w.serves("lab", 2, "calc") }); took > 2*time.Minute {
			t.Errorf("the mended script helped after %s", took)
		}
		w.wait("nothing is wrong", time.Hour, func() bool { return errors() == "" && blames() == "" })

		ada := w.sit("lab", "ada")
		w.application("edit")
		c.fails["add the application edit"] = "File not found (absolute-app-path)"
		w.must(w.associate("lab", "edit"))
		w.wait("the failure is told", time.Hour, func() bool {
			return strings.Contains(errors(), "File not found") && strings.Contains(blames(), "edit: File not found")
		})
		if w.session(ada.ID).State != appstream.SessionActive || w.describeFleet("lab").State != types.FleetStateRunning {
			t.Error("the fleet does not go on as it was")
		}
		w.sit("lab", "bob")
		w.must(w.disassociate("lab", "edit"))
		w.wait("all is well", time.Hour, func() bool { return errors() == "" && w.serves("lab", 1, "calc") })

		w.must(w.files.Remove(w.ctx(), objects.Location{Account: caller.Account, Bucket: "packages", Key: "calc.tar"}))
		w.wait("the package is missed", time.Hour, func() bool {
			return strings.Contains(errors(), "packages/calc.tar does not exist") && strings.Contains(blames(), "calc: The object packages/calc.tar")
		})
		w.object("calc.tar", "again")
		w.wait("all is well", time.Hour, func() bool {
			return errors() == "" && !strings.Contains(blames(), "calc:") && w.serves("lab", 1, "calc")
		})
		w.withdraw("lab")
	})
}

// A machine that ends while it is set up is made anew, but not for ever.
func TestElasticMachineEnds(t *testing.T) {
	inFleets(t, 1, func(w *world, c *crew) {
		w.elastic("lab", 3, "calc")
		w.must(w.startFleet("lab"))
		end := func() {
			w.wait("the job has begun", time.Hour, func() bool {
				list := w.compositions()
				if len(list) == 0 || list[0].State != appstream.CompositionComposing {
					return len(list) > 0
				}
				status := c.Job(w.ctx(), list[0].ID, "compose", 0)
				return status.Known && !status.Ended
			})
			w.must(w.provider.EnsureStopped(w.ctx(), w.compositions()[0].ID))
			w.settle()
		}
		end()
		w.wait("RUNNING", time.Hour, func() bool { return w.serves("lab", 2, "calc") })
		if c.count["compose"] != 2 {
			t.Errorf("it was set up %d times", c.count["compose"])
		}
		w.application("edit")
		w.must(w.associate("lab", "edit"))
		w.wait("it is given up", time.Hour, func() bool {
			for _, x := range w.compositions() {
				if x.State == appstream.CompositionComposing {
					_ = w.provider.EnsureStopped(w.ctx(), x.ID)
				}
			}
			return strings.Contains(w.fleetRecord("lab").Trouble, "Its machine ended 3 times")
		})
		w.wait("RUNNING", time.Hour, func() bool { return w.serves("lab", 2, "calc", "edit") })
		w.withdraw("lab")
	})
}

// A machine that somebody starts again while it is set up, so quickly that only its agent knows, is made anew too: what scripts have half done is not
// done once more on top.
func TestElasticMachineRestarts(t *testing.T) {
	inFleets(t, 1, func(w *world, c *crew) {
		w.elastic("lab", 1, "calc")
		made, begun := 0, []int{}
		w.setInject(func(method, id string, when sim.When) error {
			switch {
			case when == sim.Before || !strings.HasPrefix(id, "cmp-"):
			case method == "EnsureRunning":
				made++
			case method == "EnsureJobBegun":
				begun = append(begun, made)
				if len(begun) == 1 {
					c.forget(id)
				}
			}
			return nil
		})
		w.must(w.startFleet("lab"))
		w.wait("RUNNING", time.Hour, func() bool { return w.serves("lab", 1, "calc") })
		if !slices.Equal(begun, []int{1, 2}) {
			t.Errorf("jobs were begun on the machines %v", begun)
		}
		w.withdraw("lab")
	})
}

// Whatever is done with Elastic fleets in whatever order, with crashes and faults at random moments: never two on a machine, never more sessions than
// there may be, and in the end the fleet is what it shall be and nothing else is left.
func TestRandomElasticFleets(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		type step struct {
			Op   string
			User int
			Wait time.Duration
		}
		steps := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step {
			return step{
				rapid.SampledFrom([]string{"open", "open", "open", "end", "associate", "disassociate", "package", "break", "mend", "more", "less", "stop", "start", "lose", "lose image", "kill"}).Draw(t, "op"),
				rapid.IntRange(0, 5).Draw(t, "user"),
				time.Duration(rapid.IntRange(0, 8000).Draw(t, "wait ms")) * time.Millisecond,
			}
		}), 1, 30).Draw(rt, "steps")
		faults := rapid.SliceOfN(rapid.IntRange(0, 30), 64, 64).Draw(rt, "faults")
		inFleets(t, 1, func(w *world, c *crew) {
			most := 3
			w.elastic("lab", most, "calc")
			w.application("edit")
			w.must(w.startFleet("lab"))
			n := 0
			w.setInject(func(string, string, sim.When) error {
				n++
				switch faults[n%len(faults)] {
				case 0:
					return fmt.Errorf("injected: %w", compute.ErrUnavailable)
				case 1:
					return errors.New("injected")
				}
				return nil
			})
			apps := []string{"calc"}
			for i, s := range steps {
				user, err := fmt.Sprint("user", s.User), error(nil)
				switch s.Op {
				case "open":
					_, err = w.open("lab", user)
				case "end":
					for _, session := range w.sessions("lab") {
						if session.UserID == user {
							err = w.svc.EndSession(w.ctx(), session.ID)
						}
					}
				case "associate":
					err, apps = w.associate("lab", "edit"), []string{"calc", "edit"}
				case "disassociate":
					err, apps = w.disassociate("lab", "edit"), []string{"calc"}
				case "package":
					w.object("calc.tar", fmt.Sprint("package ", i))
				case "break", "mend":
					c.labour.mu.Lock()
					delete(c.fails, "set up the app block calc")
					if s.Op == "break" {
						c.fails["set up the app block calc"] = "it failed"
					}
					c.labour.mu.Unlock()
				case "more", "less":
					most = map[string]int{"more": 4, "less": 1}[s.Op]
					_, err = w.svc.UpdateFleet(w.ctx(), &appstreamapi.UpdateFleetInput{Name: aws.String("lab"), MaxConcurrentSessions: aws.Int32(int32(most))})
					if err != nil {
						most = w.recordMost("lab")
					}
				case "stop":
					err = w.stopFleet("lab")
				case "start":
					err = w.startFleet("lab")
				case "lose":
					if list := w.instances("lab"); len(list) > 0 {
						_ = w.provider.EnsureGone(w.ctx(), list[s.User%len(list)].ID)
					}
				case "lose image":
					if list := w.compositions(); len(list) > 0 {
						_ = w.provider.EnsureImageGone(w.ctx(), list[0].Ref)
					}
				case "kill":
					w.kill()
					w.restart()
				}
				if appstream.KindOf(err) == appstream.Internal {
					t.Fatalf("%s %s: %v", s.Op, user, err)
				}
				w.checkSeats("lab")
				time.Sleep(s.Wait)
				synctest.Wait()
				w.checkSeats("lab")
			}
			w.setInject(nil)
			c.labour.mu.Lock()
			clear(c.fails)
			c.labour.mu.Unlock()
			w.must(w.svc.ForgetConnections(w.ctx()))
			w.wait("every session over", 24*time.Hour, func() bool { w.checkSeats("lab"); return len(w.sessions("lab")) == 0 })
			w.wait("not on its way", time.Hour, func() bool {
				state := w.describeFleet("lab").State
				return state == types.FleetStateRunning || state == types.FleetStateStopped
			})
			if w.describeFleet("lab").State == types.FleetStateStopped {
				w.must(w.startFleet("lab"))
			}
			w.wait("it serves", time.Hour, func() bool { return w.serves("lab", min(2, most), apps...) && len(w.compositions()) == 1 })
			time.Sleep(2 * time.Minute) // a sweep or two
			w.settleFleets("lab")
			w.checkFleets()
			w.checkCompositions()
			w.withdraw("lab")
		})
		if t.Failed() {
			rt.Fatalf("steps: %+v", steps)
		}
	})
}

func (w *world) recordMost(fleet string) int {
	f := w.fleetRecord(fleet)
	return f.MaxConcurrent()
}
