// Package imagebuild makes images of recipes, through the API alone: an image builder is made, the steps are done in it, the image is made of it, and
// it is removed, whatever happens.
//
// All that a build leaves behind when it is killed is an image builder with tags that say whose it is, and when its build last gave a sign. The next
// build, of whatever image, finds it there.
package imagebuild

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"uuid"

	"github.com/oriel-project/oriel/internal/recipe"
)

// Build is one attempt to have the image of a recipe. AWS, Call and Recipe are required.
type Build struct {
	AWS *appstream.Client
	// Call calls one of Oriel's own operations. An error of the server is a smithy.APIError.
	Call   func(ctx context.Context, operation string, in, out any) error
	Recipe *recipe.Recipe

	Name        string            // of the image, in place of the recipe's
	Environment map[string]string // the values of Recipe.Env
	Replace     bool              // an image of the name that is another one is replaced
	Wait        bool              // for another build of the image; otherwise it is an error
	DryRun      bool              // only say what would be done
	Keep        bool              // the image builder stays when a step fails
	Newest      int               // of the images that builds of this name with {digest} have made, so many stay; 0: all

	// Progress is told what is being done. Nil: nobody is.
	Progress func(Progress)

	clock     clock
	pieceSize int64  // of files that are sent
	run       string // the ID of this build
	id        recipe.Identity
	image     string // the name
	host      string // the name of the image builder

	made      string    // host, once it may be there
	reached   bool      // the server was
	requested bool      // the image was
	proved    time.Time // when the image builder was last known to be this build's
	ready     bool      // the image builder is that of a build that was killed when all steps were done
}

// Progress is what a build is doing.
type Progress struct {
	Step   string  // in a few words; a new one when something else begins
	Detail string  // the newest of it: the last line of output
	Done   float64 // per cent; negative when that is not known
	// Builder is the name of the image builder that there may be, and that remains if the build is killed.
	Builder string
}

// clock says how long things take that depend on nothing else.
type clock struct {
	poll   time.Duration // between two looks at a state
	sign   time.Duration // between two signs of life of a build
	silent time.Duration // a build without a sign for so long is dead
	old    time.Duration // and one whose last sign has a time so long ago, whatever its clock
	retry  time.Duration // how long a server that does not answer is asked again
	tidy   time.Duration // for removing what is left
}

var realClock = clock{poll: 300 * time.Millisecond, sign: 10 * time.Second, silent: 30 * time.Second, old: 15 * time.Minute, retry: time.Minute, tidy: 30 * time.Second}

// Outcome is what became of a build.
type Outcome string

// The outcomes.
const (
	Built     Outcome = "built"
	Replaced  Outcome = "replaced"
	Unchanged Outcome = "unchanged" // the image was there
	// Of a dry run:
	WouldBuild   Outcome = "would-build"
	WouldReplace Outcome = "would-replace"
)

// Result is what came of it.
type Result struct {
	Outcome     Outcome
	Name        string
	ARN         string // "" of an image that does not exist yet
	Digest      string
	Differences []recipe.Difference // from the image that was replaced
	Removed     []string            // older images, by name; of a dry run, those that would be
}

// DiffersError says that there is another image of the name.
type DiffersError struct {
	Name        string
	Differences []recipe.Difference
	Recipe      *recipe.Recipe
}

func (e *DiffersError) Error() string {
	lines := []string{"the image " + e.Name + " is there, and is not what the recipe makes:"}
	for _, d := range e.Differences {
		where := ""
		if d.Line > 0 {
			where = e.Recipe.Place(d.Line) + ": "
		}
		lines = append(lines, "  "+where+d.String())
	}
	return strings.Join(append(lines, "give the new one another name (--name, or {digest} in the name), or replace this one with --replace"), "\n")
}

// StepError says that a step failed.
type StepError struct {
	Step    recipe.Step
	Place   string // FILE:LINE, or FILE
	Problem string
	Output  string // the end of what the step wrote
	Kept    string // the name of the image builder, if it was kept
}

func (e *StepError) Error() string { return fmt.Sprintf("%s: %s: %s", e.Place, e.Step.Name, e.Problem) }

// BusyError says that another build of the image goes on.
type BusyError struct{ Name, Builder string }

func (e *BusyError) Error() string {
	return fmt.Sprintf("another build of the image %s goes on, in the image builder %s; let it end, or wait for it with --wait", e.Name, e.Builder)
}

