package oci_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/oriel-project/oriel/internal/oci"
)

// tarOf makes a tar file of entries; a name that ends with / is a directory, content that begins with → a symbolic link.
func tarOf(entries ...string) string {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for n := 0; n < len(entries); n += 2 {
		h := &tar.Header{Name: entries[n], Mode: 0o644, Typeflag: tar.TypeReg, Size: int64(len(entries[n+1]))}
		if strings.HasSuffix(h.Name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if link, ok := strings.CutPrefix(entries[n+1], "→"); ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, link, 0
		}
		if link, ok := strings.CutPrefix(entries[n+1], "="); ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, link, 0
		}
		if err := w.WriteHeader(h); err != nil {
			panic(err)
		}
		if h.Size > 0 {
			io.WriteString(w, entries[n+1])
		}
	}
	w.Close()
	return b.String()
}

// raw makes a tar file of one header.
func raw(h tar.Header) string {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&h); err != nil {
		panic(err)
	}
	w.Close()
	return b.String()
}

func gzipped(s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	io.WriteString(w, s)
	w.Close()
	return b.String()
}

func zstandard(s string) string {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	return string(w.EncodeAll([]byte(s), nil))
}

func digest(s string) string   { return oci.Digest([]byte(s)) }
func blobName(s string) string { return "blobs/sha256/" + strings.TrimPrefix(digest(s), "sha256:") }

func toJSON(v any) string {
	text, err := json.Marshal(v, json.Deterministic(true))
	if err != nil {
		panic(err)
	}
	return string(text)
}

type object = map[string]any

const ociType = "application/vnd.oci.image."

func descriptor(mediaType, content string) object {
	return object{"mediaType": mediaType, "digest": digest(content), "size": len(content)}
}

func configOf(os, architecture string, layers ...string) string {
	ids := []string{}
	for _, l := range layers {
		ids = append(ids, digest(l))
	}
	return toJSON(object{"architecture": architecture, "os": os, "created": "2026-11-21T10:00:00Z", "config": object{}, "rootfs": object{"type": "layers", "diff_ids": ids}})
}

var (
	low  = tarOf("etc/", "", "etc/os-release", "→../usr/lib/os-release", "usr/lib/os-release", "ID=debian", "opt/gone", "x", "opt/dir/file", "y")
	high = tarOf("opt/.wh.gone", "", "opt/dir/.wh..wh..opq", "", "opt/dir/new", "z")
)

// layout is an OCI layout whose parts a test can change.
type layout struct {
	files           []string // in their order: name, content
	config          string
	manifest, index object
	layers          []object
	manifests       []object
}

func (l layout) add(content string) layout {
	l.files = append(slices.Clone(l.files), blobName(content), content)
	return l
}

// bytes gives the archive.
func (l layout) bytes() []byte {
	if l.manifest == nil {
		l.manifest = object{"schemaVersion": 2, "config": descriptor(ociType+"config.v1+json", l.config), "layers": l.layers}
	}
	l = l.add(l.config)
	text := toJSON(l.manifest)
	l = l.add(text)
	if l.index == nil {
		d := descriptor(ociType+"manifest.v1+json", text)
		d["annotations"] = object{"org.opencontainers.image.title": "a title"}
		l.index = object{"schemaVersion": 2, "manifests": append([]object{d}, l.manifests...)}
	}
	l.files = append(l.files, "index.json", toJSON(l.index), "oci-layout", `{"imageLayoutVersion":"1.0.0"}`)
	return []byte(tarOf(l.files...))
}

func good() layout {
	l := layout{config: configOf("linux", "amd64", low, high), layers: []object{descriptor(ociType+"layer.v1.tar", low), descriptor(ociType+"layer.v1.tar", high)}}
	return l.add(low).add(high)
}

// packed has its layers compressed, each in its way.
func packed() layout {
	g, z := gzipped(low), zstandard(high)
	l := layout{config: configOf("linux", "amd64", low, high), layers: []object{descriptor(ociType+"layer.v1.tar+gzip", g), descriptor(ociType+"layer.v1.tar+zstd", z)}}
	return l.add(g).add(z)
}

