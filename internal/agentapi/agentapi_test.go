package agentapi

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestCompareVersions(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"11-21-2026", "11-21-2026", 0},
		{"12-31-2025", "01-01-2026", -1},
		{"02-01-2026", "01-31-2026", +1},
		{"10-01-2026", "09-30-2026", +1},
		{"", Version, -1},
		{Version, "LATEST", +1},
		{"13-01-2026", "01-01-1900", -1}, // not a date
		{"1-1-2026", "01-01-1900", -1},
		{"a", "b", -1},
		{"", "", 0},
	} {
		if got := CompareVersions(c.a, c.b); got != c.want {
			t.Errorf("CompareVersions(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
	if _, err := ParseVersion(Version); err != nil {
		t.Error(err)
	}
}

func TestCompareVersionsIsAnOrder(t *testing.T) {
	version := rapid.OneOf(rapid.StringMatching(`[01]\d-[0123]\d-20\d\d`), rapid.String())
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := version.Draw(t, "a"), version.Draw(t, "b"), version.Draw(t, "c")
		if CompareVersions(a, b) != -CompareVersions(b, a) {
			t.Fatal("not antisymmetric")
		}
		if CompareVersions(a, b) <= 0 && CompareVersions(b, c) <= 0 && CompareVersions(a, c) > 0 {
			t.Fatal("not transitive")
		}
	})
}

