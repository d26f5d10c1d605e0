//go:build unix

package sqlite

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// guard keeps a second server away from the database by locking the file path + ".lock". SQLite itself would let both
// in, and each would carry the other's records along. The lock is the kernel's and ends with the process; the file
// stays. It is a file of its own because closing any descriptor of the database would drop SQLite's own locks on it.
func guard(path string) (*os.File, error) {
	name := path + ".lock"
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("sqlite: the lock of the database (does the directory belong to the server's user?): %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		owner := "another process"
		pid := make([]byte, 20)
		if n, _ := f.ReadAt(pid, 0); n > 0 {
			owner = "process " + strings.TrimSpace(string(pid[:n]))
		}
		f.Close()
		return nil, fmt.Errorf("sqlite: %s is in use by %s: stop that server first, or choose another data directory", path, owner)
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("sqlite: lock %s: %w", name, err)
	}
	return f, nil
}

// checkDirectory refuses a place where the database would not be safe.
func checkDirectory(path string) error {
	dir := filepath.Dir(path)
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("sqlite: there is no directory %s: create it, or choose another data directory", dir)
	case err != nil:
		return fmt.Errorf("sqlite: the data directory: %w", err)
	case !info.IsDir():
		return fmt.Errorf("sqlite: %s is not a directory: choose another data directory", dir)
	case info.Mode().Perm()&0o002 != 0 && info.Mode()&fs.ModeSticky == 0:
		return fmt.Errorf("sqlite: everyone can replace files in %s: chmod o-w it", dir)
	}
	return nil
}

// makePrivate creates the database file if there is none, so that only its owner can read it: it holds the server's
// keys. SQLite gives the files beside it the same mode.
func makePrivate(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		return f.Close()
	}
	if !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("sqlite: create the database: %w", err)
	}
	info, err := os.Stat(path) // it must not be opened here, see guard
	switch {
	case err != nil:
		return fmt.Errorf("sqlite: the database: %w", err)
	case !info.Mode().IsRegular():
		return fmt.Errorf("sqlite: %s is not a file: choose another data directory", path)
	case info.Mode().Perm()&0o077 != 0:
		if err := os.Chmod(path, 0o600); err != nil {
			return fmt.Errorf("sqlite: the database must be its owner's alone: %w", err)
		}
	}
	return nil
}
