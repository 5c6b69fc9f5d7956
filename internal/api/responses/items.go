package responses

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"mneme/internal/api/fields"
	"mneme/internal/api/openai/ask"
	"mneme/internal/chat"
)

// kind says what an item is.
type kind uint8

const (
	message   kind = iota // said by role
	call                  // of a function
	result                // of a call
	thought               // reasoning
	reference             // to an item that is stored
)

// Item is one thing in a conversation.
type Item struct {
	kind kind
	role string // of a message
	text string // said, thought, given as a result; a call's arguments
	name string // of the function that is called
	id   string // of the call; of the item referred to
}

// elsewhere are the types of items of tools that run elsewhere: these are left out.
var elsewhere = []string{
	"apply_patch_call", "apply_patch_call_output", "code_interpreter_call", "compaction", "computer_call", "computer_call_output",
	"custom_tool_call", "custom_tool_call_output", "file_search_call", "image_generation_call", "local_shell_call",
	"local_shell_call_output", "mcp_approval_request", "mcp_approval_response", "mcp_call", "mcp_list_tools",
	"shell_call", "shell_call_output", "tool_search_call", "tool_search_output", "web_search_call",
}

// items reads a list of items; what is left out is not among them.
func items(o *fields.Object, key string) []Item {
	var all []Item
	for _, i := range o.Objects(key) {
		if item, ok := item(i); ok {
			all = append(all, item)
		}
	}
	return all
}

func item(o *fields.Object) (Item, bool) {
	switch t := o.Text("type", "message"); {
	case t == "message":
		return said(o), true
	case t == "function_call":
		o.Require("call_id")
		o.Require("name")
		return Item{kind: call, id: o.Text("call_id", ""), name: o.Text("name", ""), text: o.Text("arguments", "{}")}, true
	case t == "function_call_output":
		o.Require("call_id")
		return Item{kind: result, id: o.Text("call_id", ""), text: ask.Content(o, "output", "input_text", "output_text", "text")}, true
	case t == "reasoning":
		text := reasoning(o)
		return Item{kind: thought, text: text}, text != ""
	case t == "item_reference":
		o.Require("id")
		return Item{kind: reference, id: o.Text("id", "")}, true
	case !slices.Contains(elsewhere, t):
		o.Refuse(o.At("type"), "must be one of message, function_call, function_call_output, reasoning, item_reference, not "+strconv.Quote(fields.Clip(t)))
	}
	return Item{}, false
}

var roles = []string{"system", "developer", "user", "assistant"}

func said(o *fields.Object) Item {
	o.Require("role")
	i := Item{kind: message, role: o.Text("role", "user")}
	if !slices.Contains(roles, i.role) {
		o.Refuse(o.At("role"), "must be one of system, developer, user, assistant, not "+strconv.Quote(fields.Clip(i.role)))
	}
	i.text = ask.Content(o, "content", "input_text", "output_text", "text", "refusal")
	return i
}

// sealSign begins the encrypted_content that this server made: the text itself, so
// that a client which keeps nothing else can send it back.
const sealSign = "mneme1."

func seal(text string) string { return sealSign + base64.RawURLEncoding.EncodeToString([]byte(text)) }

// reasoning is the text of a reasoning item, "" where it has none for us.
func reasoning(o *fields.Object) string {
	var texts []string
	for _, p := range o.Objects("content") {
		texts = append(texts, p.Text("text", ""))
	}
	if len(texts) > 0 {
		return strings.Join(texts, "\n")
	}
	sealed, ours := strings.CutPrefix(o.Text("encrypted_content", ""), sealSign)
	text, err := base64.RawURLEncoding.DecodeString(sealed)
	if !ours || err != nil {
		return ""
	}
	return strings.ToValidUTF8(string(text), "\ufffd")
}

// messages makes a conversation of items: what the assistant thought, said and
// called in a row is one message.
func messages(instructions string, items []Item) []chat.Message {
	var f folding
	if instructions != "" {
		f.all = append(f.all, chat.Message{Role: "system", Content: instructions})
	}
	for _, i := range items {
		f.add(i)
	}
	return f.all
}

// folding is a conversation being made.
type folding struct {
	all     []chat.Message
	thought string // before what the assistant says next
}

func (f *folding) add(i Item) {
	switch {
	case i.kind == thought:
		f.thought += i.text
	case i.kind == call:
		m := f.utterance(func(*chat.Message) bool { return true })
		arguments, _ := json.Marshal(i.text) // a string
		m.ToolCalls = append(m.ToolCalls, chat.ToolCall{ID: i.id, Function: chat.Function{Name: i.name, Arguments: arguments}})
	case i.kind == result:
		f.thought = ""
		f.all = append(f.all, chat.Message{Role: "tool", ToolCallID: i.id, Content: i.text})
	case i.role == "assistant":
		m := f.utterance(func(last *chat.Message) bool { return last.Content == "" || len(last.ToolCalls) > 0 })
		m.Content += i.text
	default:
		f.thought = ""
		f.all = append(f.all, chat.Message{Role: i.role, Content: i.text})
	}
}

// utterance is the assistant's message that goes on, if it does and may; else a
// new one.
func (f *folding) utterance(may func(*chat.Message) bool) *chat.Message {
	if n := len(f.all); n > 0 && f.thought == "" && f.all[n-1].Role == "assistant" && may(&f.all[n-1]) {
		return &f.all[n-1]
	}
	f.all = append(f.all, chat.Message{Role: "assistant", Reasoning: f.thought})
	f.thought = ""
	return &f.all[len(f.all)-1]
}
