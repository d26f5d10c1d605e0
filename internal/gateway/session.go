package gateway

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"

	"github.com/oriel-project/oriel/internal/agentapi"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/language"
	"github.com/oriel-project/oriel/internal/store"
)

// seat is a person's session on a fleet as the subject of a visit.
type seat struct{ *appstream.Session }

func (s seat) head() *appstream.Meta             { return &s.Meta }
func (s seat) machine() string                   { return s.InstanceID }
func (s seat) endpoints() []types.AccessEndpoint { return s.AccessEndpoints }
func (s seat) ancestors() []string               { return s.EmbedDomains }
func (s seat) gone() *streamEnd                  { return endEnded }

func (s seat) display(ctx context.Context, agent *agentapi.Client) (*agentapi.DisplayConn, error) {
	return agent.Session(s.ID).Display(ctx)
}

func (s seat) page() viewerPage {
	return viewerPage{Kind: kindSession, ID: s.ID, Name: s.Title, State: s.State, Account: s.Account, Region: s.Region,
		Stack: s.Stack, Fleet: s.Fleet, User: s.UserID, View: string(s.View)}
}

// streamable: a PENDING session is waited for, so that its desktop is shown the moment it is there.
func (s seat) streamable(screens bool) (bool, *streamEnd) {
	switch {
	case s.State == appstream.SessionExpired:
		return false, endEnded
	case !screens:
		return false, endSimulated
	}
	return s.State == appstream.SessionActive, nil
}

// notice gives the page for a session that is over.
func (s seat) notice(screens bool) *notice {
	switch {
	case s.State == appstream.SessionExpired:
		n := notice{Status: http.StatusOK, Code: "ended", Tone: "calm", Icon: "clock", Title: say("session_ended"), Text: []text{endWords(s.EndCode)}}
		switch s.EndCode {
		case appstream.EndByUser:
			n.Tone, n.Icon = "good", "check"
		case appstream.EndInstanceLost, appstream.EndNotStarted:
			n.Tone, n.Icon = "bad", "alert"
		case appstream.EndByAdmin, appstream.EndFleetStopped:
			n.Icon = "power"
		}
		if s.AuthType != types.AuthenticationTypeUserpool {
			n.Text = append(n.Text, say("ended_more"))
		}
		if u := webAddress(s.FeedbackURL); u != nil {
			n.Links = append(n.Links, pageLink{Text: say("give_feedback"), URL: s.FeedbackURL})
		}
		if u := webAddress(s.RedirectURL); u != nil {
			n.Links = append(n.Links, pageLink{Text: say("continue_to", u.Host), URL: s.RedirectURL, Strong: true})
		} else if s.AuthType == types.AuthenticationTypeUserpool {
			n.Links = append(n.Links, pageLink{Text: say("back_to_portal"), URL: appstream.PortalURL("", s.Account, s.Region), Strong: true})
		}
		return &n
	case !screens:
		return &notice{Status: http.StatusOK, Code: "simulated", Tone: "good", Icon: "desktop", Title: say("simulated_session"),
			Text: []text{say("simulated_session_text"), say("simulated_more")}}
	}
	return nil
}

// endWords says why a session ended.
func endWords(code appstream.EndCode) text {
	switch code {
	case appstream.EndByUser:
		return say("ended_user")
	case appstream.EndByAdmin:
		return say("ended_admin")
	case appstream.EndAway:
		return say("ended_away")
	case appstream.EndDuration:
		return say("ended_duration")
	case appstream.EndFleetStopped:
		return say("ended_fleet")
	case appstream.EndInstanceLost:
		return say("ended_instance")
	case appstream.EndNotStarted:
		return say("ended_start")
	}
	return say("ended_over")
}

// webAddress parses an address that a person may be sent to; nil for one that is not http or https.
func webAddress(address string) *url.URL {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil
	}
	return u
}

