package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/moby/moby/client"

	"github.com/oriel-project/oriel/e2e/stage"
)

// TestCopyAndExport makes an image, copies it, exports it with a server that is killed meanwhile, and deletes what it was made of. A builder
// made of the copy has what was installed, and the engine takes the archive.
func TestCopyAndExport(t *testing.T) {
	w := withMachines(t, "")
	w.create(t, "maker", stage.BaseImage)
	w.inside(t, w.machine(t, "maker"), "echo 'the mark' >/opt/mark")
	check(t, w.CreateImage(limit(t), "maker", "first"))
	must(stage.AwaitImage(limit(t), w.aws, "first", types.ImageStateAvailable))(t)
	must(w.aws.CopyImage(limit(t), &appstream.CopyImageInput{SourceImageName: new("first"), DestinationImageName: new("second"), DestinationRegion: new(stage.Region)}))(t)
	must(stage.AwaitImage(limit(t), w.aws, "second", types.ImageStateAvailable))(t)

	task := must(w.aws.CreateExportImageTask(limit(t), &appstream.CreateExportImageTaskInput{ImageName: new("first"), AmiName: new("backup"),
		IamRoleArn: new("arn:aws:iam::123456789012:role/export")}))(t).ExportImageTask
	exports := filepath.Join(w.Data, "exports", "123456789012")
	until(t, "the export has begun", func() error {
		_, err := os.Stat(exports)
		return err
	})
	w.Kill()
	check(t, w.Again(limit(t)))
	until(t, "the export is complete", func() error {
		task = must(w.aws.GetExportImageTask(limit(t), &appstream.GetExportImageTaskInput{TaskId: task.TaskId}))(t).ExportImageTask
		if task.State == types.ExportImageTaskStateFailed {
			return stage.Final(fmt.Errorf("it has failed: %+v", task.ErrorDetails))
		}
		if task.State != types.ExportImageTaskStateCompleted {
			return fmt.Errorf("it is %s", task.State)
		}
		return nil
	})
	files := must(os.ReadDir(exports))(t)
	if len(files) != 1 || files[0].Name() != *task.AmiId+".tar" {
		t.Errorf("the archives are %v, want %s.tar alone", files, *task.AmiId)
	}
	w.remove(t, "maker")
	w.removeImage(t, "first")

	w.create(t, "next", "second")
	if got := w.inside(t, w.machine(t, "next"), "cat /opt/mark"); got != "the mark" {
		t.Errorf("the builder made of the copy has %q", got)
	}
	w.remove(t, "next")
	w.removeImage(t, "second")

	archive := must(os.Open(filepath.Join(exports, *task.AmiId+".tar")))(t)
	defer archive.Close()
	loaded := must(w.engine.ImageLoad(limit(t), archive))(t)
	defer loaded.Close()
	name := "oriel/export:" + *task.AmiId
	until(t, "the engine has loaded the archive", func() error {
		_, err := w.engine.ImageInspect(limit(t), name)
		return err
	})
	defer func() {
		must(w.engine.ImageRemove(limit(t), name, client.ImageRemoveOptions{Force: true}))(t)
	}()
	r := must(w.engine.ImageInspect(limit(t), name))(t)
	for label := range r.Config.Labels {
		if strings.HasPrefix(label, "oriel.") && label != "oriel.image.platform" {
			t.Errorf("what was exported has still the label %s", label)
		}
	}
}
