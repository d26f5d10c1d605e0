package assistant

import (
	"bytes"
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/oriel-project/oriel/internal/agent/catalogue"
	"github.com/oriel-project/oriel/internal/agentapi"
)

// machine is an assistant on a machine under a temporary directory.
type machine struct {
	Tool
	dir    string
	out    bytes.Buffer
	asked  []agentapi.CreateImage
	packs  int // how often a package was asked for
	answer agentapi.Answer
	err    error
}

func newMachine(t *testing.T) *machine {
	m := &machine{dir: t.TempDir()}
	m.Tool = Tool{
		Out: &m.out, Administrator: true, Root: m.dir, Catalogue: catalogue.Open(filepath.Join(m.dir, "etc/oriel")),
		CreateImage: func(_ context.Context, in agentapi.CreateImage) (agentapi.Answer, error) {
			m.asked = append(m.asked, in)
			return m.answer, m.err
		},
		CreatePackage: func(context.Context) (agentapi.Answer, error) {
			m.packs++
			return m.answer, m.err
		},
	}
	m.file(t, "bin/program", "#!/bin/sh\n", 0o755)
	return m
}

func (m *machine) file(t *testing.T, name, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(m.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// run runs the assistant; a leading / in an argument stands for the machine's root.
func (m *machine) run(args ...string) (code int, out string) {
	for i, a := range args {
		if strings.HasPrefix(a, "/") {
			args[i] = m.dir + a
		}
	}
	m.out.Reset()
	code = m.Run(context.Background(), args)
	return code, strings.TrimSuffix(m.out.String(), "\n")
}

func picture(t *testing.T, size int) string {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, size, size))); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

const success = `{"status":0,"message":"Success"}`

func refused(message string) string { return fmt.Sprintf(`{"status":1,"message":%q}`, message) }

func TestAddApplication(t *testing.T) {
	m := newMachine(t)
	m.file(t, "bin/data", "", 0o644)
	m.file(t, "bin/setup.exe", "", 0o755)
	m.file(t, "icon.png", picture(t, 256), 0o644)
	m.file(t, "large.png", picture(t, 257), 0o644)
	m.file(t, "text.png", "no picture", 0o644)
	m.file(t, "icon.gif", picture(t, 8), 0o644)
	m.file(t, "manifest", m.dir+"/bin/program\n\n"+m.dir+"/icon.png\r\n", 0o644)
	m.file(t, "stale", m.dir+"/gone\n", 0o644)
	m.file(t, "relative", "bin/program\n", 0o644)
	add := func(name string, more ...string) []string {
		return append([]string{"add-application", "--name", name, "--absolute-app-path", "/bin/program"}, more...)
	}
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"all", add("all", "--display-name=The Name", "--absolute-icon-path", "/icon.png", "--working-directory", "/bin", "--launch-parameters", `--title ""two words"" \"x\"`, "--absolute-manifest-path", "/manifest"), success},
		{"least", add("least"), success},
		{"twice", add("least"), refused("Name is not unique")},
		{"longest name", add(strings.Repeat("é", 256)), success},
		{"name too long", add(strings.Repeat("n", 257)), refused("Invalid value (name)")},
		{"space in name", add("a b"), refused("Invalid value (name)")},
		{"other space in name", add("a\u00a0b"), refused("Invalid value (name)")},
		{"no name", []string{"add-application", "--absolute-app-path", "/bin/program"}, refused("Invalid value (name)")},
		{"not utf-8", add("\xff"), refused("Invalid value (name)")},
		{"no path", []string{"add-application", "--name", "x"}, refused("File not found (absolute-app-path): ")},
		{"missing program", []string{"add-application", "--name", "x", "--absolute-app-path", "/gone\n"}, refused("File not found (absolute-app-path): " + m.dir + `/gone\n`)},
		{"relative program", []string{"add-application", "--name", "x", "--absolute-app-path", "bin/sh"}, refused("File not found (absolute-app-path): bin/sh")},
		{"directory", []string{"add-application", "--name", "x", "--absolute-app-path", "/bin"}, refused("File not found (absolute-app-path): " + m.dir + "/bin")},
		{"not executable", []string{"add-application", "--name", "x", "--absolute-app-path", "/bin/data"}, refused("Unsupported file extension")},
		{"windows program", []string{"add-application", "--name", "x", "--absolute-app-path", "/bin/setup.exe"}, refused("Unsupported file extension")},
		{"display name too long", add("x", "--display-name", strings.Repeat("n", 257)), refused("Invalid value (display-name)")},
		{"missing directory", add("x", "--working-directory", "/gone"), refused("Directory not found (working-directory)")},
		{"directory is a file", add("x", "--working-directory", "/icon.png"), refused("Directory not found (working-directory)")},
		{"missing icon", add("x", "--absolute-icon-path", "/gone.png"), refused("File not found (absolute-icon-path): " + m.dir + "/gone.png")},
		{"icon of another kind", add("x", "--absolute-icon-path", "/icon.gif"), refused("Unsupported file extension")},
		{"large icon", add("x", "--absolute-icon-path", "/large.png"), refused("Invalid value (absolute-icon-path)")},
		{"no picture", add("x", "--absolute-icon-path", "/text.png"), refused("Invalid value (absolute-icon-path)")},
		{"missing manifest", add("x", "--absolute-manifest-path", "/gone"), refused("Optimization-manifest not found: " + m.dir + "/gone")},
		{"stale manifest", add("x", "--absolute-manifest-path", "/stale"), refused("File not found: " + m.dir + "/gone")},
		{"relative manifest", add("x", "--absolute-manifest-path", "/relative"), refused("File not found: bin/program")},
		{"launch parameters too long", add("x", "--launch-parameters", strings.Repeat("n", 1025)), refused("Invalid value (launch-parameters)")},
		{"unknown flag", add("x", "--icon", "y"), refused("Unknown parameter: --icon")},
		{"no- of a value", add("x", "--no-name"), refused("Unknown parameter: --no-name")},
		{"missing value", add("x", "--display-name"), refused("Missing value (display-name)")},
		{"stray word", add("x", "y"), refused("Unexpected argument: y")},
	} {
		code, out := m.run(c.args...)
		if out != c.want || (code == 0) != (c.want == success) || code > 1 {
			t.Errorf("%s: %s, exit code %d, want %s", c.name, out, code, c.want)
		}
	}
	apps, err := m.Catalogue.Applications()
	if err != nil || len(apps) != 3 {
		t.Fatal(apps, err)
	}
	if len(apps[0].IconPNG) == 0 {
		t.Error("no icon")
	}
	apps[0].IconPNG = nil
	want := agentapi.Application{Name: "all", DisplayName: "The Name", AbsoluteAppPath: m.dir + "/bin/program", WorkingDirectory: m.dir + "/bin",
		LaunchParameters: `--title "two words" "x"`, Manifest: []string{m.dir + "/bin/program", m.dir + "/icon.png"}}
	if diff := cmp.Diff(want, apps[0]); diff != "" {
		t.Error(diff)
	}
	if apps[1].DisplayName != "program" || apps[1].IconPNG != nil {
		t.Error(apps[1])
	}
}

