package sdk_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"
)

func newAnthropic(more ...option.RequestOption) anthropic.Client {
	return anthropic.NewClient(append([]option.RequestOption{
		option.WithBaseURL(server.url), option.WithAPIKey(server.key), option.WithMaxRetries(0),
	}, more...)...)
}

func telling(t *testing.T, text string) anthropic.MessageNewParams {
	return anthropic.MessageNewParams{
		Model:       anthropic.Model(served(t)),
		MaxTokens:   24,
		System:      []anthropic.TextBlockParam{{Text: "Be brief.", CacheControl: anthropic.NewCacheControlEphemeralParam()}},
		Messages:    []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock(text))},
		Thinking:    anthropic.ThinkingConfigParamUnion{OfDisabled: &anthropic.ThinkingConfigDisabledParam{}},
		Temperature: anthropic.Float(0),
	}
}

// prompt is what all of a prompt's tokens are.
func prompt(u anthropic.Usage) int64 {
	return u.InputTokens + u.CacheCreationInputTokens + u.CacheReadInputTokens
}

// streamed is a message put together by the client from its events.
func streamed(t *testing.T, c anthropic.Client, q anthropic.MessageNewParams) (m anthropic.Message) {
	t.Helper()
	stream := c.Messages.NewStreaming(t.Context(), q)
	for stream.Next() {
		if err := m.Accumulate(stream.Current()); err != nil {
			t.Fatal(err)
		}
	}
	if stream.Err() != nil {
		t.Fatal(stream.Err())
	}
	return m
}

