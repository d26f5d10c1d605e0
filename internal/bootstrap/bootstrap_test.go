package bootstrap_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/oriel-project/oriel/images"
	"github.com/oriel-project/oriel/internal/bootstrap"
)

// testRecipe is small and complete.
func testRecipe() fstest.MapFS {
	return fstest.MapFS{
		"image.json": {Data: []byte(`{"name": "tiny", "platform": "DEBIAN_12", "displayName": "Tiny \"$1\"", "description": "d",
			"released": "2026-01-02T03:04:05Z", "suite": "bookworm", "sizeMB": 1, "changes": ["CMD [\"/bin/sh\"]"]}`)},
		"packages":      {Data: []byte("# comment\n\nxterm\nlibstdc++6\n")},
		"dpkg-excludes": {Data: []byte("path-exclude=/usr/share/man/*\n")},
		"setup":         {Data: []byte("#!/bin/sh\n")},
		"files/etc/apt/sources.list.d/debian.sources": {Data: []byte("Types: deb\nURIs: http://deb.debian.org/debian\n")},
		"files/usr/sbin/policy-rc.d":                  {Data: []byte("#!/bin/sh\nexit 101\n")},
		"files/etc/motd":                              {Data: []byte("hello\n")},
	}
}

// fakeMmdebstrap puts a shell script in mmdebstrap's place. It finds a good tar in $GOOD, and a directory for notes in $NOTES.
func fakeMmdebstrap(t *testing.T, script string) (notes string) {
	t.Helper()
	bin, notes := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "mmdebstrap"), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for name, f := range testRecipe() {
		if path, ok := strings.CutPrefix(name, "files/"); ok {
			err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "./" + path, Size: int64(len(f.Data)), Mode: 0o644})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(f.Data); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	good := filepath.Join(notes, "good.tar")
	if err := os.WriteFile(good, buf.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOOD", good)
	t.Setenv("NOTES", notes)
	t.Setenv("PATH", bin+":/usr/bin:/bin")
	return notes
}

// left lists what a cache directory holds but for locks: no failure may leave anything there.
func left(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".lock") {
			names = append(names, e.Name())
		}
	}
	return names
}

const succeed = `echo run >>"$NOTES/runs"; cat "$GOOD"`

