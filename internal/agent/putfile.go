package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/oriel-project/oriel/internal/agentapi"
)

// arrivals are the files of an image builder that are being put there for root.
// Each is written where nobody looks, and moved to its path when it is whole.
type arrivals struct {
	dir string

	mu    sync.Mutex
	files map[agentapi.PutFile]*arrival
	held  bool // the instance is quiesced: nothing arrives
}

// arrival is one of them.
type arrival struct {
	file     *os.File
	digest   hash.Hash
	received int64
	last     time.Time // that something came
}

// maxArrivals is how many files may arrive at a time; for one more, the one
// that has waited longest is given up.
const maxArrivals = 8

// errDigest says that what arrived is not what was sent.
var errDigest = errors.New("the content does not have the digest that was told; it has been dropped")

// errHeld says that nothing may become part of the image any more.
var errHeld = errors.New("the machine is quiesced, because its disk is being captured; send the file again when it has resumed")

// put takes the piece of f that begins at offset.
func (a *arrivals) put(f agentapi.PutFile, offset int64, piece []byte) (agentapi.PutStatus, error) {
	if err := f.Check(); err != nil {
		return agentapi.PutStatus{}, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.held {
		return agentapi.PutStatus{}, errHeld
	}
	x := a.files[f]
	if offset == 0 && (len(piece) > 0 || f.Size == 0) {
		a.drop(f)
		var err error
		if x, err = a.begin(f); err != nil {
			return agentapi.PutStatus{}, err
		}
	}
	switch {
	case x == nil:
		return agentapi.PutStatus{}, nil
	case offset != x.received || len(piece) == 0 && f.Size > 0:
		return agentapi.PutStatus{Received: x.received}, nil
	case int64(len(piece)) > f.Size-offset:
		return agentapi.PutStatus{}, fmt.Errorf("the piece goes beyond the file's %d bytes", f.Size)
	}
	x.digest.Write(piece)
	if _, err := x.file.Write(piece); err != nil {
		a.drop(f)
		return agentapi.PutStatus{}, err
	}
	x.received += int64(len(piece))
	x.last = time.Now()
	if x.received < f.Size {
		return agentapi.PutStatus{Received: x.received}, nil
	}
	defer a.drop(f) // there is nothing left of it when it was moved
	if hex.EncodeToString(x.digest.Sum(nil)) != f.SHA256 {
		return agentapi.PutStatus{}, errDigest
	}
	if err := install(x.file, f); err != nil {
		return agentapi.PutStatus{}, err
	}
	return agentapi.PutStatus{Received: f.Size, Complete: true}, nil
}

func (a *arrivals) begin(f agentapi.PutFile) (*arrival, error) {
	for len(a.files) >= maxArrivals {
		var oldest agentapi.PutFile
		for k, x := range a.files {
			if o := a.files[oldest]; o == nil || x.last.Before(o.last) {
				oldest = k
			}
		}
		a.drop(oldest)
	}
	if err := os.MkdirAll(a.dir, 0o700); err != nil {
		return nil, err
	}
	file, err := os.CreateTemp(a.dir, "file-") // with mode 0600
	if err != nil {
		return nil, err
	}
	if a.files == nil {
		a.files = map[agentapi.PutFile]*arrival{}
	}
	x := &arrival{file: file, digest: sha256.New(), last: time.Now()}
	a.files[f] = x
	return x, nil
}

// drop gives a file up that has not arrived whole.
func (a *arrivals) drop(f agentapi.PutFile) {
	if x := a.files[f]; x != nil {
		x.file.Close()
		os.Remove(x.file.Name())
		delete(a.files, f)
	}
}

// hold gives all of them up, and refuses others until release.
func (a *arrivals) hold() error {
	a.mu.Lock()
	a.held = true
	a.mu.Unlock()
	return a.clear()
}

func (a *arrivals) release() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.held = false
}

// clear gives all of them up, with what an earlier start of the machine left.
func (a *arrivals) clear() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for f := range a.files {
		a.drop(f)
	}
	return os.RemoveAll(a.dir)
}

// install moves a file that has arrived to its path.
func install(file *os.File, f agentapi.PutFile) error {
	if info, err := os.Lstat(f.Path); err == nil && info.IsDir() {
		return fmt.Errorf("%s is a directory", f.Path)
	}
	if err := os.MkdirAll(filepath.Dir(f.Path), 0o755); err != nil {
		return err
	}
	// File.Chmod has other numbers for setuid and the like.
	if err := unix.Fchmod(int(file.Fd()), f.Mode); err != nil {
		return err
	}
	err := os.Rename(file.Name(), f.Path)
	if errors.Is(err, unix.EXDEV) { // a path on another disk, such as /tmp
		return copyTo(file, f)
	}
	return err
}

// copyTo copies a file to a path on another disk, where too it is whole or not there.
func copyTo(file *os.File, f agentapi.PutFile) error {
	near, err := os.CreateTemp(filepath.Dir(f.Path), ".oriel-partial-")
	if err != nil {
		return err
	}
	defer os.Remove(near.Name()) // does nothing after the rename
	_, err = file.Seek(0, io.SeekStart)
	if err == nil {
		_, err = io.Copy(near, file)
	}
	err = errors.Join(err, unix.Fchmod(int(near.Fd()), f.Mode), near.Close())
	if err == nil {
		err = os.Rename(near.Name(), f.Path)
	}
	return err
}

// putFile takes a piece of a file, see agentapi.
func (a *agent) putFile(w http.ResponseWriter, r *http.Request) {
	if a.display == nil {
		refuse(w, http.StatusConflict, errNoBuilder)
		return
	}
	q := r.URL.Query()
	mode, err1 := strconv.ParseUint(q.Get("mode"), 8, 32)
	size, err2 := strconv.ParseInt(q.Get("size"), 10, 64)
	offset, err3 := strconv.ParseInt(q.Get("offset"), 10, 64)
	f := agentapi.PutFile{Path: q.Get("path"), Mode: uint32(mode), Size: size, SHA256: q.Get("sha256")}
	if err := errors.Join(err1, err2, err3, f.Check()); err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	piece, err := io.ReadAll(http.MaxBytesReader(w, r.Body, agentapi.MaxPiece))
	if err != nil {
		refuse(w, http.StatusBadRequest, fmt.Errorf("the piece did not arrive: %w", err))
		return
	}
	status, err := a.arrivals.put(f, offset, piece)
	switch {
	case err == nil:
		reply(w, status)
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		refuse(w, http.StatusInsufficientStorage, errors.New("the machine's disk is full"))
	default:
		refuse(w, http.StatusUnprocessableEntity, err)
	}
}
