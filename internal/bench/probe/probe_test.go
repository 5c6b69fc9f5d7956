package probe

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// Texts have exactly the size asked for, even where words are several tokens,
// and the same seed makes the same text.
func TestSizedTexts(t *testing.T) {
	count := func(_ context.Context, text string) (int, error) { return (len(text) + 4) / 5, nil }
	for _, want := range []int{1, 20, 500, 2000} {
		a, err := NewWords(3).Sized(context.Background(), count, want)
		if n, _ := count(context.Background(), a); err != nil || n != want {
			t.Errorf("%d tokens wanted, %d made (%v)", want, n, err)
		}
		if b, _ := NewWords(3).Sized(context.Background(), count, want); a != b {
			t.Errorf("%d tokens: two texts from one seed", want)
		}
	}
	odd := func(_ context.Context, text string) (int, error) { return 2 * len(strings.Fields(text)), nil }
	if _, err := NewWords(3).Sized(context.Background(), odd, 7); err == nil {
		t.Error("7 tokens out of words of 2: no error")
	}
}

// A stream that does not carry what is measured is an error, not a zero.
func TestBrokenStreams(t *testing.T) {
	const usage = `data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":1}}` + "\n\n"
	const token = `data: {"choices":[{"delta":{"content":"a"},"token_ids":[1]}]}` + "\n\n"
	for _, c := range []struct{ stream, want string }{
		{token + usage, "without [DONE]"},
		{token + "data: [DONE]\n\n", "no usage"},
		{usage + "data: [DONE]\n\n", "no token"},
		{token + token + usage + "data: [DONE]\n\n", "2 token ids, usage says 1"},
		{token + `data: {"error":{"message":"out of room"}}` + "\n\n", "out of room"},
		{"data: {\n\n", "stream event"},
	} {
		if _, err := readStream(strings.NewReader(c.stream), time.Now(), func() {}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.stream, err, c.want)
		}
	}
	if a, err := readStream(strings.NewReader(token+usage+"data: [DONE]\n\n"), time.Now(), func() {}); err != nil || a.Text != "a" || a.Prompt != 5 {
		t.Errorf("a good stream: %+v, %v", a, err)
	}
}

// A server that ends at once is reported with its own last words.
func TestSpawnOfWhatDoesNotServe(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, err := Spawn(ctx, "/bin/sh", nil) // sh takes "serve" for a script's name
	if err == nil || !strings.Contains(err.Error(), "serve") || !strings.Contains(err.Error(), "the server ended") {
		t.Errorf("got %v", err)
	}
}

// A server that is slow but says so is waited for, longer than the patience; one
// that says nothing is not.
func TestSlowIsNotSilent(t *testing.T) {
	const patience, pings = 250 * time.Millisecond, 10
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for range pings {
			time.Sleep(patience / 5)
			if r.Header.Get("X-Agent-ID") == "slow" {
				fmt.Fprint(w, ": ping\n\n")
				w.(http.Flusher).Flush()
			}
		}
		fmt.Fprint(w, `data: {"choices":[{"delta":{"content":"a"},"token_ids":[1]}],"usage":{"prompt_tokens":5,"completion_tokens":1}}`+"\n\ndata: [DONE]\n\n")
	}))
	defer s.Close()
	c := NewClient(s.URL, patience)
	if a, err := c.Chat(context.Background(), Chat{Agent: "slow"}); err != nil || a.Text != "a" {
		t.Errorf("slow: %+v, %v", a, err)
	}
	for _, err := range []error{
		second(c.Chat(context.Background(), Chat{Agent: "silent"})),
		c.Get(context.Background(), "/v1/models", nil),
	} {
		if err == nil || err.Error() != "the server has said nothing for 250ms" {
			t.Errorf("silent: %v", err)
		}
	}
}

func second[T any](_ T, err error) error { return err }
