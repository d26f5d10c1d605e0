// Package portal is where the users of a pool sign in and begin their sessions: pages of HTML and CSS, without scripts.
//
//	GET  /portal                             to the one of the default account and first region
//	GET  /portal/{account}/{region}          what the user can use, or the form to sign in
//	POST /portal/{account}/{region}/sign-in
//	POST /portal/{account}/{region}/sign-out
//	GET  /portal/{account}/{region}/password   another password: after a temporary one, or at will; POST chooses it
//	GET  /portal/{account}/{region}/forgotten  asks for a link by mail; POST sends it
//	GET  /portal/{account}/{region}/reset      where that link leads; POST chooses the password
//	POST /portal/{account}/{region}/launch     begins a session: makes a streaming URL, and goes there
//
// A user is known by a cookie with a secret, of which the server keeps a hash with the user: signing out, another password, DisableUser and DeleteUser
// make it worthless at once. What a form asks for is refused when it comes from another site, by the browser's own word (Sec-Fetch-Site, Origin); the cookie is
// not sent from there anyway (SameSite). Another cookie outlives signing out: in the browsers that have it, wrong passwords are counted by themselves, so that nobody can keep
// a user from signing in by guessing.
//
// Whether somebody has a user is not told to anybody: not by words, and not by the time that an answer takes.
package portal

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/language"
	"github.com/oriel-project/oriel/internal/lockout"
	"github.com/oriel-project/oriel/internal/proxy"
	"github.com/oriel-project/oriel/internal/service"
	"github.com/oriel-project/oriel/internal/theme"
	"github.com/oriel-project/oriel/internal/ticket"
)

// Config is what a Portal is made of. All but Mail and Log are required.
type Config struct {
	People  People
	Tickets *ticket.Signer
	Account string   // of /portal
	Regions []string // that there are portals for; the first is that of /portal
	// TrustedProxies are the reverse proxies whose X-Forwarded-For and X-Forwarded-Proto are believed.
	TrustedProxies proxy.Trusted
	// Theme tells how the pages of a stack look; nil: like all others.
	Theme func(ctx context.Context, account, region, stack string) (theme.Theme, error)
	Mail  bool         // mails are sent: a link for another password can be asked for
	Log   *slog.Logger // nil: slog.Default
}

// People is what the portal asks for; *service.Service has it. Refusals are *service.SignInRefusal.
type People interface {
	SignIn(ctx context.Context, account, region, name, password, known string, source netip.Addr) (service.SignedIn, error)
	SignOut(ctx context.Context, cookie string) (sessions []string, err error)
	Visitor(ctx context.Context, cookie string) (service.Visitor, error)
	ChoosePassword(ctx context.Context, cookie, old, chosen string, source netip.Addr) (next string, err error)
	ForgotPassword(ctx context.Context, account, region, name, language string, source netip.Addr) error
	CheckReset(ctx context.Context, link string) (appstream.User, error)
	ResetPassword(ctx context.Context, link, chosen string, source netip.Addr) (known string, err error)
	Offers(ctx context.Context, u appstream.User) ([]service.Offer, error)
}

const (
	maxForm = 16 << 10 // bytes of what a form sends
	// ticketTime is how long the streaming URL of a session holds that is being begun. The browser goes there at once.
	ticketTime = time.Minute
	// askTime bounds a request for a link, which nobody waits for.
	askTime = 10 * time.Second
	maxAsks = 16 // such requests at the same time
)

// Portal is the http.Handler.
type Portal struct {
	Config
	mux   http.Handler
	pages map[string]pages // by language
	asked *lockout.Guard   // requests for links, by address

	asks    chan struct{}
	working sync.WaitGroup
}

