package portal

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/service"
	"github.com/oriel-project/oriel/internal/ticket"
)

type signInForm struct {
	Email, Error, Done string
	Wait               time.Duration
}

func (p *Portal) signIn(w http.ResponseWriter, at place) {
	form := signInForm{Email: strings.TrimSpace(at.PostForm.Get("email"))}
	if !appstream.EmailAddress(form.Email) || len(at.PostForm.Get("password")) > 1024 {
		form.Error = string(service.RefusedWrong)
		p.render(w, at, http.StatusForbidden, "sign-in", form)
		return
	}
	old := p.cookie(at.Request, visitCookie)
	in, err := p.People.SignIn(at.Context(), at.account, at.region, form.Email, at.PostForm.Get("password"), p.cookie(at.Request, browserCookie), at.source)
	if refusal, ok := errors.AsType[*service.SignInRefusal](err); ok {
		p.Log.InfoContext(at.Context(), "portal: not signed in", "why", refusal.Why, "source", at.source)
		form.Error, form.Wait = string(refusal.Why), refusal.Wait
		p.render(w, at, refusalStatus(w, refusal), "sign-in", form)
		return
	}
	if err != nil {
		p.fault(w, at, "sign a user in", err)
		return
	}
	if !p.leave(w, at, old, in.User.ID) { // whoever was here before
		return
	}
	p.setCookie(w, at.Request, visitCookie, in.Cookie)
	p.setCookie(w, at.Request, browserCookie, in.Known)
	to := at.path("")
	if in.Limited {
		to = at.path("/password")
	}
	http.Redirect(w, at.Request, to, http.StatusSeeOther)
}

// refusalStatus is the status of a refusal. Those who are to wait are told until when.
func refusalStatus(w http.ResponseWriter, r *service.SignInRefusal) int {
	switch r.Why {
	case service.RefusedForNow:
		w.Header().Set("Retry-After", strconv.Itoa(int((r.Wait+time.Second-1)/time.Second)))
		return http.StatusTooManyRequests
	case service.RefusedWeak, service.RefusedSame:
		return http.StatusUnprocessableEntity
	case service.RefusedLink:
		return http.StatusGone
	}
	return http.StatusForbidden
}

func (p *Portal) signOut(w http.ResponseWriter, at place) {
	if !p.leave(w, at, p.cookie(at.Request, visitCookie), "") {
		return
	}
	p.setCookie(w, at.Request, visitCookie, "")
	p.setCookie(w, at.Request, doneCookie, doneOut)
	p.goHome(w, at)
}

// leave signs whoever has a cookie out, and takes the cookies of his sessions away: whoever has the browser next is not to find them by its history. next is the ID of
// the user who has it next, "" for nobody; who signs in once more keeps his sessions. It answers a fault, and tells whether there was none.
func (p *Portal) leave(w http.ResponseWriter, at place, cookie, next string) bool {
	was, _ := p.People.Visitor(at.Context(), cookie) // nobody whose sessions are kept, if that cannot be told
	sessions, err := p.People.SignOut(at.Context(), cookie)
	if err != nil {
		p.fault(w, at, "sign a user out", err)
		return false
	}
	if next != "" && was.User.ID == next {
		return true
	}
	for _, id := range sessions {
		c := ticket.Cookie(id, p.TrustedProxies.Secure(at.Request))
		c.MaxAge = -1
		http.SetCookie(w, c)
		if c.Secure { // browsers keep that of a stack which may be shown in frames apart
			c.SameSite, c.Partitioned = http.SameSiteNoneMode, true
			http.SetCookie(w, c)
		}
	}
	return true
}

// The cookies. Over HTTPS their names say that they have come so.
const (
	visitCookie   = "oriel-portal"  // service.SignedIn.Cookie
	browserCookie = "oriel-browser" // service.SignedIn.Known
	doneCookie    = "oriel-done"    // what has just been done, to be told on the next page and on no other: donePassword or doneOut
)

const (
	donePassword = "password"
	doneOut      = "out"
	doneTime     = time.Minute
)

func (p *Portal) cookieName(r *http.Request, name string) string {
	if p.TrustedProxies.Secure(r) {
		return "__Host-" + name
	}
	return name
}

// setCookie gives the browser a cookie; an empty one takes it away.
func (p *Portal) setCookie(w http.ResponseWriter, r *http.Request, name, value string) {
	c := &http.Cookie{Name: p.cookieName(r, name), Value: value, Path: "/portal", MaxAge: int(appstream.VisitTime / time.Second), HttpOnly: true, SameSite: http.SameSiteLaxMode}
	if p.TrustedProxies.Secure(r) {
		c.Secure, c.Path = true, "/" // as __Host- demands
	}
	switch {
	case value == "":
		c.MaxAge = -1
	case name == browserCookie:
		c.MaxAge = int(appstream.BrowserTime / time.Second)
	case name == doneCookie:
		c.MaxAge = int(doneTime / time.Second)
	}
	http.SetCookie(w, c)
}

func (p *Portal) cookie(r *http.Request, name string) string {
	c, err := r.Cookie(p.cookieName(r, name))
	if err != nil {
		return ""
	}
	return c.Value
}

// visitor gives who is signed in to this portal. Errors: *service.SignInRefusal.
func (p *Portal) visitor(at place) (service.Visitor, error) {
	v, err := p.People.Visitor(at.Context(), p.cookie(at.Request, visitCookie))
	if err == nil && (v.User.Account != at.account || v.User.Region != at.region) {
		return service.Visitor{}, &service.SignInRefusal{Why: service.RefusedVisit}
	}
	return v, err
}

// signedIn gives who is signed in and may do everything. Others are sent to where they can be; ok is false then.
func (p *Portal) signedIn(w http.ResponseWriter, at place) (v service.Visitor, ok bool) {
	v, err := p.visitor(at)
	refusal, refused := errors.AsType[*service.SignInRefusal](err)
	switch {
	case refused && refusal.Why == service.RefusedVisit:
		p.goHome(w, at)
	case err != nil:
		p.fault(w, at, "look who is signed in", err)
	case v.Limited:
		http.Redirect(w, at.Request, at.path("/password"), http.StatusSeeOther)
	default:
		return v, true
	}
	return v, false
}

// The pages.
