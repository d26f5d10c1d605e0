package agent

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/oriel-project/oriel/internal/agentapi"
)

// builder is an agent of an image builder with a home for root.
func builder(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, testConfig, nil)
	if err := os.Mkdir(w.paths.rootHome, 0o700); err != nil {
		t.Fatal(err)
	}
	w.start()
	w.ready()
	return w
}

func (w *world) beginJob(id string, steps ...agentapi.JobStep) {
	w.t.Helper()
	if err := w.client.BeginJob(w.t.Context(), id, agentapi.Job{Steps: steps}); err != nil {
		w.t.Fatal(err)
	}
}

// jobEnd waits for a job's end.
func (w *world) jobEnd(id string) agentapi.JobStatus {
	w.t.Helper()
	for deadline := time.Now().Add(patience); ; {
		s, err := w.client.Job(w.t.Context(), id, agentapi.MaxWait)
		if err == nil && s.State != agentapi.JobRunning {
			return s
		}
		if err != nil || time.Now().After(deadline) {
			w.t.Fatalf("the job does not end: %+v, %v", s, err)
		}
	}
}

// job does a job and returns its end.
func (w *world) job(steps ...agentapi.JobStep) agentapi.JobStatus {
	w.t.Helper()
	id := "job-" + strconv.FormatInt(time.Now().UnixNano(), 10)
	w.beginJob(id, steps...)
	return w.jobEnd(id)
}

func shell(text string) agentapi.JobStep { return agentapi.JobStep{Name: "Try", Command: text} }

func TestJob(t *testing.T) {
	w := builder(t)
	os.WriteFile(filepath.Join(w.root, "secret"), nil, 0o600)
	s := w.job(
		agentapi.JobStep{Name: "First", Command: "echo one"},
		agentapi.JobStep{Name: "Second", Command: "echo error >&2; pwd; echo $HOME $PATH $USER $DEBIAN_FRONTEND $AppStream_Resource_Name; test ! -t 0; cat; tty || echo no terminal; umask"},
	)
	home := w.paths.rootHome
	want := "error\n" + home + "\n" + home + " /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin root noninteractive it's\nnot a tty\nno terminal\n"
	if s.State != agentapi.JobSucceeded || s.Step != 1 || s.Problem != "" || !strings.HasPrefix(s.Output, want) || s.EndedAt.Before(s.StartedAt) {
		t.Errorf("%+v, want %q", s, want)
	}
	for _, c := range []struct {
		name, command, problem, output string
		seconds                        int
	}{
		{"code", "echo a; exit 100", "Try: it ended with code 100", "a\n", 0},
		{"first error", "false; echo b", "Try: it ended with code 1", "", 0},
		{"signal", "kill -SEGV $$", "Try: it was ended by signal SIGSEGV", "", 0},
		{"not a shell's", "if", "Try: it ended with code 2", "", 0},
		{"time", "sleep 100", "Try: it took longer than 1s and was ended", "", 1},
	} {
		s := w.job(agentapi.JobStep{Command: "true"}, agentapi.JobStep{Name: "Try", Command: c.command, Seconds: c.seconds}, agentapi.JobStep{Command: "touch " + w.root + "/after"})
		if s.State != agentapi.JobFailed || s.Step != 1 || s.Problem != c.problem || c.output != "" && s.Output != c.output {
			t.Errorf("%s: %+v", c.name, s)
		}
	}
	if s := w.job(agentapi.JobStep{Command: "exit 3"}); s.Problem != "Step 1: it ended with code 3" {
		t.Errorf("%+v", s)
	}
	if _, err := os.Stat(filepath.Join(w.root, "after")); err == nil {
		t.Error("a step was done after one that failed")
	}
	// The end of much output, and a long command.
	s = w.job(shell("#" + strings.Repeat("x", agentapi.MaxJobCommand-200) + "\ni=0; while [ $i -lt 20000 ]; do i=$((i+1)); printf '\\033[1m%d\\033[0m\\r%d done\\n' $i $i; done; exit 9"))
	if len(s.Output) > agentapi.MaxJobOutput || len(s.Output) < agentapi.MaxJobOutput-100 || !strings.HasSuffix(s.Output, "\n19999 done\n20000 done\n") {
		t.Errorf("%d bytes: … %q", len(s.Output), s.Output[max(0, len(s.Output)-50):])
	}
	w.stop()
	if log := w.log.String(); strings.Contains(log, "echo") || strings.Contains(log, "20000") || !strings.Contains(log, "Second") {
		t.Error("the log has what a command says, or not the names of steps")
	}
}

