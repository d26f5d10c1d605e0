package portal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/language/languagetest"
	weakness "github.com/oriel-project/oriel/internal/password"
	"github.com/oriel-project/oriel/internal/proxy"
	"github.com/oriel-project/oriel/internal/service"
	"github.com/oriel-project/oriel/internal/ticket"
)

const (
	home     = "/portal/123456789012/us-west-2"
	jane     = "jane@example.com"
	password = "a horse of one's own"
)

// people is users who say whatever a test wants. The real ones are in internal/service; internal/server has both together.
type people struct {
	mu      sync.Mutex
	cookies map[string]service.Visitor
	signIn  error
	choose  error
	reset   error
	offers  []service.Offer

	sessions []string // that whoever signs out has
	asked    []string // who forgot his password
	made     int
	limited  bool
	known    string // what the last browser that signed in had of an earlier time
	block    chan struct{}
}

func user(name string) appstream.User {
	return appstream.User{Meta: appstream.Meta{Key: appstream.Key{Account: "123456789012", Region: "us-west-2", Noun: appstream.NounUser, Name: name}, ID: "user-" + name}, FirstName: "<Jane>"}
}

func (p *people) SignIn(_ context.Context, _, _, name, given, known string, _ netip.Addr) (service.SignedIn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.known = known
	if p.signIn != nil {
		return service.SignedIn{}, p.signIn
	}
	if given != password {
		return service.SignedIn{}, &service.SignInRefusal{Why: service.RefusedWrong}
	}
	p.made++
	cookie := "user-1." + strings.Repeat("A", p.made)
	p.cookies[cookie] = service.Visitor{User: user(name), Limited: p.limited}
	return service.SignedIn{Visitor: p.cookies[cookie], Cookie: cookie, Known: "user-1.known"}, nil
}

func (p *people) SignOut(_ context.Context, cookie string) ([]string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.cookies[cookie]; !ok {
		return nil, nil
	}
	delete(p.cookies, cookie)
	return p.sessions, nil
}

func (p *people) Visitor(_ context.Context, cookie string) (service.Visitor, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	v, ok := p.cookies[cookie]
	if !ok {
		return v, &service.SignInRefusal{Why: service.RefusedVisit}
	}
	return v, nil
}

func (p *people) ChoosePassword(_ context.Context, cookie, _, _ string, _ netip.Addr) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.choose != nil {
		return "", p.choose
	}
	v := p.cookies[cookie]
	delete(p.cookies, cookie)
	v.Limited = false
	p.made++
	next := "user-1." + strings.Repeat("B", p.made)
	p.cookies[next] = v
	return next, nil
}

func (p *people) ForgotPassword(_ context.Context, _, _, name, language string, _ netip.Addr) error {
	if p.block != nil {
		<-p.block
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, name+" "+language)
	return nil
}

func (p *people) CheckReset(_ context.Context, link string) (appstream.User, error) {
	if link != "good.link" {
		return appstream.User{}, &service.SignInRefusal{Why: service.RefusedLink}
	}
	return user(jane), nil
}

func (p *people) ResetPassword(context.Context, string, string, netip.Addr) (string, error) {
	return "user-1.known", p.reset
}

func (p *people) Offers(context.Context, appstream.User) ([]service.Offer, error) {
	return p.offers, nil
}

type fixture struct {
	t *testing.T
	*Portal
	people *people
	log    *strings.Builder
}

