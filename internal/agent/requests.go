package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"sync"

	"github.com/oriel-project/oriel/internal/agentapi"
)

// maxRequests bounds what waits for the server.
const maxRequests = 8

var (
	errQueueFull     = errors.New("too many requests wait for the Oriel server; try again later")
	errNotPickedUp   = errors.New("the Oriel server did not pick the request up; check that it runs, and try again")
	errNoAnswer      = errors.New("the Oriel server took the request and did not answer in time; look at the image's state before you try again")
	errUnknownAnswer = errors.New("no request of this id waits for an answer")
)

// requests is the queue of what people inside ask of the server. A request is
// handed out once: when the server dies with it, the person who asked is told
// that no answer came, and nothing is done twice.
type requests struct {
	mu      sync.Mutex
	waiting []*pending
	taken   map[string]*pending
	added   chan struct{} // closed and replaced when one is added
}

type pending struct {
	agentapi.Request
	taken  chan struct{}        // closed when handed out
	answer chan agentapi.Answer // holds one
}

func newRequests() *requests {
	return &requests{taken: map[string]*pending{}, added: make(chan struct{})}
}

// add puts r, which gets an id, at the end of the queue.
func (q *requests) add(r agentapi.Request) (*pending, error) {
	r.ID = rand.Text()
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting)+len(q.taken) >= maxRequests {
		return nil, errQueueFull
	}
	p := &pending{Request: r, taken: make(chan struct{}), answer: make(chan agentapi.Answer, 1)}
	q.waiting = append(q.waiting, p)
	close(q.added)
	q.added = make(chan struct{})
	return p, nil
}

// withdraw takes p out of the queue, and tells whether it was there still.
func (q *requests) withdraw(p *pending) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := slices.Index(q.waiting, p)
	if n >= 0 {
		q.waiting = slices.Delete(q.waiting, n, n+1)
	}
	return n >= 0
}

// drop forgets p, answered or not.
func (q *requests) drop(p *pending) {
	q.withdraw(p)
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.taken, p.ID)
}

// next hands the oldest request out; nil when none comes before ctx is done.
func (q *requests) next(ctx context.Context) *pending {
	for {
		q.mu.Lock()
		if len(q.waiting) > 0 {
			p := q.waiting[0]
			q.waiting = q.waiting[1:]
			q.taken[p.ID] = p
			close(p.taken)
			q.mu.Unlock()
			return p
		}
		added := q.added
		q.mu.Unlock()
		select {
		case <-added:
		case <-ctx.Done():
			return nil
		}
	}
}

// answer gives the author of request id the server's answer.
func (q *requests) answerTo(id string, a agentapi.Answer) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	p := q.taken[id]
	if p == nil {
		return errUnknownAnswer
	}
	delete(q.taken, id)
	p.answer <- a
	return nil
}

// ask adds r and waits for the answer: until takeBy for the server to take it,
// until ctx ends for what it says.
func (q *requests) ask(ctx, takeBy context.Context, r agentapi.Request) (agentapi.Answer, error) {
	p, err := q.add(r)
	if err != nil {
		return agentapi.Answer{}, err
	}
	defer q.drop(p)
	select {
	case <-p.taken:
	case <-takeBy.Done():
		if q.withdraw(p) {
			return agentapi.Answer{}, errNotPickedUp
		}
		// It was taken at the last moment, and is done.
	}
	select {
	case a := <-p.answer:
		return a, nil
	case <-ctx.Done():
	}
	select {
	case a := <-p.answer: // likewise
		return a, nil
	default:
		return agentapi.Answer{}, errNoAnswer
	}
}
