package oci_test

import (
	"archive/tar"
	"bytes"
	"encoding/json/v2"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/oriel-project/oriel/internal/oci"
)

func layer(content string) oci.Layer {
	return oci.Layer{Digest: oci.Digest([]byte(content)), Size: int64(len(content)), Open: func() io.Reader { return strings.NewReader(content) }}
}

// unpack reads all files of an archive, and the order that they are in.
func unpack(t *testing.T, archive []byte) (files map[string][]byte, order []string) {
	t.Helper()
	files = map[string][]byte{}
	in := tar.NewReader(bytes.NewReader(archive))
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return files, order
		}
		content, readErr := io.ReadAll(in)
		if err = errors.Join(err, readErr); err != nil {
			t.Fatal(err)
		}
		if files[h.Name] != nil {
			t.Errorf("%s is twice in the archive", h.Name)
		}
		files[h.Name], order = content, append(order, h.Name)
	}
}

// What is written is an image layout as the specification has it: from the index to the last layer, each blob is found by its digest.
func TestWrite(t *testing.T) {
	image := oci.Image{Config: []byte(`{"architecture":"amd64"}`), Layers: []oci.Layer{layer("low"), layer("high"), layer("low")},
		Platform: oci.Platform{Architecture: "amd64", OS: "linux"}, Name: "oriel/export:x", Annotations: map[string]string{"b": "2", "a": "1"}}
	var first, second bytes.Buffer
	if err := errors.Join(oci.Write(&first, image), oci.Write(&second, image)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("the same image gave two archives")
	}
	files, order := unpack(t, first.Bytes())
	if strings.Join(order[:3], " ") != "oci-layout index.json manifest.json" || len(order) != 7 {
		t.Errorf("the archive has %v", order)
	}
	type descriptor struct {
		MediaType, Digest string
		Size              int64
		Annotations       map[string]string
		Platform          oci.Platform
	}
	blob := func(d descriptor, mediaType string) []byte {
		content, ok := files["blobs/sha256/"+strings.TrimPrefix(d.Digest, "sha256:")]
		if !ok || oci.Digest(content) != d.Digest || d.Size != int64(len(content)) || d.MediaType != mediaType {
			t.Fatalf("no blob for %+v", d)
		}
		return content
	}
	read := func(text []byte, v any) {
		if err := json.Unmarshal(text, v, json.MatchCaseInsensitiveNames(true)); err != nil {
			t.Fatal(err)
		}
	}
	var index struct {
		SchemaVersion int
		Manifests     []descriptor
	}
	read(files["index.json"], &index)
	if d := index.Manifests[0]; index.SchemaVersion != 2 || len(index.Manifests) != 1 || d.Annotations["a"] != "1" || d.Platform != image.Platform {
		t.Errorf("index.json is %s", files["index.json"])
	}
	var manifest struct {
		Config descriptor
		Layers []descriptor
	}
	read(blob(index.Manifests[0], oci.TypeManifest), &manifest)
	if got := blob(manifest.Config, oci.TypeConfig); !bytes.Equal(got, image.Config) {
		t.Errorf("the configuration is %s", got)
	}
	var content []string
	for _, d := range manifest.Layers {
		content = append(content, string(blob(d, oci.TypeLayer)))
	}
	if strings.Join(content, " ") != "low high low" {
		t.Errorf("the layers are %v", content)
	}
	var compat []struct {
		Config           string
		RepoTags, Layers []string
	}
	read(files["manifest.json"], &compat)
	if len(compat) != 1 || compat[0].RepoTags[0] != image.Name || !bytes.Equal(files[compat[0].Config], image.Config) || string(files[compat[0].Layers[1]]) != "high" {
		t.Errorf("manifest.json is %s", files["manifest.json"])
	}
}

// A layer that ends too early makes no archive.
func TestShortLayer(t *testing.T) {
	short := layer("good")
	short.Open = func() io.Reader { return strings.NewReader("go") }
	if err := oci.Write(io.Discard, oci.Image{Config: []byte("{}"), Layers: []oci.Layer{short}}); !errors.Is(err, io.EOF) || !strings.Contains(err.Error(), short.Digest) {
		t.Errorf("got %v, want an early end of %s", err, short.Digest)
	}
}
