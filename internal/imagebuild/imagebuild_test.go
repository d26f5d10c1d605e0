package imagebuild

import (
	"bytes"
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"

	"github.com/oriel-project/oriel/internal/awsclient"
	"github.com/oriel-project/oriel/internal/config"
	"github.com/oriel-project/oriel/internal/keys"
	"github.com/oriel-project/oriel/internal/recipe"
	"github.com/oriel-project/oriel/internal/server"
)

const text = `
packages = ["geany"]
env = ["TOKEN"]

[image]
name = "editor"
description = "An editor"
tags = { team = "docs" }

[[file]]
path = "/etc/editor.conf"
content = "x"

[[command]]
run = "geany --version"

[[application]]
name = "Geany"
path = "/usr/bin/geany"
`

// world is a server without machines, with something between it and its client that can fail.
type world struct {
	t    *testing.T
	url  string
	data string
	aws  *appstream.Client // past what can fail
	key  keys.Key

	mu       sync.Mutex
	calls    []string                                           // the operations that were called, without their prefix
	before   func(op string) (status int, body string)          // answers in the server's place, when the status is not 0
	after    func(op string, answer map[string]any) (lost bool) // sees and changes an answer; lost: it does not arrive
	progress []string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	c := config.Default()
	c.Listen, c.Data, c.Provider, c.SimDelay = "127.0.0.1:0", t.TempDir(), config.Sim, config.Duration{Duration: 5 * time.Millisecond}
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	s, err := server.Open(t.Context(), server.Config{Config: c, Version: "test", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- errors.Join(s.Run(ctx), s.Close()) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	w := &world{t: t, data: c.Data}
	if w.key, err = keys.Read(server.CredentialsFile(c.Data)); err != nil {
		t.Fatal(err)
	}
	w.aws = awsclient.New(s.URL(), "us-east-1", w.key)
	to, err := url.Parse(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host // which is signed
		},
		ModifyResponse: w.answer, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0),
		ErrorHandler: func(rw http.ResponseWriter, _ *http.Request, _ error) { panic(http.ErrAbortHandler) },
	}
	front := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		op := operation(r)
		w.mu.Lock()
		w.calls = append(w.calls, op)
		before := w.before
		w.mu.Unlock()
		if before != nil {
			if status, body := before(op); status != 0 {
				rw.WriteHeader(status)
				io.WriteString(rw, body)
				return
			}
		}
		proxy.ServeHTTP(rw, r)
	}))
	front.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	t.Cleanup(front.Close)
	w.url = front.URL
	until(t, "the base image", func() bool {
		out, err := w.aws.DescribeImages(t.Context(), &appstream.DescribeImagesInput{})
		return err == nil && len(out.Images) > 0
	})
	return w
}

func operation(r *http.Request) string {
	_, op, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	return op
}

// answer lets the test see an answer.
func (w *world) answer(r *http.Response) error {
	w.mu.Lock()
	after := w.after
	w.mu.Unlock()
	if after == nil || r.StatusCode != http.StatusOK {
		return nil
	}
	body, err := io.ReadAll(r.Body)
	var m map[string]any
	if err = errors.Join(err, json.Unmarshal(body, &m)); err != nil {
		return err
	}
	if after(operation(r.Request), m) {
		return errors.New("lost")
	}
	body, err = json.Marshal(m)
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	r.Header.Set("Content-Length", fmt.Sprint(len(body)))
	return err
}

func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within two minutes", what)
		}
	}
}

