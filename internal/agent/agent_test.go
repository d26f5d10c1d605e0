package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/oriel-project/oriel/internal/agent/catalogue"
	"github.com/oriel-project/oriel/internal/agent/control"
	"github.com/oriel-project/oriel/internal/agent/sudo"
	"github.com/oriel-project/oriel/internal/agentapi"
)

// world is an agent that runs as a process, with a directory as its root and
// with stand-ins for the display and the session.
type world struct {
	t      *testing.T
	root   string
	paths  paths
	cmd    *exec.Cmd
	log    bytes.Buffer
	ended  chan struct{}
	client *agentapi.Client
}

// Where the display of an image builder is.
func (p paths) rfb() string          { return filepath.Join(p.displayDir(), "rfb.sock") }
func (p paths) xauthority() string   { return filepath.Join(p.displayDir(), "xauthority") }
func (p paths) xSocketDir() string   { return filepath.Join(p.tmp, ".X11-unix") }
func (p paths) iceSocketDir() string { return filepath.Join(p.tmp, ".ICE-unix") }

// newWorld makes the root; files are names and contents in it.
func newWorld(t *testing.T, config agentapi.Config, files map[string]string) *world {
	t.Helper()
	root, err := os.MkdirTemp("/tmp", "agent") // short enough for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	w := &world{t: t, root: root, paths: pathsUnder(root)}
	for _, dir := range []string{w.paths.shared, w.paths.tmp, filepath.Dir(w.paths.xvnc), filepath.Dir(w.paths.session)} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(config.Write(w.paths.config()), os.Symlink(self, w.paths.xvnc), os.Symlink(self, w.paths.session)); err != nil {
		t.Fatal(err)
	}
	os.MkdirAll(filepath.Join(w.paths.etc, "skel/.config"), 0o755)
	w.put("etc/passwd", "root:x:0:0:root:/root:/bin/bash")
	w.put("etc/group", "root:x:0:\n")
	w.put("etc/skel/.profile", "# a shell's\n")
	for name, text := range files {
		w.put(name, text)
	}
	w.client = agentapi.NewClient(agentapi.DialWhenUp(w.paths.socket()))
	t.Cleanup(w.client.Close)
	return w
}

func (w *world) put(name, text string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.root, name), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) start() *world {
	w.t.Helper()
	self, _ := os.Executable()
	w.cmd = &exec.Cmd{Path: self, Args: []string{"oriel-agent"}, Env: append(os.Environ(), rootVariable+"="+w.root, "GORACE=atexit_sleep_ms=0"), Stderr: &w.log, SysProcAttr: &syscall.SysProcAttr{Setpgid: true}}
	if err := w.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.ended = make(chan struct{})
	go func() { w.cmd.Wait(); close(w.ended) }()
	w.t.Cleanup(func() {
		w.cmd.Process.Kill()
		<-w.ended
		if w.t.Failed() {
			w.t.Logf("the agent's log:\n%s", &w.log)
		}
	})
	return w
}

func (w *world) ready() agentapi.Status {
	w.t.Helper()
	return w.await(func() (agentapi.Status, error) { return w.client.WaitReady(w.t.Context(), agentapi.MaxWait) })
}

// await asks until the agent is ready.
func (w *world) await(ask func() (agentapi.Status, error)) (s agentapi.Status) {
	w.t.Helper()
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		select {
		case <-w.ended:
			w.t.Fatal("the agent has ended")
		default:
		}
		if s, err = ask(); err == nil && s.Ready {
			return s
		}
	}
	w.t.Fatalf("not ready: %+v, %v", s, err)
	return s
}

// request waits for what somebody in the instance asks of the server.
func (w *world) request() *agentapi.Request {
	w.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if r, err := w.client.NextRequest(w.t.Context(), agentapi.MaxWait); r != nil || err != nil {
			if err != nil {
				w.t.Fatal(err)
			}
			return r
		}
	}
	w.t.Fatal("nothing was asked")
	return nil
}

