package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/json/v2"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/coder/websocket"
	"github.com/moby/moby/client"

	"github.com/oriel-project/oriel/e2e/stage"
)

// office is what is done to an image builder before an image is made of it: three applications, one of them with an icon, and
// session scripts. Findings writes into the session's folder what a program of a session sees.
const office = `set -eu
base64 -d > /tmp/hello.deb <<'END'
%s
END
dpkg -i /tmp/hello.deb && rm /tmp/hello.deb
cat > /usr/local/bin/findings <<'END'
#!/bin/bash
cd "$HOME/MyFiles"
{
	echo "user=$(id -un)"
	echo "groups=$(id -Gn)"
	env | grep -i ^appstream_
	echo "zone=$(date +%%z)"
	echo "people=$(ps -e -o user:64= | sort -u | tr '\n' ' ')"
	echo "homes=$(ls -d /home/*/MyFiles 2>/dev/null | tr '\n' ' ')"
	for display in /tmp/.X11-unix/X*; do
		DISPLAY=:${display##*X} xwallpaper --clear 2>/dev/null && echo "display=:${display##*X}"
	done
	echo "own=$DISPLAY"
} > .findings
mv .findings findings.txt
exec xterm
END
chmod 755 /usr/local/bin/findings
add() { AppStreamImageAssistant add-application "$@"; }
add --name Terminal --display-name "The terminal" --absolute-app-path /usr/bin/xterm
add --name Findings --absolute-app-path /usr/local/bin/findings
add --name Hello --display-name "Hello, world" --absolute-app-path /usr/bin/oriel-hello --absolute-icon-path /usr/share/pixmaps/oriel-hello.png
mkdir -p /opt/appstream/SessionScripts && cd /opt/appstream/SessionScripts
cat > start.sh <<'END'
#!/bin/sh
echo "$AppStream_Session_ID by $(id -un)" >> /var/log/began
END
cat > mine.sh <<'END'
#!/bin/sh
echo "began for $AppStream_UserName as $(id -un) with $1" > "$HOME/MyFiles/began.txt"
END
cat > end.sh <<'END'
#!/bin/sh
echo "$AppStream_Session_ID by $(id -un)" >> /var/log/ended
END
chmod 755 *.sh
cat > config.json <<'END'
{"SessionStart": {"executables": [
	{"context": "system", "filename": "/opt/appstream/SessionScripts/start.sh", "arguments": "", "s3LogEnabled": true},
	{"context": "user", "filename": "/opt/appstream/SessionScripts/mine.sh", "arguments": "an-argument", "s3LogEnabled": true}], "waitingTime": 30},
"SessionTermination": {"Executables": [{"Context": "system", "Filename": "/opt/appstream/SessionScripts/end.sh"}], "waitingTime": 30}}
END
`

// makeOffice makes the image of that name.
func (w *world) makeOffice(t testing.TB) {
	t.Helper()
	w.create(t, "maker", stage.BaseImage)
	w.inside(t, w.machine(t, "maker"), fmt.Sprintf(office, base64.StdEncoding.EncodeToString(debian(t))))
	w.makeImage(t, "maker", "office")
	w.await(t, "maker", types.ImageBuilderStateStopped)
	w.remove(t, "maker")
}

// seat is a person's session in a browser.
type seat struct {
	*stage.Page
	w              *world
	fleet, session string
	machine        string // its container
	runs           int
}

// sit opens a user's streaming URL in a browser of his own and waits for the picture. place tells his browsers apart.
func (w *world) sit(t testing.TB, fleet, place, url string, options ...map[string]any) *seat {
	t.Helper()
	s := &seat{Page: needBrowser(t).Page(t.Name() + " " + place), w: w, fleet: fleet}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if t.Failed() {
			s.screenshot(ctx, t, "failed-"+place)
		}
		s.leave(t)
	})
	// All tests share one browser, and so the computer's clipboard: without the permission, its pages do not meet there.
	all := map[string]any{"permissions": []string{}}
	for _, o := range options {
		maps.Copy(all, o)
	}
	check(t, s.Context(limit(t), all))
	s.open(t, url)
	return s
}

// open goes to a streaming URL and waits for the picture.
func (s *seat) open(t testing.TB, url string) {
	t.Helper()
	if status := must(s.Open(limit(t), url))(t); status != 200 {
		t.Fatalf("the streaming URL leads to %d: %s", status, must(s.Text(limit(t), "body"))(t))
	}
	check(t, s.State(limit(t), "connected"))
	_, s.session, _ = strings.Cut(must(s.Address(limit(t)))(t), "/stream/")
	described := s.w.awaitSession(t, s.fleet, s.session, types.SessionStateActive)
	s.machine = must(s.w.engine.Instance(limit(t), s.w.Server, *described.InstanceId))(t).ID
}

// leave closes the browser's page.
func (s *seat) leave(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if problems, err := s.Close(ctx); err != nil || len(problems) > 0 {
		t.Errorf("in the page: %s, %v", strings.Join(problems, "\n"), err)
	}
}

