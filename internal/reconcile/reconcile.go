// Package reconcile is the engine that carries records from state to state. A pass over one record is: claim it with a
// lease, take a snapshot of the world, let the noun's pure Plan decide, do the actions, commit. A crash anywhere repeats
// the pass, which decides the same again, because actions are idempotent and the commit is refused when the record was
// changed meanwhile.
package reconcile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/compute"
	"github.com/oriel-project/oriel/internal/objects"
	"github.com/oriel-project/oriel/internal/store"
)

const (
	// passTime is how long a pass may take: a capture is the longest action.
	passTime = 2 * time.Hour
	// leaseTime is how long a record is a pass's own. The pass is cancelled before it ends.
	leaseTime = passTime + time.Minute
	// askTime is how long the provider may take to answer a question.
	askTime = 30 * time.Second
	// agentWait is how long one pass waits for a starting agent to become ready before it commits and looks again.
	agentWait = 5 * time.Second
	// jobWait is how long one pass waits for the end of a job before it commits how far it is. A job that somebody gives up is looked at again no later.
	jobWait = time.Second
	// sweepEvery is how often machines and images are compared with the records.
	sweepEvery = 20 * time.Second
)

// Config is what the engine works with. Store, Provider and Log are required.
type Config struct {
	Store    store.Store
	Provider compute.Provider
	Archives Archives // nil: images cannot be exported or imported
	Objects  Objects  // nil: usage reports and packages cannot be written, and Elastic fleets have no packages
	Post     Post     // nil: no mails are sent
	Agents   Agents   // nil when the provider's machines have no agents: they are ready as soon as they run
	// Catalogue reads the catalogue of a running machine, and keeps the icons. Nil: images keep the catalogue that they were given.
	Catalogue func(ctx context.Context, machine string, platform types.PlatformType) (appstream.Catalogue, error)
	Sizes     map[string]appstream.InstanceType
	Software  map[string]appstream.Software // what can be installed on image builders
	Regions   []string                      // where public images are offered
	Retention Retention                     // of the logs
	Workers   int                           // how many passes at a time, beside those that wait for an agent; default 32
	Log       *slog.Logger

	// Observe is told about every pass: the noun, what came of it ("ok", "conflict" when the record changed meanwhile, "error") and how long it took. May be nil.
	Observe func(noun appstream.Noun, outcome string, d time.Duration)
}

// Retention says how long the lines of the logs are kept. Zero is for ever, save that there are never more than maxEvents events.
type Retention struct{ Events, Audit time.Duration }

// Archives keeps images as archives.
type Archives interface {
	// Save keeps what write writes, whole or not at all. It does nothing when the archive is there.
	Save(ctx context.Context, name string, write func(io.Writer) error) error
	// Read gives read an archive, which can be read as long as ctx lasts and read has not returned. Errors: fs.ErrNotExist; that of read.
	Read(ctx context.Context, name string, read func(*io.SectionReader) error) error
	// Remove removes an archive. One that is not there is no error.
	Remove(ctx context.Context, name string) error
}

// Objects keeps what S3 locations name (internal/objects).
type Objects interface {
	// Open opens an object to be read as it is at this moment, and Stat tells of one. Errors: objects.ErrNotFound.
	Open(ctx context.Context, at objects.Location) (io.ReadCloser, objects.Info, error)
	Stat(ctx context.Context, at objects.Location) (objects.Info, error)
	// Put keeps what r has as an object, whole or not at all.
	Put(ctx context.Context, at objects.Location, r io.Reader) error
	// Remove removes an object. One that is not there is no error.
	Remove(ctx context.Context, at objects.Location) error
}

// Post sends letters to users.
type Post interface {
	// Deliver sends a letter. An error that is a *compute.Fault is lasting; one that has a method Pause says how long to wait after a number of tries.
	Deliver(ctx context.Context, l appstream.Letter) error
}

