package appstream

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// managed is a builder that is made for the image img, in a state.
func managed(state string, edit ...func(*ImageBuilder)) ImageBuilder {
	b := builder(state, func(b *ImageBuilder) {
		b.ImageRef, b.Capturing, b.CapturingID = "old", "img", "img-1"
		b.Making = &Making{Work: UpdateSteps("DEBIAN_12"), Test: LaunchSteps([]types.Application{{Name: new("xterm")}, {Name: new("gimp")}})}
	})
	for _, fn := range edit {
		fn(&b)
	}
	return b
}

// importing is a builder that is made for the import img, with applications to add.
func importing(state string, edit ...func(*ImageBuilder)) ImageBuilder {
	return managed(state, append([]func(*ImageBuilder){func(b *ImageBuilder) {
		b.ImageRef, b.View.Platform = "loaded", "" // what is in the archive nobody knew
		b.Making = &Making{Work: CatalogueSteps([]types.ApplicationConfig{{Name: new("secret"), AbsoluteAppPath: new("/opt/secret")}}), Reads: true}
	}}, edit...)...)
}

// imported is the image img of an archive, in a state.
func imported(state string, edit ...func(*Image)) *Image {
	return creating(append([]func(*Image){func(i *Image) {
		i.UpdateOf, i.Archive, i.LoadedRef = "", "123456789012/ami-1.tar", "loaded"
		i.Enter(state, t0)
	}}, edit...)...)
}

func loaded(i *Image)          { i.Loaded = true }
func unmanaged(i *Image)       { i.ManagedBy, i.BuilderID, i.LoadedRef = "", "", "" }
func onlyTested(i *Image)      { i.LoadedRef = "" }
func workless(b *ImageBuilder) { b.Making.Work, b.ImageRef = nil, "new" }
func catalogued(b *ImageBuilder) {
	b.Making.Catalogue = &Catalogue{Applications: []types.Application{{Name: new("secret")}}, Icons: map[string]string{"secret": "icon"}}
}

// creating is the image img while it is CREATING.
func creating(edit ...func(*Image)) *Image {
	i := &Image{Meta: Meta{Key: Key{"123456789012", "us-east-1", NounImage, "img"}, ID: "img-1"}, Ref: "new", UpdateOf: "old", BuilderID: "ib-1", ManagedBy: "hello"}
	i.View.Platform = "DEBIAN_12"
	i.Enter(ImageCreating, t0)
	for _, fn := range edit {
		fn(i)
	}
	return i
}

func done(b *ImageBuilder)     { b.Making.Done = true }
func stepless(b *ImageBuilder) { b.Making.Work, b.Making.Test = nil, nil }
func failing(b *ImageBuilder) {
	b.Making.Failure = "exit status 100\nThe end of its output:\nE: no such package"
}
func made(i *Image)          { i.Made = true }
func available(i *Image)     { i.Enter(ImageAvailable, t0) }
func capturingDisk(i *Image) { i.progress("capturing the disk") }
func brokenImage(i *Image)   { i.Problem = &Problem{Message: "no space left", Lasting: true, Count: 1} }

