// Package web is the pages that this service has itself.
//
// [Page] is the page where a person can log in and watch what happens, at / and
// /page/.... [Docs] is the reference of the HTTP interface, at /docs and /docs/....
// Both are files of the program: nothing is fetched from elsewhere, and the
// Content-Security-Policy would not let it be.
//
// The files below static are made from src by `npm run build`, and committed, so
// that the program can be built without Node; a test says when they are old.
//
// The package knows nothing of sessions and tokens: the page is a client like any
// other.
package web

import (
	"embed"
	"net/http"
)

//go:embed static
var static embed.FS

// pagePolicy: what is beside the page, and nothing in it. A script that got into
// the page some other way could use the session.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"frame-ancestors 'none'; base-uri 'none'; form-action 'self'"

// Page serves the page.
func Page() http.Handler {
	f := files{policy: pagePolicy, byPath: map[string]*file{}}
	f.add("/", "static/index.html")
	f.addAll("/page/", "static", "index.html", "docs")
	return f
}
