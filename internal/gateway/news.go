package gateway

import (
	"context"
	"sync"

	"github.com/oriel-project/oriel/internal/store"
)

// news tells those who follow a record that it has changed. All share one watch of the store: a commit that concerns none of a
// thousand streams costs one look into a map, and not a thousand wakings. While nobody follows, nothing is watched.
type news struct {
	mu        sync.Mutex
	followers map[string]map[chan struct{}]bool // by record ID
	unwatch   context.CancelFunc
}

// follow gives a channel that has something to receive whenever the record of id has changed, or may have, since it was last
// received from. stop ends that.
func (n *news) follow(s store.Store, id string) (changed <-chan struct{}, stop func()) {
	c := make(chan struct{}, 1)
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.followers) == 0 {
		var ctx context.Context
		ctx, n.unwatch = context.WithCancel(context.Background())
		n.followers = make(map[string]map[chan struct{}]bool)
		go n.tell(s.Watch(ctx))
	}
	if n.followers[id] == nil {
		n.followers[id] = make(map[chan struct{}]bool)
	}
	n.followers[id][c] = true
	return c, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.followers[id], c)
		if len(n.followers[id]) == 0 {
			delete(n.followers, id)
		}
		if len(n.followers) == 0 {
			n.unwatch()
		}
	}
}

func (n *news) tell(changes <-chan store.Change) {
	for c := range changes {
		n.mu.Lock()
		if c.Lagged {
			for _, all := range n.followers {
				wake(all)
			}
		} else {
			wake(n.followers[c.ID])
		}
		n.mu.Unlock()
	}
}

func wake(all map[chan struct{}]bool) {
	for c := range all {
		select {
		case c <- struct{}{}:
		default: // it has not been received since the last time
		}
	}
}
