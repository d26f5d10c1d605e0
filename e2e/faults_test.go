package e2e

import (
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/moby/moby/client"

	"github.com/oriel-project/oriel/e2e/stage"
)

// TestMachineFaults does to machines what should not happen to them, each to one of its own.
func TestMachineFaults(t *testing.T) {
	t.Parallel()
	w := withMachines(t, "")

	// Whatever ends the agent ends the machine. It is started again, with its disk.
	for _, test := range []struct {
		name string
		end  func(t *testing.T, id string)
	}{
		{"killed-container", func(t *testing.T, id string) {
			must(w.engine.ContainerKill(limit(t), id, client.ContainerKillOptions{Signal: "SIGKILL"}))(t)
		}},
		{"killed-agent", func(t *testing.T, id string) {
			m := must(w.engine.ContainerInspect(limit(t), id, client.ContainerInspectOptions{}))(t).Container
			if err := syscall.Kill(m.State.Pid, syscall.SIGKILL); err != nil {
				t.Skipf("skipped: the machine's first process cannot be killed from here: %v", err)
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w.create(t, test.name, stage.BaseImage)
			id := w.machine(t, test.name)
			w.inside(t, id, "echo kept > /etc/kept")
			began := time.Now()
			test.end(t, id)
			var seen []types.ImageBuilderState
			until(t, "RUNNING again", func() error {
				b, err := stage.Builder(limit(t), w.aws, test.name)
				if err != nil {
					return err
				}
				if len(seen) == 0 || seen[len(seen)-1] != b.State {
					seen = append(seen, b.State)
				}
				m, err := w.engine.Machine(limit(t), w.Server, test.name)
				if err != nil || b.State != types.ImageBuilderStateRunning || !m.State.Running || !strings.Contains(w.events(test.name), "REBOOTING") {
					return fmt.Errorf("the builder was %s: %v", seen, err)
				}
				return nil
			})
			t.Logf("RUNNING again after %s", time.Since(began).Round(time.Millisecond))
			if got := w.inside(t, w.machine(t, test.name), "cat /etc/kept"); got != "kept" {
				t.Errorf("the machine's disk has %q", got)
			}
			w.remove(t, test.name)
		})
	}

	t.Run("removed", func(t *testing.T) {
		const name = "removed"
		w.create(t, name, stage.BaseImage)
		must(w.engine.ContainerRemove(limit(t), w.machine(t, name), client.ContainerRemoveOptions{Force: true}))(t)
		b := w.await(t, name, types.ImageBuilderStateFailed)
		if len(b.ImageBuilderErrors) == 0 || !strings.Contains(*b.StateChangeReason.Message, "vanished") {
			t.Errorf("the reason is %+v, %+v", b.StateChangeReason, b.ImageBuilderErrors)
		}
		must(w.aws.StartImageBuilder(limit(t), &appstream.StartImageBuilderInput{Name: new(name)}))(t)
		w.await(t, name, types.ImageBuilderStateRunning)
		w.inside(t, w.machine(t, name), "true")
		w.remove(t, name)
	})
	w.checkEmpty(t)
}

// events gives what the server's log says of one image builder.
func (w *world) events(name string) string {
	var found strings.Builder
	for line := range strings.Lines(w.Log()) {
		if strings.Contains(line, `"name":"`+name+`"`) {
			found.WriteString(line)
		}
	}
	return found.String()
}

// TestStreamFaults breaks what is behind an open viewer. It comes back by itself.
func TestStreamFaults(t *testing.T) {
	needBrowser(t)
	t.Parallel()
	w := withMachines(t, "")
	w.create(t, "seen", stage.BaseImage)
	d := w.look(t, "seen", w.streamingURL(t, "seen"))

	t.Run("display killed", func(t *testing.T) {
		began := time.Now()
		check(t, d.Passes(limit(t), func() {
			w.inside(t, d.machine, `kill -9 $(grep -lx Xvnc /proc/[0-9]*/comm | cut -d/ -f3)`)
		}, "reconnecting", "waiting"))
		check(t, d.State(limit(t), "connected"))
		t.Logf("connected again after %s", time.Since(began).Round(time.Millisecond))
		if s := w.states(t)["seen"]; s != types.ImageBuilderStateRunning {
			t.Errorf("the builder is %s", s)
		}
		if e := w.events("seen"); strings.Contains(e, "REBOOTING") {
			t.Errorf("the machine was started anew:\n%s", e)
		}
		until(t, "the desktop is back", func() error {
			pic, err := d.Picture(limit(t))
			if err == nil && (pic.Colours < 100 || pic.Bright < 50) {
				err = fmt.Errorf("that is no desktop: %+v", pic)
			}
			return err
		})
	})

	t.Run("server restarted", func(t *testing.T) {
		before := must(w.engine.Machine(limit(t), w.Server, "seen"))(t)
		began := time.Now()
		check(t, w.Stop())
		check(t, d.State(limit(t), "reconnecting"))
		check(t, w.Again(limit(t)))
		check(t, d.State(limit(t), "connected"))
		t.Logf("connected again %s after the server was told to stop", time.Since(began).Round(time.Millisecond))
		after := must(w.engine.Machine(limit(t), w.Server, "seen"))(t)
		if before.ID != after.ID || before.State.StartedAt != after.State.StartedAt {
			t.Errorf("the machine was started at %s, and now at %s", before.State.StartedAt, after.State.StartedAt)
		}
	})

	t.Run("machine restarted", func(t *testing.T) {
		check(t, d.Passes(limit(t), func() {
			must(w.engine.ContainerKill(limit(t), d.machine, client.ContainerKillOptions{Signal: "SIGKILL"}))(t)
		}, "reconnecting", "waiting"))
		check(t, d.State(limit(t), "connected"))
	})
	w.remove(t, "seen")
	check(t, d.State(limit(t), "ended"))
	w.checkEmpty(t)
}

// visit opens a streaming URL as a browser does, with cookies, and gives the status of the page that it leads to, and its text.
func visit(t *testing.T, address string) (status int, text string) {
	t.Helper()
	jar := must(cookiejar.New(nil))(t)
	r := must((&http.Client{Jar: jar, Timeout: patience}).Get(address))(t)
	defer r.Body.Close()
	var page strings.Builder
	if err := r.Write(&page); err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, page.String()
}

// TestTickets opens streaming URLs that are not to be opened.
func TestTickets(t *testing.T) {
	w := open(t, stage.Config{Flags: []string{"--sim-delay=10ms"}, TOML: `
[[endpoint]]
id = "vpce-here"
cidrs = ["127.0.0.0/8"]

[[endpoint]]
id = "vpce-elsewhere"
cidrs = ["192.0.2.0/24"]
`})
	behind := func(endpoint string) func(*appstream.CreateImageBuilderInput) {
		return func(in *appstream.CreateImageBuilderInput) {
			in.AccessEndpoints = []types.AccessEndpoint{{EndpointType: types.AccessEndpointTypeStreaming, VpceId: &endpoint}}
		}
	}
	w.create(t, "open", stage.BaseImage)
	w.create(t, "here", stage.BaseImage, behind("vpce-here"))
	w.create(t, "elsewhere", stage.BaseImage, behind("vpce-elsewhere"))
	w.create(t, "gone", stage.BaseImage)
	good := w.streamingURL(t, "open")
	gone := w.streamingURL(t, "gone")
	w.remove(t, "gone")
	brief := must(w.aws.CreateImageBuilderStreamingURL(limit(t), &appstream.CreateImageBuilderStreamingURLInput{Name: new("open"), Validity: new(int64(1))}))(t)

	u := must(url.Parse(good))(t)
	altered := func(key string, at int) string {
		q := u.Query()
		text := []byte(q.Get(key))
		text[at] ^= 1
		q.Set(key, string(text))
		changed := *u
		changed.RawQuery = q.Encode()
		return changed.String()
	}
	for _, test := range []struct {
		name, url string
		status    int
		code      string
	}{
		{"good", good, 200, ""},
		{"good, a second time", good, 200, ""},
		{"from an endpoint that is allowed", w.streamingURL(t, "here"), 200, ""},
		{"from an endpoint that is not", w.streamingURL(t, "elsewhere"), 403, "address"},
		{"other parameters", altered("parameters", 20), 403, "invalid"},
		{"other signature", altered("signature", 5), 403, "invalid"},
		{"without a signature", strings.TrimSuffix(good, u.Query().Get("signature")), 403, "invalid"},
		{"of a builder that was deleted", gone, 410, "deleted"},
	} {
		t.Run(test.name, func(t *testing.T) {
			status, page := visit(t, test.url)
			if status != test.status || test.code != "" && !strings.Contains(page, `data-code="`+test.code+`"`) {
				t.Errorf("%d, want %d with the code %q\n%s", status, test.status, test.code, page)
			}
		})
	}
	until(t, "the brief one expires", func() error {
		status, page := visit(t, *brief.StreamingURL)
		if status != 403 || !strings.Contains(page, `data-code="expired"`) {
			return fmt.Errorf("%d", status)
		}
		return nil
	})
	// Without the cookie that the URL gave, there is nothing to see.
	if status, _ := visit(t, w.URL+"/stream/"+recordOf(t, good)); status != 401 && status != 403 {
		t.Errorf("without a session: %d", status)
	}
	for _, secret := range []string{u.Query().Get("signature"), u.Query().Get("parameters")} {
		if strings.Contains(w.Log(), secret) {
			t.Error("the log has a ticket")
		}
	}
}

// recordOf follows a streaming URL by one step, to the address that has the record's ID.
func recordOf(t *testing.T, address string) string {
	t.Helper()
	c := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	r := must(c.Get(address))(t)
	r.Body.Close()
	_, id, ok := strings.Cut(r.Header.Get("Location"), "/stream/")
	if !ok {
		t.Fatalf("the streaming URL leads to %q", r.Header.Get("Location"))
	}
	return id
}

// TestTwoServers runs two servers on one engine. Neither touches what is the other's, even when it removes everything.
func TestTwoServers(t *testing.T) {
	t.Parallel()
	first := withMachines(t, "")
	first.create(t, "same-name", stage.BaseImage)
	before := must(first.engine.Machine(limit(t), first.Server, "same-name"))(t)

	second := withMachines(t, "")
	if states := second.states(t); len(states) != 0 {
		t.Errorf("the second server has the image builders %v", states)
	}
	second.create(t, "same-name", stage.BaseImage)
	if second.machine(t, "same-name") == before.ID {
		t.Error("both image builders have the same machine")
	}
	// Its sweep at the start removes orphans: nothing of the first server is one.
	check(t, second.Stop())
	check(t, second.Again(limit(t)))
	check(t, second.Stop())
	if out, err := second.Oriel(limit(t), true, "remove", "--yes").CombinedOutput(); err != nil {
		t.Errorf("oriel remove: %v\n%s", err, out)
	}
	if left := must(second.engine.Machines(limit(t), second.Server))(t); len(left) > 0 {
		t.Errorf("%d machines are left of the second server", len(left))
	}
	after := must(first.engine.Machine(limit(t), first.Server, "same-name"))(t)
	if !after.State.Running || after.State.StartedAt != before.State.StartedAt {
		t.Errorf("the first server's machine is %+v", after.State)
	}
	if states := first.states(t); states["same-name"] != types.ImageBuilderStateRunning {
		t.Errorf("the first server's image builders: %v", states)
	}
	first.remove(t, "same-name")
}
