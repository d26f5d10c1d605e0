package journal_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/journal"
	"github.com/oriel-project/oriel/internal/store"
	"github.com/oriel-project/oriel/internal/store/sqlite"
)

const (
	me, other = "123456789012", "210987654321"
	region    = "us-west-2"
	own       = "ORIELOWN000000000000"
)

func as(account, key string) context.Context {
	return appstream.WithCaller(context.Background(), appstream.Caller{Account: account, Region: region, AccessKeyID: key})
}

func open(t *testing.T) (*journal.Reader, store.Store) {
	t.Helper()
	s, err := sqlite.Open(context.Background(), filepath.Join(t.TempDir(), "oriel.db"), sqlite.WithoutSync())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return journal.New(journal.Config{Store: s, Administers: func(c appstream.Caller) bool { return c.AccessKeyID == own }}), s
}

// add writes events: NOUN/NAME of an account and region, and why.
func add(t *testing.T, s store.Store, account, in string, noun appstream.Noun, name string, why ...string) {
	t.Helper()
	err := s.Update(context.Background(), func(tx store.Tx) error {
		for _, w := range why {
			k := appstream.Key{Account: account, Region: in, Noun: noun, Name: name}
			from, to, _ := strings.Cut(w, ">")
			if to == "" {
				from = ""
			}
			if err := tx.AddEvent(store.Event{At: time.Now(), ID: "id-" + name, Key: k, From: from, To: to, Why: w}); err != nil {
				return err
			}
			if err := tx.AddAudit(store.Audit{At: time.Now(), Principal: "arn:aws:iam::" + account + ":root", Operation: "appstream:Try", Resource: "arn:aws:iam::x " + k.ARN(), RequestID: w}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func told(events []journal.Event) string {
	var list []string
	for _, e := range events {
		list = append(list, *e.Message)
	}
	return strings.Join(list, " ")
}

// Who sees what, by name, by ARN, of which account and region.
func TestDescribeEvents(t *testing.T) {
	r, s := open(t)
	add(t, s, me, region, appstream.NounImage, "a", ">PENDING", "capture", "PENDING>AVAILABLE")
	add(t, s, me, region, appstream.NounImageBuilder, "a", "b1")
	add(t, s, me, "eu-west-1", appstream.NounImage, "a", "eu")
	add(t, s, other, region, appstream.NounImage, "a", "theirs")
	add(t, s, "", region, appstream.NounImage, "base", "public")
	const arn = "arn:aws:appstream:us-west-2:"
	for _, test := range []struct {
		name string
		ctx  context.Context
		in   journal.DescribeEventsInput
		want string // the messages, or the kind of the error
	}{
		{"all of mine", as(me, ""), journal.DescribeEventsInput{}, "b1 PENDING>AVAILABLE capture >PENDING"},
		{"in all regions", as(me, ""), journal.DescribeEventsInput{AllRegions: new(true)}, "eu b1 PENDING>AVAILABLE capture >PENDING"},
		{"by name", as(me, ""), journal.DescribeEventsInput{ResourceName: new("a"), MaxResults: new(int32(2))}, "b1 PENDING>AVAILABLE"},
		{"by another name", as(me, ""), journal.DescribeEventsInput{ResourceName: new("b")}, ""},
		{"by ARN", as(me, ""), journal.DescribeEventsInput{ResourceArn: new(arn + me + ":image-builder/a")}, "b1"},
		{"by ARN in another region", as(me, ""), journal.DescribeEventsInput{ResourceArn: new("arn:aws:appstream:eu-west-1:" + me + ":image/a")}, "eu"},
		{"of something public", as(me, ""), journal.DescribeEventsInput{ResourceArn: new(arn + ":image/base")}, "public"},
		{"of theirs", as(me, ""), journal.DescribeEventsInput{ResourceArn: new(arn + other + ":image/a")}, string(appstream.OperationNotPermitted)},
		{"of their account", as(me, ""), journal.DescribeEventsInput{Account: new(other)}, string(appstream.OperationNotPermitted)},
		{"of all accounts", as(me, ""), journal.DescribeEventsInput{AllAccounts: new(true)}, string(appstream.OperationNotPermitted)},
		{"of my account by its number", as(me, ""), journal.DescribeEventsInput{Account: new(me), ResourceName: new("a"), MaxResults: new(int32(1))}, "b1"},
		{"of theirs, by the server's key", as(me, own), journal.DescribeEventsInput{Account: new(other)}, "theirs"},
		{"of theirs by ARN, by the server's key", as(me, own), journal.DescribeEventsInput{ResourceArn: new(arn + other + ":image/a")}, "theirs"},
		{"of all, by the server's key", as(me, own), journal.DescribeEventsInput{AllAccounts: new(true), MaxResults: new(int32(2))}, "public theirs"},
		{"both", as(me, own), journal.DescribeEventsInput{AllAccounts: new(true), Account: new(other)}, string(appstream.InvalidParameterCombination)},
		{"two resources", as(me, own), journal.DescribeEventsInput{ResourceName: new("a"), ResourceArn: new(arn + me + ":image/a")}, string(appstream.InvalidParameterCombination)},
		{"forward and back", as(me, ""), journal.DescribeEventsInput{NextToken: new("1"), After: new("1")}, string(appstream.InvalidParameterCombination)},
		{"a forged token", as(me, ""), journal.DescribeEventsInput{NextToken: new("99999999999999999999")}, string(appstream.Validation)},
		{"no ARN", as(me, ""), journal.DescribeEventsInput{ResourceArn: new("arn:aws:appstream:x")}, string(appstream.InvalidParameterValue)},
	} {
		out, err := r.DescribeEvents(test.ctx, &test.in)
		got := string(appstream.KindOf(err))
		if err == nil {
			got = told(out.Events)
		}
		if got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
	out, err := r.DescribeEvents(as(me, ""), &journal.DescribeEventsInput{ResourceArn: new(arn + me + ":image/a")})
	if err != nil || len(out.Events) != 3 {
		t.Fatalf("%+v, %v", out, err)
	}
	if e := out.Events[1]; e.From != nil || e.To != nil || !*e.Step || *e.ResourceArn != arn+me+":image/a" || e.Time.IsZero() {
		t.Errorf("a step: %+v", e)
	}
	if e := out.Events[2]; e.From != nil || *e.To != "PENDING" || e.Step != nil {
		t.Errorf("a creation: %+v", e)
	}
}

// A client that goes back by pages, and one that follows, get every line once, whatever is written meanwhile.
func TestPagesOfTheLogs(t *testing.T) {
	r, s := open(t)
	var want []string
	for n := range 7 {
		want = append([]string{fmt.Sprint("e", n)}, want...)
		add(t, s, me, region, appstream.NounImage, "a", fmt.Sprint("e", n))
	}
	ctx := as(me, "")
	in := &journal.DescribeEventsInput{MaxResults: new(int32(3))}
	audit := &journal.DescribeAuditLogInput{MaxResults: new(int32(3)), ResourceArn: new("arn:aws:appstream:us-west-2:" + me + ":image/a")}
	var back, lines []string
	latest := ""
	for pages := 0; ; pages++ {
		out, err := r.DescribeEvents(ctx, in)
		if err != nil {
			t.Fatal(err)
		}
		log, err := r.DescribeAuditLog(ctx, audit)
		if err != nil {
			t.Fatal(err)
		}
		if pages == 0 {
			latest = *out.Latest
		}
		back = append(back, told(out.Events))
		for _, l := range log.Lines {
			lines = append(lines, *l.RequestId)
		}
		if in.NextToken, audit.NextToken = out.NextToken, log.NextToken; in.NextToken == nil {
			break
		}
		add(t, s, me, region, appstream.NounImage, "a", fmt.Sprint("new", pages))
	}
	if got := strings.Join(back, " "); got != strings.Join(want, " ") {
		t.Errorf("going back: %s", got)
	}
	if len(lines) != 7 && len(lines) != 8 { // a line was added between the first pages of the two logs, or not
		t.Errorf("going back in the audit log: %v", lines)
	}
	out, err := r.DescribeEvents(ctx, &journal.DescribeEventsInput{After: &latest, MaxResults: new(int32(1))})
	if err != nil || told(out.Events) != "new0" || out.NextToken != nil {
		t.Fatalf("following: %+v, %v", out, err)
	}
	out, err = r.DescribeEvents(ctx, &journal.DescribeEventsInput{After: out.Latest})
	if err != nil || told(out.Events) != "new1" {
		t.Errorf("following: %+v, %v", out, err)
	}
}

// Who follows an empty log waits for its first line, and no longer than he said.
func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s := open(t)
		ctx := as(me, "")
		first, err := r.DescribeEvents(ctx, &journal.DescribeEventsInput{})
		if err != nil || *first.Latest != "0" {
			t.Fatalf("%+v, %v", first, err)
		}
		begin := time.Now()
		in := &journal.DescribeEventsInput{After: first.Latest, WaitInSeconds: new(int32(20))}
		out, err := r.DescribeEvents(ctx, in)
		if took := time.Since(begin); err != nil || len(out.Events) != 0 || *out.Latest != "0" || took != 20*time.Second {
			t.Errorf("after %s: %+v, %v", took, out, err)
		}
		time.AfterFunc(5500*time.Millisecond, func() { add(t, s, me, region, appstream.NounImage, "a", "first") })
		begin = time.Now()
		out, err = r.DescribeEvents(ctx, in)
		if took := time.Since(begin); err != nil || told(out.Events) != "first" || took > 6*time.Second {
			t.Errorf("after %s: %+v, %v", took, out, err)
		}
		ending := make(chan struct{})
		r = journal.New(journal.Config{Store: s, Ending: ending})
		time.AfterFunc(time.Second/2, func() { close(ending) })
		for _, most := range []time.Duration{time.Second / 2, 0} { // waiting when the server is about to end, and after that
			begin = time.Now()
			last, err := r.DescribeEvents(ctx, &journal.DescribeEventsInput{After: out.Latest, WaitInSeconds: new(int32(20))})
			if took := time.Since(begin); err != nil || len(last.Events) != 0 || *last.Latest != *out.Latest || took != most {
				t.Errorf("a server that ends answers after %s: %+v, %v", took, last, err)
			}
		}
		r = journal.New(journal.Config{Store: s})
		gone, cancel := context.WithCancel(ctx)
		time.AfterFunc(time.Second/2, cancel)
		if _, err := r.DescribeEvents(gone, &journal.DescribeEventsInput{After: out.Latest, WaitInSeconds: new(int32(20))}); err != context.Canceled {
			t.Errorf("a client that has gone: %v", err)
		}
	})
}

// A policy is asked about the resource that is named.
func TestResources(t *testing.T) {
	r, _ := open(t)
	if got := r.Resources("DescribeEvents", appstream.Caller{}, &journal.DescribeEventsInput{ResourceArn: new("arn:x")}); len(got) != 1 || got[0] != "arn:x" {
		t.Errorf("%v", got)
	}
	if got := r.Resources("DescribeAuditLog", appstream.Caller{}, &journal.DescribeAuditLogInput{}); got != nil {
		t.Errorf("%v", got)
	}
}
