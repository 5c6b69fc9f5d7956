package api_test

import (
	"encoding/json"
	"strings"
	"testing"
)

// field is the JSON of a member of an answer, "" when it is not there.
func (b *bench) field(got reply, name string) string {
	b.t.Helper()
	var all map[string]json.RawMessage
	if err := json.Unmarshal([]byte(got.body), &all); err != nil {
		b.t.Fatalf("%v: %d %s", err, got.status, got.body)
	}
	return string(all[name])
}

// id is the answer's.
func (b *bench) id(got reply) string { return strings.Trim(b.field(got, "id"), `"`) }

// long makes what a change of it costs more than a block.
var long = strings.Repeat("be kind. ", 20)

// Anthropic's diagnostics: null where nothing differs or nobody asks, else what
// differs first, on the whole answer and on a stream's first event.
func TestMessageDiagnostics(t *testing.T) {
	const user, again = `{"role":"user","content":"hi"}`, `{"role":"assistant","content":"ok"},{"role":"user","content":"more"}`
	look, jump := `{"name":"look","input_schema":{}}`, `{"name":"jump","input_schema":{}}`
	tools := func(list ...string) string { return `,"tools":[` + strings.Join(list, ",") + `]` }
	body := func(system, tools, messages, more string) string {
		return `{"max_tokens":50,"system":"` + system + `","messages":[` + messages + `]` + tools + more + `}`
	}
	b := counted(t)
	b.want(reply{200, nil, b.field(b.messages(body(long, tools(look, jump), user, `,"diagnostics":{"previous_message_id":null}`)), "diagnostics")}, 200, `null`)
	before := b.id(b.messages(body(long, tools(look, jump), user, "")))
	for _, c := range []struct {
		name, body, id, want string
	}{
		{"grown", body(long, tools(look, jump), user+","+again, ""), before, `null`},
		{"the same", body(long, tools(look, jump), user, ""), before, `null`},
		{"system", body("x"+long, tools(look, jump), user+","+again, ""), before, `system_changed`},
		{"a tool less", body(long, tools(look), user+","+again, ""), before, `tools_changed`},
		{"tools reordered", body(long, tools(jump, look), user+","+again, ""), before, `tools_changed`},
		{"edited", body(long, tools(look, jump), `{"role":"user","content":"ho"},`+again, ""), before, `messages_changed`},
		{"unknown", body(long, tools(look, jump), user, ""), "msg_nobody", `previous_message_not_found`},
	} {
		for _, stream := range []string{"false", "true"} {
			more := `,"stream":` + stream + `,"diagnostics":{"previous_message_id":"` + c.id + `"}}`
			got := b.messages(strings.TrimSuffix(c.body, "}")+more, "anthropic-beta: cache-diagnosis-2026-04-07")
			at := got.body
			if stream == "true" {
				at, _, _ = strings.Cut(got.body, "\n\n") // message_start
			}
			want := `"diagnostics":` + c.want
			if strings.HasSuffix(c.want, "_changed") {
				want = `"diagnostics":{"cache_miss_reason":{"type":"` + c.want + `","cache_missed_input_tokens":`
			} else if c.want != "null" {
				want = `"diagnostics":{"cache_miss_reason":{"type":"` + c.want + `"}}`
			}
			if got.status != 200 || !strings.Contains(at, want) {
				t.Errorf("%s, stream %s:\ngot  %d %s\nwant %s", c.name, stream, got.status, at, want)
			}
		}
	}
	refused := b.messages(body("", "", user, `,"diagnostics":{"previous_message_id":7}`))
	if refused.status != 400 || !strings.Contains(refused.body, "diagnostics.previous_message_id must be a string, not a number") {
		t.Errorf("%d %s", refused.status, refused.body)
	}
}