// screenshot is that of a desk.
func (s *seat) screenshot(ctx context.Context, t testing.TB, name string) {
	t.Helper()
	(&desk{Page: s.Page}).screenshot(ctx, t, name)
}

// terminal opens the application Terminal and waits for its shell.
func (s *seat) terminal(t testing.TB) {
	t.Helper()
	check(t, s.Launch(limit(t), "Terminal"))
	s.w.awaitTerminal(t, s.machine)
	// Its looks and keys are those of the desktop's own.
	s.run(t, `test "$TERM" = xterm-256color`)
}

// run types a command, which has to succeed, into the terminal and waits for its end.
func (s *seat) run(t testing.TB, command string) {
	t.Helper()
	s.runs++
	file := fmt.Sprintf("MyFiles/.e2e-%s-%d", s.Name[strings.LastIndex(s.Name, " ")+1:], s.runs)
	check(t, s.Type(limit(t), fmt.Sprintf("%s; echo $? > ~/%s.new; mv ~/%[2]s.new ~/%[2]s\n", command, file)))
	until(t, "the end of "+command, func() error {
		out, missing, err := s.w.engine.Exec(limit(t), s.machine, "root", "cat /home/*/"+file)
		if err != nil || missing != 0 {
			return fmt.Errorf("it goes on: %v", err)
		}
		if strings.TrimSpace(out) != "0" {
			return stage.Final(fmt.Errorf("exit code %s", out))
		}
		return nil
	})
}

// file reads a file in the session's folder, behind everyone's back.
func (s *seat) file(t testing.TB, name string) string {
	t.Helper()
	return s.w.inside(t, s.machine, "cat /home/*/MyFiles/"+name)
}

// says waits until an element has a text.
func (s *seat) says(t testing.TB, selector, want string) {
	t.Helper()
	until(t, fmt.Sprintf("%q in %s", want, selector), func() error {
		if got := must(s.Text(limit(t), selector))(t); !strings.Contains(got, want) {
			return fmt.Errorf("it says %q", strings.Join(strings.Fields(got), " "))
		}
		return nil
	})
}

// end ends the session with the viewer's buttons.
func (s *seat) end(t testing.TB) {
	t.Helper()
	s.endAndRead(t, "Your session has ended")
}

// endAndRead ends the session in a browser in whose language the viewer says so with that title.
func (s *seat) endAndRead(t testing.TB, title string) {
	t.Helper()
	check(t, s.Click(limit(t), "[data-panel=leaving]"))
	check(t, s.Click(limit(t), "#end"))
	check(t, s.Click(limit(t), "#ending-submit"))
	check(t, s.State(limit(t), "ended"))
	s.says(t, "#veil-title", title)
}

// connection waits until a session's connection has a state.
func (w *world) connection(t testing.TB, fleet, id string, want types.SessionConnectionState) {
	t.Helper()
	until(t, "the session is "+string(want), func() error {
		if s := w.session(t, fleet, id); s == nil || s.ConnectionState != want {
			return fmt.Errorf("it is %+v", s)
		}
		return nil
	})
}

// TestSessions is the second half of what Oriel is for: an image published as fleets, and people's sessions on them.
func TestSessions(t *testing.T) {
	needBrowser(t)
	t.Parallel()
	w := withMachines(t, "")
	w.makeOffice(t)
	t.Run("fleets", func(t *testing.T) {
		t.Run("published", func(t *testing.T) { t.Parallel(); w.testPublished(t) })
		t.Run("settings", func(t *testing.T) { t.Parallel(); w.testSettings(t) })
		t.Run("desktop", func(t *testing.T) { t.Parallel(); w.testDesktop(t) })
		t.Run("shared", func(t *testing.T) { t.Parallel(); w.testShared(t) })
		t.Run("portal", func(t *testing.T) { t.Parallel(); w.testPortal(t) })
	})
	if t.Failed() {
		return
	}
	w.removeImage(t, "office")
	w.checkEmpty(t)
}

// planted is what a person leaves lying, and nobody finds afterwards: other tests on the same engine have others. It is typed in two parts, so that
// only what was meant has it.
var (
	plantedHalf = "a-planted-" + strings.ToLower(rand.Text()[:8]) + "-"
	planted     = plantedHalf + "secret"
)

