package token

import (
	"errors"
	"fmt"
	"strings"
)

// Kinds of vocabularies, as tokenizer.ggml.model names them.
const (
	modelBPE = "gpt2"
	modelSPM = "llama"
)

// endNames are tokens that end a turn whatever the file says of EOS: control
// tokens, and user-defined ones where the value is true ("</s>" is also a tag of
// HTML).
var endNames = map[string]bool{
	"<|im_end|>":      true,
	"<|endoftext|>":   true,
	"<|end_of_text|>": true,
	"<|eot_id|>":      true,
	"<|eom_id|>":      true,
	"<|end|>":         true,
	"<|return|>":      true,
	"<|call|>":        true,
	"<end_of_turn>":   true,
	"</s>":            false,
}

// check refuses a vocabulary that contradicts itself or is of another kind.
func (v Vocab) check() error {
	if v.Model != modelBPE && v.Model != modelSPM {
		return fmt.Errorf("tokenizer model %q is not supported (supported: %s, %s)", v.Model, modelBPE, modelSPM)
	}
	if len(v.Tokens) == 0 {
		return errors.New("vocabulary is empty")
	}
	if len(v.Types) != 0 && len(v.Types) != len(v.Tokens) {
		return fmt.Errorf("vocabulary has %d tokens but %d token types", len(v.Tokens), len(v.Types))
	}
	for name, id := range map[string]ID{"BOS": v.BOS, "EOS": v.EOS, "EOT": v.EOT} {
		if id < None || int(id) >= len(v.Tokens) {
			return fmt.Errorf("%s token %d is outside of the vocabulary of %d", name, id, len(v.Tokens))
		}
	}
	for _, id := range v.Ends {
		if id < 0 || int(id) >= len(v.Tokens) {
			return fmt.Errorf("end token %d is outside of the vocabulary of %d", id, len(v.Tokens))
		}
	}
	return nil
}

// types returns the type of every token.
func (v Vocab) types() []int32 {
	types := make([]int32, len(v.Tokens))
	for i := range types {
		types[i] = typeNormal
	}
	copy(types, v.Types)
	return types
}

// ids maps spellings to ids; the first of two equal spellings counts.
func (v Vocab) ids() map[string]ID {
	ids := make(map[string]ID, len(v.Tokens))
	for i, text := range v.Tokens {
		if _, taken := ids[text]; !taken {
			ids[text] = ID(i)
		}
	}
	return ids
}

// ends collects the tokens that end a turn.
func (v Vocab) ends() map[ID]bool {
	ends := map[ID]bool{}
	for _, id := range append([]ID{v.EOS, v.EOT}, v.Ends...) {
		if id != None {
			ends[id] = true
		}
	}
	for i, kind := range v.Types {
		userDefined, ok := endNames[v.Tokens[i]]
		if ok && (kind == typeControl || kind == typeUserDefined && userDefined) {
			ends[ID(i)] = true
		}
	}
	return ends
}

// specials builds the two sets of tokens that are looked for in plain text.
func (v Vocab) specials() (control, user *trie) {
	control, user = newTrie(), newTrie()
	for i, kind := range v.Types {
		if kind == typeControl || kind == typeUserDefined {
			control.add(v.Tokens[i], ID(i))
		}
		if kind == typeUserDefined {
			user.add(v.Tokens[i], ID(i))
		}
	}
	return control, user
}

// parseMerges reads the merge list; a merge's rank is its place in it.
func parseMerges(lines []string, ids map[string]ID) (map[pair]merge, error) {
	merges := make(map[pair]merge, len(lines))
	for rank, line := range lines {
		left, right, ok := cutMerge(line)
		if !ok {
			return nil, fmt.Errorf("merge %d is %q, not two parts", rank, line)
		}
		l, okL := ids[left]
		r, okR := ids[right]
		m, okM := ids[left+right]
		if !okL || !okR || !okM {
			return nil, fmt.Errorf("merge %d, %q: a part or the whole is not in the vocabulary", rank, line)
		}
		if _, taken := merges[pair{l, r}]; !taken {
			merges[pair{l, r}] = merge{rank: uint32(rank), id: m}
		}
	}
	return merges, nil
}

// cutMerge cuts "left right"; the left part may itself begin with a space.
func cutMerge(line string) (left, right string, ok bool) {
	if len(line) < 3 {
		return "", "", false
	}
	at := strings.IndexByte(line[1:], ' ') + 1
	if at == 0 || at == len(line)-1 {
		return "", "", false
	}
	return line[:at], line[at+1:], true
}
