package agent

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oriel-project/oriel/internal/agentapi"
)

// These tests run the agent in a real container of the base image. They need
//
//	ORIEL_TEST_ENGINE  the engine's socket, unix:///…
//	ORIEL_TEST_IMAGE   the image; oriel/base:oriel-debian-12 when not set
//
// and the docker command; without these they are skipped.

// engine runs the docker command on the engine under test.
type engine struct {
	tb    testing.TB
	image string
	agent string // the compiled program
}

func newEngine(tb testing.TB) *engine {
	tb.Helper()
	host := os.Getenv("ORIEL_TEST_ENGINE")
	if host == "" {
		tb.Skip("skipped: ORIEL_TEST_ENGINE does not name a container engine (unix:///…)")
	}
	tb.Setenv("DOCKER_HOST", host)
	// A path that the engine's package owns: another docker command that is
	// first in PATH may not speak the engine's version.
	e := &engine{tb: tb, image: os.Getenv("ORIEL_TEST_IMAGE")}
	if e.image == "" {
		e.image = "oriel/base:oriel-debian-12"
	}
	if out, err := e.try("image", "inspect", "-f", "{{.Id}}", e.image); err != nil {
		tb.Skipf("skipped: the image %s is not there (oriel image bootstrap makes it): %s", e.image, out)
	}
	e.agent = filepath.Join(tb.TempDir(), "oriel-agent")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", e.agent, "github.com/oriel-project/oriel/cmd/oriel-agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		tb.Fatalf("build the agent: %v\n%s", err, out)
	}
	return e
}

func (e *engine) command(args ...string) *exec.Cmd {
	docker := "/usr/bin/docker"
	if _, err := os.Stat(docker); err != nil {
		docker = "docker"
	}
	return exec.Command(docker, args...)
}