// testPublished is the whole of it with AWS's command line and Chromium.
func (w *world) testPublished(t *testing.T) {
	needAWS(t)
	start := time.Now()
	step := func(name string) { t.Logf("%6.1f s  %s", time.Since(start).Seconds(), name) }
	w.command(t, nil, "create-fleet", "--name", "pool", "--image-name", "office", "--instance-type", "stream.standard.medium", "--fleet-type", "ALWAYS_ON",
		"--compute-capacity", "DesiredInstances=2", "--enable-default-internet-access", "--disconnect-timeout-in-seconds", "300")
	w.command(t, nil, "create-stack", "--name", "pool", "--display-name", "The office")
	w.command(t, nil, "associate-fleet", "--fleet-name", "pool", "--stack-name", "pool")
	w.command(t, nil, "start-fleet", "--name", "pool")
	w.awaitFree(t, "pool", 2)
	step("RUNNING")
	link := func(user string) string {
		t.Helper()
		var url struct{ StreamingURL string }
		w.command(t, &url, "create-streaming-url", "--fleet-name", "pool", "--stack-name", "pool", "--user-id", user)
		return url.StreamingURL
	}

	ann := w.sit(t, "pool", "ann", link("ann@example.com"))
	check(t, ann.Shown(limit(t), "#home", true))
	for name, title := range map[string]string{"Terminal": "The terminal", "Findings": "findings", "Hello": "Hello, world"} {
		ann.says(t, fmt.Sprintf("#apps [data-name=%q]", name), title)
	}
	var icon string
	check(t, ann.Do(limit(t), "attribute", map[string]any{"selector": "#apps [data-name=Hello] img", "name": "src"}, &icon))
	checkIcon(t, w.URL+icon)
	ann.screenshot(limit(t), t, "catalogue")
	before := must(ann.Picture(limit(t)))(t)
	ann.terminal(t)
	until(t, "the application is to be seen", func() error {
		after := must(ann.Picture(limit(t)))(t)
		if after.Width != 1280 || after.Height != 720 || after.Hash == before.Hash || after.Bright < 50 {
			return fmt.Errorf("that is no terminal: %+v", after)
		}
		return nil
	})
	ann.screenshot(limit(t), t, "terminal")

	step("an application is to be seen")
	bob := w.sit(t, "pool", "bob", link("bob"))
	bob.terminal(t)
	ann.run(t, "KEPT=of-ann; echo of-ann > MyFiles/whose")
	bob.run(t, "KEPT=of-bob; echo of-bob > MyFiles/whose")
	if ann.machine == bob.machine || ann.session == bob.session {
		t.Errorf("both have the session %s on %s", ann.session, ann.machine)
	}
	if got := ann.file(t, "whose") + " " + bob.file(t, "whose"); got != "of-ann of-bob" {
		t.Errorf("their files are %s", got)
	}
	w.connection(t, "pool", ann.session, types.SessionConnectionStateConnected)
	w.connection(t, "pool", bob.session, types.SessionConnectionStateConnected)
	var described struct {
		Sessions []struct{ Id, UserId, ConnectionState, State string }
	}
	w.command(t, &described, "describe-sessions", "--fleet-name", "pool", "--stack-name", "pool")
	if s := described.Sessions; len(s) != 2 || s[0].UserId == s[1].UserId || s[0].ConnectionState != "CONNECTED" || s[1].State != "ACTIVE" {
		t.Errorf("describe-sessions: %+v", s)
	}

	step("two people work")

	// Ann goes on at another computer.
	second := w.sit(t, "pool", "ann2", link("ann@example.com"))
	if second.session != ann.session || second.machine != ann.machine {
		t.Errorf("at another computer the session is %s", second.session)
	}
	check(t, ann.State(limit(t), "ended"))
	ann.says(t, "#veil-title", "Open in another window")
	check(t, second.Shown(limit(t), "#home", false))
	second.run(t, `echo $KEPT > MyFiles/kept`)
	if got := second.file(t, "kept"); got != "of-ann" {
		t.Errorf("at another computer the shell knows %q", got)
	}

	step("one goes on at another computer")

	// She goes away, and finds everything as it was.
	second.leave(t)
	ann.leave(t)
	w.connection(t, "pool", ann.session, types.SessionConnectionStateNotConnected)
	back := w.sit(t, "pool", "ann3", link("ann@example.com"))
	if back.session != ann.session {
		t.Errorf("afterwards the session is %s", back.session)
	}
	w.connection(t, "pool", ann.session, types.SessionConnectionStateConnected)
	back.run(t, `rm MyFiles/kept; echo $KEPT > MyFiles/kept`)
	if got := back.file(t, "kept"); got != "of-ann" {
		t.Errorf("after a while the shell knows %q", got)
	}

	step("and later")

	began := time.Now()
	back.run(t, `P=`+plantedHalf+`; P=${P}secret; for f in ~/note ~/MyFiles/note ~/.cache/note /tmp/$P /dev/shm/$P /var/tmp/note; do mkdir -p $(dirname $f); echo $P > $f; done`)
	back.run(t, `perl -e '$id = shmget(4711, 4096, 0666 | 01000) // die; shmwrite($id, $ARGV[0], 0, length $ARGV[0]) || die' $P`)
	back.run(t, `(exec -a $P sleep 10000 &)`)
	check(t, back.Click(limit(t), "[data-panel=clipboard]"))
	check(t, back.Fill(limit(t), "#clipboard-text", planted))
	if got := w.inside(t, back.machine, `grep -la `+plantedHalf+`secret /proc/[0-9]*/cmdline | wc -l; ls /dev/shm; wc -l < /proc/sysvipc/shm`); !strings.Contains(got, planted) {
		t.Errorf("nothing is planted: %s", got)
	}
	if found, all := w.searchHost(t, began); all && len(found) == 0 {
		t.Error("the search does not find what is there")
	}
	back.end(t)
	back.screenshot(limit(t), t, "ended")
	w.awaitFree(t, "pool", 1)
	until(t, "the machine is gone", func() error {
		_, err := w.engine.ContainerInspect(limit(t), back.machine, client.ContainerInspectOptions{})
		if err == nil {
			return fmt.Errorf("%s is there", back.machine)
		}
		return nil
	})
	w.over(t, "pool", ann.session)
	if found, _ := w.searchHost(t, began); len(found) > 0 {
		t.Errorf("left on the host: %s", strings.Join(found, "\n"))
	}

	step("the session has ended, and nothing is left")
	carl := w.sit(t, "pool", "carl", link("carl"))
	if carl.machine == ann.machine || carl.machine == bob.machine {
		t.Error("the next person is on a used machine")
	}
	carl.terminal(t)
	left := w.inside(t, carl.machine, `
		find /home /tmp /dev/shm /var/tmp /run -name '*`+planted+`*' 2>/dev/null
		grep -rlaI `+planted+` /home /tmp /dev/shm /var/tmp 2>/dev/null
		cat /proc/[0-9]*/cmdline | tr '\0' '\n' | grep -a '^`+planted+`$'
		tail -n +2 /proc/sysvipc/shm; true`)
	if left != "" {
		t.Errorf("the next person finds:\n%s", left)
	}
	check(t, carl.Click(limit(t), "[data-panel=clipboard]"))
	if value := must(carl.Value(limit(t), "#clipboard-text"))(t); value != "" {
		t.Errorf("the next person's clipboard has %q", value)
	}

	step("the next person has found nothing")

	// The fleet is stopped with people on it.
	w.command(t, nil, "stop-fleet", "--name", "pool")
	for _, s := range []*seat{bob, carl} {
		check(t, s.State(limit(t), "ended"))
		s.says(t, "#veil-title", "The service was stopped")
	}
	bob.screenshot(limit(t), t, "stopped")
	must(stage.AwaitFleet(limit(t), w.aws, "pool", types.FleetStateStopped, 0))(t)
	w.command(t, nil, "disassociate-fleet", "--fleet-name", "pool", "--stack-name", "pool")
	w.command(t, nil, "delete-fleet", "--name", "pool")
	w.command(t, nil, "delete-stack", "--name", "pool")
}

