// Package sound is what the programs of a session play, as packets of Opus for
// the person's browser.
//
// The sound server is the image's: its program /etc/oriel/sound, which speaks
// the protocols of PulseAudio and PipeWire and plays into nothing. It is
// started by the first program that connects to one of its sockets, which are
// listened on from the beginning; a session that is silent has no sound server.
//
// While somebody listens, a recorder (parec) hands over what is played. It is
// passive: it does not keep the sound server busy by itself, so that neither
// uses any CPU while nothing is played. The packets are encoded here and not
// by a program beside the recorder, because opusenc, the one that Debian has,
// collects a third of a second before it encodes; what comes in are samples
// of which every value is possible, and the encoder is written in Go.
package sound

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/oriel-project/oriel/internal/agentapi"
)

const (
	firstBackOff = time.Second // after a program has failed; doubled each time
	lastBackOff  = 30 * time.Second
	healthy      = 30 * time.Second // a program that lived so long starts anew
	queue        = 25               // packets that wait for one listener: half a second
	backlog      = 64               // of connections to the sound server
	ahead        = time.Second      // of the clock, that sound may come
)

// Process is a program that runs as the session's user.
type Process interface {
	Done() <-chan struct{} // closed when it has ended
	End()                  // ends it, and returns when it has ended
}

// Starter starts a program as the session's user. Env is added to what the
// user's programs have; files become the descriptors 0, 1, 2, …, where nil is
// an empty input, and the log for output.
type Starter func(argv, env []string, files []*os.File) (Process, error)

// Sound is the sound of one session.
type Sound struct {
	server  string // the program of the image
	dir     string // where its sockets are
	start   Starter
	log     *slog.Logger
	sockets []*os.File
	done    sync.WaitGroup

	mu        sync.Mutex
	changed   chan struct{} // closed and replaced when one of the following changes
	serving   bool          // the sound server runs
	listeners map[*Listener]struct{}
}

// The sockets of the sound server, as PulseAudio and PipeWire call them.
const (
	pulse    = "native"
	pipewire = "pipewire-0"
)

// New prepares the sound of a session in dir, which is made and becomes the
// user's. It ends with ctx; Wait returns when it has.
func New(ctx context.Context, server, dir string, uid, gid int, start Starter, log *slog.Logger) (*Sound, error) {
	s := &Sound{
		server: server, dir: dir, start: start, log: log,
		changed: make(chan struct{}), listeners: map[*Listener]struct{}{},
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	for _, name := range []string{pulse, pipewire} {
		socket, err := listen(filepath.Join(dir, name), uid, gid)
		if err != nil {
			s.close()
			return nil, fmt.Errorf("listen for programs that play: %w", err)
		}
		s.sockets = append(s.sockets, socket)
	}
	// Only now, so that the user could not put something in the sockets' way.
	if err := os.Chown(dir, uid, gid); err != nil {
		s.close()
		return nil, err
	}
	s.done.Go(func() { s.keepServer(ctx) })
	s.done.Go(func() { s.keepRecorder(ctx) })
	return s, nil
}

// Env is what the programs of the session need to find the sound server, and
// this to find its place.
func (s *Sound) Env() []string {
	return []string{"PULSE_SERVER=unix:" + filepath.Join(s.dir, pulse), "PULSE_RUNTIME_PATH=" + s.dir, "PIPEWIRE_RUNTIME_DIR=" + s.dir}
}

// Wait returns when the sound has ended, after the end of its context.
func (s *Sound) Wait() {
	s.done.Wait()
	s.close()
}

func (s *Sound) close() {
	for _, f := range s.sockets {
		f.Close()
	}
}

// listen opens a socket for the sound server, of which the agent only wants to
// know when the first program connects. So it is no net.Listener: that would
// accept, and could not be waited for without.
func listen(path string, uid, gid int) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), path)
	err = os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrUnix{Name: path}))
	if err == nil {
		err = errors.Join(os.Lchown(path, uid, gid), os.Chmod(path, 0o600), os.NewSyscallError("listen", unix.Listen(fd, backlog)))
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// awaitProgram returns nil when a program wants to connect.
func (s *Sound) awaitProgram(ctx context.Context) error {
	ready := make(chan error, len(s.sockets))
	for _, f := range s.sockets {
		raw, err := f.SyscallConn()
		if err != nil {
			return err
		}
		go func() {
			var failed error
			err := raw.Read(func(fd uintptr) bool {
				n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
				failed = err
				return n > 0 || err != nil && err != unix.EINTR
			})
			ready <- errors.Join(err, failed)
		}()
	}
	var err error
	left := len(s.sockets)
	select {
	case err = <-ready:
		left--
	case <-ctx.Done():
		err = ctx.Err()
	}
	for _, f := range s.sockets {
		f.SetReadDeadline(time.Unix(1, 0))
	}
	for range left {
		<-ready
	}
	for _, f := range s.sockets {
		f.SetReadDeadline(time.Time{})
	}
	return err
}

// keepServer runs the sound server when it is wanted.
func (s *Sound) keepServer(ctx context.Context) {
	var wait backOff
	for {
		if err := s.awaitProgram(ctx); err != nil {
			if ctx.Err() == nil {
				s.log.Error("wait for programs that play", "error", err)
			}
			return
		}
		began := time.Now()
		// As systemd hands sockets over: from descriptor 3 on. The process
		// adds its own number, LISTEN_PID.
		p, err := s.start([]string{s.server}, append(s.Env(), "LISTEN_FDS="+strconv.Itoa(len(s.sockets))), append([]*os.File{nil, nil, nil}, s.sockets...))
		if err == nil {
			s.change(func() { s.serving = true })
			select {
			case <-p.Done():
			case <-ctx.Done():
				p.End()
			}
			s.change(func() { s.serving = false })
			err = errors.New("it ended")
		}
		if ctx.Err() != nil {
			return
		}
		s.log.Warn("sound server", "error", err)
		wait.sleep(ctx, time.Since(began))
	}
}

// keepRecorder runs the recorder while there is something to record and
// somebody to hear it.
func (s *Sound) keepRecorder(ctx context.Context) {
	var wait backOff
	for s.waitUntil(ctx, s.wanted) {
		began := time.Now()
		if err := s.record(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("record sound", "error", err)
			wait.sleep(ctx, time.Since(began))
		}
	}
}

// wanted tells whether there is something to record; s.mu is held.
func (s *Sound) wanted() bool { return s.serving && len(s.listeners) > 0 }

// recorder is the command that writes what is played to its output.
var recorder = []string{"/usr/bin/parec", "--raw", "--format=s16le", "--rate=" + strconv.Itoa(agentapi.SoundRate), "--channels=2",
	"--latency-msec=" + strconv.FormatInt(agentapi.SoundFrame.Milliseconds(), 10), "--device=@DEFAULT_MONITOR@",
	"--property=node.passive=true", "--client-name=Oriel"}

// record runs the recorder until nobody listens, or it ends.
func (s *Sound) record(ctx context.Context) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	p, err := s.start(recorder, s.Env(), []*os.File{nil, w, nil})
	w.Close()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var end sync.WaitGroup
	end.Go(func() {
		s.waitUntil(ctx, func() bool { return !s.wanted() })
		p.End() // closes the pipe, which ends encode
	})
	err = s.encode(r)
	cancel()
	end.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.wanted() {
		return nil
	}
	return err
}