// stop ends the agent, after which its log is complete.
func (w *world) stop() {
	w.t.Helper()
	w.cmd.Process.Signal(unix.SIGTERM)
	if code := w.exit(); code != agentapi.ExitStopped {
		w.t.Errorf("exit code %d", code)
	}
}

// sleep is a command that no other test has running.
func (w *world) sleep(seconds int) string {
	os.Symlink("/bin/sleep", filepath.Join(w.root, "sleep"))
	return fmt.Sprintf("%s/sleep %d", w.root, seconds)
}

// sleeping counts the processes of such a command.
func (w *world) sleeping(seconds int) int {
	return len(pids(fmt.Sprintf("%s/sleep\x00%d\x00", w.root, seconds)))
}

// exit waits for the agent's end and returns its code.
func (w *world) exit() int {
	w.t.Helper()
	select {
	case <-w.ended:
	case <-time.After(patience):
		w.t.Fatal("the agent does not end")
	}
	return w.cmd.ProcessState.ExitCode()
}

// pids returns the processes that have name in their command line.
func pids(name string) (found []int) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		if text, _ := os.ReadFile(f); bytes.Contains(text, []byte(name)) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(f)))
			found = append(found, pid)
		}
	}
	return found
}

// xvnc is the display's process.
func (w *world) xvnc() int {
	w.t.Helper()
	p := pids(w.paths.rfb())
	if len(p) != 1 {
		w.t.Fatalf("%d displays run", len(p))
	}
	return p[0]
}

func TestStartAndStop(t *testing.T) {
	w := newWorld(t, testConfig, nil)
	// What a captured disk has left over goes away.
	os.MkdirAll(filepath.Join(w.paths.tmp, ".X11-unix/X0"), 0o755)
	w.put("tmp/.X0-lock", "1")
	os.Symlink("/etc", filepath.Join(w.paths.tmp, ".ICE-unix"))
	w.start()
	s := w.ready()
	if s.Version != agentapi.Version || s.Role != agentapi.RoleImageBuilder || s.StartedAt.After(s.ReadyAt) || s.DisplayRestarts != 0 || s.Problem != "" {
		t.Errorf("%+v", s)
	}
	flags, _ := os.ReadFile(filepath.Join(w.root, "xvnc"))
	for _, want := range []string{":0 ", "-geometry 800x600", "-SecurityTypes None", "-rfbunixpath " + w.paths.rfb(), "-rfbport -1", "-nolisten tcp", "-auth " + w.paths.xauthority()} {
		if !strings.Contains(string(flags), want) {
			t.Errorf("Xvnc without %s: %s", want, flags)
		}
	}
	for file, want := range map[string]os.FileMode{
		w.paths.socket(): 0o660 | os.ModeSocket, w.paths.shared: 0o750 | os.ModeDir, w.paths.displayDir(): 0o700 | os.ModeDir, w.paths.xauthority(): 0o600,
		w.paths.xSocketDir(): 0o777 | os.ModeSticky | os.ModeDir, w.paths.iceSocketDir(): 0o777 | os.ModeSticky | os.ModeDir, w.paths.userRuntime: 0o700 | os.ModeDir,
	} {
		if info, err := os.Lstat(file); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v, want %v", file, info.Mode(), err, want)
		}
	}
	if _, err := os.Stat(filepath.Join(w.paths.tmp, ".X0-lock")); err == nil {
		t.Error("the old lock is still there")
	}
	out, err := exec.Command("sh", "-c", ". "+w.paths.profile+"; echo $AppStream_Resource_Name $AppStream_Resource_Type").Output()
	if err != nil || string(out) != "it's imagebuilder\n" {
		t.Errorf("%q, %v", out, err)
	}
	env, _ := os.ReadFile(filepath.Join(w.root, "session"))
	for _, want := range []string{"DISPLAY=:0\n", "XAUTHORITY=", "HOME=", "XDG_RUNTIME_DIR=", "LANG=C.UTF-8\n", "AppStream_Instance_Type=stream.standard.medium\n", "AppStream_Resource_Name=it's\n"} {
		if !strings.Contains("\n"+string(env), "\n"+want) {
			t.Errorf("the session has no %s:\n%s", want, env)
		}
	}
	if strings.Contains(string(env), rootVariable) {
		t.Error("the session has variables of the agent")
	}

	w.stop()
	eventually(t, func() bool { return len(pids(w.root)) == 0 })
}

