package e2e

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"github.com/oriel-project/oriel/e2e/stage"
)

// installTool installs a package of Debian's form, with a file that others must not read and one of another owner, and leaves things about that
// belong to the machine alone.
const installTool = `set -e
mkdir -p /tmp/tool/DEBIAN /tmp/tool/opt/tool/bin
printf 'Package: oriel-tool\nVersion: 1\nArchitecture: all\nMaintainer: Tests <tests@example.com>\nDescription: a tool\n' > /tmp/tool/DEBIAN/control
printf '#!/bin/sh\necho the tool works\n' > /tmp/tool/opt/tool/bin/tool
chmod 4755 /tmp/tool/opt/tool/bin/tool
dpkg-deb -b /tmp/tool /tmp/tool.deb >/dev/null
dpkg -i /tmp/tool.deb >/dev/null
ln /opt/tool/bin/tool /opt/tool/bin/again
install -o ImageBuilderAdmin -m 600 /dev/null /opt/tool/settings
rm -f /usr/share/doc/dpkg/changelog.gz`

// packagerMachine gives the container of an app block builder.
func (w *world) packagerMachine(t testing.TB, name string) string {
	t.Helper()
	for _, c := range must(w.engine.Machines(limit(t), w.Server))(t) {
		if strings.HasSuffix(c.Labels["oriel.resource"], ":app-block-builder/"+name) {
			return c.ID
		}
	}
	t.Fatalf("the app block builder %s has no machine", name)
	return ""
}

// createPackage has the machine of an app block builder ask for its package. The machine may stop, and be gone, before the command has its answer.
func (w *world) createPackage(t testing.TB, machine string) {
	t.Helper()
	out, code, err := w.engine.Exec(limit(t), machine, "root", "AppStreamImageAssistant create-package")
	if err != nil && !cerrdefs.IsNotFound(err) || code != 0 && code < 128 {
		t.Fatalf("create-package: exit code %d, %v\n%s", code, err, out)
	}
}

func (w *world) awaitPackager(t testing.TB, name string, want types.AppBlockBuilderState) types.AppBlockBuilder {
	t.Helper()
	var b types.AppBlockBuilder
	check(t, stage.Until(limit(t), func() error {
		out, err := w.aws.DescribeAppBlockBuilders(t.Context(), &appstream.DescribeAppBlockBuildersInput{Names: []string{name}})
		if err != nil {
			return err
		}
		if b = out.AppBlockBuilders[0]; b.State != want {
			return fmt.Errorf("it is %s", b.State)
		}
		return nil
	}))
	return b
}

// entries reads a package: what each path is, with its mode and owner.
func entries(t testing.TB, file string) (list map[string]string, contents map[string]string) {
	t.Helper()
	f := must(os.Open(file))(t)
	defer f.Close()
	list, contents = map[string]string{}, map[string]string{}
	for in := tar.NewReader(f); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return list, contents
		}
		check(t, err)
		list[h.Name] = strings.TrimSpace(fmt.Sprintf("%c %o %d %s", h.Typeflag, h.Mode&0o7777, h.Uid, h.Linkname))
		contents[h.Name] = string(must(io.ReadAll(in))(t))
	}
}