func TestPlanMaking(t *testing.T) {
	running := Machine{ID: "ib-1", Phase: MachineRunning}
	stopped := Machine{ID: "ib-1", Phase: MachineStopped}
	ready := Agent{Answers: true, Ready: true}
	job := func(edit func(*JobStatus)) JobStatus {
		j := JobStatus{Answers: true, Known: true}
		edit(&j)
		return j
	}
	begun := job(func(*JobStatus) {})
	succeeded := job(func(j *JobStatus) { j.Ended = true })
	failed := job(func(j *JobStatus) {
		j.Ended, j.Problem, j.Output = true, "update the packages: exit status 100", "E: no such package"
	})
	idle := JobStatus{Answers: true}
	for name, test := range map[string]struct {
		builder ImageBuilder
		machine Machine
		agent   Agent
		job     JobStatus
		image   *Image
		after   time.Duration
		state   string
		do      []string
		done    bool
		failure string // what it must say
		says    string // of the progress
	}{
		"a machine of the old image is made":       {managed(BuilderUpdating), Machine{}, Agent{}, JobStatus{}, creating(), 0, BuilderUpdating, []string{"EnsureRunning"}, false, "", "starting"},
		"one that boots is waited for":             {managed(BuilderUpdating), running, Agent{}, JobStatus{}, creating(), 0, BuilderUpdating, nil, false, "", ""},
		"the work is begun when it is ready":       {managed(BuilderUpdating), running, ready, idle, creating(), 0, BuilderUpdating, []string{"EnsureJobBegun"}, false, "", "update the packages (step 1 of 1)"},
		"the work is waited for":                   {managed(BuilderUpdating), running, ready, begun, creating(), 0, BuilderUpdating, nil, false, "", "update the packages"},
		"work goes on without a desktop":           {managed(BuilderUpdating), running, Agent{}, begun, creating(), 0, BuilderUpdating, nil, false, "", "update the packages"},
		"work that is done":                        {managed(BuilderUpdating), running, ready, succeeded, creating(), 0, BuilderUpdating, nil, true, "", "done"},
		"no work is done when it is ready":         {managed(BuilderUpdating, stepless), running, ready, JobStatus{}, creating(), 0, BuilderUpdating, nil, true, "", ""},
		"work that failed":                         {managed(BuilderUpdating), running, ready, failed, creating(), 0, BuilderUpdating, nil, false, "exit status 100\nThe end of its output:\nE: no such package", ""},
		"a machine that ended begins anew":         {managed(BuilderUpdating), stopped, Agent{}, JobStatus{}, creating(), 0, BuilderUpdating, []string{"EnsureStarted"}, false, "", "starting"},
		"one that ends again and again":            {managed(BuilderUpdating, bootedOften), stopped, Agent{}, JobStatus{}, creating(), 0, BuilderUpdating, nil, false, "ended 8 times within 10m0s", ""},
		"one that is silent is waited for":         {managed(BuilderUpdating, silent), running, Agent{}, JobStatus{}, creating(), readyLimit - 1, BuilderUpdating, nil, false, "", ""},
		"one that is silent for too long":          {managed(BuilderUpdating, silent), running, Agent{Problem: "no display"}, JobStatus{}, creating(), readyLimit, BuilderUpdating, nil, false, "Last problem: no display", ""},
		"one that still starts is not silent":      {managed(BuilderUpdating, silent), Machine{ID: "ib-1", Phase: MachineRunning, NextChange: t0.Add(time.Hour)}, Agent{}, JobStatus{}, creating(), readyLimit, BuilderUpdating, nil, false, "", ""},
		"a desktop that does not draw":             {managed(BuilderUpdating, silent), running, Agent{Answers: true}, idle, creating(), readyLimit, BuilderUpdating, nil, false, "did not draw", ""},
		"too long":                                 {managed(BuilderUpdating), running, ready, begun, creating(), 4 * time.Hour, BuilderUpdating, nil, false, "UPDATING for more than 4h0m0s", ""},
		"a lasting fault":                          {managed(BuilderUpdating, faulty), Machine{}, Agent{}, JobStatus{}, creating(), 0, BuilderUpdating, nil, false, "no such subnet", ""},
		"a machine that has done is stopped":       {managed(BuilderUpdating, done), running, ready, succeeded, creating(), 0, BuilderUpdating, []string{"EnsureStopped"}, true, "", ""},
		"a stopped one is captured by the image":   {managed(BuilderUpdating, done), stopped, Agent{}, JobStatus{}, creating(), 0, BuilderUpdating, nil, true, "", ""},
		"one that vanished works again":            {managed(BuilderUpdating, done), Machine{}, Agent{}, JobStatus{}, creating(), 0, BuilderUpdating, nil, false, "", ""},
		"a captured one is removed":                {managed(BuilderUpdating, done), stopped, Agent{}, JobStatus{}, creating(made), 0, BuilderUpdating, []string{"EnsureGone"}, true, "", ""},
		"then the new image is tested":             {managed(BuilderUpdating, done), Machine{}, Agent{}, JobStatus{}, creating(made), 0, BuilderPendingQualification, []string{"EnsureGone"}, false, "", ""},
		"a machine of the new image is made":       {managed(BuilderPendingQualification), Machine{}, Agent{}, JobStatus{}, creating(made), 0, BuilderPendingQualification, []string{"EnsureRunning"}, false, "", "starting"},
		"the test is begun when it is ready":       {managed(BuilderPendingQualification), running, ready, idle, creating(made), 0, BuilderPendingQualification, []string{"EnsureJobBegun"}, false, "", "0 of 2 applications"},
		"how far the test is":                      {managed(BuilderPendingQualification), running, ready, job(func(j *JobStatus) { j.Step = 1 }), creating(made), 0, BuilderPendingQualification, nil, false, "", "1 of 2 applications"},
		"a test that succeeded":                    {managed(BuilderPendingQualification), running, ready, succeeded, creating(made), 0, BuilderPendingQualification, nil, true, "", ""},
		"a test that failed":                       {managed(BuilderPendingQualification), running, ready, failed, creating(made), 0, BuilderPendingQualification, nil, false, "E: no such package", ""},
		"a tested image that is AVAILABLE":         {managed(BuilderPendingQualification, done), running, ready, JobStatus{}, creating(made, available), 0, BuilderDeleting, nil, true, "", ""},
		"an image that was deleted":                {managed(BuilderUpdating), running, ready, begun, nil, 0, BuilderDeleting, nil, false, "", ""},
		"another image of that name":               {managed(BuilderUpdating), running, ready, begun, creating(func(i *Image) { i.ID = "img-2" }), 0, BuilderDeleting, nil, false, "", ""},
		"an image that FAILED":                     {managed(BuilderUpdating, failing), running, ready, failed, creating(func(i *Image) { i.Enter(ImageFailed, t0) }), 0, BuilderDeleting, nil, false, "exit", ""},
		"a builder waits for the archive":          {importing(BuilderPendingImageImport), Machine{}, Agent{}, JobStatus{}, imported(ImageValidating), 0, BuilderPendingImageImport, nil, false, "", "waiting for the archive"},
		"and its time has not begun":               {importing(BuilderPendingImageImport), Machine{}, Agent{}, JobStatus{}, imported(ImageImporting), 5 * time.Hour, BuilderPendingImageImport, nil, false, "", "waiting for the archive"},
		"a machine of the archive's image is made": {importing(BuilderPendingImageImport), Machine{}, Agent{}, JobStatus{}, imported(ImageImporting, loaded), 0, BuilderPendingImageImport, []string{"EnsureRunning"}, false, "", "starting"},
		"applications are added":                   {importing(BuilderPendingImageImport), running, ready, idle, imported(ImageImporting, loaded), 0, BuilderPendingImageImport, []string{"EnsureJobBegun"}, false, "", "add application 1 of 1"},
		"with them it is captured":                 {importing(BuilderPendingImageImport), running, ready, succeeded, imported(ImageImporting, loaded), 0, BuilderPendingImageImport, nil, true, "", ""},
		"then the import is tested":                {importing(BuilderPendingImageImport, done), Machine{}, Agent{}, JobStatus{}, imported(ImageImporting, loaded, made), 0, BuilderPendingQualification, []string{"EnsureGone"}, false, "", ""},
		"an import with nothing to add is tested":  {importing(BuilderPendingImageImport, workless), Machine{}, Agent{}, JobStatus{}, imported(ImageImporting, onlyTested, loaded, made), 0, BuilderPendingQualification, []string{"EnsureGone"}, false, "", ""},
		"the catalogue is read when it is ready":   {importing(BuilderPendingQualification), running, ready, JobStatus{}, imported(ImageImporting, loaded, made), 0, BuilderPendingQualification, []string{"EnsureCatalogueRead"}, false, "", ""},
		"and not before":                           {importing(BuilderPendingQualification), running, Agent{Answers: true}, JobStatus{}, imported(ImageImporting, loaded, made), 0, BuilderPendingQualification, nil, false, "", ""},
		"what was read is tested":                  {importing(BuilderPendingQualification, catalogued), running, ready, idle, imported(ImageImporting, loaded, made), 0, BuilderPendingQualification, []string{"EnsureJobBegun"}, false, "", "0 of 1 applications"},
		"an empty catalogue is no test":            {importing(BuilderPendingQualification, func(b *ImageBuilder) { b.Making.Catalogue = &Catalogue{} }), running, ready, JobStatus{}, imported(ImageImporting, loaded, made), 0, BuilderPendingQualification, nil, true, "", "done"},
		"a failure that the image has not seen":    {managed(BuilderUpdating, failing), running, ready, failed, creating(), 5 * time.Hour, BuilderUpdating, nil, false, "exit", ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := PlanImageBuilder(BuilderSnapshot{Builder: test.builder, Machine: test.machine, Agent: test.agent, Job: test.job, Capture: test.image, Sizes: InstanceTypes()}, t0.Add(test.after))
			m := d.Next.Making
			if d.Next.State != test.state || m.Done != test.done || (m.Failure == "") != (test.failure == "") || !strings.Contains(m.Failure, test.failure) {
				t.Errorf("state %s, %+v; want %s, done %v, failure %q", d.Next.State, m, test.state, test.done, test.failure)
			}
			if diff := cmp.Diff(test.do, verbs(d.Do)); diff != "" {
				t.Errorf("actions (-want +got):\n%s", diff)
			}
			if d.Again.IsZero() {
				t.Error("nobody looks again")
			}
			if waits := test.says == "waiting for the archive"; waits && !d.Next.Deadline.Equal(t0.Add(test.after+4*time.Hour)) {
				t.Errorf("the builder's time has begun: it ends at %s", d.Next.Deadline)
			}
			reason := d.Next.Describe("").StateChangeReason
			if test.says != "" && (reason == nil || !strings.Contains(*reason.Message, test.says)) {
				t.Errorf("StateChangeReason = %+v, want %q", reason, test.says)
			}
			for _, a := range d.Do {
				switch a := a.(type) {
				case EnsureRunning:
					if a.Spec.ImageRef != test.builder.ImageRef || a.Spec.Sessions != 0 {
						t.Errorf("%+v", a.Spec)
					}
				case EnsureJobBegun:
					want := map[string]string{BuilderUpdating: "work", BuilderPendingImageImport: "work", BuilderPendingQualification: "test"}[test.state]
					if a.Job.ID != want || test.builder.Job() != want {
						t.Errorf("the job is %s, the builder asks for %s", a.Job.ID, test.builder.Job())
					}
				}
			}
			if test.image != nil && d.Next.View.Platform != "DEBIAN_12" {
				t.Errorf("its platform is %q", d.Next.View.Platform)
			}
			if test.state == BuilderPendingQualification && test.builder.State != test.state {
				if next := d.Next; next.ImageRef != "new" || next.Boots != nil || *next.View.ImageArn != test.image.ARN() || next.View.Platform != "DEBIAN_12" {
					t.Errorf("the machine that tests is of %s, %s, %s", next.ImageRef, *next.View.ImageArn, next.View.Platform)
				}
			}
		})
	}
}

