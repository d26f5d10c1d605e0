package gateway

import (
	"net/http"
	"time"

	"github.com/oriel-project/oriel/internal/ticket"
)

// BuilderVisit is how long a browser may use the stream of an image builder after it opened the streaming URL. The validity of
// the URL only bounds when it is opened.
const BuilderVisit = 12 * time.Hour

// afterwards is how much longer than his session a person's browser may ask: so long he can be told why it ended.
const afterwards = 10 * time.Minute

// admit gives the browser the cookie for claims and sends it on to the stream, so that the ticket leaves the address bar and
// the history. framed: the stream may be shown in a frame of another site's page.
func (g *Gateway) admit(w http.ResponseWriter, r *http.Request, c ticket.Claims, framed bool) {
	c.Nonce = ""
	value, err := g.Signer.Session(c)
	if err != nil {
		g.fault(w, r, "make the cookie", err)
		return
	}
	cookie := g.cookie(r, c.RecordID, value, int(time.Until(c.Expires).Round(time.Second)/time.Second))
	if framed && cookie.Secure {
		// Browsers send a Lax cookie from no frame of another site. One that is sent there must be Secure, so over http the cookie
		// stays Lax: then a frame works only for pages of the same site, another port of localhost for example. Partitioned
		// keeps it to frames of that one site, and lets browsers that block other sites' cookies take it. That other sites'
		// requests carry it does no harm: nothing is changed but at the word of a page of ours (sameOrigin, sameHost).
		cookie.SameSite, cookie.Partitioned = http.SameSiteNoneMode, true
	}
	http.SetCookie(w, cookie)
	http.Redirect(w, r, "/stream/"+c.RecordID, http.StatusSeeOther)
}

// disconnect takes the cookie for an image builder away from the browser.
func (g *Gateway) disconnect(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if !recordID.MatchString(id) || !g.sameOrigin(r) {
		g.Hooks.Refused("origin")
		g.refuse(w, r, noticeForeign)
		return
	}
	if c, err := g.admission(r, id); err == nil && c.Type == ticket.TypeEndUser {
		g.refuse(w, r, noticeUnknown) // a session is ended, or left; its person can come back to it
		return
	}
	http.SetCookie(w, g.cookie(r, id, "", -1))
	w.WriteHeader(http.StatusNoContent)
}

// sameOrigin tells whether a page of this server made a request that changes something.
func (g *Gateway) sameOrigin(r *http.Request) bool { return g.origins.Check(r) == nil }

// ours tells the same, and answers a request that is not.
func (g *Gateway) ours(w http.ResponseWriter, r *http.Request) bool {
	if g.sameOrigin(r) {
		return true
	}
	g.Hooks.Refused("origin")
	g.refuse(w, r, noticeForeign)
	return false
}

func (g *Gateway) cookie(r *http.Request, id, value string, maxAge int) *http.Cookie {
	c := ticket.Cookie(id, g.TrustedProxies.Secure(r))
	c.Value, c.MaxAge = value, maxAge
	return c
}

// admission gives the claims of the cookie that a request carries for a record. Errors: ticket.ErrInvalid, also when there is
// none; ticket.ErrExpired, with the claims.
func (g *Gateway) admission(r *http.Request, id string) (ticket.Claims, error) {
	last, result := ticket.Claims{}, ticket.ErrInvalid
	for _, cookie := range r.CookiesNamed(g.cookie(r, id, "", 0).Name) {
		c, err := g.Signer.ParseSession(cookie.Value, time.Now())
		switch {
		case c.RecordID != id: // includes all that is not genuine
		case err == nil:
			return c, nil
		default:
			last, result = c, err
		}
	}
	return last, result
}
