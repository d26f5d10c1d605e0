package recipe

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"image"
	_ "image/jpeg" // formats that the Image Assistant accepts
	_ "image/png"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	_ "golang.org/x/image/bmp"

	"github.com/oriel-project/oriel/internal/agentapi"
)

// Source is what a file in the image is made of: a local file, or a text of the recipe.
type Source struct {
	Size   int64
	SHA256 string

	path string // "" for a text
	text string
}

// Name says for messages what it is.
func (s *Source) Name() string {
	if s.path == "" {
		return "content"
	}
	return filepath.Base(s.path)
}

// Open opens it for reading; the caller closes it.
func (s *Source) Open() (io.ReadSeekCloser, error) {
	if s.path == "" {
		return nopCloser{strings.NewReader(s.text)}, nil
	}
	return openRegular(s.path)
}

type nopCloser struct{ io.ReadSeeker }

func (nopCloser) Close() error { return nil }

var (
	iconExtensions = []string{".png", ".jpg", ".jpeg", ".bmp"}
	errNoFile      = errors.New("it is not a regular file")
)

const maxIcon = 2 << 20 // bytes; the Image Assistant reads no larger ones

// openRegular opens a regular file, and does not wait for a pipe.
func openRegular(path string) (*os.File, error) {
	if info, err := os.Stat(path); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "open", Path: path, Err: errNoFile}
	}
	return os.Open(path)
}

// readFiles looks at the local files of a recipe in the directory dir.
func (r *Recipe) readFiles(dir string) error {
	c := &complaints{r: r}
	read := func(key, path string, limit int64) *Source {
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		s, err := readFile(path, limit)
		c.must(err == nil, key, "%v", err)
		return s
	}
	r.debs, r.files, r.icons = make([]*Source, len(r.Packages)), make([]*Source, len(r.Files)), make([]*Source, len(r.Applications))
	for n, p := range r.Packages {
		if isLocal(p) {
			r.debs[n] = read(entry("packages", n), p, agentapi.MaxPutFile)
		}
	}
	for n, f := range r.Files {
		if f.Content != nil {
			sum := sha256.Sum256([]byte(*f.Content))
			r.files[n] = &Source{Size: int64(len(*f.Content)), SHA256: hex.EncodeToString(sum[:]), text: *f.Content}
		} else {
			r.files[n] = read(entry("file", n)+".from", f.From, agentapi.MaxPutFile)
		}
	}
	for n, a := range r.Applications {
		if a.Icon == "" {
			continue
		}
		key := entry("application", n) + ".icon"
		if s := read(key, a.Icon, maxIcon); s != nil {
			r.icons[n] = s
			c.must(isIcon(s), key, "%s is not a picture of at most %d×%d pixels", a.Icon, agentapi.MaxIconSize, agentapi.MaxIconSize)
		}
	}
	return c.err()
}

// readFile reads a file to know its digest.
func readFile(path string, limit int64) (*Source, error) {
	f, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, io.LimitReader(f, limit+1))
	if err == nil && n > limit {
		err = fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	if err != nil {
		return nil, err
	}
	return &Source{Size: n, SHA256: hex.EncodeToString(sum.Sum(nil)), path: path}, nil
}

// isIcon looks at a picture's first bytes, which have its size.
func isIcon(s *Source) bool {
	f, err := s.Open()
	if err != nil {
		return false
	}
	defer f.Close()
	config, _, err := image.DecodeConfig(f)
	return err == nil && config.Width <= agentapi.MaxIconSize && config.Height <= agentapi.MaxIconSize
}
