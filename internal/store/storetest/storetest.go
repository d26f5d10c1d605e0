// Package storetest is the conformance suite of package store: what every implementation must pass. It looks at a store
// only through the contract.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/store"
)

// Run runs the suite. open gives a new, empty store and closes it when the test ends; a test may close it before.
func Run(t *testing.T, open func(t testing.TB) store.Store) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, s store.Store)
	}{
		{"Records", testRecords},
		{"RoundTrip", testRoundTrip},
		{"Copies", testCopies},
		{"Exists", testExists},
		{"NotFound", testNotFound},
		{"Conflict", testConflict},
		{"ConcurrentUpdates", testConcurrentUpdates},
		{"Transitions", testTransitions},
		{"ScanOrder", testScanOrder},
		{"ScanAccounts", testScanAccounts},
		{"ScanLinks", testScanLinks},
		{"ScanHeads", testScanHeads},
		{"ScanWrites", testScanWrites},
		{"Paging", testPaging},
		{"ClaimOrder", testClaimOrder},
		{"ClaimExclusive", testClaimExclusive},
		{"Lease", testLease},
		{"Wake", testWake},
		{"NextDue", testNextDue},
		{"Watch", testWatch},
		{"WatchOrder", testWatchOrder},
		{"WatchLag", testWatchLag},
		{"Logs", testLogs},
		{"Settings", testSettings},
		{"Generation", testGeneration},
		{"Rollback", testRollback},
		{"Isolation", testIsolation},
		{"ReadOnlyView", testReadOnlyView},
		{"TxEnds", testTxEnds},
		{"Cancel", testCancel},
		{"Close", testClose},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
	t.Run("Model", func(t *testing.T) { testModel(t, open) })
}

const (
	region  = "us-west-2"
	region2 = "eu-west-1"
	alice   = "111111111111"
	bob     = "222222222222"
	carol   = "333333333333"
)

// epoch is the suite's time zero. It has microseconds, as all times that a store keeps.
var epoch = time.Date(2026, 3, 4, 5, 6, 7, 891_234_000, time.UTC)

func at(seconds int) time.Time { return epoch.Add(time.Duration(seconds) * time.Second) }

var lastID atomic.Int64

// newID makes a record ID.
func newID() string { return fmt.Sprintf("r-%06d", lastID.Add(1)) }

func newBuilder(account, name string) *appstream.ImageBuilder {
	b := &appstream.ImageBuilder{Meta: appstream.Meta{
		Key: appstream.Key{Account: account, Region: region, Noun: appstream.NounImageBuilder, Name: name},
		ID:  newID(), State: appstream.BuilderPending, Created: epoch, Since: epoch,
	}}
	b.View.DisplayName = new("builder " + name)
	return b
}

func newImage(account, name string, sharedWith ...string) *appstream.Image {
	i := &appstream.Image{Meta: appstream.Meta{
		Key: appstream.Key{Account: account, Region: region, Noun: appstream.NounImage, Name: name},
		ID:  newID(), State: appstream.ImageAvailable, Created: epoch, Since: epoch,
	}}
	for _, a := range sharedWith {
		if i.Permissions == nil {
			i.Permissions = make(map[string]types.ImagePermissions)
		}
		i.Permissions[a] = types.ImagePermissions{AllowFleet: new(true)}
	}
	return i
}

func update(t testing.TB, s store.Store, fn func(store.Tx) error) {
	t.Helper()
	if err := s.Update(t.Context(), fn); err != nil {
		t.Fatalf("Update: %v", err)
	}
}

func view(t testing.TB, s store.Store, fn func(store.Tx) error) {
	t.Helper()
	if err := s.View(t.Context(), fn); err != nil {
		t.Fatalf("View: %v", err)
	}
}

func insert(t testing.TB, s store.Store, records ...appstream.Record) {
	t.Helper()
	update(t, s, func(tx store.Tx) error {
		for _, rec := range records {
			if err := tx.Insert(rec); err != nil {
				return err
			}
		}
		return nil
	})
}

func put(t testing.TB, s store.Store, rec appstream.Record) {
	t.Helper()
	update(t, s, func(tx store.Tx) error { return tx.Put(rec) })
}