func TestPlanManagedImage(t *testing.T) {
	stopped := Machine{ID: "ib-1", Phase: MachineStopped}
	of := func(b ImageBuilder) *ImageBuilder { return &b }
	for name, test := range map[string]struct {
		snapshot ImageSnapshot
		after    time.Duration
		state    string
		do       []string
		made     bool
		says     string
	}{
		"the work is waited for":                {ImageSnapshot{Image: *creating(), Builder: of(managed(BuilderUpdating)), Machine: stopped}, 0, ImageCreating, nil, false, ""},
		"first it is said":                      {ImageSnapshot{Image: *creating(), Builder: of(managed(BuilderUpdating, done)), Machine: stopped}, 0, ImageCreating, nil, false, "capturing the disk"},
		"what is done is captured":              {ImageSnapshot{Image: *creating(capturingDisk), Builder: of(managed(BuilderUpdating, done)), Machine: stopped}, 0, ImageCreating, []string{"EnsureCaptured"}, false, "capturing the disk"},
		"not while the machine runs":            {ImageSnapshot{Image: *creating(), Builder: of(managed(BuilderUpdating, done)), Machine: Machine{Phase: MachineRunning}}, 0, ImageCreating, nil, false, ""},
		"a captured disk is to be tested":       {ImageSnapshot{Image: *creating(), Builder: of(managed(BuilderUpdating, done)), Machine: stopped, Exists: true}, 0, ImageCreating, nil, true, ""},
		"the test is waited for":                {ImageSnapshot{Image: *creating(made), Builder: of(managed(BuilderPendingQualification)), Exists: true}, 0, ImageCreating, nil, true, ""},
		"a tested image":                        {ImageSnapshot{Image: *creating(made), Builder: of(managed(BuilderPendingQualification, done)), Exists: true}, 9 * time.Hour, ImageAvailable, nil, true, ""},
		"work that failed":                      {ImageSnapshot{Image: *creating(), Builder: of(managed(BuilderUpdating, failing))}, 0, ImageFailed, nil, false, "E: no such package"},
		"a test that failed":                    {ImageSnapshot{Image: *creating(made), Builder: of(managed(BuilderPendingQualification, failing)), Exists: true}, 0, ImageFailed, nil, true, "E: no such package"},
		"the builder was deleted":               {ImageSnapshot{Image: *creating(), Builder: of(managed(BuilderDeleting, done)), Machine: stopped}, 0, ImageFailed, nil, false, "The image builder hello was deleted"},
		"the builder is gone":                   {ImageSnapshot{Image: *creating(made), Exists: true}, 0, ImageFailed, nil, true, "deleted before it was done"},
		"a builder of another image":            {ImageSnapshot{Image: *creating(), Builder: of(managed(BuilderUpdating, done, func(b *ImageBuilder) { b.CapturingID = "img-2" })), Machine: stopped}, 0, ImageFailed, nil, false, "deleted"},
		"no space left":                         {ImageSnapshot{Image: *creating(brokenImage), Builder: of(managed(BuilderUpdating, done)), Machine: stopped}, 0, ImageFailed, nil, false, "no space left"},
		"data that vanished while it is tested": {ImageSnapshot{Image: *creating(made), Builder: of(managed(BuilderPendingQualification, done))}, 0, ImageFailed, nil, true, "vanished"},
		"an archive is checked":                 {ImageSnapshot{Image: *imported(ImageValidating, unmanaged)}, 0, ImageImporting, []string{"EnsureArchiveValid"}, false, ""},
		"also for a builder":                    {ImageSnapshot{Image: *imported(ImageValidating), Builder: of(importing(BuilderPendingImageImport))}, 0, ImageImporting, []string{"EnsureArchiveValid"}, false, ""},
		"a damaged archive":                     {ImageSnapshot{Image: *imported(ImageValidating, unmanaged, brokenImage)}, 0, ImageFailed, nil, false, "no space left"},
		"checked for too long":                  {ImageSnapshot{Image: *imported(ImageValidating, unmanaged)}, 4 * time.Hour, ImageFailed, nil, false, "not checked within 4h0m0s"},
		"a builder deleted while it is checked": {ImageSnapshot{Image: *imported(ImageValidating)}, 0, ImageFailed, nil, false, "deleted before it was done"},
		"an archive is loaded":                  {ImageSnapshot{Image: *imported(ImageImporting, unmanaged)}, 0, ImageImporting, []string{"EnsureImported"}, false, ""},
		"and is AVAILABLE":                      {ImageSnapshot{Image: *imported(ImageImporting, unmanaged), Exists: true}, 0, ImageAvailable, nil, false, ""},
		"loaded for too long":                   {ImageSnapshot{Image: *imported(ImageImporting, unmanaged)}, 12 * time.Hour, ImageFailed, nil, false, "not loaded within 12h0m0s"},
		"no space to load it":                   {ImageSnapshot{Image: *imported(ImageImporting, unmanaged, brokenImage)}, 0, ImageFailed, nil, false, "no space left"},
		"one to work on is loaded":              {ImageSnapshot{Image: *imported(ImageImporting), Builder: of(importing(BuilderPendingImageImport))}, 0, ImageImporting, []string{"EnsureImported"}, false, ""},
		"a builder deleted while it is loaded":  {ImageSnapshot{Image: *imported(ImageImporting), Builder: of(importing(BuilderDeleting))}, 0, ImageFailed, nil, false, "deleted before it was done"},
		"a loaded one is worked on":             {ImageSnapshot{Image: *imported(ImageImporting), Builder: of(importing(BuilderPendingImageImport)), Exists: true}, 0, ImageImporting, nil, false, ""},
		"one that is only tested is made":       {ImageSnapshot{Image: *imported(ImageImporting, onlyTested), Builder: of(importing(BuilderPendingImageImport, workless)), Exists: true}, 0, ImageImporting, nil, true, ""},
		"with its applications it is captured":  {ImageSnapshot{Image: *imported(ImageImporting, loaded, capturingDisk), Builder: of(importing(BuilderPendingImageImport, done)), Machine: stopped}, 0, ImageImporting, []string{"EnsureCaptured"}, false, ""},
		"captured with its applications":        {ImageSnapshot{Image: *imported(ImageImporting, loaded), Builder: of(importing(BuilderPendingImageImport, done)), Machine: stopped, Exists: true}, 0, ImageImporting, nil, true, ""},
		"a tested import":                       {ImageSnapshot{Image: *imported(ImageImporting, loaded, made), Builder: of(importing(BuilderPendingQualification, done, catalogued)), Exists: true}, 0, ImageAvailable, []string{"EnsureImageGone"}, true, ""},
		"a test of an import that failed":       {ImageSnapshot{Image: *imported(ImageImporting, loaded, made), Builder: of(importing(BuilderPendingQualification, failing)), Exists: true}, 0, ImageFailed, nil, true, "E: no such package"},
		"too long":                              {ImageSnapshot{Image: *creating(), Builder: of(managed(BuilderUpdating, done)), Machine: stopped}, 8 * time.Hour, ImageFailed, nil, false, "CREATING for more than 8h0m0s"},
	} {
		t.Run(name, func(t *testing.T) {
			d := PlanImage(test.snapshot, t0.Add(test.after))
			if d.Next.State != test.state || d.Next.Made != test.made || d.Remove {
				t.Errorf("state %s, made %v; want %s, %v", d.Next.State, d.Next.Made, test.state, test.made)
			}
			if diff := cmp.Diff(test.do, verbs(d.Do)); diff != "" {
				t.Errorf("actions (-want +got):\n%s", diff)
			}
			v := d.Next.DescribeTo("123456789012", "11-21-2026", func(string) string { return "" })
			if test.says != "" && (v.StateChangeReason == nil || !strings.Contains(*v.StateChangeReason.Message, test.says)) {
				t.Errorf("StateChangeReason = %+v, want %q", v.StateChangeReason, test.says)
			}
			reason := types.ImageStateChangeReasonCodeImageUpdateFailure
			if test.snapshot.Image.Archive != "" {
				reason = types.ImageStateChangeReasonCodeImageImportFailure
			}
			if test.state == ImageFailed && (v.StateChangeReason.Code != reason || len(v.ImageErrors) != 1) {
				t.Errorf("%+v, %v", v.StateChangeReason, v.ImageErrors)
			}
			if strings.Contains(d.Why, "no such package") {
				t.Errorf("the output of a job is in the event: %q", d.Why)
			}
			for _, a := range d.Do {
				switch a := a.(type) {
				case EnsureImported:
					if a.Ref != test.snapshot.Image.Awaited() || (a.Ref == "loaded") != (test.snapshot.Image.ManagedBy != "") {
						t.Errorf("the archive is loaded as %s", a.Ref)
					}
				case EnsureArchiveValid:
					if a.Facts == nil || a.Facts != d.Next.Facts {
						t.Error("what is found in the archive is not kept")
					}
				}
			}
			if test.snapshot.Builder != nil && test.snapshot.Builder.Making.Catalogue != nil && (d.Next.Icons["secret"] != "icon" || len(v.Applications) != 1 || d.Next.LoadedRef != "") {
				t.Errorf("the catalogue that was read is not the image's: %+v", d.Next)
			}
			if moved := (test.state == ImageAvailable || test.state == ImageFailed) || test.made != test.snapshot.Image.Made; moved && !cmp.Equal(d.Wake, test.snapshot.Image.BuilderKeys()) {
				t.Errorf("the builder is not woken: %v", d.Wake)
			}
		})
	}
}

