"""Writes whitespace.jsonl: {source, text} as Jinja2 3.1.6 renders it with the
settings that chat templates are written for. Run it in this folder."""
import json
import random

import jinja2

TAGS = [
    "{{L x R}}", "{{L '}} %}' R}}", "{#L note ' {{ R#}", "{%L set y = 'v' R%}", "{{L '' R}}",
    "{{L {'a': {'b': '}}'}}['a']['b'] R}}", "{{L x ~ \"\\\"q\\\\\" R}}",
]
BLOCKS = [
    ("{%L if yes R%}", "{%L endif R%}"), ("{%L for i in two R%}", "{%L endfor R%}"), ("{%L raw R%}", "{%L endraw R%}"),
]
TEXT = ["", " ", "  ", "\n", "\n\n", " \n", "\n  ", "\t", "a", "a ", " a", "b\n", "\nb", '"', "\\", "\\n", "'", "{", "}", "%}", "\u00a0", "\r\n", "\r"]


def marked(rnd, tag):
    marks = ["", "", "-"] if tag.startswith("{{") else ["", "", "-", "+"]
    right = ["", "", "-"] if tag.startswith("{{") or " raw " in tag else ["", "", "-", "+"]
    return tag.replace("L", rnd.choice(marks), 1).replace("R", rnd.choice(right), 1)


def source(rnd, depth=0):
    parts = []
    for _ in range(rnd.randrange(1, 9)):
        kind = rnd.random()
        if kind < 0.6:
            parts.append(rnd.choice(TEXT))
        elif kind < 0.8 or depth == 2:
            parts.append(marked(rnd, rnd.choice(TAGS)))
        else:
            begin, end = rnd.choice(BLOCKS)
            parts += [marked(rnd, begin), source(rnd, depth + 1), marked(rnd, end)]
    return "".join(parts)


def main():
    rnd = random.Random(7)
    env = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    seen = {}
    while len(seen) < 800:
        s = source(rnd)
        try:
            seen[s] = env.from_string(s).render(yes=True, two=[1, 2], x="X")
        except jinja2.TemplateError:
            pass
    with open("whitespace.jsonl", "w") as out:
        for s, text in seen.items():
            out.write(json.dumps({"source": s, "text": text}) + "\n")


main()
