package oci

import (
	"bufio"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// maxWindow is what zstd may need of memory: as much as zstd --long has.
const maxWindow = 128 << 20

// What expands more than a hundredfold, to more than a gigabyte, is not software.
const maxExpansion = 100

var anyExpansion int64 = 1 << 30

// layer is a layer in an archive.
type layer struct {
	span
	title       string // for people
	digest      string // of what is in the archive; "" when nothing says it
	diffID      string // the digest of the tar file that it is, not compressed
	compression string // as compressionOf
	length      int64  // of the tar file; -1 as long as it is compressed and was not read
}

// layer looks at a layer's first bytes, and at the descriptor's type if there is one.
func (f files) layer(s span, title, digest, diffID, mediaType string) (*layer, error) {
	l := &layer{span: s, title: title, digest: digest, diffID: diffID, length: s.size}
	head := make([]byte, min(6, s.size))
	if _, err := f.input.ReadAt(head, s.offset); err != nil {
		return nil, err
	}
	l.compression = compressionOf(head)
	switch l.compression {
	case "":
		if digest != "" && digest != diffID {
			return nil, bad("the layer %s is not the one that the image's configuration names, %s", digest, diffID)
		}
	case "gzip", "zstd":
		l.length = -1
	default:
		return nil, bad("the layer %.100q is compressed with %s: compress it with gzip or zstd, or not at all", title, l.compression)
	}
	if want, ok := compressionOfType(mediaType); mediaType != "" && (!ok || want != l.compression) {
		return nil, bad("the layer %.100q has the media type %.100q, but is %s: repair the manifest", title, mediaType, orPlain(l.compression))
	}
	return l, nil
}

func orPlain(compression string) string {
	if compression == "" {
		return "not compressed"
	}
	return "compressed with " + compression
}

// compressionOfType tells how a layer with a media type is compressed, and whether that is a layer.
func compressionOfType(mediaType string) (string, bool) {
	switch mediaType {
	case TypeLayer, dockerLayer:
		return "", true
	case TypeLayer + "+gzip", dockerLayer + ".gzip":
		return "gzip", true
	case TypeLayer + "+zstd", dockerLayer + ".zstd":
		return "zstd", true
	}
	return "", false
}

// refusedLayer tells why a layer of a media type cannot be read at all; nil if it can.
func refusedLayer(mediaType string) error {
	if _, ok := compressionOfType(mediaType); ok {
		return nil
	}
	switch {
	case strings.HasSuffix(mediaType, "+encrypted"):
		return bad("the image's layers are encrypted (%.100q): decrypt it first, for example with skopeo copy --decryption-key", mediaType)
	case strings.Contains(mediaType, ".foreign.") || strings.Contains(mediaType, ".nondistributable."):
		return bad("the image has layers that are not in the archive but must be fetched elsewhere (%.100q): such images are not supported", mediaType)
	}
	return bad("a layer of the image has the media type %.100q, which is not one of a layer", mediaType)
}

// open reads the tar file that a layer is. Its end is only without an error when all digests are right.
func (a *Archive) open(l *layer) io.Reader {
	raw := io.NewSectionReader(a.input, l.offset, l.size)
	c := &content{archive: a, layer: l, hash: sha256.New()}
	var packed io.Reader = raw
	if l.compression != "" && l.digest != "" {
		c.packed = sha256.New()
		packed = io.TeeReader(raw, c.packed)
	}
	c.buffer = bufio.NewReaderSize(packed, 256<<10)
	var err error
	switch l.compression {
	case "":
		c.r = c.buffer
	case "gzip":
		c.r, err = gzip.NewReader(c.buffer)
	default:
		c.r, err = zstd.NewReader(c.buffer, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
	}
	if err != nil {
		return broken{a.input.why(err, "the layer %.100q", l.title)}
	}
	return c
}

type broken struct{ err error }

func (b broken) Read([]byte) (int, error) { return 0, b.err }

// content is a layer that is being read.
type content struct {
	archive *Archive
	layer   *layer
	r       io.Reader
	n       int64
	hash    hash.Hash
	buffer  *bufio.Reader // before the decompressor
	packed  hash.Hash     // of what comes before the decompressor; nil when nothing says what it should be
	ended   error
}

func (c *content) Read(b []byte) (int, error) {
	if c.ended != nil {
		return 0, c.ended
	}
	n, err := c.r.Read(b)
	c.hash.Write(b[:n])
	c.n += int64(n)
	switch {
	case c.n > maxBytes, c.layer.length >= 0 && c.n > c.layer.length, c.n > anyExpansion && c.n/maxExpansion > c.layer.size:
		c.ended = bad("the layer %.100q expands to more than is sensible: if it is meant to, save the image without compression", c.layer.title)
		return 0, c.ended
	case errors.Is(err, io.EOF):
		if err = c.verify(); err == nil {
			err = io.EOF
		}
		c.ended = err
	case err != nil:
		c.ended = c.archive.input.why(err, "the layer %.100q", c.layer.title)
	}
	return n, c.ended
}

// verify compares what was read with what it should have been.
func (c *content) verify() error {
	l := c.layer
	if left, err := io.Copy(io.Discard, c.buffer); err != nil {
		return c.archive.input.why(err, "the layer %.100q", l.title)
	} else if left > 0 {
		return bad("the layer %.100q goes on behind its end: save the image again", l.title)
	}
	if c.packed != nil && sum(c.packed) != l.digest {
		return bad("the layer %s is damaged: it is not what its digest says; write the archive again", l.digest)
	}
	if sum(c.hash) != l.diffID {
		return bad("the layer %.100q is damaged, or of another image: the image's configuration wants %s; write the archive again", l.title, l.diffID)
	}
	l.length = c.n
	return nil
}

func sum(h hash.Hash) string { return "sha256:" + hex.EncodeToString(h.Sum(nil)) }