// What is shown of a job's output is bounded, and begins with a whole line.
func TestJobFailure(t *testing.T) {
	if got := jobFailure(JobStatus{Problem: "it timed out"}); got != "it timed out" {
		t.Errorf("without output: %q", got)
	}
	lines := strings.Repeat("Unpacking ä …\n", 2000)
	got := jobFailure(JobStatus{Problem: "exit status 1", Output: lines})
	_, shown, _ := strings.Cut(got, "output:\n")
	if !strings.HasPrefix(shown, "Unpacking") || len(shown) > maxWords || len(shown) < maxWords-20 {
		t.Errorf("%d bytes of output: %.40q …", len(shown), shown)
	}
	if got := tail(strings.Repeat("ä", 3000), 999); len(got) != 998 {
		t.Errorf("of one long line %d bytes were kept", len(got))
	}
}

func TestManagedBuilderName(t *testing.T) {
	for image, want := range map[string]string{"office": "office-0000000042", strings.Repeat("x", 100): strings.Repeat("x", 89) + "-0000000042"} {
		if got := ManagedBuilderName(image, 3e10+42); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestSmallestType(t *testing.T) {
	sizes := InstanceTypes()
	for families, want := range map[string]string{"": "stream.standard.small", "General Purpose": "stream.standard.small", "Graphics G5,Memory Optimized": "stream.memory.large", "Graphics G4": "stream.graphics.g4dn.xlarge"} {
		var list []string
		if families != "" {
			list = strings.Split(families, ",")
		}
		if size, ok := SmallestType(sizes, list); !ok || size.Name != want {
			t.Errorf("of %q: %s, want %s", families, size.Name, want)
		}
	}
	if size, ok := SmallestType(sizes, []string{"Quantum"}); ok {
		t.Errorf("of an unknown family: %s", size.Name)
	}
	for family := range map[string]bool{"General Purpose": true, "Compute Optimized": true, "Memory Optimized": true, "Graphics G6": true} {
		least, _ := SmallestType(sizes, []string{family})
		for _, other := range sizes {
			if other.Family == family && other.MemoryMB*int(other.VCPU) < least.MemoryMB*int(least.VCPU) {
				t.Error(fmt.Sprint(other.Name, " is smaller than ", least.Name))
			}
		}
	}
}

// A failed import leaves nothing, under neither of its names.
func TestRemovalOfAnImport(t *testing.T) {
	for _, state := range []string{ImageFailed, ImageDeleting} {
		d := PlanImage(ImageSnapshot{Image: *imported(state)}, t0)
		if diff := cmp.Diff([]Action{EnsureImageGone{"new"}, EnsureImageGone{"loaded"}}, d.Do); diff != "" {
			t.Errorf("%s (-want +got):\n%s", state, diff)
		}
		d = PlanImage(ImageSnapshot{Image: *imported(state, unmanaged)}, t0)
		if diff := cmp.Diff([]Action{EnsureImageGone{"new"}}, d.Do); diff != "" {
			t.Errorf("%s, without a builder (-want +got):\n%s", state, diff)
		}
	}
}

// Whatever the members of a catalogue are, the assistant gets them as they are, each as one word; and the steps' names tell nothing of them.
func TestCatalogueSteps(t *testing.T) {
	dir := t.TempDir()
	fake := "#!/bin/sh\n[ \"$1\" = remove-application ] && exit 1\nprintf '%s\\0' \"$@\" >" + dir + "/words\n"
	if err := os.WriteFile(filepath.Join(dir, "AppStreamImageAssistant"), []byte(fake), 0o755); err != nil {
		t.Fatal(err)
	}
	text := rapid.StringOfN(rapid.OneOf(rapid.SampledFrom([]rune("'\"\\ $`;&|\n-=!*")), rapid.RuneFrom(nil, unicode.L)), 1, 20, -1)
	rapid.Check(t, func(t *rapid.T) {
		app := types.ApplicationConfig{Name: new(text.Draw(t, "name")), AbsoluteAppPath: new(text.Draw(t, "path")), WorkingDirectory: new(text.Draw(t, "dir")), LaunchParameters: new(text.Draw(t, "parameters")),
			DisplayName: new("")}
		steps := CatalogueSteps([]types.ApplicationConfig{app})
		if len(steps) != 1 || steps[0].Name != "add application 1 of 1" {
			t.Fatalf("%+v", steps)
		}
		sh := exec.Command("/bin/sh", "-e", "-c", steps[0].Command)
		sh.Env = []string{"PATH=" + dir + ":/usr/bin:/bin"}
		if out, err := sh.CombinedOutput(); err != nil || len(out) > 0 {
			t.Fatalf("%v: %s\n%s", err, out, steps[0].Command)
		}
		words, err := os.ReadFile(dir + "/words")
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"add-application", "--name=" + *app.Name, "--absolute-app-path=" + *app.AbsoluteAppPath, "--working-directory=" + *app.WorkingDirectory,
			`--launch-parameters="` + strings.ReplaceAll(*app.LaunchParameters, `"`, `\"`) + `"`}
		if diff := cmp.Diff(want, strings.Split(strings.TrimSuffix(string(words), "\x00"), "\x00")); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// What programs write on the machine that tests an image, wherever they take their home from, is in no image: its disk is never captured, and it goes with
// its machine whatever comes of the test.
func TestTestedMachineIsNotCaptured(t *testing.T) {
	for _, phase := range []Phase{MachineAbsent, MachineRunning, MachineStopped} {
		for _, exists := range []bool{false, true} {
			for _, edit := range []func(*ImageBuilder){func(*ImageBuilder) {}, done, failing} {
				for _, image := range []*Image{creating(made), creating(made, capturingDisk), imported(ImageImporting, loaded, made)} {
					b := managed(BuilderPendingQualification, edit)
					machine := Machine{ID: "ib-1", Phase: phase}
					d := PlanImage(ImageSnapshot{Image: *image, Builder: &b, Machine: machine, Exists: exists}, t0)
					if slices.Contains(verbs(d.Do), "EnsureCaptured") {
						t.Errorf("the disk of a machine that tests (%s, %v) is captured", phase, exists)
					}
					if d.Next.managed() {
						continue
					}
					next := PlanImageBuilder(BuilderSnapshot{Builder: b, Machine: machine, Capture: &d.Next, Sizes: InstanceTypes()}, t0)
					if next.Next.State != BuilderDeleting {
						t.Errorf("the image is %s and the machine that tested it %s", d.Next.State, next.Next.State)
					}
				}
			}
		}
	}
}
