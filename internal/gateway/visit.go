package gateway

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"regexp"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"

	"github.com/oriel-project/oriel/internal/agentapi"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/language"
	"github.com/oriel-project/oriel/internal/store"
	"github.com/oriel-project/oriel/internal/theme"
	"github.com/oriel-project/oriel/internal/ticket"
)

// A subject is what a browser visits: an image builder (builder.go), an app block builder (appblockbuilder.go) or a person's session on a
// fleet (session.go). It is the record as it was read at one moment.
type subject interface {
	head() *appstream.Meta
	// machine is the ID of the instance whose agent is asked.
	machine() string
	// endpoints are those through which alone it can be reached; none: from everywhere.
	endpoints() []types.AccessEndpoint
	// ancestors are the hosts whose pages may show it in a frame.
	ancestors() []string
	// notice gives the page that stands in place of the viewer; nil for the viewer. screens: machines have displays.
	notice(screens bool) *notice
	// page is what the viewer's page is made of.
	page() viewerPage
	// streamable tells whether there is something to stream. If there is not, end says why there never will be; nil: not yet.
	streamable(screens bool) (ready bool, end *streamEnd)
	// gone is the end of a stream whose subject is no longer there.
	gone() *streamEnd
	// display opens the display.
	display(ctx context.Context, agent *agentapi.Client) (*agentapi.DisplayConn, error)
}

// A visit is a request that has shown, by its cookie, that it may see a subject, and that comes from where it may be seen.
type visit struct {
	claims  ticket.Claims
	subject subject
	source  netip.Addr
}

var recordID = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// visiting lets h have only requests with a cookie for a subject that exists, from an allowed address.
func (g *Gateway) visiting(h func(http.ResponseWriter, *http.Request, visit)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v := visit{source: g.TrustedProxies.Source(r)}
		id := r.PathValue("id")
		if !recordID.MatchString(id) {
			g.refuse(w, r, noticeUnknown)
			return
		}
		var err error
		v.claims, err = g.admission(r, id)
		if err == nil && v.claims.Type == ticket.TypeEndUser && g.Sessions == nil {
			err = ticket.ErrInvalid // from when there were sessions
		}
		if err != nil {
			session := g.withoutCookie(r.Context(), w, id)
			switch {
			case !errors.Is(err, ticket.ErrExpired):
				g.Hooks.Refused("invalid")
				g.refuse(w, r, noCookie(session))
			case v.claims.Type == ticket.TypeEndUser:
				g.Hooks.Refused("expired")
				g.refuse(w, r, g.themed(r.Context(), noticeGone(v.claims), v.claims))
			default:
				g.Hooks.Refused("expired")
				g.refuse(w, r, noticeCookieOver)
			}
			return
		}
		v.subject, err = g.find(r.Context(), v.claims)
		switch {
		case errors.Is(err, store.ErrNotFound):
			g.refuse(w, r, g.themed(r.Context(), noticeGone(v.claims), v.claims))
			return
		case err != nil:
			g.fault(w, r, "read what is visited", err)
			return
		}
		allowFrames(w, v.subject.ancestors())
		if !g.admits(v.subject.endpoints(), v.source) {
			g.Hooks.Refused("address")
			g.refuse(w, r, g.themed(r.Context(), noticeAddress, v.claims))
			return
		}
		h(w, r, v)
	}
}

// withoutCookie reads the session of an ID, if there is one, and lets the page that turns a browser away be shown in the frame in which the session would be
// shown. Which hosts those are, and of which portal it is, is all that a browser without a cookie learns of a session.
func (g *Gateway) withoutCookie(ctx context.Context, w http.ResponseWriter, id string) *appstream.Session {
	var session appstream.Session
	if err := g.Store.View(ctx, func(tx store.Tx) error { return tx.Find(id, &session) }); err != nil || session.Noun != appstream.NounSession {
		return nil
	}
	allowFrames(w, session.EmbedDomains)
	return &session
}