func runs(t *testing.T, notes string) int {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(notes, "runs"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return bytes.Count(data, []byte("\n"))
}

func TestBuildCaches(t *testing.T) {
	notes := fakeMmdebstrap(t, succeed)
	options := bootstrap.Options{Recipe: testRecipe(), CacheDir: filepath.Join(t.TempDir(), "a", "cache")}
	first, err := bootstrap.Build(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(filepath.Join(notes, "good.tar"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(first.Tar); err != nil || !bytes.Equal(got, good) {
		t.Errorf("the tar is not what mmdebstrap wrote (%v)", err)
	}
	second, err := bootstrap.Build(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("second build differs (-first +second):\n%s", diff)
	}
	if n := runs(t, notes); n != 1 {
		t.Errorf("mmdebstrap ran %d times, want 1", n)
	}

	options.Rebuild = true
	if _, err := bootstrap.Build(t.Context(), options); err != nil {
		t.Fatal(err)
	}
	if n := runs(t, notes); n != 2 {
		t.Errorf("mmdebstrap ran %d times after Rebuild, want 2", n)
	}

	// A changed recipe makes another image, and the old tar goes.
	options.Rebuild = false
	recipe := testRecipe()
	recipe["files/etc/motd"] = &fstest.MapFile{Data: []byte("good bye\n")}
	options.Recipe = recipe
	third, err := bootstrap.Build(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	if third.Tar == first.Tar || third.Recipe == first.Recipe {
		t.Errorf("a changed recipe kept %s", third.Tar)
	}
	if diff := cmp.Diff([]string{filepath.Base(third.Tar)}, left(t, options.CacheDir)); diff != "" {
		t.Errorf("cache (-want +got):\n%s", diff)
	}
}

// TestCachedNeedsNothing: a machine that only runs images it has need not have mmdebstrap.
func TestCachedNeedsNothing(t *testing.T) {
	fakeMmdebstrap(t, succeed)
	options := bootstrap.Options{Recipe: testRecipe(), CacheDir: t.TempDir()}
	if _, err := bootstrap.Build(t.Context(), options); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := bootstrap.Build(t.Context(), options); err != nil {
		t.Error(err)
	}
	options.Rebuild = true
	_, err := bootstrap.Build(t.Context(), options)
	if err == nil || !strings.Contains(err.Error(), "apt-get install mmdebstrap") {
		t.Errorf("error %v does not say how to get mmdebstrap", err)
	}
}

func TestBuildAtTheSameTime(t *testing.T) {
	notes := fakeMmdebstrap(t, succeed+"; sleep 0.3")
	options := bootstrap.Options{Recipe: testRecipe(), CacheDir: t.TempDir()}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := bootstrap.Build(t.Context(), options); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := runs(t, notes); n != 1 {
		t.Errorf("mmdebstrap ran %d times for four builds at the same time, want 1", n)
	}
}

func TestBuildFails(t *testing.T) {
	tests := []struct {
		name   string
		script string
		want   []string // in the error
		is     error
	}{
		{
			name:   "exit code",
			script: `for i in $(seq 30); do echo "line $i" >&2; done; printf 'E: \033[31mbroken\rpackages\n' >&2; exit 7`,
			want:   []string{"exit status 7", "line 30\n", "E:  [31mbroken\npackages"},
		},
		{name: "silent", script: `exit 1`, want: []string{"without a word"}},
		{name: "killed", script: `echo working >&2; kill -KILL $$`, want: []string{"signal: killed", "working"}},
		{
			name:   "disk full inside",
			script: `echo "tar: write error: No space left on device" >&2; exit 2`,
			want:   []string{"make room"}, is: bootstrap.ErrNoSpace,
		},
		{
			name:   "no network",
			script: `echo "E: Could not resolve 'deb.debian.org'" >&2; exit 1`,
			want:   []string{"network"},
		},
		{
			name:   "no keys",
			script: `echo "E: /usr/share/keyrings/debian-archive-keyring.gpg does not exist" >&2; exit 1`,
			want:   []string{"apt-get install debian-archive-keyring"},
		},
		{name: "nothing written", script: `exit 0`, want: []string{"broken tar"}},
		{name: "half tar", script: `head -c 1300 "$GOOD"`, want: []string{"broken tar"}},
		{name: "cut between files", script: `head -c -1024 "$GOOD"`, want: []string{"broken tar", "unexpected EOF"}},
		{name: "another tar", script: `head -c 10240 /dev/zero`, want: []string{"is not in it"}},
		{name: "tar, then failure", script: `cat "$GOOD"; echo oh >&2; exit 1`, want: []string{"exit status 1", "oh"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			fakeMmdebstrap(t, test.script)
			cache := t.TempDir()
			image, err := bootstrap.Build(t.Context(), bootstrap.Options{Recipe: testRecipe(), CacheDir: cache})
			if err == nil {
				t.Fatalf("Build made %s", image.Tar)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q has no %q", err, want)
				}
			}
			if strings.Contains(err.Error(), "line 1\n") {
				t.Errorf("error has all of the output:\n%v", err)
			}
			if test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("error %v is not %v", err, test.is)
			}
			if names := left(t, cache); names != nil {
				t.Errorf("left in the cache: %v", names)
			}
		})
	}
}

// TestFailedRebuildKeepsTheOld: the cache's tar stays until a whole one takes its place.
func TestFailedRebuildKeepsTheOld(t *testing.T) {
	fakeMmdebstrap(t, succeed)
	options := bootstrap.Options{Recipe: testRecipe(), CacheDir: t.TempDir()}
	image, err := bootstrap.Build(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	fakeMmdebstrap(t, `head -c 700 "$GOOD"; exit 1`)
	options.Rebuild = true
	if _, err := bootstrap.Build(t.Context(), options); err == nil {
		t.Fatal("the rebuild did not fail")
	}
	if _, err := os.Stat(image.Tar); err != nil {
		t.Error(err)
	}
}

func TestCancel(t *testing.T) {
	tests := []struct {
		name   string
		script string
	}{
		{"alone", `echo "$BEGIN" >&2; while :; do sleep 0.05; done`},
		{"with children", `sh -c 'echo "$BEGIN" >&2; while :; do sleep 0.05; done' & while :; do sleep 0.05; done`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("BEGIN", "I: running apt-get update...")
			notes := fakeMmdebstrap(t, `trap 'echo cleaned >"$NOTES/cleaned"; exit 143' TERM; `+test.script)
			cache := t.TempDir()
			cause := errors.New("the user pressed Ctrl-C")
			ctx, cancel := context.WithCancelCause(t.Context())
			_, err := bootstrap.Build(ctx, bootstrap.Options{
				Recipe: testRecipe(), CacheDir: cache,
				Progress: func(p bootstrap.Progress) {
					if p.Step == "Reading package lists" {
						cancel(cause)
					}
				},
			})
			if !errors.Is(err, cause) {
				t.Errorf("error is %v, want %v", err, cause)
			}
			if _, err := os.Stat(filepath.Join(notes, "cleaned")); err != nil {
				t.Error("mmdebstrap was given no chance to clean up")
			}
			if names := left(t, cache); names != nil {
				t.Errorf("left in the cache: %v", names)
			}
		})
	}
}

func TestCancelWhileWaiting(t *testing.T) {
	fakeMmdebstrap(t, `echo "I: running apt-get update..." >&2; while [ ! -e "$NOTES/go" ]; do sleep 0.05; done; cat "$GOOD"`)
	notes := os.Getenv("NOTES")
	cache := t.TempDir()
	begun := make(chan struct{})
	var once sync.Once
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := bootstrap.Build(t.Context(), bootstrap.Options{Recipe: testRecipe(), CacheDir: cache,
			Progress: func(bootstrap.Progress) { once.Do(func() { close(begun) }) }})
		if err != nil {
			t.Error(err)
		}
	})
	<-begun
	ctx, cancel := context.WithCancel(t.Context())
	_, err := bootstrap.Build(ctx, bootstrap.Options{Recipe: testRecipe(), CacheDir: cache,
		Progress: func(p bootstrap.Progress) {
			if p.Step == "Waiting for another build" {
				cancel()
			}
		}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v, want %v", err, context.Canceled)
	}
	if err := os.WriteFile(filepath.Join(notes, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
}

func TestLeftoversOfKilledBuildsGo(t *testing.T) {
	fakeMmdebstrap(t, succeed)
	cache := t.TempDir()
	if err := os.MkdirAll(filepath.Join(cache, ".tiny-build-123", "proc"), 0o755); err != nil {
		t.Fatal(err)
	}
	image, err := bootstrap.Build(t.Context(), bootstrap.Options{Recipe: testRecipe(), CacheDir: cache})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{filepath.Base(image.Tar)}, left(t, cache)); diff != "" {
		t.Errorf("cache (-want +got):\n%s", diff)
	}
}

func TestNoSpace(t *testing.T) {
	fakeMmdebstrap(t, succeed)
	recipe := testRecipe()
	recipe["image.json"] = &fstest.MapFile{Data: bytes.Replace(recipe["image.json"].Data, []byte(`"sizeMB": 1`), []byte(`"sizeMB": 1048576`), 1)}
	_, err := bootstrap.Build(t.Context(), bootstrap.Options{Recipe: recipe, CacheDir: t.TempDir()})
	if !errors.Is(err, bootstrap.ErrNoSpace) || !strings.Contains(err.Error(), "MB free") {
		t.Errorf("error is %v, want %v with figures", err, bootstrap.ErrNoSpace)
	}
}

// TestFullDisk fills a real file system, of 4 MB.
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may mount the small file system")
	}
	cache := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", cache).CombinedOutput(); err != nil {
		t.Skipf("cannot mount a tmpfs here: %s", out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", cache).CombinedOutput(); err != nil {
			t.Errorf("umount: %s", out)
		}
	})
	fakeMmdebstrap(t, `cat "$GOOD"; head -c 8000000 /dev/zero`)
	_, err := bootstrap.Build(t.Context(), bootstrap.Options{Recipe: testRecipe(), CacheDir: cache})
	if !errors.Is(err, bootstrap.ErrNoSpace) {
		t.Errorf("error is %v, want %v", err, bootstrap.ErrNoSpace)
	}
	if names := left(t, cache); names != nil {
		t.Errorf("left in the cache: %v", names)
	}
}