// searchHost looks for what was planted where the server and the engine keep their files: in those that were written since. The
// engine's may not be ours to read.
func (w *world) searchHost(t *testing.T, since time.Time) (found []string, all bool) {
	t.Helper()
	dirs, all := []string{w.Data}, true
	info := must(w.engine.Info(limit(t), client.InfoOptions{}))(t).Info
	if _, err := os.ReadDir(info.DockerRootDir); err == nil {
		for _, sub := range []string{"overlay2", "containers", "volumes"} {
			dirs = append(dirs, filepath.Join(info.DockerRootDir, sub))
		}
	} else {
		all = false
		t.Logf("the engine's files in %s cannot be searched: %v", info.DockerRootDir, err)
	}
	for _, dir := range dirs {
		_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil { // other machines come and go meanwhile
				return nil
			}
			if e.IsDir() && e.Name() == "merged" && strings.Contains(path, "/overlay2/") {
				return fs.SkipDir
			}
			if strings.Contains(e.Name(), planted) {
				found = append(found, path)
			}
			i, err := e.Info()
			if err != nil || !e.Type().IsRegular() || i.ModTime().Before(since.Add(-time.Second)) || i.Size() > 64<<20 {
				return nil
			}
			if text, err := os.ReadFile(path); err == nil && bytes.Contains(text, []byte(planted)) {
				found = append(found, path)
			}
			return nil
		})
	}
	return found, all
}

// allow gives a stack's permissions.
func allow(permissions map[types.Action]types.Permission, most int32) (list []types.UserSetting) {
	for action, p := range permissions {
		s := types.UserSetting{Action: action, Permission: p}
		if p == types.PermissionEnabled && most > 0 && strings.HasPrefix(string(action), "CLIPBOARD") {
			s.MaximumLength = &most
		}
		list = append(list, s)
	}
	return list
}

const letter = "%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj 2 0 obj<</Type/Pages/Count 0/Kids[]>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"

