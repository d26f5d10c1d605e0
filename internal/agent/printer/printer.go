// Package printer is the printer of a session: what is printed on it becomes a
// PDF that the person can fetch.
//
// Programs find it as they find any printer, by the protocol of CUPS, which is
// IPP (RFC 8011) with a few operations of its own, on a unix socket that the
// environment names in CUPS_SERVER. There is no CUPS: a print system with
// queues, filters and drivers would do nothing here but hand on PDF files, and
// would do it as one daemon for all the people of an instance.
package printer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"golang.org/x/sys/unix"

	"github.com/oriel-project/oriel/internal/agentapi"
)

// Bounds of what a session prints and leaves lying.
const (
	maxDocument  = 128 << 20 // bytes
	maxDocuments = 512 << 20 // bytes, all together
	maxJobs      = 100       // that are remembered; those with documents are not forgotten
	maxTitle     = 200       // bytes
	maxPrograms  = 64        // that are connected at the same time
)

// ErrNoPrint means that there is no such document.
var ErrNoPrint = errors.New("there is no such printed document; it was removed")

// Reasons for which a document is not taken.
var (
	errFormat   = errors.New("the printer takes PDF only")
	errTooLarge = fmt.Errorf("a document may have %d MiB", maxDocument>>20)
	errFull     = errors.New("too much is printed and not yet fetched; fetch it, remove it and print again")
)

// Printer is one session's printer.
type Printer struct {
	dir  string
	host string // of its addresses
	user string
	uid  uint32
	log  *slog.Logger
	http *http.Server

	started time.Time

	mu      sync.Mutex
	changed chan struct{} // closed and replaced when version changes
	version int
	jobs    []*job // oldest first
	lastJob int
	bytes   int64 // of all documents, also of those that are arriving
}

// jobState is a job's state as IPP numbers them.
type jobState int

const (
	pending    jobState = 3
	processing jobState = 5
	canceled   jobState = 7
	aborted    jobState = 8
	completed  jobState = 9
)

// job is one thing that was printed.
type job struct {
	id      int
	title   string
	state   jobState
	created time.Time
	ended   time.Time // when state is canceled, aborted or completed
	size    int64
	kept    bool // its document is there
}

func (j *job) over() bool { return j.state >= canceled }

// New makes the printer of the user, which is reached at socket. Documents are
// kept in dir, which is made, and which only the agent can enter.
func New(dir, socket, user string, uid int, log *slog.Logger) (*Printer, error) {
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	// Some programs connect to the host that the printer's address names, not to
	// CUPS_SERVER. For libcups a host can be a socket.
	host := strings.ReplaceAll(url.PathEscape(socket), "/", "%2F")
	p := &Printer{dir: dir, host: host, user: user, uid: uint32(uid), log: log, started: time.Now(), changed: make(chan struct{})}
	p.http = &http.Server{
		Handler: p, MaxHeaderBytes: 16 << 10,
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Minute, IdleTimeout: time.Minute,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	var programs atomic.Int64
	p.http.ConnState = func(c net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			if programs.Add(1) > maxPrograms {
				c.Close()
			}
		case http.StateClosed:
			programs.Add(-1)
		}
	}
	return p, nil
}

// Serve answers programs on l until Close.
func (p *Printer) Serve(l *net.UnixListener) {
	if err := p.http.Serve(owners{l, p.uid}); !errors.Is(err, http.ErrServerClosed) {
		p.log.Error("printer", "error", err)
	}
}

// Close ends the printer and removes its documents.
func (p *Printer) Close() error {
	return errors.Join(p.http.Close(), os.RemoveAll(p.dir))
}

// owners accepts programs of one user, and of root. The socket's mode says the
// same, but the directory that it is in is the user's to change.
type owners struct {
	*net.UnixListener
	uid uint32
}

func (l owners) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if peer, err := peerOf(c); err == nil && (peer.Uid == l.uid || peer.Uid == 0) {
			return c, nil
		}
		c.Close()
	}
}

