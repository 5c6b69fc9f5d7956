package proof

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"mneme/internal/api"
	"mneme/internal/chat"
	"mneme/internal/engine"
	"mneme/internal/model/modeltest"
	"mneme/internal/vfs"
)

// server is a house that answers HTTP.
type server struct {
	t     *testing.T
	fs    vfs.FS
	house *house
	api   *api.Server
	http  *httptest.Server
}

func serve(t *testing.T, fs vfs.FS) *server {
	t.Helper()
	s := &server{t: t, fs: fs}
	s.house = s.open()
	s.restart()
	t.Cleanup(func() {
		s.http.Close()
		must(t, s.house.close())
	})
	return s
}

func (s *server) open() *house {
	s.t.Helper()
	template, err := chat.Compile(modeltest.Template, chat.Options{})
	must(s.t, err)
	h, err := openWith(s.fs, dataDir, plain, &logBook{}, func(c *engine.Config) {
		c.Context, c.Template = modeltest.Context, template
	})
	must(s.t, err)
	return h
}

// restart begins a new server over the house as it is.
func (s *server) restart() {
	if s.http != nil {
		s.http.Close()
	}
	s.api = api.New(api.Of(s.house.Engine), api.Options{Log: slog.New(slog.DiscardHandler)})
	s.http = httptest.NewServer(s.api)
}

// reopen closes the house, has something done to its disk, and opens it again
// under the same server.
func (s *server) reopen(meanwhile func()) {
	s.t.Helper()
	must(s.t, s.house.close())
	meanwhile()
	s.house = s.open()
	s.api.Attach(api.Of(s.house.Engine))
}

// do sends a request as an agent and reads its answer into a value.
func (s *server) do(method, path, agent string, body, answer any) {
	s.t.Helper()
	text, err := json.Marshal(body)
	must(s.t, err)
	r, err := http.NewRequest(method, s.http.URL+path, strings.NewReader(string(text)))
	must(s.t, err)
	r.Header.Set("X-Agent-ID", agent)
	got, err := s.http.Client().Do(r)
	must(s.t, err)
	defer got.Body.Close()
	all, err := io.ReadAll(got.Body)
	must(s.t, err)
	if got.StatusCode != http.StatusOK {
		s.t.Fatalf("%s %s: %d %s", method, path, got.StatusCode, all)
	}
	must(s.t, json.Unmarshal(all, answer))
}

// script is a conversation as a client keeps it, whatever its dialect.
type script struct {
	system string
	tools  []tool
	said   []said
}

type tool struct{ name, about string }

var oneFlag = json.RawMessage(`{"type":"object","properties":{"ok":{"type":"boolean"}},"required":["ok"]}`)

// said is a message: a text of the user's or the assistant's, a call, or its result
// (role "tool").
type said struct{ role, text, callID, name, arguments string }

func (s *script) user(text string) { s.said = append(s.said, said{role: "user", text: text}) }

// last is the newest message.
func (s *script) last() said { return s.said[len(s.said)-1] }

// heard is what a client reads of an answer.
type heard struct {
	id             string
	said           said
	prompt, cached int
	diagnosis      string // in the vendor's own shape, as JSON
}

// dialect is how a vendor's clients spell a conversation. must has a tool called;
// earlier is the answer to compare with.
type dialect struct {
	name string
	ask  func(s *server, agent string, c *script, must bool, earlier string) heard
}

var dialects = []dialect{{"messages", askMessages}, {"responses", askResponses}, {"chat", askChat}}

type object = map[string]any

// sampling is the same for all: texts of 14 tokens, or a whole call.
func sampling(must bool, limit string) object {
	o := object{"temperature": 0.7, "seed": 42, limit: 14, "ignore_eos": true}
	if must {
		o[limit], o["ignore_eos"] = 200, false
	}
	return o
}

func askMessages(s *server, agent string, c *script, must bool, earlier string) heard {
	body := sampling(must, "max_tokens")
	body["system"], body["diagnostics"] = c.system, object{"previous_message_id": nil}
	if earlier != "" {
		body["diagnostics"] = object{"previous_message_id": earlier}
	}
	if must {
		body["tool_choice"] = object{"type": "any", "disable_parallel_tool_use": true}
	}
	var tools, messages []object
	for _, t := range c.tools {
		tools = append(tools, object{"name": t.name, "description": t.about, "input_schema": oneFlag})
	}
	for _, m := range c.said {
		switch {
		case m.role == "tool":
			messages = append(messages, object{"role": "user", "content": []object{{"type": "tool_result", "tool_use_id": m.callID, "content": m.text}}})
		case m.name != "":
			messages = append(messages, object{"role": "assistant", "content": []object{{"type": "tool_use", "id": m.callID, "name": m.name, "input": json.RawMessage(m.arguments)}}})
		default:
			messages = append(messages, object{"role": m.role, "content": m.text})
		}
	}
	body["tools"], body["messages"] = tools, messages
	var got struct {
		ID      string
		Content []struct {
			Text, ID, Name string
			Input          json.RawMessage
		}
		Usage struct {
			Input    int `json:"input_tokens"`
			Creation int `json:"cache_creation_input_tokens"`
			Read     int `json:"cache_read_input_tokens"`
		}
		Diagnostics json.RawMessage
	}
	s.do("POST", "/v1/messages", agent, body, &got)
	h := heard{id: got.ID, prompt: got.Usage.Input + got.Usage.Creation + got.Usage.Read, cached: got.Usage.Read, diagnosis: string(got.Diagnostics)}
	h.said.role = "assistant"
	for _, b := range got.Content {
		h.said.text += b.Text
		if b.Name != "" {
			h.said.callID, h.said.name, h.said.arguments = b.ID, b.Name, string(b.Input)
		}
	}
	return h
}

