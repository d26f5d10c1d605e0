// Package service is what the operations do: one method for each operation of the API, one file for each noun. An
// operation checks, then writes what is wanted in one transaction with the audit line, and returns; the engine
// (internal/reconcile) hears of the commit and does the rest. Operations read their caller from the context.
package service

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/oriel-project/oriel/internal/agentapi"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/blob"
	"github.com/oriel-project/oriel/internal/lockout"
	"github.com/oriel-project/oriel/internal/objects"
	"github.com/oriel-project/oriel/internal/password"
	"github.com/oriel-project/oriel/internal/seal"
	"github.com/oriel-project/oriel/internal/store"
	"github.com/oriel-project/oriel/internal/ticket"
	"uuid"
)

// Config is what the operations work with. All but Archives, Agents and Quotas are required.
type Config struct {
	Store     store.Store
	Blobs     *blob.Dir
	Objects   objects.Store // what S3 locations name
	Tickets   *ticket.Signer
	Passwords *password.Hasher // of users
	// Mail tells whether mails are sent to users.
	Mail    bool
	Secrets *seal.Box // keeps what must be read again: passwords of directories
	Sizes   map[string]appstream.InstanceType
	// Software is what can be installed on image builders, by name.
	Software map[string]appstream.Software
	// AgentVersions gives the agent versions that can be put into machines, the newest last.
	AgentVersions func() []string
	Regions       []string // where resources can be: those that an image can be copied to
	// Archives tells of the archives that images are exported to and imported from; nil when there are none.
	Archives interface {
		Count(ctx context.Context, account string) (int, error)
		Has(ctx context.Context, name string) (bool, error)
	}
	// Agents reaches the agent of a machine; nil when machines have none.
	Agents func(id string) *agentapi.Client
	Quotas Quotas
	Log    *slog.Logger
}

// Quotas limits what one account may have in one region. Zero stands for AppStream's default.
type Quotas struct {
	ImageBuilders        int // default 10
	Images               int // default 10
	ImageShares          int // accounts that one image may be shared with; default 100
	ImageExports         int // archives of exported images, in all regions; default 10
	ImageCopies          int // that are under way at a time to one region; default 2
	ImageUpdates         int // that are under way at a time; default 5
	Fleets               int // default 10
	FleetInstances       int // instances that one fleet may have; default 100
	Stacks               int // default 10
	Users                int // in the user pool; default 50
	Entitlements         int // of one stack; default 50
	EntitledApplications int // of one entitlement; default 50
	DirectoryConfigs     int // default 10
	AppBlocks            int // default 50
	AppBlockBuilders     int // default 10
	Applications         int // default 50
	FleetApplications    int // of one Elastic fleet; default 50
}

// Service has the operations.
type Service struct {
	cfg Config

	triesOf, triesFrom *lockout.Guard // attempts to sign in, by user and by address
}

// New makes the operations.
func New(cfg Config) *Service {
	q := &cfg.Quotas
	for _, d := range []struct {
		quota *int
		value int
	}{{&q.ImageBuilders, 10}, {&q.Images, 10}, {&q.ImageShares, 100}, {&q.ImageCopies, 2}, {&q.ImageUpdates, 5}, {&q.ImageExports, 10}, {&q.Fleets, 10}, {&q.FleetInstances, 100}, {&q.Stacks, 10},
		{&q.Users, 50}, {&q.Entitlements, 50}, {&q.EntitledApplications, 50}, {&q.DirectoryConfigs, 10}, {&q.AppBlocks, 50}, {&q.AppBlockBuilders, 10}, {&q.Applications, 50}, {&q.FleetApplications, 50}} {
		if *d.quota <= 0 {
			*d.quota = d.value
		}
	}
	s := &Service{cfg: cfg}
	s.triesOf, s.triesFrom = guards()
	return s
}

// latestAgent is the newest agent version that can be put into machines.
func (s *Service) latestAgent() string {
	versions := s.cfg.AgentVersions()
	return versions[len(versions)-1]
}