func TestJobsOneByOne(t *testing.T) {
	w := builder(t)
	ctx := t.Context()
	fifo := filepath.Join(w.root, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	w.beginJob("a", shell("echo begun; cat "+fifo))
	eventually(t, func() bool {
		s, err := w.client.Job(ctx, "a", 0)
		return err == nil && s.State == agentapi.JobRunning && s.Output == "begun\n"
	})
	var refused *agentapi.CallError
	if err := w.client.BeginJob(ctx, "b", agentapi.Job{Steps: []agentapi.JobStep{shell("true")}}); !errors.As(err, &refused) || refused.Status != http.StatusConflict {
		t.Error(err)
	}
	w.beginJob("a", shell("exit 1")) // it is known
	if err := os.WriteFile(fifo, []byte("go on\n"), 0); err != nil {
		t.Fatal(err)
	}
	if s := w.jobEnd("a"); s.State != agentapi.JobSucceeded || s.Output != "begun\ngo on\n" {
		t.Errorf("%+v", s)
	}
	w.beginJob("a", shell("exit 1")) // still
	if s := w.jobEnd("a"); s.State != agentapi.JobSucceeded {
		t.Errorf("%+v", s)
	}
	if _, err := w.client.Job(ctx, "b", time.Second); err != agentapi.ErrNoJob {
		t.Error(err)
	}
	// One that is ended is forgotten, and can be begun anew.
	w.beginJob("c", shell("trap '' TERM; touch "+w.root+"/trapped; while :; do sleep 1; done"))
	eventually(t, func() bool { _, err := os.Stat(w.root + "/trapped"); return err == nil })
	if err := w.client.EndJob(ctx, "c"); err != nil {
		t.Error(err)
	}
	if left := pids(w.root + "/trapped"); len(left) != 0 {
		t.Errorf("%d processes are left", len(left))
	}
	if _, err := w.client.Job(ctx, "c", time.Second); err != agentapi.ErrNoJob {
		t.Error(err)
	}
	if err := w.client.EndJob(ctx, "c"); err != nil {
		t.Error(err)
	}
	w.beginJob("c", shell("true"))
	if s := w.jobEnd("c"); s.State != agentapi.JobSucceeded {
		t.Errorf("%+v", s)
	}
	// The newest are remembered.
	for n := range maxEndedJob {
		w.beginJob("many-"+strconv.Itoa(n), agentapi.JobStep{Launch: "none"})
		w.jobEnd("many-" + strconv.Itoa(n))
	}
	if _, err := w.client.Job(ctx, "c", 0); err != agentapi.ErrNoJob {
		t.Error(err)
	}
	if _, err := w.client.Job(ctx, "many-0", 0); err != nil {
		t.Error(err)
	}
	for id, job := range map[string]agentapi.Job{
		"x":                     {},
		"x y":                   {Steps: []agentapi.JobStep{shell("true")}},
		strings.Repeat("x", 65): {Steps: []agentapi.JobStep{shell("true")}},
		"z":                     {Steps: []agentapi.JobStep{shell("a\x00b")}},
	} {
		if err := w.client.BeginJob(ctx, id, job); !errors.As(err, &refused) || refused.Status != http.StatusBadRequest {
			t.Errorf("%s: %v", id, err)
		}
	}
}

// daemon is a command that leaves a process running: in a session of its own,
// whose parent has ended, with nothing in its environment. It holds the step's
// output open, and does not listen to TERM.
func (w *world) daemon(name string) string {
	return "setsid sh -c 'setsid env -i sh -c \"trap \\\"\\\" TERM HUP; echo \\$\\$ >" + w.root + "/" + name + ".new; mv " + w.root + "/" + name + ".new " + w.root + "/" + name + ".pid; while :; do sleep 1; done\" & exit 0' & while [ ! -e " + w.root + "/" + name + ".pid ]; do sleep .05; done; "
}

// lives tells whether a daemon does.
func (w *world) lives(name string) bool {
	text, _ := os.ReadFile(filepath.Join(w.root, name+".pid"))
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		w.t.Errorf("the daemon %s was not started", name)
		return false
	}
	return unix.Kill(pid, 0) == nil
}