// encode sends what it reads to the listeners, no faster than it is heard: the
// recorder is the person's, whose programs can have it write anything.
func (s *Sound) encode(r io.Reader) error {
	e, err := newEncoder()
	if err != nil {
		return err
	}
	frame := make([]byte, frameBytes)
	heard := time.Now() // when what has come is over
	for {
		if _, err := io.ReadFull(r, frame); err != nil {
			return fmt.Errorf("the recorder ended: %w", err)
		}
		now := time.Now()
		if heard.Before(now) {
			heard = now
		}
		heard = heard.Add(agentapi.SoundFrame)
		time.Sleep(heard.Sub(now) - ahead)
		packet, err := e.encode(frame)
		if err != nil {
			return err
		}
		if packet != nil {
			s.send(packet)
		}
	}
}

// send gives a packet to every listener. One that is behind loses what waits
// for it: sound that is late is worth nothing.
func (s *Sound) send(packet []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for l := range s.listeners {
		for {
			select {
			case l.packets <- packet:
			default:
				l.drop()
				continue
			}
			break
		}
	}
}

// Listener hears the sound.
type Listener struct {
	sound   *Sound
	packets chan []byte
}

// Listen begins to listen. The caller closes what it gets.
func (s *Sound) Listen() *Listener {
	l := &Listener{s, make(chan []byte, queue)}
	s.change(func() { s.listeners[l] = struct{}{} })
	return l
}

// Packets gives the packets as they are played. They are not to be changed.
func (l *Listener) Packets() <-chan []byte { return l.packets }

// Close ends listening.
func (l *Listener) Close() { l.sound.change(func() { delete(l.sound.listeners, l) }) }

// drop empties the queue.
func (l *Listener) drop() {
	for {
		select {
		case <-l.packets:
		default:
			return
		}
	}
}

// change runs f under the lock and wakes who waits for a change.
func (s *Sound) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.changed)
	s.changed = make(chan struct{})
}

// waitUntil returns true when cond (called under the lock) holds, false when
// ctx ends first.
func (s *Sound) waitUntil(ctx context.Context, cond func() bool) bool {
	for {
		s.mu.Lock()
		ok, changed := cond(), s.changed
		s.mu.Unlock()
		if ctx.Err() != nil {
			return false
		}
		if ok {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// backOff grows with each failure.
type backOff struct{ next time.Duration }

// sleep waits after something that has failed after it lived for so long.
func (b *backOff) sleep(ctx context.Context, lived time.Duration) {
	if lived >= healthy || b.next == 0 {
		b.next = firstBackOff
	}
	select {
	case <-time.After(b.next):
	case <-ctx.Done():
	}
	b.next = min(2*b.next, lastBackOff)
}
