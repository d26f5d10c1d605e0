package catalogue

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/image/bmp"

	"github.com/oriel-project/oriel/internal/agentapi"
)

func TestCatalogue(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "oriel")
	c := Open(dir)
	if apps, err := c.Applications(); err != nil || len(apps) != 0 {
		t.Fatal(apps, err)
	}
	if err := c.Add(Entry{Name: "../b", DisplayName: "B"}, []byte("icon")); err != nil {
		t.Fatal(err)
	}
	if err := c.Add(Entry{Name: "a", Manifest: []string{"/x"}}, nil); err != nil {
		t.Fatal(err)
	}
	if err := c.Add(Entry{Name: "a"}, []byte("other")); err != ErrNotUnique {
		t.Error(err)
	}
	want := []agentapi.Application{{Name: "../b", DisplayName: "B", IconPNG: []byte("icon")}, {Name: "a", Manifest: []string{"/x"}}}
	// Another process, and another start, see the same.
	got, err := Open(dir).Applications()
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
	icons, _ := os.ReadDir(filepath.Join(dir, "icons"))
	if len(icons) != 1 {
		t.Errorf("%d icons", len(icons))
	}
	if err := c.Remove("../b"); err != nil {
		t.Error(err)
	}
	if err := c.Remove("../b"); err != ErrNotFound {
		t.Error(err)
	}
	for _, sub := range []string{"", "icons"} {
		entries, _ := os.ReadDir(filepath.Join(dir, sub))
		for _, e := range entries {
			if name := e.Name(); name != "applications.json" && name != "icons" {
				t.Errorf("%s was left behind", name)
			}
		}
	}
}

