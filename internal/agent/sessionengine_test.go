package agent

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/oriel-project/oriel/internal/agentapi"
)

// person is a session on an instance.
type person struct {
	*instance
	*agentapi.SessionClient
	id      string
	account string
	uid     string
}

// begin begins a session and waits until it is ready.
func (i *instance) begin(spec agentapi.Session) *person {
	i.tb.Helper()
	if spec.View == "" {
		spec.View = agentapi.ViewDesktop
	}
	p := &person{instance: i, SessionClient: i.client.Session(spec.ID), id: spec.ID}
	err := p.Begin(i.tb.Context(), spec)
	for deadline := time.Now().Add(patience); status(err) == http.StatusServiceUnavailable && time.Now().Before(deadline); {
		err = p.Begin(i.tb.Context(), spec)
	}
	var s agentapi.SessionStatus
	for deadline := time.Now().Add(patience); err == nil && !s.Ready && time.Now().Before(deadline); {
		s, err = p.WaitReady(i.tb.Context(), agentapi.MaxWait)
	}
	if err != nil || !s.Ready {
		i.tb.Fatalf("session %s: %+v, %v", spec.ID, s, err)
	}
	// Its desktop's environment says whose it is.
	i.tb.Helper()
	for line := range strings.Lines(i.do("exec", i.name, "ps", "-e", "-o", "uid:10,user:40,args")) {
		f := strings.Fields(line)
		if len(f) > 2 && strings.HasSuffix(f[2], "Xvnc") {
			env, _ := i.try("exec", "-u", f[0], i.name, "sh", "-c", "cat /proc/[0-9]*/environ | tr '\\0' '\\n' | grep -x AppStream_Session_ID="+spec.ID)
			if env != "" {
				p.uid, p.account = f[0], i.do("exec", i.name, "id", "-un", f[0])
			}
		}
	}
	if p.uid == "" {
		i.tb.Fatalf("no account runs the session %s", spec.ID)
	}
	return p
}

// run runs a shell's command as the person, with the environment of the desktop.
func (p *person) run(command string) (string, bool) {
	p.tb.Helper()
	out, err := p.try("exec", "-u", p.uid+":"+p.uid, p.name, "sh", "-c",
		`umask 077; for f in /proc/[0-9]*/environ; do if grep -qz ^AppStream_Session_ID= $f 2>/dev/null; then eval "$(tr '\0' '\n' <$f | grep -E '^(DISPLAY|XAUTHORITY|HOME|TMPDIR|TZ|XDG_RUNTIME_DIR|LANG|AppStream_[A-Za-z_]*|APPSTREAM_[A-Z_]*)=' | sed "s/'/'\\\\''/g; s/=\(.*\)/='\1'/; s/^/export /")"; break; fi; done; cd "$HOME"; `+command)
	return out, err == nil
}

func (p *person) must(command string) string {
	p.tb.Helper()
	out, ok := p.run(command)
	if !ok {
		p.tb.Fatalf("%s: %s", command, out)
	}
	return out
}