// build makes a build of a text.
func (w *world) build(text string) *Build {
	w.t.Helper()
	file := filepath.Join(w.t.TempDir(), "editor.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	r, err := recipe.Load(file)
	if err != nil {
		w.t.Fatal(err)
	}
	return &Build{
		AWS: awsclient.New(w.url, "us-east-1", w.key), Recipe: r, Environment: map[string]string{"TOKEN": "s3cret"},
		Call: func(ctx context.Context, op string, in, out any) error {
			return awsclient.Call(ctx, w.url, "us-east-1", w.key, "Oriel."+op, in, out)
		},
		Progress: func(p Progress) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if n := len(w.progress); n == 0 || w.progress[n-1] != p.Step {
				w.progress = append(w.progress, p.Step)
			}
		},
		clock: clock{poll: 5 * time.Millisecond, sign: 10 * time.Millisecond, silent: 300 * time.Millisecond, old: time.Hour, retry: time.Minute, tidy: time.Minute},
	}
}

func (w *world) mustBuild(b *Build, want Outcome) Result {
	w.t.Helper()
	r, err := b.Run(w.t.Context())
	if err != nil || r.Outcome != want {
		w.t.Fatalf("%s, %v; want %s", r.Outcome, err, want)
	}
	return r
}

// image describes an image with its tags; nil when there is none.
func (w *world) image(name string) (*types.Image, map[string]string) {
	w.t.Helper()
	out, err := w.aws.DescribeImages(w.t.Context(), &appstream.DescribeImagesInput{Names: []string{name}})
	if isNotFound(err) {
		return nil, nil
	}
	if err != nil {
		w.t.Fatal(err)
	}
	tags, err := w.aws.ListTagsForResource(w.t.Context(), &appstream.ListTagsForResourceInput{ResourceArn: out.Images[0].Arn})
	if isNotFound(err) {
		return nil, nil
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return &out.Images[0], tags.Tags
}

// builders names the image builders that are there.
func (w *world) builders() (names []string) {
	w.t.Helper()
	out, err := w.aws.DescribeImageBuilders(w.t.Context(), &appstream.DescribeImageBuildersInput{})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, b := range out.ImageBuilders {
		names = append(names, *b.Name)
	}
	return names
}

func (w *world) nothingLeft(images ...string) {
	w.t.Helper()
	if left := w.builders(); len(left) > 0 {
		w.t.Errorf("image builders are left: %s", left)
	}
	out, err := w.aws.DescribeImages(w.t.Context(), &appstream.DescribeImagesInput{Type: types.VisibilityTypePrivate})
	if err != nil {
		w.t.Fatal(err)
	}
	var names []string
	for _, i := range out.Images {
		names = append(names, *i.Name+" "+string(i.State))
	}
	if !slices.Equal(names, images) {
		w.t.Errorf("the images are %s, want %s", names, images)
	}
}

func (w *world) set(before func(string) (int, string), after func(string, map[string]any) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.before, w.after = before, after
}

func (w *world) called(op string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.calls {
		if c == op {
			n++
		}
	}
	return n
}

// The same file twice makes one image; another file says what differs, and replaces it when it shall.
func TestSameAndDifferent(t *testing.T) {
	w := newWorld(t)
	if r := w.mustBuild(dry(w.build(text)), WouldBuild); r.Name != "editor" || r.ARN != "" {
		t.Errorf("a dry run: %+v", r)
	}
	r := w.mustBuild(w.build(text), Built)
	if r.ARN != "arn:aws:appstream:us-east-1:123456789012:image/editor" || len(r.Digest) != 64 {
		t.Errorf("%+v", r)
	}
	w.nothingLeft("editor AVAILABLE")
	image, tags := w.image("editor")
	if tags["team"] != "docs" || tags["oriel:recipe"] != r.Digest || *image.Description != "An editor" {
		t.Errorf("the image is %+v, with the tags %v", image, tags)
	}
	made := w.called("CreateImageBuilder")
	w.mustBuild(w.build("# A remark\n"+text), Unchanged)
	w.mustBuild(dry(w.build(text)), Unchanged)
	if n := w.called("CreateImageBuilder"); n != made {
		t.Errorf("%d image builders were made for an image that is there", n-made)
	}

	other := strings.Replace(text, `["geany"]`, `["geany", "xpad"]`, 1)
	_, err := w.build(other).Run(t.Context())
	differs, ok := errors.AsType[*DiffersError](err)
	if !ok || len(differs.Differences) != 1 || differs.Differences[0].String() != "packages: xpad is new" || differs.Differences[0].Line != 2 {
		t.Fatalf("another recipe: %v", err)
	}
	if want := "editor.toml:2: packages: xpad is new"; !strings.Contains(err.Error(), want) {
		t.Errorf("the error does not say %q: %v", want, err)
	}
	b := w.build(other)
	b.Replace = true
	w.mustBuild(dry(b), WouldReplace)
	b.DryRun = false
	if again := w.mustBuild(b, Replaced); again.Digest == r.Digest {
		t.Error("another recipe has the same digest")
	}
	w.nothingLeft("editor AVAILABLE")

	named := w.build(other)
	named.Name = "editor-{digest}"
	if r := w.mustBuild(named, Built); r.Name != "editor-"+r.Digest[:12] {
		t.Errorf("a name with a digest: %+v", r)
	}
	plain := w.build(text)
	plain.Name = "plain"
	w.mustBuild(plain, Built)
}

func dry(b *Build) *Build {
	b.DryRun = true
	return b
}

// failStep has the step of a number fail.
func failStep(n int) func(string, map[string]any) bool {
	return func(op string, answer map[string]any) bool {
		if op == "DescribeImageBuilderJob" {
			job := answer["Job"].(map[string]any)
			job["State"], job["StepIndex"], job["Output"], job["Problem"] = "FAILED", n, "one\ns3cret\nE: no such package\n", fmt.Sprintf("step %d: it ended with code 100", n+1)
		}
		return false
	}
}

// A step that fails is told with its line and its output, and nothing is left, unless that is wanted.
func TestFailingStep(t *testing.T) {
	w := newWorld(t)
	w.set(nil, failStep(2))
	_, err := w.build(text).Run(t.Context())
	step, ok := errors.AsType[*StepError](err)
	if !ok || step.Step.Line != 14 || step.Problem != "it ended with code 100" || step.Output != "one\n***\nE: no such package\n" ||
		!strings.HasSuffix(err.Error(), "editor.toml:14: geany --version: it ended with code 100") {
		t.Fatalf("%v: %+v", err, step)
	}
	w.nothingLeft()

	b := w.build(text)
	b.Keep = true
	_, err = b.Run(t.Context())
	if step, ok = errors.AsType[*StepError](err); !ok || step.Kept != "build-editor" || !slices.Equal(w.builders(), []string{"build-editor"}) {
		t.Fatalf("%v: %+v, %s", err, step, w.builders())
	}
	// The next build does not wait to see whether the other is alive.
	w.set(nil, nil)
	b = w.build(text)
	b.clock.silent = time.Hour
	w.mustBuild(b, Built)
	w.nothingLeft("editor AVAILABLE")
	if !slices.Contains(w.progress, "step 6 of 7: test that Geany draws a window") {
		t.Errorf("what was told: %q", w.progress)
	}
}

// An image that is to be replaced stays when the new one is refused, before the work or after it.
func TestReplaceIsRefused(t *testing.T) {
	w := newWorld(t)
	old := w.mustBuild(w.build(text), Built)
	for refusedAt := range 2 {
		var mu sync.Mutex
		n := -1
		w.set(func(op string) (int, string) {
			mu.Lock()
			defer mu.Unlock()
			if op == "CreateImage" {
				n++
			}
			if op == "CreateImage" && n >= refusedAt {
				return http.StatusBadRequest, `{"__type":"OperationNotPermittedException","Message":"The catalogue is broken."}`
			}
			return 0, ""
		}, nil)
		b := w.build(strings.Replace(text, "An editor", "Another editor", 1))
		b.Replace = true
		if _, err := b.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "The catalogue is broken.") {
			t.Errorf("refused at %d: %v", refusedAt, err)
		}
		w.set(nil, nil)
		if image, tags := w.image("editor"); image == nil || image.State != types.ImageStateAvailable || tags["oriel:recipe"] != old.Digest {
			t.Fatalf("refused at %d: the old image is %+v", refusedAt, image)
		}
		w.nothingLeft("editor AVAILABLE")
	}
}

