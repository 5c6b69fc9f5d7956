package terms

import (
	"mneme/internal/chat"
	"mneme/internal/engine/roster"
	"mneme/internal/engine/tally"
	"mneme/internal/kv"
	"mneme/internal/store"
	"mneme/internal/token"
)

// Info describes what is served.
type Info struct {
	Model           string
	Fingerprint     string
	Context         int
	KVFormat        string
	KVBytesPerToken int
	KV              kv.Spec // what the KV of a table takes in memory
	Kernel          string
	NumericsClass   string
	Template        *chat.Template
	Tokenizer       *token.Tokenizer
}

// Stats are the engine's counters since the start and its state now.
type Stats struct {
	Pool            kv.Stats
	Store           store.Stats
	Running         int
	Waiting         int
	TokensComputed  int64 // of prompts
	TokensCached    int64 // of prompts
	TokensGenerated int64
	TurnsFinished   int64
	TurnsFailed     int64
	Preempted       int64
	Surplus         int64 // ends of sequences that did not run: always 0, or a defect
	StoreErrors     int64
	Restored        int64 // blocks that were read from disk
	Recomputed      int64 // blocks that were on disk and were computed: cheaper, as measured
	ShareOverruled  int64 // agents below their share that had to give their blocks up
	Expired         int64 // agents deleted because they were unused for Config.AgentTTL
	OtherFormat     int64 // blocks that were on disk in another KV format and were computed again
	Refused         roster.Refused
	RestoreRate     float64 // bytes per second, lately; 0 when not known
	PrefillRate     float64 // tokens per second
	Stuck           int64   // steps that took longer than Config.StepLimit
	Steps           tally.Figures
}
