package main

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/moby/moby/client"

	"github.com/oriel-project/oriel/e2e/stage"
)

// A change is what is done to a machine before an image is made of it.
type change struct {
	what, command string
	turns         int
}

var changes = []change{
	{"a small change", "echo changed > /etc/changed", 8},
	// As an installation leaves it: many files that cannot be compressed well.
	{"180 MB of changes in 1,800 files", "mkdir /opt/change && cd /opt/change && head -c 180000000 /dev/urandom | split -b 100000 -a 4 -d - f", 5},
}

// image compares CreateImage, from the call to AVAILABLE, with the engine's own commit of an equal container: once of one that
// is stopped already, and once with the time that it takes to stop it, which Oriel's figure has in it.
func (b *bench) image(ctx context.Context) error {
	s, end, err := b.server(ctx, "image", stage.Config{Engine: b.engine})
	if err != nil {
		return err
	}
	defer end()
	c, err := s.Client()
	if err != nil {
		return err
	}
	e, err := stage.OpenEngine(b.engine)
	if err != nil {
		return err
	}
	defer e.Close()
	for n, change := range changes {
		var oriel, commit, withStop []time.Duration
		for turn := range b.turns(change.turns) {
			took, network, err := orielImage(ctx, s, c, e, fmt.Sprintf("image-%d-%d", n, turn), change.command)
			if err != nil {
				return err
			}
			stop, only, err := b.commitByHand(ctx, e, network, change.command)
			if err != nil {
				return err
			}
			oriel, commit, withStop = append(oriel, took), append(commit, only), append(withStop, stop+only)
		}
		b.add(row{what: "CreateImage to AVAILABLE, " + change.what, oriel: spread(oriel), beside: spread(commit), comparee: "commit of an equal stopped container",
			ratio: ratio(oriel, commit), goal: "≤ 1.30"})
		b.add(row{what: "the same", oriel: spread(oriel), beside: spread(withStop), comparee: "stop and commit of an equal running container",
			ratio: ratio(oriel, withStop), goal: "≤ 1.30"})
	}
	return nil
}

// orielImage makes an image builder, changes it, and makes an image of it. network is what the engine calls the builder's network.
func orielImage(ctx context.Context, s *stage.Server, c *appstream.Client, e *stage.Engine, name, command string) (took time.Duration, network string, err error) {
	if err := newBuilder(ctx, c, name); err != nil {
		return 0, "", err
	}
	if _, err := stage.AwaitBuilder(ctx, c, name, types.ImageBuilderStateRunning); err != nil {
		return 0, "", err
	}
	m, err := e.Machine(ctx, s, name)
	if err != nil {
		return 0, "", err
	}
	if out, code, err := e.Exec(ctx, m.ID, "root", command); err != nil || code != 0 {
		return 0, "", fmt.Errorf("change the machine: %d, %w\n%s", code, err, out)
	}
	begin := time.Now()
	if err := s.CreateImage(ctx, name, name); err != nil {
		return 0, "", err
	}
	for {
		i, err := stage.Image(ctx, c, name)
		if err != nil {
			return 0, "", err
		}
		if i.State == types.ImageStateAvailable {
			break
		}
		if i.State != types.ImageStatePending {
			return 0, "", fmt.Errorf("the image is %s: %+v", i.State, i.StateChangeReason)
		}
		time.Sleep(10 * time.Millisecond)
	}
	took = time.Since(begin)
	if err := removeBuilder(ctx, c, name); err != nil {
		return 0, "", err
	}
	if _, err := c.DeleteImage(ctx, &appstream.DeleteImageInput{Name: &name}); err != nil {
		return 0, "", err
	}
	_, err = stage.AwaitImage(ctx, c, name, "")
	return took, string(m.HostConfig.NetworkMode), err
}

// commitByHand does the same without Oriel: a desktop in a container, the same change, stop, commit.
func (b *bench) commitByHand(ctx context.Context, e *stage.Engine, network, command string) (stop, commit time.Duration, err error) {
	m, err := b.byHand(ctx, e, network)
	if err != nil {
		return 0, 0, err
	}
	defer m.remove(ctx)
	if out, code, err := e.Exec(ctx, m.id, "root", command); err != nil || code != 0 {
		return 0, 0, fmt.Errorf("change the container: %d, %w\n%s", code, err, out)
	}
	begin := time.Now()
	if _, err := e.ContainerKill(ctx, m.id, client.ContainerKillOptions{Signal: "SIGKILL"}); err != nil {
		return 0, 0, err
	}
	// Killed, not asked: a shell as the first process does not hear SIGTERM, and waiting for that would be no comparison.
	wait := e.ContainerWait(ctx, m.id, client.ContainerWaitOptions{})
	select {
	case <-wait.Result:
	case err := <-wait.Error:
		return 0, 0, err
	}
	stop = time.Since(begin)
	begin = time.Now()
	made, err := e.ContainerCommit(ctx, m.id, client.ContainerCommitOptions{Reference: "oriel-bench:commit"})
	if err != nil {
		return 0, 0, err
	}
	commit = time.Since(begin)
	_, err = e.ImageRemove(ctx, made.ID, client.ImageRemoveOptions{Force: true})
	return stop, commit, err
}
