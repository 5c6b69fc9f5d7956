"""Writes features.jsonl: {source, text} as Jinja2 3.1.6 renders it with what
transformers gives to chat templates. All know DATA, a JSON object. Run it in
this folder."""
import json

import jinja2
import jinja2.ext
import jinja2.sandbox

DATA = json.loads("""{"zeta": 1, "alpha": [1, 2.5, 5.0, 1e-05, 1e16, true, null, "é\\u2028<&>\\"\\\\\\n\\u0001"], "nested": {"b": {}, "a": [], "c": [{"x": 1}]},
 "format": "date", "people": [{"name": "Ada", "age": 36}, {"name": "Bob", "age": 7}, {"name": "Cy"}], "big": 9007199254740993}""")

SOURCES = r"""
{{ data | tojson }}
{{ data | tojson(indent=4) }}
{{ data.nested | tojson(indent=2) }}|{{ [] | tojson(indent=2) }}
{{ data | tojson(indent=1, sort_keys=true) }}
{{ data.alpha | tojson(ensure_ascii=true) }}{{ '🙂' | tojson(ensure_ascii=True) }}
{{ data.nested | tojson(separators=(',', ':')) }}
{{ data.nested | tojson(indent=2, separators=(',', ' : ')) }}
{{ data.people | tojson | length }}
{{ 2 * 3 }} {{ 2 * 3 * 4 }} {{ 1 + 2 * 3 }} {{ (1 + 2) * 3 }} {{ 7 // 2 * 3 }} {{ 7 % 4 * 2 }} {{ -2 * 3 }} {{ 2 * -3 }} {{ 2 * 1.5 }}
{{ 'ab' * 3 }} {{ 3 * 'ab' }} {{ 'a' * 0 }}| {{ 'a' * -1 }}| {{ ('a' ~ 'b') * 2 }} {{ 'x' ~ 'y' * 2 ~ 'z' }}
{{ data.people[0].age * 2 }} {{ data.people[0]['age'] * data.people | length }} {{ data.people | length * 2 }} {{ [1, 2][1] * [3][0] }}
{{ data.zeta * 2 if data.zeta * 3 == 3 else 'no' * 2 }} {{ not 1 * 0 }}
{{ data.format }} {{ data['format'] }} {{ data.format is defined }} {{ data.update is defined and data.nothing is defined }}
{{ 'a-{}-{}'.format(1, 'b') }} {{ '{0}{1}{0}'.format('x', 'y') }}
{{ 'banana'.replace('a', 'o') }} {{ 'banana' | replace('an', '') }} {{ 'banana'.replace('a', 'o', 2) }} {{ 'ab' | replace('', '-') }} {{ 'ab'.replace('x', 'yy') }}
{{ ', '.join(['a', 'b']) }} {{ ['a', 1, 'b'] | join(', ') }} {{ data.people | join('/', attribute='name') }} {{ 'abc' | join('-') }} {{ data.nested | join(' ') }} {{ [] | join }}|
{{ 'a\nb\n\nc' | indent }}|{{ 'a\nb' | indent(2, true) }}|{{ 'a\n\nb' | indent(width=1, blank=true) }}|{{ 'a\nb' | indent('> ') }}
{{ data.people | map(attribute='name') | list }} {{ data.people | map(attribute='age', default=0) | join(',') }} {{ [' a ', 'b'] | map('trim') | join(',') }} {{ ['a'] | map('upper') | first }}
{% set l = [1] %}{% set _ = l.append(2) %}{% set _ = l.insert(0, 'x') %}{% set _ = l.insert(-1, 'y') %}{{ l }}{{ l.append(3) or l | length }}
{% set ns = namespace(a=1) %}{% for i in range(3) %}{% set ns.a = ns.a * 2 + i %}{% endfor %}{{ ns.a }}
{% set a, b = 1, 2 %}{{ a }}{{ b }}|{% set a, b = [3, [4]] %}{{ b[0] }}
{% set x = 'v' %}{% set y %}[{{ x }}{% for i in 'ab' %}{{ i }}{% endfor %}]{% endset %}{{ y * 2 }}
{% macro m(a, b='-', c=none) %}{{ a }}{{ b }}{{ c is none }}{% endmacro %}{{ m(1) }}{{ m(2, c=3) }}{{ m('x', 'y') * 2 }}
{% macro fact(n) %}{% if n < 2 %}1{% else %}{{ n * fact(n - 1) | int }}{% endif %}{% endmacro %}{{ fact(10) }}
{% macro box(t) %}<{{ t }}:{{ caller() }}>{% endmacro %}{% call box('a') %}in{% call box('b') %}ner{% endcall %}{% endcall %}
{% for p in data.people if p.age is defined and p.age * 2 > 20 %}{{ loop.index }}{{ p.name }}{{ loop.last }}{% else %}none{% endfor %}
{% for k, v in data.nested.items() %}{{ k }}={{ v }};{% endfor %}{% for k, v in data.nested | items %}{{ k }}{% endfor %}
{% for i in range(1, 10, 3) %}{{ i }}{% endfor %} {{ range(3, 0, -1) | list }} {{ range(2, 4) | list }} {{ range(-1) | list }}
{% for i in range(9) %}{% if i == 2 %}{% continue %}{% endif %}{% if i > 4 %}{% break %}{% endif %}{{ i }}{{ loop.previtem is defined }}{% endfor %}
{{ data.people[::-1] | map(attribute='name') | join }} {{ 'abcdef'[1:5:2] }} {{ 'abcdef'[::-1] }} {{ data.alpha[-2:] | length }} {{ 'abcdef'[:-1] }}
{% set q = {'a': {'b': [1, {'c': 'd'}]}} %}{{ q['a'].b[1].c }}{{ q | tojson }}{{ q }}
{% filter upper %}a{% filter replace('b', 'c') %}b{{ 1 }}{% endfilter %}{% endfilter %} {{ '<a b="c">' | e }} {{ "it's & so" | escape }}
{% macro m(a) %}{{ a }}{{ caller(2) }}{% endmacro %}{% call(x) m(1) %}{{ x * 2 }}{% endcall %}
{{ data.people | selectattr('age', 'defined') | map(attribute='age') | sum }} {{ data.people | rejectattr('age') | list | length }} {{ [3, 1, 2] | sort | join }} {{ [0, 1, ''] | select | list }} {{ [0, 1] | reject() | list }} {{ [1, 2] | select('odd') | list }} {{ data.people | selectattr('age') | list | length }} {{ [1, 1] | unique | list }}
{{ data.get('zeta', 0) * 2 }} {{ data.get('no') is none }} {{ (data.no | default('d')) * 2 }} {{ 'a b'.title() }} {{ 'ab'.upper() * 2 }} {{ data.keys() | list | length }}
{{ {'b': 1, 'a': 2} | dictsort | first | first }} {{ dict(a=1, b=[2]) | tojson }} {{ dict({'z': 1}, y=2) | tojson }}
{{ none }} {{ 2.0 }} {{ true }}{% generation %}x{% endgeneration %}
{{ 'a' if data.zeta == 1 and 'Ada' in data.people | map(attribute='name') | list else 'b' }}
{%- for p in data.people %}{% set outer = loop %}{% for c in p.name %}{{ outer.index }}{{ c }}{% endfor %}{% endfor %}
{{ 'x y  z'.split() | tojson }}{{ 'a,b'.split(',') | last }}{{ ' x '.strip() ~ 'X'.lower() }}{{ 'abc'.startswith('ab') }}
""".strip().split("\n")


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        next(parser.stream)
        return parser.parse_statements(["name:endgeneration"], drop_needle=True)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def main():
    env = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    with open("features.jsonl", "w") as out:
        for source in SOURCES:
            source = source.replace("\\n", "\n")
            text = env.from_string(source).render(data=DATA)
            out.write(json.dumps({"source": source, "text": text}) + "\n")


main()
