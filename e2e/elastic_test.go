package e2e

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"

	"github.com/oriel-project/oriel/e2e/stage"
)

// object puts an object into the bucket packages, with the administrator's command.
func (w *world) object(t testing.TB, key string, data []byte) *types.S3Location {
	t.Helper()
	file := filepath.Join(t.TempDir(), "object")
	check(t, os.WriteFile(file, data, 0o600))
	if out, err := exec.Command(filepath.Join(bin(t), "oriel"), "objects", "put", "packages/"+key, file, "--data="+w.Data).CombinedOutput(); err != nil {
		t.Fatalf("oriel objects put: %v\n%s", err, out)
	}
	return &types.S3Location{S3Bucket: new("packages"), S3Key: &key}
}

// tarOf packs files, names and texts in turn, each of them a program of root's.
func tarOf(t testing.TB, zipped bool, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	out := tar.NewWriter(z)
	if !zipped {
		out = tar.NewWriter(&b)
	}
	for n := 0; n < len(files); n += 2 {
		check(t, out.WriteHeader(&tar.Header{Name: files[n], Mode: 0o755, Size: int64(len(files[n+1])), ModTime: time.Unix(1, 0), Typeflag: tar.TypeReg}))
		must(out.Write([]byte(files[n+1])))(t)
	}
	check(t, out.Close())
	if zipped {
		check(t, z.Close())
	}
	return b.Bytes()
}

func iconOf(t testing.TB, c color.Color) []byte {
	t.Helper()
	picture := image.NewRGBA(image.Rect(0, 0, 64, 64))
	draw.Draw(picture, picture.Bounds(), image.NewUniform(c), image.Point{}, draw.Src)
	var b bytes.Buffer
	check(t, png.Encode(&b, picture))
	return b.Bytes()
}

