package appstream

import (
	"fmt"
	"strings"
)

// A Step is something of long work that has begun or ended, between two changes of state: what happened to whom. It tells nothing of what a command
// is or has written: events are for others' eyes.
type Step struct {
	Key  Key
	ID   string // of the record
	What string // "begun: …", "done: …" or "failed: …"; at most maxStep bytes
}

// Stepped is a record that long work is done on. Steps compares it with what it was before a commit, so that what has happened becomes an event in the
// commit that notes it, and once, however often the pass was repeated.
type Stepped[R any] interface{ Steps(before R) []Step }

const maxStep = 300

// stepList collects steps of one resource.
type stepList struct {
	key  Key
	id   string
	list []Step
}

func (l *stepList) add(format string, args ...any) {
	what := strings.Map(func(r rune) rune { // one line
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, fmt.Sprintf(format, args...))
	if len(what) > maxStep {
		what = strings.ToValidUTF8(what[:maxStep-len("…")], "") + "…"
	}
	l.list = append(l.list, Step{l.key, l.id, what})
}

// stepName names a step of a job, counted from 1, or the whole work if there is no such step.
func stepName(steps []JobStep, n int, work string) string {
	if n < 1 || n > len(steps) {
		return work
	}
	return fmt.Sprintf("%s (step %d of %d)", steps[n-1].Name, n, len(steps))
}

// Steps are those of a builder's software and of a client's job on it; or, of a builder that is made for an image, those of the image, which stays when
// the builder goes.
func (b *ImageBuilder) Steps(before ImageBuilder) []Step {
	l := stepList{key: b.Key, id: b.ID}
	if b.Making != nil && before.Making != nil {
		l.key, l.id = Key{b.Account, b.Region, NounImage, b.Capturing}, b.CapturingID
		b.makingSteps(&l, before)
		return l.list
	}
	b.softwareSteps(&l, before)
	b.ClientJob.steps(&l, before.ClientJob)
	return l.list
}

func (b *ImageBuilder) makingSteps(l *stepList, before ImageBuilder) {
	if n := len(b.Boots); n > 0 && (len(before.Boots) == 0 || b.Boots[n-1].After(before.Boots[len(before.Boots)-1])) {
		l.add("begun: start the machine of the image builder %s", b.Name)
	}
	if b.State != before.State {
		return
	}
	now, was := b.Making, before.Making
	_, steps := now.steps(b.State)
	name := func(n int) string { return stepName(steps, n, "the image builder's work") }
	first := was.Step + 1
	if now.Step < was.Step { // a new machine does it anew
		first = 1
	}
	for n := first; n <= now.Step; n++ {
		l.add("begun: %s", name(n))
	}
	switch {
	case now.Failure != "" && was.Failure == "":
		l.add("failed: %s", name(now.Step))
	case now.Done && !was.Done && len(steps) > 0:
		l.add("done: %s", name(now.Step))
	case now.Done && !was.Done && b.State == BuilderPendingQualification:
		l.add("done: boot a machine of the image, and draw its desktop")
	}
}

func (b *ImageBuilder) softwareSteps(l *stepList, before ImageBuilder) {
	for _, was := range before.Software {
		if was.Status != pendingIn && was.Status != pendingOut {
			continue
		}
		verb := "install"
		if was.Status == pendingOut {
			verb = "uninstall"
		}
		var now Deployment
		for _, d := range b.Software {
			if d.Name == was.Name {
				now = d
			}
		}
		ended := now.Status != was.Status && now.Status != stagedIn && now.Status != stagedOut
		if !was.Begun && (now.Begun || ended) {
			l.add("begun: %s %s", verb, was.Name)
		}
		switch now.Status {
		case was.Status:
		case failedIn, failedOut:
			l.add("failed: %s %s; DescribeSoftwareAssociations says why", verb, was.Name)
		case installed, notInstalled:
			l.add("done: %s %s", verb, was.Name)
		case stagedIn, stagedOut:
			l.add("put off: %s %s", verb, was.Name)
		}
	}
}

// ClientJob is the last job that a client had an image builder's machine do, as far as the server knows. What its steps are and what they have written, the
// machine's agent knows alone.
type ClientJob struct {
	ID      string
	Steps   int    // how many it has
	Step    int    // how many of them have begun
	Outcome string // "" while it runs, then one of the outcomes
}

// The outcomes of a client's job.
const (
	jobDone   = "done"
	jobFailed = "failed"
	jobEnded  = "ended by StopImageBuilderJob"
	jobLost   = "lost with what the machine was doing: it has stopped, or has started again"
)

// Running tells whether the job's end is not known yet. There may be no job.
func (j *ClientJob) Running() bool { return j != nil && j.Outcome == "" }

func (j *ClientJob) steps(l *stepList, before *ClientJob) {
	if j == nil {
		return
	}
	was := ClientJob{}
	if before != nil && before.ID == j.ID {
		was = *before
	} else {
		l.add("begun: job %s of %d steps", j.ID, j.Steps)
	}
	for n := was.Step + 1; n <= j.Step; n++ {
		l.add("begun: step %d of %d of job %s", n, j.Steps, j.ID)
	}
	switch {
	case j.Running() || !was.Running():
	case j.Outcome == jobFailed:
		l.add("failed: step %d of %d of job %s", j.Step, j.Steps, j.ID)
	case j.Outcome == jobDone:
		l.add("done: job %s", j.ID)
	default:
		l.add("failed: job %s was %s", j.ID, j.Outcome)
	}
}

// follow notes what the agent says of the job. One that it does not know any more is lost.
func (j ClientJob) follow(s JobStatus) *ClientJob {
	switch {
	case !s.Answers:
	case !s.Known:
		j.Outcome = jobLost
	case s.Succeeded():
		j.Step, j.Outcome = j.Steps, jobDone
	default:
		j.Step = max(j.Step, min(s.Step+1, j.Steps))
		if s.Ended {
			j.Outcome = jobFailed
		}
	}
	return &j
}

// JobBegun notes that a client has begun a job. It tells whether that is news: a request may be repeated.
func (b *ImageBuilder) JobBegun(id string, steps int) bool {
	if b.ClientJob != nil && b.ClientJob.ID == id && b.ClientJob.Running() {
		return false
	}
	b.ClientJob = &ClientJob{ID: id, Steps: steps, Step: 1}
	return true
}

// JobFollowed notes what the agent says of a client's job. It tells whether that is news.
func (b *ImageBuilder) JobFollowed(id string, s JobStatus) bool {
	if !b.ClientJob.Running() || b.ClientJob.ID != id {
		return false
	}
	was := *b.ClientJob
	b.ClientJob = was.follow(s)
	return *b.ClientJob != was
}

// JobEnded notes that a client has ended a job. It tells whether that is news.
func (b *ImageBuilder) JobEnded(id string) bool {
	if !b.ClientJob.Running() || b.ClientJob.ID != id {
		return false
	}
	job := *b.ClientJob
	job.Outcome = jobEnded
	b.ClientJob = &job
	return true
}

// jobless are the states in which the machine of a builder does no client's job.
func jobless(state string) bool {
	switch state {
	case BuilderRunning, BuilderPendingSyncingApps, BuilderSyncingApps, BuilderRebooting:
		return false
	}
	return true
}

// captureWords is what is said of an image while its builder's disk is captured.
const captureWords = "capturing the disk"

// Steps are those of an image's archive and of its capture. What a builder does for it, the builder's commits say.
func (i *Image) Steps(before Image) []Step {
	l := stepList{key: i.Key, id: i.ID}
	if i.Loaded && !before.Loaded {
		l.add("done: load the archive")
	}
	if i.says(captureWords) && !before.says(captureWords) {
		l.add("begun: capture the disk")
	}
	if i.Made && !before.Made && i.Loaded == before.Loaded {
		l.add("done: capture the disk")
	}
	return l.list
}

// Steps are those of an Elastic fleet, whose image the composition is to be: people know nothing else of it.
func (c *Composition) Steps(before Composition) []Step {
	l := stepList{key: c.fleetKey()[0], id: c.FleetID}
	files := c.Recipe.Files()
	steps, _ := c.Recipe.Steps()
	name := func(n int) string { return stepName(steps, n, "make its image") }
	if c.Started && !before.Started {
		l.add("begun: start the machine that its image is made on")
	}
	for n := before.Put; n < c.Put; n++ {
		l.add("done: put %s/%s on the machine (file %d of %d)", files[n].Bucket, files[n].Key, n+1, len(files))
	}
	for n := before.Step; n < c.Step; n++ {
		l.add("begun: %s", name(n+1))
	}
	if c.Done && !before.Done {
		l.add("done: %s", name(c.Step))
		l.add("begun: capture the disk")
	}
	switch {
	case c.State == before.State:
	case c.State == CompositionReady:
		l.add("done: capture the disk")
	case c.State == CompositionFailed && c.Done:
		l.add("failed: capture the disk; DescribeFleets says why")
	case c.State == CompositionFailed:
		l.add("failed: %s; DescribeFleets says why", name(c.Step))
	}
	return l.list
}

// Steps are those of a package.
func (b *AppBlockBuilder) Steps(before AppBlockBuilder) []Step {
	l := stepList{key: b.Key, id: b.ID}
	was := before.Packaging
	switch {
	case was == nil:
	case b.Packaging != nil && b.Packaging.Writing && !was.Writing:
		l.add("begun: write the package %s", was.Key)
	case b.Packaging == nil && b.View.StateChangeReason == nil:
		l.add("done: write the package %s", was.Key)
	case b.Packaging == nil:
		l.add("failed: write the package %s", was.Key)
	}
	return l.list
}
