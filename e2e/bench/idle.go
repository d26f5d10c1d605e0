package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/coder/websocket"

	"github.com/oriel-project/oriel/e2e/stage"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/gateway"
	"github.com/oriel-project/oriel/internal/store"
	"github.com/oriel-project/oriel/internal/store/sqlite"
	"github.com/oriel-project/oriel/internal/ticket"
)

// Simulated machines have no displays to stream. So the gateway itself is measured: the handler that the server has, on records in
// SQLite, in a process of its own; the displays, which draw once and rest, are another process behind a unix socket each stream of
// theirs is a connection to, and the browsers are this one.
const (
	gatewayCommand  = "gateway"  // makes this program the gateway
	displaysCommand = "displays" // and this the displays
	idleSessions    = 1000
)

// idle measures what a session costs the gateway whose stream is open and at rest.
func (b *bench) idle(ctx context.Context) error {
	dir, err := os.MkdirTemp(b.dir, "i")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	socket := filepath.Join(dir, "displays.sock")
	displays, _, err := b.part(ctx, displaysCommand, socket)
	if err != nil {
		return err
	}
	defer displays()
	end, lines, err := b.part(ctx, gatewayCommand, dir, socket)
	if err != nil {
		return err
	}
	defer end()
	var at struct {
		URL   string
		PID   int
		Links []string
	}
	if err := json.UnmarshalRead(lines, &at); err != nil {
		return fmt.Errorf("the gateway does not say where it is: %w", err)
	}

	s := &stage.Server{URL: at.URL}
	watch := func(link string) error {
		v, err := s.Visit(ctx, link)
		if err != nil {
			return err
		}
		if v.Session == "" {
			return fmt.Errorf("a link leads to %d", v.Status)
		}
		ws, err := v.Stream(ctx)
		if err != nil {
			return err
		}
		conn := websocket.NetConn(ctx, ws, websocket.MessageBinary)
		if err := firstPixels(conn); err != nil {
			return err
		}
		go io.Copy(io.Discard, conn) // answers pings
		return nil
	}
	rest, length := 12*time.Second, 30*time.Second
	if b.quick {
		length /= 3
	}
	// The first stream has what all need read and made.
	if err := watch(at.Links[0]); err != nil {
		return err
	}
	time.Sleep(rest / 4)
	before := resident(at.PID)
	begin := time.Now()
	for _, link := range at.Links[1:] {
		if err := watch(link); err != nil {
			return err
		}
	}
	opened := time.Since(begin)
	time.Sleep(rest)
	cpu := processorTime(at.PID)
	begin = time.Now()
	time.Sleep(length)
	used := float64(processorTime(at.PID)-cpu) / float64(time.Since(begin))
	memory := resident(at.PID) - before
	n := len(at.Links) - 1
	b.add(row{what: fmt.Sprintf("%d idle sessions with open streams: memory of the gateway (RSS), each", len(at.Links)), oriel: fmt.Sprintf("%.0f kB", float64(memory)/float64(n)/1e3)})
	b.add(row{what: "the same: processor time of the gateway, all together", oriel: fmt.Sprintf("%.2f %% of a processor", used*100)})
	b.add(row{what: "the same: opened one after the other, link to first pixels", oriel: short(opened / time.Duration(n))})
	return nil
}

// part starts this program as something else. It ends with its standard input.
func (b *bench) part(ctx context.Context, args ...string) (end func(), out *bufio.Reader, err error) {
	c := exec.CommandContext(ctx, os.Args[0], args...)
	c.Stderr = os.Stderr
	in, err := c.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	pipe, err := c.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := c.Start(); err != nil {
		return nil, nil, err
	}
	end = func() {
		in.Close()
		c.Wait()
	}
	out = bufio.NewReader(pipe)
	if line, err := out.ReadString('\n'); err != nil || line != "ready\n" {
		end()
		return nil, nil, fmt.Errorf("%s says %q: %v", args[0], line, err)
	}
	return end, out, nil
}

// processorTime gives what a process has used of the processors.
func processorTime(pid int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The name, in parentheses, may have spaces.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	const perSecond = 100 // USER_HZ, the same on all of Linux
	return time.Duration(user+system) * time.Second / perSecond
}

// serveDisplays is an agent with as many displays as are asked for. Each draws one rectangle and rests.
func serveDisplays(socket string) error {
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	return http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "rfb" {
			http.NotFound(w, r)
			return
		}
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: rfb\r\n\r\n")
		_ = drawOnce(conn, rw.Reader)
	}))
}

