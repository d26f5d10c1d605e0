package gateway

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/language"
	"github.com/oriel-project/oriel/internal/store"
	"github.com/oriel-project/oriel/internal/ticket"
)

// When a page that found no place on a fleet tries again: about every 20 seconds, and not all pages at once.
const (
	capacityPause  = 15 * time.Second
	capacitySpread = 10 * time.Second
)

// waitTime is how long the link holds with which such a page tries again. Each try makes a new one: who closes the page, waits no more.
const waitTime = 2 * time.Minute

// launchTime bounds the start of an application in a session that is there already. The browser waits for it.
const launchTime = 5 * time.Second

// desktopApplication is the application of a ticket that stands for the desktop itself.
const desktopApplication = "Desktop"

// authenticate exchanges the ticket in a streaming URL for a cookie.
func (g *Gateway) authenticate(w http.ResponseWriter, r *http.Request) {
	source := g.TrustedProxies.Source(r)
	query := r.URL.Query()
	c, err := g.Signer.Parse(query.Get("parameters"), query.Get("signature"), time.Now())
	if err == nil && (!recordID.MatchString(c.RecordID) || c.Type == ticket.TypeEndUser && g.Sessions == nil) {
		err = ticket.ErrInvalid
	}
	switch {
	case err != nil:
		g.refuseTicket(w, r, c, source, err)
	case c.Type == ticket.TypeEndUser:
		g.openSession(w, r, c, source)
	default:
		g.openBuilder(w, r, c, source)
	}
}

// refuseTicket answers a ticket that does not hold. The claims of one that has expired are genuine; of any other there are none.
func (g *Gateway) refuseTicket(w http.ResponseWriter, r *http.Request, c ticket.Claims, source netip.Addr, err error) {
	why, page := "invalid", noticeAltered
	if errors.Is(err, ticket.ErrExpired) {
		why, page = "expired", noticeExpired
		if c.Type == ticket.TypeEndUser {
			page = noticePersonExpired
			page.Links = portalLink(c)
			if stack, err := g.stack(r.Context(), c); err == nil { // in the frame in which the session would be
				allowFrames(w, stack.View.EmbedHostDomains)
			}
			page = g.themed(r.Context(), page, c)
		}
	}
	g.Hooks.Refused(why)
	if !g.refused.allow(source) {
		w.Header().Set("Retry-After", "30")
		g.refuse(w, r, noticeSlowDown)
		return
	}
	g.Log.InfoContext(r.Context(), "gateway: streaming url refused", "why", why, "source", source)
	g.refuse(w, r, page)
}

// openBuilder admits a browser to an image builder.
func (g *Gateway) openBuilder(w http.ResponseWriter, r *http.Request, c ticket.Claims, source netip.Addr) {
	b, err := g.find(r.Context(), c)
	switch {
	case errors.Is(err, store.ErrNotFound):
		g.refuse(w, r, noticeDeleted)
	case err != nil:
		g.fault(w, r, "read the image builder", err)
	case !g.admits(b.endpoints(), source):
		g.refuseAddress(w, r, c, b.head().ARN(), source)
	default:
		c.Expires = time.Now().Add(BuilderVisit)
		g.admit(w, r, c, false)
	}
}

// openSession gives a person the session that he has on a fleet, or a new one. The endpoints of the stack are looked at before,
// so that nobody takes a place who may not come.
func (g *Gateway) openSession(w http.ResponseWriter, r *http.Request, c ticket.Claims, source netip.Addr) {
	ctx := r.Context()
	stack, err := g.stack(ctx, c)
	if err != nil && !errors.Is(err, store.ErrNotFound) { // without a stack OpenSession has the words
		g.fault(w, r, "read the stack", err)
		return
	}
	allowFrames(w, stack.View.EmbedHostDomains)
	if !g.admits(stack.View.AccessEndpoints, source) {
		g.refuseAddress(w, r, c, stack.ARN(), source)
		return
	}
	session, existing, err := g.Sessions.OpenSession(asPerson(ctx, c, source), c, language.Locale(r))
	if err != nil {
		g.noSession(w, r, c, err)
		return
	}
	if existing && session.State == appstream.SessionActive && c.Application != "" && c.Application != desktopApplication && session.Sees(c.Application) {
		g.launchFor(ctx, &session, c.Application)
	}
	c.RecordID, c.Expires = session.ID, session.MaxEnd.Add(afterwards)
	c.Context, c.Application, c.Attributes = "", "", nil // what they were for is done
	g.admit(w, r, c, len(session.EmbedDomains) > 0)
}

