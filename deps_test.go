// Package mneme_test walks through the house: it reads the imports and the
// lengths of every room and compares them with the plan in
// docs/ARCHITECTURE.md. It needs the source and nothing else.
package mneme_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	maxRoomLines      = 2000 // without tests and generated files
	maxMedianFunction = 14   // lines, the signature and the closing brace included
	maxFunction       = 60   // lines; a longer one is two things
)

// floors is the plan: a room imports lower floors only. A room inside another
// (api/openai) lives on its parent's floor.
var floors = map[string]int{
	"cmd/mneme":              6,
	"internal/cli":           5,
	"internal/proof":         5, // tests only: engine and store together
	"internal/api":           4,
	"internal/bench":         4,
	"internal/engine":        3,
	"internal/model":         2,
	"internal/store":         2,
	"internal/engine/stream": 3,
	"internal/schedule":      2,
	"internal/store/format":  2, // below its parent, which imports it
	"internal/constrain":     1,
	"internal/gguf":          1,
	"internal/hub":           1,
	"internal/kv":            1,
	"internal/lineage":       1,
	"internal/tensor":        1,
	"internal/arena":         0,
	"internal/chat":          0,
	"internal/quant":         0,
	"internal/sample":        0,
	"internal/team":          0,
	"internal/token":         0,
	"internal/trace":         0,
	"internal/turnstile":     0,
	"internal/waiting":       0,
	"internal/vfs":           0,
}

