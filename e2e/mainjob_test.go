package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json/v2"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/google/go-cmp/cmp"

	"github.com/oriel-project/oriel/e2e/stage"
)

// command runs AWS's command line and reads its answer into out, unless that is nil.
func (w *world) command(t testing.TB, out any, args ...string) {
	t.Helper()
	c := w.AWS(limit(t), args...)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	text, err := c.Output()
	if err != nil {
		t.Fatalf("aws appstream %s: %v\n%s", strings.Join(args, " "), err, &stderr)
	}
	if out != nil {
		if err := json.Unmarshal(text, out); err != nil {
			t.Fatalf("aws appstream %s: %v in\n%s", strings.Join(args, " "), err, text)
		}
	}
}

func needAWS(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("aws"); err != nil {
		t.Skip("skipped: AWS's command line is not installed")
	}
}

// TestMainJob is what Oriel is for, from the first command to the last: an image builder, software on it, an image of it, and a
// new image builder that has the software.
func TestMainJob(t *testing.T) {
	needBrowser(t)
	needAWS(t)
	t.Parallel()
	w := withMachines(t, "")
	began := time.Now()
	step := func(name string) {
		t.Logf("%6.1f s  %s", time.Since(began).Seconds(), name)
	}

	var made struct {
		ImageBuilder struct{ Name, Arn, State string }
	}
	w.command(t, &made, "create-image-builder", "--name", "maker", "--image-name", stage.BaseImage, "--instance-type", "stream.standard.medium",
		"--display-name", "The maker", "--enable-default-internet-access", "--tags", "purpose=test")
	if got := made.ImageBuilder; got.Arn != "arn:aws:appstream:us-east-1:123456789012:image-builder/maker" || got.State != "PENDING" {
		t.Errorf("create-image-builder says %+v", got)
	}
	b := w.await(t, "maker", types.ImageBuilderStateRunning)
	step("RUNNING")
	w.checkNetwork(t, b)

	var url struct{ StreamingURL string }
	w.command(t, &url, "create-image-builder-streaming-url", "--name", "maker")
	d := w.look(t, "maker", url.StreamingURL)
	var before stage.Picture
	until(t, "a desktop in the window's size", func() error {
		before = must(d.Picture(limit(t)))(t)
		if before.Width != 1280 || before.Height != 720 || before.Colours < 100 || before.Bright < 50 {
			return fmt.Errorf("that is no desktop: %+v", before)
		}
		return nil
	})
	check(t, d.Type(limit(t), "echo Typed in the browser"))
	until(t, "what is typed appears", func() error {
		after := must(d.Picture(limit(t)))(t)
		if after.Bright < before.Bright+100 {
			return fmt.Errorf("%d bright pixels before, %d after", before.Bright, after.Bright)
		}
		return nil
	})
	d.mustRun(t, "") // the line that is typed already
	d.screenshot(limit(t), t, "desktop")
	step("the desktop answers")

	// A package that comes through the clipboard, as a person without a network would bring one.
	text := base64Lines(debian(t))
	end := d.begin(t, fmt.Sprintf("head -n %d | base64 -d > hello.deb", strings.Count(text, "\n")))
	until(t, "head reads", func() error { // and the shell does no more, to which a terminal pastes in another way
		_, code, err := w.engine.Exec(limit(t), d.machine, "root", "grep -lx head /proc/[0-9]*/comm")
		if err == nil && code != 0 {
			err = errors.New("there is no head")
		}
		return err
	})
	check(t, d.Paste(limit(t), text))
	end(patience)
	d.mustRun(t, "sudo dpkg -i hello.deb")
	d.mustRun(t, "oriel-hello")
	step("a program is installed")
	online := debianAnswers(t)
	if online {
		if code := d.begin(t, "sudo apt-get update && sudo apt-get install -y --no-install-recommends sl")(installTime); code != 0 {
			t.Fatalf("apt-get: exit code %d", code)
		}
		step("another is installed from Debian")
	}
	d.mustRun(t, `sudo AppStreamImageAssistant add-application --name Hello --display-name "Hello, world" --absolute-app-path /usr/bin/oriel-hello`+
		` --absolute-icon-path /usr/share/pixmaps/oriel-hello.png --launch-parameters "--friendly"`)
	d.mustRun(t, "AppStreamImageAssistant list-applications | grep -q Hello")
	d.screenshot(limit(t), t, "installed")
	check(t, d.Type(limit(t), `sudo AppStreamImageAssistant create-image --name office --display-name "The office" --description "Made by a test" --tags team e2e`+"\n"))

	check(t, d.State(limit(t), "imaging", "ended"))
	step("the session has ended")
	if title := must(d.Text(limit(t), "#veil-title"))(t); !strings.Contains(title, "image office") {
		t.Errorf("the viewer says %q", title)
	}
	d.screenshot(limit(t), t, "imaging")
	i := must(stage.AwaitImage(limit(t), w.aws, "office", types.ImageStateAvailable))(t)
	w.await(t, "maker", types.ImageBuilderStateStopped)
	step("the image is AVAILABLE, the image builder STOPPED")
	check(t, d.State(limit(t), "ended"))
	if title := must(d.Text(limit(t), "#veil-title"))(t); title != "The image office is ready" {
		t.Errorf("the viewer says %q", title)
	}

	var described struct {
		Images []struct {
			Name, Arn, State, DisplayName, Description, ImageBuilderName, BaseImageArn, Platform, Visibility string
			Applications                                                                                     []application
		}
	}
	w.command(t, &described, "describe-images", "--names", "office")
	if len(described.Images) != 1 {
		t.Fatalf("describe-images gives %+v", described)
	}
	got := described.Images[0]
	if len(got.Applications) != 1 {
		t.Fatalf("the image has the applications %+v", got.Applications)
	}
	icon := got.Applications[0].IconURL
	got.Applications[0].IconURL = ""
	want := application{Name: "Hello", DisplayName: "Hello, world", LaunchPath: "/usr/bin/oriel-hello", LaunchParameters: "--friendly", Enabled: true}
	if diff := cmp.Diff(want, got.Applications[0]); diff != "" {
		t.Errorf("the application (-want +got):\n%s", diff)
	}
	if got.Arn != *i.Arn || got.DisplayName != "The office" || got.Description != "Made by a test" || got.ImageBuilderName != "maker" ||
		got.BaseImageArn != "arn:aws:appstream:us-east-1::image/"+stage.BaseImage || got.Visibility != "PRIVATE" {
		t.Errorf("the image is %+v", got)
	}
	checkIcon(t, icon)

	w.command(t, nil, "create-image-builder", "--name", "next", "--image-name", "office", "--instance-type", "stream.standard.medium")
	w.await(t, "next", types.ImageBuilderStateRunning)
	next := w.look(t, "next", w.streamingURL(t, "next"))
	next.mustRun(t, "oriel-hello | grep -q 'Hello from a package'")
	if online {
		next.mustRun(t, "test -x /usr/games/sl")
	}
	next.screenshot(limit(t), t, "next")
	step("the next image builder has the program")

	w.command(t, nil, "delete-image-builder", "--name", "maker")
	w.remove(t, "next")
	w.await(t, "maker", "")
	w.command(t, nil, "delete-image", "--name", "office")
	must(stage.AwaitImage(limit(t), w.aws, "office", ""))(t)
	w.checkEmpty(t)
	step("all is deleted")
}