func (e *engine) try(args ...string) (string, error) {
	out, err := e.command(args...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (e *engine) do(args ...string) string {
	e.tb.Helper()
	out, err := e.try(args...)
	if err != nil {
		e.tb.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// isolation is how Oriel runs an image builder.
var isolation = []string{
	"--cap-drop=ALL", "--cap-add=CHOWN", "--cap-add=DAC_OVERRIDE", "--cap-add=FOWNER", "--cap-add=FSETID", "--cap-add=SETUID",
	"--cap-add=SETGID", "--cap-add=KILL", "--cap-add=SETFCAP", "--cap-add=SYS_CHROOT", "--cap-add=NET_BIND_SERVICE",
	"--security-opt=no-new-privileges", "--memory=2g", "--pids-limit=512", "--network=none",
}

// instance is a container with the agent.
type instance struct {
	*engine
	name   string
	client *agentapi.Client
}

// start runs an instance for one person.
func (e *engine) start(role agentapi.Role) *instance { return e.startFor(role, 1) }

func (e *engine) startFor(role agentapi.Role, people int) *instance {
	if people == 1 {
		return e.startWith(role, people)
	}
	return e.startWith(role, people, "--cap-add=SYS_ADMIN", "--cap-add=SETPCAP")
}

// startWith runs an instance with more options of the engine.
func (e *engine) startWith(role agentapi.Role, people int, options ...string) *instance {
	e.tb.Helper()
	// Not the test's own directory: the agent shuts it, and it must be short
	// enough for a socket's address.
	shared, err := os.MkdirTemp("/tmp", "oriel-agent-test")
	if err != nil {
		e.tb.Fatal(err)
	}
	e.tb.Cleanup(func() { os.RemoveAll(shared) })
	config := agentapi.Config{Role: role, ResourceName: "hello", ImageARN: "arn:aws:appstream:us-west-2::image/base",
		InstanceType: "stream.standard.medium", SocketUID: os.Getuid(), SocketGID: os.Getgid(), Width: 1280, Height: 720}
	if role == agentapi.RoleFleet {
		config.MaxSessions = people
	}
	if err := config.Write(filepath.Join(shared, agentapi.ConfigName)); err != nil {
		e.tb.Fatal(err)
	}
	i := &instance{engine: e, name: "agenttest-" + filepath.Base(shared)}
	i.client = agentapi.NewClient(agentapi.DialWhenUp(filepath.Join(shared, agentapi.SocketName)))
	e.tb.Cleanup(i.client.Close)
	args := append([]string{"run", "-d", "--name", i.name, "-v", shared + ":" + agentapi.Dir, "-v", e.agent + ":" + agentapi.Binary + ":ro"}, isolation...)
	args = append(args, options...)
	e.tb.Cleanup(func() {
		if e.tb.Failed() {
			log, _ := e.try("logs", i.name)
			e.tb.Logf("the instance's log:\n%s", log)
		}
		e.try("rm", "-f", i.name)
	})
	e.do(append(args, e.image, agentapi.Binary)...)
	return i
}

// ready waits for the desktop.
func (i *instance) ready() agentapi.Status {
	i.tb.Helper()
	var s agentapi.Status
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if s, err = i.client.WaitReady(i.tb.Context(), agentapi.MaxWait); err == nil && s.Ready {
			return s
		}
	}
	i.tb.Fatalf("the desktop is not there: %+v %v", s, err)
	return s
}

// user runs a command as the desktop's user and returns output and exit code.
func (i *instance) user(input string, argv ...string) (string, int) {
	i.tb.Helper()
	c := i.command(append([]string{"exec", "-i", "-u", "1000", i.name}, argv...)...)
	c.Stdin = strings.NewReader(input)
	out, err := c.CombinedOutput()
	if c.ProcessState == nil {
		i.tb.Fatal(err)
	}
	return strings.TrimSpace(string(out)), c.ProcessState.ExitCode()
}

func TestInstance(t *testing.T) {
	e := newEngine(t)
	i := e.start(agentapi.RoleImageBuilder)
	ctx := t.Context()
	s := i.ready()
	t.Logf("agent's start to ready: %v", s.ReadyAt.Sub(s.StartedAt))
	if s.Version != agentapi.Version || s.Role != agentapi.RoleImageBuilder || s.Problem != "" || s.DisplayRestarts != 0 {
		t.Errorf("status %+v", s)
	}

	t.Run("sudo", func(t *testing.T) {
		for _, c := range []struct {
			name, input string
			argv        []string
			want        string
			code        int
		}{
			{"root", "", []string{"sudo", "id", "-u"}, "0", 0},
			{"no new privileges", "", []string{"sudo", "grep", "NoNewPrivs", "/proc/self/status"}, "NoNewPrivs:\t1", 0},
			{"status", "", []string{"sudo", "sh", "-c", "exit 7"}, "", 7},
			{"signal", "", []string{"sudo", "sh", "-c", "kill -KILL $$"}, "", 137},
			{"input", "to root\n", []string{"sudo", "tee", "/etc/written"}, "to root", 0},
			{"owner", "", []string{"stat", "-c", "%U", "/etc/written"}, "root", 0},
			{"user", "", []string{"sudo", "-u", "daemon", "id", "-un"}, "daemon", 0},
			{"variable", "", []string{"sudo", "A=b c", "printenv", "A"}, "b c", 0},
			{"not found", "", []string{"sudo", "no-such-command"}, "sudo: no-such-command: command not found", 1},
			{"login shell", "", []string{"sudo", "-i", "pwd"}, "/root", 0},
			{"package", "", []string{"sh", "-c", "mkdir -p /tmp/p/DEBIAN /tmp/p/opt/thing && printf 'Package: thing\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.com>\nDescription: x\n' >/tmp/p/DEBIAN/control && dpkg-deb -b --root-owner-group /tmp/p /tmp/thing.deb >/dev/null && sudo apt-get install -y /tmp/thing.deb >/dev/null 2>&1; dpkg-query -Wf '${Status}' thing"}, "install ok installed", 0},
		} {
			if got, code := i.user(c.input, c.argv...); got != c.want || code != c.code {
				t.Errorf("%s: %q, exit code %d, want %q, %d", c.name, got, code, c.want, c.code)
			}
		}
		if out, err := e.try("exec", "-u", "daemon", i.name, "sudo", "id"); err == nil {
			t.Errorf("another user became root: %s", out)
		}
	})

	t.Run("closed doors", func(t *testing.T) {
		if out, code := i.user("", "ls", agentapi.Dir); code == 0 {
			t.Errorf("the desktop's user reads the shared directory: %s", out)
		}
		if out, err := e.try("exec", "-u", "daemon", "-e", "DISPLAY=:0", i.name, "xwallpaper", "--clear"); err == nil {
			t.Errorf("another user reached the display: %s", out)
		}
		// Even root of the instance is not taken for the server.
		out, _ := i.user("", "sudo", "perl", "-e", `use IO::Socket::UNIX; $SIG{PIPE} = "IGNORE"; my $s = IO::Socket::UNIX->new("/run/oriel/agent.sock") or die "no socket"; print $s "GET /v1/status HTTP/1.0\r\n\r\n"; print "answer: ", join "", <$s>`)
		if out != "answer:" {
			t.Errorf("a caller from inside got %q", out)
		}
		if out := e.do("exec", i.name, "sh", "-c", "cat /proc/net/tcp /proc/net/tcp6 | grep -c ' 0A ' || :"); out != "0" {
			t.Errorf("%s TCP ports are open", out)
		}
	})

	t.Run("variables", func(t *testing.T) {
		want := "arn:aws:appstream:us-west-2::image/base stream.standard.medium imagebuilder hello"
		if got, _ := i.user("", "bash", "-lc", "echo $AppStream_Image_Arn $AppStream_Instance_Type $AppStream_Resource_Type $AppStream_Resource_Name"); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	})

	t.Run("display", func(t *testing.T) {
		d, err := i.client.Display(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		hello := make([]byte, 12)
		if _, err := io.ReadFull(d, hello); err != nil || string(hello) != "RFB 003.008\n" {
			t.Errorf("%q, %v", hello, err)
		}
		// A display that is killed ends the stream and comes back.
		e.do("exec", i.name, "pkill", "-KILL", "Xvnc")
		d.SetReadDeadline(time.Now().Add(patience))
		if n, err := d.Read(hello); n != 0 || err == nil || os.IsTimeout(err) {
			t.Errorf("after the display's end: %d bytes, %v", n, err)
		}
		eventually(t, func() bool {
			s, err := i.client.Status(ctx)
			return err == nil && s.DisplayRestarts == 1
		})
		if s := i.ready(); !strings.Contains(s.LastDisplayError, "SIGKILL") {
			t.Errorf("status %+v", s)
		}
		again, err := i.client.Display(ctx)
		if err != nil {
			t.Fatal(err)
		}
		again.Close()
	})

	t.Run("image assistant", func(t *testing.T) {
		for _, c := range []struct {
			argv string
			want string
			code int
		}{
			{"AppStreamImageAssistant add-application --name files --absolute-app-path /usr/bin/pcmanfm", `{"status":1,"message":"Administrator privileges are required to perform this operation"}`, 1},
			{"sudo AppStreamImageAssistant add-application --name files --absolute-app-path /usr/bin/pcmanfm --display-name=Files", `{"status":0,"message":"Success"}`, 0},
			{"sudo AppStreamImageAssistant add-application --name files --absolute-app-path /usr/bin/pcmanfm", `{"status":1,"message":"Name is not unique"}`, 1},
			{"sudo AppStreamImageAssistant add-application --name edit --absolute-app-path /usr/bin/mousepad", `{"status":0,"message":"Success"}`, 0},
			{"sudo AppStreamImageAssistant remove-application --name edit", `{"status":0,"message":"Success"}`, 0},
		} {
			if got, code := i.user("", strings.Fields(c.argv)...); got != c.want || code != c.code {
				t.Errorf("%s: %s, %d", c.argv, got, code)
			}
		}
		apps, err := i.client.Applications(ctx)
		if err != nil || len(apps) != 1 || apps[0].DisplayName != "Files" {
			t.Errorf("%+v, %v", apps, err)
		}
		for _, c := range []struct {
			answer agentapi.Answer
			want   string
		}{
			{agentapi.Answer{}, `{"status":0,"message":"Success"}`},
			{agentapi.Answer{ErrorKind: agentapi.ErrorAlreadyExists}, `{"status":1,"message":"An image with the given name already exists"}`},
		} {
			got := make(chan string)
			go func() {
				out, _ := i.user("", "sudo", "AppStreamImageAssistant", "create-image", "--name", "mine", "--tags", "k", "v")
				got <- out
			}()
			r, err := i.client.NextRequest(ctx, agentapi.MaxWait)
			if err != nil || r == nil || r.Kind != agentapi.KindCreateImage || r.CreateImage.Name != "mine" || r.CreateImage.Tags["k"] != "v" {
				t.Fatalf("%+v, %v", r, err)
			}
			if err := i.client.Answer(ctx, r.ID, c.answer); err != nil {
				t.Fatal(err)
			}
			if out := <-got; out != c.want {
				t.Errorf("%s, want %s", out, c.want)
			}
		}
	})

	t.Run("quiesce", func(t *testing.T) {
		if err := i.client.Quiesce(ctx); err != nil {
			t.Fatal(err)
		}
		if s, err := i.client.Status(ctx); err != nil || !s.Quiesced || s.Ready {
			t.Errorf("%+v, %v", s, err)
		}
		if out := e.do("exec", i.name, "ps", "-e", "-o", "comm="); strings.Contains(out, "Xvnc") || strings.Contains(out, "openbox") {
			t.Errorf("still running: %s", out)
		}
		if _, err := i.client.Display(ctx); err != agentapi.ErrDisplayDown {
			t.Errorf("display of a quiet instance: %v", err)
		}
		if err := i.client.Resume(ctx); err != nil {
			t.Fatal(err)
		}
		i.ready()
	})

	t.Run("stop", func(t *testing.T) {
		began := time.Now()
		e.do("stop", "-t", "60", i.name)
		took := time.Since(began)
		t.Logf("docker stop: %v", took)
		if code := e.do("inspect", "-f", "{{.State.ExitCode}}", i.name); code != "0" {
			t.Errorf("exit code %s", code)
		}
		if log := e.do("logs", "--tail", "3", i.name); !strings.Contains(log, `"stopped"`) {
			t.Errorf("no orderly end: %s", log)
		}
	})

	t.Run("start again, then reboot and power off", func(t *testing.T) {
		for command, want := range map[string]int{"reboot": agentapi.ExitReboot, "poweroff": agentapi.ExitPowerOff} {
			e.do("start", i.name)
			i.ready()
			i.user("", command)
			if code := e.do("wait", i.name); code != fmt.Sprint(want) {
				t.Errorf("%s: exit code %s, want %d", command, code, want)
			}
		}
	})
}

func TestFleetInstance(t *testing.T) {
	i := newEngine(t).start(agentapi.RoleFleet)
	i.ready()
	for _, argv := range [][]string{{"sudo", "id"}, {"reboot"}} {
		if out, code := i.user("", argv...); code != 1 || !strings.Contains(out, "fleet") {
			t.Errorf("%s: %q, %d", argv, out, code)
		}
	}
}

// BenchmarkReady measures docker run → the desktop's first pixels: with the
// agent, and by hand with the same image, Xvnc and session.
func BenchmarkReady(b *testing.B) {
	e := newEngine(b)
	b.Run("agent", func(b *testing.B) {
		for b.Loop() {
			i := (&engine{b, e.image, e.agent}).start(agentapi.RoleImageBuilder)
			i.ready()
			b.StopTimer()
			e.try("rm", "-f", i.name)
			b.StartTimer()
		}
	})
	b.Run("byhand", func(b *testing.B) {
		for n := 0; b.Loop(); n++ {
			dir, err := os.MkdirTemp("/tmp", "oriel-agent-bench")
			if err != nil {
				b.Fatal(err)
			}
			os.Chmod(dir, 0o777)
			name := "agenttest-" + filepath.Base(dir)
			args := append([]string{"run", "-d", "--name", name, "-u", "1000", "-v", dir + ":/s"}, isolation...)
			e.do(append(args, e.image, "sh", "-c", "Xvnc :0 -geometry 1280x720 -depth 24 -SecurityTypes None -rfbunixpath /s/rfb -AlwaysShared -nolisten tcp & "+
				"until test -S /tmp/.X11-unix/X0; do sleep .01; done; DISPLAY=:0 exec /etc/oriel/session")...)
			ctx, cancel := context.WithTimeout(b.Context(), 20*time.Second)
			for {
				if err := waitForPixels(ctx, func() (net.Conn, error) { return net.Dial("unix", dir+"/rfb") }); err == nil {
					break
				} else if ctx.Err() != nil {
					b.Fatal(err)
				}
				time.Sleep(2 * time.Millisecond)
			}
			cancel()
			b.StopTimer()
			e.try("rm", "-f", name)
			os.RemoveAll(dir)
			b.StartTimer()
		}
	})
}
