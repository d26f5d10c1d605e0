package agentapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// endTimeout is how long EndSession may take: the termination scripts have at
// most 60 seconds, clearing the rest.
const endTimeout = 2 * time.Minute

// SessionClient talks about one session of an instance. Every method's error
// is ErrNoSession when the instance does not have it.
type SessionClient struct {
	client *Client
	path   string
}

// Session returns the client for one session.
func (c *Client) Session(id string) *SessionClient {
	return &SessionClient{c, "/v1/sessions/" + url.PathEscape(id)}
}

// Sessions lists the sessions of the instance.
func (c *Client) Sessions(ctx context.Context) ([]SessionStatus, error) {
	var body struct {
		Sessions []SessionStatus `json:"sessions"`
	}
	_, err := c.call(ctx, callTimeout, "GET", "/v1/sessions", nil, &body, maxAnswer)
	return body.Sessions, err
}

// Begin begins the session on the instance; a session that is there already
// goes on as it is. It does not wait for the desktop. A CallError with status
// 409 says that the instance is full, or that the session has ended there.
func (s *SessionClient) Begin(ctx context.Context, spec Session) error {
	_, err := s.client.call(ctx, callTimeout, "PUT", s.path, spec, nil, maxAnswer)
	return err
}

// WaitReady returns as soon as the session's desktop is there, or after wait (at
// most MaxWait) with a SessionStatus that says Ready false.
func (s *SessionClient) WaitReady(ctx context.Context, wait time.Duration) (SessionStatus, error) {
	var status SessionStatus
	err := s.call(ctx, wait+callTimeout, "GET", "?wait="+seconds(wait), nil, &status)
	return status, err
}

// End ends the session and returns when nothing is left of it. A session that
// is not there is no error, and cannot begin there any more: a Begin that
// nobody waits for may still be on its way.
func (s *SessionClient) End(ctx context.Context) error {
	if err := s.call(ctx, endTimeout, "DELETE", "", nil, nil); !errors.Is(err, ErrNoSession) {
		return err
	}
	return nil
}

// ScriptLogs gives what the session's scripts have written, also when it is over.
func (s *SessionClient) ScriptLogs(ctx context.Context) ([]ScriptLog, error) {
	var body struct {
		Logs []ScriptLog `json:"logs"`
	}
	_, err := s.client.call(ctx, callTimeout, "GET", s.path+"/script-logs", nil, &body, 8*MaxScriptLog)
	if err != nil {
		return nil, noSession(err)
	}
	for _, l := range body.Logs {
		if l.Event != SessionStart && l.Event != SessionTermination || l.Number < 1 || l.Number > 2 {
			return nil, fmt.Errorf("agent: there is no executable %d of the event %.32q", l.Number, l.Event)
		}
	}
	return body.Logs, nil
}

// Display opens a new stream to the session's display; see Client.Display.
func (s *SessionClient) Display(ctx context.Context) (*DisplayConn, error) {
	conn, err := s.client.display(ctx, s.path+"/display")
	return conn, noSession(err)
}

// SetTimeZone gives the session's programs a time zone such as Europe/Berlin.
func (s *SessionClient) SetTimeZone(ctx context.Context, zone string) error {
	return s.call(ctx, callTimeout, "PUT", "/timezone", struct {
		TimeZone string `json:"timeZone"`
	}{zone}, nil)
}

// Launch starts an application of the catalogue, or, in ViewApp, brings it to
// the front if it runs.
func (s *SessionClient) Launch(ctx context.Context, application string) error {
	return s.call(ctx, callTimeout, "POST", "/launch", struct {
		Application string `json:"application"`
	}{application}, nil)
}

// Windows returns the windows. With after it waits until Version is another,
// for at most wait (≤ MaxWait).
func (s *SessionClient) Windows(ctx context.Context, after string, wait time.Duration) (Windows, error) {
	var w Windows
	err := s.call(ctx, wait+callTimeout, "GET", "/windows"+news(after, wait), nil, &w)
	return w, err
}

// Window does something to a window.
func (s *SessionClient) Window(ctx context.Context, id uint32, action WindowAction) error {
	return s.call(ctx, callTimeout, "POST", "/windows/"+strconv.FormatUint(uint64(id), 10), struct {
		Action WindowAction `json:"action"`
	}{action}, nil)
}

// Prints returns the printed documents; after and wait are as for Windows.
func (s *SessionClient) Prints(ctx context.Context, after string, wait time.Duration) (Prints, error) {
	var p Prints
	err := s.call(ctx, wait+callTimeout, "GET", "/prints"+news(after, wait), nil, &p)
	return p, err
}