// beside lists the arrows between rooms of one floor, each with its reason.
var beside = map[[2]string]string{
	{"internal/bench/durable", "internal/bench/figures"}:    "figures are written alike",
	{"internal/bench/durable", "internal/bench/probe"}:      "it measures servers from outside",
	{"internal/bench/perplexity", "internal/bench/figures"}: "figures are written alike",
	{"internal/cli/doctor", "internal/cli/machine"}:         "it asks the machine",
	{"internal/cli/doctor", "internal/cli/value"}:           "and says sizes as everywhere",
	{"internal/cli/doctor", "internal/cli/wire"}:            "memory is shared out as a server does it",
	{"internal/cli/wire", "internal/cli/machine"}:           "what there is decides what is taken",
	{"internal/cli/wire", "internal/cli/usage"}:             "what was asked for may be impossible",
	{"internal/cli/wire", "internal/cli/value"}:             "sizes are flags' values",
	{"internal/api/access", "internal/api/fields"}:          "what a client said is clipped",
	{"internal/api/access", "internal/api/wire"}:            "who is let in has an account, who is not is refused",
	{"internal/api/diagnose", "internal/api/talk"}:          "it compares conversations",
	{"internal/api/anthropic", "internal/api/diagnose"}:     "and says what has changed",
	{"internal/api/openai/ask", "internal/api/diagnose"}:    "an option of requests",
	{"internal/api/openai", "internal/api/diagnose"}:        "and says what has changed",
	{"internal/api/responses", "internal/api/diagnose"}:     "and says what has changed",
	{"internal/api/resources", "internal/api/diagnose"}:     "why a turn was computed",
	{"internal/api/turn", "internal/api/diagnose"}:          "what a turn was asked is remembered",
	{"internal/api/anthropic", "internal/api/diagnose"}:     "a miss has the vendor's name",
	{"internal/api/diagnose", "internal/api/talk"}:          "what is compared is conversations",
	{"internal/api/openai/ask", "internal/api/diagnose"}:    "a miss has the vendor's name",
	{"internal/api/resources", "internal/api/diagnose"}:     "a turn says why it missed",
	{"internal/api/turn", "internal/api/diagnose"}:          "a conversation that was answered is noted",
	{"internal/api/anthropic", "internal/api/fields"}:       "a dialect reads fields",
	{"internal/api/anthropic", "internal/api/talk"}:         "makes conversations of them",
	{"internal/api/anthropic", "internal/api/turn"}:         "takes turns",
	{"internal/api/anthropic", "internal/api/wire"}:         "and answers an exchange",
	{"internal/api/openai", "internal/api/fields"}:          "a dialect reads fields",
	{"internal/api/openai", "internal/api/talk"}:            "makes conversations of them",
	{"internal/api/openai", "internal/api/turn"}:            "takes turns",
	{"internal/api/openai", "internal/api/wire"}:            "and answers an exchange",
	{"internal/api/openai/ask", "internal/api/fields"}:      "what requests have in common is fields",
	{"internal/api/openai/ask", "internal/api/talk"}:        "about a conversation",
	{"internal/api/openai/ask", "internal/api/turn"}:        "its turn",
	{"internal/api/openai/ask", "internal/api/wire"}:        "and whose it is",
	{"internal/api/responses", "internal/api/fields"}:       "a dialect reads fields",
	{"internal/api/responses", "internal/api/openai/ask"}:   "some of them as chat completions do",
	{"internal/api/responses", "internal/api/talk"}:         "makes conversations of them",
	{"internal/api/responses", "internal/api/turn"}:         "takes turns",
	{"internal/api/responses", "internal/api/wire"}:         "and answers an exchange",
	{"internal/api/resources", "internal/api/fields"}:       "our own routes read fields",
	{"internal/api/resources", "internal/api/wire"}:         "and answer an exchange",
	{"internal/api/turn", "internal/api/fields"}:            "a model's name is a field",
	{"internal/api/turn", "internal/api/talk"}:              "a conversation becomes a prompt",
	{"internal/api/turn", "internal/api/wire"}:              "a turn is an exchange's, and so is its end",
	{"internal/api/wire", "internal/api/fields"}:            "a body is an object of fields",
	{"internal/cli/keyfile", "internal/cli/value"}:          "a quota is a size",
	{"internal/cli/offline", "internal/cli/remote"}:         "a list looks as a server's does",
	{"internal/cli/offline", "internal/cli/value"}:          "and its names and times as everywhere",
	{"internal/cli/remote", "internal/cli/value"}:           "an address is a flag's value",
	{"internal/store/export", "internal/store/format"}:      "an export is frames and a manifest",
	{"internal/store/families", "internal/store/format"}:    "a family is records of what its members share",
	{"internal/store/families", "internal/store/journal"}:   "a member may have a file of its own",
	{"internal/store/families", "internal/store/keyring"}:   "under keys",
	{"internal/store/format", "internal/store/records"}:     "agents and families are records",
	{"internal/store/roster", "internal/store/families"}:    "agents are read from their family's files",
	{"internal/store/roster", "internal/store/format"}:      "and kept as cards",
	{"internal/store/roster", "internal/store/frames"}:      "what they name counts",
	{"internal/store/roster", "internal/store/journal"}:     "and from their own",
	{"internal/store/roster", "internal/store/keyring"}:     "under keys",
	{"internal/store/verify", "internal/store/families"}:    "families too",
	{"internal/store/frames", "internal/store/format"}:      "it writes and finds frames",
	{"internal/store/frames", "internal/store/keyring"}:     "under keys",
	{"internal/store/frames", "internal/store/segments"}:    "in segments",
	{"internal/store/journal", "internal/store/format"}:     "an agent's file is records of its manifest",
	{"internal/store/keyring", "internal/store/format"}:     "a key is for frames; what is damaged says so as they do",
	{"internal/store/segments", "internal/store/format"}:    "segments begin with a head and hold frames",
	{"internal/store/verify", "internal/store/format"}:      "it reads everything that store writes",
	{"internal/store/verify", "internal/store/keyring"}:     "keys",
	{"internal/store/verify", "internal/store/journal"}:     "agents' files too",
	{"internal/store/verify", "internal/store/segments"}:    "and segments",
	{"internal/sample", "internal/token"}:                   "a sampler chooses token ids",
	{"internal/engine/terms", "internal/engine/roster"}:     "what an engine counts, its roster counts too",
	{"internal/engine/terms", "internal/engine/tally"}:      "and by size",
	{"internal/engine/roster", "internal/engine/stream"}:    "a turn that an agent has had ended for a reason",
}

