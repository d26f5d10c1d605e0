// Package files is a person's folder as the viewer's file panel sees it: it is
// listed, read and written for the person by the agent, which is root.
//
// The agent must not lend its powers to whoever arranges the folder, which its
// programs can do at any time with links, pipes and renames. Two things keep
// it from that. Each operation runs on a thread of its own that has become the
// person for the file system: setfsuid gives it the person's uid and takes the
// capabilities that override permissions, and no supplementary group is left.
// So it can do nothing that the person's own programs cannot. And it stays in
// an os.Root, which neither .. nor a link leaves, so that it does not show
// what lies outside of the folder either. A child process that is the person
// entirely would do the same, for a fork per request and a protocol between
// the two; the kernel judges file operations by the same credentials.
package files

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/oriel-project/oriel/internal/agentapi"
)

// Errors that a caller tells apart, besides fs.ErrNotExist and
// fs.ErrPermission. What they say is for the person to read.
var (
	ErrName     = errors.New("this name is not possible")
	ErrTooLarge = fmt.Errorf("a file may have %d GiB", agentapi.MaxFile>>30)
	ErrFull     = errors.New("the disk is full; remove something and try again")
	ErrCut      = errors.New("the file did not arrive whole")
	ErrKind     = errors.New("there is something else of that name")
	ErrNotEmpty = errors.New("the folder is not empty; remove first what is in it")
)

// partial begins the name of a file that is being written. Such files are not
// listed, and cannot be asked for.
const partial = ".oriel-partial-"

// maxLooked is how many names of a folder are looked at to list it.
const maxLooked = 10 * agentapi.MaxFolder

// Folder is the folder of one person.
type Folder struct {
	home, name string
	uid, gid   int
}

// New gives the folder at dir, which belongs to uid and gid. It is made when
// it is needed; the directory that it is in must be one that the person can
// neither remove nor replace.
func New(dir string, uid, gid int) *Folder {
	return &Folder{filepath.Dir(dir), filepath.Base(dir), uid, gid}
}

// do runs f as the person, in the folder.
func (d *Folder) do(f func(*os.Root) error) error {
	return as(d.uid, d.gid, func() error {
		home, err := os.OpenRoot(d.home)
		if err != nil {
			return fmt.Errorf("open the home directory: %w", err)
		}
		defer home.Close()
		if err := home.Mkdir(d.name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return explain(err)
		}
		root, err := home.OpenRoot(d.name) // a link to another directory of the home is followed
		if err != nil {
			return explain(err)
		}
		defer root.Close()
		return explain(f(root))
	})
}