// Wherever a build is interrupted, nothing of it is left when it returns.
func TestInterrupt(t *testing.T) {
	w := newWorld(t)
	for _, op := range []string{"CreateImageBuilder", "PutImageBuilderFile", "StartImageBuilderJob", "DescribeImageBuilderJob", "CreateImage"} {
		for _, when := range []string{"before", "after"} {
			ctx, cancel := context.WithCancel(t.Context())
			stop := func(x string, answer map[string]any) bool {
				if dry, _ := answer["DryRun"].(bool); x == op && !dry {
					cancel()
				}
				return false
			}
			if when == "before" {
				w.set(func(x string) (int, string) { stop(x, nil); return 0, "" }, nil)
			} else {
				w.set(nil, stop)
			}
			if _, err := w.build(text).Run(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("interrupted %s %s: %v", when, op, err)
			}
			cancel()
			if image, _ := w.image("editor"); image != nil && op == "CreateImage" && when == "after" && image.State == types.ImageStateAvailable {
				w.remove("editor") // it was whole before the build had heard that it is interrupted
			}
			w.nothingLeft()
		}
	}
}

// Whichever call of a build is its last, because it is killed there, the next build has the image and leaves nothing else.
func TestKilled(t *testing.T) {
	w := newWorld(t)
	b := w.build(text)
	w.mustBuild(b, Built)
	w.remove("editor")
	n := len(w.calls)
	for last := 1; last < n; last += 1 + last/8 {
		dead := false
		calls := 0
		kill := func(string) (int, string) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if calls++; calls > last {
				dead = true
			}
			if dead {
				panic(http.ErrAbortHandler)
			}
			return 0, ""
		}
		w.set(kill, nil)
		b := w.build(text)
		b.clock.retry, b.clock.tidy = 0, 10*time.Millisecond // what a dead process does not do, this one shall not either
		r, err := b.Run(t.Context())
		w.set(nil, nil)
		next := w.build(text)
		next.clock.silent = 50 * time.Millisecond
		again, err2 := next.Run(t.Context())
		if err2 != nil || again.Outcome != Built && again.Outcome != Unchanged {
			t.Fatalf("killed after %d calls (%s, %v), then %s, %v", last, r.Outcome, err, again.Outcome, err2)
		}
		until(t, "the image builder is gone", func() bool { return len(w.builders()) == 0 })
		w.nothingLeft("editor AVAILABLE")
		w.remove("editor")
		if t.Failed() {
			t.Fatalf("killed after %d calls", last)
		}
	}
}

