// Package web holds the files of Oriel's web pages: the viewer's script, styles and icons. They are built from the TypeScript
// sources in web/ by "make web" and embedded; the built files are kept with the sources, so that Go alone builds Oriel.
package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html/template"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
)

//go:embed dist
var dist embed.FS

// Prefix is where Handler's files are.
const Prefix = "/assets/"

// An asset is one file, ready to be sent.
type asset struct {
	data, zipped []byte // zipped is nil when it is not worth it
	hash         string
	contentType  string
}

// assets are made when the first is asked for.
var assets = sync.OnceValue(func() map[string]asset {
	list := make(map[string]asset)
	files, err := fs.ReadDir(dist, "dist")
	if err != nil {
		panic(err) // the embedded files are always there
	}
	for _, f := range files {
		if f.IsDir() {
			continue
		}
		data, err := fs.ReadFile(dist, "dist/"+f.Name())
		if err != nil {
			panic(err)
		}
		sum := sha256.Sum256(data)
		a := asset{data: data, hash: hex.EncodeToString(sum[:6]), contentType: mime.TypeByExtension(path.Ext(f.Name()))}
		if strings.HasSuffix(f.Name(), ".js") {
			a.contentType = "text/javascript; charset=utf-8" // whatever the host's tables say
		}
		var zipped bytes.Buffer
		z, _ := gzip.NewWriterLevel(&zipped, gzip.BestCompression)
		z.Write(data)
		z.Close()
		if zipped.Len() < len(data) {
			a.zipped = zipped.Bytes()
		}
		list[f.Name()] = a
	}
	return list
})

// Path gives the address of a built file. It changes with the file's content, so that the file may be cached for ever. It panics
// for a file that was not built, which a test of any page finds.
func Path(name string) string {
	a, ok := assets()[name]
	if !ok {
		panic("web: " + name + " was not built; run make web")
	}
	return Prefix + name + "?v=" + a.hash
}

// Icon gives the icon of a name as inline SVG. It panics for one that there is not.
func Icon(name string) template.HTML {
	text, err := fs.ReadFile(dist, "dist/icons/"+name+".svg")
	if err != nil {
		panic("web: there is no icon " + name)
	}
	return template.HTML(text)
}

// Handler serves the built files under Prefix.
func Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a, ok := assets()[strings.TrimPrefix(r.URL.Path, Prefix)]
		if !ok {
			http.NotFound(w, r)
			return
		}
		h := w.Header()
		h.Set("Content-Type", a.contentType)
		h.Set("ETag", `"`+a.hash+`"`)
		h.Set("Vary", "Accept-Encoding")
		if r.URL.Query().Get("v") == a.hash {
			h.Set("Cache-Control", "public, max-age=31536000, immutable")
		} else {
			h.Set("Cache-Control", "no-cache")
		}
		if r.Header.Get("If-None-Match") == h.Get("ETag") {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		body := a.data
		if a.zipped != nil && acceptsGzip(r) {
			h.Set("Content-Encoding", "gzip")
			body = a.zipped
		}
		h.Set("Content-Length", strconv.Itoa(len(body)))
		w.Write(body)
	})
}

func acceptsGzip(r *http.Request) bool {
	for coding := range strings.SplitSeq(strings.Join(r.Header.Values("Accept-Encoding"), ","), ",") {
		name, quality, _ := strings.Cut(strings.TrimSpace(coding), ";")
		if name == "gzip" {
			return strings.ReplaceAll(quality, " ", "") != "q=0"
		}
	}
	return false
}
