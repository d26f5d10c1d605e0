package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// desktopUID is the user whose desktop an image builder shows:
// ImageBuilderAdmin.
const desktopUID = 1000

// Accounts of sessions. Their names begin with AppStream's name for the one
// that it has. Their numbers are out of the way of those that an image has, and
// below what containers without a root of their own can have.
const (
	sessionUser = "as2-streaming-user"
	firstUID    = 20_000
	lastUID     = 59_999
	// nobodysUID is no account's.
	nobodysUID = firstUID - 1
)

// account is the desktop's user as /etc/passwd has it.
type account struct {
	name, home string
	uid, gid   int
	number     int // the uid, also where the agent cannot be many users
	groups     []uint32
}

func lookupAccount(uid int) (account, error) {
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return account{}, fmt.Errorf("the image has no user with uid %d: %w", uid, err)
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return account{}, fmt.Errorf("user %s has no numeric group: %w", u.Username, err)
	}
	a := account{name: u.Username, home: u.HomeDir, uid: uid, gid: gid}
	names, err := u.GroupIds()
	if err != nil {
		return account{}, fmt.Errorf("groups of user %s: %w", u.Username, err)
	}
	for _, s := range names {
		if g, err := strconv.ParseUint(s, 10, 32); err == nil {
			a.groups = append(a.groups, uint32(g))
		}
	}
	return a, nil
}

// asUser runs f, which makes system calls only, on a thread that has a's rights
// instead of root's. No process of a may signal or trace that thread: its other
// numbers are root's and nobody's.
func (a account) asUser(f func() error) error {
	runtime.LockOSThread()
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, nobodysUID, uintptr(a.uid), 0); errno != 0 {
		runtime.UnlockOSThread()
		return fmt.Errorf("act as %s: %w", a.name, errno)
	}
	err := f()
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, 0, 0, 0); errno != 0 {
		panic("agent: root's rights are lost: " + errno.Error())
	}
	runtime.UnlockOSThread()
	return err
}

// accounts makes and removes the accounts of sessions.
type accounts struct {
	etc     string // where passwd, group and shadow are, and skel
	home    string
	counter string // the file with the last uid that was given away
	// self has every account be the agent's own user (in a test, which cannot
	// be many).
	self bool

	mu sync.Mutex // held while the files are changed
}

// add makes an account with a home. With numbered, the name has a number.
func (as *accounts) add(numbered bool) (account, error) {
	as.mu.Lock()
	defer as.mu.Unlock()
	uid, err := as.nextUID()
	if err != nil {
		return account{}, err
	}
	a := account{name: sessionUser, number: uid, uid: uid, gid: uid, groups: []uint32{}}
	if numbered {
		a.name += "-" + strconv.Itoa(uid-firstUID+1)
	}
	a.home = filepath.Join(as.home, a.name)
	err = as.edit(a.name, map[string]string{
		"group":   fmt.Sprintf("%s:x:%d:", a.name, a.gid),
		"gshadow": a.name + ":!::",
		"shadow":  a.name + ":!:::::::", // no password opens it
		"passwd":  fmt.Sprintf("%s:x:%d:%d:Streaming user:%s:/bin/bash", a.name, a.uid, a.gid, a.home),
	})
	if err != nil {
		return account{}, err
	}
	if as.self {
		a.uid, a.gid = os.Geteuid(), os.Getegid()
	}
	if err := as.makeHome(a); err != nil {
		return account{}, errors.Join(fmt.Errorf("make the home of %s: %w", a.name, err), as.edit(a.name, nil))
	}
	return a, nil
}

// remove takes a out of the lists of accounts.
func (as *accounts) remove(a account) error {
	as.mu.Lock()
	defer as.mu.Unlock()
	return as.edit(a.name, nil)
}

// leftOver gives the sessions' accounts that are in the lists.
func (as *accounts) leftOver() ([]account, error) {
	text, err := os.ReadFile(filepath.Join(as.etc, "passwd"))
	var found []account
	for line := range strings.Lines(string(text)) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) != 7 || !strings.HasPrefix(f[0], sessionUser) {
			continue
		}
		uid, err := strconv.Atoi(f[2])
		if err == nil && uid >= firstUID && uid <= lastUID {
			found = append(found, account{name: f[0], home: filepath.Join(as.home, f[0]), number: uid, uid: uid, gid: uid})
		}
	}
	return found, err
}

