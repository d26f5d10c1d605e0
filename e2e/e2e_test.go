package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"

	"github.com/oriel-project/oriel/e2e/stage"
)

// patience is how long a test waits for anything at most: machines that run tests are slow, and busy with other things. What comes from the
// internet, or waits for something itself, has installTime: LibreOffice has a hundred packages.
const (
	patience    = 90 * time.Second
	installTime = 5 * time.Minute
)

// TestMain ends what the tests share.
func TestMain(m *testing.M) {
	code := m.Run()
	if opened != nil {
		opened.Close()
	}
	if built != "" {
		os.RemoveAll(built)
	}
	os.Exit(code)
}

var built string // directory of programs that are ours to remove

var programs = sync.OnceValues(func() (string, error) {
	if dir := os.Getenv("ORIEL_TEST_BIN"); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.MkdirTemp("", "oriel-e2e-bin")
	if err != nil {
		return "", err
	}
	built = dir
	return dir, stage.Build(context.Background(), dir)
})

func bin(t testing.TB) string {
	t.Helper()
	return must(programs())(t)
}

// must gives the value of a call that has to succeed: must(f())(t).
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// limit is the time that one step of a test has.
func limit(t testing.TB) context.Context {
	t.Helper()
	return within(t, patience)
}

func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// until waits for something to become so.
func until(t testing.TB, what string, ok func() error) {
	t.Helper()
	untilWithin(t, patience, what, ok)
}

func untilWithin(t testing.TB, d time.Duration, what string, ok func() error) {
	t.Helper()
	if err := stage.Until(within(t, d), ok); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// world is a server with everything that a test needs to act on it.
type world struct {
	*stage.Server
	aws    *appstream.Client
	engine *stage.Engine // nil under sim
}

// simulated starts a server without machines.
func simulated(t testing.TB, flags ...string) *world {
	t.Helper()
	return open(t, stage.Config{Flags: flags})
}

// withMachines starts a server on the engine under test, and at the end looks for what it has left there. toml is its settings file.
func withMachines(t testing.TB, toml string) *world {
	t.Helper()
	engine := os.Getenv("ORIEL_TEST_ENGINE")
	if engine == "" {
		t.Skip("skipped: ORIEL_TEST_ENGINE names no container engine")
	}
	return open(t, stage.Config{Engine: engine, TOML: toml})
}

func open(t testing.TB, c stage.Config) *world {
	t.Helper()
	c.Bin = bin(t)
	if c.Data == "" {
		c.Data = filepath.Join(t.TempDir(), "data")
	}
	w := &world{Server: must(stage.Start(limit(t), c, true))(t)}
	t.Cleanup(func() { w.end(t) })
	w.aws = must(w.Client())(t)
	if c.Engine != "" {
		w.engine = must(stage.OpenEngine(c.Engine))(t)
	}
	return w
}

// end ends the server, removes what it has made in the engine, and sees that nothing is left.
func (w *world) end(t testing.TB) {
	if err := w.Stop(); err != nil {
		t.Errorf("the server ended with %v", err)
	}
	if t.Failed() {
		t.Logf("the server's log, without requests:\n%s", passes(w.Log()))
	}
	if w.engine == nil {
		return
	}
	defer w.engine.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if t.Failed() {
		list, _ := w.engine.Machines(ctx, w.Server)
		for _, m := range list {
			log, err := w.engine.Log(ctx, m.ID, 40)
			t.Logf("the log of the machine of %s, %v:\n%s", m.Labels["oriel.resource"], err, log)
		}
	}
	if out, err := w.Oriel(ctx, true, "remove", "--yes").CombinedOutput(); err != nil {
		t.Errorf("oriel remove: %v\n%s", err, out)
	}
	if left, err := w.engine.Remains(ctx, w.installation(t)); err != nil || len(left) > 0 {
		t.Errorf("left in the engine: %s, %v", strings.Join(left, ", "), err)
	}
}

// passes gives the end of a server's log without the lines about requests.
func passes(log string) string {
	var lines []string
	for line := range strings.Lines(log) {
		if !strings.Contains(line, `"msg":"request"`) && !strings.Contains(line, `"msg":"page"`) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[max(0, len(lines)-60):], "")
}

// create makes an image builder and waits until it runs.
func (w *world) create(t testing.TB, name, image string, change ...func(*appstream.CreateImageBuilderInput)) *types.ImageBuilder {
	t.Helper()
	in := &appstream.CreateImageBuilderInput{Name: &name, ImageName: &image, InstanceType: new("stream.standard.medium"), EnableDefaultInternetAccess: new(true)}
	for _, c := range change {
		c(in)
	}
	must(w.aws.CreateImageBuilder(limit(t), in))(t)
	return w.await(t, name, types.ImageBuilderStateRunning)
}

func (w *world) await(t testing.TB, name string, state types.ImageBuilderState) *types.ImageBuilder {
	t.Helper()
	return must(stage.AwaitBuilder(limit(t), w.aws, name, state))(t)
}

// remove deletes image builders and waits until they are gone.
func (w *world) remove(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		must(w.aws.DeleteImageBuilder(limit(t), &appstream.DeleteImageBuilderInput{Name: &name}))(t)
	}
	for _, name := range names {
		w.await(t, name, "")
	}
}

