package web

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json/v2"
	"fmt"
	"html/template"
	"image"
	"image/color"
	"image/png"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/oriel-project/oriel/internal/gateway/words"
	"github.com/oriel-project/oriel/internal/language"
	"github.com/oriel-project/oriel/internal/rfb/rfbtest"
)

// A person is a gateway with the session of one person, made to say whatever a test wants to see in the viewer. The display is a
// real one, the files are in a folder of the test; the rest is what the test puts there.
type person struct {
	t       *testing.T
	display string // the display's socket
	folder  string

	mu      sync.Mutex
	info    map[string]any
	theme   map[string]any // as internal/theme has it
	windows []map[string]any
	prints  []map[string]any
	version int
	session int           // how many there have been
	changed chan struct{} // closed at the next change
	streams map[*websocket.Conn]bool
	sounds  map[*websocket.Conn]bool
	refuse  map[string]string // what is refused, by method and path prefix, and with which words
	slow    int               // bytes a second of uploads; 0: as fast as it can
	stirred int               // how often the mouse of the display was moved
	clicked int               // with a button held down
	typed   []uint32          // the symbols of the keys that went down
	held    chan struct{}     // closed when questions for the session are answered again; nil: they are
	silence chan struct{}     // closed when the sound ends
	waiting int               // how many questions for news of prints are held
	zone    string            // that the browser said it has
}

func newPerson(t *testing.T) *person {
	p := &person{t: t, display: filepath.Join(t.TempDir(), "rfb"), folder: t.TempDir(), changed: make(chan struct{}),
		streams: map[*websocket.Conn]bool{}, sounds: map[*websocket.Conn]bool{}, refuse: map[string]string{}}
	p.reset("DESKTOP")
	return p
}

// reset begins a new session.
func (p *person) reset(view string) {
	p.change(func() {
		p.info = map[string]any{"kind": "session", "state": "ACTIVE", "stack": "Design studio", "fleet": "studio", "user": "grace@example.com", "view": view,
			"expires": time.Now().Add(12 * time.Hour), "maxEnd": time.Now().Add(8 * time.Hour), "awaySeconds": 900, "idleSeconds": 1800,
			"rules":        map[string]any{"copyIn": true, "copyOut": true, "copyInMax": 0, "copyOutMax": 0, "upload": true, "download": true, "print": true, "timeZone": true},
			"applications": catalogue(5), "streams": true}
		p.windows, p.prints, p.theme = nil, nil, nil
		p.session++
		clear(p.refuse)
		p.slow, p.clicked, p.typed = 0, 0, []uint32{}
	})
}

func (p *person) change(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	p.version++
	close(p.changed)
	p.changed = make(chan struct{})
}

// title gives the title of a window.
func title(windows []map[string]any, this func(map[string]any) bool) string {
	if n := slices.IndexFunc(windows, this); n >= 0 {
		return windows[n]["title"].(string)
	}
	return ""
}

// catalogue makes n applications, most of them with an icon.
func catalogue(n int) []map[string]any {
	names := []string{"Mousepad", "File Manager", "Terminal", "Spreadsheet", "Zeichenprogramm für Schaltpläne", "音楽プレーヤー", "Browser", "Mail", "Calculator",
		"Video Editor", "Notes", "Maps", "Chess", "Calendar", "Photo Library", "Archive Manager"}
	var list []map[string]any
	for i, name := range names[:n] {
		app := map[string]any{"name": "app-" + strconv.Itoa(i), "displayName": name}
		if i%4 != 3 {
			app["icon"] = "/icons/" + strconv.Itoa(i) + ".png"
		}
		list = append(list, app)
	}
	return list
}

