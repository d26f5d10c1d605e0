package files

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// as runs f with the file system's credentials of a user.
//
// The thread is not handed back: it ends with the goroutine, so that nothing
// can run on it later with credentials that were not put back. (The process's
// first thread cannot end. The runtime never uses it again.) Threads that the
// runtime starts meanwhile do not descend from a locked one.
func as(uid, gid int, f func() error) error {
	if uid == os.Geteuid() {
		return f()
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := become(uid, gid)
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// become makes the calling thread a user, as far as files are concerned. The
// calls are made directly: the standard library's change every thread.
func become(uid, gid int) error {
	if _, _, e := unix.Syscall(unix.SYS_SETGROUPS, 0, 0, 0); e != 0 {
		return fmt.Errorf("leave root's groups: %w", e)
	}
	unix.SetfsgidRetGid(gid)
	unix.SetfsuidRetUid(uid)
	// These two do not fail: they tell what was before, so a second call tells
	// whether the first one worked.
	nowGID, _ := unix.SetfsgidRetGid(-1)
	nowUID, _ := unix.SetfsuidRetUid(-1)
	if nowGID != gid || nowUID != uid {
		return fmt.Errorf("become user %d: the kernel refuses", uid)
	}
	return nil
}
