package gateway

import (
	"bytes"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	"github.com/oriel-project/oriel/internal/agentapi"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/rfb/rfbtest"
)

// ask makes a request of the session as the viewer does.
func (w *world) ask(client *http.Client, method, path, body string, change func(*http.Request)) (int, http.Header, string) {
	w.t.Helper()
	var in io.Reader
	if body != "" {
		in = strings.NewReader(body)
	}
	r, err := http.NewRequest(method, w.on("/stream/"+testSession+path), in)
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header = http.Header{"Sec-Fetch-Site": {"same-origin"}, "Sec-Fetch-Dest": {"empty"}}
	if strings.HasPrefix(body, "{") {
		r.Header.Set("Content-Type", "application/json")
	}
	if change != nil {
		change(r)
	}
	return w.do(client, r)
}

func TestCallsToTheSession(t *testing.T) {
	for _, tt := range []struct {
		method, path, body string
		status             int
		says               string
		call               string // what the agent is asked; "" for nothing
	}{
		{"POST", "/launch", `{"application":"paint"}`, 204, "", `POST /launch {"application":"paint"}`},
		{"POST", "/launch", `{"application":"unknown"}`, 404, `{"code":"refused","message":"There is no application unknown."}`, `POST /launch {"application":"unknown"}`},
		{"POST", "/launch", `{"application":"early"}`, 503, `"code":"unreachable"`, `POST /launch {"application":"early"}`},
		{"POST", "/launch", `{"application":""}`, 400, "not the name", ""},
		{"POST", "/launch", `{"application":"` + strings.Repeat("x", 101) + `"}`, 400, "not the name", ""},
		{"POST", "/launch", `{"program":"sh"}`, 400, "not understood", ""},
		{"POST", "/launch", `paint`, 415, "JSON", ""},
		{"GET", "/windows", "", 200, `{"version":"w1","windows":[{"id":7,"title":"` + strings.Repeat("t", 256) + `","active":true}]}`, "GET /windows "},
		{"GET", "/windows?after=" + strings.Repeat("v", 129), "", 400, "not a version", ""},
		{"POST", "/windows/7", `{"action":"close"}`, 204, "", `POST /windows/7 {"action":"close"}`},
		{"POST", "/windows/7", `{"action":"explode"}`, 400, "activated or closed", ""},
		{"POST", "/windows/4294967296", `{"action":"close"}`, 400, "activated or closed", ""},
		{"GET", "/folders/", "", 200, `{"path":"","files":[{"name":"a.txt","size":3,"modified":"0001-01-01T00:00:00Z"}],"free":9}`, "GET /folders/ "},
		{"PUT", "/folders/new/one", "", 204, "", "PUT /folders/new/one "},
		{"PUT", "/folders/", "", 409, "exists", ""},
		{"PUT", "/files/a%20b/gr%C3%BC%C3%9F.txt", "content", 204, "", "PUT /files/a b/grüß.txt content"},
		{"PUT", "/files/full", "content", 507, "The disk is full.", "PUT /files/full content"},
		{"PUT", "/files/empty", "", 204, "", "PUT /files/empty "},
		{"DELETE", "/files/a.txt", "", 204, "", "DELETE /files/a.txt "},
		{"DELETE", "/files/gone", "", 409, `"code":"state"`, "DELETE /files/gone "},
		{"GET", "/prints", "", 200, `{"version":"p1","prints":[{"id":"one","title":"Größe \"1\"","size":4,"printed":"0001-01-01T00:00:00Z"}]}`, "GET /prints "},
		{"DELETE", "/prints/one", "", 204, "", "DELETE /prints/one "},
		{"DELETE", "/prints/..%2Fx", "", 404, "no such document", ""},
		// What leads out of the folder gets nowhere near the agent.
		{"GET", "/files/%2e%2e/passwd", "", 400, `"code":"path"`, ""},
		{"GET", "/files/a%2f..%2f..%2fpasswd", "", 400, `"code":"path"`, ""},
		{"GET", "/files/%2fetc%2fpasswd", "", 400, `"code":"path"`, ""},
		{"GET", "/files/a%00b", "", 400, `"code":"path"`, ""},
		{"GET", "/files/a%0ab", "", 400, `"code":"path"`, ""},
		{"GET", "/files/%ff", "", 400, `"code":"path"`, ""},
		{"GET", "/files/", "", 400, `"code":"path"`, ""},
		{"GET", "/files/" + strings.Repeat("x", 256), "", 400, `"code":"path"`, ""},
		{"PUT", "/files/" + strings.Repeat("x/", 600) + "y", "z", 400, `"code":"path"`, ""},
		{"GET", "/folders/%2e%2e", "", 400, `"code":"path"`, ""},
		{"DELETE", "/files/%2e", "", 400, `"code":"path"`, ""},
	} {
		m := newMachine()
		w := newStudio(t, m, nil)
		status, _, body := w.ask(w.seated(), tt.method, tt.path, tt.body, nil)
		if status != tt.status || !strings.Contains(body, tt.says) {
			t.Errorf("%s %.60s was answered with %d %s", tt.method, tt.path, status, body)
		}
		var want []string
		if tt.call != "" {
			want = []string{tt.call}
		}
		if diff := cmp.Diff(want, m.called()); diff != "" {
			t.Errorf("%s %.60s: %s", tt.method, tt.path, diff)
		}
		want = nil
		if strings.Contains(w.log.String(), "level=WARN") {
			t.Errorf("%s %.60s: what is in order was logged as a warning:\n%s", tt.method, tt.path, w.log)
		}
		if tt.path == "/launch" && tt.status == http.StatusNoContent {
			want = []string{testSession + " paint"}
		}
		if diff := cmp.Diff(want, w.people.launched()); diff != "" {
			t.Errorf("%s %.60s: noted launches: %s", tt.method, tt.path, diff)
		}
	}
}

