package blob

import (
	"errors"
	"os"
	"testing"
)

func TestPutGet(t *testing.T) {
	dir := t.TempDir()
	d, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	name, err := d.Put([]byte("icon"), ".png")
	if err != nil {
		t.Fatal(err)
	}
	again, err := d.Put([]byte("icon"), ".png")
	if err != nil || again != name {
		t.Fatalf("equal content got the names %q and %q, err %v", name, again, err)
	}
	data, err := d.Get(name)
	if err != nil || string(data) != "icon" {
		t.Fatalf("Get = %q, %v", data, err)
	}
	if files, _ := os.ReadDir(dir); len(files) != 1 {
		t.Errorf("%d files were left, want 1", len(files))
	}
}

func TestGetRefusesOtherNames(t *testing.T) {
	d, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "..", "../blob.go", "/etc/passwd", ".new-1", "A", string(make([]byte, 64))} {
		if _, err := d.Get(name); !errors.Is(err, ErrNotFound) {
			t.Errorf("Get(%q) = %v, want ErrNotFound", name, err)
		}
	}
}