func TestDisplayNameFromFile(t *testing.T) {
	m := newMachine(t)
	m.file(t, "bin/My Great App.sh", "", 0o755)
	m.run("add-application", "--name", "x", "--absolute-app-path", "/bin/My Great App.sh")
	if apps, err := m.Catalogue.Entries(); err != nil || len(apps) != 1 || apps[0].DisplayName != "My_Great_App" {
		t.Error(apps, err)
	}
}

func TestDefaultIcon(t *testing.T) {
	m := newMachine(t)
	m.file(t, "usr/share/applications/p.desktop", "[Desktop Entry]\nExec=program %U\nIcon=picture\n[Other]\nIcon=none\n", 0o644)
	m.file(t, "usr/share/icons/hicolor/48x48/apps/picture.png", picture(t, 48), 0o644)
	m.file(t, "usr/share/icons/hicolor/512x512/apps/picture.png", picture(t, 512), 0o644)
	if code, out := m.run("add-application", "--name", "x", "--absolute-app-path", "/bin/program"); code != 0 {
		t.Fatal(out)
	}
	apps, err := m.Catalogue.Applications()
	if err != nil || len(apps) != 1 {
		t.Fatal(apps, err)
	}
	if c, err := png.DecodeConfig(bytes.NewReader(apps[0].IconPNG)); err != nil || c.Width != 48 {
		t.Error(c, err)
	}
}

func TestListAndRemove(t *testing.T) {
	m := newMachine(t)
	if code, out := m.run("list-applications"); code != 0 || out != `{"status":0,"message":"Success","applications":[]}` {
		t.Error(code, out)
	}
	for i := range agentapi.MaxApplications {
		if code, out := m.run("add-application", "--name", fmt.Sprint("app", i), "--absolute-app-path", "/bin/program"); code != 0 {
			t.Fatal(out)
		}
	}
	if code, out := m.run("add-application", "--name", "more", "--absolute-app-path", "/bin/program"); code != 1 || out != refused("Unable to add more than 50 apps to the catalog.") {
		t.Error(code, out)
	}
	if code, out := m.run("remove-application", "--name", "app7"); code != 0 || out != success {
		t.Error(code, out)
	}
	if code, out := m.run("remove-application", "--name", "app7"); code != 1 || out != refused("App not found") {
		t.Error(code, out)
	}
	m.Administrator = false // may list
	code, out := m.run("list-applications")
	var list struct{ Applications []catalogue.Entry }
	if err := json.Unmarshal([]byte(out), &list, json.MatchCaseInsensitiveNames(true)); err != nil || code != 0 || len(list.Applications) != 49 || list.Applications[7].Name != "app8" {
		t.Error(code, err, out)
	}
	m.file(t, "etc/oriel/applications.json", "{", 0o644)
	if code, out := m.run("list-applications"); code != 255 || !strings.HasPrefix(out, `{"status":255,"message":"read the catalogue`) {
		t.Error(code, out)
	}
}