// remove deletes an image.
func (w *world) remove(name string) {
	w.t.Helper()
	if _, err := w.aws.DeleteImage(w.t.Context(), &appstream.DeleteImageInput{Name: &name}); err != nil {
		w.t.Fatal(err)
	}
	until(w.t, "the image is gone", func() bool { i, _ := w.image(name); return i == nil })
}

// Answers that are lost, and a server that has no time, change nothing.
func TestUnreliableServer(t *testing.T) {
	w := newWorld(t)
	lose := map[string]int{"CreateImageBuilder": 1, "StartImageBuilderJob": 1, "PutImageBuilderFile": 1, "CreateImage": 2, "DeleteImageBuilder": 1, "DescribeImages": 0}
	var mu sync.Mutex
	n := 0
	w.set(func(string) (int, string) {
		mu.Lock()
		defer mu.Unlock()
		if n++; n%7 == 0 {
			return http.StatusBadRequest, `{"__type":"ThrottlingException","Message":"Rate exceeded"}`
		}
		return 0, ""
	}, func(op string, _ map[string]any) bool {
		mu.Lock()
		defer mu.Unlock()
		lose[op]--
		return lose[op] >= 0
	})
	w.mustBuild(w.build(text), Built)
	w.set(nil, nil)
	w.nothingLeft("editor AVAILABLE")
}