// The tags of the image builder of a build.
const (
	tagOf   = "oriel:build"       // the image's name
	tagRun  = "oriel:build-run"   // the ID of the build
	tagSign = "oriel:build-alive" // when it last gave a sign; RFC 3339
	tagDone = "oriel:build-done"  // all steps are done; the digest of the recipe
	tagKept = "oriel:build-kept"  // the build is over, and someone wants to look at what it left
)

// Run has the image, or says why not. Whatever it returns, nothing of the build is left, except what Keep asks for.
func (b *Build) Run(ctx context.Context) (Result, error) {
	r, err := b.have(ctx)
	if err == nil && b.Newest > 0 {
		r.Removed, err = b.removeOlder(ctx)
	}
	return r, err
}

// name is what the image is called, with {digest} in it perhaps.
func (b *Build) name() string { return cmp.Or(b.Name, b.Recipe.Image.Name) }

func (b *Build) have(ctx context.Context) (Result, error) {
	b.clock = cmp.Or(b.clock, realClock)
	b.run = uuid.New().String()
	base, err := b.base(ctx)
	if err != nil {
		return Result{}, err
	}
	b.id = b.Recipe.Identity(identity(base))
	b.image = b.id.Name(b.name())
	b.host = hostOf(b.image)
	r := Result{Name: b.image, Digest: b.id.Digest}
	for {
		b.ready = false
		old, done, err := b.settle(ctx, &r)
		if err != nil || done {
			return r, err
		}
		r.Outcome = Built
		if old != nil {
			r.Outcome = Replaced
		}
		r.ARN, err = b.build(ctx, base, old != nil)
		if _, busy := errors.AsType[*BusyError](err); busy && b.Wait || err == errMeanwhile {
			continue // another build was quicker by a moment
		}
		return r, err
	}
}

// settle looks at what is there, and comes to rest at one of these: the image is there (done), it must be made, or made in place of old. In the latter
// cases there is no image builder of another build, alive or dead.
func (b *Build) settle(ctx context.Context, r *Result) (old *types.Image, done bool, err error) {
	for {
		image, tags, err := b.find(ctx)
		switch {
		case err != nil:
			return nil, false, err
		case image == nil:
			old = nil
		case image.Visibility == types.VisibilityTypePublic:
			return nil, false, fmt.Errorf("%s is a public image; choose another name", b.image)
		case image.State == types.ImageStateDeleting, image.State == types.ImageStatePending && b.id.Same(tags):
			// Of a build that was killed when the image was being made, nothing but this waiting was left to do.
			if err := b.pause(ctx, "waiting for the image "+b.image+", which is "+string(image.State)); err != nil {
				return nil, false, err
			}
			continue
		case image.State == types.ImageStateFailed && recipe.IsOurs(tags) && !b.DryRun:
			if err := b.deleteImage(ctx); err != nil {
				return nil, false, err
			}
			continue
		case image.State == types.ImageStateAvailable && b.id.Same(tags):
			r.Outcome, r.ARN = Unchanged, *image.Arn
			if !b.DryRun {
				if err = b.clearOthers(ctx, false); err == nil {
					err = b.clearThis(ctx)
				}
			}
			return nil, true, err
		default:
			r.Differences = b.id.Differences(tags)
			if !b.Replace {
				return nil, false, &DiffersError{b.image, r.Differences, b.Recipe}
			}
			if err := b.inUse(ctx, image); err != nil {
				return nil, false, err
			}
			old = image
		}
		if b.DryRun {
			r.Outcome = WouldBuild
			if old != nil {
				r.Outcome, r.ARN = WouldReplace, *old.Arn
			}
			return old, true, nil
		}
		if free, err := b.clear(ctx); err != nil || free {
			return old, false, err
		}
		// Another build has ended meanwhile, perhaps with the image.
	}
}

// base describes the image to begin with.
func (b *Build) base(ctx context.Context) (*types.Image, error) {
	in := &appstream.DescribeImagesInput{Names: []string{b.Recipe.Base}}
	if strings.HasPrefix(b.Recipe.Base, "arn:") {
		in = &appstream.DescribeImagesInput{Arns: in.Names}
	}
	var list []types.Image
	err := b.patient(ctx, func() error {
		out, err := b.AWS.DescribeImages(ctx, in)
		if err == nil {
			list = out.Images
		}
		return err
	})
	if err != nil && !isNotFound(err) {
		return nil, err
	}
	if len(list) != 1 {
		return nil, fmt.Errorf("%s: the base image %s does not exist on this server, or may not be used", b.Recipe.Place(b.Recipe.BaseLine()), b.Recipe.Base)
	}
	if base := list[0]; base.State != types.ImageStateAvailable {
		return nil, fmt.Errorf("%s: the base image %s is %s", b.Recipe.Place(b.Recipe.BaseLine()), b.Recipe.Base, base.State)
	}
	return &list[0], nil
}

