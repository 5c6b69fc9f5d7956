// Record stands between a client and a server, and prints what the client sends: a
// line of JSON for each request that has a body, {method, path, header, body}.
//
//	record -addr 127.0.0.1:18931 -to http://127.0.0.1:18930 >requests.jsonl
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"sync"
)

// request is what is printed of one.
type request struct {
	Method string          `json:"method"`
	Path   string          `json:"path"`
	Header http.Header     `json:"header"`
	Body   json.RawMessage `json:"body"`
}

func main() {
	addr := flag.String("addr", "127.0.0.1:18931", "where to listen")
	to := flag.String("to", "http://127.0.0.1:8080", "the server's URL")
	flag.Parse()
	server, err := url.Parse(*to)
	if err != nil {
		log.Fatal(err)
	}
	r := &recorder{to: &httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(server) }}, out: json.NewEncoder(os.Stdout)}
	r.out.SetEscapeHTML(false)
	log.Fatal(http.ListenAndServe(*addr, r))
}

// recorder prints a request and hands it on.
type recorder struct {
	to http.Handler

	mu  sync.Mutex // guards out
	out *json.Encoder
}

// ServeHTTP implements http.Handler.
func (r *recorder) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	body, err := io.ReadAll(q.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if json.Valid(body) {
		r.print(request{q.Method, q.URL.RequestURI(), q.Header, body})
	}
	q.Body = io.NopCloser(bytes.NewReader(body))
	r.to.ServeHTTP(w, q)
}

func (r *recorder) print(q request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.out.Encode(q); err != nil {
		log.Print(err)
	}
}