// asPerson gives a context in which the audit log names the person of a ticket, or of the cookie that he got for it, and where he is.
func asPerson(ctx context.Context, c ticket.Claims, source netip.Addr) context.Context {
	return appstream.WithCaller(ctx, appstream.Caller{Account: c.Account, Region: c.Region, Source: source,
		Principal: appstream.UserARN(c.Account, c.Region, types.AuthenticationType(c.Authentication()), c.UserID)})
}

// stack reads the stack of a person's ticket. Errors: store.ErrNotFound.
func (g *Gateway) stack(ctx context.Context, c ticket.Claims) (stack appstream.Stack, err error) {
	key := appstream.Key{Account: c.Account, Region: c.Region, Noun: appstream.NounStack, Name: c.Stack}
	err = g.Store.View(ctx, func(tx store.Tx) error { return tx.Get(key, &stack) })
	return stack, err
}

func (g *Gateway) refuseAddress(w http.ResponseWriter, r *http.Request, c ticket.Claims, arn string, source netip.Addr) {
	g.Hooks.Refused("address")
	g.Log.InfoContext(r.Context(), "gateway: address refused", "resource", arn, "source", source)
	g.refuse(w, r, g.themed(r.Context(), noticeAddress, c))
}

// noSession says why a person has no session. The page of one for whom there is no place tries again by itself.
func (g *Gateway) noSession(w http.ResponseWriter, r *http.Request, c ticket.Claims, err error) {
	known, ok := errors.AsType[*appstream.Error](err)
	if !ok || known.Kind == appstream.Internal {
		g.fault(w, r, "open a session", err)
		return
	}
	n := notice{Code: string(known.Kind), Icon: "alert", Tone: "calm", Title: say("no_session"), Text: []text{whyNot(known)}, Links: portalLink(c)}
	switch known.Kind {
	case appstream.InsufficientCapacity:
		g.Hooks.NoCapacity(appstream.Key{Account: c.Account, Region: c.Region, Noun: appstream.NounFleet, Name: c.Fleet})
		again, err := g.waitingURL(c)
		if err != nil {
			g.fault(w, r, "make the link of a page that waits", err)
			return
		}
		pause := strconv.Itoa(int((capacityPause + rand.N(capacitySpread)) / time.Second))
		w.Header().Set("Refresh", pause+"; url="+again)
		w.Header().Set("Retry-After", pause)
		n = notice{Links: n.Links, Status: http.StatusServiceUnavailable, Code: "capacity", Icon: "spinner", Tone: "wait", Title: say("no_place"),
			Text: []text{say("no_place_text")}}
	case appstream.ResourceNotFound:
		n.Status, n.Icon = http.StatusGone, "trash"
	case appstream.ResourceNotAvailable, appstream.Unavailable:
		n.Status, n.Icon = http.StatusServiceUnavailable, "power"
	case appstream.ResourceInUse, appstream.ConcurrentModification, appstream.LimitExceeded:
		n.Status = http.StatusConflict
	default:
		n.Status, n.Icon = http.StatusForbidden, "shield"
	}
	g.refuse(w, r, g.themed(r.Context(), n, c))
}

// whyNot says why a person has no session.
func whyNot(e *appstream.Error) text {
	switch e.Why {
	case appstream.WhyGone:
		return say("no_session_gone")
	case appstream.WhyMoved:
		return say("no_session_moved")
	case appstream.WhyElsewhere:
		return say("no_session_elsewhere", e.About)
	case appstream.WhyStopped:
		return say("no_session_stopped", e.About)
	case appstream.WhyForbidden:
		return say("no_session_forbidden")
	case appstream.WhyWithdrawn:
		return say("no_session_withdrawn")
	}
	return quote(e.Message)
}

// waitingURL gives the link with which a page that waits for a place tries again. It says what the streaming URL said and holds
// for waitTime at least, since a streaming URL may expire before there is a place.
func (g *Gateway) waitingURL(c ticket.Claims) (string, error) {
	if soon := time.Now().Add(waitTime); c.Expires.Before(soon) {
		c.Expires = soon
	}
	c.Nonce = ""
	return g.Signer.URL("", c)
}

// launchFor starts an application in a session that was there before. That it fails keeps nobody out.
func (g *Gateway) launchFor(ctx context.Context, s *appstream.Session, application string) {
	if g.Dialer == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, launchTime)
	defer cancel()
	agent := g.agent(s.InstanceID)
	defer agent.Close()
	if err := agent.Session(s.ID).Launch(ctx, application); err != nil {
		g.Log.WarnContext(ctx, "gateway: launch an application", "session", s.ID, "application", application, "err", err)
		return
	}
	g.launched(ctx, s.ID, application)
}