func TestStopWhatResists(t *testing.T) {
	w := newWorld(t, testConfig, map[string]string{"stubborn": ""}).start()
	w.ready()
	t.Cleanup(func() {
		for _, pid := range pids(w.root) {
			unix.Kill(pid, unix.SIGKILL)
		}
	})
	began := time.Now()
	w.stop()
	if took := time.Since(began); took < endGrace {
		t.Errorf("it was given %v", took)
	}
	eventually(t, func() bool { return len(pids(w.root)) == 0 }) // what was killed is gone when it gets the processor
}

func TestReadyWaitsForPixels(t *testing.T) {
	w := newWorld(t, testConfig, map[string]string{"black": ""}).start()
	eventually(t, func() bool { return len(pids(w.paths.session)) == 1 })
	if s, err := w.client.Status(t.Context()); err != nil || s.Ready && s.ReadyAt.Sub(s.StartedAt) < plainDesktop {
		t.Fatalf("%+v, %v", s, err)
	}
	os.Remove(filepath.Join(w.root, "black"))
	w.ready()
}

func TestBlackDesktopIsReadyInTheEnd(t *testing.T) {
	w := newWorld(t, testConfig, map[string]string{"black": ""}).start()
	if s := w.ready(); s.ReadyAt.Sub(s.StartedAt) < plainDesktop {
		t.Errorf("%+v", s)
	}
}

func TestDisplayIsStartedAgain(t *testing.T) {
	w := newWorld(t, testConfig, nil).start()
	w.ready()
	d, err := w.client.Display(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := io.ReadFull(d, make([]byte, 12)); err != nil {
		t.Error(err)
	}
	cookie, _ := os.ReadFile(w.paths.xauthority())
	unix.Kill(w.xvnc(), unix.SIGKILL)
	if rest, err := io.ReadAll(d); len(rest) != 0 || err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%q, %v", rest, err)
	}
	restarts := func(n int) func() bool {
		return func() bool {
			s, err := w.client.Status(t.Context())
			return err == nil && s.DisplayRestarts == n
		}
	}
	eventually(t, restarts(1))
	if s := w.ready(); s.LastDisplayError == "" || s.Problem != "" {
		t.Errorf("%+v", s)
	}
	if again, _ := os.ReadFile(w.paths.xauthority()); bytes.Equal(again, cookie) || len(again) != len(cookie) {
		t.Error("the cookie is still the old one")
	}
	// So it is when the session ends.
	for _, pid := range pids(w.paths.session) {
		unix.Kill(pid, unix.SIGTERM)
	}
	eventually(t, restarts(2))
	if s := w.ready(); !strings.Contains(s.LastDisplayError, "session") || !strings.Contains(s.LastDisplayError, "SIGTERM") {
		t.Errorf("%+v", s)
	}
	w.xvnc() // exactly one runs
}

func TestBrokenDisplayIsAProblem(t *testing.T) {
	w := newWorld(t, testConfig, map[string]string{"broken": "first line\n(EE) no \xff screens found\n"}).start()
	// A life of the display that was held up for too long has another problem; the next one has this.
	eventually(t, func() bool {
		s, err := w.client.Status(t.Context())
		if err == nil && (s.Ready || s.Problem != "" && s.DisplayRestarts < hopeless) {
			t.Fatalf("%+v", s)
		}
		return err == nil && strings.HasSuffix(s.Problem, "exited with status 1: (EE) no \uFFFD screens found")
	})
	if _, err := w.client.Display(t.Context()); err != agentapi.ErrDisplayDown {
		t.Error(err)
	}
	os.Remove(filepath.Join(w.root, "broken"))
	if s := w.ready(); s.Problem != "" {
		t.Errorf("%+v", s)
	}
}