// Two builds of an image at a time: one makes it, the other is refused, or waits and finds it.
func TestTwoBuilds(t *testing.T) {
	w := newWorld(t)
	hold := make(chan struct{})
	started := make(chan struct{})
	var once sync.Once
	w.set(func(op string) (int, string) {
		if op == "StartImageBuilderJob" {
			once.Do(func() { close(started) })
			<-hold
		}
		return 0, ""
	}, nil)
	first := w.build(text)
	ended := make(chan error, 1)
	go func() {
		r, err := first.Run(t.Context())
		if err == nil && r.Outcome != Built {
			err = fmt.Errorf("the first is %s", r.Outcome)
		}
		ended <- err
	}()
	<-started
	second := w.build(text)
	second.clock.silent = time.Minute
	_, err := second.Run(t.Context())
	if _, busy := errors.AsType[*BusyError](err); !busy {
		t.Fatalf("a second build: %v", err)
	}
	third := w.build(text)
	third.clock.silent, third.Wait = time.Minute, true
	waited := make(chan error, 1)
	go func() {
		r, err := third.Run(t.Context())
		if err == nil && r.Outcome != Unchanged {
			err = fmt.Errorf("the third is %s", r.Outcome)
		}
		waited <- err
	}()
	close(hold)
	if err := errors.Join(<-ended, <-waited); err != nil {
		t.Error(err)
	}
	w.nothingLeft("editor AVAILABLE")
}

// Another build has the image made, and has gone, between a build's look at what there is and its own beginning: the image is there. One of another recipe is told.
func TestMadeMeanwhile(t *testing.T) {
	w := newWorld(t)
	meanwhile := func() {
		first := w.build(text)
		w.set(func(op string) (int, string) {
			if op == "CreateImageBuilder" {
				w.set(nil, nil)
				if r, err := first.Run(t.Context()); err != nil || r.Outcome != Built {
					t.Errorf("the other build: %s, %v", r.Outcome, err)
				}
			}
			return 0, ""
		}, nil)
	}
	meanwhile()
	w.mustBuild(w.build(text), Unchanged)
	w.nothingLeft("editor AVAILABLE")
	w.remove("editor")
	meanwhile()
	_, err := w.build(strings.Replace(text, `["geany"]`, `["geany", "xpad"]`, 1)).Run(t.Context())
	if _, differs := errors.AsType[*DiffersError](err); !differs {
		t.Errorf("another recipe: %v", err)
	}
	w.nothingLeft("editor AVAILABLE")
}

