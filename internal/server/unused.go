package server

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// unusedTime is when connections that have not had a request are closed, after the end of the server has begun. net/http answers none on them any more;
// those that are just being taken are known a moment later.
const unusedTime = 250 * time.Millisecond

// unused are the connections on which nothing has come yet. Browsers open some ahead of need, and http.Server.Shutdown waits five
// seconds for each: as long as nobody could be served by the server that is started next.
type unused struct {
	mu    sync.Mutex
	conns map[net.Conn]bool
}

// follow is an http.Server's ConnState.
func (u *unused) follow(c net.Conn, state http.ConnState) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if state != http.StateNew {
		delete(u.conns, c)
		return
	}
	if u.conns == nil {
		u.conns = map[net.Conn]bool{}
	}
	u.conns[c] = true
}

// shutdown is h.Shutdown, of the server that is followed.
func (u *unused) shutdown(ctx context.Context, h *http.Server) error {
	defer time.AfterFunc(unusedTime, u.close).Stop()
	return h.Shutdown(ctx)
}

func (u *unused) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for c := range u.conns {
		c.Close()
	}
}
