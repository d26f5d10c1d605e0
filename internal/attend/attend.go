// Package attend keeps a line to the agent of every running machine. Over it comes what those inside a builder ask for
// (the Image Assistant's create-image, or create-package), and its end tells at once that a machine is in trouble. It also carries what the
// engine asks of agents: whether one is ready, and that a session begins or ends.
package attend

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/oriel-project/oriel/internal/agentapi"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/compute"
	"github.com/oriel-project/oriel/internal/service"
	"github.com/oriel-project/oriel/internal/store"
)

const (
	askWait    = 25 * time.Second       // how long an agent holds the question for the next request open
	retryFirst = 100 * time.Millisecond // after the first call that an agent did not answer; doubles
	retryMost  = 10 * time.Second
	endWait    = 3 * time.Second // for a session to end; it goes on ending afterwards
)

// Agents reaches the agents in a provider's machines.
type Agents struct{ Dialer compute.Dialer }

// Client gives a client for the agent of a machine. Its user closes it.
func (a Agents) Client(id string) *agentapi.Client {
	return agentapi.NewClient(func(ctx context.Context) (net.Conn, error) { return a.Dialer.Dial(ctx, id) })
}

// Status asks the agent of a machine; see reconcile.Agents.
func (a Agents) Status(ctx context.Context, id string, wait time.Duration) appstream.Agent {
	client := a.Client(id)
	defer client.Close()
	status, err := client.WaitReady(ctx, wait)
	if err != nil {
		return appstream.Agent{Problem: "its agent does not answer: " + err.Error()}
	}
	agent := appstream.Agent{Answers: true, Ready: status.Ready, Version: status.Version, Problem: status.Problem}
	if agent.Problem == "" {
		agent.Problem = status.LastDisplayError
	}
	return agent
}

// Seat asks the agent of an instance for a session; see reconcile.Agents.
func (a Agents) Seat(ctx context.Context, instance, session string, wait time.Duration) appstream.SeatStatus {
	client := a.Client(instance)
	defer client.Close()
	status, err := client.Session(session).WaitReady(ctx, wait)
	switch {
	case errors.Is(err, agentapi.ErrNoSession):
		return appstream.SeatStatus{Answers: true}
	case err != nil:
		return appstream.SeatStatus{Problem: "its agent does not answer: " + err.Error()}
	}
	return appstream.SeatStatus{Answers: true, Known: true, Ready: status.Ready, Problem: text(status.Problem), Notes: notes(status.Scripts)}
}

// Bounds of what is kept of an agent's words: they come from inside an instance.
const (
	maxNotes = 5
	maxText  = 300 // bytes
)

func notes(lines []string) []string {
	var list []string
	for _, line := range lines[:min(len(lines), maxNotes)] {
		list = append(list, text(line))
	}
	return list
}

// text makes what an agent says fit to be kept and shown: a bounded length, and nothing but text.
func text(s string) string {
	s = strings.ToValidUTF8(s[:min(len(s), maxText)], "")
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}

// Begin begins a session on an instance; see reconcile.Agents.
func (a Agents) Begin(ctx context.Context, instance string, seat appstream.Seat) error {
	client := a.Client(instance)
	defer client.Close()
	return client.Session(seat.Session).Begin(ctx, agentapi.Session{ID: seat.Session, UserID: seat.UserID, Stack: seat.Stack, AccessMode: appstream.AccessMode(seat.AuthType),
		View: agentapi.View(seat.View), Application: seat.Application, Context: seat.Context, Locale: seat.Locale, Reserved: seat.Reserved, Print: seat.Print})
}

// ScriptLogs asks the agent of an instance what the scripts of a session have written; see reconcile.Agents.
func (a Agents) ScriptLogs(ctx context.Context, instance, session string) (list []appstream.ScriptLog, err error) {
	client := a.Client(instance)
	defer client.Close()
	logs, err := client.Session(session).ScriptLogs(ctx)
	for _, l := range logs {
		list = append(list, appstream.ScriptLog{Event: l.Event, Number: l.Number, Text: l.Text})
	}
	return list, err
}

// End ends a session on an instance; see reconcile.Agents. Its scripts may take a minute, and nobody waits that long for one answer.
func (a Agents) End(ctx context.Context, instance, session string) error {
	client := a.Client(instance)
	defer client.Close()
	limited, cancel := context.WithTimeout(ctx, endWait)
	defer cancel()
	err := client.Session(session).End(limited)
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		return nil
	}
	return err
}

// Job asks the agent of a machine for a job; see reconcile.Agents.
func (a Agents) Job(ctx context.Context, machine, job string, wait time.Duration) appstream.JobStatus {
	client := a.Client(machine)
	defer client.Close()
	status, err := client.Job(ctx, job, wait)
	switch {
	case errors.Is(err, agentapi.ErrNoJob):
		return appstream.JobStatus{Answers: true}
	case err != nil:
		return appstream.JobStatus{}
	}
	s := appstream.JobStatus{Answers: true, Known: true, Step: status.Step, Output: status.Output}
	switch status.State {
	case agentapi.JobSucceeded:
		s.Ended = true
	case agentapi.JobFailed:
		s.Ended, s.Problem = true, cmp.Or(text(status.Problem), "The job failed.")
	}
	return s
}