func savedForms() map[string][]byte {
	config := configOf("linux", "amd64", low, high)
	manifest := func(files ...string) string {
		return toJSON([]object{{"Config": "id.json", "RepoTags": []string{"oriel/base:x"}, "Layers": files}})
	}
	return map[string][]byte{
		"docker save before 25": []byte(tarOf("a/", "", "a/VERSION", "1.0", "a/layer.tar", low, "b/layer.tar", high, "c/layer.tar", "→../a/layer.tar", "id.json", config,
			"manifest.json", manifest("a/layer.tar", "b/layer.tar"), "repositories", "{}")),
		"podman save":               []byte(tarOf("low.tar", low, "high.tar", high, "old/layer.tar", "→../low.tar", "id.json", config, "manifest.json", manifest("old/layer.tar", "high.tar"))),
		"hard links":                []byte(tarOf("low.tar", low, "high.tar", high, "x", "=low.tar", "id.json", config, "manifest.json", manifest("x", "high.tar"))),
		"tar of a directory":        []byte(tarOf("./", "", "./low.tar", low, "./high.tar", high, "./id.json", config, "./manifest.json", manifest("low.tar", "./high.tar"))),
		"compressed layers, docker": []byte(tarOf("low.tar", gzipped(low), "high.tar", zstandard(high), "id.json", config, "manifest.json", manifest("low.tar", "high.tar"))),
	}
}

func forms() map[string][]byte {
	all := savedForms()
	all["OCI"], all["OCI with compressed layers"] = good().bytes(), packed().bytes()

	// What buildx writes: an index in the index, with images of several platforms, one of which is not in the archive, and what is said about them.
	l := good()
	other, newer := configOf("linux", "arm64", low), strings.Replace(l.config, `"os"`, `"variant":"v3","os"`, 1)
	var list []object
	for _, config := range []string{l.config, other, newer} {
		layers := l.layers
		if config == other {
			layers = layers[:1]
		}
		text := toJSON(object{"schemaVersion": 2, "mediaType": ociType + "manifest.v1+json", "config": descriptor(ociType+"config.v1+json", config), "layers": layers})
		l = l.add(config).add(text)
		list = append(list, descriptor(ociType+"manifest.v1+json", text))
	}
	about := descriptor(ociType+"manifest.v1+json", "not there")
	about["annotations"] = object{"vnd.docker.reference.type": "attestation-manifest"}
	list = append(list, about, descriptor(ociType+"manifest.v1+json", "not in the archive"), descriptor("application/vnd.other", "{}"))
	nested := toJSON(object{"schemaVersion": 2, "mediaType": ociType + "index.v1+json", "manifests": list})
	l = l.add(nested)
	l.files = append(l.files, "index.json", toJSON(object{"schemaVersion": 2, "manifests": []object{descriptor(ociType+"index.v1+json", nested)}}))
	all["buildx"] = []byte(tarOf(l.files...))

	// Docker's own types, and the image twice under two names.
	l = good()
	l.layers = []object{descriptor("application/vnd.docker.image.rootfs.diff.tar", low), descriptor("application/vnd.docker.image.rootfs.diff.tar.gzip", gzipped(high))}
	l = l.add(gzipped(high)).add(l.config)
	text := toJSON(object{"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
		"config": descriptor("application/vnd.docker.container.image.v1+json", l.config), "layers": l.layers})
	d := descriptor("application/vnd.docker.distribution.manifest.v2+json", text)
	l = l.add(text)
	l.files = append(l.files, "index.json", toJSON(object{"schemaVersion": 2, "manifests": []object{d, d}}))
	all["Docker's types"] = []byte(tarOf(l.files...))
	return all
}

func open(archive []byte) (*oci.Archive, error) {
	return oci.Open(bytes.NewReader(archive), int64(len(archive)), "amd64")
}

// inspect opens an archive and reads all of it.
func inspect(archive []byte) error {
	a, err := open(archive)
	if err == nil {
		_, err = a.Inspect()
	}
	return err
}