// identity tells one base image from another, and from a later one of its name. Public images are the same on every server that has the release.
func identity(base *types.Image) string {
	at := base.CreatedTime
	name := *base.Arn
	if base.Visibility == types.VisibilityTypePublic {
		name, at = *base.Name, base.PublicBaseImageReleasedDate
	}
	if at == nil {
		return name
	}
	return name + " " + at.UTC().Format(time.RFC3339)
}

// find describes the image of the name, with its tags; nil when there is none.
func (b *Build) find(ctx context.Context) (image *types.Image, tags map[string]string, err error) {
	err = b.patient(ctx, func() error {
		image, tags = nil, nil
		out, err := b.AWS.DescribeImages(ctx, &appstream.DescribeImagesInput{Names: []string{b.image}})
		if err != nil || len(out.Images) == 0 {
			return absent(err)
		}
		if out.Images[0].Visibility != types.VisibilityTypePublic {
			list, err := b.AWS.ListTagsForResource(ctx, &appstream.ListTagsForResourceInput{ResourceArn: out.Images[0].Arn})
			if err != nil {
				return absent(err)
			}
			tags = list.Tags
		}
		image = &out.Images[0]
		return nil
	})
	return image, tags, err
}

// inUse says before the work is done that the image cannot be replaced after it.
func (b *Build) inUse(ctx context.Context, image *types.Image) error {
	in := new(appstream.DescribeFleetsInput)
	for {
		out, err := b.AWS.DescribeFleets(ctx, in)
		if err != nil {
			return nil // whoever may not look will hear it when the image is deleted
		}
		for _, f := range out.Fleets {
			if f.ImageArn != nil && *f.ImageArn == *image.Arn {
				return fmt.Errorf("the image %s is in use by the fleet %s and cannot be replaced; build it under a new name ({digest} in the name) and give that to the fleet", b.image, *f.Name)
			}
		}
		if in.NextToken = out.NextToken; in.NextToken == nil {
			return nil
		}
	}
}

// build makes the image. What it has made besides is gone when it returns.
func (b *Build) build(ctx context.Context, base *types.Image, replace bool) (arn string, err error) {
	builder, err := b.create(ctx, base)
	if err != nil {
		return "", err
	}
	alive, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b.signal(alive, builder)
	}()
	defer func() {
		stop()
		<-ended
		err = b.cleanUp(ctx, builder, err)
	}()
	if err := b.awaitRunning(ctx); err != nil {
		return "", err
	}
	if err := b.mayCreate(ctx, replace); code(err) == "ResourceAlreadyExistsException" {
		return "", errMeanwhile
	} else if err != nil { // what can be known is said before the work
		return "", err
	}
	if !b.ready {
		if err := b.work(ctx, base); err != nil {
			return "", err
		}
		// A build that is killed from here on leaves an image builder with which the next one goes on, so that the name is without an image for as short as can be.
		if err := b.tag(ctx, builder, map[string]string{tagDone: b.id.Digest}); err != nil {
			return "", err
		}
	}
	if replace {
		if err := b.ours(ctx); err != nil {
			return "", err
		}
		if err := b.mayCreate(ctx, true); err != nil { // while there is the old one still
			return "", err
		}
		if err := b.deleteImage(ctx); err != nil {
			return "", err
		}
	}
	b.tell("making the image "+b.image, "", -1)
	if err := b.ours(ctx); err != nil {
		return "", err
	}
	if arn, err = b.createImage(ctx, false); err != nil {
		return "", err
	}
	return arn, b.awaitImage(ctx)
}

// errMeanwhile says that the image that was not there was made before this build had the image builder.
var errMeanwhile = errors.New("the image has been made meanwhile")

// mayCreate asks whether the image could be made. Of one that is to be replaced, the last thing that is wrong is that it is there.
func (b *Build) mayCreate(ctx context.Context, replace bool) error {
	_, err := b.createImage(ctx, true)
	if replace && code(err) == "ResourceAlreadyExistsException" {
		return nil
	}
	return err
}