// testSettings has a stack that forbids everything and one that allows ten characters at a time.
func (w *world) testSettings(t *testing.T) {
	actions := []types.Action{types.ActionClipboardCopyFromLocalDevice, types.ActionClipboardCopyToLocalDevice, types.ActionFileUpload, types.ActionFileDownload, types.ActionPrintingToLocalDevice}
	all := func(p types.Permission) map[types.Action]types.Permission {
		m := map[types.Action]types.Permission{}
		for _, a := range actions {
			m[a] = p
		}
		return m
	}
	w.publish(t, "closed", "office", 1, func(_ *appstream.CreateFleetInput, s *appstream.CreateStackInput) {
		s.UserSettings = allow(all(types.PermissionDisabled), 0)
	})
	w.publish(t, "limited", "office", 1, func(_ *appstream.CreateFleetInput, s *appstream.CreateStackInput) {
		s.UserSettings = allow(all(types.PermissionEnabled), 10)
	})

	t.Run("closed", func(t *testing.T) {
		s := w.sit(t, "closed", "ann", w.link(t, "closed", "ann"))
		for _, panel := range []string{"clipboard", "files"} {
			check(t, s.Shown(limit(t), "[data-panel="+panel+"]", false))
		}
		s.terminal(t)
		s.run(t, "echo of-the-session > MyFiles/file")
		s.run(t, "clear; yes leaked | head -n 200")
		check(t, s.Select(limit(t)))
		s.says(t, "#notices", "Text cannot be copied out of the session.")

		// Behind the viewer's back nothing more is possible. A second visitor takes over the stream.
		v := w.come(t, "closed", "ann")
		for _, r := range []struct{ method, path, body string }{
			{"GET", "files/file", ""}, {"PUT", "files/new", "text"}, {"DELETE", "files/file", ""}, {"GET", "folders/", ""}, {"PUT", "folders/new", ""}, {"GET", "prints", ""},
		} {
			if status, text, err := v.Ask(limit(t), r.method, r.path, r.body); err != nil || status != http.StatusForbidden || strings.Contains(text, "of-the-session") {
				t.Errorf("%s %s: %d, %v\n%s", r.method, r.path, status, err, text)
			}
		}
		if got := w.inside(t, s.machine, "ls /home/*/MyFiles/new 2>/dev/null; cat /home/*/MyFiles/file"); got != "of-the-session" {
			t.Errorf("the session's folder: %s", got)
		}
		c := dialRFB(t, v)
		c.cut(t, "smuggled")
		if n := c.notice(t); n.Direction != "in" || n.Reason != "disabled" {
			t.Errorf("the notice is %+v", n)
		}
		check(t, s.State(limit(t), "ended"))
		c.ws.CloseNow()
		again := w.sit(t, "closed", "ann2", w.link(t, "closed", "ann"))
		again.pastes(t, "leaked\n") // what was selected in the session, and not what was smuggled
	})

	t.Run("limited", func(t *testing.T) {
		s := w.sit(t, "limited", "ann", w.link(t, "limited", "ann"))
		s.terminal(t)
		check(t, s.Click(limit(t), "[data-panel=clipboard]"))
		check(t, s.Fill(limit(t), "#clipboard-text", "ten-chars!"))
		check(t, s.Desk(limit(t)))
		s.pastes(t, "ten-chars!")
		check(t, s.Click(limit(t), "[data-panel=clipboard]"))
		check(t, s.Fill(limit(t), "#clipboard-text", "eleven-char"))
		check(t, s.Desk(limit(t)))
		s.says(t, "#notices", "too long to be copied into the session: at most 10 characters.")
		s.pastes(t, "ten-chars!")
		value := func(want string) {
			t.Helper()
			until(t, "the clipboard has "+want, func() error {
				if value := must(s.Value(limit(t), "#clipboard-text"))(t); value != want {
					return fmt.Errorf("it has %q", value)
				}
				return nil
			})
		}
		s.run(t, "clear; yes leaked | head -n 200")
		check(t, s.Select(limit(t)))
		value("leaked\n")
		s.run(t, "clear; yes much-too-long-a-word | tr -d - | head -n 200")
		check(t, s.Select(limit(t)))
		s.says(t, "#notices", "too long to be copied out of the session: at most 10 characters.")
		value("leaked\n")

		// Files, both ways, through the panel.
		content := strings.Repeat("Größe ✓\n", 20_000)
		check(t, s.Upload(limit(t), "note one.txt", content))
		if got := s.file(t, `"note one.txt"`); got != strings.TrimSpace(content) {
			t.Errorf("what arrived has %d bytes, not %d", len(got), len(content))
		}
		check(t, s.Desk(limit(t)))
		s.run(t, `sed 's/^/> /' MyFiles/"note one.txt" > MyFiles/two.txt`)
		name, text := s.download(t, "files", `#files-list [data-name="two.txt"] a.tool`)
		if name != "two.txt" || text != strings.Repeat("> Größe ✓\n", 20_000) {
			t.Errorf("what was downloaded is %q with %d bytes: %.30q", name, len(text), text)
		}
		s.screenshot(limit(t), t, "files")

		// A document is printed, and offered.
		check(t, s.Upload(limit(t), "letter.pdf", letter))
		check(t, s.Desk(limit(t)))
		s.run(t, "lp -t Letter MyFiles/letter.pdf")
		s.says(t, "#notices", "Letter was printed.")
		s.screenshot(limit(t), t, "printed")
		name, text = s.download(t, "", "#notices a.button")
		if name != "Letter.pdf" || text != letter {
			t.Errorf("what was printed is %q: %q", name, text)
		}

		v := w.come(t, "limited", "ann")
		for _, path := range []string{"files/..%2f.profile", "files/%2e%2e/.profile", "files/a/..%2f..%2f..%2fetc%2fpasswd", "files/%2fetc%2fpasswd"} {
			if status, text, err := v.Ask(limit(t), "GET", path, ""); err != nil || status/100 == 2 || strings.Contains(text, "root:") {
				t.Errorf("%s: %d, %v\n%s", path, status, err, text)
			}
		}
		if status, text, err := v.Ask(limit(t), "GET", "files/two.txt", ""); err != nil || status != 200 || !strings.HasPrefix(text, "> Größe") {
			t.Errorf("a file: %d, %v", status, err)
		}
		c := dialRFB(t, v)
		c.cut(t, "eleven-char")
		if n := c.notice(t); n.Direction != "in" || n.Reason != "length" || n.Max != 10 {
			t.Errorf("the notice is %+v", n)
		}
		c.ws.CloseNow()
	})
	w.withdraw(t, "closed", "limited")
}

