package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/cookiejar"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/coder/websocket"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/oriel-project/oriel/e2e/stage"
)

// create compares the time from CreateImageBuilder to the first picture, seen through the gateway as a browser sees it, with
// that of a container made by hand: as docker run makes it, on the engine's default bridge, and in the dual-stack network that
// the image builder is in. The difference of the latter two is what the engine takes for such a network.
func (b *bench) create(ctx context.Context) error {
	s, end, err := b.server(ctx, "create", stage.Config{Engine: b.engine})
	if err != nil {
		return err
	}
	defer end()
	c, err := s.Client()
	if err != nil {
		return err
	}
	e, err := stage.OpenEngine(b.engine)
	if err != nil {
		return err
	}
	defer e.Close()
	var oriel, running, hand, dual []time.Duration
	for n := range b.turns(15) + 1 {
		name := fmt.Sprintf("first-pixel-%d", n)
		begin := time.Now()
		if err := newBuilder(ctx, c, name); err != nil {
			return err
		}
		// As impatient as a client may be.
		for {
			builder, err := stage.Builder(ctx, c, name)
			if err != nil {
				return err
			}
			if builder.State == types.ImageBuilderStateRunning {
				break
			}
			if builder.State == types.ImageBuilderStateFailed {
				return fmt.Errorf("%s is FAILED", name)
			}
			time.Sleep(10 * time.Millisecond)
		}
		runs := time.Since(begin)
		if err := seeThroughGateway(ctx, s, c, name); err != nil {
			return err
		}
		sees := time.Since(begin)
		builder, err := e.Machine(ctx, s, name)
		if err != nil {
			return err
		}
		if err := removeBuilder(ctx, c, name); err != nil {
			return err
		}
		var byHand [2]time.Duration
		for i, network := range []string{"bridge", string(builder.HostConfig.NetworkMode)} {
			m, err := b.byHand(ctx, e, network)
			if err != nil {
				return err
			}
			if err := m.remove(ctx); err != nil {
				return err
			}
			byHand[i] = m.took
		}
		if n == 0 {
			continue // what all read from the disk for the first time
		}
		oriel, running, hand, dual = append(oriel, sees), append(running, runs), append(hand, byHand[0]), append(dual, byHand[1])
	}
	b.add(row{what: "CreateImageBuilder to the first picture through the gateway", oriel: spread(oriel), beside: spread(hand),
		comparee: "container with the same display, by hand through the engine's API", ratio: ratio(oriel, hand), goal: "≤ 1.30"})
	b.add(row{what: "the same", oriel: spread(oriel), beside: spread(dual), comparee: "such a container in the image builder's network",
		ratio: ratio(oriel, dual), goal: "≤ 1.30"})
	b.add(row{what: "CreateImageBuilder to RUNNING", oriel: spread(running)})
	return nil
}

func ratio(a, b []time.Duration) float64 { return float64(median(a)) / float64(median(b)) }

func newBuilder(ctx context.Context, c *appstream.Client, name string) error {
	_, err := c.CreateImageBuilder(ctx, &appstream.CreateImageBuilderInput{Name: &name, ImageName: new(stage.BaseImage),
		InstanceType: new("stream.standard.medium"), EnableDefaultInternetAccess: new(true)})
	return err
}

func removeBuilder(ctx context.Context, c *appstream.Client, name string) error {
	if _, err := c.DeleteImageBuilder(ctx, &appstream.DeleteImageBuilderInput{Name: &name}); err != nil {
		return err
	}
	_, err := stage.AwaitBuilder(ctx, c, name, "")
	return err
}

// seeThroughGateway opens a streaming URL as a browser does and waits for a picture.
func seeThroughGateway(ctx context.Context, s *stage.Server, c *appstream.Client, name string) error {
	url, err := c.CreateImageBuilderStreamingURL(ctx, &appstream.CreateImageBuilderStreamingURLInput{Name: &name})
	if err != nil {
		return err
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		return err
	}
	browser := &http.Client{Jar: jar}
	page, err := browser.Get(*url.StreamingURL)
	if err != nil {
		return err
	}
	page.Body.Close()
	ws, _, err := websocket.Dial(ctx, strings.Replace(s.URL, "http", "ws", 1)+page.Request.URL.Path+"/ws", &websocket.DialOptions{
		HTTPClient: browser, Subprotocols: []string{"binary"}, HTTPHeader: http.Header{"Origin": {s.URL}}})
	if err != nil {
		return err
	}
	defer ws.CloseNow()
	ws.SetReadLimit(4 << 20)
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return firstPixels(websocket.NetConn(ctx, ws, websocket.MessageBinary))
}

