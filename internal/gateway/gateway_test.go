package gateway

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/google/go-cmp/cmp"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/blob"
	"github.com/oriel-project/oriel/internal/store"
	"github.com/oriel-project/oriel/internal/ticket"
)

func TestAuthenticateGivesASession(t *testing.T) {
	synctest.Test(t, authenticateGivesASession) // the cookie's age is in seconds
}

func authenticateGivesASession(t *testing.T) {
	w := serveWorld(t, inMemory(t), agentFunc(echo), nil)
	status, header, _ := w.get(w.browser(), w.url(w.claims()))
	if status != http.StatusSeeOther || header.Get("Location") != "/stream/"+testID {
		t.Fatalf("answered %d to %q", status, header.Get("Location"))
	}
	cookie := header.Get("Set-Cookie")
	for _, want := range []string{"oriel-" + testID + "=", "Path=/stream/" + testID, "HttpOnly", "SameSite=Lax", "Max-Age=43200"} {
		if !strings.Contains(cookie, want) {
			t.Errorf("the cookie has no %s: %s", want, cookie)
		}
	}
	for name, want := range map[string]string{"Referrer-Policy": "no-referrer", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"} {
		if got := header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	status, header, body := w.get(w.signedIn(), "/stream/"+testID)
	if status != http.StatusOK || !strings.Contains(body, `id="desktop"`) || !strings.Contains(body, "Desktop of hello") {
		t.Errorf("the viewer was answered with %d:\n%s", status, body)
	}
	policy := header.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"} {
		if !strings.Contains(policy, want) {
			t.Errorf("the content policy has no %s: %s", want, policy)
		}
	}
	if strings.Contains(policy, "unsafe") || strings.Contains(body, "<style") || strings.Contains(body, " style=") || strings.Contains(body, "onclick") {
		t.Error("the page has inline styles or scripts")
	}
}

func TestCookieOverHTTPS(t *testing.T) {
	w := newWorld(t, agentFunc(echo), func(c *Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} })
	for _, tt := range []struct {
		name   string
		change func(*http.Request)
		secure bool
	}{
		{"TLS", func(r *http.Request) { r.TLS = &tls.ConnectionState{} }, true},
		{"a proxy's TLS", func(r *http.Request) {
			r.RemoteAddr = "192.0.2.7:1"
			r.Header.Set("X-Forwarded-Proto", "https")
		}, true},
		{"a stranger's word", func(r *http.Request) { r.Header.Set("X-Forwarded-Proto", "https") }, false},
	} {
		r := httptest.NewRequest("GET", w.url(w.claims()), nil)
		r.RemoteAddr = "198.51.100.1:1"
		tt.change(r)
		answer := httptest.NewRecorder()
		w.gate.ServeHTTP(answer, r)
		cookie := answer.Result().Cookies()[0]
		want := &http.Cookie{Name: "oriel-" + testID, Path: "/stream/" + testID}
		if tt.secure {
			want = &http.Cookie{Name: "__Host-oriel-" + testID, Path: "/", Secure: true}
		}
		if cookie.Name != want.Name || cookie.Path != want.Path || cookie.Secure != want.Secure {
			t.Errorf("%s: %v, want %v", tt.name, cookie, want)
		}
		// And the session is accepted in the same way of coming, and over https only by its __Host- name.
		again := httptest.NewRequest("GET", "/stream/"+testID, nil)
		again.RemoteAddr = r.RemoteAddr
		tt.change(again)
		again.AddCookie(&http.Cookie{Name: cookie.Name, Value: cookie.Value})
		answer = httptest.NewRecorder()
		w.gate.ServeHTTP(answer, again)
		if answer.Code != http.StatusOK {
			t.Errorf("%s: the session was answered with %d", tt.name, answer.Code)
		}
		if tt.secure {
			again.Header.Set("Cookie", "oriel-"+testID+"="+cookie.Value)
			answer = httptest.NewRecorder()
			w.gate.ServeHTTP(answer, again)
			if answer.Code != http.StatusUnauthorized {
				t.Errorf("%s: a cookie that any host may set was answered with %d", tt.name, answer.Code)
			}
		}
	}
}

