package agent

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/oriel-project/oriel/internal/agent/sudo"
	"github.com/oriel-project/oriel/internal/agent/tree"
	"github.com/oriel-project/oriel/internal/agentapi"
)

// rootVariable names the directory that stands for an instance's root.
const rootVariable = "ORIEL_AGENT_TEST_ROOT"

// TestMain makes the test binary every program of an instance: which one, its
// name says, as with the real program. The agent of a test is a process of its
// own, because it reaps every child there is.
func TestMain(m *testing.M) {
	paths := pathsUnder(os.Getenv(rootVariable))
	switch filepath.Base(os.Args[0]) {
	case "oriel-agent":
		os.Exit(run(paths, os.Getuid(), logger()))
	case "sudo":
		os.Exit(sudo.Main(os.Args[1:], paths.sudo))
	case sudo.RunnerName:
		os.Exit(sudo.RunnerMain())
	case tree.RunnerName:
		os.Exit(tree.RunnerMain(os.Args[1:]))
	case "Xvnc":
		go endWithAgent(os.Getppid())
		os.Exit(fakeXvnc(os.Args[1:]))
	case "session":
		os.Exit(fakeSession())
	}
	os.Exit(m.Run())
}

// endWithAgent ends a stand-in whose agent was killed. In an instance, the kernel does that: the agent is process 1.
func endWithAgent(agent int) {
	for os.Getppid() == agent {
		time.Sleep(100 * time.Millisecond)
	}
	os.Exit(0)
}

// fakeRoot is the instance's root, as its programs can know it.
func fakeRoot() string {
	root, _, _ := strings.Cut(os.Getenv("XAUTHORITY"), "/run/oriel-agent/")
	return root
}

// note appends a line to a file in the instance's root.
func note(name, line string) {
	f, err := os.OpenFile(filepath.Join(fakeRoot(), name), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	io.WriteString(f, line+"\n")
}

// fakeXvnc listens where Xvnc would and shows a picture of one colour: black
// while there is a file "black" in the root. With a file "broken" it fails.
func fakeXvnc(args []string) int {
	root := fakeRoot()
	note("xvnc", strings.Join(args, " "))
	if text, err := os.ReadFile(filepath.Join(root, "broken")); err == nil {
		os.Stderr.Write(text)
		return 1
	}
	var rfb string
	for i, a := range args {
		if a == "-rfbunixpath" {
			rfb = args[i+1]
		}
	}
	socket := filepath.Join(root, "tmp/.X11-unix/X"+args[0][1:])
	for _, address := range []string{socket, "@" + socket} {
		x, err := net.Listen("unix", address)
		if err != nil {
			panic(err)
		}
		defer x.Close()
	}
	l, err := net.Listen("unix", rfb)
	if err != nil {
		panic(err)
	}
	for {
		c, err := l.Accept()
		if err != nil {
			panic(err)
		}
		go serveRFB(c, 40, 30, func() byte {
			_, black := os.Stat(filepath.Join(root, "black"))
			session, err := os.Stat(filepath.Join(root, "session"))
			if black == nil || err != nil || session.Size() == 0 { // nobody draws
				return 0
			}
			return 0xff
		})
	}
}

// serveRFB speaks enough RFB for a viewer that wants raw bytes; pixel gives
// the colour of the next picture. When it does not change, the viewer waits.
func serveRFB(c net.Conn, w, h uint16, pixel func() byte) error {
	defer c.Close()
	r := bufio.NewReader(c)
	expect := func(n int) ([]byte, error) {
		b := make([]byte, n)
		_, err := io.ReadFull(r, b)
		return b, err
	}
	io.WriteString(c, "RFB 003.008\n")
	if b, err := expect(12); err != nil || string(b) != "RFB 003.008\n" {
		return errors.New("version")
	}
	c.Write([]byte{1, 1})
	if b, err := expect(1); err != nil || b[0] != 1 {
		return errors.New("security type")
	}
	c.Write([]byte{0, 0, 0, 0})
	if b, err := expect(1); err != nil || b[0] != 1 {
		return errors.New("shared")
	}
	init := make([]byte, 24)
	binary.BigEndian.PutUint16(init, w)
	binary.BigEndian.PutUint16(init[2:], h)
	init[23] = 4
	c.Write(append(init, "Test"...))
	last := -1
	for {
		b, err := expect(1)
		if err != nil {
			return err
		}
		switch b[0] {
		case 0:
			_, err = expect(19)
		case 2:
			if b, err = expect(3); err == nil {
				_, err = expect(4 * int(b[2]))
			}
		case 3:
			if b, err = expect(9); err != nil {
				break
			}
			p := pixel()
			for b[0] == 1 && int(p) == last {
				time.Sleep(time.Millisecond)
				p = pixel()
			}
			last = int(p)
			out := []byte{2, 0, 0, 0, 1, 0, 0, 0, 0} // a bell, and an update of one rectangle
			out = binary.BigEndian.AppendUint16(out, w)
			out = binary.BigEndian.AppendUint16(out, h)
			out = append(out, 0, 0, 0, 0)
			_, err = c.Write(append(out, bytes.Repeat([]byte{p}, int(w)*int(h))...))
		}
		if err != nil {
			return err
		}
	}
}

// fakeSession notes its environment and waits to be ended. With a file
// "stubborn" in the root it ends for nothing but KILL.
func fakeSession() int {
	if _, err := os.Stat(filepath.Join(fakeRoot(), "stubborn")); err == nil {
		signal.Ignore(unix.SIGTERM)
	} else {
		go endWithAgent(os.Getppid())
	}
	note("session", strings.Join(os.Environ(), "\n"))
	time.Sleep(time.Hour) // no test takes so long
	return 0
}

// patience is how long a test waits for what must come. It is there for what never does, not for slow machines.
const patience = 2 * time.Minute

// eventually waits until cond holds, and fails the test when it does not.
func eventually(tb testing.TB, cond func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(patience); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatal("the condition does not come true")
		}
	}
}

var testConfig = agentapi.Config{
	Role: agentapi.RoleImageBuilder, ResourceName: "it's", ImageARN: "arn:aws:appstream:us-west-2::image/base", InstanceType: "stream.standard.medium",
	SocketUID: os.Getuid(), SocketGID: os.Getgid(), Width: 800, Height: 600,
}
