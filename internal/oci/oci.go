// Package oci writes images as OCI archives: one tar file with an image layout that every container engine and registry tool reads.
// (https://github.com/opencontainers/image-spec, image-layout.md)
package oci

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json/v2"
	"fmt"
	"io"
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
	Name        string            // NAME:TAG that an engine gives the image when it loads the archive; "" for none
}

// A Layer is a tar file with the changes of one layer, not compressed. Who gives it vouches for the digest, which he had to find out.
type Layer struct {
	Digest string // "sha256:" and 64 hexadecimal digits
	Size   int64
	Open   func() io.Reader // from the beginning
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

// Write writes an archive. Equal images give equal archives, byte for byte. It needs no more memory than the configuration does.
func Write(w io.Writer, image Image) error {
	config := descriptor{MediaType: TypeConfig, Digest: Digest(image.Config), Size: int64(len(image.Config))}
	m := manifest{SchemaVersion: 2, MediaType: TypeManifest, Config: &config, Layers: []descriptor{}}
	compat := saved{Config: path(config.Digest), Layers: []string{}}
	if image.Name != "" {
		compat.RepoTags = []string{image.Name}
	}
	for _, l := range image.Layers {
		m.Layers = append(m.Layers, descriptor{MediaType: TypeLayer, Digest: l.Digest, Size: l.Size})
		compat.Layers = append(compat.Layers, path(l.Digest))
	}
	manifestText, err := json.Marshal(m, json.Deterministic(true))
	if err != nil {
		return err
	}
	index, err := json.Marshal(manifest{SchemaVersion: 2, MediaType: TypeIndex, Manifests: []descriptor{{
		MediaType: TypeManifest, Digest: Digest(manifestText), Size: int64(len(manifestText)), Platform: &image.Platform, Annotations: image.Annotations,
	}}}, json.Deterministic(true))
	if err != nil {
		return err
	}
	compatText, err := json.Marshal([]saved{compat}, json.Deterministic(true))
	if err != nil {
		return err
	}
	out := tar.NewWriter(w)
	for _, f := range []struct {
		name    string
		content []byte
	}{
		{"oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)}, {"index.json", index}, {"manifest.json", compatText},
		{path(Digest(manifestText)), manifestText}, {path(config.Digest), image.Config},
	} {
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

func writeLayer(out *tar.Writer, l Layer) error {
	if err := out.WriteHeader(header(path(l.Digest), l.Size)); err != nil {
		return err
	}
	if _, err := io.CopyN(out, l.Open(), l.Size); err != nil {
		return fmt.Errorf("the layer %s: %w", l.Digest, err)
	}
	return nil
}

func header(name string, size int64) *tar.Header {
	return &tar.Header{Name: name, Mode: 0o644, Size: size, Typeflag: tar.TypeReg}
}

// path is where the blob of a digest is in an archive.
func path(digest string) string { return "blobs/sha256/" + digest[len("sha256:"):] }