func TestConfig(t *testing.T) {
	full := Config{Role: RoleFleet, ResourceName: "n", ImageARN: "a", InstanceType: "t", Region: "r", Account: "1", SocketUID: 1, SocketGID: 2, MaxSessions: 3, Width: 800, Height: 600}
	file := filepath.Join(t.TempDir(), ConfigName)
	if err := full.Write(file); err != nil {
		t.Fatal(err)
	}
	got, err := ReadConfig(file)
	if err != nil || got != full {
		t.Errorf("%+v, %v", got, err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if err := (Config{Role: "root"}).Write(file); err == nil {
		t.Error("an unknown role was written")
	}
	if _, err := ReadConfig(file + "x"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}

	for _, c := range []struct{ text, want string }{
		{`{"role":"imagebuilder","later":{"version":"may say more"}}`, ""},
		{`{"role":"imagebuilder","width":8193,"height":1}`, "display size"},
		{`{"role":"imagebuilder","width":800}`, "display size"},
		{`{"role":"imagebuilder","socketUid":-1}`, "negative"},
		{`{"role":"builder"}`, "role"},
		{`{"role":"fleet","maxSessions":51}`, "maxSessions"},
		{`{"role":"fleet","maxSessions":-1}`, "maxSessions"},
		{`{}`, "role"},
		{`[]`, "not understood"},
		{``, "not understood"},
		{`{"role":"fleet","imageArn":"` + strings.Repeat("x", maxConfig) + `"}`, "longer"},
	} {
		got, err := ParseConfig([]byte(c.text))
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.60s: %v, want %q", c.text, err, c.want)
		}
		if err == nil && (got.Width != 1280 || got.Height != 720) {
			t.Errorf("%.60s: display %d×%d", c.text, got.Width, got.Height)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(`{"role":"fleet","width":1024,"height":768,"socketUid":5}`))
	f.Add([]byte(`{"role":"imagebuilder","region":null}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := ParseConfig(text)
		if err != nil {
			return
		}
		again, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if c2, err := ParseConfig(again); err != nil || c2 != c {
			t.Errorf("%+v became %+v, %v", c, c2, err)
		}
	})
}

// serve answers on a unix socket with h and returns a client for it.
func serve(t *testing.T, h http.Handler) *Client {
	t.Helper()
	socket := filepath.Join(t.TempDir(), SocketName)
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	c := NewClient(DialSocket(socket))
	t.Cleanup(c.Close)
	return c
}

func TestClientCalls(t *testing.T) {
	var got []string
	note := func(r *http.Request) string {
		body, _ := io.ReadAll(r.Body)
		got = append(got, strings.TrimSpace(r.Method+" "+r.RequestURI+" "+string(body)))
		return string(body)
	}
	queue := []string{`{"id":"a/b","kind":"create-image","createImage":{"name":"n","tags":{"k":"v"}},"new":1}`, ``, `{"id":"","kind":"reboot"}`, `{"id":"x","kind":"create-image"}`}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, r *http.Request) {
		note(r)
		io.WriteString(w, `{"version":"11-21-2026","role":"imagebuilder","startedAt":"2026-11-21T09:00:00Z","ready":true,"unknown":[1]}`)
	})
	mux.HandleFunc("GET /v1/applications", func(w http.ResponseWriter, r *http.Request) {
		note(r)
		io.WriteString(w, `{"applications":[{"name":"n","displayName":"N","absoluteAppPath":"/n","iconPng":"AQI="}]}`)
	})
	mux.HandleFunc("GET /v1/requests", func(w http.ResponseWriter, r *http.Request) {
		note(r)
		next := queue[0]
		if queue = queue[1:]; next == "" {
			w.WriteHeader(http.StatusNoContent)
		}
		io.WriteString(w, next)
	})
	mux.HandleFunc("POST /v1/requests/{id}", func(w http.ResponseWriter, r *http.Request) {
		note(r)
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("POST /v1/quiesce", func(w http.ResponseWriter, r *http.Request) {
		note(r)
		w.WriteHeader(http.StatusInternalServerError)
		io.WriteString(w, `{"message":"the disk is full"}`)
	})
	mux.HandleFunc("POST /v1/resume", func(w http.ResponseWriter, r *http.Request) {
		note(r)
		w.WriteHeader(http.StatusBadGateway)
		io.WriteString(w, "<html>")
	})
	c := serve(t, mux)
	ctx := t.Context()

	s, err := c.Status(ctx)
	if want := (Status{Version: "11-21-2026", Role: RoleImageBuilder, StartedAt: time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC), Ready: true}); err != nil || s != want {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := c.WaitReady(ctx, time.Hour); err != nil {
		t.Error(err)
	}
	apps, err := c.Applications(ctx)
	if diff := cmp.Diff([]Application{{Name: "n", DisplayName: "N", AbsoluteAppPath: "/n", IconPNG: []byte{1, 2}}}, apps); diff != "" || err != nil {
		t.Error(diff, err)
	}
	r, err := c.NextRequest(ctx, 1500*time.Millisecond)
	if diff := cmp.Diff(&Request{ID: "a/b", Kind: KindCreateImage, CreateImage: &CreateImage{Name: "n", Tags: map[string]string{"k": "v"}}}, r); diff != "" || err != nil {
		t.Error(diff, err)
	}
	if err := c.Answer(ctx, r.ID, Answer{ErrorKind: ErrorInvalid, Message: "no"}); err != nil {
		t.Error(err)
	}
	if r, err := c.NextRequest(ctx, 0); r != nil || err != nil {
		t.Error(r, err)
	}
	for range 2 { // without id; without parameters
		if r, err := c.NextRequest(ctx, 0); err == nil {
			t.Error("an incomplete request was accepted", r)
		}
	}
	var refused *CallError
	if err := c.Quiesce(ctx); !errors.As(err, &refused) || refused.Status != 500 || refused.Error() != "agent: the disk is full" {
		t.Error(err)
	}
	if err := c.Resume(ctx); !errors.As(err, &refused) || refused.Error() != "agent: Bad Gateway" {
		t.Error(err)
	}
	want := []string{
		"GET /v1/status", "GET /v1/status?wait=30.000", "GET /v1/applications", "GET /v1/requests?wait=1.500",
		`POST /v1/requests/a%2Fb {"errorKind":"invalid","message":"no"}`,
		"GET /v1/requests?wait=0.000", "GET /v1/requests?wait=0.000", "GET /v1/requests?wait=0.000", "POST /v1/quiesce", "POST /v1/resume",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestClientBoundsAnswers(t *testing.T) {
	for what, limit := range map[string]int{"status": maxAnswer, "session": maxList} {
		c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for range 10 {
				w.Write(bytes.Repeat([]byte(" "), limit/8))
			}
		}))
		_, err := c.Status(t.Context())
		if what == "session" {
			_, err = c.Session("one").Folder(t.Context(), "")
		}
		if err == nil || !strings.Contains(err.Error(), "longer than") {
			t.Errorf("%s: %v", what, err)
		}
	}
	c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Long", strings.Repeat("x", 2*maxHeader))
	}))
	if _, err := c.Status(t.Context()); err == nil {
		t.Error("a header without end is taken")
	}
}

func TestClientWithoutAgent(t *testing.T) {
	c := NewClient(DialSocket(filepath.Join(t.TempDir(), "none")))
	if _, err := c.Status(t.Context()); err == nil {
		t.Error("a status from nobody")
	}
	if _, err := c.Display(t.Context()); err == nil {
		t.Error("a display from nobody")
	}
}

func TestDialWhenUp(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error)
	dial := func() {
		c, err := DialWhenUp(socket)(ctx)
		if err == nil {
			c.Close()
		}
		result <- err
	}
	go dial()
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-result; err != nil {
		t.Error(err)
	}
	l.Close() // which removes the socket
	go dial()
	cancel()
	if err := <-result; err == nil {
		t.Error("a connection to nobody")
	}
}

// answerRaw accepts one connection, reads a request's head and writes text.
func answerRaw(t *testing.T, text string, then func(net.Conn)) *Client {
	t.Helper()
	return NewClient(func(context.Context) (net.Conn, error) {
		here, there := socketPair(t)
		go func() {
			defer there.Close()
			r := bufio.NewReader(there)
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			io.WriteString(there, text)
			if then != nil {
				then(there)
			}
		}()
		return here, nil
	})
}

func socketPair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a, err = net.Dial("unix", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return a, b
}

const switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: rfb\r\n\r\n"

func TestDisplay(t *testing.T) {
	// The display's first bytes arrive with the head; then everything comes
	// back, also after our side has said its last word.
	echo := func(c net.Conn) { io.Copy(c, c); io.WriteString(c, "bye") }
	for _, read := range []func(io.Reader) ([]byte, error){
		io.ReadAll,
		func(r io.Reader) ([]byte, error) { // in the way of io.Copy
			var b bytes.Buffer
			_, err := io.Copy(&b, r)
			return b.Bytes(), err
		},
	} {
		d, err := answerRaw(t, switching+"RFB 003.008\n", echo).Display(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		first := make([]byte, 4)
		if _, err := io.ReadFull(d, first); err != nil || string(first) != "RFB " {
			t.Errorf("%q, %v", first, err)
		}
		io.WriteString(d, "key")
		d.CloseWrite()
		if rest, err := read(d); err != nil || string(rest) != "003.008\nkeybye" {
			t.Errorf("%q, %v", rest, err)
		}
		d.Close()
	}
}

func TestDisplayRefused(t *testing.T) {
	for text, want := range map[string]string{
		"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n":             ErrDisplayDown.Error(),
		"HTTP/1.1 429 Too Many\r\nContent-Length: 18\r\n\r\n{\"message\":\"many\"}": "agent: many",
		"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n":                              "agent: OK",
		"nonsense": "agent: ",
		"HTTP/1.1 101 X\r\n" + strings.Repeat("A: "+strings.Repeat("b", 1000)+"\r\n", 100): "agent: ",
	} {
		d, err := answerRaw(t, text, nil).Display(t.Context())
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%.40q: %v, %v, want %s", text, d, err, want)
		}
	}
	// An agent that says nothing does not hold the caller.
	ctx, cancel := context.WithCancel(t.Context())
	c := NewClient(func(context.Context) (net.Conn, error) {
		here, _ := socketPair(t)
		cancel()
		return here, nil
	})
	if _, err := c.Display(ctx); err == nil {
		t.Error("a display from a silent agent")
	}
}

func FuzzDisplayHandshake(f *testing.F) {
	f.Add(switching + "RFB 003.008\n")
	f.Add("HTTP/1.1 101 \r\nContent-Length: 5\r\n\r\nhello")
	f.Add("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		here, there := net.Pipe()
		go func() {
			go io.Copy(io.Discard, there)
			io.WriteString(there, text)
			there.Close()
		}()
		defer there.Close()
		d, err := upgrade(t.Context(), here, "/v1/display")
		if err != nil {
			here.Close()
			return
		}
		defer d.Close()
		rest, err := io.ReadAll(io.LimitReader(d, 1<<20))
		if err != nil || !strings.HasSuffix(text, string(rest)) {
			t.Errorf("after the handshake: %q, %v", rest, err)
		}
	})
}

func ExampleClient() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c := NewClient(DialWhenUp("/var/lib/oriel/instances/hello/" + SocketName))
	defer c.Close()
	if s, err := c.WaitReady(ctx, 15*time.Second); err == nil && s.Ready {
		fmt.Println("the desktop is there")
	}
}
