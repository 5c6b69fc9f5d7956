package token

import "errors"

// Metadata is what FromMetadata needs of a model file's key-value part.
type Metadata interface {
	String(key string) (string, bool)
	Strings(key string) ([]string, bool)
	Ints(key string) ([]int32, bool)
	Floats(key string) ([]float32, bool)
	Uint(key string) (uint64, bool)
	Bool(key string) (value, ok bool)
}

// FromMetadata reads the vocabulary under the tokenizer.ggml keys. It fails only
// without tokens; New judges the rest.
func FromMetadata(m Metadata) (Vocab, error) {
	const prefix = "tokenizer.ggml."
	var v Vocab
	var ok bool
	if v.Tokens, ok = m.Strings(prefix + "tokens"); !ok {
		return Vocab{}, errors.New("token: the file has no " + prefix + "tokens")
	}
	v.Types, _ = m.Ints(prefix + "token_type")
	v.Scores, _ = m.Floats(prefix + "scores")
	v.Merges, _ = m.Strings(prefix + "merges")
	v.Model, _ = m.String(prefix + "model")
	v.Pre, _ = m.String(prefix + "pre")
	v.BOS = metadataID(m, prefix+"bos_token_id")
	v.EOS = metadataID(m, prefix+"eos_token_id")
	v.EOT = metadataID(m, prefix+"eot_token_id")
	if eom := metadataID(m, prefix+"eom_token_id"); eom != None {
		v.Ends = []ID{eom}
	}
	spm := v.Model == modelSPM
	v.AddBOS = metadataBool(m, prefix+"add_bos_token", spm || preTokenizers[v.Pre].addBOS)
	v.AddEOS = metadataBool(m, prefix+"add_eos_token", false)
	v.AddSpacePrefix = spm && metadataBool(m, prefix+"add_space_prefix", true)
	return v, nil
}

func metadataBool(m Metadata, key string, otherwise bool) bool {
	if value, ok := m.Bool(key); ok {
		return value
	}
	return otherwise
}

// metadataID reads an id; one that no vocabulary can hold stays recognisable
// as wrong.
func metadataID(m Metadata, key string) ID {
	const maxID = 1<<31 - 1
	id, ok := m.Uint(key)
	if !ok {
		return None
	}
	return ID(min(id, maxID))
}
