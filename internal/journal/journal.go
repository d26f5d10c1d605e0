// Package journal gives clients the server's two logs to read: the events (changes of state of resources, and the steps of long work between them) and the
// audit lines (who asked for what). It writes nothing; who changes something writes the line in the same transaction.
package journal

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/store"
)

// Operations are those that clients call, under the target prefix "Oriel".
type Operations interface {
	DescribeEvents(context.Context, *DescribeEventsInput) (*DescribeEventsOutput, error)
	DescribeAuditLog(context.Context, *DescribeAuditLogInput) (*DescribeAuditLogOutput, error)
}

var _ Operations = (*Reader)(nil)

// Limits are the constraints of the inputs, in the form of api.Service.Limits.
const Limits = `
string OrielJournalArn 1 2048 plain ^arn:aws:appstream:
string OrielJournalAnyArn 1 2048 plain ^arn:aws:\S+$
string OrielJournalName 1 512 plain
string OrielJournalAccount - - plain ^\d{12}$
string OrielJournalRegion 1 64 plain ^[a-z0-9-]+$
string OrielJournalToken 1 20 plain ^\d+$
integer OrielJournalSize 1 1000
integer OrielJournalWait 0 20
structure DescribeEventsInput ResourceArn:OrielJournalArn ResourceName:OrielJournalName Account:OrielJournalAccount AllAccounts: AllRegions: MaxResults:OrielJournalSize NextToken:OrielJournalToken After:OrielJournalToken WaitInSeconds:OrielJournalWait
structure DescribeAuditLogInput ResourceArn:OrielJournalAnyArn Account:OrielJournalAccount AllAccounts: MaxResults:OrielJournalSize NextToken:OrielJournalToken After:OrielJournalToken WaitInSeconds:OrielJournalWait
`

// DescribeEventsInput asks for the newest events of a resource, or of all in the caller's account and region.
type DescribeEventsInput struct {
	ResourceArn  *string // of this resource, which may be gone
	ResourceName *string // or of those of this name, of whatever kind
	Account      *string // of another account; for the server's own key
	AllAccounts  *bool   // of every account; for the server's own key
	AllRegions   *bool   // also of other regions
	MaxResults   *int32  // default 100
	NextToken    *string // older ones: the NextToken of a page before
	// After asks for those that came after the event of this ID instead, the oldest first: what Latest was. WaitInSeconds waits for one, if there is none;
	// at most 20, default 0.
	After         *string
	WaitInSeconds *int32
}

// DescribeEventsOutput has a page of events.
type DescribeEventsOutput struct {
	Events    []Event
	NextToken *string // of the page with older ones; absent at the end, and with After
	Latest    *string // the ID of the newest event that this client has seen, for After
}

// Event is a change of state of a resource, or a step of long work.
type Event struct {
	EventId     *string // of a later event it is greater, as a number
	Time        *time.Time
	ResourceArn *string
	From        *string // absent for the creation, and for a step
	To          *string // absent for the removal, and for a step
	Step        *bool   // it is one
	Message     *string
}

// DescribeAuditLogInput asks for the newest lines of the audit log of the caller's account.
type DescribeAuditLogInput struct {
	ResourceArn   *string // of requests about this resource
	Account       *string // as in DescribeEventsInput
	AllAccounts   *bool
	MaxResults    *int32
	NextToken     *string
	After         *string
	WaitInSeconds *int32
}

// DescribeAuditLogOutput has a page of lines.
type DescribeAuditLogOutput struct {
	Lines     []AuditLine
	NextToken *string
	Latest    *string
}

// AuditLine is one request.
type AuditLine struct {
	LineId    *string
	Time      *time.Time
	Principal *string
	SourceIp  *string
	Action    *string // as policies name it
	Resource  *string // ARN, several joined by spaces
	Error     *string // absent: it was done
	RequestId *string
}

// defaultPage is the size of a page when the client does not say one.
const defaultPage = 100

// pause is how long a reader that waits for a line rests between two looks.
const pause = time.Second

// Config is what a reader is made of.
type Config struct {
	Store store.Store
	// Administers tells whether a caller sees the logs of all accounts.
	Administers func(appstream.Caller) bool
	// Ending is closed when the server is about to end: who waits for a line then is answered, so that the end does not wait. Nil: never.
	Ending <-chan struct{}
}

// Reader reads the logs.
type Reader struct{ cfg Config }

// New makes a reader.
func New(cfg Config) *Reader { return &Reader{cfg} }

// Resources names what an operation is about: the resource that is asked for, else none in particular.
func (r *Reader) Resources(_ string, c appstream.Caller, in any) []string {
	var arn *string
	switch in := in.(type) {
	case *DescribeEventsInput:
		arn = in.ResourceArn
	case *DescribeAuditLogInput:
		arn = in.ResourceArn
	}
	if arn == nil {
		return nil
	}
	return []string{*arn}
}

// whose gives the account that a request asks for; nil for all.
func (r *Reader) whose(c appstream.Caller, account *string, all *bool) (*string, error) {
	everybody := all != nil && *all
	if everybody && account != nil {
		return nil, appstream.Errorf(appstream.InvalidParameterCombination, "You must specify at most one of Account and AllAccounts.")
	}
	if (everybody || account != nil && *account != c.Account) && !r.cfg.Administers(c) {
		return nil, appstream.Errorf(appstream.OperationNotPermitted, "Only the server's own access key sees the logs of other accounts than its own.")
	}
	switch {
	case everybody:
		return nil, nil
	case account != nil:
		return account, nil
	}
	return &c.Account, nil
}

