package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
)

type appBlockCommand struct {
	Package packageCommand `cmd:"" help:"Make the package of an app block of what is installed on its app block builder."`
}

type packageCommand struct {
	place
	remote
	Builder string `help:"The app block builder; it must be RUNNING. Its streaming session ends, and its machine goes." required:"" placeholder:"NAME"`
	Wait    bool   `help:"Wait until the app block builder is STOPPED and the app block has its package."`
}

// Run asks the server for the package, and prints where it will be, or with Wait, where it is.
func (c *packageCommand) Run(ctx context.Context) error {
	client, err := c.connect(c.forClient(c.Endpoint))
	if err != nil {
		return err
	}
	var out struct {
		SourceS3Location struct{ S3Bucket, S3Key string }
	}
	if err := client.call(ctx, "Oriel.CreateAppBlockPackage", map[string]any{"AppBlockBuilderName": c.Builder}, &out); err != nil {
		return err
	}
	where := fmt.Sprintf("s3://%s/%s", out.SourceS3Location.S3Bucket, out.SourceS3Location.S3Key)
	if !c.Wait {
		fmt.Println(where)
		return nil
	}
	s := newStatus(os.Stderr)
	for {
		list, err := client.aws.DescribeAppBlockBuilders(ctx, &appstream.DescribeAppBlockBuildersInput{Names: []string{c.Builder}})
		if err != nil {
			s.clear()
			return explain(err)
		}
		if len(list.AppBlockBuilders) != 1 {
			return fmt.Errorf("the server describes %d app block builders of the name %s", len(list.AppBlockBuilders), c.Builder)
		}
		b := list.AppBlockBuilders[0]
		why := ""
		if b.StateChangeReason != nil && b.StateChangeReason.Message != nil {
			why = *b.StateChangeReason.Message
		}
		switch {
		case b.State == types.AppBlockBuilderStateStopped && why == "":
			s.done("the app block has its package")
			fmt.Println(where) // not before: a package that could not be made is nowhere
			return nil
		case b.State != types.AppBlockBuilderStateStopping:
			s.clear()
			return fmt.Errorf("the app block builder is %s: %s", b.State, why)
		}
		s.tell(string(b.State), why, -1)
		if err := sleep(ctx, 500*time.Millisecond); err != nil {
			s.clear()
			return fmt.Errorf("no longer waiting; the package is still being made, to be %s", where)
		}
	}
}
