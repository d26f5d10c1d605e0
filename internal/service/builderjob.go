package service

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/oriel-project/oriel/internal/agentapi"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/store"
)

// ExtensionLimits are the constraints of the inputs of Oriel's own operations, in the form of api.Service.Limits.
const ExtensionLimits = `
string OrielJobId 1 64 plain ^[a-zA-Z0-9][a-zA-Z0-9_.-]*$
string OrielStepName 1 256 plain
string OrielCommand 1 65536 sensitive
string OrielVariableName 1 128 plain ^[A-Za-z_][A-Za-z0-9_]*$
string OrielVariable 0 32768 sensitive
string OrielPath 2 1024 plain ^/
string OrielMode 3 4 plain ^[0-7]+$
string OrielSha256 64 64 plain ^[0-9a-f]+$
integer OrielStepTime 1 14400
integer OrielJobWait 0 20
integer OrielFileSize 0 17179869184
map OrielEnvironment OrielVariableName OrielVariable 0 64
list OrielSteps ImageBuilderJobStep 1 200
structure ImageBuilderJobStep Name!:OrielStepName Command*:OrielCommand Application:AppName TimeoutInSeconds:OrielStepTime
structure StartImageBuilderJobInput ImageBuilderName!:Name JobId:OrielJobId Steps!:OrielSteps Environment*:OrielEnvironment
structure DescribeImageBuilderJobInput ImageBuilderName!:Name JobId!:OrielJobId WaitInSeconds:OrielJobWait
structure CreateAppBlockPackageInput AppBlockBuilderName!:Name
structure StopImageBuilderJobInput ImageBuilderName!:Name JobId!:OrielJobId
structure PutImageBuilderFileInput ImageBuilderName!:Name Path!:OrielPath Mode:OrielMode SizeInBytes!:OrielFileSize Sha256!:OrielSha256 Offset:OrielFileSize Data*:
`

// StartImageBuilderJobInput asks for work on a running image builder: steps that are done as root, one after another, until one fails.
type StartImageBuilderJobInput struct {
	ImageBuilderName *string // required
	// JobId names the job; default: a new one. A job that the image builder knows by this ID goes on or has ended, so the call can be repeated.
	JobId *string
	Steps []ImageBuilderJobStep // required, 1 to 200
	// Environment is what the commands find in theirs. It is kept nowhere but in the memory of the image builder's agent, and ends with it.
	Environment map[string]string
}

// ImageBuilderJobStep is one step. Exactly one of Command and Application is set.
type ImageBuilderJobStep struct {
	Name             *string // required: what it does, for people
	Command          *string // done by /bin/sh -e, in /root; it has failed when it ends with another code than 0
	Application      *string // of the catalogue: it is started on the desktop, must draw a window, and is ended
	TimeoutInSeconds *int32  // default: an hour for a command, a minute for an application
}

// StartImageBuilderJobOutput names the job.
type StartImageBuilderJobOutput struct{ JobId *string }

// DescribeImageBuilderJobInput asks how far a job is.
type DescribeImageBuilderJobInput struct {
	ImageBuilderName *string
	JobId            *string
	WaitInSeconds    *int32 // answer when the job has ended, or after so long; at most 20, default 0
}

// DescribeImageBuilderJobOutput has the job.
type DescribeImageBuilderJobOutput struct{ Job *ImageBuilderJob }

// ImageBuilderJob is how far a job is.
type ImageBuilderJob struct {
	JobId     *string
	State     *string // RUNNING, SUCCEEDED or FAILED
	StepIndex *int32  // of the step that is being done or was the last, from 0
	Output    *string // the end of what that step has written, at most 16 KiB
	Problem   *string // why the job has failed
	StartTime *time.Time
	EndTime   *time.Time
}

// The states of a job.
const (
	JobRunning   = "RUNNING"
	JobSucceeded = "SUCCEEDED"
	JobFailed    = "FAILED"
)

// StopImageBuilderJobInput ends a job with all its processes; one that has ended is forgotten.
type StopImageBuilderJobInput struct {
	ImageBuilderName *string
	JobId            *string
}

// StopImageBuilderJobOutput is empty.
type StopImageBuilderJobOutput struct{}

// PutImageBuilderFileInput sends a piece of a file that root shall have on a running image builder. What is not a piece is the same in every call of
// a file.
type PutImageBuilderFileInput struct {
	ImageBuilderName *string
	Path             *string // required: where the file shall be, absolute
	Mode             *string // octal; default 644
	SizeInBytes      *int64  // required: of the whole file, at most 16 GiB
	Sha256           *string // required: of the whole file, in hexadecimal digits
	Offset           *int64  // where the piece begins; default 0, which begins the file anew
	Data             []byte  // the piece; one without data changes nothing
}

