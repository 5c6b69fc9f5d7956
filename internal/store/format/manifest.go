package format

import (
	"cmp"
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
	BlockTokens   int      // tokens per sealed block. 0 reads as kv.BlockTokens
	Groups        int      // layer groups; each key is stored once in each. 0 reads as 1
	KVTokens      int      // tokens that have KV: sealed blocks and tail
	Tail          []TailRef
	Pinned        bool // its blocks are to stay in memory as long as any other's can go

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

// TailRef names a group's unfinished block. What it names is immutable and may be
// named by several manifests.
type TailRef struct {
	Key    kv.Key // of its tokens after the last sealed block, see TailKey
	Group  int
	Form   quant.KVForm
	Tokens int
	Bytes  int // of the payload
}

// ID is what the tail's frame is found by.
func (t TailRef) ID() BlockID { return BlockID{t.Key, t.Group} }

// Shape is that of the tail's frame.
func (t TailRef) Shape() Shape { return Shape{Tokens: t.Tokens, PayloadBytes: t.Bytes} }

// Scope is what the keys of the manifest are made in.
func (m *Manifest) Scope() kv.Scope {
	return kv.Scope{Fingerprint: m.KVFingerprint, Namespace: m.Namespace}
}

// LastKey is that of the last sealed block; the root without one.
func (m *Manifest) LastKey() kv.Key {
	if len(m.Keys) == 0 {
		return m.Scope().Root()
	}
	return m.Keys[len(m.Keys)-1]
}

// TailKey is the key of an unfinished block of these tokens: made as a sealed
// block's, and no sealed block's, for those have more tokens.
func (m *Manifest) TailKey(tokens []token.ID) kv.Key { return m.Scope().Next(m.LastKey(), tokens) }

// At is the agent as it was after a turn, 0 being empty; false when it has no
// such turn. It names the sealed blocks that hold KV of whole blocks of its
// tokens, and a tail only after the last turn.
func (m Manifest) At(turn int) (Manifest, bool) {
	if len(m.Turns) > 0 && m.Turns[len(m.Turns)-1].Turn == turn {
		return m, true
	}
	if turn == 0 {
		return m.cut(0, 0), true
	}
	for i, t := range m.Turns {
		if t.Turn == turn && t.Tokens <= len(m.Tokens) {
			return m.cut(i+1, t.Tokens), true
		}
	}
	return Manifest{}, false
}

// cut keeps the first turns and tokens. What it keeps cannot be appended to in place.
func (m Manifest) cut(turns, tokens int) Manifest {
	size := cmp.Or(m.BlockTokens, kv.BlockTokens)
	keys := min(len(m.Keys), tokens/size)
	m.Turns, m.Tokens, m.Keys = m.Turns[:turns:turns], m.Tokens[:tokens:tokens], m.Keys[:keys:keys]
	if m.Ends != nil {
		m.Ends = m.Ends[:tokens:tokens]
	}
	m.KVTokens, m.Tail = keys*size, nil
	return m
}

// maxGroups is more layer groups than any model has.
const maxGroups = 1 << 10

// CheckManifest says what about a manifest can never be true.
func CheckManifest(m *Manifest) error {
	switch {
	case m.Ends != nil && len(m.Ends) != len(m.Tokens):
		return fmt.Errorf("manifest of %q: %d text offsets for %d tokens", m.ID, len(m.Ends), len(m.Tokens))
	case m.KVTokens < 0 || m.KVTokens > len(m.Tokens):
		return fmt.Errorf("manifest of %q: KV of %d tokens, %d are there", m.ID, m.KVTokens, len(m.Tokens))
	case m.Groups < 0 || m.Groups > maxGroups:
		return fmt.Errorf("manifest of %q: %d layer groups", m.ID, m.Groups)
	case m.BlockTokens < 0 || m.BlockTokens > maxTokens:
		return fmt.Errorf("manifest of %q: blocks of %d tokens", m.ID, m.BlockTokens)
	case len(m.Keys) > len(m.Tokens):
		return fmt.Errorf("manifest of %q: %d keys for %d tokens", m.ID, len(m.Keys), len(m.Tokens))
	}
	return checkTurns(m)
}

func checkTurns(m *Manifest) error {
	for _, t := range m.Turns {
		if t.Tokens < 0 || t.Tokens > len(m.Tokens) {
			return fmt.Errorf("manifest of %q: turn %d has %d tokens, %d are there", m.ID, t.Turn, t.Tokens, len(m.Tokens))
		}
	}
	return nil
}
