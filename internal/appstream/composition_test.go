package appstream

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/google/go-cmp/cmp"
)

func elasticFleet(state string, edit ...func(*Fleet)) Fleet {
	return fleet(state, 0, append([]func(*Fleet){func(f *Fleet) {
		f.View.FleetType, f.View.Platform, f.View.MaxConcurrentSessions, f.View.ImageArn = types.FleetTypeElastic, "DEBIAN_12", new(int32(4)), nil
		f.ImageRef, f.Base, f.Applications = "oriel/image:cmp-1", "arn:aws:appstream:us-east-1::image/base", []string{"calc"}
	}}, edit...)...)
}

var baseImage = Image{Meta: Meta{Key: Key{"", "us-east-1", NounImage, "base"}, State: ImageAvailable}, Ref: "base-ref", View: types.Image{Platform: "DEBIAN_12"}}

func block(name string, packaging types.PackagingType, edit ...func(*AppBlock)) AppBlock {
	b := AppBlock{Meta: Meta{Key: Key{"123456789012", "us-east-1", NounAppBlock, name}, Version: 1, State: AppBlockActive}}
	at := func(key string) *types.S3Location { return &types.S3Location{S3Bucket: new("b"), S3Key: &key} }
	b.View = types.AppBlock{PackagingType: packaging, SourceS3Location: at("p/" + name + ".tar")}
	script := &types.ScriptDetails{ScriptS3Location: at("p/setup.sh"), ExecutablePath: new("setup.sh"), ExecutableParameters: new("-x 'a b'"), TimeoutInSeconds: new(int32(30))}
	if packaging == types.PackagingTypeCustom {
		b.View.SetupScriptDetails = script
	} else {
		b.View.PostSetupScriptDetails = script
	}
	for _, fn := range edit {
		fn(&b)
	}
	return b
}

func app(name, block string) Application {
	return Application{Meta: Meta{Key: Key{"123456789012", "us-east-1", NounApplication, name}}, Icon: name + ".png",
		View: types.Application{AppBlockArn: new("arn:aws:appstream:us-east-1:123456789012:app-block/" + block), LaunchPath: new("/opt/" + name), DisplayName: new("The " + name)}}
}

func recipe(t *testing.T, apps []Application, blocks ...AppBlock) (Recipe, Catalogue) {
	t.Helper()
	f := elasticFleet(FleetRunning)
	r, c, problem := recipeOf(&f, apps, blocks...)
	if problem != "" {
		t.Fatal(problem)
	}
	return r, c
}

func recipeOf(f *Fleet, apps []Application, blocks ...AppBlock) (Recipe, Catalogue, string) {
	byName := map[string]AppBlock{}
	for _, b := range blocks {
		byName[b.Name] = b
	}
	r, c, problem := NewRecipe(f, &baseImage, apps, byName)
	return r, c, problem.Text
}

// Packages fit the machines that they are put on: builders and fleets agree on the image.
func TestPublicImageOf(t *testing.T) {
	image := func(name, state string, platform types.PlatformType, released *time.Time) Image {
		return Image{Meta: Meta{Key: Key{Noun: NounImage, Name: name}, State: state}, View: types.Image{Platform: platform, PublicBaseImageReleasedDate: released}}
	}
	now := time.Unix(1e9, 0)
	list := []Image{image("a", ImageAvailable, "DEBIAN_12", nil), image("b", ImageAvailable, "DEBIAN_12", &now), image("c", ImageAvailable, "DEBIAN_12", &now),
		image("d", ImageDeprecated, "DEBIAN_12", new(now.Add(time.Hour))), image("e", ImageAvailable, types.PlatformTypeRhel8, new(now.Add(time.Hour)))}
	for range 2 {
		if got := PublicImageOf(list, "DEBIAN_12"); got == nil || got.Name != "b" {
			t.Errorf("it is %v", got)
		}
		slices.Reverse(list)
	}
	if got := PublicImageOf(list, types.PlatformTypeAmazonLinux2); got != nil {
		t.Errorf("it is %v", got)
	}
}

