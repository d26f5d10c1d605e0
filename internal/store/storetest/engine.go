package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/store"
)

// due inserts a builder that is due so many seconds after the epoch.
func due(t testing.TB, s store.Store, name string, seconds int) *appstream.ImageBuilder {
	t.Helper()
	b := newBuilder(alice, name)
	b.Due = at(seconds)
	insert(t, s, b)
	return b
}

func wantNext(t testing.TB, what string, s store.Store, want time.Time) {
	t.Helper()
	got, err := s.NextDue(t.Context())
	if err != nil || !got.Equal(want) || got.IsZero() != want.IsZero() {
		t.Errorf("NextDue %s gives %v, %v, want %v", what, got, err, want)
	}
}

func testClaimOrder(t *testing.T, s store.Store) {
	for i, name := range []string{"c", "a", "d", "b"} {
		due(t, s, name, []int{3, 1, 4, 2}[i])
	}
	insert(t, s, newBuilder(alice, "idle"))
	wantList(t, "claimed with limit 0", claim(t, s, at(10), at(60), 0), nil)
	wantList(t, "the first two", claim(t, s, at(3), at(60), 2), []string{"a", "b"})
	wantList(t, "the rest that is due", claim(t, s, at(3), at(60), 10), []string{"c"})
	heads, err := s.Claim(t.Context(), at(4), at(60), 10)
	if err != nil || len(heads) != 1 {
		t.Fatalf("Claim gives %v, %v, want one head", heads, err)
	}
	h := heads[0]
	if h.Key != newBuilder(alice, "d").Key || h.ID == "" || h.Version != 1 || h.State != appstream.BuilderPending || !h.Due.Equal(at(4)) {
		t.Errorf("the head is %+v", h)
	}
	wantList(t, "nothing more", claim(t, s, at(10), at(60), 10), nil)
}