// sessionInfo is the JSON of /info for a session.
type sessionInfo struct {
	Version      string               `json:"version"` // changes with the state and what follows from it
	Kind         string               `json:"kind"`    // kindSession
	Name         string               `json:"name"`    // to show: the stack's
	State        string               `json:"state"`
	Stack        string               `json:"stack"`
	Fleet        string               `json:"fleet"`
	User         string               `json:"user"`
	View         string               `json:"view"`                 // DESKTOP or APP
	Application  string               `json:"application,omitzero"` // that was started with it
	EndCode      string               `json:"endCode,omitzero"`
	Reason       string               `json:"reason,omitzero"`      // in words: why it ended, or what keeps it from beginning
	Notes        []string             `json:"notes,omitempty"`      // what went wrong beside: a session script that failed
	Expires      time.Time            `json:"expires"`              // until when the browser may ask
	MaxEnd       time.Time            `json:"maxEnd"`               // when the session ends in any case
	RedirectURL  string               `json:"redirectURL,omitzero"` // http or https
	FeedbackURL  string               `json:"feedbackURL,omitzero"`
	Portal       string               `json:"portal,omitzero"` // where its person began it: a path
	IdleSeconds  int                  `json:"idleSeconds"`     // without input until the stream is ended; 0: never
	AwaySeconds  int                  `json:"awaySeconds"`     // that the session is kept without a stream
	Rules        rulesInfo            `json:"rules"`
	Applications []sessionApplication `json:"applications"` // the catalogue of the fleet's image
	Streams      bool                 `json:"streams"`      // there is a display to be seen when State is ACTIVE
}

// rulesInfo is what the session's stack allows. The page shows it; it is enforced here.
type rulesInfo struct {
	CopyIn     bool `json:"copyIn"`
	CopyOut    bool `json:"copyOut"`
	CopyInMax  int  `json:"copyInMax"` // characters; 0: no limit
	CopyOutMax int  `json:"copyOutMax"`
	Upload     bool `json:"upload"`
	Download   bool `json:"download"`
	Print      bool `json:"print"`
	TimeZone   bool `json:"timeZone"`
}

type sessionApplication struct {
	Name        string `json:"name"`
	DisplayName string `json:"displayName"`
	Icon        string `json:"icon,omitzero"` // a path
}

// sessionInfo tells what is known about a session, and with after waits for news of it.
func (g *Gateway) sessionInfo(w http.ResponseWriter, r *http.Request, v visit, s *appstream.Session) {
	after := r.URL.Query().Get("after")
	var changed <-chan struct{}
	if after != "" {
		extend(w, infoWait)
		follow, stop := g.news.follow(g.Store, s.ID) // before the look, so that nothing is missed
		defer stop()
		changed = follow
	}
	over := time.NewTimer(infoWait)
	defer over.Stop()
	for {
		session, catalogue, err := g.lookSession(r.Context(), s.ID)
		switch {
		case errors.Is(err, store.ErrNotFound):
			g.refuse(w, r, noticeGone(v.claims))
			return
		case err != nil:
			g.fault(w, r, "read the session", err)
			return
		}
		body := g.describeSession(&session, catalogue, v.claims.Expires, language.Of(r))
		if changed == nil || body.Version != after {
			g.answer(w, r, http.StatusOK, body)
			return
		}
		select {
		case <-changed:
			continue
		case <-over.C:
		case <-g.closed.Done():
		case <-r.Context().Done():
		}
		changed = nil
	}
}

// lookSession reads a session and the catalogue that its person sees.
func (g *Gateway) lookSession(ctx context.Context, id string) (s appstream.Session, catalogue []sessionApplication, err error) {
	err = g.Store.View(ctx, func(tx store.Tx) error {
		if err := tx.Find(id, &s); err != nil {
			return err
		}
		of, err := catalogueOf(tx, &s)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		for _, a := range of.Applications {
			one := sessionApplication{Name: deref(a.Name), DisplayName: deref(a.DisplayName)}
			if !s.Sees(one.Name) {
				continue
			}
			if one.DisplayName == "" {
				one.DisplayName = one.Name
			}
			if icon := of.Icons[one.Name]; icon != "" && g.Icons != nil {
				one.Icon = "/icons/" + icon
			}
			catalogue = append(catalogue, one)
		}
		return nil
	})
	return s, catalogue, err
}

