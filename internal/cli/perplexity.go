package cli

import (
	"context"
	"errors"
	"runtime"

	"github.com/spf13/pflag"

	"mneme/internal/bench/perplexity"
	"mneme/internal/cli/usage"
	"mneme/internal/cli/value"
	"mneme/internal/hub"
	"mneme/internal/kv"
)

// perplexityFlags are those of `mneme bench --perplexity`, which measures a
// model in this process and no server.
type perplexityFlags struct {
	file    string
	model   string
	models  string
	formats value.Choices
	windows value.Count
	window  value.Count
	weights *value.Choice
	threads value.Count
}

// perplexityOnly are the flags that mean nothing without --perplexity.
var perplexityOnly = []string{"windows", "window", "weights", "kv-format", "model", "threads"}

func (p *perplexityFlags) register(w World, flags *pflag.FlagSet) {
	o := perplexity.DefaultOptions()
	p.formats = value.SomeOf([]string{string(kv.FormatQ8), string(kv.FormatQ4), string(kv.FormatQ3)}, string(kv.FormatF16)) // which a server may be configured for
	p.windows, p.window = value.Within(o.Windows, 1, perplexity.MaxWindows), value.Within(o.Window, perplexity.MinWindow, perplexity.MaxWindow)
	p.weights = value.OneOf(string(perplexity.WeightsStored), string(perplexity.WeightsF32))
	p.threads = value.Within(runtime.NumCPU(), 1, maxThreadsPerCPU*runtime.NumCPU())
	flags.StringVar(&p.file, "perplexity", "", "measure no server, but what KV formats cost in quality over a `file`: a text, or token ids as .json or .bin")
	flags.StringVar(&p.model, "model", defaultModel, "with --perplexity: an alias (mneme ls) or a path to a .gguf `file`")
	flags.StringVar(&p.models, "models", modelsHome(w), "`folder` of the model files")
	flags.Var(&p.formats, "kv-format", "with --perplexity: the KV formats to compare with f16")
	flags.Var(&p.windows, "windows", "with --perplexity: how many windows of the text")
	flags.Var(&p.window, "window", "with --perplexity: tokens of a window")
	flags.Var(p.weights, "weights", "with --perplexity: how the model computes; f32 shows the KV format alone")
	flags.Var(&p.threads, "threads", "with --perplexity: worker threads")
}

// check refuses flags that contradict each other on the command line.
func (p *perplexityFlags) check(flags *pflag.FlagSet, spawn bool, serveArgs []string) error {
	if p.file != "" {
		if flags.Changed("addr") || spawn || len(serveArgs) > 0 {
			return usage.Errorf("--perplexity measures no server: leave --addr, --spawn and serve flags away")
		}
		return nil
	}
	for _, name := range perplexityOnly {
		if flags.Changed(name) {
			return usage.Errorf("--%s goes with --perplexity only; flags of a server of its own follow --spawn --", name)
		}
	}
	return nil
}

// run measures and prints.
func (p *perplexityFlags) run(ctx context.Context, w World, asJSON bool) error {
	found, err := hub.Resolve(ctx, p.model, hub.Options{Dir: p.models, Progress: w.Err})
	if err != nil {
		return err
	}
	o := p.options(w, found.Path)
	if err := errors.Join(found.Verify(), o.Check()); err != nil {
		return err
	}
	report, err := perplexity.Run(ctx, o)
	switch {
	case err != nil:
		return err
	case asJSON:
		return report.JSON(w.Out)
	}
	return report.Table(w.Out)
}

func (p *perplexityFlags) options(w World, path string) perplexity.Options {
	o := perplexity.DefaultOptions()
	o.Model, o.File, o.Kernel, o.Weights = path, p.file, w.Getenv("MNEME_KERNEL"), perplexity.Weights(p.weights.String())
	o.Window, o.Windows, o.Threads, o.Formats = p.window.Int(), p.windows.Int(), p.threads.Int(), nil
	for _, name := range p.formats.List() {
		o.Formats = append(o.Formats, kv.Format(name))
	}
	if terminal(w.Err) {
		o.Progress = w.Err
	}
	return o
}
