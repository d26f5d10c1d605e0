package stage

import (
	"bufio"
	"context"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// scripts gives the directory of what runs in Node, with its packages installed.
func scripts(ctx context.Context) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(root, "e2e", "js")
	wanted, err := os.Stat(filepath.Join(dir, "package-lock.json"))
	if err != nil {
		return "", err
	}
	if have, err := os.Stat(filepath.Join(dir, "node_modules", ".package-lock.json")); err == nil && !have.ModTime().Before(wanted.ModTime()) {
		return dir, nil
	}
	c := exec.CommandContext(ctx, "npm", "ci", "--no-audit", "--no-fund", "--silent")
	c.Dir = dir
	if out, err := c.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm ci in %s: %w\n%s", dir, err, out)
	}
	return dir, nil
}

var installing sync.Mutex

// Node is a script of the directory js, to be run with arguments.
func Node(ctx context.Context, script string, args ...string) (*exec.Cmd, error) {
	installing.Lock()
	defer installing.Unlock()
	dir, err := scripts(ctx)
	if err != nil {
		return nil, err
	}
	c := exec.CommandContext(ctx, "node", append([]string{script}, args...)...)
	c.Dir, c.Env = dir, Clean()
	return c, nil
}

// Browser is a headless Chromium, driven by js/browser.mjs.
type Browser struct {
	process *exec.Cmd
	input   io.WriteCloser

	mu      sync.Mutex
	last    int
	waiting map[int]chan answer
	err     error // why there are no more answers
}

type answer struct {
	ID    int            `json:"id"`
	Value jsontext.Value `json:"value"`
	Error string         `json:"error"`
}

// OpenBrowser starts a browser.
func OpenBrowser(ctx context.Context) (*Browser, error) {
	c, err := Node(ctx, "browser.mjs")
	if err != nil {
		return nil, err
	}
	b := &Browser{process: c, waiting: map[int]chan answer{}}
	if b.input, err = c.StdinPipe(); err != nil {
		return nil, err
	}
	output, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.Stderr = os.Stderr
	c.Cancel = func() error { return b.input.Close() } // the script closes the browser then
	c.WaitDelay = 10 * time.Second
	if err := c.Start(); err != nil {
		return nil, err
	}
	go b.read(output)
	return b, nil
}

