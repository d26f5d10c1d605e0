// Package rfbtest starts a real X display for tests: an Xvnc, which speaks RFB, and the programs on it. It needs Debian's tigervnc-standalone-server and
// x11-xserver-utils, and xterm and what else a test starts.
package rfbtest

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Display is a display that lasts as long as its test.
type Display struct {
	Env []string // the environment of programs on it

	t   *testing.T
	dir string
}

// Start starts a display that listens at a unix socket. size is its width and height, such as 1280x720; options are further ones of Xvnc.
func Start(t *testing.T, socket, size string, options ...string) *Display {
	t.Helper()
	d := &Display{t: t, dir: t.TempDir()}
	d.Env = append(os.Environ(), "HOME="+d.dir, "XAUTHORITY=")
	number, tell, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer number.Close()
	d.start("Xvnc", append([]string{"-displayfd", "3", "-Log", "*:stderr:0", "-rfbport", "-1", "-rfbunixpath", socket, "-SecurityTypes", "None", "-geometry", size, "-depth", "24",
		"-nolisten", "tcp", "-AlwaysShared", "-AcceptSetDesktopSize"}, options...), tell)
	tell.Close()
	display, err := bufio.NewReader(number).ReadString('\n') // it takes one that is free, and says which when it is ready
	if err != nil {
		t.Fatalf("the display does not come: %v", err)
	}
	d.Env = append(d.Env, "DISPLAY=:"+strings.TrimSpace(display))
	Await(t, "the display's root window", func() bool { return d.Run("xsetroot", "-solid", "#2b3440") == nil })
	return d
}

// Start starts a program on the display. It is ended with the test, and what it has said is told if that has failed.
func (d *Display) Start(name string, args ...string) {
	d.t.Helper()
	d.start(name, args)
}

func (d *Display) start(name string, args []string, files ...*os.File) {
	d.t.Helper()
	cmd := exec.CommandContext(d.t.Context(), name, args...)
	var said bytes.Buffer
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = d.Env, d.dir, &said, &said, files
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // so that it leaves nothing behind
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		d.t.Fatalf("%v (hack/setup test installs it)", err)
	}
	d.t.Cleanup(func() {
		if err := cmd.Wait(); d.t.Failed() {
			d.t.Logf("%s: %v\n%s", name, err, &said)
		}
	})
}

// Run runs a program on the display until it ends.
func (d *Display) Run(name string, args ...string) error {
	cmd := exec.CommandContext(d.t.Context(), name, args...)
	cmd.Env = d.Env
	return cmd.Run()
}

// Await waits until something is so; what names it. The test fails when that takes more than a minute: it is not a measure of the machine.
func Await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s does not come", what)
		}
	}
}
