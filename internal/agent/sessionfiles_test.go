package agent

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/OpenPrinting/goipp"

	"github.com/oriel-project/oriel/internal/agentapi"
)

func upload(ctx context.Context, c *agentapi.SessionClient, path, text string) error {
	return c.WriteFile(ctx, path, strings.NewReader(text), int64(len(text)))
}

func download(t *testing.T, body io.ReadCloser, size int64, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	text, err := io.ReadAll(body)
	if err != nil || int64(len(text)) != size {
		t.Fatalf("%d of %d bytes, %v", len(text), size, err)
	}
	return string(text)
}

func TestSessionFiles(t *testing.T) {
	w := newFleet(t, 1, nil).start()
	ctx := t.Context()
	w.ready()
	c, _ := w.begin(spec("one"))
	folder := filepath.Join(w.paths.homes, sessionUser, sessionFolder)

	large := strings.Repeat("0123456789", 300_000)
	for path, text := range map[string]string{"empty": "", "Grüße 100% #1?.txt": "hello", "large": large, "TemporaryFiles/x": "x"} {
		if err := upload(ctx, c, path, text); err != nil {
			t.Fatal(err)
		}
		body, size, err := c.OpenFile(ctx, path)
		if got := download(t, body, size, err); got != text {
			t.Errorf("%s has %d bytes, want %d", path, len(got), len(text))
		}
	}
	if err := c.MakeFolder(ctx, "TemporaryFiles/a b"); err != nil {
		t.Fatal(err)
	}
	list, err := c.Folder(ctx, "")
	if err != nil || len(list.Files) != 4 || list.Files[0].Name != "TemporaryFiles" || list.Files[3].Size != int64(len(large)) || list.Free <= 0 {
		t.Errorf("%+v, %v", list, err)
	}
	if list, err = c.Folder(ctx, "TemporaryFiles"); err != nil || len(list.Files) != 2 || !list.Files[0].Folder || list.Path != "TemporaryFiles" {
		t.Errorf("%+v, %v", list, err)
	}
	os.Symlink("/etc", filepath.Join(folder, "out"))
	unsent, sender := io.Pipe() // who is refused need not have sent anything
	defer sender.Close()
	for _, call := range []struct {
		name string
		err  error
		want int
		code agentapi.Code
	}{
		{"nothing there", func() error { _, _, err := c.OpenFile(ctx, "nothing"); return err }(), http.StatusNotFound, agentapi.CodeMissing},
		{"out of the folder", func() error { _, _, err := c.OpenFile(ctx, "out/hostname"); return err }(), http.StatusForbidden, agentapi.CodeForbidden},
		{"a folder", func() error { _, _, err := c.OpenFile(ctx, "TemporaryFiles"); return err }(), http.StatusConflict, agentapi.CodeTaken},
		{"a name", upload(ctx, c, "a\nb", ""), http.StatusBadRequest, agentapi.CodeName},
		{"up", upload(ctx, c, "%2e%2e/x", ""), http.StatusNotFound, agentapi.CodeMissing},
		{"too large", c.WriteFile(ctx, "x", unsent, agentapi.MaxFile+1), http.StatusRequestEntityTooLarge, agentapi.CodeTooLarge},
		{"not empty", c.RemoveFile(ctx, "TemporaryFiles"), http.StatusConflict, agentapi.CodeNotEmpty},
		{"prints", func() error { _, err := c.Prints(ctx, "", 0); return err }(), http.StatusNotFound, ""},
		{"sound", func() error { _, err := c.Sound(ctx); return err }(), http.StatusNotFound, ""},
	} {
		if refused, _ := call.err.(*agentapi.CallError); refused == nil || refused.Status != call.want || refused.Code != call.code {
			t.Errorf("%s: %+v, want %d %s", call.name, refused, call.want, call.code)
		}
	}
	if err := c.RemoveFile(ctx, "large"); err != nil {
		t.Error(err)
	}

	// Someone who goes away leaves nothing behind.
	away, leave := context.WithCancel(ctx)
	r, pipe := io.Pipe()
	sent := make(chan error)
	go func() { sent <- c.WriteFile(away, "half", r, 1<<20) }()
	pipe.Write([]byte("the beginning"))
	eventually(t, func() bool { return len(partials(folder)) == 1 })
	leave()
	pipe.Close()
	<-sent
	eventually(t, func() bool { return len(partials(folder)) == 0 })
	if _, err := os.Stat(filepath.Join(folder, "half")); err == nil {
		t.Error("half a file is there")
	}

	// Neither does the session's end wait for a transfer.
	r, pipe = io.Pipe()
	go func() { sent <- c.WriteFile(ctx, "late", r, 1<<20) }()
	pipe.Write([]byte("the beginning"))
	eventually(t, func() bool { return len(partials(folder)) == 1 })
	if err := c.End(ctx); err != nil {
		t.Fatal(err)
	}
	pipe.Close()
	if err := <-sent; err == nil {
		t.Error("a file was written to a session that has ended")
	}
	// The home may be there again: the next person's.
	if left, _ := filepath.Glob(filepath.Join(folder, "*mpty")); len(left)+len(partials(folder)) != 0 {
		t.Errorf("still there: %q", left)
	}
	if _, err := c.Folder(ctx, ""); err != agentapi.ErrNoSession {
		t.Error(err)
	}
}

