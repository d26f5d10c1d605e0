package oci

import (
	"archive/tar"
	"bytes"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
)

// What is more than this is no archive of an image that can be a machine's.
const (
	maxFiles = 20_000   // in the archive
	maxText  = 4 << 20  // of one JSON file, in bytes; registries take no larger ones
	maxTexts = 64 << 20 // of all that are read, in bytes
	maxName  = 4096     // of a file or of what a link leads to, in bytes
	maxLinks = 10       // from one to the next
)

// maxBytes is how much all layers together may have, not compressed: as much as an instance's volume.
var maxBytes int64 = 500_000_000_000

// Error tells what is wrong with an archive, and what to do about it. To read the same archive again does not help.
type Error struct{ Message string }

// Error gives the message.
func (e *Error) Error() string { return e.Message }

func bad(format string, args ...any) error { return &Error{fmt.Sprintf(format, args...)} }

// input is the archive's bytes. It remembers that they could not be read, since a decompressor or a tar reader in between may call that by
// another name.
type input struct {
	r      io.ReaderAt
	failed error
	texts  int64 // bytes of JSON files that were read
}

func (in *input) ReadAt(b []byte, offset int64) (int, error) {
	n, err := in.r.ReadAt(b, offset)
	if n == len(b) {
		return n, nil
	}
	if errors.Is(err, io.EOF) { // we never ask for what is behind the end
		err = bad("the archive has become shorter while it was read: put it there again, and leave it alone")
	}
	if in.failed == nil {
		in.failed = err
	}
	return n, err
}

// why tells why reading has ended with err: because the bytes could not be had, or because of what they are.
func (in *input) why(err error, format string, args ...any) error {
	if in.failed != nil {
		return in.failed
	}
	if own, ok := errors.AsType[*Error](err); ok {
		return own
	}
	what := fmt.Sprintf(format, args...)
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return bad("%s ends too early: the archive was not written or copied to its end", what)
	}
	return bad("%s cannot be read: %v", what, err)
}

// files is where everything is in an archive.
type files struct {
	input *input
	spans map[string]span
	links map[string]string
}

// span is where a file's bytes are.
type span struct{ offset, size int64 }

// scan reads the headers of an archive.
func scan(in *input, size int64) (files, error) {
	f := files{input: in, spans: map[string]span{}, links: map[string]string{}}
	if err := f.refuseOther(size); err != nil {
		return f, err
	}
	r := io.NewSectionReader(in, 0, size)
	tr := tar.NewReader(r)
	for n := 0; ; n++ {
		h, err := tr.Next()
		switch {
		case errors.Is(err, io.EOF):
			return f, nil
		case err != nil:
			return f, in.why(err, "the archive")
		case n == maxFiles:
			return f, bad("the archive has more than %d files: it is no image", maxFiles)
		case len(h.Name) > maxName || len(h.Linkname) > maxName:
			return f, bad("the archive has a name with more than %d bytes", maxName)
		case sparse(h):
			return f, bad("the file %.100q of the archive has holes: write the archive without them", h.Name)
		}
		name := path.Clean(h.Name)
		switch h.Typeflag {
		case tar.TypeReg, tar.TypeSymlink, tar.TypeLink:
		default:
			continue // directories; what is not a file can be no part of an image
		}
		if !fs.ValidPath(name) {
			return f, bad("the file %.100q would be outside of the archive", h.Name)
		}
		if _, twice := f.spans[name]; twice || f.links[name] != "" {
			return f, bad("the file %.100q is twice in the archive: which one is meant cannot be known", name)
		}
		switch h.Typeflag {
		case tar.TypeReg:
			at, err := r.Seek(0, io.SeekCurrent)
			if err != nil || at+h.Size > size {
				return f, in.why(errors.Join(err, io.ErrUnexpectedEOF), "the file %.100q of the archive", name)
			}
			f.spans[name] = span{at, h.Size}
		case tar.TypeSymlink:
			f.links[name] = path.Join(path.Dir(name), h.Linkname)
		case tar.TypeLink:
			f.links[name] = path.Clean(h.Linkname)
		}
	}
}

// sparse: the bytes that are read of such a file are not all there, and their number has nothing to do with the archive's size.
func sparse(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return h.Typeflag == tar.TypeGNUSparse
}

// refuseOther tells what a file is that is no tar archive at all, when it can be seen.
func (f files) refuseOther(size int64) error {
	if size > maxBytes+maxBytes/10 {
		return bad("the archive is larger than the %d GB that an image may have", maxBytes/1_000_000_000)
	}
	if size < 1024 {
		return bad("the file has only %d bytes: it is no archive of an image", size)
	}
	head := make([]byte, 6)
	if _, err := f.input.ReadAt(head, 0); err != nil {
		return err
	}
	if c := compressionOf(head); c != "" {
		return bad("the archive as a whole is compressed with %s: unpack it first (its layers may be compressed)", c)
	}
	return nil
}

// compressionOf tells by the first bytes how something is compressed; "" for not at all.
func compressionOf(head []byte) string {
	for name, magic := range map[string]string{"gzip": "\x1f\x8b", "zstd": "\x28\xb5\x2f\xfd", "bzip2": "BZh", "xz": "\xfd7zXZ\x00"} {
		if bytes.HasPrefix(head, []byte(magic)) {
			return name
		}
	}
	return ""
}

func (f files) has(name string) bool {
	_, err := f.find(name)
	return err == nil
}

// find follows links inside of the archive.
func (f files) find(name string) (span, error) {
	at := path.Clean(name)
	for range maxLinks {
		if s, ok := f.spans[at]; ok {
			return s, nil
		}
		at = f.links[at]
	}
	return span{}, bad("the archive is not complete: %.100q is missing; write it again", name)
}

func (f files) text(name string) ([]byte, error) {
	s, err := f.find(name)
	if err != nil {
		return nil, err
	}
	if s.size > maxText {
		return nil, bad("%.100q in the archive is larger than %d MiB", name, maxText>>20)
	}
	// An archive may name the same file any number of times.
	if f.input.texts += s.size; f.input.texts > maxTexts {
		return nil, bad("the images of the archive have more than %d MiB of manifests and configurations: write one alone", maxTexts>>20)
	}
	text := make([]byte, s.size)
	if _, err := f.input.ReadAt(text, s.offset); err != nil {
		return nil, err
	}
	return text, nil
}

// read reads a JSON file.
func (f files) read(name string, v any) error {
	text, err := f.text(name)
	if err != nil {
		return err
	}
	return parse(text, name, v)
}

func parse(text []byte, name string, v any) error {
	if err := json.Unmarshal(text, v); err != nil {
		return bad("%.100q in the archive is not what it should be: %.300v", name, err)
	}
	return nil
}

// blob reads the small file that a descriptor is of.
func (f files) blob(d descriptor) ([]byte, error) {
	if !digestForm.MatchString(d.Digest) {
		return nil, bad("the digest %.100q is not sha256: and 64 hexadecimal digits; other algorithms are not supported", d.Digest)
	}
	text, err := f.text(blobPath(d.Digest))
	if err != nil {
		return nil, err
	}
	if int64(len(text)) != d.Size || Digest(text) != d.Digest {
		return nil, bad("the blob %s of the archive is damaged: it is not what its digest says; write the archive again", d.Digest)
	}
	return text, nil
}