// application is what AWS's command line prints of one.
type application struct {
	Name, DisplayName, IconURL, LaunchPath, LaunchParameters, WorkingDirectory string
	Enabled                                                                    bool
}

// checkNetwork compares the addresses that an image builder shows with those that its machine has.
func (w *world) checkNetwork(t *testing.T, b *types.ImageBuilder) {
	t.Helper()
	n := b.NetworkAccessConfiguration
	if n == nil || n.EniPrivateIpAddress == nil || n.EniId == nil || len(n.EniIpv6Addresses) == 0 {
		t.Fatalf("a running image builder shows %+v", n)
	}
	id := w.machine(t, *b.Name)
	if inside := strings.Fields(w.inside(t, id, "hostname -I")); !slices.Contains(inside, *n.EniPrivateIpAddress) {
		t.Errorf("the machine has the addresses %s, not %s", inside, *n.EniPrivateIpAddress)
	}
	var v6 []string
	for line := range strings.Lines(w.inside(t, id, "cat /proc/net/if_inet6")) {
		raw, err := hex.DecodeString(strings.Fields(line)[0])
		if a, ok := netip.AddrFromSlice(raw); err == nil && ok && !a.IsLoopback() && !a.IsLinkLocalUnicast() {
			v6 = append(v6, a.String())
		}
	}
	if diff := cmp.Diff(v6, n.EniIpv6Addresses); diff != "" {
		t.Errorf("addresses of version 6 (-inside +shown):\n%s", diff)
	}
	m := must(w.engine.Machine(limit(t), w.Server, *b.Name))(t)
	for _, e := range m.NetworkSettings.Networks {
		if !strings.HasPrefix(e.EndpointID, strings.TrimPrefix(*n.EniId, "eni-")) {
			t.Errorf("the machine's interface is %s, not %s", e.EndpointID, *n.EniId)
		}
	}
}

func checkIcon(t *testing.T, url string) {
	t.Helper()
	r := must(http.Get(url))(t)
	defer r.Body.Close()
	icon, err := png.Decode(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("the icon: %s, %v", r.Status, err)
	}
	if red, _, _, _ := icon.At(icon.Bounds().Dx()/2, icon.Bounds().Dy()/2).RGBA(); red>>8 != 200 {
		t.Errorf("that is another icon")
	}
}

