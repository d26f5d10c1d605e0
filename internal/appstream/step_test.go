package appstream

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Each row is a commit of an image builder: what it was, what it is, and what has happened.
func TestStepsOfAnImageBuilder(t *testing.T) {
	job := func(j ClientJob) ImageBuilder {
		return builder(BuilderRunning, func(b *ImageBuilder) { b.ClientJob = &j })
	}
	begunTwo := managed(BuilderPendingQualification, func(b *ImageBuilder) { b.Making.Step = 2 })
	begun := func(b *ImageBuilder) { b.Software[0].Begun = true }
	runs := JobStatus{Answers: true, Known: true, Step: 2}
	fails := JobStatus{Answers: true, Known: true, Ended: true, Step: 1, Problem: "s3cret", Output: "s3cret"}
	for name, test := range map[string]struct {
		was, is ImageBuilder
		want    []string
	}{
		"nothing":             {deploying(BuilderSyncingApps, pending("Geany")), deploying(BuilderSyncingApps, pending("Geany")), nil},
		"a job of a software": {deploying(BuilderSyncingApps, pending("Geany")), edited(deploying(BuilderSyncingApps, pending("Geany")), begun), []string{"begun: install Geany"}},
		"it is installed":     {edited(deploying(BuilderSyncingApps, pending("Geany")), begun), deploying(BuilderSyncingApps, Deployment{Name: "Geany", Status: installed}), []string{"done: install Geany"}},
		"both at once":        {deploying(BuilderSyncingApps, pending("Geany")), deploying(BuilderSyncingApps, Deployment{Name: "Geany", Status: installed}), []string{"begun: install Geany", "done: install Geany"}},
		"it is removed":       {edited(deploying(BuilderSyncingApps, leaving("Geany")), begun), deploying(BuilderSyncingApps), []string{"done: uninstall Geany"}},
		"it has failed":       {edited(deploying(BuilderSyncingApps, pending("Geany")), begun), deploying(BuilderSyncingApps, Deployment{Name: "Geany", Status: failedIn}), []string{"failed: install Geany; DescribeSoftwareAssociations says why"}},
		"it has to wait":      {deploying(BuilderSyncingApps, pending("Geany")), deploying(BuilderFailed, Deployment{Name: "Geany", Status: stagedIn}), []string{"put off: install Geany"}},
		"a client's job":      {builder(BuilderRunning), job(ClientJob{ID: "j", Steps: 3, Step: 1}), []string{"begun: job j of 3 steps", "begun: step 1 of 3 of job j"}},
		"steps of it":         {job(ClientJob{ID: "j", Steps: 3, Step: 1}), job(*ClientJob{ID: "j", Steps: 3, Step: 1}.follow(runs)), []string{"begun: step 2 of 3 of job j", "begun: step 3 of 3 of job j"}},
		"it has succeeded":    {job(ClientJob{ID: "j", Steps: 2, Step: 2}), job(*ClientJob{ID: "j", Steps: 2, Step: 2}.follow(JobStatus{Answers: true, Known: true, Ended: true})), []string{"done: job j"}},
		"its step has failed": {job(ClientJob{ID: "j", Steps: 3, Step: 1}), job(*ClientJob{ID: "j", Steps: 3, Step: 1}.follow(fails)), []string{"begun: step 2 of 3 of job j", "failed: step 2 of 3 of job j"}},
		"nobody knows it":     {job(ClientJob{ID: "j", Steps: 1, Step: 1}), job(*ClientJob{ID: "j", Steps: 1, Step: 1}.follow(JobStatus{Answers: true})), []string{"failed: job j was lost with what the machine was doing: it has stopped, or has started again"}},
		"nobody answers":      {job(ClientJob{ID: "j", Steps: 1, Step: 1}), job(*ClientJob{ID: "j", Steps: 1, Step: 1}.follow(JobStatus{})), nil},
		"what an agent makes up": {job(ClientJob{ID: "j", Steps: 2, Step: 1}), job(*ClientJob{ID: "j", Steps: 2, Step: 1}.follow(JobStatus{Answers: true, Known: true, Step: 1 << 40})),
			[]string{"begun: step 2 of 2 of job j"}},
		"another job":     {job(ClientJob{ID: "i", Steps: 9, Step: 9}), job(ClientJob{ID: "j", Steps: 1, Step: 1}), []string{"begun: job j of 1 steps", "begun: step 1 of 1 of job j"}},
		"an application":  {managed(BuilderPendingQualification, func(b *ImageBuilder) { b.Making.Step = 1 }), begunTwo, []string{"begun: start gimp (step 2 of 2)"}},
		"all are started": {begunTwo, edited(begunTwo, done), []string{"done: start gimp (step 2 of 2)"}},
		"one is not":      {begunTwo, edited(begunTwo, failing), []string{"failed: start gimp (step 2 of 2)"}},
		"begun anew":      {begunTwo, managed(BuilderPendingQualification, func(b *ImageBuilder) { b.Making.Step = 1 }), []string{"begun: start xterm (step 1 of 2)"}},
		"another state":   {managed(BuilderUpdating, done), managed(BuilderPendingQualification), nil},
	} {
		var got []string
		for _, s := range test.is.Steps(test.was) {
			if got = append(got, s.What); test.is.Making != nil && s.Key.Noun != NounImage || test.is.Making == nil && s.ID != test.is.ID {
				t.Errorf("%s: it is about %s, %s", name, s.Key.ARN(), s.ID)
			}
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if strings.Contains(strings.Join(got, ""), "s3cret") {
			t.Errorf("%s tells what only the job may: %s", name, got)
		}
	}
}

// Each row is a commit of a composition. Its steps are its fleet's.
func TestStepsOfAComposition(t *testing.T) {
	at := func(state string, put, step int, done bool) Composition {
		return composition(t, state, func(c *Composition) {
			c.Started, c.Put, c.Step, c.Done, c.Failure = true, put, step, done, "s3cret"
		})
	}
	const composing, ready, failed = CompositionComposing, CompositionReady, CompositionFailed
	for name, test := range map[string]struct {
		was, is Composition
		want    []string
	}{
		"nothing":     {at(composing, 2, 1, false), at(composing, 2, 1, false), nil},
		"the machine": {composition(t, composing), at(composing, 0, 0, false), []string{"begun: start the machine that its image is made on"}},
		"started by a pass that was cut off": {composition(t, composing), at(composing, 1, 0, false),
			[]string{"begun: start the machine that its image is made on", "done: put b/p/custom.tar on the machine (file 1 of 2)"}},
		"a file":            {at(composing, 1, 0, false), at(composing, 2, 0, false), []string{"done: put b/p/setup.sh on the machine (file 2 of 2)"}},
		"the job":           {at(composing, 2, 0, false), at(composing, 2, 1, false), []string{"begun: set up the app block custom (step 1 of 3)"}},
		"two steps at once": {at(composing, 2, 1, false), at(composing, 2, 3, false), []string{"begun: add the application calc (step 2 of 3)", "begun: clean up (step 3 of 3)"}},
		"all are done":      {at(composing, 2, 3, false), at(composing, 2, 3, true), []string{"done: clean up (step 3 of 3)", "begun: capture the disk"}},
		"it is captured":    {at(composing, 2, 3, true), at(ready, 2, 3, true), []string{"done: capture the disk"}},
		"a step has failed": {at(composing, 2, 1, false), at(failed, 2, 2, false),
			[]string{"begun: add the application calc (step 2 of 3)", "failed: add the application calc (step 2 of 3); DescribeFleets says why"}},
		"a file is missing":     {at(composing, 1, 0, false), at(failed, 1, 0, false), []string{"failed: make its image; DescribeFleets says why"}},
		"it cannot be captured": {at(composing, 2, 3, true), at(failed, 2, 3, true), []string{"failed: capture the disk; DescribeFleets says why"}},
		"it is tried again":     {at(failed, 2, 2, false), composition(t, composing), nil},
		"its machine has ended": {at(composing, 2, 1, false), composition(t, composing), nil},
		"no such step any more": {at(composing, 2, 9, false), at(failed, 2, 9, false), []string{"failed: make its image; DescribeFleets says why"}},
	} {
		var got []string
		for _, s := range test.is.Steps(test.was) {
			if got = append(got, s.What); s.Key != test.is.fleetKey()[0] || s.ID != test.is.FleetID {
				t.Errorf("%s: it is about %s, %s", name, s.Key.ARN(), s.ID)
			}
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func edited(b ImageBuilder, edit func(*ImageBuilder)) ImageBuilder {
	if b.Making != nil {
		b.Making = new(*b.Making)
	}
	b.Software = append([]Deployment(nil), b.Software...)
	edit(&b)
	return b
}

func TestStepsAreShortLines(t *testing.T) {
	var l stepList
	l.add("begun: %s", strings.Repeat("ü", 500))
	l.add("begun: %s", "two\nlines\x1b[1m")
	if s := l.list[0].What; len(s) > maxStep || !strings.HasSuffix(s, "ü…") {
		t.Errorf("%d bytes, %q", len(s), s)
	}
	if s := l.list[1].What; s != "begun: two lines [1m" {
		t.Errorf("%q", s)
	}
}
