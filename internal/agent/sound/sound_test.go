package sound

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/thesyncim/gopus"
	"golang.org/x/sys/unix"

	"github.com/oriel-project/oriel/internal/agentapi"
)

// program is a pretended process.
type program struct {
	argv  []string
	files []*os.File // its own
	done  chan struct{}
	end   func()
}

func (p *program) Done() <-chan struct{} { return p.done }
func (p *program) End()                  { p.end(); <-p.done }

// stage starts pretended programs and hands them to the test.
type stage struct {
	started chan *program
}

func (s stage) start(argv, env []string, files []*os.File) (Process, error) {
	p := &program{argv: argv, done: make(chan struct{})}
	for _, f := range files {
		if f != nil {
			f = dup(f)
		}
		p.files = append(p.files, f)
	}
	p.end = sync.OnceFunc(func() {
		for _, f := range p.files {
			f.Close()
		}
		close(p.done)
	})
	s.started <- p
	return p, nil
}

func dup(f *os.File) *os.File {
	raw, err := f.SyscallConn()
	if err != nil {
		panic(err)
	}
	var d *os.File
	raw.Control(func(fd uintptr) { d, err = dupFD(fd, f.Name()) })
	if err != nil {
		panic(err)
	}
	return d
}

func newSound(t *testing.T) (*Sound, stage, context.CancelFunc) {
	t.Helper()
	dir, err := os.MkdirTemp("", "oriel-sound-test") // short enough for a socket's address
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	st := stage{make(chan *program, 10)}
	ctx, cancel := context.WithCancel(t.Context())
	s, err := New(ctx, "/etc/oriel/sound", filepath.Join(dir, "sound"), os.Getuid(), os.Getgid(), st.start, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); s.Wait() })
	return s, st, cancel
}

func (s stage) next(t *testing.T, name string) *program {
	t.Helper()
	select {
	case p := <-s.started:
		if filepath.Base(p.argv[0]) != name {
			t.Fatalf("%q was started, want %s", p.argv, name)
		}
		return p
	case <-time.After(time.Minute):
		t.Fatalf("%s was not started", name)
	}
	return nil
}

func (s stage) none(t *testing.T) {
	t.Helper()
	select {
	case p := <-s.started:
		t.Errorf("%q was started", p.argv)
	case <-time.After(50 * time.Millisecond):
	}
}

// tone gives frames of a tone of 440 Hz.
func tone(frames int, amplitude float64) []byte {
	var b []byte
	for n := range frames * frameSamples {
		v := uint16(int16(amplitude * 32767 * math.Sin(2*math.Pi*440*float64(n)/agentapi.SoundRate)))
		b = binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint16(b, v), v)
	}
	return b
}

// loudness decodes packets and gives the root of the mean square of the last
// half of them.
func loudness(t *testing.T, packets [][]byte) float64 {
	t.Helper()
	d, err := gopus.NewDecoder(gopus.DefaultDecoderConfig(agentapi.SoundRate, channels))
	if err != nil {
		t.Fatal(err)
	}
	sum, count := 0.0, 0
	pcm := make([]float32, frameSamples*channels)
	for i, p := range packets {
		n, err := d.Decode(p, pcm)
		if err != nil || n != frameSamples {
			t.Fatalf("packet %d has %d samples, %v", i, n, err)
		}
		if i < len(packets)/2 {
			continue
		}
		for _, v := range pcm {
			sum += float64(v) * float64(v)
			count++
		}
	}
	return math.Sqrt(sum / float64(count))
}

func take(t *testing.T, l *Listener, n int) (packets [][]byte) {
	t.Helper()
	for range n {
		select {
		case p := <-l.Packets():
			packets = append(packets, p)
		case <-time.After(time.Minute):
			t.Fatalf("%d packets, want %d", len(packets), n)
		}
	}
	return packets
}