// catalogueOf reads what a session's machine has: the catalogue of the image that it was made of, which may be another than its fleet has by now. What can
// no longer be told of that is the fleet's.
func catalogueOf(tx store.Tx, s *appstream.Session) (appstream.Catalogue, error) {
	var fleet appstream.Fleet
	var instance appstream.Instance
	var image appstream.Image
	var made appstream.Composition
	if err := tx.Find(s.FleetID, &fleet); err != nil {
		return appstream.Catalogue{}, err
	}
	if err := tx.Find(s.InstanceID, &instance); err != nil && !errors.Is(err, store.ErrNotFound) {
		return appstream.Catalogue{}, err
	}
	if fleet.Elastic() {
		catalogue := fleet.Catalogue
		if ref := instance.Spec.ImageRef; ref != "" && ref != fleet.ImageRef {
			if err := tx.Find(appstream.CompositionID(ref), &made); err == nil {
				catalogue.Applications = made.Applications()
			} else if !errors.Is(err, store.ErrNotFound) {
				return appstream.Catalogue{}, err
			}
		}
		return catalogue, nil
	}
	err := store.ErrNotFound
	if k, bad := appstream.ParseARN(instance.Spec.ImageARN); bad == nil {
		err = tx.Get(k, &image)
	}
	if errors.Is(err, store.ErrNotFound) && fleet.ImageID != "" {
		err = tx.Find(fleet.ImageID, &image)
	}
	return appstream.Catalogue{Applications: image.View.Applications, Icons: image.Icons}, err
}

func (g *Gateway) describeSession(s *appstream.Session, catalogue []sessionApplication, expires time.Time, code string) sessionInfo {
	body := sessionInfo{Version: strconv.FormatInt(s.Version, 10), Kind: kindSession, Name: s.Title, State: s.State, Stack: s.Stack, Fleet: s.Fleet,
		User: s.UserID, View: string(s.View), Application: s.Application, EndCode: string(s.EndCode), Expires: expires, MaxEnd: s.MaxEnd,
		IdleSeconds: int(s.IdleTimeout / time.Second), AwaySeconds: int(s.AwayTimeout / time.Second), Notes: s.Notes, Applications: catalogue, Streams: g.Dialer != nil,
		Rules: rulesInfo{CopyIn: s.Rules.CopyIn, CopyOut: s.Rules.CopyOut, CopyInMax: s.Rules.CopyInMax, CopyOutMax: s.Rules.CopyOutMax,
			Upload: s.Rules.Upload, Download: s.Rules.Download, Print: s.Rules.Print, TimeZone: s.Rules.TimeZone}}
	switch {
	case s.State == appstream.SessionExpired:
		body.Reason = endWords(s.EndCode).in(code)
	case s.Problem != nil:
		body.Reason = s.Problem.Message
	}
	if webAddress(s.RedirectURL) != nil {
		body.RedirectURL = s.RedirectURL
	}
	if webAddress(s.FeedbackURL) != nil {
		body.FeedbackURL = s.FeedbackURL
	}
	if s.AuthType == types.AuthenticationTypeUserpool {
		body.Portal = appstream.PortalURL("", s.Account, s.Region)
	}
	return body
}

// endSession ends a session at its person's wish. The cookie stays, so that he can be told that it is so.
func (g *Gateway) endSession(w http.ResponseWriter, r *http.Request, v visit, s *appstream.Session) {
	if !g.ours(w, r) {
		return
	}
	if err := g.Sessions.EndSession(asPerson(r.Context(), v.claims, v.source), s.ID); err != nil {
		g.fault(w, r, "end a session", err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
