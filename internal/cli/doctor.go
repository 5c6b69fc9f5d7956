package cli

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"mneme/internal/cli/machine"
	"mneme/internal/cli/value"
	"mneme/internal/hub"
	"mneme/internal/kv"
	"mneme/internal/model"
	"mneme/internal/tensor"
	"mneme/internal/vfs"
)

const (
	littleDisk = 1 << 30 // bytes free, below which agents soon have no room
	noDisk     = 1 << 20 // bytes free, below which nothing works
	pipLimit   = 20 * time.Second
)

// verdict is what a look at one thing found.
type verdict struct {
	level string // good, warn or bad
	text  string
}

const (
	good = "ok"
	warn = "warn"
	bad  = "FAIL"
)

// doctorCommand is `mneme doctor` with its flags.
type doctorCommand struct {
	world  World
	engine engineFlags
}

func newDoctor(w World) *cobra.Command {
	d := &doctorCommand{world: w}
	cmd := &cobra.Command{
		Use: "doctor", Short: "Say what this machine has and lacks for serving a model", Args: exactly(0, "no arguments, only flags"),
		RunE: func(cmd *cobra.Command, _ []string) error { return d.run(cmd.Context()) },
	}
	d.engine.register(w, cmd.Flags())
	return cmd
}

// run prints a verdict per thing; it fails when something essential is missing.
func (d *doctorCommand) run(ctx context.Context) error {
	t := tabwriter.NewWriter(d.world.Out, 0, 0, 2, ' ', 0)
	missing := 0
	say := func(what string, v verdict) {
		fmt.Fprintf(t, "%s\t%s\t%s\n", v.level, what, v.text)
		if v.level == bad {
			missing++
		}
	}
	say("processor", processor())
	say("kernels", d.kernels())
	say("memory", memory())
	say("data", folder(d.engine.data))
	say("models", folder(d.engine.models))
	pip := pip(ctx)
	say("pip", pip)
	config, v := d.model(pip.level == good)
	say("model", v)
	if config != nil {
		d.agents(say, *config)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if missing > 0 {
		return fmt.Errorf("%d essential things are missing", missing)
	}
	return nil
}

// processor says what the CPU has of what kernels ask for.
func processor() verdict {
	has := "nothing that kernels ask for"
	if features := tensor.Features(); len(features) > 0 {
		has = strings.Join(features, " ")
	}
	return verdict{good, fmt.Sprintf("%s, %d CPUs, %s", runtime.GOARCH, runtime.NumCPU(), has)}
}

func (d *doctorCommand) kernels() verdict {
	k, err := tensor.Pick(d.world.Getenv("MNEME_KERNEL"))
	if err != nil {
		return verdict{bad, err.Error()}
	}
	var all []string
	for _, v := range tensor.Variants() {
		all = append(all, v.Name())
	}
	text := fmt.Sprintf("%s, numerics class %s; this machine runs %s", k.Name(), k.Class(), strings.Join(all, ", "))
	if k.Name() == "generic" {
		return verdict{warn, text + ": correct, but many times slower"}
	}
	return verdict{good, text}
}

func memory() verdict {
	free, err := machine.FreeMemory()
	if err != nil {
		return verdict{warn, err.Error() + "; give --kv-memory"}
	}
	return verdict{good, value.Bytes(free) + " free"}
}

// folder checks that files can be written there, or in the nearest folder
// above it that exists.
func folder(dir string) verdict {
	at, err := filepath.Abs(dir)
	if err != nil {
		return verdict{bad, err.Error()}
	}
	for {
		if _, err := os.Stat(at); err == nil || at == filepath.Dir(at) {
			break
		}
		at = filepath.Dir(at)
	}
	if err := unix.Access(at, unix.W_OK|unix.X_OK); err != nil {
		return verdict{bad, fmt.Sprintf("%s: cannot write to %s: %v", dir, at, err)}
	}
	free, err := vfs.Real().Free(at)
	if err != nil {
		return verdict{warn, fmt.Sprintf("%s: %v", dir, err)}
	}
	v := verdict{good, fmt.Sprintf("%s, %s free", dir, value.Bytes(int64(free)))}
	if free < noDisk {
		v.level = bad
	} else if free < littleDisk {
		v.level = warn
	}
	return v
}

// pip looks for the client that fetches models.
func pip(ctx context.Context) verdict {
	ctx, cancel := context.WithTimeout(ctx, pipLimit)
	defer cancel()
	for _, client := range [][]string{{"python3", "-m", "pip"}, {"pip3"}, {"pip"}} {
		out, err := exec.CommandContext(ctx, client[0], append(client[1:], "--version")...).Output()
		if err == nil {
			text, _, _ := strings.Cut(string(bytes.TrimSpace(out)), " from ")
			return verdict{good, text}
		}
	}
	return verdict{warn, "not found: models cannot be fetched, only given as a path"}
}

// model looks at the model file without loading it. The shape is nil when there
// is none to read.
func (d *doctorCommand) model(canFetch bool) (*model.Config, verdict) {
	found, err := d.modelFile()
	if err != nil {
		return nil, verdict{bad, err.Error()}
	}
	if found.Path == "" && canFetch {
		return nil, verdict{good, d.engine.model + " is not here yet; it is fetched at first use"}
	}
	if found.Path == "" {
		return nil, verdict{bad, d.engine.model + " is not here, and without pip it cannot be fetched"}
	}
	file, err := openModel(found)
	if err != nil {
		return nil, verdict{bad, err.Error()}
	}
	defer file.Close()
	c, err := model.ReadConfig(file)
	if err != nil {
		return nil, verdict{bad, fmt.Sprintf("%s: %v", found.Path, err)}
	}
	return &c, verdict{good, fmt.Sprintf("%s: %s, %d layers, context %d", found.Path, c.Arch, c.Layers, c.Context)}
}

// modelFile is the model as it lies here; without a path it has to be fetched
// first.
func (d *doctorCommand) modelFile() (hub.Model, error) {
	here, err := hub.List(d.engine.models)
	if err != nil {
		return hub.Model{}, err
	}
	for _, m := range here {
		if m.Alias == d.engine.model {
			return m, nil
		}
	}
	if slices.ContainsFunc(hub.Aliases(), func(a hub.Alias) bool { return a.Name == d.engine.model }) {
		return hub.Model{}, nil
	}
	return hub.Resolve(context.Background(), d.engine.model, hub.Options{Dir: d.engine.models})
}

// agents says how many conversations fit in memory, per KV format.
func (d *doctorCommand) agents(say func(string, verdict), c model.Config) {
	s := d.engine.settings(d.world)
	for _, format := range []kv.Format{kv.FormatQ4, kv.FormatQ8, kv.FormatF16} {
		spec := (&model.Model{Config: c}).Spec(format)
		say("KV "+string(format), holds(s, spec, c.Context))
	}
}

func holds(s Settings, spec kv.Spec, modelContext int) verdict {
	b, err := poolBudget(s, spec, modelContext)
	switch {
	case err != nil:
		return verdict{bad, err.Error()}
	case b.warning() != "":
		return verdict{warn, b.warning()}
	}
	return verdict{good, fmt.Sprintf("%s hold %d agents of 4096 tokens or %d of 8192", value.Bytes(b.bytes), b.bytes/agentBytes(spec, 4096), b.bytes/agentBytes(spec, 8192))}
}
