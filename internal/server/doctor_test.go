package server

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/oriel-project/oriel/internal/config"
)

// Who only looks finds things as they were.
func TestDoctorMakesNothing(t *testing.T) {
	parent := t.TempDir()
	file := filepath.Join(parent, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		data, says string
		ok         bool
	}{
		{filepath.Join(parent, "none", "yet"), "will be made", true},
		{parent, parent, true},
		{file, "is not a directory", false},
		{filepath.Join(file, "below"), "not a directory", false},
	} {
		cfg := Config{Config: config.Config{Data: tt.data, Listen: "127.0.0.1:0", Engine: "unix://" + filepath.Join(parent, "no.sock")}}
		found := Doctor(t.Context(), cfg)[0]
		if found.OK != tt.ok || !strings.Contains(found.Info, tt.says) || (found.Hint != "") == tt.ok {
			t.Errorf("%s: %+v", tt.data, found)
		}
	}
	entries, err := os.ReadDir(parent)
	if err != nil || len(entries) != 1 {
		t.Errorf("afterwards there are %v, %v", entries, err)
	}
}

// A bucket that is out of reach is found out, and its secret is not told.
func TestDoctorLooksForTheBucket(t *testing.T) {
	file := filepath.Join(t.TempDir(), "credentials")
	if err := os.WriteFile(file, []byte("[default]\naws_access_key_id = ORIELTESTKEY\naws_secret_access_key = not-to-be-told\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := Config{Config: config.Config{Data: t.TempDir(), Listen: "127.0.0.1:0", Provider: config.Sim,
		Archives: config.Bucket{Bucket: "oriel", Endpoint: "http://127.0.0.1:1", Region: "us-east-1", PathStyle: true, Credentials: file}}}
	found := Doctor(t.Context(), cfg)
	last := found[len(found)-1]
	if last.What != "bucket of the archives" || last.OK || last.Hint == "" || !strings.Contains(last.Info, "s3://oriel/ at http://127.0.0.1:1") || strings.Contains(last.Info, "not-to-be-told") {
		t.Errorf("%+v", last)
	}
}

// A mail server that does not let us in is found before the first invitation, and its password is not told.
func TestDoctorAsksTheMailServer(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("not-to-be-told\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := Config{Config: config.Config{Data: t.TempDir(), Listen: "127.0.0.1:0", Provider: config.Sim, PublicURL: "http://127.0.0.1:8080",
		SMTP: config.SMTP{Host: "127.0.0.1", Port: 1, Security: "starttls", Username: "oriel", PasswordFile: file, From: "oriel@example.com"}}}
	found := Doctor(t.Context(), cfg)
	last := found[len(found)-1]
	if last.What != "mail server" || last.OK || last.Hint == "" || !strings.HasPrefix(last.Info, "127.0.0.1: ") || strings.Contains(last.Info, "not-to-be-told") {
		t.Errorf("%+v", last)
	}
}
