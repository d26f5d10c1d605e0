package blob

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
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

// A blob goes when it was unused for the time between two sweeps.
func TestSweep(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, ".new-1"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	put := func(text string) string {
		t.Helper()
		name, err := d.Put([]byte(text), ".png")
		if err != nil {
			t.Fatal(err)
		}
		return name
	}
	used, unused, again := put("used"), put("unused"), put("again")
	if err := os.WriteFile(filepath.Join(dir, "somebody's"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	sweep := func(want int, inUse ...string) {
		t.Helper()
		names := map[string]bool{}
		for _, name := range inUse {
			names[name] = true
		}
		if removed, err := d.Sweep(names); err != nil || removed != want {
			t.Errorf("%d were removed, not %d: %v", removed, want, err)
		}
	}
	sweep(0, used)
	put("again")    // before its record is committed
	sweep(1, used)  // unused
	sweep(1, used)  // again, of which nothing came
	sweep(0)        // used was in use until now
	sweep(0, used)  // and is once more
	sweep(0, again) // which is not there
	if _, err := d.Get(unused); !errors.Is(err, ErrNotFound) {
		t.Errorf("what is unused: %v", err)
	}
	var left []string
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if want := []string{used, "somebody's"}; !slices.Equal(left, want) {
		t.Errorf("there are %q, not %q", left, want)
	}
}

func TestNames(t *testing.T) {
	a, b := strings.Repeat("a", 64), strings.Repeat("0", 64)
	got := Names([]byte(`{"Logo":"` + a + `.png","Icons":{"x":"` + b + `"},"Hash":"` + a + b + `","Short":"` + a[1:] + `"}`))
	if want := []string{a + ".png", b}; fmt.Sprintf("%s", got) != fmt.Sprintf("%s", want) {
		t.Errorf("the names are %s, not %s", got, want)
	}
}