// pastes has the terminal paste the clipboard, and waits for what comes.
func (s *seat) pastes(t testing.TB, want string) {
	t.Helper()
	s.runs++
	file := fmt.Sprintf("pasted-%d", s.runs)
	// Without lines, what comes is in the file at once.
	check(t, s.Type(limit(t), "stty -icanon; cat > MyFiles/"+file+"\n"))
	has := func(want string) {
		t.Helper()
		until(t, fmt.Sprintf("%q is pasted", want), func() error {
			out, code, err := s.w.engine.Exec(limit(t), s.machine, "root", "cat /home/*/MyFiles/"+file)
			if err == nil && (code != 0 || out != want) {
				err = fmt.Errorf("there is %q", out)
			}
			return err
		})
	}
	has("")
	check(t, s.Press(limit(t), "Shift+Insert"))
	has(want)
	check(t, s.Press(limit(t), "Control+c"))
}

// download clicks on what gives a file.
func (s *seat) download(t testing.TB, panel, selector string) (name, text string) {
	t.Helper()
	name, text, err := s.Download(limit(t), panel, selector)
	check(t, err)
	return name, text
}

// testDesktop has a fleet that starts its machine for a person, and shows him a desktop, his context, time zone and scripts.
func (w *world) testDesktop(t *testing.T) {
	w.publish(t, "desk", "office", 1, func(f *appstream.CreateFleetInput, _ *appstream.CreateStackInput) {
		f.FleetType, f.StreamView = types.FleetTypeOnDemand, types.StreamViewDesktop
	})
	machines := func() (states []string) {
		for _, m := range must(w.engine.Machines(limit(t), w.Server))(t) {
			if strings.HasSuffix(m.Labels["oriel.resource"], "fleet/desk") {
				states = append(states, string(m.State))
			}
		}
		return states
	}
	if got := machines(); !slices.Equal(got, []string{"created"}) {
		t.Errorf("before anybody comes, the machines are %s", got)
	}
	if got := must(stage.Fleet(limit(t), w.aws, "desk"))(t).ComputeCapacityStatus; *got.Running != 0 {
		t.Errorf("%d run", *got.Running)
	}
	began := time.Now()
	s := w.sit(t, "desk", "ann", w.link(t, "desk", "ann@example.com", func(in *appstream.CreateStreamingURLInput) {
		in.SessionContext, in.ApplicationId = new(`{"order": "4711"}`), new("Terminal")
	}), map[string]any{"timezoneId": "Asia/Kathmandu", "locale": "de-DE"})
	t.Logf("connected after %s", time.Since(began).Round(time.Millisecond))
	if got := machines(); !slices.Equal(got, []string{"running"}) {
		t.Errorf("with a person, the machines are %s", got)
	}
	until(t, "a desktop, and on it the application that the link names", func() error {
		pic := must(s.Picture(limit(t)))(t)
		if pic.Width != 1280 || pic.Height != 720 || pic.Colours < 100 {
			return fmt.Errorf("that is no desktop: %+v", pic)
		}
		_, code, err := w.engine.Exec(limit(t), s.machine, "root", `grep -lx xterm /proc/[0-9]*/comm`)
		if err == nil && code != 0 {
			err = fmt.Errorf("no xterm is running")
		}
		return err
	})
	s.screenshot(limit(t), t, "desktop")
	check(t, s.Click(limit(t), "[data-panel=applications]"))
	check(t, s.Click(limit(t), "#apps [data-name=Findings]"))
	found := findings(t, func() (string, error) {
		out, code, err := w.engine.Exec(limit(t), s.machine, "root", "cat /home/*/MyFiles/findings.txt")
		if err == nil && code != 0 {
			err = fmt.Errorf("there are none yet")
		}
		return out, err
	})
	for name, want := range map[string]string{
		"AppStream_Stack_Name": "desk", "AppStream_User_Access_Mode": "custom", "AppStream_UserName": "ann@example.com", "AppStream_Session_ID": s.session,
		"APPSTREAM_SESSION_CONTEXT": `{"order": "4711"}`, "AppStream_Resource_Type": "fleet", "AppStream_Resource_Name": "desk",
		"AppStream_Instance_Type": "stream.standard.medium", "AppStream_Image_Arn": "arn:aws:appstream:us-east-1:123456789012:image/office", "zone": "+0545",
	} {
		if got := found[name]; len(got) != 1 || got[0] != want {
			t.Errorf("%s is %q, not %q", name, got, want)
		}
	}
	if got := found["AppStream_Session_Reservation_DateTime"]; len(got) != 1 || must(time.Parse(time.RFC3339, got[0]))(t).Before(began.Add(-time.Minute)) {
		t.Errorf("the reservation was at %q", got)
	}
	if got := s.file(t, "began.txt"); got != "began for ann@example.com as "+found["user"][0]+" with an-argument" {
		t.Errorf("the user's script wrote %q", got)
	}
	if got := w.inside(t, s.machine, "cat /var/log/began"); got != s.session+" by root" {
		t.Errorf("the system's script wrote %q", got)
	}
	s.endAndRead(t, "Ihre Sitzung ist beendet") // his browser speaks German
	w.awaitFree(t, "desk", 1)
	until(t, "one machine, which has not run", func() error {
		if got := machines(); !slices.Equal(got, []string{"created"}) {
			return fmt.Errorf("the machines are %s", got)
		}
		return nil
	})
	w.withdraw(t, "desk")
}

