package oci

import (
	"archive/tar"
	"errors"
	"io"
	"path"
	"slices"
	"strings"
)

const (
	maxEntries = 10_000_000 // files of all layers together
	maxKept    = 1 << 20    // of a file that Inspect gives, in bytes
)

// File is a file of an image.
type File struct {
	Dir  bool
	Link string // what a symbolic link leads to; "" for none
	Text []byte // of a regular file of at most 1 MiB

	layer int
}

// Contents is what Inspect found.
type Contents struct {
	Files map[string]File // those of the paths that are there
	Size  int64           // of all layers, not compressed, in bytes
}

// Inspect reads all layers to the end, verifies their digests, looks whether they are what an engine can unpack, and tells which of paths
// ("etc/os-release") are files of the image. What is wrong with the archive is an *Error.
func (a *Archive) Inspect(paths ...string) (Contents, error) {
	look := inspectionOf(paths)
	total := int64(0)
	for n, l := range a.layers {
		content := a.open(l)
		if err := look.layer(n, content); err != nil {
			return Contents{}, a.input.why(err, "the layer %.100q", l.title)
		}
		// A tar file ends before its last byte; its digest does not.
		if _, err := io.Copy(io.Discard, content); err != nil {
			return Contents{}, err
		}
		if total += l.length; total > maxBytes {
			return Contents{}, bad("the image's layers have more than %d GB, not compressed", maxBytes/1_000_000_000)
		}
	}
	return Contents{look.files, total}, nil
}

// inspection follows what the layers do to the files that are asked for.
type inspection struct {
	files   map[string]File
	wanted  map[string]bool
	above   map[string]bool // directories that have wanted files
	entries int
}

func inspectionOf(paths []string) *inspection {
	look := &inspection{files: map[string]File{}, wanted: map[string]bool{}, above: map[string]bool{}}
	for _, p := range paths {
		look.wanted[p] = true
		for dir := path.Dir(p); dir != "."; dir = path.Dir(dir) {
			look.above[dir] = true
		}
	}
	return look
}

// Inspected gives the image's layers for Write, as Layers does, and inspects them as Inspect does: while they are written, if they can be written
// as they are, which spares reading them twice. At the end of the last one, verdict is asked; its error, like every other, keeps Write from
// completing the archive.
func (a *Archive) Inspected(verdict func(Contents) error, paths ...string) ([]Layer, error) {
	straight, total := len(a.layers) > 0, int64(0)
	once := map[string]bool{}
	for _, l := range a.layers {
		straight, total = straight && l.length >= 0 && !once[l.diffID], total+l.length // Write writes a layer once that an image has twice
		once[l.diffID] = true
	}
	if !straight {
		contents, err := a.Inspect(paths...)
		if err == nil {
			err = verdict(contents)
		}
		if err != nil {
			return nil, err
		}
		return a.Layers()
	}
	look := inspectionOf(paths)
	var list []Layer
	for n, l := range a.layers {
		list = append(list, Layer{Digest: l.diffID, Size: l.length, Open: func() io.Reader {
			end := func() error { return nil }
			if n == len(a.layers)-1 {
				end = func() error { return verdict(Contents{look.files, total}) }
			}
			return a.watch(look, n, l, end)
		}})
	}
	return list, nil
}

// watched is a layer that is inspected while somebody reads it.
type watched struct {
	archive  *Archive
	layer    *layer
	content  io.Reader
	copy     *io.PipeWriter
	findings chan error // of the inspection, when it is over
	end      func() error
}

func (a *Archive) watch(look *inspection, n int, l *layer, end func() error) *watched {
	r, w := io.Pipe()
	findings := make(chan error, 1)
	go func() {
		err := look.layer(n, r)
		if err == nil {
			_, err = io.Copy(io.Discard, r)
		}
		r.CloseWithError(err)
		findings <- err
	}()
	return &watched{a, l, a.open(l), w, findings, end}
}

