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
	"sync"
)

// ErrNotFound: there is no blob of that name.
var ErrNotFound = errors.New("blob not found")

// Dir is a directory of blobs. Blobs are never changed; equal content is kept once. One process may use a directory at a time.
type Dir struct {
	path string

	mu     sync.Mutex
	unused map[string]bool // what the last Sweep has found unused, and nobody has Put since
}

// Open uses the directory at path and makes it if needed. What an interrupted Put has left is removed.
func Open(path string) (*Dir, error) {
	err := os.MkdirAll(path, 0o700)
	if err == nil {
		var left []string
		left, err = filepath.Glob(filepath.Join(path, unfinished+"*"))
		for _, file := range left {
			err = errors.Join(err, os.Remove(file))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open blobs: %w", err)
	}
	return &Dir{path: path}, nil
}

// Put keeps data and returns its name: 64 hexadecimal digits and ext (".png").
func (d *Dir) Put(data []byte, ext string) (string, error) {
	sum := sha256.Sum256(data)
	name := hex.EncodeToString(sum[:]) + ext
	path := filepath.Join(d.path, name)
	if d.has(name) {
		return name, nil
	}
	tmp, err := os.CreateTemp(d.path, unfinished+"*")
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

// has tells whether there is a blob of that name, which somebody is about to use.
func (d *Dir) has(name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.unused, name)
	_, err := os.Stat(filepath.Join(d.path, name))
	return err == nil
}

// Sweep removes the blobs that are not in used, if the Sweep before this one has found them unused already and they were not Put since: what has
// been Put a moment ago is in use only when the record that names it is committed. So there must be more time between two Sweeps than
// between a Put and that commit. It tells how many were removed.
func (d *Dir) Sweep(used map[string]bool) (removed int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return 0, fmt.Errorf("look for unused blobs: %w", err)
	}
	unused := map[string]bool{}
	for _, e := range entries {
		name := e.Name()
		switch {
		case used[name], !validName.MatchString(name):
		case !d.unused[name]:
			unused[name] = true
		default:
			if failed := os.Remove(filepath.Join(d.path, name)); failed != nil {
				err = errors.Join(err, fmt.Errorf("remove an unused blob: %w", failed))
				unused[name] = true
				continue
			}
			removed++
		}
	}
	d.unused = unused
	return removed, err
}

var (
	validName = regexp.MustCompile(`^[0-9a-f]{64}(\.[a-z]{1,8})?$`)
	nameForm  = regexp.MustCompile(`\b[0-9a-f]{64}\b(\.[a-z]{1,8}\b)?`)
)

// Names gives what may be names of blobs in a text.
func Names(text []byte) [][]byte { return nameForm.FindAll(text, -1) }

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