// TestAppBlockBuilder packages a program that was installed on an app block builder: from inside, and from outside with a server that is killed
// meanwhile; what is in the package works on another machine.
func TestAppBlockBuilder(t *testing.T) {
	t.Parallel()
	w := withMachines(t, "")
	block := *must(w.aws.CreateAppBlock(limit(t), &appstream.CreateAppBlockInput{Name: new("tool"), PackagingType: types.PackagingTypeAppstream2,
		SourceS3Location: &types.S3Location{S3Bucket: new("packages")}}))(t).AppBlock.Arn
	must(w.aws.CreateAppBlockBuilder(limit(t), &appstream.CreateAppBlockBuilderInput{Name: new("maker"), InstanceType: new("stream.standard.medium"), Platform: "DEBIAN_12",
		VpcConfig: &types.VpcConfig{}}))(t)
	must(w.aws.AssociateAppBlockBuilderAppBlock(limit(t), &appstream.AssociateAppBlockBuilderAppBlockInput{AppBlockArn: &block, AppBlockBuilderName: new("maker")}))(t)
	start := func() string {
		t.Helper()
		began := time.Now()
		must(w.aws.StartAppBlockBuilder(limit(t), &appstream.StartAppBlockBuilderInput{Name: new("maker")}))(t)
		w.awaitPackager(t, "maker", types.AppBlockBuilderStateRunning)
		t.Logf("the app block builder runs after %s", time.Since(began).Round(100*time.Millisecond))
		return w.packagerMachine(t, "maker")
	}
	packages := func() []string { return must(filepath.Glob(filepath.Join(w.Data, "objects", "*", "packages", "*")))(t) }
	describe := func() types.AppBlock {
		return must(w.aws.DescribeAppBlocks(limit(t), &appstream.DescribeAppBlocksInput{}))(t).AppBlocks[0]
	}

	machine := start()
	if out := w.inside(t, machine, "AppStreamImageAssistant create-image --name nope || true"); !strings.Contains(out, "This is an app block builder") {
		t.Errorf("create-image says %s", out)
	}
	// Nothing was installed: it says so, and the machine goes on.
	w.createPackage(t, machine)
	check(t, stage.Until(limit(t), func() error {
		if b := w.awaitPackager(t, "maker", types.AppBlockBuilderStateRunning); b.StateChangeReason == nil || !strings.Contains(*b.StateChangeReason.Message, "nothing was installed") {
			return errors.New("it does not say that nothing was installed")
		}
		return nil
	}))
	if machine != w.packagerMachine(t, "maker") || len(packages()) != 0 || describe().State != types.AppBlockStateInactive {
		t.Errorf("without an installation there are the packages %v", packages())
	}
	w.inside(t, machine, installTool)
	began := time.Now()
	w.createPackage(t, machine)
	w.awaitPackager(t, "maker", types.AppBlockBuilderStateStopped)
	t.Logf("the package is made and the app block builder stopped after %s", time.Since(began).Round(100*time.Millisecond))
	if left := must(w.engine.Machines(limit(t), w.Server))(t); len(left) > 0 {
		t.Errorf("the machine is still there: %v", left[0].Names)
	}
	made := packages()
	if b := describe(); b.State != types.AppBlockStateActive || len(made) != 1 || filepath.Base(made[0]) != *b.SourceS3Location.S3Key {
		t.Fatalf("the app block is %s, the packages are %v", b.State, made)
	}
	list, contents := entries(t, made[0])
	t.Logf("it has %d entries: %s", len(list), strings.Join(slices.Sorted(maps.Keys(list)), " "))
	for name, want := range map[string]string{"opt/tool/": "5 755 0", "opt/tool/settings": "0 600 1000"} {
		if list[name] != want {
			t.Errorf("%s is %q, want %q", name, list[name], want)
		}
	}
	one, two := list["opt/tool/bin/again"], list["opt/tool/bin/tool"]
	if one != "0 4755 0" || two != "1 4755 0 opt/tool/bin/again" || !strings.Contains(contents["opt/tool/bin/again"], "the tool works") {
		t.Errorf("the program is %q and %q", one, two)
	}
	if !strings.Contains(contents["var/lib/dpkg/status"], "Package: oriel-tool") {
		t.Error("the list of what is installed does not have the tool")
	}
	for name := range list {
		for _, no := range []string{"tmp/", "run/", "proc/", "dev/", "var/lib/apt/lists/", "var/log/dpkg.log", "etc/machine-id", "etc/hostname", "etc/resolv.conf", "opt/oriel/",
			"usr/bin/dpkg", ".dockerenv", "home/ImageBuilderAdmin/.cache/", "home/ImageBuilderAdmin/.Xauthority"} {
			if strings.HasPrefix(name, no) {
				t.Errorf("%s is in the package", name)
			}
		}
	}

	machine = start() // a new one
	if out := w.inside(t, machine, "ls /opt; dpkg -s oriel-tool 2>&1 || true"); strings.Contains(out, "Status: install ok") || strings.Contains(out, "tool\n") {
		t.Errorf("the new machine has something of the old one: %s", out)
	}
	var wrapped bytes.Buffer // the engine takes files in an archive
	pack, in := must(os.ReadFile(made[0]))(t), tar.NewWriter(&wrapped)
	check(t, in.WriteHeader(&tar.Header{Name: "package.tar", Mode: 0o600, Size: int64(len(pack))}))
	must(in.Write(pack))(t)
	check(t, in.Close())
	must(w.engine.CopyToContainer(limit(t), machine, client.CopyToContainerOptions{DestinationPath: "/tmp", Content: &wrapped}))(t)
	w.inside(t, machine, "tar -C / -xpf /tmp/package.tar")
	if out := w.inside(t, machine, "/opt/tool/bin/tool; dpkg -s oriel-tool; stat -c '%a %U' /opt/tool/bin/tool /opt/tool/settings"); !strings.Contains(out, "the tool works") ||
		!strings.Contains(out, "Status: install ok") || !strings.Contains(out, "4755 root") || !strings.Contains(out, "600 ImageBuilderAdmin") {
		t.Errorf("from its package, the tool says %s", out)
	}

	command := must(w.Oriel(limit(t), false, "app-block", "package", "--builder=maker").Output())(t)
	w.Kill()
	check(t, w.Again(limit(t)))
	w.awaitPackager(t, "maker", types.AppBlockBuilderStateStopped)
	made = packages()
	if b := describe(); len(made) != 2 || strings.TrimSpace(string(command)) != "s3://packages/"+*b.SourceS3Location.S3Key || filepath.Base(made[1]) != *b.SourceS3Location.S3Key {
		t.Errorf("the packages are %v, the command says %s", made, command)
	}
	if list, _ := entries(t, made[1]); list["opt/tool/bin/again"] == "" {
		t.Error("the second package has not the tool")
	}
}

