package agent

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// remains are the places where something of a person may be left when no
// process of his is.
type remains struct {
	// disks are where files are looked for, each without what is mounted in it.
	disks []string
	ipc   string // /proc/sysvipc
}

// remove removes every file of a, wherever it is but in the folders of other
// people on the instance, and a's shared memory, semaphores and message queues.
// No process of a may be left. The home and other directories are removed with
// all that is in them.
func (rs remains) remove(a account, dirs ...string) error {
	var errs []error
	for _, dir := range append(dirs, a.home) {
		errs = append(errs, removeAll(dir))
	}
	if a.uid != os.Geteuid() {
		for _, disk := range rs.disks {
			errs = append(errs, removeOwned(disk, uint32(a.uid)))
		}
		errs = append(errs, rs.removeIPC(a))
	}
	return errors.Join(errs...)
}

// maxDepth bounds how deep folders of the image are followed, by the files that
// can be open.
const maxDepth = 4096

// removeOwned removes the files of uid under dir, and its folders with whoever's
// files are in them. It follows no link and enters no other file system. Others
// may be at work in the same folders: each is held open, so that nobody can put
// another one in its place.
//
// The folders of other people are left out. Whoever has put something into one
// was let in, and it goes with its owner; and who is at work there could keep
// us there for ever.
func removeOwned(dir string, uid uint32) error {
	fd, err := openFolder(unix.AT_FDCWD, dir)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: dir, Err: err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return err
	}
	w := ownedRemover{uid: uid, device: uint64(st.Dev)}
	w.walk(os.NewFile(uintptr(fd), dir), 0)
	return w.err
}

type ownedRemover struct {
	uid    uint32
	device uint64
	err    error // the first
}

func (w *ownedRemover) fail(err error, dir *os.File, name string) {
	if w.err == nil && err != nil && !errors.Is(err, unix.ENOENT) {
		w.err = fmt.Errorf("remove what is left: %w", &os.PathError{Op: "remove", Path: filepath.Join(dir.Name(), name), Err: err})
	}
}

// walk goes through dir and closes it.
func (w *ownedRemover) walk(dir *os.File, depth int) {
	defer dir.Close()
	if depth > maxDepth {
		w.fail(unix.ELOOP, dir, "")
		return
	}
	fd := int(dir.Fd())
	for {
		names, err := dir.Readdirnames(someNames)
		for _, name := range names {
			var st unix.Stat_t
			if err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
				w.fail(err, dir, name)
				continue
			}
			folder := st.Mode&unix.S_IFMT == unix.S_IFDIR
			switch {
			case folder && uint64(st.Dev) != w.device:
			case st.Uid == w.uid:
				w.fail(removeAt(fd, name), dir, name)
			case folder && (st.Uid < firstUID || st.Uid > lastUID):
				sub, err := openFolder(fd, name)
				if err != nil {
					w.fail(err, dir, name)
					continue
				}
				w.walk(os.NewFile(uintptr(sub), filepath.Join(dir.Name(), name)), depth+1)
			}
		}
		if err == io.EOF {
			return
		}
		if err != nil {
			w.fail(err, dir, "")
			return
		}
	}
}

// someNames is how many names of a folder are read at a time: a person may have
// made any number.
const someNames = 1024

