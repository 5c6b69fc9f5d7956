package store

import (
	"iter"
	"time"

	"mneme/internal/store/format"
)

// What is written of an agent, as format lays it out.
type (
	Manifest = format.Manifest
	Turn     = format.Turn
	TailRef  = format.TailRef
)

// AgentHeader is what is known of every agent without reading its manifest.
type AgentHeader struct {
	Namespace, ID, Model, Parent    string
	ModelFingerprint, KVFingerprint string
	Tokens, KVTokens, Turns         int
	Created, LastUsed               time.Time
	DiskBytes                       int64 // its manifest and the frames it names; shared ones count for each agent
}

func headerOf(m *Manifest, diskBytes int64) AgentHeader {
	return AgentHeader{
		Namespace: m.Namespace, ID: m.ID, Model: m.Model, Parent: m.Parent,
		ModelFingerprint: m.ModelFingerprint, KVFingerprint: m.KVFingerprint,
		Tokens: len(m.Tokens), KVTokens: m.KVTokens, Turns: len(m.Turns),
		Created: m.Created, LastUsed: m.LastUsed, DiskBytes: diskBytes,
	}
}

// blocksOf gives every block that a manifest names, group by group.
func blocksOf(m *Manifest) iter.Seq[format.BlockID] {
	return func(yield func(format.BlockID) bool) {
		for group := range max(1, m.Groups) {
			for _, key := range m.Keys {
				if !yield(format.BlockID{Key: key, Group: group}) {
					return
				}
			}
		}
	}
}

func tailShape(t TailRef) format.Shape {
	return format.Shape{Tokens: t.Tokens, PayloadBytes: t.Bytes}
}
