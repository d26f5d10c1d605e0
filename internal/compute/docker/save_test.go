package docker

import (
	"archive/tar"
	"bytes"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/moby/moby/client"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/oci"
)

// entry is a file of an archive, or a link if it has a target.
type entry struct{ name, content, target string }

func pack(entries ...entry) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: 0o644, Size: int64(len(e.content)), Typeflag: tar.TypeReg, Linkname: e.target}
		if e.target != "" {
			h.Typeflag = tar.TypeSymlink
		}
		if err := w.WriteHeader(h); err != nil {
			panic(err)
		}
		io.WriteString(w, e.content)
	}
	w.Close()
	return b.Bytes()
}

func configOf(layers ...string) string {
	var ids []string
	for _, l := range layers {
		ids = append(ids, fmt.Sprintf("%q", oci.Digest([]byte(l))))
	}
	return `{"architecture":"amd64","os":"linux","container":"c","container_config":{"Image":"x"},"config":{"Env":["A=b"],"Labels":{"oriel.installation":"i","oriel.ref":"r",` +
		`"oriel.image.platform":"DEBIAN_12","vendor":"v"}},"rootfs":{"type":"layers","diff_ids":[` + strings.Join(ids, ",") + `]},"history":[{"created_by":"x"}]}`
}

// forms are the archives that engines save, of the same image.
func forms() map[string][]byte {
	config := configOf("low", "high", "low")
	hex := func(s string) string { return strings.TrimPrefix(oci.Digest([]byte(s)), "sha256:") }
	blob := func(s string) string { return "blobs/sha256/" + hex(s) }
	of := func(mediaType, s string) string {
		return fmt.Sprintf(`{"mediaType":"application/vnd.oci.image.%s","digest":%q,"size":%d}`, mediaType, oci.Digest([]byte(s)), len(s))
	}
	layer := func(s string) string { return of("layer.v1.tar", s) }
	manifest := fmt.Sprintf(`{"schemaVersion":2,"config":%s,"layers":[%s,%s,%s]}`, of("config.v1+json", config), layer("low"), layer("high"), layer("low"))
	index := fmt.Sprintf(`{"schemaVersion":2,"manifests":[%s]}`, of("manifest.v1+json", manifest))
	return map[string][]byte{
		"Docker before 25": pack(entry{"a/VERSION", "1.0", ""}, entry{"a/layer.tar", "low", ""}, entry{"b/layer.tar", "high", ""}, entry{"c/layer.tar", "", "../a/layer.tar"},
			entry{"id.json", config, ""}, entry{"manifest.json", `[{"Config":"id.json","RepoTags":["x:y"],"Layers":["a/layer.tar","b/layer.tar","c/layer.tar"]}]`, ""}, entry{"repositories", "{}", ""}),
		"Docker from 25 on": pack(entry{blob("low"), "low", ""}, entry{blob("high"), "high", ""}, entry{blob(config), config, ""}, entry{"index.json", index, ""}, entry{blob(manifest), manifest, ""},
			entry{"manifest.json", fmt.Sprintf(`[{"Config":%q,"RepoTags":null,"Layers":[%q,%q,%q],"LayerSources":{}}]`, blob(config), blob("low"), blob("high"), blob("low")), ""}, entry{"oci-layout", "{}", ""}),
		"Podman": pack(entry{hex("low") + ".tar", "low", ""}, entry{hex("high") + ".tar", "high", ""}, entry{"old/layer.tar", "", "../" + hex("low") + ".tar"}, entry{"id.json", config, ""},
			entry{"manifest.json", fmt.Sprintf(`[{"Config":"id.json","Layers":["%s.tar","%s.tar","%s.tar"]}]`, hex("low"), hex("high"), hex("low")), ""}),
	}
}

func convert(archive []byte, w io.Writer) error {
	image, err := savedImage(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		return err
	}
	return oci.Write(w, image)
}

// Whatever the engine, the archive of an image is the same, and does not say whose it was.
func TestFormsOfSavedImages(t *testing.T) {
	var first []byte
	for name, archive := range forms() {
		var out bytes.Buffer
		if err := convert(archive, &out); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if first == nil {
			first = out.Bytes()
		}
		if !bytes.Equal(first, out.Bytes()) {
			t.Errorf("%s: another archive", name)
		}
		text := out.String()
		for _, gone := range []string{"oriel.installation", "oriel.ref", "container_config", `"container"`} {
			if strings.Contains(text, gone) {
				t.Errorf("%s: the archive has %s", name, gone)
			}
		}
		for _, stays := range []string{`"Env":["A=b"]`, `"oriel.image.platform":"DEBIAN_12"`, `"vendor":"v"`, `"history":[{"created_by":"x"}]`, "low", "high"} {
			if !strings.Contains(text, stays) {
				t.Errorf("%s: the archive has no %s", name, stays)
			}
		}
	}
}

// What an engine says of labels is looked at like everything else.
func TestLabelsOfNoForm(t *testing.T) {
	config := strings.Replace(configOf("low"), `"v"`, "[]", 1)
	archive := pack(entry{"manifest.json", `[{"Config":"c","Layers":["l"]}]`, ""}, entry{"c", config, ""}, entry{"l", "low", ""})
	if err := convert(archive, io.Discard); err == nil {
		t.Error("no error")
	}
}

// An exported image can be loaded into an engine, and is nobody's then.
func TestExportedImageLoads(t *testing.T) {
	p, base := open(t)
	ctx, spec, ref := t.Context(), machineSpec(base), "oriel/image:"+unique()
	if err := p.EnsureRunning(ctx, spec); err != nil {
		t.Fatal(err)
	}
	if _, err := p.shell(ctx, spec.ID, "echo kept >/opt/file"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(p.EnsureStopped(ctx, spec.ID), p.EnsureCaptured(ctx, spec.ID, ref), p.EnsureGone(ctx, spec.ID)); err != nil {
		t.Fatal(err)
	}
	name := "oriel/export:" + unique()
	var archive bytes.Buffer
	if err := p.SaveImage(ctx, ref, appstream.ExportNotes{Name: name}, &archive); err != nil {
		t.Fatal(err)
	}
	if err := p.EnsureImageGone(ctx, ref); err != nil {
		t.Fatal(err)
	}
	loaded, err := p.engine.ImageLoad(ctx, &archive)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(loaded)
	if err = errors.Join(err, loaded.Close()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.EnsureGone(ctx, spec.ID); err != nil {
			t.Error(err)
		}
		if _, err := p.engine.ImageRemove(ctx, name, client.ImageRemoveOptions{}); err != nil {
			t.Error(err)
		}
	}()
	r, err := p.engine.ImageInspect(ctx, name)
	if err != nil {
		t.Fatalf("%v; the engine said %s", err, answer)
	}
	labels, err := json.Marshal(r.Config.Labels)
	if err != nil || strings.Contains(string(labels), labelInstallation) || r.Config.Labels[labelImagePlatform] != "DEBIAN_12" {
		t.Errorf("the image has the labels %s", labels)
	}
	spec.ImageRef = name
	if err := p.EnsureRunning(ctx, spec); err != nil {
		t.Fatal(err)
	}
	if got, err := p.shell(ctx, spec.ID, "cat /opt/file"); strings.TrimSpace(got) != "kept" {
		t.Errorf("the machine's file has %q, %v", got, err)
	}
}