func TestRecipe(t *testing.T) {
	r, c := recipe(t, []Application{app("calc", "native"), app("edit", "custom"), app("draw", "custom")}, block("custom", types.PackagingTypeCustom), block("native", types.PackagingTypeAppstream2), block("unused", types.PackagingTypeCustom))
	var paths []string
	for _, f := range r.Files() {
		paths = append(paths, fmt.Sprintf("%s %o", f.Path, f.Mode))
	}
	want := []string{"/opt/appstream/AppBlocks/custom/custom.tar 644", "/opt/appstream/AppBlocks/custom/setup.sh 755", "/opt/appstream/AppBlocks/native/native.tar 644", "/opt/appstream/AppBlocks/native/setup.sh 755"}
	if d := cmp.Diff(want, paths); d != "" {
		t.Errorf("files (-want +got):\n%s", d)
	}
	steps, blocks := r.Steps()
	var got []string
	for n, s := range steps {
		got = append(got, s.Name+" / "+blocks[n])
	}
	want = []string{"look what the machine has / ", "set up the app block custom / custom", "unpack the app block native / native", "set up the app block native / native", "put the app blocks together / ",
		"add the application calc / native", "add the application edit / custom", "add the application draw / custom", "clean up / "}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("steps (-want +got):\n%s", d)
	}
	if want := "cd '/opt/appstream/AppBlocks/custom'\n'./setup.sh' -x 'a b'"; steps[1].Command != want || steps[1].Time != 30*time.Second {
		t.Errorf("the script is begun by %q within %s", steps[1].Command, steps[1].Time)
	}
	if c := steps[2].Command; !strings.HasPrefix(c, mergeCommand+"before\ntar ") || !strings.HasSuffix(c, "\n"+mergeCommand+"after") {
		t.Errorf("the package is unpacked by %q", c)
	}
	alone, _ := recipe(t, []Application{app("calc", "native")}, block("native", types.PackagingTypeAppstream2))
	if steps, _ := alone.Steps(); steps[0].Name != "unpack the app block native" || strings.Contains(steps[0].Command, "merge") {
		t.Errorf("one app block is put together with %+v", steps[0])
	}
	if c.Icons["calc"] != "calc.png" || len(c.Applications) != 3 || *c.Applications[0].Name != "calc" {
		t.Errorf("the catalogue is %+v", c)
	}
}

func TestRecipeThatCannotBe(t *testing.T) {
	f := elasticFleet(FleetRunning)
	for says, b := range map[string]AppBlock{
		"has no package yet":      block("x", types.PackagingTypeAppstream2, func(b *AppBlock) { b.State = AppBlockInactive }),
		"are both called":         block("x", types.PackagingTypeCustom, func(b *AppBlock) { b.View.SourceS3Location.S3Key = new("other/setup.sh") }),
		"does not exist any more": block("another", types.PackagingTypeCustom),
	} {
		if _, _, problem := recipeOf(&f, []Application{app("calc", "x")}, b); !strings.Contains(problem, says) {
			t.Errorf("%q does not say that it %s", problem, says)
		}
	}
}

