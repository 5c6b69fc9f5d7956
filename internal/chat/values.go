package chat

import (
	"strings"
	"time"

	"github.com/ardanlabs/jinja"
)

// variables are the names that templates are written for.
func (t *Template) variables(messages []Message, addGenerationPrompt bool) map[string]jinja.Value {
	return map[string]jinja.Value{
		"messages":              messageList(messages),
		"add_generation_prompt": jinja.NewBool(addGenerationPrompt),
		"bos_token":             jinja.NewString(t.options.BOS),
		"eos_token":             jinja.NewString(t.options.EOS),
		"tools":                 jinja.None(),
		"documents":             jinja.None(),
		"strftime_now":          strftimeNow(t.options.Now),
	}
}

func messageList(messages []Message) jinja.Value {
	items := make([]jinja.Value, len(messages))
	for i, m := range messages {
		items[i] = m.value()
	}
	return jinja.NewList(items)
}

func (m Message) value() jinja.Value {
	v := jinja.NewDict()
	d := v.AsDict()
	d.Set("role", jinja.NewString(m.Role))
	d.Set("content", jinja.NewString(m.Content))
	if m.Name != "" {
		d.Set("name", jinja.NewString(m.Name))
	}
	return v
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
	if args[0].IsString() {
		return args[0].AsString() // String would quote it
	}
	return args[0].String()
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
