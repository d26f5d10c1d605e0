package gateway

import (
	"errors"
	"io"
	"net/http"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/oriel-project/oriel/internal/agentapi"
	"github.com/oriel-project/oriel/internal/gateway/words"
	"github.com/oriel-project/oriel/internal/language"
)

// transferStall is how long a transfer may stand still. As long as something moves, it may last.
const transferStall = time.Minute

// filePath checks a path in the session's folder; "" stands for the folder itself. The agent checks it as well: this is so that
// nothing is sent to it that no page of ours asks for.
func filePath(p string) bool {
	if p == "" {
		return true
	}
	return len(p) <= agentapi.MaxFilePath && !slices.ContainsFunc(strings.Split(p, "/"), func(name string) bool { return !fileName(name) })
}

func fileName(name string) bool {
	return name != "" && name != "." && name != ".." && len(name) <= agentapi.MaxFileName && utf8.ValidString(name) &&
		!strings.ContainsFunc(name, func(r rune) bool { return r == '/' || r < ' ' || r == 0x7f })
}

// onFile lets h have requests for a file, onFolder for a folder.
func (g *Gateway) onFile(h func(http.ResponseWriter, *http.Request, call, string)) func(http.ResponseWriter, *http.Request, call) {
	return func(w http.ResponseWriter, r *http.Request, c call) {
		if p := r.PathValue("path"); p != "" && filePath(p) {
			h(w, r, c, p)
		} else {
			g.deny(w, r, http.StatusBadRequest, problem{Code: "path", Message: say("not_file_name")})
		}
	}
}

func (g *Gateway) onFolder(h func(http.ResponseWriter, *http.Request, call, string)) func(http.ResponseWriter, *http.Request, call) {
	return func(w http.ResponseWriter, r *http.Request, c call) {
		if p := strings.TrimSuffix(r.PathValue("path"), "/"); filePath(p) {
			h(w, r, c, p)
		} else {
			g.deny(w, r, http.StatusBadRequest, problem{Code: "path", Message: say("not_folder_name")})
		}
	}
}

// folder lists a folder.
func (g *Gateway) folder(w http.ResponseWriter, r *http.Request, c call, p string) {
	list, err := c.agent.Folder(c.ctx, p)
	if g.failed(w, r, c, "list a folder", err) {
		return
	}
	list.Path = p
	list.Files = slices.DeleteFunc(list.Files, func(f agentapi.File) bool { return !fileName(f.Name) })
	if len(list.Files) > agentapi.MaxFolder {
		list.Files, list.More = list.Files[:agentapi.MaxFolder], true
	}
	g.answer(w, r, http.StatusOK, list)
}

func (g *Gateway) makeFolder(w http.ResponseWriter, r *http.Request, c call, p string) {
	if p == "" {
		g.deny(w, r, http.StatusConflict, problem{Code: "exists", Message: say("folder_there")})
		return
	}
	if !g.failed(w, r, c, "make a folder", c.agent.MakeFolder(c.ctx, p)) {
		w.WriteHeader(http.StatusNoContent)
	}
}

func (g *Gateway) getFile(w http.ResponseWriter, r *http.Request, c call, p string) {
	body, size, err := c.agent.OpenFile(c.ctx, p)
	if g.failed(w, r, c, "open a file", err) {
		return
	}
	defer body.Close()
	g.send(w, r, c, body, size, path.Base(p), "application/octet-stream")
}

// send answers with a file that the browser saves and never shows: whatever is in it, it does nothing here.
func (g *Gateway) send(w http.ResponseWriter, r *http.Request, c call, body io.Reader, size int64, name, kind string) {
	if size < 0 || size > agentapi.MaxFile {
		g.failed(w, r, c, "open a file", errors.New("the agent does not tell the file's length, or one that is not possible"))
		return
	}
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("Content-Length", strconv.FormatInt(size, 10))
	h.Set("Content-Disposition", attachment(name))
	h.Set("Content-Security-Policy", "sandbox; default-src 'none'")
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return
	}
	buffer := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buffer)
	moving := &moving{ResponseController: http.NewResponseController(w), to: w}
	if n, err := io.CopyBuffer(moving, struct{ io.Reader }{io.LimitReader(body, size)}, buffer[:]); err != nil || n < size {
		if c.ctx.Err() == nil { // neither has the browser gone, nor does the server go down
			g.Log.WarnContext(r.Context(), "gateway: send a file", "session", c.session.ID, "sent", n, "of", size, "err", err)
		}
		panic(http.ErrAbortHandler) // the browser must not take a part for the whole
	}
}

