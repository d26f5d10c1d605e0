package server

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener whose connections are pipes, for servers in a bubble.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p pipes) Close() error {
	close(p.closed)
	return nil
}

func (pipes) Addr() net.Addr { return &net.UnixAddr{} }

func (p pipes) dial() net.Conn {
	here, there := net.Pipe()
	p.conns <- there
	return here
}

// Browsers open connections ahead of need. They do not hold up the end of the server.
func TestUnusedConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var u unused
		h := &http.Server{ConnState: u.follow, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })}
		l := pipes{make(chan net.Conn), make(chan struct{})}
		served := make(chan error)
		go func() { served <- h.Serve(l) }()
		for range 3 {
			defer l.dial().Close()
		}
		kept := l.dial() // had a request, and may have another
		defer kept.Close()
		io.WriteString(kept, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		if resp, err := http.ReadResponse(bufio.NewReader(kept), nil); err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("%v, %v", resp, err)
		}
		synctest.Wait()
		began := time.Now()
		if err := u.shutdown(context.Background(), h); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > 4*unusedTime { // http.Server.Shutdown alone would take five seconds
			t.Errorf("the end took %s", took)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
		if len(u.conns) > 0 {
			t.Errorf("%d connections are left", len(u.conns))
		}
	})
}
