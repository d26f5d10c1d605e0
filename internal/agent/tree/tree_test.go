package tree

import (
	"io"
	"net"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestArguments(t *testing.T) {
	for _, p := range []Program{
		{Argv: []string{"/bin/sh", "-c", "a b\n"}},
		{Argv: []string{"-"}, Credential: &syscall.Credential{Uid: 1000, Gid: 1001, Groups: []uint32{}}},
		{Argv: []string{"/bin/true"}, Credential: &syscall.Credential{Uid: 0, Gid: 4294967294, Groups: []uint32{4, 27}}},
	} {
		args := p.Arguments()
		if got, err := parse(args[1:]); err != nil || args[0] != RunnerName || !reflect.DeepEqual(got, p) {
			t.Errorf("%+v became %+v, %v", p, got, err)
		}
	}
	for _, args := range [][]string{nil, {"-"}, {"1", "x"}, {"1,-1", "x"}, {"1,2,", "x"}, {"4294967296,1", "x"}} {
		if p, err := parse(args); err == nil {
			t.Errorf("%q became %+v", args, p)
		}
	}
}

func TestEnd(t *testing.T) {
	here, there := net.Pipe()
	defer here.Close()
	for want, e := range map[string]End{
		"ended with code 0":                   {},
		"ended with code 3":                   {Code: 3},
		"was ended by signal SIGKILL":         {Signal: 9},
		"could not be started: no such\tfile": {Error: "no such\tfile"},
	} {
		go report(there, e)
		if got, err := Ended(here); err != nil || got != e || got.String() != want || got.Succeeded() != (want == "ended with code 0") {
			t.Errorf("%+v became %q, %v", e, got, err)
		}
	}
	go func() {
		io.WriteString(there, strings.Repeat("x", 2*maxReport))
		there.Close()
	}()
	if e, err := Ended(here); err == nil {
		t.Errorf("%+v", e)
	}
}

func TestBelow(t *testing.T) {
	sh := exec.Command("/bin/sh", "-c", "sleep 1000 & exec sleep 1000")
	if err := sh.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		for _, pid := range append(Below(sh.Process.Pid), sh.Process.Pid) {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		sh.Wait()
	}()
	for len(Below(sh.Process.Pid)) == 0 {
		time.Sleep(time.Millisecond)
	}
	child := Below(sh.Process.Pid)
	if all := Below(os.Getpid()); len(child) != 1 || !slices.Contains(all, sh.Process.Pid) || !slices.Contains(all, child[0]) || slices.Contains(all, os.Getpid()) {
		t.Errorf("%v, %v", child, all)
	}
}