// Whoever wrote the archive, the image in it is the same.
func TestForms(t *testing.T) {
	var first []byte
	for name, archive := range forms() {
		t.Run(name, func(t *testing.T) {
			a, err := open(archive)
			if err != nil {
				t.Fatal(err)
			}
			if a.Platform != (oci.Platform{Architecture: "amd64", OS: "linux"}) || !a.Created.Equal(time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)) {
				t.Errorf("%+v, %s", a.Platform, a.Created)
			}
			contents, err := a.Inspect("etc/os-release", "usr/lib/os-release", "opt/gone", "opt/dir/file", "opt/dir/new", "opt/dir", "none")
			if err != nil {
				t.Fatal(err)
			}
			var found []string
			for path, f := range contents.Files {
				found = append(found, path+" "+f.Link+string(f.Text))
			}
			slices.Sort(found)
			if want := []string{"etc/os-release ../usr/lib/os-release", "opt/dir/new z", "usr/lib/os-release ID=debian"}; !slices.Equal(found, want) {
				t.Errorf("the image has %q, want %q", found, want)
			}
			if contents.Size != int64(len(low)+len(high)) {
				t.Errorf("%d bytes, want %d", contents.Size, len(low)+len(high))
			}
			layers, err := a.Layers()
			if err != nil {
				t.Fatal(err)
			}
			var again bytes.Buffer
			if err := oci.Write(&again, oci.Image{Config: []byte("{}"), Layers: layers, Platform: a.Platform}); err != nil {
				t.Fatal(err)
			}
			if first == nil {
				first = again.Bytes()
			}
			if !bytes.Equal(first, again.Bytes()) {
				t.Error("written again, it is another image")
			}
		})
	}
}

// What we write, we read.
func TestRoundTrip(t *testing.T) {
	config := configOf("linux", "amd64", low, high, low)
	image := oci.Image{Config: []byte(config), Layers: []oci.Layer{layer(low), layer(high), layer(low)}, Platform: oci.Platform{Architecture: "amd64", OS: "linux"},
		Name: "oriel/export:x", Annotations: map[string]string{"org.opencontainers.image.title": "mine"}}
	for name, write := range map[string]func(io.Writer, oci.Image) error{"Write": oci.Write, "WriteSaved": oci.WriteSaved} {
		var archive, again bytes.Buffer
		if err := write(&archive, image); err != nil {
			t.Fatal(err)
		}
		a, err := open(archive.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		layers, err := a.Layers()
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]string{"org.opencontainers.image.title": "mine", "org.opencontainers.image.ref.name": "x", "io.containerd.image.name": "docker.io/oriel/export:x"}
		if name == "Write" && !cmp.Equal(a.Annotations, want) {
			t.Errorf("annotations %v", a.Annotations)
		}
		if err := write(&again, oci.Image{Config: a.Config, Layers: layers, Platform: a.Platform, Name: image.Name, Annotations: image.Annotations}); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(archive.Bytes(), again.Bytes()) {
			t.Errorf("%s: read and written again, it is another archive", name)
		}
	}
}

