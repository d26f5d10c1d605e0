package gateway

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/oriel-project/oriel/internal/agentapi"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/rfb/rfbtest"
)

// A desktop is a real X display with a window manager and a terminal, which the agent's protocol is spoken for.
type desktop struct {
	*rfbtest.Display
	socket string

	mu    sync.Mutex
	conns map[net.Conn]bool
	down  bool // the machine does not answer
}

// startDesktop needs Debian's openbox, xterm, xclip and x11-utils beside what rfbtest needs.
func startDesktop(t *testing.T) *desktop {
	d := &desktop{socket: filepath.Join(t.TempDir(), "rfb"), conns: map[net.Conn]bool{}}
	d.Display = rfbtest.Start(t, d.socket, "1280x720", "-desktop", "hello")
	d.Start("openbox")
	rfbtest.Await(t, "the window manager", func() bool {
		return d.Run("sh", "-c", "xprop -root _NET_SUPPORTING_WM_CHECK | grep -q 'window id'") == nil
	})
	d.Start("xterm", "-T", "Terminal", "-geometry", "90x24+60+60", "-fa", "DejaVu Sans Mono", "-fs", "12", "-bg", "#10141a", "-fg", "#e8eaee", "-e", "sh", "-c", "PS1='$ ' exec sh")
	return d
}

// Dial makes desktop a compute.Dialer.
func (d *desktop) Dial(ctx context.Context, id string) (net.Conn, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.down {
		return nil, fmt.Errorf("machine %s is unreachable", id)
	}
	return agent{display: d.bridge, applications: catalogue()}.Dial(ctx, id)
}

// catalogue is what someone may have added with the Image Assistant.
func catalogue() []agentapi.Application {
	var list []agentapi.Application
	for n, name := range []string{"Mousepad", "File Manager", "Terminal"} {
		icon := image.NewNRGBA(image.Rect(0, 0, 32, 32))
		for p := range 32 * 32 {
			if x, y := p%32-16, p/32-16; x*x+y*y < 200 {
				icon.Set(p%32, p/32, color.NRGBA{R: uint8(90 + 60*n), G: 140, B: uint8(230 - 60*n), A: 255})
			}
		}
		var file bytes.Buffer
		png.Encode(&file, icon)
		list = append(list, agentapi.Application{Name: strings.ReplaceAll(name, " ", ""), DisplayName: name, IconPNG: file.Bytes()})
	}
	return list
}

func (d *desktop) bridge(display net.Conn) {
	x, err := net.Dial("unix", d.socket)
	if err != nil {
		return
	}
	defer x.Close()
	d.mu.Lock()
	if down := d.down; down {
		d.mu.Unlock()
		return // it went down since it was dialled
	}
	d.conns[x] = true
	d.mu.Unlock()
	go func() {
		io.Copy(x, display)
		x.Close()
	}()
	io.Copy(display, x)
}

// drop ends all connections to the display.
func (d *desktop) drop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for c := range d.conns {
		c.Close()
		delete(d.conns, c)
	}
}

// A link is the network between browser and server. It can be cut, and it can be frozen: then nothing gets through and nobody
// is told.
type link struct {
	net.Listener
	server string

	mu     sync.Mutex
	conns  map[net.Conn]bool
	frozen chan struct{} // closed when it thaws; nil when it is not frozen
}

func newLink(t *testing.T, server string) *link {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	k := &link{Listener: l, server: server, conns: map[net.Conn]bool{}}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go k.join(c)
		}
	}()
	return k
}

func (k *link) join(browser net.Conn) {
	server, err := net.Dial("tcp", k.server)
	if err != nil {
		browser.Close()
		return
	}
	k.mu.Lock()
	k.conns[browser], k.conns[server] = true, true
	k.mu.Unlock()
	copy := func(to, from net.Conn) {
		defer to.Close()
		buffer := make([]byte, 64<<10)
		for {
			n, err := from.Read(buffer)
			k.mu.Lock()
			frozen := k.frozen
			k.mu.Unlock()
			if frozen != nil {
				<-frozen
				return // what was in it is lost
			}
			if n > 0 {
				if _, err := to.Write(buffer[:n]); err != nil {
					return
				}
			}
			if err != nil {
				return
			}
		}
	}
	go copy(server, browser)
	copy(browser, server)
}

