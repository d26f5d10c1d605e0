package agent

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// allThreads makes a system call that changes the calling thread on each thread
// of the process.
func allThreads(call, arg1, arg2 uintptr) error {
	if _, _, errno := syscall.AllThreadsSyscall(call, arg1, arg2, 0); errno != 0 {
		return errno
	}
	return nil
}

// capsetAll sets the capabilities of all threads.
func capsetAll(header *unix.CapUserHeader, sets *[2]unix.CapUserData) error {
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(header)), uintptr(unsafe.Pointer(&sets[0])), 0); errno != 0 {
		return errno
	}
	return nil
}