// nextUID gives a number that no account of this instance has had, because
// something may have been kept under it.
func (as *accounts) nextUID() (int, error) {
	uid := firstUID
	switch text, err := os.ReadFile(as.counter); {
	case err == nil:
		last, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil || last < firstUID || last >= lastUID {
			return 0, fmt.Errorf("this instance has no more accounts to give (%s); use a new one", as.counter)
		}
		uid = last + 1
	case !errors.Is(err, fs.ErrNotExist):
		return 0, fmt.Errorf("number the account: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(as.counter), 0o755); err != nil {
		return 0, fmt.Errorf("number the account: %w", err)
	}
	if err := replaceFile(as.counter, []byte(strconv.Itoa(uid)+"\n"), 0o600, -1, -1); err != nil {
		return 0, fmt.Errorf("number the account: %w", err)
	}
	return uid, nil
}

// edit replaces the line of the account name in each of the lists that the
// image has, or removes it where lines has none.
func (as *accounts) edit(name string, lines map[string]string) error {
	// As lckpwdf(3), so that programs of the image do not change them meanwhile.
	lock, err := os.OpenFile(filepath.Join(as.etc, ".pwd.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("lock the list of accounts: %w", err)
	}
	defer lock.Close()
	if err := unix.FcntlFlock(lock.Fd(), unix.F_SETLKW, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
		return fmt.Errorf("lock the list of accounts: %w", err)
	}
	for _, list := range []string{"group", "gshadow", "shadow", "passwd"} {
		file := filepath.Join(as.etc, list)
		info, err := os.Stat(file)
		if errors.Is(err, fs.ErrNotExist) && list != "passwd" {
			continue
		}
		if err != nil {
			return fmt.Errorf("change the list of accounts: %w", err)
		}
		old, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("change the list of accounts: %w", err)
		}
		var text bytes.Buffer
		for line := range bytes.Lines(old) {
			if !bytes.HasPrefix(line, []byte(name+":")) {
				text.Write(line)
			}
		}
		if line := lines[list]; line != "" {
			if text.Len() > 0 && !bytes.HasSuffix(text.Bytes(), []byte("\n")) {
				text.WriteByte('\n')
			}
			text.WriteString(line + "\n")
		}
		uid, gid := ownerOf(info)
		if err := replaceFile(file, text.Bytes(), info.Mode().Perm(), uid, gid); err != nil {
			return fmt.Errorf("change the list of accounts: %w", err)
		}
	}
	return nil
}

// makeHome makes the home from the image's skeleton, with the folder that the
// person sees. Nobody but root can look into it until it is done.
func (as *accounts) makeHome(a account) error {
	if err := os.RemoveAll(a.home); err != nil {
		return err
	}
	if err := os.MkdirAll(as.home, 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(a.home, 0o700); err != nil {
		return err
	}
	return furnish(a, filepath.Join(as.etc, "skel"))
}

// furnish puts into a's home, which root only can enter, what the skeleton has
// and the folder that the person sees, and makes it a's.
func furnish(a account, skel string) error {
	if _, err := os.Stat(skel); err == nil {
		if err := copyTree(skel, a.home); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Join(a.home, sessionFolder, "TemporaryFiles"), 0o700); err != nil {
		return err
	}
	return filepath.WalkDir(a.home, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, a.uid, a.gid)
	})
}

// sessionFolder is the part of a home that the person has in the browser too.
const sessionFolder = "MyFiles"

// copyTree copies folders, files and symbolic links; nobody but the owner can
// read the copies.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil || rel == "." {
			return err
		}
		target := filepath.Join(to, rel)
		switch entry.Type() {
		case fs.ModeDir:
			return os.Mkdir(target, 0o700)
		case fs.ModeSymlink:
			link, err := os.Readlink(path)
			if err != nil {
				return err
			}
			return os.Symlink(link, target)
		case 0:
			info, err := entry.Info()
			if err != nil {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(target, text, info.Mode().Perm()&0o700)
		}
		return nil // a socket or a device is nothing that one copies
	})
}

// ownerOf tells whose a file is.
func ownerOf(info fs.FileInfo) (uid, gid int) {
	st := info.Sys().(*syscall.Stat_t)
	return int(st.Uid), int(st.Gid)
}

// replaceFile writes a file of root's whole or not at all. A uid of -1 leaves
// the owner.
func replaceFile(file string, text []byte, mode fs.FileMode, uid, gid int) error {
	f, err := os.CreateTemp(filepath.Dir(file), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // does nothing after the rename
	_, err = f.Write(text)
	if uid >= 0 {
		err = errors.Join(err, f.Chown(uid, gid))
	}
	err = errors.Join(err, f.Chmod(mode), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}