// BeginJob begins a job on a machine; see reconcile.Agents.
func (a Agents) BeginJob(ctx context.Context, machine string, job appstream.Job) error {
	client := a.Client(machine)
	defer client.Close()
	steps := make([]agentapi.JobStep, len(job.Steps))
	for n, s := range job.Steps {
		steps[n] = agentapi.JobStep{Name: s.Name, Command: s.Command, Launch: s.Launch, Seconds: int((s.Time + time.Second - 1) / time.Second)}
	}
	return client.BeginJob(ctx, job.ID, agentapi.Job{Steps: steps})
}

// PutFile has a machine have a file; see reconcile.Agents. The content is read twice: the agent is told its digest first.
func (a Agents) PutFile(ctx context.Context, machine, path string, mode uint32, size int64, open func(context.Context) (io.ReadCloser, error)) error {
	digest := sha256.New()
	if err := read(ctx, open, func(r io.Reader) error {
		n, err := io.Copy(digest, r)
		if err == nil && n != size {
			err = fmt.Errorf("it has %d bytes and not %d", n, size)
		}
		return err
	}); err != nil {
		return err
	}
	f := agentapi.PutFile{Path: path, Mode: mode, Size: size, SHA256: hex.EncodeToString(digest.Sum(nil))}
	if err := f.Check(); err != nil {
		return &compute.Fault{Message: "the file " + path + " cannot be put on a machine: " + err.Error(), Cause: err}
	}
	client := a.Client(machine)
	defer client.Close()
	return read(ctx, open, func(r io.Reader) error {
		piece := make([]byte, agentapi.MaxPiece)
		for offset := int64(0); ; {
			n, err := io.ReadFull(r, piece)
			if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
				return err
			}
			status, err := client.PutFile(ctx, f, offset, piece[:n])
			if e, ok := errors.AsType[*agentapi.CallError](err); ok && e.Status == http.StatusInsufficientStorage {
				return &compute.Fault{Message: "the machine's disk is full. Give the fleet a greater RootVolumeConfig", Cause: err}
			}
			offset += int64(n)
			switch {
			case err != nil:
				return err
			case status.Complete:
				return nil
			case status.Received != offset || n == 0:
				return fmt.Errorf("the machine has %d bytes of the file %s, after %d were sent", status.Received, path, offset)
			}
		}
	})
}

