package web

import "net/http"

// docsPolicy is the page's, but that the viewer may add a style element that is
// empty, into which it puts rules afterwards, and one of its own. Both are named by
// their hash. The viewer's logo, on a server of its maker's, is not loaded.
const docsPolicy = "default-src 'none'; script-src 'self'; " +
	"style-src 'self' 'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=' 'sha256-QMIg+bpjm3JdElJ388KYke01izlUW0UoNOeKjpMxdgc='; " +
	"img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

// Docs serves the reference: Redoc, which reads /openapi.yaml.
func Docs() http.Handler {
	f := files{policy: docsPolicy, byPath: map[string]*file{}}
	f.add("/docs", "static/docs/index.html")
	f.addAll("/docs/", "static/docs", "index.html")
	return f
}
