package server

import (
	"net"
	"net/http"
	"sync"
	"time"
)

// unusedTime is how long the end of the server waits for requests on connections that have not had one yet.
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

func (u *unused) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for c := range u.conns {
		c.Close()
	}
}
