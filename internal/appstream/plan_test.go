package appstream

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var t0 = time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)

func builder(state string, edit ...func(*ImageBuilder)) ImageBuilder {
	b := ImageBuilder{
		Meta:        Meta{Key: Key{"123456789012", "us-east-1", NounImageBuilder, "hello"}, ID: "ib-1", Version: 1},
		View:        types.ImageBuilder{AppstreamAgentVersion: new("11-21-2026"), ImageArn: new("arn:aws:appstream:us-east-1::image/base")},
		Provisioned: state != BuilderPending,
	}
	b.Enter(state, t0)
	for _, fn := range edit {
		fn(&b)
	}
	return b
}

func TestPlanImageBuilder(t *testing.T) {
	running := Machine{ID: "ib-1", Phase: MachineRunning, IPv4: "10.0.0.2", IPv6: []string{"fd00::2"}, ENI: "eni-0123456789abcdef0", AgentVersion: "11-21-2026"}
	stopped := Machine{ID: "ib-1", Phase: MachineStopped, AgentVersion: "11-21-2026"}
	ready := Agent{Answers: true, Ready: true}
	capturing := func(b *ImageBuilder) { b.Capturing, b.CapturingID = "img", "img-1" }
	pendingImage := &Image{Meta: Meta{ID: "img-1", State: ImagePending}}
	for name, test := range map[string]struct {
		snapshot BuilderSnapshot
		after    time.Duration // since the state was entered
		state    string        // expected
		do       []string      // verbs expected
		remove   bool
	}{
		"a new builder gets a machine":                 {BuilderSnapshot{Builder: builder(BuilderPending)}, 0, BuilderPending, []string{"EnsureRunning"}, false},
		"a starting machine is waited for":             {BuilderSnapshot{Builder: builder(BuilderPending), Machine: running}, 0, BuilderPending, nil, false},
		"a ready machine is RUNNING":                   {BuilderSnapshot{Builder: builder(BuilderPending), Machine: running, Agent: ready}, 0, BuilderRunning, nil, false},
		"pending too long":                             {BuilderSnapshot{Builder: builder(BuilderPending), Machine: running}, 16 * time.Minute, BuilderFailed, nil, false},
		"a started builder's machine is started":       {BuilderSnapshot{Builder: builder(BuilderPending, provisioned), Machine: stopped}, 0, BuilderPending, []string{"EnsureStarted"}, false},
		"an older agent is updated":                    {BuilderSnapshot{Builder: builder(BuilderPending, provisioned), Machine: Machine{ID: "ib-1", Phase: MachineStopped, AgentVersion: "01-01-2026"}}, 0, BuilderUpdatingAgent, nil, false},
		"the update starts the machine":                {BuilderSnapshot{Builder: builder(BuilderUpdatingAgent), Machine: Machine{ID: "ib-1", Phase: MachineStopped, AgentVersion: "01-01-2026"}}, 0, BuilderUpdatingAgent, []string{"EnsureStarted"}, false},
		"a lost machine fails a start":                 {BuilderSnapshot{Builder: builder(BuilderPending, provisioned)}, 0, BuilderFailed, nil, false},
		"RUNNING stays":                                {BuilderSnapshot{Builder: builder(BuilderRunning), Machine: running, Agent: ready}, 1000 * time.Hour, BuilderRunning, nil, false},
		"a silent agent is given time":                 {BuilderSnapshot{Builder: builder(BuilderRunning), Machine: running}, 0, BuilderRunning, nil, false},
		"an agent silent for a while":                  {BuilderSnapshot{Builder: builder(BuilderRunning, silent), Machine: running}, silenceLimit - 1, BuilderRunning, nil, false},
		"an agent silent for too long":                 {BuilderSnapshot{Builder: builder(BuilderRunning, silent), Machine: running}, silenceLimit, BuilderRebooting, []string{"EnsureStopped"}, false},
		"ready at the last moment":                     {BuilderSnapshot{Builder: builder(BuilderPending), Machine: running, Agent: ready}, time.Hour, BuilderRunning, nil, false},
		"a running machine with another agent":         {BuilderSnapshot{Builder: builder(BuilderPending, provisioned), Machine: Machine{Phase: MachineRunning, AgentVersion: "01-01-2026"}, Agent: ready}, 0, BuilderPending, []string{"EnsureStopped"}, false},
		"down at the last moment":                      {BuilderSnapshot{Builder: builder(BuilderStopping), Machine: stopped}, time.Hour, BuilderStopped, nil, false},
		"a machine that vanished fails":                {BuilderSnapshot{Builder: builder(BuilderRunning)}, 0, BuilderFailed, nil, false},
		"a machine that ended is rebooted":             {BuilderSnapshot{Builder: builder(BuilderRunning), Machine: Machine{Phase: MachineStopped, ExitCode: 137}}, 0, BuilderRebooting, nil, false},
		"reboot inside":                                {BuilderSnapshot{Builder: builder(BuilderRunning), Machine: Machine{Phase: MachineStopped, ExitCode: ExitReboot}}, 0, BuilderRebooting, nil, false},
		"power off inside":                             {BuilderSnapshot{Builder: builder(BuilderRunning), Machine: Machine{Phase: MachineStopped, ExitCode: ExitPowerOff}}, 0, BuilderStopping, nil, false},
		"REBOOTING starts the machine":                 {BuilderSnapshot{Builder: builder(BuilderRebooting), Machine: stopped}, 0, BuilderRebooting, []string{"EnsureStarted"}, false},
		"a machine that ends again and again fails":    {BuilderSnapshot{Builder: builder(BuilderRebooting, bootedOften), Machine: stopped}, 0, BuilderFailed, nil, false},
		"STOPPING stops the machine":                   {BuilderSnapshot{Builder: builder(BuilderStopping), Machine: running}, 0, BuilderStopping, []string{"EnsureStopped"}, false},
		"a machine that is down is STOPPED":            {BuilderSnapshot{Builder: builder(BuilderStopping), Machine: stopped}, 0, BuilderStopped, nil, false},
		"STOPPED keeps its machine down":               {BuilderSnapshot{Builder: builder(BuilderStopped), Machine: running}, 0, BuilderStopped, []string{"EnsureStopped"}, false},
		"a stopped machine that vanished fails":        {BuilderSnapshot{Builder: builder(BuilderStopped)}, 0, BuilderFailed, nil, false},
		"SNAPSHOTTING stops the machine first":         {BuilderSnapshot{Builder: builder(BuilderSnapshotting, capturing), Machine: running, Capture: pendingImage}, 0, BuilderSnapshotting, []string{"EnsureStopped"}, false},
		"SNAPSHOTTING waits for its image":             {BuilderSnapshot{Builder: builder(BuilderSnapshotting, capturing), Machine: stopped, Capture: pendingImage}, 0, BuilderSnapshotting, nil, false},
		"a finished image stops the builder":           {BuilderSnapshot{Builder: builder(BuilderSnapshotting, capturing), Machine: stopped, Capture: &Image{Meta: Meta{ID: "img-1", State: ImageAvailable}}}, 0, BuilderStopped, nil, false},
		"a deleted image stops the builder":            {BuilderSnapshot{Builder: builder(BuilderSnapshotting, capturing), Machine: stopped}, 0, BuilderStopped, nil, false},
		"another image of that name is not waited for": {BuilderSnapshot{Builder: builder(BuilderSnapshotting, capturing), Machine: stopped, Capture: &Image{Meta: Meta{ID: "img-2", State: ImagePending}}}, 0, BuilderStopped, nil, false},
		"DELETING removes the machine":                 {BuilderSnapshot{Builder: builder(BuilderDeleting), Machine: running}, 0, BuilderDeleting, []string{"EnsureGone"}, false},
		"DELETING without a machine ends":              {BuilderSnapshot{Builder: builder(BuilderDeleting)}, 0, BuilderDeleting, []string{"EnsureGone"}, true},
		"DELETING too long":                            {BuilderSnapshot{Builder: builder(BuilderDeleting), Machine: running}, 16 * time.Minute, BuilderFailed, nil, false},
		"FAILED stops its machine":                     {BuilderSnapshot{Builder: builder(BuilderFailed), Machine: running}, 0, BuilderFailed, []string{"EnsureStopped"}, false},
		"a lasting fault fails":                        {BuilderSnapshot{Builder: builder(BuilderPending, faulty)}, 0, BuilderFailed, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			before := test.snapshot.Builder
			d := PlanImageBuilder(test.snapshot, t0.Add(test.after))
			if d.Next.State != test.state || d.Remove != test.remove {
				t.Errorf("state %s, remove %v; want %s, %v (why: %s)", d.Next.State, d.Remove, test.state, test.remove, d.Why)
			}
			if diff := cmp.Diff(test.do, verbs(d.Do)); diff != "" {
				t.Errorf("actions (-want +got):\n%s", diff)
			}
			if d.Next.State != before.State && d.Why == "" {
				t.Error("a change of state without a reason")
			}
		})
	}
}

