package store

import (
	"slices"
	"time"

	"mneme/internal/store/format"
)

// What is written of an agent, as format lays it out.
type (
	Manifest = format.Manifest
	Turn     = format.Turn
	TailRef  = format.TailRef
)

// AgentHeader is what is known of every agent without reading its file.
type AgentHeader struct {
	Namespace, ID, Model, Parent    string
	ModelFingerprint, KVFingerprint string
	Tokens, KVTokens, Turns         int
	Created, LastUsed               time.Time
	Pinned                          bool
	DiskBytes                       int64  // its file and the frames it names; shared ones count for each agent
	Damaged                         string // why it cannot be read; empty for all others
}

func headerOf(c *format.Card, damaged string) AgentHeader {
	return AgentHeader{
		Namespace: c.Namespace, ID: c.ID, Model: c.Model, Parent: c.Parent,
		ModelFingerprint: c.ModelFingerprint, KVFingerprint: c.KVFingerprint,
		Tokens: c.Tokens, KVTokens: c.KVTokens, Turns: c.Turns,
		Created: c.Created, LastUsed: c.LastUsed, Pinned: c.Pinned, DiskBytes: c.DiskBytes, Damaged: damaged,
	}
}

// clipped shares m's lists so that nobody who appends to them changes them.
func clipped(m Manifest) Manifest {
	m.Tokens, m.Ends, m.Turns = slices.Clip(m.Tokens), slices.Clip(m.Ends), slices.Clip(m.Turns)
	m.Keys, m.Tail = slices.Clip(m.Keys), slices.Clip(m.Tail)
	return m
}
