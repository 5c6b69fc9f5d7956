package cli

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"mneme/internal/model/modeltest"
)

// others are models that look like the tiny one: of the same geometry, with one
// byte of a weight changed, with two merges of the tokenizer in the other order.
func others(t *testing.T) map[string][]byte {
	t.Helper()
	byteChanged := modeltest.File(1)
	byteChanged[len(byteChanged)-1] ^= 1
	tokenizer := modeltest.File(1)
	merges := tokenizer[bytes.Index(tokenizer, []byte("tokenizer.ggml.merges")):]
	first, second := bytes.Index(merges, []byte("t h")), bytes.Index(merges, []byte("i n"))
	if first < 0 || second < first {
		t.Fatal("the tiny model's merges are not what they were")
	}
	copy(merges[first:], "i n")
	copy(merges[second:], "t h")
	return map[string][]byte{"other weights": modeltest.File(2), "one byte changed": byteChanged, "another tokenizer": tokenizer}
}

// ada's memory was made by one model. Another that serves the same folder refuses
// her and her export, and says why in the answer, the log and the metrics; her
// own model finds all as it was.
func TestOtherModelsAreRefusedToTheOutside(t *testing.T) {
	model, data := tinyModel(t), t.TempDir()
	p := startServe(t, model, data)
	url := p.url()
	ada, question, first := p.askForText(url)
	export := get(t.Context(), t, url+"/v1/agents/"+ada+"/export")
	p.end(syscall.SIGTERM)
	for name, file := range others(t) {
		path := filepath.Join(t.TempDir(), "other.gguf")
		if err := os.WriteFile(path, file, 0o644); err != nil {
			t.Fatal(err)
		}
		p = startServe(t, path, data)
		url = p.url()
		p.refuses(t, name, "agent_of_other_model", post(t, url+"/v1/chat/completions", ada, `{"messages":[{"role":"user","content":"are you there?"}]}`))
		p.refuses(t, name, "agent_of_other_model", post(t, url+"/v1/agents/import?id=eve", "", string(export)))
		metrics := readMetrics(t.Context(), t, url)
		for _, reason := range []string{"agent_of_other_model", "import_of_other_model"} {
			if got := metrics[`mneme_agents_refused_total{reason="`+reason+`"}`]; got != "1" {
				t.Errorf("%s: %s counted %q times, want 1", name, reason, got)
			}
		}
		if listed := string(get(t.Context(), t, url+"/v1/agents")); !strings.Contains(listed, ada) || strings.Contains(listed, "eve") {
			t.Errorf("%s: agents %s", name, listed)
		}
		p.end(syscall.SIGTERM)
	}
	p = startServe(t, model, data)
	second := p.ask(p.url(), ada, says("user", question), says("assistant", first.Choices[0].Message.Content), says("user", "and then?"))
	if got, want := second.Usage.Details.Cached, first.Usage.Prompt+first.Usage.Completion-1; got != want {
		t.Errorf("with her own model again: %d tokens cached, want %d", got, want)
	}
	p.end(syscall.SIGTERM)
}

// said is an answer to a post.
type said struct {
	status int
	body   string
}

func post(t *testing.T, url, agent, body string) said {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if agent == "" {
		r.Header.Set("Content-Type", "application/octet-stream")
	} else {
		r.Header.Set("X-Agent-ID", agent)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(resp.Body); err != nil {
		t.Fatal(err)
	}
	return said{resp.StatusCode, text.String()}
}

// refuses checks a refusal and that the log says it too.
func (p *program) refuses(t *testing.T, name, code string, got said) {
	t.Helper()
	if got.status != http.StatusConflict || !strings.Contains(got.body, `"`+code+`"`) || !strings.Contains(got.body, "another model") {
		t.Errorf("%s: %d %s, want 409 and %s", name, got.status, got.body, code)
	}
	p.waitFor(`"status":409,`) // a request is logged once it is answered
	if log := p.said.String(); !strings.Contains(log, "another model") {
		t.Errorf("%s: the log does not say why:\n%s", name, log)
	}
}

// Under another KV format ada stays: her blocks are computed anew, which is said
// and counted, and she says what anybody would under that format.
func TestOtherFormatKeepsTheAgent(t *testing.T) {
	model, data := tinyModel(t), t.TempDir()
	p := startServe(t, model, data)
	ada, question, first := p.askForText(p.url())
	p.end(syscall.SIGTERM)
	p = startServe(t, model, data, "MNEME_KV_FORMAT=q8")
	url := p.url()
	talk := []map[string]string{says("user", question), says("assistant", first.Choices[0].Message.Content), says("user", "and then?")}
	second := p.ask(url, ada, talk...)
	if u := second.Usage; u.Details.Cached != 0 || u.Prompt < first.Usage.Prompt+first.Usage.Completion {
		t.Errorf("under q8: usage %+v after %+v", u, first.Usage)
	}
	if n, err := strconv.Atoi(readMetrics(t.Context(), t, url)["mneme_blocks_other_format_total"]); err != nil || n < 1 {
		t.Errorf("blocks of another format: %d (%v)", n, err)
	}
	if turns := string(get(t.Context(), t, url+"/v1/agents/"+ada)); !strings.Contains(turns, `"turns":2`) {
		t.Errorf("ada is %s", turns)
	}
	p.waitFor("of another format")
	p.end(syscall.SIGTERM)

	fresh := startServe(t, model, t.TempDir(), "MNEME_KV_FORMAT=q8")
	if want := fresh.ask(fresh.url(), "somebody", talk...); want.Choices[0].Message != second.Choices[0].Message {
		t.Errorf("she says %q, anybody %q", second.Choices[0].Message, want.Choices[0].Message)
	}
	fresh.end(syscall.SIGTERM)
}
