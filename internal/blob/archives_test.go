package blob_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/oriel-project/oriel/internal/blob"
)

const account, archive = "123456789012", "123456789012/ami-0123456789abcdef0.tar"

func TestArchives(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "exports")
	a, err := blob.OpenArchives(dir)
	if err != nil {
		t.Fatal(err)
	}
	has := func(want bool) {
		t.Helper()
		n, err := a.Count(account)
		if got, hasErr := a.Has(archive); got != want || hasErr != nil || err != nil || n > 0 != want {
			t.Fatalf("Has = %v, %v; Count = %d, %v", got, hasErr, n, err)
		}
	}
	has(false)
	broken := errors.New("the engine went away")
	if err := a.Save(t.Context(), archive, func(w io.Writer) error { io.WriteString(w, "half"); return broken }); !errors.Is(err, broken) {
		t.Errorf("a broken archive: %v", err)
	}
	has(false)
	ctx, cancel := context.WithCancel(t.Context())
	err = a.Save(ctx, archive, func(w io.Writer) error {
		cancel()
		_, err := io.WriteString(w, "late")
		return err
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("an archive that is written after the context has ended: %v", err)
	}
	if err := a.Save(ctx, archive, func(io.Writer) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("an archive whose writer does not notice the end of the context: %v", err)
	}
	has(false)
	if left, _ := filepath.Glob(filepath.Join(dir, account, "*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	write := func(text string) func(io.Writer) error {
		return func(w io.Writer) error { _, err := io.WriteString(w, text); return err }
	}
	if err := errors.Join(a.Save(t.Context(), archive, write("one")), a.Save(t.Context(), archive, write("two"))); err != nil {
		t.Fatal(err)
	}
	has(true)
	if got, err := os.ReadFile(filepath.Join(dir, archive)); string(got) != "one" || err != nil {
		t.Errorf("the archive is %q, %v", got, err)
	}

	// A process that was killed leaves a part; the next one removes it, and nothing else.
	part := filepath.Join(dir, account, ".new-1")
	if err := os.WriteFile(part, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if a, err = blob.OpenArchives(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(part); !os.IsNotExist(err) {
		t.Errorf("the part is still there: %v", err)
	}
	has(true)
	if err := errors.Join(a.Remove(archive), a.Remove(archive)); err != nil {
		t.Error(err)
	}
	has(false)
}

// An archive is in the folder of its account, whatever it is called.
func TestNamesOfArchives(t *testing.T) {
	a, err := blob.OpenArchives(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "ami-1.tar", "123456789012/../x.tar", "../123456789012/x.tar", "123456789012/.x.tar", "/etc/x.tar",
		"123456789012/x", "123456789012/a/b.tar", "123456789012/" + strings.Repeat("x", 80) + ".tar"} {
		_, err := a.Has(name)
		if err == nil || a.Remove(name) == nil || a.Save(t.Context(), name, func(io.Writer) error { return nil }) == nil {
			t.Errorf("%q was accepted", name)
		}
	}
	if n, err := a.Count("../.."); n != 0 || err != nil {
		t.Errorf("Count of what is no account: %d, %v", n, err)
	}
}
