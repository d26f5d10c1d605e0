package server

import (
	"strings"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
)

// TestImportImage exports an image, deletes it, and makes one of the archive again, with AWS's SDK: alone, tested, and with a catalogue.
func TestImportImage(t *testing.T) {
	t.Parallel()
	s, c := withImage(t, simConfig(t, t.TempDir()), "mine")
	ctx := t.Context()
	role := new("arn:aws:iam::123456789012:role/export")
	task := must(c.CreateExportImageTask(ctx, &sdk.CreateExportImageTaskInput{ImageName: new("mine"), AmiName: new("backup"), IamRoleArn: role}))(t).ExportImageTask
	eventually(t, "the export is complete", func() bool {
		task = must(c.GetExportImageTask(ctx, &sdk.GetExportImageTaskInput{TaskId: task.TaskId}))(t).ExportImageTask
		return task.State == types.ExportImageTaskStateCompleted
	})
	must(c.DeleteImage(ctx, &sdk.DeleteImageInput{Name: new("mine")}))(t)
	awaitImage(t, c, "mine", "")

	if status, answer := call(t, s, "us-east-1", "PhotonAdminProxyService.CreateImportedImage", true,
		map[string]any{"Name": "mine", "SourceAmiId": *task.AmiId, "DryRun": true}); status != 412 || !strings.Contains(string(answer), "DryRunOperationException") {
		t.Errorf("a dry run in CBOR: %d %s", status, answer)
	}
	_, err := c.CreateImportedImage(ctx, &sdk.CreateImportedImageInput{Name: new("mine"), SourceAmiId: task.AmiId, DryRun: new(true)})
	expect[*types.DryRunOperationException](t, err, "could be imported")
	awaitImage(t, c, "mine", "")

	apps := []types.ApplicationConfig{{Name: new("editor"), DisplayName: new("Editor"), AbsoluteAppPath: new("/usr/bin/mousepad"), LaunchParameters: new("--disable-server")}}
	validation := &types.RuntimeValidationConfig{IntendedInstanceType: new("stream.standard.large")}
	for name, in := range map[string]sdk.CreateImportedImageInput{
		"mine":     {IamRoleArn: role},
		"tested":   {RuntimeValidationConfig: validation, Tags: map[string]string{"team": "red"}},
		"equipped": {RuntimeValidationConfig: validation, AppCatalogConfig: apps, AgentSoftwareVersion: types.AgentSoftwareVersionAlwaysLatest},
	} {
		in.Name, in.SourceAmiId = &name, task.AmiId
		if out := must(c.CreateImportedImage(ctx, &in))(t); out.Image.State != types.ImageStateValidating {
			t.Errorf("%s is %s", name, out.Image.State)
		}
	}
	for _, name := range []string{"mine", "tested", "equipped"} {
		awaitImage(t, c, name, types.ImageStateAvailable)
	}
	eventually(t, "the image builders of the imports are gone", func() bool {
		return len(must(c.DescribeImageBuilders(ctx, &sdk.DescribeImageBuildersInput{}))(t).ImageBuilders) == 1
	})
	if i := awaitImage(t, c, "equipped", types.ImageStateAvailable); i.ImageType != types.ImageTypeCustom || len(i.Applications) != 1 || *i.Applications[0].LaunchPath != "/usr/bin/mousepad" {
		t.Errorf("the import with a catalogue is %+v", i)
	}
	second := newBuilder("second")
	second.ImageName = new("mine")
	must(c.CreateImageBuilder(ctx, second))(t)
	await(t, c, "second", types.ImageBuilderStateRunning)
	_, err = c.CreateImportedImage(ctx, &sdk.CreateImportedImageInput{Name: new("another"), SourceAmiId: new("ami-12345678")})
	expect[*types.ResourceNotFoundException](t, err, "The AMI ami-12345678 for account")
}
