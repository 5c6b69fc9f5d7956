package mneme_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// typedRooms are those whose exported API says what it takes and gives: no
// empty interface, in no place.
var typedRooms = []string{"internal/kv", "internal/engine", "internal/store", "internal/store/format", "internal/model"}

func TestNoEmptyInterfacesInExportedAPI(t *testing.T) {
	for _, room := range typedRooms {
		files := 0
		err := filepath.WalkDir(room, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || filepath.Dir(path) != filepath.FromSlash(room) || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			files++
			return checkExported(t, path)
		})
		if err != nil || files == 0 {
			t.Errorf("%s: %d files, %v", room, files, err)
		}
	}
}

func checkExported(t *testing.T, path string) error {
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	for _, decl := range file.Decls {
		for _, node := range exportedParts(decl) {
			ast.Inspect(node, func(n ast.Node) bool {
				if empty(n) {
					t.Errorf("%s: an empty interface in exported API", set.Position(n.Pos()))
				}
				return true
			})
		}
	}
	return nil
}

// exportedParts are the types an exported declaration shows.
func exportedParts(decl ast.Decl) (parts []ast.Node) {
	switch d := decl.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() {
			parts = append(parts, d.Type)
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			parts = append(parts, exportedSpec(spec)...)
		}
	}
	return parts
}

func exportedSpec(spec ast.Spec) (parts []ast.Node) {
	switch s := spec.(type) {
	case *ast.ValueSpec:
		if s.Type != nil && s.Names[0].IsExported() {
			parts = append(parts, s.Type)
		}
	case *ast.TypeSpec:
		if !s.Name.IsExported() {
			return nil
		}
		fields, ok := s.Type.(*ast.StructType)
		if !ok {
			return []ast.Node{s.Type}
		}
		for _, f := range fields.Fields.List {
			if len(f.Names) == 0 || f.Names[0].IsExported() {
				parts = append(parts, f.Type)
			}
		}
	}
	return parts
}

func empty(n ast.Node) bool {
	switch x := n.(type) {
	case *ast.InterfaceType:
		return len(x.Methods.List) == 0
	case *ast.Ident:
		return x.Name == "any"
	}
	return false
}
