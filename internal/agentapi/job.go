package agentapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Bounds of a Job.
const (
	MaxJobSteps   = 200
	MaxJobCommand = 64 << 10 // bytes of one command
	MaxJobOutput  = 16 << 10 // bytes of output that are kept of one step: its end
	MaxJobTime    = 4 * time.Hour

	maxJobName   = 1280 // bytes of what a step is called
	maxJobLaunch = 1024 // bytes of an application's name: 256 characters

	MaxJobVariables = 64
	MaxJobVariable  = 32 << 10 // bytes of a variable's value
)

// Job is work inside an image builder: steps that are done one after another
// until one of them fails. It belongs to no person, goes on while nobody asks
// for it, and ends with the instance. To quiesce the instance ends it, too: it
// has failed then, and so has any that is begun before the instance resumes.
type Job struct {
	Steps []JobStep `json:"steps"` // 1 to MaxJobSteps
	// Environment is what the commands find in theirs beside what every command
	// has. It may have secrets: it is kept nowhere but in the agent's memory.
	Environment map[string]string `json:"environment,omitzero"`
}

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)

// JobStep is one step. Exactly one of Command and Launch is set.
type JobStep struct {
	// Name says in a few words what the step does, for messages; ≤ 1280 bytes.
	Name string `json:"name"`
	// Command is done by /bin/sh -e as root, in /root, without a terminal and
	// without input. It has failed when it ends with another code than 0. What
	// it has left running stays when it has succeeded, as the service of a
	// package does; else all that came of it is ended.
	Command string `json:"command,omitzero"`
	// Launch names an application of the catalogue: it is started on the desktop
	// as if the desktop's user had started it, but with a new home and a session
	// bus of its own, must draw a window of its own, and is ended again with all
	// that came of it.
	Launch string `json:"launch,omitzero"`
	// Seconds is how long the step may take, 1 to MaxJobTime; 0 means an hour
	// for a command and a minute for a launch.
	Seconds int `json:"seconds,omitzero"`
}

// Check tells what is wrong with j.
func (j Job) Check() error {
	if n := len(j.Steps); n < 1 || n > MaxJobSteps {
		return fmt.Errorf("a job has 1 to %d steps, not %d", MaxJobSteps, n)
	}
	if n := len(j.Environment); n > MaxJobVariables {
		return fmt.Errorf("a job has at most %d variables, not %d", MaxJobVariables, n)
	}
	for name, value := range j.Environment {
		if !variableName.MatchString(name) {
			return fmt.Errorf("%.150q is not the name of a variable", name)
		}
		if len(value) > MaxJobVariable || !utf8.ValidString(value) || strings.ContainsRune(value, 0) {
			return fmt.Errorf("the value of the variable %s is not text of at most %d bytes", name, MaxJobVariable)
		}
	}
	for n, s := range j.Steps {
		switch {
		case (s.Command == "") == (s.Launch == ""):
			return fmt.Errorf("step %d must have a command or the name of an application, and not both", n+1)
		case len(s.Command) > MaxJobCommand || len(s.Launch) > maxJobLaunch || len(s.Name) > maxJobName:
			return fmt.Errorf("step %d has a member that is too long", n+1)
		case !utf8.ValidString(s.Name + s.Command + s.Launch):
			return fmt.Errorf("step %d has a member that is not UTF-8", n+1)
		case strings.ContainsRune(s.Name+s.Command+s.Launch, 0):
			return fmt.Errorf("step %d has a NUL in a member", n+1)
		case s.Seconds < 0 || time.Duration(s.Seconds) > MaxJobTime/time.Second:
			return fmt.Errorf("step %d may take 1 to %d seconds, not %d", n+1, MaxJobTime/time.Second, s.Seconds)
		}
	}
	return nil
}

// JobState is how far a job is.
type JobState string

// A job runs, and then has succeeded or failed.
const (
	JobRunning   JobState = "running"
	JobSucceeded JobState = "succeeded"
	JobFailed    JobState = "failed"
)

// JobStatus is how a job is.
type JobStatus struct {
	State     JobState  `json:"state"`
	Step      int       `json:"step"` // the one that runs, or that was the last: an index of Job.Steps
	StartedAt time.Time `json:"startedAt"`
	EndedAt   time.Time `json:"endedAt,omitzero"`
	// Output is the end of what that step wrote, standard output and error as
	// they came: at most MaxJobOutput bytes of text, with no control characters
	// but line feeds and tabs.
	Output string `json:"output,omitzero"`
	// Problem says in words why the job has failed: the step's name and how it
	// ended.
	Problem string `json:"problem,omitzero"`
}

// ErrNoJob means that the instance does not know the job: it was never begun
// there, was forgotten, or the instance has started again since.
var ErrNoJob = errors.New("the instance has no such job")

func jobPath(id string) string { return "/v1/jobs/" + url.PathEscape(id) }

// BeginJob begins a job, if the instance does not know one of that ID; it does
// not wait. IDs are like those of sessions. A CallError with status 409 says
// that another job runs: there is one at a time.
func (c *Client) BeginJob(ctx context.Context, id string, job Job) error {
	_, err := c.call(ctx, callTimeout, "PUT", jobPath(id), job, nil, maxAnswer)
	return err
}

// Job returns as soon as the job has ended, or after wait (at most MaxWait) with
// what it is doing.
func (c *Client) Job(ctx context.Context, id string, wait time.Duration) (JobStatus, error) {
	var s JobStatus
	_, err := c.call(ctx, wait+callTimeout, "GET", jobPath(id)+"?wait="+seconds(wait), nil, &s, maxAnswer)
	s.Output, s.Problem = tail(s.Output, MaxJobOutput), tail(s.Problem, maxProblem)
	return s, noJob(err)
}

// maxProblem is how much of JobStatus.Problem is believed, in bytes.
const maxProblem = 1 << 10

// tail gives the end of a text from an instance, fit to be kept and shown:
// lines of text and nothing else.
func tail(s string, limit int) string {
	s = strings.ToValidUTF8(s[max(0, len(s)-limit):], "")
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return ' '
		}
		return r
	}, s)
}

// EndJob ends a job with all its processes, and forgets it. One that the
// instance does not know is no error.
func (c *Client) EndJob(ctx context.Context, id string) error {
	_, err := c.call(ctx, endTimeout, "DELETE", jobPath(id), nil, nil, maxAnswer)
	if errors.Is(noJob(err), ErrNoJob) {
		return nil
	}
	return err
}

func noJob(err error) error {
	if e, ok := errors.AsType[*CallError](err); ok && e.Status == http.StatusNotFound {
		return ErrNoJob
	}
	return err
}
