package docker

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/client"

	"github.com/oriel-project/oriel/internal/agentapi"
	"github.com/oriel-project/oriel/internal/compute"
	"github.com/oriel-project/oriel/internal/oci"
)

// desktop is what an image has that can be a machine; a value that begins with → is a link.
func desktop() map[string]string {
	return map[string]string{"usr/bin/sh": "sh", "usr/bin/Xvnc": "→/etc/alternatives/Xvnc", "etc/oriel/session": "s", "usr/local/bin/sudo": "→" + agentapi.Binary,
		"etc/passwd":     "root:x:0:0::/root:/bin/sh\nImageBuilderAdmin:x:1000:1000::/home/x:/bin/bash\n",
		"etc/os-release": "→../usr/lib/os-release", "usr/lib/os-release": "PRETTY_NAME=\"Debian\"\nVERSION_ID=\"12\"\nID=debian\n"}
}

// desktopArchive is an archive of an image with one layer.
func desktopArchive(t *testing.T, files map[string]string, config string) *io.SectionReader {
	t.Helper()
	var layer, archive bytes.Buffer
	w := tar.NewWriter(&layer)
	for name, text := range files {
		h := &tar.Header{Name: name, Mode: 0o755, Typeflag: tar.TypeReg, Size: int64(len(text))}
		if link, ok := strings.CutPrefix(text, "→"); ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, link, 0
		}
		if strings.HasSuffix(name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			io.WriteString(w, text)
		}
	}
	w.Close()
	d := oci.Digest(layer.Bytes())
	whole := fmt.Sprintf(`{"os":"linux","architecture":"amd64","created":"2026-11-20T12:00:00Z","config":%s,"rootfs":{"type":"layers","diff_ids":[%q]}}`, config, d)
	err := oci.Write(&archive, oci.Image{Config: []byte(whole), Platform: oci.Platform{OS: "linux", Architecture: "amd64"}, Name: "oriel/base:oriel-debian-12",
		Layers: []oci.Layer{{Digest: d, Size: int64(layer.Len()), Open: func() io.Reader { return bytes.NewReader(layer.Bytes()) }}}})
	if err != nil {
		t.Fatal(err)
	}
	return io.NewSectionReader(bytes.NewReader(archive.Bytes()), 0, int64(archive.Len()))
}

// An image that lacks what a machine needs is refused, with what it lacks.
func TestWhatMachinesNeed(t *testing.T) {
	facts, err := inspectArchive(desktopArchive(t, desktop(), "{}"), "amd64")
	if err != nil || facts.Platform != "DEBIAN_12" || facts.Size < 4096 || !facts.Created.Equal(time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)) {
		t.Errorf("a desktop: %+v, %v", facts, err)
	}
	for name, test := range map[string]struct {
		change func(map[string]string)
		config string
		says   []string
	}{
		"nothing":              {func(m map[string]string) { clear(m) }, "{}", []string{"a shell", "Xvnc", "/etc/oriel/session", "sudo", "ImageBuilderAdmin", "base image"}},
		"no display":           {func(m map[string]string) { delete(m, "usr/bin/Xvnc") }, "{}", []string{"it lacks an X server that speaks VNC, /usr/bin/Xvnc (Debian's package tigervnc-standalone-server). Make"}},
		"another sudo":         {func(m map[string]string) { m["usr/local/bin/sudo"] = "→/usr/bin/sudo" }, "{}", []string{"sudo by Oriel's agent"}},
		"no user":              {func(m map[string]string) { m["etc/passwd"] = "root:x:0:0\nx:x:10000:1000\n" }, "{}", []string{"the number 1000"}},
		"a directory":          {func(m map[string]string) { delete(m, "etc/oriel/session"); m["etc/oriel/session/"] = "" }, "{}", []string{"/etc/oriel/session"}},
		"variables":            {func(map[string]string) {}, `{"Env":["` + strings.Repeat("A", 70_000) + `=b"]}`, []string{"at most 65536"}},
		"no variables":         {func(map[string]string) {}, `{"Env":["=b"]}`, []string{"not NAME=VALUE"}},
		"an odd configuration": {func(map[string]string) {}, `{"Env":{}}`, []string{"not what it should be"}},
	} {
		files := desktop()
		test.change(files)
		_, err := inspectArchive(desktopArchive(t, files, test.config), "amd64")
		fault, ok := errors.AsType[*compute.Fault](err)
		if !ok {
			t.Errorf("%s: got %v, want a fault", name, err)
			continue
		}
		for _, says := range test.says {
			if !strings.Contains(fault.Message, says) {
				t.Errorf("%s: %q does not say %q", name, fault.Message, says)
			}
		}
	}
	if _, err := inspectArchive(desktopArchive(t, desktop(), "{}"), "arm64"); err == nil || !strings.Contains(err.Error(), "no image for linux/arm64") {
		t.Errorf("on another processor: %v", err)
	}
}

