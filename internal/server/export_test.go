package server

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
)

// TestExportImage writes an image as an archive, with AWS's SDK, and looks at the file.
func TestExportImage(t *testing.T) {
	t.Parallel()
	s, c := withImage(t, simConfig(t, t.TempDir()), "mine")
	ctx := t.Context()
	in := sdk.CreateExportImageTaskInput{ImageName: new("mine"), AmiName: new("backup/1"), IamRoleArn: new("arn:aws:iam::123456789012:role/export")}
	task := must(c.CreateExportImageTask(ctx, &in))(t).ExportImageTask
	eventually(t, "the export is complete", func() bool {
		task = must(c.GetExportImageTask(ctx, &sdk.GetExportImageTaskInput{TaskId: task.TaskId}))(t).ExportImageTask
		return task.State == types.ExportImageTaskStateCompleted
	})
	file := filepath.Join(s.cfg.Data, "exports", "123456789012", *task.AmiId+".tar")
	if info, err := os.Stat(file); err != nil || info.Size() == 0 || info.Mode().Perm() != 0o600 {
		t.Errorf("the archive: %+v, %v", info, err)
	}
	for _, cbor := range []bool{false, true} {
		status, answer := call(t, s, "us-east-1", "PhotonAdminProxyService.ListExportImageTasks", cbor,
			map[string]any{"Filters": []map[string]any{{"Name": "State", "Values": []string{"COMPLETED"}}}})
		if status != 200 || !strings.Contains(string(answer), *task.TaskId) || !strings.Contains(string(answer), *task.AmiId) {
			t.Errorf("ListExportImageTasks, CBOR %t: %d %s", cbor, status, answer)
		}
	}
	_, err := c.CreateExportImageTask(ctx, &in)
	expect[*types.OperationNotPermittedException](t, err, "The AMI name backup/1 is taken")
	in.AmiName, in.ImageName = new("backup/2"), new("none")
	_, err = c.CreateExportImageTask(ctx, &in)
	expect[*types.ResourceNotFoundException](t, err, "The image none for account")
	in.ImageName, in.IamRoleArn = new("mine"), new("arn:aws:iam::210987654321:role/export")
	_, err = c.CreateExportImageTask(ctx, &in)
	expect[*types.InvalidRoleException](t, err, "encountered an error because your IAM role")
	_, err = c.GetExportImageTask(ctx, &sdk.GetExportImageTaskInput{TaskId: new("00000000-0000-0000-0000-000000000000")})
	expect[*types.ResourceNotFoundException](t, err, "does not exist")
}