// openFolder opens a folder, and nothing else.
func openFolder(at int, name string) (int, error) {
	return unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

// removeAll removes what is at path. It differs from os.RemoveAll in that it
// gets to the bottom of folders in folders of whatever number, which a person
// can make many more of than the agent may have files open.
func removeAll(path string) error {
	parent, err := openFolder(unix.AT_FDCWD, filepath.Dir(path))
	if err == nil {
		defer unix.Close(parent)
		err = removeAt(parent, filepath.Base(path))
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return &os.PathError{Op: "remove", Path: path, Err: err}
	}
	return nil
}

// removeAt removes what has the name in a folder, with all that is in it.
func removeAt(parent int, name string) error {
	top, err := removeOrOpen(parent, name)
	if top == nil {
		return err
	}
	defer top.Close()
	number, unique := 0, rand.Text()
	// Each folder in top is emptied of all but full folders, and these are moved
	// to top. So each is moved once, and two are open at a time.
	err = eachName(top, func(name string) error {
		sub, err := removeOrOpen(int(top.Fd()), name)
		if sub == nil {
			return err
		}
		defer sub.Close()
		err = eachName(sub, func(name string) error {
			err := removeOne(int(sub.Fd()), name)
			if errors.Is(err, unix.ENOTEMPTY) {
				number++
				err = unix.Renameat(int(sub.Fd()), name, int(top.Fd()), unique+strconv.Itoa(number))
			}
			return err
		})
		if err != nil {
			return err
		}
		return removeOne(int(top.Fd()), name)
	})
	if err != nil {
		return err
	}
	return removeOne(parent, name)
}

// removeOne removes a file or an empty folder; one that is not there is no
// error. The error is unix.ENOTEMPTY for a folder that is full.
func removeOne(parent int, name string) error {
	err := unix.Unlinkat(parent, name, 0)
	if err == unix.EISDIR {
		err = unix.Unlinkat(parent, name, unix.AT_REMOVEDIR)
	}
	switch err {
	case unix.ENOENT:
		return nil
	case unix.EEXIST: // as POSIX allows
		return unix.ENOTEMPTY
	}
	return err
}

// removeOrOpen is removeOne, but opens a folder that is full and shuts it to
// everyone else, so that nothing can be added to it any more.
func removeOrOpen(parent int, name string) (*os.File, error) {
	err := removeOne(parent, name)
	if !errors.Is(err, unix.ENOTEMPTY) {
		return nil, err
	}
	fd, err := openFolder(parent, name)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(unix.Fchown(fd, os.Geteuid(), os.Getegid()), unix.Fchmod(fd, 0o700)); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// eachName calls f with the names in dir, which removes them, until none is left.
func eachName(dir *os.File, f func(string) error) error {
	for {
		if _, err := dir.Seek(0, io.SeekStart); err != nil {
			return err
		}
		names, err := dir.Readdirnames(someNames)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := f(name); err != nil {
				return err
			}
		}
	}
}

// removeIPC removes a's System V objects, which only their owner may.
func (rs remains) removeIPC(a account) error {
	var errs []error
	for _, kind := range []struct {
		name    string
		control uintptr
	}{{"shm", unix.SYS_SHMCTL}, {"sem", unix.SYS_SEMCTL}, {"msg", unix.SYS_MSGCTL}} {
		text, err := os.ReadFile(filepath.Join(rs.ipc, kind.name))
		if errors.Is(err, os.ErrNotExist) {
			continue // the kernel does not have them
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, id := range ipcOf(text, uint32(a.uid)) {
			errs = append(errs, a.asUser(func() error {
				var errno unix.Errno
				if kind.name == "sem" {
					_, _, errno = unix.RawSyscall6(kind.control, uintptr(id), 0, unix.IPC_RMID, 0, 0, 0)
				} else {
					_, _, errno = unix.RawSyscall(kind.control, uintptr(id), unix.IPC_RMID, 0)
				}
				if errno != 0 && errno != unix.EINVAL && errno != unix.EIDRM { // which it is when it is gone
					return fmt.Errorf("remove what is left: %s %d: %w", kind.name, id, errno)
				}
				return nil
			}))
		}
	}
	return errors.Join(errs...)
}

// ipcOf reads a table of /proc/sysvipc: the first line names the columns.
func ipcOf(table []byte, uid uint32) (ids []int) {
	lines := bufio.NewScanner(bytes.NewReader(table))
	column := map[string]int{}
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(column) == 0 {
			for n, name := range fields {
				column[name] = n
			}
			continue
		}
		value := func(names ...string) int {
			for _, name := range names {
				if n, ok := column[name]; ok && n < len(fields) {
					if v, err := strconv.Atoi(fields[n]); err == nil {
						return v
					}
				}
			}
			return -1
		}
		if id := value("shmid", "semid", "msqid"); id >= 0 && (value("uid") == int(uid) || value("cuid") == int(uid)) {
			ids = append(ids, id)
		}
	}
	return ids
}