func TestSound(t *testing.T) {
	s, st, cancel := newSound(t)
	if !slices.Contains(s.Env(), "PULSE_SERVER=unix:"+filepath.Join(s.dir, "native")) {
		t.Errorf("%q", s.Env())
	}
	l := s.Listen()
	st.none(t) // nothing plays yet

	conn, err := net.Dial("unix", filepath.Join(s.dir, "native"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	server := st.next(t, "sound")
	if len(server.files) != 5 || server.files[3] == nil || server.files[4] == nil {
		t.Fatalf("the sound server has the descriptors %v", server.files)
	}
	recorder := st.next(t, "parec")
	played := tone(20, .5)
	go recorder.files[1].Write(played)
	packets := take(t, l, 20)
	if got, want := loudness(t, packets), .5/math.Sqrt2; math.Abs(got-want) > .02 {
		t.Errorf("the tone is %.3f loud, want %.3f", got, want)
	}

	// Silence ends after a moment, and sound begins again.
	go recorder.files[1].Write(slices.Concat(make([]byte, 50*frameBytes), tone(1, .5)))
	if n := len(take(t, l, tail+1)); n != tail+1 {
		t.Error(n)
	}
	select {
	case <-l.Packets():
		t.Error("silence is sent")
	case <-time.After(50 * time.Millisecond):
	}

	// Another one, as at a reconnect; one that does not read loses only its own.
	other := s.Listen()
	for range 4 { // no more at a time than who reads may be behind
		go recorder.files[1].Write(tone(queue/2, .5))
		take(t, other, queue/2)
	}
	if got := len(l.Packets()); got == 0 || got > queue {
		t.Errorf("%d packets wait for who does not read", got)
	}
	l.Close()
	other.Close()
	select {
	case <-recorder.done:
	case <-time.After(time.Minute):
		t.Fatal("nobody listens, and it is recorded")
	}
	st.none(t)
	s.Listen()
	again := st.next(t, "parec")
	cancel()
	s.Wait()
	<-again.done
	<-server.done
}

// TestServerEnds: a sound server that has ended is started again for the next
// program, or for one that still waits.
func TestServerEnds(t *testing.T) {
	s, st, _ := newSound(t)
	for range 2 {
		conn, err := net.Dial("unix", filepath.Join(s.dir, pipewire))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		server := st.next(t, "sound")
		// It takes the connection, as a sound server does.
		c, err := net.FileListener(server.files[4])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Accept(); err != nil {
			t.Fatal(err)
		}
		c.Close()
		server.end()
		st.none(t)
	}
}

// TestPace: a recorder that writes without end costs no more than one that
// records.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Sound{changed: make(chan struct{}), listeners: map[*Listener]struct{}{}}
		began := time.Now()
		const seconds = 5
		if err := s.encode(bytes.NewReader(make([]byte, seconds*50*frameBytes))); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
		if took := time.Since(began); took != seconds*time.Second-ahead {
			t.Errorf("%d seconds of sound took %v", seconds, took)
		}
	})
}

func TestEncoderSilence(t *testing.T) {
	e, err := newEncoder()
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if p, err := e.encode(make([]byte, frameBytes)); p != nil || err != nil {
			t.Errorf("silence from the beginning: %d bytes, %v", len(p), err)
		}
	}
	sent := 0
	for frame := range slices.Chunk(slices.Concat(tone(10, .9), make([]byte, 30*frameBytes)), frameBytes) {
		p, err := e.encode(frame)
		if err != nil || len(p) > agentapi.MaxPacket {
			t.Fatalf("%d bytes, %v", len(p), err)
		}
		if p != nil {
			sent++
		}
	}
	if sent != 10+tail {
		t.Errorf("%d packets, want %d", sent, 10+tail)
	}
}

// TestRate: what is heard costs about 96 kbit/s, whatever it is.
func TestRate(t *testing.T) {
	e, err := newEncoder()
	if err != nil {
		t.Fatal(err)
	}
	bytes, frame := 0, make([]byte, frameBytes)
	const frames = 100
	state := uint32(1)
	for range frames {
		for i := range frame {
			state = state*1664525 + 1013904223
			frame[i] = byte(state >> 24)
		}
		p, err := e.encode(frame)
		if err != nil || len(p) == 0 || len(p) > agentapi.MaxPacket {
			t.Fatalf("%d bytes, %v", len(p), err)
		}
		bytes += len(p)
	}
	if rate := float64(bytes) * 8 / (frames * agentapi.SoundFrame.Seconds()); rate < 64_000 || rate > 144_000 {
		t.Errorf("noise takes %.0f bit/s", rate)
	}
}

func TestRecorderCommand(t *testing.T) {
	if got := strings.Join(recorder, " "); !strings.Contains(got, "--rate=48000") || !strings.Contains(got, "--latency-msec=20") {
		t.Error(got)
	}
}

func BenchmarkEncode(b *testing.B) {
	e, err := newEncoder()
	if err != nil {
		b.Fatal(err)
	}
	played := tone(100, .5)
	for n := 0; b.Loop(); n++ {
		if _, err := e.encode(played[n%100*frameBytes:][:frameBytes]); err != nil && err != io.EOF {
			b.Fatal(err)
		}
	}
}

func dupFD(fd uintptr, name string) (*os.File, error) {
	n, err := unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(n), name), nil
}

// FuzzEncode: the samples are made by programs that are not trusted.
func FuzzEncode(f *testing.F) {
	f.Add([]byte{0})
	f.Add([]byte{0xff, 0x7f, 0x00, 0x80})
	f.Add(tone(1, 1)[:400])
	f.Fuzz(func(t *testing.T, seed []byte) {
		if len(seed) == 0 {
			return
		}
		e, err := newEncoder()
		if err != nil {
			t.Fatal(err)
		}
		frame := make([]byte, frameBytes)
		for n := range 8 {
			for i := range frame {
				frame[i] = seed[(i*(n+1))%len(seed)] // the same bytes at another pace each time
			}
			if p, err := e.encode(frame); err != nil || len(p) > agentapi.MaxPacket {
				t.Fatalf("%d bytes, %v", len(p), err)
			}
		}
	})
}
