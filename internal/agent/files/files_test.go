package files

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/oriel-project/oriel/internal/agentapi"
)

// person gives a home with a folder in it, and the uid and gid that it belongs
// to: nobody's when the test may be nobody, otherwise its own.
func person(t *testing.T) (home string, uid, gid int) {
	t.Helper()
	home, err := os.MkdirTemp("", "oriel-files-test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	uid, gid = os.Geteuid(), os.Getegid()
	if uid == 0 {
		uid, gid = 65534, 65534
	}
	if err := os.Chown(home, uid, gid); err != nil {
		t.Fatal(err)
	}
	return home, uid, gid
}

func folder(t *testing.T) (*Folder, string) {
	home, uid, gid := person(t)
	dir := filepath.Join(home, "MyFiles")
	return New(dir, uid, gid), dir
}

func write(t *testing.T, d *Folder, p, text string) {
	t.Helper()
	if err := d.Write(p, strings.NewReader(text), int64(len(text))); err != nil {
		t.Fatalf("write %s: %v", p, err)
	}
}

func names(f agentapi.Folder) (list []string) {
	for _, f := range f.Files {
		list = append(list, f.Name)
	}
	return list
}

// read gives the content, with the errors of opening.
func (d *Folder) read(p string) (string, error) {
	f, size, err := d.Open(p)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	if err == nil && int64(len(text)) != size {
		err = fmt.Errorf("%d bytes were announced, %d came", size, len(text))
	}
	return string(text), err
}

func TestFolder(t *testing.T) {
	d, dir := folder(t)
	if list, err := d.List(""); err != nil || len(list.Files) != 0 || list.Free <= 0 {
		t.Fatalf("a new folder: %+v, %v", list, err)
	}
	write(t, d, "b.txt", "one")
	write(t, d, "b.txt", "another")
	if err := d.Make("zoo"); err != nil {
		t.Fatal(err)
	}
	if err := d.Make("zoo"); err != nil {
		t.Errorf("a folder that is there: %v", err)
	}
	write(t, d, "zoo/ä ö.txt", "")
	write(t, d, "a.txt", strings.Repeat("x", 1<<20))

	list, err := d.List("")
	if err != nil || !slices.Equal(names(list), []string{"zoo", "a.txt", "b.txt"}) || list.Files[1].Size != 1<<20 || !list.Files[0].Folder {
		t.Errorf("%+v, %v", list, err)
	}
	if list, err = d.List("zoo"); err != nil || !slices.Equal(names(list), []string{"ä ö.txt"}) || list.Path != "zoo" {
		t.Errorf("%+v, %v", list, err)
	}
	if text, err := d.read("b.txt"); err != nil || text != "another" {
		t.Errorf("%q, %v", text, err)
	}
	var stat unix.Stat_t
	if err := unix.Stat(filepath.Join(dir, "zoo/ä ö.txt"), &stat); err != nil || int(stat.Uid) != d.uid || int(stat.Gid) != d.gid {
		t.Errorf("the file belongs to %d:%d, %v", stat.Uid, stat.Gid, err)
	}
	for _, c := range []struct {
		name string
		err  error
		want error
	}{
		{"remove a folder that is not empty", d.Remove("zoo"), ErrNotEmpty},
		{"remove what is not there", d.Remove("no"), fs.ErrNotExist},
		{"a folder in place of a file", d.Make("a.txt"), ErrKind},
		{"a file in place of a folder", d.Write("zoo", strings.NewReader(""), 0), ErrKind},
		{"a file in a file", d.Write("a.txt/x", strings.NewReader(""), 0), fs.ErrNotExist},
		{"a file in no folder", d.Write("no/x", strings.NewReader(""), 0), fs.ErrNotExist},
		{"too large", d.Write("x", strings.NewReader(""), agentapi.MaxFile+1), ErrTooLarge},
		{"cut", d.Write("x", strings.NewReader("1234"), 5), ErrCut},
		{"gone", d.Write("x", io.MultiReader(strings.NewReader("1"), iotest.ErrReader(io.ErrUnexpectedEOF)), 5), ErrCut},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, c.err, c.want)
		}
	}
	for _, p := range []string{"a.txt", "zoo/ä ö.txt", "zoo", "b.txt"} {
		if err := d.Remove(p); err != nil {
			t.Error(err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestListLeavesOut(t *testing.T) {
	d, dir := folder(t)
	write(t, d, "file", "text")
	for _, err := range []error{
		syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o666),
		os.Symlink("/etc/passwd", filepath.Join(dir, "outside")),
		os.Symlink("nowhere", filepath.Join(dir, "dangling")),
		os.Symlink("loop", filepath.Join(dir, "loop")),
		os.Symlink("file", filepath.Join(dir, "link")),
		os.WriteFile(filepath.Join(dir, "two\nlines"), nil, 0o666),
		os.WriteFile(filepath.Join(dir, "not \xff text"), nil, 0o666),
		os.WriteFile(filepath.Join(dir, "photo\u202egpj.exe"), nil, 0o666),
		os.WriteFile(filepath.Join(dir, partial+"x"), nil, 0o666),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if list, err := d.List(""); err != nil || !slices.Equal(names(list), []string{"file", "link"}) {
		t.Errorf("%v, %v", names(list), err)
	}
	if text, err := d.read("link"); err != nil || text != "text" {
		t.Errorf("a link in the folder: %q, %v", text, err)
	}
	if _, _, err := d.Open("outside"); !errors.Is(err, fs.ErrPermission) {
		t.Error(err)
	}
	// A pipe would keep who opens it waiting.
	if _, _, err := d.Open("pipe"); !errors.Is(err, ErrKind) {
		t.Error(err)
	}
	if err := d.Write("pipe", strings.NewReader("x"), 1); !errors.Is(err, ErrKind) {
		t.Error(err)
	}
	// A link is replaced, not followed.
	write(t, d, "link", "new")
	if text, err := d.read("file"); err != nil || text != "text" {
		t.Errorf("%q, %v", text, err)
	}
}

func TestListMany(t *testing.T) {
	d, dir := folder(t)
	if _, err := d.List(""); err != nil {
		t.Fatal(err)
	}
	for n := range agentapi.MaxFolder + 1 {
		if n == agentapi.MaxFolder {
			if list, err := d.List(""); err != nil || list.More || len(list.Files) != agentapi.MaxFolder {
				t.Errorf("%d entries, more: %v, %v", len(list.Files), list.More, err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(n)), nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if list, err := d.List(""); err != nil || !list.More || len(list.Files) != agentapi.MaxFolder {
		t.Errorf("%d entries, more: %v, %v", len(list.Files), list.More, err)
	}
}

// TestListNothing: there may be more of what is not listed than can be looked
// at while somebody waits.
func TestListNothing(t *testing.T) {
	d, dir := folder(t)
	if _, err := d.List(""); err != nil {
		t.Fatal(err)
	}
	for n := range maxLooked + 256 {
		if err := unix.Mkfifo(filepath.Join(dir, fmt.Sprint(n)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if list, err := d.List(""); err != nil || !list.More {
		t.Errorf("%d entries, more: %v, %v", len(list.Files), list.More, err)
	}
}

// TestNotRoot: the agent does for a person what the person may do, no more.
func TestNotRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("skipped: only root can lend root's powers")
	}
	d, dir := folder(t)
	if _, err := d.List(""); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("root's"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "roots"), 0o755); err != nil {
		t.Fatal(err)
	}
	// A group that root has and the person has not.
	if err := os.WriteFile(filepath.Join(dir, "group"), nil, 0o640); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"read":   func() error { _, err := d.read("secret"); return err }(),
		"group":  func() error { _, err := d.read("group"); return err }(),
		"write":  d.Write("roots/x", strings.NewReader(""), 0),
		"make":   d.Make("roots/x"),
		"remove": func() error { os.WriteFile(filepath.Join(dir, "roots/x"), nil, 0o666); return d.Remove("roots/x") }(),
	} {
		if !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// And the agent itself is root as before, on every thread.
	for range 100 {
		if _, err := os.ReadFile(secret); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFull(t *testing.T) {
	if err := fill(full{}, strings.NewReader("x"), 1); !errors.Is(err, ErrFull) {
		t.Error(err)
	}
	// On a real disk, of a megabyte.
	d, dir := folder(t)
	home := filepath.Dir(dir)
	if err := unix.Mount("tmpfs", home, "tmpfs", 0, fmt.Sprintf("size=1m,uid=%d,gid=%d", d.uid, d.gid)); err != nil {
		t.Skipf("skipped: no small disk can be made: %v", err)
	}
	defer unix.Unmount(home, 0)
	const size = 2 << 20
	if err := d.Write("large", io.LimitReader(zeros{}, size), size); !errors.Is(err, ErrFull) {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	write(t, d, "small", "text")
}

// zeros is a file without an end.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

type full struct{}

func (full) Write([]byte) (int, error) {
	return 0, &fs.PathError{Op: "write", Path: "x", Err: unix.ENOSPC}
}

// TestCanary: whatever the person's programs and the panel do, nothing outside
// of the folder is read, changed, made or removed.
func TestCanary(t *testing.T) {
	const canary = "canary"
	parts := []string{"a", "b", "dir", "..", ".", "", "canary", "out", "up", "pipe", "\x00", strings.Repeat("n", 256)}
	rapid.Check(t, func(rt *rapid.T) {
		home, err := os.MkdirTemp("", "oriel-files-test")
		if err != nil {
			rt.Fatal(err)
		}
		defer os.RemoveAll(home)
		uid, gid := os.Geteuid(), os.Getegid()
		dir := filepath.Join(home, "MyFiles")
		d := New(dir, uid, gid)
		outside := filepath.Join(home, "outside")
		for _, err := range []error{
			os.Mkdir(dir, 0o777), os.Mkdir(outside, 0o777),
			os.WriteFile(filepath.Join(outside, "canary"), []byte(canary), 0o666),
			os.WriteFile(filepath.Join(home, "canary"), []byte(canary), 0o666),
		} {
			if err != nil {
				rt.Fatal(err)
			}
		}
		at := func() string {
			return strings.Join(rapid.SliceOfN(rapid.SampledFrom(parts), 1, 4).Draw(rt, "path"), "/")
		}
		// The person's own programs could do anything; these stay inside.
		root, err := os.OpenRoot(dir)
		if err != nil {
			rt.Fatal(err)
		}
		defer root.Close()
		inside := func() string {
			return rapid.SampledFrom([]string{"a", "b", "dir", "out", "up", "pipe", "dir/a", "dir/out"}).Draw(rt, "place")
		}
		targets := []string{outside, "..", "../outside", "../canary", "../outside/canary", "/", "/proc/self/root", "/proc/self/cwd", "a", "dir", "../MyFiles/../outside"}
		rt.Repeat(map[string]func(*rapid.T){
			"list": func(*rapid.T) {
				if list, err := d.List(at()); err == nil && slices.Contains(names(list), "canary") && !exists(filepath.Join(dir, list.Path, "canary")) {
					rt.Fatalf("the list of %q has the canary", list.Path)
				}
			},
			"read": func(*rapid.T) {
				if text, err := d.read(at()); err == nil && text == canary {
					rt.Fatal("the canary was read")
				}
			},
			"write":  func(*rapid.T) { d.Write(at(), strings.NewReader("cat"), 3) },
			"make":   func(*rapid.T) { d.Make(at()) },
			"remove": func(*rapid.T) { d.Remove(at()) },
			"link":   func(*rapid.T) { root.Symlink(rapid.SampledFrom(targets).Draw(rt, "target"), inside()) },
			"pipe":   func(*rapid.T) { syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o666) },
			"move":   func(*rapid.T) { root.Rename(inside(), inside()) },
			"": func(*rapid.T) {
				for dir, want := range map[string][]string{home: {"MyFiles", "canary", "outside"}, outside: {"canary"}} {
					entries, err := os.ReadDir(dir)
					var got []string
					for _, e := range entries {
						got = append(got, e.Name())
					}
					if err != nil || !slices.Equal(got, want) {
						rt.Fatalf("%s has %q, %v", dir, got, err)
					}
					if text, err := os.ReadFile(filepath.Join(dir, "canary")); err != nil || string(text) != canary {
						rt.Fatalf("the canary of %s: %q, %v", dir, text, err)
					}
				}
			},
		})
	})
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

func FuzzClean(f *testing.F) {
	for _, p := range []string{"", "a", "a/b.txt", "../a", "a/../b", "/a", "a//b", "a/", ".", "a/./b", "a\x00b", "\xff", "ä\u202eb", partial + "x", strings.Repeat("a", 256), strings.Repeat("a/", 600)} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p string) {
		local, err := clean(p, true)
		if err != nil {
			if !errors.Is(err, ErrName) {
				t.Errorf("%q: %v", p, err)
			}
			return
		}
		if p == "" {
			p = "."
		}
		if local != p || !filepath.IsLocal(local) || path.Clean(local) != local || !fs.ValidPath(local) || bytes.ContainsAny([]byte(local), "\x00\n") || len(local) > agentapi.MaxFilePath {
			t.Errorf("%q became %q", p, local)
		}
	})
}