// What is inspected while it is written is found as wrong as before, and the archive is not completed.
func TestInspectedWhileWritten(t *testing.T) {
	for name, archive := range forms() {
		a, err := open(archive)
		if err != nil {
			t.Fatal(err)
		}
		asked := 0
		layers, err := a.Inspected(func(c oci.Contents) error {
			asked++
			if c.Size != int64(len(low)+len(high)) || string(c.Files["opt/dir/new"].Text) != "z" || len(c.Files) != 1 {
				t.Errorf("%s: %+v", name, c)
			}
			return nil
		}, "opt/dir/new", "opt/dir/file")
		if err != nil {
			t.Fatal(err)
		}
		var again bytes.Buffer
		if err := oci.WriteSaved(&again, oci.Image{Config: a.Config, Layers: layers}); err != nil || asked != 1 || inspect(again.Bytes()) != nil {
			t.Errorf("%s: %v, asked %d times", name, err, asked)
		}
	}
	refused := errors.New("not this one")
	for name, test := range map[string]struct {
		archive []byte
		verdict error
	}{
		"verdict":       {good().bytes(), refused},
		"compressed":    {packed().bytes(), refused},
		"not a tar":     {withLayer(strings.Repeat("no tar at all", 10_000)), nil},
		"leads out":     {withLayer(tarOf("a/../../etc/passwd", strings.Repeat("x", 100_000), "b", strings.Repeat("x", 100_000))), nil},
		"has holes":     {withLayer(holes()), nil},
		"cut off":       {withLayer(low[:1500]), nil},
		"damaged":       {bytes.Replace(good().bytes(), []byte("ID=debian"), []byte("ID=debiam"), 1), nil},
		"without any":   {layout{config: configOf("linux", "amd64")}.bytes(), refused},
		"a layer twice": {layout{config: configOf("linux", "amd64", low, low), layers: []object{descriptor(ociType+"layer.v1.tar", low), descriptor(ociType+"layer.v1.tar", low)}}.add(low).bytes(), refused},
	} {
		a, err := open(test.archive)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var written bytes.Buffer
		layers, err := a.Inspected(func(oci.Contents) error { return test.verdict })
		if err == nil {
			err = oci.WriteSaved(&written, oci.Image{Config: a.Config, Layers: layers})
		}
		if _, wrong := errors.AsType[*oci.Error](err); !wrong && (err == nil || !errors.Is(err, test.verdict)) {
			t.Errorf("%s: %v", name, err)
		}
		if name != "verdict" {
			continue
		}
		var whole bytes.Buffer
		layers, err = a.Layers()
		if err = errors.Join(err, oci.WriteSaved(&whole, oci.Image{Config: a.Config, Layers: layers})); err != nil || written.Len() != whole.Len()-1024 {
			t.Errorf("%d bytes were written of %d, and the end of a tar file has 1024; %v", written.Len(), whole.Len(), err)
		}
	}
}

// What is not read to its end leaves nothing that waits for it.
func TestInspectedInPart(t *testing.T) {
	before := runtime.NumGoroutine()
	big := tarOf("x", strings.Repeat("x", 1<<20), "y", strings.Repeat("y", 1<<20))
	a, err := open(withLayer(big))
	if err != nil {
		t.Fatal(err)
	}
	layers, err := a.Inspected(func(oci.Contents) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	full := errors.New("no space left")
	for range 50 {
		if err := oci.WriteSaved(&limited{100_000, full}, oci.Image{Config: a.Config, Layers: layers}); !errors.Is(err, full) {
			t.Fatal(err)
		}
	}
	for end := time.Now().Add(time.Minute); runtime.NumGoroutine() > before+5; runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("%d goroutines, before there were %d", runtime.NumGoroutine(), before)
		}
	}
}

type limited struct {
	left int
	err  error
}

func (l *limited) Write(b []byte) (int, error) {
	if l.left -= len(b); l.left < 0 {
		return 0, l.err
	}
	return len(b), nil
}

func change(l layout, f func(*layout)) []byte {
	f(&l)
	return l.bytes()
}

// withLayer is an image of one layer, compressed if a compressed form is given.
func withLayer(content string, compressed ...string) []byte {
	l := layout{config: configOf("linux", "amd64", content)}
	if len(compressed) == 0 {
		l.layers = []object{descriptor(ociType+"layer.v1.tar", content)}
		return l.add(content).bytes()
	}
	l.layers = []object{descriptor(ociType+"layer.v1.tar+"+compressed[0], compressed[1])}
	return l.add(compressed[1]).bytes()
}