func provisioned(b *ImageBuilder) { b.Provisioned = true }
func silent(b *ImageBuilder)      { b.SilentSince = t0 }
func bootedOften(b *ImageBuilder) { b.Boots = slices.Repeat([]time.Time{t0}, bootLimit) }
func faulty(b *ImageBuilder) {
	b.Problem = &Problem{Code: "SUBNET_NOT_FOUND", Message: "no such subnet", Lasting: true, Count: 1}
}

func verbs(actions []Action) []string {
	var list []string
	for _, a := range actions {
		verb, _, _ := strings.Cut(a.String(), " ")
		list = append(list, verb)
	}
	return list
}

func TestFailureIsReported(t *testing.T) {
	d := PlanImageBuilder(BuilderSnapshot{Builder: builder(BuilderPending, faulty)}, t0)
	v := d.Next.Describe("11-21-2026")
	if v.StateChangeReason == nil || *v.StateChangeReason.Message != "no such subnet" {
		t.Errorf("StateChangeReason = %+v", v.StateChangeReason)
	}
	if len(v.ImageBuilderErrors) != 1 || v.ImageBuilderErrors[0].ErrorCode != types.FleetErrorCodeSubnetNotFound {
		t.Errorf("ImageBuilderErrors = %+v", v.ImageBuilderErrors)
	}
}