func testClaimExclusive(t *testing.T, s store.Store) {
	const records, workers = 200, 16
	for n := range records {
		due(t, s, fmt.Sprintf("r%03d", n), n%7)
	}
	var mu sync.Mutex
	claimed := map[string]int{}
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for {
				heads, err := s.Claim(t.Context(), at(10), at(60), 3)
				if err != nil {
					t.Error(err)
					return
				}
				if len(heads) == 0 {
					return
				}
				mu.Lock()
				for _, h := range heads {
					claimed[h.ID]++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(claimed) != records {
		t.Errorf("%d records were claimed, want %d", len(claimed), records)
	}
	for id, n := range claimed {
		if n != 1 {
			t.Errorf("%s was claimed %d times", id, n)
		}
	}
}

func testLease(t *testing.T, s store.Store) {
	b := due(t, s, "one", 1)
	wantList(t, "claimed", claim(t, s, at(1), at(11), 1), []string{"one"})
	wantList(t, "claimed while leased", claim(t, s, at(10), at(20), 1), nil)
	wantList(t, "claimed at the end of the lease", claim(t, s, at(11), at(21), 1), []string{"one"})
	b.State, b.Due = appstream.BuilderRunning, at(15)
	put(t, s, b) // a write does not end the lease
	wantList(t, "claimed after a write", claim(t, s, at(16), at(30), 1), nil)
	release(t, s, b)
	wantList(t, "claimed after the release, too early", claim(t, s, at(14), at(30), 1), nil)
	wantList(t, "claimed after the release", claim(t, s, at(15), at(30), 1), []string{"one"})
	b.Due = time.Time{}
	put(t, s, b)
	release(t, s, b)
	release(t, s, b)
	wantList(t, "claimed when never due", claim(t, s, at(99), at(199), 1), nil)

	// A lease ends with its record.
	b.State, b.Due = appstream.BuilderDeleting, at(1)
	put(t, s, b)
	claim(t, s, at(1), at(999), 1)
	update(t, s, func(tx store.Tx) error { return tx.Delete(b) })
	wantNext(t, "without records", s, time.Time{})
	due(t, s, "one", 1)
	wantList(t, "the next record of the name", claim(t, s, at(1), at(2), 1), []string{"one"})
}

func testWake(t *testing.T, s store.Store) {
	b := newBuilder(alice, "one")
	insert(t, s, b)
	wake := func(seconds int) {
		t.Helper()
		update(t, s, func(tx store.Tx) error { return tx.Wake(b.Key, at(seconds)) })
	}
	for _, step := range []struct{ wake, want int }{{10, 10}, {20, 10}, {5, 5}, {6, 5}} {
		wake(step.wake)
		view(t, s, func(tx store.Tx) error {
			var got appstream.ImageBuilder
			err := tx.Get(b.Key, &got)
			if !got.Due.Equal(at(step.want)) || got.Version != 1 {
				t.Errorf("after a wake at %d it is due at %v with version %d, want %v and 1", step.wake, got.Due, got.Version, at(step.want))
			}
			return err
		})
		wantNext(t, "after a wake", s, at(step.want))
	}

	// A wake that comes during a lease is not lost, whatever the holder writes.
	for _, wokenAt := range []int{3, 7, 12} {
		wantList(t, "claimed", claim(t, s, at(50), at(60), 1), []string{"one"})
		wake(wokenAt)
		b.Due = at(30)
		put(t, s, b)
		wantList(t, "claimed while leased", claim(t, s, at(51), at(60), 1), nil)
		release(t, s, b)
		wantNext(t, "after the release", s, at(wokenAt))
		view(t, s, func(tx store.Tx) error {
			var got appstream.ImageBuilder
			err := tx.Get(b.Key, &got)
			if !got.Due.Equal(at(wokenAt)) {
				t.Errorf("after the release it is due at %v, want %v", got.Due, at(wokenAt))
			}
			return err
		})
	}
	// Nor when the holder vanishes.
	claim(t, s, at(50), at(60), 1)
	wake(55)
	b.Due = at(300)
	put(t, s, b)
	wantNext(t, "before the end of the lease", s, at(60))
	wantList(t, "claimed at the end of the lease", claim(t, s, at(60), at(70), 1), []string{"one"})
	release(t, s, b)
	// A wake is good for one claim.
	claim(t, s, at(60), at(70), 1)
	b.Due = at(300)
	put(t, s, b)
	release(t, s, b)
	wantNext(t, "after the pass", s, at(300))
}

func testNextDue(t *testing.T, s store.Store) {
	wantNext(t, "of an empty store", s, time.Time{})
	insert(t, s, newBuilder(alice, "idle"))
	wantNext(t, "of idle records", s, time.Time{})
	late, early := due(t, s, "late", 20), due(t, s, "early", 10)
	wantNext(t, "of two", s, at(10))
	claim(t, s, at(10), at(15), 1)
	wantNext(t, "with a lease", s, at(15))
	early.Due = at(18)
	put(t, s, early)
	wantNext(t, "with a lease that ends before the due time", s, at(18))
	release(t, s, early)
	early.Due = time.Time{}
	put(t, s, early)
	wantNext(t, "of the other", s, at(20))
	claim(t, s, at(20), at(40), 1)
	late.Due = time.Time{}
	put(t, s, late)
	wantNext(t, "when nothing is due", s, time.Time{})
}

func testWatch(t *testing.T, s store.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	b := newBuilder(alice, "one")
	insert(t, s, b)
	first, second := s.Watch(ctx), s.Watch(t.Context())
	wantNothing(t, "before any commit", first)

	change := func() store.Change {
		return store.Change{Key: b.Key, ID: b.ID, Version: b.Version, State: b.State, Due: b.Due}
	}
	want := []store.Change{}
	b.State, b.Due = appstream.BuilderRunning, at(5)
	put(t, s, b)
	want = append(want, change())
	claim(t, s, at(5), at(50), 1)
	release(t, s, b)
	update(t, s, func(tx store.Tx) error { return tx.Wake(b.Key, at(3)) })
	b.Due = at(3)
	want = append(want, change())
	update(t, s, func(tx store.Tx) error { return tx.Wake(b.Key, at(4)) }) // changes nothing
	update(t, s, func(tx store.Tx) error { return tx.AddAudit(store.Audit{At: epoch}) })
	s.Update(t.Context(), func(tx store.Tx) error { return errors.Join(tx.Put(b), errors.New("abort")) })
	b.Version = 2
	b.State = appstream.BuilderDeleting
	put(t, s, b)
	want = append(want, change())
	two := newBuilder(alice, "two")
	update(t, s, func(tx store.Tx) error { return errors.Join(tx.Delete(b), tx.Insert(two)) })
	removed := change()
	removed.Removed = true
	b = two
	want = append(want, removed, change())
	for _, ch := range []<-chan store.Change{first, second} {
		var got []store.Change
		for range want {
			c, _ := receive(t, ch)
			got = append(got, c)
		}
		wantList(t, "changes", got, want)
		wantNothing(t, "after the last commit", ch)
	}

	cancel()
	if c, ok := receive(t, first); ok {
		t.Errorf("got %+v, want the watch to end with its context", c)
	}
	b.State = appstream.BuilderRunning
	put(t, s, b)
	if c, ok := receive(t, second); !ok || c.ID != b.ID {
		t.Errorf("the other watch gives %+v, %v", c, ok)
	}
	if _, ok := receive(t, s.Watch(ctx)); ok {
		t.Error("a watch with a context that has ended does not end")
	}
}

// testWatchOrder checks that each watcher sees the versions of each record rise, and the last of them.
func testWatchOrder(t *testing.T, s store.Store) {
	const writers, rounds = 4, 25
	changes := s.Watch(t.Context())
	var wg sync.WaitGroup
	for n := range writers {
		wg.Go(func() {
			b := newBuilder(alice, fmt.Sprint("w", n))
			b.ID = fmt.Sprint("watch-", n)
			if err := s.Update(t.Context(), func(tx store.Tx) error { return tx.Insert(b) }); err != nil {
				t.Error(err)
			}
			for range rounds {
				if err := s.Update(t.Context(), func(tx store.Tx) error { return tx.Put(b) }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	version := map[string]int64{}
	for range writers * (rounds + 1) {
		c, ok := receive(t, changes)
		if !ok || c.Lagged || c.Version != version[c.ID]+1 {
			t.Fatalf("got %+v, %v after version %d", c, ok, version[c.ID])
		}
		version[c.ID] = c.Version
		view(t, s, func(tx store.Tx) error { // what is published is committed
			var got appstream.ImageBuilder
			err := tx.Get(c.Key, &got)
			if got.Version < c.Version {
				t.Errorf("version %d was published, the store has %d", c.Version, got.Version)
			}
			return err
		})
	}
	wg.Wait()
	wantNothing(t, "after the last commit", changes)
}

// testWatchLag checks that a receiver that does not receive keeps nobody waiting and learns that it missed something.
func testWatchLag(t *testing.T, s store.Store) {
	changes := s.Watch(t.Context())
	b := newBuilder(alice, "one")
	insert(t, s, b)
	for range 3000 {
		put(t, s, b)
	}
	lagged, last, received := false, int64(0), 0
	for last != b.Version {
		c, ok := receive(t, changes)
		if !ok {
			t.Fatal("the watch ended")
		}
		received++
		if c.Lagged {
			lagged = true
			if c != (store.Change{Lagged: true}) {
				t.Errorf("a lagged change says more: %+v", c)
			}
			continue
		}
		if c.Version != last+1 && !lagged || c.Version <= last {
			t.Errorf("version %d after %d, lagged %v", c.Version, last, lagged)
		}
		lagged, last = false, c.Version
	}
	if received >= 3000 {
		t.Errorf("%d changes were kept for a receiver that did not receive; the queue has no bound", received)
	}
	wantNothing(t, "after the last", changes)
}
