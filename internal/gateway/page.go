package gateway

import (
	"bytes"
	"context"
	"embed"
	"encoding/json/v2"
	"html/template"
	"net/http"
	"strconv"
	"strings"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/gateway/words"
	"github.com/oriel-project/oriel/internal/language"
	"github.com/oriel-project/oriel/internal/theme"
	"github.com/oriel-project/oriel/internal/ticket"
	"github.com/oriel-project/oriel/internal/web"
)

//go:embed templates/*.html
var templates embed.FS

// pages are the templates of one language.
type pages struct{ notice, viewer *template.Template }

// newPages parses the templates in every language.
func newPages() map[string]*pages {
	all := make(map[string]*pages)
	for _, code := range language.Codes() {
		parse := func(name string) *template.Template {
			return template.Must(template.New(name).Funcs(words.All.Funcs(code)).Funcs(template.FuncMap{"asset": web.Path, "icon": web.Icon,
				"inc": func(n int) int { return n + 1 }, "say": func(t text) string { return t.in(code) }, "state": func(state string) string { return stateWords(code, state) }}).
				ParseFS(templates, "templates/"+name, "templates/theme.html", "templates/languages.html"))
		}
		all[code] = &pages{notice: parse("notice.html"), viewer: parse("viewer.html")}
	}
	return all
}

// A text is what a person is told: a key of words.All, and what stands in it.
type text struct {
	key  string
	args []any
}

func say(key string, args ...any) text { return text{key, args} }

// quote is a text that comes from elsewhere, and is there in English only.
func quote(words string) text { return say("quoted", words) }

// in gives the text in a language.
func (t text) in(code string) string { return words.All.Text(code, t.key, t.args...) }

// A notice is a page that stands where the stream would be, and what the viewer's script gets in its place.
type notice struct {
	Status int
	Code   string // for the script: why
	Icon   string
	Tone   string // calm, wait, good or bad: the colour
	Title  text
	Text   []text // paragraphs

	Builder *about     // the image builder that the page is about; nil when it is about none, or the browser may not know
	Wait    string     // the address to ask for news; "" when the page is final
	Links   []pageLink // where to go from here
	Theme   theme.Theme
}

// pageLink is a link of a notice. Its URL has been checked (webAddress).
type pageLink struct {
	Text   text
	URL    string
	Strong bool // what most people want
}

// about is what a notice shows of a builder.
type about struct{ Name, State, Reason, Version string }

// The refusals.
var (
	noticeUnknown       = notice{Status: http.StatusNotFound, Code: "unknown", Icon: "search", Tone: "calm", Title: say("unknown"), Text: []text{say("unknown_text")}}
	noticeAltered       = notice{Status: http.StatusForbidden, Code: "invalid", Icon: "shield", Tone: "bad", Title: say("altered"), Text: []text{say("altered_text")}}
	noticeExpired       = notice{Status: http.StatusForbidden, Code: "expired", Icon: "clock", Tone: "calm", Title: say("link_expired"), Text: []text{say("link_expired_builder")}}
	noticePersonExpired = notice{Status: http.StatusForbidden, Code: "expired", Icon: "clock", Tone: "calm", Title: say("link_expired"), Text: []text{say("link_expired_person")}}
	noticeSlowDown      = notice{Status: http.StatusTooManyRequests, Code: "limit", Icon: "clock", Tone: "calm", Title: say("slow_down"), Text: []text{say("slow_down_text")}}
	noticeNoCookie      = notice{Status: http.StatusUnauthorized, Code: "session", Icon: "key", Tone: "calm", Title: say("no_cookie"), Text: []text{say("no_cookie_text"), say("no_cookie_more")}}
	noticeSignedOut     = notice{Status: http.StatusUnauthorized, Code: "session", Icon: "key", Tone: "calm", Title: say("signed_out"), Text: []text{say("signed_out_text")}}
	noticeCookieOver    = notice{Status: http.StatusUnauthorized, Code: "expired", Icon: "clock", Tone: "calm", Title: say("session_ended"), Text: []text{say("cookie_over_text")}}
	noticeDeleted       = notice{Status: http.StatusGone, Code: "deleted", Icon: "trash", Tone: "calm", Title: say("deleted"), Text: []text{say("deleted_text")}}
	noticeSessionGone   = notice{Status: http.StatusGone, Code: "ended", Icon: "clock", Tone: "calm", Title: say("session_ended"), Text: []text{say("session_gone_text"), say("ended_more")}}
	noticeAddress       = notice{Status: http.StatusForbidden, Code: "address", Icon: "shield", Tone: "bad", Title: say("address"), Text: []text{say("address_text")}}
	noticeForeign       = notice{Status: http.StatusForbidden, Code: "origin", Icon: "shield", Tone: "bad", Title: say("foreign"), Text: []text{say("foreign_text")}}
	noticeFault         = notice{Status: http.StatusServiceUnavailable, Code: "fault", Icon: "alert", Tone: "bad", Title: say("fault"), Text: []text{say("fault_text")}}
)

