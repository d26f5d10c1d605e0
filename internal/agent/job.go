package agent

import (
	"cmp"
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/oriel-project/oriel/internal/agent/sudo"
	"github.com/oriel-project/oriel/internal/agent/transcript"
	"github.com/oriel-project/oriel/internal/agentapi"
)

const (
	maxJob      = 32 << 20  // of a job, in bytes of JSON: its commands, with quotes and line feeds escaped
	maxEndedJob = 100       // ended jobs that are remembered
	commandTime = time.Hour // for a command for which nothing else is said
	launchTime  = time.Minute
)

// jobs are the jobs of an image builder. One runs at a time. They are kept in
// memory only: with the agent all processes end, too, and what a job has done
// to the disk is for whoever begins it anew to judge.
//
//	PUT     → running: one step after the other → succeeded or failed
//	DELETE  → the running step is ended with all its processes → forgotten
//	quiesce → likewise, and failed; until resume, every job fails at once
//
// A step's processes are ended with it, unless it is a command that succeeded:
// what such a one has left running, it has started for the machine, as the
// installation of a service does. It stays until the machine is quiesced or
// stops.
type jobs struct {
	watch
	ctx  context.Context // ends with the agent
	list []*job          // in the order in which they were begun
	held bool            // the instance is quiesced
}

// job is one job, and what became of it. All but the first line is guarded by
// jobs.
type job struct {
	id     string
	end    context.CancelCauseFunc
	done   chan struct{} // closed when it has ended, with its processes
	status agentapi.JobStatus
	output *transcript.Transcript // of the step that runs
}

var (
	errNoJobs   = errors.New("this instance is a fleet's: jobs are for image builders")
	errOtherJob = errors.New("another job runs on the instance; wait for its end, or end it")
	errJobEnded = errors.New("the job was ended")
	errQuiesced = errors.New("the machine is quiesced, because its disk is being captured; begin the job again when it has resumed")
)

// find gives the job of an ID. The lock is held.
func (js *jobs) find(id string) *job {
	if n := slices.IndexFunc(js.list, func(j *job) bool { return j.id == id }); n >= 0 {
		return js.list[n]
	}
	return nil
}

// beginJob begins a job, unless it is known.
func (a *agent) beginJob(id string, spec agentapi.Job) (err error) {
	js := &a.jobs
	js.change(func() {
		if js.find(id) != nil {
			return
		}
		if slices.ContainsFunc(js.list, func(j *job) bool { return j.status.State == agentapi.JobRunning }) {
			err = errOtherJob
			return
		}
		js.list = slices.Delete(js.list, 0, max(0, len(js.list)-maxEndedJob+1))
		ctx, end := context.WithCancelCause(js.ctx)
		j := &job{id: id, end: end, done: make(chan struct{}), output: transcript.New(agentapi.MaxJobOutput)}
		j.status = agentapi.JobStatus{State: agentapi.JobRunning, StartedAt: time.Now().UTC()}
		js.list = append(js.list, j)
		if js.held {
			end(errQuiesced)
		}
		go a.runJob(ctx, j, spec)
	})
	return err
}

// runJob does the steps of j. Commands may have secrets in them, and so may
// their output: neither is logged.
func (a *agent) runJob(ctx context.Context, j *job, spec agentapi.Job) {
	defer close(j.done)
	defer j.end(nil)
	log := a.log.With("job", j.id)
	log.Info("job begun", "steps", len(spec.Steps))
	state, problem := agentapi.JobSucceeded, ""
	for n, step := range spec.Steps {
		name := cmp.Or(step.Name, fmt.Sprintf("Step %d", n+1))
		output := transcript.New(agentapi.MaxJobOutput)
		a.jobs.change(func() { j.status.Step, j.output = n, output })
		began := time.Now()
		err := a.doStep(ctx, step, spec.Environment, output)
		log.Info("job step", "step", name, "took", time.Since(began), "done", err == nil)
		if err != nil {
			state, problem = agentapi.JobFailed, name+": "+err.Error()
			break
		}
	}
	a.jobs.change(func() {
		j.status.State, j.status.Problem, j.status.EndedAt = state, problem, time.Now().UTC()
		j.status.Output, j.output = j.output.String(), nil
	})
	log.Info("job ended", "state", state)
}

