package agent

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// To a container that has CAP_SYS_ADMIN, as one for several people has, engines
// open system calls that they close to all others, namespaces above all. In a
// user namespace of his own, anyone has every right over it, and with that a
// large part of the kernel before him. So the agent, with the right itself,
// gives these calls up too: for itself and all that it starts, for good.

// callSet names the calls by their numbers on one kind of processor.
type callSet struct {
	arch   uint32
	closed []uint32 // refused
	clone  uint32   // refused with a flag for a new namespace
	clone3 uint32   // said not to exist: its flags cannot be seen, and programs use clone instead
	shmget uint32   // refused for memory that others could attach to, as old programs ask for without need
	ipc    uint32   // the same call and others like it in one, whose flags cannot be seen: refused; 0 for none
}

// namespaceFlags are those of clone that make namespaces.
const namespaceFlags = unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWCGROUP

// othersMode are the bits of a mode that are not the owner's.
const othersMode = 0o077

// nativeCalls are those of this program's own kind.
var nativeCalls = callSet{
	arch: map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}[runtime.GOARCH],
	closed: []uint32{
		unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_FANOTIFY_INIT,
		unix.SYS_OPEN_TREE, unix.SYS_MOVE_MOUNT, unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK, unix.SYS_MOUNT_SETATTR,
		unix.SYS_QUOTACTL, unix.SYS_QUOTACTL_FD, unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME, unix.SYS_SYSLOG, unix.SYS_LOOKUP_DCOOKIE,
	},
	clone: unix.SYS_CLONE, clone3: unix.SYS_CLONE3, shmget: unix.SYS_SHMGET,
}

// x86Calls are those of 32-bit programs on amd64.
var x86Calls = callSet{
	arch: unix.AUDIT_ARCH_I386,
	closed: []uint32{310, 346, 21, 22, 52, 357, 336, 338, // unshare, setns, mount, umount, umount2, bpf, perf_event_open, fanotify_init
		428, 429, 430, 431, 432, 433, 442, 131, 443, 74, 121, 103, 253}, // and the rest as above
	clone: 120, clone3: 435, shmget: 395, ipc: 117,
}

// closeCalls gives the calls up. It needs CAP_SYS_ADMIN, which the caller gives
// up next.
func closeCalls() error {
	sets := []callSet{nativeCalls}
	if runtime.GOARCH == "amd64" {
		sets = append(sets, x86Calls)
	}
	filter := callFilter(sets)
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	other, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return fmt.Errorf("close system calls: %w", errno)
	}
	if other != 0 { // a thread that could not take it
		return fmt.Errorf("close system calls: thread %d keeps them", other)
	}
	return nil
}

// callFilter makes the program that the kernel runs at each call. Calls of a
// kind of program that no set is for do not exist.
func callFilter(sets []callSet) []unix.SockFilter {
	const (
		number, arch, first, third = 0, 4, 16, 32 // where struct seccomp_data has them; of arguments, the lower half

		load    = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal   = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		atLeast = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
		anyOf   = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
		answer  = unix.BPF_RET | unix.BPF_K

		refuse = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
		unmade = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
		// x32 is another kind of program with the same arch.
		x32 = 0x40000000
	)
	do := func(code uint16, k uint32) unix.SockFilter { return unix.SockFilter{Code: code, K: k} }
	// unless skips the next n when the comparison does not hold.
	unless := func(code uint16, k uint32, n int) unix.SockFilter {
		return unix.SockFilter{Code: code, K: k, Jf: uint8(n)}
	}

	var program []unix.SockFilter
	for _, s := range sets {
		rules := []unix.SockFilter{
			do(load, number),
			unless(atLeast, x32, 1), do(answer, unmade),
			unless(equal, s.clone3, 1), do(answer, unmade),
		}
		for _, n := range s.closed {
			rules = append(rules, unless(equal, n, 1), do(answer, refuse))
		}
		if s.ipc != 0 {
			rules = append(rules, unless(equal, s.ipc, 1), do(answer, refuse))
		}
		rules = append(rules,
			unless(equal, s.shmget, 3), do(load, third), unless(anyOf, othersMode, 1), do(answer, refuse),
			do(load, number), // the third argument is in its place
			unless(equal, s.clone, 3), do(load, first), unless(anyOf, namespaceFlags, 1), do(answer, refuse),
			do(answer, unix.SECCOMP_RET_ALLOW))
		program = append(program, do(load, arch), unless(equal, s.arch, len(rules)))
		program = append(program, rules...)
	}
	return append(program, do(answer, unmade))
}
