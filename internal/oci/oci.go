// Package oci writes and reads images as archives: one tar file with an OCI image layout, which every container engine and registry tool reads
// (https://github.com/opencontainers/image-spec, image-layout.md), or with what the command save of Docker and Podman writes.
//
// An archive that is read may come from anywhere. Nothing in it is believed that was not found out; everything has a bound; no more memory is
// needed than for the names of its files and one JSON text, and nothing is unpacked.
package oci

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
)

// The media types of what is in an archive.
const (
	TypeIndex    = "application/vnd.oci.image.index.v1+json"
	TypeManifest = "application/vnd.oci.image.manifest.v1+json"
	TypeConfig   = "application/vnd.oci.image.config.v1+json"
	TypeLayer    = "application/vnd.oci.image.layer.v1.tar"
)

// An Image is what an archive is made of.
type Image struct {
	Config      []byte  // the image's configuration, as it is in the archive
	Layers      []Layer // the lowest first
	Platform    Platform
	Annotations map[string]string // of the image, for example org.opencontainers.image.title
	Name        string            // NAMESPACE/NAME:TAG that an engine gives the image when it loads the archive; "" for none
}

// A Layer is a tar file with the changes of one layer, not compressed. Who gives it vouches for the digest, which he had to find out.
type Layer struct {
	Digest string // "sha256:" and 64 hexadecimal digits
	Size   int64
	Open   func() io.Reader // from the beginning; its end is an error when it was not what the digest says. If it is an io.Closer, it is closed
}

// Platform is what an image runs on.
type Platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
}

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Platform    *Platform         `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Config        *descriptor  `json:"config,omitempty"`
	Layers        []descriptor `json:"layers,omitempty"`
	Manifests     []descriptor `json:"manifests,omitempty"`

	Annotations map[string]string `json:"annotations,omitempty"`
}

// saved is an entry of manifest.json, which engines read that do not know OCI's layout.
type saved struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// Digest gives the digest of a content.
func Digest(content []byte) string {
	sum := sha256.Sum256(content)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Write writes an archive with an OCI layout, which engines that do not know it read as well. Equal images give equal archives, byte for byte. It
// needs no more memory than the configuration does.
func Write(w io.Writer, image Image) error { return write(w, image, true) }

// WriteSaved writes an archive as the engines' command save does, without an OCI layout: then all engines read the image's name in the same place.
func WriteSaved(w io.Writer, image Image) error { return write(w, image, false) }

func write(w io.Writer, image Image, layout bool) error {
	config := descriptor{MediaType: TypeConfig, Digest: Digest(image.Config), Size: int64(len(image.Config))}
	m := manifest{SchemaVersion: 2, MediaType: TypeManifest, Config: &config, Layers: []descriptor{}}
	compat := saved{Config: blobPath(config.Digest), Layers: []string{}}
	if image.Name != "" {
		compat.RepoTags = []string{image.Name}
	}
	for _, l := range image.Layers {
		m.Layers = append(m.Layers, descriptor{MediaType: TypeLayer, Digest: l.Digest, Size: l.Size})
		compat.Layers = append(compat.Layers, blobPath(l.Digest))
	}
	manifestText, err := json.Marshal(m, json.Deterministic(true))
	if err != nil {
		return err
	}
	index, err := json.Marshal(manifest{SchemaVersion: 2, MediaType: TypeIndex, Manifests: []descriptor{{
		MediaType: TypeManifest, Digest: Digest(manifestText), Size: int64(len(manifestText)), Platform: &image.Platform, Annotations: image.named(),
	}}}, json.Deterministic(true))
	if err != nil {
		return err
	}
	compatText, err := json.Marshal([]saved{compat}, json.Deterministic(true))
	if err != nil {
		return err
	}
	out := tar.NewWriter(w)
	type file struct {
		name    string
		content []byte
	}
	texts := []file{{"oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)}, {"index.json", index}, {"manifest.json", compatText},
		{blobPath(Digest(manifestText)), manifestText}, {blobPath(config.Digest), image.Config}}
	if !layout {
		texts = []file{texts[2], texts[4]}
	}
	for _, f := range texts {
		err := out.WriteHeader(header(f.name, int64(len(f.content))))
		if err == nil {
			_, err = out.Write(f.content)
		}
		if err != nil {
			return err
		}
	}
	written := map[string]bool{}
	for _, l := range image.Layers {
		if !written[l.Digest] {
			if err := writeLayer(out, l); err != nil {
				return err
			}
			written[l.Digest] = true
		}
	}
	return out.Close()
}

// named gives the image's annotations, with its name where Podman and the newer Docker look for it.
func (i Image) named() map[string]string {
	repository, tag, ok := strings.Cut(i.Name, ":")
	if !ok {
		return i.Annotations
	}
	annotations := map[string]string{"io.containerd.image.name": "docker.io/" + repository + ":" + tag, "org.opencontainers.image.ref.name": tag}
	maps.Copy(annotations, i.Annotations)
	return annotations
}

func writeLayer(out *tar.Writer, l Layer) error {
	if err := out.WriteHeader(header(blobPath(l.Digest), l.Size)); err != nil {
		return err
	}
	content := l.Open()
	if c, ok := content.(io.Closer); ok {
		defer c.Close()
	}
	_, err := io.CopyN(out, content, l.Size)
	if err == nil {
		_, err = io.ReadFull(content, make([]byte, 1))
		switch {
		case err == nil:
			err = errors.New("it is longer than was said")
		case errors.Is(err, io.EOF):
			err = nil
		}
	}
	if err != nil {
		return fmt.Errorf("the layer %s: %w", l.Digest, err)
	}
	return nil
}

func header(name string, size int64) *tar.Header {
	return &tar.Header{Name: name, Mode: 0o644, Size: size, Typeflag: tar.TypeReg}
}

// blobPath is where the blob of a digest is in an archive.
func blobPath(digest string) string { return "blobs/sha256/" + digest[len("sha256:"):] }