func TestTicketsThatAreRefused(t *testing.T) {
	w := newWorld(t, agentFunc(echo), nil)
	good := w.url(w.claims())
	old := w.claims()
	old.Expires = time.Now().Add(-time.Second)
	gone := w.claims()
	gone.RecordID = "ib-0"
	for _, tt := range []struct {
		name, address string
		status        int
		says          string
	}{
		{"expired", w.url(old), http.StatusForbidden, "the image builder and your work on it are not affected"},
		{"deleted, or another builder of the name", w.url(gone), http.StatusGone, "was deleted"},
		{"altered", strings.Replace(good, "parameters=ey", "parameters=eZ", 1), http.StatusForbidden, "not valid"},
		{"cut off", good[:len(good)-3], http.StatusForbidden, "not valid"},
		{"bare", "/authenticate", http.StatusForbidden, "not valid"},
		{"bad query", "/authenticate?parameters=%zz&signature=;", http.StatusForbidden, "not valid"},
	} {
		status, header, body := w.get(w.browser(), tt.address)
		if status != tt.status || !strings.Contains(body, tt.says) || header.Get("Set-Cookie") != "" {
			t.Errorf("%s: answered %d, cookie %q:\n%s", tt.name, status, header.Get("Set-Cookie"), body)
		}
		if header.Get("Content-Type") != "text/html; charset=utf-8" || header.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s: headers %v", tt.name, header)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if diff := cmp.Diff(map[string]int{"expired": 1, "invalid": 4}, w.refused); diff != "" {
		t.Error(diff)
	}
}

func TestRefusalsAreLimitedAndGenuineTicketsAreNot(t *testing.T) {
	synctest.Test(t, refusalsAreLimited) // each five seconds there may be one more
}

func refusalsAreLimited(t *testing.T) {
	w := serveWorld(t, inMemory(t), agentFunc(echo), nil)
	for n := range refusedBurst + 2 {
		status, _, _ := w.get(w.browser(), "/authenticate?parameters=x&signature=y")
		if limited := status == http.StatusTooManyRequests; limited != (n >= refusedBurst) {
			t.Errorf("attempt %d was answered with %d", n+1, status)
		}
	}
	if lines := strings.Count(w.log.String(), "refused"); lines != refusedBurst {
		t.Errorf("%d lines were logged, want %d", lines, refusedBurst)
	}
	w.signedIn()
	time.Sleep(5 * time.Second)
	if status, _, _ := w.get(w.browser(), "/authenticate?parameters=x&signature=y"); status != http.StatusForbidden {
		t.Errorf("five seconds later answered %d", status)
	}
}

func TestLimiterForgetsInsteadOfGrowing(t *testing.T) {
	l := newLimiter()
	a := netip.MustParseAddr("10.0.0.0")
	for range 2*maxAddresses + 1 {
		l.allow(a)
		a = a.Next()
	}
	if len(l.seen) > maxAddresses {
		t.Errorf("%d addresses are kept", len(l.seen))
	}
	l = newLimiter()
	for range refusedBurst {
		l.allow(netip.MustParseAddr("2001:db8::1"))
	}
	if l.allow(netip.MustParseAddr("2001:db8::2")) {
		t.Error("addresses of one subscriber are counted apart")
	}
	l.allow(netip.Addr{}) // an address that cannot be told is counted too
}

func TestPages(t *testing.T) {
	message := func(s string) *types.ImageBuilderStateChangeReason {
		return &types.ImageBuilderStateChangeReason{Message: &s}
	}
	for _, tt := range []struct {
		state  string
		change func(*appstream.ImageBuilder)
		says   []string
	}{
		{state: appstream.BuilderPending, says: []string{"hello is starting", "opens by itself"}},
		{state: appstream.BuilderPending, change: func(b *appstream.ImageBuilder) {
			b.Problem = &appstream.Problem{Message: "The engine <b>is down</b>."}
		}, says: []string{"The engine &lt;b&gt;is down&lt;/b&gt;."}},
		{state: appstream.BuilderUpdatingAgent, says: []string{"hello is starting", "Updating agent"}},
		{state: appstream.BuilderRebooting, says: []string{"hello is restarting"}},
		{state: appstream.BuilderSnapshotting, change: func(b *appstream.ImageBuilder) { b.Capturing = "office" }, says: []string{"The image office is being made"}},
		{state: appstream.BuilderStopping, says: []string{"hello is stopping"}},
		{state: appstream.BuilderStopped, says: []string{"hello is stopped", "StartImageBuilder"}},
		{state: appstream.BuilderFailed, change: func(b *appstream.ImageBuilder) { b.View.StateChangeReason = message("The disk is full.") },
			says: []string{"hello has failed", "The disk is full."}},
		{state: appstream.BuilderDeleting, says: []string{"hello is being deleted"}},
		{state: appstream.BuilderSyncingApps, says: []string{"hello is busy", "Syncing apps"}},
	} {
		t.Run(tt.state, func(t *testing.T) {
			w := newWorld(t, agentFunc(echo), nil)
			client := w.signedIn()
			w.put(func(b *appstream.ImageBuilder) {
				b.State = tt.state
				if tt.change != nil {
					tt.change(b)
				}
			})
			status, _, body := w.get(client, "/stream/"+testID)
			if status != http.StatusOK {
				t.Errorf("answered %d", status)
			}
			for _, want := range append(tt.says, `data-state="`+tt.state+`"`, "/assets/page.js?v=", `http-equiv="refresh"`) {
				if !strings.Contains(body, want) {
					t.Errorf("the page does not say %q:\n%s", want, body)
				}
			}
		})
	}
}

