// The image builder of a build: made or taken over, kept alive by its tags, and worked on.

package imagebuild

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"

	"github.com/oriel-project/oriel/internal/recipe"
)

// create makes the image builder.
func (b *Build) create(ctx context.Context, base *types.Image) (arn string, err error) {
	b.made = b.host
	if b.ready {
		if arn, err = b.adopt(ctx); err != nil || arn != "" {
			return arn, err
		}
		b.ready = false
	}
	b.tell("making the image builder "+b.host, "", -1)
	settings := b.Recipe.Builder
	internet := b.Recipe.Internet()
	in := &appstream.CreateImageBuilderInput{
		Name: &b.host, ImageArn: base.Arn, InstanceType: &settings.InstanceType, EnableDefaultInternetAccess: &internet,
		Description: new("Makes the image " + b.image + ". oriel image build removes it."),
		Tags:        map[string]string{tagOf: b.image, tagRun: b.run, tagSign: now()},
	}
	if settings.Subnet != "" {
		in.VpcConfig = &types.VpcConfig{SubnetIds: []string{settings.Subnet}}
	}
	err = b.patient(ctx, func() error {
		calling, cancel := whole(ctx)
		defer cancel()
		out, err := b.AWS.CreateImageBuilder(calling, in)
		if err == nil {
			arn = *out.ImageBuilder.Arn
		}
		return err
	})
	if code(err) == "ResourceAlreadyExistsException" { // an answer that was lost, or another build that was quicker
		found, tags, e := b.builder(ctx, b.host)
		if e != nil {
			return "", e
		}
		if found != nil && tags[tagRun] == b.run {
			return *found.Arn, nil
		}
		return "", &BusyError{b.image, b.host}
	}
	if c := code(err); strings.HasPrefix(c, "InvalidParameter") && strings.Contains(err.Error(), settings.InstanceType) {
		err = fmt.Errorf("%s: builder.instance_type: %w", b.Recipe.Place(b.Recipe.InstanceTypeLine()), err)
	}
	if err != nil && ctx.Err() != nil { // it may have been made all the same
		err = b.cleanUp(ctx, "", err)
	}
	return arn, err
}

// adopt makes the image builder that a killed build of the same recipe has left this build's own; "" when it is not there any more.
func (b *Build) adopt(ctx context.Context) (arn string, err error) {
	found, tags, err := b.builder(ctx, b.host)
	if err != nil || found == nil || !b.isDone(found, tags) {
		return "", err
	}
	b.tell("going on with the image builder "+b.host+", in which an earlier build has done all steps", "", -1)
	return *found.Arn, b.tag(ctx, *found.Arn, map[string]string{tagRun: b.run, tagSign: now()})
}

func (b *Build) tag(ctx context.Context, arn string, tags map[string]string) error {
	return b.patient(ctx, func() error {
		_, err := b.AWS.TagResource(ctx, &appstream.TagResourceInput{ResourceArn: &arn, Tags: tags})
		return err
	})
}

// signal notes on the image builder that its build goes on.
func (b *Build) signal(ctx context.Context, arn string) {
	for sleep(ctx, b.clock.sign) == nil {
		// One that is lost is made good by the next.
		b.AWS.TagResource(ctx, &appstream.TagResourceInput{ResourceArn: &arn, Tags: map[string]string{tagSign: now()}})
	}
}

func now() string { return time.Now().UTC().Format(time.RFC3339) }

func (b *Build) awaitRunning(ctx context.Context) error {
	for {
		found, err := b.mine(ctx)
		switch {
		case err != nil:
			return err
		case found.State == types.ImageBuilderStateRunning:
			return nil
		case found.State == types.ImageBuilderStateFailed:
			return fmt.Errorf("the image builder %s is FAILED: %s", b.host, builderReason(found))
		}
		if err := b.pause(ctx, "starting the image builder "+b.host); err != nil {
			return err
		}
	}
}

// mine gives the image builder, if it is still that of this build. Others take a build for dead that gives no sign, as of a laptop that sleeps, remove its image
// builder and make theirs, of the same name: what this one would do next, it would do there.
func (b *Build) mine(ctx context.Context) (*types.ImageBuilder, error) {
	found, tags, err := b.builder(ctx, b.host)
	switch {
	case err != nil:
		return nil, err
	case found == nil || found.State == types.ImageBuilderStateDeleting:
		return nil, fmt.Errorf("the image builder %s was deleted by someone", b.host)
	case tags[tagRun] != b.run:
		return nil, b.takenOver()
	}
	return found, nil
}

// ours notes when the image builder was last seen to be that of this build, and fails when it is not.
func (b *Build) ours(ctx context.Context) error {
	began := wall()
	if _, err := b.mine(ctx); err != nil {
		return err
	}
	b.proved = began
	return nil
}

// wall is the time without a monotonic clock, which stands still while a machine sleeps.
func wall() time.Time { return time.Now().Round(0) }

func (b *Build) takenOver() error {
	return fmt.Errorf("another build has taken the place of this one, in the image builder %s: nothing was heard of this one for too long; build again", b.host)
}

func builderReason(b *types.ImageBuilder) string {
	if b.StateChangeReason == nil || b.StateChangeReason.Message == nil {
		return "no reason is given"
	}
	return *b.StateChangeReason.Message
}