func TestManySessions(t *testing.T) {
	i := newEngine(t).startFor(agentapi.RoleFleet, 3)
	ctx := t.Context()
	if s := i.ready(); s.Problem != "" || s.Role != agentapi.RoleFleet {
		t.Errorf("%+v", s)
	}
	anna := i.begin(agentapi.Session{ID: "anna-1", UserID: "anna", Stack: "it's", AccessMode: "custom", Context: "x y", Reserved: time.Unix(1_700_000_000, 0)})
	bert := i.begin(agentapi.Session{ID: "bert-1", UserID: "bert", Stack: "it's", AccessMode: "saml", View: agentapi.ViewApp})
	if anna.uid == bert.uid || !strings.HasPrefix(anna.account, "as2-streaming-user-") {
		t.Fatalf("%+v, %+v", anna, bert)
	}
	i.ready() // there is room for a third

	t.Run("place", func(t *testing.T) {
		for command, want := range map[string]string{
			`printf '%s|' "$AppStream_Stack_Name" "$AppStream_User_Access_Mode" "$AppStream_UserName" "$AppStream_Session_ID" "$APPSTREAM_SESSION_CONTEXT" "$AppStream_Session_Reservation_DateTime" "$AppStream_Resource_Type"`: "it's|custom|anna|anna-1|x y|2023-11-14T22:13:20Z|fleet|",
			`stat -c '%a %U' "$HOME" MyFiles MyFiles/TemporaryFiles "$XDG_RUNTIME_DIR" "$TMPDIR" | uniq`:                                                                                                                         "700 " + anna.account,
			`cmp .profile /etc/skel/.profile && echo same`: "same",
			`id -G; test -w /etc || echo no`:               anna.uid + "\nno",
		} {
			if got := anna.must(command); got != want {
				t.Errorf("%s: %q, want %q", command, got, want)
			}
		}
		// What the desktop's programs make, nobody else reads.
		if got := anna.must(`awk '/^Umask/{print $2}' /proc/$(pgrep -n openbox)/status`); !strings.HasSuffix(got, "0077") {
			t.Errorf("umask: %s", got)
		}
	})

	t.Run("privacy", func(t *testing.T) {
		secret := anna.must(`echo secret >MyFiles/diary; chmod 644 MyFiles/diary; echo secret >$TMPDIR/t; echo secret >/dev/shm/anna; echo secret >/tmp/anna-plain; sleep 1000 & echo $!`)
		display, cookie := anna.must("echo $DISPLAY"), anna.must("echo $XAUTHORITY")
		for what, command := range map[string]string{
			"another's processes":       "ps -e -o user:40 | grep " + anna.account,
			"root's processes":          "ps -e -o user:40 | grep root",
			"a process's directory":     "ls /proc/" + secret,
			"a process by its number":   "cat /proc/" + secret + "/cmdline",
			"kill":                      "kill -0 " + secret,
			"a home":                    "ls /home/" + anna.account,
			"a file":                    "cat /home/" + anna.account + "/MyFiles/diary",
			"the image's home":          "ls /home/ImageBuilderAdmin",
			"shared memory":             "cat /dev/shm/anna",
			"a plain file in /tmp":      "cat /tmp/anna-plain",
			"the place for files":       "ls /tmp/session-*/t",
			"the runtime directory":     "ls /run/user/" + anna.uid,
			"the bus":                   "DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/" + anna.uid + "/bus dbus-send --print-reply --dest=org.freedesktop.DBus / org.freedesktop.DBus.ListNames",
			"the cookie":                "cat " + cookie,
			"the display":               "DISPLAY=" + display + " xwallpaper --clear",
			"the display, other cookie": "DISPLAY=" + display + " XAUTHORITY=/dev/null xwallpaper --clear",
			"the display's other side":  `perl -e 'use IO::Socket::UNIX; IO::Socket::UNIX->new("` + strings.TrimSuffix(cookie, "xauthority") + `rfb.sock") or exit 1'`,
			"the agent":                 "ls /run/oriel",
			"root":                      "sudo id",
			"reboot":                    "reboot",
			"tracing":                   `perl -e 'exit(syscall(101, 16, ` + secret + `, 0, 0) == -1)'`,
			"script logs":               "ls /var/log/oriel/session-scripts",
			"passwords":                 "cat /etc/shadow",
		} {
			if out, ok := bert.run(command); ok {
				t.Errorf("%s is open to another: %s", what, out)
			}
		}
		// A display that pretends to be another's: a link leads the agent nowhere.
		bert.must("ln -sf " + strings.TrimSuffix(cookie, "xauthority") + "rfb.sock ${XAUTHORITY%xauthority}rfb.sock")
		if d, err := bert.Display(ctx); err == nil {
			d.Close()
			t.Error("a link leads to another's display")
		}
		// The processes of a session do not have what the agent gave up, nor does the agent.
		for _, who := range []string{"1", "$(pgrep -n openbox)"} {
			got := i.do("exec", i.name, "sh", "-c", "cat /proc/"+who+"/task/*/status | grep -E '^Cap(Inh|Prm|Eff|Bnd|Amb)' | sort -u")
			for line := range strings.Lines(got) {
				var mask uint64
				fmt.Sscanf(strings.Fields(line)[1], "%x", &mask)
				if mask&(1<<21|1<<8) != 0 {
					t.Errorf("process %s: %s", who, line)
				}
			}
		}
	})

	t.Run("end", func(t *testing.T) {
		anna.must(`setsid sh -c 'trap "" TERM HUP; while :; do sleep 100; done' >/dev/null 2>&1 &
			mkdir -p /tmp/a/b /var/tmp/c; echo x >/tmp/a/b/x; echo x >/var/tmp/c/x; echo x >/run/lock/x; echo x >/dev/shm/x; ln -s /etc /tmp/a/link
			perl -e 'for (1..20000) { $n = "x" x 100; mkdir $n and chdir $n or die }'
			perl -e 'syscall(29, 4242, 4096, 0x1ff | 01000) >= 0 or die; syscall(64, 4242, 1, 0x1ff | 01000) >= 0 or die; syscall(68, 4242, 0x1ff | 01000) >= 0 or die'`)
		errs := make(chan error, 2)
		for range 2 {
			go func() { errs <- anna.End(context.Background()) }()
		}
		for range 2 {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		if err := anna.End(ctx); err != nil {
			t.Error(err)
		}
		if _, err := anna.WaitReady(ctx, 0); err != agentapi.ErrNoSession {
			t.Error(err)
		}
		if out := i.do("exec", i.name, "sh", "-c", "find / -xdev -uid "+anna.uid+"; find /tmp /run /dev/shm /dev/mqueue -uid "+anna.uid+
			"; ps -e -o uid | grep -w "+anna.uid+"; cat /proc/sysvipc/* | grep -w "+anna.uid+"; getent passwd "+anna.uid+"; getent group "+anna.uid+"; ls -d /tmp/.X*-lock | wc -l"); out != "2" {
			t.Errorf("left: %s", out)
		}
		if err := anna.Begin(ctx, agentapi.Session{ID: "anna-1", View: agentapi.ViewDesktop}); err == nil {
			t.Error("an ended session began again")
		}
		// The other goes on.
		if s, err := bert.WaitReady(ctx, 0); err != nil || !s.Ready {
			t.Errorf("%+v, %v", s, err)
		}
	})

	t.Run("next", func(t *testing.T) {
		carl := i.begin(agentapi.Session{ID: "carl-1", UserID: "carl", Stack: "s", AccessMode: "custom"})
		if carl.uid == anna.uid || carl.account == anna.account {
			t.Errorf("%s again", carl.account)
		}
		if out := carl.must("find . -type f | grep -v -e /.bash -e /.profile -e /.cache -e /.config -e /.dbus; :"); out != "" {
			t.Errorf("a fresh home has %s", out)
		}
		i.begin(agentapi.Session{ID: "dora-1", UserID: "dora", Stack: "s", AccessMode: "custom"})
		if err := i.client.Session("emil-1").Begin(ctx, agentapi.Session{ID: "emil-1", View: agentapi.ViewDesktop}); err == nil || !strings.Contains(err.Error(), "as many sessions") {
			t.Errorf("a fourth person: %v", err)
		}
		list, err := i.client.Sessions(ctx)
		if err != nil || len(list) != 3 || list[0].ID != "bert-1" {
			t.Errorf("%+v, %v", list, err)
		}
	})
}

// TestPeopleWhoCannotBeKeptApart runs an instance whose engine does not let the
// agent hide processes.
func TestPeopleWhoCannotBeKeptApart(t *testing.T) {
	i := newEngine(t).startWith(agentapi.RoleFleet, 2)
	s, err := i.client.WaitReady(t.Context(), time.Second)
	if err != nil || s.Ready || !strings.Contains(s.Problem, "cannot be kept apart") {
		t.Errorf("%+v, %v", s, err)
	}
	if err := i.client.Session("a").Begin(t.Context(), agentapi.Session{ID: "a", View: agentapi.ViewDesktop}); err == nil || !strings.Contains(err.Error(), "cannot be kept apart") {
		t.Error(err)
	}
	if out := i.do("exec", i.name, "ps", "-e", "-o", "comm="); strings.Contains(out, "Xvnc") {
		t.Errorf("running: %s", out)
	}
}

// TestSessionWindows launches applications, switches between them and closes them.
func TestSessionWindows(t *testing.T) {
	i := newEngine(t).startFor(agentapi.RoleFleet, 2)
	ctx := t.Context()
	i.do("exec", i.name, "sh", "-c", `touch '/opt/a b.txt'; cat >/etc/oriel/applications.json <<'E'
[{"Name": "edit", "DisplayName": "Editor", "AbsoluteAppPath": "/usr/bin/mousepad", "LaunchParameters": "--disable-server \"/opt/a b.txt\""},
 {"Name": "term", "DisplayName": "Terminal", "AbsoluteAppPath": "/usr/bin/xterm", "LaunchParameters": "-title 'hello there' -e sh -c 'while :; do stty size >~/size; sleep .1; done'"},
 {"Name": "broken", "DisplayName": "Broken", "AbsoluteAppPath": "/usr/bin/nothing"}]
E`)
	i.ready()
	p := i.begin(agentapi.Session{ID: "anna", UserID: "anna", Stack: "s", AccessMode: "custom", View: agentapi.ViewApp, Application: "term"})
	until := func(what string, cond func(agentapi.Windows) bool) agentapi.Windows {
		t.Helper()
		began := time.Now()
		var list agentapi.Windows
		var err error
		for deadline := time.Now().Add(patience); ; {
			list, err = p.Windows(ctx, list.Version, time.Second)
			if err == nil && cond(list) {
				break
			}
			if err != nil && status(err) != http.StatusServiceUnavailable || time.Now().After(deadline) {
				t.Fatalf("%s: %+v, %v", what, list, err)
			}
		}
		t.Logf("%s: %v", what, time.Since(began))
		return list
	}
	find := func(list agentapi.Windows, application string) (w agentapi.Window) {
		for _, x := range list.Windows {
			if x.Application == application {
				w = x
			}
		}
		return w
	}
	list := until("the terminal", func(l agentapi.Windows) bool { w := find(l, "term"); return w.Active && w.Title == "hello there" })
	if w := find(list, "term"); w.Class != "XTerm" || len(list.Windows) != 1 {
		t.Errorf("%+v", list)
	}
	if err := p.Launch(ctx, "edit"); err != nil {
		t.Fatal(err)
	}
	list = until("the editor", func(l agentapi.Windows) bool { return find(l, "edit").Active })
	if w := find(list, "edit"); !strings.Contains(w.Title, "a b.txt") {
		t.Errorf("%+v", list)
	}
	// A window is as large as the display, not of 24 lines.
	var lines, columns int
	if fmt.Sscan(p.must("cat size"), &lines, &columns); lines < 30 || columns < 120 {
		t.Errorf("the terminal has %d lines of %d columns", lines, columns)
	}
	// To launch what runs brings it to the front; so does activating it.
	if err := p.Launch(ctx, "term"); err != nil {
		t.Fatal(err)
	}
	list = until("the terminal again", func(l agentapi.Windows) bool { return find(l, "term").Active })
	if len(list.Windows) != 2 {
		t.Errorf("%+v", list)
	}
	if err := p.Window(ctx, find(list, "edit").ID, agentapi.WindowActivate); err != nil {
		t.Fatal(err)
	}
	list = until("the editor again", func(l agentapi.Windows) bool { return find(l, "edit").Active })
	if err := p.Window(ctx, 1, agentapi.WindowActivate); err == nil || !strings.Contains(err.Error(), "no such window") {
		t.Errorf("a window that is not there: %v", err)
	}
	for _, application := range []string{"edit", "term"} {
		if err := p.Window(ctx, find(list, application).ID, agentapi.WindowClose); err != nil {
			t.Error(err)
		}
	}
	until("nothing", func(l agentapi.Windows) bool { return len(l.Windows) == 0 })
	// The menu of a desktop has the same applications, and nothing for who builds images.
	menu := p.must("/etc/oriel/menu")
	if !strings.Contains(menu, `label="Editor"`) || !strings.Contains(menu, agentapi.Binary+" launch 'edit'") || strings.Contains(menu, "create-image") {
		t.Errorf("%s", menu)
	}
	p.must("setsid " + agentapi.Binary + " launch 'edit' >/dev/null 2>&1 &")
	list = until("the editor, from the menu", func(l agentapi.Windows) bool { return find(l, "edit").Active })
	if err := p.Window(ctx, find(list, "edit").ID, agentapi.WindowClose); err != nil {
		t.Error(err)
	}
	if err := p.Launch(ctx, "broken"); err == nil || !strings.Contains(err.Error(), "/usr/bin/nothing") {
		t.Errorf("a program that is not there: %v", err)
	}
	// A new zone is that of what starts then.
	if err := p.SetTimeZone(ctx, "Asia/Tokyo"); err != nil {
		t.Fatal(err)
	}
	if out := p.must("date +%Z"); out != "JST" {
		t.Errorf("time zone %s", out)
	}
	began := time.Now()
	if err := p.End(ctx); err != nil {
		t.Error(err)
	}
	t.Logf("the end took %v", time.Since(began))
}

// BenchmarkSession measures a session's begin to its first picture, its seat
// being prepared.
func BenchmarkSession(b *testing.B) {
	i := newEngine(b).startFor(agentapi.RoleFleet, 1)
	for n := 0; b.Loop(); n++ {
		b.StopTimer()
		i.ready()
		c := i.client.Session(fmt.Sprint(n))
		b.StartTimer()
		if err := c.Begin(b.Context(), agentapi.Session{ID: fmt.Sprint(n), View: agentapi.ViewDesktop}); err != nil {
			b.Fatal(err)
		}
		if s, err := c.WaitReady(b.Context(), 20*time.Second); err != nil || !s.Ready {
			b.Fatalf("%+v, %v", s, err)
		}
		b.StopTimer()
		if err := c.End(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
