package blob_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/oriel-project/oriel/internal/blob"
)

const account, archive = "123456789012", "123456789012/ami-0123456789abcdef0.tar"

// archives is what a directory and a bucket both do.
type archives interface {
	Has(ctx context.Context, name string) (bool, error)
	Save(ctx context.Context, name string, write func(io.Writer) error) error
	Read(ctx context.Context, name string, read func(*io.SectionReader) error) error
	Remove(ctx context.Context, name string) error
	Count(ctx context.Context, account string) (int, error)
}

func write(text string) func(io.Writer) error {
	return func(w io.Writer) error { _, err := io.WriteString(w, text); return err }
}

// each runs a test with a directory and with a bucket. left tells what is there of archives that were not completed.
func each(t *testing.T, test func(t *testing.T, open func() archives, left func() []string)) {
	t.Run("directory", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "exports")
		test(t, func() archives {
			a, err := blob.OpenArchives(dir)
			if err != nil {
				t.Fatal(err)
			}
			return a
		}, func() []string {
			left, _ := filepath.Glob(filepath.Join(dir, "*", ".*"))
			return left
		})
	})
	t.Run("bucket", func(t *testing.T) {
		s := newStorage(t)
		blob.SetPartSize(t, 5<<20) // the smallest that servers accept
		test(t, func() archives { return s.open() }, s.unfinished)
	})
}