func TestManyDisplayStreams(t *testing.T) {
	w := newWorld(t, testConfig, nil).start()
	w.ready()
	var streams []*agentapi.DisplayConn
	for range maxStreams {
		d, err := w.client.Display(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		streams = append(streams, d)
	}
	var refused *agentapi.CallError
	if _, err := w.client.Display(t.Context()); !errors.As(err, &refused) || refused.Status != http.StatusTooManyRequests {
		t.Error(err)
	}
	for _, d := range streams {
		hello := make([]byte, 12)
		if _, err := io.ReadFull(d, hello); err != nil || string(hello) != "RFB 003.008\n" {
			t.Errorf("%q, %v", hello, err)
		}
		d.CloseWrite() // the far side sees it, and ends
		if _, err := io.ReadAll(d); err != nil {
			t.Error(err)
		}
		d.Close()
	}
	eventually(t, func() bool {
		d, err := w.client.Display(t.Context())
		if err == nil {
			d.Close()
		}
		return err == nil
	})
}

func TestQuiesceAndResume(t *testing.T) {
	w := newWorld(t, testConfig, nil).start()
	w.ready()
	for range 2 { // it may be said again
		if err := w.client.Quiesce(t.Context()); err != nil {
			t.Fatal(err)
		}
		s, err := w.client.Status(t.Context())
		if err != nil || s.Ready || !s.Quiesced || s.DisplayRestarts != 0 {
			t.Errorf("%+v, %v", s, err)
		}
		if p := pids(w.paths.rfb()); len(p) != 0 {
			t.Errorf("%d displays run", len(p))
		}
	}
	if _, err := w.client.Display(t.Context()); err != agentapi.ErrDisplayDown {
		t.Error(err)
	}
	for range 2 {
		if err := w.client.Resume(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s := w.ready(); s.Quiesced || s.DisplayRestarts != 0 {
			t.Errorf("%+v", s)
		}
	}
	w.xvnc()
}

// TestQuiesceAtAnyMoment quiets and wakes an agent that is just starting its
// display, again and again.
func TestQuiesceAtAnyMoment(t *testing.T) {
	w := newWorld(t, testConfig, nil).start()
	for i := range 15 {
		time.Sleep(time.Duration(i) * 3 * time.Millisecond) // into the start, not for it
		if err := w.client.Quiesce(t.Context()); err != nil {
			t.Fatal(err)
		}
		if p := pids(w.root + "/run"); len(p) != 0 {
			t.Fatalf("%d displays run", len(p))
		}
		if err := w.client.Resume(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	w.ready()
	w.xvnc()
}

func TestPower(t *testing.T) {
	// power tells what the server heard. The agent waits a moment for it and not longer: the server may be too late.
	power := func(kind agentapi.Kind, want int) *agentapi.Request {
		w := newWorld(t, testConfig, nil).start()
		w.ready()
		notice := make(chan *agentapi.Request, 1)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() {
			r, _ := w.client.NextRequest(ctx, agentapi.MaxWait)
			notice <- r
		}()
		go func() {
			<-w.ended
			time.AfterFunc(time.Second, cancel) // whoever has not heard it by now asks in vain
		}()
		if err := control.SetPower(t.Context(), w.paths.control, kind); err != nil {
			t.Fatal(err)
		}
		r := <-notice
		if code := w.exit(); code != want {
			t.Errorf("%s: exit code %d, want %d", kind, code, want)
		}
		return r
	}
	for kind, want := range map[agentapi.Kind]int{agentapi.KindReboot: agentapi.ExitReboot, agentapi.KindPowerOff: agentapi.ExitPowerOff} {
		var r *agentapi.Request
		for deadline := time.Now().Add(patience); r == nil && time.Now().Before(deadline); {
			r = power(kind, want)
		}
		if r == nil || r.Kind != kind || r.CreateImage != nil {
			t.Errorf("the server heard %+v", r)
		}
	}
}

func TestCreateImage(t *testing.T) {
	w := newWorld(t, testConfig, nil).start()
	if os.Geteuid() != 0 {
		t.Log("not root: the agent takes its own user for root")
	}
	type outcome struct {
		a   agentapi.Answer
		err error
	}
	result := make(chan outcome)
	w.ready()
	go func() {
		a, err := control.CreateImage(context.Background(), w.paths.control, agentapi.CreateImage{Name: "mine", Tags: map[string]string{"k": "v"}, DryRun: true})
		result <- outcome{a, err}
	}()
	r := w.request()
	if r.CreateImage == nil || r.CreateImage.Name != "mine" || r.CreateImage.Tags["k"] != "v" || !r.CreateImage.DryRun {
		t.Fatalf("%+v", r)
	}
	want := agentapi.Answer{ErrorKind: agentapi.ErrorAlreadyExists, Message: "there is one"}
	if err := w.client.Answer(t.Context(), r.ID, want); err != nil {
		t.Error(err)
	}
	if got := <-result; got.err != nil || got.a != want {
		t.Errorf("%+v", got)
	}
	if err := w.client.Answer(t.Context(), r.ID, want); err == nil {
		t.Error("a request was answered twice")
	}
	if r, err := w.client.NextRequest(t.Context(), 0); r != nil || err != nil {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestCreatePackage(t *testing.T) {
	w := newWorld(t, testConfig, nil).start()
	w.ready()
	result := make(chan error)
	go func() {
		a, err := control.CreatePackage(context.Background(), w.paths.control)
		if a.Message != "is STOPPING" {
			err = errors.Join(errors.New("the answer is "+a.Message), err)
		}
		result <- err
	}()
	r := w.request()
	if r.Kind != agentapi.KindCreatePackage || r.CreateImage != nil {
		t.Fatalf("%+v", r)
	}
	if err := w.client.Answer(t.Context(), r.ID, agentapi.Answer{ErrorKind: agentapi.ErrorInvalid, Message: "is STOPPING"}); err != nil {
		t.Error(err)
	}
	if err := <-result; err != nil {
		t.Error(err)
	}
}

func TestFleetRefuses(t *testing.T) {
	config := testConfig
	config.Role = agentapi.RoleFleet
	w := newWorld(t, config, nil).start()
	w.ready()
	var refused *control.Error
	if _, err := control.CreateImage(t.Context(), w.paths.control, agentapi.CreateImage{Name: "n"}); !errors.As(err, &refused) || !strings.Contains(err.Error(), "fleet") {
		t.Error(err)
	}
	if _, err := control.CreatePackage(t.Context(), w.paths.control); !errors.As(err, &refused) || !strings.Contains(err.Error(), "fleet") {
		t.Error(err)
	}
	if err := control.SetPower(t.Context(), w.paths.control, agentapi.KindReboot); !errors.As(err, &refused) {
		t.Error(err)
	}
	if out, code := w.sudo("", "id"); code != 1 || !strings.Contains(out, "fleet") {
		t.Errorf("%q, %d", out, code)
	}
	if s, err := w.client.Status(t.Context()); err != nil || s.Role != agentapi.RoleFleet {
		t.Error(s, err)
	}
}

// sudo runs a command through the agent, without a terminal.
func (w *world) sudo(input string, args ...string) (string, int) {
	w.t.Helper()
	self, _ := os.Executable()
	cmd := &exec.Cmd{Path: self, Args: append([]string{"sudo"}, args...), Env: append(os.Environ(), rootVariable+"="+w.root, "GORACE=atexit_sleep_ms=0", "SECRET=1"), Stdin: strings.NewReader(input)}
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		w.t.Fatal(err)
	}
	if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signaled() {
		return string(out), 128 + int(status.Signal())
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// What a command has left running in the background stays when sudo ends.
func TestSudoLeavesRunning(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("skipped: commands run as root, and this test does not")
	}
	w := newWorld(t, testConfig, nil).start()
	w.ready()
	for range 20 {
		out, code := w.sudo("", "sh", "-c", w.sleep(1000)+" >/dev/null 2>&1 & echo $!")
		pid, err := strconv.Atoi(strings.TrimSpace(out))
		if err != nil || code != 0 {
			t.Fatalf("%q, %d", out, code)
		}
		// Its runner has ended, too, so that nobody can end it any more.
		eventually(t, func() bool {
			return !slices.ContainsFunc(pids(sudo.RunnerName), func(runner int) bool { parent, _ := familyOf(runner); return parent == w.cmd.Process.Pid })
		})
		text, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
		if !strings.Contains(string(text), w.root) {
			t.Fatal("it was ended")
		}
		unix.Kill(pid, unix.SIGKILL)
	}
}

func TestSudo(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("skipped: commands run as root, and this test does not")
	}
	w := newWorld(t, testConfig, nil).start()
	w.ready()
	for _, c := range []struct {
		name, input string
		args        []string
		want        string
		code        int
	}{
		{"output", "", []string{"echo", "hello"}, "hello\n", 0},
		{"input", "in\n", []string{"cat"}, "in\n", 0},
		{"errors", "", []string{"sh", "-c", "echo bad >&2; exit 9"}, "bad\n", 9},
		{"killed", "", []string{"sh", "-c", "kill -TERM $$"}, "", 128 + 15},
		{"environment", "", []string{"A=1", "sh", "-c", "echo $A $SECRET $HOME"}, "1 /root\n", 0},
		{"whole environment", "", []string{"-E", "sh", "-c", "echo $SECRET"}, "1\n", 0},
		{"bytes", "", []string{"printf", "%s", "\xff\xfe"}, "\xff\xfe", 0},
		{"directory", "", []string{"-D", "/usr", "pwd"}, "/usr\n", 0},
		{"no directory", "", []string{"-D", "/none", "pwd"}, "sudo: unable to change directory to /none: no such file or directory\n", 1},
		{"not found", "", []string{"no-such-command"}, "sudo: no-such-command: command not found\n", 1},
		{"no user", "", []string{"-u", "no-such-user", "id"}, "sudo: unknown user no-such-user\n", 1},
		{"user", "", []string{"-u", "nobody", "id", "-un"}, "nobody\n", 0},
		{"check", "", []string{"-v"}, "", 0},
		{"no session's terminal", "", []string{"sh", "-c", "(: </dev/tty) 2>/dev/null || echo none"}, "none\n", 0},
	} {
		if got, code := w.sudo(c.input, c.args...); got != c.want || code != c.code {
			t.Errorf("%s: %q, %d, want %q, %d", c.name, got, code, c.want, c.code)
		}
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if got, code := w.sudo("", "sh", "-c", "exit "+strconv.Itoa(i)); code != i {
				t.Errorf("%q, %d, want %d", got, code, i)
			}
		})
	}
	wg.Wait()
}

// TestSudoTerminal is a person at a terminal.
func TestSudoTerminal(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("skipped: commands run as root, and this test does not")
	}
	w := newWorld(t, testConfig, nil).start()
	w.ready()
	shell := newTerminal(t, w.root)
	// Each step types, and waits for what must then be seen, in this order.
	for _, step := range [][]string{
		{"sudo stty size\r", "33 99\r\n", "$ "},
		{"sudo sh -c 'test -c /dev/tty && echo good >/dev/tty'\r", "\ngood\r\n", "$ "},
		// Questions, with and without echo.
		{"sudo sh -c 'printf \"go on? \"; read a; echo \"said $a\"'\r", "\r\ngo on? "},
		{"yes\r", "said yes\r\n", "$ "},
		{"sudo sh -c 'stty -echo; echo ready; read a; stty echo; echo \"got $a\"'\r", "\r\nready\r\n"},
		{"word\r", "got word\r\n", "$ "},
		// Ctrl-C.
		{"sudo sh -c 'echo started; exec sleep 60'\r", "\nstarted\r\n"},
		{"\x03", "$ "},
		{"echo status $?\r", "\nstatus 130\r\n", "$ "},
		// Ctrl-Z, and back. The command forks nothing: a shell whose child is
		// stopped between vfork and exec waits for it and does not stop.
		{"sudo bash -c 'trap \"echo going on\" CONT; echo started; while :; do read -t .1; done'\r", "\nstarted\r\n"},
		{"\x1a", "Stopped", "$ "},
		{"stty -a | tr ' ;' '\\n\\n' | grep -x icanon\r", "\nicanon\r\n", "$ "},
		{"fg\r", "\ngoing on\r\n"},
		{"\x03", "$ "},
		{"echo status $?\r", "\nstatus 130\r\n", "$ "},
		// Pipelines and the background.
		{"sudo sh -c 'echo one; echo two' | tail -n 1\r", "\ntwo\r\n", "$ "},
		{"sudo sh -c 'echo asking >&2; read a; echo piped $a' | cat\r", "\nasking\r\n"},
		{"x\r", "\npiped x\r\n", "$ "},
		{"sudo sh -c 'echo started >&2; exec sleep 60' | cat\r", "\nstarted\r\n"},
		{"\x03", "$ "},
		{"sudo sh -c 'sleep .1; echo behind' & wait\r", "\nbehind\r\n", "$ "},
		// All output comes, also when something keeps the terminal open.
		{"sudo sh -c 'seq 3000; echo end'\r", "\n2999\r\n3000\r\nend\r\n", "$ "},
		{"sudo sh -c 'sleep 30 & seq 3000; echo end'\r", "\n2999\r\n3000\r\nend\r\n", "$ "},
		// A shell.
		{"sudo -i\r", "# "},
		{"echo $USER-$0\r", "\nroot-", "# "},
		{"exit 4\r", "$ "},
		{"echo status $?\r", "\nstatus 4\r\n", "$ "},
	} {
		shell.keys(step[0], step[1:]...)
	}
}

// terminal is a shell with job control in a terminal of its own.
type terminal struct {
	t      *testing.T
	master *os.File
	mu     sync.Mutex
	seen   []byte
}

func newTerminal(t *testing.T, root string) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("skipped: no terminals here: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	raw, err := master.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var slave *os.File
	raw.Control(func(fd uintptr) {
		unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0)
		unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: 33, Col: 99})
		if n, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC); errno == 0 {
			slave = os.NewFile(n, "terminal")
		}
	})
	if slave == nil {
		t.Skip("skipped: no terminals here")
	}
	defer slave.Close()
	self, _ := os.Executable()
	bin := filepath.Join(root, "bin")
	os.Mkdir(bin, 0o755)
	if err := os.Symlink(self, filepath.Join(bin, "sudo")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("bash", "--norc", "--noprofile", "--noediting", "-i")
	cmd.Env = append(os.Environ(), rootVariable+"="+root, "GORACE=atexit_sleep_ms=0", "PATH="+bin+":"+os.Getenv("PATH"), "PS1=$ ", "TERM=dumb", "PROMPT_COMMAND=")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	// Tests that were started in the background ignore the keyboard's signals, and so would the shell and all of its jobs. Signals
	// that are listened to are not ignored, and a program that is started has them as they are by default.
	listen := make(chan os.Signal, 1)
	signal.Notify(listen, unix.SIGINT, unix.SIGQUIT, unix.SIGTSTP, unix.SIGHUP)
	defer signal.Stop(listen)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	term := &terminal{t: t, master: master}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			term.mu.Lock()
			term.seen = append(term.seen, buf[:n]...)
			term.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	term.keys("", "$ ")
	return term
}