// inTests lists further arrows that only _test.go files have.
var inTests = map[[2]string]string{
	{"internal/chat", "internal/gguf"}:      "the golden renders are of the real model's template",
	{"internal/chat", "internal/token"}:     "and of its special tokens",
	{"internal/constrain", "internal/gguf"}: "masks are timed over a real vocabulary",
	{"internal/token", "internal/gguf"}:     "the golden ids are of the real model's vocabulary",
}

// helpers serve tests: only _test.go files and other helpers import them.
var helpers = []string{"internal/testkit", "internal/model/modeltest"}

// room is one package folder as the parser sees it.
type room struct {
	name      string
	files     []file
	functions []function // of files that are neither tests nor generated
	lines     int        // of the same files
	doc       bool
}

type file struct {
	path    string
	test    bool
	imports []string // rooms of ours, by name
}

type function struct {
	name  string
	lines int
}

func TestImportsPointDown(t *testing.T) {
	for _, r := range rooms(t) {
		for _, f := range r.files {
			for _, to := range f.imports {
				if problem := arrow(r.name, to, f.test); problem != "" {
					t.Errorf("%s: %s", f.path, problem)
				}
			}
		}
	}
}

func TestRoomsAreSmallAndIntroduced(t *testing.T) {
	for _, r := range rooms(t) {
		if _, ok := floor(r.name); !ok && !helper(r.name) {
			t.Errorf("%s is on no floor: add it to the table and to docs/ARCHITECTURE.md", r.name)
		}
		if !r.doc {
			t.Errorf("%s has no package comment: what does it know, what does it leave to others?", r.name)
		}
		if r.lines > maxRoomLines {
			t.Errorf("%s has %d lines, a room has at most %d", r.name, r.lines, maxRoomLines)
		}
	}
}

func TestFunctionsAreShort(t *testing.T) {
	for _, r := range rooms(t) {
		if m := median(r.functions); m > maxMedianFunction && !helper(r.name) {
			t.Errorf("%s: half of its functions have %d lines or more, at most %d is the rule", r.name, m, maxMedianFunction)
		}
		for _, f := range r.functions {
			if f.lines > maxFunction {
				t.Errorf("%s: %s has %d lines, a function has at most %d", r.name, f.name, f.lines, maxFunction)
			}
		}
	}
}

// The rules themselves, on arrows that no room has.
func TestArrows(t *testing.T) {
	for _, c := range []struct {
		from, to string
		test     bool
		want     string
	}{
		{"internal/engine", "internal/kv", false, ""},
		{"internal/kv", "internal/engine", false, "internal/kv (floor 1) imports internal/engine (floor 3): arrows point down"},
		{"internal/chat", "internal/token", false, "internal/chat imports internal/token on its own floor, which the table does not list"},
		{"internal/sample", "internal/token", false, ""},
		{"internal/api/openai", "internal/engine", false, ""},
		{"internal/api", "internal/api/openai", false, ""},
		{"internal/api/openai", "internal/bench", false, "internal/api/openai imports internal/bench on its own floor, which the table does not list"},
		{"internal/hub", "internal/testkit", false, "internal/hub imports internal/testkit, which is for tests only"},
		{"internal/hub", "internal/testkit", true, ""},
		{"internal/token", "internal/gguf", false, "internal/token (floor 0) imports internal/gguf (floor 1): arrows point down"},
		{"internal/token", "internal/gguf", true, ""},
		{"internal/hub", "internal/attic", false, "internal/hub imports internal/attic, which is on no floor"},
	} {
		if got := arrow(c.from, c.to, c.test); got != c.want {
			t.Errorf("%s -> %s (test %v):\n got %q\nwant %q", c.from, c.to, c.test, got, c.want)
		}
	}
}

