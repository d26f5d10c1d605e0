package agent

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oriel-project/oriel/internal/agentapi"
)

// newFleet is an agent of a fleet's instance for so many people.
func newFleet(t *testing.T, people int, files map[string]string) *world {
	t.Helper()
	config := testConfig
	config.Role, config.MaxSessions = agentapi.RoleFleet, people
	w := newWorld(t, config, files)
	for _, dir := range []string{"opt/appstream/SessionScripts", "usr/share/zoneinfo/Europe", "etc/profile.d", "home/someone"} {
		if err := os.MkdirAll(filepath.Join(w.root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	w.put("usr/share/zoneinfo/Europe/Berlin", "TZif2")
	w.put("usr/share/zoneinfo/zone.tab", "# not one")
	return w
}

// script puts an executable into the instance and returns its path in it.
func (w *world) script(name, text string) string {
	w.t.Helper()
	file := filepath.Join(w.root, "opt/appstream/SessionScripts", name)
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		w.t.Fatal(err)
	}
	return file
}

func spec(id string) agentapi.Session {
	return agentapi.Session{ID: id, UserID: "anna", Stack: "it's", AccessMode: "custom", View: agentapi.ViewDesktop, Context: "a 'b'", Reserved: time.Unix(1_700_000_000, 0)}
}

// begin begins a session and waits for it.
func (w *world) begin(spec agentapi.Session) (*agentapi.SessionClient, agentapi.SessionStatus) {
	w.t.Helper()
	c := w.beginOnly(spec)
	var s agentapi.SessionStatus
	w.await(func() (_ agentapi.Status, err error) {
		s, err = c.WaitReady(w.t.Context(), agentapi.MaxWait)
		return agentapi.Status{Ready: s.Ready, Problem: s.Problem}, err
	})
	return c, s
}

// beginOnly begins a session as the server does, again when there was no seat in time.
func (w *world) beginOnly(spec agentapi.Session) *agentapi.SessionClient {
	w.t.Helper()
	c := w.client.Session(spec.ID)
	err := c.Begin(w.t.Context(), spec)
	for deadline := time.Now().Add(patience); status(err) == http.StatusServiceUnavailable && time.Now().Before(deadline); {
		err = c.Begin(w.t.Context(), spec)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

func status(err error) int {
	if e, ok := err.(*agentapi.CallError); ok {
		return e.Status
	}
	return 0
}

// TestStatusWhileScriptsRun: the display of a session whose desktop has not
// begun is no place for another.
func TestStatusWhileScriptsRun(t *testing.T) {
	w := newFleet(t, 1, nil)
	began := filepath.Join(w.root, "began")
	slow := w.script("slow", "touch "+began+"; "+w.sleep(1000))
	w.put("opt/appstream/SessionScripts/config.json", `{"SessionStart": {"executables": [{"context": "system", "filename": "`+slow+`"}]}}`)
	w.start()
	w.ready()
	c := w.client.Session("one")
	if err := c.Begin(t.Context(), spec("one")); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { _, err := os.Stat(began); return err == nil })
	if s, err := w.client.Status(t.Context()); err != nil || s.Ready {
		t.Errorf("%+v, %v", s, err)
	}
	if err := c.End(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestSession(t *testing.T) {
	w := newFleet(t, 1, nil)
	os.Symlink(filepath.Join(w.paths.zones, "Europe/Berlin"), w.paths.localtime)
	w.start()
	ctx := t.Context()
	if s := w.ready(); s.Role != agentapi.RoleFleet || s.ReadyAt.IsZero() {
		t.Errorf("%+v", s)
	}
	if info, err := os.Stat(filepath.Join(w.paths.homes, "someone")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("a home of the image: %v, %v", info.Mode(), err)
	}
	// It has no display and is no image builder's.
	if _, err := w.client.Display(ctx); status(err) != http.StatusConflict {
		t.Error(err)
	}
	if err := w.client.Quiesce(ctx); status(err) != http.StatusConflict {
		t.Error(err)
	}
	if _, err := w.client.Session("x").WaitReady(ctx, 0); err != agentapi.ErrNoSession {
		t.Error(err)
	}

	c, _ := w.begin(spec("one"))
	if err := c.Begin(ctx, spec("one")); err != nil {
		t.Error("begun again:", err)
	}
	if err := w.client.Session("two").Begin(ctx, spec("two")); status(err) != http.StatusConflict {
		t.Error(err)
	}
	if err := w.client.Session("two").Begin(ctx, spec("one")); status(err) != http.StatusBadRequest {
		t.Error(err)
	}
	if list, err := w.client.Sessions(ctx); err != nil || len(list) != 1 || list[0].ID != "one" || !list[0].Ready {
		t.Errorf("%+v, %v", list, err)
	}
	if s, err := w.client.Status(ctx); err != nil || s.Ready || s.Problem != "" {
		t.Errorf("an instance without room: %+v, %v", s, err)
	}
	env, _ := os.ReadFile(filepath.Join(w.root, "session"))
	home := filepath.Join(w.paths.homes, sessionUser)
	for _, want := range []string{"HOME=" + home, "USER=" + sessionUser, "AppStream_Session_ID=one", "AppStream_Stack_Name=it's", "AppStream_UserName=anna",
		"APPSTREAM_SESSION_CONTEXT=a 'b'", "AppStream_Session_Reservation_DateTime=2023-11-14T22:13:20Z", "AppStream_Resource_Type=fleet"} {
		if !strings.Contains("\n"+string(env), "\n"+want+"\n") {
			t.Errorf("the session has no %s:\n%s", want, env)
		}
	}
	out, err := exec.Command("sh", "-c", ". "+w.paths.userProfile+"; echo $AppStream_Session_ID $APPSTREAM_SESSION_CONTEXT").Output()
	if err != nil || string(out) != "one a 'b'\n" {
		t.Errorf("%q, %v", out, err)
	}
	for _, dir := range []string{home, filepath.Join(home, "MyFiles"), filepath.Join(home, "MyFiles/TemporaryFiles")} {
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v", dir, err)
		}
	}
	if text, _ := os.ReadFile(filepath.Join(w.paths.etc, "passwd")); !strings.Contains(string(text), sessionUser+":x:20000:20000:") || !strings.HasPrefix(string(text), "root:") {
		t.Errorf("passwd: %s", text)
	}

	// The time zone, for programs that have started too.
	for _, zone := range []string{"", "Nowhere", "../../etc/passwd", "/etc/passwd", "Europe", "zone.tab", "Europe/../Europe/Berlin", "Europe/Berlin\n"} {
		if err := c.SetTimeZone(ctx, zone); status(err) != http.StatusBadRequest {
			t.Errorf("zone %q: %v", zone, err)
		}
	}
	w.put("usr/share/zoneinfo/UTC", "TZif2")
	if err := c.SetTimeZone(ctx, "UTC"); err != nil {
		t.Error(err)
	}
	if link, _ := os.Readlink(w.paths.localtime); link != filepath.Join(w.paths.zones, "UTC") {
		t.Error(link)
	}
	if err := c.Launch(ctx, "nothing"); status(err) != http.StatusNotFound || !strings.Contains(err.Error(), `"nothing"`) {
		t.Error(err)
	}
	if err := c.Window(ctx, 1, "maximize"); status(err) != http.StatusBadRequest {
		t.Error(err)
	}

	// Its end ends the stream, and leaves nothing.
	d, err := c.Display(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	diary := filepath.Join(home, "MyFiles/diary") // the next seat's home has the same name
	if err := os.WriteFile(diary, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.End(ctx); err != nil {
		t.Fatal(err)
	}
	d.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.Copy(io.Discard, d); os.IsTimeout(err) {
		t.Error("the stream goes on")
	}
	for _, gone := range []string{diary, w.paths.userProfile, filepath.Join(w.paths.private, "seats/20000"), filepath.Join(w.root, "run/user/20000")} {
		if _, err := os.Lstat(gone); err == nil {
			t.Errorf("%s is still there", gone)
		}
	}
	if link, _ := os.Readlink(w.paths.localtime); link != filepath.Join(w.paths.zones, "Europe/Berlin") {
		t.Error("the time zone stays", link)
	}
	if err := c.Begin(ctx, spec("one")); status(err) != http.StatusConflict {
		t.Error("an ended session began again:", err)
	}
	if err := c.End(ctx); err != nil {
		t.Error(err)
	}
	// The next one is somebody else.
	w.ready()
	w.begin(spec("two"))
	if text, _ := os.ReadFile(filepath.Join(w.paths.etc, "passwd")); strings.Contains(string(text), ":20000:") || !strings.Contains(string(text), ":20001:") {
		t.Errorf("passwd: %s", text)
	}
}

func TestSessionsSideBySide(t *testing.T) {
	w := newFleet(t, 2, nil).start()
	one, _ := w.begin(spec("one"))
	w.ready()
	two, _ := w.begin(spec("two"))
	displays := func() (n []string) {
		text, _ := os.ReadFile(filepath.Join(w.root, "session"))
		for line := range strings.Lines(string(text)) {
			if number, ok := strings.CutPrefix(line, "DISPLAY="); ok {
				n = append(n, number)
			}
		}
		return n
	}
	eventually(t, func() bool { return len(displays()) == 2 })
	if n := displays(); n[0] == n[1] || slices.Contains(n, ":0\n") {
		t.Errorf("displays %q", n)
	}
	if err := one.End(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s, err := two.WaitReady(t.Context(), 0); err != nil || !s.Ready {
		t.Errorf("%+v, %v", s, err)
	}
	w.ready()
	if text, _ := os.ReadFile(filepath.Join(w.paths.etc, "passwd")); strings.Count(string(text), sessionUser) != 4 { // two accounts, each with its home
		t.Errorf("passwd: %s", text)
	}
}

func TestSessionScripts(t *testing.T) {
	w := newFleet(t, 1, nil)
	w.put("etc/profile.d/x", "")
	good := w.script("good", `echo "$1" "$AppStream_Session_ID" "$HOME"; echo wrong >&2; yes | head -c 3000000`)
	bad := w.script("bad", "exit 3")
	end := w.script("end", `echo "end $USER $AppStream_UserName" >"$1"`)
	w.put("opt/appstream/SessionScripts/config.json", `{
		"SessionStart": {"executables": [{"context": "system", "filename": "`+good+`", "arguments": "'a b'", "s3LogEnabled": true}, {"context": "user", "filename": "`+bad+`"}]},
		"SessionTermination": {"Executables": [{"Context": "User", "Filename": "`+end+`", "Arguments": "`+w.root+`/ended"}]}}`)
	w.start()
	c, s := w.begin(spec("one"))
	if len(s.Scripts) != 1 || !strings.Contains(s.Scripts[0], bad+" failed: it exited with status 3") {
		t.Errorf("%q", s.Scripts)
	}
	log := filepath.Join(w.paths.scriptLogs, "one/SessionStart-1.log")
	text, err := os.ReadFile(log)
	if want := "a b one " + w.paths.rootHome + "\nwrong\ny\n"; err != nil || !strings.HasPrefix(string(text), want) || len(text) != maxScriptLog {
		t.Errorf("%d bytes, %.80q, %v, want %q", len(text), text, err, want)
	}
	if info, err := os.Stat(w.paths.scriptLogs); err != nil || info.Mode().Perm() != 0o700 {
		t.Error(err)
	}
	if err := c.End(t.Context()); err != nil {
		t.Fatal(err)
	}
	if text, _ := os.ReadFile(filepath.Join(w.root, "ended")); string(text) != "end "+sessionUser+" anna\n" {
		t.Errorf("%q", text)
	}
	logs, err := c.ScriptLogs(t.Context()) // though the session is over
	if err != nil || len(logs) != 1 || logs[0].Event != "SessionStart" || logs[0].Number != 1 || !bytes.Equal(logs[0].Text, text) {
		t.Errorf("%d logs, %v", len(logs), err)
	}
	if logs, err := w.client.Session("..").ScriptLogs(t.Context()); err == nil {
		t.Errorf("of no session there are %v", logs)
	}
	if logs, err := w.client.Session("two").ScriptLogs(t.Context()); err != nil || len(logs) != 0 {
		t.Errorf("%v, %v", logs, err)
	}
}

func TestScriptThatHangs(t *testing.T) {
	w := newFleet(t, 1, nil)
	slow := w.script("slow", `trap "" TERM; while :; do `+w.sleep(1000)+`; done`)
	w.put("opt/appstream/SessionScripts/config.json", `{"sessionStart": {"executables": [{"context": "user", "filename": "`+slow+`"}, {"context": "user", "filename": "/bin/true"}], "waitingTime": 1},
		"sessionTermination": {"executables": [{"context": "system", "filename": "`+slow+`"}], "waitingTime": 0.5}}`)
	w.start()
	c, s := w.begin(spec("one"))
	if len(s.Scripts) != 1 || !strings.Contains(s.Scripts[0], "was ended") {
		t.Errorf("%q", s.Scripts)
	}
	eventually(t, func() bool { return len(pids(slow)) == 0 })
	began := time.Now()
	if err := c.End(t.Context()); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took < 500*time.Millisecond {
		t.Errorf("the end took %v", took)
	}
	eventually(t, func() bool { return len(pids(slow))+w.sleeping(1000) == 0 })
}

func TestScriptsThatOthersMayChange(t *testing.T) {
	w := newFleet(t, 1, nil)
	script := w.script("x", "touch "+w.root+"/ran")
	w.put("opt/appstream/SessionScripts/config.json", `{"sessionStart": {"executables": [{"context": "system", "filename": "`+script+`"}]}}`)
	os.Chmod(script, 0o777)
	w.start()
	_, s := w.begin(spec("one"))
	if _, err := os.Stat(filepath.Join(w.root, "ran")); err == nil || len(s.Scripts) != 1 || !strings.Contains(s.Scripts[0], "chmod go-w "+script) {
		t.Errorf("%q", s.Scripts)
	}
}

// TestEndDuringStart ends a session while its start script runs, in two calls
// at the same time.
func TestEndDuringStart(t *testing.T) {
	w := newFleet(t, 1, nil)
	slow := w.script("slow", "touch "+w.root+"/begun; "+w.sleep(1000))
	end := w.script("end", "touch "+w.root+"/ended")
	w.put("opt/appstream/SessionScripts/config.json", `{"sessionStart": {"executables": [{"context": "system", "filename": "`+slow+`"}]},
		"sessionTermination": {"executables": [{"context": "system", "filename": "`+end+`"}]}}`)
	w.start()
	c := w.client.Session("one")
	if err := c.Begin(t.Context(), spec("one")); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { _, err := os.Stat(filepath.Join(w.root, "begun")); return err == nil })
	if s, err := c.WaitReady(t.Context(), 0); err != nil || s.Ready {
		t.Errorf("%+v, %v", s, err)
	}
	errs := make(chan error)
	for range 2 {
		go func() { errs <- c.End(context.Background()) }()
	}
	for range 2 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	eventually(t, func() bool { return w.sleeping(1000) == 0 })
	if _, err := os.Stat(filepath.Join(w.root, "ended")); err == nil {
		t.Error("a session that has not begun ended with scripts")
	}
	w.ready()
	w.put("opt/appstream/SessionScripts/config.json", "{}")
	w.begin(spec("two"))
}

// TestEndBeforeBegin has the request to begin a session come after the one to
// end it.
func TestEndBeforeBegin(t *testing.T) {
	w := newFleet(t, 2, nil).start()
	c := w.client.Session("one")
	if err := c.End(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Begin(t.Context(), spec("one")); err == nil || !strings.Contains(err.Error(), "has ended") {
		t.Errorf("a session began after its end: %v", err)
	}
	w.ready()
	w.begin(spec("two"))
}

// TestEndAtAnyMoment ends sessions that have just begun.
func TestEndAtAnyMoment(t *testing.T) {
	w := newFleet(t, 2, nil).start()
	for n := range 12 {
		c := w.beginOnly(spec(string(rune('a' + n))))
		time.Sleep(time.Duration(n) * 5 * time.Millisecond) // into the start, not for it
		if err := c.End(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	w.ready()
	if p := pids(filepath.Join(w.paths.private, "seats")); len(p) != 1 {
		t.Errorf("%d displays run", len(p))
	}
	if homes, _ := os.ReadDir(w.paths.homes); len(homes) != 2 { // the next seat's, and someone's
		t.Errorf("homes %v", homes)
	}
}

// TestLeftOver starts an agent where an earlier one was killed.
func TestLeftOver(t *testing.T) {
	w := newFleet(t, 1, map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/bash\nas2-streaming-user:x:20006:20006::/home/as2-streaming-user:/bin/bash\nas2-streaming-users:x:3000:3000::/:/bin/sh\n",
	})
	os.MkdirAll(filepath.Join(w.paths.homes, sessionUser, "MyFiles"), 0o700)
	w.put("home/"+sessionUser+"/MyFiles/diary", "secret")
	os.MkdirAll(filepath.Dir(w.paths.counter), 0o755)
	w.put("var/lib/oriel-agent/last-uid", "20006\n")
	w.start()
	w.begin(spec("one"))
	if _, err := os.Stat(filepath.Join(w.paths.homes, sessionUser, "MyFiles/diary")); err == nil {
		t.Error("somebody else's file is there")
	}
	text, _ := os.ReadFile(filepath.Join(w.paths.etc, "passwd"))
	if strings.Contains(string(text), "20006") || !strings.Contains(string(text), ":20007:") || !strings.Contains(string(text), "as2-streaming-users:x:3000") {
		t.Errorf("passwd: %s", text)
	}
}

func TestSeatThatCannotBeMade(t *testing.T) {
	w := newFleet(t, 1, nil)
	os.MkdirAll(filepath.Dir(w.paths.counter), 0o755)
	w.put("var/lib/oriel-agent/last-uid", "59999\n")
	w.start()
	eventually(t, func() bool {
		s, err := w.client.Status(t.Context())
		return err == nil && strings.Contains(s.Problem, "no more accounts")
	})
	if err := w.client.Session("one").Begin(t.Context(), spec("one")); status(err) != http.StatusServiceUnavailable {
		t.Error(err)
	}
	os.Remove(w.paths.counter)
	if s := w.ready(); s.Problem != "" {
		t.Errorf("%+v", s)
	}
}
