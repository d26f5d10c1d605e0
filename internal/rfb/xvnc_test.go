package rfb

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oriel-project/oriel/internal/rfb/rfbtest"
)

// TestRealDisplay follows a real Xvnc, on which much is drawn, in each encoding that it has. It needs Debian's tigervnc-standalone-server,
// xterm, x11-xserver-utils and xclip; ORIEL_TEST_BROWSER=1 says that they are there.
func TestRealDisplay(t *testing.T) {
	if os.Getenv("ORIEL_TEST_BROWSER") == "" {
		t.Skip("ORIEL_TEST_BROWSER is not set")
	}
	dir := t.TempDir()
	socket := filepath.Join(dir, "rfb")
	d := rfbtest.Start(t, socket, "801x603")
	d.Start("xterm", "-geometry", "100x30", "-e", "sh", "-c", "while :; do ls -l --color=always /usr/bin; done")

	pseudo := []int32{pseudoDesktopSize, pseudoLastRect, pseudoQEMUKey, pseudoQEMULED, pseudoExtendedDesktopSize, -309, pseudoFence, pseudoContinuousUpdates,
		pseudoDesktopName, pseudoExtendedClipboard, -316, pseudoVMwareCursor, pseudoCursor}
	for name, list := range map[string][]int32{"Tight with JPEG": {encodingCopyRect, encodingTight, -26, -254}, "Tight": {encodingTight, -247}, "ZRLE": {encodingZRLE},
		"Hextile": {encodingHextile}, "RRE": {encodingRRE}, "Raw": {encodingCopyRect}, "what noVNC asks for": {encodingCopyRect, 50, encodingTight, -260, encodingZRLE, 21, encodingHextile, encodingRRE, 6, encodingRaw, -26, -254}} {
		for _, format := range [][]byte{format24, format16} {
			conn, err := net.Dial("unix", socket)
			if err != nil {
				t.Fatal(err)
			}
			var mu sync.Mutex
			var refused []string
			f := NewFilter(Rules{CopyIn: true}, Events{Refused: func(d Direction, r Reason) {
				mu.Lock()
				defer mu.Unlock()
				refused = append(refused, string(d)+" "+string(r))
			}})
			over := make(chan error, 1)
			var raw, filtered bytes.Buffer
			var passed atomic.Int64 // bytes
			begun := make(chan bool)
			go func() {
				buffer := make([]byte, 64<<10)
				ready := false
				for {
					n, err := conn.Read(buffer)
					raw.Write(buffer[:n])
					if ferr := f.FromDisplay(&filtered, buffer[:n]); ferr != nil {
						over <- ferr
						return
					}
					passed.Store(int64(filtered.Len()))
					if !ready && f.format.Load() != 0 {
						ready = true
						close(begun)
					}
					if err != nil {
						over <- err
						return
					}
				}
			}()
			tell := func(message []byte) {
				t.Helper()
				if err := f.FromViewer(conn, message); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
			}
			tell(viewerHello())
			<-begun
			tell(join([]byte{setPixelFormat, 0, 0, 0}, format, encodings(append(slices.Clone(list), pseudo...)...)))
			tell(join([]byte{updateRequest, 0}, u16(0), u16(0), u16(801), u16(603)))
			tell(join([]byte{enableContinuous, 1}, u16(0), u16(0), u16(801), u16(603)))
			tell(join([]byte{pointerEvent, 0}, u16(200), u16(200)))
			// For a while, and however slow the machine is, until there is something to look at.
			began := time.Now()
			rfbtest.Await(t, "what "+name+" shows", func() bool {
				tell(join([]byte{updateRequest, 1}, u16(0), u16(0), u16(801), u16(603)))
				return time.Since(began) > 500*time.Millisecond && f.Frames() >= 2 && passed.Load() >= 10_000
			})
			cmd := exec.CommandContext(t.Context(), "xclip", "-selection", "clipboard")
			cmd.Env, cmd.Stdin = d.Env, strings.NewReader("for your eyes only")
			if err := cmd.Run(); err != nil {
				t.Fatal(err)
			}
			rfbtest.Await(t, "the copied text", func() bool {
				mu.Lock()
				defer mu.Unlock()
				return slices.Contains(refused, "out disabled")
			})
			conn.Close()
			if err := <-over; err != nil && !errors.Is(err, net.ErrClosed) && err != io.EOF {
				t.Errorf("%s, %d bytes a pixel: %v", name, f.pixels().bytes, err)
			}
			if f.Frames() < 2 || filtered.Len() < 10_000 || filtered.Len() >= raw.Len() {
				t.Errorf("%s: %d frames, %d bytes, of which %d passed", name, f.Frames(), raw.Len(), filtered.Len())
			}
			t.Logf("%s, %d bytes a pixel: %d frames, %d bytes", name, f.pixels().bytes, f.Frames(), raw.Len())
		}
	}

	// A program that pastes a text which is too long is told that there is none: it does not wait for ever.
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	f := NewFilter(Rules{CopyIn: true, CopyInMax: 3}, Events{})
	begun, asked := make(chan bool), make(chan bool)
	go func() {
		buffer := make([]byte, 64<<10)
		var all bytes.Buffer
		begunToo, askedToo := begun, asked
		for {
			n, err := conn.Read(buffer)
			if f.FromDisplay(&all, buffer[:n]) != nil || err != nil {
				return
			}
			if begunToo != nil && f.format.Load() != 0 {
				close(begunToo)
				begunToo = nil
			}
			if askedToo != nil && bytes.Contains(all.Bytes(), extended(serverCutText, clipRequest|clipText, nil)) {
				close(askedToo)
				askedToo = nil
			}
		}
	}()
	tell := func(message []byte) {
		t.Helper()
		if err := f.FromViewer(conn, message); err != nil {
			t.Fatal(err)
		}
	}
	tell(viewerHello())
	<-begun
	tell(encodings(encodingRaw, pseudoExtendedClipboard))
	tell(extended(clientCutText, clipCaps|clipRequest|clipPeek|clipNotify|clipProvide|clipText, u32(0)))
	tell(extended(clientCutText, clipNotify|clipText, nil))
	rfbtest.Await(t, "the viewer's clipboard", func() bool {
		return d.Run("sh", "-c", "xclip -o -selection clipboard -t TARGETS | grep -q UTF8_STRING") == nil
	})
	pasted := make(chan error, 1)
	go func() { pasted <- d.Run("xclip", "-o", "-selection", "clipboard") }()
	<-asked
	tell(provide(clientCutText, "too long"))
	select {
	case err := <-pasted:
		t.Logf("pasting ended with %v", err)
	case <-time.After(time.Minute):
		t.Error("the program waits for a text that does not come")
	}
}
