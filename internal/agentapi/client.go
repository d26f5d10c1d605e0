package agentapi

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Bounds on what an instance may answer, in bytes.
const (
	maxAnswer       = 256 << 10
	maxApplications = 32 << 20 // 50 applications with uncompressible icons: 18 MiB
	maxList         = 4 << 20  // MaxFolder names, or the titles of the windows: 2 MiB
	maxHeader       = 64 << 10
)

// MaxWait is the longest that a call which waits is held by the agent.
const MaxWait = 30 * time.Second

// callTimeout bounds a call that does not wait; Quiesce may take longer,
// because it writes out the disk.
const callTimeout = 10 * time.Second

// ErrDisplayDown means that the instance has no display at the moment: it is
// starting, being restarted or quiesced. Wait for Status.Ready and try again.
var ErrDisplayDown = errors.New("the instance's display is not up")

// Dialer opens a connection to the agent, for example to its unix socket.
type Dialer func(context.Context) (net.Conn, error)

// DialSocket returns a Dialer for the agent's socket at path.
func DialSocket(path string) Dialer {
	return func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
}

// DialWhenUp returns a Dialer for the socket at path of an instance that is
// just starting: where there is no socket yet, it waits for one until its
// context ends, and looks every few milliseconds.
func DialWhenUp(path string) Dialer {
	dial := DialSocket(path)
	return func(ctx context.Context) (net.Conn, error) {
		for pause := time.Millisecond; ; pause = min(2*pause, 20*time.Millisecond) {
			conn, err := dial(ctx)
			if err == nil || !errors.Is(err, syscall.ENOENT) && !errors.Is(err, syscall.ECONNREFUSED) {
				return conn, err
			}
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return nil, err
			}
		}
	}
}

// Client talks to one agent. Its methods may be called at the same time.
type Client struct {
	dial Dialer
	http *http.Client
}