func TestPlatformOfAnImage(t *testing.T) {
	for release, want := range map[string]string{
		"ID=debian\nVERSION_ID=\"12\"\n": "DEBIAN_12", "NAME=x\nID='rocky'\nVERSION_ID='8.10'": "ROCKY_8_10", "ID=arch\n": "ARCH", "": "LINUX", "ID=$(reboot)\n": "LINUX",
		"ID=debian\nID=ubuntu\nVERSION_ID=24.04": "UBUNTU_24_04",
	} {
		files := desktop()
		files["etc/os-release"] = release
		delete(files, "usr/lib/os-release")
		if facts, err := inspectArchive(desktopArchive(t, files, "{}"), "amd64"); err != nil || facts.Platform != want {
			t.Errorf("%q: %q, %v", release, facts.Platform, err)
		}
	}
	for label, want := range map[string]string{"AMAZON_LINUX2": "AMAZON_LINUX2", "no platform": "DEBIAN_12"} {
		if facts, err := inspectArchive(desktopArchive(t, desktop(), `{"Labels":{"oriel.image.platform":"`+label+`"}}`), "amd64"); err != nil || facts.Platform != want {
			t.Errorf("label %q: %q, %v", label, facts.Platform, err)
		}
	}
}

// An archive gives its image no name and no label, and the engine nothing to do. What the engine itself saved is read.
func TestImportTakesOnlyTheImage(t *testing.T) {
	p, base := open(t)
	ctx := t.Context()
	before, err := p.engine.ImageInspect(ctx, base)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "saved"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	r, err := p.engine.ImageSave(ctx, []string{base})
	if err != nil {
		t.Fatal(err)
	}
	size, err := io.Copy(file, r)
	if err = errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	saved, hostile := "oriel/image:"+unique(), "oriel/image:"+unique()
	if err := p.EnsureImageImported(ctx, io.NewSectionReader(file, 0, size), saved); err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf(`{"Env":["A=b"],"User":"nobody","Volumes":{"/root":{}},"ExposedPorts":{"22/tcp":{}},"Entrypoint":["/bin/evil"],"OnBuild":["RUN x"],
		"Healthcheck":{"Test":["CMD","evil"],"Interval":1000000},"Labels":{"oriel.installation":"other","oriel.ref":"oriel/image:other","oriel.image.name":%q,"oriel.image.platform":"DEBIAN_12"}}`,
		p.config.Installation)
	if err := p.EnsureImageImported(ctx, desktopArchive(t, desktop(), config), hostile); err != nil {
		t.Fatal(err)
	}
	incomplete, refused := desktop(), "oriel/image:"+unique()
	delete(incomplete, "usr/bin/Xvnc")
	if _, ok := errors.AsType[*compute.Fault](p.EnsureImageImported(ctx, desktopArchive(t, incomplete, "{}"), refused)); !ok {
		t.Error("an image that can be no machine was imported")
	}
	if has, err := p.HasImage(ctx, refused); has || err != nil {
		t.Errorf("it is there: %v, %v", has, err)
	}
	if after, err := p.engine.ImageInspect(ctx, base); err != nil || after.ID != before.ID || !slices.Equal(after.RepoTags, before.RepoTags) {
		t.Errorf("the image whose name is in the archive: %+v, %v", after, err)
	}
	refs, err := p.ListImages(ctx)
	want := []string{saved, hostile}
	slices.Sort(refs)
	slices.Sort(want)
	if err != nil || !slices.Equal(refs, want) {
		t.Errorf("ListImages() = %v, %v", refs, err)
	}
	public, err := p.PublicImages(ctx)
	for _, i := range public {
		if i.Ref != base && i.Name == p.config.Installation {
			t.Errorf("%s is public", i.Ref)
		}
	}
	if err != nil {
		t.Error(err)
	}
	got, err := p.engine.ImageInspect(ctx, saved)
	if err != nil || !slices.Equal(got.RootFS.Layers, before.RootFS.Layers) {
		t.Errorf("the layers are %v, were %v; %v", got.RootFS.Layers, before.RootFS.Layers, err)
	}
	got, err = p.engine.ImageInspect(ctx, hostile)
	if err != nil {
		t.Fatal(err)
	}
	c := got.Config
	if len(c.Volumes)+len(c.ExposedPorts)+len(c.Entrypoint)+len(c.OnBuild) > 0 || c.Healthcheck != nil || c.User != "" || !slices.Contains(c.Env, "A=b") {
		t.Errorf("the image's configuration is %+v", c)
	}
	if diff := cmp.Diff(map[string]string{labelInstallation: p.config.Installation, labelRef: hostile, labelImagePlatform: "DEBIAN_12"}, c.Labels); diff != "" {
		t.Errorf("labels:\n%s", diff)
	}
	r2, err := p.engine.ImageList(ctx, client.ImageListOptions{Filters: client.Filters{}.Add("dangling", "true").Add("label", labelInstallation+"="+p.config.Installation)})
	if err != nil || len(r2.Items) > 0 {
		t.Errorf("images without a name: %+v, %v", r2.Items, err)
	}
}
