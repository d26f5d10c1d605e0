package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/moby/moby/client"

	"github.com/oriel-project/oriel/e2e/stage"
)

// inside is set in the environment of the process that TestPrivateEngine starts.
const inside = "ORIEL_E2E_INSIDE"

// diskSize is the private engine's whole disk: room for the base image and the archive that it comes in.
const diskSize = "2g"

// TestPrivateEngine does to an engine what nobody does to one that others use: stops it, and fills its disk. The engine, its
// server and the test run in a network and a mount namespace of their own, so that the machine's firewall and its other engines
// do not notice, and its disk is memory.
func TestPrivateEngine(t *testing.T) {
	if os.Getenv(inside) == "" {
		outside(t)
		return
	}
	root := must(stage.Root())(t)
	dir := t.TempDir()
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		t.Fatalf("bring up the loopback device: %v\n%s", err, out)
	}
	disk := filepath.Join(dir, "e")
	check(t, os.Mkdir(disk, 0o700))
	check(t, syscall.Mount("tmpfs", disk, "tmpfs", 0, "size="+diskSize+",mode=700"))
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, 0); err != nil {
			t.Errorf("unmount the engine's disk: %v", err)
		}
	})
	engine := func(verb string) string {
		t.Helper()
		c := exec.Command(filepath.Join(root, "hack", "engine"), verb, disk)
		c.Env = stage.Clean()
		var stderr bytes.Buffer
		c.Stderr = &stderr
		out, err := c.Output()
		if err != nil {
			t.Fatalf("hack/engine %s: %v\n%s", verb, err, &stderr)
		}
		return strings.TrimSpace(string(out))
	}
	began := time.Now()
	host := "unix://" + engine("start")
	t.Cleanup(func() { engine("stop") })
	copyBase(t, host)
	t.Logf("a private engine after %s", time.Since(began).Round(time.Millisecond))
	w := open(t, stage.Config{Engine: host, Data: filepath.Join(dir, "data")})
	w.create(t, "first", stage.BaseImage)

	t.Run("disk full", func(t *testing.T) { w.fillDisk(t, disk) })

	t.Run("engine away", func(t *testing.T) {
		must(w.aws.StopImageBuilder(limit(t), &appstream.StopImageBuilderInput{Name: new("first")}))(t)
		w.await(t, "first", types.ImageBuilderStateStopped)
		w.create(t, "running", stage.BaseImage)
		const fleet = "occupied"
		w.publish(t, fleet, stage.BaseImage, 1, desktops)
		v := w.come(t, fleet, "ann")
		w.awaitSession(t, fleet, v.Session, types.SessionStateActive)
		engine("stop")
		in := &appstream.CreateImageBuilderInput{Name: new("new"), ImageName: new(stage.BaseImage), InstanceType: new("stream.standard.small")}
		must(w.aws.CreateImageBuilder(limit(t), in))(t)
		must(w.aws.StartImageBuilder(limit(t), &appstream.StartImageBuilderInput{Name: new("first")}))(t)
		for _, name := range []string{"first", "new"} {
			until(t, "the reason is shown", func() error {
				b, err := stage.Builder(limit(t), w.aws, name)
				if err == nil && (b.State != types.ImageBuilderStatePending || b.StateChangeReason == nil || !strings.Contains(*b.StateChangeReason.Message, "unavailable")) {
					err = fmt.Errorf("%s is %s: %+v", name, b.State, b.StateChangeReason)
				}
				return err
			})
		}
		// An engine that stops takes its machines with it, and may tell of that or not.
		if s := w.states(t)["running"]; s != types.ImageBuilderStateRunning && s != types.ImageBuilderStateRebooting {
			t.Errorf("the image builder that was running is %s", s)
		}
		if r := must(http.Get(w.URL + "/readyz"))(t); r.Body.Close() != nil || r.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("/readyz answers %s", r.Status)
		}
		engine("start")
		began := time.Now()
		for _, name := range []string{"first", "new", "running"} {
			if b := w.await(t, name, types.ImageBuilderStateRunning); b.StateChangeReason != nil {
				t.Errorf("the reason stays: %s", *b.StateChangeReason.Message)
			}
			until(t, "the machine runs", func() error {
				m, err := w.engine.Machine(limit(t), w.Server, name)
				if err == nil && !m.State.Running {
					err = fmt.Errorf("it is %s", m.State.Status)
				}
				return err
			})
		}
		// Who was on an instance is told that it was lost, and the next one finds a new one.
		w.over(t, fleet, v.Session)
		w.awaitFree(t, fleet, 1)
		if status, text, err := v.Ask(limit(t), "GET", "info", ""); err != nil || status != http.StatusOK || !strings.Contains(text, `"instance"`) {
			t.Errorf("the page is told %d, %v\n%s", status, err, text)
		}
		next := w.come(t, fleet, "bob")
		w.awaitSession(t, fleet, next.Session, types.SessionStateActive)
		w.withdraw(t, fleet)
		t.Logf("all is well %s after the engine is back", time.Since(began).Round(time.Millisecond))
		w.remove(t, "first", "new", "running")
		w.checkEmpty(t)
	})
}

