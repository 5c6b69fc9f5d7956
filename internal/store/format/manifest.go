package format

import (
	"fmt"
	"time"

	"mneme/internal/kv"
	"mneme/internal/quant"
	"mneme/internal/token"
)

// Manifest is an agent as it stands after its last turn: its lineage, its turns
// and the names of its KV.
type Manifest struct {
	Namespace, ID string
	Model         string // the name it was published under
	Parent        string // the agent it was forked from, if any
	Tokens        []token.ID
	Ends          []int // offset in the rendered text after each token; nil or one per token
	Turns         []Turn
	Keys          []kv.Key // of the sealed blocks of Tokens, in order
	Groups        int      // layer groups; each key is stored once in each. 0 reads as 1
	KVTokens      int      // tokens that have KV: sealed blocks and tail
	Tail          []TailRef

	// Filled by store's Publish.
	ModelFingerprint, KVFingerprint string
	Created, LastUsed               time.Time // kept when set, else first publish and now
}

// Turn is one published turn; counts are tokens.
type Turn struct {
	Turn       int
	Tokens     int // of the lineage after it
	TextEnd    int // offset in the text up to which a caller saw it
	Prompt     int
	Cached     int
	Completion int
	Finish     string
	Created    time.Time
}

// TailRef says where a group's unfinished block lies. It is immutable and may be
// named by several manifests.
type TailRef struct {
	Group   int
	Form    quant.KVForm
	Segment uint32
	Offset  int64
	Tokens  int
	Bytes   int    // of the payload
	Sum     uint32 // the frame's: it and no other
}

// CheckManifest says what about a manifest can never be true.
func CheckManifest(m *Manifest) error {
	switch {
	case m.Ends != nil && len(m.Ends) != len(m.Tokens):
		return fmt.Errorf("manifest of %q: %d text offsets for %d tokens", m.ID, len(m.Ends), len(m.Tokens))
	case m.KVTokens < 0 || m.KVTokens > len(m.Tokens):
		return fmt.Errorf("manifest of %q: KV of %d tokens, %d are there", m.ID, m.KVTokens, len(m.Tokens))
	case m.Groups < 0:
		return fmt.Errorf("manifest of %q: %d layer groups", m.ID, m.Groups)
	}
	return nil
}
