package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"

	"github.com/oriel-project/oriel/internal/bootstrap"
	"github.com/oriel-project/oriel/internal/server"
)

type imageCommand struct {
	Bootstrap bootstrapCommand   `cmd:"" help:"Build the base image from Debian packages and give it to the container engine."`
	Create    createImageCommand `cmd:"" help:"Make an image of a running image builder."`
	Build     buildImageCommand  `cmd:"" help:"Make the image that a file describes, in an image builder of its own."`
}

type bootstrapCommand struct {
	place
	machines
	Mirror  string `help:"Debian mirror in place of http://deb.debian.org; the image keeps using it." placeholder:"URL"`
	Cache   string `help:"Where the built root file system is kept, about 600 MB (default: cache in the data directory)." placeholder:"DIR"`
	Rebuild bool   `help:"Build it again, for newer packages."`
}

// Run builds the image if the engine does not have it.
func (c *bootstrapCommand) Run(ctx context.Context) error {
	cfg, err := load(c.place, c.machines, serving{})
	if err != nil {
		return err
	}
	s := newStatus(os.Stdout)
	base, err := server.Bootstrap(ctx, quiet(cfg), server.BootstrapOptions{
		CacheDir: c.Cache, Mirror: c.Mirror, Rebuild: c.Rebuild,
		Progress: func(p bootstrap.Progress) { s.tell(p.Step, p.Detail, p.Percent) },
	})
	if err != nil {
		s.clear()
		return err
	}
	if base.Had {
		s.done("the base image %s is there already", base.Name)
		return nil
	}
	s.done("the base image %s is ready (%s in the container engine)", base.Name, base.Ref)
	return nil
}

type createImageCommand struct {
	place
	remote
	ImageBuilder string            `help:"The image builder; it must be RUNNING. Its streaming session ends." required:"" placeholder:"NAME"`
	Name         string            `help:"Name of the image." required:"" placeholder:"NAME"`
	DisplayName  string            `help:"Name for people." placeholder:"TEXT"`
	Description  string            `help:"What it is for." placeholder:"TEXT"`
	Tags         map[string]string `help:"Tags." placeholder:"KEY=VALUE"`

	UseLatestAgentVersion bool `help:"Machines from the image follow the newest agent version."`
	DryRun                bool `help:"Only check whether it could be made."`
	Wait                  bool `help:"Wait until the image is AVAILABLE or FAILED."`
}

// Run asks the server for the image.
func (c *createImageCommand) Run(ctx context.Context) error {
	client, err := c.connect(c.forClient(c.Endpoint))
	if err != nil {
		return err
	}
	var out struct {
		Image struct{ Name, Arn, State string }
	}
	var tags any // absent when there are none: an empty map is refused
	if len(c.Tags) > 0 {
		tags = c.Tags
	}
	err = client.call(ctx, "Oriel.CreateImage", map[string]any{
		"ImageBuilderName": c.ImageBuilder, "Name": c.Name, "DisplayName": optional(c.DisplayName), "Description": optional(c.Description),
		"Tags": tags, "UseLatestAgentVersion": c.UseLatestAgentVersion, "DryRun": c.DryRun,
	}, &out)
	if err != nil {
		return err
	}
	if c.DryRun {
		fmt.Printf("The image %s could be made of %s.\n", c.Name, c.ImageBuilder)
		return nil
	}
	fmt.Println(out.Image.Arn)
	if !c.Wait {
		return nil
	}
	s := newStatus(os.Stderr)
	for {
		list, err := client.aws.DescribeImages(ctx, &appstream.DescribeImagesInput{Names: []string{c.Name}})
		if err != nil {
			s.clear()
			return explain(err)
		}
		if len(list.Images) != 1 {
			return fmt.Errorf("the server describes %d images of the name %s", len(list.Images), c.Name)
		}
		switch image := list.Images[0]; image.State {
		case types.ImageStateAvailable:
			s.done("AVAILABLE")
			return nil
		case types.ImageStatePending:
			s.tell(string(image.State), reason(image.StateChangeReason), -1)
		default:
			s.clear()
			return fmt.Errorf("the image is %s: %s", image.State, reason(image.StateChangeReason))
		}
		if err := sleep(ctx, 500*time.Millisecond); err != nil {
			s.clear()
			return errors.New("no longer waiting; the image is still being made")
		}
	}
}

func reason(r *types.ImageStateChangeReason) string {
	if r == nil || r.Message == nil {
		return ""
	}
	return *r.Message
}

func optional(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