// noCookie gives the page for a browser without a cookie. Whose session was begun at the portal has no streaming link, and has signed out perhaps.
func noCookie(session *appstream.Session) notice {
	if session == nil || session.AuthType != types.AuthenticationTypeUserpool {
		return noticeNoCookie
	}
	n := noticeSignedOut
	n.Links = portalLink(ticket.Claims{Account: session.Account, Region: session.Region, UserPool: true})
	return n
}

// onBuilder lets h have visits of image builders only.
func (g *Gateway) onBuilder(h func(http.ResponseWriter, *http.Request, visit, *appstream.ImageBuilder)) http.HandlerFunc {
	return g.visiting(func(w http.ResponseWriter, r *http.Request, v visit) {
		if b, ok := v.subject.(builder); ok {
			h(w, r, v, b.ImageBuilder)
		} else {
			g.refuse(w, r, noticeUnknown)
		}
	})
}

// onAppBlockBuilder lets h have visits of app block builders only.
func (g *Gateway) onAppBlockBuilder(h func(http.ResponseWriter, *http.Request, visit, *appstream.AppBlockBuilder)) http.HandlerFunc {
	return g.visiting(func(w http.ResponseWriter, r *http.Request, v visit) {
		if b, ok := v.subject.(appBlockBuilder); ok {
			h(w, r, v, b.AppBlockBuilder)
		} else {
			g.refuse(w, r, noticeUnknown)
		}
	})
}

// onSession lets h have visits of sessions only.
func (g *Gateway) onSession(h func(http.ResponseWriter, *http.Request, visit, *appstream.Session)) http.HandlerFunc {
	return g.visiting(func(w http.ResponseWriter, r *http.Request, v visit) {
		if s, ok := v.subject.(seat); ok {
			h(w, r, v, s.Session)
		} else {
			g.refuse(w, r, noticeUnknown)
		}
	})
}

// find reads the subject of claims. Errors: store.ErrNotFound.
func (g *Gateway) find(ctx context.Context, c ticket.Claims) (s subject, err error) {
	err = g.Store.View(ctx, func(tx store.Tx) error {
		if c.Type == ticket.TypeEndUser {
			session := new(appstream.Session)
			s = seat{session}
			return tx.Find(c.RecordID, session)
		}
		var head heading
		if err := tx.Find(c.RecordID, &head); err != nil {
			return err
		}
		if head.Noun == appstream.NounAppBlockBuilder {
			b := new(appstream.AppBlockBuilder)
			s = appBlockBuilder{b}
			return tx.Find(c.RecordID, b)
		}
		b := new(appstream.ImageBuilder)
		s = builder{b}
		return tx.Find(c.RecordID, b)
	})
	return s, err
}

// heading is any record, of which only what all share is read.
type heading struct{ appstream.Meta }

// agent gives a client for the agent of a machine. The caller closes it.
func (g *Gateway) agent(machine string) *agentapi.Client {
	return agentapi.NewClient(dialer(g.Dialer, machine))
}

// inLanguage has h answer but for requests that choose a language.
func (g *Gateway) inLanguage(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !language.Choose(w, r, g.TrustedProxies.Secure(r)) {
			h(w, r)
		}
	}
}

// view serves the viewer, or the page that says why there is nothing to view.
func (g *Gateway) view(w http.ResponseWriter, r *http.Request, v visit) {
	if n := v.subject.notice(g.Dialer != nil); n != nil {
		g.refuse(w, r, g.themed(r.Context(), *n, v.claims))
		return
	}
	page := v.subject.page()
	if v.claims.Type == ticket.TypeEndUser {
		page.Theme = g.theme(r.Context(), v.claims)
	}
	g.render(w, r, g.pages[language.Of(r)].viewer, http.StatusOK, page)
}

// viewerPage is what the viewer's page is made of.
type viewerPage struct {
	Kind    string // image-builder, app-block-builder or session, as in /info
	ID      string // of the record, as in the address
	Name    string // of the builder, or of the session's stack
	State   string
	Account string
	Region  string
	// An app block builder's only.
	AppBlock string
	// A session's only.
	Stack, Fleet, User, View string
	Theme                    theme.Theme
}