func (w *world) removeImage(t testing.TB, name string) {
	t.Helper()
	must(w.aws.DeleteImage(limit(t), &appstream.DeleteImageInput{Name: &name}))(t)
	must(stage.AwaitImage(limit(t), w.aws, name, ""))(t)
}

func (w *world) streamingURL(t testing.TB, name string) string {
	t.Helper()
	return *must(w.aws.CreateImageBuilderStreamingURL(limit(t), &appstream.CreateImageBuilderStreamingURLInput{Name: &name}))(t).StreamingURL
}

// machine gives the ID of the container of an image builder.
func (w *world) machine(t testing.TB, builder string) string {
	t.Helper()
	return must(w.engine.Machine(limit(t), w.Server, builder))(t).ID
}

// inside runs a shell command in a machine, behind everyone's back, and gives what it prints.
func (w *world) inside(t testing.TB, machine, command string) string {
	t.Helper()
	out, code, err := w.engine.Exec(limit(t), machine, "root", command)
	if err != nil || code != 0 {
		t.Fatalf("%s: exit code %d, %v\n%s", command, code, err, out)
	}
	return strings.TrimSpace(out)
}

// desk is an image builder's desktop in a browser.
type desk struct {
	*stage.Page
	w       *world
	machine string
	runs    int
}

var opened *stage.Browser // the one that all tests use, each with pages of its own

var browser = sync.OnceValues(func() (b *stage.Browser, err error) {
	opened, err = stage.OpenBrowser(context.Background())
	return opened, err
})

// needBrowser skips a test when there is no browser.
func needBrowser(t testing.TB) *stage.Browser {
	t.Helper()
	if os.Getenv("ORIEL_TEST_BROWSER") == "" {
		t.Skip("skipped: ORIEL_TEST_BROWSER is not set")
	}
	return must(browser())(t)
}

// look opens a streaming URL in the browser and waits for the first frame and for the terminal.
func (w *world) look(t testing.TB, builder, url string) *desk {
	t.Helper()
	d := &desk{Page: needBrowser(t).Page(t.Name() + " " + builder), w: w, machine: w.machine(t, builder)}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if t.Failed() {
			d.screenshot(ctx, t, "failed-"+builder)
		}
		if problems, err := d.Close(ctx); err != nil || len(problems) > 0 {
			t.Errorf("in the page: %s, %v", strings.Join(problems, "\n"), err)
		}
	})
	if status := must(d.Open(limit(t), url))(t); status != 200 {
		t.Fatalf("the streaming URL leads to %d", status)
	}
	check(t, d.State(limit(t), "connected"))
	t.Logf("%s: first frame %s after the streaming URL was opened", builder, must(d.FirstFrame(limit(t)))(t).Round(time.Millisecond))
	w.awaitTerminal(t, d.machine)
	return d
}

// awaitTerminal waits for a shell on a display of a machine, and until a window there has the keyboard: shells do not wait for their windows, and what
// is typed before is lost.
func (w *world) awaitTerminal(t testing.TB, machine string) {
	t.Helper()
	until(t, "a terminal", func() error {
		shell, code, err := w.engine.Exec(limit(t), machine, "root", `shell=$(grep -lx bash /proc/[0-9]*/comm | head -n 1) && stat -c %u "$shell"`)
		if err != nil || code != 0 {
			return fmt.Errorf("no bash is running: %v", err)
		}
		out, code, err := w.engine.Exec(limit(t), machine, strings.TrimSpace(shell), activeWindow)
		if err == nil && code != 0 {
			err = errors.New(out)
		}
		return err
	})
}