// TestPackageInTheBrowser makes a package in the viewer.
func TestPackageInTheBrowser(t *testing.T) {
	t.Parallel()
	page := needBrowser(t).Page(t.Name())
	w := withMachines(t, "")
	block := *must(w.aws.CreateAppBlock(limit(t), &appstream.CreateAppBlockInput{Name: new("tool"), PackagingType: types.PackagingTypeAppstream2,
		SourceS3Location: &types.S3Location{S3Bucket: new("packages")}}))(t).AppBlock.Arn
	must(w.aws.CreateAppBlockBuilder(limit(t), &appstream.CreateAppBlockBuilderInput{Name: new("maker"), InstanceType: new("stream.standard.medium"), Platform: "DEBIAN_12",
		VpcConfig: &types.VpcConfig{}}))(t)
	must(w.aws.AssociateAppBlockBuilderAppBlock(limit(t), &appstream.AssociateAppBlockBuilderAppBlockInput{AppBlockArn: &block, AppBlockBuilderName: new("maker")}))(t)
	must(w.aws.StartAppBlockBuilder(limit(t), &appstream.StartAppBlockBuilderInput{Name: new("maker")}))(t)
	w.awaitPackager(t, "maker", types.AppBlockBuilderStateRunning)
	w.inside(t, w.packagerMachine(t, "maker"), installTool)
	url := must(w.aws.CreateAppBlockBuilderStreamingURL(limit(t), &appstream.CreateAppBlockBuilderStreamingURLInput{AppBlockBuilderName: new("maker")}))(t).StreamingURL
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if problems, err := page.Close(ctx); err != nil || len(problems) > 0 {
			t.Errorf("in the page: %s, %v", strings.Join(problems, "\n"), err)
		}
	})
	if status := must(page.Open(limit(t), *url))(t); status != 200 {
		t.Fatalf("the streaming URL leads to %d", status)
	}
	check(t, page.State(limit(t), "connected"))
	must(page.FirstFrame(limit(t)))(t)
	check(t, page.Click(limit(t), "#create"))
	check(t, page.Shown(limit(t), "#package-submit", true))
	(&desk{Page: page}).screenshot(limit(t), t, "package")
	check(t, page.Click(limit(t), "#package-submit"))
	check(t, page.State(limit(t), "ended"))
	if title := must(page.Text(limit(t), "#veil-title"))(t); title != "The package of tool is ready" {
		t.Errorf("the page says %s", title)
	}
	(&desk{Page: page}).screenshot(limit(t), t, "package-ready")
	if b := must(w.aws.DescribeAppBlocks(limit(t), &appstream.DescribeAppBlocksInput{}))(t).AppBlocks[0]; b.State != types.AppBlockStateActive {
		t.Errorf("the app block is %s", b.State)
	}
}