// TestElastic runs an Elastic fleet with an application from a package of a customer's and one from a package in AppStream's form: both are in the catalogue and
// draw, nobody finds what another has left, there are no more sessions than there may be, and a script that fails is told with its last words.
func TestElastic(t *testing.T) {
	needBrowser(t)
	w := withMachines(t, "")
	script := func(name, text string) *types.ScriptDetails {
		return &types.ScriptDetails{ScriptS3Location: w.object(t, name, []byte(text)), ExecutablePath: &name, TimeoutInSeconds: new(int32(60))}
	}
	application := func(name, path string, parameters *string, block *types.AppBlock, icon color.Color) {
		app := must(w.aws.CreateApplication(limit(t), &appstream.CreateApplicationInput{Name: &name, AppBlockArn: block.Arn, DisplayName: new("The " + name), LaunchPath: &path, LaunchParameters: parameters,
			IconS3Location: w.object(t, name+".png", iconOf(t, icon)), Platforms: []types.PlatformType{"DEBIAN_12"}, InstanceFamilies: []string{"GENERAL_PURPOSE"}}))(t).Application
		must(w.aws.AssociateApplicationFleet(limit(t), &appstream.AssociateApplicationFleetInput{FleetName: new("elastic"), ApplicationArn: app.Arn}))(t)
	}
	must(w.aws.CreateFleet(limit(t), &appstream.CreateFleetInput{Name: new("elastic"), FleetType: types.FleetTypeElastic, Platform: "DEBIAN_12", InstanceType: new("stream.standard.medium"),
		MaxConcurrentSessions: new(int32(2)), SessionScriptS3Location: w.object(t, "scripts.zip", sessionScripts(t))}))(t)
	must(w.aws.CreateStack(limit(t), &appstream.CreateStackInput{Name: new("elastic")}))(t)
	must(w.aws.AssociateFleet(limit(t), &appstream.AssociateFleetInput{FleetName: new("elastic"), StackName: new("elastic")}))(t)

	// Terminal comes from a customer's package, which its setup script unpacks; Window from a tar that is laid over the disk.
	custom := must(w.aws.CreateAppBlock(limit(t), &appstream.CreateAppBlockInput{Name: new("custom"), SourceS3Location: w.object(t, "terminal.tgz", tarOf(t, true, "bin/terminal", "#!/bin/sh\nexec xterm \"$@\"\n")),
		SetupScriptDetails: script("setup.sh", "#!/bin/sh -e\nid -un; pwd\nmkdir /opt/terminal\ntar -C /opt/terminal -xf terminal.tgz\necho 'set up by a script' > /opt/terminal/made\n")}))(t).AppBlock
	native := must(w.aws.CreateAppBlock(limit(t), &appstream.CreateAppBlockInput{Name: new("native"), PackagingType: types.PackagingTypeAppstream2,
		SourceS3Location: w.object(t, "window.tar", tarOf(t, false, "./usr/bin/oriel-window", "#!/bin/sh\nexec xterm \"$@\"\n", "./etc/hosts", "a package must not do this"))}))(t).AppBlock
	application("Terminal", "/opt/terminal/bin/terminal", nil, custom, color.RGBA{200, 60, 40, 255})
	application("Window", "/usr/bin/oriel-window", new("-bg navy -e sleep 600"), native, color.RGBA{30, 60, 160, 255})
	must(w.aws.StartFleet(limit(t), &appstream.StartFleetInput{Name: new("elastic")}))(t)
	w.serves(t, "elastic")

	ann := w.sit(t, "elastic", "ann", w.link(t, "elastic", "ann"))
	check(t, ann.Shown(limit(t), "#home", true))
	for name, title := range map[string]string{"Terminal": "The Terminal", "Window": "The Window"} {
		ann.says(t, fmt.Sprintf("#apps [data-name=%q]", name), title)
	}
	var icon string
	check(t, ann.Do(limit(t), "attribute", map[string]any{"selector": "#apps [data-name=Window] img", "name": "src"}, &icon))
	ann.screenshot(limit(t), t, "catalogue")
	before := must(ann.Picture(limit(t)))(t)
	ann.terminal(t)
	until(t, "the application is to be seen", func() error {
		if after := must(ann.Picture(limit(t)))(t); after.Hash == before.Hash || after.Bright < 50 {
			return fmt.Errorf("that is no terminal: %+v", after)
		}
		return nil
	})
	ann.screenshot(limit(t), t, "terminal")
	ann.run(t, "grep -q 'by a script' /opt/terminal/made && test ! -e /opt/appstream/AppBlocks/native/window.tar && ! grep -q package /etc/hosts")
	ann.run(t, "test -e /tmp/session-began && echo "+plantedHalf+"secret > MyFiles/left && cp MyFiles/left /tmp/left")

	bob := w.sit(t, "elastic", "bob", w.link(t, "elastic", "bob"))
	check(t, bob.Launch(limit(t), "Window"))
	bob.screenshot(limit(t), t, "window")
	if v := must(w.Visit(limit(t), w.link(t, "elastic", "cy")))(t); v.Status == http.StatusOK {
		t.Errorf("the third of two has a session: %d %s", v.Status, v.Session)
	}
	machine := ann.machine
	installation := must(w.engine.Instance(limit(t), w.Server, *w.session(t, "elastic", ann.session).InstanceId))(t).Config.Labels["oriel.installation"]
	ann.end(t)
	until(t, "the place is free", func() error {
		v := must(w.Visit(limit(t), w.link(t, "elastic", "cy")))(t)
		if v.Status != http.StatusOK {
			return fmt.Errorf("status %d", v.Status)
		}
		return nil
	})
	until(t, "what ann's session script wrote is kept", func() error {
		logs := must(filepath.Glob(filepath.Join(w.Data, "objects", "*", "appstream-logs-*", "elastic", "elastic", "custom", "*", ann.session, "SessionScriptsLogs", "SessionStart", "1.log")))(t)
		if len(logs) != 1 || string(must(os.ReadFile(logs[0]))(t)) != "it has begun\n" {
			return fmt.Errorf("there is %v", logs)
		}
		return nil
	})
	cy := w.sit(t, "elastic", "cy", w.link(t, "elastic", "cy"))
	cy.terminal(t)
	cy.run(t, "test ! -e /tmp/left && test ! -e MyFiles/left")
	if cy.machine == machine {
		t.Error("cy is where ann was")
	}
	for _, key := range []string{"left", "MyFiles/left"} {
		if out, _, err := w.engine.Exec(limit(t), cy.machine, "root", "cat /tmp/left /home/*/"+key+" 2>/dev/null"); err != nil || strings.Contains(out, planted) {
			t.Errorf("cy finds %q, %v", out, err)
		}
	}

	// A newer script, which fails: those who are on go on, others come to what there was, and its last words are told.
	w.object(t, "setup.sh", []byte("#!/bin/sh\necho 'no licence for ARM64' >&2\nexit 7\n"))
	untilWithin(t, installTime, "the failure is told", func() error { // objects are looked at once a minute
		f := must(stage.Fleet(limit(t), w.aws, "elastic"))(t)
		for _, e := range f.FleetErrors {
			if strings.Contains(*e.ErrorMessage, "no licence for ARM64") && strings.Contains(*e.ErrorMessage, "set up the app block custom") {
				return nil
			}
		}
		return fmt.Errorf("it is %s and says %+v", f.State, f.FleetErrors)
	})
	until(t, "the app block tells of it", func() error {
		blocks := must(w.aws.DescribeAppBlocks(limit(t), &appstream.DescribeAppBlocksInput{Arns: []string{*custom.Arn}}))(t).AppBlocks
		if e := blocks[0].AppBlockErrors; len(e) != 1 || !strings.Contains(*e[0].ErrorMessage, "no licence") {
			return fmt.Errorf("it says %+v", e)
		}
		return nil
	})
	cy.run(t, "true")
	bob.end(t)
	cy.end(t)
	must(w.aws.StopFleet(limit(t), &appstream.StopFleetInput{Name: new("elastic")}))(t)
	until(t, "the fleet is STOPPED", func() error {
		if f := must(stage.Fleet(limit(t), w.aws, "elastic"))(t); f.State != types.FleetStateStopped {
			return fmt.Errorf("it is %s", f.State)
		}
		return nil
	})
	must(w.aws.DisassociateFleet(limit(t), &appstream.DisassociateFleetInput{FleetName: new("elastic"), StackName: new("elastic")}))(t)
	must(w.aws.DeleteFleet(limit(t), &appstream.DeleteFleetInput{Name: new("elastic")}))(t)
	until(t, "nothing is left of it", func() error {
		if left := w.images(t, installation); len(left) > 0 {
			return fmt.Errorf("there is %s", left)
		}
		return nil
	})
}

