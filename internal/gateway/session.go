package gateway

import (
	"errors"
	"net/http"
	"time"

	"github.com/oriel-project/oriel/internal/store"
	"github.com/oriel-project/oriel/internal/ticket"
)

// SessionLength is how long a browser may use a stream after it opened the streaming URL. The validity of the URL only bounds
// when it is opened.
const SessionLength = 12 * time.Hour

// authenticate exchanges the ticket in a streaming URL for a session and sends the browser on, so that the
// ticket leaves the address bar and the history.
func (g *Gateway) authenticate(w http.ResponseWriter, r *http.Request) {
	source := g.TrustedProxies.Source(r)
	query := r.URL.Query()
	c, err := g.Signer.Parse(query.Get("parameters"), query.Get("signature"), time.Now())
	if err == nil && !recordID.MatchString(c.RecordID) {
		err = ticket.ErrInvalid
	}
	if err != nil {
		why, page := "invalid", noticeAltered
		if errors.Is(err, ticket.ErrExpired) {
			why, page = "expired", noticeExpired
		}
		g.Hooks.Refused(why)
		if !g.refused.allow(source) {
			w.Header().Set("Retry-After", "30")
			g.refuse(w, r, noticeSlowDown)
			return
		}
		g.Log.InfoContext(r.Context(), "gateway: streaming url refused", "why", why, "source", source)
		g.refuse(w, r, page)
		return
	}
	b, err := g.find(r.Context(), c.RecordID)
	switch {
	case errors.Is(err, store.ErrNotFound):
		g.refuse(w, r, noticeDeleted)
		return
	case err != nil:
		g.fault(w, r, "read the image builder", err)
		return
	case !g.admits(&b, source):
		g.Hooks.Refused("address")
		g.Log.InfoContext(r.Context(), "gateway: address refused", "builder", b.ARN(), "source", source)
		g.refuse(w, r, noticeAddress)
		return
	}
	c.Expires, c.Nonce = time.Now().Add(SessionLength), ""
	value, err := g.Signer.Session(c)
	if err != nil {
		g.fault(w, r, "make the session", err)
		return
	}
	http.SetCookie(w, g.cookie(r, c.RecordID, value, int(SessionLength/time.Second)))
	http.Redirect(w, r, "/stream/"+c.RecordID, http.StatusSeeOther)
}

// disconnect takes the session away from the browser.
func (g *Gateway) disconnect(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if !recordID.MatchString(id) || !g.sameOrigin(r) {
		g.Hooks.Refused("origin")
		g.refuse(w, r, noticeForeign)
		return
	}
	http.SetCookie(w, g.cookie(r, id, "", -1))
	w.WriteHeader(http.StatusNoContent)
}

// sameOrigin tells whether a page of this server made a request that changes something.
func (g *Gateway) sameOrigin(r *http.Request) bool { return g.origins.Check(r) == nil }

// cookieName gives the name of the cookie for a record. Over https it has the prefix with which browsers promise that no other
// host has set it.
func (g *Gateway) cookieName(r *http.Request, id string) string {
	if g.TrustedProxies.Secure(r) {
		return "__Host-oriel-" + id
	}
	return "oriel-" + id
}

func (g *Gateway) cookie(r *http.Request, id, value string, maxAge int) *http.Cookie {
	c := &http.Cookie{Name: g.cookieName(r, id), Value: value, MaxAge: maxAge, HttpOnly: true, SameSite: http.SameSiteLaxMode}
	if g.TrustedProxies.Secure(r) {
		c.Secure, c.Path = true, "/" // as __Host- demands
	} else {
		c.Path = "/stream/" + id
	}
	return c
}

// session gives the claims of the session that a request carries for a record. Errors: ticket.ErrInvalid, also when there is
// none; ticket.ErrExpired.
func (g *Gateway) session(r *http.Request, id string) (ticket.Claims, error) {
	result := ticket.ErrInvalid
	for _, cookie := range r.CookiesNamed(g.cookieName(r, id)) {
		c, err := g.Signer.ParseSession(cookie.Value, time.Now())
		switch {
		case c.RecordID != id: // includes all that is not genuine
		case err == nil:
			return c, nil
		default:
			result = err
		}
	}
	return ticket.Claims{}, result
}
