package sdk_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/responses"
	"github.com/openai/openai-go/v3/shared"
)

func newOpenAI(more ...option.RequestOption) openai.Client {
	return openai.NewClient(append([]option.RequestOption{
		option.WithBaseURL(server.url + "/v1"), option.WithAPIKey(server.key), option.WithMaxRetries(0),
	}, more...)...)
}

// served is the name that the server has for its model.
func served(t *testing.T) string {
	t.Helper()
	c := newOpenAI()
	page, err := c.Models.List(t.Context())
	if err != nil || len(page.Data) != 1 {
		t.Fatalf("models: %+v, %v", page, err)
	}
	return page.Data[0].ID
}

func asking(t *testing.T, text string) openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{
		Model:               served(t),
		Messages:            []openai.ChatCompletionMessageParamUnion{openai.SystemMessage("Be brief."), openai.UserMessage(text)},
		MaxCompletionTokens: openai.Int(24),
		Temperature:         openai.Float(0),
	}
}

// The schema of a tool's arguments, and of an answer.
var place = map[string]any{
	"type":                 "object",
	"properties":           map[string]any{"city": map[string]any{"type": "string", "enum": []string{"Paris", "Rome"}}, "days": map[string]any{"type": "integer", "enum": []int{1, 2, 3}}},
	"required":             []string{"city", "days"},
	"additionalProperties": false,
}