// read has fn read what open opens.
func read(ctx context.Context, open func(context.Context) (io.ReadCloser, error), fn func(io.Reader) error) error {
	r, err := open(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	return fn(r)
}

// Creator makes images and packages; *service.Service is one.
type Creator interface {
	CreateImage(context.Context, *service.CreateImageInput) (*service.CreateImageOutput, error)
	CreateAppBlockPackage(context.Context, *service.CreateAppBlockPackageInput) (*service.CreateAppBlockPackageOutput, error)
}

// Attendant attends to the agents. All fields are required.
type Attendant struct {
	Store    store.Store
	Agents   Agents
	Builders Creator
	Log      *slog.Logger
}

// attended says in which states the machine of a record has an agent that should answer.
var attended = map[appstream.Noun][]string{
	appstream.NounImageBuilder:    {appstream.BuilderRunning},
	appstream.NounAppBlockBuilder: {appstream.AppBlockBuilderRunning},
	appstream.NounInstance:        {appstream.InstanceAvailable, appstream.InstanceInUse, appstream.InstanceDraining},
}

// Run attends to every machine that runs, until ctx ends.
func (a *Attendant) Run(ctx context.Context) error {
	changes := a.Store.Watch(ctx)
	lines := map[string]context.CancelFunc{} // by record ID
	var wg sync.WaitGroup
	defer wg.Wait()

	tend := func(k appstream.Key, id, state string) {
		hangUp, have := lines[id]
		switch running := slices.Contains(attended[k.Noun], state); {
		case running && !have:
			line, cancel := context.WithCancel(ctx)
			lines[id] = cancel
			wg.Go(func() { a.hold(line, k, id) })
		case !running && have:
			hangUp()
			delete(lines, id)
		}
	}
	all := func() bool {
		seen := map[string]bool{}
		err := a.Store.View(ctx, func(tx store.Tx) error {
			for noun, states := range attended {
				err := tx.Scan(store.Query{Noun: noun, States: states, Heads: true}, func(head appstream.Meta, _ func(appstream.Record) error) error {
					seen[head.ID] = true
					tend(head.Key, head.ID, head.State)
					return nil
				})
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			a.Log.Error("cannot look for running machines", "err", err)
			return false
		}
		for id := range lines {
			if !seen[id] {
				tend(appstream.Key{}, id, "")
			}
		}
		return true
	}
	look := func() {
		for !all() {
			select {
			case <-ctx.Done():
				return
			case <-time.After(retryMost):
			}
		}
	}
	look()
	for c := range changes {
		switch {
		case c.Lagged:
			look()
		case c.Removed:
			tend(c.Key, c.ID, "")
		case attended[c.Noun] != nil:
			tend(c.Key, c.ID, c.State)
		}
	}
	return nil
}

// hold asks one agent for requests, one after the other. When the agent does not answer, the engine is told to look at the
// machine.
func (a *Attendant) hold(ctx context.Context, k appstream.Key, id string) {
	client := a.Agents.Client(id)
	defer client.Close()
	retry := retryFirst
	for ctx.Err() == nil {
		request, err := client.NextRequest(ctx, askWait)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			err := a.Store.Update(ctx, func(tx store.Tx) error { return tx.Wake(k, time.Now()) })
			if err != nil && ctx.Err() == nil {
				a.Log.Error("cannot wake the record of a silent agent", "noun", k.Noun, "name", k.Name, "err", err)
			}
			select {
			case <-ctx.Done():
			case <-time.After(retry):
			}
			retry = min(2*retry, retryMost)
			continue
		}
		retry = retryFirst
		if request == nil {
			continue
		}
		answer, answered := a.serve(ctx, k, id, request)
		if !answered {
			continue
		}
		// What was asked for ends this line: the answer must get through all the same.
		send, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		if err := client.Answer(send, request.ID, answer); err != nil {
			a.Log.Warn("the answer did not reach the builder", "noun", k.Noun, "name", k.Name, "err", err)
		}
		cancel()
	}
}

// serve does what somebody on a builder asks for; false for what needs no answer.
func (a *Attendant) serve(ctx context.Context, k appstream.Key, id string, request *agentapi.Request) (agentapi.Answer, bool) {
	image, pack := request.CreateImage != nil, request.Kind == agentapi.KindCreatePackage
	switch {
	case image && k.Noun == appstream.NounImageBuilder:
		return a.createImage(ctx, k, id, request.CreateImage), true
	case pack && k.Noun == appstream.NounAppBlockBuilder:
		return a.createPackage(ctx, k, id), true
	case image && k.Noun == appstream.NounAppBlockBuilder:
		return agentapi.Answer{ErrorKind: agentapi.ErrorInvalid, Message: "This is an app block builder, of which packages are made: AppStreamImageAssistant create-package"}, true
	case pack && k.Noun == appstream.NounImageBuilder:
		return agentapi.Answer{ErrorKind: agentapi.ErrorInvalid, Message: "This is an image builder, of which images are made: AppStreamImageAssistant create-image"}, true
	}
	return agentapi.Answer{}, false
}

// administrator is the caller who is at a builder: whoever is there is its administrator.
func administrator(ctx context.Context, k appstream.Key, id string) context.Context {
	return appstream.WithCaller(context.WithoutCancel(ctx), appstream.Caller{
		Account: k.Account, Region: k.Region, Principal: k.ARN() + "/ImageBuilderAdmin", RequestID: id})
}

// createPackage does what create-package on an app block builder asks for.
func (a *Attendant) createPackage(ctx context.Context, k appstream.Key, id string) agentapi.Answer {
	_, err := a.Builders.CreateAppBlockPackage(administrator(ctx, k, id), &service.CreateAppBlockPackageInput{AppBlockBuilderName: &k.Name})
	return a.answer("create-package", k, err)
}

// createImage does what the Image Assistant on a builder asks for.
func (a *Attendant) createImage(ctx context.Context, k appstream.Key, id string, want *agentapi.CreateImage) agentapi.Answer {
	_, err := a.Builders.CreateImage(administrator(ctx, k, id), &service.CreateImageInput{
		ImageBuilderName:        &k.Name,
		Name:                    &want.Name,
		DisplayName:             appstream.Optional(want.DisplayName),
		Description:             appstream.Optional(want.Description),
		Tags:                    want.Tags,
		UseLatestAgentVersion:   &want.UseLatestAgentVersion,
		EnableDynamicAppCatalog: &want.EnableDynamicAppCatalog,
		DryRun:                  &want.DryRun,
	})
	return a.answer("create-image", k, err)
}

// answer tells somebody on a builder what came of what he has asked for.
func (a *Attendant) answer(what string, k appstream.Key, err error) agentapi.Answer {
	if err == nil {
		return agentapi.Answer{}
	}
	answer := agentapi.Answer{ErrorKind: agentapi.ErrorInvalid}
	if e, ok := errors.AsType[*appstream.Error](err); ok {
		answer.Message = e.Message
	}
	switch appstream.KindOf(err) {
	case appstream.ResourceAlreadyExists:
		answer.ErrorKind = agentapi.ErrorAlreadyExists
	case appstream.Internal, appstream.Unavailable:
		a.Log.Error(what+" from inside failed", "name", k.Name, "err", err)
		answer = agentapi.Answer{ErrorKind: agentapi.ErrorInternal, Message: "The server could not do it. Try again; its log says why."}
	}
	return answer
}