func newFixture(t *testing.T, edit ...func(*Config)) *fixture {
	signer, err := ticket.NewSigner(make([]byte, ticket.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, people: &people{cookies: map[string]service.Visitor{}}, log: &strings.Builder{}}
	f.people.offers = []service.Offer{{Stack: "office", Fleet: "pool", FleetID: "fleet-1", Title: `Office & "more"`, Open: true, Applications: []service.OfferedApplication{{Name: "calc", Title: "Calc"}}},
		{Stack: "lab", Fleet: "lab", FleetID: "fleet-2", Title: "Lab", Desktop: true, Session: true, Open: true}, {Stack: "shut", Fleet: "shut", FleetID: "fleet-3", Title: "Shut", Desktop: true}}
	cfg := Config{People: f.people, Tickets: signer, Account: "123456789012", Regions: []string{"us-west-2", "eu-west-1"}, Mail: true, Log: slog.New(slog.NewTextHandler(f.log, nil))}
	for _, fn := range edit {
		fn(&cfg)
	}
	f.Portal = New(cfg)
	return f
}

// ask sends a request: a form, if there is one. Cookies are written one after the other.
func (f *fixture) ask(path string, form url.Values, cookie string, edit ...func(*http.Request)) *httptest.ResponseRecorder {
	f.t.Helper()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	if form != nil {
		r = httptest.NewRequest(http.MethodPost, path, strings.NewReader(form.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	if cookie != "" {
		r.Header.Set("Cookie", "oriel-portal="+cookie)
	}
	for _, fn := range edit {
		fn(r)
	}
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	return w
}

func (f *fixture) want(w *httptest.ResponseRecorder, status int, says ...string) {
	f.t.Helper()
	text := w.Body.String() + " " + w.Header().Get("Location")
	for _, s := range says {
		if !strings.Contains(text, s) {
			f.t.Errorf("it does not say %q:\n%s", s, text)
		}
	}
	if w.Code != status {
		f.t.Errorf("status %d, want %d: %s", w.Code, status, text)
	}
}

// in signs somebody in and gives his cookie.
func (f *fixture) in(limited bool) string {
	f.t.Helper()
	f.people.limited = limited
	w := f.ask(home+"/sign-in", url.Values{"email": {jane}, "password": {password}}, "")
	if len(w.Result().Cookies()) != 2 {
		f.t.Fatalf("not signed in: %d %s", w.Code, w.Body)
	}
	return w.Result().Cookies()[0].Value
}

// toldOnce follows an answer as a browser does, and looks for what the page says; it does not say the first of it when it is loaded again.
func (f *fixture) toldOnce(answer *httptest.ResponseRecorder, says ...string) {
	f.t.Helper()
	jar := map[string]string{}
	load := func(w *httptest.ResponseRecorder) *httptest.ResponseRecorder {
		for _, c := range w.Result().Cookies() {
			if jar[c.Name] = c.Value; c.MaxAge < 0 {
				delete(jar, c.Name)
			}
		}
		return f.ask(answer.Header().Get("Location"), nil, "", func(r *http.Request) {
			for name, value := range jar {
				r.AddCookie(&http.Cookie{Name: name, Value: value})
			}
		})
	}
	page := load(answer)
	f.want(page, http.StatusOK, says...)
	if again := load(page); again.Code != http.StatusOK || strings.Contains(again.Body.String(), says[0]) {
		f.t.Errorf("loaded again it says: %d %s", again.Code, again.Body)
	}
}

// The cookie is out of reach of scripts and other sites, and of plain connections when there are others. It is another one at each sign-in, and the one that was
// there before is worthless: nobody can prepare a browser with a cookie that he knows.
func TestCookie(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.TrustedProxies = proxy.Trusted{netip.MustParsePrefix("192.0.2.0/24")} })
	form := url.Values{"email": {jane}, "password": {password}}
	w := f.ask(home+"/sign-in", form, "planted.cookie")
	f.want(w, http.StatusSeeOther, home)
	c := w.Result().Cookies()[0]
	if !c.HttpOnly || c.Secure || c.SameSite != http.SameSiteLaxMode || c.Path != "/portal" || c.Domain != "" || c.MaxAge != 12*3600 || c.Value == "planted.cookie" {
		t.Errorf("the cookie: %+v", c)
	}
	w = f.ask(home+"/sign-in", form, c.Value)
	next := w.Result().Cookies()[0]
	if next.Value == c.Value {
		t.Error("the same cookie at the next sign-in")
	}
	f.want(f.ask(home, nil, c.Value), http.StatusOK, "current-password") // the form
	f.want(f.ask(home, nil, next.Value), http.StatusOK, "Your applications")

	https := func(r *http.Request) {
		r.Header.Set("X-Forwarded-Proto", "https")
		r.Header.Set("Cookie", "oriel-portal="+next.Value) // set over a plain connection, by whomever
	}
	f.want(f.ask(home, nil, "", https), http.StatusOK, "current-password")
	w = f.ask(home+"/sign-in", form, "", https)
	if c := w.Result().Cookies()[0]; c.Name != "__Host-oriel-portal" || !c.Secure || c.Path != "/" || !c.HttpOnly {
		t.Errorf("the cookie over https: %+v", c)
	}

	// Another stays when one has signed out, is sent with the next attempt, and is set anew by it and by a link for another password.
	known := w.Result().Cookies()[1]
	if known.Name != "__Host-oriel-browser" || known.Value != "user-1.known" || !known.HttpOnly || !known.Secure || known.MaxAge != 180*24*3600 || known.SameSite != http.SameSiteLaxMode {
		t.Errorf("the cookie of the browser: %+v", known)
	}
	w = f.ask(home+"/sign-in", form, "x; oriel-browser=user-1.known")
	if c := w.Result().Cookies()[1]; f.people.known != "user-1.known" || c.Name != "oriel-browser" || c.Path != "/portal" || c.Secure {
		t.Errorf("known as %q: %+v", f.people.known, c)
	}
	w = f.ask(home+"/reset", url.Values{"code": {"good.link"}, "new": {password}, "again": {password}}, "")
	if c := w.Result().Cookies(); len(c) != 3 || c[0].MaxAge >= 0 || c[1].Name != "oriel-browser" || c[1].Value != "user-1.known" {
		t.Errorf("after a reset: %+v", c)
	}

	w = f.ask(home+"/sign-out", url.Values{}, next.Value)
	if c := w.Result().Cookies(); len(c) != 2 {
		t.Errorf("after signing out: %+v", c)
	}
	if c := w.Result().Cookies()[0]; c.MaxAge >= 0 || c.Value != "" {
		t.Errorf("after signing out: %+v", c)
	}
	f.toldOnce(w, "You are signed out.")
	f.want(f.ask(home, nil, next.Value), http.StatusOK, "current-password")
	if strings.Contains(f.log.String(), next.Value) || strings.Contains(f.log.String(), password) {
		t.Error("the log has a secret")
	}
}

// Who signs out takes the cookies of his sessions along, and so does who is there when somebody else signs in: a browser that others use does not show his desktop.
func TestSessionsAreLeft(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.TrustedProxies = proxy.Trusted{netip.MustParsePrefix("192.0.2.0/24")} })
	f.people.sessions = []string{"one", "two"}
	taken := func(w *httptest.ResponseRecorder) (list []string) {
		for _, c := range w.Result().Cookies() {
			if c.MaxAge < 0 && c.Value == "" && c.HttpOnly && !strings.Contains(c.Name, "portal") {
				list = append(list, fmt.Sprintf("%s %s %v %v", c.Name, c.Path, c.Secure, c.Partitioned))
			}
		}
		return list
	}
	plain := []string{"oriel-one /stream/one false false", "oriel-two /stream/two false false"}
	if got := taken(f.ask(home+"/sign-out", url.Values{}, f.in(false))); !slices.Equal(got, plain) {
		t.Errorf("signing out takes away %q", got)
	}
	form := url.Values{"email": {"john@example.com"}, "password": {password}}
	if got := taken(f.ask(home+"/sign-in", form, f.in(false))); !slices.Equal(got, plain) {
		t.Errorf("somebody else's signing in takes away %q", got)
	}
	if got := taken(f.ask(home+"/sign-in", form, "")); len(got) > 0 {
		t.Errorf("signing in takes away %q", got)
	}
	form.Set("email", jane) // who is there already: in another tab, say
	if got := taken(f.ask(home+"/sign-in", form, f.in(false))); len(got) > 0 {
		t.Errorf("one's signing in again takes away %q", got)
	}
	cookie := f.in(false)
	got := taken(f.ask(home+"/sign-out", url.Values{}, "", func(r *http.Request) {
		r.Header.Set("X-Forwarded-Proto", "https")
		r.Header.Set("Cookie", "__Host-oriel-portal="+cookie)
	}))
	if want := []string{"__Host-oriel-one / true false", "__Host-oriel-one / true true", "__Host-oriel-two / true false", "__Host-oriel-two / true true"}; !slices.Equal(got, want) {
		t.Errorf("over https, signing out takes away %q", got)
	}
}

