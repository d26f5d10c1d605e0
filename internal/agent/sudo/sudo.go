// Package sudo lets the administrator of an image builder run commands as root
// although the instance runs with no_new_privs, where no setuid program works.
//
// There are three parts. The client (Main) is what a person types: it sends
// its arguments, environment and standard files over a unix socket. Process 1
// accepts the connection and asks the kernel who is calling; it reads nothing.
// For a caller who may, it starts the runner (RunnerMain) as root with the
// connection as descriptor 3, and forgets it. The runner reads the request,
// runs the command with the caller's files and reports how it ended.
//
// Terminals: when the caller's standard input and output are a terminal, the
// client makes a new pseudo-terminal of the same size and settings, gives its
// far side to the command and relays. The command is then in a session with a
// controlling terminal of its own, so that prompts, editors, shells with job
// control, Ctrl-C and Ctrl-Z work as with any other sudo. In a pipeline or in
// the background the files go to the command as they are, and signals are
// forwarded.
package sudo

import (
	"encoding/binary"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Socket is where process 1 listens.
const Socket = "/run/oriel-agent/sudo.sock"

// RunnerName is the name (argv[0]) under which the program is the runner.
const RunnerName = "oriel-sudo-runner"

// maxFrame bounds a message: arguments and environment of a command may be
// long, but the kernel bounds them too (2 MiB).
const maxFrame = 4 << 20

// request is the first message, sent with the caller's standard files.
type request struct {
	Invocation invocation `json:"invocation"`
	// Argv, Set, Env and Cwd may be any bytes, as execve takes them, which a
	// JSON string may not.
	Argv words `json:"argv"`
	Set  words `json:"set"`
	Env  words `json:"env"`
	Cwd  words `json:"cwd"`
	TTY  bool  `json:"tty,omitzero"` // standard input is a terminal of its own
	// Umask is the caller's.
	Umask int `json:"umask"`
}

// words is a list of strings without NUL, each ended by one.
type words []byte

func makeWords(list ...string) words {
	var w words
	for _, s := range list {
		w = append(append(w, s...), 0)
	}
	return w
}

func (w words) list() []string {
	if len(w) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(w), "\x00"), "\x00")
}

// event is every other message: a signal for the command from the client, and
// what became of the command from the runner.
type event struct {
	Signal  int    `json:"signal,omitzero"`  // client: send this to the command
	Stopped int    `json:"stopped,omitzero"` // runner: a signal stopped the command
	Ended   bool   `json:"ended,omitzero"`   // runner: with Code or by signal Killed
	Code    int    `json:"code,omitzero"`
	Killed  int    `json:"killed,omitzero"`
	Error   string `json:"error,omitzero"` // runner or process 1: not started; exit status Code
}

// Refuse tells the client on the other side of conn why its command is not run.
func Refuse(conn net.Conn, why string) error {
	return send(conn, event{Ended: true, Code: 1, Error: why})
}

// send writes v as one message: its length in four bytes, then JSON.
func send(w io.Writer, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(text) > maxFrame {
		return errors.New("arguments and environment are too long")
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(text))), text...))
	return err
}

// receive reads one message into v.
func receive(r io.Reader, v any) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxFrame {
		return fmt.Errorf("a message of %d bytes is too long", n)
	}
	// The buffer grows with what really comes.
	text, err := io.ReadAll(io.LimitReader(r, int64(n)))
	if err != nil {
		return err
	}
	if len(text) < int(n) {
		return io.ErrUnexpectedEOF
	}
	return json.Unmarshal(text, v)
}

// sendFiles passes descriptors along with one byte.
func sendFiles(c *net.UnixConn, files ...*os.File) error {
	var fds []int
	for _, f := range files {
		fds = append(fds, int(f.Fd()))
	}
	_, _, err := c.WriteMsgUnix([]byte{0}, unix.UnixRights(fds...), nil)
	return err
}

// receiveFiles takes exactly n descriptors that sendFiles passed.
func receiveFiles(c *net.UnixConn, n int) ([]*os.File, error) {
	oob := make([]byte, unix.CmsgSpace(4*8))
	one := make([]byte, 1)
	_, m, flags, _, err := c.ReadMsgUnix(one, oob)
	if err != nil {
		return nil, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:m])
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for _, message := range messages {
		fds, err := unix.ParseUnixRights(&message)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "passed"))
		}
	}
	if len(files) != n || flags&unix.MSG_CTRUNC != 0 {
		for _, f := range files {
			f.Close()
		}
		return nil, fmt.Errorf("%d files were passed, not %d", len(files), n)
	}
	return files, nil
}