func TestSimulatedProviderHasNoScreen(t *testing.T) {
	w := newWorld(t, nil, nil)
	_, _, body := w.get(w.signedIn(), "/stream/"+testID)
	if !strings.Contains(body, "running, without a screen") || !strings.Contains(body, "docker provider") {
		t.Errorf("the page:\n%s", body)
	}
}

func TestWithoutASession(t *testing.T) {
	w := newWorld(t, agentFunc(echo), nil)
	other := w.claims()
	other.RecordID = "ib-2"
	elsewhere, err := w.signer.Session(other)
	if err != nil {
		t.Fatal(err)
	}
	over := w.claims()
	over.Expires = time.Now().Add(-time.Second)
	ended, err := w.signer.Session(over)
	if err != nil {
		t.Fatal(err)
	}
	genuine, err := w.signer.Session(w.claims())
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, cookie string
		status       int
		says         string
	}{
		{"no cookie", "", http.StatusUnauthorized, "Open your streaming link"},
		{"another builder's session", "oriel-ib-1=" + elsewhere, http.StatusUnauthorized, "Open your streaming link"},
		{"an old session", "oriel-ib-1=" + ended, http.StatusUnauthorized, "Your session has ended"},
		{"garbage", "oriel-ib-1=x.y", http.StatusUnauthorized, "Open your streaming link"},
		{"a genuine one beside garbage", "oriel-ib-1=x; oriel-ib-1=" + ended + "; oriel-ib-1=" + genuine, http.StatusOK, "Desktop of hello"},
	} {
		for _, path := range []string{"", "/info", "/ws", "/applications"} {
			r, err := http.NewRequest("GET", w.on("/stream/"+testID+path), nil)
			if err != nil {
				t.Fatal(err)
			}
			if tt.cookie != "" {
				r.Header.Set("Cookie", tt.cookie)
			}
			status, _, body := w.do(w.browser(), r)
			switch {
			case path == "" && (status != tt.status || !strings.Contains(body, tt.says)):
				t.Errorf("%s: answered %d:\n%s", tt.name, status, body)
			case path != "" && tt.status != http.StatusOK && status != tt.status:
				t.Errorf("%s: %s was answered with %d", tt.name, path, status)
			}
		}
	}
	// Scripts get JSON.
	r, err := http.NewRequest("GET", w.on("/stream/"+testID+"/info"), nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Sec-Fetch-Dest", "empty")
	if _, header, body := w.do(w.browser(), r); header.Get("Content-Type") != "application/json" || !strings.Contains(body, `"code":"session"`) {
		t.Errorf("a script got %q", body)
	}
}

func TestUnknownAddresses(t *testing.T) {
	w := newWorld(t, agentFunc(echo), nil)
	for _, path := range []string{"/", "/stream/", "/stream/a%2fb", "/stream/" + strings.Repeat("x", 65), "/stream/" + testID + "/nothing", "/icons/x", "/icons/..%2fx"} {
		if status, _, body := w.get(w.signedIn(), path); status != http.StatusNotFound || !strings.Contains(body, "There is nothing here") {
			t.Errorf("%s was answered with %d:\n%s", path, status, body)
		}
	}
	if status, _, _ := w.get(w.browser(), "/assets/nothing.js"); status != http.StatusNotFound {
		t.Errorf("an unknown asset was answered with %d", status)
	}
}

func TestDeletedBuilderAndBrokenStore(t *testing.T) {
	w := newWorld(t, agentFunc(echo), nil)
	client := w.signedIn()
	w.store.mu.Lock()
	w.store.broken = errors.New("the disk is on fire")
	w.store.mu.Unlock()
	for _, path := range []string{"/stream/" + testID, w.url(w.claims())} {
		if status, _, body := w.get(client, path); status != http.StatusServiceUnavailable || strings.Contains(body, "fire") {
			t.Errorf("with a broken store answered %d:\n%s", status, body)
		}
	}
	if !strings.Contains(w.log.String(), "on fire") {
		t.Error("the fault was not logged")
	}
	w.store.mu.Lock()
	w.store.broken = nil
	w.store.mu.Unlock()
	w.store.remove(testID)
	if status, _, body := w.get(client, "/stream/"+testID); status != http.StatusGone || !strings.Contains(body, "was deleted") {
		t.Errorf("a deleted builder was answered with %d:\n%s", status, body)
	}
}

