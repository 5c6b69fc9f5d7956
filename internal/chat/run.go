package chat

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ardanlabs/jinja"
)

// Limits of one render, far above what real templates take. Those of bytes grow
// with what the request brings.
const (
	maxSteps      = 1_000_000
	maxDepth      = 64      // calls of macros in one another
	maxRange      = 100_000 // items
	maxNesting    = 100     // lists and dicts in one another
	maxTime       = 10 * time.Second
	minValueBytes = 1 << 20
	minOutBytes   = 4 << 20
)

// run is one render under way: what it may still do, and why it must end. The
// functions that source puts into templates are its methods.
type run struct {
	ctx        context.Context
	steps      int
	depth      int
	outBytes   int
	valueBytes int   // of one value, as it would be printed
	fault      error // the first that ended it
}

// errSlow is what a render's own time limit says.
var errSlow = fmt.Errorf("template takes longer than %v", maxTime)

func newRun(ctx context.Context, inputBytes int) *run {
	return &run{ctx: ctx, steps: maxSteps, outBytes: minOutBytes + 16*inputBytes, valueBytes: minValueBytes + 4*inputBytes}
}

// fail ends the run; the engine's own errors do not tell whose they are.
func (r *run) fail(err error) error {
	if r.fault == nil {
		r.fault = err
	}
	return r.fault
}

func (r *run) failf(format string, args ...any) error { return r.fail(fmt.Errorf(format, args...)) }

// tick counts a step and looks whether the render is still wanted.
func (r *run) tick() error {
	if r.steps--; r.steps < 0 {
		return r.failf("template takes more than %d steps", maxSteps)
	}
	if r.ctx.Err() != nil {
		return r.fail(context.Cause(r.ctx))
	}
	return r.fault
}

type function func(args []jinja.Value, named map[string]jinja.Value) (jinja.Value, error)

// functions are what templates call, by themselves and where source made them.
func (r *run) functions() map[string]jinja.Value {
	all := make(map[string]jinja.Value)
	for called, f := range map[string]function{
		"__out": r.out, "__keep": r.keep, "__fit": r.keep, "__escape": r.escape, "__e": r.escape, "__put": r.put, "__tick": r.again, "__step": r.weighed,
		"__enter": r.enter, "__leave": r.leave, "__mul": r.mul, "__member": r.member,
		"__append": r.append, "__insert": r.insert, "__update": r.update, "__replace": r.replace, "__format": r.format,
		"__join": r.join, "__joining": r.joining, "__indent": r.indent, "__map": r.mapped, "__tojson": r.tojson,
		"range": r.span, "dict": r.dict, "namespace": r.dict, "cycler": r.cycler,
	} {
		all[called] = jinja.NewCallable(called, r.ticking(f))
	}
	return all
}

func (r *run) ticking(f function) function {
	return func(args []jinja.Value, named map[string]jinja.Value) (jinja.Value, error) {
		if err := r.tick(); err != nil {
			return jinja.Undefined(), err
		}
		return f(args, named)
	}
}

// weigh returns about how many bytes v takes when printed.
func (r *run) weigh(v jinja.Value) (int, error) {
	if v.IsString() && len(v.AsString()) <= r.valueBytes {
		return len(v.AsString()), nil
	}
	s := scale{room: r.valueBytes}
	if err := s.put(v, 0); err != nil {
		return 0, r.fail(err)
	}
	return r.valueBytes - s.room, nil
}

// scale goes through a value until its room is used up, or it meets a container that it must not.
type scale struct {
	room      int
	container any  // *jinja.List or *jinja.Dict that must not lie in the value; nil for none
	lasting   bool // the value is to lie in a container: nothing that changes by itself may be in it
}

var (
	errHeavy = errors.New("template makes a value that is too large")
	errDeep  = fmt.Errorf("template makes more than %d lists or dicts in one another", maxNesting)
	errCycle = errors.New("template puts a list, dict or loop into itself")
)

func (s *scale) put(v jinja.Value, depth int) error {
	if depth > maxNesting {
		return errDeep
	}
	switch {
	case v.IsString():
		return s.take(len(v.AsString()) + 8) // quotes and a comma, and what it takes in memory
	case v.IsList():
		return s.list(v.AsList(), depth)
	case v.IsDict():
		return s.dict(v.AsDict(), depth)
	}
	return s.take(8)
}

func (s *scale) take(n int) error {
	if s.room -= n; s.room < 0 {
		return errHeavy
	}
	return nil
}

func (s *scale) list(l *jinja.List, depth int) error {
	if l == s.container {
		return errCycle
	}
	err := s.take(8)
	for i := 0; err == nil && i < len(l.Items); i++ {
		err = s.put(l.Items[i], depth+1)
	}
	return err
}

func (s *scale) dict(d *jinja.Dict, depth int) error {
	if d == s.container || s.lasting && isLoop(d) {
		return errCycle
	}
	err := s.take(8)
	for i := 0; err == nil && i < len(d.Keys); i++ {
		if err = s.take(len(d.Keys[i])); err == nil {
			err = s.put(d.Data[d.Keys[i]], depth+1)
		}
	}
	return err
}

// isLoop tells a loop's own variable, which the engine changes: the two are in no other.
func isLoop(d *jinja.Dict) bool { return d.Data["cycle"].IsCallable() && d.Data["revindex0"].IsInt() }