// keys types and waits until each of wants was written after the one before.
func (term *terminal) keys(keys string, wants ...string) {
	term.t.Helper()
	io.WriteString(term.master, keys)
	for _, want := range wants {
		for deadline := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
			term.mu.Lock()
			text := string(term.seen)
			i := strings.Index(text, want)
			if i >= 0 {
				term.seen = term.seen[i+len(want):]
			}
			term.mu.Unlock()
			if i >= 0 {
				break
			}
			if time.Now().After(deadline) {
				term.t.Fatalf("%q was typed and %q seen, want %q", keys, text, want)
			}
		}
	}
}

func TestServerRefusesNonsense(t *testing.T) {
	w := newWorld(t, testConfig, nil).start()
	w.ready()
	c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return agentapi.DialSocket(w.paths.socket())(ctx)
	}}}
	for _, q := range []struct {
		method, target, body string
		want                 int
	}{
		{"GET", "/v1/status?wait=31", "", 400},
		{"GET", "/v1/status?wait=-1", "", 400},
		{"GET", "/v1/status?wait=NaN", "", 400},
		{"GET", "/v1/requests?wait=soon", "", 400},
		{"GET", "/v1/display", "", http.StatusUpgradeRequired},
		{"POST", "/v1/requests/none", "{}", 404},
		{"POST", "/v1/requests/none", "[", 400},
		{"POST", "/v1/requests/none", `{"message":"` + strings.Repeat("x", maxBody) + `"}`, 400},
		{"GET", "/v1/quiesce", "", 405},
		{"GET", "/", "", 404},
	} {
		req, _ := http.NewRequestWithContext(t.Context(), q.method, "http://agent"+q.target, strings.NewReader(q.body))
		resp, err := c.Do(req)
		if err != nil {
			t.Error(q.target, err)
			continue
		}
		resp.Body.Close()
		if resp.StatusCode != q.want {
			t.Errorf("%s %s: %d, want %d", q.method, q.target, resp.StatusCode, q.want)
		}
	}
	if err := control.SetPower(t.Context(), w.paths.control, "explode"); err == nil || !strings.Contains(err.Error(), "neither") {
		t.Error(err)
	}
	// Someone who talks to sudo's socket without being sudo.
	conn, err := net.Dial("unix", w.paths.sudo)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET / HTTP/1.1\r\n\r\n")
	if answer, _ := io.ReadAll(conn); !bytes.Contains(answer, []byte("files were passed")) {
		t.Errorf("%q", answer)
	}
	w.ready()
}

func TestApplications(t *testing.T) {
	w := newWorld(t, testConfig, nil).start()
	if err := catalogue.Open(w.paths.catalogue).Add(catalogue.Entry{Name: "a", AbsoluteAppPath: "/a"}, []byte("png")); err != nil {
		t.Fatal(err)
	}
	apps, err := w.client.Applications(t.Context())
	if err != nil || len(apps) != 1 || apps[0].Name != "a" || string(apps[0].IconPNG) != "png" {
		t.Errorf("%+v, %v", apps, err)
	}
}

func TestWithoutConfiguration(t *testing.T) {
	w := newWorld(t, testConfig, nil)
	os.Remove(w.paths.config())
	w.start()
	if code := w.exit(); code != 1 || !strings.Contains(w.log.String(), "config.json") {
		t.Errorf("exit code %d", code)
	}
}

func TestControlWithoutAgent(t *testing.T) {
	if err := control.SetPower(t.Context(), filepath.Join(t.TempDir(), "none"), agentapi.KindReboot); err != control.ErrNoAgent {
		t.Error(err)
	}
	if code := sudo.Main([]string{"id"}, filepath.Join(t.TempDir(), "none")); code != 1 {
		t.Error(code)
	}
}