func (p *person) handler() http.Handler {
	page := template.Must(template.New("viewer.html").Funcs(words.All.Funcs(language.Fallback)).Funcs(template.FuncMap{"asset": Path, "icon": Icon, "inc": func(n int) int { return n + 1 }}).
		ParseFiles("../gateway/templates/viewer.html", "../gateway/templates/theme.html", "../gateway/templates/languages.html"))
	mux := http.NewServeMux()
	mux.Handle("GET "+Prefix, Handler())
	mux.HandleFunc("GET /stream/s1", func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		data := map[string]any{"Kind": p.info["kind"], "AppBlock": "editors", "ID": "s1", "Name": p.info["stack"], "State": p.info["state"], "Account": "123456789012",
			"Region": "us-west-2", "View": p.info["view"], "Theme": p.theme}
		p.mu.Unlock()
		if language.Choose(w, r, false) {
			return
		}
		var out bytes.Buffer
		inLanguage := template.Must(page.Clone()).Funcs(words.All.Funcs(language.Of(r)))
		if err := inLanguage.Execute(&out, data); err != nil {
			p.t.Errorf("the page: %v", err)
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		out.WriteTo(w)
	})
	mux.HandleFunc("GET /icons/logo.png", func(w http.ResponseWriter, r *http.Request) { // dark on nothing, as most are
		logo := image.NewNRGBA(image.Rect(0, 0, 480, 120))
		for at := range 480 * 120 {
			x, y := at%480, at/480
			if dx, dy := x-60, y-60; dx*dx+dy*dy < 50*50 || y > 45 && y < 75 && x > 140 && x%40 < 28 {
				logo.Set(x, y, color.NRGBA{R: 20, G: 40, B: 70, A: 255})
			}
		}
		png.Encode(w, logo)
	})
	mux.HandleFunc("GET /icons/{name}", func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(strings.TrimSuffix(r.PathValue("name"), ".png"))
		icon := image.NewNRGBA(image.Rect(0, 0, 64, 64))
		for at := range 64 * 64 {
			switch x, y := at%64-32, at/64-32; {
			case max(x, -x, y, -y) >= 28:
			case n == 2: // as terminals are
				icon.Set(at%64, at/64, color.NRGBA{A: 255})
			default:
				icon.Set(at%64, at/64, color.NRGBA{R: uint8(70 + 37*n%170), G: uint8(150 - 11*n), B: uint8(210 - 53*n%150), A: 255})
			}
		}
		png.Encode(w, icon)
	})
	mux.HandleFunc("GET /stream/s1/info", func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		held := p.held
		p.mu.Unlock()
		if held != nil {
			select {
			case <-held:
			case <-r.Context().Done():
				return
			}
		}
		p.news(w, r, func(version string) any {
			answer := maps.Clone(p.info)
			answer["version"] = version
			return answer
		})
	})
	mux.HandleFunc("GET /stream/s1/windows", func(w http.ResponseWriter, r *http.Request) {
		p.news(w, r, func(version string) any { return map[string]any{"version": version, "windows": p.windows} })
	})
	mux.HandleFunc("GET /stream/s1/prints", func(w http.ResponseWriter, r *http.Request) {
		hold := func(n int) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.waiting += n
		}
		if r.URL.Query().Has("after") {
			hold(1)
			defer hold(-1)
		}
		p.news(w, r, func(version string) any { return map[string]any{"version": version, "prints": p.prints} })
	})
	mux.HandleFunc("POST /stream/s1/end", func(w http.ResponseWriter, r *http.Request) {
		p.change(func() { p.info["state"], p.info["endCode"] = "EXPIRED", "user" })
		p.close(4011, "ended")
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("POST /stream/s1/launch", func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Application string `json:"application"`
		}
		if !p.read(r, &body) {
			return
		}
		w.WriteHeader(http.StatusNoContent)
		p.mu.Lock()
		session := p.session
		p.mu.Unlock()
		time.AfterFunc(400*time.Millisecond, func() {
			p.change(func() {
				if p.session != session {
					return // its window is not one of the next test's
				}
				for _, window := range p.windows {
					window["active"] = false
				}
				for _, app := range p.info["applications"].([]map[string]any) {
					if app["name"] == body.Application {
						p.windows = append(p.windows, map[string]any{"id": 100 + len(p.windows), "title": fmt.Sprintf("Untitled – %s", app["displayName"]),
							"application": body.Application, "class": "X", "active": true})
					}
				}
			})
		})
	})
	mux.HandleFunc("POST /stream/s1/windows/{id}", func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Action string `json:"action"`
		}
		if !p.read(r, &body) {
			return
		}
		p.change(func() {
			this := func(window map[string]any) bool { return fmt.Sprint(window["id"]) == r.PathValue("id") }
			if body.Action == "close" && !strings.HasPrefix(title(p.windows, this), "*") { // what is changed has a question first
				p.windows = slices.DeleteFunc(p.windows, this)
			}
			for _, window := range p.windows {
				window["active"] = body.Action == "activate" && this(window)
			}
		})
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("/stream/s1/folders/{path...}", p.folders)
	mux.HandleFunc("/stream/s1/files/{path...}", p.files)
	mux.HandleFunc("GET /stream/s1/prints/{id}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Disposition", `attachment; filename="document.pdf"`)
		w.Header().Set("Content-Type", "application/pdf")
		io.WriteString(w, "%PDF-1.7 "+r.PathValue("id"))
	})
	mux.HandleFunc("DELETE /stream/s1/prints/{id}", func(w http.ResponseWriter, r *http.Request) {
		p.change(func() {
			p.prints = slices.DeleteFunc(p.prints, func(print map[string]any) bool { return print["id"] == r.PathValue("id") })
		})
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /stream/s1/ws", p.stream)
	mux.HandleFunc("GET /stream/s1/sound", p.sound)
	mux.HandleFunc("GET /after", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "<title>after</title>") })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "+
			"form-action 'self'; base-uri 'none'; frame-ancestors 'self'")
		if r.URL.Path == "/frame" {
			w.Header().Del("Content-Security-Policy")
			io.WriteString(w, `<!doctype html><title>portal</title><iframe src="/stream/s1" width="900" height="560"></iframe>`)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// read reads what a page has sent, and fails the test if it is not JSON; false also when the page went away meanwhile.
func (p *person) read(r *http.Request, body any) bool {
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return false
	}
	if err := json.Unmarshal(text, body); err != nil {
		p.t.Errorf("%s: %v", r.URL.Path, err)
		return false
	}
	return true
}

