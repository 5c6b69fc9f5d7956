package api_test

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// recorded are the requests of a client in its turns, as clients/run.sh records
// them, with long texts cut and ids replaced.
func recorded(t *testing.T, client string) []string {
	t.Helper()
	text, err := os.ReadFile("testdata/" + client + ".jsonl")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

// What clients send, in their turns, one of which may be aside: all are answered
// to their last event, by the agents that these belong to, and what an agent has
// seen is cached.
func TestRecordedClients(t *testing.T) {
	const session = "00000000-0000-7000-8000-000000000005"
	for _, c := range []struct {
		client, path string
		headers      []string
		replies      []string // of the model, as the later turns have them
		agents       []string
		tools        int // that the model is told of, in each turn
		end          string
	}{
		{
			client: "codex", path: "/v1/responses",
			headers: []string{"session-id: " + session, "thread-id: " + session, "x-client-request-id: " + session, "x-codex-window-id: " + session + ":0", "originator: codex_exec"},
			replies: []string{"Hello! How can I assist you today?", "Hello! How can I assist you today?", "ok"},
			agents:  []string{session, session, session},
			tools:   7, // a namespace of tools and the web search are left out
			end:     `"type":"response.completed"`,
		},
		{
			client: "opencode", path: "/v1/chat/completions",
			headers: []string{"x-session-id: ses_0000000000000000000000000a", "x-session-affinity: ses_0000000000000000000000000a"},
			replies: []string{"A greeting", `{"name": "say_hello", "arguments": "function"}`, `{"name": "say_it_again", "arguments": "function"}`, "ok"},
			agents:  []string{"ses_0000000000000000000000000a", "ses_0000000000000000000000000a~2", "ses_0000000000000000000000000a~2", "ses_0000000000000000000000000a~2"},
			tools:   10,
			end:     "data: [DONE]\n\n",
		},
	} {
		b := counted(t)
		b.fake.replies = c.replies
		for turn, body := range recorded(t, c.client) {
			got := b.do("POST", c.path, body, append(slices.Clone(c.headers), "Authorization: Bearer sk-x")...)
			if got.status != 200 || !strings.Contains(got.body, c.end) || got.header.Get("X-Agent-Id") != c.agents[turn] {
				t.Fatalf("%s, turn %d: %d, agent %s, %s", c.client, turn, got.status, got.header.Get("X-Agent-Id"), got.body)
			}
			if told := strings.Count(b.fake.requests[turn].Text, `{"type":"function"`); told != c.tools && (told != 0 || strings.Contains(body, `"tools"`)) {
				t.Errorf("%s, turn %d: %d tools in the prompt", c.client, turn, told)
			}
		}
		turns := b.fake.agents[c.agents[len(c.agents)-1]].turns
		for i, turn := range turns[1:] {
			if before := turns[i]; turn.Cached != before.Prompt+before.Completion-1 {
				t.Errorf("%s: of %d + %d tokens %d are cached", c.client, before.Prompt, before.Completion, turn.Cached)
			}
		}
		if len(turns) != 3 {
			t.Errorf("%s: %d turns of %s", c.client, len(turns), c.agents[len(c.agents)-1])
		}
	}
}
