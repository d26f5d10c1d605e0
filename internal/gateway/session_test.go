package gateway

import (
	"bytes"
	"context"
	"encoding/json/v2"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/rfb/rfbtest"
	"github.com/oriel-project/oriel/internal/ticket"
)

func TestStreamingURLOfAFleetGivesASession(t *testing.T) {
	w := newStudio(t, newMachine(), nil)
	r, err := http.NewRequest("GET", w.url(personClaims()), nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept-Language", "de,en-US;q=0.7")
	client := w.browser()
	status, header, _ := w.do(client, r)
	if status != http.StatusSeeOther || header.Get("Location") != "/stream/"+testSession {
		t.Fatalf("answered %d to %q", status, header.Get("Location"))
	}
	cookie := header.Get("Set-Cookie")
	for _, want := range []string{"oriel-" + testSession + "=", "Path=/stream/" + testSession, "HttpOnly", "SameSite=Lax"} {
		if !strings.Contains(cookie, want) {
			t.Errorf("the cookie has no %s: %s", want, cookie)
		}
	}
	value, _, _ := strings.Cut(strings.TrimPrefix(cookie, "oriel-"+testSession+"="), ";")
	c, err := w.signer.ParseSession(value, time.Now())
	session := w.store.sessions[testSession]
	if err != nil || c.RecordID != testSession || c.Context != "" || c.UserID != "grace@example.com" || !c.Expires.After(session.MaxEnd) {
		t.Errorf("the cookie says %+v, %v", c, err)
	}
	if got := w.people.opened[0]; got.RecordID != testFleet || got.Context != "for your eyes only" || w.people.locales[0] != "de_DE.UTF-8" {
		t.Errorf("a session was opened for %+v, %q", got, w.people.locales)
	}
	status, _, body := w.get(client, "/stream/"+testSession)
	if status != http.StatusOK || !strings.Contains(body, `id="desktop"`) || !strings.Contains(body, "The design studio") {
		t.Errorf("the viewer was answered with %d:\n%s", status, body)
	}
	// The cookie is good for this session only, and is not that of a builder.
	if status, _, _ := w.get(client, "/stream/"+testID); status != http.StatusUnauthorized {
		t.Errorf("another stream was answered with %d", status)
	}
	if status, _, _ := w.get(client, "/stream/"+testSession+"/applications"); status != http.StatusNotFound {
		t.Errorf("what only builders have was answered with %d", status)
	}
}

func TestSessionThatIsThereAlreadyLaunches(t *testing.T) {
	synctest.Test(t, sessionThatIsThereAlreadyLaunches) // a launch has launchTime
}

func sessionThatIsThereAlreadyLaunches(t *testing.T) {
	for _, tt := range []struct {
		application, state string
		existing           bool
		want               []string
	}{
		{"paint", appstream.SessionActive, true, []string{`POST /launch {"application":"paint"}`}},
		{"paint", appstream.SessionActive, false, nil}, // it starts with the session
		{"paint", appstream.SessionPending, true, nil},
		{"Desktop", appstream.SessionActive, true, nil},
		{"", appstream.SessionActive, true, nil},
		{"unknown", appstream.SessionActive, true, []string{`POST /launch {"application":"unknown"}`}},
	} {
		m := newMachine()
		w := serveStudio(t, inMemory(t), m, func(s *appstream.Session) { s.State = tt.state })
		w.people.existing = tt.existing
		c := personClaims()
		c.Application = tt.application
		if status, _, _ := w.get(w.browser(), w.url(c)); status != http.StatusSeeOther {
			t.Errorf("%+v: answered %d", tt, status)
		}
		if diff := cmp.Diff(tt.want, m.called()); diff != "" {
			t.Errorf("%+v: %s", tt, diff)
		}
		var launched []string // one that the agent has refused is none
		if tt.want != nil && tt.application == "paint" {
			launched = []string{testSession + " paint"}
		}
		if diff := cmp.Diff(launched, w.people.launched()); diff != "" {
			t.Errorf("%+v: noted launches: %s", tt, diff)
		}
	}
}

func TestNoSession(t *testing.T) {
	for _, tt := range []struct {
		name   string
		err    error
		status int
		says   string
	}{
		{"no place", appstream.Errorf(appstream.InsufficientCapacity, "All places are taken."), http.StatusServiceUnavailable, "No place is free just now"},
		{"stopped", appstream.Errorf(appstream.ResourceNotAvailable, "The fleet studio is STOPPED."), http.StatusServiceUnavailable, "The fleet studio is STOPPED."},
		{"gone", appstream.Errorf(appstream.ResourceNotFound, "It is no longer there."), http.StatusGone, "It is no longer there."},
		{"elsewhere", appstream.Errorf(appstream.OperationNotPermitted, "You have a session <already>."), http.StatusForbidden, "You have a session &lt;already&gt;."},
		{"fault", errors.New("secret detail"), http.StatusServiceUnavailable, "Something went wrong"},
	} {
		w := newStudio(t, newMachine(), nil)
		w.people.err = tt.err
		status, header, body := w.get(w.browser(), w.url(personClaims()))
		if status != tt.status || !strings.Contains(body, tt.says) || strings.Contains(body, "secret") || header.Get("Set-Cookie") != "" {
			t.Errorf("%s: answered %d:\n%s", tt.name, status, body)
		}
		full := tt.name == "no place"
		if again := header.Get("Refresh"); full != (again != "") || full != (len(w.full) == 1) {
			t.Errorf("%s: tries again after %q; %v were full", tt.name, again, w.full)
		}
	}
	w := newWorld(t, newMachine(), func(c *Config) { c.Sessions = nil })
	if status, _, _ := w.get(w.browser(), w.url(personClaims())); status != http.StatusForbidden {
		t.Errorf("without sessions answered %d", status)
	}
	w = newStudio(t, newMachine(), nil)
	client := w.seated()
	w.gate.Config.Sessions = nil
	if status, _, _ := w.get(client, "/stream/"+testSession); status != http.StatusUnauthorized {
		t.Errorf("with a cookie from before answered %d", status)
	}
}

// The page of a person for whom there is no place outlives the link that it was opened with.
func TestWaitingPageOutlivesItsLink(t *testing.T) {
	synctest.Test(t, waitingPageOutlivesItsLink)
}

func waitingPageOutlivesItsLink(t *testing.T) {
	w := serveStudio(t, inMemory(t), newMachine(), nil)
	w.people.err = appstream.Errorf(appstream.InsufficientCapacity, "All places are taken.")
	for _, tt := range []struct {
		name       string
		link, next time.Duration // how long the links hold
	}{
		{"soon expired", 5 * time.Second, waitTime},
		{"long", time.Hour, time.Hour},
	} {
		c := personClaims()
		c.Application, c.Nonce, c.Expires = "paint", "n", time.Now().Add(tt.link)
		_, header, _ := w.get(w.browser(), w.url(c))
		_, again, _ := strings.Cut(header.Get("Refresh"), "; url=")
		u, err := url.Parse(again)
		if err != nil || u.IsAbs() || u.Path != "/authenticate" {
			t.Fatalf("%s: tries again with %q", tt.name, header.Get("Refresh"))
		}
		got, err := w.signer.Parse(u.Query().Get("parameters"), u.Query().Get("signature"), time.Now())
		if left := time.Until(got.Expires); err != nil || left != tt.next {
			t.Errorf("%s: the next link holds for %s: %v", tt.name, left, err)
		}
		if got.Nonce == c.Nonce {
			t.Errorf("%s: the next link has the nonce of the first", tt.name)
		}
		got.Nonce, got.Expires = c.Nonce, c.Expires
		if diff := cmp.Diff(c, got); diff != "" {
			t.Errorf("%s: the next link says something else: %s", tt.name, diff)
		}
		// The same page again, and then a place.
		if status, header, _ := w.get(w.browser(), again); status != http.StatusServiceUnavailable || !strings.Contains(header.Get("Refresh"), "; url=/authenticate?") {
			t.Errorf("%s: the second try was answered with %d, %q", tt.name, status, header.Get("Refresh"))
		}
		w.people.err = nil
		if status, _, _ := w.get(w.browser(), again); status != http.StatusSeeOther {
			t.Errorf("%s: with a place answered %d", tt.name, status)
		}
		w.people.err = appstream.Errorf(appstream.InsufficientCapacity, "All places are taken.")
	}
}

// Who is not let in is told so where the session would be shown: in the frames that its stack allows. No other word of it is told.
func TestNoticesInFrames(t *testing.T) {
	w := newStudio(t, newMachine(), func(s *appstream.Session) { s.EmbedDomains = []string{"portal.example"} })
	stack := w.store.stacks[appstream.Key{Account: testAccount, Region: testRegion, Noun: appstream.NounStack, Name: "Design"}]
	stack.View.EmbedHostDomains = []string{"portal.example"}
	w.store.put(&stack, nil)
	old := personClaims()
	old.Expires = time.Now().Add(-time.Second)
	altered := strings.Replace(w.url(old), "signature=", "signature=0", 1)
	for _, tt := range []struct {
		name, address string
		status        int
		says          string
		framed        bool
	}{
		{"no cookie", "/stream/" + testSession, http.StatusUnauthorized, "Open your streaming link", true},
		{"an expired link", w.url(old), http.StatusForbidden, "If you have a session", true},
		{"an altered link", altered, http.StatusForbidden, "This link is not valid", false},
		{"a builder", "/stream/" + testID, http.StatusUnauthorized, "Open your streaming link", false},
		{"nothing", "/stream/s-2", http.StatusUnauthorized, "Open your streaming link", false},
	} {
		status, header, body := w.get(w.browser(), tt.address)
		if status != tt.status || !strings.Contains(body, tt.says) || strings.Contains(body, "design studio") || strings.Contains(body, "grace") {
			t.Errorf("%s: answered %d:\n%s", tt.name, status, body)
		}
		want := "frame-ancestors 'none'"
		if tt.framed {
			want = "frame-ancestors https://portal.example:*"
		}
		if policy, frames := header.Get("Content-Security-Policy"), header.Get("X-Frame-Options"); !strings.HasSuffix(policy, want) || tt.framed != (frames == "") {
			t.Errorf("%s: %s, %q", tt.name, policy, frames)
		}
	}
}

// When many come at once each has an answer: a place, or the page that tries again.
func TestManyAtOnce(t *testing.T) {
	w := newStudio(t, newMachine(), nil)
	w.people.places = 20
	answers := make(chan int)
	for range 200 {
		go func() {
			answer := httptest.NewRecorder()
			w.gate.ServeHTTP(answer, httptest.NewRequest("GET", w.url(personClaims()), nil))
			answers <- answer.Code
		}()
	}
	got := map[int]int{}
	for range 200 {
		got[<-answers]++
	}
	if diff := cmp.Diff(map[int]int{http.StatusSeeOther: 20, http.StatusServiceUnavailable: 180}, got); diff != "" || len(w.full) != 180 {
		t.Errorf("%d were told of as full: %s", len(w.full), diff)
	}
}

// Who may not come takes no place.
func TestSessionFromElsewhere(t *testing.T) {
	w := newStudio(t, newMachine(), nil)
	stack := appstream.Stack{Meta: appstream.Meta{Key: appstream.Key{Account: testAccount, Region: testRegion, Noun: appstream.NounStack, Name: "Design"}, ID: "st-1"},
		View: types.Stack{AccessEndpoints: []types.AccessEndpoint{{VpceId: new("vpce-1")}}}}
	client := w.seated()
	w.store.put(&stack, nil)
	w.seat(func(s *appstream.Session) { s.AccessEndpoints = stack.View.AccessEndpoints })
	opened := len(w.people.opened)
	if status, _, body := w.get(w.browser(), w.url(personClaims())); status != http.StatusForbidden || !strings.Contains(body, "Not from this network") {
		t.Errorf("answered %d:\n%s", status, body)
	}
	if len(w.people.opened) != opened {
		t.Error("a session was opened for somebody who may not come")
	}
	if status, _, _ := w.get(client, "/stream/"+testSession+"/files/a"); status != http.StatusForbidden {
		t.Errorf("a file was answered with %d", status)
	}
	w.gate.Endpoints = map[string][]netip.Prefix{"vpce-1": {netip.MustParsePrefix("127.0.0.0/8")}}
	if status, _, _ := w.get(w.browser(), w.url(personClaims())); status != http.StatusSeeOther {
		t.Errorf("from the endpoint answered %d", status)
	}
}

func TestPagesOfSessionsThatAreOver(t *testing.T) {
	for code, says := range map[appstream.EndCode]string{
		appstream.EndByUser: "You ended it.", appstream.EndByAdmin: "The administrator ended it.", appstream.EndAway: "away for too long",
		appstream.EndDuration: "longest duration", appstream.EndFleetStopped: "stopped the fleet", appstream.EndInstanceLost: "has failed", appstream.EndNotStarted: "could not be started",
	} {
		w := newStudio(t, newMachine(), func(s *appstream.Session) {
			s.RedirectURL, s.FeedbackURL = "https://portal.example/next?a=1&b=2", "javascript:alert(1)"
		})
		client := w.seated()
		w.store.put(ended(w.store, code), nil)
		_, _, body := w.get(client, "/stream/"+testSession)
		for _, want := range []string{"Your session has ended", says, `href="https://portal.example/next?a=1&amp;b=2"`, "Continue to portal.example"} {
			if !strings.Contains(body, want) {
				t.Errorf("%s: the page does not say %q:\n%s", code, want, body)
			}
		}
		if strings.Contains(body, "javascript:") {
			t.Errorf("%s: the page has a link that is none:\n%s", code, body)
		}
		info := w.sessionInfo(client, "")
		if info.State != "EXPIRED" || info.EndCode != string(code) || !strings.Contains(info.Reason, says) || info.RedirectURL == "" || info.FeedbackURL != "" {
			t.Errorf("%s: the info is %+v", code, info)
		}
	}
	w := newStudio(t, newMachine(), nil)
	client := w.seated()
	w.store.remove(testSession)
	if status, _, body := w.get(client, "/stream/"+testSession); status != http.StatusGone || !strings.Contains(body, "Your session has ended") {
		t.Errorf("a session that is gone was answered with %d:\n%s", status, body)
	}
	// Who came by the portal has no streaming link: he is led back there.
	const portal, link = `href="/portal/` + testAccount + "/" + testRegion + `"`, "streaming link, or ask"
	w.seat(nil)
	for _, byPortal := range []bool{false, true} {
		claims, client := personClaims(), w.browser()
		claims.UserPool = byPortal
		w.get(client, w.url(claims))
		w.store.remove(testSession)
		if status, _, body := w.get(client, "/stream/"+testSession); status != http.StatusGone || strings.Contains(body, portal) != byPortal || strings.Contains(body, link) == byPortal {
			t.Errorf("by the portal %v, a session that is gone was answered with %d:\n%s", byPortal, status, body)
		}
		claims.Expires = time.Now().Add(-time.Second)
		if status, _, body := w.get(client, w.url(claims)); status != http.StatusForbidden || strings.Contains(body, portal) != byPortal {
			t.Errorf("by the portal %v, a link that has expired was answered with %d:\n%s", byPortal, status, body)
		}
		w.seat(nil)
	}
	w.seat(func(s *appstream.Session) { s.AuthType = types.AuthenticationTypeUserpool })
	if status, _, body := w.get(w.browser(), "/stream/"+testSession); status != http.StatusUnauthorized || !strings.Contains(body, portal) || strings.Contains(body, "streaming link") || strings.Contains(body, "design studio") {
		t.Errorf("without a cookie, the session of a user was answered with %d:\n%s", status, body)
	}
	simulated := newStudio(t, nil, nil)
	if _, _, body := simulated.get(simulated.seated(), "/stream/"+testSession); !strings.Contains(body, "without a screen") {
		t.Errorf("without machines the page is:\n%s", body)
	}
}

func (w *world) sessionInfo(client *http.Client, query string) sessionInfo {
	w.t.Helper()
	status, _, body := w.get(client, "/stream/"+testSession+"/info"+query)
	var info sessionInfo
	if err := json.Unmarshal([]byte(body), &info); err != nil || status != http.StatusOK {
		w.t.Fatalf("info%s was answered with %d %s: %v", query, status, body, err)
	}
	return info
}

func TestSessionInfo(t *testing.T) {
	w := newStudio(t, newMachine(), func(s *appstream.Session) {
		s.IdleTimeout, s.FeedbackURL = 20*time.Minute, "http://portal.example/"
		s.Rules.CopyOut, s.Rules.CopyInMax = false, 77
		s.Problem = &appstream.Problem{Message: "The disk is slow."}
	})
	client := w.seated()
	got := w.sessionInfo(client, "")
	maxEnd := got.MaxEnd
	if left := time.Until(maxEnd); left < 7*time.Hour || got.Expires.Before(maxEnd) {
		t.Errorf("the session ends at %s, the cookie at %s", maxEnd, got.Expires)
	}
	got.MaxEnd, got.Expires = time.Time{}, time.Time{}
	want := sessionInfo{Version: "1", Kind: "session", Name: "The design studio", State: "ACTIVE", Stack: "Design", Fleet: "studio", User: "grace@example.com", View: "DESKTOP",
		Reason: "The disk is slow.", FeedbackURL: "http://portal.example/", IdleSeconds: 1200, AwaySeconds: 900, Streams: true,
		Rules:        rulesInfo{CopyIn: true, CopyInMax: 77, Upload: true, Download: true, Print: true, TimeZone: true},
		Applications: []sessionApplication{{"paint", "Paint", "/icons/paint.png"}, {"xterm", "xterm", ""}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	// News come at once, and to a session of which nothing else happens nothing is told.
	answer := make(chan sessionInfo)
	go func() { answer <- w.sessionInfo(client, "?after=1") }()
	w.store.put(&appstream.ImageBuilder{Meta: appstream.Meta{ID: "ib-2"}}, nil)
	select {
	case early := <-answer:
		t.Fatalf("answered %+v without news", early)
	case <-time.After(50 * time.Millisecond):
	}
	w.store.put(ended(w.store, appstream.EndByAdmin), nil)
	if news := <-answer; news.State != "EXPIRED" || news.Version != "2" {
		t.Errorf("the news are %+v", news)
	}
	if len(w.gate.news.followers) != 0 {
		t.Error("somebody still follows")
	}
}

// A person sees the applications that his machine has, whatever the fleet has got since his session began.
func TestCatalogueOfTheMachine(t *testing.T) {
	w := newStudio(t, newMachine(), nil)
	client := w.seated()
	see := func(want ...sessionApplication) {
		t.Helper()
		if d := cmp.Diff(want, w.sessionInfo(client, "").Applications); d != "" {
			t.Error(d)
		}
	}
	fleet := w.store.fleets[testFleet]
	instance := appstream.Instance{Meta: appstream.Meta{ID: "i-1"}, FleetID: testFleet, Spec: appstream.MachineSpec{ImageARN: "arn:aws:appstream:" + testRegion + ":" + testAccount + ":image/paint", ImageRef: "ref-1"}}
	w.store.put(&instance, nil)
	fleet.ImageID = "img-2"
	w.store.put(&fleet, nil)
	w.store.put(&appstream.Image{Meta: appstream.Meta{Key: appstream.Key{Account: testAccount, Region: testRegion, Noun: appstream.NounImage, Name: "newer"}, ID: "img-2"},
		View: types.Image{Applications: []types.Application{{Name: new("draw")}}}}, nil)
	see(sessionApplication{"paint", "Paint", "/icons/paint.png"}, sessionApplication{"xterm", "xterm", ""})

	fleet.ImageID, fleet.View.FleetType, fleet.ImageRef = "", types.FleetTypeElastic, "oriel/image:cmp-2"
	fleet.Catalogue = appstream.Catalogue{Applications: []types.Application{{Name: new("draw"), DisplayName: new("Draw")}}, Icons: map[string]string{"draw": "paint.png"}}
	w.store.put(&fleet, nil)
	w.store.put(&appstream.Composition{Meta: appstream.Meta{ID: "cmp-1"}, Recipe: appstream.Recipe{Applications: []types.ApplicationConfig{{Name: new("calc"), DisplayName: new("Calc")}}}}, nil)
	instance.Spec.ImageRef = "oriel/image:cmp-1"
	w.store.put(&instance, nil)
	see(sessionApplication{"calc", "Calc", ""})
	instance.Spec.ImageRef = "oriel/image:cmp-2"
	w.store.put(&instance, nil)
	see(sessionApplication{"draw", "Draw", "/icons/paint.png"})
	instance.Spec.ImageRef = "oriel/image:cmp-0" // of which nothing is known
	w.store.put(&instance, nil)
	see(sessionApplication{"draw", "Draw", "/icons/paint.png"})
}

// Who opens and ends a session is named to whoever writes the audit log, with his address.
func TestPeopleAreNamed(t *testing.T) {
	for who, change := range map[string]func(*ticket.Claims){
		"custom/grace@example.com":    func(*ticket.Claims) {},
		"federated/grace@example.com": func(c *ticket.Claims) { c.Federated = true },
		"grace@example.com":           func(c *ticket.Claims) { c.UserPool = true },
	} {
		w := newStudio(t, newMachine(), nil)
		client, claims := w.browser(), personClaims()
		change(&claims)
		w.get(client, w.url(claims))
		r, err := http.NewRequest("POST", w.on("/stream/"+testSession+"/end"), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Sec-Fetch-Site", "same-origin")
		w.do(client, r)
		name := appstream.Key{Account: testAccount, Region: testRegion, Noun: appstream.NounUser, Name: who}.ARN() + " 127.0.0.1"
		if want := []string{"open " + name, "end " + name}; !slices.Equal(w.people.callers, want) {
			t.Errorf("it is %q, not %q", w.people.callers, want)
		}
	}
}

func TestSessionIsEndedByItsPerson(t *testing.T) {
	w := newStudio(t, newMachine(), nil)
	client := w.seated()
	post := func(change func(*http.Request)) int {
		r, err := http.NewRequest("POST", w.on("/stream/"+testSession+"/end"), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Sec-Fetch-Site", "same-origin")
		change(r)
		status, _, _ := w.do(client, r)
		return status
	}
	if status := post(func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }); status != http.StatusForbidden || w.sessionInfo(client, "").State != "ACTIVE" {
		t.Errorf("another site's wish was answered with %d", status)
	}
	w.people.err = errors.New("the disk is on fire")
	if status := post(func(*http.Request) {}); status != http.StatusServiceUnavailable {
		t.Errorf("with a broken service answered %d", status)
	}
	w.people.err = nil
	ws := w.socket(client, "/ws", "binary")
	if status := post(func(*http.Request) {}); status != http.StatusNoContent {
		t.Errorf("answered %d", status)
	}
	wantEnd(t, ws, endEnded)
	if info := w.sessionInfo(client, ""); info.EndCode != "user" { // the cookie is still good
		t.Errorf("the info is %+v", info)
	}
	r, err := http.NewRequest("POST", w.on("/stream/"+testSession+"/disconnect"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if status, header, _ := w.do(client, r); status != http.StatusNotFound || header.Get("Set-Cookie") != "" {
		t.Errorf("to disconnect was answered with %d", status)
	}
}

// open waits for the display of a stream.
func open(t *testing.T, ws *websocket.Conn) {
	t.Helper()
	if got := readAll(t, ws, len(displayHello)); !bytes.Equal(got, displayHello) {
		t.Fatalf("the display began with %q", got)
	}
	if err := ws.Write(t.Context(), websocket.MessageBinary, viewerHello); err != nil {
		t.Fatal(err)
	}
}

func TestStreamWaitsForThePendingSession(t *testing.T) {
	m := newMachine()
	w := newStudio(t, m, func(s *appstream.Session) { s.State = appstream.SessionPending })
	ws := w.show("?tz=America/Argentina/Buenos_Aires")
	if err := ws.Write(t.Context(), websocket.MessageText, []byte("ping 1")); err != nil {
		t.Fatal(err)
	}
	if kind, data, err := ws.Read(t.Context()); err != nil || kind != websocket.MessageText || string(data) != "pong 1" {
		t.Errorf("while it waits a ping is answered with %q, %v", data, err)
	}
	if calls, notes := m.called(), w.people.noted(); len(calls)+len(notes) != 0 {
		t.Errorf("while it waits there are %v, %v", calls, notes)
	}
	w.seat(func(s *appstream.Session) { s.State = appstream.SessionActive })
	open(t, ws)
	rfbtest.Await(t, "the note", func() bool { return len(w.people.noted()) == 1 }) // who goes before it is made is not noted at all
	if diff := cmp.Diff([]string{`PUT /timezone {"timeZone":"America/Argentina/Buenos_Aires"}`}, m.called()); diff != "" {
		t.Error(diff)
	}
	ws.Close(websocket.StatusNormalClosure, "")
	<-w.closed
	rfbtest.Await(t, "the note", func() bool { return len(w.people.noted()) == 2 })
	if diff := cmp.Diff([]string{"connected s-1", "disconnected s-1"}, w.people.noted()); diff != "" {
		t.Error(diff)
	}
}

func TestTimeZoneIsTakenIfAllowedAndPossible(t *testing.T) {
	for query, may := range map[string]bool{"?tz=Europe/Berlin": false, "?tz=" + strings.Repeat("A/", 40): true, "?tz=../../etc/passwd": true, "?tz=Europe/Berlin%0a": true, "": true} {
		m := newMachine()
		w := newStudio(t, m, func(s *appstream.Session) { s.Rules.TimeZone = may })
		open(t, w.show(query))
		if calls := m.called(); len(calls) != 0 {
			t.Errorf("%s: %v", query, calls)
		}
	}
}

// A person has one stream: a newer one ends the older, and the session stays connected.
func TestNewerStreamTakesOver(t *testing.T) {
	began := time.Now()
	w := newStudio(t, newMachine(), nil)
	first := w.show("")
	open(t, first)
	rfbtest.Await(t, "the note", func() bool { return len(w.people.noted()) == 1 })
	second := w.show("")
	open(t, second)
	wantEnd(t, first, endElsewhere)
	if end := <-w.closed; end.reason != "elsewhere" {
		t.Errorf("the hook was told of %+v", end)
	}
	rfbtest.Await(t, "the count", func() bool { s := w.gate.Streams(); return len(s) == 1 && s[0].Sent == int64(len(displayHello)) }) // it follows the sending
	stats := w.gate.Streams()
	if len(stats) != 1 || stats[0].Session.ID != testSession || stats[0].Since.Before(began) || stats[0].Since.After(time.Now()) {
		t.Errorf("the streams are %+v", stats)
	}
	second.Close(websocket.StatusNormalClosure, "")
	<-w.closed
	rfbtest.Await(t, "the note", func() bool { return slices.Contains(w.people.noted(), "disconnected s-1") })
	if diff := cmp.Diff([]string{"connected s-1", "disconnected s-1"}, w.people.noted()); diff != "" {
		t.Error(diff)
	}
	if stats := w.gate.Streams(); len(stats) != 0 {
		t.Errorf("the streams are %+v", stats)
	}
}

func TestStreamEndsWithTheSession(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*world)
		want   *streamEnd
	}{
		{"ended", func(w *world) { w.store.put(ended(w.store, appstream.EndByAdmin), nil) }, endEnded},
		{"gone", func(w *world) { w.store.remove(testSession) }, endEnded},
		{"endpoints", func(w *world) {
			w.seat(func(s *appstream.Session) { s.AccessEndpoints = []types.AccessEndpoint{{VpceId: new("vpce-1")}} })
		}, endAddress},
		{"server", func(w *world) { go w.gate.Close(context.Background()) }, endRestart},
		{"ended while the store was away", func(w *world) {
			w.store.mu.Lock()
			w.store.broken = errors.New("the disk is on fire")
			w.store.mu.Unlock()
			w.store.put(ended(w.store, appstream.EndAway), nil)
			time.AfterFunc(50*time.Millisecond, func() {
				w.store.mu.Lock()
				w.store.broken = nil
				w.store.mu.Unlock()
			})
		}, endEnded},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newStudio(t, newMachine(), nil)
			ws := w.show("")
			open(t, ws)
			tt.change(w)
			wantEnd(t, ws, tt.want)
		})
	}
	over := newStudio(t, newMachine(), nil)
	client := over.seated()
	over.store.put(ended(over.store, appstream.EndAway), nil)
	wantEnd(t, over.socket(client, "/ws", "binary"), endEnded)
	wantEnd(t, newStudio(t, nil, nil).show(""), endSimulated)
	m := newMachine()
	m.down = true
	wantEnd(t, newStudio(t, m, nil).show(""), endUnreachable)
}

// readNotice reads until a text message comes.
func readNotice(t *testing.T, ws *websocket.Conn) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		kind, data, err := ws.Read(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if kind == websocket.MessageText {
			return string(data)
		}
	}
}

// What may not be copied does not arrive, in neither direction, whatever the page does.
func TestForbiddenClipboardDoesNotArrive(t *testing.T) {
	secret := []byte("for your eyes only")
	in := slices.Concat([]byte{6, 0, 0, 0, 0, 0, 0, byte(len(secret))}, secret)
	out := slices.Concat([]byte{3, 0, 0, 0, 0, 0, 0, byte(len(secret))}, secret)
	key, bell := []byte{4, 1, 0, 0, 0, 0, 0, 65}, []byte{2}
	for _, tt := range []struct {
		name    string
		rules   appstream.Rules
		passes  bool
		notices []string
	}{
		{"forbidden", appstream.Rules{}, false, []string{`{"notice":"clipboard","direction":"in","reason":"disabled"}`, `{"notice":"clipboard","direction":"out","reason":"disabled"}`}},
		{"too long", appstream.Rules{CopyIn: true, CopyOut: true, CopyInMax: 17, CopyOutMax: 16}, false,
			[]string{`{"notice":"clipboard","direction":"in","reason":"length","max":17}`, `{"notice":"clipboard","direction":"out","reason":"length","max":16}`}},
		{"within the limit", appstream.Rules{CopyIn: true, CopyOut: true, CopyInMax: 18, CopyOutMax: 18}, true, nil},
		{"allowed", allowed, true, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newMachine()
			w := newStudio(t, m, func(s *appstream.Session) { s.Rules = tt.rules })
			ws := w.show("")
			open(t, ws)
			if err := ws.Write(t.Context(), websocket.MessageBinary, slices.Concat(in, key)); err != nil {
				t.Fatal(err)
			}
			want := slices.Concat(viewerHello, key)
			if tt.passes {
				want = slices.Concat(viewerHello, in, key)
			}
			var heard []byte
			for len(heard) < len(want) {
				heard = append(heard, <-m.heard...)
			}
			if !bytes.Equal(heard, want) {
				t.Errorf("the display heard %q, want %q", heard, want)
			}
			var notices []string
			if tt.notices != nil {
				notices = append(notices, readNotice(t, ws))
			}
			m.say <- slices.Concat(bell, out, bell)
			want = slices.Concat(bell, bell)
			if tt.passes {
				want = slices.Concat(bell, out, bell)
			}
			var got []byte
			for len(got) < len(want) || len(notices) < len(tt.notices) {
				kind, data, err := ws.Read(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if kind == websocket.MessageText {
					notices = append(notices, string(data))
				} else {
					got = append(got, data...)
				}
			}
			if !bytes.Equal(got, want) {
				t.Errorf("the browser got %q, want %q", got, want)
			}
			if diff := cmp.Diff(tt.notices, notices); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWhatCannotBeFollowedEndsTheStream(t *testing.T) {
	w := newStudio(t, newMachine(), nil)
	ws := w.show("")
	open(t, ws)
	if err := ws.Write(t.Context(), websocket.MessageBinary, []byte{99}); err != nil {
		t.Fatal(err)
	}
	wantEnd(t, ws, endProtocol)
	m := newMachine()
	w = newStudio(t, m, nil)
	ws = w.show("")
	open(t, ws)
	m.say <- []byte{99}
	wantEnd(t, ws, endProtocol)
}

func TestFrames(t *testing.T) {
	for _, tt := range []struct {
		name    string
		domains []string
		want    string
		free    bool
	}{
		{"nobody", nil, "frame-ancestors 'none'", false},
		{"one host", []string{"portal.example"}, "frame-ancestors https://portal.example:*", true},
		{"two hosts, one of this computer", []string{"portal.example", "app.localhost"}, "frame-ancestors https://portal.example:* https://app.localhost:* http://app.localhost:*", true},
		{"no host", []string{"portal.example; script-src *", "*", "a b", ""}, "frame-ancestors 'none'", false},
	} {
		w := newStudio(t, newMachine(), func(s *appstream.Session) { s.EmbedDomains = tt.domains })
		stack := w.store.stacks[appstream.Key{Account: testAccount, Region: testRegion, Noun: appstream.NounStack, Name: "Design"}]
		stack.View.EmbedHostDomains = tt.domains
		w.store.put(&stack, nil)
		client := w.seated()
		check := func(what string, header http.Header) {
			t.Helper()
			policy, frames := header.Get("Content-Security-Policy"), header.Get("X-Frame-Options")
			if !strings.HasSuffix(policy, tt.want) || !strings.Contains(policy, "script-src 'self';") || (frames == "") != tt.free {
				t.Errorf("%s, %s: %s, %q", tt.name, what, policy, frames)
			}
		}
		_, header, _ := w.get(client, "/stream/"+testSession)
		check("viewer", header)
		w.store.put(ended(w.store, appstream.EndAway), nil)
		_, header, _ = w.get(client, "/stream/"+testSession)
		check("notice", header)
		w.people.err = appstream.Errorf(appstream.InsufficientCapacity, "x")
		_, header, _ = w.get(w.browser(), w.url(personClaims()))
		check("no place", header)
		w.people.err = nil

		// In a frame of another site the cookie must be sent, which browsers do over https only.
		for _, base := range []string{"http://oriel.test", "https://oriel.test"} {
			address := strings.Replace(w.url(personClaims()), w.server.URL, base, 1)
			answer := httptest.NewRecorder()
			r := httptest.NewRequest("GET", address, nil)
			w.gate.ServeHTTP(answer, r)
			cookie := answer.Result().Cookies()[0]
			want := http.SameSiteLaxMode
			if len(tt.domains) > 0 && base == "https://oriel.test" {
				want = http.SameSiteNoneMode
			}
			if cookie.SameSite != want || cookie.Partitioned != (want == http.SameSiteNoneMode) || cookie.Secure != (r.TLS != nil) {
				t.Errorf("%s, %s: the cookie is %v", tt.name, base, cookie)
			}
		}
	}
	w := newStudio(t, newMachine(), nil)
	_, header, _ := w.get(w.signedIn(), "/stream/"+testID)
	if header.Get("X-Frame-Options") != "DENY" {
		t.Error("an image builder can be shown in a frame")
	}
}

var _ Sessions = (*people)(nil)
