package console

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io"
	"net/http"
	"path"
	"strings"
)

//go:generate go run ../../cmd/internal/pack page packed *

// packed is what stands in page, each file compressed: it takes a third of the room.
//
//go:embed packed
var packed embed.FS

// mediaTypes are those of the files of the page.
var mediaTypes = map[string]string{
	".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml",
}

// pageNames are the paths that have no name of a file.
var pageNames = map[string]string{"/": "/index.html", "/login": "/login.html"}

// page gives a file of the page. known is false if there is none.
func page(w http.ResponseWriter, r *http.Request) (known bool) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false
	}
	name := r.URL.Path
	if other, ok := pageNames[name]; ok {
		name = other
	}
	media := mediaTypes[path.Ext(name)]
	b, err := packed.ReadFile("packed" + path.Clean(name) + ".gz")
	if err != nil || media == "" {
		return false
	}
	sum := sha256.Sum256(b)
	tag := `"` + hex.EncodeToString(sum[:12]) + `"`
	h := w.Header()
	h.Set("Content-Type", media)
	h.Set("Cache-Control", "no-cache")
	h.Set("ETag", tag)
	h.Set("Vary", "Accept-Encoding")
	if strings.Contains(r.Header.Get("If-None-Match"), tag) {
		w.WriteHeader(http.StatusNotModified)
		return true
	}
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
	} else if b, err = unpack(b); err != nil {
		h.Del("ETag")
		fail(w, http.StatusInternalServerError, "this file of the page is damaged: "+err.Error())
		return true
	}
	_, _ = w.Write(b) // who asked is gone otherwise
	return true
}

func unpack(b []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}
