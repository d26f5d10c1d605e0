package docker

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// disk makes an archive as an engine exports a disk.
func disk(t *testing.T, entries ...tar.Header) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range entries {
		content := "content of " + h.Name
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(content))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			io.WriteString(w, content)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

func TestSaveChanged(t *testing.T) {
	capability := map[string]string{"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00"}
	exported := disk(t,
		tar.Header{Name: "./", Typeflag: tar.TypeDir},
		tar.Header{Name: "bin/sh", Typeflag: tar.TypeReg, Mode: 0o755},
		tar.Header{Name: "opt/", Typeflag: tar.TypeDir, Mode: 0o755},
		tar.Header{Name: "opt/a", Typeflag: tar.TypeReg, Mode: 0o4755, Uid: 7, Gid: 8, PAXRecords: capability},
		tar.Header{Name: "opt/b", Typeflag: tar.TypeLink, Linkname: "opt/a"},
		tar.Header{Name: "opt/c", Typeflag: tar.TypeLink, Linkname: "tmp/c"},
		tar.Header{Name: "opt/d", Typeflag: tar.TypeSymlink, Linkname: "/bin/sh"},
		tar.Header{Name: "opt/e", Typeflag: tar.TypeFifo, Mode: 0o600},
		tar.Header{Name: "tmp/c", Typeflag: tar.TypeReg},
		tar.Header{Name: "var/log/", Typeflag: tar.TypeDir},
		tar.Header{Name: "var/log/x", Typeflag: tar.TypeReg})
	changed := map[string]bool{"": true}
	for _, name := range []string{"opt", "opt/a", "opt/b", "opt/c", "opt/d", "opt/e", "tmp", "tmp/c", "var/log", "var/log/x"} {
		changed[name] = true
	}
	var out bytes.Buffer
	files, err := saveChanged(bytes.NewReader(exported.Bytes()), changed, &out, func(name string) (io.ReadCloser, error) {
		return io.NopCloser(disk(t, tar.Header{Name: "c", Typeflag: tar.TypeReg, Mode: 0o640})), nil
	})
	if err != nil || files != 5 {
		t.Fatalf("%d files, %v", files, err)
	}
	var got []string
	for in := tar.NewReader(&out); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, strings.TrimSpace(fmt.Sprintf("%s %c %o %d:%d %s %s", h.Name, h.Typeflag, h.Mode, h.Uid, h.Gid, h.Linkname, content)))
		if has := h.PAXRecords["SCHILY.xattr.security.capability"]; (h.Name == "opt/a") != (has == capability["SCHILY.xattr.security.capability"]) {
			t.Errorf("%s has the capability %q", h.Name, has)
		}
	}
	want := []string{"opt/ 5 755 0:0", "opt/a 0 4755 7:8  content of opt/a", "opt/b 1 0 0:0 opt/a", "opt/c 0 640 0:0  content of c", "opt/d 2 0 0:0 /bin/sh", "opt/e 6 600 0:0", "var/log/ 5 0 0:0"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}

	broken := errors.New("broken")
	if _, err := saveChanged(bytes.NewReader(exported.Bytes()), changed, io.Discard, func(string) (io.ReadCloser, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Errorf("a file that cannot be read: %v", err)
	}
	if _, err := saveChanged(bytes.NewReader(exported.Bytes()[:1800]), changed, io.Discard, nil); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("an export that is cut: %v", err)
	}
}
