package agent

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
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

// remove removes every file of a, wherever it is, and a's shared memory,
// semaphores and message queues. No process of a may be left. The home and
// other directories are removed with all that is in them.
func (rs remains) remove(a account, dirs ...string) error {
	var errs []error
	for _, dir := range append(dirs, a.home) {
		errs = append(errs, os.RemoveAll(dir))
	}
	if a.uid != os.Geteuid() {
		for _, disk := range rs.disks {
			errs = append(errs, removeOwned(disk, uint32(a.uid)))
		}
		errs = append(errs, rs.removeIPC(a))
	}
	return errors.Join(errs...)
}

// maxDepth bounds how deep folders are followed, by the files that can be open.
const maxDepth = 4096

// removeOwned removes the files of uid under dir, and its folders with whoever's
// files are in them. It follows no link and enters no other file system. Others
// may be at work in the same folders: each is held open, so that nobody can put
// another one in its place.
func removeOwned(dir string, uid uint32) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
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
	w.walk(os.NewFile(uintptr(fd), dir), false, 0)
	return w.err
}

type ownedRemover struct {
	uid    uint32
	device uint64
	err    error // the first
}

func (w *ownedRemover) fail(err error, dir *os.File, name string) {
	if w.err == nil && !errors.Is(err, unix.ENOENT) {
		w.err = fmt.Errorf("remove what is left: %w", &os.PathError{Op: "remove", Path: filepath.Join(dir.Name(), name), Err: err})
	}
}

// walk goes through dir and closes it.
func (w *ownedRemover) walk(dir *os.File, all bool, depth int) {
	defer dir.Close()
	if depth > maxDepth {
		w.fail(unix.ELOOP, dir, "")
		return
	}
	names, err := dir.Readdirnames(-1)
	if err != nil {
		w.fail(err, dir, "")
		return
	}
	fd := int(dir.Fd())
	for _, name := range names {
		var st unix.Stat_t
		if err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			w.fail(err, dir, name)
			continue
		}
		remove, flags := all || st.Uid == w.uid, 0
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			if uint64(st.Dev) != w.device {
				continue
			}
			flags = unix.AT_REMOVEDIR
			sub, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
			if err != nil {
				w.fail(err, dir, name)
				continue
			}
			w.walk(os.NewFile(uintptr(sub), filepath.Join(dir.Name(), name)), remove, depth+1)
		}
		if remove {
			if err := unix.Unlinkat(fd, name, flags); err != nil {
				w.fail(err, dir, name)
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