// activeWindow asks the display of its user's shell, by X's protocol, whether there is an active window.
const activeWindow = `shell=$(grep -lx bash /proc/[0-9]*/comm | cut -d/ -f3 | head -n 1)
export $(tr '\0' '\n' < /proc/$shell/environ | grep -E '^(DISPLAY|XAUTHORITY)=')
exec perl -MSocket -e '
open KEY, "<", $ENV{XAUTHORITY} or die; local $/; my $cookie = substr <KEY>, -16;
my ($number) = $ENV{DISPLAY} =~ /(\d+)/;
socket X, PF_UNIX, SOCK_STREAM, 0; connect X, sockaddr_un("/tmp/.X11-unix/X$number") or die;
sub answer { read X, my $head, $_[0] or die; read X, my $rest, 4 * unpack $_[1], $head; $head . $rest }
sub ask { syswrite X, $_[0]; answer 32, "x4L" }
syswrite X, pack "CxSSSSx2a20a16", 0x6c, 11, 0, 18, 16, "MIT-MAGIC-COOKIE-1", $cookie;
my $setup = answer 8, "x6S";
my ($vendor, $formats) = unpack "x24Sx3C", $setup;
my $root = unpack "L", substr $setup, 40 + ($vendor + 3 & ~3) + 8 * $formats;
my $atom = unpack "x8L", ask pack "CCSSx2a20", 16, 1, 7, 18, "_NET_ACTIVE_WINDOW";
my $window = unpack "x32L", ask pack "CxSLLLLL", 20, 6, $root, $atom, 0, 0, 1;
$window or die "no window is active\n"'
`

// screenshot keeps a picture of the page where ORIEL_SCREENSHOTS says, or, to see that it can be taken, for the length of the test.
func (d *desk) screenshot(ctx context.Context, t testing.TB, name string) {
	t.Helper()
	dir := os.Getenv("ORIEL_SCREENSHOTS")
	if dir == "" {
		dir = t.TempDir()
	}
	file := filepath.Join(dir, strings.ReplaceAll(t.Name(), "/", "-")+"-"+name+".png")
	if err := d.Screenshot(ctx, file); err != nil {
		t.Errorf("take a screenshot: %v", err)
		return
	}
	if info, err := os.Stat(file); err != nil || info.Size() < 2000 {
		t.Errorf("the screenshot %s: %v, %v", name, info, err)
	}
}

// run types a command into the desktop's terminal and waits for its exit code.
func (d *desk) run(t testing.TB, command string) int {
	t.Helper()
	return d.begin(t, command)(patience)
}

// begin types a command, and gives what waits for its exit code, for a while.
func (d *desk) begin(t testing.TB, command string) (end func(time.Duration) int) {
	t.Helper()
	d.runs++
	file := fmt.Sprintf("/tmp/e2e-%.12s-%d", d.machine, d.runs) // an image may have those of the machine that it was made of
	// The file gets its name when it is whole.
	check(t, d.Type(limit(t), fmt.Sprintf("%s; echo $? > %s.new; mv %[2]s.new %[2]s\n", command, file)))
	return func(most time.Duration) (code int) {
		t.Helper()
		untilWithin(t, most, "the end of "+command, func() error {
			out, missing, err := d.w.engine.Exec(limit(t), d.machine, "root", "cat "+file)
			if err != nil || missing != 0 {
				return fmt.Errorf("it goes on: %v", err)
			}
			_, err = fmt.Sscan(out, &code)
			return err
		})
		return code
	}
}

// mustRun types a command that has to succeed.
func (d *desk) mustRun(t testing.TB, command string) {
	t.Helper()
	if code := d.run(t, command); code != 0 {
		t.Fatalf("%s: exit code %d", command, code)
	}
}

// installation is the name by which the engine knows what is the server's.
func (w *world) installation(t testing.TB) string {
	t.Helper()
	return must(stage.Installation(w.Data))(t)
}

// states gives the states of all image builders, by name.
func (w *world) states(t testing.TB) map[string]types.ImageBuilderState {
	t.Helper()
	states := map[string]types.ImageBuilderState{}
	p := appstream.DescribeImageBuildersInput{}
	for {
		out := must(w.aws.DescribeImageBuilders(limit(t), &p))(t)
		for _, b := range out.ImageBuilders {
			states[*b.Name] = b.State
		}
		if p.NextToken = out.NextToken; p.NextToken == nil {
			return states
		}
	}
}

// resting tells whether nothing moves a builder of this state on by itself.
func resting(s types.ImageBuilderState) bool {
	return slices.Contains([]types.ImageBuilderState{types.ImageBuilderStateRunning, types.ImageBuilderStateStopped, types.ImageBuilderStateFailed}, s)
}