// What a stream gives in pieces is what a message is as a whole, and count_tokens
// says how many tokens usage will have.
func TestAnthropicMessages(t *testing.T) {
	c := newAnthropic()
	q := telling(t, "Name three rivers.")
	whole, err := c.Messages.New(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	pieces := streamed(t, c, q)
	if len(whole.Content) != 1 || whole.Content[0].Text == "" || whole.Content[0].Text != pieces.Content[0].Text || whole.StopReason != pieces.StopReason {
		t.Errorf("whole    %s\nstreamed %+v", whole.RawJSON(), pieces)
	}
	count, err := c.Messages.CountTokens(t.Context(), anthropic.MessageCountTokensParams{
		Model: q.Model, Messages: q.Messages, Thinking: q.Thinking, System: anthropic.MessageCountTokensParamsSystemUnion{OfTextBlockArray: q.System}})
	if err != nil || count.InputTokens != prompt(whole.Usage) || prompt(pieces.Usage) != prompt(whole.Usage) || whole.Usage.CacheCreationInputTokens == 0 {
		t.Errorf("counted %+v, %v; usage %s, streamed %s", count, err, whole.Usage.RawJSON(), pieces.Usage.RawJSON())
	}
}

// A conversation of an agent is cached but for what is new.
func TestAnthropicConversation(t *testing.T) {
	c := newAnthropic(option.WithHeader("X-Agent-ID", "grace"))
	q := telling(t, "Name three rivers.")
	first := streamed(t, c, q)
	q.Messages = append(q.Messages, first.ToParam(), anthropic.NewUserMessage(anthropic.NewTextBlock("And lakes?")))
	second := streamed(t, c, q)
	if got, want := second.Usage.CacheReadInputTokens, prompt(first.Usage)+first.Usage.OutputTokens-1; got != want {
		t.Errorf("%d tokens are read from the cache, want %d", got, want)
	}
}

// A tool that must be used is used with an input of its schema, whole and
// streamed; what it gave is taken. Counting has the same tools.
func TestAnthropicTools(t *testing.T) {
	c := newAnthropic()
	q := telling(t, "What is the weather in Rome for two days?")
	q.MaxTokens = 200
	tool := anthropic.ToolParam{Name: "weather", Description: anthropic.String("Looks up the weather."), InputSchema: anthropic.ToolInputSchemaParam{
		Properties: place["properties"], Required: []string{"city", "days"}, ExtraFields: map[string]any{"additionalProperties": false}}}
	q.Tools = []anthropic.ToolUnionParam{{OfTool: &tool}}
	q.ToolChoice = anthropic.ToolChoiceParamOfTool("weather")
	whole, err := c.Messages.New(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	pieces := streamed(t, c, q)
	for _, m := range []*anthropic.Message{whole, &pieces} {
		if m.StopReason != anthropic.StopReasonToolUse || len(m.Content) != 1 {
			t.Fatalf("got %+v", m)
		}
		use := m.Content[0].AsToolUse()
		if use.ID == "" || use.Name != "weather" || !isPlace(string(use.Input)) {
			t.Errorf("used %s %s", use.Name, use.Input)
		}
	}
	count, err := c.Messages.CountTokens(t.Context(), anthropic.MessageCountTokensParams{
		Model: q.Model, Messages: q.Messages, Thinking: q.Thinking, System: anthropic.MessageCountTokensParamsSystemUnion{OfTextBlockArray: q.System},
		Tools: []anthropic.MessageCountTokensToolUnionParam{{OfTool: &tool}}, ToolChoice: q.ToolChoice})
	if err != nil || count.InputTokens != prompt(whole.Usage) {
		t.Errorf("counted %+v, %v; usage %s", count, err, whole.Usage.RawJSON())
	}
	q.ToolChoice = anthropic.ToolChoiceUnionParam{OfNone: &anthropic.ToolChoiceNoneParam{}}
	q.Messages = append(q.Messages, whole.ToParam(), anthropic.NewUserMessage(anthropic.NewToolResultBlock(whole.Content[0].ID, "Rain, 12 degrees.", false)))
	after, err := c.Messages.New(t.Context(), q)
	if err != nil || len(after.Content) == 0 || after.Content[0].Text == "" {
		t.Errorf("after the use: %+v, %v", after, err)
	}
}

func TestAnthropicStopSequence(t *testing.T) {
	c := newAnthropic()
	q := telling(t, "Count from one to five, in digits.")
	q.Messages = append(q.Messages, anthropic.NewAssistantMessage(anthropic.NewTextBlock("1, 2,")))
	q.StopSequences = []string{"5", "4"}
	got := streamed(t, c, q)
	if got.StopReason != anthropic.StopReasonStopSequence || got.StopSequence != "4" || strings.Contains(got.Content[0].Text, "4") {
		t.Errorf("got %s %q %+v", got.StopReason, got.StopSequence, got.Content)
	}
}

// Errors are read by the client as the vendor's own.
func TestAnthropicErrors(t *testing.T) {
	q := telling(t, "Hello.")
	stranger := newAnthropic(option.WithAPIKey("mk_nobody"))
	_, err := stranger.Messages.New(t.Context(), q)
	wantAnthropic(t, err, http.StatusUnauthorized, "authentication_error")
	c := newAnthropic()
	other := q
	other.Model = anthropic.ModelClaudeOpus5_5
	_, err = c.Messages.New(t.Context(), other)
	wantAnthropic(t, err, http.StatusNotFound, "not_found_error")
	long := telling(t, strings.Repeat("river lake ", 4096))
	_, err = c.Messages.New(t.Context(), long)
	wantAnthropic(t, err, http.StatusBadRequest, "invalid_request_error")
	stream := c.Messages.NewStreaming(t.Context(), long)
	if stream.Next() {
		t.Errorf("a stream of %s", stream.Current().RawJSON())
	}
	wantAnthropic(t, stream.Err(), http.StatusBadRequest, "invalid_request_error")
}

func wantAnthropic(t *testing.T, err error, status int, kind string) {
	t.Helper()
	var e *anthropic.Error
	if !errors.As(err, &e) {
		t.Errorf("got %v, want %d %s", err, status, kind)
		return
	}
	var body struct {
		Error struct{ Type, Message string }
	}
	if json.Unmarshal([]byte(e.RawJSON()), &body) != nil || e.StatusCode != status || body.Error.Type != kind || body.Error.Message == "" || e.RequestID == "" {
		t.Errorf("got %v (%s, request %q), want %d %s", e, e.RawJSON(), e.RequestID, status, kind)
	}
}