// outside runs this test in namespaces of its own.
func outside(t *testing.T) {
	if os.Getenv("ORIEL_TEST_ENGINE") == "" {
		t.Skip("skipped: ORIEL_TEST_ENGINE names no container engine")
	}
	if os.Geteuid() != 0 {
		t.Skip("skipped: starting a container engine needs root")
	}
	if _, err := exec.LookPath("dockerd"); err != nil {
		t.Skip("skipped: dockerd is not installed")
	}
	t.Parallel()
	c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestPrivateEngine$", "-test.v", "-test.timeout=10m")
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	c.WaitDelay = 10 * time.Second
	c.Env = append(os.Environ(), inside+"=1", "ORIEL_TEST_BIN="+bin(t))
	c.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET}
	out, err := c.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
}

// copyBase brings the base image from the engine under test, whose socket is a file and so in reach.
func copyBase(t *testing.T, host string) {
	t.Helper()
	from := must(stage.OpenEngine(os.Getenv("ORIEL_TEST_ENGINE")))(t)
	defer from.Close()
	to := must(stage.OpenEngine(host))(t)
	defer to.Close()
	archive := must(from.ImageSave(limit(t), []string{stage.BaseRef}))(t)
	defer archive.Close()
	loaded := must(to.ImageLoad(limit(t), archive, client.ImageLoadWithQuiet(true)))(t)
	defer loaded.Close()
	if text := must(io.ReadAll(loaded))(t); !bytes.Contains(text, []byte("Loaded image")) {
		t.Fatalf("load the base image: %s", text)
	}
}

// fillDisk has an image made of a machine that takes more than half of the free space, so that it does not fit a second time.
func (w *world) fillDisk(t *testing.T, disk string) {
	free := func() int64 {
		var s syscall.Statfs_t
		check(t, syscall.Statfs(disk, &s))
		return int64(s.Bavail) * s.Bsize
	}
	ballast := free()/2 + 150<<20
	w.inside(t, w.machine(t, "first"), fmt.Sprintf("head -c %d /dev/zero > /opt/ballast", ballast))
	before := free()
	began := time.Now()
	if out, err := w.Oriel(limit(t), false, "image", "create", "--image-builder=first", "--name=fat").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	i := must(stage.AwaitImage(limit(t), w.aws, "fat", types.ImageStateFailed))(t)
	t.Logf("FAILED %s after it was asked for: %s", time.Since(began).Round(time.Millisecond), *i.StateChangeReason.Message)
	if !strings.Contains(*i.StateChangeReason.Message, "no space left") {
		t.Errorf("the reason does not say why: %s", *i.StateChangeReason.Message)
	}
	w.await(t, "first", types.ImageBuilderStateStopped)
	if after := free(); after < before-20<<20 {
		t.Errorf("%d MB of a half-made image are left", (before-after)>>20)
	}
	images := must(w.engine.ImageList(limit(t), client.ImageListOptions{All: true, Filters: client.Filters{}.Add("label", "oriel.ref")}))(t).Items
	if len(images) > 0 {
		t.Errorf("half-made images are left: %+v", images)
	}
	// With room again, the same builder makes the same image.
	w.removeImage(t, "fat")
	must(w.aws.StartImageBuilder(limit(t), &appstream.StartImageBuilderInput{Name: new("first")}))(t)
	w.await(t, "first", types.ImageBuilderStateRunning)
	w.inside(t, w.machine(t, "first"), "rm /opt/ballast")
	w.makeImage(t, "first", "fat")
	w.await(t, "first", types.ImageBuilderStateStopped)
	w.removeImage(t, "fat")
	must(w.aws.StartImageBuilder(limit(t), &appstream.StartImageBuilderInput{Name: new("first")}))(t)
	w.await(t, "first", types.ImageBuilderStateRunning)
}
