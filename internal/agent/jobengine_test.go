package agent

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oriel-project/oriel/internal/agentapi"
)

// TestJobsInAnInstance does jobs in a real image builder.
func TestJobsInAnInstance(t *testing.T) {
	// Lists of packages are fetched where there is a network, and else what is tested does without.
	i := newEngine(t).startWith(agentapi.RoleImageBuilder, 1)
	i.ready()
	ctx := t.Context()
	begin := func(id string, steps ...agentapi.JobStep) {
		t.Helper()
		if err := i.client.BeginJob(ctx, id, agentapi.Job{Steps: steps}); err != nil {
			t.Fatal(err)
		}
	}
	end := func(id string) agentapi.JobStatus {
		t.Helper()
		for {
			s, err := i.client.Job(ctx, id, agentapi.MaxWait)
			if err != nil {
				t.Fatal(err)
			}
			if s.State != agentapi.JobRunning {
				return s
			}
		}
	}
	job := func(steps ...agentapi.JobStep) agentapi.JobStatus {
		t.Helper()
		id := "job-" + strings.ReplaceAll(time.Now().Format("150405.000000000"), ".", "-")
		begin(id, steps...)
		return end(id)
	}
	// same waits for what is there to be what was there: a process that has been ended is gone when it gets the processor.
	same := func(what, want string, got func() string) {
		t.Helper()
		now := got()
		for deadline := time.Now().Add(30 * time.Second); now != want && time.Now().Before(deadline); now = got() {
			time.Sleep(100 * time.Millisecond)
		}
		if now != want {
			t.Errorf("%s before\n%s\nand after\n%s", what, want, now)
		}
	}
	processes := func() string { return i.do("exec", i.name, "ps", "-e", "-o", "comm=") }
	files := func() string {
		return i.do("exec", i.name, "find", "/home", "/tmp", "/var/tmp", "/root", "-xdev", "-not", "-name", ".X0-lock")
	}

	t.Run("package", func(t *testing.T) {
		s := job(
			agentapi.JobStep{Name: "Make the package", Command: `mkdir -p p/DEBIAN p/opt/thing
printf 'Package: thing\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.com>\nDescription: x\n' >p/DEBIAN/control
printf '#!/bin/sh\nsetsid sleep 4711 &\n' >p/DEBIAN/postinst
chmod 755 p/DEBIAN/postinst
dpkg-deb -b --root-owner-group p /var/cache/thing.deb
rm -r p`},
			agentapi.JobStep{Name: "Install it", Command: "apt-get install -y /var/cache/thing.deb"},
			agentapi.JobStep{Name: "Look for it", Command: "dpkg-query -Wf '${Status}\n' thing; id -u; pwd"},
		)
		if s.State != agentapi.JobSucceeded || s.Output != "install ok installed\n0\n/root\n" {
			t.Errorf("%+v", s)
		}
		if out, err := i.try("exec", i.name, "pgrep", "-f", "sleep 4711"); err != nil {
			t.Errorf("the service of the package does not run: %s", out)
		}
	})
	t.Run("failure", func(t *testing.T) {
		s := job(agentapi.JobStep{Name: "Install nothing", Command: "echo begin; apt-get install -y no-such-package"})
		if s.State != agentapi.JobFailed || s.Problem != "Install nothing: it ended with code 100" || !strings.HasPrefix(s.Output, "begin\n") || !strings.HasSuffix(s.Output, "E: Unable to locate package no-such-package\n") {
			t.Errorf("%+v", s)
		}
	})
	t.Run("daemon", func(t *testing.T) {
		daemon := "setsid sh -c 'setsid env -i sh -c \"trap : TERM; while :; do sleep 4712; done\" & exit 0' & sudo sh -c 'setsid sleep 4713 & exit 0'; setsid setpriv --reuid=1000 --clear-groups env -i sleep 4714 & "
		for name, c := range map[string]struct {
			command, problem string
			seconds          int
		}{
			"time":    {daemon + "sleep 4715", "it took longer than 3s and was ended", 3},
			"failure": {daemon + "sleep .5; exit 7", "it ended with code 7", 0},
		} {
			s := job(agentapi.JobStep{Name: name, Command: c.command, Seconds: c.seconds})
			if s.State != agentapi.JobFailed || s.Problem != name+": "+c.problem {
				t.Errorf("%+v", s)
			}
			if out, err := i.try("exec", i.name, "pgrep", "-af", "sleep 471[2-5]"); err == nil {
				t.Errorf("%s: still running: %s", name, out)
			}
		}
	})
	t.Run("launch", func(t *testing.T) {
		if s := job(agentapi.JobStep{Name: "Catalogue", Command: `cat >/opt/hello <<'X'
#!/bin/sh
echo "cannot open shared object" >&2
exit 127
X
cat >/opt/forks <<'X'
#!/bin/sh
setsid mousepad "$@" &
X
printf '#!/bin/sh\nexec sleep 4716\n' | tee /opt/nothing >/opt/gone
printf '#!/bin/sh\nsudo -u ImageBuilderAdmin sh -c "setsid xterm >/dev/null 2>&1 &"\n' >/opt/asks
printf text >/opt/text
chmod 755 /opt/asks /opt/text /opt/hello /opt/forks /opt/nothing /opt/gone
for app in files=/usr/bin/pcmanfm editor=/usr/bin/mousepad terminal=/usr/bin/xterm hello=/opt/hello forks=/opt/forks nothing=/opt/nothing gone=/opt/gone asks=/opt/asks text=/opt/text; do
	sudo AppStreamImageAssistant add-application --name "${app%%=*}" --absolute-app-path "${app#*=}"
done
rm /opt/gone`}); s.State != agentapi.JobSucceeded {
			t.Fatalf("%+v", s)
		}
		i.user("", "sh", "-c", "DISPLAY=:0 XAUTHORITY=/run/oriel-agent/display/xauthority XDG_RUNTIME_DIR=/run/user/1000 setsid pcmanfm >/dev/null 2>&1 &")
		eventually(t, func() bool { return strings.Contains(processes(), "pcmanfm") })
		before, there := "", ""
		eventually(t, func() bool { // the file manager is ready when it starts and writes no more
			earlier, earlierFiles := before, there
			time.Sleep(500 * time.Millisecond)
			before, there = processes(), files()
			return before == earlier && there == earlierFiles
		})
		for name, want := range map[string]string{
			"files": "", "editor": "", "terminal": "", "forks": "", "asks": "",
			"hello":   "Try: it ended with code 127: cannot open shared object",
			"nothing": "Try: it drew no window within ",
			"text":    "Try: it could not be started: /opt/text: exec format error",
			"gone":    "Try: the file /opt/gone does not exist",
		} {
			seconds := 120
			var other sync.WaitGroup
			if name == "nothing" {
				seconds = 4 // in which somebody opens a window
				other.Go(func() {
					time.Sleep(time.Second)
					i.try("exec", "-u", "1000", "-e", "DISPLAY=:0", "-e", "XAUTHORITY=/run/oriel-agent/display/xauthority", i.name, "xterm", "-e", "sleep 1")
				})
			}
			began := time.Now()
			s := job(agentapi.JobStep{Name: "Try", Launch: name, Seconds: seconds})
			t.Logf("%s: %v", name, time.Since(began))
			other.Wait()
			for ; name == "nothing" && strings.HasPrefix(s.Problem, "Try: it took longer") && seconds < 60; seconds *= 2 { // it was held up before it began
				s = job(agentapi.JobStep{Name: "Try", Launch: name, Seconds: 2 * seconds})
			}
			if name == "nothing" && strings.HasPrefix(s.Problem, want) { // of its time, what making a place for it took is gone
				want = s.Problem
			}
			if s.Problem != want || (s.State == agentapi.JobSucceeded) != (want == "") {
				t.Errorf("%s: %+v", name, s)
			}
			same(name+": processes", before, processes)
			same(name+": files", there, files)
		}
		// The display ends meanwhile.
		begin("crash", agentapi.JobStep{Name: "Try", Launch: "nothing"})
		eventually(t, func() bool { return strings.Count(processes(), "sleep") == 2 })
		i.do("exec", i.name, "pkill", "-KILL", "Xvnc")
		if s := end("crash"); s.State != agentapi.JobFailed || !strings.HasPrefix(s.Problem, "Try: the display ended meanwhile") {
			t.Errorf("%+v", s)
		}
		i.ready()
		if s := job(agentapi.JobStep{Name: "Try", Launch: "editor"}); s.State != agentapi.JobSucceeded {
			t.Errorf("%+v", s)
		}
	})
}