// PutImageBuilderFileOutput tells how much has arrived.
type PutImageBuilderFileOutput struct {
	ReceivedBytes *int64 // where the next piece begins. Another number than expected: continue there
	Complete      *bool  // the file is at its path; before, nothing is
}

// StartImageBuilderJob starts a job. There is one at a time.
func (s *Service) StartImageBuilderJob(ctx context.Context, in *StartImageBuilderJobInput) (*StartImageBuilderJobOutput, error) {
	id := valueOr(in.JobId, newID("job-"))
	job := agentapi.Job{Environment: in.Environment}
	for _, step := range in.Steps {
		job.Steps = append(job.Steps, agentapi.JobStep{Name: value(step.Name), Command: value(step.Command), Launch: value(step.Application),
			Seconds: int(value(step.TimeoutInSeconds))})
	}
	if err := job.Check(); err != nil {
		return nil, appstream.Errorf(appstream.InvalidParameterValue, "Steps: %s.", err)
	}
	err := s.onBuilder(ctx, "StartImageBuilderJob", value(in.ImageBuilderName), true, func(agent *agentapi.Client) error { return agent.BeginJob(ctx, id, job) })
	if err != nil {
		return nil, err
	}
	s.noteJob(ctx, value(in.ImageBuilderName), func(b *appstream.ImageBuilder) bool { return b.JobBegun(id, len(in.Steps)) })
	return &StartImageBuilderJobOutput{JobId: &id}, nil
}

// DescribeImageBuilderJob tells how far a job is. Machines that are simulated have done every job at once.
func (s *Service) DescribeImageBuilderJob(ctx context.Context, in *DescribeImageBuilderJobInput) (*DescribeImageBuilderJobOutput, error) {
	status := agentapi.JobStatus{State: agentapi.JobSucceeded}
	err := s.onBuilder(ctx, "DescribeImageBuilderJob", value(in.ImageBuilderName), false, func(agent *agentapi.Client) (err error) {
		status, err = agent.Job(ctx, value(in.JobId), time.Duration(value(in.WaitInSeconds))*time.Second)
		return err
	})
	if errors.Is(err, agentapi.ErrNoJob) {
		return nil, appstream.Errorf(appstream.ResourceNotFound, "The image builder %s has no job %s: it was never started there, or the image builder has started again since.",
			value(in.ImageBuilderName), value(in.JobId))
	}
	if err != nil {
		return nil, err
	}
	if status.State != agentapi.JobRunning { // the engine looks too, but perhaps not before the image builder is stopped
		s.noteJob(ctx, value(in.ImageBuilderName), func(b *appstream.ImageBuilder) bool {
			return b.JobFollowed(value(in.JobId), appstream.JobStatus{Answers: true, Known: true, Ended: true, Step: status.Step, Problem: status.Problem})
		})
	}
	job := &ImageBuilderJob{JobId: in.JobId, State: new(JobRunning), StepIndex: new(int32(status.Step)), Output: appstream.Optional(status.Output)}
	switch status.State {
	case agentapi.JobSucceeded:
		job.State = new(JobSucceeded)
	case agentapi.JobFailed:
		job.State, job.Problem = new(JobFailed), new(or(status.Problem, "The job failed."))
	}
	for _, t := range []struct {
		member **time.Time
		at     time.Time
	}{{&job.StartTime, status.StartedAt}, {&job.EndTime, status.EndedAt}} {
		if !t.at.IsZero() {
			*t.member = &t.at
		}
	}
	return &DescribeImageBuilderJobOutput{Job: job}, nil
}

// StopImageBuilderJob ends a job. One that the image builder does not know is no error.
func (s *Service) StopImageBuilderJob(ctx context.Context, in *StopImageBuilderJobInput) (*StopImageBuilderJobOutput, error) {
	end := func(b *appstream.ImageBuilder) bool { return b.JobEnded(value(in.JobId)) }
	err := s.onBuilder(ctx, "StopImageBuilderJob", value(in.ImageBuilderName), true, func(agent *agentapi.Client) error {
		s.noteJob(ctx, value(in.ImageBuilderName), end) // before: else the engine may find that the job is gone, and not know why
		return agent.EndJob(ctx, value(in.JobId))
	})
	if err != nil {
		return nil, err
	}
	s.noteJob(ctx, value(in.ImageBuilderName), end) // of a machine that is simulated
	return &StopImageBuilderJobOutput{}, nil
}

