package chat_test

import (
	"context"
	"encoding/json"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"mneme/internal/chat"
)

// hostile are templates that would go on without end, take all memory, or end
// the process, and what becomes of them instead.
var hostile = map[string]struct{ source, want string }{
	"calls itself":      {"{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "render: template calls more than 64 macros in one another"},
	"calls each other":  {"{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}", "render: template calls more than 64 macros"},
	"calls twice":       {"{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}", "render: template takes more than 1000000 steps"},
	"calls in default":  {"{% macro m(a=m()) %}{% endmacro %}{{ m() }}", "template: line 1: macro m: a default that calls, or a text of , = ( ), is not supported"},
	"hidden default":    {"{% macro m(a='b,c=m(),d=') %}{% endmacro %}{{ m() }}", "template: line 1: macro m: a default that calls"},
	"hidden tag":        {"{% for1 in range(100000) %}{% endfor %}", `template: line 1: unknown tag "for1"`},
	"hidden parameters": {"{% call(x=')') m() %}{% endcall %}", "template: line 1: call (x = ')'): not a list of names"},
	"out of brackets":   {"{{ a) ~ (b) }}", "template: line 1: brackets do not match"},
	"many ranges":       {"{{ [" + strings.Repeat("range(100000), ", 150) + "] | length }}", "render: template takes more than 1000000 steps"},
	"caller":            {"{% set ns = namespace() %}{% macro m() %}{% set ns.c = caller %}{% endmacro %}{% call m() %}{{ ns.c() }}{% endcall %}{{ ns.c() }}", "render: template calls more than 64 macros"},
	"range":             {"{% for i in range(2000000000) %}x{% endfor %}", "render: template asks for a range of more than 100000"},
	"range past int64":  {"{{ range(9223372036854775806, 9223372036854775807, 5) }}{{ range(0 - 9223372036854775807, 9223372036854775807) }}", "render: template asks for a range"},
	"loops":             {"{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}", "render: template takes more than 1000000 steps"},
	"loop condition":    {"{% for a in range(100000) %}{% for b in range(100000) if false %}{% endfor %}{% endfor %}", "render: template takes more than 1000000 steps"},
	"product":           {"{{ 'a' * 1000000000 }}", "render: template makes a value that is too large"},
	"products":          {"{{ 'a' * 1000 * 1000 * 1000 }}", "render: template makes a value that is too large"},
	"product of a name": {"{% set n = 40000 %}{% set s = 'a' * n %}{{ (s ~ s)|upper * n }}", "render: template makes a value that is too large"},
	"doubled":           {"{% set x = 'aaaaaaaa' %}" + strings.Repeat("{% set x = x ~ x %}", 60), "render: template makes a value that is too large"},
	"doubled in a loop": {"{% set n = namespace(x='ab') %}{% for i in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}", "render: template makes a value that is too large"},
	"doubled block":     {"{% set x = 'aaaaaaaa' %}" + strings.Repeat("{% set x %}{{ x }}{{ x }}{% endset %}", 60), "render: template "},
	"doubled list":      {"{% set x = [1] %}" + strings.Repeat("{% set x = [x, x] %}", 60) + "{{ x }}", "render: template makes a value that is too large"},
	"doubled argument":  {"{% macro m(x) %}{{ m([x, x]) }}{% endmacro %}{{ m(1) }}", "render: template makes a value that is too large"},
	"doubled by loops":  {"{% for a in [[1, 1]] %}" + strings.Repeat("{% for a in [[a, a]] %}", 60) + "{{ a }}" + strings.Repeat("{% endfor %}", 61), "render: template makes a value that is too large"},
	"nested list":       {"{% set n = namespace(x=[]) %}{% for i in range(9999) %}{% set n.x = [n.x] %}{% endfor %}{{ n.x }}", "render: template makes more than 100 lists"},
	"replace":           {"{% set x = 'a' * 100000 %}{{ x.replace('a', x) }}", "render: template makes a value that is too large"},
	"replace filter":    {"{% set x = 'a' * 100000 %}{{ x | replace('a', x) }}", "render: template makes a value that is too large"},
	"format":            {"{% set x = '{0}' * 100000 %}{{ x.format(x) }}", "render: template makes a value that is too large"},
	"join":              {"{% set x = 'a' * 100000 %}{{ x | join(x) }}", "render: template makes a value that is too large"},
	"indent":            {"{{ 'a\nb' | indent(1000000000) }}", "render: template makes a value that is too large"},
	"filter in hiding":  {"{{ 'a\nb' |\x11indent(1000000000) }}", "render: template makes a value that is too large"},
	"quoted again":      {strings.Repeat("{% filter tojson %}", 60) + `"` + strings.Repeat("{% endfilter %}", 60), "render: template makes a value that is too large"},
	"listed again":      {"{{ 'aaaa'" + strings.Repeat(" | list | string", 60) + " }}", "render: template makes a value that is too large"},
	"split again":       {"{{ " + strings.Repeat("(", 40) + "'aaaa'" + strings.Repeat(".split('') ~ '')", 40) + " }}", "render: template makes a value that is too large"},
	"indented JSON":     {"{{ [[]] | tojson(indent=1000000000) | length }}", ""},
	"list in itself":    {"{% set l = [] %}{% set _ = l.append(l) %}{{ l }}", "render: template puts a list, dict or loop into itself"},
	"deep in itself":    {"{% set l = [] %}{% set _ = l.insert(0, {'a': [l]}) %}{{ l | tojson }}", "render: template puts a list, dict or loop into itself"},
	"dict in itself":    {"{% set d = {} %}{% set _ = d.update({'d': d}) %}{{ d }}", "render: template puts a list, dict or loop into itself"},
	"namespace":         {"{% set n = namespace() %}{% set n.n = [n] %}{{ n }}", "render: template puts a list, dict or loop into itself"},
	"loop in itself":    {"{% set l = [] %}{% for x in [1, 2, l] %}{% set _ = l.append(loop) %}{{ l }}{% endfor %}", "render: template puts a list, dict or loop into itself"},
	"method kept":       {"{% set l = [] %}{% set f = l.append %}{{ f(l) }}{{ l }}", "render: f is not callable: Undefined"},
	"cycler":            {"{% set c = cycler(1) %}", "render: template calls cycler, which is not supported"},
	"prints":            {"{% for i in range(100000) %}" + strings.Repeat("x", 1000) + "{% endfor %}", "render: template prints too much"},
	"slice":             {"{{ [1][9999999999::-1] }}", "template: line 1: slice [9999999999 : : - 1]: a step is supported beside small numbers alone"},
	"slice of a name":   {"{% set n = 99999 %}{{ [1][n::-1] }}", "template: line 1: slice [n : : - 1]"},
	"parens":            {"{{ " + strings.Repeat("(", 60000) + "1" + strings.Repeat(")", 60000) + " }}", "template: line 1: more than 50 brackets in one another"},
	"signs":             {"{{ " + strings.Repeat("-", 100000) + "1 }}", "template: line 1: more than 4096 bytes of code in a tag"},
	"names":             {"{{ a" + strings.Repeat(" ~ a", 400) + " }}", "template: line 1: more than 200 names in a tag"},
	"blocks":            {strings.Repeat("{% if true %}", 5000) + strings.Repeat("{% endif %}", 5000), "template: line 1: more than 100 blocks in one another"},
	"our names":         {"{% macro __step() %}{% endmacro %}", `template: line 1: name "__step" is not supported`},
}

// Each ends with a clear error, in little time and memory.
func TestHostile(t *testing.T) {
	for name, c := range hostile {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			begin := time.Now()
			template, err := chat.Compile(c.source, chat.Options{})
			if err == nil {
				_, err = template.Render(nil, true)
			}
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.HasPrefix(err.Error(), "chat: "+c.want)) {
				t.Errorf("error %.200v, want %s", err, c.want)
			}
			runtime.ReadMemStats(&after)
			if took, mib := time.Since(begin), (int64(after.Sys)-int64(before.Sys))>>20; took > 8*time.Second || mib > 300 {
				t.Errorf("it took %v and %d MiB", took, mib)
			}
		})
	}
}

// Who no longer wants the prompt does not wait for it.
func TestCancelled(t *testing.T) {
	template := compile(t, "{% for a in range(100000) %}{{ [1, 2, 3] | tojson }}{% endfor %}")
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := template.RenderContext(ctx, chat.Request{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want a deadline exceeded", err)
	}
}

// A long conversation with large tools is far from every limit.
func TestLargeRequest(t *testing.T) {
	template, _ := ofFile(t, qwenFile(t))
	var q chat.Request
	for i := range 2000 {
		role := []string{"user", "assistant"}[i%2]
		q.Messages = append(q.Messages, chat.Message{Role: role, Content: strings.Repeat("word ", 200)})
	}
	tool := `{"type": "function", "function": {"name": "f", "description": "` + strings.Repeat("d", 1000) + `"}}`
	q.Tools = json.RawMessage("[" + strings.Repeat(tool+",", 499) + tool + "]")
	text, err := template.RenderContext(t.Context(), q)
	if err != nil || len(text) < 2_500_000 {
		t.Errorf("%d bytes, error %v", len(text), err)
	}
}
