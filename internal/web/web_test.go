package web

import (
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The built files are kept with the sources, so they can get out of step: somebody changes a source and does not build, or a
// built file and not its source. MANIFEST has the hash of both as they were at the last build.
func TestBuiltFilesAreInStepWithTheirSources(t *testing.T) {
	manifest, err := os.ReadFile("dist/MANIFEST")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for line := range strings.Lines(string(manifest)) {
		hash, name, ok := strings.Cut(strings.TrimSpace(line), "  ")
		if !ok {
			t.Fatalf("MANIFEST has the line %q", line)
		}
		want[name] = hash
	}
	got := map[string]string{}
	add := func(label, root string, keep func(name string) bool) {
		if err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			name, err := filepath.Rel(root, file)
			if err != nil {
				return err
			}
			name = filepath.ToSlash(name)
			if d.IsDir() {
				if name == "node_modules" {
					return fs.SkipDir
				}
				return nil
			}
			if !keep(name) {
				return nil
			}
			data, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			sum := sha256.Sum256(data)
			got[label+"/"+name] = hex.EncodeToString(sum[:])
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	add("web", "../../web", func(name string) bool {
		return strings.HasPrefix(name, "src/") || strings.HasPrefix(name, "icons/") ||
			name == "build.mjs" || name == "package.json" || name == "package-lock.json" || name == "tsconfig.json"
	})
	add("dist", "dist", func(name string) bool { return name != "MANIFEST" })
	if len(got) < 20 {
		t.Errorf("only %d files were found", len(got))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the built files are not in step with their sources; run \"make web\" (-as built +now):\n%s", diff)
	}
}

func TestHandler(t *testing.T) {
	get := func(address string, header ...string) *http.Response {
		r := httptest.NewRequest("GET", address, nil)
		for n := 0; n < len(header); n += 2 {
			r.Header.Set(header[n], header[n+1])
		}
		w := httptest.NewRecorder()
		Handler().ServeHTTP(w, r)
		return w.Result()
	}
	address := Path("viewer.js")
	plain := get(address)
	want, err := fs.ReadFile(dist, "dist/viewer.js")
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(plain.Body); err != nil || string(body) != string(want) {
		t.Errorf("the plain file has %d bytes, want %d (%v)", len(body), len(want), err)
	}
	if kind := plain.Header.Get("Content-Type"); kind != "text/javascript; charset=utf-8" {
		t.Errorf("a script is served as %q", kind)
	}
	if !strings.Contains(plain.Header.Get("Cache-Control"), "immutable") {
		t.Error("an address with the hash may not be cached for ever")
	}
	if cache := get("/assets/viewer.js").Header.Get("Cache-Control"); cache != "no-cache" {
		t.Errorf("an address without the hash has Cache-Control %q", cache)
	}
	zipped := get(address, "Accept-Encoding", "br, gzip;q=0.5")
	if zipped.Header.Get("Content-Encoding") != "gzip" {
		t.Fatal("the file is not compressed")
	}
	z, err := gzip.NewReader(zipped.Body)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(z); err != nil || string(body) != string(want) {
		t.Errorf("the compressed file has %d bytes, want %d (%v)", len(body), len(want), err)
	}
	if got := get(address, "Accept-Encoding", "gzip; q=0").Header.Get("Content-Encoding"); got != "" {
		t.Errorf("who takes no gzip gets %q", got)
	}
	if got := get(address, "If-None-Match", plain.Header.Get("ETag")).StatusCode; got != http.StatusNotModified {
		t.Errorf("who has the file gets %d", got)
	}
	for _, unknown := range []string{"/assets/", "/assets/nothing", "/assets/icons", "/assets/../web.go", "/assets/icons/logo.svg"} {
		if got := get(unknown).StatusCode; got != http.StatusNotFound {
			t.Errorf("%s is answered with %d", unknown, got)
		}
	}
}

// The page must be quick to load: the script that opens the stream first of all, and everything within one round trip or two.
func TestSizes(t *testing.T) {
	for name, limit := range map[string]int{"boot.js": 1500, "viewer.js": 80_000, "builder.js": 4_000, "session.js": 6_000,
		"panels.js": 12_000, "worklet.js": 1_000, "oriel.css": 6_000, "session.css": 4_000, "page.js": 1_500} {
		if size := len(assets()[name].zipped); size == 0 || size > limit {
			t.Errorf("%s has %d bytes compressed, the limit is %d", name, size, limit)
		}
	}
}

func TestIcon(t *testing.T) {
	if svg := Icon("logo"); !strings.HasPrefix(string(svg), "<svg") {
		t.Errorf("the logo is %q", svg)
	}
	for name, get := range map[string]func(){"icon": func() { Icon("nothing") }, "file": func() { Path("nothing") }} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("an unknown %s did not panic", name)
				}
			}()
			get()
		}()
	}
}

