package oci

import (
	"cmp"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

const (
	maxImages = 1000 // in one archive, indexes counted
	maxDepth  = 4    // of indexes in indexes
	// Engines take 125 layers, and what is made from the image adds some.
	maxLayers = 120
)

// Media types that Docker had before there were OCI's.
const (
	dockerIndex    = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerConfig   = "application/vnd.docker.container.image.v1+json"
	dockerLayer    = "application/vnd.docker.image.rootfs.diff.tar"
)

var digestForm = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// Archive is an archive's image.
type Archive struct {
	Config      []byte // the image's configuration
	Platform    Platform
	Created     time.Time         // zero when the configuration does not say it
	Annotations map[string]string // of the image

	files
	layers []*layer // the lowest first
}

// Open finds the image in an archive of size bytes. It reads the headers and the JSON texts; what is in the layers is looked at later. Of an
// archive with several images, the one for Linux on architecture ("amd64", as Go calls them) is taken; "" takes any, if it is the only one.
// What is wrong with the archive is an *Error; other errors are those of r.
func Open(r io.ReaderAt, size int64, architecture string) (*Archive, error) {
	in := &input{r: r}
	f, err := scan(in, size)
	if err != nil {
		return nil, err
	}
	var found []candidate
	switch {
	case f.has("index.json"):
		found, err = f.fromIndex()
	case f.has("manifest.json"):
		found, err = f.fromSaved()
	default:
		return nil, bad("the archive is neither an OCI image layout (index.json) nor from docker save (manifest.json): " +
			"make one with docker save, podman save or skopeo copy")
	}
	if err != nil {
		return nil, err
	}
	c, err := choose(found, architecture)
	if err != nil {
		return nil, err
	}
	return f.image(c)
}

// candidate is one image of an archive.
type candidate struct {
	id          string // the same for the same image
	platform    Platform
	variant     string
	config      []byte
	layers      []layerOf
	annotations map[string]string
}

// layerOf is what an archive says of a layer: its descriptor, or only the name of its file.
type layerOf struct {
	descriptor
	file string
}

// config is what we read of an image's configuration.
type config struct {
	Platform
	Variant string    `json:"variant"`
	Created time.Time `json:"created"`
	RootFS  struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
}

// choose takes the image that is for Linux on this kind of machine.
func choose(found []candidate, architecture string) (candidate, error) {
	slices.SortStableFunc(found, func(a, b candidate) int { return strings.Compare(a.id, b.id) })
	found = slices.CompactFunc(found, func(a, b candidate) bool { return a.id == b.id }) // an image that has two names
	if len(found) == 0 {
		return candidate{}, bad("there is no image in the archive")
	}
	if architecture == "" {
		if len(found) > 1 {
			return candidate{}, bad("the archive has %d images: write one alone", len(found))
		}
		return found[0], nil
	}
	platforms := map[string]bool{}
	var fit []candidate
	for _, c := range found {
		platforms[cmp.Or(c.platform.OS, "?")+"/"+cmp.Or(c.platform.Architecture, "?")] = true
		if c.platform == (Platform{architecture, "linux"}) {
			fit = append(fit, c)
		}
	}
	if len(fit) > 1 { // those for a newer kind of processor are marked
		if plain := slices.DeleteFunc(slices.Clone(fit), func(c candidate) bool { return c.variant != "" }); len(plain) == 1 {
			fit = plain
		}
	}
	switch len(fit) {
	case 0:
		return candidate{}, bad("the archive has no image for linux/%s, which this server's machines are, but for %.200s", architecture,
			strings.Join(slices.Sorted(maps.Keys(platforms)), ", "))
	case 1:
		return fit[0], nil
	}
	return candidate{}, bad("the archive has %d images for linux/%s: write one alone, for example with docker save IMAGE", len(fit), architecture)
}

// fromSaved finds the images of what the engines' command save wrote: manifest.json names the files. Docker before 25 has VERSION/layer.tar
// and links to such, Podman DIGEST.tar.
func (f files) fromSaved() ([]candidate, error) {
	var list []saved
	if err := f.read("manifest.json", &list); err != nil {
		return nil, err
	}
	if len(list) > maxImages {
		return nil, bad("the archive has %d images: write one alone", len(list))
	}
	var found []candidate
	for _, s := range list {
		text, err := f.text(s.Config)
		if err != nil {
			return nil, err
		}
		c := candidate{id: Digest(text)}
		if err := c.configured(text, s.Config); err != nil {
			return nil, err
		}
		for _, name := range s.Layers {
			c.layers = append(c.layers, layerOf{file: name})
		}
		found = append(found, c)
	}
	return found, nil
}

// fromIndex finds the images of an OCI layout.
func (f files) fromIndex() ([]candidate, error) {
	text, err := f.text("index.json")
	if err != nil {
		return nil, err
	}
	var found []candidate
	budget := maxImages
	return found, f.walk(text, "index.json", 0, &budget, &found)
}

// walk finds the images of an index, and of those in it.
func (f files) walk(text []byte, name string, depth int, budget *int, found *[]candidate) error {
	var index manifest
	if err := parse(text, name, &index); err != nil {
		return err
	}
	if index.SchemaVersion != 2 || index.MediaType != "" && index.MediaType != TypeIndex && index.MediaType != dockerIndex {
		return bad("%.100q in the archive is not an index of images of version 2", name)
	}
	if depth == maxDepth {
		return bad("the archive has indexes in indexes, more than %d deep", maxDepth)
	}
	for _, d := range index.Manifests {
		if *budget--; *budget < 0 {
			return bad("the archive has more than %d images: write one alone", maxImages)
		}
		switch d.MediaType {
		case TypeIndex, dockerIndex, TypeManifest, dockerManifest:
		default:
			continue // something else that is kept beside images
		}
		if d.Annotations["vnd.docker.reference.type"] != "" {
			continue // what is said about an image, and is none
		}
		if !digestForm.MatchString(d.Digest) {
			return bad("the digest %.100q is not sha256: and 64 hexadecimal digits; other algorithms are not supported", d.Digest)
		}
		if depth+len(index.Manifests) > 1 && !f.has(blobPath(d.Digest)) {
			continue // engines write the index of all platforms, and the image of one
		}
		text, err := f.blob(d)
		if err != nil {
			return err
		}
		if d.MediaType == TypeIndex || d.MediaType == dockerIndex {
			err = f.walk(text, d.Digest, depth+1, budget, found)
		} else {
			err = f.manifest(text, d, found)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// manifest reads the manifest of one image.
func (f files) manifest(text []byte, d descriptor, found *[]candidate) error {
	var m manifest
	if err := parse(text, d.Digest, &m); err != nil {
		return err
	}
	if m.SchemaVersion != 2 || m.MediaType != "" && m.MediaType != d.MediaType || m.Config == nil {
		return bad("%s in the archive is not an image's manifest of version 2", d.Digest)
	}
	if m.Config.MediaType != TypeConfig && m.Config.MediaType != dockerConfig {
		return nil // an artifact of another kind
	}
	config, err := f.blob(*m.Config)
	if err != nil {
		return err
	}
	c := candidate{id: d.Digest, annotations: map[string]string{}}
	if err := c.configured(config, m.Config.Digest); err != nil {
		return err
	}
	maps.Copy(c.annotations, m.Annotations)
	maps.Copy(c.annotations, d.Annotations)
	for _, l := range m.Layers {
		c.layers = append(c.layers, layerOf{descriptor: l})
	}
	*found = append(*found, c)
	return nil
}

// configured reads what an image's configuration says of its platform. It is what the image is, whatever the index says.
func (c *candidate) configured(text []byte, name string) error {
	var conf config
	if err := parse(text, name, &conf); err != nil {
		return err
	}
	c.config, c.platform, c.variant = text, conf.Platform, conf.Variant
	return nil
}

// image puts the image together.
func (f files) image(c candidate) (*Archive, error) {
	a := &Archive{Config: c.config, Platform: c.platform, Annotations: c.annotations, files: f}
	var conf config
	if err := parse(c.config, "the image's configuration", &conf); err != nil {
		return nil, err
	}
	a.Created = conf.Created
	switch ids := conf.RootFS.DiffIDs; {
	case conf.RootFS.Type != "layers":
		return nil, bad("the image has a root file system of the type %.50q, not layers", conf.RootFS.Type)
	case len(ids) != len(c.layers):
		return nil, bad("the image has %d layers, but its configuration names %d: write the archive again", len(c.layers), len(ids))
	case len(ids) > maxLayers:
		return nil, bad("the image has %d layers, at most %d are possible: squash some of them, for example with docker build --squash", len(ids), maxLayers)
	}
	total := int64(0)
	for n, of := range c.layers {
		diffID := conf.RootFS.DiffIDs[n]
		if !digestForm.MatchString(diffID) {
			return nil, bad("the digest %.100q is not sha256: and 64 hexadecimal digits; other algorithms are not supported", diffID)
		}
		l, err := f.layerOf(of, diffID)
		if err != nil {
			return nil, err
		}
		if total += l.size; total > maxBytes {
			return nil, bad("the image's layers have more than %d GB", maxBytes/1_000_000_000)
		}
		a.layers = append(a.layers, l)
	}
	return a, nil
}

func (f files) layerOf(of layerOf, diffID string) (*layer, error) {
	if of.file != "" {
		s, err := f.find(of.file)
		if err != nil {
			return nil, err
		}
		return f.layer(s, of.file, "", diffID, "")
	}
	if err := refusedLayer(of.MediaType); err != nil {
		return nil, err
	}
	if !digestForm.MatchString(of.Digest) {
		return nil, bad("the digest %.100q is not sha256: and 64 hexadecimal digits; other algorithms are not supported", of.Digest)
	}
	s, err := f.find(blobPath(of.Digest))
	if err != nil {
		return nil, err
	}
	if s.size != of.Size {
		return nil, bad("the layer %s is damaged: it has %d bytes, not %d; write the archive again", of.Digest, s.size, of.Size)
	}
	return f.layer(s, of.Digest, of.Digest, diffID, of.MediaType)
}

// Layers gives the image's layers for Write. Those that are compressed are read to the end once, if Inspect has not done it: a tar file needs
// to know how long they are.
func (a *Archive) Layers() ([]Layer, error) {
	var list []Layer
	for _, l := range a.layers {
		if l.length < 0 {
			if _, err := io.Copy(io.Discard, a.open(l)); err != nil {
				return nil, err
			}
		}
		list = append(list, Layer{Digest: l.diffID, Size: l.length, Open: func() io.Reader { return a.open(l) }})
	}
	return list, nil
}