func TestPlanImage(t *testing.T) {
	image := func(state string, edit ...func(*Image)) Image {
		i := Image{Meta: Meta{Key: Key{"123456789012", "us-east-1", NounImage, "img"}, ID: "img-1"}, Ref: "r", BuilderID: "ib-1",
			View: types.Image{ImageBuilderName: new("hello")}}
		i.Enter(state, t0)
		for _, fn := range edit {
			fn(&i)
		}
		return i
	}
	copied := func(state string, edit ...func(*Image)) Image {
		return image(state, append(edit, func(i *Image) { i.BuilderID, i.CopyOf, i.View.ImageBuilderName = "", "source", nil })...)
	}
	said := func(i *Image) { i.progress(captureWords) }
	snapshotting := builder(BuilderSnapshotting, func(b *ImageBuilder) { b.CapturingID = "img-1" })
	deleting := builder(BuilderDeleting)
	stopped := Machine{Phase: MachineStopped}
	for name, test := range map[string]struct {
		snapshot ImageSnapshot
		after    time.Duration
		state    string
		do       []string
		remove   bool
	}{
		"a machine that runs is waited for":     {ImageSnapshot{Image: image(ImagePending), Builder: &snapshotting, Machine: Machine{Phase: MachineRunning}}, 0, ImagePending, nil, false},
		"a machine that is down is captured":    {ImageSnapshot{Image: image(ImagePending, said), Builder: &snapshotting, Machine: stopped}, 0, ImagePending, []string{"EnsureCaptured"}, false},
		"that is said first":                    {ImageSnapshot{Image: image(ImagePending), Builder: &snapshotting, Machine: stopped}, 0, ImagePending, nil, false},
		"a captured disk is AVAILABLE":          {ImageSnapshot{Image: image(ImagePending), Builder: &snapshotting, Machine: stopped, Exists: true}, 0, ImageAvailable, nil, false},
		"captured just before the builder went": {ImageSnapshot{Image: image(ImagePending), Exists: true}, 0, ImageAvailable, nil, false},
		"the builder was deleted":               {ImageSnapshot{Image: image(ImagePending), Builder: &deleting, Machine: stopped}, 0, ImageFailed, nil, false},
		"the builder is gone":                   {ImageSnapshot{Image: image(ImagePending)}, 0, ImageFailed, nil, false},
		"no space left":                         {ImageSnapshot{Image: image(ImagePending, func(i *Image) { i.Problem = &Problem{Lasting: true, Message: "no space left"} }), Builder: &snapshotting, Machine: stopped}, 0, ImageFailed, nil, false},
		"too long":                              {ImageSnapshot{Image: image(ImagePending), Builder: &snapshotting, Machine: Machine{Phase: MachineRunning}}, 3 * time.Hour, ImageFailed, nil, false},
		"AVAILABLE stays":                       {ImageSnapshot{Image: image(ImageAvailable)}, 1000 * time.Hour, ImageAvailable, nil, false},
		"DELETING removes the data":             {ImageSnapshot{Image: image(ImageDeleting)}, 0, ImageDeleting, []string{"EnsureImageGone"}, true},
		"DELETING too long":                     {ImageSnapshot{Image: image(ImageDeleting, func(i *Image) { i.Problem = &Problem{Message: "busy"} })}, time.Hour, ImageFailed, nil, false},
		"DELETING late, but not tried yet":      {ImageSnapshot{Image: image(ImageDeleting)}, time.Hour, ImageDeleting, []string{"EnsureImageGone"}, true},
		"FAILED cleans up":                      {ImageSnapshot{Image: image(ImageFailed)}, 0, ImageFailed, []string{"EnsureImageGone"}, false},
		"a failed public image is left alone":   {ImageSnapshot{Image: image(ImageFailed, func(i *Image) { i.BuilderID, i.Account = "", "" })}, 0, ImageFailed, nil, false},
		"a copy is made":                        {ImageSnapshot{Image: copied(ImageCopying)}, 0, ImageCopying, []string{"EnsureImageCopied"}, false},
		"a whole copy is AVAILABLE":             {ImageSnapshot{Image: copied(ImageCopying), Exists: true}, 5 * time.Hour, ImageAvailable, nil, false},
		"a copy that is announced is asked for": {ImageSnapshot{Image: copied(ImageCopying)}, time.Hour, ImageCopying, []string{"EnsureImageCopied"}, false},
		"no space left for a copy":              {ImageSnapshot{Image: copied(ImageCopying, func(i *Image) { i.Problem = &Problem{Lasting: true, Message: "no space left"} })}, 0, ImageFailed, nil, false},
		"a copy takes too long":                 {ImageSnapshot{Image: copied(ImageCopying)}, 4 * time.Hour, ImageFailed, nil, false},
		"a failed copy cleans up":               {ImageSnapshot{Image: copied(ImageFailed)}, 0, ImageFailed, []string{"EnsureImageGone"}, false},
		"an announced capture is waited for":    {ImageSnapshot{Image: image(ImagePending, said), Builder: &snapshotting, Machine: Machine{Phase: MachineStopped, NextChange: t0.Add(4 * time.Hour)}}, 3 * time.Hour, ImagePending, []string{"EnsureCaptured"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			d := PlanImage(test.snapshot, t0.Add(test.after))
			if d.Next.State != test.state || d.Remove != test.remove {
				t.Errorf("state %s, remove %v; want %s, %v", d.Next.State, d.Remove, test.state, test.remove)
			}
			if diff := cmp.Diff(test.do, verbs(d.Do)); diff != "" {
				t.Errorf("actions (-want +got):\n%s", diff)
			}
		})
	}
}