// findings reads what the application of that name has written: lines of the form name=value.
func findings(t testing.TB, read func() (string, error)) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	until(t, "the findings", func() error {
		text, err := read()
		if err != nil {
			return err
		}
		for line := range strings.Lines(text) {
			name, value, _ := strings.Cut(strings.TrimRight(line, "\r\n"), "=")
			found[name] = append(found[name], strings.TrimSpace(value))
		}
		return nil
	})
	return found
}

// testShared has two people on one instance.
func (w *world) testShared(t *testing.T) {
	w.publish(t, "shared", "office", 3, func(f *appstream.CreateFleetInput, _ *appstream.CreateStackInput) {
		f.MaxSessionsPerInstance, f.ComputeCapacity = new(int32(3)), &types.ComputeCapacity{DesiredSessions: new(int32(3))}
	})
	users := []string{"ann", "bob"}
	visitors, found := map[string]*stage.Visitor{}, map[string]map[string][]string{}
	instances := map[string]bool{}
	var machine string
	for _, user := range users {
		v := w.come(t, "shared", user)
		s := w.awaitSession(t, "shared", v.Session, types.SessionStateActive)
		if visitors[user] = v; s.InstanceDrainStatus != types.InstanceDrainStatusActive {
			t.Errorf("the instance is %s", s.InstanceDrainStatus)
		}
		instances[*s.InstanceId] = true
		machine = must(w.engine.Instance(limit(t), w.Server, *s.InstanceId))(t).ID
	}
	if len(instances) != 1 {
		t.Fatalf("they are on %d instances", len(instances))
	}
	for _, user := range users {
		v := visitors[user]
		if status, text, err := v.Ask(limit(t), "POST", "launch", `{"application": "Findings"}`); err != nil || status != http.StatusNoContent {
			t.Fatalf("launch: %d, %v\n%s", status, err, text)
		}
		found[user] = findings(t, func() (string, error) {
			status, text, err := v.Ask(limit(t), "GET", "files/findings.txt", "")
			if err == nil && status != http.StatusOK {
				err = fmt.Errorf("%d: %s", status, text)
			}
			return text, err
		})
	}
	ann, bob := found["ann"], found["bob"]
	if ann["user"][0] == bob["user"][0] || ann["own"][0] == bob["own"][0] {
		t.Errorf("both are %s, on the display %s", ann["user"], ann["own"])
	}
	for user, f := range found {
		name := f["user"][0]
		if f["AppStream_UserName"][0] != user || f["AppStream_Session_ID"][0] != visitors[user].Session || f["groups"][0] != name {
			t.Errorf("%s is %v", user, f)
		}
		if f["people"][0] != name {
			t.Errorf("%s sees the processes of %s", name, f["people"][0])
		}
		if f["homes"][0] != "/home/"+name+"/MyFiles" {
			t.Errorf("%s sees the homes %s", name, f["homes"][0])
		}
		if !slices.Equal(f["display"], f["own"]) {
			t.Errorf("%s can use the displays %s, and his is %s", name, f["display"], f["own"])
		}
	}

	// One leaves: nothing of him stays, and the other goes on.
	plant := fmt.Sprintf("su -s /bin/sh -c 'echo x > /tmp/of-ann; echo x > /dev/shm/of-ann; setsid sleep 10000 & ' %s", ann["user"][0])
	if out, code, err := w.engine.Exec(limit(t), machine, "root", plant); err != nil || code != 0 {
		t.Logf("nothing is planted: %d, %v %s", code, err, out)
	}
	if status, _, err := visitors["ann"].Ask(limit(t), "POST", "end", ""); err != nil || status != http.StatusNoContent {
		t.Fatalf("end: %d, %v", status, err)
	}
	w.over(t, "shared", visitors["ann"].Session)
	left := w.inside(t, machine, fmt.Sprintf("getent passwd %s; ls -d /home/%[1]s /tmp/of-ann /dev/shm/of-ann 2>/dev/null; ps -e -o user:64= | grep -x %[1]s; true", ann["user"][0]))
	if left != "" {
		t.Errorf("of the one who left there is:\n%s", left)
	}
	if got := w.inside(t, machine, "cat /var/log/ended"); got != visitors["ann"].Session+" by root" {
		t.Errorf("the termination script wrote %q", got)
	}
	if status, _, err := visitors["bob"].Ask(limit(t), "GET", "files/findings.txt", ""); err != nil || status != http.StatusOK {
		t.Errorf("the other's file: %d, %v", status, err)
	}
	w.awaitFree(t, "shared", 2)

	// The instance takes nobody else when it is drained, and goes with its last session.
	must(w.aws.DrainSessionInstance(limit(t), &appstream.DrainSessionInstanceInput{SessionId: &visitors["bob"].Session}))(t)
	w.awaitFree(t, "shared", 3)
	carl := w.come(t, "shared", "carl")
	if s := w.awaitSession(t, "shared", carl.Session, types.SessionStateActive); instances[*s.InstanceId] {
		t.Error("a new session is on the drained instance")
	}
	if s := w.session(t, "shared", visitors["bob"].Session); s.InstanceDrainStatus != types.InstanceDrainStatusDraining {
		t.Errorf("the drained instance is %s", s.InstanceDrainStatus)
	}
	must(w.aws.ExpireSession(limit(t), &appstream.ExpireSessionInput{SessionId: &visitors["bob"].Session}))(t)
	until(t, "the drained machine is gone", func() error {
		if _, err := w.engine.ContainerInspect(limit(t), machine, client.ContainerInspectOptions{}); err == nil {
			return fmt.Errorf("it is there")
		}
		return nil
	})
	w.withdraw(t, "shared")
}

