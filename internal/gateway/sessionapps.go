package gateway

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/oriel-project/oriel/internal/agentapi"
	"github.com/oriel-project/oriel/internal/appstream"
)

// Bounds of what one session may ask of its agent, and of what is shown of its answers, which come from inside the machine.
const (
	maxCalls   = 32  // at a time
	maxVersion = 128 // bytes
	maxWindows = 200
	maxPrints  = 200
	maxLaunch  = 100 // characters of an application's name
)

// A permission is what a stack may forbid.
type permission struct {
	given func(appstream.Rules) bool
	// without is what a person without it is told.
	without text
}

var (
	anybody  = permission{given: func(appstream.Rules) bool { return true }}
	download = permission{func(r appstream.Rules) bool { return r.Download }, say("no_download")}
	upload   = permission{func(r appstream.Rules) bool { return r.Upload }, say("no_upload")}
	files    = permission{func(r appstream.Rules) bool { return r.Upload || r.Download }, say("no_files")}
	printing = permission{func(r appstream.Rules) bool { return r.Print }, say("no_printing")}
)

// A call is a request of a person that his session's agent is asked for.
type call struct {
	session *appstream.Session
	agent   *agentapi.SessionClient
	ctx     context.Context // of the request and of the gateway
}

// calling lets h have only requests of pages of ours, for ACTIVE sessions whose rules allow it, and not too many at a time.
func (g *Gateway) calling(p permission, h func(http.ResponseWriter, *http.Request, call)) http.HandlerFunc {
	return g.onSession(func(w http.ResponseWriter, r *http.Request, v visit, s *appstream.Session) {
		switch {
		case !g.ours(w, r):
			return
		case !p.given(s.Rules):
			g.deny(w, r, http.StatusForbidden, problem{Code: "forbidden", Message: p.without})
			return
		case g.Dialer == nil || s.State != appstream.SessionActive:
			g.deny(w, r, http.StatusConflict, notActive)
			return
		case !g.beginCall(s.ID):
			w.Header().Set("Retry-After", "1")
			g.deny(w, r, http.StatusTooManyRequests, problem{Code: "limit", Message: say("too_much")})
			return
		}
		defer g.endCall(s.ID)
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(g.closed, cancel)()
		agent := g.agent(s.InstanceID)
		defer agent.Close()
		h(w, r, call{s, agent.Session(s.ID), ctx})
	})
}

var notActive = problem{Code: "state", Message: say("session_not_running")}

func (g *Gateway) beginCall(id string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.calls[id] >= maxCalls {
		return false
	}
	g.calls[id]++
	return true
}

func (g *Gateway) endCall(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.calls[id]--; g.calls[id] == 0 {
		delete(g.calls, id)
	}
}

// failed answers a call that the agent refused or could not be asked for, and tells whether it was one.
func (g *Gateway) failed(w http.ResponseWriter, r *http.Request, c call, what string, err error) bool {
	refused, ok := errors.AsType[*agentapi.CallError](err)
	switch {
	case err == nil:
		return false
	case r.Context().Err() != nil: // the browser has gone
	case c.ctx.Err() != nil: // the server goes down; what hangs until there are news is asked again of the next one
		g.deny(w, r, http.StatusServiceUnavailable, problem{Code: "restarting", Message: say("server_restarting")})
	case errors.Is(err, agentapi.ErrNoSession):
		g.deny(w, r, http.StatusConflict, notActive)
	case ok && (refused.Status/100 == 4 || refused.Status == http.StatusInsufficientStorage):
		g.deny(w, r, refused.Status, problem{Code: "refused", Message: refusalWords(refused)})
	case ok && refused.Status == http.StatusServiceUnavailable: // the display is not up yet, or no more: sessions begin and end
		g.deny(w, r, http.StatusServiceUnavailable, problem{Code: "unreachable", Message: say("session_silent")})
	default:
		g.Log.WarnContext(r.Context(), "gateway: "+what, "session", c.session.ID, "err", err)
		g.deny(w, r, http.StatusBadGateway, problem{Code: "unreachable", Message: say("session_silent")})
	}
	return true
}

