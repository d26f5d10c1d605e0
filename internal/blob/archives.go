package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Archives is a directory of large files, one folder for each account. Unlike a blob, an archive has a name that is chosen, and is
// written as a stream. Bucket does the same elsewhere.
type Archives struct{ path string }

// An archive is called ACCOUNT/NAME.tar.
var (
	accountForm = regexp.MustCompile(`^[0-9]{12}$`)
	archiveForm = regexp.MustCompile(`^[0-9]{12}/[a-z0-9][a-z0-9-]{0,62}\.tar$`)
)

// unfinished is how the names of files begin that are being written.
const unfinished = ".new-"

// OpenArchives uses the directory at path and makes it if needed. What an interrupted Save has left is removed.
func OpenArchives(path string) (*Archives, error) {
	err := os.MkdirAll(path, 0o700)
	if err == nil {
		var left []string
		left, err = filepath.Glob(filepath.Join(path, "*", unfinished+"*"))
		for _, file := range left {
			err = errors.Join(err, os.Remove(file))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open archives: %w", err)
	}
	return &Archives{path}, nil
}

// checkName refuses what cannot name an archive.
func checkName(name string) error {
	if !archiveForm.MatchString(name) {
		return fmt.Errorf("%.80q cannot name an archive: it must be of the form ACCOUNT/NAME.tar", name)
	}
	return nil
}

func (a *Archives) file(name string) (string, error) {
	if err := checkName(name); err != nil {
		return "", err
	}
	return filepath.Join(a.path, filepath.FromSlash(name)), nil
}

// Has tells whether there is an archive of that name.
func (a *Archives) Has(_ context.Context, name string) (bool, error) {
	file, err := a.file(name)
	if err == nil {
		_, err = os.Stat(file)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Save keeps what write writes as an archive, whole or not at all, also over a crash. It does nothing when the archive is there. It ends with the
// context's error as soon as write writes again after the context has ended.
func (a *Archives) Save(ctx context.Context, name string, write func(io.Writer) error) error {
	if has, err := a.Has(ctx, name); has || err != nil {
		return err
	}
	file, err := a.file(name)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return fmt.Errorf("keep an archive: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(file), unfinished+"*")
	if err != nil {
		return fmt.Errorf("keep an archive: %w", err)
	}
	defer os.Remove(tmp.Name())
	err = write(&until{ctx: ctx, w: tmp})
	if err = errors.Join(err, ctx.Err()); err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), file); err != nil {
		return fmt.Errorf("keep an archive: %w", err)
	}
	dir, err := os.Open(filepath.Dir(file))
	if err != nil {
		return fmt.Errorf("keep an archive: %w", err)
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Read gives read an archive, which it can read as long as ctx lasts and it has not returned. Errors: fs.ErrNotExist; that of read.
func (a *Archives) Read(ctx context.Context, name string, read func(*io.SectionReader) error) error {
	file, err := a.file(name)
	if err != nil {
		return err
	}
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("read an archive: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("read an archive: %w", err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("the archive %s is not a file", name)
	}
	return read(io.NewSectionReader(&until{ctx: ctx, r: f}, 0, info.Size()))
}

// Remove removes an archive. One that is not there is no error.
func (a *Archives) Remove(_ context.Context, name string) error {
	file, err := a.file(name)
	if err == nil {
		err = os.Remove(file)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Count tells how many archives an account has.
func (a *Archives) Count(_ context.Context, account string) (int, error) {
	if !accountForm.MatchString(account) {
		return 0, nil
	}
	entries, err := os.ReadDir(filepath.Join(a.path, account))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	n := 0
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), unfinished) {
			n++
		}
	}
	return n, nil
}

// until refuses to write and to read when the context has ended.
type until struct {
	ctx context.Context
	w   io.Writer
	r   io.ReaderAt
}

func (u *until) Write(b []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.w.Write(b)
}

func (u *until) ReadAt(b []byte, offset int64) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.ReadAt(b, offset)
}