// news answers with what answer gives, if need be when it has changed.
func (p *person) news(w http.ResponseWriter, r *http.Request, answer func(version string) any) {
	wait := time.After(25 * time.Second)
	for {
		p.mu.Lock()
		version, changed := "v"+strconv.Itoa(p.version), p.changed
		text, err := json.Marshal(answer(version))
		p.mu.Unlock()
		if err != nil {
			p.t.Errorf("encode an answer: %v", err)
		}
		if r.URL.Query().Get("after") == version {
			select {
			case <-changed:
				continue
			case <-wait:
			case <-r.Context().Done():
				return
			}
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write(text)
		return
	}
}

func (p *person) refused(w http.ResponseWriter, r *http.Request) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for what, words := range p.refuse {
		method, prefix, _ := strings.Cut(what, " ")
		if r.Method == method && strings.HasPrefix(strings.TrimPrefix(r.URL.Path, "/stream/s1"), prefix) {
			io.Copy(io.Discard, r.Body)
			answer(w, http.StatusInsufficientStorage, words)
			return true
		}
	}
	return false
}

func answer(w http.ResponseWriter, status int, words string) {
	text, _ := json.Marshal(map[string]string{"code": "test", "message": words})
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(text)
}

func (p *person) folders(w http.ResponseWriter, r *http.Request) {
	path := r.PathValue("path")
	name := filepath.Join(p.folder, filepath.FromSlash(path))
	if p.refused(w, r) {
		return
	}
	if r.Method == http.MethodPut {
		if err := os.Mkdir(name, 0o700); err != nil {
			answer(w, http.StatusConflict, "There is a file or folder of that name already.")
			return
		}
		w.WriteHeader(http.StatusNoContent)
		return
	}
	entries, err := os.ReadDir(name)
	if err != nil {
		answer(w, http.StatusNotFound, "That folder is no longer there.")
		return
	}
	list := []map[string]any{}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			continue
		}
		list = append(list, map[string]any{"name": e.Name(), "folder": e.IsDir(), "size": info.Size(), "modified": info.ModTime()})
	}
	slices.SortStableFunc(list, func(a, b map[string]any) int {
		if a["folder"] != b["folder"] {
			if a["folder"].(bool) {
				return -1
			}
			return 1
		}
		return cmp.Compare(a["name"].(string), b["name"].(string))
	})
	text, _ := json.Marshal(map[string]any{"path": path, "files": list, "free": int64(7_340_000_000)})
	w.Header().Set("Content-Type", "application/json")
	w.Write(text)
}

