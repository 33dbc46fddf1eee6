package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
)

// files serves a few files from memory, at exactly their paths.
type files struct {
	policy string
	byPath map[string]*file
}

type file struct {
	contentType  string
	etag         string
	gzipped      []byte
	uncompressed int
}

// ServeHTTP answers GET and HEAD. The names of the files stay while what is in
// them changes with the program, so browsers ask each time whether theirs is
// still good.
func (f files) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Content-Security-Policy", f.policy)
	found, ok := f.byPath[r.URL.Path]
	if !ok {
		h.Set("Content-Type", "application/json")
		h.Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"error":"not_found","error_description":"there is nothing here"}`+"\n")
		return
	}
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-cache")
	h.Add("Vary", "Accept-Encoding")
	asIs := acceptsGzip(r.Header.Values("Accept-Encoding"))
	// A tag says which bytes these are, and compressed they are others.
	tag := `"` + found.etag + `"`
	if asIs {
		tag = `"` + found.etag + `-gz"`
	}
	h.Set("ETag", tag)
	if matches(r.Header.Values("If-None-Match"), tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", found.contentType)
	if asIs {
		h.Set("Content-Encoding", "gzip")
		h.Set("Content-Length", strconv.Itoa(len(found.gzipped)))
	} else {
		h.Set("Content-Length", strconv.Itoa(found.uncompressed))
	}
	if r.Method == http.MethodHead {
		return
	}
	if asIs {
		_, _ = w.Write(found.gzipped)
		return
	}
	// What was compressed here, or by the build, is whole.
	if plain, err := gzip.NewReader(bytes.NewReader(found.gzipped)); err == nil {
		_, _ = io.Copy(w, plain)
	}
}

// addAll serves what is in a folder, except some.
func (f files) addAll(prefix, folder string, except ...string) {
	err := fs.WalkDir(static, folder, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative := strings.TrimPrefix(strings.TrimPrefix(name, folder), "/")
		switch {
		case slices.Contains(except, relative) && entry.IsDir():
			return fs.SkipDir
		case !slices.Contains(except, relative) && !entry.IsDir():
			f.add(prefix+strings.TrimSuffix(relative, ".gz"), name)
		}
		return nil
	})
	if err != nil {
		panic(err) // a file of the program itself
	}
}

// add serves a file at a path. One that ends in .gz is served under what it was.
func (f files) add(at, name string) {
	data, err := static.ReadFile(name)
	if err != nil {
		panic(err)
	}
	plain := data
	if trimmed, ok := strings.CutSuffix(name, ".gz"); ok {
		name = trimmed
		if plain, err = decompress(data); err != nil {
			panic(name + ": " + err.Error())
		}
	} else {
		data = compress(plain)
	}
	sum := sha256.Sum256(plain)
	f.byPath[at] = &file{
		contentType:  contentType(name),
		etag:         base64.RawURLEncoding.EncodeToString(sum[:12]),
		gzipped:      data,
		uncompressed: len(plain),
	}
}

func contentType(name string) string {
	switch extension := path.Ext(name); extension {
	case ".js": // mime asks the machine, and some call it text/plain
		return "text/javascript; charset=utf-8"
	case ".txt", ".html", ".css":
		return mime.TypeByExtension(extension)
	}
	return "application/octet-stream"
}

func compress(plain []byte) []byte {
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, gzip.BestCompression) // the level is a good one
	_, _ = w.Write(plain)
	_ = w.Close()
	return b.Bytes()
}

func decompress(gzipped []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(gzipped))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

// acceptsGzip reads Accept-Encoding: gzip, unless it is there with q=0.
func acceptsGzip(values []string) bool {
	for part := range strings.SplitSeq(strings.Join(values, ","), ",") {
		coding, quality, _ := strings.Cut(part, ";")
		if !strings.EqualFold(strings.TrimSpace(coding), "gzip") {
			continue
		}
		q, ok := strings.CutPrefix(strings.TrimSpace(quality), "q=")
		if !ok {
			return true
		}
		number, err := strconv.ParseFloat(q, 64)
		return err == nil && number > 0
	}
	return false
}

// matches reads If-None-Match. Compared weakly, as RFC 9110, section 13.1.2, has
// it: a proxy that compresses makes tags weak.
func matches(values []string, tag string) bool {
	for part := range strings.SplitSeq(strings.Join(values, ","), ",") {
		part = strings.TrimSpace(part)
		if part == "*" || strings.TrimPrefix(part, "W/") == tag {
			return true
		}
	}
	return false
}
