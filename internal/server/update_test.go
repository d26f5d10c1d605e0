package server

import (
	"strings"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
)

// TestUpdateImage updates an image with AWS's SDK, and finds the builder of the update gone when the new image is there.
func TestUpdateImage(t *testing.T) {
	t.Parallel()
	s, c := withImage(t, simConfig(t, t.TempDir()), "mine")
	ctx := t.Context()

	if status, answer := call(t, s, "us-east-1", "PhotonAdminProxyService.CreateUpdatedImage", true,
		map[string]any{"existingImageName": "mine", "newImageName": "newer", "dryRun": true}); status != 200 || string(answer) != `{"canUpdateImage": true}` {
		t.Errorf("a dry run in CBOR: %d %s", status, answer)
	}
	out := must(c.CreateUpdatedImage(ctx, &sdk.CreateUpdatedImageInput{ExistingImageName: new("mine"), NewImageName: new("newer")}))(t)
	if !*out.CanUpdateImage || out.Image.State != types.ImageStateCreating {
		t.Errorf("CreateUpdatedImage answers %+v", out)
	}
	_, err := c.CreateUpdatedImage(ctx, &sdk.CreateUpdatedImageInput{ExistingImageName: new("mine"), NewImageName: new("newer")})
	expect[*types.ResourceAlreadyExistsException](t, err, "An image with the given name already exists: newer.")
	var made string
	for _, b := range must(c.DescribeImageBuilders(ctx, &sdk.DescribeImageBuildersInput{}))(t).ImageBuilders {
		if strings.HasPrefix(*b.Name, "newer-") {
			made = *b.Name
		}
	}
	if made == "" {
		t.Fatal("the image builder of the update is not described")
	}
	awaitImage(t, c, "newer", types.ImageStateAvailable)
	await(t, c, made, "")
}
