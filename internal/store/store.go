// Package store is the contract for keeping records: what internal/service, internal/reconcile and internal/gateway
// need of a database. internal/store/sqlite implements it; internal/store/storetest is what every implementation passes.
package store

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/oriel-project/oriel/internal/appstream"
)

var (
	// ErrNotFound: there is no such record or setting.
	ErrNotFound = errors.New("not found")
	// ErrExists: a record with that key exists already.
	ErrExists = errors.New("exists already")
	// ErrConflict: the record was changed since it was read.
	ErrConflict = errors.New("changed meanwhile")
	// ErrTransition: the noun's table does not allow the change of state.
	ErrTransition = errors.New("illegal state transition")
)

// Store keeps records, events, the audit log and settings. All methods may be called concurrently.
// Due times (rounded up) and those of the logs are kept with microseconds, in UTC.
type Store interface {
	// View calls fn with a consistent snapshot. Writing in it is an error.
	View(ctx context.Context, fn func(Tx) error) error

	// Update calls fn in a transaction, which is committed if fn returns nil and undone if it does not.
	// fn is called once; its error is returned as it is.
	Update(ctx context.Context, fn func(Tx) error) error

	// Claim leases at most limit records that are due at now and not leased, the longest due first, until the given
	// time. It returns their heads, as Tx.Scan gives them. A lease ends by Release, by its time, or with the record.
	Claim(ctx context.Context, now, until time.Time, limit int) ([]appstream.Meta, error)

	// Release ends the lease of a record, if there is one. A Wake that came during the lease counts from then on: the holder of
	// the lease may have written a later due time over it, with a plan that did not know what the wake is about.
	Release(ctx context.Context, id string) error

	// NextDue gives the earliest time at which Claim would find something: the due time of a record that is not
	// leased, or the end of a lease. Zero when nothing is due ever.
	NextDue(ctx context.Context) (time.Time, error)

	// Watch gives the commits from now on until ctx ends; then the channel is closed. A receiver that is too slow gets a
	// Change with Lagged set in place of those that it missed, and must look for itself.
	Watch(ctx context.Context) <-chan Change

	// Generation counts the commits that changed records, since Open. It has counted a commit before Update returns: what was
	// read of records after a call of Generation is good for as long as Generation stays the same.
	Generation() uint64

	// Close waits for running transactions and closes the store.
	Close() error
}

// Tx is a transaction. It must not be used after the function that got it has returned.
type Tx interface {
	// Get reads the record of key into rec. Errors: ErrNotFound.
	Get(key appstream.Key, rec appstream.Record) error
	// Find reads the record of an ID into rec. Errors: ErrNotFound.
	Find(id string, rec appstream.Record) error
	// Scan calls fn with every record that q selects, ordered by name and then by account, until fn returns an error. The head
	// has what is kept in columns (key, ID, version, state, due time) and nothing else; decode reads the whole record, and is
	// good until fn returns. fn may write.
	Scan(q Query, fn func(head appstream.Meta, decode func(appstream.Record) error) error) error
	// Count gives the number of records of a noun in an account and region.
	Count(account, region string, noun appstream.Noun) (int, error)

	// Insert adds a record and sets its Version to 1. Errors: ErrExists, ErrTransition.
	Insert(rec appstream.Record) error
	// Put writes a record that was read before and increments its Version. Errors: ErrConflict when the record has another
	// version now, another key, or is gone, ErrTransition.
	Put(rec appstream.Record) error
	// Delete removes a record. Errors as Put.
	Delete(rec appstream.Record) error
	// Wake makes the record of key due at the given time if it is not due before. No such record is no error;
	// the zero time is one.
	Wake(key appstream.Key, at time.Time) error

	// AddEvent and AddAudit append to the two logs, whose lines nothing changes. They give the line its number, whatever it has.
	AddEvent(Event) error
	AddAudit(Audit) error
	// Events and Audits give lines of the logs: the newest first, if the query says nothing else.
	Events(LogQuery) ([]Event, error)
	Audits(LogQuery) ([]Audit, error)
	// Trim removes the oldest lines of a log: at most limit of those that are from before a time, or that have more than most newer ones. The newest
	// line stays in any case, so that numbers are not given again. It tells how many are gone.
	Trim(log Log, before time.Time, most int64, limit int) (int, error)

	// Setting reads a value that SetSetting wrote, for what the server must keep beside records (its own keys, its
	// installation's name). Errors: ErrNotFound.
	Setting(name string) ([]byte, error)
	SetSetting(name string, value []byte) error
}

