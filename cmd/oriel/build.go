package main

import (
	"cmp"
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/oriel-project/oriel/internal/awsclient"
	"github.com/oriel-project/oriel/internal/imagebuild"
	"github.com/oriel-project/oriel/internal/recipe"
)

type buildImageCommand struct {
	place
	remote
	File string `arg:"" help:"What the image shall have; see docs/images-as-code.md." placeholder:"FILE"`
	Name string `help:"Name of the image, in place of the file's; {digest} in it stands for the recipe's digest." placeholder:"NAME"`

	Check         bool   `help:"Only say whether the file is right, and what would be done. No server is asked." xor:"only"`
	DryRun        bool   `help:"Only ask the server whether the image is there, and say what differs." xor:"only"`
	Replace       bool   `help:"Replace an image of the name that is another one."`
	Wait          bool   `help:"Wait when another build of the image goes on. What this one does is waited for in any case."`
	Keep          int    `help:"Of a name with {digest} in it: keep so many images, with this one, and remove the older ones that builds of that name have made. Those that are in use or shared stay." placeholder:"N"`
	KeepOnFailure bool   `help:"Leave the image builder when a step fails, to look into it. The next build removes it."`
	Output        string `help:"What to print: the image's ARN (text), or a JSON object." enum:"text,json" default:"text"`
}

// How oriel image build ends, besides 0 (the image is there) and 1 (anything else). docs/images-as-code.md has them.
const (
	exitFile        = 2   // the file is not right
	exitDiffers     = 3   // there is another image of the name
	exitStep        = 4   // a step or a test failed
	exitBusy        = 5   // another build of the image goes on
	exitInterrupted = 130 // as of programs that SIGINT ends
)

// exitError is an error with an exit code of its own.
type exitError struct {
	error
	code int
}

func (e exitError) Unwrap() error { return e.error }

// Run has the image.
func (c *buildImageCommand) Run(ctx context.Context) error {
	r, err := recipe.Load(c.File)
	if err != nil {
		return exitError{err, exitFile}
	}
	if c.Name != "" {
		if err := recipe.CheckName(c.Name); err != nil {
			return exitError{fmt.Errorf("--name: %w", err), exitFile}
		}
	}
	switch name := cmp.Or(c.Name, r.Image.Name); {
	case c.Keep < 0:
		return exitError{fmt.Errorf("--keep is %d; it must be at least 1", c.Keep), exitFile}
	case c.Keep > 0 && !recipe.HasDigest(name):
		return exitError{fmt.Errorf("--keep needs {digest} in the image's name, and there is none in %s: there is one image of it at a time", name), exitFile}
	}
	if c.Check {
		c.explain(r)
		return nil
	}
	environment := map[string]string{}
	for _, name := range r.Env {
		value, ok := os.LookupEnv(name)
		if !ok {
			return exitError{fmt.Errorf("%s: the variable %s is to be passed on, and is not set", c.File, name), exitFile}
		}
		environment[name] = value
	}
	client, err := c.connect(c.forClient(c.Endpoint))
	if err != nil {
		return err
	}
	p := newProgress()
	build := imagebuild.Build{
		AWS: client.aws, Recipe: r, Name: c.Name, Environment: environment,
		Call: func(ctx context.Context, op string, in, out any) error {
			return awsclient.Call(ctx, client.endpoint, client.region, client.key, "Oriel."+op, in, out)
		},
		Replace: c.Replace, Wait: c.Wait, DryRun: c.DryRun, Keep: c.KeepOnFailure, Newest: c.Keep, Progress: p.tell,
	}
	if !signal.Ignored(syscall.SIGHUP) { // as nohup has it
		var stop context.CancelFunc
		ctx, stop = signal.NotifyContext(ctx, syscall.SIGHUP)
		defer stop()
	}
	ended := make(chan struct{})
	defer close(ended)
	survive(p, ended)
	result, err := build.Run(ctx)
	p.end(err)
	if err != nil && ctx.Err() != nil {
		err = interrupted(err)
	}
	if e := c.print(result, err); e != nil && err == nil {
		return e
	}
	return c.failed(err)
}

// survive lets a build remove its image builder after the first signal to end, and after nobody reads its output any more. A second signal ends it at
// once, except that a terminal which is closed may say so more than once.
func survive(p *progress, ended <-chan struct{}) {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(signals, syscall.SIGHUP)
	}
	// Of pipes that nobody reads, writing tells as well. Who does not listen to this signal is ended by it; who ignores it has programs that do.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	go func() {
		for first := true; ; {
			select {
			case <-ended:
				return
			case s := <-signals:
				if !first && s != syscall.SIGHUP {
					time.AfterFunc(time.Second, func() { os.Exit(exitInterrupted) }) // whoever reads may not go on
					p.abandon()
					os.Exit(exitInterrupted)
				}
				first = false
			}
		}
	}()
}