// handmade is a container of the base image with Xvnc and the desktop's session.
type handmade struct {
	e    *stage.Engine
	id   string
	dir  string
	took time.Duration // until its first picture
}

// script is what one writes who wants a desktop in a container and has no agent: the agent's own flags for Xvnc, then the session.
const script = `mkdir -m 1777 /tmp/.X11-unix
Xvnc :0 -geometry 1280x720 -depth 24 -nolisten tcp -noreset -SecurityTypes None -rfbunixpath /share/rfb.sock -rfbunixmode 0666 -rfbport -1 -AlwaysShared &
until [ -S /tmp/.X11-unix/X0 ]; do sleep 0.01; done
exec /etc/oriel/session`

// byHand makes such a container with the limits that an image builder's machine has, and waits for its first picture.
func (b *bench) byHand(ctx context.Context, e *stage.Engine, network string) (m *handmade, err error) {
	m = &handmade{e: e}
	if m.dir, err = os.MkdirTemp(b.dir, "h"); err != nil {
		return nil, err
	}
	if err := os.Chmod(m.dir, 0o777); err != nil {
		return nil, err
	}
	begin := time.Now()
	pids := int64(4096)
	made, err := e.ContainerCreate(ctx, client.ContainerCreateOptions{
		Config: &container.Config{Image: stage.BaseRef, User: "1000", WorkingDir: "/home/ImageBuilderAdmin", Entrypoint: []string{"/bin/sh", "-c", script},
			Env: []string{"DISPLAY=:0", "HOME=/home/ImageBuilderAdmin", "USER=ImageBuilderAdmin", "LANG=en_US.UTF-8"}},
		HostConfig: &container.HostConfig{
			NetworkMode: container.NetworkMode(network),
			Binds:       []string{m.dir + ":/share"}, CapDrop: []string{"ALL"}, SecurityOpt: []string{"no-new-privileges"}, ShmSize: 256 << 20,
			Tmpfs:     map[string]string{"/run": "rw,nosuid,nodev,mode=755,size=64m"},
			Resources: container.Resources{Memory: 4 << 30, NanoCPUs: 2e9, PidsLimit: &pids},
		},
	})
	if err != nil {
		return nil, err
	}
	m.id = made.ID
	if _, err := e.ContainerStart(ctx, m.id, client.ContainerStartOptions{}); err != nil {
		return nil, err
	}
	var conn net.Conn
	for conn == nil {
		if conn, err = net.Dial("unix", filepath.Join(m.dir, "rfb.sock")); err != nil {
			if time.Since(begin) > time.Minute {
				return nil, err
			}
			time.Sleep(time.Millisecond)
		}
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return nil, err
	}
	if err := firstPixels(conn); err != nil {
		return nil, err
	}
	m.took = time.Since(begin)
	return m, nil
}

func (m *handmade) remove(ctx context.Context) error {
	_, err := m.e.ContainerRemove(ctx, m.id, client.ContainerRemoveOptions{Force: true})
	return err
}

// frame measures from the navigation to a streaming URL to the first frame of the desktop, by the browser's clock.
func (b *bench) frame(ctx context.Context) error {
	s, end, err := b.server(ctx, "frame", stage.Config{Engine: b.engine})
	if err != nil {
		return err
	}
	defer end()
	c, err := s.Client()
	if err != nil {
		return err
	}
	if err := newBuilder(ctx, c, "frame"); err != nil {
		return err
	}
	if _, err := stage.AwaitBuilder(ctx, c, "frame", types.ImageBuilderStateRunning); err != nil {
		return err
	}
	browser, err := stage.OpenBrowser(ctx)
	if err != nil {
		return err
	}
	defer browser.Close()
	var cold, warm []time.Duration
	for n := range b.turns(10) {
		page := browser.Page(fmt.Sprintf("frame-%d", n)) // with nothing in its cache
		for _, times := range []*[]time.Duration{&cold, &warm} {
			url, err := c.CreateImageBuilderStreamingURL(ctx, &appstream.CreateImageBuilderStreamingURLInput{Name: new("frame")})
			if err != nil {
				return err
			}
			if _, err := page.Open(ctx, *url.StreamingURL); err != nil {
				return err
			}
			took, err := page.FirstFrame(ctx)
			if err != nil {
				return err
			}
			*times = append(*times, took)
		}
		if _, err := page.Close(ctx); err != nil {
			return err
		}
	}
	b.add(row{what: "streaming URL opened to the first frame in Chromium, new profile", oriel: spread(cold)})
	b.add(row{what: "the same, viewer in the browser's cache", oriel: spread(warm)})
	return nil
}
