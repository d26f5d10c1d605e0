package recipe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/oriel-project/oriel/internal/agent/assistant"
	"github.com/oriel-project/oriel/internal/agent/catalogue"
	"github.com/oriel-project/oriel/internal/agentapi"
)

// catalogueVariable makes the test's program an Image Assistant with the catalogue in a directory.
const catalogueVariable = "TEST_CATALOGUE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(catalogueVariable); dir != "" {
		t := assistant.Tool{Out: os.Stdout, Administrator: true, Catalogue: catalogue.Open(dir), Root: dir}
		os.Exit(t.Run(context.Background(), os.Args[1:]))
	}
	os.Exit(m.Run())
}

const full = `base = "arn:aws:appstream:us-east-1:123456789012:image/mine"
packages = ["geany", "./tool.deb", "xpad=5.8.0-1"]
recommends = false
env = ["TOKEN"]

[environment]
LANG = "C"

[image]
name = "writer-{digest}"
display_name = "Writer"
description = "For writing"
tags = { team = "docs" }
use_latest_agent = true

[builder]
instance_type = "stream.standard.large"
subnet = "subnet-a"

[[file]]
path = "/etc/writer.conf"
content = "x = 1\n"
mode = "0640"
owner = "root:adm"

[[file]]
path = "/opt/writer"
from = "writer.tar"
unpack = true

[[command]]
run = '''
echo one
echo two
'''
timeout = "2m"

[[command]]
name = "second"
run = "true"

[[application]]
name = "Writer"
display_name = "The writer's"
path = "/opt/writer/bin/writer"
icon = "writer.png"
launch_parameters = '--title "A b" \ $HOME'
working_directory = "/tmp"

[test]
commands = ["test -x /opt/writer/bin/writer"]
timeout = "30s"
`

// write makes a directory with the file and what it names.
func write(t testing.TB, text string) (file string) {
	t.Helper()
	dir := t.TempDir()
	var icon bytes.Buffer
	if err := png.Encode(&icon, image.NewGray(image.Rect(0, 0, 48, 48))); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"recipe.toml": text, "tool.deb": "a package", "writer.tar": "an archive", "writer.png": icon.String()} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "recipe.toml")
}