// checkEmpty: nothing is left of what was deleted.
func (w *world) checkEmpty(t *testing.T) {
	t.Helper()
	if list := must(w.engine.Machines(limit(t), w.Server))(t); len(list) > 0 {
		t.Errorf("%d machines are left", len(list))
	}
	if dirs, err := os.ReadDir(filepath.Join(w.Data, "instances")); err != nil || len(dirs) > 0 {
		t.Errorf("directories of machines are left: %v, %v", dirs, err)
	}
}

// debian makes a small Debian package: a program, its entry in the menu, and an icon.
func debian(t testing.TB) []byte {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) {
		file := filepath.Join(dir, "root", name)
		check(t, os.MkdirAll(filepath.Dir(file), 0o755))
		check(t, os.WriteFile(file, []byte(text), mode))
	}
	picture := image.NewPaletted(image.Rect(0, 0, 48, 48), color.Palette{color.NRGBA{200, 60, 40, 255}})
	var icon bytes.Buffer
	check(t, png.Encode(&icon, picture))
	write("DEBIAN/control", "Package: oriel-hello\nVersion: 1.0\nArchitecture: all\nMaintainer: Oriel <oriel@example.com>\nDescription: says hello\n", 0o644)
	write("usr/bin/oriel-hello", "#!/bin/sh\necho Hello from a package\n", 0o755)
	write("usr/share/pixmaps/oriel-hello.png", icon.String(), 0o644)
	write("usr/share/applications/oriel-hello.desktop", "[Desktop Entry]\nType=Application\nName=Hello\nExec=oriel-hello\nTerminal=true\nIcon=oriel-hello\n", 0o644)
	file := filepath.Join(dir, "hello.deb")
	if out, err := exec.Command("dpkg-deb", "--root-owner-group", "-Zxz", "--build", filepath.Join(dir, "root"), file).CombinedOutput(); err != nil {
		t.Fatalf("dpkg-deb: %v\n%s", err, out)
	}
	return must(os.ReadFile(file))(t)
}

// base64Lines writes data in lines that a terminal takes.
func base64Lines(data []byte) string {
	var lines strings.Builder
	for line := range slices.Chunk([]byte(base64.StdEncoding.EncodeToString(data)), 76) {
		lines.Write(line)
		lines.WriteByte('\n')
	}
	return lines.String()
}

// debianAnswers tells whether Debian's packages can be had from here.
func debianAnswers(t *testing.T) bool {
	t.Helper()
	r, err := (&http.Client{Timeout: 10 * time.Second}).Head("http://deb.debian.org/debian/dists/bookworm/InRelease")
	if err != nil {
		t.Logf("deb.debian.org does not answer, so nothing is installed from there: %v", err)
		return false
	}
	r.Body.Close()
	return r.StatusCode == http.StatusOK
}

// TestCreateImageForm makes an image with the viewer's form.
func TestCreateImageForm(t *testing.T) {
	needBrowser(t)
	t.Parallel()
	w := withMachines(t, "")
	w.create(t, "maker", stage.BaseImage)
	d := w.look(t, "maker", w.streamingURL(t, "maker"))
	d.mustRun(t, "echo kept > kept")
	check(t, d.Click(limit(t), "#create"))
	check(t, d.Fill(limit(t), "#image-name", "formed"))
	check(t, d.Fill(limit(t), "#image-displayName", "Made with the form"))
	d.screenshot(limit(t), t, "form")
	check(t, d.Click(limit(t), "#image-submit"))
	check(t, d.State(limit(t), "imaging", "ended"))
	check(t, d.State(limit(t), "ended"))
	if title := must(d.Text(limit(t), "#veil-title"))(t); title != "The image formed is ready" {
		t.Errorf("the viewer says %q", title)
	}
	d.screenshot(limit(t), t, "ready")
	i := must(stage.AwaitImage(limit(t), w.aws, "formed", types.ImageStateAvailable))(t)
	if *i.DisplayName != "Made with the form" {
		t.Errorf("the image is called %q", *i.DisplayName)
	}
	w.await(t, "maker", types.ImageBuilderStateStopped)
	w.remove(t, "maker")
	w.removeImage(t, "formed")
	w.checkEmpty(t)
}

// TestCreateImageCommand makes an image with oriel image create --wait, and a machine from it.
func TestCreateImageCommand(t *testing.T) {
	t.Parallel()
	w := withMachines(t, "")
	w.create(t, "maker", stage.BaseImage)
	w.inside(t, w.machine(t, "maker"), "echo kept > /etc/kept")
	w.makeImage(t, "maker", "commanded")
	w.await(t, "maker", types.ImageBuilderStateStopped)
	w.create(t, "next", "commanded")
	if got := w.inside(t, w.machine(t, "next"), "cat /etc/kept"); got != "kept" {
		t.Errorf("the file in the image has %q", got)
	}
	w.remove(t, "maker", "next")
	w.removeImage(t, "commanded")
	w.checkEmpty(t)
}