// putFile takes a file from the browser, whole or not at all.
func (g *Gateway) putFile(w http.ResponseWriter, r *http.Request, c call, p string) {
	switch {
	case r.ContentLength < 0:
		g.deny(w, r, http.StatusLengthRequired, problem{Code: "length", Message: say("no_length")})
		return
	case r.ContentLength > agentapi.MaxFile:
		g.deny(w, r, http.StatusRequestEntityTooLarge, problem{Code: "length", Message: say("file_too_large", agentapi.MaxFile>>30)})
		return
	}
	moving := &moving{ResponseController: http.NewResponseController(w), from: r.Body}
	err := c.agent.WriteFile(c.ctx, p, moving, r.ContentLength)
	if err != nil && moving.ended.Load() {
		g.deny(w, r, http.StatusRequestTimeout, problem{Code: "stopped", Message: say("upload_stopped")})
		return
	}
	if !g.failed(w, r, c, "write a file", err) {
		w.WriteHeader(http.StatusNoContent)
	}
}

func (g *Gateway) removeFile(w http.ResponseWriter, r *http.Request, c call, p string) {
	if !g.failed(w, r, c, "remove a file", c.agent.RemoveFile(c.ctx, p)) {
		w.WriteHeader(http.StatusNoContent)
	}
}

// printID is what the agent may call a printed document.
var printID = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}$`)

// prints lists what was printed. With after it waits until there is something else.
func (g *Gateway) prints(w http.ResponseWriter, r *http.Request, c call) {
	after, ok := g.after(w, r)
	if !ok {
		return
	}
	list, err := c.agent.Prints(c.ctx, after, infoWait)
	if g.failed(w, r, c, "list what was printed", err) {
		return
	}
	list.Version = cut(list.Version, maxVersion)
	list.Prints = slices.DeleteFunc(list.Prints, func(p agentapi.Print) bool { return !printID.MatchString(p.ID) })
	list.Prints = list.Prints[:min(len(list.Prints), maxPrints)]
	for n := range list.Prints {
		list.Prints[n].Title = label(list.Prints[n].Title)
	}
	g.answer(w, r, http.StatusOK, list)
}

// onPrint lets h have requests for a printed document.
func (g *Gateway) onPrint(h func(http.ResponseWriter, *http.Request, call, string)) func(http.ResponseWriter, *http.Request, call) {
	return func(w http.ResponseWriter, r *http.Request, c call) {
		if id := r.PathValue("print"); printID.MatchString(id) {
			h(w, r, c, id)
		} else {
			g.deny(w, r, http.StatusNotFound, problem{Code: "unknown", Message: say("no_document")})
		}
	}
}

func (g *Gateway) getPrint(w http.ResponseWriter, r *http.Request, c call, id string) {
	name := words.All.Text(language.Of(r), "document") + ".pdf"
	if list, err := c.agent.Prints(c.ctx, "", 0); err == nil { // only for the name
		if n := slices.IndexFunc(list.Prints, func(p agentapi.Print) bool { return p.ID == id }); n >= 0 && list.Prints[n].Title != "" {
			name = strings.TrimSuffix(label(list.Prints[n].Title), ".pdf") + ".pdf"
		}
	}
	body, size, err := c.agent.OpenPrint(c.ctx, id)
	if g.failed(w, r, c, "open what was printed", err) {
		return
	}
	defer body.Close()
	g.send(w, r, c, body, size, name, "application/pdf")
}

func (g *Gateway) removePrint(w http.ResponseWriter, r *http.Request, c call, id string) {
	if !g.failed(w, r, c, "remove what was printed", c.agent.RemovePrint(c.ctx, id)) {
		w.WriteHeader(http.StatusNoContent)
	}
}

// attachment gives the Content-Disposition with which a browser saves a file under a name (RFC 6266): in UTF-8, and for those that do
// not know that with what of it is plain.
func attachment(name string) string {
	const hex = "0123456789ABCDEF"
	var plain, full strings.Builder
	for _, r := range name {
		if r < ' ' || r > '~' || strings.ContainsRune(`"\/%`, r) {
			r = '_'
		}
		plain.WriteRune(r)
	}
	for _, b := range []byte(name) {
		switch {
		case 'a' <= b && b <= 'z', 'A' <= b && b <= 'Z', '0' <= b && b <= '9', b == '-', b == '.', b == '_', b == '~':
			full.WriteByte(b)
		default:
			full.Write([]byte{'%', hex[b>>4], hex[b&15]})
		}
	}
	return `attachment; filename="` + plain.String() + `"; filename*=UTF-8''` + full.String()
}

// moving is a transfer that may last as long as something moves: each read and write moves the deadlines of the connection, which
// otherwise bound the whole request.
type moving struct {
	*http.ResponseController
	from  io.Reader
	to    io.Writer
	ended atomic.Bool // from did, before its end. Who reads it may still do so when the call is over
}

func (m *moving) Read(p []byte) (int, error) {
	deadline := time.Now().Add(transferStall)
	_ = m.SetReadDeadline(deadline)
	_ = m.SetWriteDeadline(deadline.Add(transferStall)) // of the answer
	n, err := m.from.Read(p)
	if err != nil && err != io.EOF {
		m.ended.Store(true)
	}
	return n, err
}

func (m *moving) Write(p []byte) (int, error) {
	_ = m.SetWriteDeadline(time.Now().Add(transferStall))
	return m.to.Write(p)
}
