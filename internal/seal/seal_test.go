package seal

import (
	"bytes"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func line(n byte) string {
	return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{n}, KeySize)) + "\n"
}

func box(t *testing.T, text string) *Box {
	t.Helper()
	b, err := parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSealedTextOpensForItsPurposeAlone(t *testing.T) {
	b := box(t, line(1))
	text := b.Seal("record one", "s3cret")
	if strings.Contains(text, "s3cret") || text == b.Seal("record one", "s3cret") {
		t.Errorf("sealed: %s", text)
	}
	if got, err := b.Open("record one", text); err != nil || got != "s3cret" {
		t.Errorf("Open gives %q, %v", got, err)
	}
	for _, broken := range []string{"", "x", text[:len(text)-4], text + "AAAA", strings.ToUpper(text[:1]) + "." + text, text[:20] + "A" + text[21:], strings.Repeat("a", maxText) + "." + text} {
		if got, err := b.Open("record one", broken); err == nil && broken != text {
			t.Errorf("Open of %.40q gives %q", broken, got)
		}
	}
	if _, err := b.Open("record two", text); !errors.Is(err, ErrInvalid) {
		t.Errorf("Open for another purpose: %v", err)
	}
}

// A key is changed by a new line in front: what older keys sealed can still be opened, is known to be old, and is lost without them.
func TestKeysCanBeChanged(t *testing.T) {
	old := box(t, line(1))
	text := old.Seal("p", "s3cret")
	both := box(t, "# newest first\n\n"+line(2)+line(1))
	if got, err := both.Open("p", text); err != nil || got != "s3cret" || !both.Stale(text) || old.Stale(text) {
		t.Errorf("Open gives %q, %v; stale %v, %v", got, err, both.Stale(text), old.Stale(text))
	}
	again := both.Seal("p", "s3cret")
	if got, err := box(t, line(2)).Open("p", again); err != nil || got != "s3cret" || both.Stale(again) {
		t.Errorf("sealed anew: %q, %v", got, err)
	}
	if _, err := box(t, line(2)).Open("p", text); !errors.Is(err, ErrNoKey) {
		t.Errorf("without the old key: %v", err)
	}
}

func TestKeyFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secrets.key")
	first, err := Ensure(file)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", info.Mode(), err)
	}
	second, err := Ensure(file) // the next start
	if err != nil {
		t.Fatal(err)
	}
	if got, err := second.Open("p", first.Seal("p", "s3cret")); err != nil || got != "s3cret" {
		t.Errorf("after a restart: %q, %v", got, err)
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Ensure(file); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a file that others may read: %v", err)
	}
	for _, text := range []string{"", "# nothing\n", "short\n", line(1)[:40] + "\n", line(1) + "?" + line(1), strings.Repeat(line(1), maxKeys+1)} {
		if _, err := parse([]byte(text)); err == nil {
			t.Errorf("parse of %.60q: no error", text)
		}
	}
}

func FuzzOpen(f *testing.F) {
	b, _ := parse([]byte(line(1)))
	genuine := b.Seal("p", "s3cret")
	for _, seed := range []string{"", ".", genuine, genuine + "=", genuine[:16], strings.Repeat("A", 100)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if got, err := b.Open("p", text); err == nil && text != genuine && got != "s3cret" {
			t.Errorf("a forged text %q opens to %q", text, got)
		}
	})
}