// PutImageBuilderFile takes a piece of a file. The audit log has a line for each file that begins to arrive, not for every piece.
func (s *Service) PutImageBuilderFile(ctx context.Context, in *PutImageBuilderFileInput) (*PutImageBuilderFileOutput, error) {
	mode, err := strconv.ParseUint(valueOr(in.Mode, "644"), 8, 32)
	f := agentapi.PutFile{Path: value(in.Path), Mode: uint32(mode), Size: value(in.SizeInBytes), SHA256: value(in.Sha256)}
	if err = errors.Join(err, f.Check()); err != nil {
		return nil, appstream.Errorf(appstream.InvalidParameterValue, "The file is not possible: %s.", err)
	}
	offset := value(in.Offset)
	if left := f.Size - offset; offset < 0 || left < 0 || int64(len(in.Data)) > left {
		return nil, appstream.Errorf(appstream.InvalidParameterValue, "Data has %d bytes from Offset %d on, beyond SizeInBytes %d.", len(in.Data), offset, f.Size)
	}
	end := offset + int64(len(in.Data))
	status := agentapi.PutStatus{Received: end, Complete: end == f.Size} // of a machine that is simulated
	begins := offset == 0 && (len(in.Data) > 0 || f.Size == 0)
	err = s.onBuilder(ctx, "PutImageBuilderFile", value(in.ImageBuilderName), begins, func(agent *agentapi.Client) (err error) {
		status, err = agent.PutFile(ctx, f, offset, in.Data)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &PutImageBuilderFileOutput{ReceivedBytes: &status.Received, Complete: &status.Complete}, nil
}

// onBuilder calls the agent of a running image builder of the caller, with a line in the audit log before if it shall. Machines that are simulated
// have no agent, and nothing is done there.
func (s *Service) onBuilder(ctx context.Context, operation, name string, audited bool, call func(*agentapi.Client) error) error {
	k := key(appstream.CallerFrom(ctx), appstream.NounImageBuilder, name)
	var b appstream.ImageBuilder
	check := func(tx store.Tx) error {
		if err := get(tx, k, &b); err != nil {
			return err
		}
		// Software waits for the end of a client's job. Its own jobs have names that no client can say.
		ends := operation == "StopImageBuilderJob" && b.State == appstream.BuilderSyncingApps
		if b.State != appstream.BuilderRunning && !ends {
			return inState(appstream.OperationNotPermitted, b.Key, b.State, "a RUNNING")
		}
		return nil
	}
	var err error
	if audited {
		err = s.change(ctx, "oriel:"+operation, k, func(tx store.Tx, _ time.Time) error { return check(tx) })
	} else {
		err = s.cfg.Store.View(ctx, check)
	}
	if err != nil || s.cfg.Agents == nil {
		return err
	}
	agent := s.cfg.Agents(b.ID)
	defer agent.Close()
	err = call(agent)
	refusal, refused := errors.AsType[*agentapi.CallError](err)
	switch {
	case err == nil || errors.Is(err, agentapi.ErrNoJob) || ctx.Err() != nil:
		return err
	case refused && refusal.Status == http.StatusNotFound:
		return appstream.Errorf(appstream.OperationNotPermitted, "The agent of the image builder %s is too old for this. Stop the image builder, and start it with a newer one.", name)
	case refused && refusal.Status == http.StatusConflict:
		return appstream.Errorf(appstream.ResourceInUse, "The image builder %s is at another job. Wait until it has ended, or stop it.", name)
	case refused && refusal.Status/100 == 4 || refused && refusal.Status == http.StatusInsufficientStorage:
		return appstream.Errorf(appstream.OperationNotPermitted, "The image builder %s refuses it: %s.", name, printable(refusal.Message))
	}
	return &appstream.Error{Kind: appstream.Unavailable, Cause: err,
		Message: "The agent of the image builder " + name + " does not answer. Try again, or restart the image builder."}
}

// noteJob writes what change notes on an image builder of the caller, with the events that are steps of its work, if that is news. What the image builder does
// has happened already, so that a failure to note it is no failure of the operation.
func (s *Service) noteJob(ctx context.Context, name string, change func(*appstream.ImageBuilder) bool) {
	k := key(appstream.CallerFrom(ctx), appstream.NounImageBuilder, name)
	var b appstream.ImageBuilder
	err := s.cfg.Store.View(ctx, func(tx store.Tx) error { return get(tx, k, &b) })
	if err == nil && !change(&b) {
		return
	}
	if err == nil {
		err = s.cfg.Store.Update(context.WithoutCancel(ctx), func(tx store.Tx) error {
			if err := get(tx, k, &b); err != nil {
				return err
			}
			before, now := b, time.Now().UTC()
			if !change(&b) {
				return nil
			}
			if b.ClientJob.Running() {
				b.Due = now // the engine follows it
			}
			if err := addSteps(tx, b.Steps(before), now); err != nil {
				return err
			}
			return tx.Put(&b)
		})
	}
	if err != nil {
		s.cfg.Log.Warn("cannot note how far a job is", "name", name, "err", err)
	}
}

// printable makes what an agent says fit for a message.
func printable(s string) string {
	text := strconv.Quote(s)
	return text[1 : len(text)-1]
}