func load(t testing.TB, text string) *Recipe {
	t.Helper()
	r, err := Load(write(t, text))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestSteps(t *testing.T) {
	r := load(t, full)
	var steps []string
	for _, s := range r.Steps([]string{"Writer", "Old"}) {
		steps = append(steps, fmt.Sprintf("%d %s | %s%s | %s", s.Line, s.Name, s.Command, s.Application, s.Timeout))
	}
	want := []string{
		"2 install packages | apt-get -q -o Acquire::Retries=3 update\napt-get -q -y -o Acquire::Retries=3 -o Dpkg::Use-Pty=0 --no-install-recommends install --" +
			" 'geany' '/var/tmp/oriel-build/packages/1/tool.deb' 'xpad=5.8.0-1' | 1h0m0s",
		"20 put /etc/writer.conf | mkdir -p -- '/etc'\nchown -- 'root:adm' '/var/tmp/oriel-build/files/0'\nchmod -- 0640 '/var/tmp/oriel-build/files/0'\n" +
			"mv -f -T -- '/var/tmp/oriel-build/files/0' '/etc/writer.conf' | 10m0s",
		"26 put /opt/writer | mkdir -p -- '/opt/writer'\ntar --extract --no-same-owner --file='/var/tmp/oriel-build/files/1' --directory='/opt/writer'\n" +
			"rm -f -- '/var/tmp/oriel-build/files/1' | 10m0s",
		"31 echo one | echo one\necho two\n | 2m0s",
		"38 second | true | 1h0m0s",
		"42 add the application Writer | AppStreamImageAssistant remove-application --name='Writer' >/dev/null || true\n" +
			`AppStreamImageAssistant add-application --name='Writer' --absolute-app-path='/opt/writer/bin/writer' --display-name='The writer'\''s'` +
			` --absolute-icon-path='/var/tmp/oriel-build/icons/0.png' --working-directory='/tmp' --launch-parameters='"--title \"A b\" \ $HOME"' | 1m0s`,
		"0 tidy up | " + tidy + "\n" + listHome + " | 10m0s",
		"42 test that Writer draws a window | Writer | 30s",
		"0 test that Old draws a window | Old | 30s",
		"51 test: test -x /opt/writer/bin/writer | test -x /opt/writer/bin/writer | 30s",
		"0 tidy up after the tests | " + clearHome + " | 10m0s",
	}
	if diff := cmp.Diff(want, steps); diff != "" {
		t.Errorf("the steps (-want +got):\n%s", diff)
	}
	var uploads []string
	for _, u := range r.Uploads() {
		f, err := u.Open()
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(f)
		f.Close()
		uploads = append(uploads, fmt.Sprintf("%d %s %s %.8q %d", u.Line, u.Name(), u.Path, text, u.Size))
	}
	want = []string{
		`2 tool.deb /var/tmp/oriel-build/packages/1/tool.deb "a packag" 9`,
		`20 content /var/tmp/oriel-build/files/0 "x = 1\n" 6`,
		`26 writer.tar /var/tmp/oriel-build/files/1 "an archi" 10`,
		`46 writer.png /var/tmp/oriel-build/icons/0.png "\x89PNG\r\n\x1a\n" 90`,
	}
	if diff := cmp.Diff(want, uploads); diff != "" {
		t.Errorf("the uploads (-want +got):\n%s", diff)
	}

	offline := load(t, "packages = [\"./tool.deb\"]\n[image]\nname = \"x\"\n[builder]\ninternet = false").Steps(nil)
	if c := offline[0].Command; strings.Contains(c, "update") || !strings.HasSuffix(c, "install -- '/var/tmp/oriel-build/packages/0/tool.deb'") {
		t.Errorf("a local package without the internet: %s", c)
	}
	none := load(t, strings.Replace(full, "[test]", "[test]\nlaunch = []", 1)).Steps([]string{"Old"})
	if last := none[len(none)-2]; last.Name != "tidy up" {
		t.Errorf("with no application to launch, before the last comes %q", last.Name)
	}
	one := load(t, strings.Replace(full, "[test]", "[test]\nlaunch = [\"Old\"]", 1)).Steps([]string{"Old"})
	if last := one[len(one)-3]; last.Application != "Old" || last.Line != 51 {
		t.Errorf("with one application to launch, before the last comes %+v", last)
	}
}

// What a real shell and the real Image Assistant make of the steps is what the file says, whatever characters are in it.
func TestShell(t *testing.T) {
	if _, err := exec.LookPath("tar"); err != nil {
		t.Skip("skipped: there is no tar")
	}
	dir := t.TempDir()
	assistants := filepath.Join(dir, "bin")
	self, err := os.Executable()
	if err == nil {
		err = errors.Join(os.Mkdir(assistants, 0o755), os.Symlink(self, filepath.Join(assistants, "AppStreamImageAssistant")))
	}
	if err != nil {
		t.Fatal(err)
	}
	run := func(command string) {
		t.Helper()
		c := exec.Command("/bin/sh", "-e", "-c", strings.ReplaceAll(command, staging, dir+"/staged"))
		c.Env = append(os.Environ(), "PATH="+assistants+":"+os.Getenv("PATH"), catalogueVariable+"="+dir+"/catalogue")
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
	}
	// What tests have left in the desktop user's home goes, and nothing else.
	home := filepath.Join(dir, "home dir")
	made := func(list ...string) {
		for _, name := range list {
			if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(home, name)), 0o755), os.WriteFile(filepath.Join(home, name), nil, 0o600)); err != nil {
				t.Fatal(err)
			}
		}
	}
	inHome := func(command string) {
		run(strings.NewReplacer(userHome, "home='"+home+"'", homeList, dir+"/list", asUser+" ", "").Replace(command))
	}
	made("kept", ".config/kept")
	inHome(listHome)
	made("new\nline", ".config/new", ".java/deep/er/-f", "dir/x")
	if err := os.Symlink(dir, filepath.Join(home, "link")); err != nil {
		t.Fatal(err)
	}
	inHome(clearHome)
	var left []string
	filepath.WalkDir(home, func(path string, d fs.DirEntry, err error) error {
		if !d.IsDir() {
			left = append(left, strings.TrimPrefix(path, home+"/"))
		}
		return err
	})
	if want := []string{".config/kept", "kept"}; !slices.Equal(left, want) {
		t.Errorf("in the home there is %q, want %q", left, want)
	}

	nasty := "-n $(touch x) `id` 'q' \"d\" \\ ; \n*"
	if err := errors.Join(os.MkdirAll(dir+"/staged/files", 0o755), os.WriteFile(dir+"/staged/files/0", []byte("content"), 0o600)); err != nil {
		t.Fatal(err)
	}
	f := File{Path: dir + "/a/" + nasty + "/f", Mode: "0754", Owner: fmt.Sprintf("%d:%d", os.Getuid(), os.Getgid())}
	run(f.put(stagedFile(0)))
	info, err := os.Stat(f.Path)
	if err != nil || info.Mode().Perm() != 0o754 {
		t.Fatalf("%v, %v", info, err)
	}
	if _, err := os.Stat(dir + "/staged/files/0"); err == nil {
		t.Error("the staged file is left")
	}
	tar := exec.Command("tar", "-czf", dir+"/staged/files/1", "-C", filepath.Dir(f.Path), "f")
	if out, err := tar.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	run(File{Path: dir + "/unpacked here", Unpack: true, Owner: f.Owner}.put(stagedFile(1)))
	if text, err := os.ReadFile(dir + "/unpacked here/f"); string(text) != "content" {
		t.Errorf("unpacked: %q, %v", text, err)
	}

	program := filepath.Join(dir, "it's a program")
	if err := os.WriteFile(program, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	app := Application{Name: "a'b\"$HOME", DisplayName: nasty, Path: program, WorkingDirectory: dir + "/a/" + nasty}
	for n, params := range []string{"", "plain", `"a" 'b'`, `""`, `"`, `\"`, `\`, `a\`, `$(id) "\"x\""`, nasty} {
		app.LaunchParameters = params
		run(app.add(""))
		list, err := catalogue.Open(dir + "/catalogue").Entries()
		if err != nil || len(list) != 1 {
			t.Fatalf("%d: %v, %v", n, list, err)
		}
		want := catalogue.Entry{Name: app.Name, DisplayName: nasty, AbsoluteAppPath: program, WorkingDirectory: app.WorkingDirectory, LaunchParameters: params}
		if diff := cmp.Diff(want, list[0]); diff != "" {
			t.Errorf("%q (-want +got):\n%s", params, diff)
		}
	}
}

func TestComplaints(t *testing.T) {
	with := func(more string) string { return "[image]\nname = \"x\"\n" + more }
	for _, c := range []struct{ text, want string }{
		{"", "f.toml: image.name: name the image"},
		{"[image]\nname = \"aws-1\"", "f.toml:2: image.name: names that begin with aws are reserved"},
		{"[image]\nname = \"a b\"", "f.toml:2: image.name: \"a b\" is not an image's name"},
		{"[image]\nname = \"" + strings.Repeat("a", 90) + "{digest}\"", "is not an image's name"},
		{"basse = \"x\"\n" + with(""), "f.toml:1: there is no key basse; did you mean base?"},
		{with("[[file]]\nPath = \"/a\"\nmod = \"1\"\ncontent = \"\""), "f.toml:5: there is no key file.mod; the keys here are content, from, mode"},
		{with("use_latest_agent = \"no\""), "f.toml:3: image.use_latest_agent must be true or false, not a text"},
		{"packages = \"geany\"\n" + with(""), "f.toml:1: packages must be a list of texts, not a text"},
		{with("tags = { a = 1 }"), "f.toml:3: each value in image.tags must be a text, not a number"},
		{with("packages = [\"geany\"]"), "f.toml:3: there is no key image.packages; packages stands above the first [table]"},
		{"base = \"a b\"\n" + with(""), "f.toml:1: base: \"a b\" is neither the name nor the ARN of an image"},
		{"packages = [\n  \"ok\",\n  \"-o=x\",\n]\n" + with(""), "f.toml:3: packages[1]: \"-o=x\" is not the name of a package"},
		{"packages = [\"a\", \"a\"]\n" + with(""), "packages[1]: a is there twice"},
		{"packages = [\"./a.rpm\"]\n" + with(""), "packages[0]: \"./a.rpm\" is not the path of a .deb file"},
		{"env = [\"A=b\"]\n" + with(""), "f.toml:1: env[0]: \"A=b\" is not the name of a variable; values are not written here"},
		{"env = [\"A\"]\n" + with("[environment]\nA = \"1\""), "env[0]: A is also in [environment]"},
		{with("[environment]\n\"A B\" = \"1\""), "f.toml:4: environment.A B: \"A B\" is not the name of a variable"},
		{with("tags = { \"oriel:x\" = \"1\" }"), "f.toml:3: image.tags.oriel:x: keys that begin with aws: or oriel: are reserved"},
		{with("tags = { a = \"{}\" }"), "image.tags.a: the value is not at most 256 letters"},
		{with("display_name = \"" + strings.Repeat("é", 257) + "\""), "f.toml:3: image.display_name: it is not text of at most 256 characters"},
		{with("[builder]\nsubnet = \"a\""), "f.toml:4: builder.subnet:"},
		{with("[[file]]\npath = \"etc\"\ncontent = \"\""), "f.toml:4: file[0].path: \"etc\" is not an absolute path"},
		{with("[[file]]\npath = \"/a/../b\"\ncontent = \"\""), "without . and .. in it"},
		{with("[[file]]\npath = \"/run/x\"\ncontent = \"\""), "what is in /run does not become part of an image"},
		{with("[[file]]\npath = \"/a\""), "f.toml:3: file[0]: set either from, a file here, or content"},
		{with("[[file]]\npath = \"/a\"\ncontent = \"\"\n[[file]]\npath = \"/a\"\ncontent = \"\""), "f.toml:7: file[1].path: /a is there twice"},
		{with("[[file]]\npath = \"/a\"\ncontent = \"\"\nmode = \"rwx\""), "f.toml:6: file[0].mode: \"rwx\" is not a mode"},
		{with("[[file]]\npath = \"/a\"\ncontent = \"\"\nowner = \"a b\""), "file[0].owner: \"a b\" is not USER or USER:GROUP"},
		{with("[[file]]\npath = \"/a\"\ncontent = \"\"\nunpack = true"), "only what comes from a file here can be unpacked"},
		{with("[[file]]\npath = \"/a\"\nfrom = \"a\"\nunpack = true\nmode = \"0644\""), "has the modes that the archive gives it"},
		{with("[[command]]\nrun = \" \""), "f.toml:4: command[0].run: write what /bin/sh shall do"},
		{with("[[command]]\nrun = \"x\"\ntimeout = \"5h\""), "f.toml:5: command[0].timeout: it is not between 1s and 4h0m0s"},
		{with("[[command]]\nrun = \"x\"\ntimeout = 5"), "f.toml:5: command[0].timeout: 5 has no unit; write \"5s\" for seconds, in quotation marks"},
		{with("[test]\ntimeout = 5.5"), "f.toml:4: test.timeout: 5.5 has no unit; write \"5.5s\" for seconds"},
		{with("[[command]]\nrun = \"x\"\ntimeout = \"soon\""), "\"soon\" is not a time; write it like \"90s\""},
		{with("[[application]]\nname = \"a b\"\npath = \"/x\""), "f.toml:4: application[0].name: \"a b\" is not a name"},
		{with("[[application]]\nname = \"a\"\npath = \"x\""), "f.toml:5: application[0].path: \"x\" is not the absolute path of a program"},
		{with("[[application]]\nname = \"a\"\npath = \"/x\"\nicon = \"a.svg\""), "f.toml:6: application[0].icon: \"a.svg\" is none of .png"},
		{with("[[application]]\nname = \"a\"\npath = \"/x\"\n[[application]]\nname = \"a\"\npath = \"/x\""), "application[1].name: a is there twice"},
		{with("[test]\nlaunch = [\n\"\"]"), "f.toml:5: test.launch[0]: \"\" is not the name of an application"},
		{with("[test]\ncommands = [\"\"]"), "f.toml:4: test.commands[0]: write what /bin/sh shall do"},
		{with(strings.Repeat("[[command]]\nrun = \"x\"\n", 101)), "command: there are 101; 100 are possible"},
		{with(strings.Repeat("[[command]]\nrun = \"x\"\n", 100) + many(120)), "make 221 steps; 200 are possible"},
		{"not toml", "f.toml:1:"},
	} {
		_, err := Parse([]byte(c.text), "f.toml")
		if _, ok := errors.AsType[*Invalid](err); !ok || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.200s\n  %v\n  want %s", c.text, err, c.want)
		}
	}
	_, err := Parse([]byte(with("[[command]]\nrun = \"\"\n[[application]]\nname = \"\"\npath = \"/x\"\n")), "f.toml")
	if lines := strings.Split(err.Error(), "\n"); len(lines) != 2 || !strings.HasPrefix(lines[0], "f.toml:4:") || !strings.HasPrefix(lines[1], "f.toml:6:") {
		t.Errorf("two complaints: %v", err)
	}
}

func many(files int) string {
	var b strings.Builder
	for n := range files {
		fmt.Fprintf(&b, "[[file]]\npath = \"/f%d\"\ncontent = \"\"\n", n)
	}
	return b.String()
}

func TestLocalFiles(t *testing.T) {
	for _, c := range []struct{ old, new, want string }{
		{"./tool.deb", "./none.deb", "recipe.toml:2: packages[1]: "},
		{`from = "writer.tar"`, `from = "."`, "it is not a regular file"},
		{`icon = "writer.png"`, `icon = "../none.png"`, "recipe.toml:46: application[0].icon: "},
		{`icon = "writer.png"`, `icon = "other.png"`, "is not a picture of at most 256×256 pixels"},
	} {
		file := write(t, strings.Replace(full, c.old, c.new, 1))
		if err := os.WriteFile(filepath.Join(filepath.Dir(file), "other.png"), []byte("no picture"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(file); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.new, err, c.want)
		}
	}
	if _, err := Load(filepath.Join(t.TempDir(), "none.toml")); err == nil {
		t.Error("a recipe that is not there")
	}
}

// The digest changes with whatever makes another image, and with nothing else.
func TestIdentity(t *testing.T) {
	was := load(t, full).Identity("base")
	tags := was.Tags()
	for _, c := range []struct{ old, new, want string }{
		{"# nothing", "# nothing", ""},
		{`packages = ["geany", "./tool.deb", "xpad=5.8.0-1"]`, "# A remark.\npackages = [\n  \"xpad=5.8.0-1\", './tool.deb',\n  \"geany\"\n]", ""},
		{`name = "writer-{digest}"`, `name = "other"`, ""},
		{`name = "second"`, `name = "another"`, ""},
		{`timeout = "2m"`, `timeout = "3m"`, ""},
		{`mode = "0640"`, `mode = "640"`, ""},
		{`"geany"`, `"gimp"`, "packages: gimp is new, packages: geany was taken out"},
		{`, "xpad=5.8.0-1"`, ``, "packages: xpad=5.8.0-1 was taken out"},
		{"recommends = false", "", "packages: recommends has changed"},
		{`env = ["TOKEN"]`, `env = ["TOKEN", "MORE"]`, "environment: MORE is new"},
		{`LANG = "C"`, `LANG = "D"`, "environment: LANG has changed"},
		{`description = "For writing"`, `description = "For it"`, "image: description has changed"},
		{`team = "docs"`, `team = "dogs"`, "image: tag team has changed"},
		{"use_latest_agent = true", "", "image: use_latest_agent has changed"},
		{"standard.large", "standard.small", "builder: instance_type has changed"},
		{`subnet = "subnet-a"`, "internet = false", "builder: subnet has changed"},
		{`x = 1\n`, `x = 2\n`, "files: /etc/writer.conf has changed"},
		{`mode = "0640"`, `mode = "0600"`, "files: /etc/writer.conf has changed"},
		{`owner = "root:adm"`, ``, "files: /etc/writer.conf has changed"},
		{"echo two", "echo 2", "commands: echo one echo 2  is new, taken out: 1 of what the image has"},
		{"[[command]]\nname = \"second\"", "[[command]]\nrun = \"new\"\n[[command]]", "commands: new is new"},
		{`icon = "writer.png"`, "", "applications: Writer has changed"},
		{`working_directory = "/tmp"`, "", "applications: Writer has changed"},
		{"[test]", "[test]\nlaunch = []", "tests: launch is new"},
		{`commands = ["test -x /opt/writer/bin/writer"]`, "", "tests: something was taken out"},
	} {
		now := load(t, strings.Replace(full, c.old, c.new, 1)).Identity("base")
		var got []string
		if !now.Same(tags) {
			for _, d := range now.Differences(tags) {
				got = append(got, d.String())
			}
		}
		if s := strings.Join(got, ", "); s != c.want {
			t.Errorf("%s → %s:\n  %s\n  want %s", c.old, c.new, s, c.want)
		}
	}
	other := load(t, full).Identity("newer")
	if d := other.Differences(tags); len(d) != 1 || d[0].String() != "base: the image to begin with is another, or a newer one" || d[0].Line != 1 {
		t.Errorf("another base: %v", d)
	}
	file := write(t, full)
	if err := os.WriteFile(filepath.Join(filepath.Dir(file), "tool.deb"), []byte("a newer package"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := Load(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := r.Identity("base").Differences(tags); len(d) != 1 || d[0].String() != "packages: ./tool.deb has changed" {
		t.Errorf("another local file: %v", d)
	}
	if d := was.Differences(map[string]string{"a": "b"}); len(d) != 1 || d[0].What != "it was not made of a recipe" {
		t.Errorf("an image of no recipe: %v", d)
	}
	large := load(t, full+many(60))
	tags = large.Identity("base").Tags()
	if tags[tagItems] != "" {
		t.Errorf("a large recipe has %d characters of items", len(tags[tagItems]))
	}
	if d := was.Differences(tags); len(d) != 1 || d[0].String() != "files" {
		t.Errorf("from a large recipe: %v", d)
	}
	if name := was.Name("x-{digest}"); name != "x-"+was.Digest[:12] {
		t.Errorf("the name is %s", name)
	}
}

var tagValue = regexp.MustCompile(`^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$`)

// Whatever is accepted can be done: an agent takes the steps, and an image the tags.
func FuzzRecipe(f *testing.F) {
	f.Add(full)
	f.Add("[image]\nname = \"x\"\n[[command]]\nrun = \"\\u0007\"")
	f.Add("packages = [\"a\"]\n[image]\nname = 'x'\n[[application]]\nname = \"é\"\npath = \"/é\"\n[test]\nlaunch=['é','é']")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := Parse([]byte(text), "f.toml")
		if err != nil {
			if !strings.HasPrefix(err.Error(), "f.toml") {
				t.Errorf("a complaint without its place: %v", err)
			}
			return
		}
		job := agentapi.Job{Environment: r.Environment}
		for _, s := range r.Steps(nil) {
			job.Steps = append(job.Steps, agentapi.JobStep{Name: s.Name, Command: s.Command, Launch: s.Application, Seconds: int(s.Timeout / time.Second)})
			if s.Name == "" || strings.Contains(s.Name, "\n") {
				t.Errorf("a step is called %q", s.Name)
			}
		}
		if err := job.Check(); err != nil {
			t.Error(err)
		}
		id := r.Identity("base")
		tags := id.Tags()
		for k, v := range tags {
			if len(v) > maxTagValue || !tagValue.MatchString(v) {
				t.Errorf("the tag %s = %q", k, v)
			}
		}
		if !id.Same(tags) || len(id.Differences(tags)) > 0 {
			t.Errorf("a recipe differs from itself: %v", id.Differences(tags))
		}
	})
}

// The examples of the documents are right. (The e2e tests build them.)
func TestExamples(t *testing.T) {
	files, err := filepath.Glob("../../docs/examples/*.toml")
	more, err2 := filepath.Glob("../../docs/examples/*/*.toml")
	if files = append(files, more...); errors.Join(err, err2) != nil || len(files) != 3 {
		t.Fatalf("the examples are %s", files)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err == nil {
			_, err = Parse(text, file)
		}
		if err != nil {
			t.Error(err)
		}
	}
}
