package api

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
)

type requestIDKey struct{}

// requestID names each request, for the log and for the user who reports a
// problem. A name that the client sends is not believed: it could be somebody
// else's, or a line of log of the client's own making.
func requestID(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := rand.Text()
		w.Header().Set("X-Request-Id", id)
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), requestIDKey{}, id)))
	})
}

func requestIDOf(r *http.Request) string {
	id, _ := r.Context().Value(requestIDKey{}).(string)
	return id
}

// logRequests writes a line for each request. It names the route, not the
// path, and no header: tokens can be neither in one nor in the other.
func (a *API) logRequests(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		ww := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
		next.ServeHTTP(ww, r)
		a.config.Logger.LogAttrs(r.Context(), slog.LevelInfo, "request",
			slog.String("method", r.Method),
			slog.String("route", chi.RouteContext(r.Context()).RoutePattern()),
			slog.Int("status", ww.Status()),
			slog.Float64("ms", float64(time.Since(began).Microseconds())/1000),
			slog.String("request_id", requestIDOf(r)),
		)
	})
}

// recoverPanics answers for a handler that failed in a way nobody foresaw.
func (a *API) recoverPanics(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if p == http.ErrAbortHandler { // a sentinel that is never wrapped
				panic(p)
			}
			a.config.Logger.ErrorContext(r.Context(), "panic", "request_id", requestIDOf(r), "stack", string(debug.Stack()))
			a.fail(w, r, fmt.Errorf("%w: panic", errInternal))
		}()
		next.ServeHTTP(w, r)
	})
}

// lastOfConnection closes the connection after requests whose end another server
// may see elsewhere, so that what follows is never taken for a request: it could
// be one that the proxy in between has not seen as such. Those are requests with
// both Transfer-Encoding and Content-Length, and of HTTP/1.0 with
// Transfer-Encoding (RFC 9112, section 6.1). net/http removes the evidence, and
// keeps the connection; so all that have come in chunks are closed, and all of
// HTTP/1.0.
func lastOfConnection(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TransferEncoding) > 0 || !r.ProtoAtLeast(1, 1) {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// bounded bounds what a request may take: the size of its body, and the time
// that Redis and hashing may need. The clock starts when the body is here: a
// slow line is not trouble of the service's.
//
// The context is cut from the client's connection: a rotation whose client has
// gone is still carried out and its reply still read. Cutting it off half-way
// would cost the connection to Redis and leave the outcome open.
func (a *API) bounded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		var large *http.MaxBytesError
		switch {
		case errors.As(err, &large):
			a.fail(w, r, errTooLarge)
			return
		case err != nil:
			a.fail(w, r, invalidRequest("the body could not be read"))
			return
		}
		if gone(r) {
			a.fail(w, r, fmt.Errorf("%w: the client has gone", errUnavailable))
			return
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), storageBudget)
		defer cancel()
		r = r.WithContext(ctx)
		r.Body = io.NopCloser(bytes.NewReader(body))
		r.ContentLength = int64(len(body))
		next.ServeHTTP(w, r)
	})
}