// OpenAI's, on responses and chat completions; an answer of either may be compared
// with.
func TestPromptCacheDiagnostics(t *testing.T) {
	b := counted(t)
	const again = `,{"role":"assistant","content":"ok"},{"role":"user","content":"more"}`
	user := `{"role":"user","content":"` + long + `"}`
	before := b.id(b.respond(`{"input":[`+user+`],"instructions":"`+long+`"}`, "X-Agent-ID: ada"))
	ada := b.fake.as("ada", nil)
	ask := func(input, instructions, id string) string {
		return `{"input":[` + input + `],"instructions":"` + instructions + `","prompt_cache_options":{"comparison_response_id":"` + id + `"}}`
	}
	for _, c := range []struct{ name, body, want string }{
		{"grown", ask(user+again, long, before), `{"type":"cache_hit"}`},
		{"edited", ask(`{"role":"user","content":"x"}`+again, long, before), `{"type":"cache_miss","reason":"input_changed","comparison_reusable_tokens":391,"cache_missed_tokens":40}`},
		{"thinks", strings.Replace(ask(user+again, long, before), `{`, `{"reasoning":{"effort":"high"},`, 1), `{"type":"cache_hit"}`}, // the template has no use for it
		{"unknown", ask(user, long, "resp_nobody"), `{"type":"comparison_response_not_found"}`},
		{"not asked", `{"input":"hi"}`, ``},
	} {
		b.fake.as("ada", ada)
		if got := b.field(b.respond(c.body, "X-Agent-ID: ada"), "prompt_cache_diagnostics"); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	if got := b.field(b.respond(ask(user+again, long, before)), "prompt_cache_diagnostics"); got != `{"type":"unavailable"}` {
		t.Errorf("nothing differs, and of nobody's prompt nothing is cached: %s", got)
	}
	chat := `{"messages":[{"role":"system","content":"` + long + `"},` + user + again + `],"prompt_cache_options":{"comparison_response_id":"` + before + `"}`
	b.fake.as("ada", ada)
	if got := b.chat(chat+`}`, "X-Agent-ID: ada"); b.field(got, "prompt_cache_diagnostics") != `{"type":"cache_hit"}` {
		t.Errorf("chat: %s", got.body)
	}
	b.fake.as("ada", ada)
	got := b.chat(strings.Replace(chat, "be kind", "be grim", 1)+`,"stream":true}`, "X-Agent-ID: ada")
	want := `"finish_reason":"stop"}],"prompt_cache_diagnostics":{"type":"cache_miss","reason":"input_changed","comparison_reusable_tokens":391,"cache_missed_tokens":`
	if !strings.Contains(got.body, want) || strings.Count(got.body, "prompt_cache_diagnostics") != 1 {
		t.Errorf("chat stream: %s", got.body)
	}
}

// as makes an agent what it was, nil for what it is; it gives that.
func (f *fake) as(id string, was *fakeAgent) *fakeAgent {
	f.mu.Lock()
	defer f.mu.Unlock()
	if was == nil {
		was = f.agents[id]
	}
	now := *was
	f.agents[id] = &now
	return was
}

// Where the KV of a turn's prompt came from, and why not all of it.
func TestTurnCache(t *testing.T) {
	b := newBench(t)
	const asked = `{"messages":[{"role":"user","content":"hi"}`
	b.chat(asked+`]}`, "X-Agent-ID: ada")
	b.chat(asked+`,{"role":"assistant","content":"ok"},{"role":"user","content":"ho"}]}`, "X-Agent-ID: ada")
	b.chat(asked+`,{"role":"assistant","content":"no"},{"role":"user","content":"ho"}]}`, "X-Agent-ID: ada")
	b.do("POST", "/v1/completions", `{"prompt":"x"}`, "X-Agent-ID: ada")
	b.chat(asked+`]}`, "X-Agent-ID: ada")
	cache := func(turn, prompt, cached, computed, rest string) string {
		return `{"object":"turn.cache","agent":"ada","turn":` + turn + `,"prompt_tokens":` + prompt + `,"cached_tokens":` + cached + `,"computed_tokens":` + computed + `,` + rest + `}`
	}
	const nowhere = `"first_divergent_token":null,"text_offset":null,"before":null,"after":null`
	for turn, want := range map[string]string{
		"1": cache("1", "21", "0", "21", `"sources":{"hot":0,"shared":0,"restored":0},"reason":"first_turn",`+nowhere),
		"2": cache("2", "46", "23", "23", `"sources":{"hot":23,"shared":0,"restored":0},"reason":null,`+nowhere),
		"3": cache("3", "46", "21", "25", `"sources":{"hot":21,"shared":0,"restored":0},"reason":"history_edited","message":1,"first_divergent_token":21,"text_offset":21,"before":"ok<|im_end|>\n","after":"no<|im_end|>\n"`),
		"5": cache("5", "21", "0", "21", `"sources":{"hot":0,"shared":0,"restored":0},"reason":"prompt_diverged","first_divergent_token":0,"text_offset":0,"before":"xok<|im_end|>","after":"<|im_start|>use"`),
	} {
		b.want(b.get("/v1/agents/ada/turns/"+turn+"/cache"), 200, want)
	}
	delete(b.fake.reports["ada"], 1)
	b.want(b.get("/v1/agents/ada/turns/1/cache"), 200, cache("1", "21", "0", "21", `"sources":null,"reason":"not_kept",`+nowhere))
	for path, code := range map[string]string{"ada/turns/6": "turn_not_found", "ada/turns/0": "turn_not_found", "ada/turns/x": "turn_not_found", "eve/turns/1": "agent_not_found"} {
		got := b.get("/v1/agents/" + path + "/cache")
		if _, _, is := b.error(got); got.status != 404 || is != code {
			t.Errorf("%s: %d %s", path, got.status, got.body)
		}
	}
	b.do("DELETE", "/v1/agents/ada", "")
	b.chat(asked+`]}`, "X-Agent-ID: ada")
	b.want(b.get("/v1/agents/ada/turns/1/cache"), 200, cache("1", "21", "0", "21", `"sources":{"hot":0,"shared":0,"restored":0},"reason":"first_turn",`+nowhere))
}

// Another key's answer is not found, though it has the same id.
func TestDiagnosticsOfKeys(t *testing.T) {
	b := newGuarded(t)
	b.messages(asks(""), "X-Api-Key: mk_ada")
	compared := asks(`,"stream":true,"diagnostics":{"previous_message_id":"msg_f00d"}`)
	for key, want := range map[string]string{"cat": `{"cache_miss_reason":{"type":"previous_message_not_found"}}`, "ada": `null`} {
		if got := b.messages(compared, "X-Api-Key: mk_"+key); !strings.Contains(got.body, `"diagnostics":`+want+`}}`) {
			t.Errorf("%s: %s, want %s", key, got.body, want)
		}
	}
}