func askResponses(s *server, agent string, c *script, must bool, earlier string) heard {
	body := sampling(must, "max_output_tokens")
	body["instructions"], body["parallel_tool_calls"] = c.system, false
	if earlier != "" {
		body["prompt_cache_options"] = object{"comparison_response_id": earlier}
	}
	if must {
		body["tool_choice"] = "required"
	} else {
		body["parallel_tool_calls"] = true
	}
	var tools, input []object
	for _, t := range c.tools {
		tools = append(tools, object{"type": "function", "name": t.name, "description": t.about, "parameters": oneFlag})
	}
	for _, m := range c.said {
		switch {
		case m.role == "tool":
			input = append(input, object{"type": "function_call_output", "call_id": m.callID, "output": m.text})
		case m.name != "":
			input = append(input, object{"type": "function_call", "call_id": m.callID, "name": m.name, "arguments": m.arguments})
		default:
			input = append(input, object{"role": m.role, "content": m.text})
		}
	}
	body["tools"], body["input"] = tools, input
	var got struct {
		ID     string
		Output []struct {
			Content         []struct{ Text string }
			Name, Arguments string
			CallID          string `json:"call_id"`
		}
		Usage struct {
			Input   int `json:"input_tokens"`
			Details struct {
				Cached int `json:"cached_tokens"`
			} `json:"input_tokens_details"`
		}
		Diagnostics json.RawMessage `json:"prompt_cache_diagnostics"`
	}
	s.do("POST", "/v1/responses", agent, body, &got)
	h := heard{id: got.ID, prompt: got.Usage.Input, cached: got.Usage.Details.Cached, diagnosis: string(got.Diagnostics)}
	h.said.role = "assistant"
	for _, o := range got.Output {
		for _, p := range o.Content {
			h.said.text += p.Text
		}
		if o.Name != "" {
			h.said.callID, h.said.name, h.said.arguments = o.CallID, o.Name, o.Arguments
		}
	}
	return h
}

func askChat(s *server, agent string, c *script, must bool, earlier string) heard {
	body := sampling(must, "max_completion_tokens")
	if earlier != "" {
		body["prompt_cache_options"] = object{"comparison_response_id": earlier}
	}
	if must {
		body["tool_choice"], body["parallel_tool_calls"] = "required", false
	}
	var tools []object
	messages := []object{{"role": "system", "content": c.system}}
	for _, t := range c.tools {
		tools = append(tools, object{"type": "function", "function": object{"name": t.name, "description": t.about, "parameters": oneFlag}})
	}
	for _, m := range c.said {
		o := object{"role": m.role, "content": m.text}
		switch {
		case m.role == "tool":
			o["tool_call_id"] = m.callID
		case m.name != "":
			o["content"] = nil
			o["tool_calls"] = []object{{"id": m.callID, "type": "function", "function": object{"name": m.name, "arguments": m.arguments}}}
		}
		messages = append(messages, o)
	}
	body["tools"], body["messages"] = tools, messages
	var got struct {
		ID      string
		Choices []struct {
			Message struct {
				Content string
				Calls   []struct {
					ID       string
					Function struct{ Name, Arguments string }
				} `json:"tool_calls"`
			}
		}
		Usage struct {
			Prompt  int `json:"prompt_tokens"`
			Details struct {
				Cached int `json:"cached_tokens"`
			} `json:"prompt_tokens_details"`
		}
		Diagnostics json.RawMessage `json:"prompt_cache_diagnostics"`
	}
	s.do("POST", "/v1/chat/completions", agent, body, &got)
	m := got.Choices[0].Message
	h := heard{id: got.ID, prompt: got.Usage.Prompt, cached: got.Usage.Details.Cached, diagnosis: string(got.Diagnostics)}
	h.said = said{role: "assistant", text: m.Content}
	for _, call := range m.Calls {
		h.said.callID, h.said.name, h.said.arguments = call.ID, call.Function.Name, call.Function.Arguments
	}
	return h
}

// turnCache is what the server says of a turn.
type turnCache struct {
	Prompt  int `json:"prompt_tokens"`
	Cached  int `json:"cached_tokens"`
	Sources *struct{ Hot, Shared, Restored int }
	Reason  string
	Message *int
	Token   *int `json:"first_divergent_token"`
	Before  string
	After   string
}

func (s *server) cache(agent string, turn int) (c turnCache) {
	s.t.Helper()
	s.do("GET", fmt.Sprintf("/v1/agents/%s/turns/%d/cache", agent, turn), "", nil, &c)
	return c
}
