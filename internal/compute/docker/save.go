package docker

import (
	"context"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"io"
	"os"
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
	size, err := io.Copy(spool, r)
	if err != nil && noSpace(err) {
		return &compute.Fault{Message: "there is no space left in " + p.config.DataDir + " to save the image " + ref + "; make room and try again", Cause: err}
	}
	if err != nil {
		return fail("save the image "+ref, errors.Join(ctx.Err(), err))
	}
	image, err := savedImage(spool, size)
	if err != nil {
		return fail("save the image "+ref, err)
	}
	image.Name, image.Annotations = notes.Name, notes.Annotations
	return oci.Write(w, image)
}

// savedImage reads what an engine has saved.
func savedImage(r io.ReaderAt, size int64) (oci.Image, error) {
	saved, err := oci.Open(r, size, "")
	if err != nil {
		return oci.Image{}, err
	}
	image := oci.Image{Platform: saved.Platform}
	if image.Config, err = withoutLabels(saved.Config); err == nil {
		image.Layers, err = saved.Layers()
	}
	return image, err
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
