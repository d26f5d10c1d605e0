package e2e

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"

	"github.com/oriel-project/oriel/e2e/stage"
)

// TestUpdateImage updates an image whose program has a newer version, with a server that is killed meanwhile: a builder made of the new image has it. An image
// whose program no longer starts is not updated, and says why.
func TestUpdateImage(t *testing.T) {
	w := withMachines(t, "")
	w.create(t, "maker", stage.BaseImage)
	machine := w.machine(t, "maker")
	installation := must(w.engine.Machine(limit(t), w.Server, "maker"))(t).Config.Labels["oriel.installation"]
	w.inside(t, machine, "rm -f /etc/apt/sources.list /etc/apt/sources.list.d/* && echo 'deb [trusted=yes] file:/opt/packages ./' >/etc/apt/sources.list")
	w.give(t, machine, "1.0", opensWindow)
	w.inside(t, machine, "dpkg -i /opt/packages/oriel-window_1.0.deb && AppStreamImageAssistant add-application --name window --absolute-app-path /usr/bin/oriel-window")
	w.give(t, machine, "2.0", "until test -e /opt/go; do sleep 0.1; done\n"+opensWindow)
	check(t, w.CreateImage(limit(t), "maker", "first"))
	must(stage.AwaitImage(limit(t), w.aws, "first", types.ImageStateAvailable))(t)
	w.remove(t, "maker")

	must(w.aws.CreateUpdatedImage(limit(t), &appstream.CreateUpdatedImageInput{ExistingImageName: new("first"), NewImageName: new("second")}))(t)
	made := w.madeFor(t, "second")
	w.await(t, *made[0].Name, types.ImageBuilderStatePendingQualification) // until the program opens its window
	w.Kill()
	check(t, w.Again(limit(t)))
	until(t, "the new program is let go on", func() error {
		m, err := w.engine.Machine(limit(t), w.Server, *made[0].Name)
		if err != nil {
			return err
		}
		_, _, err = w.engine.Exec(limit(t), m.ID, "root", "touch /opt/go")
		return err
	})
	image := must(stage.AwaitImage(limit(t), w.aws, "second", types.ImageStateAvailable))(t)
	w.unmade(t, "second")
	if len(image.Applications) != 1 || *image.Applications[0].Name != "window" || image.ImageBuilderName != nil {
		t.Errorf("the new image is %+v", image)
	}
	w.create(t, "next", "second")
	machine = w.machine(t, "next")
	if got := w.inside(t, machine, "dpkg-query -W -f '${Version}' oriel-window"); got != "2.0" {
		t.Errorf("the new image has version %s of the program", got)
	}

	w.inside(t, machine, `printf '#!/bin/sh\necho no licence >&2\nexit 3\n' >/usr/bin/oriel-window`)
	check(t, w.CreateImage(limit(t), "next", "broken"))
	must(stage.AwaitImage(limit(t), w.aws, "broken", types.ImageStateAvailable))(t)
	w.remove(t, "next")
	before := w.images(t, installation)
	must(w.aws.CreateUpdatedImage(limit(t), &appstream.CreateUpdatedImageInput{ExistingImageName: new("broken"), NewImageName: new("third")}))(t)
	until(t, "the update of what is broken fails", func() error {
		var err error
		if image, err = stage.Image(limit(t), w.aws, "third"); err != nil {
			return err
		}
		if image.State != types.ImageStateFailed {
			return fmt.Errorf("it is %s: %+v", image.State, image.StateChangeReason)
		}
		return nil
	})
	w.unmade(t, "third")
	if r := image.StateChangeReason; r.Code != types.ImageStateChangeReasonCodeImageUpdateFailure || !strings.Contains(*r.Message, "start window") || !strings.Contains(*r.Message, "no licence") {
		t.Errorf("the reason is %s: %s", r.Code, *r.Message)
	}
	w.checkEmpty(t)
	until(t, "nothing is left of it", func() error {
		if left := slices.DeleteFunc(w.images(t, installation), func(image string) bool { return slices.Contains(before, image) }); len(left) > 0 {
			return fmt.Errorf("after the update that failed the engine has %s", left)
		}
		return nil
	})
	for _, name := range []string{"first", "second", "broken", "third"} {
		w.removeImage(t, name)
	}
}

