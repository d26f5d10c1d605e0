package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAddKeyKeepsFiles: a key's secret is told once, so no file with one is written over.
func TestAddKeyKeepsFiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ci.credentials")
	if err := os.WriteFile(file, []byte("the only copy"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := addKeyCommand{shown: shown{File: file}, Name: "ci", AllowAll: true}
	if err := c.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "ci.credentials is there already") {
		t.Error(err)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "the only copy" {
		t.Errorf("%q, %v", text, err)
	}
}
