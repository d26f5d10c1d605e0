package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/aws/smithy-go"
)

type quickstartCommand struct {
	place
	remote
	Name  string `help:"Name of the image builder." default:"hello"`
	Image string `help:"Image to make it from." default:"oriel-debian-12"`
	Stop  bool   `help:"Stop all image builders and fleets of the account instead."`
}

// Run brings the image builder to RUNNING from wherever it is.
func (c *quickstartCommand) Run(ctx context.Context) error {
	client, err := c.connect(c.place)
	if err != nil {
		return err
	}
	s := newStatus(os.Stdout)
	if c.Stop {
		return explain(stopAll(ctx, client, s))
	}
	if err := c.bring(ctx, client, s); err != nil {
		s.clear()
		return explain(err)
	}
	url, err := client.aws.CreateImageBuilderStreamingURL(ctx, &appstream.CreateImageBuilderStreamingURLInput{Name: &c.Name})
	if err != nil {
		return explain(err)
	}
	fmt.Printf(`
Open this in a browser within the hour; it is the desktop of the image builder %[1]s:

  %[2]s

The server is at %[3]s. To try its API with the AWS command line, paste:

  export AWS_SHARED_CREDENTIALS_FILE=%[4]s AWS_REGION=%[5]s AWS_DEFAULT_REGION=%[5]s
  aws appstream describe-image-builders --endpoint-url %[3]s
  aws appstream create-image-builder-streaming-url --name %[1]s --endpoint-url %[3]s
  aws appstream stop-image-builder --name %[1]s --endpoint-url %[3]s
`, c.Name, *url.StreamingURL, client.endpoint, quote(client.file), client.region)
	return nil
}

// bring creates or starts the image builder, and waits until it is RUNNING.
func (c *quickstartCommand) bring(ctx context.Context, client *client, s *status) error {
	asked := false // for a start of what was there
	for {
		list, err := client.aws.DescribeImageBuilders(ctx, &appstream.DescribeImageBuildersInput{})
		if err != nil {
			return err
		}
		var b *types.ImageBuilder
		for i := range list.ImageBuilders {
			if *list.ImageBuilders[i].Name == c.Name {
				b = &list.ImageBuilders[i]
			}
		}
		switch {
		case b == nil:
			if err := c.create(ctx, client, s); err != nil {
				return err
			}
		case b.State == types.ImageBuilderStateRunning:
			s.done("%s is RUNNING", c.Name)
			return nil
		case (b.State == types.ImageBuilderStateStopped || b.State == types.ImageBuilderStateFailed) && !asked:
			if _, err := client.aws.StartImageBuilder(ctx, &appstream.StartImageBuilderInput{Name: &c.Name}); err != nil {
				return err
			}
			asked = true
		case b.State == types.ImageBuilderStateFailed:
			return fmt.Errorf("the image builder %s is FAILED: %s", c.Name, builderReason(b))
		default:
			s.tell(c.Name+" is "+string(b.State), builderReason(b), -1)
		}
		if err := sleep(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
}

// create creates the image builder. The base image appears in the server's list a moment after it was made.
func (c *quickstartCommand) create(ctx context.Context, client *client, s *status) error {
	const patience = 30 * time.Second
	for start := time.Now(); ; {
		_, err := client.aws.DescribeImages(ctx, &appstream.DescribeImagesInput{Names: []string{c.Image}})
		if err == nil {
			break
		}
		if time.Since(start) > patience {
			return err
		}
		s.tell("waiting for the server to find the image "+c.Image, "", -1)
		if err := sleep(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
	size, internet := "stream.standard.medium", true
	_, err := client.aws.CreateImageBuilder(ctx, &appstream.CreateImageBuilderInput{
		Name: &c.Name, ImageName: &c.Image, InstanceType: &size, EnableDefaultInternetAccess: &internet})
	return err
}

func builderReason(b *types.ImageBuilder) string {
	if b.StateChangeReason == nil || b.StateChangeReason.Message == nil {
		return ""
	}
	return *b.StateChangeReason.Message
}

// stopAll stops the image builders and fleets that run, and waits for them and for those that are on their way to a rest.
func stopAll(ctx context.Context, client *client, s *status) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		builders, err := stopBuilders(ctx, client)
		if err != nil {
			return err
		}
		fleets, err := stopFleets(ctx, client)
		if err != nil {
			return err
		}
		busy := append(builders, fleets...)
		if len(busy) == 0 {
			s.done("no image builder and no fleet is running")
			return nil
		}
		s.tell(strings.Join(busy, ", "), "", -1)
		if err := sleep(ctx, 200*time.Millisecond); err != nil {
			s.clear()
			return fmt.Errorf("some are still busy: %s", strings.Join(busy, ", "))
		}
	}
}

// moved tells whether an operation was refused for the state that a resource has come to since it was looked at: what it is now, the next look tells.
func moved(err error) bool {
	e, ok := errors.AsType[smithy.APIError](err)
	return ok && slices.Contains([]string{"OperationNotPermittedException", "ResourceNotAvailableException", "ResourceNotFoundException", "ConcurrentModificationException"}, e.ErrorCode())
}

// stopBuilders asks the image builders that run to stop, and tells which are not at rest yet.
func stopBuilders(ctx context.Context, client *client) (busy []string, err error) {
	in := new(appstream.DescribeImageBuildersInput)
	for {
		list, err := client.aws.DescribeImageBuilders(ctx, in)
		if err != nil {
			return nil, err
		}
		for _, b := range list.ImageBuilders {
			switch b.State {
			case types.ImageBuilderStateStopped, types.ImageBuilderStateFailed:
				continue
			case types.ImageBuilderStateRunning:
				_, err := client.aws.StopImageBuilder(ctx, &appstream.StopImageBuilderInput{Name: b.Name})
				if err != nil && !moved(err) {
					return nil, err
				}
				b.State = types.ImageBuilderStateStopping
			}
			busy = append(busy, "the image builder "+*b.Name+" is "+string(b.State))
		}
		if in.NextToken = list.NextToken; in.NextToken == nil {
			return busy, nil
		}
	}
}

// stopFleets does the same with fleets. One that is starting can be stopped too.
func stopFleets(ctx context.Context, client *client) (busy []string, err error) {
	in := new(appstream.DescribeFleetsInput)
	for {
		list, err := client.aws.DescribeFleets(ctx, in)
		if err != nil {
			return nil, err
		}
		for _, f := range list.Fleets {
			switch f.State {
			case types.FleetStateStopped:
				continue
			case types.FleetStateRunning, types.FleetStateStarting:
				if _, err := client.aws.StopFleet(ctx, &appstream.StopFleetInput{Name: f.Name}); err != nil && !moved(err) {
					return nil, err
				}
				f.State = types.FleetStateStopping
			}
			busy = append(busy, "the fleet "+*f.Name+" is "+string(f.State))
		}
		if in.NextToken = list.NextToken; in.NextToken == nil {
			return busy, nil
		}
	}
}
