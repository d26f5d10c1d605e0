// Package catalogue keeps the applications that an instance offers. They are
// files on the instance's disk, so that they become part of an image made of
// it: applications.json, and one PNG for each icon.
package catalogue

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/oriel-project/oriel/internal/agent/cmdline"
	"github.com/oriel-project/oriel/internal/agentapi"
)

// Dir is where the catalogue is in an instance.
const Dir = "/etc/oriel"

const (
	maxFile = 16 << 20  // applications.json, in bytes
	maxIcon = 512 << 10 // an icon as PNG; 256×256 pixels without any order take 256 KiB
)

// Errors of Add, Remove and Find; the texts are those of AppStream's Image Assistant.
var (
	ErrFull      = errors.New("Unable to add more than 50 apps to the catalog.")
	ErrNotUnique = errors.New("Name is not unique")
	ErrNotFound  = errors.New("App not found")
)

// Entry is one application as it is on the disk.
type Entry struct {
	Name             string   `json:"Name"`
	DisplayName      string   `json:"DisplayName"`
	AbsoluteAppPath  string   `json:"AbsoluteAppPath"`
	AbsoluteIconPath string   `json:"AbsoluteIconPath,omitzero"` // of the PNG in the catalogue
	WorkingDirectory string   `json:"WorkingDirectory,omitzero"`
	LaunchParameters string   `json:"LaunchParameters,omitzero"`
	Manifest         []string `json:"Manifest,omitzero"` // files to read ahead
}

// Catalogue is the catalogue in one directory. Several processes may use it at
// the same time.
type Catalogue struct{ dir string }

// Open returns the catalogue in dir; there need not be anything yet.
func Open(dir string) *Catalogue { return &Catalogue{dir} }

func (c *Catalogue) file() string { return filepath.Join(c.dir, "applications.json") }

// Entries returns the applications in the order they were added.
func (c *Catalogue) Entries() ([]Entry, error) {
	f, err := os.Open(c.file())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the catalogue: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read the catalogue: %w", err)
	}
	entries, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("read the catalogue %s: %w", c.file(), err)
	}
	return entries, nil
}

// Find returns the application of this name, or ErrNotFound.
func (c *Catalogue) Find(name string) (Entry, error) {
	entries, err := c.Entries()
	if err != nil {
		return Entry{}, err
	}
	i := slices.IndexFunc(entries, func(e Entry) bool { return e.Name == name })
	if i < 0 {
		return Entry{}, ErrNotFound
	}
	return entries[i], nil
}

// Argv is what launches the application.
func (e Entry) Argv() ([]string, error) {
	arguments, err := cmdline.Split(e.LaunchParameters)
	if err != nil {
		return nil, fmt.Errorf("the launch parameters of %s: %w", e.Name, err)
	}
	return append([]string{e.AbsoluteAppPath}, arguments...), nil
}

func parse(text []byte) ([]Entry, error) {
	if len(text) > maxFile {
		return nil, fmt.Errorf("it is longer than %d bytes", maxFile)
	}
	var entries []Entry
	if err := json.Unmarshal(text, &entries); err != nil {
		return nil, err
	}
	if len(entries) > agentapi.MaxApplications {
		return nil, fmt.Errorf("it has more than %d applications", agentapi.MaxApplications)
	}
	return entries, nil
}

// Add puts e at the end, with its icon (a PNG, or nil for none).
func (c *Catalogue) Add(e Entry, icon []byte) error {
	return c.update(func(entries []Entry) ([]Entry, error) {
		if slices.ContainsFunc(entries, func(x Entry) bool { return x.Name == e.Name }) {
			return nil, ErrNotUnique
		}
		if len(entries) >= agentapi.MaxApplications {
			return nil, ErrFull
		}
		if icon != nil {
			// The name may be anything; its hash is a good file name.
			sum := sha256.Sum256([]byte(e.Name))
			e.AbsoluteIconPath = filepath.Join(c.dir, "icons", hex.EncodeToString(sum[:16])+".png")
			if err := os.MkdirAll(filepath.Dir(e.AbsoluteIconPath), 0o755); err != nil {
				return nil, err
			}
			if err := replace(e.AbsoluteIconPath, icon); err != nil {
				return nil, err
			}
		}
		return append(entries, e), nil
	})
}

// Remove takes the application of this name out of the catalogue.
func (c *Catalogue) Remove(name string) error {
	var icon string
	err := c.update(func(entries []Entry) ([]Entry, error) {
		i := slices.IndexFunc(entries, func(e Entry) bool { return e.Name == name })
		if i < 0 {
			return nil, ErrNotFound
		}
		icon = entries[i].AbsoluteIconPath
		return slices.Delete(entries, i, i+1), nil
	})
	if err == nil && icon != "" {
		os.Remove(icon) // an icon too many does no harm
	}
	return err
}

// update lets f change the entries while no other process does.
func (c *Catalogue) update(f func([]Entry) ([]Entry, error)) error {
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return fmt.Errorf("write the catalogue: %w", err)
	}
	dir, err := os.Open(c.dir)
	if err != nil {
		return fmt.Errorf("write the catalogue: %w", err)
	}
	defer dir.Close() // which gives the lock back
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("write the catalogue: %w", err)
	}
	entries, err := c.Entries()
	if err != nil {
		return err
	}
	if entries, err = f(entries); err != nil {
		return err
	}
	var text bytes.Buffer
	if err := json.MarshalWrite(&text, entries, jsontext.WithIndent("  "), json.FormatNilSliceAsNull(false)); err != nil {
		return err
	}
	if text.Len() > maxFile {
		return fmt.Errorf("the catalogue would be longer than %d bytes; use shorter optimization manifests", maxFile)
	}
	return replace(c.file(), append(text.Bytes(), '\n'))
}

// replace writes a file whole or not at all.
func replace(file string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(file), ".new-*")
	if err != nil {
		return fmt.Errorf("write the catalogue: %w", err)
	}
	defer os.Remove(f.Name()) // does nothing after the rename
	_, err = f.Write(text)
	err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return fmt.Errorf("write the catalogue: %w", err)
	}
	return nil
}

// Applications returns the catalogue with its icons. An icon that cannot be
// read is left out.
func (c *Catalogue) Applications() ([]agentapi.Application, error) {
	entries, err := c.Entries()
	if err != nil {
		return nil, err
	}
	apps := make([]agentapi.Application, 0, len(entries))
	for _, e := range entries {
		apps = append(apps, agentapi.Application{
			Name: e.Name, DisplayName: e.DisplayName, AbsoluteAppPath: e.AbsoluteAppPath,
			LaunchParameters: e.LaunchParameters, WorkingDirectory: e.WorkingDirectory,
			Manifest: e.Manifest, IconPNG: readIcon(e.AbsoluteIconPath),
		})
	}
	return apps, nil
}

func readIcon(file string) []byte {
	if file == "" {
		return nil
	}
	f, err := os.Open(file)
	if err != nil {
		return nil
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() || info.Size() > maxIcon {
		return nil
	}
	icon, err := io.ReadAll(io.LimitReader(f, maxIcon))
	if err != nil {
		return nil
	}
	return icon
}
