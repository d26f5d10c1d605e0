package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/aws/smithy-go"

	"github.com/oriel-project/oriel/e2e/stage"
	"github.com/oriel-project/oriel/internal/compute/sim"
)

// gone is the state of what does not exist.
const gone = "gone"

// owner is a client with one image builder, with which it does what the API allows, in an order of chance. It remembers what
// may have become of it: what a server has answered is so; what it has not answered, may be so or not.
type owner struct {
	*world
	name   string
	random *rand.Rand
	images int
	may    map[string][]string // builder's or image's name → the states that it may end in
	done   *atomic.Int64       // operations that were accepted, of all owners
}

// work goes on until ctx ends. A server that does not answer is waited for. What has been begun is not cut off, so that nothing comes of it later.
func (o *owner) work(ctx context.Context) {
	for ctx.Err() == nil {
		whole := context.WithoutCancel(ctx)
		b, err := stage.Builder(whole, o.aws, o.name)
		if err == nil {
			err = o.step(whole, b)
		}
		if _, answered := errors.AsType[smithy.APIError](err); err != nil && !answered {
			wait, cancel := context.WithTimeout(ctx, patience)
			_ = o.Ready(wait) // or it is the end
			cancel()
		}
	}
}

// step does one operation with the builder as it was seen.
func (o *owner) step(ctx context.Context, b *types.ImageBuilder) error {
	chance := 8
	if b != nil && !resting(b.State) { // it is on its way, and seldom disturbed
		chance = 100
		time.Sleep(5 * time.Millisecond)
	}
	switch {
	case b == nil:
		return o.try(o.name, string(types.ImageBuilderStateRunning), func() error {
			_, err := o.aws.CreateImageBuilder(ctx, &appstream.CreateImageBuilderInput{
				Name: &o.name, ImageName: new(stage.BaseImage), InstanceType: new("stream.standard.small")})
			return err
		})
	case o.random.IntN(chance) == 0: // whatever it is doing
		err := o.try(o.name, gone, func() error {
			_, err := o.aws.DeleteImageBuilder(ctx, &appstream.DeleteImageBuilderInput{Name: &o.name})
			return err
		})
		// What was being made of it may have failed then.
		for name, states := range o.may {
			if name != o.name && !slices.Contains(states, string(types.ImageStateFailed)) {
				o.may[name] = append(states, string(types.ImageStateFailed))
			}
		}
		return err
	case b.State == types.ImageBuilderStateRunning && o.random.IntN(2) == 0:
		return o.try(o.name, string(types.ImageBuilderStateStopped), func() error {
			_, err := o.aws.StopImageBuilder(ctx, &appstream.StopImageBuilderInput{Name: &o.name})
			return err
		})
	case b.State == types.ImageBuilderStateRunning:
		o.images++
		image := fmt.Sprintf("%s-%d", o.name, o.images)
		o.may[image] = []string{gone}
		return o.try(image, string(types.ImageStateAvailable), func() error {
			return o.try(o.name, string(types.ImageBuilderStateStopped), func() error { return o.createImage(ctx, image) })
		})
	case b.State == types.ImageBuilderStateStopped:
		return o.try(o.name, string(types.ImageBuilderStateRunning), func() error {
			_, err := o.aws.StartImageBuilder(ctx, &appstream.StartImageBuilderInput{Name: &o.name})
			return err
		})
	}
	return nil
}

// try notes what an operation makes of name.
func (o *owner) try(name, becomes string, operation func() error) error {
	err := operation()
	_, refused := errors.AsType[smithy.APIError](err)
	switch {
	case err == nil:
		o.may[name] = []string{becomes}
		o.done.Add(1)
	case !refused:
		o.may[name] = append(slices.Clone(o.may[name]), becomes)
	}
	return err
}