// A launch that cannot be noted is one all the same.
func TestLaunchThatCannotBeNoted(t *testing.T) {
	w := newStudio(t, newMachine(), nil)
	w.people.launchErr = errors.New("the disk is on fire")
	if status, _, body := w.ask(w.seated(), "POST", "/launch", `{"application":"paint"}`, nil); status != http.StatusNoContent {
		t.Errorf("answered %d %s", status, body)
	}
	if !strings.Contains(w.log.String(), "the disk is on fire") {
		t.Error("the log does not say so")
	}
}

// What a person is not entitled to is not in his catalogue, and he cannot begin it.
func TestEntitlements(t *testing.T) {
	m := newMachine()
	w := newStudio(t, m, nil)
	client := w.seated()
	_, _, all := w.ask(client, "GET", "/info", "", nil)
	w.seat(func(s *appstream.Session) { s.Filtered, s.Entitled = true, []string{"paint"} })
	_, _, some := w.ask(client, "GET", "/info", "", nil)
	if !strings.Contains(some, `"name":"paint"`) || strings.Count(some, `"displayName"`) != 1 || strings.Count(all, `"displayName"`) < 2 {
		t.Errorf("the catalogue: %s\nof all: %s", some, all)
	}
	for application, want := range map[string]int{"paint": http.StatusNoContent, "write": http.StatusForbidden} {
		if status, _, body := w.ask(client, "POST", "/launch", `{"application":"`+application+`"}`, nil); status != want {
			t.Errorf("%s: answered %d %s", application, status, body)
		}
	}
	if diff := cmp.Diff([]string{`POST /launch {"application":"paint"}`}, m.called()); diff != "" {
		t.Errorf("the agent is asked: %s", diff)
	}
}