func claim(t testing.TB, s store.Store, now, until time.Time, limit int) []string {
	t.Helper()
	heads, err := s.Claim(t.Context(), now, until, limit)
	if err != nil {
		t.Fatalf("Claim: %v", err)
	}
	return names(heads)
}

func names(heads []appstream.Meta) []string {
	list := []string{}
	for _, h := range heads {
		list = append(list, h.Name)
	}
	return list
}

func release(t testing.TB, s store.Store, rec appstream.Record) {
	t.Helper()
	if err := s.Release(t.Context(), rec.Head().ID); err != nil {
		t.Fatalf("Release: %v", err)
	}
}

func wantErr(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error %v, want %v", what, err, want)
	}
}

// diff compares records, but for the SDK's marker types.
func diff(want, got any) string {
	return cmp.Diff(want, got, cmpopts.IgnoreUnexported(types.ImageBuilder{}, types.Image{}, types.VpcConfig{}, types.AccessEndpoint{},
		types.ImagePermissions{}, types.Application{}, types.ResourceError{}, types.ImageBuilderStateChangeReason{},
		types.ImageStateChangeReason{}, types.NetworkAccessConfiguration{}, types.VolumeConfig{}, types.DomainJoinInfo{}, types.S3Location{}))
}

// scan gives the names, each with its account, that a query selects.
func scan(t testing.TB, s store.Store, q store.Query) []string {
	t.Helper()
	list, found := []string{}, -1
	q.Found = func(n int) {
		if found >= 0 || n == 0 || len(list) > 0 {
			t.Errorf("%d are found after %d, when %d have been given", n, found, len(list))
		}
		found = n
	}
	view(t, s, func(tx store.Tx) error {
		return tx.Scan(q, func(h appstream.Meta, _ func(appstream.Record) error) error {
			list = append(list, h.Name+"@"+h.Account)
			return nil
		})
	})
	if max(found, 0) != len(list) {
		t.Errorf("%d are found, and %d are given", found, len(list))
	}
	return list
}