// A build that was held up for so long that another took it for dead finds that when it goes on: it leaves the other's image builder alone, and makes no
// image of it.
func TestTakenOver(t *testing.T) {
	for _, at := range []string{"starting", "sending files", "making the image editor"} {
		t.Run(at, func(t *testing.T) {
			w := newWorld(t)
			hold := func(b *Build, at string) (reached, goOn chan struct{}) {
				reached, goOn = make(chan struct{}), make(chan struct{})
				var once sync.Once
				b.Progress = func(p Progress) {
					if strings.HasPrefix(p.Step, at) {
						once.Do(func() { close(reached); <-goOn })
					}
				}
				return reached, goOn
			}
			run := func(b *Build) chan error {
				ended := make(chan error, 1)
				go func() {
					r, err := b.Run(t.Context())
					if err == nil && r.Outcome != Built {
						err = fmt.Errorf("it is %s", r.Outcome)
					}
					ended <- err
				}()
				return ended
			}
			first := w.build(text)
			first.clock.sign, first.clock.silent = time.Hour, 10*time.Millisecond // it gives no sign of life
			reached, goOn := hold(first, at)
			if at == "starting" { // which is not told of an image builder that runs when it is looked at first
				w.set(nil, func(op string, answer map[string]any) bool {
					select {
					case <-reached:
					default:
						builders, _ := answer["ImageBuilders"].([]any)
						for _, b := range builders {
							b.(map[string]any)["State"] = "PENDING"
						}
					}
					return false
				})
			}
			firstEnded := run(first)
			<-reached
			second := w.build(text)
			second.clock.silent = 50 * time.Millisecond
			middle := "step 1"
			if at == "making the image editor" { // the second goes on with what the first has done
				middle = at
			}
			working, finish := hold(second, middle)
			secondEnded := run(second)
			<-working

			close(goOn)
			if err := <-firstEnded; err == nil || !strings.Contains(err.Error(), "another build has taken") {
				t.Errorf("the first: %v", err)
			}
			if image, _ := w.image("editor"); image != nil {
				t.Errorf("the first has made an image of what the second has not finished: it is %s", image.State)
			}
			if !slices.Equal(w.builders(), []string{"build-editor"}) {
				t.Errorf("the image builders are %s", w.builders())
			}
			close(finish)
			if err := <-secondEnded; err != nil {
				t.Errorf("the second: %v", err)
			}
			w.nothingLeft("editor AVAILABLE")
		})
	}
}

// What is nobody's business is not told, in whatever order it comes, and however many lines it has.
func TestRedact(t *testing.T) {
	b := Build{Environment: map[string]string{"USER": "hunter", "PASSWORD": "hunter22", "KEY": "-----BEGIN-----\r\nabcdef\n  ghijkl\n", "SHORT": "abc"}}
	for text, want := range map[string]string{
		"hunter22 and hunter":                       "*** and ***",
		"-----BEGIN-----\nabcdef\n  ghijkl":         "***\n***\n  ***",
		"def\n  ghijkl\nnothing but abc and a: b\n": "def\n  ***\nnothing but abc and a: b\n",
	} {
		for range 20 { // maps have no order
			if got := b.redact(text); got != want {
				t.Fatalf("%q is told as %q, want %q", text, got, want)
			}
		}
	}
}

// What is not the build's is left alone.
func TestOthersThings(t *testing.T) {
	w := newWorld(t)
	_, err := w.aws.CreateImageBuilder(t.Context(), &appstream.CreateImageBuilderInput{Name: new("build-editor"), ImageName: new("oriel-debian-12"), InstanceType: new("stream.standard.medium")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.build(text).Run(t.Context()); err == nil || !strings.Contains(err.Error(), "that no build of the image editor has made") {
		t.Errorf("somebody's image builder: %v", err)
	}
	if !slices.Equal(w.builders(), []string{"build-editor"}) {
		t.Errorf("the image builders are %s", w.builders())
	}
	public := w.build(text)
	public.Name = "oriel-debian-12"
	if _, err := public.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "is a public image") {
		t.Errorf("a public image's name: %v", err)
	}
	nowhere := w.build("base = \"nothing\"\n" + text)
	if _, err := nowhere.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "editor.toml:1: the base image nothing does not exist") {
		t.Errorf("a base that is not there: %v", err)
	}
}