// Whatever the image depends on changes the digest; what it does not depend on does not.
func TestDigest(t *testing.T) {
	of := func(edit func(f *Fleet, a *Application, b *AppBlock, r *Recipe)) string {
		t.Helper()
		f, a, b := elasticFleet(FleetRunning), app("calc", "custom"), block("custom", types.PackagingTypeCustom)
		edit(&f, &a, &b, &Recipe{})
		r, _, problem := recipeOf(&f, []Application{a}, b)
		if problem != "" {
			t.Fatal(problem)
		}
		edit(&f, &a, &b, &r)
		digest, err := r.Digest(f.ID)
		if err != nil {
			t.Fatal(err)
		}
		return digest
	}
	same := of(func(*Fleet, *Application, *AppBlock, *Recipe) {})
	for name, edit := range map[string]func(f *Fleet, a *Application, b *AppBlock, r *Recipe){
		"public image": func(_ *Fleet, _ *Application, _ *AppBlock, r *Recipe) { r.ImageRef = "newer" },
		"fleet":        func(f *Fleet, _ *Application, _ *AppBlock, _ *Recipe) { f.ID = "fleet-2" },
		"scripts": func(f *Fleet, _ *Application, _ *AppBlock, _ *Recipe) {
			f.View.SessionScriptS3Location = &types.S3Location{S3Bucket: new("b"), S3Key: new("k")}
		},
		"launch": func(_ *Fleet, a *Application, _ *AppBlock, _ *Recipe) { a.View.LaunchParameters = new("-v") },
		"name":   func(_ *Fleet, a *Application, _ *AppBlock, _ *Recipe) { a.View.DisplayName = new("Calculator") },
		"key":    func(_ *Fleet, _ *Application, b *AppBlock, _ *Recipe) { b.View.SourceS3Location.S3Key = new("q.tar") },
		"parameters": func(_ *Fleet, _ *Application, b *AppBlock, _ *Recipe) {
			b.View.SetupScriptDetails.ExecutableParameters = nil
		},
		"size": func(_ *Fleet, _ *Application, _ *AppBlock, r *Recipe) {
			for _, f := range r.Files() {
				f.Size = 7
			}
		},
		"time": func(_ *Fleet, _ *Application, _ *AppBlock, r *Recipe) {
			for _, f := range r.Files() {
				f.Modified = t0
			}
		},
	} {
		if of(edit) == same {
			t.Errorf("another %s makes no difference", name)
		}
	}
	for name, edit := range map[string]func(f *Fleet, a *Application, b *AppBlock, r *Recipe){
		"icon": func(_ *Fleet, a *Application, _ *AppBlock, _ *Recipe) { a.Icon = "other.png" },
		"type": func(f *Fleet, _ *Application, _ *AppBlock, _ *Recipe) {
			f.View.InstanceType = new("stream.standard.large")
		},
		"sessions": func(f *Fleet, _ *Application, _ *AppBlock, _ *Recipe) { f.View.MaxConcurrentSessions = new(int32(1)) },
	} {
		if of(edit) != same {
			t.Errorf("another %s makes a difference", name)
		}
	}
}

// composition makes one as the fleet would.
func composition(t *testing.T, state string, edit ...func(*Composition)) Composition {
	t.Helper()
	f := elasticFleet(FleetRunning)
	r, _ := recipe(t, []Application{app("calc", "custom")}, block("custom", types.PackagingTypeCustom))
	digest, err := r.Digest(f.ID)
	if err != nil {
		t.Fatal(err)
	}
	c := f.newComposition("cmp-1", CompositionPrefix(f.Name)+digest, "11-21-2026", &r, InstanceTypes(), t0)
	c.Version, c.Due = 1, time.Time{}
	if state != CompositionComposing {
		c.Enter(state, t0, 0)
	}
	for _, fn := range edit {
		fn(&c)
	}
	return c
}

