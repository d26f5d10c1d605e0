package server

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
)

// TestCopyImage copies an image into another region, with AWS's SDK, and makes a builder of it there when the first is gone.
func TestCopyImage(t *testing.T) {
	t.Parallel()
	cfg := simConfig(t, t.TempDir())
	cfg.Region = []string{"us-east-1", "eu-west-1"}
	s, c := withImage(t, cfg, "mine")
	ctx := t.Context()
	far := clientWith(s.URL(), s.root.ID, s.root.Secret, "eu-west-1")

	out := must(c.CopyImage(ctx, &sdk.CopyImageInput{SourceImageName: new("mine"), DestinationImageName: new("theirs"), DestinationRegion: new("eu-west-1")}))(t)
	if aws.ToString(out.DestinationImageName) != "theirs" {
		t.Errorf("the answer names %q", aws.ToString(out.DestinationImageName))
	}
	if status, answer := call(t, s, "us-east-1", "PhotonAdminProxyService.CopyImage", true,
		map[string]any{"SourceImageName": "mine", "DestinationImageName": "again", "DestinationRegion": "us-east-1"}); status != 200 || string(answer) != `{"DestinationImageName": "again"}` {
		t.Errorf("CBOR: %d %s", status, answer)
	}
	copied := awaitImage(t, far, "theirs", types.ImageStateAvailable)
	awaitImage(t, c, "again", types.ImageStateAvailable)
	if tags := must(far.ListTagsForResource(ctx, &sdk.ListTagsForResourceInput{ResourceArn: copied.Arn}))(t).Tags; len(tags) > 0 {
		t.Errorf("the copy has the tags %v", tags)
	}

	in := sdk.CopyImageInput{SourceImageName: new("mine"), DestinationImageName: new("theirs"), DestinationRegion: new("eu-west-1")}
	_, err := c.CopyImage(ctx, &in)
	expect[*types.ResourceAlreadyExistsException](t, err, "An image with the given name already exists: theirs.")
	in.DestinationRegion = new("mars-north-1")
	_, err = c.CopyImage(ctx, &in)
	expect[*types.ResourceNotFoundException](t, err, "The region mars-north-1 is not served here.")
	in.SourceImageName, in.DestinationRegion = new("none"), new("us-east-1")
	_, err = c.CopyImage(ctx, &in)
	expect[*types.ResourceNotFoundException](t, err, "The image none for account")
	if status, answer := call(t, s, "us-east-1", "PhotonAdminProxyService.CopyImage", false,
		map[string]any{"SourceImageName": "mine", "DestinationImageName": "here"}); status != 400 || !strings.Contains(string(answer), "destinationRegion") && !strings.Contains(string(answer), "DestinationRegion") {
		t.Errorf("without DestinationRegion: %d %s", status, answer)
	}

	must(c.DeleteImage(ctx, &sdk.DeleteImageInput{Name: new("mine")}))(t)
	second := newBuilder("second")
	second.ImageName = new("theirs")
	must(far.CreateImageBuilder(ctx, second))(t)
	await(t, far, "second", types.ImageBuilderStateRunning)
}