func TestAccessEndpoints(t *testing.T) {
	office := netip.MustParsePrefix("203.0.113.0/24")
	proxy := netip.MustParsePrefix("127.0.0.0/8")
	for _, tt := range []struct {
		name      string
		endpoints []string // that the builder names
		trusted   bool
		forwarded []string
		admitted  bool
	}{
		{"no endpoints", nil, false, nil, true},
		{"from the office", []string{"vpce-a"}, true, []string{"203.0.113.9"}, true},
		{"from the office through two proxies", []string{"vpce-a"}, true, []string{"203.0.113.9, 127.0.0.5"}, true},
		{"with a port, in two headers", []string{"vpce-a"}, true, []string{"1.2.3.4", "203.0.113.9:5555"}, true},
		{"second endpoint", []string{"vpce-x", "vpce-a"}, true, []string{"203.0.113.9"}, true},
		{"IPv4 in IPv6", []string{"vpce-a"}, true, []string{"::ffff:203.0.113.9"}, true},
		{"elsewhere", []string{"vpce-a"}, true, []string{"198.51.100.1"}, false},
		{"the client claims the office", []string{"vpce-a"}, true, []string{"203.0.113.9, 198.51.100.1"}, false},
		{"nobody is trusted", []string{"vpce-a"}, false, []string{"203.0.113.9"}, false},
		{"unknown endpoint", []string{"vpce-x"}, true, []string{"203.0.113.9"}, false},
		{"no address", []string{"vpce-a"}, true, []string{"203.0.113.9, unknown"}, false},
		{"the proxy itself", []string{"vpce-a"}, true, nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, agentFunc(echo), func(c *Config) {
				c.Endpoints = map[string][]netip.Prefix{"vpce-a": {office}}
				if tt.trusted {
					c.TrustedProxies = []netip.Prefix{proxy}
				}
			})
			cookie := w.cookies(w.signedIn())
			w.put(func(b *appstream.ImageBuilder) {
				for _, e := range tt.endpoints {
					b.View.AccessEndpoints = append(b.View.AccessEndpoints, types.AccessEndpoint{EndpointType: types.AccessEndpointTypeStreaming, VpceId: &e})
				}
			})
			for path, good := range map[string]int{w.url(w.claims()): http.StatusSeeOther, "/stream/" + testID: http.StatusOK,
				"/stream/" + testID + "/info": http.StatusOK, "/stream/" + testID + "/applications": http.StatusOK,
				"/stream/" + testID + "/ws": http.StatusForbidden /* no Origin, which is looked at later */} {
				r, err := http.NewRequest("GET", w.on(path), nil)
				if err != nil {
					t.Fatal(err)
				}
				r.Header["X-Forwarded-For"] = tt.forwarded
				r.Header.Set("Cookie", cookie)
				status, header, body := w.do(w.browser(), r)
				if tt.admitted && (status != good || strings.Contains(body, "Not from this network")) {
					t.Errorf("%s was answered with %d", path, status)
				}
				if !tt.admitted && (status != http.StatusForbidden || !strings.Contains(body, "Not from this network") || header.Get("Set-Cookie") != "") {
					t.Errorf("%s was answered with %d:\n%s", path, status, body)
				}
			}
		})
	}
}