// lasting weighs a value that is about to lie in a container.
func (r *run) lasting(v jinja.Value, container any) error {
	s := scale{room: r.valueBytes, container: container, lasting: true}
	if err := s.put(v, 1); err != nil {
		return r.fail(err)
	}
	return nil
}

// out lets a value be printed; what the engine prints in another way than Python is put right.
func (r *run) out(args []jinja.Value, _ map[string]jinja.Value) (jinja.Value, error) {
	if len(args) == 0 {
		return jinja.Undefined(), nil
	}
	if len(args) > 1 {
		return jinja.Undefined(), r.failf("template prints a list without brackets")
	}
	n, err := r.weigh(args[0])
	if err != nil {
		return jinja.Undefined(), err
	}
	if r.outBytes -= n; r.outBytes < 0 {
		return jinja.Undefined(), r.failf("template prints too much")
	}
	switch {
	case args[0].IsNone():
		return jinja.NewString("None"), nil
	case args[0].IsFloat():
		return jinja.NewString(pythonFloat(args[0].AsFloat())), nil
	}
	return args[0], nil
}

// keep lets a value be kept in a variable, or go on through an expression.
func (r *run) keep(args []jinja.Value, _ map[string]jinja.Value) (jinja.Value, error) {
	if len(args) != 1 {
		return jinja.Undefined(), r.failf("template sets a variable to a list without brackets")
	}
	_, err := r.weigh(args[0])
	return args[0], err
}

// put lets the second value become a member of the first.
func (r *run) put(args []jinja.Value, _ map[string]jinja.Value) (jinja.Value, error) {
	if len(args) != 2 || !args[0].IsDict() {
		return jinja.Undefined(), r.failf("template sets a member of what is no namespace")
	}
	return args[1], r.lasting(args[1], args[0].AsDict())
}

// again is a step that is true.
func (r *run) again([]jinja.Value, map[string]jinja.Value) (jinja.Value, error) {
	return jinja.NewBool(true), nil
}

// weighed weighs the variables of a loop or the parameters of a macro, and prints nothing.
func (r *run) weighed(args []jinja.Value, _ map[string]jinja.Value) (jinja.Value, error) {
	for _, v := range args {
		if _, err := r.weigh(v); err != nil {
			return jinja.Undefined(), err
		}
	}
	return jinja.NewString(""), nil
}

func (r *run) enter(args []jinja.Value, named map[string]jinja.Value) (jinja.Value, error) {
	if r.depth++; r.depth > maxDepth {
		return jinja.Undefined(), r.failf("template calls more than %d macros in one another", maxDepth)
	}
	return r.weighed(args, named)
}

func (r *run) leave([]jinja.Value, map[string]jinja.Value) (jinja.Value, error) {
	r.depth--
	return jinja.NewString(""), nil
}

// member is what a dict has under a name that is also a method's.
func (r *run) member(args []jinja.Value, _ map[string]jinja.Value) (jinja.Value, error) {
	if !args[0].IsDict() {
		return jinja.Undefined(), nil
	}
	v, _ := args[0].AsDict().Get(args[1].AsString())
	return v, nil
}

// dict has its members by name: the engine hands them over in no order.
func (r *run) dict(args []jinja.Value, named map[string]jinja.Value) (jinja.Value, error) {
	made := jinja.NewDict()
	d := made.AsDict()
	if len(args) > 0 && args[0].IsDict() {
		from := args[0].AsDict()
		for _, key := range from.Keys {
			d.Set(key, from.Data[key])
		}
	}
	for _, key := range slices.Sorted(maps.Keys(named)) {
		d.Set(key, named[key])
	}
	return made, nil
}

// cycler is not supported: it changes what it holds.
func (r *run) cycler([]jinja.Value, map[string]jinja.Value) (jinja.Value, error) {
	return jinja.Undefined(), r.failf("template calls cycler, which is not supported")
}

// span is range.
func (r *run) span(args []jinja.Value, _ map[string]jinja.Value) (jinja.Value, error) {
	bounds := make([]int64, len(args))
	for i, v := range args {
		if !v.IsInt() {
			return jinja.Undefined(), r.failf("template calls range with %s", v)
		}
		bounds[i] = v.AsInt()
	}
	from, to, step := int64(0), int64(0), int64(1)
	switch len(bounds) {
	case 1:
		to = bounds[0]
	case 2:
		from, to = bounds[0], bounds[1]
	case 3:
		from, to, step = bounds[0], bounds[1], bounds[2]
	}
	if len(bounds) == 0 || len(bounds) > 3 || step == 0 {
		return jinja.Undefined(), r.failf("template calls range with %d numbers", len(bounds))
	}
	return r.sequence(from, to, step)
}

// sequence makes the list; four items count as a step.
func (r *run) sequence(from, to, step int64) (jinja.Value, error) {
	var items []jinja.Value
	for i := from; step > 0 && i < to || step < 0 && i > to; {
		if len(items) == maxRange {
			return jinja.Undefined(), r.failf("template asks for a range of more than %d", maxRange)
		}
		items = append(items, jinja.NewInt(i))
		next := i + step
		if next > i != (step > 0) { // past the largest number
			break
		}
		i = next
	}
	r.steps -= len(items) / 4
	return jinja.NewList(items), nil
}
