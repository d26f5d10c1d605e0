package agent

import (
	"context"
	"sync"
)

// watch is a lock whose changes can be waited for.
type watch struct {
	mu      sync.Mutex
	changed chan struct{} // closed and replaced at each change of what it guards
}

// change runs f under the lock and wakes whoever waits for a change.
func (w *watch) change(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
	if w.changed != nil {
		close(w.changed)
		w.changed = nil
	}
}

// waitUntil returns true when cond (called under the lock) holds, false when
// ctx ends first. Of both at once, as it looks to who was held up, cond counts.
func (w *watch) waitUntil(ctx context.Context, cond func() bool) bool {
	for {
		over := ctx.Err() != nil
		w.mu.Lock()
		if cond() {
			w.mu.Unlock()
			return true
		}
		if w.changed == nil {
			w.changed = make(chan struct{})
		}
		changed := w.changed
		w.mu.Unlock()
		if over {
			return false
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// read runs f under the lock.
func (w *watch) read(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}