// What noVNC's licence asks for is shipped with it.
func TestLicences(t *testing.T) {
	text, err := fs.ReadFile(dist, "dist/LICENSES.txt")
	if err != nil {
		t.Fatal(errors.Unwrap(err))
	}
	for _, want := range []string{"Mozilla Public License Version 2.0", "npm package @novnc/novnc 1.7.0", "AT&T", "Vitaly Puzrin"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("LICENSES.txt does not contain %q", want)
		}
	}
}

// Whatever people read is in the catalogues of web/src/words, in every language, and everything there is said somewhere. A text in another script would be in one language
// only.
func TestScriptsHaveNoWords(t *testing.T) {
	literal := regexp.MustCompile("\"((?:[^\"\\\\]|\\\\.)*)\"|`((?:[^`\\\\]|\\\\.)*)`")
	filled := regexp.MustCompile(`\$\{[^}]*\}`)
	// Two words, or one that begins as a sentence does.
	words := regexp.MustCompile(`\pL{2,}[,.…:]? \p{Ll}{2,}|^\p{Lu}\p{Ll}+[.…?!]*$|^\p{Lu}\p{Ll}+ `)
	comment := regexp.MustCompile(`(^|\s)(//|/?\*).*`)
	// What only programs read: faults of ours, selectors, classes, media queries.
	code := regexp.MustCompile(`(Error|querySelector(All)?(<[^(]*>)?|closest(<[^(]*>)?|matches|matchMedia)\($|(className|style)[ .:=].*$`)
	names := map[string]bool{"sudo AppStreamImageAssistant add-application": true} // and those of keys and the like
	for name := range strings.FieldsSeq("Escape Enter Home End Tab Delete Backspace Files ArrowRight ArrowLeft ArrowUp ArrowDown Process Dead Unidentified") {
		names[name] = true
	}
	sources, err := filepath.Glob("../../web/src/*.ts")
	if err != nil || len(sources) < 20 {
		t.Fatalf("%d scripts, %v", len(sources), err)
	}
	english, err := os.ReadFile("../../web/src/words/en.ts")
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	word := regexp.MustCompile(`\bwords\.(\w+)|\{ (\w+) \} = words\b`)
	for _, path := range sources {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range word.FindAllStringSubmatch(string(text), -1) {
			used[m[1]+m[2]] = true
		}
		for n, line := range strings.Split(string(text), "\n") {
			line = comment.ReplaceAllString(line, "")
			if strings.HasPrefix(line, "import ") {
				continue
			}
			for _, at := range literal.FindAllStringSubmatchIndex(line, -1) {
				said := filled.ReplaceAllString(strings.Trim(line[at[0]:at[1]], "\"`"), "")
				if words.MatchString(said) && !names[said] && !code.MatchString(line[:at[0]]) {
					t.Errorf("%s:%d says %q; it belongs into web/src/words", filepath.Base(path), n+1, said)
				}
			}
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^  (\w+):`).FindAllStringSubmatch(string(english), -1) {
		if !used[m[1]] {
			t.Errorf("no script says words.%s", m[1])
		}
	}
}