func wantList[T any](t testing.TB, what string, got, want []T) {
	t.Helper()
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

// receive takes what is in a channel within a time that only a broken store needs.
func receive(t testing.TB, ch <-chan store.Change) (store.Change, bool) {
	t.Helper()
	select {
	case c, ok := <-ch:
		return c, ok
	case <-time.After(time.Minute):
		t.Fatal("no change came")
		return store.Change{}, false
	}
}

// wantNothing checks that a channel has nothing now. What was committed before is published already.
func wantNothing(t testing.TB, what string, ch <-chan store.Change) {
	t.Helper()
	select {
	case c, ok := <-ch:
		t.Errorf("%s: got %+v (open %v), want nothing", what, c, ok)
	default:
	}
}

func testGeneration(t *testing.T, s store.Store) {
	last := s.Generation()
	counts := func(what string, want bool) {
		t.Helper()
		now := s.Generation()
		if (now > last) != want {
			t.Errorf("%s: the generation went from %d to %d", what, last, now)
		}
		last = now
	}
	b := newBuilder(alice, "counted")
	insert(t, s, b)
	counts("a new record", true)
	put(t, s, b)
	counts("a changed record", true)
	abort := errors.New("abort")
	err := s.Update(t.Context(), func(tx store.Tx) error {
		if err := tx.Put(b); err != nil {
			return err
		}
		return abort
	})
	wantErr(t, "an update that is undone", err, abort)
	counts("what was undone", false)
	update(t, s, func(tx store.Tx) error { return tx.AddAudit(store.Audit{Operation: "x"}) })
	view(t, s, func(tx store.Tx) error { return tx.Get(b.Key, b) })
	counts("an audit line and a read", false)
	// Before anyone is told of a commit, it is counted.
	changes := s.Watch(t.Context())
	put(t, s, b)
	<-changes
	counts("a change that a watcher has heard of", true)
}

func testSettings(t *testing.T, s store.Store) {
	get := func(name string) (value []byte, err error) {
		err = s.View(t.Context(), func(tx store.Tx) error {
			value, err = tx.Setting(name)
			return err
		})
		return value, err
	}
	_, err := get("key")
	wantErr(t, "a setting that was never written", err, store.ErrNotFound)
	for _, value := range [][]byte{[]byte("one"), {0, 255, 0}, {}, nil, slices.Repeat([]byte("x"), 1<<20)} {
		update(t, s, func(tx store.Tx) error {
			if err := tx.SetSetting("key", value); err != nil {
				return err
			}
			return tx.SetSetting("other", []byte("other"))
		})
		got, err := get("key")
		if err != nil || string(got) != string(value) {
			t.Errorf("Setting gives %d bytes and error %v, want %d bytes", len(got), err, len(value))
		}
	}
	abort := errors.New("abort")
	err = s.Update(t.Context(), func(tx store.Tx) error {
		if err := tx.SetSetting("key", []byte("undone")); err != nil {
			return err
		}
		if v, err := tx.Setting("key"); err != nil || string(v) != "undone" {
			t.Errorf("Setting in the transaction gives %q, %v", v, err)
		}
		return abort
	})
	wantErr(t, "Update", err, abort)
	if v, _ := get("key"); string(v) == "undone" {
		t.Error("an undone setting is there")
	}
}

func testLogs(t *testing.T, s store.Store) {
	b := newBuilder(alice, "one")
	event := func(n int) store.Event {
		return store.Event{At: at(n), ID: b.ID, Key: b.Key, From: "A", To: "B", Why: fmt.Sprint("because of ", n)}
	}
	audit := func(n int) store.Audit {
		return store.Audit{At: at(n), Principal: "arn:aws:iam::111111111111:root", Source: "10.0.0.1", Operation: "appstream:CreateImageBuilder",
			Resource: b.ARN(), Result: "", RequestID: fmt.Sprint(n)}
	}
	for n := range 5 { // the time does not order the log: clocks jump
		update(t, s, func(tx store.Tx) error {
			if err := tx.AddEvent(event(10 - n)); err != nil {
				return err
			}
			if err := tx.AddEvent(store.Event{At: at(n), ID: "another", Key: b.Key, To: "X"}); err != nil {
				return err
			}
			return tx.AddAudit(audit(10 - n))
		})
	}
	abort := errors.New("abort")
	wantErr(t, "Update", s.Update(t.Context(), func(tx store.Tx) error {
		return errors.Join(tx.AddEvent(event(99)), tx.AddAudit(audit(99)), abort)
	}), abort)
	events := func(q store.LogQuery) (list []store.Event) {
		t.Helper()
		view(t, s, func(tx store.Tx) (err error) { list, err = tx.Events(q); return err })
		return list
	}
	audits := func(q store.LogQuery) (list []store.Audit) {
		t.Helper()
		view(t, s, func(tx store.Tx) (err error) { list, err = tx.Audits(q); return err })
		return list
	}
	unnumbered := func(list []store.Event) []store.Event {
		list = slices.Clone(list)
		for i := range list {
			list[i].N = 0
		}
		return list
	}
	newest := events(store.LogQuery{ID: b.ID, Limit: 3})
	wantList(t, "the newest events", unnumbered(newest), []store.Event{event(6), event(7), event(8)})
	wantList(t, "events before one", unnumbered(events(store.LogQuery{ID: b.ID, Before: newest[2].N})), []store.Event{event(9), event(10)})
	wantList(t, "events after one", unnumbered(events(store.LogQuery{ID: b.ID, Forward: true, After: newest[2].N, Limit: 1})), []store.Event{event(7)})
	wantList(t, "the oldest events", unnumbered(events(store.LogQuery{ID: b.ID, Forward: true, Limit: 2})), []store.Event{event(10), event(9)})
	wantList(t, "events after the newest", events(store.LogQuery{ID: b.ID, Forward: true, After: newest[0].N}), nil)
	wantList(t, "events of an unknown record", events(store.LogQuery{ID: "unknown"}), nil)
	mine, all := alice, len(events(store.LogQuery{}))
	for _, test := range []struct {
		q    store.LogQuery
		want int
	}{{store.LogQuery{}, 10}, {store.LogQuery{Account: &mine}, 10}, {store.LogQuery{Account: new(bob)}, 0}, {store.LogQuery{Account: &mine, Name: "one", Noun: b.Noun, Region: b.Region}, 10},
		{store.LogQuery{Account: &mine, Name: "two"}, 0}, {store.LogQuery{Noun: appstream.NounImage}, 0}, {store.LogQuery{Region: "eu-north-1"}, 0}} {
		if n := len(events(test.q)); n != test.want {
			t.Errorf("%+v selects %d events, want %d", test.q, n, test.want)
		}
	}
	lines := audits(store.LogQuery{Limit: 2})
	for i := range lines {
		lines[i].N = 0
	}
	wantList(t, "the newest audit lines", lines, []store.Audit{audit(6), audit(7)})
	for _, test := range []struct {
		q    store.LogQuery
		want int
	}{{store.LogQuery{}, 5}, {store.LogQuery{Account: new("111111111111")}, 5}, {store.LogQuery{Account: new("222222222222")}, 0},
		{store.LogQuery{Resource: b.ARN()}, 5}, {store.LogQuery{Resource: b.ARN()[:len(b.ARN())-1]}, 0}} {
		if n := len(audits(test.q)); n != test.want {
			t.Errorf("%+v selects %d audit lines, want %d", test.q, n, test.want)
		}
	}

	trim := func(log store.Log, before time.Time, most int64, limit int) (n int) {
		t.Helper()
		update(t, s, func(tx store.Tx) (err error) { n, err = tx.Trim(log, before, most, limit); return err })
		return n
	}
	const plenty = 1 << 40
	for _, test := range []struct {
		what   string
		before time.Time
		most   int64
		limit  int
		gone   int
	}{
		{"nothing that is too old", time.Time{}, plenty, 100, 0},
		{"one that is not old is first", at(7), plenty, 100, 0}, // the first was written when the clock said 10
		{"at most three at a time", at(100), plenty, 3, 3},
		{"all but five", time.Time{}, 5, 100, 2},
		{"all but the newest", at(100), plenty, 100, 4},
		{"the newest stays", at(100), 0, 100, 0},
	} {
		if n := trim(store.EventLog, test.before, test.most, test.limit); n != test.gone {
			t.Errorf("Trim, %s: %d gone, want %d", test.what, n, test.gone)
		}
	}
	if n := trim(store.AuditLog, at(100), plenty, 100); n != 4 || len(audits(store.LogQuery{})) != 1 {
		t.Errorf("Trim of the audit log: %d gone", n)
	}
	update(t, s, func(tx store.Tx) error { return tx.AddEvent(event(1)) })
	update(t, s, func(tx store.Tx) error {
		return tx.AddEvent(store.Event{ID: "long", Why: strings.Repeat("ü", store.MaxWhy)})
	})
	if long := events(store.LogQuery{ID: "long"})[0].Why; len(long) > store.MaxWhy || len(long) < store.MaxWhy-4 || !strings.HasSuffix(long, "ü…") {
		t.Errorf("a long reason has %d bytes and ends with %q", len(long), long[len(long)-8:])
	}
	if list := events(store.LogQuery{}); len(list) != 3 || list[0].N <= newest[0].N || all != 10 {
		t.Errorf("after a Trim: %+v", list)
	}
}

func testRollback(t *testing.T, s store.Store) {
	old := newBuilder(alice, "old")
	insert(t, s, old)
	changes := s.Watch(t.Context())
	abort := errors.New("abort")
	work := func(tx store.Tx) error {
		changed, image := *old, newImage(alice, "image", bob)
		changed.State = appstream.BuilderRunning
		return errors.Join(tx.Insert(newBuilder(alice, "new")), tx.Put(&changed), tx.Insert(image), tx.Delete(image),
			tx.Wake(old.Key, epoch), tx.AddEvent(store.Event{ID: old.ID}))
	}
	check := func(how string) {
		t.Helper()
		wantList(t, "builders after "+how, scan(t, s, store.Query{Noun: appstream.NounImageBuilder}), []string{"old@" + alice})
		wantList(t, "images after "+how, scan(t, s, store.Query{Noun: appstream.NounImage}), nil)
		view(t, s, func(tx store.Tx) error {
			var got appstream.ImageBuilder
			if err := tx.Get(old.Key, &got); err != nil {
				return err
			}
			if got.Version != 1 || got.State != appstream.BuilderPending || !got.Due.IsZero() {
				t.Errorf("after %s: version %d, state %s, due %v", how, got.Version, got.State, got.Due)
			}
			events, err := tx.Events(store.LogQuery{ID: old.ID, Limit: 10})
			wantList(t, "events after "+how, events, nil)
			return err
		})
		wantNothing(t, "changes after "+how, changes)
	}

	err := s.Update(t.Context(), func(tx store.Tx) error {
		if err := work(tx); err != nil {
			t.Error(err)
		}
		return abort
	})
	if err != abort {
		t.Errorf("Update returns %v, want the error of fn as it is", err)
	}
	check("an error")

	func() {
		defer func() {
			if r := recover(); r != "oh no" {
				t.Errorf("recovered %v, want the panic of fn", r)
			}
		}()
		s.Update(t.Context(), func(tx store.Tx) error {
			if err := work(tx); err != nil {
				t.Error(err)
			}
			panic("oh no")
		})
	}()
	check("a panic")
	func() {
		defer func() { recover() }()
		s.View(t.Context(), func(store.Tx) error { panic("oh no") })
	}()
	check("a panic in a View")

	// A refused statement leaves the rest of its transaction as it is, if fn wants to go on.
	update(t, s, func(tx store.Tx) error {
		wantErr(t, "Insert", tx.Insert(newBuilder(alice, "old")), store.ErrExists)
		return tx.Insert(newBuilder(alice, "new"))
	})
	wantList(t, "builders", scan(t, s, store.Query{Noun: appstream.NounImageBuilder}), []string{"new@" + alice, "old@" + alice})
}

func testIsolation(t *testing.T, s store.Store) {
	b := newBuilder(alice, "one")
	insert(t, s, b)
	view(t, s, func(tx store.Tx) error {
		var first, second appstream.ImageBuilder
		if err := tx.Get(b.Key, &first); err != nil {
			return err
		}
		b.State = appstream.BuilderRunning
		put(t, s, b) // a writer does not wait for readers
		insert(t, s, newBuilder(alice, "two"))
		if err := tx.Find(b.ID, &second); err != nil {
			return err
		}
		if d := diff(first, second); d != "" {
			t.Errorf("a record changed in a View:\n%s", d)
		}
		n, err := tx.Count(alice, region, appstream.NounImageBuilder)
		if n != 1 {
			t.Errorf("a View sees %d records, want the one from its beginning", n)
		}
		return err
	})
	// An Update sees its own writes, nobody else does before the commit.
	update(t, s, func(tx store.Tx) error {
		b.State = appstream.BuilderStopping
		if err := tx.Put(b); err != nil {
			return err
		}
		var own, others appstream.ImageBuilder
		if err := tx.Get(b.Key, &own); err != nil {
			return err
		}
		view(t, s, func(tx store.Tx) error { return tx.Get(b.Key, &others) })
		if own.State != appstream.BuilderStopping || own.Version != 3 || others.State != appstream.BuilderRunning || others.Version != 2 {
			t.Errorf("the writer sees %s %d, others see %s %d", own.State, own.Version, others.State, others.Version)
		}
		return nil
	})
}

func testReadOnlyView(t *testing.T, s store.Store) {
	b := newBuilder(alice, "one")
	insert(t, s, b)
	for name, write := range map[string]func(store.Tx) error{
		"Insert":     func(tx store.Tx) error { return tx.Insert(newBuilder(alice, "two")) },
		"Put":        func(tx store.Tx) error { return tx.Put(b) },
		"Delete":     func(tx store.Tx) error { return tx.Delete(b) },
		"Wake":       func(tx store.Tx) error { return tx.Wake(b.Key, epoch) },
		"AddEvent":   func(tx store.Tx) error { return tx.AddEvent(store.Event{ID: b.ID}) },
		"Trim":       func(tx store.Tx) error { _, err := tx.Trim(store.EventLog, epoch, 0, 1); return err },
		"AddAudit":   func(tx store.Tx) error { return tx.AddAudit(store.Audit{}) },
		"SetSetting": func(tx store.Tx) error { return tx.SetSetting("a", nil) },
	} {
		view(t, s, func(tx store.Tx) error {
			if write(tx) == nil {
				t.Errorf("%s in a View is no error", name)
			}
			return tx.Get(b.Key, new(appstream.ImageBuilder)) // and it does no harm
		})
	}
}

func testTxEnds(t *testing.T, s store.Store) {
	b := newBuilder(alice, "one")
	var kept []store.Tx
	update(t, s, func(tx store.Tx) error {
		kept = append(kept, tx)
		return tx.Insert(b)
	})
	view(t, s, func(tx store.Tx) error {
		kept = append(kept, tx)
		return nil
	})
	for _, tx := range kept {
		if tx.Get(b.Key, new(appstream.ImageBuilder)) == nil || tx.Put(b) == nil {
			t.Error("a Tx can be used after its transaction")
		}
	}
}

func testCancel(t *testing.T, s store.Store) {
	b := newBuilder(alice, "one")
	ctx, cancel := context.WithCancel(t.Context())
	err := s.Update(ctx, func(tx store.Tx) error {
		err := tx.Insert(b)
		cancel()
		return err
	})
	wantErr(t, "Update, canceled in it", err, context.Canceled)
	wantErr(t, "Update, canceled", s.Update(ctx, func(store.Tx) error { t.Error("fn was called"); return nil }), context.Canceled)
	wantErr(t, "View, canceled", s.View(ctx, func(store.Tx) error { t.Error("fn was called"); return nil }), context.Canceled)
	_, err = s.Claim(ctx, epoch, epoch, 1)
	wantErr(t, "Claim, canceled", err, context.Canceled)
	wantList(t, "records", scan(t, s, store.Query{Noun: appstream.NounImageBuilder}), nil)

	// Waiting for another writer can be given up.
	update(t, s, func(tx store.Tx) error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		wantErr(t, "Update behind another", s.Update(ctx, func(store.Tx) error { t.Error("fn was called"); return nil }), context.DeadlineExceeded)
		return nil
	})
	insert(t, s, b) // the store works as before
}

