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