// What another site has a browser send is not carried out, whoever is signed in.
func TestForeignSites(t *testing.T) {
	f := newFixture(t)
	cookie := f.in(false)
	for name, edit := range map[string]func(*http.Request){
		"cross-site":  func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") },
		"same-site":   func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") },
		"by origin":   func(r *http.Request) { r.Header.Del("Sec-Fetch-Site"); r.Header.Set("Origin", "https://evil.example") },
		"null origin": func(r *http.Request) { r.Header.Del("Sec-Fetch-Site"); r.Header.Set("Origin", "null") },
	} {
		for _, path := range []string{"/sign-in", "/sign-out", "/password", "/forgotten", "/reset", "/launch"} {
			w := f.ask(home+path, url.Values{"email": {jane}, "password": {password}, "stack": {"office"}, "fleet": {"pool"}}, cookie, edit)
			f.want(w, http.StatusForbidden, "Not from this site")
			if len(w.Result().Cookies()) > 0 {
				t.Errorf("%s: %s gives a cookie", name, path)
			}
		}
	}
	f.want(f.ask(home, nil, cookie), http.StatusOK, "Your applications") // nobody was signed out
	// Over plain HTTP browsers say by Origin alone where a form comes from.
	f.want(f.ask(home+"/sign-in", url.Values{"email": {jane}, "password": {password}}, "", func(r *http.Request) {
		r.Header.Del("Sec-Fetch-Site")
		r.Header.Set("Origin", "http://"+r.Host)
	}), http.StatusSeeOther, home)
	if len(f.people.asked) > 0 {
		t.Error("somebody else's site asked for a link")
	}
}

