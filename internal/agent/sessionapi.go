package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/oriel-project/oriel/internal/agent/windows"
	"github.com/oriel-project/oriel/internal/agentapi"
)

// beginWithin is how long a session may wait for a seat.
const beginWithin = 8 * time.Second

// routeSessions adds what a fleet's instance has.
func (a *agent) routeSessions(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/sessions", a.getSessions)
	mux.HandleFunc("PUT /v1/sessions/{id}", a.putSession)
	mux.HandleFunc("GET /v1/sessions/{id}", a.getSession)
	mux.HandleFunc("DELETE /v1/sessions/{id}", a.deleteSession)
	mux.HandleFunc("GET /v1/sessions/{id}/script-logs", a.getScriptLogs)
	mux.HandleFunc("GET /v1/sessions/{id}/display", a.getSessionDisplay)
	mux.HandleFunc("PUT /v1/sessions/{id}/timezone", a.putTimeZone)
	mux.HandleFunc("POST /v1/sessions/{id}/launch", a.postLaunch)
	mux.HandleFunc("GET /v1/sessions/{id}/windows", a.getWindows)
	mux.HandleFunc("POST /v1/sessions/{id}/windows/{window}", a.postWindow)
	a.routeFiles(mux)
}

// sessionOf gives the session that a request is for, unless it has ended. It
// has answered when it returns nil.
func (a *agent) sessionOf(w http.ResponseWriter, r *http.Request) *session {
	s := a.sessionByID(r.PathValue("id"))
	if s == nil || s.ctx.Err() != nil {
		refuse(w, http.StatusNotFound, agentapi.ErrNoSession)
		return nil
	}
	return s
}

// sessionByID gives a session of which something is left.
func (a *agent) sessionByID(id string) (s *session) {
	a.pool.read(func() { s = a.pool.sessions[id] })
	return s
}

func (a *agent) getSessions(w http.ResponseWriter, r *http.Request) {
	var all []*session
	a.pool.read(func() {
		for _, s := range a.pool.sessions {
			all = append(all, s)
		}
	})
	list := make([]agentapi.SessionStatus, 0, len(all))
	for _, s := range all {
		list = append(list, s.status())
	}
	slices.SortFunc(list, func(a, b agentapi.SessionStatus) int { return strings.Compare(a.ID, b.ID) })
	reply(w, struct {
		Sessions []agentapi.SessionStatus `json:"sessions"`
	}{list})
}

func (a *agent) putSession(w http.ResponseWriter, r *http.Request) {
	var spec agentapi.Session
	err := decode(w, r, &spec)
	if err == nil {
		err = spec.Check()
	}
	if err == nil && spec.ID != r.PathValue("id") {
		err = errors.New("the session's id is not that of the address")
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	if a.config.Role != agentapi.RoleFleet {
		refuse(w, http.StatusConflict, errors.New("an image builder has no sessions; use an instance of a fleet"))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), beginWithin)
	defer cancel()
	switch err := a.beginSession(ctx, spec); {
	case err == nil:
		w.WriteHeader(http.StatusNoContent)
	case errors.Is(err, errEnded), errors.Is(err, errFull):
		refuse(w, http.StatusConflict, err)
	default:
		refuse(w, http.StatusServiceUnavailable, fmt.Errorf("the session cannot begin: %w", err))
	}
}

func (a *agent) getSession(w http.ResponseWriter, r *http.Request) {
	s := a.sessionByID(r.PathValue("id"))
	if s == nil {
		refuse(w, http.StatusNotFound, agentapi.ErrNoSession)
		return
	}
	ctx, cancel, err := waitContext(r)
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	d := s.seat.display
	d.waitUntil(ctx, func() bool { return d.ready })
	reply(w, s.status())
}

// deleteSession ends the session, whether the caller waits for it or not.
func (a *agent) deleteSession(w http.ResponseWriter, r *http.Request) {
	s := a.pool.ending(r.PathValue("id"))
	if s == nil {
		refuse(w, http.StatusNotFound, agentapi.ErrNoSession)
		return
	}
	// Its scripts and its clearing may take longer than other calls.
	http.NewResponseController(w).SetReadDeadline(time.Time{})
	done := make(chan error, 1)
	go func() {
		err := s.end()
		if err != nil { // also when the caller has not waited for it
			s.log.Error("end the session", "error", err)
		}
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			refuse(w, http.StatusInternalServerError, fmt.Errorf("something of the session is left: %w; do not use the instance again", err))
			return
		}
		w.WriteHeader(http.StatusNoContent)
	case <-r.Context().Done():
	}
}

func (a *agent) getSessionDisplay(w http.ResponseWriter, r *http.Request) {
	if s := a.sessionOf(w, r); s != nil {
		a.relayDisplay(w, r, s.ctx, s.seat.display)
	}
}

func (a *agent) putTimeZone(w http.ResponseWriter, r *http.Request) {
	s := a.sessionOf(w, r)
	if s == nil {
		return
	}
	var in struct {
		TimeZone string `json:"timeZone"`
	}
	err := decode(w, r, &in)
	if err == nil {
		err = s.setTimeZone(in.TimeZone)
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (a *agent) postLaunch(w http.ResponseWriter, r *http.Request) {
	s := a.sessionOf(w, r)
	if s == nil {
		return
	}
	var in struct {
		Application string `json:"application"`
	}
	if err := decode(w, r, &in); err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	switch err := s.launch(r.Context(), in.Application); {
	case err == nil:
		w.WriteHeader(http.StatusNoContent)
	case errors.Is(err, errNoApplication):
		refuse(w, http.StatusNotFound, err)
	case errors.Is(err, agentapi.ErrDisplayDown):
		refuse(w, http.StatusServiceUnavailable, err)
	default:
		refuse(w, http.StatusInternalServerError, err)
	}
}

func (a *agent) getWindows(w http.ResponseWriter, r *http.Request) {
	s := a.sessionOf(w, r)
	if s == nil {
		return
	}
	after := r.URL.Query().Get("after")
	ctx, cancel, err := waitContext(r)
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	defer cancel()
	if after == "" { // the first question waits until there is an answer
		ctx, cancel = context.WithTimeout(r.Context(), beginWithin)
		defer cancel()
	}
	list, known := s.list(ctx, after)
	if !known {
		refuse(w, http.StatusServiceUnavailable, agentapi.ErrDisplayDown)
		return
	}
	reply(w, list)
}

func (a *agent) postWindow(w http.ResponseWriter, r *http.Request) {
	s := a.sessionOf(w, r)
	if s == nil {
		return
	}
	var in struct {
		Action agentapi.WindowAction `json:"action"`
	}
	id, err := strconv.ParseUint(r.PathValue("window"), 10, 32)
	if err != nil {
		refuse(w, http.StatusNotFound, windows.ErrNoWindow)
		return
	}
	if err := decode(w, r, &in); err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	switch err := s.tellWindow(r.Context(), uint32(id), in.Action); {
	case err == nil:
		w.WriteHeader(http.StatusNoContent)
	case errors.Is(err, windows.ErrNoWindow):
		refuse(w, http.StatusNotFound, err)
	case errors.Is(err, errNoAction):
		refuse(w, http.StatusBadRequest, err)
	default:
		refuse(w, http.StatusServiceUnavailable, err)
	}
}
