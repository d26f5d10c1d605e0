package appstream

import (
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
)

// A Job is work inside a machine: steps that its agent does as root, one after another, until one fails. The ID is of this one
// attempt: a machine that has started again does not know it any more, and begins it anew.
type Job struct {
	ID    string // ≤ 64 letters, digits and - _ .
	Steps []JobStep
}

// A JobStep is a command, or an application of the catalogue that must draw a window. Exactly one of Command and Launch is set.
type JobStep struct {
	Name    string        // for people
	Command string        // for /bin/sh -e
	Launch  string        // the application's name
	Time    time.Duration // that it may take; 0: an hour for a command, a minute for a launch
}

// JobStatus is what the agent reports of a job. The zero value is an agent that does not answer.
type JobStatus struct {
	Answers bool   // the agent does
	Known   bool   // it knows the job; if not, the job has not been begun, or the machine has started again since
	Ended   bool   // the job is over
	Step    int    // index of the step that runs, or that was the last
	Output  string // the end of what that step wrote; text of at most 16 KiB
	Problem string // why the job failed; "" while it runs and when it succeeded
}

// EnsureCatalogueRead asks the agent of a running machine for its catalogue, and keeps the icons. What it is goes into Catalogue, which is a part of
// the record that the decision writes.
type EnsureCatalogueRead struct {
	Machine   string
	Platform  types.PlatformType // of the machine
	Catalogue *Catalogue
}

// String names the action.
func (a EnsureCatalogueRead) String() string { return "EnsureCatalogueRead " + a.Machine }

// Catalogue is the applications of an image.
type Catalogue struct {
	Applications []types.Application
	Icons        map[string]string // application name → name of its icon in the blob store
}

// Succeeded tells whether all steps were done.
func (s JobStatus) Succeeded() bool { return s.Ended && s.Problem == "" }