// Whatever the world looks like, a plan stays within the table, moves the record only forward in time, and leaves no passing
// state without a time at which it is looked at again.
func TestPlanProperties(t *testing.T) {
	allowed := map[[2]string]bool{}
	for _, tr := range imageBuilderTransitions {
		allowed[[2]string{tr.From, tr.To}] = true
	}
	states := types.ImageBuilderState("").Values()
	rapid.Check(t, func(t *rapid.T) {
		state := string(rapid.SampledFrom(states).Draw(t, "state"))
		b := builder(state)
		b.Provisioned = rapid.Bool().Draw(t, "provisioned")
		if rapid.Bool().Draw(t, "capturing") {
			b.Capturing, b.CapturingID = "img", "img-1"
		}
		if rapid.Bool().Draw(t, "problem") {
			b.Problem = &Problem{Message: "m", Lasting: rapid.Bool().Draw(t, "lasting"), Count: rapid.IntRange(1, 100).Draw(t, "count")}
		}
		if managedStates[state] {
			b.Making = &Making{Done: rapid.Bool().Draw(t, "done"), Failure: rapid.SampledFrom([]string{"", "it broke"}).Draw(t, "failure"), Reads: rapid.Bool().Draw(t, "reads")}
			if rapid.Bool().Draw(t, "steps") {
				b.Making.Work, b.Making.Test = UpdateSteps("DEBIAN_12"), LaunchSteps([]types.Application{{Name: new("a")}})
			}
		}
		b.Boots = slices.Repeat([]time.Time{t0}, rapid.IntRange(0, bootLimit).Draw(t, "boots"))
		s := BuilderSnapshot{Builder: b,
			Machine: Machine{Phase: rapid.SampledFrom([]Phase{MachineAbsent, MachineRunning, MachineStopped}).Draw(t, "phase"),
				ExitCode:     rapid.SampledFrom([]int{0, ExitReboot, ExitPowerOff, 137}).Draw(t, "exit"),
				AgentVersion: rapid.SampledFrom([]string{"", "11-21-2026", "01-01-2026"}).Draw(t, "agent")},
			Agent: Agent{Ready: rapid.Bool().Draw(t, "ready")},
			Job: JobStatus{Answers: rapid.Bool().Draw(t, "answers"), Known: rapid.Bool().Draw(t, "known"), Ended: rapid.Bool().Draw(t, "ended"),
				Step: rapid.IntRange(-1, 5).Draw(t, "step"), Problem: rapid.SampledFrom([]string{"", "exit 1"}).Draw(t, "job problem")}}
		if rapid.Bool().Draw(t, "image") {
			s.Capture = &Image{Meta: Meta{ID: rapid.SampledFrom([]string{"img-1", "img-2"}).Draw(t, "id"), State: string(rapid.SampledFrom(types.ImageState("").Values()).Draw(t, "image state"))}}
			if managedStates[state] {
				s.Capture.ManagedBy, s.Capture.Ref, s.Capture.Made = b.Name, "new", rapid.Bool().Draw(t, "made")
				s.Capture.Loaded = rapid.Bool().Draw(t, "loaded")
			}
		}
		before, _ := json.Marshal(s)
		now := t0.Add(time.Duration(rapid.IntRange(0, 10*3600).Draw(t, "seconds")) * time.Second)
		d := PlanImageBuilder(s, now)

		from, to := state, d.Next.State
		if d.Remove {
			to = ""
		}
		if from != to && !allowed[[2]string{from, to}] {
			t.Fatalf("%q → %q is not in the table", from, to)
		}
		if builderDeadlines[d.Next.State] > 0 && !d.Remove && d.Again.IsZero() {
			t.Fatalf("%s would never be looked at again", d.Next.State)
		}
		if again := PlanImageBuilder(s, now); !cmp.Equal(verbs(d.Do), verbs(again.Do)) || again.Next.State != d.Next.State {
			t.Fatal("the same snapshot was decided differently")
		}
		for _, a := range d.Do {
			switch a := a.(type) {
			case EnsureRunning:
				if a.Spec.ID != b.ID || s.Machine.Phase != MachineAbsent {
					t.Fatalf("%v, of the machine %+v: that may make another one", a, s.Machine)
				}
			case EnsureStarted:
				if a.Spec.ID != b.ID || s.Machine.Phase == MachineAbsent {
					t.Fatalf("%v, of the machine %+v", a, s.Machine)
				}
			}
		}
		if after, _ := json.Marshal(s); !bytes.Equal(before, after) {
			t.Fatalf("the plan changed its snapshot: %s → %s", before, after)
		}
	})
}