// position reads where a page begins into q.
func position(q *store.LogQuery, size *int32, next, after *string) error {
	if next != nil && after != nil {
		return appstream.Errorf(appstream.InvalidParameterCombination, "You must specify at most one of NextToken and After.")
	}
	q.Limit = defaultPage
	if size != nil {
		q.Limit = int(*size)
	}
	for _, p := range []struct {
		name string
		from *string
		to   *int64
	}{{"NextToken", next, &q.Before}, {"After", after, &q.After}} {
		if p.from == nil {
			continue
		}
		n, err := strconv.ParseInt(*p.from, 10, 64)
		if err != nil {
			return appstream.Errorf(appstream.Validation, "The %s is not one that an answer had. Leave it out to begin with the newest.", p.name)
		}
		*p.to = n
	}
	q.Forward = after != nil
	return nil
}

// DescribeEvents gives a page of events.
func (r *Reader) DescribeEvents(ctx context.Context, in *DescribeEventsInput) (*DescribeEventsOutput, error) {
	c := appstream.CallerFrom(ctx)
	account, err := r.whose(c, in.Account, in.AllAccounts)
	if err != nil {
		return nil, err
	}
	q := store.LogQuery{Account: account, Region: c.Region}
	if in.AllRegions != nil && *in.AllRegions {
		q.Region = ""
	}
	switch {
	case in.ResourceArn != nil && in.ResourceName != nil:
		return nil, appstream.Errorf(appstream.InvalidParameterCombination, "You must specify at most one of ResourceArn and ResourceName.")
	case in.ResourceName != nil:
		q.Name = *in.ResourceName
	case in.ResourceArn != nil:
		k, err := appstream.ParseARN(*in.ResourceArn)
		if err != nil {
			return nil, err
		}
		if k.Account != "" { // what is public, everybody sees
			if _, err := r.whose(c, &k.Account, nil); err != nil {
				return nil, err
			}
		}
		q.Account, q.Region, q.Noun, q.Name = &k.Account, k.Region, k.Noun, k.Name
	}
	if err := position(&q, in.MaxResults, in.NextToken, in.After); err != nil {
		return nil, err
	}
	list, err := read(ctx, r, in.WaitInSeconds, q, func(tx store.Tx, q store.LogQuery) ([]store.Event, error) { return tx.Events(q) })
	if err != nil {
		return nil, err
	}
	out := &DescribeEventsOutput{Events: []Event{}}
	list, out.NextToken, out.Latest = page(list, q, in.After, func(e store.Event) int64 { return e.N })
	for _, e := range list {
		v := Event{EventId: number(e.N), Time: &e.At, ResourceArn: new(e.Key.ARN()), From: appstream.Optional(e.From), To: appstream.Optional(e.To), Message: appstream.Optional(e.Why)}
		if e.From == "" && e.To == "" {
			v.Step = new(true)
		}
		out.Events = append(out.Events, v)
	}
	return out, nil
}

// DescribeAuditLog gives a page of the audit log.
func (r *Reader) DescribeAuditLog(ctx context.Context, in *DescribeAuditLogInput) (*DescribeAuditLogOutput, error) {
	c := appstream.CallerFrom(ctx)
	account, err := r.whose(c, in.Account, in.AllAccounts)
	if err != nil {
		return nil, err
	}
	q := store.LogQuery{Account: account}
	if in.ResourceArn != nil {
		q.Resource = *in.ResourceArn
	}
	if err := position(&q, in.MaxResults, in.NextToken, in.After); err != nil {
		return nil, err
	}
	list, err := read(ctx, r, in.WaitInSeconds, q, func(tx store.Tx, q store.LogQuery) ([]store.Audit, error) { return tx.Audits(q) })
	if err != nil {
		return nil, err
	}
	out := &DescribeAuditLogOutput{Lines: []AuditLine{}}
	list, out.NextToken, out.Latest = page(list, q, in.After, func(a store.Audit) int64 { return a.N })
	for _, a := range list {
		out.Lines = append(out.Lines, AuditLine{LineId: number(a.N), Time: &a.At, Principal: &a.Principal, SourceIp: appstream.Optional(a.Source), Action: &a.Operation,
			Resource: appstream.Optional(strings.TrimSpace(a.Resource)), Error: appstream.Optional(a.Result), RequestId: appstream.Optional(a.RequestID)})
	}
	return out, nil
}

// read reads one line more than a page has. If there is none at all and the client waits, it looks again every second.
func read[T any](ctx context.Context, r *Reader, seconds *int32, q store.LogQuery, from func(store.Tx, store.LogQuery) ([]T, error)) (list []T, err error) {
	q.Limit++
	wait := time.Duration(0)
	if seconds != nil && q.Forward {
		wait = time.Duration(*seconds) * time.Second
	}
	for end := time.Now().Add(wait); ; {
		err = r.cfg.Store.View(ctx, func(tx store.Tx) error { list, err = from(tx, q); return err })
		if err != nil || len(list) > 0 || !time.Now().Before(end) {
			return list, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-r.cfg.Ending:
			return list, nil
		case <-time.After(pause):
		}
	}
}

// page cuts what read gave to a page, and says where the next ones begin.
func page[T any](list []T, q store.LogQuery, after *string, n func(T) int64) (on []T, older, latest *string) {
	more := len(list) > q.Limit
	on = list[:min(len(list), q.Limit)]
	if after != nil {
		if len(on) > 0 {
			return on, nil, number(n(on[len(on)-1]))
		}
		return on, nil, after
	}
	if more {
		older = number(n(on[len(on)-1]))
	}
	latest = number(0)
	if len(on) > 0 {
		latest = number(n(on[0]))
	}
	return on, older, latest
}

func number(n int64) *string { return new(strconv.FormatInt(n, 10)) }