// Agents reaches the agents inside machines.
type Agents interface {
	// Status asks the agent of a machine. It returns as soon as the agent is ready, or after wait. An agent that does not
	// answer is not an error: Answers is false.
	Status(ctx context.Context, id string, wait time.Duration) appstream.Agent

	// Seat asks the agent of a fleet's instance for a session, in the same way: it returns as soon as the session's desktop is there, or
	// after wait, or at once when the session is not on the instance.
	Seat(ctx context.Context, instance, session string, wait time.Duration) appstream.SeatStatus
	// Begin begins a session on an instance. One that is there goes on.
	Begin(ctx context.Context, instance string, seat appstream.Seat) error
	// End has a session end on its instance, with its scripts and everything that it would leave behind. It may return while that goes on:
	// the session is then still there. One that is not is no error, and cannot begin there any more.
	End(ctx context.Context, instance, session string) error
	// ScriptLogs asks the agent of an instance what the scripts of a session have written, which may be over.
	ScriptLogs(ctx context.Context, instance, session string) ([]appstream.ScriptLog, error)

	// Job asks the agent of a machine for a job. It returns as soon as the job is over, or after wait.
	Job(ctx context.Context, machine, job string, wait time.Duration) appstream.JobStatus
	// BeginJob begins a job on a machine. One that the machine knows is left as it is.
	BeginJob(ctx context.Context, machine string, job appstream.Job) error

	// PutFile has a machine have a file of root's. open is called more than once, and must open the same content. An error that is a *compute.Fault is lasting.
	PutFile(ctx context.Context, machine, path string, mode uint32, size int64, open func(context.Context) (io.ReadCloser, error)) error
}

// Engine is the running engine. Make it with New.
type Engine struct {
	Config
	nouns map[appstream.Noun]func(context.Context, appstream.Meta) error

	slots chan struct{} // holds one for each pass that works
	done  chan struct{} // says that there is a free slot again; one word is enough for many

	sweeping sync.Mutex // one sweep at a time
	trim     time.Time  // when the logs are trimmed next; under sweeping
	swept    *sight     // of the last sweep, if it left nothing to be done; under sweeping

	mu     sync.Mutex
	passes map[string]pass     // by record ID
	seen   map[string]measured // by record ID of an Elastic fleet that runs
}

// pass is a pass under way.
type pass struct {
	head   appstream.Meta // as claimed
	cancel context.CancelCauseFunc
}

var (
	// errOvertaken cancels a pass whose record someone has moved to another state.
	errOvertaken = errors.New("the record was changed during the pass")
	// errTooLong cancels a pass that has taken passTime.
	errTooLong = fmt.Errorf("not done within %s", passTime)
)

// New makes an engine; Run starts it.
func New(cfg Config) *Engine {
	if cfg.Workers <= 0 {
		cfg.Workers = 32
	}
	if cfg.Observe == nil {
		cfg.Observe = func(appstream.Noun, string, time.Duration) {}
	}
	e := &Engine{Config: cfg, slots: make(chan struct{}, cfg.Workers), done: make(chan struct{}, 1), passes: map[string]pass{}, seen: map[string]measured{}}
	e.nouns = map[appstream.Noun]func(context.Context, appstream.Meta) error{
		appstream.NounImageBuilder:    e.passImageBuilder,
		appstream.NounImage:           e.passImage,
		appstream.NounAppBlockBuilder: e.passAppBlockBuilder,
		appstream.NounExportTask:      e.passExport,
		appstream.NounFleet:           e.passFleet,
		appstream.NounInstance:        e.passInstance,
		appstream.NounSession:         e.passSession,
		appstream.NounComposition:     e.passComposition,
		appstream.NounUsageReports:    e.passUsageReports,
		appstream.NounUsageRecord:     e.passUsageRecord,
		appstream.NounLicenseUsage:    e.passLicenseUsage,
		appstream.NounLetter:          e.passLetter,
	}
	return e
}

// Run works until ctx ends, and returns when no pass is under way any more. Machines stay as they are.
func (e *Engine) Run(ctx context.Context) error {
	changes := e.Store.Watch(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { e.sweepLoop(ctx) })

	for ctx.Err() == nil {
		next := e.dispatch(ctx, &wg)
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-e.done:
		case c, ok := <-changes:
			if !ok { // the store was closed: nothing more will come
				changes = nil
				break
			}
			lagged := e.overtake(c)
			drain(changes, func(c store.Change) { lagged = e.overtake(c) || lagged })
			if lagged {
				e.catchUp(ctx)
			}
		}
		timer.Stop()
	}
	return nil
}

// dispatch starts a pass for every due record that there is a slot for, and tells how long to wait for the next.
func (e *Engine) dispatch(ctx context.Context, wg *sync.WaitGroup) time.Duration {
	free := cap(e.slots) - len(e.slots)
	if free == 0 {
		return time.Hour // a finished pass wakes the loop
	}
	now := time.Now()
	due, err := e.Store.NextDue(ctx)
	if err == nil && !due.IsZero() && !due.After(now) { // a claim is a write: not for nothing
		var heads []appstream.Meta
		if heads, err = e.Store.Claim(ctx, now, now.Add(leaseTime), free); err == nil {
			for _, head := range heads {
				e.slots <- struct{}{}
				wg.Go(func() {
					e.run(ctx, head)
					e.leave()
				})
			}
			due, err = e.Store.NextDue(ctx)
		}
	}
	switch {
	case err != nil:
		if ctx.Err() == nil {
			e.Log.Error("cannot claim due records", "err", err)
		}
		return time.Second
	case due.IsZero():
		return time.Hour
	}
	return max(0, time.Until(due))
}

