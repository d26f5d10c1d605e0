package agent

import (
	"archive/zip"
	"bytes"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func zipOf(t testing.TB, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, name := range files {
		w, err := z.Create(name)
		if err == nil && !strings.HasSuffix(name, "/") {
			_, err = w.Write([]byte("text of " + name))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// unzipped unpacks data and gives what is there then, by path.
func unzipped(t testing.TB, data []byte) (map[string]string, error) {
	t.Helper()
	place := t.TempDir()
	file, dir := filepath.Join(place, "a.zip"), filepath.Join(place, "inner", "scripts")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	err := unzip(file, dir)
	found := map[string]string{}
	_ = filepath.WalkDir(place, func(path string, d fs.DirEntry, err error) error { // what cannot be read is not there
		if err != nil || d.IsDir() || path == file {
			return nil
		}
		text, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		found[name] = string(text)
		if info, err := d.Info(); err == nil && info.Mode() != 0o755 {
			t.Errorf("%s has the mode %s", name, info.Mode())
		}
		return err
	})
	return found, err
}

func TestUnzip(t *testing.T) {
	found, err := unzipped(t, zipOf(t, "config.json", "sub/", "sub/start.sh", `win\end.cmd`))
	if names := slices.Sorted(maps.Keys(found)); err != nil || !slices.Equal(names, []string{"config.json", "sub/start.sh", "win/end.cmd"}) {
		t.Errorf("there is %q, %v", names, err)
	}
	if found["sub/start.sh"] != "text of sub/start.sh" {
		t.Errorf("start.sh has %q", found["sub/start.sh"])
	}
}

func TestUnzipRefuses(t *testing.T) {
	for name, data := range map[string][]byte{
		"no zip":   []byte("nothing of the kind"),
		"outside":  zipOf(t, "../evil"),
		"absolute": zipOf(t, "/etc/evil"),
		"backward": zipOf(t, `..\evil`),
		"twice":    zipOf(t, "a", "a"),
		"too many": zipOf(t, slices.Repeat([]string{"a/"}, maxZipFiles+1)...),
	} {
		t.Run(name, func(t *testing.T) {
			found, err := unzipped(t, data)
			if err == nil {
				t.Errorf("it was unpacked: %v", found)
			}
			for name := range found {
				if !filepath.IsLocal(name) {
					t.Errorf("%s was written outside", name)
				}
			}
		})
	}
}

func FuzzUnzip(f *testing.F) {
	f.Add(zipOf(f, "config.json", "a/b", `..\c`))
	f.Add([]byte("PK\x05\x06"))
	f.Fuzz(func(t *testing.T, data []byte) {
		found, _ := unzipped(t, data)
		for name := range found {
			if !filepath.IsLocal(name) {
				t.Errorf("%s was written outside", name)
			}
		}
	})
}
