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

	"github.com/oriel-project/oriel/internal/theme"
	"github.com/oriel-project/oriel/internal/ticket"
	"github.com/oriel-project/oriel/internal/web"
)

//go:embed templates/*.html
var templates embed.FS

type pages struct{ notice, viewer *template.Template }

func newPages() *pages {
	parse := func(name string) *template.Template {
		return template.Must(template.New(name).Funcs(template.FuncMap{"asset": web.Path, "icon": web.Icon,
			"inc": func(n int) int { return n + 1 }}).
			ParseFS(templates, "templates/"+name, "templates/theme.html"))
	}
	return &pages{notice: parse("notice.html"), viewer: parse("viewer.html")}
}

// A notice is a page that stands where the stream would be, and what the viewer's script gets in its place.
type notice struct {
	Status int
	Code   string // for the script: why
	Icon   string
	Tone   string // calm, wait, good or bad: the colour
	Title  string
	Text   []string // paragraphs

	Builder *about     // the image builder that the page is about; nil when it is about none, or the browser may not know
	Wait    string     // the address to ask for news; "" when the page is final
	Links   []pageLink // where to go from here
	Theme   theme.Theme
}

// pageLink is a link of a notice. Its URL has been checked (webAddress).
type pageLink struct {
	Text, URL string
	Strong    bool // what most people want
}

// about is what a notice shows of a builder.
type about struct{ Name, State, Reason, Version string }

// The refusals.
var (
	noticeUnknown = notice{Status: http.StatusNotFound, Code: "unknown", Icon: "search", Tone: "calm", Title: "There is nothing here",
		Text: []string{"This address does not belong to a stream. Check that the link was copied whole, or ask for a new one."}}
	noticeAltered = notice{Status: http.StatusForbidden, Code: "invalid", Icon: "shield", Tone: "bad", Title: "This link is not valid",
		Text: []string{"It was cut off or changed on its way to you, or it comes from another server. Copy the whole link, or ask for a new one."}}
	noticeExpired = notice{Status: http.StatusForbidden, Code: "expired", Icon: "clock", Tone: "calm", Title: "This link has expired",
		Text: []string{"Streaming links work for a limited time. Ask the person who sent it for a new one; the image builder and your work on it are not affected."}}
	noticePersonExpired = notice{Status: http.StatusForbidden, Code: "expired", Icon: "clock", Tone: "calm", Title: "This link has expired",
		Text: []string{"Streaming links work for a limited time. Go back to where you got it for a new one. If you have a session, it opens that session again."}}
	noticeSlowDown = notice{Status: http.StatusTooManyRequests, Code: "limit", Icon: "clock", Tone: "calm", Title: "Too many attempts",
		Text: []string{"Several links from your network were not accepted. Wait half a minute and try a new link."}}
	noticeNoCookie = notice{Status: http.StatusUnauthorized, Code: "session", Icon: "key", Tone: "calm", Title: "Open your streaming link",
		Text: []string{"This browser has not been let in here. Open the streaming link that you were given, or ask for a new one.",
			"If you just did, allow cookies for this site and open the link again."}}
	noticeCookieOver = notice{Status: http.StatusUnauthorized, Code: "expired", Icon: "clock", Tone: "calm", Title: "Your session has ended",
		Text: []string{"A session lasts twelve hours. The image builder and your work on it are still there: open a new streaming link to go on."}}
	noticeDeleted = notice{Status: http.StatusGone, Code: "deleted", Icon: "trash", Tone: "calm", Title: "This builder was deleted",
		Text: []string{"Its machine and everything on it are gone. Images and packages that were made of it are not affected."}}
	noticeSessionGone = notice{Status: http.StatusGone, Code: "ended", Icon: "clock", Tone: "calm", Title: "Your session has ended",
		Text: []string{"It is over, and nothing of it is left. Open your streaming link, or ask for a new one, to begin another."}}
	noticeAddress = notice{Status: http.StatusForbidden, Code: "address", Icon: "shield", Tone: "bad", Title: "Not from this network",
		Text: []string{"This stream can only be reached from the networks of its access endpoints. Connect to one of them, a company VPN for example, and load this page again."}}
	noticeForeign = notice{Status: http.StatusForbidden, Code: "origin", Icon: "shield", Tone: "bad", Title: "Not from this site",
		Text: []string{"The request came from another website and was not carried out."}}
	noticeFault = notice{Status: http.StatusServiceUnavailable, Code: "fault", Icon: "alert", Tone: "bad", Title: "Something went wrong",
		Text: []string{"The server could not answer just now. Try again in a moment; its log says what happened."}}
)

// noticeGone gives the page for a subject that is no longer there.
func noticeGone(c ticket.Claims) notice {
	if c.Type == ticket.TypeEndUser {
		return noticeSessionGone
	}
	return noticeDeleted
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
		g.answer(w, r, n.Status, problem{Code: n.Code, Message: n.Title + ". " + n.Text[0]})
		return
	}
	g.render(w, r, g.pages.notice, n.Status, map[string]any{"Notice": n, "StateWords": stateWords})
}

// problem is the JSON of a refusal.
type problem struct {
	Code    string `json:"code"`
	Field   string `json:"field,omitzero"` // of the form
	Message string `json:"message"`
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
	w.Header().Set("Content-Length", strconv.Itoa(page.Len()))
	w.WriteHeader(status)
	w.Write(page.Bytes())
}