// Query selects records of one noun. Records of any of Accounts are selected, and those that are granted to GrantedTo (a
// record that has a method Grants() []string names the accounts).
type Query struct {
	Noun      appstream.Noun
	Region    string   // "" for all regions; then After cannot tell records of the same name in two regions apart
	Accounts  []string // nil and GrantedTo "": all accounts
	GrantedTo string
	LinksTo   string   // only records that are linked to it (a record that has a method Links() []string says to what: ARNs, mostly)
	Prefix    string   // only records whose name begins with it
	States    []string // only records in one of these states; nil: in any
	After     Position // only records behind this position
	Heads     bool     // only heads are wanted: nothing else is read, and decode is an error
	Limit     int      // 0: no limit

	Found func(n int) // unless nil, told before the first record how many there are; not called when there is none
}

// Position is a place in the order of Scan.
type Position struct{ Name, Account string }

// List collects what Scan finds.
func List[T any, P interface {
	*T
	appstream.Record
}](tx Tx, q Query) ([]T, error) {
	var list []T
	q.Found = func(n int) { list = make([]T, 0, n) } // records are large: a list that grows takes half as much memory again
	err := tx.Scan(q, func(_ appstream.Meta, decode func(appstream.Record) error) error {
		var none T
		list = append(list, none)
		return decode(P(&list[len(list)-1]))
	})
	return list, err
}

// Change says that a record was committed or removed.
type Change struct {
	appstream.Key
	ID      string
	Version int64
	State   string
	Due     time.Time // when the engine shall look at it; zero: not by itself
	Removed bool
	Lagged  bool // changes were missed; all other fields are zero
}

// Log names one of the two logs.
type Log string

// The logs.
const (
	EventLog Log = "event"
	AuditLog Log = "audit"
)

// LogQuery selects lines of a log. What is zero selects all.
type LogQuery struct {
	Account *string // of the event's resource; of the principal of an audit line

	// Of events alone.
	ID     string // of the record
	Region string
	Noun   appstream.Noun
	Name   string

	// Of audit lines alone.
	Resource string // one of those that the line names

	Before  int64 // only lines with smaller numbers; 0: all
	Forward bool  // the oldest first, and
	After   int64 // only lines with greater numbers
	Limit   int   // 0: no limit
}

// Event is a change of state of one record, or a step of long work between two of them.
type Event struct {
	N        int64 // its number in the log: later commits have greater ones
	At       time.Time
	ID       string // of the record
	Key      appstream.Key
	From, To string // "" for the creation and the removal; both are "" for a step
	Why      string // of a step: what it is; of what is longer than MaxWhy bytes, the beginning is kept
}

// MaxWhy bounds Event.Why.
const MaxWhy = 2 << 10

// Short gives Why, cut if it is too long.
func (e *Event) Short() string {
	if len(e.Why) <= MaxWhy {
		return e.Why
	}
	return strings.ToValidUTF8(e.Why[:MaxWhy-len("…")], "") + "…"
}

// Audit is one line of the audit log: who asked for what, and what came of it.
type Audit struct {
	N         int64 // its number in the log
	At        time.Time
	Principal string // ARN
	Source    string // IP address
	Operation string // with its IAM prefix: appstream:CreateImageBuilder
	Resource  string // ARN, several joined by spaces
	Result    string // "" for success, else the error's kind
	RequestID string
}

// Account is the account of the principal: the fifth part of its ARN.
func (a *Audit) Account() string {
	if part := strings.SplitN(a.Principal, ":", 6); len(part) == 6 {
		return part[4]
	}
	return ""
}
