package agent

import (
	"context"
	"log/slog"
	"net/http"
	"sync"

	"github.com/oriel-project/oriel/internal/agentapi"
)

// session is one person's use of the instance.
type session struct {
	spec    agentapi.Session
	account account
	folder  string          // what the person sees of the home: MyFiles
	runtime string          // XDG_RUNTIME_DIR: mode 0700, the account's
	ctx     context.Context // is done as soon as the session ends
	log     *slog.Logger

	mu   sync.Mutex
	ends []func()
}

// onEnd has f called when the session has ended and none of its processes is
// left, before its files are removed.
func (s *session) onEnd(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ends = append(s.ends, f)
}

// sessionOf gives the session that a request is for. It has answered when it
// returns nil.
func (a *agent) sessionOf(w http.ResponseWriter, r *http.Request) *session {
	refuse(w, http.StatusNotFound, agentapi.ErrNoSession)
	return nil
}
