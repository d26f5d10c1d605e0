package server

import (
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"

	"github.com/oriel-project/oriel/internal/config"
)

// TestSharedImage lends an image to another account, with AWS's SDK: what it may do with it is what the owner says, and ends when he says so.
func TestSharedImage(t *testing.T) {
	t.Parallel()
	cfg := simConfig(t, t.TempDir())
	cfg.Keys = []config.Key{{ID: "ORIELOTHER0000000", Secret: "other-secret-01234", Account: "210987654321", Policy: `{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`}}
	s, mine := withImage(t, cfg, "lent")
	ctx := t.Context()
	theirs := clientWith(s.URL(), cfg.Keys[0].ID, cfg.Keys[0].Secret, "us-east-1")
	arn := awaitImage(t, mine, "lent", types.ImageStateAvailable).Arn
	seen := func() []types.Image {
		return must(theirs.DescribeImages(ctx, &sdk.DescribeImagesInput{Type: types.VisibilityTypeShared}))(t).Images
	}
	share := func(fleet, builder bool) {
		must(mine.UpdateImagePermissions(ctx, &sdk.UpdateImagePermissionsInput{Name: new("lent"), SharedAccountId: new("210987654321"),
			ImagePermissions: &types.ImagePermissions{AllowFleet: &fleet, AllowImageBuilder: &builder}}))(t)
	}
	builder := newBuilder("borrowed")
	builder.ImageName, builder.ImageArn = nil, arn
	fleet := &sdk.CreateFleetInput{Name: new("pool"), ImageArn: arn, InstanceType: new("stream.standard.medium"),
		ComputeCapacity: &types.ComputeCapacity{DesiredInstances: new(int32(1))}}

	if len(seen()) > 0 {
		t.Error("another account sees an image that is not shared")
	}
	_, err := theirs.CreateImageBuilder(ctx, builder)
	expect[*types.ResourceNotFoundException](t, err, "does not exist")

	share(true, false)
	if i := seen()[0]; *i.Arn != *arn || i.ImageBuilderName != nil || i.Visibility != types.VisibilityTypeShared || !*i.ImagePermissions.AllowFleet || *i.ImagePermissions.AllowImageBuilder {
		t.Errorf("the borrower sees %+v", i)
	}
	if i := must(mine.DescribeImages(ctx, &sdk.DescribeImagesInput{Names: []string{"lent"}}))(t).Images[0]; i.ImageSharedWithOthers != types.ImageSharedWithOthersTrue || *i.ImageBuilderName != "hello" {
		t.Errorf("the owner sees %+v", i)
	}
	_, err = theirs.CreateImageBuilder(ctx, builder)
	expect[*types.OperationNotPermittedException](t, err, " for image builders. Ask its owner")
	must(theirs.CreateFleet(ctx, fleet))(t)

	share(false, true)
	fleet.Name = new("second")
	_, err = theirs.CreateFleet(ctx, fleet)
	expect[*types.OperationNotPermittedException](t, err, " for fleets. Ask its owner")
	must(theirs.CreateImageBuilder(ctx, builder))(t)
	await(t, theirs, "borrowed", types.ImageBuilderStateRunning)

	// What is lent is not given: the borrower can neither copy it, nor export it, nor lend it on, nor delete it.
	_, err = theirs.CopyImage(ctx, &sdk.CopyImageInput{SourceImageName: new("lent"), DestinationImageName: new("kept"), DestinationRegion: new("us-east-1")})
	expect[*types.ResourceNotFoundException](t, err, "The image lent for account 210987654321 does not exist.")
	_, err = theirs.CreateExportImageTask(ctx, &sdk.CreateExportImageTaskInput{ImageName: new("lent"), AmiName: new("kept"), IamRoleArn: new("arn:aws:iam::210987654321:role/export")})
	expect[*types.ResourceNotFoundException](t, err, "The image lent for account 210987654321 does not exist.")
	_, err = theirs.UpdateImagePermissions(ctx, &sdk.UpdateImagePermissionsInput{Name: new("lent"), SharedAccountId: new("000000000001"), ImagePermissions: &types.ImagePermissions{}})
	expect[*types.ResourceNotFoundException](t, err, "The image lent for account 210987654321 does not exist.")
	_, err = theirs.DeleteImage(ctx, &sdk.DeleteImageInput{Name: new("lent")})
	expect[*types.ResourceNotFoundException](t, err, "The image lent for account 210987654321 does not exist.")

	// The owner can delete it when nobody is allowed to use it any more, and no fleet does; a builder has what it needs.
	_, err = mine.DeleteImage(ctx, &sdk.DeleteImageInput{Name: new("lent")})
	expect[*types.OperationNotPermittedException](t, err, "shared with 1 account(s)")
	must(mine.DeleteImagePermissions(ctx, &sdk.DeleteImagePermissionsInput{Name: new("lent"), SharedAccountId: new("210987654321")}))(t)
	if len(seen()) > 0 {
		t.Error("the borrower sees the image when he may no longer use it")
	}
	_, err = theirs.StartFleet(ctx, &sdk.StartFleetInput{Name: new("pool")})
	expect[*types.OperationNotPermittedException](t, err, "The image lent is not shared with account 210987654321 for fleets.")
	_, err = mine.DeleteImage(ctx, &sdk.DeleteImageInput{Name: new("lent")})
	expect[*types.ResourceInUseException](t, err, "in use by a fleet of another account. That account must give the fleet another image, or delete it.")
	must(theirs.DeleteFleet(ctx, &sdk.DeleteFleetInput{Name: new("pool")}))(t)
	must(mine.DeleteImage(ctx, &sdk.DeleteImageInput{Name: new("lent")}))(t)
	await(t, theirs, "borrowed", types.ImageBuilderStateRunning)
}