func TestOnlyAdministrators(t *testing.T) {
	m := newMachine(t)
	m.Administrator = false
	for _, op := range []string{"add-application", "remove-application", "create-image", "create-package"} {
		if code, out := m.run(op, "--nonsense"); code != 1 || out != refused("Administrator privileges are required to perform this operation") {
			t.Error(op, code, out)
		}
	}
	if m.asked != nil || m.packs > 0 {
		t.Error("an image or a package was asked for")
	}
}

func TestCreatePackage(t *testing.T) {
	for _, c := range []struct {
		args   []string
		answer agentapi.Answer
		err    error
		want   string
		code   int
		asks   int
	}{
		{want: success, asks: 1},
		{args: []string{"--name", "x"}, want: refused("Unknown parameter: --name"), code: 1},
		{answer: agentapi.Answer{ErrorKind: agentapi.ErrorInvalid, Message: "This is an image builder"}, want: refused("This is an image builder"), code: 1, asks: 1},
		{answer: agentapi.Answer{ErrorKind: agentapi.ErrorInternal, Message: "the disk is full"}, want: `{"status":255,"message":"the disk is full"}`, code: 255, asks: 1},
		{err: errors.New("no server"), want: `{"status":255,"message":"no server"}`, code: 255, asks: 1},
	} {
		m := newMachine(t)
		m.answer, m.err = c.answer, c.err
		if code, out := m.run(append([]string{"create-package"}, c.args...)...); code != c.code || out != c.want || m.packs != c.asks {
			t.Errorf("%v: %d %s, asked %d times", c, code, out, m.packs)
		}
	}
}

func TestCreateImage(t *testing.T) {
	for _, c := range []struct {
		args   []string
		answer agentapi.Answer
		err    error
		want   string
		code   int
		asked  *agentapi.CreateImage
	}{
		{args: []string{"--name", "mine"}, want: success, asked: &agentapi.CreateImage{Name: "mine"}},
		{
			args: []string{"--name=mine", "--description", "A description", "--display-name", "Mine", "--enable-dynamic-app-catalog", "--use-latest-agent-version", "--tags", "k", "v", "k2", "", "--dry-run"},
			want: success,
			asked: &agentapi.CreateImage{Name: "mine", Description: "A description", DisplayName: "Mine", EnableDynamicAppCatalog: true, UseLatestAgentVersion: true,
				Tags: map[string]string{"k": "v", "k2": ""}, DryRun: true},
		},
		{args: []string{"--name", "m", "--use-latest-agent-version", "--no-use-latest-agent-version", "--no-enable-dynamic-app-catalog"}, want: success, asked: &agentapi.CreateImage{Name: "m"}},
		{args: []string{"--name", "m", "--dry-run=false"}, want: success, asked: &agentapi.CreateImage{Name: "m"}},
		{args: nil, want: refused("Invalid value (name)"), code: 1},
		{args: []string{"--name", strings.Repeat("n", 101)}, want: refused("Invalid value (name)"), code: 1},
		{args: []string{"--name", "a b"}, want: refused("Invalid value (name)"), code: 1},
		{args: []string{"--name", "-a"}, want: refused("Invalid value (name)"), code: 1},
		{args: []string{"--name", "AppStream-x"}, want: refused("Invalid value (name)"), code: 1},
		{args: []string{"--name", "aws.x"}, want: refused("Invalid value (name)"), code: 1},
		{args: []string{"--name", "Amazonas"}, want: refused("Invalid value (name)"), code: 1},
		{args: []string{"--name", "m", "--description", strings.Repeat("n", 257)}, want: refused("Invalid value (description)"), code: 1},
		{args: []string{"--name", "m", "--display-name", strings.Repeat("n", 257)}, want: refused("Invalid value (display-name)"), code: 1},
		{args: []string{"--name", "m", "--tags"}, want: refused("Invalid value (tags)"), code: 1},
		{args: []string{"--name", "m", "--tags", "k"}, want: refused("Invalid value (tags)"), code: 1},
		{args: []string{"--name", "m", "--tags", "k", "v", "k", "w"}, want: refused("Invalid value (tags)"), code: 1},
		{args: []string{"--name", "m", "--tags", "aws:k", "v"}, want: refused("Invalid value (tags)"), code: 1},
		{args: []string{"--name", "m", "--tags", "", "v"}, want: refused("Invalid value (tags)"), code: 1},
		{args: []string{"--name", "m", "--tags", "k", strings.Repeat("v", 257)}, want: refused("Invalid value (tags)"), code: 1},
		{args: []string{"--name", "m", "--dry-run=perhaps"}, want: refused("Invalid value (dry-run)"), code: 1},
		{args: []string{"--name", "m"}, answer: agentapi.Answer{ErrorKind: agentapi.ErrorAlreadyExists, Message: "x"}, want: refused("An image with the given name already exists"), code: 1, asked: &agentapi.CreateImage{Name: "m"}},
		{args: []string{"--name", "m"}, answer: agentapi.Answer{ErrorKind: agentapi.ErrorInvalid, Message: "the quota is used up"}, want: refused("the quota is used up"), code: 1, asked: &agentapi.CreateImage{Name: "m"}},
		{args: []string{"--name", "m"}, answer: agentapi.Answer{ErrorKind: agentapi.ErrorInternal, Message: "the disk is full"}, want: `{"status":255,"message":"the disk is full"}`, code: 255, asked: &agentapi.CreateImage{Name: "m"}},
		{args: []string{"--name", "m"}, err: errors.New("no server"), want: `{"status":255,"message":"no server"}`, code: 255, asked: &agentapi.CreateImage{Name: "m"}},
	} {
		m := newMachine(t)
		m.answer, m.err = c.answer, c.err
		code, out := m.run(append([]string{"create-image"}, c.args...)...)
		if code != c.code || out != c.want {
			t.Errorf("%q: %d %s, want %d %s", c.args, code, out, c.code, c.want)
		}
		var want []agentapi.CreateImage
		if c.asked != nil {
			want = []agentapi.CreateImage{*c.asked}
		}
		if diff := cmp.Diff(want, m.asked); diff != "" {
			t.Errorf("%q: %s", c.args, diff)
		}
	}
}

