package source

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Limits of a template's text, far above what real ones have. They bound how
// deep the engine's calls go (it has no limit of its own, and a Go stack that
// overflows ends the process) and how much one expression can make of the
// values it names.
const (
	maxBlocks   = 100  // blocks in one another
	maxBrackets = 50   // brackets in one another
	maxNames    = 200  // names in a tag
	maxCode     = 4096 // bytes of a tag beside string literals
)

// guard rewrites tags so that a render can be measured and stopped. The names
// that it puts in are functions of the run; templates cannot use them.
//
//	{{ a * b }}              {{ __out(a|__mul(b)) }}
//	{% set x = e %}          {% set x = __keep(e) %}
//	{% set n.x = e %}        {% set n.x = __put(n, e) %}
//	{% for x in e if c %}    {% for x in e if __tick() and (c) %}{{ __step(x) }}
//	{% macro m(a) %}         {% macro m(a) %}{{ __enter(a) }}
//	{% endmacro %}           {{ __leave() }}{% endmacro %}
//	{% filter f %}           {% set __block1 %}
//	{% endfilter %}          {% endset %}{{ __out(__block1|f|__fit) }}
//	x.append(y), x|join(y)   x|__append(y)|__fit, x|__join(y)|__fit
//	x.f(y), x|f              x.f(y)|__fit, x|f|__fit
type guard struct {
	blocks []string // of the open ones: what comes behind their ends
}

// methods and filters that can make large or endless things of small ones.
var (
	methods = []string{"append", "insert", "update", "replace", "format", "join"}
	filters = []string{"join", "replace", "indent", "map", "tojson", "escape", "e"}
)

func printing(expression string) string { return "{{ __out(" + expression + ") }}" }

// output is the tag for an expression.
func (g *guard) output(body string) (string, error) {
	ls := lex(body)
	if err := check(ls); err != nil {
		return "", err
	}
	return printing(spell(guarded(ls))), nil
}

// statement is what stands for a block tag.
func (g *guard) statement(body string) (string, error) {
	ls := lex(body)
	if err := check(ls); err != nil {
		return "", err
	}
	if len(ls) == 0 {
		return "", errors.New("empty tag")
	}
	switch keyword, rest := ls[0].text, ls[1:]; keyword {
	case "for":
		return g.loop(rest)
	case "set":
		return g.set(rest)
	case "macro":
		return g.macro(rest)
	case "call":
		return g.call(rest)
	case "filter":
		return g.filter(rest)
	case "if", "generation":
		return statement(append(ls[:1:1], guarded(rest)...)), g.open("")
	case "endmacro", "endcall":
		g.close()
		return "{{ __leave() }}" + statement(ls[:1]), nil
	case "endset":
		return statement(ls[:1]) + g.close(), nil
	case "endfilter":
		return "{% endset %}" + g.close(), nil
	case "endif", "endfor", "endgeneration":
		g.close()
		return statement(ls[:1]), nil
	case "elif", "else", "break", "continue":
		return statement(append(ls[:1:1], guarded(rest)...)), nil
	}
	return "", fmt.Errorf("unknown tag %q", ls[0].text) // the engine would take "for1" for a for
}

func statement(ls []lexeme) string { return "{% " + spell(ls) + " %}" }

func (g *guard) open(behind string) error {
	if g.blocks = append(g.blocks, behind); len(g.blocks) > maxBlocks {
		return fmt.Errorf("more than %d blocks in one another", maxBlocks)
	}
	return nil
}

// close ends the innermost block; the engine finds what does not match.
func (g *guard) close() (behind string) {
	if n := len(g.blocks); n > 0 {
		behind = g.blocks[n-1]
		g.blocks = g.blocks[:n-1]
	}
	return behind
}

func keep(target, value string) string { return "{% set " + target + " = __keep(" + value + ") %}" }

// filter makes the block a variable, and prints that filtered.
func (g *guard) filter(ls []lexeme) (string, error) {
	variable := fmt.Sprintf("__block%d", len(g.blocks))
	filtered := guarded(append(symbols(variable+" |"), ls...))
	return "{% set " + variable + " %}", g.open(printing(spell(filtered)))
}

func (g *guard) loop(ls []lexeme) (string, error) {
	in := find(ls, "in")
	if in < 0 {
		return "", errors.New("for without in")
	}
	vars := namesOf(ls[:in])
	head, tail := ls[in+1:], []lexeme(nil)
	if i := find(head, "recursive"); i >= 0 {
		head, tail = head[:i], head[i:]
	}
	items, condition := head, []lexeme(nil)
	if i := find(head, "if"); i >= 0 {
		items, condition = head[:i], slices.Concat(symbols("if __tick ( ) and ("), guarded(head[i+1:]), symbols(")"))
	}
	all := slices.Concat(symbols("for "+strings.Join(vars, " , ")+" in"), guarded(items), condition, tail)
	return statement(all) + "{{ __step(" + strings.Join(vars, ", ") + ") }}", g.open("")
}

// namesOf lists the names among lexemes.
func namesOf(ls []lexeme) (names []string) {
	for _, l := range ls {
		if l.kind == name {
			names = append(names, l.text)
		}
	}
	return names
}