func TestHeaders(t *testing.T) {
	f := newFixture(t)
	cookie := f.in(false)
	for _, w := range []*httptest.ResponseRecorder{f.ask(home, nil, ""), f.ask(home, nil, cookie), f.ask("/portal/nothing", nil, ""), f.ask(home+"/password", nil, cookie)} {
		h := w.Header()
		policy := h.Get("Content-Security-Policy")
		if !strings.HasPrefix(policy, "default-src 'none'") || strings.Contains(policy, "script") || strings.Contains(policy, "unsafe") || !strings.Contains(policy, "frame-ancestors 'none'") ||
			h.Get("X-Frame-Options") != "DENY" || h.Get("Cache-Control") != "no-store" || h.Get("Referrer-Policy") != "same-origin" || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("header: %v", h)
		}
		if body := w.Body.String(); regexp.MustCompile(`<script|\son[a-z]+=|style=`).MatchString(body) {
			t.Errorf("the page has what its policy forbids:\n%s", body)
		}
	}
}

// Each refusal has its words and its status, and tells those who are to wait until when.
func TestRefusals(t *testing.T) {
	f := newFixture(t)
	for why, want := range map[service.Refusal]struct {
		status int
		says   string
	}{
		service.RefusedWrong:    {http.StatusForbidden, "is not right"},
		service.RefusedDisabled: {http.StatusForbidden, "disabled"},
		service.RefusedOld:      {http.StatusForbidden, "expired"},
		service.RefusedForNow:   {http.StatusTooManyRequests, "Try again in 2 minutes."},
	} {
		f.people.signIn = &service.SignInRefusal{Why: why, Wait: 90 * time.Second}
		w := f.ask(home+"/sign-in", url.Values{"email": {jane}, "password": {"x"}}, "")
		f.want(w, want.status, want.says, `role="alert"`, `value="jane@example.com"`)
		if after := w.Header().Get("Retry-After"); (after == "90") != (why == service.RefusedForNow) {
			t.Errorf("%s: Retry-After %q", why, after)
		}
		if len(w.Result().Cookies()) > 0 {
			t.Errorf("%s: a cookie", why)
		}
	}
	f.people.signIn = errors.New("the disk is full: /secret/path")
	w := f.ask(home+"/sign-in", url.Values{"email": {jane}, "password": {"x"}}, "")
	f.want(w, http.StatusServiceUnavailable, "Something went wrong")
	if strings.Contains(w.Body.String(), "disk") {
		t.Error("the page tells too much")
	}
	f.people.signIn = nil
	for _, email := range []string{"", "jane", "a@b\r\nc", strings.Repeat("x", 2000) + "@example.com", `"><script>`} {
		f.want(f.ask(home+"/sign-in", url.Values{"email": {email}, "password": {password}}, ""), http.StatusForbidden, "is not right")
	}
	f.want(f.ask(home+"/sign-in", url.Values{"email": {jane}, "password": {strings.Repeat("x", maxForm)}}, ""), http.StatusBadRequest, "could not be read")
}

