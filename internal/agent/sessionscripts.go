package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/oriel-project/oriel/internal/agent/scripts"
	"github.com/oriel-project/oriel/internal/agent/sudo"
	"github.com/oriel-project/oriel/internal/agentapi"
)

const (
	maxScriptLog = agentapi.MaxScriptLog
	maxLogs      = 20 // sessions whose logs are kept
)

// runScripts runs the executables of an event, one after the other. What goes
// wrong is noted, and the session goes on.
func (s *session) runScripts(ctx context.Context, name string, event scripts.Event) {
	ctx, cancel := context.WithTimeout(ctx, event.Wait)
	defer cancel()
	for n, x := range event.Executables {
		began := time.Now()
		err := s.runScript(ctx, logName(name, n), x)
		s.log.Info("session script", "event", name, "executable", x.Path, "took", time.Since(began), "error", err)
		switch {
		case err == nil:
		case errors.Is(ctx.Err(), context.DeadlineExceeded):
			s.fail("The %s script %s was ended: the scripts of this event may take %v.", name, x.Path, event.Wait)
			return
		case ctx.Err() != nil:
			return // the session ends
		default:
			s.fail("The %s script %s failed: %v.", name, x.Path, err)
		}
	}
}

// runScript runs one executable with the rights of its context.
func (s *session) runScript(ctx context.Context, log string, x scripts.Executable) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := scripts.Safe(x.Path); err != nil {
		return err
	}
	read, out, err := s.scriptOutput(log, x.Log)
	if err != nil {
		return err
	}
	defer read.settle()
	c := command{argv: append([]string{x.Path}, x.Arguments...), dir: filepath.Dir(x.Path), env: s.programEnv()}
	person := s.account
	if x.Context == scripts.System {
		person = account{name: "root", home: s.agent.paths.rootHome, uid: os.Geteuid(), gid: os.Getegid()}
		c.env = slices.DeleteFunc(slices.Concat(desktopEnv(s.agent.config, s.agent.paths), environ(userVars(s.spec))), isPath)
		c.env = append(c.env, "PATH="+sudo.SecurePath)
	} else {
		c.private = true
	}
	p, err := s.agent.procs.startAs(person, c, out)
	out.Close()
	if err != nil {
		return err
	}
	select {
	case <-p.done:
		if !p.status.Exited() || p.status.ExitStatus() != 0 {
			return errors.New("it " + p.ended())
		}
		return nil
	case <-ctx.Done():
		s.agent.procs.endGroup(p, endGrace)
		return ctx.Err()
	}
}

func isPath(variable string) bool { return len(variable) > 5 && variable[:5] == "PATH=" }

// scriptOutput gives a pipe whose beginning goes into a file that only root can
// read, if keep says so. The rest goes nowhere, so that the script goes on.
func (s *session) scriptOutput(name string, keep bool) (read *drain, write *os.File, err error) {
	var file io.WriteCloser = nowhere{}
	if keep {
		dir := filepath.Join(s.agent.paths.scriptLogs, s.spec.ID)
		if err := mkdir(s.agent.paths.scriptLogs, 0o700, os.Geteuid(), os.Getegid()); err != nil {
			return nil, nil, err
		}
		if err := mkdir(dir, 0o700, os.Geteuid(), os.Getegid()); err != nil {
			return nil, nil, err
		}
		dropOldest(s.agent.paths.scriptLogs, maxLogs)
		if file, err = os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600); err != nil {
			return nil, nil, err
		}
	}
	read, write, err = newDrain(func(r io.Reader) {
		io.CopyN(file, r, maxScriptLog)
		file.Close()
		io.Copy(io.Discard, r)
	})
	if err != nil {
		file.Close()
	}
	return read, write, err
}

// getScriptLogs gives what the scripts of a session have written, as far as it
// is kept. The session may be over.
func (a *agent) getScriptLogs(w http.ResponseWriter, r *http.Request) {
	if !agentapi.IsID(r.PathValue("id")) {
		refuse(w, http.StatusNotFound, agentapi.ErrNoSession)
		return
	}
	list := []agentapi.ScriptLog{}
	for _, event := range []string{agentapi.SessionStart, agentapi.SessionTermination} {
		for n := range scripts.MaxExecutables {
			text, err := readLog(filepath.Join(a.paths.scriptLogs, r.PathValue("id"), logName(event, n)))
			if err == nil {
				list = append(list, agentapi.ScriptLog{Event: event, Number: n + 1, Text: text})
			} else if !errors.Is(err, fs.ErrNotExist) {
				refuse(w, http.StatusInternalServerError, err)
				return
			}
		}
	}
	reply(w, struct {
		Logs []agentapi.ScriptLog `json:"logs"`
	}{list})
}

func logName(event string, n int) string { return fmt.Sprintf("%s-%d.log", event, n+1) }

func readLog(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxScriptLog))
}

type nowhere struct{}

func (nowhere) Write(b []byte) (int, error) { return len(b), nil }
func (nowhere) Close() error                { return nil }

// dropOldest leaves the newest n entries of dir.
func dropOldest(dir string, n int) {
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) <= n {
		return
	}
	age := func(e os.DirEntry) time.Time {
		if info, err := e.Info(); err == nil {
			return info.ModTime()
		}
		return time.Time{}
	}
	slices.SortFunc(entries, func(a, b os.DirEntry) int { return age(b).Compare(age(a)) })
	for _, e := range entries[n:] {
		os.RemoveAll(filepath.Join(dir, e.Name()))
	}
}

// displaySize is the size of a display at its start.
func (a *agent) displaySize() string {
	return strconv.Itoa(a.config.Width) + "x" + strconv.Itoa(a.config.Height)
}
