// Package terms is what is agreed with an engine: what it is made of and bounded
// by, and what it says of itself. It runs nothing.
package terms

import (
	"cmp"
	"log/slog"
	"runtime"
	"time"

	"mneme/internal/chat"
	"mneme/internal/kv"
	"mneme/internal/model"
	"mneme/internal/store"
	"mneme/internal/token"
)

// Config is what an engine is made of and bounded by.
type Config struct {
	Name       string // of the served model
	Model      *model.Model
	Tokenizer  *token.Tokenizer
	Template   *chat.Template // nil for a base model
	Pool       *kv.Pool
	Store      *store.Store
	Context    int // positions of a sequence; the model's own if 0
	MaxBatch   int // sequences in a step; 16 if 0
	StepTokens int // tokens in a step; 512 if 0
	Threads    int // workers; one per CPU if 0
	MaxQueue   int // turns that run or wait; 1024 if 0
	// MaxQueuePerAgent bounds those of one agent; 64 if 0.
	MaxQueuePerAgent int
	// GapTarget is how long running turns should wait for their next token while
	// prompts are computed beside them; 0 lets a step have all its tokens.
	GapTarget time.Duration
	// StepLimit is how long a step may take before it is reported; 30 s if 0.
	StepLimit time.Duration
	Restore   RestoreMode // RestoreAuto if ""
	// AgentTTL is how long an agent may be unused before it is deleted; 0 is for ever.
	AgentTTL time.Duration
	Log      *slog.Logger
	Clock    func() time.Time
	// Observe, if set, is called before each step with its sequences and tokens.
	Observe func(Step)
	// Fault, if set, is asked at every point where a turn can fail; its error is
	// the failure. For the tests that make each of them happen.
	Fault func(FaultPoint) error
	// SealedOwn breaks rule 1 on purpose (model.Limits); for the test that shows
	// that the tests of one answer can fail.
	SealedOwn bool
}

// FaultPoint is a place where a turn can fail.
type FaultPoint string

// The fault points of a turn, in its order.
const (
	FaultEncode   FaultPoint = "encode"   // the prompt's text to ids
	FaultAllocate FaultPoint = "allocate" // blocks for it, also ahead of a step
	FaultRestore  FaultPoint = "restore"  // a block from disk
	FaultForward  FaultPoint = "forward"
	FaultSample   FaultPoint = "sample"
	FaultSave     FaultPoint = "save" // the turn's publication
)

// Step describes a batch.
type Step struct{ Sequences, Tokens, LargestChunk int }

// Defaults fills in what is left out.
func (c *Config) Defaults() {
	c.numbers()
	c.Restore = cmp.Or(c.Restore, RestoreAuto)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
}

func (c *Config) numbers() {
	if c.Context == 0 {
		c.Context = c.Model.Context
	}
	c.MaxBatch = cmp.Or(c.MaxBatch, 16)
	c.StepTokens = cmp.Or(c.StepTokens, 512)
	c.Threads = cmp.Or(c.Threads, runtime.NumCPU())
	c.MaxQueue = cmp.Or(c.MaxQueue, 1024)
	c.MaxQueuePerAgent = cmp.Or(c.MaxQueuePerAgent, 64)
	c.StepLimit = cmp.Or(c.StepLimit, 30*time.Second)
}

// The priorities of turns.
const (
	MinPriority = -10
	MaxPriority = 10
)

// Score says how the prompt's tokens are scored.
type Score struct{ Alternatives int } // most likely tokens at each place, 0 to 20

// RestoreMode says when blocks that are on disk are read.
type RestoreMode string

const (
	// RestoreAuto reads them unless computing them is measured to be cheaper.
	RestoreAuto RestoreMode = "auto"
	// RestoreAlways reads them.
	RestoreAlways RestoreMode = "always"
)