// As TestPlanProperties, for images that are captured, copied, updated or imported.
func TestImagePlanProperties(t *testing.T) {
	allowed := map[[2]string]bool{}
	for _, tr := range imageTransitions {
		allowed[[2]string{tr.From, tr.To}] = true
	}
	rapid.Check(t, func(t *rapid.T) {
		i := Image{Meta: Meta{Key: Key{"123456789012", "us-east-1", NounImage, "img"}, ID: "img-1"}, Ref: "r"}
		switch rapid.SampledFrom([]string{"copied", "updated", "imported", "captured"}).Draw(t, "kind") {
		case "copied":
			i.CopyOf = "source"
			i.Enter(rapid.SampledFrom([]string{ImageCopying, ImageAvailable, ImageFailed, ImageDeleting}).Draw(t, "state"), t0)
		case "updated":
			i.UpdateOf, i.BuilderID, i.ManagedBy, i.Made = "source", "ib-1", "img-0123456789", rapid.Bool().Draw(t, "made")
			i.Enter(rapid.SampledFrom([]string{ImageCreating, ImageAvailable, ImageFailed, ImageDeleting}).Draw(t, "state"), t0)
		case "imported":
			i.Archive, i.Loaded = "a.tar", rapid.Bool().Draw(t, "loaded")
			if rapid.Bool().Draw(t, "managed") {
				i.BuilderID, i.ManagedBy, i.LoadedRef = "ib-1", "img-0123456789", rapid.SampledFrom([]string{"", "loaded"}).Draw(t, "loaded ref")
			} else {
				i.Loaded = false
			}
			i.Made = i.Loaded && (i.LoadedRef == "" || rapid.Bool().Draw(t, "made"))
			i.Enter(rapid.SampledFrom([]string{ImageValidating, ImageImporting, ImageAvailable, ImageFailed, ImageDeleting}).Draw(t, "state"), t0)
		default:
			i.BuilderID, i.View.ImageBuilderName = "ib-1", new("hello")
			i.Enter(rapid.SampledFrom([]string{ImagePending, ImageAvailable, ImageFailed, ImageDeleting}).Draw(t, "state"), t0)
		}
		if rapid.Bool().Draw(t, "problem") {
			i.Problem = &Problem{Message: "m", Lasting: rapid.Bool().Draw(t, "lasting"), Count: rapid.IntRange(1, 100).Draw(t, "count")}
		}
		s := ImageSnapshot{Image: i, Exists: rapid.Bool().Draw(t, "exists"),
			Machine: Machine{Phase: rapid.SampledFrom([]Phase{MachineAbsent, MachineRunning, MachineStopped}).Draw(t, "phase")}}
		if rapid.Bool().Draw(t, "builder") {
			b := builder(rapid.SampledFrom([]string{BuilderSnapshotting, BuilderDeleting, BuilderStopped, BuilderUpdating, BuilderPendingImageImport, BuilderPendingQualification}).Draw(t, "builder state"))
			if managedStates[b.State] {
				b.Making = &Making{Done: rapid.Bool().Draw(t, "done"), Failure: rapid.SampledFrom([]string{"", "it broke"}).Draw(t, "failure")}
			}
			b.CapturingID = rapid.SampledFrom([]string{"img-1", "img-2"}).Draw(t, "capturing")
			s.Builder = &b
		}
		now := t0.Add(time.Duration(rapid.IntRange(0, 10*3600).Draw(t, "seconds")) * time.Second)
		d := PlanImage(s, now)

		to := d.Next.State
		if d.Remove {
			to = ""
		}
		if i.State != to && !allowed[[2]string{i.State, to}] {
			t.Fatalf("%q → %q is not in the table", i.State, to)
		}
		if imageDeadlines[d.Next.State] > 0 && !d.Remove && d.Again.IsZero() {
			t.Fatalf("%s would never be looked at again", d.Next.State)
		}
		if to == ImageAvailable && i.State != ImageAvailable && !s.Exists {
			t.Fatal("AVAILABLE without its data")
		}
		if to == ImageFailed && i.State != ImageFailed && d.Next.View.StateChangeReason == nil {
			t.Fatal("FAILED without a reason")
		}
	})
}

