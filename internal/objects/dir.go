package objects

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"
)

// unfinished is how the names of files begin that are being written.
const unfinished = ".new-"

// abandoned is the age at which such a file is no longer being written: its writer has crashed.
const abandoned = 24 * time.Hour

// Dir is a directory of objects. What is in a bucket is reached through an os.Root of the bucket: links lead nowhere out of it.
type Dir struct{ root *os.Root }

var _ Store = (*Dir)(nil)

// OpenDir uses the directory at path and makes it if needed. What interrupted writers have left a day ago or earlier is removed.
func OpenDir(path string) (*Dir, error) {
	err := os.MkdirAll(path, 0o700)
	if err != nil {
		return nil, fmt.Errorf("open objects: %w", err)
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("open objects: %w", err)
	}
	left, err := fs.Glob(root.FS(), "*/*/"+unfinished+"*")
	for _, name := range left {
		if info, statErr := root.Lstat(name); statErr == nil && time.Since(info.ModTime()) > abandoned {
			err = errors.Join(err, root.Remove(name))
		}
	}
	if err != nil {
		root.Close()
		return nil, fmt.Errorf("open objects: %w", err)
	}
	return &Dir{root}, nil
}

// Close closes the directory.
func (d *Dir) Close() error { return d.root.Close() }

// bucket opens a bucket. Errors: ErrNotFound.
func (d *Dir) bucket(account, name string) (*os.Root, error) {
	b, err := d.root.OpenRoot(account + "/" + name)
	if missing(err) {
		return nil, ErrNotFound
	}
	return b, err
}

// missing tells whether an error says that nothing is there. What a link leads to outside of the bucket is not there either.
func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ELOOP) || errors.Is(err, syscall.ENXIO) || escapes(err)
}

// escapes tells whether a path leads out of its os.Root, for which that has no error of its own.
func escapes(err error) bool {
	e, ok := errors.AsType[*fs.PathError](err)
	return ok && strings.Contains(e.Err.Error(), "escapes")
}

// Open opens an object.
func (d *Dir) Open(_ context.Context, at Location) (io.ReadCloser, Info, error) {
	if at.Check() != nil {
		return nil, Info{}, ErrNotFound
	}
	b, err := d.bucket(at.Account, at.Bucket)
	if err != nil {
		return nil, Info{}, failed("open", at, err)
	}
	defer b.Close()
	f, err := b.OpenFile(at.Key, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe that someone has put there must not hold us
	if err != nil {
		return nil, Info{}, failed("open", at, err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = ErrNotFound
	}
	if err != nil {
		f.Close()
		return nil, Info{}, failed("open", at, err)
	}
	return f, Info{at.Key, info.Size(), info.ModTime()}, nil
}

// failed makes an error of the file system one of an object: it does not say where the server keeps its files.
func failed(what string, at Location, err error) error {
	if missing(err) || errors.Is(err, ErrNotFound) {
		return ErrNotFound
	}
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		err = e.Err
	} else if e, ok := errors.AsType[*os.LinkError](err); ok {
		err = e.Err
	}
	return fmt.Errorf("%s the object %s: %w", what, at, err)
}

// Stat tells of an object.
func (d *Dir) Stat(ctx context.Context, at Location) (Info, error) {
	r, info, err := d.Open(ctx, at)
	if err != nil {
		return Info{}, err
	}
	return info, r.Close()
}

// Put keeps an object.
func (d *Dir) Put(ctx context.Context, at Location, r io.Reader) error {
	if err := at.Check(); err != nil {
		return err
	}
	from := &until{ctx: ctx, r: r}
	err := d.put(at, from)
	switch {
	case from.err != nil: // there is nothing wrong with the object
		return from.err
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EISDIR), errors.Is(err, syscall.ENOTEMPTY), errors.Is(err, fs.ErrExist):
		return &NameError{"the key of an object", at.Key, "there is another object whose key is the beginning of it up to a slash, or the other way round"}
	case err == nil:
		return nil
	case missing(err):
		return fmt.Errorf("keep the object %s: a link leads out of the bucket", at)
	}
	return failed("keep", at, err)
}