// noticeGone gives the page for a subject that is no longer there.
func noticeGone(c ticket.Claims) notice {
	n := noticeDeleted
	if c.Type == ticket.TypeEndUser {
		n = noticeSessionGone
	}
	if c.UserPool { // he has no streaming link
		n.Text, n.Links = n.Text[:1], portalLink(c)
	}
	return n
}

// portalLink leads somebody who came by the portal back to it.
func portalLink(c ticket.Claims) []pageLink {
	if !c.UserPool {
		return nil
	}
	return []pageLink{{Text: say("back_to_portal"), URL: appstream.PortalURL("", c.Account, c.Region), Strong: true}}
}

// themed gives the notice the look of a person's stack. A look that cannot be told keeps nobody from being told what happened.
func (g *Gateway) themed(ctx context.Context, n notice, c ticket.Claims) notice {
	if c.Type == ticket.TypeEndUser {
		n.Theme = g.theme(ctx, c)
	}
	return n
}

// theme gives the look of a person's stack.
func (g *Gateway) theme(ctx context.Context, c ticket.Claims) theme.Theme {
	look, err := theme.Of(ctx, g.Store, c.Account, c.Region, c.Stack)
	if err != nil && ctx.Err() == nil {
		g.Log.WarnContext(ctx, "gateway: read the theme", "stack", c.Stack, "err", err)
	}
	return look
}

// fault answers an error that is ours.
func (g *Gateway) fault(w http.ResponseWriter, r *http.Request, what string, err error) {
	if r.Context().Err() != nil {
		return // the browser has gone
	}
	g.Log.ErrorContext(r.Context(), "gateway: "+what, "err", err)
	g.refuse(w, r, noticeFault)
}

// refuse answers with a notice: as JSON to the viewer's scripts, as a page to people.
func (g *Gateway) refuse(w http.ResponseWriter, r *http.Request, n notice) {
	if dest := r.Header.Get("Sec-Fetch-Dest"); dest == "empty" || dest == "websocket" || strings.Contains(r.Header.Get("Accept"), "application/json") {
		code := language.Of(r)
		g.answer(w, r, n.Status, problemBody{Code: n.Code, Message: n.Title.in(code) + ". " + n.Text[0].in(code)})
		return
	}
	// A page whose address has a secret, as that of a ticket, is not offered in another language: the address would be in it.
	languages := r.Method == http.MethodGet && r.URL.RawQuery == "" && r.URL.Path == "/stream/"+r.PathValue("id")
	g.render(w, r, g.pages[language.Of(r)].notice, n.Status, map[string]any{"Notice": n, "Languages": languages})
}

// A problem is why something that the viewer asked for is not done.
type problem struct {
	Code    string
	Field   string // of the form
	Message text
}

// problemBody is the JSON of a refusal.
type problemBody struct {
	Code    string `json:"code"`
	Field   string `json:"field,omitzero"`
	Message string `json:"message"`
}

// deny answers with a problem, in the language of the person.
func (g *Gateway) deny(w http.ResponseWriter, r *http.Request, status int, p problem) {
	g.answer(w, r, status, problemBody{p.Code, p.Field, p.Message.in(language.Of(r))})
}

func (g *Gateway) answer(w http.ResponseWriter, r *http.Request, status int, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		g.Log.ErrorContext(r.Context(), "gateway: encode an answer", "err", err)
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	w.Write(text)
}

func (g *Gateway) render(w http.ResponseWriter, r *http.Request, t *template.Template, status int, data any) {
	var page bytes.Buffer // whole or not at all
	if err := t.Execute(&page, data); err != nil {
		g.Log.ErrorContext(r.Context(), "gateway: make a page", "page", t.Name(), "err", err)
		http.Error(w, "The page could not be made; the server's log says why.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Language", language.Of(r))
	w.Header().Set("Content-Length", strconv.Itoa(page.Len()))
	w.WriteHeader(status)
	w.Write(page.Bytes())
}