// OpenPrint opens a printed document. The caller closes it.
func (s *SessionClient) OpenPrint(ctx context.Context, id string) (io.ReadCloser, int64, error) {
	return s.open(ctx, "/prints/"+url.PathEscape(id))
}

// RemovePrint removes a printed document.
func (s *SessionClient) RemovePrint(ctx context.Context, id string) error {
	return s.call(ctx, callTimeout, "DELETE", "/prints/"+url.PathEscape(id), nil, nil)
}

// Sound opens the sound of the session; PacketReader reads it. It ends with ctx
// and with the session.
func (s *SessionClient) Sound(ctx context.Context) (io.ReadCloser, error) {
	body, _, err := s.open(ctx, "/sound")
	return body, err
}

// Folder lists a folder. Paths have slashes and begin in the session's folder.
func (s *SessionClient) Folder(ctx context.Context, path string) (Folder, error) {
	var f Folder
	err := s.call(ctx, callTimeout, "GET", "/folders/"+escape(path), nil, &f)
	return f, err
}

// MakeFolder makes a folder.
func (s *SessionClient) MakeFolder(ctx context.Context, path string) error {
	return s.call(ctx, callTimeout, "PUT", "/folders/"+escape(path), nil, nil)
}

// OpenFile opens a file and tells its length. The caller closes it.
func (s *SessionClient) OpenFile(ctx context.Context, path string) (io.ReadCloser, int64, error) {
	return s.open(ctx, "/files/"+escape(path))
}

// WriteFile writes a file of size bytes from r, whole or not at all, in place
// of one of that name.
func (s *SessionClient) WriteFile(ctx context.Context, path string, r io.Reader, size int64) error {
	req, err := http.NewRequestWithContext(ctx, "PUT", "http://agent"+s.path+"/files/"+escape(path), io.NopCloser(r))
	if err != nil {
		return err
	}
	req.ContentLength = size
	resp, err := s.client.http.Do(req)
	if err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	defer resp.Body.Close()
	return noSession(refused(resp))
}

// RemoveFile removes a file or an empty folder.
func (s *SessionClient) RemoveFile(ctx context.Context, path string) error {
	return s.call(ctx, callTimeout, "DELETE", "/files/"+escape(path), nil, nil)
}

func (s *SessionClient) call(ctx context.Context, timeout time.Duration, method, target string, in, out any) error {
	_, err := s.client.call(ctx, timeout, method, s.path+target, in, out, maxList)
	return noSession(err)
}

// open opens a body that may be long.
func (s *SessionClient) open(ctx context.Context, target string) (io.ReadCloser, int64, error) {
	req, err := http.NewRequestWithContext(ctx, "GET", "http://agent"+s.path+target, nil)
	if err != nil {
		return nil, 0, err
	}
	resp, err := s.client.http.Do(req)
	if err != nil {
		return nil, 0, fmt.Errorf("agent: %w", err)
	}
	if err := refused(resp); err != nil {
		resp.Body.Close()
		return nil, 0, noSession(err)
	}
	return resp.Body, resp.ContentLength, nil
}

// refused gives the error of a call that was.
func refused(resp *http.Response) error {
	if resp.StatusCode/100 == 2 {
		return nil
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return callError(resp.StatusCode, text)
}

// noSession recognises the refusal that means that there is no such session.
func noSession(err error) error {
	if e, ok := errors.AsType[*CallError](err); ok && e.Status == http.StatusNotFound && e.Message == ErrNoSession.Error() {
		return ErrNoSession
	}
	return err
}

// escape makes a path part of an address; the slashes stay.
func escape(path string) string {
	parts := strings.Split(path, "/")
	for n, part := range parts {
		parts[n] = url.PathEscape(part)
	}
	return strings.Join(parts, "/")
}

func news(after string, wait time.Duration) string {
	if after == "" {
		return ""
	}
	return "?after=" + url.QueryEscape(after) + "&wait=" + seconds(wait)
}

// PacketReader reads the packets of a session's sound.
type PacketReader struct {
	r   io.Reader
	buf [MaxPacket]byte
}

// NewPacketReader reads from r, which should be buffered.
func NewPacketReader(r io.Reader) *PacketReader { return &PacketReader{r: r} }

// Next gives the next packet. It is good until the next call.
func (p *PacketReader) Next() ([]byte, error) {
	if _, err := io.ReadFull(p.r, p.buf[:2]); err != nil {
		return nil, err
	}
	n := int(p.buf[0])<<8 | int(p.buf[1])
	if n == 0 || n > MaxPacket {
		return nil, fmt.Errorf("a packet of sound has %d bytes; 1 to %d are possible", n, MaxPacket)
	}
	if _, err := io.ReadFull(p.r, p.buf[:n]); err != nil {
		return nil, noEnd(err)
	}
	return p.buf[:n], nil
}

func noEnd(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
