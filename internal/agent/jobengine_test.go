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
	job := func(steps ...agentapi.JobStep) agentapi.JobStatus {
		t.Helper()
		id := "job-" + strings.ReplaceAll(time.Now().Format("150405.000000000"), ".", "-")
		if err := i.client.BeginJob(ctx, id, agentapi.Job{Steps: steps}); err != nil {
			t.Fatal(err)
		}
		for {
			s, err := i.client.Job(ctx, id, 20*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			if s.State != agentapi.JobRunning {
				return s
			}
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
		for name, c := range map[string]struct{ command, problem string }{
			"time":    {daemon + "sleep 4715", "it took longer than 3s and was ended"},
			"failure": {daemon + "sleep .5; exit 7", "it ended with code 7"},
		} {
			s := job(agentapi.JobStep{Name: name, Command: c.command, Seconds: 3})
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
			"nothing": "Try: it drew no window within 4s",
			"text":    "Try: it could not be started: /opt/text: exec format error",
			"gone":    "Try: the file /opt/gone does not exist",
		} {
			seconds := 20
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
			if s.Problem != want || (s.State == agentapi.JobSucceeded) != (want == "") {
				t.Errorf("%s: %+v", name, s)
			}
			if after := processes(); after != before {
				t.Errorf("%s: processes before\n%s\nand after\n%s", name, before, after)
			}
			if after := files(); after != there {
				t.Errorf("%s: files before\n%s\nand after\n%s", name, there, after)
			}
		}
		// The display ends meanwhile.
		if err := i.client.BeginJob(ctx, "crash", agentapi.Job{Steps: []agentapi.JobStep{{Name: "Try", Launch: "nothing"}}}); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() bool { return strings.Count(processes(), "sleep") == 2 })
		i.do("exec", i.name, "pkill", "-KILL", "Xvnc")
		if s, err := i.client.Job(ctx, "crash", 20*time.Second); err != nil || s.State != agentapi.JobFailed || !strings.HasPrefix(s.Problem, "Try: the display ended meanwhile") {
			t.Errorf("%+v, %v", s, err)
		}
		i.ready()
		if s := job(agentapi.JobStep{Name: "Try", Launch: "editor"}); s.State != agentapi.JobSucceeded {
			t.Errorf("%+v", s)
		}
	})
}