func TestArchives(t *testing.T) {
	each(t, func(t *testing.T, open func() archives, left func() []string) {
		a := open()
		has := func(want bool) {
			t.Helper()
			n, err := a.Count(t.Context(), account)
			if got, hasErr := a.Has(t.Context(), archive); got != want || hasErr != nil || err != nil || n > 0 != want {
				t.Fatalf("Has = %v, %v; Count = %d, %v", got, hasErr, n, err)
			}
			if l := left(); len(l) > 0 {
				t.Fatalf("left: %v", l)
			}
		}
		has(false)
		if err := a.Read(t.Context(), archive, func(*io.SectionReader) error { return nil }); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("read of an archive that is not there: %v", err)
		}
		large := bytes.Repeat([]byte("0123456789abcde\n"), 1<<20) // 16 MiB: four parts
		for size, piece := range map[string][]byte{"small": []byte("half"), "large": large[:11<<20]} {
			broken := errors.New("the engine went away")
			if err := a.Save(t.Context(), archive, func(w io.Writer) error { w.Write(piece); return broken }); !errors.Is(err, broken) {
				t.Errorf("a broken archive, %s: %v", size, err)
			}
			has(false)
			ctx, cancel := context.WithCancel(t.Context())
			err := a.Save(ctx, archive, func(w io.Writer) error {
				if _, err := w.Write(piece); err != nil {
					return err
				}
				cancel()
				_, err := io.WriteString(w, "late")
				return err
			})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("an archive that is written after the context has ended, %s: %v", size, err)
			}
			ctx, cancel = context.WithCancel(t.Context())
			if err := a.Save(ctx, archive, func(w io.Writer) error { w.Write(piece); cancel(); return nil }); !errors.Is(err, context.Canceled) {
				t.Errorf("an archive whose writer does not notice the end of the context, %s: %v", size, err)
			}
			has(false)
		}
		for name, content := range map[string][]byte{"empty": {}, "small": []byte("one"), "of whole parts": large[:10<<20], "large": large} {
			if err := a.Save(t.Context(), archive, write(string(content))); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if err := a.Save(t.Context(), archive, func(io.Writer) error { return errors.New("it is there") }); err != nil {
				t.Errorf("%s, saved again: %v", name, err)
			}
			has(true)
			err := a.Read(t.Context(), archive, func(r *io.SectionReader) error {
				if r.Size() != int64(len(content)) {
					t.Errorf("%s: %d bytes, want %d", name, r.Size(), len(content))
				}
				got, err := io.ReadAll(r)
				if err != nil || !bytes.Equal(got, content) {
					t.Errorf("%s: read %d bytes, want %d; %v", name, len(got), len(content), err)
				}
				for offset := len(content); offset > 0; offset = offset/2 - 3 { // here and there, backwards
					b := make([]byte, 100)
					want := content[max(0, offset-50):min(len(content), max(0, offset-50)+100)]
					if n, err := r.ReadAt(b, int64(max(0, offset-50))); !bytes.Equal(b[:n], want) || err != nil && err != io.EOF || n < 100 && err == nil {
						t.Errorf("%s, at %d: %d bytes, %v", name, offset, n, err)
					}
				}
				return err
			})
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if err := errors.Join(a.Remove(t.Context(), archive), a.Remove(t.Context(), archive)); err != nil {
				t.Fatal(err)
			}
			has(false)
		}
		enough := errors.New("enough")
		if err := errors.Join(a.Save(t.Context(), archive, write(string(large))), a.Save(t.Context(), "999999999999/other.tar", write("x"))); err != nil {
			t.Fatal(err)
		}
		has(true)
		if err := a.Read(t.Context(), archive, func(r *io.SectionReader) error { io.CopyN(io.Discard, r, 100); return enough }); !errors.Is(err, enough) {
			t.Errorf("a reader that has enough: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var section *io.SectionReader
		err := a.Read(ctx, archive, func(r *io.SectionReader) error {
			section = r
			io.CopyN(io.Discard, r, 100)
			cancel()
			_, err := io.Copy(io.Discard, r)
			return err
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("read when the context has ended: %v", err)
		}
		if _, err := section.ReadAt(make([]byte, 10), 1<<20); err == nil {
			t.Error("it can still be read")
		}
		a = open() // as the next process has it
		has(true)
		if err := errors.Join(a.Remove(t.Context(), archive), a.Remove(t.Context(), "999999999999/other.tar")); err != nil {
			t.Error(err)
		}
		has(false)
	})
}

// A process that was killed leaves a part; the next one removes it, and nothing else.
func TestKilledProcess(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "exports")
	a, err := blob.OpenArchives(dir)
	if err == nil {
		err = a.Save(t.Context(), archive, write("one"))
	}
	part := filepath.Join(dir, account, ".new-1")
	if err = errors.Join(err, os.WriteFile(part, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if a, err = blob.OpenArchives(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(part); !os.IsNotExist(err) {
		t.Errorf("the part is still there: %v", err)
	}
	if has, err := a.Has(t.Context(), archive); !has || err != nil {
		t.Errorf("Has = %v, %v", has, err)
	}
}

// An archive is in the folder of its account, whatever it is called.
func TestNamesOfArchives(t *testing.T) {
	dir, err := blob.OpenArchives(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	bucket, err := blob.OpenBucket(t.Context(), blob.BucketConfig{Bucket: "none", Endpoint: "http://127.0.0.1:1", Region: "us-east-1"})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []archives{dir, bucket} {
		for _, name := range []string{"", "ami-1.tar", "123456789012/../x.tar", "../123456789012/x.tar", "123456789012/.x.tar", "/etc/x.tar",
			"123456789012/x", "123456789012/a/b.tar", "123456789012/" + strings.Repeat("x", 80) + ".tar"} {
			_, err := a.Has(t.Context(), name)
			for what, err := range map[string]error{"Has": err, "Remove": a.Remove(t.Context(), name), "Save": a.Save(t.Context(), name, write("")),
				"Read": a.Read(t.Context(), name, func(*io.SectionReader) error { return nil })} {
				if err == nil || !strings.Contains(err.Error(), "cannot name an archive") {
					t.Errorf("%T.%s(%q): %v", a, what, name, err)
				}
			}
		}
		if n, err := a.Count(t.Context(), "../.."); n != 0 || err != nil {
			t.Errorf("Count of what is no account: %d, %v", n, err)
		}
	}
}
