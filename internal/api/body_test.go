package api_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"mneme/internal/api"
)

// dial opens a bare connection and writes the head of a chat with a body of so
// many bytes.
func (b *bench) dial(head string, length int) net.Conn {
	b.t.Helper()
	conn, err := net.Dial("tcp", b.http.Listener.Addr().String())
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n", head, length); err != nil {
		b.t.Fatal(err)
	}
	return conn
}

func (b *bench) readReply(in *bufio.Reader) reply {
	b.t.Helper()
	answer, err := http.ReadResponse(in, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return reply{answer.StatusCode, answer.Header, string(text)}
}

// closed says whether the server has ended the connection.
func closed(in *bufio.Reader) bool {
	_, err := in.ReadByte()
	return err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
}

// Half a body, and then nothing: the request is told so and its line closed.
func TestHalfABody(t *testing.T) {
	b := newBenchWith(t, api.Options{BodyPatience: 100 * time.Millisecond})
	conn := b.dial("POST /v1/chat/completions", 1000)
	_, _ = io.WriteString(conn, `{"messages":`)
	in := bufio.NewReader(conn)
	b.want(b.readReply(in), 408, `{"error":{"message":"the body stopped after 12 bytes: nothing more came for 100ms","type":"invalid_request_error","param":null,"code":"body_timeout"}}`)
	if !closed(in) {
		t.Error("the connection is still open")
	}
	b.alive()
}

// A byte now and then is not a body: after twenty patiences it has to have come.
func TestABodyInTrickles(t *testing.T) {
	b := newBenchWith(t, api.Options{BodyPatience: 50 * time.Millisecond})
	conn := b.dial("POST /v1/chat/completions", 100_000)
	go func() {
		for {
			if _, err := io.WriteString(conn, " "); err != nil {
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	in := bufio.NewReader(conn)
	got := b.readReply(in)
	if message, _, code := b.error(got); got.status != 408 || code != "body_timeout" || !strings.Contains(message, "the body came too slowly: ") || !strings.Contains(message, " bytes in 1s") {
		t.Errorf("%d %s", got.status, got.body)
	}
	if !closed(in) {
		t.Error("the connection is still open")
	}
	b.alive()
}

// A body that nobody reads may not hold the line either.
func TestABodyNobodyReads(t *testing.T) {
	b := newBenchWith(t, api.Options{BodyPatience: 100 * time.Millisecond})
	for _, c := range []struct {
		head   string
		status int
	}{{"GET /healthz", 200}, {"POST /nowhere", 404}} {
		in := bufio.NewReader(b.dial(c.head, 1000))
		if got := b.readReply(in); got.status != c.status {
			t.Errorf("%s: %d %s", c.head, got.status, got.body)
		}
		if !closed(in) {
			t.Errorf("%s: the connection is still open", c.head)
		}
	}
}

// A body that comes in drops takes longer than the patience and is read; so
// does the answer to it, and the same line carries the next request.
func TestASlowBody(t *testing.T) {
	b := newBenchWith(t, api.Options{BodyPatience: 400 * time.Millisecond})
	b.fake.hold = make(chan struct{})
	body := `{` + hi + `}`
	conn := b.dial("POST /v1/chat/completions", len(body))
	for drop := range strings.SplitAfterSeq(body, `,`) {
		time.Sleep(250 * time.Millisecond)
		_, _ = io.WriteString(conn, drop)
	}
	time.Sleep(500 * time.Millisecond)
	close(b.fake.hold)
	in := bufio.NewReader(conn)
	if got := b.readReply(in); got.status != 200 {
		t.Errorf("%d %s", got.status, got.body)
	}
	_, _ = io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if got := b.readReply(in); got.status != 200 || got.body != `{"status":"ok"}`+"\n" {
		t.Errorf("the next request: %d %s", got.status, got.body)
	}
}
