package printer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/OpenPrinting/goipp"
)

const document = "%PDF-1.7\nthe document\n%%EOF\n"

func newPrinter(t testing.TB) *Printer {
	t.Helper()
	p, err := New(filepath.Join(t.TempDir(), "prints"), "/run/a b.sock", "ada", os.Getuid(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// ask sends a request with a document and gives the answer.
func (p *Printer) ask(t testing.TB, op goipp.Op, document string, attrs ...goipp.Attribute) *goipp.Message {
	t.Helper()
	in := goipp.NewRequest(goipp.DefaultVersion, op, 7)
	in.Operation = append(goipp.Attributes{
		attr("attributes-charset", goipp.TagCharset, "utf-8"),
		attr("attributes-natural-language", goipp.TagLanguage, "en"),
	}, attrs...)
	if value(attrs, "printer-uri") == "" {
		in.Operation.Add(attr("printer-uri", goipp.TagURI, "ipp://localhost/printers/Oriel"))
	}
	text, err := in.EncodeBytes()
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("POST", "/printers/Oriel", io.MultiReader(bytes.NewReader(text), strings.NewReader(document)))
	r.Header.Set("Content-Type", goipp.ContentType)
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	var out goipp.Message
	if err := out.DecodeBytes(w.Body.Bytes()); err != nil || out.RequestID != 7 {
		t.Fatalf("%v: HTTP %d, %v", op, w.Code, err)
	}
	return &out
}

// A program that connects again and again takes nothing of the agent but the
// place of others of its person.
func TestManyPrograms(t *testing.T) {
	p := newPrinter(t)
	socket := filepath.Join(t.TempDir(), "socket")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	go p.Serve(l)
	defer p.Close()
	get := func(c net.Conn) error {
		c.SetDeadline(time.Now().Add(time.Minute))
		io.WriteString(c, "GET /printers/Oriel.ppd HTTP/1.1\r\nHost: x\r\n\r\n")
		_, err := io.ReadFull(c, make([]byte, 12))
		return err
	}
	var conns []net.Conn
	dial := func() net.Conn {
		c, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	for range maxPrograms {
		c := dial()
		if err := get(c); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	if err := get(dial()); err == nil {
		t.Error("one program more is served")
	}
	conns[0].Close()
	for deadline := time.Now().Add(time.Minute); get(dial()) != nil; {
		if time.Now().After(deadline) {
			t.Fatal("a place that was left is not taken again")
		}
	}
}

func value(attrs goipp.Attributes, name string) string {
	for _, a := range attrs {
		if a.Name == name {
			return a.Values.String()
		}
	}
	return ""
}

func (p *Printer) read(t *testing.T, id string) string {
	t.Helper()
	f, size, err := p.Open(id)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	if err != nil || int64(len(text)) != size {
		t.Fatalf("%d of %d bytes, %v", len(text), size, err)
	}
	return string(text)
}

func TestPrint(t *testing.T) {
	p := newPrinter(t)
	out := p.ask(t, goipp.OpPrintJob, document, attr("job-name", goipp.TagName, "A\tletter\n"), attr("document-format", goipp.TagMimeType, pdf))
	if goipp.Status(out.Code) != goipp.StatusOk || value(out.Job, "job-state") != "9" {
		t.Fatalf("%v %v", goipp.Status(out.Code), out.Job)
	}
	out = p.ask(t, goipp.OpCreateJob, "", attr("job-name", goipp.TagName, "In two steps"))
	id := value(out.Job, "job-id")
	if id != "2" || value(out.Job, "job-state") != "3" {
		t.Fatalf("%v", out.Job)
	}
	out = p.ask(t, goipp.OpSendDocument, document, goipp.MakeAttr("job-id", goipp.TagInteger, goipp.Integer(2)), boolean("last-document", true), attr("document-format", goipp.TagMimeType, "application/octet-stream"))
	if goipp.Status(out.Code) != goipp.StatusOk || value(out.Job, "job-state") != "9" {
		t.Fatalf("%v %v", goipp.Status(out.Code), out.Job)
	}
	list := p.Prints(t.Context(), "")
	if len(list.Prints) != 2 || list.Prints[0].Title != "A letter" || list.Prints[1].Title != "In two steps" || list.Prints[1].Size != int64(len(document)) {
		t.Fatalf("%+v", list)
	}
	if got := p.read(t, "2"); got != document {
		t.Errorf("%q", got)
	}
	if info, err := os.Stat(p.dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("documents are in a directory that others can enter: %v, %v", info.Mode(), err)
	}
	if err := p.Remove("1"); err != nil {
		t.Error(err)
	}
	if _, _, err := p.Open("1"); !errors.Is(err, ErrNoPrint) || !errors.Is(p.Remove("1"), ErrNoPrint) || !errors.Is(p.Remove("../x"), ErrNoPrint) {
		t.Errorf("a removed document: %v", err)
	}
	if after := p.Prints(t.Context(), list.Version); len(after.Prints) != 1 || p.bytes != int64(len(document)) {
		t.Errorf("%+v, %d bytes", after, p.bytes)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(p.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("documents stay: %v", err)
	}
}

func TestRefused(t *testing.T) {
	p := newPrinter(t)
	for _, c := range []struct {
		name     string
		op       goipp.Op
		document string
		attr     goipp.Attribute
		want     goipp.Status
	}{
		{"PostScript", goipp.OpPrintJob, "%!PS-Adobe-3.0", attr("document-format", goipp.TagMimeType, "application/postscript"), goipp.StatusErrorDocumentFormatNotSupported},
		{"text called PDF", goipp.OpPrintJob, "hello, world", attr("document-format", goipp.TagMimeType, pdf), goipp.StatusErrorDocumentFormatNotSupported},
		{"text called nothing", goipp.OpPrintJob, "hello, world", attr("x", goipp.TagName, "x"), goipp.StatusErrorDocumentFormatNotSupported},
		{"nothing", goipp.OpPrintJob, "", attr("x", goipp.TagName, "x"), goipp.StatusErrorDocumentFormatNotSupported},
		{"image", goipp.OpValidateJob, "", attr("document-format", goipp.TagMimeType, "image/png"), goipp.StatusErrorDocumentFormatNotSupported},
		{"compressed", goipp.OpPrintJob, document, attr("compression", goipp.TagKeyword, "gzip"), goipp.StatusErrorCompressionNotSupported},
		{"no such job", goipp.OpSendDocument, document, goipp.MakeAttr("job-id", goipp.TagInteger, goipp.Integer(99)), goipp.StatusErrorNotFound},
		{"over", goipp.OpCancelJob, "", attr("job-uri", goipp.TagURI, "ipp://localhost/jobs/1"), goipp.StatusErrorNotPossible},
		{"administration", goipp.OpCupsAddModifyPrinter, "", attr("x", goipp.TagName, "x"), goipp.StatusErrorOperationNotSupported},
		{"good", goipp.OpValidateJob, "", attr("document-format", goipp.TagMimeType, pdf), goipp.StatusOk},
	} {
		if out := p.ask(t, c.op, c.document, c.attr); goipp.Status(out.Code) != c.want || (c.want != goipp.StatusOk) != (value(out.Operation, "status-message") != "") {
			t.Errorf("%s: %v, want %v; %v", c.name, goipp.Status(out.Code), c.want, out.Operation)
		}
	}
	if left, err := os.ReadDir(p.dir); err != nil || len(left) != 0 || p.bytes != 0 || len(p.Prints(t.Context(), "").Prints) != 0 {
		t.Errorf("left behind: %v, %v, %d bytes", left, err, p.bytes)
	}
}

// endless is a document without an end.
type endless struct{ n int64 }

func (e *endless) Read(b []byte) (int, error) {
	clear(b)
	if e.n == 0 {
		copy(b, document)
	}
	e.n += int64(len(b))
	return len(b), nil
}

func TestBounds(t *testing.T) {
	p := newPrinter(t)
	j, _ := p.add("endless")
	e := &endless{}
	if err := p.receive(j, e); !errors.Is(err, errTooLarge) || e.n > maxDocument+1<<20 {
		t.Errorf("%v after %d bytes", err, e.n)
	}
	p.bytes = maxDocuments - 10
	j, _ = p.add("one too many")
	if err := p.receive(j, strings.NewReader(document)); !errors.Is(err, errFull) || p.bytes != maxDocuments-10 {
		t.Errorf("%v, %d bytes", err, p.bytes)
	}
	p.bytes = 0
	if left, err := os.ReadDir(p.dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	for n := range maxJobs {
		j, err := p.add("document")
		if err != nil {
			t.Fatalf("job %d: %v", n, err)
		}
		if err := p.receive(j, strings.NewReader(document)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.add("one too many"); !errors.Is(err, errFull) || len(p.jobs) != maxJobs {
		t.Errorf("%v, %d jobs", err, len(p.jobs))
	}
	p.Remove("50")
	if _, err := p.add("room again"); err != nil {
		t.Error(err)
	}
}

func TestCancel(t *testing.T) {
	p := newPrinter(t)
	j, _ := p.add("x")
	r, w := io.Pipe()
	done := make(chan error)
	go func() { done <- p.receive(j, r) }()
	io.WriteString(w, document)
	if err := p.cancel(j); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if err := <-done; !errors.Is(err, errOver) || j.state != canceled || p.bytes != 0 {
		t.Errorf("%v, state %d, %d bytes", err, j.state, p.bytes)
	}
	if left, _ := os.ReadDir(p.dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestWait(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		p, err := New(filepath.Join(dir, "prints"), "/run/a b.sock", "ada", os.Getuid(), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		first := p.Prints(t.Context(), "")
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		began := time.Now()
		if again := p.Prints(ctx, first.Version); again.Version != first.Version || time.Since(began) != 20*time.Second {
			t.Errorf("%+v after %v", again, time.Since(began))
		}
		go func() {
			time.Sleep(3 * time.Second)
			p.ask(t, goipp.OpPrintJob, document)
		}()
		began = time.Now()
		if next := p.Prints(t.Context(), first.Version); len(next.Prints) != 1 || time.Since(began) != 3*time.Second {
			t.Errorf("%+v after %v", next, time.Since(began))
		}
	})
}

func TestAttributes(t *testing.T) {
	p := newPrinter(t)
	for _, op := range []goipp.Op{goipp.OpCupsGetDefault, goipp.OpCupsGetPrinters, goipp.OpGetPrinterAttributes} {
		all := p.ask(t, op, "")
		if value(all.Printer, "printer-info") != info || len(all.Printer) < 40 {
			t.Errorf("%v: %v", op, all.Printer)
		}
		two := p.ask(t, op, "", attr("requested-attributes", goipp.TagKeyword, "printer-name", "printer-state"))
		if len(two.Printer) != 2 || value(two.Printer, "printer-name") != "Oriel" {
			t.Errorf("%v: %v", op, two.Printer)
		}
	}
	if out := p.ask(t, goipp.OpGetPrinterAttributes, "", attr("printer-uri", goipp.TagURI, "ipp://localhost/printers/Other")); goipp.Status(out.Code) != goipp.StatusErrorNotFound {
		t.Errorf("another printer: %v", goipp.Status(out.Code))
	}
	if got := value(p.attributes(), "printer-uri-supported"); got != "ipp://%2Frun%2Fa%20b.sock/printers/Oriel" {
		t.Error(got)
	}
	p.ask(t, goipp.OpPrintJob, document)
	p.ask(t, goipp.OpCreateJob, "")
	for which, want := range map[string]int{"not-completed": 1, "completed": 1, "all": 2, "": 1} {
		out := p.ask(t, goipp.OpGetJobs, "", attr("which-jobs", goipp.TagKeyword, which))
		if n := len(out.Groups) - 1; n != want {
			t.Errorf("Get-Jobs %q: %d jobs, want %d", which, n, want)
		}
	}
	if out := p.ask(t, goipp.OpGetJobs, "", attr("which-jobs", goipp.TagKeyword, "all"), number("limit", goipp.TagInteger, 1)); len(out.Groups) != 2 {
		t.Errorf("%d groups", len(out.Groups))
	}
}

func TestTitles(t *testing.T) {
	for title, want := range map[string]string{
		"": "Document", " \n": "Document", "a\x00b\xff\u202ec": "a b c", "Brief für Ada": "Brief für Ada",
		strings.Repeat("ä", maxTitle): strings.Repeat("ä", maxTitle/2), "x" + strings.Repeat("ä", maxTitle): "x" + strings.Repeat("ä", maxTitle/2-1),
	} {
		if got := cleanTitle(title); got != want {
			t.Errorf("%q became %q", title, got)
		}
	}
}

// TestServe: programs of the user are answered, on the socket.
func TestServe(t *testing.T) {
	p := newPrinter(t)
	for uid, served := range map[int]bool{os.Getuid(): true, os.Getuid() + 1: os.Getuid() == 0} {
		p.uid = uint32(uid)
		l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: filepath.Join(t.TempDir(), "s")})
		if err != nil {
			t.Fatal(err)
		}
		go (&http.Server{Handler: p}).Serve(owners{l, p.uid})
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) {
			return net.Dial("unix", l.Addr().String())
		}}}
		resp, err := client.Get("http://localhost/printers/Oriel.ppd")
		if (err == nil) != served {
			t.Errorf("a program of user %d at the printer of %d: %v", os.Getuid(), uid, err)
		}
		if err == nil {
			if text, err := io.ReadAll(resp.Body); err != nil || !bytes.HasPrefix(text, []byte(`*PPD-Adobe: "4.3"`)) {
				t.Errorf("%v, %q", err, text)
			}
			resp.Body.Close()
		}
		l.Close()
	}
}

func FuzzIPP(f *testing.F) {
	for _, op := range []goipp.Op{goipp.OpPrintJob, goipp.OpSendDocument, goipp.OpGetJobs, goipp.OpCancelJob, goipp.OpGetPrinterAttributes} {
		in := goipp.NewRequest(goipp.DefaultVersion, op, 1)
		in.Operation = goipp.Attributes{attr("attributes-charset", goipp.TagCharset, "utf-8"), attr("printer-uri", goipp.TagURI, "ipp://localhost/printers/Oriel"),
			number("job-id", goipp.TagInteger, 1), attr("requested-attributes", goipp.TagKeyword, "job-id", "job-state"), attr("job-name", goipp.TagName, "x\xff")}
		text, err := in.EncodeBytes()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(append(text, document...))
	}
	f.Add([]byte{1, 1, 0, 2, 0, 0, 0, 1, 1, 0x34, 0, 1, 'a', 0, 0, 0x34, 0, 0, 0, 0, 3})
	f.Fuzz(func(t *testing.T, text []byte) {
		p := newPrinter(t)
		defer p.Close()
		p.add("waiting")
		r := httptest.NewRequest("POST", "/", bytes.NewReader(text))
		r.Header.Set("Content-Type", goipp.ContentType)
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		var out goipp.Message
		switch {
		case w.Code == http.StatusBadRequest:
		case w.Code != http.StatusOK:
			t.Errorf("HTTP %d: %s", w.Code, w.Body)
		default:
			if err := out.DecodeBytes(w.Body.Bytes()); err != nil {
				t.Errorf("the answer is not IPP: %v", err)
			}
		}
		for _, d := range p.Prints(t.Context(), "").Prints {
			if !utf8.ValidString(d.Title) || d.Title == "" || !strings.HasPrefix(p.read(t, d.ID), "%PDF-") {
				t.Errorf("%+v", d)
			}
		}
	})
}