// doStep does one step, with the job's variables. The error says how it ended.
func (a *agent) doStep(ctx context.Context, step agentapi.JobStep, vars map[string]string, output *transcript.Transcript) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	limit := commandTime
	if step.Launch != "" {
		limit = launchTime
	}
	if step.Seconds > 0 {
		limit = time.Duration(step.Seconds) * time.Second
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it took longer than %v and was ended", limit))
	defer cancel()
	if step.Launch != "" {
		return a.tryLaunch(ctx, step, output)
	}
	return a.runCommand(ctx, step, vars, output)
}

// runCommand does a step that is a shell's command.
func (a *agent) runCommand(ctx context.Context, step agentapi.JobStep, vars map[string]string, output *transcript.Transcript) error {
	root := account{name: "root", home: a.paths.rootHome, uid: os.Geteuid(), gid: os.Getegid()}
	env := slices.Concat(
		[]string{"PATH=" + sudo.SecurePath, "SHELL=/bin/sh", "DEBIAN_FRONTEND=noninteractive"},
		locale(a.paths.locale), environ(systemVars(a.config)),
	)
	env = slices.DeleteFunc(env, func(s string) bool { // which of two of a name counts, programs do not agree on
		name, _, _ := strings.Cut(s, "=")
		_, own := vars[name]
		return own
	})
	for name, value := range vars {
		env = append(env, name+"="+value)
	}
	p, err := a.startTree(root, command{argv: []string{"/bin/sh", "-e", "-c", step.Command}, env: env}, output)
	if err != nil {
		return err
	}
	select {
	case <-p.ended:
		if p.err == nil && p.how.Succeeded() {
			p.leave()
			return nil
		}
		return p.end(p.failure())
	case <-ctx.Done():
		return p.end(context.Cause(ctx))
	}
}

// hold ends what runs, and has every job fail until release.
func (js *jobs) hold(ctx context.Context) error {
	var running []*job
	js.change(func() {
		js.held = true
		for _, j := range js.list {
			if j.status.State == agentapi.JobRunning {
				j.end(errQuiesced)
				running = append(running, j)
			}
		}
	})
	for _, j := range running {
		select {
		case <-j.done:
		case <-ctx.Done():
			return fmt.Errorf("end the job: %w", ctx.Err())
		}
	}
	return nil
}

func (js *jobs) release() { js.change(func() { js.held = false }) }

// forget takes out a job that has ended.
func (js *jobs) forget(j *job) {
	js.change(func() { js.list = slices.DeleteFunc(js.list, func(x *job) bool { return x == j }) })
}

// routeJobs adds what an image builder has.
func (a *agent) routeJobs(mux *http.ServeMux) {
	for pattern, handle := range map[string]http.HandlerFunc{
		"PUT /v1/jobs/{id}": a.putJob, "GET /v1/jobs/{id}": a.getJob, "DELETE /v1/jobs/{id}": a.deleteJob,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if !a.config.Role.Builds() {
				refuse(w, http.StatusConflict, errNoJobs)
				return
			}
			handle(w, r)
		})
	}
}

func (a *agent) putJob(w http.ResponseWriter, r *http.Request) {
	var spec agentapi.Job
	err := json.UnmarshalRead(http.MaxBytesReader(w, r.Body, maxJob), &spec)
	switch {
	case err != nil:
		err = fmt.Errorf("the body is not understood: %w", err)
	case !agentapi.IsID(r.PathValue("id")):
		err = errors.New("the job has no proper id")
	default:
		err = spec.Check()
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	if err := a.beginJob(r.PathValue("id"), spec); err != nil {
		refuse(w, http.StatusConflict, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// jobOf gives the job that a request is for. It has answered when it returns nil.
func (a *agent) jobOf(w http.ResponseWriter, r *http.Request) (j *job) {
	a.jobs.read(func() { j = a.jobs.find(r.PathValue("id")) })
	if j == nil {
		refuse(w, http.StatusNotFound, agentapi.ErrNoJob)
	}
	return j
}

func (a *agent) getJob(w http.ResponseWriter, r *http.Request) {
	j := a.jobOf(w, r)
	if j == nil {
		return
	}
	ctx, cancel, err := waitContext(r)
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	defer cancel()
	select {
	case <-j.done:
	case <-ctx.Done():
	}
	var status agentapi.JobStatus
	a.jobs.read(func() {
		if status = j.status; j.output != nil {
			status.Output = j.output.String()
		}
	})
	reply(w, status)
}

func (a *agent) deleteJob(w http.ResponseWriter, r *http.Request) {
	j := a.jobOf(w, r)
	if j == nil {
		return
	}
	j.end(errJobEnded)
	<-j.done
	a.jobs.forget(j)
	w.WriteHeader(http.StatusNoContent)
}
