package chat

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ardanlabs/jinja"
)

// variables are the names that templates are written for.
func (t *Template) variables(q Request) (map[string]jinja.Value, error) {
	messages, err := messageList(q.Messages)
	if err != nil {
		return nil, err
	}
	all := map[string]jinja.Value{
		"messages":              messages,
		"add_generation_prompt": jinja.NewBool(q.AddGenerationPrompt),
		"bos_token":             jinja.NewString(t.options.BOS),
		"eos_token":             jinja.NewString(t.options.EOS),
		"tools":                 jinja.None(),
		"documents":             jinja.None(),
		"strftime_now":          strftimeNow(t.options.Now),
	}
	if len(q.Tools) > 0 {
		if all["tools"], err = toolList(q.Tools); err != nil {
			return nil, err
		}
	}
	return all, addVariables(all, q.Variables)
}

// addVariables adds those of the request; the template's own names are not for it to set.
func addVariables(all map[string]jinja.Value, more map[string]json.RawMessage) error {
	for key, value := range more {
		if !all[key].IsNone() && !all[key].IsUndefined() {
			return fmt.Errorf("chat: variable %s is the template's own", key)
		}
		v, err := parseJSON(value)
		if err != nil {
			return fmt.Errorf("chat: variable %s: %w", key, err)
		}
		all[key] = v
	}
	return nil
}

func messageList(messages []Message) (jinja.Value, error) {
	items := make([]jinja.Value, len(messages))
	for i, m := range messages {
		var err error
		if items[i], err = m.value(); err != nil {
			return jinja.Undefined(), fmt.Errorf("chat: message %d: %w", i, err)
		}
	}
	return jinja.NewList(items), nil
}

func (m Message) value() (jinja.Value, error) {
	v := jinja.NewDict()
	d := v.AsDict()
	d.Set("role", jinja.NewString(m.Role))
	d.Set("content", jinja.NewString(m.Content))
	setText(d, "reasoning_content", m.Reasoning)
	setText(d, "name", m.Name)
	setText(d, "tool_call_id", m.ToolCallID)
	if len(m.ToolCalls) == 0 {
		return v, nil
	}
	calls := make([]jinja.Value, len(m.ToolCalls))
	for i, c := range m.ToolCalls {
		var err error
		if calls[i], err = c.value(); err != nil {
			return v, fmt.Errorf("tool call %d: %w", i, err)
		}
	}
	d.Set("tool_calls", jinja.NewList(calls))
	return v, nil
}

// setText sets a member unless it is empty.
func setText(d *jinja.Dict, key, text string) {
	if text != "" {
		d.Set(key, jinja.NewString(text))
	}
}

func (c ToolCall) value() (jinja.Value, error) {
	function := jinja.NewDict()
	function.AsDict().Set("name", jinja.NewString(c.Function.Name))
	arguments, err := c.Function.arguments()
	if err != nil {
		return arguments, fmt.Errorf("arguments: %w", err)
	}
	function.AsDict().Set("arguments", arguments)
	v := jinja.NewDict()
	setText(v.AsDict(), "id", c.ID)
	v.AsDict().Set("type", jinja.NewString("function"))
	v.AsDict().Set("function", function)
	return v, nil
}

// arguments are what templates expect: a dict. A text that is JSON counts as that JSON; any other stays a text.
func (f Function) arguments() (jinja.Value, error) {
	if len(f.Arguments) == 0 {
		return jinja.NewDict(), nil
	}
	v, err := parseJSON(f.Arguments)
	if err != nil || !v.IsString() {
		return v, err
	}
	if inner, err := parseJSON([]byte(v.AsString())); err == nil && inner.IsDict() {
		return inner, nil
	}
	return v, nil
}

func toolList(tools []byte) (jinja.Value, error) {
	v, err := parseJSON(tools)
	switch {
	case err != nil:
		return v, fmt.Errorf("chat: tools: %w", err)
	case v.IsList() && v.AsList().Len() == 0:
		return jinja.None(), nil
	case v.IsList() || v.IsNone():
		return v, nil
	}
	return v, errors.New("chat: tools: not a list")
}

// raiseException keeps what the template raises; the engine's own errors do not
// tell it from their own.
func raiseException(refusal **TemplateError) jinja.Value {
	return jinja.NewCallable("raise_exception", func(args []jinja.Value, _ map[string]jinja.Value) (jinja.Value, error) {
		*refusal = &TemplateError{Message: argument(args, "the chat template refuses the messages")}
		return jinja.Undefined(), *refusal
	})
}

func strftimeNow(now func() time.Time) jinja.Value {
	return jinja.NewCallable("strftime_now", func(args []jinja.Value, _ map[string]jinja.Value) (jinja.Value, error) {
		return jinja.NewString(strftime(argument(args, "%Y-%m-%d"), now())), nil
	})
}

// argument is the text of the first argument.
func argument(args []jinja.Value, otherwise string) string {
	if len(args) == 0 {
		return otherwise
	}
	return spelled(args[0])
}

// directives are the letters of C's strftime, as layouts of package time.
var directives = map[byte]string{
	'Y': "2006", 'y': "06", 'm': "01", 'd': "02", 'e': "_2", 'j': "002",
	'B': "January", 'b': "Jan", 'h': "Jan", 'A': "Monday", 'a': "Mon",
	'H': "15", 'I': "03", 'M': "04", 'S': "05", 'f': "000000", 'p': "PM",
	'Z': "MST", 'z': "-0700", 'F': "2006-01-02", 'D': "01/02/06", 'T': "15:04:05", 'R': "15:04",
}

// strftime formats t; a directive it does not know stays as it is.
func strftime(format string, t time.Time) string {
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			b.WriteByte(format[i])
			continue
		}
		i++
		b.WriteString(directive(format[i], t))
	}
	return b.String()
}

func directive(letter byte, t time.Time) string {
	switch layout, known := directives[letter]; {
	case letter == '%':
		return "%"
	case letter == 'f': // package time knows fractions only behind a point
		return t.Format(".000000")[1:]
	case known:
		return t.Format(layout)
	}
	return "%" + string(letter)
}
