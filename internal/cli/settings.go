package cli

import (
	"runtime"
	"time"

	"github.com/spf13/pflag"

	"mneme/internal/cli/value"
	"mneme/internal/cli/wire"
	"mneme/internal/engine"
	"mneme/internal/kv"
)

const (
	defaultModel = "smollm2"
	defaultGap   = 100 * time.Millisecond

	maxThreadsPerCPU = 4
	maxBatch         = 1024
	maxStepTokens    = 65536
)

// engineFlags are those of every command that runs a model itself.
type engineFlags struct {
	model    string
	data     string
	models   string
	kvFormat *value.Choice
	kvMemory value.Size
	kvDisk   value.Size
	minFree  value.Size
	context  value.Count
	maxBatch value.Count
	step     value.Count
	threads  value.Count
	gap      value.Span
	restore  *value.Choice
	agentTTL value.Span
	keyFile  string
}

func (f *engineFlags) register(w World, flags *pflag.FlagSet) {
	f.kvFormat = value.OneOf(string(kv.FormatQ4), string(kv.FormatQ3), string(kv.FormatQ8), string(kv.FormatF16))
	f.restore = value.OneOf(string(engine.RestoreAuto), string(engine.RestoreAlways))
	f.gap = value.Span(defaultGap)
	f.context = value.AtLeast(wire.MinContext)
	f.maxBatch, f.step = value.Within(16, 1, maxBatch), value.Within(512, 1, maxStepTokens)
	f.threads = value.Within(runtime.NumCPU(), 1, maxThreadsPerCPU*runtime.NumCPU())
	flags.StringVar(&f.model, "model", defaultModel, "an alias (mneme ls) or a path to a .gguf `file`")
	flags.StringVar(&f.data, "data", dataHome(w), "`folder` of the agents and what they remember")
	flags.StringVar(&f.models, "models", modelsHome(w), "`folder` of the model files")
	flags.Var(f.kvFormat, "kv-format", "how full blocks are stored: fewer bits hold more agents, more are nearer to what the model computed")
	flags.Var(&f.kvMemory, "kv-memory", "memory for KV: bytes, or a share of the free memory (default a quarter of it, but room for one context)")
	flags.Var(&f.kvDisk, "kv-disk", "disk for KV, bytes or a share of what is free: above it, KV that no agent names is dropped (default no bound)")
	flags.Var(&f.minFree, "min-free", "what is left free on the disk, bytes or a share of it (default 1GiB or 5%, whichever is less)")
	flags.Var(&f.context, "context", "tokens an agent may have (default what the model was trained for)")
	flags.Var(&f.maxBatch, "max-batch", "turns that run at the same time")
	flags.Var(&f.step, "step-tokens", "tokens per step: smaller lets others wait less, larger reads prompts faster")
	flags.Var(&f.threads, "threads", "worker threads")
	flags.Var(&f.gap, "gap-target", "how long running turns should wait for their next token while prompts are read beside them; 0 reads prompts as fast as it goes")
	flags.Var(f.restore, "restore", "where KV on disk comes from after a restart: auto reads it or computes it again, whichever is quicker; always reads it")
	flags.Var(&f.agentTTL, "agent-ttl", "delete an agent that nobody used for so long, as in 720h or 30d (default never)")
	flags.StringVar(&f.keyFile, "kv-key-file", "", "`file` with the master key that encrypts the data folder: 32 bytes, or them in hex or base64")
}

// settings are the flags as the plain values that wire the rooms.
func (f *engineFlags) settings(w World) wire.Settings {
	return wire.Settings{
		Model:     f.model,
		DataDir:   f.data,
		ModelsDir: f.models,
		KVFormat:  kv.Format(f.kvFormat.String()),
		KVMemory:  f.kvMemory,
		KVDisk:    f.kvDisk,
		MinFree:   f.minFree,
		Context:   f.context.Int(),
		MaxBatch:  f.maxBatch.Int(),
		StepSize:  f.step.Int(),
		Threads:   f.threads.Int(),
		GapTarget: f.gap.Duration(),
		Restore:   engine.RestoreMode(f.restore.String()),
		AgentTTL:  f.agentTTL.Duration(),
		KeyFile:   f.keyFile,
		Kernel:    w.Getenv("MNEME_KERNEL"),
		CrashAt:   w.Getenv("MNEME_CRASH_AT"),
		Progress:  w.Err,
	}
}
