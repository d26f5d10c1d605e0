package docker

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	cerrdefs "github.com/containerd/errdefs"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/compute"
	"github.com/oriel-project/oriel/internal/oci"
)

// SaveImage has the engine save the image, and writes it in OCI's form. Engines save in forms of their own, in which what a file
// is called and what it belongs to is only known at the end; so what comes is kept in a file without a name, which nothing can
// leave behind. The labels that make an image Oriel's are left out.
func (p *Provider) SaveImage(ctx context.Context, ref string, notes appstream.ExportNotes, w io.Writer) error {
	missing := func(err error) error {
		return &compute.Fault{Message: "the image " + ref + " does not exist (any more): there is nothing to export", Cause: err}
	}
	if err := checkRef(ref); err != nil {
		return err
	}
	spool, err := os.CreateTemp(p.config.DataDir, "save-*")
	if err != nil {
		return fail("save the image "+ref, err)
	}
	defer spool.Close()
	if err := os.Remove(spool.Name()); err != nil {
		return fail("save the image "+ref, err)
	}
	if has, err := p.HasImage(ctx, ref); err != nil {
		return err
	} else if !has { // some engines begin an archive before they notice
		return missing(nil)
	}
	r, err := p.engine.ImageSave(ctx, []string{ref})
	if cerrdefs.IsNotFound(err) {
		return missing(err)
	}
	if err != nil {
		return fail("save the image "+ref, err)
	}
	defer r.Close()
	saved, err := readSaved(r, spool)
	if err != nil && noSpace(err) {
		return &compute.Fault{Message: "there is no space left in " + p.config.DataDir + " to save the image " + ref + "; make room and try again", Cause: err}
	}
	if err != nil {
		return fail("save the image "+ref, errors.Join(ctx.Err(), err))
	}
	image, err := saved.image()
	if err != nil {
		return fail("save the image "+ref, err)
	}
	image.Name, image.Annotations = notes.Name, notes.Annotations
	return oci.Write(w, image)
}

// A saved archive of an engine has a manifest.json, and the files that it names. Docker before 25 has VERSION/layer.tar and links to such,
// Podman DIGEST.tar, Docker from 25 on an OCI layout beside.
type saved struct {
	file  io.ReaderAt
	files map[string]savedFile
	links map[string]string
}

type savedFile struct {
	offset, size int64
	digest       string
}

// What is more than this is no image: the bounds of a saved archive.
const (
	maxSavedFiles = 20_000
	maxSavedText  = 16 << 20 // of one JSON file
	maxSavedLinks = 10       // from one to the next
)

// readSaved copies an archive into a file and notes where everything is in it.
func readSaved(r io.Reader, file *os.File) (saved, error) {
	s := saved{file: file, files: map[string]savedFile{}, links: map[string]string{}}
	var copied int64
	in := tar.NewReader(io.TeeReader(r, &written{file, &copied}))
	for n := 0; ; n++ {
		h, err := in.Next()
		switch {
		case errors.Is(err, io.EOF):
			return s, nil
		case err != nil:
			return s, err
		case n == maxSavedFiles:
			return s, fmt.Errorf("the engine's archive has more than %d files", maxSavedFiles)
		}
		name := path.Clean(h.Name)
		switch h.Typeflag {
		case tar.TypeReg:
			at, hash, size := copied, sha256.New(), int64(0)
			for err == nil {
				var n int64
				n, err = io.CopyN(hash, in, 1<<20)
				if size += n; size > copied-at { // holes would be read as zeros, without end
					return s, fmt.Errorf("the file %.100q of the engine's archive has holes", name)
				}
			}
			if !errors.Is(err, io.EOF) {
				return s, err
			}
			s.files[name] = savedFile{at, size, "sha256:" + hex.EncodeToString(hash.Sum(nil))}
		case tar.TypeSymlink:
			s.links[name] = path.Join(path.Dir(name), h.Linkname)
		case tar.TypeLink:
			s.links[name] = path.Clean(h.Linkname)
		}
	}
}

// written counts what is written.
type written struct {
	w io.Writer
	n *int64
}

func (c *written) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	*c.n += int64(n)
	return n, err
}

func (s saved) find(name string) (savedFile, error) {
	name = path.Clean(name)
	for range maxSavedLinks {
		if f, ok := s.files[name]; ok {
			return f, nil
		}
		name = s.links[name]
	}
	return savedFile{}, errors.New("the engine's archive is not complete")
}

func (s saved) text(name string) ([]byte, error) {
	f, err := s.find(name)
	if err == nil && f.size > maxSavedText {
		err = fmt.Errorf("%.100q in the engine's archive is larger than %d bytes", name, maxSavedText)
	}
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.NewSectionReader(s.file, f.offset, f.size))
}

// image puts together what belongs to the one image of the archive.
func (s saved) image() (oci.Image, error) {
	var image oci.Image
	text, err := s.text("manifest.json")
	if err != nil {
		return image, err
	}
	var manifests []struct {
		Config string
		Layers []string
	}
	if err := json.Unmarshal(text, &manifests); err != nil {
		return image, err
	}
	if len(manifests) != 1 {
		return image, fmt.Errorf("the engine's archive has %d images", len(manifests))
	}
	if text, err = s.text(manifests[0].Config); err != nil {
		return image, err
	}
	if image.Config, err = withoutLabels(text); err != nil {
		return image, err
	}
	var config struct {
		oci.Platform
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		} `json:"rootfs"`
	}
	if err := json.Unmarshal(text, &config); err != nil {
		return image, err
	}
	image.Platform = config.Platform
	if len(config.RootFS.DiffIDs) != len(manifests[0].Layers) {
		return image, errors.New("the engine's archive has not as many layers as its image")
	}
	for n, name := range manifests[0].Layers {
		f, err := s.find(name)
		if err != nil {
			return image, err
		}
		if f.digest != config.RootFS.DiffIDs[n] {
			return image, fmt.Errorf("the layer %.100q of the engine's archive is compressed or damaged", name)
		}
		image.Layers = append(image.Layers, oci.Layer{Digest: f.digest, Size: f.size,
			Open: func() io.Reader { return io.NewSectionReader(s.file, f.offset, f.size) }})
	}
	return image, nil
}

// withoutLabels takes the labels out of an image's configuration by which Oriel knows its own images. What the configuration has besides
// stays as it is.
func withoutLabels(text []byte) ([]byte, error) {
	var whole, config map[string]jsontext.Value
	if err := json.Unmarshal(text, &whole); err != nil {
		return nil, err
	}
	// What the machine was that the image was captured from is Docker's own business.
	for _, member := range []string{"container", "container_config"} {
		delete(whole, member)
	}
	if len(whole["config"]) > 0 {
		if err := json.Unmarshal(whole["config"], &config); err != nil {
			return nil, err
		}
	}
	if len(config["Labels"]) > 0 {
		var labels map[string]string
		if err := json.Unmarshal(config["Labels"], &labels); err != nil {
			return nil, err
		}
		for key := range labels {
			if strings.HasPrefix(key, "oriel.") && key != labelImagePlatform {
				delete(labels, key)
			}
		}
		var err error
		if config["Labels"], err = json.Marshal(labels, json.Deterministic(true)); err != nil {
			return nil, err
		}
		if whole["config"], err = json.Marshal(config, json.Deterministic(true)); err != nil {
			return nil, err
		}
	}
	return json.Marshal(whole, json.Deterministic(true))
}
