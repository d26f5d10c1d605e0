package agent

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/oriel-project/oriel/internal/agentapi"
)

// putSpec is a file of the text at a path in the world's root.
func (w *world) putSpec(name, text string) agentapi.PutFile {
	sum := sha256.Sum256([]byte(text))
	return agentapi.PutFile{Path: filepath.Join(w.root, name), Mode: 0o4751, Size: int64(len(text)), SHA256: hex.EncodeToString(sum[:])}
}

func TestPutFile(t *testing.T) {
	w := builder(t)
	put := func(f agentapi.PutFile, offset int64, piece string) agentapi.PutStatus {
		t.Helper()
		s, err := w.client.PutFile(t.Context(), f, offset, []byte(piece))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	f := w.putSpec("opt/new/file", "abcdef")
	for _, c := range []struct {
		offset   int64
		piece    string
		received int64
	}{
		{2, "cd", 0},  // of a file of which nothing is there
		{0, "", 0},    // a question
		{0, "abx", 3}, // wrong, as it will turn out
		{0, "ab", 2},  // it begins anew
		{4, "ef", 2},  // not the next one
		{0, "", 2},    // a question
		{2, "cd", 4},
		{2, "cd", 4}, // again
	} {
		if s := put(f, c.offset, c.piece); s.Received != c.received || s.Complete {
			t.Errorf("%d %q: %+v, want %d", c.offset, c.piece, s, c.received)
		}
		if _, err := os.Stat(f.Path); err == nil {
			t.Fatal("the file is there before it is whole")
		}
	}
	if s := put(f, 4, "ef"); s.Received != 6 || !s.Complete {
		t.Errorf("the last piece: %+v", s)
	}
	text, err := os.ReadFile(f.Path)
	info, err2 := os.Stat(f.Path)
	if err := errors.Join(err, err2); err != nil || string(text) != "abcdef" || info.Mode() != 0o751|os.ModeSetuid {
		t.Errorf("%q, %v, %v", text, info.Mode(), err)
	}
	empty := w.putSpec("opt/empty", "")
	if s := put(empty, 0, ""); !s.Complete {
		t.Errorf("an empty file: %+v", s)
	}
	if err := os.Symlink("/nowhere", filepath.Join(w.root, "opt/link")); err != nil {
		t.Fatal(err)
	}
	if s := put(w.putSpec("opt/link", "in its place"), 0, "in its place"); !s.Complete {
		t.Errorf("a file in place of a link: %+v", s)
	}
	large := w.putSpec("opt/large", strings.Repeat("x", agentapi.MaxPiece+1))
	if s := put(large, 0, strings.Repeat("x", agentapi.MaxPiece)); s.Received != agentapi.MaxPiece {
		t.Errorf("the largest piece: %+v", s)
	}
	if s := put(large, agentapi.MaxPiece, "x"); !s.Complete {
		t.Errorf("the rest: %+v", s)
	}

	for name, c := range map[string]struct {
		f      agentapi.PutFile
		offset int64
		piece  string
		status int
		want   string
	}{
		"digest":    {w.putSpec("opt/wrong", "abc"), 0, "abd", http.StatusUnprocessableEntity, "does not have the digest"},
		"too much":  {w.putSpec("opt/much", "abc"), 0, "abcd", http.StatusUnprocessableEntity, "beyond the file's 3 bytes"},
		"directory": {w.putSpec("opt/new", "abc"), 0, "abc", http.StatusUnprocessableEntity, "is a directory"},
		"path":      {agentapi.PutFile{Path: "a", SHA256: f.SHA256}, 0, "", http.StatusBadRequest, "not the absolute path"},
		"piece":     {large, 0, strings.Repeat("x", agentapi.MaxPiece+1), http.StatusBadRequest, "did not arrive"},
	} {
		_, err := w.client.PutFile(t.Context(), c.f, c.offset, []byte(c.piece))
		if refusal, ok := errors.AsType[*agentapi.CallError](err); !ok || refusal.Status != c.status || !strings.Contains(refusal.Message, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if text, err := os.ReadFile(f.Path); string(text) != "abcdef" {
		t.Errorf("a refusal changed a file: %q, %v", text, err)
	}

	// Files that nobody completes make room for others, and none is in the image.
	for n := range 2 * maxArrivals {
		part := w.putSpec("opt/part", "abc"+strings.Repeat("x", n+1))
		put(part, 0, "abc")
	}
	if left, _ := os.ReadDir(w.paths.arrivals); len(left) != maxArrivals {
		t.Errorf("%d files are arriving", len(left))
	}
	if err := w.client.Quiesce(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Nor does what arrives while the disk is being captured.
	_, err = w.client.PutFile(t.Context(), w.putSpec("opt/late", "abcdef"), 0, []byte("abc"))
	_, err2 = w.client.PutFile(t.Context(), w.putSpec("opt/late", "abc"), 0, []byte("abc"))
	for _, err := range []error{err, err2} {
		if refusal, ok := errors.AsType[*agentapi.CallError](err); !ok || refusal.Status != http.StatusUnprocessableEntity || !strings.Contains(refusal.Message, "quiesced") {
			t.Errorf("while the machine is quiesced: %v", err)
		}
	}
	if _, err := os.Stat(w.paths.arrivals); err == nil {
		t.Error("what has not arrived becomes part of the image")
	}
	if _, err := os.Stat(w.root + "/opt/late"); err == nil {
		t.Error("a file has come while the disk was being captured")
	}
	if err := w.client.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := put(w.putSpec("opt/late", "abc"), 0, "abc"); !s.Complete {
		t.Errorf("after it has resumed: %+v", s)
	}
}

// On another disk too a file is whole or not there.
func TestPutFileElsewhere(t *testing.T) {
	dir, err := os.MkdirTemp("/dev/shm", "oriel-test-")
	if err != nil {
		t.Skipf("skipped: there is no other disk: %v", err)
	}
	defer os.RemoveAll(dir)
	a := arrivals{dir: filepath.Join(t.TempDir(), "arrivals")}
	sum := sha256.Sum256([]byte("abc"))
	f := agentapi.PutFile{Path: filepath.Join(dir, "file"), Mode: 0o640, Size: 3, SHA256: hex.EncodeToString(sum[:])}
	if s, err := a.put(f, 0, []byte("abc")); err != nil || !s.Complete {
		t.Fatalf("%+v, %v", s, err)
	}
	text, err := os.ReadFile(f.Path)
	info, _ := os.Stat(f.Path)
	left, _ := os.ReadDir(dir)
	if err != nil || !bytes.Equal(text, []byte("abc")) || info.Mode() != 0o640 || len(left) != 1 {
		t.Errorf("%q, %v, %d files, %v", text, info, len(left), err)
	}
}

func TestJobEnvironment(t *testing.T) {
	w := builder(t)
	job := agentapi.Job{Environment: map[string]string{"TOKEN": "it's\na $secret", "DEBIAN_FRONTEND": "text"}, Steps: []agentapi.JobStep{{Name: "Show", Command: `printf '%s|%s' "$TOKEN" "$DEBIAN_FRONTEND"`}}}
	if err := w.client.BeginJob(t.Context(), "vars", job); err != nil {
		t.Fatal(err)
	}
	if s := w.jobEnd("vars"); s.State != agentapi.JobSucceeded || s.Output != "it's\na $secret|text" {
		t.Errorf("%+v", s)
	}
	w.stop()
	if strings.Contains(w.log.String(), "secret") {
		t.Errorf("the log has the value of a variable:\n%s", &w.log)
	}
}

func FuzzPutFileCheck(f *testing.F) {
	f.Add("/etc/x", uint32(0o644), int64(3), strings.Repeat("a", 64))
	f.Add("/a//b", uint32(0o10000), int64(-1), "A")
	f.Fuzz(func(t *testing.T, path string, mode uint32, size int64, sum string) {
		p := agentapi.PutFile{Path: path, Mode: mode, Size: size, SHA256: sum}
		if p.Check() == nil && (filepath.Clean(path) != path || !filepath.IsAbs(path) || path == "/" || size < 0) {
			t.Errorf("%+v is accepted", p)
		}
	})
}