// Who came by a temporary password can choose another, or leave, and nothing else.
func TestFirstSignIn(t *testing.T) {
	f := newFixture(t)
	cookie := f.in(true)
	f.want(f.ask(home, nil, cookie), http.StatusSeeOther, home+"/password")
	f.want(f.ask(home+"/launch", url.Values{"stack": {"office"}, "fleet": {"pool"}}, cookie), http.StatusSeeOther, home+"/password")
	w := f.ask(home+"/password", nil, cookie)
	f.want(w, http.StatusOK, "Choose a password", "new-password", "sign-out")
	if strings.Contains(w.Body.String(), `name="old"`) {
		t.Error("it asks for the temporary password once more")
	}
	if cut := regexp.MustCompile(`<input name="(new|again)"[^>]*maxlength`).FindString(w.Body.String()); cut != "" {
		t.Errorf("a browser cuts a password that is pasted off, and says nothing: %s", cut)
	}
	f.want(f.ask(home+"/password", url.Values{"new": {"one horse and more"}, "again": {"another horse"}}, cookie), http.StatusUnprocessableEntity, "not the same")
	for _, weak := range []weakness.Weakness{weakness.Short, weakness.Long, weakness.Plain, weakness.Known, weakness.Common, weakness.Broken} {
		f.people.choose = &service.SignInRefusal{Why: service.RefusedWeak, Weak: weak}
		f.want(f.ask(home+"/password", url.Values{"new": {"x"}, "again": {"x"}}, cookie), http.StatusUnprocessableEntity, words["en"]["weak_"+string(weak)])
	}
	f.people.choose = nil
	w = f.ask(home+"/password", url.Values{"new": {password}, "again": {password}}, cookie)
	f.want(w, http.StatusSeeOther, home)
	next := w.Result().Cookies()[0].Value
	f.toldOnce(w, "Your password is changed.", "&lt;Jane&gt;")
	f.want(f.ask(home, nil, cookie), http.StatusOK, "current-password")
	f.want(f.ask(home+"/password", nil, next), http.StatusOK, `name="old"`)
	f.people.choose = &service.SignInRefusal{Why: service.RefusedWrong}
	f.want(f.ask(home+"/password", url.Values{"new": {password}, "again": {password}, "old": {"x"}}, next), http.StatusForbidden, "present password is not right")
}

