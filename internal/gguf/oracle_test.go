package gguf

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	parser "github.com/gpustack/gguf-parser-go"

	"mneme/internal/quant"
	"mneme/internal/testkit"
)

// Another reader sees the same metadata and the same tensors in the same places.
func TestAsGPUStackReadsIt(t *testing.T) {
	small := filepath.Join(t.TempDir(), "small.gguf")
	if err := os.WriteFile(small, smallFile(), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{small, testkit.Golden(t, "tiny/llama/model.gguf"), testkit.SmolLM2(t)} {
		t.Run(filepath.Base(path), func(t *testing.T) {
			ours, err := Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer ours.Close()
			theirs, err := oracle(path)
			if err != nil {
				t.Fatal(err)
			}
			compareKeys(t, ours, theirs.Header.MetadataKV)
			compareTensors(t, ours, theirs)
		})
	}
}

// oracle is the other reader, which panics on files that it does not like.
func oracle(path string) (f *parser.GGUFFile, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	return parser.ParseGGUFFile(path, parser.UseMMap())
}

func compareKeys(t *testing.T, ours *File, theirs parser.GGUFMetadataKVs) {
	t.Helper()
	if len(ours.Keys()) != len(theirs) || len(theirs) == 0 {
		t.Fatalf("%d keys, want %d", len(ours.Keys()), len(theirs))
	}
	for i, key := range ours.Keys() {
		got, want := ours.values[key], theirs[i]
		if key != want.Key || uint32(got.kind) != uint32(want.ValueType) {
			t.Fatalf("key %d: %s, a %s; want %s of type %d", i, key, got.kind, want.Key, want.ValueType)
		}
		if g, w := plain(t, ours, key), theirPlain(want); g != w {
			t.Errorf("key %s: %.200s\nwant %.200s", key, g, w)
		}
	}
}

// plain spells a value through the getter of its type.
func plain(t *testing.T, f *File, key string) string {
	t.Helper()
	v := f.values[key]
	var got any
	ok := false
	switch {
	case v.kind == kindString:
		got, ok = f.String(key)
	case v.kind == kindBool:
		got, ok = f.Bool(key)
	case v.kind.float():
		var x float64
		x, ok = f.Float(key)
		got = float32(x)
	case v.elem == kindString:
		got, ok = f.Strings(key)
	case v.kind == kindArray && v.elem.float():
		got, ok = f.Floats(key)
	case v.kind == kindArray:
		got, ok = f.Ints(key)
	case v.kind == kindI32:
		bits, _ := integerAt(v.kind, v.data)
		got, ok = int64(bits), true
	default:
		got, ok = f.Uint(key)
	}
	if !ok {
		t.Errorf("key %s: no value", key)
	}
	return fmt.Sprintf("%q", fmt.Sprint(got))
}

func theirPlain(kv parser.GGUFMetadataKV) string {
	if kv.ValueType == parser.GGUFMetadataValueTypeArray {
		return fmt.Sprintf("%q", fmt.Sprint(kv.ValueArray().Array))
	}
	return fmt.Sprintf("%q", fmt.Sprint(kv.Value))
}

func compareTensors(t *testing.T, ours *File, theirs *parser.GGUFFile) {
	t.Helper()
	tensors := ours.Tensors()
	if len(tensors) != len(theirs.TensorInfos) || len(tensors) == 0 {
		t.Fatalf("%d tensors, want %d", len(tensors), len(theirs.TensorInfos))
	}
	for i, got := range tensors {
		want := theirs.TensorInfos[i]
		at := int(theirs.TensorDataStartOffset) + int(want.Offset)
		if got.Name != want.Name || fmt.Sprint(got.Dims) != fmt.Sprint(want.Dimensions) ||
			got.Format != quant.Format(want.Type) || got.Offset != at || len(got.Data) != int(want.Bytes()) {
			t.Errorf("tensor %d: %s %v %s at %d, %d bytes; want %+v at %d, %d bytes",
				i, got.Name, got.Dims, got.Format, got.Offset, len(got.Data), want, at, want.Bytes())
		}
	}
}