func TestHostileArchives(t *testing.T) {
	oci.SetLimits(t, 32<<20, 64<<10)
	config := configOf("linux", "amd64", low)
	saved := func(manifest string, more ...string) []byte {
		return []byte(tarOf(append([]string{"manifest.json", manifest, "c", config}, more...)...))
	}
	one := `[{"Config":"c","Layers":["l"]}]`
	many := func(n int) (list []object) {
		for i := range n {
			list = append(list, descriptor(ociType+"manifest.v1+json", fmt.Sprint(i)))
		}
		return list
	}
	deep := func() []byte {
		l := good()
		d := descriptor(ociType+"manifest.v1+json", toJSON(object{}))
		for range 6 {
			text := toJSON(object{"schemaVersion": 2, "manifests": []object{d}})
			l, d = l.add(text), descriptor(ociType+"index.v1+json", text)
		}
		l.index = object{"schemaVersion": 2, "manifests": []object{d}}
		return l.bytes()
	}
	wide := func() []byte { // each index has the next one forty times
		l := good()
		text := toJSON(object{"schemaVersion": 2, "manifests": []object{}})
		for range 2 {
			l = l.add(text)
			text = toJSON(object{"schemaVersion": 2, "manifests": slices.Repeat([]object{descriptor(ociType+"index.v1+json", text)}, 40)})
		}
		l = l.add(text)
		l.index = object{"schemaVersion": 2, "manifests": []object{descriptor(ociType+"index.v1+json", text)}}
		return l.bytes()
	}
	var noise [40 << 10]byte
	for n := range noise {
		noise[n] = byte(n * n >> 3)
	}
	for name, test := range map[string]struct {
		archive []byte
		says    string
	}{
		"nothing":                {nil, "only 0 bytes"},
		"an empty tar":           {[]byte(tarOf()), "neither an OCI image layout"},
		"text":                   {bytes.Repeat([]byte("no archive "), 1000), "cannot be read"},
		"a page of a web server": {append([]byte("<html>"), make([]byte, 4096)...), "cannot be read"},
		"compressed as a whole":  {append([]byte(gzipped("x")), make([]byte, 4096)...), "compressed with gzip: unpack it"},
		"compressed with xz":     {append([]byte("\xfd7zXZ\x00"), make([]byte, 4096)...), "compressed with xz"},
		"cut off in a header":    {good().bytes()[:612+len(low)], "too early"},
		"cut off in a blob":      {good().bytes()[:1000+len(low)], "too early"},
		"a file twice":           {[]byte(tarOf("index.json", "{}", "./index.json", "{}")), "twice"},
		"a link over a file":     {[]byte(tarOf("index.json", "{}", "index.json", "→x")), "twice"},
		"outside":                {[]byte(tarOf("../index.json", "{}")), "outside"},
		"absolute":               {[]byte(tarOf("/index.json", "{}")), "outside"},
		"a sparse file":          {[]byte(holes()), "holes"},
		"no JSON":                {[]byte(tarOf("index.json", "[{")), "not what it should be"},
		"a member twice":         {[]byte(tarOf("index.json", `{"schemaVersion":2,"schemaVersion":2}`)), "not what it should be"},
		"JSON without an end":    {[]byte(tarOf("index.json", strings.Repeat("[", 100_000))), "not what it should be"},
		"a text too large":       {[]byte(tarOf("index.json", strings.Repeat(" ", 5<<20))), "larger than 4 MiB"},
		"version 1":              {change(good(), func(l *layout) { l.index = object{"schemaVersion": 1} }), "not an index"},
		"an index that is none":  {change(good(), func(l *layout) { l.index = object{"schemaVersion": 2, "mediaType": ociType + "manifest.v1+json"} }), "not an index"},
		"no images":              {change(good(), func(l *layout) { l.index = object{"schemaVersion": 2} }), "no image in the archive"},
		"an artifact": {change(good(), func(l *layout) {
			l.manifest = object{"schemaVersion": 2, "config": descriptor("application/vnd.oci.empty.v1+json", "{}")}
		}), "no image"},
		"no configuration":        {change(good(), func(l *layout) { l.manifest = object{"schemaVersion": 2} }), "not an image's manifest"},
		"too many images":         {change(good(), func(l *layout) { l.index = object{"schemaVersion": 2, "manifests": many(1001)} }), "more than 1000 images"},
		"indexes without end":     {deep(), "more than 4 deep"},
		"indexes that multiply":   {wide(), "more than 1000 images"},
		"a manifest not there":    {change(good(), func(l *layout) { l.index = object{"schemaVersion": 2, "manifests": many(1)} }), "is missing"},
		"SHA-512":                 {change(good(), func(l *layout) { l.layers[0]["digest"] = "sha512:" + strings.Repeat("0", 128) }), "other algorithms"},
		"a digest that is a path": {change(good(), func(l *layout) { l.layers[0]["digest"] = "sha256:../../../etc/passwd" }), "other algorithms"},
		"a layer of another size": {change(good(), func(l *layout) { l.layers[0]["size"] = 5 }), "has " + fmt.Sprint(len(low)) + " bytes, not 5"},
		"a layer too few":         {change(good(), func(l *layout) { l.layers = l.layers[:1] }), "1 layers, but its configuration names 2"},
		"layers in another order": {change(good(), func(l *layout) { slices.Reverse(l.layers) }), "not the one"},
		"an unknown layer":        {change(good(), func(l *layout) { l.layers[0]["mediaType"] = "text/plain" }), "not one of a layer"},
		"an encrypted layer":      {change(good(), func(l *layout) { l.layers[0]["mediaType"] = ociType + "layer.v1.tar+gzip+encrypted" }), "decrypt it first"},
		"a foreign layer": {change(good(), func(l *layout) {
			l.layers[0]["mediaType"] = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
		}), "fetched elsewhere"},
		"a nondistributable one":  {change(good(), func(l *layout) { l.layers[0]["mediaType"] = ociType + "layer.nondistributable.v1.tar" }), "fetched elsewhere"},
		"not gzip":                {change(good(), func(l *layout) { l.layers[0]["mediaType"] = ociType + "layer.v1.tar+gzip" }), "but is not compressed"},
		"zstd called gzip":        {change(packed(), func(l *layout) { l.layers[1]["mediaType"] = ociType + "layer.v1.tar+gzip" }), "but is compressed with zstd"},
		"a damaged layer":         {bytes.Replace(good().bytes(), []byte("ID=debian"), []byte("ID=debiam"), 1), "is damaged"},
		"a damaged configuration": {bytes.Replace(good().bytes(), []byte(`"config":{}`), []byte(`"config":[]`), 1), "is damaged"},
		"another root":            {change(good(), func(l *layout) { l.config = strings.Replace(l.config, `"layers"`, `"btrfs!"`, 1) }), "not layers"},
		"another system":          {change(good(), func(l *layout) { l.config = strings.Replace(l.config, `"linux"`, `"windows"`, 1) }), "no image for linux/amd64, which this server's machines are, but for windows/amd64"},
		"another processor":       {change(good(), func(l *layout) { l.config = strings.Replace(l.config, `"amd64"`, `"riscv64"`, 1) }), "but for linux/riscv64"},
		"no platform":             {change(good(), func(l *layout) { l.config = strings.Replace(l.config, `"os":"linux",`, ``, 1) }), "but for ?/amd64"},
		"too many layers":         {change(layout{config: configOf("linux", "amd64", slices.Repeat([]string{high}, 121)...), layers: slices.Repeat([]object{descriptor(ociType+"layer.v1.tar", high)}, 121)}.add(high), func(*layout) {}), "at most 120"},

		"saved: no configuration": {[]byte(tarOf("manifest.json", one)), "is missing"},
		"saved: no layer":         {saved(one), "is missing"},
		"saved: another layer":    {saved(one, "l", high), "is damaged, or of another image"},
		"saved: a layer too many": {saved(`[{"Config":"c","Layers":["l","l"]}]`, "l", low), "has 2 layers"},
		"saved: nothing":          {saved(`[]`, "l", low), "no image"},
		"saved: two images":       {saved(`[{"Config":"c","Layers":["l"]},{"Config":"d","Layers":["l"]}]`, "d", config+" ", "l", low), "2 images for linux/amd64"},
		"saved: a circle":         {saved(one, "l", "→m", "m", "→l"), "is missing"},
		"saved: a way out":        {saved(one, "l", "→../../../etc/passwd"), "is missing"},
		"saved: a directory":      {saved(one, "l/", ""), "is missing"},
		"saved: bzip2":            {saved(one, "l", "BZh91AY"), "compressed with bzip2: compress it with gzip"},

		"a layer that is no tar":      {withLayer("no tar at all"), "ends too early"},
		"a layer of noise":            {withLayer(string(noise[:])), "cannot be read"},
		"a layer that leads out":      {withLayer(tarOf("a/../../etc/passwd", "x")), "outside of the image"},
		"a hard link that leads out":  {withLayer(tarOf("a", "=../../etc/passwd")), "outside of the image"},
		"an unknown kind of file":     {withLayer(raw(tar.Header{Name: "x", Typeflag: 'V'})), "unknown type"},
		"an overlay's attribute":      {withLayer(raw(tar.Header{Name: "x", Typeflag: tar.TypeReg, PAXRecords: map[string]string{"SCHILY.xattr.trusted.overlay.redirect": "/etc"}})), "overlay"},
		"an overlay's without root":   {withLayer(raw(tar.Header{Name: "x", Typeflag: tar.TypeReg, PAXRecords: map[string]string{"SCHILY.xattr.user.overlay.opaque": "y"}})), "overlay"},
		"a layer with holes":          {withLayer(holes()), "holes"},
		"a cut off layer":             {withLayer(low[:1500]), "too early"},
		"gzip: cut off":               {withLayer(low, "gzip", gzipped(low)[:100]), "too early"},
		"gzip: something behind":      {withLayer(low, "gzip", gzipped(low)+strings.Repeat("behind", 9)), "cannot be read"},
		"gzip: of something else":     {withLayer(low, "gzip", gzipped(high)), "of another image"},
		"zstd: cut off":               {withLayer(low, "zstd", zstandard(low)[:50]), "too early"},
		"zstd: damaged":               {withLayer(low, "zstd", zstandard(low)[:len(zstandard(low))-1]+"x"), "cannot be read"},
		"zstd: a window of gigabytes": {withLayer(low, "zstd", "\x28\xb5\x2f\xfd\x00\xb8\x01\x00\x00"), "cannot be read"},
		"gzip: a bomb":                {withLayer(tarOf("x", strings.Repeat("\x00", 1<<20)), "gzip", gzipped(tarOf("x", strings.Repeat("\x00", 1<<20)))), "expands to more than is sensible"},
		"zstd: a bomb":                {withLayer(tarOf("x", strings.Repeat("\x00", 1<<20)), "zstd", zstandard(tarOf("x", strings.Repeat("\x00", 1<<20)))), "expands to more than is sensible"},
		"an image too large": {func() []byte {
			big := tarOf("x", strings.Repeat("x", 1<<20))
			l := layout{config: configOf("linux", "amd64", slices.Repeat([]string{big}, 40)...), layers: slices.Repeat([]object{descriptor(ociType+"layer.v1.tar", big)}, 40)}
			return l.add(big).bytes()
		}(), "more than 0 GB"},
	} {
		t.Run(name, func(t *testing.T) {
			err := inspect(test.archive)
			wrong, ok := errors.AsType[*oci.Error](err)
			if !ok || !strings.Contains(wrong.Message, test.says) || len(wrong.Message) > 600 {
				t.Errorf("got %v, want an Error with %q", err, test.says)
			}
		})
	}
}

