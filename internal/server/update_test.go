package server

import (
	"regexp"
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
	awaitImage(t, c, "newer", types.ImageStateAvailable)
	// The image builder may have been there for a moment only; what happened to it stays.
	_, answer := call(t, s, "us-east-1", "Oriel.DescribeEvents", false, map[string]any{"MaxResults": 100})
	made := regexp.MustCompile(`image-builder/(newer-[0-9]{10})"`).FindSubmatch(answer)
	if made == nil {
		t.Fatalf("there was no image builder of the update: %s", answer)
	}
	await(t, c, string(made[1]), "")
}
