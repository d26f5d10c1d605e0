package agent

import (
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/oriel-project/oriel/internal/agent/catalogue"
	"github.com/oriel-project/oriel/internal/agent/control"
	"github.com/oriel-project/oriel/internal/agent/files"
	"github.com/oriel-project/oriel/internal/agent/printer"
	"github.com/oriel-project/oriel/internal/agent/windows"
	"github.com/oriel-project/oriel/internal/agentapi"
)

const (
	maxBody    = 64 << 10 // of a request, in bytes
	maxStreams = 64       // display streams at the same time
	takeWithin = 10 * time.Second
)

// serverAPI is what the server may ask (package agentapi).
func (a *agent) serverAPI() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", a.getStatus)
	mux.HandleFunc("GET /v1/display", a.getDisplay)
	mux.HandleFunc("GET /v1/applications", a.getApplications)
	mux.HandleFunc("GET /v1/requests", a.getRequest)
	mux.HandleFunc("POST /v1/requests/{id}", a.postAnswer)
	mux.HandleFunc("POST /v1/quiesce", a.postQuiesce)
	mux.HandleFunc("POST /v1/resume", a.postResume)
	a.routeJobs(mux)
	mux.HandleFunc("PUT /v1/files", a.putFile)
	a.routeSessions(mux)
	return mux
}

// controlAPI is what programs inside the instance may ask (package control).
func (a *agent) controlAPI() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+control.CreateImagePath, a.postCreateImage)
	mux.HandleFunc("POST "+control.CreatePackagePath, a.postCreatePackage)
	mux.HandleFunc("POST "+control.PowerPath, a.postPower)
	return mux
}

func (a *agent) getStatus(w http.ResponseWriter, r *http.Request) {
	ctx, cancel, err := waitContext(r)
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	defer cancel()
	if d := a.display; d != nil {
		d.waitUntil(ctx, func() bool { return d.ready })
		reply(w, a.status())
	} else {
		a.pool.waitForSeat(ctx)
		reply(w, a.fleetStatus())
	}
}

// status is how an image builder is.
func (a *agent) status() agentapi.Status {
	d := a.display
	d.mu.Lock()
	defer d.mu.Unlock()
	s := agentapi.Status{
		Version: agentapi.Version, Role: a.config.Role, StartedAt: a.started,
		Ready: d.ready, Quiesced: d.paused && !d.alive,
		DisplayRestarts: d.restarts, LastDisplayError: d.lastErr, Problem: d.problem,
	}
	if d.ready {
		s.ReadyAt = d.readyAt
	}
	return s
}

// getDisplay is for the display of an image builder.
func (a *agent) getDisplay(w http.ResponseWriter, r *http.Request) {
	if a.display == nil {
		refuse(w, http.StatusConflict, errNoBuilder)
		return
	}
	a.relayDisplay(w, r, r.Context(), a.display)
}

// errNoBuilder refuses what only an image builder has.
var errNoBuilder = errors.New("this instance is a fleet's: it has no display of its own, but one for each session")

// relayDisplay connects the caller with a display, until either ends or ctx is
// done.
func (a *agent) relayDisplay(w http.ResponseWriter, r *http.Request, ctx context.Context, d *display) {
	if !strings.EqualFold(r.Header.Get("Upgrade"), "rfb") {
		w.Header().Set("Upgrade", "rfb")
		refuse(w, http.StatusUpgradeRequired, errors.New("ask with Upgrade: rfb"))
		return
	}
	if a.streams.Add(1) > maxStreams {
		a.streams.Add(-1)
		refuse(w, http.StatusTooManyRequests, fmt.Errorf("%d display streams are open already; close one", maxStreams))
		return
	}
	defer a.streams.Add(-1)
	rfb, err := d.dialRFB()
	if err != nil {
		refuse(w, http.StatusServiceUnavailable, agentapi.ErrDisplayDown)
		return
	}
	defer rfb.Close()
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		refuse(w, http.StatusInternalServerError, err)
		return
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close(); rfb.Close() })()
	conn.SetDeadline(time.Time{})
	if _, err := io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: rfb\r\n\r\n"); err != nil {
		return
	}
	go func() {
		early, _ := buffered.Reader.Peek(buffered.Reader.Buffered())
		if _, err := rfb.Write(early); err == nil {
			io.Copy(rfb, conn)
		}
		rfb.(*net.UnixConn).CloseWrite() // the viewer has said its last word
	}()
	io.Copy(conn, rfb) // a display that ends, ends the stream
}