func (g *guard) set(ls []lexeme) (string, error) {
	at := find(ls, "=")
	target, value := ls, ""
	if at >= 0 {
		target, value = ls[:at], spell(guarded(ls[at+1:]))
	}
	if at >= 0 && find(ls[at+1:], ",") >= 0 { // a tuple without brackets
		value = "[" + value + "]"
	}
	names := namesOf(target)
	switch {
	case at < 0 && len(names) == 1 && len(target) == 1:
		return statement(append(symbols("set"), target...)), g.open(keep(names[0], names[0]))
	case at >= 0 && len(names) == 1 && len(target) == 1:
		return keep(names[0], value), nil
	case at >= 0 && len(names) == 2 && len(target) == 3 && target[1].is("."):
		return "{% set " + names[0] + "." + names[1] + " = __put(" + names[0] + ", " + value + ") %}", nil
	case at >= 0 && len(names) > 1 && len(target) == 2*len(names)-1 && target[1].is(","):
		return unpacking(names, value), nil
	}
	return "", fmt.Errorf("set %s: not a target", spell(target))
}

// unpacking sets several names to the items of a value.
func unpacking(names []string, value string) string {
	var b strings.Builder
	b.WriteString(keep("__items", value))
	for i, n := range names {
		fmt.Fprintf(&b, "{%% set %s = __items[%d] %%}", n, i)
	}
	return b.String()
}

// macro refuses calls in defaults: the engine evaluates those before the body, where no depth is counted. It also cuts
// parameters at every comma, those in texts too.
func (g *guard) macro(ls []lexeme) (string, error) {
	if len(ls) < 3 || ls[0].kind != name || !ls[1].is("(") || !ls[len(ls)-1].is(")") {
		return "", errors.New("macro without parameters")
	}
	parameters := ls[2 : len(ls)-1]
	if slices.ContainsFunc(parameters, func(l lexeme) bool {
		return l.is("(") || l.is("|") || l.is("*") || l.kind == quoted && strings.ContainsAny(l.text, ",=()")
	}) {
		return "", fmt.Errorf("macro %s: a default that calls, or a text of , = ( ), is not supported", ls[0].text)
	}
	return statement(append(symbols("macro"), ls...)) + entering(parameters), g.open("")
}

// entering counts a call and weighs its parameters.
func entering(parameters []lexeme) string {
	var names []string
	for i, l := range parameters {
		if l.kind == name && (i == 0 || parameters[i-1].is(",")) {
			names = append(names, l.text)
		}
	}
	return "{{ __enter(" + strings.Join(names, ", ") + ") }}"
}

func (g *guard) call(ls []lexeme) (string, error) {
	var parameters []lexeme
	if len(ls) > 0 && ls[0].is("(") {
		end := closing(ls, 0)
		parameters, ls = ls[1:end-1], ls[end:]
	}
	if slices.ContainsFunc(parameters, func(l lexeme) bool { return l.kind != name && !l.is(",") }) {
		return "", fmt.Errorf("call (%s): not a list of names", spell(parameters))
	}
	called := guarded(ls)
	if n := len(called); n > 2 && called[n-1].is("__fit") { // it must stay a call
		called = called[:n-2]
	}
	head := slices.Concat(symbols("call ("), parameters, symbols(")"), called)
	return statement(head) + entering(parameters), g.open("")
}

// check holds a tag against the limits.
func check(ls []lexeme) error {
	names, code, depth, deepest, lowest := 0, 0, 0, 0, 0
	for _, l := range ls {
		switch {
		case l.kind == quoted:
			continue
		case l.kind == name:
			names++
		case isOpener(l):
			depth++
			deepest = max(deepest, depth)
		case isCloser(l):
			depth--
			lowest = min(lowest, depth)
		}
		if code += len(l.text); strings.HasPrefix(l.text, "__") {
			return fmt.Errorf("name %q is not supported", l.text)
		}
	}
	switch {
	case lowest < 0 || depth != 0:
		return errors.New("brackets do not match")
	case deepest > maxBrackets:
		return fmt.Errorf("more than %d brackets in one another", maxBrackets)
	case names > maxNames:
		return fmt.Errorf("more than %d names in a tag", maxNames)
	case code > maxCode:
		return fmt.Errorf("more than %d bytes of code in a tag", maxCode)
	}
	return checkSlices(ls)
}

// checkSlices wants slices with a step to be of small numbers as written; the engine would go through all that lies
// between others, in the list or not.
func checkSlices(ls []lexeme) error {
	for i, l := range ls {
		if !l.is("[") {
			continue
		}
		inside := ls[i+1 : closing(ls, i)-1]
		first := find(inside, ":")
		if first < 0 || find(inside[first+1:], ":") < 0 {
			continue
		}
		if slices.ContainsFunc(inside, func(l lexeme) bool { return !l.is(":") && !l.is("-") && (l.kind != number || len(l.text) > 4) }) {
			return fmt.Errorf("slice [%s]: a step is supported beside small numbers alone", spell(inside))
		}
	}
	return nil
}