// The answer to who forgot his password is the same for everybody, and is there before anything was looked up.
func TestForgottenPassword(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.people.block = make(chan struct{})
		german := func(r *http.Request) { r.Header.Set("Accept-Language", "fr, de-AT;q=0.8, en;q=0.5") }
		var bodies []string
		for _, email := range []string{jane, "nobody@example.com", "no address"} {
			w := f.ask(home+"/forgotten", url.Values{"email": {email}}, "", german)
			f.want(w, http.StatusOK, "ist ein Link unterwegs")
			bodies = append(bodies, w.Body.String())
		}
		if bodies[0] != bodies[1] || bodies[0] != bodies[2] {
			t.Error("the answers differ")
		}
		for n := range 8 {
			w := f.ask(home+"/forgotten", url.Values{"email": {jane}}, "")
			if n == 7 {
				f.want(w, http.StatusTooManyRequests, "Too many attempts", `aria-describedby="error"`)
			}
		}
		close(f.people.block)
		f.Close()
		slices.Sort(f.people.asked)
		if got := strings.Join(slices.Compact(f.people.asked), ", "); got != "jane@example.com de, jane@example.com en, nobody@example.com de" {
			t.Errorf("asked: %s", got)
		}
	})
	f := newFixture(t, func(c *Config) { c.Mail = false })
	f.want(f.ask(home+"/forgotten", nil, ""), http.StatusOK, "Ask your administrator")
	f.ask(home+"/forgotten", url.Values{"email": {jane}}, "")
	f.Close()
	if len(f.people.asked) > 0 {
		t.Error("a link is asked for that cannot be sent")
	}
}

func TestResetLink(t *testing.T) {
	f := newFixture(t)
	f.want(f.ask(home+"/reset?code=bad", nil, ""), http.StatusGone, "not good any more", `href="`+home+`/forgotten"`)
	f.want(f.ask(home+"/reset", url.Values{"code": {"bad"}, "new": {password}, "again": {password}}, ""), http.StatusGone, "not good any more")
	f.want(f.ask(home+"/reset?code=good.link", nil, ""), http.StatusOK, `name="code" value="good.link"`, `href="?code=good.link&amp;lang=de"`)
	f.want(f.ask(home+"/reset?code=good.link&lang=de", nil, ""), http.StatusSeeOther, home+"/reset?code=good.link")
	f.want(f.ask(home+"/reset", url.Values{"code": {"good.link"}, "new": {password}, "again": {"x"}}, ""), http.StatusUnprocessableEntity, "not the same", "good.link")
	w := f.ask(home+"/reset", url.Values{"code": {"good.link"}, "new": {password}, "again": {password}}, "")
	f.want(w, http.StatusSeeOther, home)
	f.toldOnce(w, "Sign in with it")
	if strings.Contains(f.log.String(), "good.link") {
		t.Error("the log has the link")
	}
}

// A session begins with what the user was offered, and with nothing else.
func TestLaunch(t *testing.T) {
	f := newFixture(t)
	cookie := f.in(false)
	launch := func(stack, fleet, application string) *httptest.ResponseRecorder {
		return f.ask(home+"/launch", url.Values{"stack": {stack}, "fleet": {fleet}, "application": {application}}, cookie)
	}
	for _, bad := range [][3]string{{"office", "lab", ""}, {"none", "pool", ""}, {"office", "pool", "writer"}, {"office", "pool", "Desktop"}, {"", "", ""}} {
		f.want(launch(bad[0], bad[1], bad[2]), http.StatusNotFound, "not there any more")
	}
	for _, good := range [][3]string{{"office", "pool", "calc"}, {"office", "pool", ""}, {"lab", "lab", "Desktop"}} {
		w := launch(good[0], good[1], good[2])
		f.want(w, http.StatusSeeOther, "/authenticate?")
		if w.Body.Len() > 0 {
			t.Error("the page has the ticket")
		}
		to, err := url.Parse(w.Header().Get("Location"))
		if err != nil || to.Host != "" {
			t.Fatalf("the address: %v, %v", to, err)
		}
		c, err := f.Tickets.Parse(to.Query().Get("parameters"), to.Query().Get("signature"), time.Now())
		if err != nil || !c.UserPool || c.UserID != jane || c.Stack != good[0] || c.Fleet != good[1] || c.Application != good[2] || c.Account != "123456789012" || c.Region != "us-west-2" ||
			time.Until(c.Expires) > time.Minute {
			t.Errorf("the ticket: %+v, %v", c, err)
		}
	}
	f.want(f.ask(home+"/launch", url.Values{"stack": {"office"}, "fleet": {"pool"}}, "forged.cookie"), http.StatusSeeOther, home)
	page := f.ask(home, nil, cookie).Body.String()
	for _, says := range []string{"Office &amp; &#34;more&#34;", "Back to your session", "Not available just now", ` value="Desktop" disabled`} {
		if !strings.Contains(page, says) {
			t.Errorf("the page does not say %s", says)
		}
	}
	f.people.offers = nil
	f.want(f.ask(home, nil, cookie), http.StatusOK, "Nothing here yet")
}