// New makes a Portal.
func New(c Config) *Portal {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	p := &Portal{Config: c, pages: parsePages(), asks: make(chan struct{}, maxAsks),
		asked: &lockout.Guard{Free: 10, First: 30 * time.Second, Most: 15 * time.Minute, Forget: time.Hour, Size: 20_000}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /portal", p.entrance)
	mux.HandleFunc("GET /portal/{$}", p.entrance)
	mux.HandleFunc("GET /portal/{account}/{region}", p.at(p.home))
	mux.HandleFunc("GET /portal/{account}/{region}/{$}", p.at(p.goHome))
	mux.HandleFunc("GET /portal/{account}/{region}/sign-in", p.at(p.goHome))
	mux.HandleFunc("POST /portal/{account}/{region}/sign-in", p.at(p.signIn))
	mux.HandleFunc("POST /portal/{account}/{region}/sign-out", p.at(p.signOut))
	mux.HandleFunc("GET /portal/{account}/{region}/password", p.at(p.password))
	mux.HandleFunc("POST /portal/{account}/{region}/password", p.at(p.choosePassword))
	mux.HandleFunc("GET /portal/{account}/{region}/forgotten", p.at(p.forgotten))
	mux.HandleFunc("POST /portal/{account}/{region}/forgotten", p.at(p.sendLink))
	mux.HandleFunc("GET /portal/{account}/{region}/reset", p.at(p.reset))
	mux.HandleFunc("POST /portal/{account}/{region}/reset", p.at(p.resetPassword))
	mux.HandleFunc("GET /portal/{account}/{region}/launch", p.at(p.goHome))
	mux.HandleFunc("POST /portal/{account}/{region}/launch", p.at(p.launch))
	mux.HandleFunc("GET /", p.nothing)
	origins := http.NewCrossOriginProtection()
	origins.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.notice(w, p.bare(w, r), http.StatusForbidden, "shield", "foreign_title", "foreign_text")
	}))
	p.mux = origins.Handler(mux)
	return p
}

// Everything comes from this server, and nothing of it is a script. Forms go to this server alone.
const contentPolicy = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// ServeHTTP answers a request.
func (p *Portal) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", contentPolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "same-origin") // with none, browsers send forms with the origin "null"
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
	h.Set("Cache-Control", "no-store")
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	p.mux.ServeHTTP(w, r)
}

// Close waits for what was asked for and is still being done.
func (p *Portal) Close() { p.working.Wait() }

// place is a request to the portal of one account and region.
type place struct {
	*http.Request
	account, region string
	language        string
	source          netip.Addr
	theme           theme.Theme // of the one stack that the page is about
}

// path is an address in this portal.
func (p place) path(more string) string { return appstream.PortalURL("", p.account, p.region) + more }

var accountForm = regexp.MustCompile(`^\d{12}$`)

// at lets h have only requests to a portal that there can be. Which accounts there are is not told.
func (p *Portal) at(h func(http.ResponseWriter, place)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		at := p.bare(w, r)
		if !accountForm.MatchString(at.account) || !slices.Contains(p.Regions, at.region) {
			p.nothing(w, r)
			return
		}
		if language.Choose(w, r, p.TrustedProxies.Secure(r)) {
			return
		}
		if r.Method == http.MethodPost {
			if err := r.ParseForm(); err != nil {
				p.notice(w, at, http.StatusBadRequest, "alert", "broken_title", "broken_text")
				return
			}
		}
		h(w, at)
	}
}

// bare makes the place of a request, whatever it is to.
func (p *Portal) bare(_ http.ResponseWriter, r *http.Request) place {
	return place{Request: r, account: r.PathValue("account"), region: r.PathValue("region"), language: language.Of(r), source: p.TrustedProxies.Source(r)}
}

func (p *Portal) nothing(w http.ResponseWriter, r *http.Request) {
	if language.Choose(w, r, p.TrustedProxies.Secure(r)) {
		return
	}
	p.notice(w, p.bare(w, r), http.StatusNotFound, "search", "nothing_title", "nothing_text")
}

func (p *Portal) entrance(w http.ResponseWriter, r *http.Request) {
	http.Redirect(w, r, appstream.PortalURL("", p.Account, p.Regions[0]), http.StatusSeeOther)
}

func (p *Portal) goHome(w http.ResponseWriter, at place) {
	http.Redirect(w, at.Request, at.path(""), http.StatusSeeOther)
}

// home shows what somebody can use who is signed in, and the form to others.
func (p *Portal) home(w http.ResponseWriter, at place) {
	done := p.cookie(at.Request, doneCookie)
	if done != "" {
		p.setCookie(w, at.Request, doneCookie, "")
	}
	v, err := p.visitor(at)
	if refusal, ok := errors.AsType[*service.SignInRefusal](err); ok && refusal.Why == service.RefusedVisit {
		form := signInForm{}
		switch done {
		case donePassword:
			form.Done = "password_changed"
		case doneOut:
			form.Done = "signed_out"
		}
		p.render(w, at, http.StatusOK, "sign-in", form)
		return
	}
	switch {
	case err != nil:
		p.fault(w, at, "look who is signed in", err)
		return
	case v.Limited:
		http.Redirect(w, at.Request, at.path("/password"), http.StatusSeeOther)
		return
	}
	offers, err := p.People.Offers(at.Context(), v.User)
	if err != nil {
		p.fault(w, at, "look what there is for a user", err)
		return
	}
	page := homePage{User: v.User.Name, Name: strings.TrimSpace(v.User.FirstName + " " + v.User.LastName), Offers: p.themed(at, offers)}
	if done == donePassword {
		page.Done = "password_changed_here"
	}
	if n := len(page.Offers); n > 0 && !slices.ContainsFunc(page.Offers, func(o offer) bool { return o.Stack != page.Offers[0].Stack }) {
		at.theme = page.Offers[0].Theme // the whole page is about one stack
		for n := range page.Offers {
			page.Offers[n].Theme = theme.Theme{}
		}
	}
	p.render(w, at, http.StatusOK, "home", page)
}