func (w *watched) Read(b []byte) (int, error) {
	n, err := w.content.Read(b)
	if n > 0 {
		if _, err := w.copy.Write(b[:n]); err != nil {
			return 0, w.archive.input.why(err, "the layer %.100q", w.layer.title)
		}
	}
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	w.copy.Close()
	if found := <-w.findings; found != nil {
		return n, w.archive.input.why(found, "the layer %.100q", w.layer.title)
	}
	if wrong := w.end(); wrong != nil {
		return n, wrong
	}
	w.findings <- nil // whoever asks again is told the same
	return n, io.EOF
}

// Close ends the inspection of a layer that is not read to its end.
func (w *watched) Close() error { return w.copy.CloseWithError(io.ErrClosedPipe) }

// The names by which a layer takes away what is in those below it.
const (
	whiteout = ".wh."
	opaque   = ".wh..wh..opq"
)

func (i *inspection) layer(n int, content io.Reader) error {
	in := tar.NewReader(content)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if i.entries++; i.entries > maxEntries {
			return bad("the image has more than %d files", maxEntries)
		}
		name, err := entry(h)
		if err != nil {
			return err
		}
		if err := i.file(n, name, h, in); err != nil {
			return err
		}
	}
}

// entry checks what an engine would unpack, and gives its path.
func entry(h *tar.Header) (string, error) {
	name := path.Clean(strings.TrimLeft(h.Name, "/"))
	switch {
	case len(h.Name) > maxName || len(h.Linkname) > maxName:
		return "", bad("a layer has a name with more than %d bytes", maxName)
	case outside(h.Name):
		return "", bad("the file %.100q of a layer would be outside of the image", h.Name)
	case h.Typeflag == tar.TypeLink && outside(h.Linkname):
		return "", bad("the link %.100q of a layer leads to %.100q, which is outside of the image", h.Name, h.Linkname)
	case sparse(h):
		return "", bad("the file %.100q of a layer is kept with holes: write the layer without them", h.Name)
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeLink, tar.TypeSymlink, tar.TypeChar, tar.TypeBlock, tar.TypeDir, tar.TypeFifo, tar.TypeXGlobalHeader:
	default:
		return "", bad("the file %.100q of a layer is of an unknown type", h.Name)
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "SCHILY.xattr.trusted.overlay.") || strings.HasPrefix(key, "SCHILY.xattr.user.overlay.") { // of engines without root
			return "", bad("the file %.100q of a layer has an attribute of an overlay file system: save the image from its engine, not from its disk", h.Name)
		}
	}
	return name, nil
}

func outside(name string) bool { return slices.Contains(strings.Split(name, "/"), "..") }

func (i *inspection) file(n int, name string, h *tar.Header, content io.Reader) error {
	dir, base := path.Split(name)
	dir = strings.TrimSuffix(dir, "/")
	switch {
	case base == opaque:
		i.remove(n, dir, false)
		return nil
	case strings.HasPrefix(base, whiteout):
		i.remove(n, path.Join(dir, strings.TrimPrefix(base, whiteout)), true)
		return nil
	}
	isDir := h.Typeflag == tar.TypeDir
	if i.above[name] && !isDir {
		i.remove(n+1, name, false)
	}
	if !i.wanted[name] {
		return nil
	}
	f := File{Dir: isDir, layer: n}
	switch {
	case h.Typeflag == tar.TypeSymlink:
		f.Link = h.Linkname
	case h.Typeflag == tar.TypeReg && h.Size <= maxKept:
		f.Text = make([]byte, h.Size)
		if _, err := io.ReadFull(content, f.Text); err != nil {
			return err
		}
	}
	i.files[name] = f
	return nil
}

// remove forgets what layers below n have under dir, and dir itself.
func (i *inspection) remove(n int, dir string, itself bool) {
	for name, f := range i.files {
		if f.layer < n && (dir == "" || strings.HasPrefix(name, dir+"/") || itself && name == dir) {
			delete(i.files, name)
		}
	}
}