// agentWords has what is told of what an agent refused.
var agentWords = map[agentapi.Code]text{
	agentapi.CodeName: say("agent_name"), agentapi.CodeCut: say("agent_cut"), agentapi.CodeTooLarge: say("file_too_large", agentapi.MaxFile>>30), agentapi.CodeFull: say("agent_full"),
	agentapi.CodeTaken: say("agent_taken"), agentapi.CodeNotEmpty: say("agent_not_empty"), agentapi.CodeMissing: say("agent_missing"), agentapi.CodeForbidden: say("agent_forbidden"),
	agentapi.CodeBusy: say("agent_busy"), agentapi.CodeNoPrint: say("no_document"), agentapi.CodeNoWindow: say("agent_no_window"), agentapi.CodeNoApplication: say("agent_no_application"),
}

// refusalWords says what an agent refused. One of another version may have codes that are not known here, or none.
func refusalWords(e *agentapi.CallError) text {
	if t, known := agentWords[e.Code]; known {
		return t
	}
	return quote(cmp.Or(label(e.Message), http.StatusText(e.Status)))
}

// badRequest answers a request that no page of ours makes.
func (g *Gateway) badRequest(w http.ResponseWriter, r *http.Request, message text) {
	g.deny(w, r, http.StatusBadRequest, problem{Code: "form", Message: message})
}

// launch starts an application of the catalogue.
func (g *Gateway) launch(w http.ResponseWriter, r *http.Request, c call) {
	var in struct {
		Application string `json:"application"`
	}
	if !g.form(w, r, &in) {
		return
	}
	if in.Application == "" || utf8.RuneCountInString(in.Application) > maxLaunch {
		g.badRequest(w, r, say("not_application_name"))
		return
	}
	if !c.session.Sees(in.Application) {
		g.deny(w, r, http.StatusForbidden, problem{Code: "forbidden", Message: say("not_yours")})
		return
	}
	if !g.failed(w, r, c, "launch an application", c.agent.Launch(c.ctx, in.Application)) {
		g.launched(r.Context(), c.session.ID, in.Application)
		w.WriteHeader(http.StatusNoContent)
	}
}

// launched notes a launch, for usage reports. One that cannot be noted has been launched all the same.
func (g *Gateway) launched(ctx context.Context, session, application string) {
	if err := g.Sessions.ApplicationLaunched(ctx, session, application); err != nil && ctx.Err() == nil {
		g.Log.WarnContext(ctx, "gateway: note a launch", "session", session, "application", application, "err", err)
	}
}

// windows lists the session's windows. With after it waits until there are others.
func (g *Gateway) windows(w http.ResponseWriter, r *http.Request, c call) {
	after, ok := g.after(w, r)
	if !ok {
		return
	}
	list, err := c.agent.Windows(c.ctx, after, infoWait)
	if g.failed(w, r, c, "list the windows", err) {
		return
	}
	list.Version = cut(list.Version, maxVersion)
	list.Windows = list.Windows[:min(len(list.Windows), maxWindows)]
	for n := range list.Windows {
		one := &list.Windows[n]
		one.Title, one.Application, one.Class = label(one.Title), label(one.Application), label(one.Class)
	}
	g.answer(w, r, http.StatusOK, list)
}

// window does something to one of them.
func (g *Gateway) window(w http.ResponseWriter, r *http.Request, c call) {
	var in struct {
		Action agentapi.WindowAction `json:"action"`
	}
	if !g.form(w, r, &in) {
		return
	}
	id, err := strconv.ParseUint(r.PathValue("window"), 10, 32)
	if err != nil || in.Action != agentapi.WindowActivate && in.Action != agentapi.WindowClose {
		g.badRequest(w, r, say("no_action"))
		return
	}
	if !g.failed(w, r, c, "act on a window", c.agent.Window(c.ctx, uint32(id), in.Action)) {
		w.WriteHeader(http.StatusNoContent)
	}
}

// after reads the version that a page has, and allows for the time that news of it are waited for.
func (g *Gateway) after(w http.ResponseWriter, r *http.Request) (version string, ok bool) {
	version = r.URL.Query().Get("after")
	if len(version) > maxVersion {
		g.badRequest(w, r, say("not_version"))
		return "", false
	}
	if version != "" {
		extend(w, infoWait)
	}
	return version, true
}

// cut shortens a text that only machines read.
func cut(s string, n int) string { return strings.ToValidUTF8(s[:min(len(s), n)], "") }
