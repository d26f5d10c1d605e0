package e2e

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"

	"github.com/oriel-project/oriel/e2e/stage"
)

// build runs oriel image build in a directory, and gives what it prints and how it ended.
func (w *world) build(t testing.TB, dir string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	c := w.buildCommand(t, dir, args...)
	var out, log bytes.Buffer
	c.Stdout, c.Stderr = &out, &log
	began := time.Now()
	err := c.Run()
	t.Logf("%5.1f s  oriel image build %s: %v\n%s", time.Since(began).Seconds(), strings.Join(args, " "), err, &log)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return out.String(), log.String(), exit.ExitCode()
	}
	check(t, err)
	return out.String(), log.String(), 0
}

func (w *world) buildCommand(t testing.TB, dir string, args ...string) *exec.Cmd {
	t.Helper()
	c := w.Oriel(within(t, installTime), false, append([]string{"image", "build"}, args...)...)
	c.Dir, c.Env = dir, append(c.Env, "TOKEN=it's a s3cret")
	return c
}

// waits is a recipe whose build goes on until it is ended.
const waits = "[image]\nname = \"waits\"\n[[command]]\nrun = \"sleep 3600\"\n"

// appears waits until an image builder that somebody makes is RUNNING.
func (w *world) appears(t testing.TB, name string) {
	t.Helper()
	until(t, name+" is RUNNING", func() error {
		b, err := stage.Builder(limit(t), w.aws, name)
		if err == nil && (b == nil || b.State != types.ImageBuilderStateRunning) {
			err = errors.New("it is not")
		}
		return err
	})
}