func TestDescribe(t *testing.T) {
	got, err := bootstrap.Describe(bootstrap.Options{Recipe: testRecipe()})
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Recipe) != 64 {
		t.Errorf("recipe %q is not a hash", got.Recipe)
	}
	want := bootstrap.Image{
		Name: "tiny", Platform: "DEBIAN_12", DisplayName: `Tiny "$1"`, Description: "d",
		Released: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Recipe: got.Recipe,
		Changes: []string{
			`CMD ["/bin/sh"]`,
			`LABEL oriel.image.name="tiny"`,
			`LABEL oriel.image.platform="DEBIAN_12"`,
			`LABEL oriel.image.display-name="Tiny \"\$1\""`,
			`LABEL oriel.image.description="d"`,
			`LABEL oriel.image.released="2026-01-02T03:04:05Z"`,
			`LABEL oriel.image.recipe="` + got.Recipe + `"`,
		},
		Labels: map[string]string{
			"oriel.image.name": "tiny", "oriel.image.platform": "DEBIAN_12", "oriel.image.display-name": `Tiny "$1"`,
			"oriel.image.description": "d", "oriel.image.released": "2026-01-02T03:04:05Z", "oriel.image.recipe": got.Recipe,
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Describe (-want +got):\n%s", diff)
	}
	mirrored, err := bootstrap.Describe(bootstrap.Options{Recipe: testRecipe(), Mirror: "http://mirror.example"})
	if err != nil {
		t.Fatal(err)
	}
	if mirrored.Recipe == got.Recipe {
		t.Error("another mirror makes the same image")
	}
}

