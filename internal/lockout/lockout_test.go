package lockout

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func guard() *Guard {
	return &Guard{Free: 5, First: 30 * time.Second, Most: 15 * time.Minute, Forget: time.Hour, Size: 100}
}

// Five attempts are free; then each failure doubles the wait, up to the longest.
func TestWaitsGrow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := guard()
		for n := range 5 {
			if wait := g.Try("jane", time.Now()); wait != 0 {
				t.Errorf("attempt %d waits %s", n, wait)
			}
		}
		for _, want := range []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 15 * time.Minute, 15 * time.Minute} {
			if wait := g.Try("jane", time.Now()); wait != want {
				t.Errorf("the wait is %s, want %s", wait, want)
			}
			if wait := g.Try("john", time.Now()); wait != 0 {
				t.Errorf("another one waits %s", wait)
			}
			g.Clear("john")
			time.Sleep(want - time.Nanosecond)
			if wait := g.Try("jane", time.Now()); wait != 1 {
				t.Errorf("a moment before the end the wait is %s", wait)
			}
			time.Sleep(time.Nanosecond)
			if wait := g.Try("jane", time.Now()); wait != 0 { // the next failure
				t.Errorf("at the end the wait is %s", wait)
			}
		}
		time.Sleep(time.Hour + 1)
		for range 5 {
			if wait := g.Try("jane", time.Now()); wait != 0 {
				t.Errorf("when it is forgotten the wait is %s", wait)
			}
		}
	})
}

// Attempts at the same time are not more than attempts one after the other.
func TestNoneSlipsThrough(t *testing.T) {
	g := guard()
	var made atomic.Int32
	var wg sync.WaitGroup
	now := time.Now()
	for range 200 {
		wg.Go(func() {
			if g.Try("jane", now) == 0 {
				made.Add(1)
			}
		})
	}
	wg.Wait()
	if made.Load() != 5 {
		t.Errorf("%d attempts were made", made.Load())
	}
	g.Forgive("jane")
	if wait := g.Try("jane", now); wait != 0 {
		t.Errorf("after one was taken back the next waits %s", wait)
	}
	g.Clear("jane")
	g.Forgive("jane")
	g.Forgive("nobody")
	if len(g.seen) != 0 {
		t.Errorf("%d names are remembered", len(g.seen))
	}
}

// A flood of names does not use up memory, and does not make the guard forget whom somebody is guessing at.
func TestFlood(t *testing.T) {
	g := guard()
	now := time.Now()
	for range 8 {
		g.Try("jane", now)
	}
	for n := range 10_000 {
		g.Try(fmt.Sprint(n), now.Add(time.Duration(n)))
	}
	if len(g.seen) > g.Size {
		t.Errorf("%d names are remembered", len(g.seen))
	}
	if g.Try("jane", now) == 0 {
		t.Error("the one who is guessed at was forgotten")
	}
	g.Try("late", now.Add(2*time.Hour))
	if len(g.seen) != 1 {
		t.Errorf("%d names are remembered long after", len(g.seen))
	}
}
