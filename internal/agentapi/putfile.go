package agentapi

import (
	"bytes"
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Bounds of PutFile, in bytes.
const (
	MaxPutFile = 16 << 30 // of a file
	MaxPiece   = 1 << 20  // of one piece of it
	MaxPutPath = 1024     // of its path
)

// PutFile is a file that root shall have on an image builder.
type PutFile struct {
	Path   string // absolute, without . and .. in it
	Mode   uint32 // permissions, such as 0o644
	Size   int64
	SHA256 string // of its content, in 64 lower-case hexadecimal digits
}

// Check tells what is wrong with f.
func (f PutFile) Check() error {
	switch {
	case len(f.Path) > MaxPutPath || !utf8.ValidString(f.Path) || strings.ContainsRune(f.Path, 0):
		return fmt.Errorf("a path is text of at most %d bytes", MaxPutPath)
	case !strings.HasPrefix(f.Path, "/") || path.Clean(f.Path) != f.Path || f.Path == "/":
		return fmt.Errorf("%q is not the absolute path of a file, written without . and .. and with single slashes", f.Path)
	case f.Mode > 0o7777:
		return fmt.Errorf("%o is not a mode; for example 644", f.Mode)
	case f.Size < 0 || f.Size > MaxPutFile:
		return fmt.Errorf("a file has 0 to %d bytes, not %d", int64(MaxPutFile), f.Size)
	case len(f.SHA256) != 64 || strings.Trim(f.SHA256, "0123456789abcdef") != "":
		return errors.New("a SHA-256 digest has 64 lower-case hexadecimal digits")
	}
	return nil
}

// PutStatus is how much of a file has arrived.
type PutStatus struct {
	Received int64 `json:"received"` // bytes: where the next piece begins
	Complete bool  `json:"complete"` // the file is at its path
}

// PutFile sends the piece of f that begins at offset. The file is at its path
// when all of it has arrived as its digest says, and not before; it belongs to
// root, and takes the place of another. A piece that is not the next one, or is
// empty, changes nothing: Received says what to send. At offset 0 the file
// begins anew. A CallError with status 507 says that the disk is full. While the
// instance is quiesced, every piece is refused.
func (c *Client) PutFile(ctx context.Context, f PutFile, offset int64, piece []byte) (PutStatus, error) {
	query := url.Values{
		"path": {f.Path}, "mode": {strconv.FormatUint(uint64(f.Mode), 8)}, "size": {strconv.FormatInt(f.Size, 10)},
		"sha256": {f.SHA256}, "offset": {strconv.FormatInt(offset, 10)},
	}
	ctx, cancel := context.WithTimeout(ctx, putTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "PUT", "http://agent/v1/files?"+query.Encode(), bytes.NewReader(piece))
	if err != nil {
		return PutStatus{}, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return PutStatus{}, fmt.Errorf("agent: %w", err)
	}
	defer resp.Body.Close()
	if err := refused(resp); err != nil {
		return PutStatus{}, err
	}
	var s PutStatus
	if err := json.UnmarshalRead(io.LimitReader(resp.Body, maxAnswer), &s); err != nil {
		return PutStatus{}, fmt.Errorf("agent: the answer is not understood: %w", err)
	}
	if s.Received < 0 || s.Received > f.Size {
		return PutStatus{}, fmt.Errorf("agent: it has %d bytes of a file of %d", s.Received, f.Size)
	}
	return s, nil
}

// putTimeout bounds the arrival of a piece. The last one may wait for a large
// file to be moved to another disk.
const putTimeout = 25 * time.Second