func TestPlanComposition(t *testing.T) {
	started := func(put int, done bool) func(*Composition) {
		return func(c *Composition) { c.Started, c.Put, c.Done = true, put, done }
	}
	running, stopped := Machine{Phase: MachineRunning}, Machine{Phase: MachineStopped, ExitCode: 86}
	ready := Agent{Answers: true, Ready: true}
	lasting := func(c *Composition) { c.Problem = &Problem{Message: "the object b/p is gone", Lasting: true} }
	for _, test := range []struct {
		name  string
		state string
		edit  []func(*Composition)
		with  func(*CompositionSnapshot)
		do    string // the actions' names
		next  string
		says  string
	}{
		{name: "begins", do: "EnsureRunning", next: CompositionComposing},
		{name: "waits for the agent", edit: []func(*Composition){started(0, false)}, with: func(s *CompositionSnapshot) { s.Machine = running }, next: CompositionComposing},
		{name: "puts the first file", edit: []func(*Composition){started(0, false)}, with: func(s *CompositionSnapshot) { s.Machine, s.Agent = running, ready }, do: "EnsureFilePut", next: CompositionComposing},
		{name: "was started by a pass that was cut off", with: func(s *CompositionSnapshot) { s.Machine, s.Agent = running, ready }, do: "EnsureFilePut", next: CompositionComposing},
		{name: "puts the second file", edit: []func(*Composition){started(1, false)}, with: func(s *CompositionSnapshot) { s.Machine, s.Agent = running, ready }, do: "EnsureFilePut", next: CompositionComposing},
		{name: "begins the job", edit: []func(*Composition){started(2, false)}, with: func(s *CompositionSnapshot) {
			s.Machine, s.Agent, s.Job = running, ready, JobStatus{Answers: true}
		}, do: "EnsureJobBegun", next: CompositionComposing},
		{name: "waits for the job", edit: []func(*Composition){started(2, false)}, with: func(s *CompositionSnapshot) {
			s.Machine, s.Job = running, JobStatus{Answers: true, Known: true}
		}, next: CompositionComposing},
		{name: "the job is done", edit: []func(*Composition){started(2, false)}, with: func(s *CompositionSnapshot) {
			s.Machine, s.Job = running, JobStatus{Answers: true, Known: true, Ended: true}
		}, do: "EnsureStopped", next: CompositionComposing},
		{name: "captures", edit: []func(*Composition){started(2, true)}, with: func(s *CompositionSnapshot) { s.Machine = stopped }, do: "EnsureCaptured", next: CompositionComposing},
		{name: "is captured", edit: []func(*Composition){started(2, true)}, with: func(s *CompositionSnapshot) { s.Machine, s.Exists = stopped, true }, do: "EnsureGone", next: CompositionComposing},
		{name: "is ready", edit: []func(*Composition){started(2, true)}, with: func(s *CompositionSnapshot) { s.Exists = true }, next: CompositionReady},
		{name: "vanished before the capture", edit: []func(*Composition){started(2, true)}, do: "EnsureGone", next: CompositionComposing},
		{name: "ended", edit: []func(*Composition){started(1, false)}, with: func(s *CompositionSnapshot) { s.Machine = stopped }, do: "EnsureGone", next: CompositionComposing},
		{name: "ended and was started again", edit: []func(*Composition){started(2, false), func(c *Composition) { c.Step = 1 }}, with: func(s *CompositionSnapshot) {
			s.Machine, s.Agent, s.Job = running, ready, JobStatus{Answers: true}
		}, do: "EnsureStopped", next: CompositionComposing},
		{name: "ended too often", edit: []func(*Composition){started(1, false), func(c *Composition) { c.Ends = machineEnds }}, with: func(s *CompositionSnapshot) { s.Machine = stopped }, next: CompositionFailed, says: "exit code 86"},
		{name: "a file is missing", edit: []func(*Composition){started(0, false), lasting}, with: func(s *CompositionSnapshot) { s.Machine = running }, next: CompositionFailed, says: "b/p is gone"},
		{name: "a script fails", edit: []func(*Composition){started(2, false)}, with: func(s *CompositionSnapshot) {
			s.Machine, s.Job = running, JobStatus{Answers: true, Known: true, Ended: true, Problem: "exit code 7", Output: "no licence"}
		}, next: CompositionFailed, says: "exit code 7\nThe end of its output:\nno licence"},
		{name: "a mute agent", edit: []func(*Composition){started(2, false), func(c *Composition) { c.SilentSince = t0.Add(-readyLimit) }}, with: func(s *CompositionSnapshot) { s.Machine = running }, next: CompositionFailed, says: "did not answer"},
		{name: "too long", edit: []func(*Composition){func(c *Composition) { c.Deadline = t0 }}, next: CompositionFailed, says: "within 4h"},
		{name: "the fleet stops", with: func(s *CompositionSnapshot) { s.Fleet.State = FleetStopping }, next: CompositionDeleting},
		{name: "the fleet is gone", state: CompositionReady, with: func(s *CompositionSnapshot) { s.Fleet = nil }, next: CompositionDeleting},
		{name: "stays for a stopped fleet", state: CompositionReady, with: func(s *CompositionSnapshot) { s.Fleet.State, s.Exists = FleetStopped, true }, next: CompositionReady},
		{name: "its image vanished", state: CompositionReady, next: CompositionComposing},
		{name: "waits to try again", state: CompositionFailed, edit: []func(*Composition){func(c *Composition) { c.Retry = t0.Add(1) }}, do: "EnsureGone EnsureImageGone", next: CompositionFailed},
		{name: "tries again", state: CompositionFailed, do: "EnsureGone EnsureImageGone", next: CompositionComposing},
		{name: "goes", state: CompositionDeleting, with: func(s *CompositionSnapshot) { s.Machine = running }, do: "EnsureGone EnsureImageGone", next: CompositionDeleting},
		{name: "is gone", state: CompositionDeleting, do: "EnsureGone EnsureImageGone", next: ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := elasticFleet(FleetRunning)
			if test.state == "" {
				test.state = CompositionComposing
			}
			s := CompositionSnapshot{Composition: composition(t, test.state, test.edit...), Fleet: &f, Blocks: []AppBlock{block("custom", types.PackagingTypeCustom)}}
			if test.with != nil {
				test.with(&s)
			}
			d := PlanComposition(s, t0)
			var did []string
			for _, a := range d.Do {
				name, _, _ := strings.Cut(a.String(), " ")
				did = append(did, name)
			}
			state := d.Next.State
			if d.Remove {
				state = ""
			}
			if got := strings.Join(did, " "); got != test.do || state != test.next {
				t.Errorf("it does %q and is %q, not %q and %q", got, state, test.do, test.next)
			}
			if !strings.Contains(d.Next.Failure, test.says) {
				t.Errorf("it says %q", d.Next.Failure)
			}
			if blamed := len(d.Also) == 1; blamed != (test.name == "a file is missing" || test.name == "a script fails") {
				t.Errorf("it writes %d app blocks", len(d.Also))
			}
			if !d.Remove && d.Again.IsZero() && d.Next.State != CompositionReady {
				t.Error("nobody looks at it again")
			}
			if s.Machine.Phase == MachineRunning && d.Next.State == CompositionComposing && !d.Next.Started {
				t.Error("when its machine ends, that will not count")
			}
		})
	}
}

