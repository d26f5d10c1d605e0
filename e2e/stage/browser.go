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
	"sync"
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

// Open goes to an address and gives the HTTP status that it ends with.
func (p *Page) Open(ctx context.Context, url string) (status int, err error) {
	err = p.Do(ctx, "open", map[string]any{"url": url}, &status)
	return status, err
}

// State waits until the viewer is in one of the states: connecting, connected, reconnecting, waiting, imaging, ended.
func (p *Page) State(ctx context.Context, states ...string) error {
	return p.Do(ctx, "state", map[string]any{"want": states}, nil)
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