// A portal is of one account and region: who is signed in at one is not at another.
func TestPlaces(t *testing.T) {
	f := newFixture(t)
	cookie := f.in(false)
	f.want(f.ask("/portal", nil, ""), http.StatusSeeOther, home)
	f.want(f.ask("/portal/", nil, ""), http.StatusSeeOther, home)
	f.want(f.ask("/portal/123456789012/eu-west-1", nil, cookie), http.StatusOK, "current-password")
	f.want(f.ask("/portal/210987654321/us-west-2", nil, cookie), http.StatusOK, "current-password")
	f.want(f.ask("/portal/123456789012/eu-west-1/password", nil, cookie), http.StatusSeeOther, "/portal/123456789012/eu-west-1")
	for _, path := range []string{"/portal/123456789012", "/portal/1/us-west-2", "/portal/123456789012/mars-1", home + "/nothing", "/portal/123456789012/us-west-2%2f..%2f/x", "/else"} {
		f.want(f.ask(path, nil, cookie), http.StatusNotFound, "There is nothing here")
	}
}

func TestLanguages(t *testing.T) {
	f := newFixture(t)
	w := f.ask(home+"?lang=de", nil, "")
	f.want(w, http.StatusSeeOther, home)
	c := w.Result().Cookies()[0]
	if c.Value != "de" || !c.HttpOnly {
		t.Errorf("the cookie: %+v", c)
	}
	w = f.ask(home, nil, "", func(r *http.Request) { r.AddCookie(c) })
	f.want(w, http.StatusOK, `<html lang="de">`, "Anmelden", `<a href="?lang=en" hreflang="en" lang="en">English</a>`)
	for _, path := range []string{"/portal/nothing", home + "/nothing", "/portal/123456789012/mars-1"} { // also where there is nothing
		f.want(f.ask(path+"?lang=de", nil, ""), http.StatusSeeOther, path)
	}
	w = f.ask(home+"?lang=../../x", nil, "")
	if f.want(w, http.StatusSeeOther, home); len(w.Result().Cookies()) > 0 {
		t.Error("a language that there is not is remembered")
	}
	f.want(f.ask(home, nil, "", func(r *http.Request) { r.Header.Set("Cookie", "oriel-language=xx") }), http.StatusOK, `<html lang="en">`)
	for n, want := range map[time.Duration]string{time.Millisecond: "1 second", time.Second: "1 second", 1500 * time.Millisecond: "2 seconds", time.Minute: "60 seconds", 61 * time.Second: "2 minutes", 15 * time.Minute: "15 minutes"} {
		if got := timeWords(func(key string) string { return words["en"][key] }, n); got != want {
			t.Errorf("%s is %q", n, got)
		}
	}
}

func TestWords(t *testing.T) {
	fromElsewhere := regexp.MustCompile(`^(weak_(short|long|plain|known|common|broken)|wrong|wait|disabled|old|same)$`) // service.Refusal, password.Weakness
	languagetest.Check(t, words, fromElsewhere)
}