// NewClient returns a client that opens its connections with dial. It keeps at
// most two idle ones; Close ends them.
func NewClient(dial Dialer) *Client {
	return &Client{dial: dial, http: &http.Client{
		Transport: &http.Transport{
			DialContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
			MaxIdleConnsPerHost: 2,
			IdleConnTimeout:     time.Minute,
			DisableCompression:  true,

			MaxResponseHeaderBytes: maxHeader,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Close ends idle connections. Calls and display streams that run go on.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Status asks how the agent is.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var s Status
	_, err := c.call(ctx, callTimeout, "GET", "/v1/status", nil, &s, maxAnswer)
	return s, err
}

// WaitReady returns as soon as the desktop is there, or after wait (at most
// MaxWait) with a Status that says Ready false.
func (c *Client) WaitReady(ctx context.Context, wait time.Duration) (Status, error) {
	var s Status
	_, err := c.call(ctx, wait+callTimeout, "GET", "/v1/status?wait="+seconds(wait), nil, &s, maxAnswer)
	return s, err
}

// Applications returns the catalogue, in the order the applications were added.
func (c *Client) Applications(ctx context.Context) ([]Application, error) {
	var body struct {
		Applications []Application `json:"applications"`
	}
	_, err := c.call(ctx, callTimeout, "GET", "/v1/applications", nil, &body, maxApplications)
	return body.Applications, err
}

// NextRequest returns the next request from inside the instance. It waits for
// one for at most wait (≤ MaxWait) and returns nil when there is none.
func (c *Client) NextRequest(ctx context.Context, wait time.Duration) (*Request, error) {
	var r Request
	status, err := c.call(ctx, wait+callTimeout, "GET", "/v1/requests?wait="+seconds(wait), nil, &r, maxAnswer)
	if err != nil || status == http.StatusNoContent {
		return nil, err
	}
	if r.ID == "" || (r.Kind == KindCreateImage) != (r.CreateImage != nil) {
		return nil, errors.New("the agent sent a request that is not complete")
	}
	return &r, nil
}

// Answer tells the author of a request what became of it.
func (c *Client) Answer(ctx context.Context, id string, a Answer) error {
	_, err := c.call(ctx, callTimeout, "POST", "/v1/requests/"+url.PathEscape(id), a, nil, maxAnswer)
	return err
}

// Quiesce ends the desktop's programs and writes the disk out, so that it can
// be captured. It takes up to about two seconds plus the writing; ctx bounds it.
func (c *Client) Quiesce(ctx context.Context) error {
	_, err := c.call(ctx, 0, "POST", "/v1/quiesce", nil, nil, maxAnswer)
	return err
}

// Resume starts the desktop again after Quiesce. It does not wait for it.
func (c *Client) Resume(ctx context.Context) error {
	_, err := c.call(ctx, callTimeout, "POST", "/v1/resume", nil, nil, maxAnswer)
	return err
}

// call sends one request and decodes the answer into out, unless out is nil.
func (c *Client) call(ctx context.Context, timeout time.Duration, method, target string, in, out any, limit int64) (int, error) {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return 0, err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://agent"+target, body)
	if err != nil {
		return 0, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, fmt.Errorf("agent: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case err != nil:
		return 0, fmt.Errorf("agent: read the answer: %w", err)
	case int64(len(text)) > limit:
		return 0, fmt.Errorf("agent: the answer is longer than %d bytes", limit)
	case resp.StatusCode/100 != 2:
		return 0, callError(resp.StatusCode, text)
	case out == nil || resp.StatusCode == http.StatusNoContent:
		return resp.StatusCode, nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return 0, fmt.Errorf("agent: the answer is not understood: %w", err)
	}
	return resp.StatusCode, nil
}

// CallError is a call that the agent refused.
type CallError struct {
	Status  int    // HTTP
	Code    Code   // "" for what no person meets, and from agents that have no codes yet
	Message string // from the instance: at most 1 KiB, and not to be trusted
}

// A Code names why the agent refused what a person asked for, so that it can be said in the person's language. One that is not known here is of a newer
// agent.
type Code string

// The codes.
const (
	CodeName          Code = "name"           // the name is not possible
	CodeCut           Code = "cut"            // a file did not arrive whole
	CodeTooLarge      Code = "too-large"      // a file is longer than MaxFile
	CodeFull          Code = "full"           // the disk is
	CodeTaken         Code = "taken"          // there is something else of the name
	CodeNotEmpty      Code = "not-empty"      // the folder is not
	CodeMissing       Code = "missing"        // there is no such file or folder
	CodeForbidden     Code = "forbidden"      // it may not be done there
	CodeBusy          Code = "busy"           // as many transfers as there may be are going on
	CodeNoPrint       Code = "no-print"       // there is no such printed document
	CodeNoWindow      Code = "no-window"      // there is no such window
	CodeNoApplication Code = "no-application" // the catalogue has no such application
)

func (e *CallError) Error() string {
	if e.Message == "" {
		return "agent: " + http.StatusText(e.Status)
	}
	return "agent: " + e.Message
}

// callError makes the error of a refusal.
func callError(status int, body []byte) *CallError {
	var e struct {
		Code    Code   `json:"code"`
		Message string `json:"message"`
	}
	if json.Unmarshal(body, &e) != nil {
		return &CallError{Status: status}
	}
	return &CallError{status, e.Code, strings.ToValidUTF8(e.Message[:min(len(e.Message), 1<<10)], "")}
}

func seconds(d time.Duration) string {
	d = max(0, min(d, MaxWait))
	return strconv.FormatFloat(d.Seconds(), 'f', 3, 64)
}

// Display opens a new stream to the display: what follows is RFB, beginning
// with the server's version line. CloseWrite ends one direction. When there is
// no display the error is ErrDisplayDown.
func (c *Client) Display(ctx context.Context) (*DisplayConn, error) {
	return c.display(ctx, "/v1/display")
}

func (c *Client) display(ctx context.Context, path string) (*DisplayConn, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	d, err := upgrade(ctx, conn, path)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return d, nil
}

// upgrade turns conn into a display stream. The handshake is spoken here and
// not by net/http, so that the result is the connection itself and the kernel
// can move its bytes.
func upgrade(ctx context.Context, conn net.Conn, path string) (*DisplayConn, error) {
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	req, err := http.NewRequestWithContext(ctx, "GET", "http://agent"+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "rfb")
	if err := req.Write(conn); err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	// The head of the answer is bounded by the limit; what comes after it is
	// in the reader's buffer or still in conn.
	limited := &io.LimitedReader{R: conn, N: maxHeader}
	r := bufio.NewReaderSize(limited, 4<<10)
	resp, err := http.ReadResponse(r, req)
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusSwitchingProtocols:
	case http.StatusServiceUnavailable:
		return nil, ErrDisplayDown
	default:
		text, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		return nil, callError(resp.StatusCode, text)
	}
	if !stop() {
		return nil, fmt.Errorf("agent: %w", ctx.Err())
	}
	early, err := r.Peek(r.Buffered())
	if err != nil {
		return nil, err
	}
	return &DisplayConn{Conn: conn, early: bytes.Clone(early)}, nil
}

// DisplayConn is a stream of RFB in both directions.
type DisplayConn struct {
	net.Conn
	early []byte // arrived together with the head of the answer
}

// Read reads from the display.
func (d *DisplayConn) Read(p []byte) (int, error) {
	if len(d.early) > 0 {
		n := copy(p, d.early)
		d.early = d.early[n:]
		return n, nil
	}
	return d.Conn.Read(p)
}

// WriteTo copies the display's bytes to w until the stream ends.
func (d *DisplayConn) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(d.early)
	d.early = d.early[n:]
	if err != nil {
		return int64(n), err
	}
	m, err := io.Copy(w, d.Conn)
	return int64(n) + m, err
}

// CloseWrite tells the display that nothing more will be sent; reading goes on.
func (d *DisplayConn) CloseWrite() error {
	if c, ok := d.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}