func testClose(t *testing.T, s store.Store) {
	changes := s.Watch(t.Context())
	b := newBuilder(alice, "one")
	inside, closed := make(chan struct{}), make(chan error)
	result := make(chan error)
	go func() {
		result <- s.Update(context.Background(), func(tx store.Tx) error {
			close(inside)
			select {
			case <-closed:
				t.Error("Close did not wait for a transaction")
			case <-time.After(20 * time.Millisecond):
			}
			return tx.Insert(b)
		})
	}()
	<-inside
	go func() { closed <- s.Close() }()
	if err := <-result; err != nil {
		t.Errorf("the transaction during Close: %v", err)
	}
	if err := <-closed; err != nil {
		t.Errorf("Close: %v", err)
	}
	if c, ok := receive(t, changes); !ok || c.ID != b.ID {
		t.Errorf("got %+v, %v, want the last change", c, ok)
	}
	if c, ok := receive(t, changes); ok {
		t.Errorf("got %+v, want the watch to end", c)
	}
	nothing := func(store.Tx) error { t.Error("fn was called"); return nil }
	_, claimErr := s.Claim(t.Context(), epoch, epoch, 1)
	_, dueErr := s.NextDue(t.Context())
	for name, err := range map[string]error{"View": s.View(t.Context(), nothing), "Update": s.Update(t.Context(), nothing),
		"Claim": claimErr, "NextDue": dueErr, "Release": s.Release(t.Context(), b.ID)} {
		if err == nil {
			t.Errorf("%s of a closed store is no error", name)
		}
	}
	if _, ok := receive(t, s.Watch(t.Context())); ok {
		t.Error("a watch of a closed store does not end")
	}
	if err := s.Close(); err != nil {
		t.Errorf("the second Close: %v", err)
	}
}