// What killed builds of other images have left is removed; what lives, is kept, or is somebody else's stays.
func TestOtherBuilds(t *testing.T) {
	w := newWorld(t)
	arns := map[string]string{}
	for name, tags := range map[string]map[string]string{
		"build-e-old":   {tagOf: "e-old", tagRun: "r", tagSign: "2020-01-02T03:04:05Z"},
		"build-e-dead":  {tagOf: "e-dead", tagRun: "r", tagSign: now()},
		"build-e-alive": {tagOf: "e-alive", tagRun: "r", tagSign: now()},
		"build-e-kept":  {tagOf: "e-kept", tagRun: "r", tagSign: "2020-01-02T03:04:05Z", tagKept: now()},
		"build-e-else":  {tagOf: "e-old", tagRun: "r", tagSign: "2020-01-02T03:04:05Z"},
		"build-mine":    {"team": "docs"},
	} {
		out, err := w.aws.CreateImageBuilder(t.Context(), &appstream.CreateImageBuilderInput{Name: &name, ImageName: new("oriel-debian-12"), InstanceType: new("stream.standard.medium"), Tags: tags})
		if err != nil {
			t.Fatal(err)
		}
		arns[name] = *out.ImageBuilder.Arn
	}
	signs := 0
	b := w.build(text)
	b.clock.silent = 200 * time.Millisecond
	w.set(func(op string) (int, string) {
		look := op == "ListTagsForResource"
		if w.mu.Lock(); look {
			signs++
		}
		sign := fmt.Sprintf("2099-01-02T03:04:05.%09dZ", signs)
		away := signs > 3 && signs < 18 // the server, also for a build that lives
		w.mu.Unlock()
		if away {
			if look {
				time.Sleep(b.clock.silent + time.Millisecond)
			}
			return 0, ""
		}
		if _, err := w.aws.TagResource(t.Context(), &appstream.TagResourceInput{ResourceArn: new(arns["build-e-alive"]), Tags: map[string]string{tagSign: sign}}); err != nil {
			t.Error(err)
		}
		return 0, ""
	}, nil)
	b.Name = "e-{digest}"
	w.mustBuild(b, Built)
	if got, want := w.builders(), []string{"build-e-alive", "build-e-else", "build-e-kept", "build-mine"}; !slices.Equal(got, want) {
		t.Errorf("the image builders are %s, want %s", got, want)
	}
	for _, want := range []string{"removing the image builder build-e-old, which a build of the image e-old has left", "removing the image builder build-e-dead, which a build of the image e-dead has left"} {
		if !slices.Contains(w.progress, want) {
			t.Errorf("%q is not told: %q", want, w.progress)
		}
	}
}

// A file of several pieces arrives whole, though pieces are lost.
func TestUpload(t *testing.T) {
	w := newWorld(t)
	b := w.build(strings.Replace(text, `content = "x"`, fmt.Sprintf("content = %q", strings.Repeat("0123456789", 20_000)), 1))
	var at []int64
	b.Call = func(_ context.Context, op string, in, out any) error {
		m := in.(map[string]any)
		offset, n := m["Offset"].(int64), int64(len(m["Data"].([]byte)))
		at = append(at, offset)
		received := offset + n
		if len(at) == 2 {
			received = 100 // as of a machine that has lost what came
		}
		text := fmt.Sprintf(`{"ReceivedBytes":%d,"Complete":%v}`, received, received == 200_000)
		return json.Unmarshal([]byte(text), out)
	}
	b.reached = true
	u := b.Recipe.Uploads()[0]
	b.pieceSize = 60_000
	if err := b.upload(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	if want := []int64{0, 60_000, 100, 60_100, 120_100, 180_100}; !slices.Equal(at, want) {
		t.Errorf("pieces began at %d, want %d", at, want)
	}
}

// A build that is killed between the old image's removal and the making of the new one is gone on with: no step is done again. Of another recipe it is not.
func TestKilledWhileReplacing(t *testing.T) {
	w := newWorld(t)
	other := strings.Replace(text, `["geany"]`, `["geany", "xpad"]`, 1)
	third := strings.Replace(text, `["geany"]`, `["xpad"]`, 1)
	for _, test := range []struct {
		next string
		jobs int // that the next build has done
	}{{other, 0}, {third, 1}} {
		w.mustBuild(w.build(text), Built)
		asked := 0
		w.set(func(op string) (int, string) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if op == "CreateImage" {
				asked++
			}
			if asked == 3 { // twice it was asked whether the image could be made
				panic(http.ErrAbortHandler)
			}
			return 0, ""
		}, nil)
		killed := w.build(other)
		killed.Replace, killed.clock.retry, killed.clock.tidy = true, 0, 10*time.Millisecond
		if r, err := killed.Run(t.Context()); err == nil {
			t.Fatalf("it was not killed: %+v", r)
		}
		w.set(nil, nil)
		if i, _ := w.image("editor"); i != nil || len(w.builders()) != 1 {
			t.Fatalf("after the kill there is %+v, and %s", i, w.builders())
		}
		jobs, made := w.called("StartImageBuilderJob"), w.called("CreateImageBuilder")
		next := w.build(test.next)
		next.clock.silent = 50 * time.Millisecond
		w.mustBuild(next, Built)
		if n, m := w.called("StartImageBuilderJob")-jobs, w.called("CreateImageBuilder")-made; n != test.jobs || m != test.jobs {
			t.Errorf("the next build made %d image builders and did %d jobs, want %d", m, n, test.jobs)
		}
		w.nothingLeft("editor AVAILABLE")
		w.remove("editor")
	}
}