func TestJobsProcesses(t *testing.T) {
	w := builder(t)
	// What a command that has done its work has left running stays, and does not hold the job.
	s := w.job(shell(w.daemon("stays") + "echo done"))
	if s.State != agentapi.JobSucceeded || s.Output != "done\n" || !w.lives("stays") {
		t.Errorf("%+v", s)
	}
	for seconds, begun := 2, false; !begun; seconds *= 2 { // a command that was held up has not begun it
		s = w.job(agentapi.JobStep{Name: "Try", Command: w.daemon("time") + "sleep 100", Seconds: seconds})
		_, err := os.Stat(w.root + "/time.pid")
		begun = err == nil
		if !strings.Contains(s.Problem, fmt.Sprintf("longer than %ds", seconds)) || begun && w.lives("time") {
			t.Fatalf("%+v", s)
		}
	}
	s = w.job(shell(w.daemon("failed") + "exit 1"))
	if s.Problem != "Try: it ended with code 1" || w.lives("failed") {
		t.Errorf("%+v", s)
	}
	// Root can end the runner, which is above all that comes of the command.
	s = w.job(shell(w.sleep(1000) + " & kill -KILL $PPID; " + w.sleep(1001)))
	if s.State != agentapi.JobFailed || w.sleeping(1000)+w.sleeping(1001) > 0 {
		t.Errorf("%+v", s)
	}
	w.beginJob("deleted", shell(w.daemon("deleted")+"sleep 100"))
	eventually(t, func() bool { _, err := os.Stat(w.root + "/deleted.pid"); return err == nil && w.lives("deleted") })
	if err := w.client.EndJob(t.Context(), "deleted"); err != nil || w.lives("deleted") {
		t.Error(err)
	}
	// Sudo's commands come of process 1.
	if os.Geteuid() == 0 {
		self, _ := os.Executable()
		os.Symlink(self, filepath.Join(w.root, "sudo"))
		s = w.job(shell(rootVariable + "=" + w.root + " " + w.root + "/sudo sh -c 'echo as root; setsid " + w.sleep(1002) + " & exit 0'; exit 1"))
		if s.Output != "as root\n" || w.sleeping(1002) > 0 {
			t.Errorf("%+v", s)
		}
	}
	if !w.lives("stays") {
		t.Error("the end of other jobs has ended what was to stay")
	}
	w.beginJob("last", shell("setsid "+w.sleep(1003)+" & "+w.sleep(1004)))
	eventually(t, func() bool { return w.sleeping(1003)+w.sleeping(1004) == 2 })
	began := time.Now()
	w.stop()
	// It is process 1 that ends all that its children have not ended in time, and the agent of a test is not.
	if left := w.sleeping(1003) + w.sleeping(1004); left > 0 && time.Since(began) < endGrace {
		t.Errorf("%d processes are left", left)
	}
	for _, pid := range pids(w.root + "/sleep") {
		unix.Kill(pid, unix.SIGKILL)
	}
	text, _ := os.ReadFile(filepath.Join(w.root, "stays.pid"))
	if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
		unix.Kill(-pid, unix.SIGKILL)
	}
}

func TestJobAndQuiesce(t *testing.T) {
	w := builder(t)
	ctx := t.Context()
	w.beginJob("a", shell(w.daemon("a")+"echo begun; sleep 100"))
	eventually(t, func() bool { s, err := w.client.Job(ctx, "a", 0); return err == nil && s.Output != "" })
	if err := w.client.Quiesce(ctx); err != nil {
		t.Fatal(err)
	}
	if s, err := w.client.Job(ctx, "a", 0); err != nil || s.State != agentapi.JobFailed || s.Problem != "Try: "+errQuiesced.Error() || s.Output != "begun\n" || w.lives("a") {
		t.Errorf("%+v, %v", s, err)
	}
	for _, step := range []agentapi.JobStep{{Name: "Try", Command: "touch " + w.root + "/touched"}, {Name: "Try", Launch: "editor"}} {
		if s := w.job(step); s.State != agentapi.JobFailed || s.Problem != "Try: "+errQuiesced.Error() {
			t.Errorf("%+v", s)
		}
	}
	if _, err := os.Stat(w.root + "/touched"); err == nil {
		t.Error("a quiesced machine did a job")
	}
	if err := w.client.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	if s := w.job(shell("true")); s.State != agentapi.JobSucceeded {
		t.Errorf("%+v", s)
	}
}

func TestJobLaunchThatCannot(t *testing.T) {
	w := newWorld(t, testConfig, nil)
	os.MkdirAll(w.paths.catalogue, 0o755)
	w.put("etc/oriel/applications.json", `[{"Name":"gone","AbsoluteAppPath":"/none/such"},{"Name":"text","AbsoluteAppPath":"/etc/passwd"},{"Name":"words","AbsoluteAppPath":"/bin/sh","LaunchParameters":"'"},{"Name":"sh","AbsoluteAppPath":"/bin/sh"}]`)
	w.put("broken", "no screens\n")
	w.start()
	for name, want := range map[string]string{
		"other": "the catalogue has no application", "gone": "the file /none/such does not exist", "text": "/etc/passwd is not an executable file",
		"words": "launch parameters", "sh": "the desktop does not start",
	} {
		if s := w.job(agentapi.JobStep{Name: "Try", Launch: name, Seconds: 600}); s.State != agentapi.JobFailed || !strings.HasPrefix(s.Problem, "Try: ") || !strings.Contains(s.Problem, want) {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

func TestJobsAreForBuilders(t *testing.T) {
	config := testConfig
	config.Role = agentapi.RoleFleet
	w := newWorld(t, config, nil).start()
	w.ready()
	var refused *agentapi.CallError
	if err := w.client.BeginJob(t.Context(), "a", agentapi.Job{Steps: []agentapi.JobStep{shell("true")}}); !errors.As(err, &refused) || refused.Status != http.StatusConflict || !strings.Contains(err.Error(), "fleet") {
		t.Error(err)
	}
	if _, err := w.client.Job(t.Context(), "a", 0); !errors.As(err, &refused) || refused.Status != http.StatusConflict {
		t.Error(err)
	}
	if err := w.client.EndJob(t.Context(), "a"); !errors.As(err, &refused) || refused.Status != http.StatusConflict {
		t.Error(err)
	}
}
