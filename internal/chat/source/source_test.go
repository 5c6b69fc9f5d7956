package source_test

import (
	"testing"

	"mneme/internal/chat/source"
)

// What the engine sees of each tag.
func TestPrepare(t *testing.T) {
	for text, want := range map[string]string{
		"  {%- if x %}\n hi {# note #}{% endif %}\n": `{% if x %}{{ __out(" hi ") }}{% endif %}`,
		"{{ a * b.c[0] ~ 'x' * 2 }}":                 `{{ __out(a | __mul ( b . c [ 0 ] ) ~ 'x' | __mul ( 2 )) }}`,
		"{{ 7 // 2 * 3 }}":                           `{{ __out(7 // 2 * 3) }}`,
		"{{ -a(1)|f * -2 ** 3 }}":                    `{{ __out(- a ( 1 ) | f | __fit | __mul ( - 2 ** 3 )) }}`,
		"{{ x.append(y) }}{{ x.append }}":            `{{ __out(x | __append ( y ) | __fit) }}{{ __out(x | __member ( "append" ) | __fit) }}`,
		"{{ x|tojson(indent=2)|trim }}":              `{{ __out(x | __tojson ( indent = 2 ) | __fit | trim | __fit) }}`,
		"{% set a, b = 1, 2 %}":                      `{% set __items = __keep([1 , 2]) %}{% set a = __items[0] %}{% set b = __items[1] %}`,
		"{% set n.x = y %}":                          `{% set n.x = __put(n, y) %}`,
		"{% set x %}v{% endset %}":                   `{% set x %}{{ __out("v") }}{% endset %}{% set x = __keep(x) %}`,
		"{% for k,v in d if k != 'a' %}{% endfor %}": `{% for k , v in d if __tick ( ) and ( k != 'a' ) %}{{ __step(k, v) }}{% endfor %}`,
		"{% macro m(a, b='c') %}{% endmacro %}":      `{% macro m ( a , b = 'c' ) %}{{ __enter(a, b) }}{{ __leave() }}{% endmacro %}`,
		"{% call(x) m.n(1) %}{% endcall %}":          `{% call ( x ) m . n ( 1 ) %}{{ __enter(x) }}{{ __leave() }}{% endcall %}`,
		"{% filter upper %}a{% endfilter %}":         `{% set __block0 %}{{ __out("a") }}{% endset %}{{ __out(__block0 | upper | __fit) }}`,
		"{{ l|selectattr('a')|select }}":             `{{ __out(l | selectattr ( 'a' , 'truthy' ) | __fit | select ( '' ) | __fit) }}`,
		"{% raw %}{{ x }}\"{% endraw %}":             `{{ __out("{{ x }}\"") }}`,
	} {
		if got, err := source.Prepare(text); err != nil || got != want {
			t.Errorf("%s:\n got %s (error %v)\nwant %s", text, got, err, want)
		}
	}
}

// An error names the line of the tag.
func TestPrepareNamesTheLine(t *testing.T) {
	_, err := source.Prepare("a\nb {% if x %}\n{{ __out }}")
	if want := `line 3: name "__out" is not supported`; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}