// drawOnce speaks RFB (RFC 6143) from the display's side.
func drawOnce(conn io.Writer, r *bufio.Reader) error {
	read := func(n int) error {
		_, err := r.Discard(n)
		return err
	}
	const side = 32
	init := []byte{1280 >> 8, 1280 & 255, 720 >> 8, 720 & 255, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0, 0, 0, 0, 1, 'i'}
	for _, step := range []struct {
		write []byte
		read  int
	}{{[]byte("RFB 003.008\n"), 12}, {[]byte{1, 1}, 1}, {[]byte{0, 0, 0, 0}, 1}, {init, 0}} {
		if _, err := conn.Write(step.write); err != nil {
			return err
		}
		if err := read(step.read); err != nil {
			return err
		}
	}
	bytesPerPixel, drawn := 4, false
	for {
		kind, err := r.ReadByte()
		if err != nil {
			return err
		}
		switch kind {
		case 0: // SetPixelFormat
			format, err := r.Peek(4)
			if err != nil {
				return err
			}
			bytesPerPixel = int(format[3]) / 8
			err = read(19)
			if err != nil {
				return err
			}
		case 2: // SetEncodings
			head, err := r.Peek(3)
			if err != nil {
				return err
			}
			if err := read(3 + 4*(int(head[1])<<8|int(head[2]))); err != nil {
				return err
			}
		case 3: // FramebufferUpdateRequest
			if err := read(9); err != nil {
				return err
			}
			if drawn {
				continue
			}
			drawn = true
			picture := []byte{0, 0, 0, 1, 0, 0, 0, 0, 0, side, 0, side, 0, 0, 0, 0}
			for range side * side * bytesPerPixel {
				picture = append(picture, 0xff)
			}
			if _, err := conn.Write(picture); err != nil {
				return err
			}
		default:
			return fmt.Errorf("message %d is not one of a viewer at rest", kind)
		}
	}
}

// seats are the sessions of the gateway under measurement: each person has one.
type seats struct{ store.Store }

func (s seats) OpenSession(ctx context.Context, c ticket.Claims, _ string) (session appstream.Session, existing bool, err error) {
	err = s.View(ctx, func(tx store.Tx) error { return tx.Find("session-"+c.UserID, &session) })
	return session, true, err
}
func (seats) SessionConnected(context.Context, string, netip.Addr) error { return nil }
func (seats) ApplicationLaunched(context.Context, string, string) error  { return nil }
func (seats) SessionDisconnected(context.Context, string) error          { return nil }
func (seats) EndSession(context.Context, string) error                   { return errors.ErrUnsupported }

type unixDialer string

func (d unixDialer) Dial(ctx context.Context, _ string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "unix", string(d))
}

// serveGateway is a gateway with sessions that are ACTIVE.
func serveGateway(dir, socket string) error {
	ctx := context.Background()
	db, err := sqlite.Open(ctx, filepath.Join(dir, "oriel.db"))
	if err != nil {
		return err
	}
	defer db.Close()
	signer, err := ticket.NewSigner([]byte(strings.Repeat("k", 32)))
	if err != nil {
		return err
	}
	gate, err := gateway.New(gateway.Config{Store: db, Signer: signer, Dialer: unixDialer(socket), Sessions: seats{db}, Log: slog.New(slog.DiscardHandler),
		CreateImage: func(context.Context, gateway.NewImage) error { return errors.ErrUnsupported }})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	url := "http://" + l.Addr().String()
	links := make([]string, idleSessions)
	now := time.Now()
	for n := range links {
		user := fmt.Sprintf("user-%04d", n)
		session := appstream.Session{Meta: appstream.Meta{Key: appstream.Key{Account: "123456789012", Region: stage.Region, Noun: appstream.NounSession,
			Name: appstream.SessionName("idle", user, user)}, ID: "session-" + user}, Fleet: "idle", FleetID: "fleet-idle", Stack: "idle", StackID: "stack-idle", UserID: user,
			View: types.StreamViewDesktop, InstanceID: "i-" + user, MaxEnd: now.Add(time.Hour), AwayTimeout: time.Hour}
		session.Created = now
		session.EnterPending(now)
		if err := db.Update(ctx, func(tx store.Tx) error { return tx.Insert(&session) }); err != nil {
			return err
		}
		session.Enter(appstream.SessionActive, now, 0)
		if err := db.Update(ctx, func(tx store.Tx) error { return tx.Put(&session) }); err != nil {
			return err
		}
		if links[n], err = signer.URL(url, ticket.Claims{Type: ticket.TypeEndUser, Account: session.Account, Region: session.Region, RecordID: session.FleetID,
			UserID: user, Fleet: "idle", Stack: "idle", Expires: now.Add(time.Hour)}); err != nil {
			return err
		}
	}
	fmt.Println("ready")
	if err := json.MarshalWrite(os.Stdout, map[string]any{"URL": url, "PID": os.Getpid(), "Links": links}); err != nil {
		return err
	}
	os.Stdout.Close()
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	return http.Serve(l, gate)
}