// interrupted is the error of a build that was, with what it could not remove.
func interrupted(err error) error {
	text := "interrupted"
	if errs, ok := err.(interface{ Unwrap() []error }); ok && len(errs.Unwrap()) > 1 {
		text += "; " + errors.Join(errs.Unwrap()[1:]...).Error()
	} else if step, ok := errors.AsType[*imagebuild.StepError](err); ok && step.Kept != "" {
		text += "; the image builder " + step.Kept + " is kept"
	} else {
		fmt.Fprintln(os.Stderr, "nothing of the build is left")
	}
	return exitError{errors.New(text), exitInterrupted}
}

// explain prints what a file would do.
func (c *buildImageCommand) explain(r *recipe.Recipe) {
	for _, u := range r.Uploads() {
		fmt.Printf("send  %s (%d bytes)\n", u.Name(), u.Size)
	}
	for n, s := range r.Steps(nil) {
		fmt.Printf("%4d  %s\n", n+1, s.Name)
	}
	fmt.Fprintf(os.Stderr, "%s is right\n", c.File)
}

// print prints what came of it.
func (c *buildImageCommand) print(r imagebuild.Result, failed error) error {
	if c.Output == "json" {
		return c.printJSON(r, failed)
	}
	if failed != nil {
		return nil
	}
	if c.DryRun {
		for _, name := range r.Removed {
			fmt.Fprintf(os.Stderr, "the image %s would be removed\n", name)
		}
	}
	switch r.Outcome {
	case imagebuild.Unchanged:
		fmt.Fprintf(os.Stderr, "the image %s is there already, made of the same recipe\n", r.Name)
	case imagebuild.WouldBuild:
		fmt.Fprintf(os.Stderr, "the image %s is not there; it would be built\n", r.Name)
		return nil
	case imagebuild.WouldReplace:
		fmt.Fprintf(os.Stderr, "the image %s would be replaced:\n", r.Name)
		for _, d := range r.Differences {
			fmt.Fprintf(os.Stderr, "  %s\n", d)
		}
		return nil
	}
	_, err := fmt.Println(r.ARN)
	return err
}

func (c *buildImageCommand) printJSON(r imagebuild.Result, failed error) error {
	out := struct {
		Result      imagebuild.Outcome
		Name        string   `json:",omitzero"`
		Arn         string   `json:",omitzero"`
		Digest      string   `json:",omitzero"`
		Differences []string `json:",omitempty"`
		Removed     []string `json:",omitempty"`
		Error       string   `json:",omitzero"`
		Line        int      `json:",omitzero"`
		Step        string   `json:",omitzero"`
		Output      string   `json:",omitzero"`
	}{Result: r.Outcome, Name: r.Name, Arn: r.ARN, Digest: r.Digest, Removed: r.Removed}
	for _, d := range r.Differences {
		out.Differences = append(out.Differences, d.String())
	}
	if failed != nil {
		out.Result, out.Arn, out.Error = "failed", "", explain(failed).Error()
		if s, ok := errors.AsType[*imagebuild.StepError](failed); ok {
			out.Step, out.Line, out.Output = s.Step.Name, s.Step.Line, s.Output
		}
	}
	text, err := json.Marshal(out)
	if err == nil {
		_, err = fmt.Printf("%s\n", text)
	}
	return err
}

// failed gives an error its exit code, and a failed step its output.
func (c *buildImageCommand) failed(err error) error {
	if e, ok := errors.AsType[exitError](err); ok {
		return e
	}
	if s, ok := errors.AsType[*imagebuild.StepError](err); ok {
		if s.Output != "" {
			fmt.Fprintf(os.Stderr, "--- the end of what it wrote:\n%s\n---\n", strings.TrimRight(s.Output, "\n"))
		}
		if s.Kept != "" {
			fmt.Fprintf(os.Stderr, "The image builder %s is left. To look into it: aws appstream create-image-builder-streaming-url --name %[1]s\n", s.Kept)
		}
		return exitError{err, exitStep}
	}
	if _, ok := errors.AsType[*imagebuild.DiffersError](err); ok {
		return exitError{err, exitDiffers}
	}
	if _, ok := errors.AsType[*imagebuild.BusyError](err); ok {
		return exitError{err, exitBusy}
	}
	if err == nil {
		return nil
	}
	return explain(err)
}

// progress tells on standard error what is being done: a line for each step, of which the last changes on a terminal.
type progress struct {
	s    *status
	last string

	mu      sync.Mutex
	builder string // the image builder that there may be
}

func newProgress() *progress { return &progress{s: newStatus(os.Stderr)} }

func (p *progress) tell(now imagebuild.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.builder = now.Builder
	if p.s.terminal && p.last != "" && p.last != now.Step {
		p.s.done("%s", p.last)
		p.s.width = 0
	}
	p.last = now.Step
	p.s.tell(now.Step, now.Detail, now.Done)
}

// abandon says what may be left of a build that ends at once.
func (p *progress) abandon() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.s.clear()
	if p.builder != "" {
		fmt.Fprintf(os.Stderr, "oriel: ended at once; the image builder %s may remain, and the next build removes it\n", p.builder)
	}
}

// end ends the last line.
func (p *progress) end(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err != nil:
		p.s.clear()
	case p.last != "":
		p.s.done("done")
	}
}