// List lists the folder at p. Left out is what the person can do nothing with
// here: pipes, sockets and devices, links that lead nowhere or out of the
// folder, and names that are not text or would upset a page or a terminal.
func (d *Folder) List(p string) (agentapi.Folder, error) {
	list := agentapi.Folder{Path: p, Files: []agentapi.File{}}
	local, err := clean(p, true)
	if err != nil {
		return list, err
	}
	err = d.do(func(root *os.Root) error {
		dir, err := root.OpenFile(local, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		defer dir.Close()
		var disk unix.Statfs_t
		if err := unix.Fstatfs(int(dir.Fd()), &disk); err != nil {
			return err
		}
		list.Free = int64(disk.Bavail) * disk.Bsize
		for looked := 0; !list.More; {
			names, err := dir.Readdirnames(256)
			if looked += len(names); looked > maxLooked { // of things that are not listed there may be any number
				list.More = true
				break
			}
			for _, name := range names {
				if checkName(name) != nil {
					continue
				}
				info, err := root.Stat(path.Join(local, name))
				if err != nil || !info.IsDir() && !info.Mode().IsRegular() {
					continue
				}
				if list.More = len(list.Files) == agentapi.MaxFolder; list.More {
					break
				}
				f := agentapi.File{Name: name, Folder: info.IsDir(), Modified: info.ModTime().UTC()}
				if !f.Folder {
					f.Size = info.Size()
				}
				list.Files = append(list.Files, f)
			}
			if err == io.EOF {
				break
			} else if err != nil {
				return err
			}
		}
		return nil
	})
	slices.SortFunc(list.Files, func(a, b agentapi.File) int {
		if a.Folder != b.Folder {
			if a.Folder {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.Name, b.Name)
	})
	return list, err
}

// Make makes a folder; one that is there already is no error.
func (d *Folder) Make(p string) error {
	local, err := clean(p, false)
	if err != nil {
		return err
	}
	return d.do(func(root *os.Root) error {
		err := root.Mkdir(local, 0o700)
		if errors.Is(err, fs.ErrExist) {
			info, e := root.Stat(local)
			if e == nil && info.IsDir() {
				return nil
			}
			return ErrKind
		}
		return err
	})
}

// Open opens a file and tells its length. The caller closes it.
func (d *Folder) Open(p string) (file *os.File, size int64, err error) {
	local, err := clean(p, false)
	if err != nil {
		return nil, 0, err
	}
	err = d.do(func(root *os.Root) error {
		file, size, err = openRegular(root, local)
		return err
	})
	return file, size, err
}

// openRegular opens a regular file. It does not wait, as the opening of a pipe
// would, and looks first, because to open a device can do something by itself;
// it looks again at what it has opened.
func openRegular(root *os.Root, local string) (*os.File, int64, error) {
	info, err := root.Stat(local)
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, ErrKind
	}
	file, err := root.OpenFile(local, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, 0, err
	}
	if info, err = file.Stat(); err == nil && !info.Mode().IsRegular() {
		err = ErrKind
	}
	if err != nil {
		file.Close()
		return nil, 0, err
	}
	return file, info.Size(), nil
}

// Write writes the size bytes of r to the file at p, in place of one that is
// there; size may be -1 when it is not known. The file is written under another
// name and then renamed, so that it is there whole or not at all.
func (d *Folder) Write(p string, r io.Reader, size int64) error {
	if size > agentapi.MaxFile {
		return ErrTooLarge
	}
	local, err := clean(p, false)
	if err != nil {
		return err
	}
	return d.do(func(root *os.Root) error {
		if info, err := root.Lstat(local); err == nil && !info.Mode().IsRegular() && info.Mode().Type() != fs.ModeSymlink {
			return ErrKind
		}
		temp := path.Join(path.Dir(local), partial+rand.Text())
		file, err := root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		err = fill(file, r, size)
		if e := file.Close(); err == nil {
			err = e
		}
		if err == nil {
			err = root.Rename(temp, local)
		}
		if err != nil {
			root.Remove(temp)
		}
		return err
	})
}

// fill copies r to w: size bytes exactly, or at most agentapi.MaxFile.
func fill(w io.Writer, r io.Reader, size int64) error {
	limit := size
	if size < 0 {
		limit = agentapi.MaxFile
	}
	// The buffer is explicit, so that a file that could take bytes from a
	// socket by itself (splice) does not; and large, because each piece is
	// handed from one thread to another.
	n, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{io.LimitReader(r, limit+1)}, make([]byte, 256<<10))
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT), errors.Is(err, unix.EFBIG):
		return ErrFull
	case err != nil:
		return fmt.Errorf("%w: %w", ErrCut, err)
	case n > limit && size < 0:
		return ErrTooLarge
	case size >= 0 && n != size:
		return ErrCut
	}
	return nil
}

// Remove removes a file, a link or an empty folder.
func (d *Folder) Remove(p string) error {
	local, err := clean(p, false)
	if err != nil {
		return err
	}
	return d.do(func(root *os.Root) error { return root.Remove(local) })
}

// clean checks a path in the folder and gives it as os.Root wants it. The
// folder itself is "", which only some operations take.
func clean(p string, itself bool) (string, error) {
	if p == "" && itself {
		return ".", nil
	}
	if len(p) > agentapi.MaxFilePath {
		return "", fmt.Errorf("%w: a path may have %d bytes", ErrName, agentapi.MaxFilePath)
	}
	for name := range strings.SplitSeq(p, "/") {
		if err := checkName(name); err != nil {
			return "", err
		}
	}
	return p, nil
}

// checkName checks one part of a path.
func checkName(name string) error {
	switch {
	case name == "" || name == "." || name == "..":
		return fmt.Errorf("%w: a part of it is empty, . or ..", ErrName)
	case len(name) > agentapi.MaxFileName:
		return fmt.Errorf("%w: a name may have %d bytes", ErrName, agentapi.MaxFileName)
	case strings.HasPrefix(name, partial):
		return fmt.Errorf("%w: it begins with %s", ErrName, partial)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unprintable):
		return fmt.Errorf("%w: it has characters that cannot be shown", ErrName)
	}
	return nil
}

// unprintable tells of characters that do not belong in a name: control
// characters, and those that turn the direction of text around, with which
// gpj.exe can be shown as exe.jpg.
func unprintable(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029'
}

// explain puts an error of the file system into words for the person.
func explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
		return fmt.Errorf("there is no such file or folder: %w", fs.ErrNotExist)
	case errors.Is(err, unix.ENOTEMPTY):
		return ErrNotEmpty
	case errors.Is(err, unix.EISDIR), errors.Is(err, fs.ErrExist):
		return ErrKind
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return ErrFull
	case errors.Is(err, unix.ENAMETOOLONG):
		return ErrName
	case errors.Is(err, unix.ELOOP), errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS):
		return fmt.Errorf("this may not be done here: %w", fs.ErrPermission)
	}
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		if _, ok := errors.AsType[unix.Errno](e.Err); !ok { // what os.Root says by itself
			return fmt.Errorf("this leads out of the folder: %w", fs.ErrPermission)
		}
	}
	return err
}
