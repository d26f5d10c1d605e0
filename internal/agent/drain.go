package agent

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// drain reads what programs write into a pipe. What a program has left running
// may hold the pipe for ever; settle tells all the same when the words of one
// that has ended have been read.
type drain struct {
	pipe *os.File
	done chan struct{} // closed when all was read

	mu    sync.Mutex
	asked []chan struct{} // each is closed when the pipe is empty
	rest  int             // how many bytes more it may have been at most
}

// maxRest is the most that a pipe can hold, by the kernel's default for who is
// not root, in bytes.
const maxRest = 1 << 20

// newDrain makes a pipe, for programs to write into, and has consume read it to
// its end.
func newDrain(consume func(io.Reader)) (d *drain, write *os.File, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	d = &drain{pipe: r, done: make(chan struct{})}
	go func() {
		defer close(d.done)
		defer r.Close()
		consume(d)
	}()
	return d, w, nil
}

// settle returns when all has been consumed that was written before.
func (d *drain) settle() {
	empty := make(chan struct{})
	d.mu.Lock()
	d.asked, d.rest = append(d.asked, empty), maxRest
	d.pipe.SetReadDeadline(time.Unix(1, 0)) // interrupts Read
	d.mu.Unlock()
	select {
	case <-empty:
	case <-d.done:
	}
}

// Read is called by consume, again when it has dealt with what it has read.
func (d *drain) Read(b []byte) (int, error) {
	for {
		n, err := d.pipe.Read(b)
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		if n, err = d.readThere(b); n > 0 || err != nil {
			return n, err
		}
	}
}

// readThere reads without waiting. When there is nothing more, who asked for
// that is told.
func (d *drain) readThere(b []byte) (n int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	raw, err := d.pipe.SyscallConn()
	if err != nil {
		return 0, err
	}
	if d.rest > 0 {
		e := raw.Control(func(fd uintptr) {
			for n, err = -1, unix.EINTR; err == unix.EINTR; {
				n, err = unix.Read(int(fd), b)
			}
		})
		switch {
		case e != nil:
			return 0, e
		case n > 0:
			d.rest -= n
			return n, nil
		case err == nil:
			return 0, io.EOF
		case err != unix.EAGAIN:
			return 0, err
		}
	}
	d.pipe.SetReadDeadline(time.Time{})
	for _, empty := range d.asked {
		close(empty)
	}
	d.asked = nil
	return 0, nil
}