func (k *link) cut() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for c := range k.conns {
		c.Close()
		delete(k.conns, c)
	}
}

func (k *link) freeze(on bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if on && k.frozen == nil {
		k.frozen = make(chan struct{})
	} else if !on && k.frozen != nil {
		close(k.frozen)
		k.frozen = nil
	}
}

// TestBrowser drives web/test/viewer.mjs: a real Chromium looks at a real display through the gateway. It needs node with the
// packages of web/ (npm ci), Chromium, and a display (startDesktop); ORIEL_TEST_BROWSER=1 says that they are there. With
// ORIEL_SCREENSHOTS=dir the pictures that it takes are kept. Go does not see what node reads: run it with -count=1.
func TestBrowser(t *testing.T) {
	if os.Getenv("ORIEL_TEST_BROWSER") == "" {
		t.Skip("ORIEL_TEST_BROWSER is not set")
	}
	d := startDesktop(t)
	w := newWorld(t, d, nil)
	network := newLink(t, w.server.Listener.Addr().String())
	setImage := func(state string) {
		i := &appstream.Image{Meta: appstream.Meta{ID: "img-1", State: state,
			Key: appstream.Key{Account: testAccount, Region: testRegion, Noun: appstream.NounImage, Name: "office-2026-11"}}, BuilderID: testID}
		w.store.mu.Lock()
		i.Version = w.store.images[i.Key].Version
		w.store.mu.Unlock()
		w.store.put(i, nil)
	}
	w.gate.Config.CreateImage = func(ctx context.Context, in NewImage) error {
		if in.Name == "taken" {
			return appstream.Errorf(appstream.ResourceAlreadyExists, "There is an image named taken already. Choose another name, or delete it first.")
		}
		setImage(appstream.ImagePending)
		w.put(func(b *appstream.ImageBuilder) { b.State, b.Capturing = appstream.BuilderSnapshotting, in.Name })
		return nil
	}
	// What the script may have done behind the viewer's back.
	control := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch q := r.URL.Query(); r.URL.Path {
		case "/url":
			io.WriteString(rw, strings.Replace(w.url(w.claims()), w.server.Listener.Addr().String(), network.Addr().String(), 1))
		case "/drop":
			d.drop()
		case "/down":
			d.mu.Lock()
			d.down = q.Get("is") == "true"
			d.mu.Unlock()
			d.drop()
		case "/state":
			w.put(func(b *appstream.ImageBuilder) { b.State, b.Capturing = q.Get("is"), "" })
		case "/image":
			setImage(q.Get("is"))
		case "/sever":
			network.cut()
		case "/freeze":
			network.freeze(q.Get("is") == "true")
		default:
			http.NotFound(rw, r)
		}
	}))
	defer control.Close()
	ctx := t.Context()
	if end, ok := t.Deadline(); ok { // before go test ends everything, and tells nothing
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, end.Add(-20*time.Second))
		defer cancel()
	}
	node := exec.CommandContext(ctx, "node", "test/viewer.mjs")
	node.Cancel = func() error { return node.Process.Signal(syscall.SIGTERM) }
	node.WaitDelay = 10 * time.Second
	node.Dir = "../../web"
	node.Env = append(d.Env, "ORIEL_CONTROL="+control.URL, "HOME="+os.Getenv("HOME"))
	node.Stdout = t.Output()
	node.Stderr = node.Stdout
	if err := node.Run(); err != nil {
		t.Errorf("the browser's test: %v", err)
	}
	if t.Failed() {
		t.Logf("the gateway's log:\n%s", w.log)
	}
}