// How many instances an Elastic fleet has follows its people.
func TestPlanElasticCapacity(t *testing.T) {
	for _, test := range []struct{ most, inUse, spare, made, dropped int }{
		{4, 0, 0, 2, 0}, {4, 0, 2, 0, 0}, {4, 1, 1, 1, 0}, {4, 3, 1, 0, 0}, {4, 3, 2, 0, 1}, {4, 4, 0, 0, 0}, {1, 0, 0, 1, 0}, {1, 1, 1, 0, 1}, {4, 0, 3, 0, 1},
	} {
		f := elasticFleet(FleetRunning, func(f *Fleet) { f.View.MaxConcurrentSessions = new(int32(test.most)) })
		c := composition(t, CompositionReady, func(c *Composition) { c.Ref = f.ImageRef })
		s := FleetSnapshot{Fleet: f, Sizes: InstanceTypes(), Agent: "11-21-2026", IDs: []string{"i-1", "i-2", "i-3"},
			Elastic: &ElasticSnapshot{Recipe: c.Recipe, Compositions: []Composition{c}, ID: "cmp-9", Looked: t0}}
		for n := range test.inUse {
			s.Instances = append(s.Instances, instance(f, fmt.Sprint("i-used", n), InstanceInUse, func(i *Instance) { i.Sessions = []string{"s"} }))
		}
		for n := range test.spare {
			s.Instances = append(s.Instances, instance(f, fmt.Sprint("i-spare", n), InstancePrepared))
		}
		made, dropped := 0, 0
		for _, also := range PlanFleet(s, t0).Also {
			switch i := also.Record.(type) {
			case *Instance:
				if i.State == InstancePending {
					made++
				} else {
					dropped++
				}
			default:
				t.Errorf("%+v: it writes %T", test, i)
			}
		}
		if made != test.made || dropped != test.dropped {
			t.Errorf("%+v: it makes %d and drops %d", test, made, dropped)
		}
	}
}

