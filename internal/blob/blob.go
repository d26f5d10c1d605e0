// Package blob keeps files that belong to records: small ones such as application icons under the hash of their content, and archives of
// images under names of their own.
package blob

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
)

// ErrNotFound: there is no blob of that name.
var ErrNotFound = errors.New("blob not found")

// Dir is a directory of blobs. Blobs are never changed; equal content is kept once.
type Dir struct{ path string }

// Open uses the directory at path and makes it if needed.
func Open(path string) (*Dir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("open blobs: %w", err)
	}
	return &Dir{path}, nil
}

// Put keeps data and returns its name: 64 hexadecimal digits and ext (".png").
func (d *Dir) Put(data []byte, ext string) (string, error) {
	sum := sha256.Sum256(data)
	name := hex.EncodeToString(sum[:]) + ext
	path := filepath.Join(d.path, name)
	if _, err := os.Stat(path); err == nil {
		return name, nil
	}
	tmp, err := os.CreateTemp(d.path, ".new-*")
	if err != nil {
		return "", fmt.Errorf("keep blob: %w", err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return "", fmt.Errorf("keep blob: %w", err)
	}
	return name, nil
}

var validName = regexp.MustCompile(`^[0-9a-f]{64}(\.[a-z]{1,8})?$`)

// Get gives the blob of a name that Put returned. Errors: ErrNotFound, also for what cannot be a name.
func (d *Dir) Get(name string) ([]byte, error) {
	if !validName.MatchString(name) {
		return nil, ErrNotFound
	}
	data, err := os.ReadFile(filepath.Join(d.path, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotFound
	}
	return data, err
}