func TestPlanExportImageTask(t *testing.T) {
	task := func(state string, edit ...func(*ExportImageTask)) ExportImageTask {
		e := ExportImageTask{Meta: Meta{Key: Key{"123456789012", "us-east-1", NounExportTask, "id"}, ID: "exp-1"}, AmiID: "ami-1", Ref: "r",
			View: types.ExportImageTask{AmiName: new("my export")}}
		e.Enter(state, t0)
		for _, fn := range edit {
			fn(&e)
		}
		return e
	}
	faulty := func(lasting bool) func(*ExportImageTask) {
		return func(e *ExportImageTask) { e.Problem = &Problem{Message: "no space left", Lasting: lasting} }
	}
	for name, test := range map[string]struct {
		task  ExportImageTask
		after time.Duration
		state string
		do    []string
		says  string
	}{
		"the archive is written":           {task(ExportExporting), 0, ExportCompleted, []string{"EnsureExported"}, ""},
		"a passing problem is tried again": {task(ExportExporting, faulty(false)), time.Hour, ExportCompleted, []string{"EnsureExported"}, ""},
		"a lasting one is not":             {task(ExportExporting, faulty(true)), 0, ExportFailed, nil, "no space left"},
		"too long":                         {task(ExportExporting, faulty(false)), exportTime, ExportTimedOut, nil, "not exported within 4h0m0s. Last problem: no space left"},
		"COMPLETED stays":                  {task(ExportCompleted), 1000 * time.Hour, ExportCompleted, nil, ""},
		"FAILED cleans up":                 {task(ExportFailed), 0, ExportFailed, []string{"EnsureArchiveGone"}, ""},
		"TIMED_OUT cleans up":              {task(ExportTimedOut), 0, ExportTimedOut, []string{"EnsureArchiveGone"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := PlanExportImageTask(test.task, t0.Add(test.after))
			if d.Next.State != test.state || d.Remove {
				t.Errorf("state %s, remove %v; want %s", d.Next.State, d.Remove, test.state)
			}
			if diff := cmp.Diff(test.do, verbs(d.Do)); diff != "" {
				t.Errorf("actions (-want +got):\n%s", diff)
			}
			v := d.Next.Describe()
			if test.says == "" && len(v.ErrorDetails) > 0 || test.says != "" && (len(v.ErrorDetails) != 1 || !strings.Contains(*v.ErrorDetails[0].ErrorMessage, test.says)) {
				t.Errorf("ErrorDetails = %+v, want %q", v.ErrorDetails, test.says)
			}
			if (v.AmiId != nil) != (test.state == ExportCompleted) {
				t.Errorf("%s with AmiId %v", test.state, v.AmiId)
			}
			if (test.state == ExportFailed || test.state == ExportTimedOut) && test.do == nil && d.Again.IsZero() {
				t.Error("nobody cleans up")
			}
		})
	}
}