func TestCallsThatAreRefused(t *testing.T) {
	calls := []struct {
		method, path, body string
		rule               func(*appstream.Rules) // forbids it
	}{
		{"POST", "/launch", `{"application":"paint"}`, nil},
		{"GET", "/windows", "", nil},
		{"POST", "/windows/7", `{"action":"close"}`, nil},
		{"GET", "/folders/", "", func(r *appstream.Rules) { r.Upload, r.Download = false, false }},
		{"PUT", "/folders/a", "", func(r *appstream.Rules) { r.Upload = false }},
		{"GET", "/files/a", "", func(r *appstream.Rules) { r.Download = false }},
		{"PUT", "/files/a", "x", func(r *appstream.Rules) { r.Upload = false }},
		{"DELETE", "/files/a", "", func(r *appstream.Rules) { r.Upload = false }},
		{"GET", "/prints", "", func(r *appstream.Rules) { r.Print = false }},
		{"GET", "/prints/one", "", func(r *appstream.Rules) { r.Print = false }},
		{"DELETE", "/prints/one", "", func(r *appstream.Rules) { r.Print = false }},
	}
	for _, c := range calls {
		m := newMachine()
		w := newStudio(t, m, nil)
		client := w.seated()
		check := func(what string, client *http.Client, change func(*http.Request), status int, code string) {
			t.Helper()
			got, _, body := w.ask(client, c.method, c.path, c.body, change)
			if got != status || !strings.Contains(body, `"code":"`+code+`"`) {
				t.Errorf("%s %s, %s: answered %d %s", c.method, c.path, what, got, body)
			}
		}
		check("no cookie", w.browser(), nil, http.StatusUnauthorized, "session")
		if c.method != "GET" {
			check("another site", client, func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, http.StatusForbidden, "origin")
			check("another origin", client, func(r *http.Request) {
				r.Header.Del("Sec-Fetch-Site")
				r.Header.Set("Origin", "https://evil.example")
			}, http.StatusForbidden, "origin")
		}
		if c.rule != nil {
			w.seat(func(s *appstream.Session) { c.rule(&s.Rules) })
			check("forbidden", client, nil, http.StatusForbidden, "forbidden")
			w.seat(func(s *appstream.Session) { s.Rules = allowed })
		}
		w.seat(func(s *appstream.Session) { s.State = appstream.SessionPending })
		check("pending", client, nil, http.StatusConflict, "state")
		w.seat(func(s *appstream.Session) { s.State = appstream.SessionActive })
		w.gate.calls[testSession] = maxCalls
		check("too many", client, nil, http.StatusTooManyRequests, "limit")
		delete(w.gate.calls, testSession)
		w.store.mu.Lock()
		w.store.broken = errors.New("the disk is on fire")
		w.store.mu.Unlock()
		check("a broken store", client, nil, http.StatusServiceUnavailable, "fault")
		w.store.mu.Lock()
		w.store.broken = nil
		w.store.mu.Unlock()
		if calls := m.called(); len(calls) != 0 {
			t.Errorf("%s %s: the agent was asked for %v", c.method, c.path, calls)
		}
		m.down = true
		check("unreachable", client, nil, http.StatusBadGateway, "unreachable")
		if len(w.gate.calls) != 0 {
			t.Errorf("%s %s: %v are still under way", c.method, c.path, w.gate.calls)
		}
		w.store.put(ended(w.store, appstream.EndByAdmin), nil)
		check("over", client, nil, http.StatusConflict, "state")
	}
}