// serves waits until an Elastic fleet is RUNNING and content.
func (w *world) serves(t testing.TB, fleet string) {
	t.Helper()
	until(t, "the fleet serves", func() error {
		f := must(stage.Fleet(limit(t), w.aws, fleet))(t)
		if f.State != types.FleetStateRunning || len(f.FleetErrors) > 0 {
			var says []string
			for _, e := range f.FleetErrors {
				says = append(says, *e.ErrorMessage)
			}
			return fmt.Errorf("it is %s: %s", f.State, strings.Join(says, "\n"))
		}
		return nil
	})
}

// sessionScripts is a zip file as AppStream wants it.
func sessionScripts(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, text := range map[string]string{
		"config.json": `{"SessionStart": {"executables": [{"context": "system", "filename": "/opt/appstream/SessionScripts/start.sh", "s3LogEnabled": true}], "waitingTime": 30}}`,
		"start.sh":    "#!/bin/sh\ntouch /tmp/session-began\necho it has begun\n",
	} {
		must(must(z.Create(name))(t).Write([]byte(text)))(t)
	}
	check(t, z.Close())
	return b.Bytes()
}

// TestPackagedHere goes the whole way: what was installed on an app block builder is what people of an Elastic fleet have.
func TestPackagedHere(t *testing.T) {
	w := withMachines(t, "")
	block := must(w.aws.CreateAppBlock(limit(t), &appstream.CreateAppBlockInput{Name: new("tool"), PackagingType: types.PackagingTypeAppstream2,
		SourceS3Location: &types.S3Location{S3Bucket: new("packages")}}))(t).AppBlock
	must(w.aws.CreateAppBlockBuilder(limit(t), &appstream.CreateAppBlockBuilderInput{Name: new("maker"), InstanceType: new("stream.standard.medium"), Platform: "DEBIAN_12", VpcConfig: &types.VpcConfig{}}))(t)
	must(w.aws.AssociateAppBlockBuilderAppBlock(limit(t), &appstream.AssociateAppBlockBuilderAppBlockInput{AppBlockArn: block.Arn, AppBlockBuilderName: new("maker")}))(t)
	must(w.aws.StartAppBlockBuilder(limit(t), &appstream.StartAppBlockBuilderInput{Name: new("maker")}))(t)
	w.awaitPackager(t, "maker", types.AppBlockBuilderStateRunning)
	machine := w.packagerMachine(t, "maker")
	w.inside(t, machine, installTool)
	w.createPackage(t, machine)
	w.awaitPackager(t, "maker", types.AppBlockBuilderStateStopped)

	app := must(w.aws.CreateApplication(limit(t), &appstream.CreateApplicationInput{Name: new("tool"), AppBlockArn: block.Arn, LaunchPath: new("/opt/tool/bin/tool"),
		IconS3Location: w.object(t, "tool.png", iconOf(t, color.Black)), Platforms: []types.PlatformType{"DEBIAN_12"}, InstanceFamilies: []string{"GENERAL_PURPOSE"}}))(t).Application
	must(w.aws.CreateFleet(limit(t), &appstream.CreateFleetInput{Name: new("tools"), FleetType: types.FleetTypeElastic, Platform: "DEBIAN_12", InstanceType: new("stream.standard.medium"), MaxConcurrentSessions: new(int32(1))}))(t)
	must(w.aws.AssociateApplicationFleet(limit(t), &appstream.AssociateApplicationFleetInput{FleetName: new("tools"), ApplicationArn: app.Arn}))(t)
	must(w.aws.CreateStack(limit(t), &appstream.CreateStackInput{Name: new("tools")}))(t)
	must(w.aws.AssociateFleet(limit(t), &appstream.AssociateFleetInput{FleetName: new("tools"), StackName: new("tools")}))(t)
	must(w.aws.StartFleet(limit(t), &appstream.StartFleetInput{Name: new("tools")}))(t)
	w.serves(t, "tools")
	v := w.come(t, "tools", "ann")
	s := w.awaitSession(t, "tools", v.Session, types.SessionStateActive)
	machine = must(w.engine.Instance(limit(t), w.Server, *s.InstanceId))(t).ID
	if got := w.inside(t, machine, "/opt/tool/bin/again && stat -c '%a %u %h' /opt/tool/bin/tool && stat -c %a /opt/tool/settings && dpkg-query -W -f '${Status}' oriel-tool"); strings.Join(strings.Fields(got), " ") != "the tool works 4755 0 2 600 install ok installed" {
		t.Errorf("in the session there is %q", got)
	}
	must(w.aws.StopFleet(limit(t), &appstream.StopFleetInput{Name: new("tools")}))(t)
}