func TestEveryPassingStateHasAWayOut(t *testing.T) {
	for noun, table := range Transitions() {
		deadlines := map[Noun]map[string]time.Duration{NounImageBuilder: builderDeadlines, NounImage: imageDeadlines}[noun]
		for state := range deadlines {
			if !slices.ContainsFunc(table, func(tr Transition) bool {
				return tr.From == state && (strings.HasSuffix(tr.To, "FAILED") || managedStates[state] && tr.To == BuilderDeleting)
			}) {
				t.Errorf("%s %s has no way out", noun, state)
			}
		}
		seen := map[[2]string]bool{}
		for _, tr := range table {
			if edge := [2]string{tr.From, tr.To}; seen[edge] {
				t.Errorf("%s %v is twice in the table", noun, edge)
			} else {
				seen[edge] = true
			}
		}
	}
}

func TestARNs(t *testing.T) {
	k := Key{"123456789012", "us-west-2", NounImageBuilder, "hello"}
	got, err := ParseARN(k.ARN())
	if err != nil || got != k {
		t.Errorf("ParseARN(%q) = %+v, %v", k.ARN(), got, err)
	}
	if public := (Key{"", "us-west-2", NounImage, "base"}).ARN(); public != "arn:aws:appstream:us-west-2::image/base" {
		t.Errorf("public image ARN = %s", public)
	}
	for _, bad := range []string{"", "arn:aws:s3:::bucket", "arn:aws-cn:appstream:us-west-2:1:image/x", "arn:aws:appstream:us-west-2:1:image", "arn:aws:appstream:us-west-2:1:image/", "hello"} {
		if _, err := ParseARN(bad); KindOf(err) != InvalidParameterValue {
			t.Errorf("ParseARN(%q) = %v", bad, err)
		}
	}
}

func TestExcuse(t *testing.T) {
	deadline := t0.Add(15 * time.Minute)
	for _, test := range []struct{ waited, after, want time.Duration }{
		{0, 20 * time.Minute, 15 * time.Minute},                                     // nothing to excuse
		{30 * time.Second, 20 * time.Minute, 15 * time.Minute},                      // a busy engine
		{10 * time.Minute, 12 * time.Minute, 25 * time.Minute},                      // the server was off
		{12*time.Hour - 15*time.Minute, 12 * time.Hour, 12*time.Hour + time.Minute}, // it was off until behind the deadline
	} {
		m := Meta{Deadline: deadline}
		m.Excuse(test.waited, t0.Add(test.after))
		if got := m.Deadline.Sub(t0); got != test.want {
			t.Errorf("waited %s, now +%s: deadline +%s, want +%s", test.waited, test.after, got, test.want)
		}
	}
	if m := (Meta{}); !func() bool { m.Excuse(time.Hour, t0); return m.Deadline.IsZero() }() {
		t.Error("a steady state got a deadline")
	}
}