func (p *person) files(w http.ResponseWriter, r *http.Request) {
	name := filepath.Join(p.folder, filepath.FromSlash(r.PathValue("path")))
	if p.refused(w, r) {
		return
	}
	switch r.Method {
	case http.MethodGet:
		w.Header().Set("Content-Disposition", "attachment")
		http.ServeFile(w, r, name)
	case http.MethodDelete:
		if err := os.RemoveAll(name); err != nil {
			p.t.Error(err)
		}
		w.WriteHeader(http.StatusNoContent)
	case http.MethodPut:
		f, err := os.CreateTemp(p.t.TempDir(), "")
		if err != nil {
			p.t.Error(err)
			return
		}
		defer f.Close()
		buffer := make([]byte, 64<<10)
		for {
			n, err := r.Body.Read(buffer)
			f.Write(buffer[:n])
			p.dawdle(r.Context(), n)
			if err == io.EOF {
				break
			}
			if err != nil {
				return // cancelled
			}
		}
		if err := os.Rename(f.Name(), name); err != nil {
			p.t.Error(err)
		}
		w.WriteHeader(http.StatusNoContent)
	}
}

// dawdle waits for as long as so many bytes of an upload take now.
func (p *person) dawdle(ctx context.Context, bytes int) {
	for began := time.Now(); ctx.Err() == nil; {
		p.mu.Lock()
		slow, changed := p.slow, p.changed
		p.mu.Unlock()
		if slow == 0 {
			return
		}
		select {
		case <-time.After(time.Until(began.Add(time.Duration(bytes) * time.Second / time.Duration(slow)))):
			return
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// close ends all streams.
func (p *person) close(code websocket.StatusCode, reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for ws := range p.streams {
		go ws.Close(code, reason)
	}
}

func (p *person) stream(w http.ResponseWriter, r *http.Request) {
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"binary"}})
	if err != nil {
		return
	}
	defer ws.CloseNow()
	ws.SetReadLimit(1 << 20)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	p.mu.Lock()
	p.streams[ws] = true
	p.zone = r.URL.Query().Get("tz")
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.streams, ws)
		p.mu.Unlock()
	}()
	ready := make(chan net.Conn, 1)
	go func() {
		for ctx.Err() == nil {
			p.mu.Lock()
			pending, changed := p.info["state"] == "PENDING", p.changed
			p.mu.Unlock()
			if !pending {
				break
			}
			select {
			case <-changed:
			case <-ctx.Done():
			}
		}
		display, err := net.Dial("unix", p.display)
		if err != nil {
			return
		}
		ready <- display
		context.AfterFunc(ctx, func() { display.Close() })
		buffer := make([]byte, 64<<10)
		for {
			n, err := display.Read(buffer)
			if err != nil || ws.Write(ctx, websocket.MessageBinary, buffer[:n]) != nil {
				return
			}
		}
	}()
	var display net.Conn
	for {
		kind, message, err := ws.Read(ctx)
		if err != nil {
			return
		}
		if kind == websocket.MessageText {
			ws.Write(ctx, kind, append([]byte("pong"), message[4:]...))
			continue
		}
		if display == nil {
			display = <-ready
		}
		if len(message) >= 6 && message[0] == 5 {
			p.mu.Lock()
			p.stirred++
			if message[1] != 0 {
				p.clicked++
			}
			p.mu.Unlock()
		}
		if symbol, down := key(message); down {
			p.mu.Lock()
			p.typed = append(p.typed, symbol)
			p.mu.Unlock()
		}
		if _, err := display.Write(message); err != nil {
			return
		}
	}
}

// key reads a key that goes down from a message of the viewer: RFC 6143, 7.5.4, or QEMU's extension of it.
func key(message []byte) (symbol uint32, down bool) {
	switch {
	case len(message) >= 8 && message[0] == 4:
		return binary.BigEndian.Uint32(message[4:]), message[1] != 0
	case len(message) >= 12 && message[0] == 255 && message[1] == 0:
		return binary.BigEndian.Uint32(message[4:]), message[3] != 0
	}
	return 0, false
}

func (p *person) sound(w http.ResponseWriter, r *http.Request) {
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"opus"}})
	if err != nil {
		return
	}
	p.mu.Lock()
	p.sounds[ws] = true
	p.mu.Unlock()
	ws.Read(context.Background()) // its end
	p.mu.Lock()
	delete(p.sounds, ws)
	p.mu.Unlock()
	ws.CloseNow()
}