func TestFilesAreSavedAndNeverShown(t *testing.T) {
	m := newMachine()
	w := newStudio(t, m, func(s *appstream.Session) { s.EmbedDomains = []string{"portal.example"} })
	client := w.seated()
	status, header, body := w.ask(client, "GET", `/files/sub/gr%C3%BC%C3%9F%22%25%20%E2%82%AC.html`, "", nil)
	if status != http.StatusOK || body != "<script>alert(1)</script>" {
		t.Errorf("answered %d %s", status, body)
	}
	for name, want := range map[string]string{"Content-Type": "application/octet-stream", "Content-Security-Policy": "sandbox; default-src 'none'", "Content-Length": "25",
		"X-Content-Type-Options": "nosniff", "Content-Disposition": `attachment; filename="gr___ _.html"; filename*=UTF-8''gr%C3%BC%C3%9F%22%25%20%E2%82%AC.html`} {
		if got := header.Get(name); got != want && !(name == "Content-Disposition" && strings.HasSuffix(got, "gr%C3%BC%C3%9F%22%25%20%E2%82%AC.html")) {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if kind, parameters, err := mime.ParseMediaType(header.Get("Content-Disposition")); err != nil || kind != "attachment" || parameters["filename"] != `grüß"% €.html` {
		t.Errorf("the browser reads %s, %v, %v", kind, parameters, err)
	}
	if status, header, body := w.ask(client, "HEAD", "/files/a", "", nil); status != http.StatusOK || body != "" || header.Get("Content-Length") != "25" {
		t.Errorf("HEAD was answered with %d, %v", status, header)
	}
	status, header, body = w.ask(client, "GET", "/prints/one", "", nil)
	if status != http.StatusOK || body != "%PDF" || header.Get("Content-Type") != "application/pdf" || !strings.HasSuffix(header.Get("Content-Disposition"), `UTF-8''Gr%C3%B6%C3%9Fe%20%221%22.pdf`) {
		t.Errorf("the print was answered with %d %s, %v", status, body, header)
	}
	// A part is never taken for the whole.
	r, err := http.NewRequest("GET", w.on("/stream/"+testSession+"/files/short"), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(r)
	if err == nil {
		_, err = io.ReadAll(resp.Body)
		resp.Body.Close()
	}
	if err == nil {
		t.Error("a file that broke off was taken for whole")
	}
}

func TestUpload(t *testing.T) {
	m := newMachine()
	w := newStudio(t, m, nil)
	client := w.seated()
	content := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
	if status, _, body := w.ask(client, "PUT", "/files/large", string(content), nil); status != http.StatusNoContent || !bytes.Equal(m.file, content) {
		t.Errorf("answered %d %s; %d bytes arrived", status, body, len(m.file))
	}
	if status, _, _ := w.ask(client, "PUT", "/files/a", "x", func(r *http.Request) { r.ContentLength = -1 }); status != http.StatusLengthRequired {
		t.Errorf("without a length answered %d", status)
	}
	client.Transport = &http.Transport{ExpectContinueTimeout: patience} // the body is shorter than is said, and must not be sent
	if status, _, _ := w.ask(client, "PUT", "/files/a", "x", func(r *http.Request) {
		r.ContentLength = agentapi.MaxFile + 1
		r.Header.Set("Expect", "100-continue") // as who has so much to send asks before
	}); status != http.StatusRequestEntityTooLarge {
		t.Errorf("too much was answered with %d", status)
	}
}

// Slow transfers outlive the limits of the server as long as something moves.
func TestSlowUpload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine()
		w := serveStudio(t, func(h http.Handler) *httptest.Server {
			s := httptest.NewTestServer(t, h)
			s.Config.ReadTimeout, s.Config.WriteTimeout = time.Minute, time.Minute
			s.Client()
			return s
		}, m, nil)
		for _, tt := range []struct {
			pause  time.Duration
			status int
			file   string
		}{{50 * time.Second, http.StatusNoContent, "xxxxxx"}, {transferStall + time.Second, http.StatusRequestTimeout, ""}} {
			m.file = nil
			in, out := io.Pipe()
			var writing sync.WaitGroup
			writing.Go(func() {
				defer out.Close()
				for range 6 {
					time.Sleep(tt.pause)
					if _, err := out.Write([]byte("x")); err != nil {
						return
					}
				}
			})
			r, err := http.NewRequest("PUT", w.on("/stream/"+testSession+"/files/slow"), in)
			if err != nil {
				t.Fatal(err)
			}
			r.ContentLength = 6
			r.Header.Set("Sec-Fetch-Site", "same-origin")
			if status, _, body := w.do(w.seated(), r); status != tt.status || string(m.file) != tt.file {
				t.Errorf("with pauses of %s answered %d %s; %q arrived", tt.pause, status, body, m.file)
			}
			in.Close()
			writing.Wait()
		}
	})
}

func TestWindowsWaitForNews(t *testing.T) {
	m := newMachine()
	w := newStudio(t, m, nil)
	client := w.seated()
	answer := make(chan string)
	go func() {
		_, _, body := w.ask(client, "GET", "/windows?after=w0", "", nil)
		answer <- body
	}()
	select {
	case early := <-answer:
		t.Fatalf("answered %s without news", early)
	case <-time.After(50 * time.Millisecond):
	}
	close(m.slow)
	var list agentapi.Windows
	if body := <-answer; json.Unmarshal([]byte(body), &list) != nil || len(list.Windows) != 1 {
		t.Errorf("the news are %s", body)
	}
}

// The end of the server is no fault of a session: what hangs until there are news is answered, and no warning is logged.
func TestWindowsWhenTheServerGoesDown(t *testing.T) {
	m := newMachine()
	w := newStudio(t, m, nil)
	client := w.seated()
	answer := make(chan string)
	go func() {
		status, _, body := w.ask(client, "GET", "/windows?after=w0", "", nil)
		answer <- fmt.Sprint(status, body)
	}()
	rfbtest.Await(t, "the question", func() bool { return len(m.called()) == 1 })
	if err := w.gate.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := <-answer; !strings.HasPrefix(got, "503") || !strings.Contains(got, `"restarting"`) {
		t.Errorf("answered %s", got)
	}
	close(m.slow)
	if log := w.log.String(); strings.Contains(log, "level=WARN") {
		t.Errorf("the log warns:\n%s", log)
	}
}