// recipes makes a directory with recipes and the package of debian.
func recipes(t testing.TB, files map[string]string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	check(t, os.WriteFile(filepath.Join(dir, "hello.deb"), debian(t), 0o600))
	for name, text := range files {
		check(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	return dir
}

const hello = `packages = ["./hello.deb"]
env = ["TOKEN"]

[image]
name = "hello"
tags = { team = "e2e" }

[builder]
internet = false

[[file]]
path = "/etc/hello/it's.conf"
content = "configured\n"
mode = "0640"
owner = "root:adm"

[[command]]
run = '''
test "$TOKEN" = "it's a s3cret"
printf %s "$TOKEN" | wc -c >/etc/hello/length
'''

[[application]]
name = "Terminal"
display_name = "It's a \"terminal\""
path = "/usr/bin/xterm"
launch_parameters = '-T "Hello, you" -e sh -c "oriel-hello; read -r _"'
working_directory = "/etc/hello"

[test]
commands = ["oriel-hello", "test ! -e /var/tmp/oriel-build"]
`

// TestImageOfFile has an image of a file, twice, and a machine of it; a file whose step fails; and a build that is killed.
func TestImageOfFile(t *testing.T) {
	t.Parallel()
	w := withMachines(t, "")
	dir := recipes(t, map[string]string{
		"hello.toml": hello,
		"fails.toml": "env = [\"TOKEN\"]\n[image]\nname = \"fails\"\n[[command]]\nrun = '''\necho before $TOKEN\ncat /no/such/file\n'''\n",
		"waits.toml": waits,
		"blind.toml": "[image]\nname = \"blind\"\n[[application]]\nname = \"Blind\"\npath = \"/bin/true\"\n",
	})
	arn, _, code := w.build(t, dir, "hello.toml")
	if code != 0 || arn != "arn:aws:appstream:us-east-1:123456789012:image/hello\n" {
		t.Fatalf("exit code %d, %q", code, arn)
	}
	if again, log, code := w.build(t, dir, "hello.toml"); code != 0 || again != arn || !strings.Contains(log, "is there already") {
		t.Errorf("again: exit code %d, %q", code, again)
	}
	check(t, os.WriteFile(filepath.Join(dir, "other.toml"), []byte(strings.Replace(hello, "configured", "changed", 1)), 0o600))
	if _, log, code := w.build(t, dir, "other.toml"); code != 3 || !strings.Contains(log, "other.toml:11: files: /etc/hello/it's.conf has changed") {
		t.Errorf("another recipe: exit code %d", code)
	}

	if out, log, code := w.build(t, dir, "fails.toml"); code != 4 || out != "" || strings.Contains(log, "s3cret") || !strings.Contains(log, "before ***") ||
		!strings.Contains(log, "cat: /no/such/file: No such file or directory") || !strings.Contains(log, "fails.toml:4: echo before $TOKEN: it ended with code 1") {
		t.Errorf("a step that fails: exit code %d, %q", code, out)
	}
	if _, log, code := w.build(t, dir, "blind.toml"); code != 4 || !strings.Contains(log, "test that Blind draws a window") {
		t.Errorf("an application without a window: exit code %d", code)
	}
	w.checkEmpty(t)

	// A build that is killed in the middle leaves an image builder, and the next one nothing.
	c := w.buildCommand(t, dir, "waits.toml", "--name", "later")
	check(t, c.Start())
	w.appears(t, "build-later")
	check(t, c.Process.Kill())
	c.Wait()
	later := w.buildCommand(t, dir, "hello.toml", "--name", "later") // it waits until the killed one has been silent for long enough
	var told bytes.Buffer
	later.Stderr = &told
	check(t, later.Start())
	// One that is interrupted leaves nothing at all.
	c = w.buildCommand(t, dir, "waits.toml", "--name", "never")
	var log bytes.Buffer
	c.Stderr = &log
	check(t, c.Start())
	w.appears(t, "build-never")
	check(t, c.Process.Signal(syscall.SIGINT))
	c.Wait()
	if code := c.ProcessState.ExitCode(); code != 130 || !strings.HasSuffix(log.String(), "nothing of the build is left\noriel: interrupted\n") {
		t.Errorf("interrupted: exit code %d\n%s", code, &log)
	}
	if err := later.Wait(); err != nil {
		t.Errorf("after a build that was killed: %v\n%s", err, &told)
	}
	w.checkEmpty(t)
	if i := must(stage.Image(limit(t), w.aws, "never"))(t); i != nil {
		t.Errorf("an interrupted build has made an image: %s", i.State)
	}

	image := must(stage.Image(limit(t), w.aws, "hello"))(t)
	if image == nil || len(image.Applications) != 1 || *image.Applications[0].DisplayName != `It's a "terminal"` {
		t.Fatalf("the image is %+v", image)
	}
	_, err := w.aws.CreateImageBuilder(limit(t), &appstream.CreateImageBuilderInput{Name: new("next"), ImageName: new("hello"), InstanceType: new("stream.standard.medium")})
	check(t, err)
	w.await(t, "next", types.ImageBuilderStateRunning)
	m := w.machine(t, "next")
	for command, want := range map[string]string{
		"oriel-hello": "Hello from a package",
		"stat -c '%a %U:%G' \"/etc/hello/it's.conf\" && cat \"/etc/hello/it's.conf\"": "640 root:adm\nconfigured",
		"cat /etc/hello/length": "13",
		"ls /var/tmp /var/lib/oriel-agent 2>/dev/null | grep -c build; true": "0",
		"grep -rl s3cret /etc /var /root /home 2>/dev/null | head -1":        "",
	} {
		if got := w.inside(t, m, command); got != want {
			t.Errorf("%s: %q, want %q", command, got, want)
		}
	}
	if strings.Contains(w.Log(), "s3cret") {
		t.Error("the server's log has the value of a variable")
	}
	w.remove(t, "next")
	for _, name := range []string{"hello", "later"} {
		w.removeImage(t, name)
	}
}

// TestExamples has the images of the documents' examples that a test has the time for.
func TestExamples(t *testing.T) {
	t.Parallel()
	if !debianAnswers(t) {
		t.Skip("skipped: packages cannot be installed")
	}
	w := withMachines(t, "")
	dir := t.TempDir()
	check(t, os.CopyFS(dir, os.DirFS("../docs/examples")))
	tar := exec.Command("tar", "-czf", "tool.tar.gz", "-C", "src", ".")
	tar.Dir = filepath.Join(dir, "tool")
	if out, err := tar.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if _, _, code := w.build(t, dir, "editor.toml"); code != 0 {
		t.Errorf("the editor: exit code %d", code)
	}
	c := w.buildCommand(t, filepath.Join(dir, "tool"), "tool.toml")
	c.Env = append(c.Env, "LICENCE=1234")
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("the tool: %v\n%s", err, out)
	}
	editor := must(stage.Image(limit(t), w.aws, "editor"))(t)
	if editor == nil || len(editor.Applications) != 1 || *editor.Applications[0].LaunchPath != "/usr/bin/geany" {
		t.Errorf("the editor is %+v", editor)
	}
}
