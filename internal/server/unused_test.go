package server

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Browsers open connections ahead of need. They do not hold up the end of the server.
func TestUnusedConnections(t *testing.T) {
	s, stop := start(t, simConfig(t, t.TempDir()))
	address := strings.TrimPrefix(s.URL(), "http://")
	var unused []net.Conn
	for range 3 {
		unused = append(unused, must(net.Dial("tcp", address))(t))
	}
	kept := must(net.Dial("tcp", address))(t) // had a request, and may have another
	fmt.Fprintf(kept, "GET /healthz HTTP/1.1\r\nHost: %s\r\n\r\n", address)
	if n, err := kept.Read(make([]byte, 64)); n == 0 {
		t.Fatal(err)
	}
	eventually(t, "the server has all connections", func() bool {
		s.unused.mu.Lock()
		defer s.unused.mu.Unlock()
		return len(s.unused.conns) == len(unused)
	})
	began := time.Now()
	stop()
	if took := time.Since(began); took > 4*time.Second { // http.Server.Shutdown would wait five
		t.Errorf("the end took %s", took)
	}
	for _, c := range append(unused, kept) {
		c.Close()
	}
	if _, err := http.Get(s.URL()); err == nil {
		t.Error("the server goes on")
	}
}