// TestMirror looks at what mmdebstrap is given.
func TestMirror(t *testing.T) {
	notes := fakeMmdebstrap(t, `printf '%s\n' "$@" >"$NOTES/args"; for last; do :; done; cp "$last" late.tar early.tar "$NOTES"
		echo "$SOURCE_DATE_EPOCH" >"$NOTES/epoch"; cat "$GOOD"`)
	_, err := bootstrap.Build(t.Context(), bootstrap.Options{Recipe: testRecipe(), CacheDir: t.TempDir(), Mirror: "https://mirror.example:8080/x/"})
	if err != nil {
		t.Fatal(err)
	}
	read := func(name string) string {
		data, err := os.ReadFile(filepath.Join(notes, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	const sources = "Types: deb\nURIs: https://mirror.example:8080/x/debian\n"
	if got := read("debian.sources"); got != sources {
		t.Errorf("sources of the build are %q, want %q", got, sources)
	}
	if got := read("epoch"); got != "1767323045\n" {
		t.Errorf("SOURCE_DATE_EPOCH is %q", got)
	}
	args := strings.Split(read("args"), "\n")
	if !slices.Contains(args, "--include=xterm,libstdc++6") {
		t.Errorf("arguments %q do not include the recipe's packages", args)
	}
	type entry struct {
		Mode int64
		Data string
	}
	want := map[string]entry{
		"oriel-setup":                           {0o755, "#!/bin/sh\n"},
		"etc/apt/sources.list.d/debian.sources": {0o644, sources},
		"usr/sbin/policy-rc.d":                  {0o755, "#!/bin/sh\nexit 101\n"},
		"etc/motd":                              {0o644, "hello\n"},
	}
	got := map[string]entry{}
	r := tar.NewReader(strings.NewReader(read("late.tar")))
	for {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 {
			t.Errorf("%s belongs to %d:%d", h.Name, h.Uid, h.Gid)
		}
		got[h.Name] = entry{h.Mode, string(data)}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("late.tar (-want +got):\n%s", diff)
	}
}

func TestBadOptions(t *testing.T) {
	for _, mirror := range []string{"mirror.example", "ftp://m/", "http://", "http://a b/", "http://u:secret@m/", "http://m/?x=1", "http://m\n/", "http://u:secret@%zz/"} {
		_, err := bootstrap.Build(t.Context(), bootstrap.Options{Recipe: testRecipe(), CacheDir: t.TempDir(), Mirror: mirror})
		if err == nil {
			t.Errorf("mirror %q was accepted", mirror)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("error tells the password: %v", err)
		}
	}
	if _, err := bootstrap.Build(t.Context(), bootstrap.Options{Recipe: testRecipe()}); err == nil {
		t.Error("no cache directory was accepted")
	}
}

func TestBadRecipes(t *testing.T) {
	replace := func(file, old, new string) func(fstest.MapFS) {
		return func(m fstest.MapFS) {
			data := bytes.Replace(m[file].Data, []byte(old), []byte(new), 1)
			if bytes.Equal(data, m[file].Data) {
				panic("nothing replaced")
			}
			m[file] = &fstest.MapFile{Data: data}
		}
	}
	tests := []struct {
		name   string
		change func(fstest.MapFS)
		want   string
	}{
		{"no setup", func(m fstest.MapFS) { delete(m, "setup") }, "no setup"},
		{"no image.json", func(m fstest.MapFS) { delete(m, "image.json") }, "no image.json"},
		{"no policy", func(m fstest.MapFS) { delete(m, "files/usr/sbin/policy-rc.d") }, "policy-rc.d"},
		{"unknown member", replace("image.json", `"name"`, `"neme"`), "neme"},
		{"name is a path", replace("image.json", `"tiny"`, `"../tiny"`), "name"},
		{"suite is an option", replace("image.json", `"bookworm"`, `"--bookworm"`), "suite"},
		{"platform", replace("image.json", `DEBIAN_12`, `debian`), "platform"},
		{"no release", replace("image.json", `"released": "2026-01-02T03:04:05Z",`, ``), "released"},
		{"no size", replace("image.json", `"sizeMB": 1`, `"sizeMB": 0`), "sizeMB"},
		{"second instruction", replace("image.json", `"d"`, `"d\nUSER x"`), "control character"},
		{"package is an option", replace("packages", "xterm", "xterm,--hook"), "not a package"},
		{"too large", func(m fstest.MapFS) { m["files/big"] = &fstest.MapFile{Data: make([]byte, 65<<20)} }, "larger than"},
		{"link", func(m fstest.MapFS) { m["files/link"] = &fstest.MapFile{Data: []byte("x"), Mode: fs.ModeSymlink} }, "regular file"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			recipe := testRecipe()
			test.change(recipe)
			_, err := bootstrap.Describe(bootstrap.Options{Recipe: recipe})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is %v, want one with %q", err, test.want)
			}
		})
	}
}

// TestRealBuild builds the Debian image, and needs root (or user namespaces), mmdebstrap, a Debian mirror and two
// minutes. ORIEL_TEST_CACHE keeps the tar in a directory of your choice.
func TestRealBuild(t *testing.T) {
	if os.Getenv("ORIEL_TEST_BOOTSTRAP") != "1" {
		t.Skip("set ORIEL_TEST_BOOTSTRAP=1 to build the Debian image")
	}
	cache := os.Getenv("ORIEL_TEST_CACHE")
	if cache == "" {
		cache = t.TempDir()
	}
	begin, last := time.Now(), bootstrap.Progress{}
	image, err := bootstrap.Build(t.Context(), bootstrap.Options{
		Recipe: images.Debian12(), CacheDir: cache,
		Progress: func(p bootstrap.Progress) {
			if p.Step != last.Step {
				t.Logf("%5.1f s  %5.1f %%  %s", time.Since(begin).Seconds(), p.Percent, p.Step)
			}
			if p.Percent < last.Percent {
				t.Errorf("progress fell from %v to %v", last, p)
			}
			last = p
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if last.Percent != 100 {
		t.Errorf("the last progress is %v", last)
	}
	f, err := os.Open(image.Tar)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: %d MB", image.Tar, info.Size()/1e6)
	if info.Size() > 640e6 {
		t.Errorf("the image has %d MB", info.Size()/1e6)
	}
	headers := map[string]*tar.Header{}
	r := tar.NewReader(f)
	for {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(h.Name, "./")
		headers[name] = h
		if h.Mode&0o6000 != 0 && h.Typeflag == tar.TypeReg {
			t.Errorf("%s has mode %o", name, h.Mode)
		}
		for _, unwanted := range []string{"usr/share/man/man1/", "var/lib/apt/lists/deb", "var/cache/apt/archives/a", "tmp/", "oriel-setup"} {
			if strings.HasPrefix(name, unwanted) && name != unwanted {
				t.Errorf("%s is in the image", name)
			}
		}
		if h.ModTime.After(image.Released) {
			t.Errorf("%s is of %v, after the release", name, h.ModTime)
		}
	}
	for name, want := range map[string]struct {
		mode int64
		link string
	}{
		"etc/oriel/session":               {0o755, ""},
		"usr/sbin/policy-rc.d":            {0o755, ""},
		"usr/share/doc/openbox/copyright": {0o644, ""},
		"root/":                           {0o700, ""},
		"usr/local/bin/sudo":              {0o777, "/opt/oriel/bin/oriel-agent"},
		"usr/local/sbin/reboot":           {0o777, "/opt/oriel/bin/oriel-agent"},
		"usr/local/sbin/poweroff":         {0o777, "/opt/oriel/bin/oriel-agent"},
		"usr/bin/AppStreamImageAssistant": {0o777, "/opt/oriel/bin/oriel-agent"},
		"usr/local/appstream/image-assistant/AppStreamImageAssistant": {0o777, "/opt/oriel/bin/oriel-agent"},
	} {
		h := headers[name]
		if h == nil {
			t.Errorf("%s is not in the image", name)
		} else if h.Mode != want.mode || h.Linkname != want.link {
			t.Errorf("%s has mode %o and link %q, want %o and %q", name, h.Mode, h.Linkname, want.mode, want.link)
		}
	}
	if home := headers["home/ImageBuilderAdmin/"]; home == nil || home.Uid != 1000 || home.Gid != 1000 {
		t.Errorf("the administrator's home is %+v", home)
	}
}
