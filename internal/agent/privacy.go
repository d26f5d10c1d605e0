package agent

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// An instance for several people hides the processes of each from the others.
// That takes a right with which root could leave the container; the agent gives
// it up, and the right to have it again, and what it opened (syscalls.go),
// before it starts anything.

// ownRights are what the agent uses for itself alone.
var ownRights = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_SETPCAP}

// hideProcesses has /proc show everyone but root's group his own processes only.
func hideProcesses(proc string) error {
	err := unix.Mount("proc", proc, "proc", unix.MS_REMOUNT|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_RELATIME, "hidepid=invisible")
	if err == unix.EINVAL { // before Linux 5.8 it has a number only
		err = unix.Mount("proc", proc, "proc", unix.MS_REMOUNT|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_RELATIME, "hidepid=2")
	}
	if err != nil {
		return fmt.Errorf("people on this instance cannot be kept apart (hide processes in %s: %w); use a fleet with one session on an instance, or a host that allows CAP_SYS_ADMIN in containers", proc, err)
	}
	return nil
}

// dropRights takes ownRights from every thread, for good. Where the process does
// not have them there is nothing to do.
func dropRights() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return fmt.Errorf("read the agent's rights: %w", err)
	}
	has := func(right uintptr) bool { return sets[right/32].Permitted&(1<<(right%32)) != 0 }
	if !has(unix.CAP_SYS_ADMIN) {
		return nil
	}
	if err := closeCalls(); err != nil {
		return err
	}
	if has(unix.CAP_SETPCAP) { // without it no program can gain a right that the agent has given up: no-new-privileges
		for _, right := range ownRights {
			if err := allThreads(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, right); err != nil {
				return fmt.Errorf("give up the right %d: %w", right, err)
			}
		}
	}
	for _, right := range ownRights {
		bit := uint32(1) << (right % 32)
		s := &sets[right/32]
		s.Effective, s.Permitted, s.Inheritable = s.Effective&^bit, s.Permitted&^bit, s.Inheritable&^bit
	}
	if err := capsetAll(&header, &sets); err != nil {
		return fmt.Errorf("give up the agent's rights: %w", err)
	}
	return nil
}

// closeHomes shuts the homes of the image's own users to a session's.
func closeHomes(home string) error {
	entries, err := os.ReadDir(home)
	if os.IsNotExist(err) {
		return nil
	}
	for _, e := range entries {
		if e.IsDir() && err == nil {
			err = os.Chmod(filepath.Join(home, e.Name()), 0o700)
		}
	}
	return err
}
