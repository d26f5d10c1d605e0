package agent

import "net/http"

// routeFiles adds what a session's person does with files, prints and sound.
func (a *agent) routeFiles(mux *http.ServeMux) {}

// prepareSession begins what a session has besides its display, before its
// programs start. It gives what these need in their environment. What it
// begins ends by s.ctx or with s.onEnd.
func (a *agent) prepareSession(s *session) (env []string, err error) { return nil, nil }