// guarded rewrites an expression.
func guarded(ls []lexeme) []lexeme {
	out := make([]lexeme, 0, len(ls))
	for i := 0; i < len(ls); i++ {
		if i+1 == len(ls) || ls[i+1].kind != name {
			out = append(out, ls[i])
			continue
		}
		next := ls[i+1].text
		switch {
		case ls[i].is("|") && slices.Contains(filters, next):
			out = append(out, symbols("| __"+next)...)
			i++
		case ls[i].is(".") && slices.Contains(methods, next):
			out = append(out, method(next, i+2 < len(ls) && ls[i+2].is("("))...)
			i++
		default:
			out = append(out, ls[i])
		}
	}
	return products(fitted(selecting(out)))
}

// selecting gives the select filters the test that the engine does not do without.
func selecting(ls []lexeme) []lexeme {
	for i := 1; i < len(ls); i++ {
		test, ok := truths[ls[i].text]
		if !ok || !ls[i-1].is("|") {
			continue
		}
		end := i + 1
		if end < len(ls) && ls[end].is("(") {
			end = closing(ls, end) - 1
		} else {
			ls = slices.Insert(ls, end, symbols("( )")...)
			end++
		}
		if arguments := ls[i+2 : end]; len(arguments) == 0 || test[0].is(",") && find(arguments, ",") < 0 {
			ls = slices.Insert(ls, end, test...)
		}
	}
	return ls
}

// truths are how the select filters are told to ask for what is true.
var truths = map[string][]lexeme{
	"select": symbols("''"), "reject": symbols("''"),
	"selectattr": symbols(", 'truthy'"), "rejectattr": symbols(", 'truthy'"),
}

// fitted weighs what filters and methods give.
func fitted(ls []lexeme) []lexeme {
	var out []lexeme
	var calls []bool // of the open brackets: whether they hold a filter's or a method's arguments
	fit := symbols("| __fit")
	for i, l := range ls {
		out = append(out, l)
		switch {
		case isOpener(l):
			calls = append(calls, l.is("(") && applied(ls, i-1))
		case isCloser(l) && len(calls) > 0:
			if calls[len(calls)-1] {
				out = append(out, fit...)
			}
			calls = calls[:len(calls)-1]
		case applied(ls, i) && ls[i-1].is("|") && (i+1 == len(ls) || !ls[i+1].is("(")):
			out = append(out, fit...)
		}
	}
	return out
}

// applied tells whether ls[i] names a filter or a member.
func applied(ls []lexeme, i int) bool {
	return i > 0 && ls[i].kind == name && (ls[i-1].is("|") || ls[i-1].is("."))
}

// method is ".name" as a filter; one that is not called can only be a member.
func method(called string, isCall bool) []lexeme {
	switch {
	case !isCall:
		return symbols(`| __member ( "` + called + `" )`)
	case called == "join":
		return symbols("| __joining")
	}
	return symbols("| __" + called)
}

// products makes "a * b" a filter. Where the left side is a quotient or a power it is a number: nothing grows.
func products(ls []lexeme) []lexeme {
	for i := 1; i < len(ls)-1; i++ {
		if !ls[i].is("*") {
			continue
		}
		start, end := operandStart(ls, i-1), operandEnd(ls, i+1)
		if start > 0 && slices.ContainsFunc([]string{"/", "//", "%", "**"}, ls[start-1].is) {
			continue
		}
		ls = slices.Concat(ls[:i], symbols("| __mul ("), ls[i+1:end], symbols(")"), ls[end:])
	}
	return ls
}

// operandStart returns where the operand that ends with ls[i] begins: a.b(c)[d]|e(f).
func operandStart(ls []lexeme, i int) int {
	for {
		if isCloser(ls[i]) {
			i = opening(ls, i)
			if i == 0 || !isOperandEnd(ls[i-1]) || ls[i].is("{") {
				return i
			}
			i--
			continue
		}
		if i < 2 || !ls[i-1].is(".") && !ls[i-1].is("|") {
			return i
		}
		i -= 2
	}
}

// isOperandEnd tells whether a bracket behind l is a call or a subscript.
func isOperandEnd(l lexeme) bool {
	return l.kind == quoted || isCloser(l) || l.kind == name && !slices.Contains(operators, l.text)
}

// operators are the names that stand between operands.
var operators = []string{"and", "or", "not", "in", "is", "if", "else"}

// operandEnd returns the place behind the operand that begins at i, signs and power included.
func operandEnd(ls []lexeme, i int) int {
	for i < len(ls) && (ls[i].is("-") || ls[i].is("+")) {
		i++
	}
	if i < len(ls) && isOpener(ls[i]) {
		i = closing(ls, i)
	} else {
		i++
	}
	for i < len(ls) && (ls[i].is(".") || ls[i].is("|") || ls[i].is("(") || ls[i].is("[")) {
		if isOpener(ls[i]) {
			i = closing(ls, i)
		} else {
			i += 2
		}
	}
	if i < len(ls) && ls[i].is("**") {
		return operandEnd(ls, i+1)
	}
	return min(i, len(ls))
}