// isPlace says whether text is JSON of that schema.
func isPlace(text string) bool {
	var p struct {
		City string
		Days int
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	return d.Decode(&p) == nil && (p.City == "Paris" || p.City == "Rome") && 1 <= p.Days && p.Days <= 3
}

func TestOpenAIModels(t *testing.T) {
	c := newOpenAI()
	name := served(t)
	m, err := c.Models.Get(t.Context(), name)
	if err != nil || m.ID != name || m.OwnedBy != "mneme" || m.Created == 0 {
		t.Errorf("got %+v, %v", m, err)
	}
}

// What a stream gives in pieces is what an answer is as a whole, usage included,
// and the second has all of the prompt's whole blocks cached.
func TestOpenAIChat(t *testing.T) {
	c := newOpenAI()
	q := asking(t, "Name three rivers.")
	whole, err := c.Chat.Completions.New(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	q.StreamOptions = openai.ChatCompletionStreamOptionsParam{IncludeUsage: openai.Bool(true)}
	stream := c.Chat.Completions.NewStreaming(t.Context(), q)
	var all openai.ChatCompletionAccumulator
	for stream.Next() {
		if !all.AddChunk(stream.Current()) {
			t.Fatalf("a chunk of another answer: %s", stream.Current().RawJSON())
		}
	}
	if stream.Err() != nil {
		t.Fatal(stream.Err())
	}
	a, b := whole.Choices[0], all.Choices[0]
	if a.Message.Content == "" || a.Message.Content != b.Message.Content || a.FinishReason != b.FinishReason {
		t.Errorf("whole %q (%s), streamed %q (%s)", a.Message.Content, a.FinishReason, b.Message.Content, b.FinishReason)
	}
	u, v := whole.Usage, all.Usage
	if u.PromptTokens == 0 || u.PromptTokens != v.PromptTokens || u.CompletionTokens != v.CompletionTokens || u.TotalTokens != u.PromptTokens+u.CompletionTokens {
		t.Errorf("usage %s, streamed %s", u.RawJSON(), v.RawJSON())
	}
}

// A conversation of an agent is cached but for what is new.
func TestOpenAIConversation(t *testing.T) {
	c := newOpenAI(option.WithHeader("X-Agent-ID", "ada"))
	q := asking(t, "Name three rivers.")
	first, err := c.Chat.Completions.New(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	q.Messages = append(q.Messages, first.Choices[0].Message.ToParam(), openai.UserMessage("And lakes?"))
	second, err := c.Chat.Completions.New(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	want := first.Usage.PromptTokens + first.Usage.CompletionTokens - 1
	if got := second.Usage.PromptTokensDetails.CachedTokens; got != want {
		t.Errorf("%d tokens are cached, want %d", got, want)
	}
}

// A tool that must be called is called with arguments of its schema, whole and
// streamed; what it gave is taken.
func TestOpenAITools(t *testing.T) {
	c := newOpenAI()
	q := asking(t, "What is the weather in Rome for two days?")
	q.Tools = []openai.ChatCompletionToolUnionParam{openai.ChatCompletionFunctionTool(shared.FunctionDefinitionParam{
		Name: "weather", Description: openai.String("Looks up the weather."), Parameters: place, Strict: openai.Bool(true)})}
	q.ToolChoice = openai.ToolChoiceOptionFunctionToolChoice(openai.ChatCompletionNamedToolChoiceFunctionParam{Name: "weather"})
	q.MaxCompletionTokens = openai.Int(200)
	whole, err := c.Chat.Completions.New(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	stream := c.Chat.Completions.NewStreaming(t.Context(), q)
	var all openai.ChatCompletionAccumulator
	for stream.Next() {
		all.AddChunk(stream.Current())
	}
	if stream.Err() != nil {
		t.Fatal(stream.Err())
	}
	for _, a := range []openai.ChatCompletionChoice{whole.Choices[0], all.Choices[0]} {
		calls := a.Message.ToolCalls
		if a.FinishReason != "tool_calls" || len(calls) != 1 || calls[0].ID == "" || calls[0].Function.Name != "weather" || !isPlace(calls[0].Function.Arguments) {
			t.Fatalf("got %s %s", a.FinishReason, a.Message.RawJSON())
		}
	}
	call := whole.Choices[0].Message
	q.Messages = append(q.Messages, call.ToParam(), openai.ToolMessage("Rain, 12 degrees.", call.ToolCalls[0].ID))
	q.ToolChoice = openai.ChatCompletionToolChoiceOptionUnionParam{OfAuto: openai.String("none")}
	after, err := c.Chat.Completions.New(t.Context(), q)
	if err != nil || after.Choices[0].Message.Content == "" || len(after.Choices[0].Message.ToolCalls) > 0 {
		t.Errorf("after the call: %+v, %v", after, err)
	}
}

func TestOpenAIJSONSchema(t *testing.T) {
	c := newOpenAI()
	q := asking(t, "Where should I go, and for how long?")
	q.MaxCompletionTokens = openai.Int(200)
	q.ResponseFormat = openai.ChatCompletionNewParamsResponseFormatUnion{OfJSONSchema: &shared.ResponseFormatJSONSchemaParam{
		JSONSchema: shared.ResponseFormatJSONSchemaJSONSchemaParam{Name: "place", Schema: place, Strict: openai.Bool(true)}}}
	got, err := c.Chat.Completions.New(t.Context(), q)
	if err != nil || got.Choices[0].FinishReason != "stop" || !isPlace(got.Choices[0].Message.Content) {
		t.Errorf("got %+v, %v", got, err)
	}
}

// Three choices, each token with the two likeliest and bytes that spell the text.
func TestOpenAIChoicesAndLogprobs(t *testing.T) {
	c := newOpenAI()
	q := asking(t, "Name a river.")
	q.N, q.Logprobs, q.TopLogprobs = openai.Int(3), openai.Bool(true), openai.Int(2)
	q.Temperature, q.Seed = openai.Float(1), openai.Int(7)
	got, err := c.Chat.Completions.New(t.Context(), q)
	if err != nil || len(got.Choices) != 3 {
		t.Fatalf("got %+v, %v", got, err)
	}
	for i, choice := range got.Choices {
		var spelled []byte
		for _, at := range choice.Logprobs.Content {
			for _, b := range at.Bytes {
				spelled = append(spelled, byte(b))
			}
			if at.Logprob > 0 || len(at.TopLogprobs) != 2 {
				t.Errorf("choice %d: %s", i, at.RawJSON())
			}
		}
		if choice.Index != int64(i) || !strings.HasPrefix(string(spelled), choice.Message.Content) {
			t.Errorf("choice %d (index %d): tokens spell %q, the text is %q", i, choice.Index, spelled, choice.Message.Content)
		}
	}
}

func TestOpenAICompletions(t *testing.T) {
	c := newOpenAI()
	q := openai.CompletionNewParams{
		Model:  openai.CompletionNewParamsModel(served(t)),
		Prompt: openai.CompletionNewParamsPromptUnion{OfArrayOfStrings: []string{"Three rivers are", "One, two,"}}, MaxTokens: openai.Int(4),
		Temperature: openai.Float(0), Echo: openai.Bool(true), Logprobs: openai.Int(1),
	}
	got, err := c.Completions.New(t.Context(), q)
	if err != nil || len(got.Choices) != 2 {
		t.Fatalf("got %+v, %v", got, err)
	}
	for i, begin := range q.Prompt.OfArrayOfStrings {
		a := got.Choices[i]
		if !strings.HasPrefix(a.Text, begin) || strings.Join(a.Logprobs.Tokens, "") != a.Text || len(a.Logprobs.TokenLogprobs) != len(a.Logprobs.Tokens) {
			t.Errorf("choice %d: %s", i, a.RawJSON())
		}
	}
	q.Echo, q.Logprobs, q.Prompt = openai.Bool(false), openai.CompletionNewParams{}.Logprobs, openai.CompletionNewParamsPromptUnion{OfString: openai.String("One, two,")}
	stream, text := c.Completions.NewStreaming(t.Context(), q), ""
	for stream.Next() {
		text += stream.Current().Choices[0].Text
	}
	if want := strings.TrimPrefix(got.Choices[1].Text, "One, two,"); stream.Err() != nil || text != want {
		t.Errorf("streamed %q, whole %q, %v", text, want, stream.Err())
	}
}

// Responses: a stream in the vendor's order, what goes on from it, what is stored.
// The first belongs to no agent; those that go on from it are one's turns.
func TestOpenAIResponses(t *testing.T) {
	c := newOpenAI()
	q := responses.ResponseNewParams{
		Model: served(t), Instructions: openai.String("Be brief."), Temperature: openai.Float(0), MaxOutputTokens: openai.Int(24),
		Input: responses.ResponseNewParamsInputUnion{OfString: openai.String("Name three rivers.")},
	}
	stream := c.Responses.NewStreaming(t.Context(), q)
	var kinds []string
	var text string
	var first responses.Response
	for stream.Next() {
		e := stream.Current()
		if len(kinds) == 0 || kinds[len(kinds)-1] != e.Type {
			kinds = append(kinds, e.Type)
		}
		if e.Type == "response.output_text.delta" {
			text += e.Delta
		}
		first = e.Response
	}
	if stream.Err() != nil {
		t.Fatal(stream.Err())
	}
	end := "response.completed"
	if first.Status == "incomplete" {
		end = "response.incomplete"
	}
	want := []string{"response.created", "response.in_progress", "response.output_item.added", "response.content_part.added", "response.output_text.delta",
		"response.output_text.done", "response.content_part.done", "response.output_item.done", end}
	if fmt.Sprint(kinds) != fmt.Sprint(want) || text == "" || text != first.OutputText() {
		t.Errorf("events %v\nwant   %v\ntext %q, at the end %q", kinds, want, text, first.OutputText())
	}
	q.PreviousResponseID, q.Input.OfString = openai.String(first.ID), openai.String("And lakes?")
	second, err := c.Responses.New(t.Context(), q)
	if err != nil || second.PreviousResponseID != first.ID {
		t.Fatalf("got %+v, %v", second, err)
	}
	q.PreviousResponseID, q.Input.OfString = openai.String(second.ID), openai.String("And seas?")
	third, err := c.Responses.New(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	if cached, all := third.Usage.InputTokensDetails.CachedTokens, second.Usage.TotalTokens-1; cached != all {
		t.Errorf("%d tokens are cached, want %d: all that the second response had", cached, all)
	}
	stored, err := c.Responses.Get(t.Context(), second.ID, responses.ResponseGetParams{})
	if err != nil || stored.OutputText() != second.OutputText() {
		t.Errorf("stored %+v, %v", stored, err)
	}
	if err := c.Responses.Delete(t.Context(), second.ID); err != nil {
		t.Error(err)
	}
	_, err = c.Responses.Get(t.Context(), second.ID, responses.ResponseGetParams{})
	wantOpenAI(t, err, http.StatusNotFound, "response_not_found")
}

func TestOpenAIResponsesTools(t *testing.T) {
	c := newOpenAI()
	q := responses.ResponseNewParams{
		Model: served(t), Temperature: openai.Float(0), MaxOutputTokens: openai.Int(200),
		Input:      responses.ResponseNewParamsInputUnion{OfString: openai.String("What is the weather in Rome for two days?")},
		Tools:      []responses.ToolUnionParam{{OfFunction: &responses.FunctionToolParam{Name: "weather", Parameters: place, Strict: openai.Bool(true)}}},
		ToolChoice: responses.ResponseNewParamsToolChoiceUnion{OfFunctionTool: &responses.ToolChoiceFunctionParam{Name: "weather"}},
	}
	got, err := c.Responses.New(t.Context(), q)
	if err != nil || len(got.Output) != 1 || got.Output[0].Type != "function_call" {
		t.Fatalf("got %+v, %v", got, err)
	}
	call := got.Output[0].AsFunctionCall()
	if call.Name != "weather" || !isPlace(call.Arguments) {
		t.Errorf("called %s", call.RawJSON())
	}
	after, err := c.Responses.New(t.Context(), responses.ResponseNewParams{
		Model: q.Model, MaxOutputTokens: openai.Int(16), PreviousResponseID: openai.String(got.ID),
		Input: responses.ResponseNewParamsInputUnion{OfInputItemList: []responses.ResponseInputItemUnionParam{
			{OfFunctionCallOutput: &responses.ResponseInputItemFunctionCallOutputParam{CallID: openai.String(call.CallID),
				Output: responses.ResponseInputItemFunctionCallOutputOutputUnionParam{OfString: openai.String("Rain, 12 degrees.")}}}}},
	})
	if err != nil || after.OutputText() == "" {
		t.Errorf("after the call: %+v, %v", after, err)
	}
}

// Errors are read by the client as the vendor's own.
func TestOpenAIErrors(t *testing.T) {
	q := asking(t, "Hello.")
	stranger := newOpenAI(option.WithAPIKey("mk_nobody"))
	_, err := stranger.Chat.Completions.New(t.Context(), q)
	wantOpenAI(t, err, http.StatusUnauthorized, "invalid_api_key")
	c := newOpenAI()
	other := q
	other.Model = "gpt-6-astra"
	_, err = c.Chat.Completions.New(t.Context(), other)
	wantOpenAI(t, err, http.StatusNotFound, "model_not_found")
	long := asking(t, strings.Repeat("river lake ", 4096))
	_, err = c.Chat.Completions.New(t.Context(), long)
	wantOpenAI(t, err, http.StatusBadRequest, "context_length_exceeded")
	stream := c.Chat.Completions.NewStreaming(context.Background(), long)
	if stream.Next() {
		t.Errorf("a stream of %s", stream.Current().RawJSON())
	}
	wantOpenAI(t, stream.Err(), http.StatusBadRequest, "context_length_exceeded")
	_, err = c.Responses.New(t.Context(), responses.ResponseNewParams{Model: q.Model, PreviousResponseID: openai.String("resp_none"),
		Input: responses.ResponseNewParamsInputUnion{OfString: openai.String("Hello.")}})
	wantOpenAI(t, err, http.StatusNotFound, "response_not_found")
}

func wantOpenAI(t *testing.T, err error, status int, code string) {
	t.Helper()
	var e *openai.Error
	if !errors.As(err, &e) || e.StatusCode != status || e.Code != code || e.Message == "" || e.Type != "invalid_request_error" {
		t.Errorf("got %v, want %d %s", err, status, code)
	}
}
