package gateway

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/oriel-project/oriel/internal/ticket"
)

// socketDialer reaches every machine by one unix socket, as the real ones are reached, so that what is measured is what a server has.
type socketDialer string

func (d socketDialer) Dial(ctx context.Context, id string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "unix", string(d))
}

// BenchmarkIdleSessions opens 1,000 sessions' streams, lets them be, and tells what each costs the gateway: goroutines, memory (stacks and heap
// after a collection), and CPU a second. The other ends are in the same process and are measured by themselves and taken off: raw
// connections without goroutines.
func BenchmarkIdleSessions(b *testing.B) {
	const sessions = 1000
	socket := filepath.Join(b.TempDir(), "agent.sock")
	agent, err := net.Listen("unix", socket)
	if err != nil {
		b.Fatal(err)
	}
	defer agent.Close()
	displays := make(chan net.Conn, sessions)
	go func() {
		for {
			c, err := agent.Accept()
			if err != nil {
				return
			}
			buffer := make([]byte, 1024)
			c.Read(buffer)
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: rfb\r\n\r\n"+string(displayHello))
			displays <- c
		}
	}()
	signer, err := ticket.NewSigner(make([]byte, ticket.KeySize))
	if err != nil {
		b.Fatal(err)
	}
	records := newMemory()
	for n := range sessions {
		s := aSession()
		s.ID, s.IdleTimeout = fmt.Sprintf("s-%d", n), time.Hour
		records.sessions[s.ID] = s
	}
	g, err := New(Config{Store: records, Signer: signer, Sessions: &people{store: records}, Dialer: socketDialer(socket),
		CreateImage: func(context.Context, NewImage) error { return nil }, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	server := httptest.NewServer(g)
	defer server.Close()
	defer g.Close(context.Background())
	memory := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse
	}
	for b.Loop() {
		before, goroutines := memory(), runtime.NumGoroutine()
		var browsers []net.Conn
		for n := range sessions {
			id := fmt.Sprintf("s-%d", n)
			c := ticket.Claims{Type: ticket.TypeEndUser, Account: testAccount, Region: testRegion, RecordID: id, UserID: "u", Fleet: "studio", Stack: "Design", Expires: time.Now().Add(time.Hour)}
			cookie, err := signer.Session(c)
			if err != nil {
				b.Fatal(err)
			}
			browser, err := net.Dial("tcp", server.Listener.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			fmt.Fprintf(browser, "GET /stream/%s/ws HTTP/1.1\r\nHost: x\r\nOrigin: http://x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
				"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: binary\r\nCookie: oriel-%s=%s\r\n\r\n", id, id, cookie)
			browsers = append(browsers, browser)
			hello := make([]byte, 4096)
			for got := ""; !strings.HasSuffix(got, "desk"); {
				n, err := browser.Read(hello)
				if err != nil {
					b.Fatal(err)
				}
				got += string(hello[:n])
			}
		}
		time.Sleep(2 * restAfter) // buffers are given back
		used := cpuTime(b)
		began := time.Now()
		time.Sleep(3 * time.Second)
		cpu := (cpuTime(b) - used).Seconds() / time.Since(began).Seconds()
		b.ReportMetric(float64(memory()-before)/sessions/1024, "KiB/stream")
		b.ReportMetric(float64(runtime.NumGoroutine()-goroutines)/sessions, "goroutines/stream")
		b.ReportMetric(cpu*1e6/sessions, "µs-CPU/s/stream")
		for _, browser := range browsers {
			browser.Close()
			(<-displays).Close()
		}
		for len(g.Streams()) > 0 {
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// cpuTime is what the process has used.
func cpuTime(b *testing.B) time.Duration {
	text, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		b.Skip("there is no /proc")
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	var user, system int64
	fmt.Sscan(fields[11], &user)
	fmt.Sscan(fields[12], &system)
	return time.Duration(user+system) * 10 * time.Millisecond
}