func partials(dir string) []string {
	list, _ := filepath.Glob(filepath.Join(dir, ".oriel-partial-*"))
	return list
}

func TestSessionPrints(t *testing.T) {
	w := newFleet(t, 1, nil).start()
	ctx := t.Context()
	w.ready()
	s := spec("one")
	s.Print = true
	c, _ := w.begin(s)
	none, err := c.Prints(ctx, "", 0)
	if err != nil || len(none.Prints) != 0 {
		t.Fatalf("%+v, %v", none, err)
	}
	env, _ := os.ReadFile(filepath.Join(w.root, "session"))
	_, socket, _ := strings.Cut("\n"+string(env), "\nCUPS_SERVER=")
	socket, _, _ = strings.Cut(socket, "\n")

	printed := make(chan agentapi.Prints)
	go func() {
		list, err := c.Prints(ctx, none.Version, agentapi.MaxWait)
		for deadline := time.Now().Add(patience); err == nil && list.Version == none.Version && time.Now().Before(deadline); {
			list, err = c.Prints(ctx, none.Version, agentapi.MaxWait)
		}
		printed <- list
	}()
	const document = "%PDF-1.7\n%%EOF\n"
	m := goipp.NewRequest(goipp.DefaultVersion, goipp.OpPrintJob, 1)
	m.Operation.Add(goipp.MakeAttr("attributes-charset", goipp.TagCharset, goipp.String("utf-8")))
	m.Operation.Add(goipp.MakeAttr("job-name", goipp.TagName, goipp.String("A letter")))
	text, _ := m.EncodeBytes()
	program := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", socket) }}}
	resp, err := program.Post("http://localhost/printers/Oriel", goipp.ContentType, bytes.NewReader(append(text, document...)))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	list := <-printed
	if len(list.Prints) != 1 || list.Prints[0].Title != "A letter" {
		t.Fatalf("%+v", list)
	}
	body, size, err := c.OpenPrint(ctx, list.Prints[0].ID)
	if got := download(t, body, size, err); got != document {
		t.Errorf("%q", got)
	}
	if err := c.RemovePrint(ctx, list.Prints[0].ID); err != nil {
		t.Error(err)
	}
	if _, _, err := c.OpenPrint(ctx, list.Prints[0].ID); status(err) != http.StatusNotFound {
		t.Error(err)
	}
	if err := c.End(ctx); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Error("the printer is still there:", err)
	}
}