func TestDisconnectEndsTheSession(t *testing.T) {
	w := newWorld(t, agentFunc(echo), nil)
	client := w.signedIn()
	post := func(site string) (int, http.Header) {
		r, err := http.NewRequest("POST", w.on("/stream/"+testID+"/disconnect"), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Sec-Fetch-Site", site)
		status, header, _ := w.do(client, r)
		return status, header
	}
	if status, _ := post("cross-site"); status != http.StatusForbidden {
		t.Errorf("another site's request was answered with %d", status)
	}
	if status, _, _ := w.get(client, "/stream/"+testID); status != http.StatusOK {
		t.Errorf("the session is gone: %d", status)
	}
	if status, header := post("same-origin"); status != http.StatusNoContent || !strings.Contains(header.Get("Set-Cookie"), "Max-Age=0") {
		t.Errorf("answered %d with %q", status, header.Get("Set-Cookie"))
	}
	if status, _, _ := w.get(client, "/stream/"+testID); status != http.StatusUnauthorized {
		t.Errorf("after disconnecting answered %d", status)
	}
}

func TestSeveralBuildersInOneBrowser(t *testing.T) {
	w := newWorld(t, agentFunc(echo), nil)
	second := appstream.ImageBuilder{Meta: appstream.Meta{ID: "ib-2", State: appstream.BuilderRunning,
		Key: appstream.Key{Account: testAccount, Region: testRegion, Noun: appstream.NounImageBuilder, Name: "world"}}}
	w.store.put(&second, nil)
	client := w.signedIn()
	c := w.claims()
	c.RecordID, c.Builder = "ib-2", "world"
	w.get(client, w.url(c))
	for id, want := range map[string]string{testID: "Desktop of hello", "ib-2": "Desktop of world"} {
		if _, _, body := w.get(client, "/stream/"+id); !strings.Contains(body, want) {
			t.Errorf("%s does not say %q", id, want)
		}
	}
}

// A session holds when the server starts anew with the same key.
func TestSessionSurvivesARestart(t *testing.T) {
	w := newWorld(t, agentFunc(echo), nil)
	cookie := w.cookies(w.signedIn())
	signer, err := ticket.NewSigner(bytes.Repeat([]byte{7}, ticket.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	next, err := New(Config{Store: w.store, Signer: signer, Dialer: agentFunc(echo), CreateImage: w.gate.CreateImage})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("GET", "/stream/"+testID, nil)
	r.Header.Set("Cookie", cookie)
	answer := httptest.NewRecorder()
	next.ServeHTTP(answer, r)
	if answer.Code != http.StatusOK {
		t.Errorf("answered %d", answer.Code)
	}
}

func TestNewNeedsItsParts(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("a gateway without a store was made")
	}
}

type iconStore map[string]string

func (s iconStore) Get(name string) ([]byte, error) {
	if name == "broken.png" {
		return nil, errors.New("input/output error")
	}
	if data, ok := s[name]; ok {
		return []byte(data), nil
	}
	return nil, blob.ErrNotFound
}

func TestIcons(t *testing.T) {
	w := newWorld(t, nil, func(c *Config) {
		c.Icons = iconStore{"a.png": "\x89PNG\r\n\x1a\nrest", "b.png": "<svg onload=alert(1)>", "d.jpg": "\xff\xd8\xffrest", "e.ico": "\x00\x00\x01\x00rest"}
	})
	kinds := map[string]string{"a.png": "image/png", "d.jpg": "image/jpeg", "e.ico": "image/x-icon"}
	for name, want := range map[string]int{"a.png": 200, "d.jpg": 200, "e.ico": 200, "b.png": 404, "c.png": 404, ".x": 404, "broken.png": 503} {
		status, header, _ := w.get(w.browser(), "/icons/"+name)
		if status != want {
			t.Errorf("%s was answered with %d, want %d", name, status, want)
		}
		if want == 200 && (header.Get("Content-Type") != kinds[name] || header.Get("X-Content-Type-Options") != "nosniff" || !strings.Contains(header.Get("Cache-Control"), "immutable")) {
			t.Errorf("%s: %v", name, header)
		}
	}
}

func TestCloseDoesNotWaitForEver(t *testing.T) {
	w := newWorld(t, agentFunc(echo), nil)
	if !w.gate.enter("ib-9") {
		t.Fatal("a first stream was not let in")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := w.gate.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Close: %v", err)
	}
	w.gate.leave("ib-9")
	if w.gate.enter("ib-9") {
		t.Error("a stream was let in after Close")
	}
}

// No cookie header, however strange, is taken for a session.
func FuzzSession(f *testing.F) {
	signer, err := ticket.NewSigner(bytes.Repeat([]byte{7}, ticket.KeySize))
	if err != nil {
		f.Fatal(err)
	}
	g, err := New(Config{Store: newMemory(), Signer: signer, CreateImage: func(context.Context, NewImage) error { return nil }})
	if err != nil {
		f.Fatal(err)
	}
	// The same in every process that fuzzes: the corpus has it.
	good, err := signer.Session(ticket.Claims{Type: ticket.TypeAdmin, RecordID: testID, Nonce: "n", Expires: time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add("oriel-ib-1=" + good)
	f.Add("oriel-ib-1=x.y; oriel-ib-1=\"z\"")
	f.Add("")
	f.Fuzz(func(t *testing.T, cookie string) {
		r := httptest.NewRequest("GET", "/stream/"+testID, nil)
		r.Header["Cookie"] = []string{cookie}
		if c, err := g.admission(r, testID); err == nil && !strings.Contains(cookie, good) {
			t.Errorf("the cookie %q was accepted as %v", cookie, c)
		}
	})
}

var _ store.Store = (*memory)(nil)