func TestManyWriters(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	var mu sync.Mutex
	full := 0
	for i := range agentapi.MaxApplications + 5 {
		wg.Go(func() {
			switch err := Open(dir).Add(Entry{Name: fmt.Sprint(i)}, nil); {
			case err == ErrFull:
				mu.Lock()
				full++
				mu.Unlock()
			case err != nil:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if entries, err := Open(dir).Entries(); err != nil || len(entries) != agentapi.MaxApplications || full != 5 {
		t.Error(len(entries), full, err)
	}
}

func TestDamagedCatalogueIsKept(t *testing.T) {
	dir := t.TempDir()
	c := Open(dir)
	for _, text := range []string{"", "{}", `[{"Name":"a"}`, "[" + strings.Repeat(`{"Name":"a"},`, 50) + `{"Name":"b"}]`} {
		os.WriteFile(c.file(), []byte(text), 0o644)
		if _, err := c.Entries(); err == nil {
			t.Errorf("%.30q was read", text)
		}
		if err := c.Add(Entry{Name: "x"}, nil); err == nil {
			t.Errorf("%.30q was added to", text)
		}
		if now, _ := os.ReadFile(c.file()); string(now) != text {
			t.Errorf("%.30q became %.30q", text, now)
		}
	}
}

func TestIconThatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	c := Open(dir)
	if err := c.Add(Entry{Name: "a", AbsoluteIconPath: "/dev/zero"}, nil); err != nil {
		t.Fatal(err)
	}
	if apps, err := c.Applications(); err != nil || apps[0].IconPNG != nil {
		t.Error(len(apps[0].IconPNG), err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`[{"Name":"a","DisplayName":"A","AbsoluteAppPath":"/a","Manifest":["/x"],"other":1}]`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if entries, err := parse(text); err == nil && len(entries) > agentapi.MaxApplications {
			t.Error(len(entries))
		}
	})
}

// pictures returns the same picture in each format.
func pictures(t testing.TB, w, h int) map[string][]byte {
	t.Helper()
	p := image.NewRGBA(image.Rect(0, 0, w, h))
	for x := range w {
		for y := range h {
			p.Set(x, y, color.RGBA{200, 100, 50, 255})
		}
	}
	var asPNG, asJPEG, asBMP bytes.Buffer
	if err := errors.Join(png.Encode(&asPNG, p), jpeg.Encode(&asJPEG, p, nil), bmp.Encode(&asBMP, p)); err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{"png": asPNG.Bytes(), "jpeg": asJPEG.Bytes(), "bmp": asBMP.Bytes()}
}

func TestConvertIcon(t *testing.T) {
	for format, text := range pictures(t, 256, 7) {
		got, err := convertIcon(text)
		if err != nil {
			t.Errorf("%s: %v", format, err)
			continue
		}
		p, err := png.Decode(bytes.NewReader(got))
		if err != nil || p.Bounds().Dx() != 256 || p.Bounds().Dy() != 7 {
			t.Errorf("%s: %v, %v", format, p.Bounds(), err)
		}
		if r, g, b, _ := p.At(3, 3).RGBA(); r>>8 < 190 || g>>8 > 110 || b>>8 > 60 {
			t.Errorf("%s: colour %d %d %d", format, r>>8, g>>8, b>>8)
		}
		if _, err := convertIcon(text[:len(text)/2]); !errors.Is(err, ErrIconType) && format != "png" {
			t.Errorf("half a %s: %v", format, err)
		}
	}
	for format, text := range pictures(t, 257, 1) {
		if _, err := convertIcon(text); err != ErrIconSize {
			t.Errorf("large %s: %v", format, err)
		}
	}
	if _, err := convertIcon([]byte("GIF89a")); !errors.Is(err, ErrIconType) {
		t.Error(err)
	}
	if _, err := convertIcon(make([]byte, maxPicture+1)); err != ErrIconSize {
		t.Error(err)
	}
}

func FuzzConvertIcon(f *testing.F) {
	for _, text := range pictures(f, 9, 5) {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := convertIcon(text)
		if err != nil {
			return
		}
		if c, err := png.DecodeConfig(bytes.NewReader(got)); err != nil || c.Width > 256 || c.Height > 256 || len(got) > maxIcon {
			t.Error(c, err, len(got))
		}
	})
}

func TestParseDesktopEntry(t *testing.T) {
	for _, c := range []struct{ text, program, icon string }{
		{"[Desktop Entry]\nExec=/usr/bin/app %U\nIcon=app\n", "/usr/bin/app", "app"},
		{"# comment\n[Desktop Entry]\r\nExec = app\r\nIcon= /x/y.png\r\n[Desktop Action n]\nExec=other\nIcon=other", "app", "/x/y.png"},
		{`[Desktop Entry]` + "\n" + `Exec="/opt/My \"App\"/run" --x`, `/opt/My "App"/run`, ""},
		{"Exec=early\n[Desktop Entry]\nName=x", "", ""},
		{"", "", ""},
		{`[Desktop Entry]` + "\n" + `Exec="open`, "open", ""},
	} {
		if program, icon := parseDesktopEntry([]byte(c.text)); program != c.program || icon != c.icon {
			t.Errorf("%q: %q, %q", c.text, program, icon)
		}
	}
}

func FuzzParseDesktopEntry(f *testing.F) {
	f.Add([]byte("[Desktop Entry]\nExec=\"a\\\" b\" %f\nIcon=x"), "/usr/bin/a")
	f.Fuzz(func(t *testing.T, text []byte, path string) {
		program, icon := parseDesktopEntry(text)
		starts(program, path)
		findIcon("/nowhere", icon)
	})
}

func TestDefaultIcon(t *testing.T) {
	root := t.TempDir()
	put := func(name string, text []byte) {
		file := filepath.Join(root, name)
		os.MkdirAll(filepath.Dir(file), 0o755)
		if err := os.WriteFile(file, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	icon := func(size int) []byte { return pictures(t, size, size)["png"] }
	put("usr/share/applications/a.desktop", []byte("[Desktop Entry]\nExec=a\nIcon=a[1]\n"))
	put("usr/share/icons/hicolor/24x24/apps/a[1].png", icon(24))
	put("usr/share/icons/hicolor/128x128/apps/a[1].png", icon(128))
	put("usr/share/icons/hicolor/512x512/apps/a[1].png", icon(512))
	put("usr/share/applications/b.desktop", []byte("[Desktop Entry]\nExec=/opt/b/b\nIcon=b.png\n"))
	put("usr/share/pixmaps/b.png", icon(32))
	put("usr/share/applications/c.desktop", []byte("[Desktop Entry]\nExec=c\nIcon=/opt/c.png\n"))
	put("opt/c.png", icon(16))
	put("usr/share/applications/d.desktop", []byte("[Desktop Entry]\nExec=d\nIcon=../../../../opt/c\n"))
	put("usr/share/icons/hicolor/48x48/apps/e.png", icon(48)) // an icon without an entry
	put("usr/bin/a", nil)
	if err := os.Symlink("a", filepath.Join(root, "usr/bin/link")); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{"/usr/bin/a": 128, "/opt/b/b": 32, "/usr/bin/e": 48, "/x/c": 16, "/usr/bin/link": 128, "/usr/bin/d": 0, "/usr/bin/none": 0} {
		got := 0
		if found := DefaultIcon(root, path); found != nil {
			c, err := png.DecodeConfig(bytes.NewReader(found))
			if err != nil {
				t.Error(path, err)
			}
			got = c.Width
		}
		if got != want {
			t.Errorf("%s: %d pixels, want %d", path, got, want)
		}
	}
}