func TestPlanElasticCompositions(t *testing.T) {
	c := composition(t, CompositionReady)
	old := composition(t, CompositionReady, func(c *Composition) { c.Name, c.ID, c.Ref = "lab/old", "cmp-0", "oriel/image:cmp-0" })
	other := composition(t, CompositionFailed, func(c *Composition) { c.Name, c.ID, c.Ref = "lab/other", "cmp-2", "oriel/image:cmp-2" })
	for _, test := range []struct {
		name  string
		has   string // the image that the fleet has
		list  []Composition
		edit  func(*FleetSnapshot)
		image string
		also  []string
		says  string
	}{
		{name: "none", also: []string{"cmp-9 COMPOSING"}},
		{name: "on its way", list: []Composition{composition(t, CompositionComposing)}},
		{name: "ready", list: []Composition{c}, image: c.Ref},
		{name: "a newer one", has: old.Ref, list: []Composition{old, c}, image: c.Ref},
		{name: "the older one is not needed", has: c.Ref, list: []Composition{old, c, other}, image: c.Ref, also: []string{"cmp-0 DELETING", "cmp-2 DELETING"}},
		{name: "the older one is in use", has: c.Ref, list: []Composition{old, c}, image: c.Ref, edit: func(s *FleetSnapshot) {
			s.Instances = []Instance{instance(s.Fleet, "i-0", InstanceDeleting, func(i *Instance) { i.Spec.ImageRef = old.Ref })}
		}},
		{name: "it cannot be made", has: old.Ref, list: []Composition{old, composition(t, CompositionFailed, func(c *Composition) { c.Failure = "no" })}, image: old.Ref, says: "no"},
		{name: "it is going", list: []Composition{composition(t, CompositionDeleting)}},
		{name: "a problem", has: old.Ref, list: []Composition{old, other}, image: old.Ref, edit: func(s *FleetSnapshot) { s.Elastic.Problem.Text = "nothing there" }, says: "nothing there"},
		{name: "a problem of an app block", has: old.Ref, list: []Composition{old}, image: old.Ref, edit: func(s *FleetSnapshot) {
			s.Elastic.Problem = ElasticProblem{Block: "custom", Text: "nothing there"}
		}, also: []string{"custom: nothing there"}, says: "nothing there"},
		{name: "a problem that an app block had", has: c.Ref, list: []Composition{c}, image: c.Ref, edit: func(s *FleetSnapshot) {
			b := s.Elastic.Blocks["custom"]
			b.View.AppBlockErrors = []types.ErrorDetails{{ErrorCode: new(setupFailed), ErrorMessage: new("nothing there")}}
			s.Elastic.Blocks["custom"] = b
		}, also: []string{"custom: "}},
		{name: "it stops", has: c.Ref, list: []Composition{old, c, other}, image: c.Ref, edit: func(s *FleetSnapshot) { s.Fleet.State = FleetStopping }, also: []string{"cmp-0 DELETING", "cmp-2 DELETING"}},
		{name: "it stops before it has one", list: []Composition{c}, edit: func(s *FleetSnapshot) { s.Fleet.State = FleetStopping }, also: []string{"cmp-1 DELETING"}},
		{name: "no such type", list: []Composition{c}, edit: func(s *FleetSnapshot) { s.Sizes = nil }, says: "instance type stream.standard.small"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := elasticFleet(FleetStarting, func(f *Fleet) { f.ImageRef = test.has })
			s := FleetSnapshot{Fleet: f, Sizes: InstanceTypes(), Agent: "11-21-2026", Elastic: &ElasticSnapshot{Recipe: c.Recipe, Compositions: test.list, ID: "cmp-9", Looked: t0,
				Blocks: map[string]AppBlock{"custom": block("custom", types.PackagingTypeCustom)}}}
			if test.edit != nil {
				test.edit(&s)
			}
			d := PlanFleet(s, t0)
			var also []string
			for _, a := range d.Also {
				switch r := a.Record.(type) {
				case *Composition:
					also = append(also, r.ID+" "+r.State)
				case *AppBlock:
					said := ""
					for _, e := range r.View.AppBlockErrors {
						said += *e.ErrorMessage
					}
					also = append(also, r.Name+": "+said)
				}
			}
			if d.Next.ImageRef != test.image || !slices.Equal(also, test.also) || !strings.Contains(d.Next.Trouble, test.says) || test.says == "" && d.Next.Trouble != "" {
				t.Errorf("its image is %q, it writes %q and says %q", d.Next.ImageRef, also, d.Next.Trouble)
			}
			if d.Next.State != FleetStopped && (d.Again.IsZero() || d.Again.After(t0.Add(elasticLook))) {
				t.Errorf("it looks again at %s", d.Again)
			}
		})
	}
}