// rawRFB is a client of a stream that says what no viewer would.
type rawRFB struct {
	ws *websocket.Conn
	r  *bytes.Buffer // bytes of RFB that came and were not read
}

type refusal struct {
	Notice, Direction, Reason string
	Max                       int
}

// dialRFB opens the stream of a visitor and greets the display.
func dialRFB(t testing.TB, v *stage.Visitor) *rawRFB {
	t.Helper()
	c := &rawRFB{ws: must(v.Stream(limit(t)))(t), r: &bytes.Buffer{}}
	t.Cleanup(func() { c.ws.CloseNow() })
	c.read(t, 12)
	c.write(t, []byte("RFB 003.008\n"))
	c.read(t, int(c.read(t, 1)[0]))
	c.write(t, []byte{1})
	c.read(t, 4)
	c.write(t, []byte{1})
	c.read(t, int(binary.BigEndian.Uint32(c.read(t, 24)[20:])))
	return c
}

func (c *rawRFB) write(t testing.TB, p []byte) {
	t.Helper()
	check(t, c.ws.Write(limit(t), websocket.MessageBinary, p))
}

func (c *rawRFB) read(t testing.TB, n int) []byte {
	t.Helper()
	for c.r.Len() < n {
		kind, p, err := c.ws.Read(limit(t))
		check(t, err)
		if kind == websocket.MessageBinary {
			c.r.Write(p)
		}
	}
	return must(io.ReadAll(io.LimitReader(c.r, int64(n))))(t)
}

// cut sends ClientCutText.
func (c *rawRFB) cut(t testing.TB, text string) {
	t.Helper()
	c.write(t, append(binary.BigEndian.AppendUint32([]byte{6, 0, 0, 0}, uint32(len(text))), text...))
}

// notice waits for what the gateway says of a text.
func (c *rawRFB) notice(t testing.TB) (r refusal) {
	t.Helper()
	for {
		kind, p, err := c.ws.Read(limit(t))
		check(t, err)
		if kind == websocket.MessageText && json.Unmarshal(p, &r, json.MatchCaseInsensitiveNames(true)) == nil && r.Notice == "clipboard" {
			return r
		}
	}
}
