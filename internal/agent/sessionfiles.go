package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/oriel-project/oriel/internal/agent/files"
	"github.com/oriel-project/oriel/internal/agent/printer"
	"github.com/oriel-project/oriel/internal/agent/sound"
	"github.com/oriel-project/oriel/internal/agentapi"
)

const (
	maxTransfers = 8                // of files and documents, at the same time in one session
	maxListeners = 8                // to its sound
	stalled      = time.Minute      // a transfer without progress for so long is given up
	deaf         = 10 * time.Second // and a listener that takes nothing
)

// things are what a session's person has besides the display.
type things struct {
	folder    *files.Folder
	printer   *printer.Printer // nil if the session may not print
	sound     *sound.Sound     // nil if the image has none
	transfers chan struct{}    // has an element for each
	listeners chan struct{}    // likewise
}

// routeFiles adds what a session's person does with files, prints and sound.
func (a *agent) routeFiles(mux *http.ServeMux) {
	const session = " /v1/sessions/{id}/"
	mux.HandleFunc("GET"+session+"folders/{path...}", a.transfer(getFolder))
	mux.HandleFunc("PUT"+session+"folders/{path...}", a.transfer(putFolder))
	mux.HandleFunc("GET"+session+"files/{path...}", a.transfer(getFile))
	mux.HandleFunc("PUT"+session+"files/{path...}", a.transfer(putFile))
	mux.HandleFunc("DELETE"+session+"files/{path...}", a.transfer(deleteFile))
	mux.HandleFunc("GET"+session+"prints", a.getPrints)
	mux.HandleFunc("GET"+session+"prints/{print}", a.transfer(getPrint))
	mux.HandleFunc("DELETE"+session+"prints/{print}", a.transfer(deletePrint))
	mux.HandleFunc("GET"+session+"sound", a.getSound)
}

// prepareSession begins what a session has besides its display, before its
// programs start. It gives what these need in their environment. What it
// begins ends by s.ctx or with s.onEnd.
func (a *agent) prepareSession(s *session) (env []string, err error) {
	t := &things{
		folder:    files.New(s.folder, s.account.uid, s.account.gid),
		transfers: make(chan struct{}, maxTransfers), listeners: make(chan struct{}, maxListeners),
	}
	s.onEnd(func() {
		for range maxTransfers { // waits for those that go on, and lets none begin
			t.transfers <- struct{}{}
		}
	})
	if s.spec.Print {
		e, failed := a.preparePrinter(s, t)
		env, err = append(env, e...), errors.Join(err, failed)
	}
	if _, missing := os.Stat(a.paths.sound); missing == nil {
		e, failed := a.prepareSound(s, t)
		env, err = append(env, e...), errors.Join(err, failed)
	}
	s.change(func() { s.things = t })
	return env, err
}

// preparePrinter opens the session's printer. Its socket is in a directory
// that is root's, and its documents where only root can enter.
func (a *agent) preparePrinter(s *session, t *things) (env []string, err error) {
	socket := filepath.Join(s.seat.dir, "printer.sock")
	p, err := printer.New(filepath.Join(s.seat.dir, "prints"), socket, s.account.name, s.account.uid, s.log)
	if err != nil {
		return nil, fmt.Errorf("open the printer: %w", err)
	}
	s.onEnd(func() { p.Close() })
	l, err := listen(socket, 0o600)
	if err == nil {
		err = os.Chown(socket, s.account.uid, s.account.gid)
	}
	if err != nil {
		return nil, fmt.Errorf("open the printer: %w", err)
	}
	go p.Serve(l.(*net.UnixListener))
	t.printer = p
	return []string{"CUPS_SERVER=" + socket, "PRINTER=" + printer.Name}, nil // where to print, and what dialogs select
}

func (a *agent) prepareSound(s *session, t *things) (env []string, err error) {
	start := func(argv, env []string, files []*os.File) (sound.Process, error) {
		return a.startSound(s, argv, env, files)
	}
	t.sound, err = sound.New(s.ctx, a.paths.sound, filepath.Join(s.seat.dir, "sound"), s.account.uid, s.account.gid, start, s.log)
	if err != nil {
		return nil, fmt.Errorf("open the sound: %w", err)
	}
	s.onEnd(t.sound.Wait)
	return t.sound.Env(), nil
}