func (a *agent) getApplications(w http.ResponseWriter, r *http.Request) {
	apps, err := catalogue.Open(a.paths.catalogue).Applications()
	if err != nil {
		refuse(w, http.StatusInternalServerError, err)
		return
	}
	reply(w, struct {
		Applications []agentapi.Application `json:"applications"`
	}{apps})
}

func (a *agent) getRequest(w http.ResponseWriter, r *http.Request) {
	ctx, cancel, err := waitContext(r)
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	defer cancel()
	if p := a.requests.next(ctx); p != nil {
		reply(w, p.Request)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (a *agent) postAnswer(w http.ResponseWriter, r *http.Request) {
	var answer agentapi.Answer
	if err := decode(w, r, &answer); err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	if err := a.requests.answerTo(r.PathValue("id"), answer); err != nil {
		refuse(w, http.StatusNotFound, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (a *agent) postQuiesce(w http.ResponseWriter, r *http.Request) {
	if a.display == nil {
		refuse(w, http.StatusConflict, errNoBuilder)
		return
	}
	err := a.jobs.hold(r.Context())
	if err == nil {
		err = a.display.pause(r.Context())
	}
	if err != nil {
		refuse(w, http.StatusInternalServerError, err)
		return
	}
	if err := errors.Join(a.arrivals.hold(), syncDisk()); err != nil {
		refuse(w, http.StatusInternalServerError, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// syncDisk writes out the instance's own file system. sync(2) would wait for
// every file system of the host.
func syncDisk() error {
	root, err := os.Open("/")
	if err != nil {
		return err
	}
	defer root.Close()
	if err := unix.Syncfs(int(root.Fd())); err != nil {
		return fmt.Errorf("write the disk out: %w", err)
	}
	return nil
}

func (a *agent) postResume(w http.ResponseWriter, r *http.Request) {
	if a.display == nil {
		refuse(w, http.StatusConflict, errNoBuilder)
		return
	}
	a.display.resume()
	a.jobs.release()
	a.arrivals.release()
	w.WriteHeader(http.StatusNoContent)
}

func (a *agent) postCreateImage(w http.ResponseWriter, r *http.Request) {
	if err := a.permit(r, 0); err != nil {
		refuse(w, http.StatusForbidden, err)
		return
	}
	var in agentapi.CreateImage
	if err := decode(w, r, &in); err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	a.askServer(w, r, agentapi.Request{Kind: agentapi.KindCreateImage, CreateImage: &in})
}

func (a *agent) postCreatePackage(w http.ResponseWriter, r *http.Request) {
	if err := a.permit(r, 0); err != nil {
		refuse(w, http.StatusForbidden, err)
		return
	}
	a.askServer(w, r, agentapi.Request{Kind: agentapi.KindCreatePackage})
}

// askServer hands a request to the server, and its answer to who has asked.
func (a *agent) askServer(w http.ResponseWriter, r *http.Request, request agentapi.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), control.AnswerTimeout)
	defer cancel()
	takeBy, cancelTake := context.WithTimeout(ctx, takeWithin)
	defer cancelTake()
	answer, err := a.requests.ask(ctx, takeBy, request)
	if err != nil {
		refuse(w, http.StatusServiceUnavailable, err)
		return
	}
	reply(w, answer)
}

func (a *agent) postPower(w http.ResponseWriter, r *http.Request) {
	if err := a.permit(r, desktopUID); err != nil {
		refuse(w, http.StatusForbidden, err)
		return
	}
	var in control.Power
	if err := decode(w, r, &in); err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	var code int
	switch in.Kind {
	case agentapi.KindReboot:
		code = agentapi.ExitReboot
	case agentapi.KindPowerOff:
		code = agentapi.ExitPowerOff
	default:
		refuse(w, http.StatusBadRequest, fmt.Errorf("%.32q is neither reboot nor poweroff", in.Kind))
		return
	}
	a.log.Info("power", "kind", in.Kind, "uid", peerOf(r).Uid)
	notice, err := a.requests.add(agentapi.Request{Kind: in.Kind})
	w.WriteHeader(http.StatusNoContent)
	http.NewResponseController(w).Flush() // while there is an agent
	go func() {
		// A server that listens hears of it before the instance is gone.
		if err == nil {
			select {
			case <-notice.taken:
			case <-time.After(noticeGrace):
			}
		}
		a.stop(code)
	}()
}

// noticeGrace is how long a reboot waits for the server to take the notice.
const noticeGrace = 200 * time.Millisecond

// permit says whether the caller may administrate this instance: root may, and
// so may uid.
func (a *agent) permit(r *http.Request, uid int) error {
	peer := peerOf(r)
	switch {
	case !a.config.Role.Builds():
		return errors.New("this machine belongs to a fleet; it is changed by making a new image in an image builder")
	case peer == nil || peer.Uid != 0 && int(peer.Uid) != uid && int(peer.Uid) != os.Geteuid():
		return errors.New("only the administrator of the image builder may do this")
	}
	return nil
}

// waitContext bounds a call that may be held by its parameter wait (seconds).
func waitContext(r *http.Request) (context.Context, context.CancelFunc, error) {
	text := r.URL.Query().Get("wait")
	if text == "" {
		text = "0"
	}
	wait, err := strconv.ParseFloat(text, 64)
	if err != nil || !(wait >= 0 && wait <= agentapi.MaxWait.Seconds()) {
		return nil, nil, fmt.Errorf("wait must be a number of seconds from 0 to %g", agentapi.MaxWait.Seconds())
	}
	ctx, cancel := context.WithTimeout(r.Context(), time.Duration(wait*float64(time.Second)))
	return ctx, cancel, nil
}

func decode(w http.ResponseWriter, r *http.Request, v any) error {
	if err := json.UnmarshalRead(http.MaxBytesReader(w, r.Body, maxBody), v); err != nil {
		return fmt.Errorf("the body is not understood: %w", err)
	}
	return nil
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.MarshalWrite(w, v)
}

func refuse(w http.ResponseWriter, status int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.MarshalWrite(w, control.Error{Code: codeOf(err), Message: err.Error()})
}

// codeOf gives the code of an error that people meet; "" for all others.
func codeOf(err error) agentapi.Code {
	for _, c := range []struct {
		err  error
		code agentapi.Code
	}{
		{files.ErrName, agentapi.CodeName}, {files.ErrCut, agentapi.CodeCut}, {files.ErrTooLarge, agentapi.CodeTooLarge}, {files.ErrFull, agentapi.CodeFull},
		{files.ErrKind, agentapi.CodeTaken}, {files.ErrNotEmpty, agentapi.CodeNotEmpty}, {fs.ErrNotExist, agentapi.CodeMissing}, {fs.ErrPermission, agentapi.CodeForbidden},
		{errTransfers, agentapi.CodeBusy}, {printer.ErrNoPrint, agentapi.CodeNoPrint}, {windows.ErrNoWindow, agentapi.CodeNoWindow}, {errNoApplication, agentapi.CodeNoApplication},
	} {
		if errors.Is(err, c.err) {
			return c.code
		}
	}
	return ""
}

// newServer makes an HTTP server for one of the sockets.
func newServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       agentapi.MaxWait + control.AnswerTimeout,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			peer, _ := peerCred(c.(*net.UnixConn))
			return context.WithValue(ctx, peerKey{}, peer)
		},
	}
}

type peerKey struct{}

// peerOf tells who is at the other end; nil when the kernel did not say.
func peerOf(r *http.Request) *unix.Ucred {
	peer, _ := r.Context().Value(peerKey{}).(*unix.Ucred)
	return peer
}

// peerCred asks the kernel who connected.
func peerCred(c *net.UnixConn) (peer *unix.Ucred, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	if e := raw.Control(func(fd uintptr) { peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); e != nil {
		return nil, e
	}
	return peer, err
}

// outsiders is a listener that accepts only callers from outside the instance:
// the kernel shows the process of such a caller as 0, because it is in no
// namespace that the agent can see. File modes alone would not do, when the
// server's user on the host has the same number as the desktop's user.
type outsiders struct{ net.Listener }

func (l outsiders) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if peer, err := peerCred(c.(*net.UnixConn)); err == nil && peer.Pid == 0 {
			return c, nil
		}
		c.Close()
	}
}

// counter counts what is bounded and runs at the same time.
type counter = atomic.Int64