func TestHelp(t *testing.T) {
	m := newMachine(t)
	m.Administrator = false
	for _, args := range [][]string{nil, {"help"}, {"--help"}} {
		code, out := m.run(args...)
		for _, o := range operations {
			if code != 0 || !strings.Contains(out, "\n  "+o.name+"\n") {
				t.Errorf("%q: %d, without %s", args, code, o.name)
			}
			for line := range strings.Lines(out) {
				if n := utf8.RuneCountInString(line) - 1; n > 90 { // the terminal of an image builder is a little wider
					t.Errorf("%q: a line of %d characters: %s", args, n, line)
				}
			}
			for flag := range o.flags {
				if !strings.Contains(out, "--"+flag) {
					t.Errorf("%q: without --%s", args, flag)
				}
			}
		}
	}
	if code, out := m.run("create-image", "--help"); code != 0 || !strings.Contains(out, "--dry-run") || strings.Contains(out, "add-application") {
		t.Error(code, out)
	}
	if code, out := m.run("update-default-profile"); code != 1 || !strings.Contains(out, "Unknown operation: update-default-profile") {
		t.Error(code, out)
	}
}

func FuzzRun(f *testing.F) {
	f.Add("create-image\x00--name\x00n\x00--tags\x00k\x00v\x00--dry-run")
	f.Add("add-application\x00--name=\xff\x00--launch-parameters\x00\"\"a\"\"")
	f.Add("list-applications")
	f.Add("remove-application\x00--no-name")
	f.Fuzz(func(t *testing.T, line string) {
		var out bytes.Buffer
		tool := Tool{Out: &out, Administrator: true, Root: "/nowhere", Catalogue: catalogue.Open(t.TempDir()),
			CreateImage: func(_ context.Context, in agentapi.CreateImage) (agentapi.Answer, error) {
				if !imageName.MatchString(in.Name) || len(in.Name) > 100 || len(in.Tags) > 50 {
					t.Errorf("asked for %+v", in)
				}
				return agentapi.Answer{}, nil
			}}
		args := strings.Split(line, "\x00")
		code := tool.Run(context.Background(), args)
		if args[0] == "" || strings.HasPrefix(out.String(), "AppStreamImageAssistant") {
			return // help
		}
		var result struct {
			Status  int    `json:"status"`
			Message string `json:"message"`
		}
		if err := json.Unmarshal(out.Bytes(), &result); err != nil || result.Status != code || result.Message == "" {
			t.Errorf("%q: %d, %q, %v", args, code, out.String(), err)
		}
	})
}

func FuzzParseManifest(f *testing.F) {
	f.Add([]byte("/a\n\n/b c\r\n"))
	f.Add([]byte("a\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		files, err := parseManifest(bytes.NewReader(text))
		for _, name := range files {
			if err == nil && (!filepath.IsAbs(name) || len(name) > maxManifestPath+2) {
				t.Errorf("%q", name)
			}
		}
	})
}