// control does what the script asks for behind the viewer's back.
func (p *person) control(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		p.t.Error(err)
	}
	q := r.URL.Query()
	read := func(out any) {
		if err := json.Unmarshal(body, out); err != nil {
			p.t.Errorf("%s: %v", r.URL.Path, err)
		}
	}
	switch r.URL.Path {
	case "/reset":
		p.reset(q.Get("view"))
	case "/info": // members, and "apps" for so many applications
		var members map[string]any
		read(&members)
		p.change(func() {
			for name, value := range members {
				switch name {
				case "apps":
					p.info["applications"] = catalogue(int(value.(float64)))
				case "rules":
					maps.Copy(p.info["rules"].(map[string]any), value.(map[string]any))
				default:
					p.info[name] = value
				}
			}
		})
	case "/hold": // questions for the session, until /release
		p.change(func() { p.held = make(chan struct{}) })
	case "/release":
		p.change(func() {
			close(p.held)
			p.held = nil
		})
	case "/close":
		code, _ := strconv.Atoi(q.Get("code"))
		p.close(websocket.StatusCode(code), "test")
	case "/notice":
		p.mu.Lock()
		for ws := range p.streams {
			ws.Write(r.Context(), websocket.MessageText, body)
		}
		p.mu.Unlock()
	case "/theme":
		var theme map[string]any
		read(&theme)
		p.change(func() { p.theme = theme })
	case "/windows":
		var list []map[string]any
		read(&list)
		p.change(func() { p.windows = list })
	case "/prints":
		var list []map[string]any
		read(&list)
		p.change(func() { p.prints = list })
	case "/refuse":
		p.mu.Lock()
		clear(p.refuse)
		if q.Get("what") != "" {
			p.refuse[q.Get("what")] = q.Get("words")
		}
		p.mu.Unlock()
	case "/slow":
		p.change(func() { p.slow, _ = strconv.Atoi(q.Get("is")) })
	case "/sound":
		var packets [][]byte
		read(&packets)
		p.mu.Lock()
		open := slices.Collect(maps.Keys(p.sounds))
		silence := make(chan struct{})
		p.silence = silence
		p.mu.Unlock()
		for n := 0; ; n++ {
			for _, ws := range open {
				ws.Write(r.Context(), websocket.MessageBinary, packets[n%len(packets)])
			}
			select {
			case <-time.After(20 * time.Millisecond): // as long as it sounds
			case <-silence:
				return
			case <-r.Context().Done():
				return
			}
		}
	case "/silence":
		p.mu.Lock()
		close(p.silence)
		p.mu.Unlock()
	case "/state":
		p.mu.Lock()
		text, _ := json.Marshal(map[string]any{"stirred": p.stirred, "clicked": p.clicked, "typed": p.typed, "zone": p.zone, "waiting": p.waiting, "streams": len(p.streams), "sounds": len(p.sounds), "folder": p.folder})
		p.mu.Unlock()
		w.Write(text)
	default:
		http.NotFound(w, r)
	}
}

// TestSessionInBrowser drives web/test/session.mjs: a real Chromium with the viewer of a session. It needs what TestBrowser of
// internal/gateway needs, and is asked for by the same variables.
func TestSessionInBrowser(t *testing.T) {
	if os.Getenv("ORIEL_TEST_BROWSER") == "" {
		t.Skip("ORIEL_TEST_BROWSER is not set")
	}
	p := newPerson(t)
	d := rfbtest.Start(t, p.display, "1280x720")
	d.Start("xterm", "-geometry", "90x24+60+80", "-fa", "DejaVu Sans Mono", "-fs", "12", "-bg", "#10141a", "-fg", "#e8eaee", "-e", "sh")

	server := httptest.NewServer(p.handler())
	defer server.Close()
	control := httptest.NewServer(http.HandlerFunc(p.control))
	defer control.Close()
	defer server.CloseClientConnections()
	ctx := t.Context()
	if end, ok := t.Deadline(); ok { // before go test ends everything, and tells nothing
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, end.Add(-20*time.Second))
		defer cancel()
	}
	node := exec.CommandContext(ctx, "node", append([]string{"test/session.mjs"}, strings.Fields(os.Getenv("ORIEL_TEST_ONLY"))...)...)
	node.Cancel = func() error { return node.Process.Signal(syscall.SIGTERM) }
	node.WaitDelay = 10 * time.Second
	node.Dir = "../../web"
	node.Env = append(d.Env, "HOME="+os.Getenv("HOME"), "ORIEL_CONTROL="+control.URL, "ORIEL_SERVER="+server.URL)
	node.Stdout = t.Output()
	node.Stderr = node.Stdout
	if err := node.Run(); err != nil {
		t.Errorf("the browser's test: %v", err)
	}
}
