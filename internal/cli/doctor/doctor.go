// Package doctor looks at this machine and at a model's file and says whether
// they go together. It loads nothing: of a model it reads the head. What memory a
// server would take is wire's arithmetic, what a block costs kv's.
package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"mneme/internal/cli/wire"
)

// Doctor is what to look at and where to say it.
type Doctor struct {
	Settings wire.Settings
	Out      io.Writer
	AsJSON   bool
	// LooksInside is for a model that was asked for by name: its head is read and
	// the whole of it weighed. Otherwise the model is one thing of many, and its
	// bytes are compared with what was fetched.
	LooksInside bool
}

// Check is what a look at one thing found.
type Check struct {
	What  string `json:"what"`
	Level level  `json:"level"`
	Text  string `json:"text"`
}

type level string

const (
	good level = "ok"
	warn level = "warn"
	bad  level = "FAIL"
)

// verdict is a check that does not say yet of what.
type verdict struct {
	level level
	text  string
}

// report is everything that was found.
type report struct {
	Checks []Check `json:"checks"`
	Model  *Fit    `json:"model,omitempty"`
}

func (r *report) say(what string, v verdict) {
	r.Checks = append(r.Checks, Check{What: what, Level: v.level, Text: v.text})
}

// failure is nil when nothing essential is missing.
func (r *report) failure(model string) error {
	var failed []string
	for _, c := range r.Checks {
		if c.Level == bad {
			failed = append(failed, c.What)
		}
	}
	switch {
	case len(failed) == 0:
		return nil
	case len(failed) == 1 && r.Model != nil && !r.Model.Fits:
		return fmt.Errorf("%s does not fit here", model)
	}
	return fmt.Errorf("something essential is missing: %s", strings.Join(failed, ", "))
}

// Run prints a verdict per thing; it fails when something essential is missing.
func (d Doctor) Run(ctx context.Context) error {
	r := &report{}
	r.say("processor", processor())
	r.say("kernels", d.kernels())
	r.say("memory", memory())
	r.say("data", folder(d.Settings.DataDir))
	r.say("models", folder(d.Settings.ModelsDir))
	if err := d.modelInto(ctx, r); err != nil {
		return err
	}
	if err := d.print(r); err != nil {
		return err
	}
	return r.failure(d.Settings.Model)
}

// modelInto adds what there is to say of the model.
func (d Doctor) modelInto(ctx context.Context, r *report) error {
	found, err := d.find(ctx)
	if err != nil {
		r.say("model", verdict{bad, err.Error()})
		return nil
	}
	if !d.LooksInside || found.Path == "" {
		p := pip(ctx)
		r.say("pip", p)
		if found.Path == "" {
			r.say("model", notHere(d.Settings.Model, p.level == good))
			return nil
		}
	}
	head, err := d.open(found)
	if err != nil {
		r.say("model", verdict{bad, err.Error()})
		return nil
	}
	r.say("model", head.introduce())
	if !d.LooksInside {
		for _, format := range formats {
			r.say("KV "+string(format), d.holds(head, format))
		}
		return nil
	}
	r.Model = d.weigh(head, wire.MemoryNow())
	r.Model.into(r)
	return nil
}

func notHere(name string, canFetch bool) verdict {
	if canFetch {
		return verdict{good, name + " is not here yet; it is fetched at first use"}
	}
	return verdict{bad, name + " is not here, and without pip it cannot be fetched"}
}

func (d Doctor) print(r *report) error {
	if d.AsJSON {
		e := json.NewEncoder(d.Out)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	t := tabwriter.NewWriter(d.Out, 0, 0, 2, ' ', 0)
	for _, c := range r.Checks {
		fmt.Fprintf(t, "%s\t%s\t%s\n", c.Level, c.What, c.Text)
	}
	if r.Model != nil {
		r.Model.table(t)
	}
	return t.Flush()
}