// arrow says what is wrong with an import, "" when nothing is.
func arrow(from, to string, inTest bool) string {
	if helper(to) {
		if inTest || helper(from) {
			return ""
		}
		return fmt.Sprintf("%s imports %s, which is for tests only", from, to)
	}
	if helper(from) {
		return ""
	}
	high, _ := floor(from)
	low, ok := floor(to)
	pair := [2]string{from, to}
	switch {
	case inTest && inTests[pair] != "":
		return ""
	case !ok:
		return fmt.Sprintf("%s imports %s, which is on no floor", from, to)
	case low > high:
		return fmt.Sprintf("%s (floor %d) imports %s (floor %d): arrows point down", from, high, to, low)
	case low == high && !family(from, to) && beside[pair] == "":
		return fmt.Sprintf("%s imports %s on its own floor, which the table does not list", from, to)
	}
	return ""
}

// floor finds a room's floor, its own or its parent's.
func floor(name string) (int, bool) {
	for ; name != "."; name = path.Dir(name) {
		if n, ok := floors[name]; ok {
			return n, true
		}
	}
	return 0, false
}

// family: a room, the rooms inside it, and an external test of it.
func family(a, b string) bool {
	return a == b || strings.HasPrefix(a, b+"/") || strings.HasPrefix(b, a+"/")
}

func helper(name string) bool { return slices.Contains(helpers, name) }

func median(functions []function) int {
	if len(functions) == 0 {
		return 0
	}
	lengths := make([]int, len(functions))
	for i, f := range functions {
		lengths[i] = f.lines
	}
	slices.Sort(lengths)
	return lengths[len(lengths)/2]
}

// rooms reads every package of the module; a folder with a go.mod of its own
// (a generator) is another house.
func rooms(t *testing.T) []*room {
	t.Helper()
	byName := map[string]*room{}
	for _, top := range []string{"cmd", "internal"} {
		err := filepath.WalkDir(top, func(name string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return visit(byName, filepath.ToSlash(name), d)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	var list []*room
	for _, r := range byName {
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b *room) int { return strings.Compare(a.name, b.name) })
	return list
}

func visit(byName map[string]*room, name string, d fs.DirEntry) error {
	if d.IsDir() {
		_, err := os.Stat(filepath.Join(name, "go.mod"))
		if err == nil || d.Name() == "testdata" {
			return fs.SkipDir
		}
		return nil
	}
	if !strings.HasSuffix(name, ".go") {
		return nil
	}
	r := byName[path.Dir(name)]
	if r == nil {
		r = &room{name: path.Dir(name)}
		byName[r.name] = r
	}
	return r.read(name)
}

// read adds one source file to the room.
func (r *room) read(name string) error {
	set := token.NewFileSet()
	tree, err := parser.ParseFile(set, name, nil, parser.ParseComments)
	if err != nil {
		return err
	}
	f := file{path: name, test: strings.HasSuffix(name, "_test.go")}
	for _, spec := range tree.Imports {
		full, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return err
		}
		if own, ok := strings.CutPrefix(full, "mneme/"); ok {
			f.imports = append(f.imports, own)
		}
	}
	r.files = append(r.files, f)
	if !f.test && !ast.IsGenerated(tree) {
		r.measure(set, tree)
	}
	return nil
}

func (r *room) measure(set *token.FileSet, tree *ast.File) {
	r.doc = r.doc || tree.Doc != nil
	r.lines += set.File(tree.Pos()).LineCount()
	for _, decl := range tree.Decls {
		if f, ok := decl.(*ast.FuncDecl); ok {
			lines := set.Position(f.End()).Line - set.Position(f.Pos()).Line + 1
			r.functions = append(r.functions, function{f.Name.Name, lines})
		}
	}
}