// startSound is the sound's way to start programs.
func (a *agent) startSound(s *session, argv, env []string, files []*os.File) (sound.Process, error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	out, err := newOutput(s.log.With("program", filepath.Base(argv[0])))
	if err != nil {
		return nil, err
	}
	defer out.write.Close()
	files = slices.Clone(files)
	for n, f := range files {
		switch {
		case f != nil:
		case n == 0:
			files[n] = null
		default:
			files[n] = out.write
		}
	}
	p, err := a.procs.startAs(s.account, command{
		argv: argv, dir: "/", files: files,
		env: slices.Concat(desktopEnv(a.config, a.paths), env, []string{"XDG_RUNTIME_DIR=" + s.runtime}),
	}, nil)
	if err != nil {
		return nil, err
	}
	return soundProgram{a.procs, p}, nil
}

// soundProgram is a sound.Process.
type soundProgram struct {
	procs *procs
	*proc
}

func (p soundProgram) Done() <-chan struct{} { return p.done }
func (p soundProgram) End()                  { p.procs.end(p.proc, endGrace) }

// thingsOf gives a request's session and what it has. It has answered when it
// returns nil.
func (a *agent) thingsOf(w http.ResponseWriter, r *http.Request) (s *session, t *things) {
	if s = a.sessionOf(w, r); s == nil {
		return nil, nil
	}
	s.read(func() { t = s.things })
	if t == nil {
		refuse(w, http.StatusServiceUnavailable, errors.New("the session is just beginning; try again"))
		return nil, nil
	}
	return s, t
}

var errTransfers = fmt.Errorf("%d transfers are going on in this session; wait for one to end", maxTransfers)

// transfer makes a handler of what moves or looks at files: f is called with
// the request's body and a way to answer that fail when the session ends or
// the other side has stalled.
func (a *agent) transfer(f func(t *things, w http.ResponseWriter, r *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s, t := a.thingsOf(w, r)
		if t == nil {
			return
		}
		select {
		case t.transfers <- struct{}{}:
			defer func() { <-t.transfers }()
		default:
			refuse(w, http.StatusTooManyRequests, errTransfers)
			return
		}
		control := http.NewResponseController(w)
		defer control.SetWriteDeadline(time.Time{}) // the connection's next request has none
		defer context.AfterFunc(s.ctx, func() {
			control.SetReadDeadline(time.Unix(1, 0))
			control.SetWriteDeadline(time.Unix(1, 0))
		})()
		r.Body = &patientBody{r.Body, s.ctx, control}
		if err := f(t, &patientWriter{w, s.ctx, control}, r); err != nil {
			refuseFile(w, err)
		}
	}
}

// patientBody is a request's body that may take as long as it goes on.
type patientBody struct {
	io.ReadCloser
	ctx     context.Context
	control *http.ResponseController
}

func (b *patientBody) Read(p []byte) (int, error) {
	b.control.SetReadDeadline(time.Now().Add(stalled))
	if err := b.ctx.Err(); err != nil { // asked after the deadline, which is the past's if the session ends from now on
		return 0, err
	}
	return b.ReadCloser.Read(p)
}

// patientWriter is the same for an answer.
type patientWriter struct {
	http.ResponseWriter
	ctx     context.Context
	control *http.ResponseController
}

func (w *patientWriter) Write(p []byte) (int, error) {
	// The server reads while it writes, to notice that the caller has gone.
	w.control.SetReadDeadline(time.Time{})
	w.control.SetWriteDeadline(time.Now().Add(stalled))
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	return w.ResponseWriter.Write(p)
}

// refuseFile answers with an error of a file operation.
func refuseFile(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	for _, c := range []struct {
		err    error
		status int
	}{
		{files.ErrName, http.StatusBadRequest}, {files.ErrCut, http.StatusBadRequest}, {files.ErrTooLarge, http.StatusRequestEntityTooLarge},
		{files.ErrFull, http.StatusInsufficientStorage}, {files.ErrKind, http.StatusConflict}, {files.ErrNotEmpty, http.StatusConflict},
		{fs.ErrNotExist, http.StatusNotFound}, {fs.ErrPermission, http.StatusForbidden}, {printer.ErrNoPrint, http.StatusNotFound}, {errNoPrinter, http.StatusNotFound},
	} {
		if errors.Is(err, c.err) {
			status = c.status
			break
		}
	}
	refuse(w, status, err)
}