// work does the steps in the image builder.
func (b *Build) work(ctx context.Context, base *types.Image) error {
	for _, u := range b.Recipe.Uploads() {
		if time.Since(b.proved) > b.clock.silent/3 {
			if err := b.ours(ctx); err != nil {
				return err
			}
		}
		if err := b.upload(ctx, u); err != nil {
			return fmt.Errorf("%s: %w", b.Recipe.Place(u.Line), err)
		}
	}
	var catalogue []string
	for _, a := range base.Applications {
		catalogue = append(catalogue, *a.Name)
	}
	steps := b.Recipe.Steps(catalogue)
	type step struct {
		Name             string
		Command          string `json:",omitzero"`
		Application      string `json:",omitzero"`
		TimeoutInSeconds int
	}
	in := struct {
		ImageBuilderName, JobId string
		Steps                   []step
		Environment             map[string]string
	}{b.host, b.run, nil, map[string]string{}}
	maps.Copy(in.Environment, b.Recipe.Environment)
	maps.Copy(in.Environment, b.Environment)
	for n, s := range steps { // their names may be commands, which need not be known to the machine's log
		in.Steps = append(in.Steps, step{stepName(n), s.Command, s.Application, int(s.Timeout / time.Second)})
	}
	err := b.ours(ctx)
	if err == nil {
		err = b.patient(ctx, func() error { return b.Call(ctx, "StartImageBuilderJob", in, nil) })
	}
	if err != nil {
		return err
	}
	told := -1 // the last step that was told about
	tell := func(last int, output string) {
		for ; told < last; told++ {
			b.tell(fmt.Sprintf("step %d of %d: %s", told+2, len(steps), steps[told+1].Name), "", -1)
		}
		if line := lastLine(output); line != "" {
			b.tell(fmt.Sprintf("step %d of %d: %s", last+1, len(steps), steps[last].Name), line, -1)
		}
	}
	for {
		var out struct {
			Job struct {
				State, Output, Problem string
				StepIndex              int
			}
		}
		ask := map[string]any{"ImageBuilderName": b.host, "JobId": b.run, "WaitInSeconds": 1}
		err := b.patient(ctx, func() error { return b.Call(ctx, "DescribeImageBuilderJob", ask, &out) })
		if err != nil {
			return err
		}
		n := min(max(out.Job.StepIndex, 0), len(steps)-1)
		output := b.redact(out.Job.Output)
		switch out.Job.State {
		case "SUCCEEDED":
			tell(len(steps)-1, "")
			return nil
		case "FAILED":
			tell(n, "")
			return &StepError{Step: steps[n], Place: b.Recipe.Place(steps[n].Line), Problem: strings.TrimPrefix(b.redact(out.Job.Problem), stepName(n)+": "), Output: output}
		}
		tell(n, output)
		if err := sleep(ctx, b.clock.poll); err != nil {
			return err
		}
	}
}

func stepName(n int) string { return fmt.Sprintf("step %d", n+1) }

// redact takes the values out of a text that came from outside and are nobody's business. A text may have some lines of a value alone, being the end of
// another.
func (b *Build) redact(s string) string {
	var secrets []string
	for _, v := range b.Environment {
		for line := range strings.Lines(v) {
			if line = strings.TrimSpace(line); len(line) >= 4 {
				secrets = append(secrets, line)
			}
		}
	}
	slices.SortFunc(secrets, func(x, y string) int { return len(y) - len(x) }) // one may be the beginning of another
	for _, secret := range secrets {
		s = strings.ReplaceAll(s, secret, "***")
	}
	return s
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return strings.TrimSpace(s[strings.LastIndexByte(s, '\n')+1:])
}

// piece is how much of a file is sent at a time. A request may have a mebibyte, of which base64 takes a quarter.
const piece = 512 << 10

// upload brings a file into the image builder. What was lost on the way is sent again.
func (b *Build) upload(ctx context.Context, u recipe.Upload) error {
	f, err := u.Open()
	if err != nil {
		return err
	}
	defer f.Close()
	what := fmt.Sprintf("sending files (%s)", u.Name())
	buf := make([]byte, min(cmp.Or(b.pieceSize, piece), u.Size))
	for at, again := int64(0), 0; ; {
		b.tell(what, "", float64(at)/float64(max(1, u.Size))*100)
		if _, err := f.Seek(at, io.SeekStart); err != nil {
			return err
		}
		part := buf[:min(int64(len(buf)), u.Size-at)]
		if _, err := io.ReadFull(f, part); err != nil {
			return fmt.Errorf("%s has changed while it was sent; build again", u.Name())
		}
		var out struct {
			ReceivedBytes int64
			Complete      bool
		}
		in := map[string]any{"ImageBuilderName": b.host, "Path": u.Path, "Mode": "600", "SizeInBytes": u.Size, "Sha256": u.SHA256, "Offset": at, "Data": part}
		if err := b.patient(ctx, func() error { return b.Call(ctx, "PutImageBuilderFile", in, &out) }); err != nil {
			return err
		}
		if out.Complete {
			return nil
		}
		if out.ReceivedBytes <= at {
			if again++; again > 3 {
				return fmt.Errorf("%s does not arrive: the image builder has %d of %d bytes", u.Name(), out.ReceivedBytes, u.Size)
			}
		}
		at = max(0, min(out.ReceivedBytes, u.Size))
	}
}