type homePage struct {
	User, Name string
	Done       string
	Offers     []offer
}

// offer is what a user can use, with the look of its stack.
type offer struct {
	service.Offer
	Theme theme.Theme
}

// themed gives each offer the look of its stack. A look that cannot be told keeps nobody from his applications.
func (p *Portal) themed(at place, offers []service.Offer) []offer {
	list := make([]offer, len(offers))
	looks := map[string]theme.Theme{}
	for n, o := range offers {
		look, known := looks[o.Stack]
		if !known && p.Theme != nil {
			var err error
			if look, err = p.Theme(at.Context(), at.account, at.region, o.Stack); err != nil {
				look = theme.Theme{}
				if at.Context().Err() == nil {
					p.Log.WarnContext(at.Context(), "portal: read the theme", "stack", o.Stack, "err", err)
				}
			}
			looks[o.Stack] = look
		}
		list[n] = offer{o, look}
	}
	return list
}

// launch makes a streaming URL for what the user chose, and sends the browser there: from there on it is as with any other.
func (p *Portal) launch(w http.ResponseWriter, at place) {
	v, ok := p.signedIn(w, at)
	if !ok {
		return
	}
	offers, err := p.People.Offers(at.Context(), v.User)
	if err != nil {
		p.fault(w, at, "look what there is for a user", err)
		return
	}
	stack, fleet, application := at.PostForm.Get("stack"), at.PostForm.Get("fleet"), at.PostForm.Get("application")
	n := slices.IndexFunc(offers, func(o service.Offer) bool { return o.Stack == stack && o.Fleet == fleet })
	if n < 0 || !offers[n].Has(application) {
		p.notice(w, at, http.StatusNotFound, "search", "gone_title", "gone_text")
		return
	}
	address, err := p.Tickets.URL("", ticket.Claims{Type: ticket.TypeEndUser, Account: at.account, Region: at.region, RecordID: offers[n].FleetID, UserID: v.User.Name,
		Expires: time.Now().Add(ticketTime), Fleet: fleet, Stack: stack, Application: application, UserPool: true})
	if err != nil {
		p.fault(w, at, "make a streaming URL", err)
		return
	}
	w.Header().Set("Location", address) // http.Redirect would write it into a page too
	w.WriteHeader(http.StatusSeeOther)
}

func (p *Portal) notice(w http.ResponseWriter, at place, status int, icon, title, text string) {
	p.render(w, at, status, "notice", map[string]string{"Icon": icon, "Title": title, "Text": text, "Link": "", "Next": "go_home"})
}

// fault answers an error that is ours.
func (p *Portal) fault(w http.ResponseWriter, at place, what string, err error) {
	if at.Context().Err() != nil {
		return // the browser has gone
	}
	p.Log.ErrorContext(at.Context(), "portal: "+what, "err", err)
	w.Header().Set("Retry-After", "5")
	p.notice(w, at, http.StatusServiceUnavailable, "alert", "fault_title", "fault_text")
}

func (p *Portal) render(w http.ResponseWriter, at place, status int, name string, data any) {
	var page bytes.Buffer // whole or not at all
	view := view{Data: data, Home: at.path(""), Region: at.region, Regions: p.Regions, Account: at.account, Mail: p.Mail, Language: at.language, Theme: at.theme}
	if at.account == "" || at.region == "" {
		view.Home = "/portal"
	}
	view.Here = "?" + language.Parameter + "="
	if code := at.URL.Query().Get("code"); at.Method == http.MethodGet && code != "" {
		view.Here = "?" + url.Values{"code": {code}}.Encode() + "&" + language.Parameter + "="
	}
	view.Languages = at.Method == http.MethodGet
	if err := p.pages[at.language][name].Execute(&page, view); err != nil {
		p.Log.ErrorContext(at.Context(), "portal: make a page", "page", name, "err", err)
		http.Error(w, "The page could not be made; the server's log says why.", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Language", at.language)
	h.Set("Content-Length", strconv.Itoa(page.Len()))
	w.WriteHeader(status)
	w.Write(page.Bytes())
}