func getFolder(t *things, w http.ResponseWriter, r *http.Request) error {
	list, err := t.folder.List(r.PathValue("path"))
	if err != nil {
		return err
	}
	reply(w, list)
	return nil
}

func putFolder(t *things, w http.ResponseWriter, r *http.Request) error {
	return done(w, t.folder.Make(r.PathValue("path")))
}

func getFile(t *things, w http.ResponseWriter, r *http.Request) error {
	file, size, err := t.folder.Open(r.PathValue("path"))
	if err != nil {
		return err
	}
	defer file.Close()
	if size > agentapi.MaxFile {
		return files.ErrTooLarge
	}
	sendFile(w, file, size)
	return nil
}

func putFile(t *things, w http.ResponseWriter, r *http.Request) error {
	return done(w, t.folder.Write(r.PathValue("path"), r.Body, r.ContentLength))
}

func deleteFile(t *things, w http.ResponseWriter, r *http.Request) error {
	return done(w, t.folder.Remove(r.PathValue("path")))
}

// done answers 204, unless there is an error.
func done(w http.ResponseWriter, err error) error {
	if err == nil {
		w.WriteHeader(http.StatusNoContent)
	}
	return err
}

// sendFile answers with size bytes. A file that is shorter by now breaks the
// connection off, so that nobody takes it for whole.
func sendFile(w http.ResponseWriter, file io.Reader, size int64) {
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{io.LimitReader(file, size)}, make([]byte, 256<<10))
}

var errNoPrinter = errors.New("this session has no printer; it must be allowed by the stack's settings")

func (a *agent) getPrints(w http.ResponseWriter, r *http.Request) {
	s, t := a.thingsOf(w, r)
	if t == nil {
		return
	}
	if t.printer == nil {
		refuseFile(w, errNoPrinter)
		return
	}
	ctx, cancel, err := waitContext(r)
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	reply(w, t.printer.Prints(ctx, r.URL.Query().Get("after")))
}

func getPrint(t *things, w http.ResponseWriter, r *http.Request) error {
	if t.printer == nil {
		return errNoPrinter
	}
	file, size, err := t.printer.Open(r.PathValue("print"))
	if err != nil {
		return err
	}
	defer file.Close()
	sendFile(w, file, size)
	return nil
}

func deletePrint(t *things, w http.ResponseWriter, r *http.Request) error {
	if t.printer == nil {
		return errNoPrinter
	}
	return done(w, t.printer.Remove(r.PathValue("print")))
}

// getSound sends the sound as it plays, until the session ends or the caller
// has gone.
func (a *agent) getSound(w http.ResponseWriter, r *http.Request) {
	s, t := a.thingsOf(w, r)
	if t == nil {
		return
	}
	if t.sound == nil {
		refuse(w, http.StatusNotFound, errors.New("the image has no sound; make it again from a newer base image"))
		return
	}
	select {
	case t.listeners <- struct{}{}:
		defer func() { <-t.listeners }()
	default:
		refuse(w, http.StatusTooManyRequests, fmt.Errorf("%d listen to this session already; end one of these", maxListeners))
		return
	}
	l := t.sound.Listen()
	defer l.Close()
	control := http.NewResponseController(w)
	control.SetReadDeadline(time.Time{})
	defer control.SetWriteDeadline(time.Time{})
	w.Header().Set("Content-Type", "application/octet-stream")
	control.Flush()
	buf := make([]byte, 0, 2+agentapi.MaxPacket)
	for {
		select {
		case packet := <-l.Packets():
			buf = append(buf[:0], byte(len(packet)>>8), byte(len(packet)))
			control.SetWriteDeadline(time.Now().Add(deaf))
			if _, err := w.Write(append(buf, packet...)); err != nil {
				return
			}
			if err := control.Flush(); err != nil {
				return
			}
		case <-s.ctx.Done():
			return
		case <-r.Context().Done():
			return
		}
	}
}
