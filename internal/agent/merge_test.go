package agent

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// disk writes files below a directory.
func disk(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
}

// Two packages that were made apart are both there in the end, with the changes that either has made.
func TestMergeLists(t *testing.T) {
	root, dir := t.TempDir(), filepath.Join(t.TempDir(), "kept")
	const base, baseGroups = "root:x:0:0::/root:/bin/sh\nlp:x:7:7::/:/bin/sh\n", "root:x:0:\naudio:x:29:\n"
	status := func(packages ...string) string {
		var b strings.Builder
		for _, p := range packages {
			name, version, _ := strings.Cut(p, " ")
			b.WriteString("Package: " + name + "\nStatus: install ok installed\nArchitecture: amd64\nVersion: " + version + "\nDescription: a\n b\n\n")
		}
		return b.String()
	}
	do := func(moment string) {
		t.Helper()
		if err := mergeLists(root, dir, moment); err != nil {
			t.Fatal(err)
		}
	}
	disk(t, root, map[string]string{"etc/passwd": base, "etc/group": baseGroups, "var/lib/dpkg/status": status("base 1", "libc 1")})
	do(mergeFirst)
	// A script of the first app block removes a user; the packages of the others know nothing of that.
	disk(t, root, map[string]string{"etc/passwd": "root:x:0:0::/root:/bin/sh\n"})
	do(mergeBefore)
	disk(t, root, map[string]string{"etc/passwd": base + "tea:x:998:998::/:/bin/false\n", "etc/group": "root:x:0:\naudio:x:29:tea\n", "var/lib/dpkg/status": status("base 1", "libc 2", "tea 1")})
	do(mergeAfter)
	do(mergeBefore)
	disk(t, root, map[string]string{"etc/passwd": base + "pot:x:997:997::/:/bin/false", "var/lib/dpkg/status": status("base 1", "libc 1", "pot 3"), "var/lib/apt/extended_states": "Package: pot\nArchitecture: amd64\nAuto-Installed: 1\n"})
	do(mergeAfter)
	for name, want := range map[string]string{
		"etc/passwd":                  "root:x:0:0::/root:/bin/sh\ntea:x:998:998::/:/bin/false\npot:x:997:997::/:/bin/false\n",
		"etc/group":                   "root:x:0:\naudio:x:29:tea\n",
		"var/lib/dpkg/status":         status("base 1", "libc 2", "tea 1", "pot 3"),
		"var/lib/apt/extended_states": "Package: pot\nArchitecture: amd64\nAuto-Installed: 1\n\n",
	} {
		got, err := os.ReadFile(filepath.Join(root, name))
		if err != nil || string(got) != want {
			t.Errorf("%s is %q, %v; want %q", name, got, err, want)
		}
		if info, err := os.Stat(filepath.Join(root, name)); err != nil || info.Mode() != 0o640 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(root, "*", "*.oriel")); left != nil {
		t.Errorf("there are %v", left)
	}
}

// What a package has put in the place of a list may lead anywhere.
func TestMergeListsThatAreNone(t *testing.T) {
	root, dir, elsewhere := t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "precious")
	disk(t, root, map[string]string{"etc/passwd": "root:x:0:0::/root:/bin/sh\n"})
	disk(t, filepath.Dir(elsewhere), map[string]string{"precious": "mine"})
	for _, moment := range []string{mergeFirst, mergeBefore, mergeAfter} {
		if moment == mergeAfter {
			file := filepath.Join(root, "etc/passwd")
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(elsewhere, file); err != nil {
				t.Fatal(err)
			}
		}
		if err := mergeLists(root, dir, moment); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(elsewhere); err != nil || string(got) != "mine" {
		t.Errorf("it is %q, %v", got, err)
	}
}

// Nor does it matter what a package has put where a list is written before it takes the place of the old one.
func TestMergeListsInTheWay(t *testing.T) {
	for name, put := range map[string]func(string) error{
		"a pipe":      func(path string) error { return syscall.Mkfifo(path, 0o600) }, // which nobody reads
		"a link":      func(path string) error { return os.Symlink("/dev/full", path) },
		"a directory": func(path string) error { return os.MkdirAll(filepath.Join(path, "full"), 0o700) },
	} {
		root, dir := t.TempDir(), t.TempDir()
		for _, moment := range []string{mergeFirst, mergeBefore, mergeAfter} {
			disk(t, root, map[string]string{"etc/passwd": map[string]string{mergeAfter: "new:1\n"}[moment] + "root:0\n"})
			if moment == mergeBefore {
				if err := os.WriteFile(filepath.Join(root, "etc/passwd"), []byte("root:0\nmine:2\n"), 0o640); err != nil {
					t.Fatal(err)
				}
			}
			if moment == mergeAfter {
				if err := put(filepath.Join(root, "etc/passwd.oriel")); err != nil {
					t.Fatal(err)
				}
			}
			if err := mergeLists(root, dir, moment); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if got, err := os.ReadFile(filepath.Join(root, "etc/passwd")); err != nil || string(got) != "root:0\nmine:2\nnew:1\n" {
			t.Errorf("%s: the list is %q, %v", name, got, err)
		}
		if _, err := os.Lstat(filepath.Join(root, "etc/passwd.oriel")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there: %v", name, err)
		}
	}
}

func FuzzMerged(f *testing.F) {
	f.Add("a:1\nb:2\n", "a:1\nc:3\n", "a:2\nb:2\nd:4")
	f.Add("Package: a\nArchitecture: b\n\n", "", "Package: a\n\n\nx")
	f.Fuzz(func(t *testing.T, first, before, now string) {
		for _, split := range []func([]byte) []record{lines, paragraphs} {
			out := merged(split, []byte(first), []byte(before), []byte(now))
			if again := merged(split, []byte(first), out, []byte(now)); string(again) != string(out) {
				t.Errorf("done again, %q becomes %q", out, again)
			}
			if same := merged(split, []byte(first), []byte(before), []byte(first)); len(index(split(same))) != len(index(split([]byte(before)))) {
				t.Errorf("a package that changes nothing makes %q of %q", same, before)
			}
		}
	})
}
