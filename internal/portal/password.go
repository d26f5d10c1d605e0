package portal

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/lockout"
	"github.com/oriel-project/oriel/internal/service"
)

// passwordForm is the form for another password: after a temporary one, at will, or by a link (Code).
type passwordForm struct {
	User, Code, Error string
	Limited           bool
	Wait              time.Duration
}

func (p *Portal) password(w http.ResponseWriter, at place) {
	v, err := p.visitor(at)
	if refusal, ok := errors.AsType[*service.SignInRefusal](err); ok && refusal.Why == service.RefusedVisit {
		p.goHome(w, at)
		return
	}
	if err != nil {
		p.fault(w, at, "look who is signed in", err)
		return
	}
	p.render(w, at, http.StatusOK, "password", passwordForm{User: v.User.Name, Limited: v.Limited})
}

func (p *Portal) choosePassword(w http.ResponseWriter, at place) {
	v, err := p.visitor(at)
	form := passwordForm{User: v.User.Name, Limited: v.Limited}
	cookie := ""
	chosen := at.PostForm.Get("new")
	switch {
	case err != nil:
	case chosen != at.PostForm.Get("again"):
		form.Error = "different"
		p.render(w, at, http.StatusUnprocessableEntity, "password", form)
		return
	default:
		cookie, err = p.People.ChoosePassword(at.Context(), p.cookie(at.Request, visitCookie), at.PostForm.Get("old"), chosen, at.source)
	}
	refusal, refused := errors.AsType[*service.SignInRefusal](err)
	switch {
	case refused && refusal.Why == service.RefusedVisit:
		p.goHome(w, at)
	case refused:
		form.refuse(refusal)
		p.render(w, at, refusalStatus(w, refusal), "password", form)
	case err != nil:
		p.fault(w, at, "choose a password", err)
	default:
		p.setCookie(w, at.Request, visitCookie, cookie)
		p.setCookie(w, at.Request, doneCookie, donePassword)
		p.goHome(w, at)
	}
}

func (f *passwordForm) refuse(r *service.SignInRefusal) {
	f.Error, f.Wait = string(r.Why), r.Wait
	if r.Why == service.RefusedWeak {
		f.Error = "weak_" + string(r.Weak)
	}
	if r.Why == service.RefusedWrong {
		f.Error = "old_wrong"
	}
}

type forgottenForm struct {
	Email, Error string
	Sent         bool
	Wait         time.Duration
}

func (p *Portal) forgotten(w http.ResponseWriter, at place) {
	p.render(w, at, http.StatusOK, "forgotten", forgottenForm{})
}

// sendLink answers the same to everybody, and before anything is looked up.
func (p *Portal) sendLink(w http.ResponseWriter, at place) {
	form := forgottenForm{Email: strings.TrimSpace(at.PostForm.Get("email")), Sent: true}
	if wait := p.asked.Try(lockout.Address(at.source), time.Now()); wait > 0 {
		refusal := &service.SignInRefusal{Why: service.RefusedForNow, Wait: wait}
		p.render(w, at, refusalStatus(w, refusal), "forgotten", forgottenForm{Email: form.Email, Error: string(refusal.Why), Wait: wait})
		return
	}
	if p.Mail && appstream.EmailAddress(form.Email) {
		select {
		case p.asks <- struct{}{}:
			p.working.Go(func() {
				defer func() { <-p.asks }()
				ctx, cancel := context.WithTimeout(context.WithoutCancel(at.Context()), askTime)
				defer cancel()
				if err := p.People.ForgotPassword(ctx, at.account, at.region, form.Email, at.language, at.source); err != nil {
					p.Log.ErrorContext(ctx, "portal: a link for another password", "err", err)
				}
			})
		default:
			p.Log.WarnContext(at.Context(), "portal: too many ask for another password; somebody gets no link", "source", at.source)
		}
	}
	p.render(w, at, http.StatusOK, "forgotten", form)
}

func (p *Portal) reset(w http.ResponseWriter, at place) {
	code := at.URL.Query().Get("code")
	u, err := p.People.CheckReset(at.Context(), code)
	if p.badLink(w, at, err) {
		return
	}
	p.render(w, at, http.StatusOK, "password", passwordForm{User: u.Name, Code: code, Limited: true})
}

// badLink answers for a link that is not good, or a fault, and tells whether it did.
func (p *Portal) badLink(w http.ResponseWriter, at place, err error) bool {
	refusal, refused := errors.AsType[*service.SignInRefusal](err)
	switch {
	case refused && refusal.Why == service.RefusedLink:
		p.render(w, at, refusalStatus(w, refusal), "notice",
			map[string]string{"Icon": "clock", "Title": "link_title", "Text": "link_text", "Link": "/forgotten", "Next": "new_link"})
	case err != nil && !refused:
		p.fault(w, at, "look at a link", err)
	default:
		return false
	}
	return true
}

func (p *Portal) resetPassword(w http.ResponseWriter, at place) {
	code, chosen := at.PostForm.Get("code"), at.PostForm.Get("new")
	u, err := p.People.CheckReset(at.Context(), code)
	if p.badLink(w, at, err) {
		return
	}
	form := passwordForm{User: u.Name, Code: code, Limited: true}
	if chosen != at.PostForm.Get("again") {
		form.Error = "different"
		p.render(w, at, http.StatusUnprocessableEntity, "password", form)
		return
	}
	known, err := p.People.ResetPassword(at.Context(), code, chosen, at.source)
	if p.badLink(w, at, err) {
		return
	}
	if refusal, ok := errors.AsType[*service.SignInRefusal](err); ok {
		form.refuse(refusal)
		p.render(w, at, refusalStatus(w, refusal), "password", form)
		return
	}
	p.setCookie(w, at.Request, visitCookie, "")
	p.setCookie(w, at.Request, browserCookie, known)
	p.setCookie(w, at.Request, doneCookie, donePassword)
	p.goHome(w, at)
}