func (b *Browser) read(output io.Reader) {
	lines := bufio.NewScanner(output)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var a answer
		if err := json.Unmarshal(lines.Bytes(), &a); err != nil {
			continue
		}
		b.mu.Lock()
		c := b.waiting[a.ID]
		delete(b.waiting, a.ID)
		b.mu.Unlock()
		if c != nil {
			c <- a
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = errors.New("the browser has ended")
	for _, c := range b.waiting {
		close(c)
	}
	b.waiting = nil
}

// Close ends the browser.
func (b *Browser) Close() error {
	b.input.Close()
	return b.process.Wait()
}

// Kill ends the browser's processes with SIGKILL, as a crash does.
func (b *Browser) Kill() {
	var kill func(pid int)
	kill = func(pid int) {
		// Stopped first, so that it makes no more of them.
		_ = syscall.Kill(pid, syscall.SIGSTOP)
		lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
		for _, list := range lists {
			text, _ := os.ReadFile(list)
			for child := range strings.FieldsSeq(string(text)) {
				if n, err := strconv.Atoi(child); err == nil {
					kill(n)
				}
			}
		}
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	kill(b.process.Process.Pid)
	_ = b.process.Wait() // it was killed
}

// Page is a page, or tab, with cookies of its own. It is made by its first use.
type Page struct {
	*Browser
	Name string
}

// Page gives the page of a name.
func (b *Browser) Page(name string) *Page { return &Page{b, name} }

// Do performs one of the commands in js/browser.mjs, with its arguments, and reads its result into out unless that is nil.
func (p *Page) Do(ctx context.Context, command string, args map[string]any, out any) error {
	b := p.Browser
	message := map[string]any{"do": command, "page": p.Name}
	for k, v := range args {
		message[k] = v
	}
	reply := make(chan answer, 1)
	b.mu.Lock()
	b.last++
	message["id"] = b.last
	line, err := json.Marshal(message)
	if err == nil {
		err = b.err
	}
	if err == nil {
		b.waiting[b.last] = reply
		_, err = b.input.Write(append(line, '\n'))
	}
	b.mu.Unlock()
	if err != nil {
		return fmt.Errorf("browser: %s: %w", command, err)
	}
	select {
	case a, ok := <-reply:
		switch {
		case !ok:
			return fmt.Errorf("browser: %s: it has ended", command)
		case a.Error != "":
			return fmt.Errorf("browser: %s: %s", command, a.Error)
		case out != nil:
			return json.Unmarshal(a.Value, out)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("browser: %s: %w", command, ctx.Err())
	}
}

// Context makes the page with options of Playwright's Browser.newContext, such as timezoneId. It must be the first use.
func (p *Page) Context(ctx context.Context, options map[string]any) error {
	return p.Do(ctx, "context", map[string]any{"options": options}, nil)
}

// Address is where the page is.
func (p *Page) Address(ctx context.Context) (url string, err error) {
	err = p.Do(ctx, "address", nil, &url)
	return url, err
}

// Shown waits until an element is to be seen, or not.
func (p *Page) Shown(ctx context.Context, selector string, shown bool) error {
	return p.Do(ctx, "shown", map[string]any{"selector": selector, "shown": shown}, nil)
}

// Launch starts an application of the catalogue in the APP view, and waits for its window.
func (p *Page) Launch(ctx context.Context, application string) error {
	return p.Do(ctx, "launch", map[string]any{"application": application}, nil)
}

// Desk clicks on the desktop, which closes the viewer's panels.
func (p *Page) Desk(ctx context.Context) error { return p.Do(ctx, "desk", nil, nil) }

// Press presses keys, as Playwright names them.
func (p *Page) Press(ctx context.Context, keys string) error {
	return p.Do(ctx, "press", map[string]any{"keys": keys}, nil)
}

// Value gives what is in a field.
func (p *Page) Value(ctx context.Context, selector string) (value string, err error) {
	err = p.Do(ctx, "value", map[string]any{"selector": selector}, &value)
	return value, err
}

// Select selects a line of a terminal that fills the desktop, with its end, by drawing the mouse over it.
func (p *Page) Select(ctx context.Context) error { return p.Do(ctx, "select", nil, nil) }

// Upload brings a file into the session's folder, in the panel.
func (p *Page) Upload(ctx context.Context, name, text string) error {
	return p.Do(ctx, "upload", map[string]any{"name": name, "text": text}, nil)
}

// Download clicks on something that gives a file, in a panel unless that is "".
func (p *Page) Download(ctx context.Context, panel, selector string) (name, text string, err error) {
	var file struct{ Name, Text string }
	err = p.Do(ctx, "download", map[string]any{"panel": panel, "selector": selector}, &file)
	return file.Name, file.Text, err
}

// Open goes to an address and gives the HTTP status that it ends with.
func (p *Page) Open(ctx context.Context, url string) (status int, err error) {
	err = p.Do(ctx, "open", map[string]any{"url": url}, &status)
	return status, err
}

// State waits until the viewer is in one of the states: connecting, connected, reconnecting, waiting, imaging, ended.
func (p *Page) State(ctx context.Context, states ...string) error {
	return p.Do(ctx, "state", map[string]any{"want": states}, nil)
}

// Passes does something, and waits until the viewer has been in one of the states since, however briefly.
func (p *Page) Passes(ctx context.Context, do func(), states ...string) error {
	if err := p.Do(ctx, "forgetStates", nil, nil); err != nil {
		return err
	}
	do()
	return p.Do(ctx, "passed", map[string]any{"want": states}, nil)
}

// FirstFrame is the time from the navigation to the first frame of the desktop, by the browser's clock.
func (p *Page) FirstFrame(ctx context.Context) (time.Duration, error) {
	var ms float64
	err := p.Do(ctx, "firstFrame", nil, &ms)
	return time.Duration(ms * float64(time.Millisecond)), err
}

// Picture is what the desktop shows.
type Picture struct {
	Width, Height int
	Hash          string // of all pixels
	Bright        int    // how many pixels are as bright as text
	Colours       int    // how many different ones
}

// Picture looks at the desktop.
func (p *Page) Picture(ctx context.Context) (pic Picture, err error) {
	err = p.Do(ctx, "picture", nil, &pic)
	return pic, err
}

// Type types a text with the keyboard; \n is the Enter key.
func (p *Page) Type(ctx context.Context, text string) error {
	return p.Do(ctx, "type", map[string]any{"text": text}, nil)
}

// Paste puts a text into the clipboard through the viewer's panel, and pastes it into the terminal in the middle of the desktop.
func (p *Page) Paste(ctx context.Context, text string) error {
	return p.Do(ctx, "paste", map[string]any{"text": text}, nil)
}

// Screenshot keeps a picture of the whole page as a PNG file.
func (p *Page) Screenshot(ctx context.Context, file string) error {
	return p.Do(ctx, "screenshot", map[string]any{"file": file}, nil)
}

// Text gives the text of an element.
func (p *Page) Text(ctx context.Context, selector string) (text string, err error) {
	err = p.Do(ctx, "text", map[string]any{"selector": selector}, &text)
	return text, err
}

// Click clicks on an element, after bringing the toolbar into view.
func (p *Page) Click(ctx context.Context, selector string) error {
	return p.Do(ctx, "click", map[string]any{"selector": selector}, nil)
}

// Fill writes a text into a field.
func (p *Page) Fill(ctx context.Context, selector, text string) error {
	return p.Do(ctx, "fill", map[string]any{"selector": selector, "text": text}, nil)
}

// Close closes the page and gives what went wrong in it that no test looks at: errors of scripts, and requests to other hosts.
func (p *Page) Close(ctx context.Context) (problems []string, err error) {
	err = p.Do(ctx, "close", nil, &problems)
	return problems, err
}
