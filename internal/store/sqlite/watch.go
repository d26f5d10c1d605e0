package sqlite

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/oriel-project/oriel/internal/store"
)

// watchQueue is how many changes a watcher may be behind before it has lagged.
const watchQueue = 256

// hub hands committed changes to the watchers. The channel of a watcher is its queue, so that no goroutine stands
// between the writer and the receivers.
type hub struct {
	generation atomic.Uint64 // how many commits had changes

	mu       sync.Mutex
	watchers map[*watcher]struct{} // nil when closed
}

type watcher struct {
	queue chan store.Change
	stop  func() bool // forgets the watcher's context
}

func (h *hub) watch(ctx context.Context) <-chan store.Change {
	w := &watcher{queue: make(chan store.Change, watchQueue)}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.watchers == nil {
		close(w.queue)
		return w.queue
	}
	h.watchers[w] = struct{}{}
	w.stop = context.AfterFunc(ctx, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if _, ok := h.watchers[w]; ok {
			delete(h.watchers, w)
			close(w.queue)
		}
	})
	return w.queue
}

// publish never waits. The writer calls it while it still has the write lock, hence the order is that of the commits.
func (h *hub) publish(changes []store.Change) {
	if len(changes) == 0 {
		return
	}
	h.generation.Add(1)
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.watchers {
		for _, c := range changes {
			w.send(c)
		}
	}
}

// send queues a change. When the queue is full, all that waits in it is replaced by one mark: the receiver must look
// for itself now, and the mark must be there even if nothing is ever published again.
func (w *watcher) send(c store.Change) {
	select {
	case w.queue <- c:
		return
	default:
	}
	for {
		select {
		case <-w.queue:
			continue
		default:
		}
		break
	}
	w.queue <- store.Change{Lagged: true} // only the publisher sends, so there is room
	w.queue <- c
}

// close ends all watches.
func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.watchers {
		w.stop()
		close(w.queue)
	}
	h.watchers = nil
}
