package menu

import (
	"encoding/xml"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/oriel-project/oriel/internal/agent/catalogue"
)

// TestMain makes the test binary the program that launches from the catalogue
// in the directory that a variable names.
func TestMain(m *testing.M) {
	if dir := os.Getenv("ORIEL_MENU_TEST"); dir != "" {
		if err := launch(catalogue.Open(dir), os.Args[1]); err != nil {
			os.Stderr.WriteString(err.Error())
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

type parsed struct {
	Items []struct {
		Label   string `xml:"label,attr"`
		Command string `xml:"action>command"`
	} `xml:"item"`
	Menus []struct {
		ID      string `xml:"id,attr"`
		Execute string `xml:"execute,attr"`
	} `xml:"menu"`
}

func parse(t interface{ Fatal(...any) }, entries []catalogue.Entry) (p parsed) {
	var text strings.Builder
	if err := errors.Join(Write(&text, entries), xml.Unmarshal([]byte(text.String()), &p)); err != nil {
		t.Fatal(err, text.String())
	}
	return p
}

func TestWrite(t *testing.T) {
	p := parse(t, []catalogue.Entry{{Name: "it's", DisplayName: "A <b> & \"c\"\n"}, {Name: "no-display-name"}, {Name: "x", DisplayName: "My_App"}})
	var got []string
	for _, i := range p.Items {
		got = append(got, i.Label+": "+i.Command)
	}
	for _, m := range p.Menus {
		got = append(got, m.ID+" "+m.Execute)
	}
	want := []string{
		`A <b> & "c" : /opt/oriel/bin/oriel-agent launch 'it'\''s'`,
		"no-display-name: /opt/oriel/bin/oriel-agent launch 'no-display-name'",
		"_My_App: /opt/oriel/bin/oriel-agent launch 'x'",
		"client-list-combined-menu ",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if p := parse(t, nil); len(p.Items) != 0 || len(p.Menus) != 2 || p.Menus[0].Execute != "/etc/oriel/applications" {
		t.Errorf("%+v", p)
	}
}

// Whatever names are, the menu is XML, and a shell's reading of the command has the name.
func TestAnyNames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching(`[^\x00-\x20\x7f-\x9f\x{fffe}\x{ffff}]{1,20}`).Draw(t, "name")
		p := parse(t, []catalogue.Entry{{Name: name, DisplayName: rapid.String().Draw(t, "display name")}})
		if len(p.Items) != 1 {
			t.Fatal(p)
		}
		out, err := exec.Command("/bin/sh", "-c", "printf %s "+strings.TrimPrefix(p.Items[0].Command, "/opt/oriel/bin/oriel-agent launch ")).Output()
		if err != nil || string(out) != strings.ToValidUTF8(name, "\uFFFD") {
			t.Fatalf("%q became %q, %v", name, out, err)
		}
	})
}

func TestLaunch(t *testing.T) {
	dir, home := t.TempDir(), t.TempDir()
	for _, e := range []catalogue.Entry{
		{Name: "shell", AbsoluteAppPath: "/bin/sh", LaunchParameters: `-c 'echo "$0" $PWD; exit 3' "a b"`, WorkingDirectory: "/usr"},
		{Name: "home", AbsoluteAppPath: "/bin/pwd", WorkingDirectory: filepath.Join(dir, "none")},
		{Name: "bad", AbsoluteAppPath: "/bin/pwd", LaunchParameters: "'"},
		{Name: "gone", AbsoluteAppPath: "/none/such"},
	} {
		if err := catalogue.Open(dir).Add(e, nil); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]struct {
		text string
		code int
	}{
		"shell": {"a b /usr\n", 3},
		"home":  {home + "\n", 0},
		"bad":   {"the launch parameters of bad: ", 1},
		"gone":  {"/none/such: no such file or directory", 1},
		"other": {`"other": App not found`, 1},
	} {
		c := exec.Command(self, name)
		c.Env = []string{"ORIEL_MENU_TEST=" + dir, "HOME=" + home}
		out, _ := c.CombinedOutput()
		if !strings.HasPrefix(string(out), want.text) || c.ProcessState.ExitCode() != want.code {
			t.Errorf("%s: %q, %d", name, out, c.ProcessState.ExitCode())
		}
	}
}