func (d *Dir) put(at Location, r io.Reader) error {
	if err := d.root.MkdirAll(at.Account+"/"+at.Bucket, 0o700); err != nil {
		return err
	}
	b, err := d.root.OpenRoot(at.Account + "/" + at.Bucket)
	if err != nil {
		return err
	}
	defer b.Close()
	tmp := unfinished + rand.Text()
	f, err := b.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer b.Remove(tmp)
	_, err = io.Copy(f, r)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	folder := path.Dir(at.Key)
	for range 3 { // Remove takes empty folders away, perhaps just now
		if err = b.MkdirAll(folder, 0o700); err == nil {
			err = b.Rename(tmp, at.Key)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if err != nil {
		return err
	}
	for {
		if err := syncFolder(b, folder); err != nil {
			return err
		}
		if folder == "." {
			break
		}
		folder = path.Dir(folder)
	}
	return errors.Join(syncFolder(d.root, at.Account), syncFolder(d.root, "."))
}

func syncFolder(root *os.Root, name string) error {
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Remove removes an object, and the folders that are empty then.
func (d *Dir) Remove(_ context.Context, at Location) error {
	if at.Check() != nil {
		return nil
	}
	b, err := d.bucket(at.Account, at.Bucket)
	if err == nil {
		defer b.Close()
		var info fs.FileInfo
		if info, err = b.Lstat(at.Key); err == nil && info.IsDir() {
			err = ErrNotFound // that would take the folder, if it is empty
		}
	}
	if err == nil {
		err = b.Remove(at.Key)
	}
	if err != nil {
		if err = failed("remove", at, err); errors.Is(err, ErrNotFound) {
			return nil
		}
		return err
	}
	for folder := path.Dir(at.Key); folder != "."; folder = path.Dir(folder) {
		if b.Remove(folder) != nil { // something else is in it
			break
		}
	}
	return nil
}

// Buckets gives the names of an account's buckets, in alphabetical order.
func (d *Dir) Buckets(_ context.Context, account string) ([]string, error) {
	if !accountForm.MatchString(account) {
		return nil, nil
	}
	entries, err := fs.ReadDir(d.root.FS(), account)
	if err != nil && !missing(err) {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if checkBucket(account, e.Name()) == nil && e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// List gives the objects of a bucket.
func (d *Dir) List(ctx context.Context, account, bucket, prefix, after string, limit int) ([]Info, error) {
	if checkBucket(account, bucket) != nil {
		return nil, nil
	}
	b, err := d.bucket(account, bucket)
	if err != nil {
		if errors.Is(err, ErrNotFound) {
			return nil, nil
		}
		return nil, failed("list", Location{account, bucket, prefix}, err)
	}
	defer b.Close()
	l := lister{ctx: ctx, bucket: b, prefix: prefix, after: after, limit: limit}
	if err := l.folder(""); err != nil && err != errFull {
		return nil, failed("list", Location{account, bucket, prefix}, err)
	}
	return l.list, nil
}

// errFull ends a listing that has as many objects as were asked for.
var errFull = errors.New("the list is full")

// lister walks a bucket in the order of its keys.
type lister struct {
	ctx           context.Context
	bucket        *os.Root
	prefix, after string
	limit         int
	list          []Info
}

// folder lists what is in a folder; at is "", or ends with a slash.
func (l *lister) folder(at string) error {
	if err := l.ctx.Err(); err != nil {
		return err
	}
	name := strings.TrimSuffix(at, "/")
	if name == "" {
		name = "."
	}
	entries, err := fs.ReadDir(l.bucket.FS(), name)
	if missing(err) { // it went meanwhile
		return nil
	}
	if err != nil {
		return err
	}
	keys := make([]string, 0, len(entries))
	for _, e := range entries {
		key := at + e.Name()
		if e.IsDir() {
			key += "/" // keys below it come where the slash has them
		}
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		if below := strings.HasSuffix(key, "/"); below {
			wanted := strings.HasPrefix(key, l.prefix) || strings.HasPrefix(l.prefix, key)
			if wanted && (key > l.after || strings.HasPrefix(l.after, key)) {
				if err := l.folder(key); err != nil {
					return err
				}
			}
			continue
		}
		if !strings.HasPrefix(key, l.prefix) || key <= l.after || (Location{"000000000000", "any", key}).Check() != nil {
			continue
		}
		info, err := l.bucket.Stat(key) // of what a link leads to
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		if len(l.list) >= l.limit {
			return errFull
		}
		l.list = append(l.list, Info{key, info.Size(), info.ModTime()})
	}
	return nil
}

// until is a reader that ends with its context's error. It remembers why it could not go on.
type until struct {
	ctx context.Context
	r   io.Reader
	err error
}

func (u *until) Read(b []byte) (n int, err error) {
	if err = u.ctx.Err(); err == nil {
		n, err = u.r.Read(b)
	}
	if err != nil && err != io.EOF {
		u.err = err
	}
	return n, err
}