// leave gives a pass's slot to another.
func (e *Engine) leave() {
	<-e.slots
	select {
	case e.done <- struct{}{}:
	default:
	}
}

// aside has a pass wait without a slot: machines that are slow to start do not keep others' passes from their work.
func (e *Engine) aside(wait func()) {
	e.leave()
	wait()
	e.slots <- struct{}{}
}

// run makes one pass under the record's lease.
func (e *Engine) run(ctx context.Context, head appstream.Meta) {
	start := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, passTime, errTooLong)
	defer cancel()
	ctx, overtaken := context.WithCancelCause(ctx)
	defer overtaken(nil)
	e.mu.Lock()
	e.passes[head.ID] = pass{head, overtaken}
	e.mu.Unlock()

	err := fmt.Errorf("no pass for the noun %q", head.Noun)
	if pass, ok := e.nouns[head.Noun]; ok {
		err = pass(ctx, head)
	}

	e.mu.Lock()
	delete(e.passes, head.ID)
	e.mu.Unlock()
	outcome := "ok"
	switch {
	case err == nil:
	case errors.Is(err, store.ErrConflict), errors.Is(err, store.ErrNotFound), ctx.Err() != nil:
		outcome = "conflict" // the record is still due, or whoever wrote it has said when it is
	default:
		outcome = "error"
		e.Log.Error("pass failed", "noun", head.Noun, "name", head.Name, "state", head.State, "err", err)
		select { // the record is still due: do not try again at once
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
	ctx = context.WithoutCancel(ctx) // the release must not be lost to a shutdown or to an overtaking
	if err := e.Store.Release(ctx, head.ID); err != nil {
		e.Log.Error("cannot release a record", "noun", head.Noun, "name", head.Name, "err", err)
	}
	e.Observe(head.Noun, outcome, time.Since(start))
}

// overtake cancels the pass over a record that someone has just moved to another state, so that Delete need not wait for it. Other
// writes, tags for example, leave the pass alone: its commit is refused, and the next pass finds what it did. Of a package that is being
// written, the next pass would find nothing; StopAppBlockBuilder gives one up in the state that the builder is in already.
// It tells whether there were changes that it has not seen.
func (e *Engine) overtake(c store.Change) (lagged bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if p, ok := e.passes[c.ID]; ok && c.Version > p.head.Version && (c.Removed || c.State != p.head.State || c.Noun == appstream.NounAppBlockBuilder) {
		p.cancel(errOvertaken)
	}
	return c.Lagged
}

// catchUp looks for what overtake was not told, as there was too much of it: how the records of the passes under way are now.
func (e *Engine) catchUp(ctx context.Context) {
	e.mu.Lock()
	heads := make([]appstream.Meta, 0, len(e.passes))
	for _, p := range e.passes {
		heads = append(heads, p.head)
	}
	e.mu.Unlock()
	err := e.Store.View(ctx, func(tx store.Tx) error {
		for _, head := range heads {
			now := store.Change{ID: head.ID, Version: head.Version + 1, Removed: true}
			// Of all names that begin with one, that one comes first.
			q := store.Query{Noun: head.Noun, Region: head.Region, Accounts: []string{head.Account}, Prefix: head.Name, Heads: true, Limit: 1}
			err := tx.Scan(q, func(h appstream.Meta, _ func(appstream.Record) error) error {
				if h.ID == head.ID {
					now = store.Change{Key: h.Key, ID: h.ID, Version: h.Version, State: h.State}
				}
				return nil
			})
			if err != nil {
				return err
			}
			e.overtake(now)
		}
		return nil
	})
	if err != nil && ctx.Err() == nil {
		e.Log.Error("cannot look whether records were changed during their passes", "err", err)
	}
}

// drain handles what is in a channel already, so that a burst of changes costs one look into the store.
func drain(changes <-chan store.Change, handle func(store.Change)) {
	for {
		select {
		case c, ok := <-changes:
			if !ok {
				return
			}
			handle(c)
		default:
			return
		}
	}
}
