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