// createImage asks for the image.
func (b *Build) createImage(ctx context.Context, dry bool) (arn string, err error) {
	tags := maps.Clone(b.Recipe.Image.Tags)
	if tags == nil {
		tags = map[string]string{}
	}
	maps.Copy(tags, b.id.Tags())
	in := map[string]any{"ImageBuilderName": b.host, "Name": b.image, "Tags": tags, "UseLatestAgentVersion": b.Recipe.Image.UseLatestAgent, "DryRun": dry}
	for member, text := range map[string]string{"DisplayName": b.Recipe.Image.DisplayName, "Description": b.Recipe.Image.Description} {
		if text != "" {
			in[member] = text
		}
	}
	var out struct{ Image struct{ Arn string } }
	err = b.patient(ctx, func() error {
		b.requested = b.requested || !dry
		calling, cancel := whole(ctx)
		defer cancel()
		return b.Call(calling, "CreateImage", in, &out)
	})
	if c := code(err); !dry && (c == "ResourceAlreadyExistsException" || c == "OperationNotPermittedException") { // perhaps an answer was lost
		image, tags, e := b.find(ctx)
		if e == nil && image != nil && b.id.Same(tags) && image.ImageBuilderName != nil && *image.ImageBuilderName == b.host {
			return *image.Arn, nil
		}
		b.requested = false
	}
	return out.Image.Arn, err
}

func (b *Build) awaitImage(ctx context.Context) error {
	for {
		image, _, err := b.find(ctx)
		switch {
		case err != nil:
			return err
		case image == nil || image.State == types.ImageStateDeleting:
			b.requested = false
			return fmt.Errorf("the image %s was deleted by someone", b.image)
		case image.State == types.ImageStateAvailable:
			b.requested = false
			return nil
		case image.State == types.ImageStateFailed:
			reason := "no reason is given"
			if r := image.StateChangeReason; r != nil && r.Message != nil {
				reason = *r.Message
			}
			return fmt.Errorf("the image %s is FAILED: %s", b.image, reason)
		}
		if err := b.pause(ctx, "making the image "+b.image); err != nil {
			return err
		}
	}
}

// deleteImage deletes the image of the name and waits until it is gone.
func (b *Build) deleteImage(ctx context.Context) error {
	refused := b.patient(ctx, func() error {
		_, err := b.AWS.DeleteImage(ctx, &appstream.DeleteImageInput{Name: &b.image})
		return absent(err)
	})
	for {
		image, _, err := b.find(ctx)
		switch {
		case err != nil:
			return err
		case image == nil:
			return nil
		case refused != nil && image.State != types.ImageStateDeleting: // one that is being deleted cannot be deleted
			return refused
		}
		if err := b.pause(ctx, "removing the image "+b.image+" that was there"); err != nil {
			return err
		}
	}
}

// cleanUp removes the image builder, and an image that was not finished, also when ctx has ended. It gives the error of the build, with what it could
// not do. arn is "" when it is not known whether there is an image builder.
func (b *Build) cleanUp(ctx context.Context, arn string, failed error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), b.clock.tidy)
	defer cancel()
	if step, ok := errors.AsType[*StepError](failed); ok && b.Keep { // the machine knew the job, which only this build's does
		_, err := b.AWS.TagResource(ctx, &appstream.TagResourceInput{ResourceArn: &arn, Tags: map[string]string{tagKept: now()}})
		step.Kept = b.host
		return errors.Join(failed, err)
	}
	b.tell("removing the image builder "+b.host, "", -1)
	if b.requested {
		if image, tags, err := b.find(ctx); err == nil && image != nil && b.id.Same(tags) && image.State != types.ImageStateAvailable {
			failed = errors.Join(failed, b.deleteImage(ctx))
		}
	}
	found, tags, err := b.builder(ctx, b.host)
	if err == nil && (found == nil || tags[tagRun] != b.run) {
		return failed
	}
	if err == nil {
		err = b.remove(ctx, b.host, b.run)
	}
	if err != nil {
		return errors.Join(failed, fmt.Errorf("the image builder %s is left: %w; the next build removes it", b.host, err))
	}
	return failed
}

// pause is told about, and ends with ctx.
func (b *Build) pause(ctx context.Context, step string) error {
	b.tell(step, "", -1)
	return sleep(ctx, b.clock.poll)
}

func (b *Build) tell(step, detail string, done float64) {
	if b.Progress != nil {
		b.Progress(Progress{step, detail, done, b.made})
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