func peerOf(c *net.UnixConn) (peer *unix.Ucred, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	if e := raw.Control(func(fd uintptr) { peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); e != nil {
		return nil, e
	}
	return peer, err
}

// change tells those who wait that the documents have changed; p.mu is held.
func (p *Printer) change() {
	p.version++
	close(p.changed)
	p.changed = make(chan struct{})
}

// Prints lists the documents that can be fetched, oldest first. If after is the
// version that is known already, it waits for another one, or for ctx to end.
func (p *Printer) Prints(ctx context.Context, after string) agentapi.Prints {
	for {
		p.mu.Lock()
		changed := p.changed
		list := agentapi.Prints{Version: strconv.Itoa(p.version), Prints: []agentapi.Print{}}
		for _, j := range p.jobs {
			if j.kept {
				list.Prints = append(list.Prints, agentapi.Print{ID: strconv.Itoa(j.id), Title: j.title, Size: j.size, Printed: j.ended.UTC()})
			}
		}
		p.mu.Unlock()
		if list.Version != after {
			return list
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return list
		}
	}
}

// Open opens a document and tells its length. The caller closes it.
func (p *Printer) Open(id string) (*os.File, int64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	j := p.kept(id)
	if j == nil {
		return nil, 0, ErrNoPrint
	}
	f, err := os.Open(p.file(j))
	return f, j.size, err
}

// Remove removes a document.
func (p *Printer) Remove(id string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	j := p.kept(id)
	if j == nil {
		return ErrNoPrint
	}
	if err := os.Remove(p.file(j)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	j.kept = false
	p.bytes -= j.size
	p.change()
	return nil
}

func (p *Printer) file(j *job) string { return filepath.Join(p.dir, strconv.Itoa(j.id)+".pdf") }

// kept finds the job of a document that is there; p.mu is held.
func (p *Printer) kept(id string) *job {
	n := slices.IndexFunc(p.jobs, func(j *job) bool { return j.kept && strconv.Itoa(j.id) == id })
	if n < 0 {
		return nil
	}
	return p.jobs[n]
}

// add begins a job. It forgets the oldest without a document when there are
// too many, and fails when all have one.
func (p *Printer) add(title string) (*job, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.jobs) >= maxJobs {
		n := slices.IndexFunc(p.jobs, func(j *job) bool { return !j.kept && j.state != processing })
		if n < 0 {
			return nil, errFull
		}
		p.jobs = slices.Delete(p.jobs, n, n+1)
	}
	p.lastJob++
	j := &job{id: p.lastJob, title: cleanTitle(title), state: pending, created: time.Now()}
	p.jobs = append(p.jobs, j)
	return j, nil
}

// receive takes a job's document from r. Whatever comes of it, the job is over.
func (p *Printer) receive(j *job, r io.Reader) error {
	p.mu.Lock()
	if j.state != pending {
		p.mu.Unlock()
		return errOver
	}
	j.state = processing
	p.mu.Unlock()

	size, err := p.store(p.file(j), r)

	p.mu.Lock()
	defer p.mu.Unlock()
	j.ended = time.Now()
	switch {
	case err == nil && j.state == canceled: // meanwhile
		err = errOver
		fallthrough
	case err != nil:
		os.Remove(p.file(j))
		p.bytes -= size
		if j.state != canceled {
			j.state = aborted
		}
		return err
	}
	j.state, j.size, j.kept = completed, size, true
	p.change()
	p.log.Info("printed", "job", j.id, "bytes", size)
	return nil
}

// errOver is for what is done to a job too late.
var errOver = errors.New("the job is over")

// store writes a document to a new file, and tells how many bytes it counted
// in p.bytes for it, also when it fails.
func (p *Printer) store(name string, r io.Reader) (size int64, err error) {
	const magic = "%PDF-"
	begin := make([]byte, len(magic))
	if _, err := io.ReadFull(r, begin); err != nil || string(begin) != magic {
		return 0, errFormat
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, err
	}
	count := func(b []byte) (int, error) {
		p.mu.Lock()
		full := p.bytes+int64(len(b)) > maxDocuments
		if !full {
			p.bytes += int64(len(b))
			size += int64(len(b))
		}
		p.mu.Unlock()
		switch {
		case full:
			return 0, errFull
		case size > maxDocument:
			return 0, errTooLarge
		}
		return f.Write(b)
	}
	_, err = io.CopyBuffer(writer(count), struct{ io.Reader }{io.MultiReader(strings.NewReader(magic), r)}, make([]byte, 64<<10))
	return size, cmp.Or(err, f.Close())
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

// cancel cancels a job that is not over.
func (p *Printer) cancel(j *job) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if j.over() {
		return errOver
	}
	j.state, j.ended = canceled, time.Now()
	return nil
}

// cleanTitle makes what a program calls its document fit to be shown.
func cleanTitle(title string) string {
	title = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == unicode.ReplacementChar {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(title, " "))
	title = strings.Join(strings.Fields(title), " ")
	if len(title) > maxTitle {
		title = strings.TrimSpace(strings.ToValidUTF8(title[:maxTitle], ""))
	}
	return cmp.Or(title, "Document")
}