func TestSound(t *testing.T) {
	m := newMachine()
	w := newStudio(t, m, nil)
	client := w.seated()
	wantEnd(t, w.socket(client, "/sound", "opus"), endUnreachable) // there is no picture
	ws := w.socket(client, "/ws", "binary")
	open(t, ws)
	first := w.socket(client, "/sound", "opus")
	rfbtest.Await(t, "the first listener", func() bool { return len(m.called()) == 1 })
	sound := w.socket(client, "/sound", "opus") // takes the first one's place
	wantEnd(t, first, &streamEnd{websocket.StatusNormalClosure, "the stream ended"})
	quiet, done := make(chan bool), make(chan bool)
	go func() { // the agent's end of the first one may still take some
		defer close(done)
		for n := 0; ; n = (n + 1) % 100 {
			select {
			case m.sound <- bytes.Repeat([]byte{byte(n)}, 100+n):
			case <-quiet:
				return
			}
		}
	}()
	var got [][]byte
	for len(got) < 5 {
		kind, data, err := sound.Read(t.Context())
		if err != nil || kind != websocket.MessageBinary {
			t.Fatalf("got %v, %v", kind, err)
		}
		got = append(got, data)
	}
	for _, packet := range got {
		if !slices.Equal(packet, bytes.Repeat(packet[:1], 100+int(packet[0]))) {
			t.Errorf("got %v", packet)
		}
	}
	w.store.put(ended(w.store, appstream.EndByAdmin), nil)
	wantEnd(t, ws, endEnded)
	wantEnd(t, sound, &streamEnd{websocket.StatusNormalClosure, "the stream ended"})
	close(quiet)
	<-done
	close(m.sound)
	other := newStudio(t, newMachine(), nil)
	wantEnd(t, other.socket(other.seated(), "/sound", "mp3"), &streamEnd{websocket.StatusProtocolError, "subprotocol"})
}

// A browser that does not take its sound hears gaps; the agent is not held up, and what is heard afterwards is new.
func TestSoundIsDroppedRatherThanQueued(t *testing.T) {
	m := newMachine()
	m.sound = make(chan []byte)
	w := newStudio(t, m, nil)
	client := w.seated()
	open(t, w.socket(client, "/ws", "binary"))
	sound := w.socket(client, "/sound", "opus")
	const packets = 20_000 // with 1,400 bytes each more than all buffers on the way
	for n := range packets {
		select {
		case m.sound <- append(bytes.Repeat([]byte{1}, 1398), byte(n>>8), byte(n)):
		case <-time.After(patience):
			t.Fatalf("the agent is held up after %d packets", n)
		}
	}
	close(m.sound)
	heard := 0
	for {
		if _, _, err := sound.Read(t.Context()); err != nil {
			break
		}
		heard++
	}
	if heard == 0 || heard > packets*9/10 {
		t.Errorf("%d of %d packets were heard", heard, packets)
	}
}

func FuzzAttachment(f *testing.F) {
	f.Add(`grüß"% €.html`)
	f.Add("a\r\nSet-Cookie: x=y")
	f.Fuzz(func(t *testing.T, name string) {
		header := attachment(name)
		if strings.ContainsAny(header, "\r\n\x00") {
			t.Fatalf("%q", header)
		}
		if !fileName(name) {
			return
		}
		if kind, parameters, err := mime.ParseMediaType(header); err != nil || kind != "attachment" || parameters["filename"] != name {
			t.Fatalf("%q is read as %s, %v, %v", header, kind, parameters, err)
		}
	})
}

func FuzzFilePath(f *testing.F) {
	for _, p := range []string{"", "a/b", "../a", "a/../../b", "/etc", "a//b", "a/.", "\x00", "\xff"} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p string) {
		if !filePath(p) || p == "" {
			return
		}
		depth := 0
		for part := range strings.SplitSeq(p, "/") {
			if part == ".." {
				depth--
			}
			if depth < 0 || part == "" || len(p) > agentapi.MaxFilePath {
				t.Fatalf("%q is let through", p)
			}
		}
	})
}