// TestImportImage exports an image, deletes it, and makes one of the archive again, with an application that is added: a builder made of it has the program, and the
// application as it was written.
func TestImportImage(t *testing.T) {
	w := withMachines(t, "")
	w.create(t, "maker", stage.BaseImage)
	machine := w.machine(t, "maker")
	w.give(t, machine, "1.0", opensWindow)
	w.inside(t, machine, "dpkg -i /opt/packages/oriel-window_1.0.deb && AppStreamImageAssistant add-application --name window --absolute-app-path /usr/bin/oriel-window")
	check(t, w.CreateImage(limit(t), "maker", "first"))
	must(stage.AwaitImage(limit(t), w.aws, "first", types.ImageStateAvailable))(t)
	w.remove(t, "maker")
	task := must(w.aws.CreateExportImageTask(limit(t), &appstream.CreateExportImageTaskInput{ImageName: new("first"), AmiName: new("backup"),
		IamRoleArn: new("arn:aws:iam::123456789012:role/export")}))(t).ExportImageTask
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
	w.removeImage(t, "first")

	const parameters = `-T "it's a \"window\" $HOME" -fg red`
	must(w.aws.CreateImportedImage(limit(t), &appstream.CreateImportedImageInput{Name: new("second"), SourceAmiId: task.AmiId,
		RuntimeValidationConfig: &types.RuntimeValidationConfig{IntendedInstanceType: new("stream.standard.medium")},
		AppCatalogConfig:        []types.ApplicationConfig{{Name: new("red"), DisplayName: new("Red window"), AbsoluteAppPath: new("/usr/bin/oriel-window"), LaunchParameters: new(parameters)}}}))(t)
	image := must(stage.AwaitImage(limit(t), w.aws, "second", types.ImageStateAvailable))(t)
	w.unmade(t, "second")
	var names []string
	for _, app := range image.Applications {
		names = append(names, *app.Name)
		if *app.Name == "red" && (*app.DisplayName != "Red window" || *app.LaunchParameters != parameters) {
			t.Errorf("the application has become %s, %s", *app.DisplayName, *app.LaunchParameters)
		}
	}
	if strings.Join(names, " ") != "window red" || image.Platform != "DEBIAN_12" || image.ImageType != types.ImageTypeCustom {
		t.Errorf("the image has the applications %q, %s, %s", names, image.Platform, image.ImageType)
	}
	w.create(t, "next", "second")
	machine = w.machine(t, "next")
	if got := w.inside(t, machine, "dpkg-query -W -f '${Version}' oriel-window"); got != "1.0" {
		t.Errorf("the image of the archive has version %s of the program", got)
	}
	w.remove(t, "next")

	must(w.aws.CreateImportedImage(limit(t), &appstream.CreateImportedImageInput{Name: new("third"), SourceAmiId: task.AmiId,
		AppCatalogConfig: []types.ApplicationConfig{{Name: new("none"), AbsoluteAppPath: new("/opt/not/there")}}}))(t)
	until(t, "the import with what is not there fails", func() error {
		var err error
		if image, err = stage.Image(limit(t), w.aws, "third"); err != nil {
			return err
		}
		if image.State != types.ImageStateFailed {
			return fmt.Errorf("it is %s: %+v", image.State, image.StateChangeReason)
		}
		return nil
	})
	w.unmade(t, "third")
	if r := image.StateChangeReason; r.Code != types.ImageStateChangeReasonCodeImageImportFailure || !strings.Contains(*r.Message, "add application 1 of 1") || !strings.Contains(*r.Message, "File not found (absolute-app-path)") {
		t.Errorf("the reason is %s: %s", r.Code, *r.Message)
	}
	if strings.Contains(w.Log(), "/opt/not/there") || strings.Contains(w.Log(), "Red window") {
		t.Error("the server's log tells of the catalogue")
	}
	w.checkEmpty(t)
	w.removeImage(t, "second")
	w.removeImage(t, "third")
}

// madeFor gives the image builders that are made for an image.
func (w *world) madeFor(t testing.TB, image string) []types.ImageBuilder {
	t.Helper()
	list := must(w.aws.DescribeImageBuilders(limit(t), &appstream.DescribeImageBuildersInput{}))(t).ImageBuilders
	return slices.DeleteFunc(list, func(b types.ImageBuilder) bool { return !strings.HasPrefix(*b.Name, image+"-") })
}

// unmade waits until they are gone.
func (w *world) unmade(t testing.TB, image string) {
	t.Helper()
	until(t, "the image builder is gone", func() error {
		if left := w.madeFor(t, image); len(left) > 0 {
			return fmt.Errorf("%s is %s", *left[0].Name, left[0].State)
		}
		return nil
	})
}

// images lists the images of an installation in the engine.
func (w *world) images(t testing.TB, installation string) []string {
	t.Helper()
	return slices.DeleteFunc(must(w.engine.Remains(limit(t), installation))(t), func(line string) bool { return !strings.HasPrefix(line, "image ") })
}

const opensWindow = "exec xterm \"$@\"\n"

// give puts a version of a Debian package into a machine, a program that is a script, as the only one in the repository /opt/packages.
func (w *world) give(t testing.TB, machine, version, program string) {
	t.Helper()
	dir := t.TempDir()
	control := "Package: oriel-window\nVersion: " + version + "\nArchitecture: all\nMaintainer: Oriel <oriel@example.com>\nDescription: opens a window\n"
	for name, text := range map[string]string{"DEBIAN/control": control, "usr/bin/oriel-window": "#!/bin/sh\n" + program} {
		file := filepath.Join(dir, "root", name)
		check(t, os.MkdirAll(filepath.Dir(file), 0o755))
		check(t, os.WriteFile(file, []byte(text), 0o755))
	}
	file := filepath.Join(dir, "package.deb")
	if out, err := exec.Command("dpkg-deb", "--root-owner-group", "-Zxz", "--build", filepath.Join(dir, "root"), file).CombinedOutput(); err != nil {
		t.Fatalf("dpkg-deb: %v\n%s", err, out)
	}
	data := must(os.ReadFile(file))(t)
	name := "oriel-window_" + version + ".deb"
	index := fmt.Sprintf("%sFilename: ./%s\nSize: %d\nSHA256: %x\n", control, name, len(data), sha256.Sum256(data))
	w.inside(t, machine, "mkdir -p /opt/packages && base64 -d >/opt/packages/"+name+" <<'END'\n"+base64Lines(data)+"END\ncat >/opt/packages/Packages <<'END'\n"+index+"END\n")
}