// holes is a tar file with a sparse file of 64 GB that has no data, as GNU tar had them.
func holes() string {
	b := []byte(raw(tar.Header{Name: "x", Typeflag: tar.TypeReg, Format: tar.FormatGNU}))
	b[156] = tar.TypeGNUSparse
	copy(b[483:], "777777777777")
	copy(b[148:], "        ")
	sum := 0
	for _, c := range b[:512] {
		sum += int(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return string(b)
}

// Too many files.
func TestFilesWithoutEnd(t *testing.T) {
	var names []string
	for n := range 20_001 {
		names = append(names, fmt.Sprintf("f%d", n), "")
	}
	if err := inspect([]byte(tarOf(names...))); err == nil || !strings.Contains(err.Error(), "more than 20000 files") {
		t.Error(err)
	}
}

// What cannot be read now may be read later: that is not the archive's fault.
func TestUnreadable(t *testing.T) {
	gone := errors.New("the bucket is gone")
	for name, archive := range forms() {
		for at := int64(0); at < int64(len(archive)); at += 512 {
			a, err := oci.Open(failing{bytes.NewReader(archive), at, gone}, int64(len(archive)), "amd64")
			if err == nil {
				_, err = a.Inspect()
			}
			if _, wrong := errors.AsType[*oci.Error](err); err != nil && (wrong || !errors.Is(err, gone)) {
				t.Fatalf("%s, from %d on: %v", name, at, err)
			}
		}
	}
}

type failing struct {
	r   io.ReaderAt
	at  int64
	err error
}

func (f failing) ReadAt(b []byte, off int64) (int, error) {
	if off+int64(len(b)) > f.at {
		return 0, f.err
	}
	return f.r.ReadAt(b, off)
}

// An archive that becomes another one after it was looked at does not become an image.
func TestChangedMeanwhile(t *testing.T) {
	archive := packed().bytes()
	a, err := open(archive)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Inspect(); err != nil {
		t.Fatal(err)
	}
	layers, err := a.Layers()
	if err != nil {
		t.Fatal(err)
	}
	other := zstandard(tarOf("opt/.wh.gone", "", "opt/dir/.wh..wh..opq", "", "opt/dir/new", "evil"))
	copy(archive[bytes.Index(archive, []byte(zstandard(high))):], other)
	if err := oci.WriteSaved(io.Discard, oci.Image{Config: a.Config, Layers: layers}); err == nil {
		t.Error("it was written")
	}
}

func FuzzOpen(f *testing.F) {
	for _, archive := range forms() {
		f.Add(archive)
	}
	f.Fuzz(func(t *testing.T, archive []byte) {
		oci.SetLimits(t, 1<<20, 64<<10)
		straight := func() error {
			a, err := open(archive)
			if err != nil {
				return err
			}
			layers, err := a.Inspected(func(oci.Contents) error { return nil })
			if err != nil {
				return err
			}
			return oci.WriteSaved(io.Discard, oci.Image{Config: a.Config, Layers: layers, Platform: a.Platform})
		}
		if one, two := inspect(archive), straight(); (one == nil) != (two == nil) {
			t.Fatalf("inspected first: %v; inspected while written: %v", one, two)
		}
		a, err := open(archive)
		if err != nil {
			if _, ok := errors.AsType[*oci.Error](err); !ok {
				t.Fatalf("not an Error: %v", err)
			}
			return
		}
		contents, err := a.Inspect("etc/os-release", "usr/bin/Xvnc")
		if err != nil {
			if _, ok := errors.AsType[*oci.Error](err); !ok {
				t.Fatalf("not an Error: %v", err)
			}
			return
		}
		if contents.Size > 1<<20 {
			t.Fatalf("%d bytes", contents.Size)
		}
		layers, err := a.Layers()
		if err != nil {
			t.Fatal(err)
		}
		var again bytes.Buffer // what is accepted can be written and read again
		if err := oci.WriteSaved(&again, oci.Image{Config: a.Config, Layers: layers, Platform: a.Platform}); err != nil {
			t.Fatal(err)
		}
		if err := inspect(again.Bytes()); err != nil {
			t.Fatal(err)
		}
	})
}

// However often an archive names a large text, and whatever is in it, reading takes little memory.
func TestMuchText(t *testing.T) {
	large := strings.TrimSuffix(configOf("linux", "amd64"), "}") + `,"x":"` + strings.Repeat("x", 3<<20) + `"}`
	manifest := toJSON(object{"schemaVersion": 2, "config": descriptor(ociType+"config.v1+json", large), "layers": []object{}})
	many := good().add(large).add(manifest)
	var list []object
	for range 900 {
		list = append(list, object{"Config": "config.json", "Layers": []string{}})
		many.manifests = append(many.manifests, descriptor(ociType+"manifest.v1+json", manifest))
	}
	for name, c := range map[string]struct{ archive, want string }{
		"saved":         {tarOf("config.json", large, "manifest.json", toJSON(list)), "more than 64 MiB of manifests"},
		"layout":        {string(many.bytes()), "more than 64 MiB of manifests"},
		"many elements": {tarOf("manifest.json", "["+strings.Repeat("{},", 1<<20)+"{}]"), "images: write one alone"},
		"one text":      {tarOf("manifest.json", "["+strings.Repeat("{},", 2<<20)+"{}]"), "larger than 4 MiB"},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := open([]byte(c.archive))
		runtime.ReadMemStats(&after)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if used := after.TotalAlloc - before.TotalAlloc; used > 500<<20 { // all in all, not at a time
			t.Errorf("%s: it took %d MB", name, used>>20)
		}
	}
}