// change runs fn in one transaction with the operation's audit line about resource. now is the time of everything in it.
func (s *Service) change(ctx context.Context, operation string, resource appstream.Key, fn func(tx store.Tx, now time.Time) error) error {
	now := time.Now().UTC()
	err := s.cfg.Store.Update(ctx, func(tx store.Tx) error {
		if err := fn(tx, now); err != nil {
			return err
		}
		return tx.AddAudit(AuditLine(ctx, now, operation, resource.ARN(), ""))
	})
	if errors.Is(err, store.ErrConflict) {
		return appstream.Errorf(appstream.ConcurrentModification, "%s %s was changed by another request at the same time. Try again.", resource.Noun, resource.Name)
	}
	return err
}

// AuditLine makes the line of the audit log for an operation of the context's caller. operation has its IAM prefix.
func AuditLine(ctx context.Context, now time.Time, operation, resource, result string) store.Audit {
	c := appstream.CallerFrom(ctx)
	line := store.Audit{At: now, Principal: c.Principal, Operation: operation, Resource: resource, Result: result, RequestID: c.RequestID}
	if c.Source.IsValid() {
		line.Source = c.Source.String()
	}
	return line
}

// move notes a change of state that an operation makes, and wakes the engine.
func move(tx store.Tx, head *appstream.Meta, from string, now time.Time, why string) error {
	head.Due = now
	return tx.AddEvent(store.Event{At: now, ID: head.ID, Key: head.Key, From: from, To: head.State, Why: why})
}

// addSteps writes the events that are steps of long work.
func addSteps(tx store.Tx, steps []appstream.Step, now time.Time) error {
	for _, step := range steps {
		if err := tx.AddEvent(store.Event{At: now, ID: step.ID, Key: step.Key, Why: step.What}); err != nil {
			return err
		}
	}
	return nil
}

// insert adds a record, with the event that says so.
func insert(tx store.Tx, rec appstream.Record, now time.Time, why string) error {
	head := rec.Head()
	if err := tx.AddEvent(store.Event{At: now, ID: head.ID, Key: head.Key, To: head.State, Why: why}); err != nil {
		return err
	}
	return tx.Insert(rec)
}

// remove takes a record away, with the event that says so.
func remove(tx store.Tx, rec appstream.Record, now time.Time, why string) error {
	head := rec.Head()
	if err := tx.AddEvent(store.Event{At: now, ID: head.ID, Key: head.Key, From: head.State, Why: why}); err != nil {
		return err
	}
	return tx.Delete(rec)
}

// key names a resource of the caller.
func key(c appstream.Caller, noun appstream.Noun, name string) appstream.Key {
	return appstream.Key{Account: c.Account, Region: c.Region, Noun: noun, Name: name}
}

// newID makes the ID of a record: a prefix and a random part.
func newID(prefix string) string { return prefix + uuid.New().String() }

// get reads a record of the caller; ResourceNotFound when there is none.
func get(tx store.Tx, k appstream.Key, rec appstream.Record) error {
	err := tx.Get(k, rec)
	if errors.Is(err, store.ErrNotFound) {
		return notFound(k)
	}
	return err
}

func notFound(k appstream.Key) error {
	return appstream.Errorf(appstream.ResourceNotFound, "The %s %s for account %s does not exist.", spoken(k.Noun), k.Name, k.Account)
}

// inState refuses an action that needs another state, in the words that AWS uses.
func inState(kind appstream.Kind, k appstream.Key, state, needed string) error {
	return appstream.Errorf(kind, "The %s %s is %s. The %s must be in %s state for this action to succeed.",
		spoken(k.Noun), k.Name, state, spoken(k.Noun), needed)
}

// spoken is the noun as messages name it.
func spoken(n appstream.Noun) string {
	switch n {
	case appstream.NounImageBuilder:
		return "image builder"
	case appstream.NounExportTask:
		return "export image task"
	case appstream.NounDirectory:
		return "directory config"
	case appstream.NounAppBlock:
		return "app block"
	case appstream.NounAppBlockBuilder:
		return "app block builder"
	}
	return string(n)
}

func value[T any](p *T) T {
	var zero T
	return valueOr(p, zero)
}

func valueOr[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

// or gives an enumeration's value, or another when it is not set.
func or[T ~string](v, otherwise T) T {
	if v == "" {
		return otherwise
	}
	return v
}

// set writes a member that was sent, and keeps the old one otherwise.
func set[T any](member **T, sent *T) {
	if sent != nil {
		*member = sent
	}
}