func TestSpec(t *testing.T) {
	sizes := InstanceTypes()
	b := builder(BuilderPending, func(b *ImageBuilder) {
		b.ImageRef = "ref"
		b.View.InstanceType = new("stream.memory.large")
		b.View.RootVolumeConfig = &types.VolumeConfig{VolumeSizeInGb: new(int32(300))}
	})
	want := MachineSpec{ID: "ib-1", Resource: b.Key, ImageARN: "arn:aws:appstream:us-east-1::image/base", ImageRef: "ref",
		InstanceType: InstanceType{"stream.memory.large", "Memory Optimized", 2, 15616}, Subnet: IsolatedSubnet, AgentVersion: "11-21-2026", VolumeGB: 300}
	if diff := cmp.Diff(want, b.Spec(sizes)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	b.View.EnableDefaultInternetAccess = new(true)
	if got := b.Spec(sizes).Subnet; got != "" {
		t.Errorf("with internet access: subnet %q", got)
	}
	b.View.VpcConfig = &types.VpcConfig{SubnetIds: []string{"subnet-lab"}}
	if got := b.Spec(sizes).Subnet; got != "subnet-lab" {
		t.Errorf("with a subnet of its own: subnet %q", got)
	}
}

func TestReasonForAMissingImage(t *testing.T) {
	d := PlanImageBuilder(BuilderSnapshot{Builder: builder(BuilderPending, func(b *ImageBuilder) {
		b.Problem = &Problem{Code: "IMAGE_NOT_FOUND", Message: "no such image", Lasting: true}
	})}, t0)
	if code := d.Next.View.StateChangeReason.Code; code != types.ImageBuilderStateChangeReasonCodeImageUnavailable {
		t.Errorf("code %s", code)
	}
}

// Each start is counted, forgotten after the window, and the limit holds.
func TestBootsAreCounted(t *testing.T) {
	b, now := builder(BuilderRebooting), t0
	stopped := Machine{Phase: MachineStopped, AgentVersion: "11-21-2026"}
	for n := range bootLimit {
		d := PlanImageBuilder(BuilderSnapshot{Builder: b, Machine: stopped}, now)
		if len(d.Next.Boots) != n+1 || !d.Next.Provisioned {
			t.Fatalf("start %d: %d boots, provisioned %v", n, len(d.Next.Boots), d.Next.Provisioned)
		}
		b, now = d.Next, now.Add(time.Second)
	}
	if d := PlanImageBuilder(BuilderSnapshot{Builder: b, Machine: stopped}, now); d.Next.State != BuilderFailed {
		t.Errorf("one more start: %s", d.Next.State)
	}
	b.Deadline = t0.Add(time.Hour)
	if d := PlanImageBuilder(BuilderSnapshot{Builder: b, Machine: stopped}, t0.Add(bootWindow+time.Minute)); len(d.Do) != 1 || len(d.Next.Boots) != 1 {
		t.Errorf("after the window: %v, %d boots", d.Do, len(d.Next.Boots))
	}
}

func TestErrorsAreBounded(t *testing.T) {
	var list []types.ResourceError
	for n := range 25 {
		list = addError(list, "X", fmt.Sprint(n), t0)
	}
	if len(list) != 10 || *list[9].ErrorMessage != "24" {
		t.Errorf("%d errors, the last %s", len(list), *list[len(list)-1].ErrorMessage)
	}
}

func TestDescribeTo(t *testing.T) {
	i := Image{Meta: Meta{Key: Key{"123456789012", "us-east-1", NounImage, "img"}, State: ImageAvailable, Created: t0},
		View:        types.Image{ImageBuilderName: new("hello"), AppstreamAgentVersion: new("LATEST"), Applications: []types.Application{{Name: new("a")}, {Name: new("b")}}},
		Icons:       map[string]string{"a": "blob.png"},
		Permissions: map[string]types.ImagePermissions{"210987654321": {AllowFleet: new(true)}}}
	icon := func(blob string) string { return "https://oriel.test/icons/" + blob }
	own := i.DescribeTo("123456789012", "11-21-2026", icon)
	if own.Visibility != types.VisibilityTypePrivate || own.ImageSharedWithOthers != types.ImageSharedWithOthersTrue ||
		own.LatestAppstreamAgentVersion != types.LatestAppstreamAgentVersionTrue || *own.ImageBuilderName != "hello" {
		t.Errorf("its owner sees %+v", own)
	}
	if a := own.Applications; a[0].IconURL == nil || *a[0].IconURL != "https://oriel.test/icons/blob.png" || a[1].IconURL != nil || i.View.Applications[0].IconURL != nil {
		t.Errorf("icons: %v, %v; in the record: %v", a[0].IconURL, a[1].IconURL, i.View.Applications[0].IconURL)
	}
	other := i.DescribeTo("210987654321", "11-21-2026", icon)
	if other.Visibility != types.VisibilityTypeShared || other.ImageBuilderName != nil || !*other.ImagePermissions.AllowFleet {
		t.Errorf("the other account sees %+v", other)
	}
	if _, ok := i.Visible("111111111111"); ok {
		t.Error("a stranger sees it")
	}
}

func FuzzParseARN(f *testing.F) {
	f.Add("arn:aws:appstream:us-west-2:123456789012:image-builder/hello")
	f.Fuzz(func(t *testing.T, text string) {
		k, err := ParseARN(text)
		if err == nil && k.ARN() != text {
			t.Errorf("%q became %q", text, k.ARN())
		}
	})
}

func TestBackoff(t *testing.T) {
	last := time.Duration(0)
	for n := range 50 {
		d := (&Problem{Count: n}).Backoff()
		if d < last || d < 250*time.Millisecond || d > 15*time.Second {
			t.Fatalf("Backoff after %d = %v, before that %v", n, d, last)
		}
		last = d
	}
}