// Of the images of a name with the digest in it the newest stay, and those that somebody needs; images of others are nobody's business.
func TestKeepTheNewest(t *testing.T) {
	w := newWorld(t)
	build := func(packages string, newest int) *Build {
		b := w.build(strings.Replace(text, `["geany"]`, packages, 1))
		b.Name, b.Newest = "editor-{digest}-x", newest
		return b
	}
	var names []string
	for _, packages := range []string{`["a1"]`, `["a2"]`, `["a3"]`, `["a4"]`, `["a5"]`} {
		names = append(names, w.mustBuild(build(packages, 0), Built).Name)
	}
	plain := w.build(text)
	plain.Name = "editor-000000000000-x" // another name, of the same form
	w.mustBuild(plain, Built)
	if _, err := w.aws.CreateImageBuilder(t.Context(), &appstream.CreateImageBuilderInput{Name: new("mine"), ImageName: &names[0], InstanceType: new("stream.standard.small")}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.aws.UpdateImagePermissions(t.Context(), &appstream.UpdateImagePermissionsInput{Name: &names[1], SharedAccountId: new("210987654321"),
		ImagePermissions: &types.ImagePermissions{AllowFleet: new(true)}}); err != nil {
		t.Fatal(err)
	}
	want := []string{names[3], names[2]}
	if r := w.mustBuild(dry(build(`["a6"]`, 2)), WouldBuild); !slices.Equal(r.Removed, want) {
		t.Errorf("a dry run would remove %s, want %s", r.Removed, want)
	}
	r := w.mustBuild(build(`["a6"]`, 2), Built)
	if !slices.Equal(r.Removed, want) {
		t.Errorf("it removed %s, want %s", r.Removed, want)
	}
	for _, name := range want {
		until(t, "it is gone", func() bool { i, _ := w.image(name); return i == nil })
	}
	for _, name := range []string{names[0], names[1], names[4], r.Name, plain.Name} {
		if i, _ := w.image(name); i == nil || i.State != types.ImageStateAvailable {
			t.Errorf("the image %s is %+v", name, i)
		}
	}
	// The image that is there is the newest, whatever its age.
	if again := w.mustBuild(build(`["a5"]`, 1), Unchanged); !slices.Equal(again.Removed, []string{r.Name}) {
		t.Errorf("it removed %s", again.Removed)
	}
}

// What the server alone can know of a file is said with its line, before anything is sent.
func TestUnknownInstanceType(t *testing.T) {
	w := newWorld(t)
	_, err := w.build(text + "\n[builder]\ninstance_type = \"stream.standard.13xlarge\"\n").Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "editor.toml:") || !strings.Contains(err.Error(), "builder.instance_type: ") || !strings.Contains(err.Error(), "stream.standard.13xlarge") || code(err) == "" {
		t.Errorf("%v", err)
	}
	if w.called("PutImageBuilderFile") != 0 || len(w.builders()) != 0 {
		t.Error("something was sent, or is left")
	}
}