// createImage has no method in AWS's SDK. Oriel's command stands for all clients of its own operation; its failure may be a refusal or silence.
func (o *owner) createImage(ctx context.Context, image string) error {
	out, err := o.Oriel(ctx, false, "image", "create", "--image-builder="+o.name, "--name="+image).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// TestKill kills the server with SIGKILL again and again while clients work with it.
func TestKill(t *testing.T) {
	t.Run("sim", func(t *testing.T) {
		w := simulated(t, "--sim-delay=20ms")
		storm(t, w, 6, 12, 12)
		check(t, w.Stop())
		p := must(sim.New(sim.Config{Dir: filepath.Join(w.Data, "sim")}))(t)
		if left := must(p.List(t.Context()))(t); len(left) > 0 {
			t.Errorf("%d machines are left", len(left))
		}
	})
	t.Run("docker", func(t *testing.T) {
		w := withMachines(t, "")
		storm(t, w, 3, 6, 3)
		w.checkEmpty(t)
		check(t, w.Stop())
		left := must(w.engine.Remains(limit(t), w.installation(t)))(t)
		left = slices.DeleteFunc(left, func(s string) bool { return s[:len("network")] == "network" })
		if len(left) > 0 {
			t.Errorf("left in the engine: %v", left)
		}
	})
}

// storm has owners at work while the server is killed so many times, each time after that many operations more.
func storm(t *testing.T, w *world, owners, kills int, each int64) {
	began := time.Now()
	random := rand.New(rand.NewPCG(7, 11))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var done atomic.Int64
	var list []*owner
	var working sync.WaitGroup
	for n := range owners {
		o := &owner{world: w, name: fmt.Sprintf("b%d", n), random: rand.New(rand.NewPCG(7, uint64(n))), may: map[string][]string{}, done: &done}
		o.may[o.name] = []string{gone}
		list = append(list, o)
		working.Go(func() { o.work(ctx) })
	}
	for range kills {
		target := done.Load() + each/2 + random.Int64N(each)
		until(t, "clients get on", func() error {
			if n := done.Load(); n < target {
				return fmt.Errorf("%d operations of %d", n, target)
			}
			return nil
		})
		// Not at an operation's end, but at any moment after it.
		time.Sleep(time.Duration(random.IntN(60)) * time.Millisecond)
		w.Kill()
		check(t, w.Again(limit(t)))
	}
	stop()
	working.Wait()
	t.Logf("%d operations and %d kills in %s", done.Load(), kills, time.Since(began).Round(time.Millisecond))

	// What remains are builders and images at rest, in the states that were answered.
	var states map[string]string
	until(t, "everything comes to rest", func() error {
		states = map[string]string{}
		for name, s := range w.states(t) {
			if states[name] = string(s); !resting(s) {
				return fmt.Errorf("%s is %s", name, s)
			}
		}
		images := &appstream.DescribeImagesInput{Type: types.VisibilityTypePrivate}
		for {
			out := must(w.aws.DescribeImages(limit(t), images))(t)
			for _, i := range out.Images {
				if states[*i.Name] = string(i.State); i.State != types.ImageStateAvailable && i.State != types.ImageStateFailed {
					return fmt.Errorf("%s is %s", *i.Name, i.State)
				}
			}
			if images.NextToken = out.NextToken; images.NextToken == nil {
				return nil
			}
		}
	})
	if w.engine != nil {
		if n := len(must(w.engine.Machines(limit(t), w.Server))(t)); n != len(w.states(t)) {
			t.Errorf("%d machines for %d image builders", n, len(w.states(t)))
		}
	}
	for _, o := range list {
		for name, may := range o.may {
			is, ok := states[name]
			if !ok {
				is = gone
			}
			if !slices.Contains(may, is) {
				t.Errorf("%s is %s; by what was answered it is one of %s", name, is, may)
			}
			delete(states, name)
		}
	}
	for name, state := range states {
		t.Errorf("nobody has made %s, which is %s", name, state)
	}

	for _, o := range list {
		for name := range o.may {
			if name == o.name {
				_, _ = w.aws.DeleteImageBuilder(limit(t), &appstream.DeleteImageBuilderInput{Name: &name}) // it may be gone
			} else {
				_, _ = w.aws.DeleteImage(limit(t), &appstream.DeleteImageInput{Name: &name})
			}
		}
	}
	for _, o := range list {
		for name := range o.may {
			if name == o.name {
				w.await(t, name, "")
			} else {
				must(stage.AwaitImage(limit(t), w.aws, name, ""))(t)
			}
		}
	}
}
