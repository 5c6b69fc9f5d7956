package schema

import (
	"encoding/json"
	"math/big"
	"strings"

	g "mneme/internal/constrain"
)

// Numbers are short enough to be exact in a double: 15 digits.
const maxDigits = 15

func digits(least, most int) *g.Node { return g.Repeat(g.Range('0', '9'), least, most) }

// natural is 0 or a number without leading zeros.
func natural() *g.Node {
	return g.Any(g.Text("0"), g.Seq(g.Range('1', '9'), digits(0, maxDigits-1)))
}

func fraction() *g.Node { return g.Seq(g.Text("."), digits(1, maxDigits)) }

// anyNumber is a number without bounds.
func anyNumber() *g.Node {
	exponent := g.Seq(g.OneOf("eE"), g.Optional(g.OneOf("+-")), digits(1, 2))
	return g.Seq(g.Optional(g.Text("-")), natural(), g.Optional(fraction()), g.Optional(exponent))
}

func anyInteger() *g.Node { return g.Seq(g.Optional(g.Text("-")), natural()) }

// bounds are what a number must keep to; nil is no bound.
type bounds struct {
	low, high               *big.Rat
	lowOutside, highOutside bool // the bound itself is not allowed
}

func (c *compiler) numberBounds(o *object, a at) (b bounds, err error) {
	for _, k := range []struct {
		key  string
		high bool
		out  bool
	}{{"minimum", false, false}, {"exclusiveMinimum", false, true}, {"maximum", true, false}, {"exclusiveMaximum", true, true}} {
		v, ok := o.get(k.key)
		if !ok {
			continue
		}
		n, isNumber := v.(json.Number)
		if !isNumber || len(n) > 40 {
			return b, a.errorf("%s is no number", k.key)
		}
		r, ok := new(big.Rat).SetString(n.String())
		if !ok {
			return b, a.errorf("%s is no number", k.key)
		}
		b.tighten(r, k.high, k.out)
	}
	return b, nil
}

// tighten adds a bound; the narrower of two of a side counts.
func (b *bounds) tighten(r *big.Rat, high, outside bool) {
	old, oldOutside, sign := &b.low, &b.lowOutside, 1
	if high {
		old, oldOutside, sign = &b.high, &b.highOutside, -1
	}
	if *old != nil {
		if order := sign * r.Cmp(*old); order < 0 || order == 0 && !outside {
			return
		}
	}
	*old, *oldOutside = r, outside
}

// integers are the whole numbers within bounds, as far as maxDigits goes.
func (b bounds) integers() (low, high *big.Int) {
	most := new(big.Int).Exp(big.NewInt(10), big.NewInt(maxDigits), nil)
	most.Sub(most, big.NewInt(1))
	low, high = new(big.Int).Neg(most), most
	if b.low != nil {
		low = maxInt(low, ceiling(b.low, b.lowOutside))
	}
	if b.high != nil {
		up := ceiling(new(big.Rat).Neg(b.high), b.highOutside)
		high = maxInt(new(big.Int).Neg(high), up)
		high = new(big.Int).Neg(high)
	}
	return low, high
}

func maxInt(a, b *big.Int) *big.Int {
	if a.Cmp(b) >= 0 {
		return a
	}
	return b
}

// ceiling is the least whole number at or, if outside, above r.
func ceiling(r *big.Rat, outside bool) *big.Int {
	q, m := new(big.Int).DivMod(r.Num(), r.Denom(), new(big.Int))
	if m.Sign() > 0 || outside {
		q.Add(q, big.NewInt(1))
	}
	return q
}

func (c *compiler) integer(o *object, a at) (*g.Node, error) {
	b, err := c.numberBounds(o, a)
	if err != nil {
		return nil, err
	}
	if m, err := c.multiple(o, a); err != nil || m > 1 {
		switch {
		case err != nil:
			return nil, err
		case b != bounds{}:
			if err := c.cannot(a, "multipleOf with bounds"); err != nil {
				return nil, err
			}
		}
		return multiples(m), nil
	}
	if b == (bounds{}) {
		return anyInteger(), nil
	}
	low, high := b.integers()
	if low.Cmp(high) > 0 {
		return nil, a.errorf("no integer of at most %d digits is within the bounds", maxDigits)
	}
	return integersBetween(low, high), nil
}

// multiple reads multipleOf as a whole number up to 1,000; 1 without it.
func (c *compiler) multiple(o *object, a at) (int, error) {
	if _, ok := o.get("multipleOf"); !ok {
		return 1, nil
	}
	m, err := o.count("multipleOf", 1, a)
	if err != nil || m < 1 || m > 1000 {
		return 1, c.cannot(a, "multipleOf")
	}
	return m, nil
}

// multiples are the multiples of m, by the remainder of the digits so far.
func multiples(m int) *g.Node {
	rules := make([]*g.Node, m)
	for i := range rules {
		rules[i] = g.Rule()
	}
	for i, r := range rules {
		var ways []*g.Node
		if i == 0 {
			ways = append(ways, g.Seq())
		}
		for d := range 10 {
			ways = append(ways, g.Seq(g.Text(string(rune('0'+d))), rules[(10*i+d)%m]))
		}
		r.Define(g.Any(ways...))
	}
	ways := []*g.Node{g.Text("0")}
	for d := 1; d < 10; d++ {
		ways = append(ways, g.Seq(g.Text(string(rune('0'+d))), rules[d%m]))
	}
	return g.Any(ways...)
}

// integersBetween are the whole numbers from low to high.
func integersBetween(low, high *big.Int) *g.Node {
	var ways []*g.Node
	if low.Sign() < 0 {
		least := big.NewInt(1) // of the absolute values
		if high.Sign() < 0 {
			least = new(big.Int).Neg(high)
		}
		ways = append(ways, g.Seq(g.Text("-"), naturalsBetween(least.String(), new(big.Int).Neg(low).String())))
	}
	if high.Sign() >= 0 {
		ways = append(ways, naturalsBetween(maxInt(low, new(big.Int)).String(), high.String()))
	}
	return g.Any(ways...)
}

// naturalsBetween are the numbers from low to high, both in digits without
// leading zeros.
func naturalsBetween(low, high string) *g.Node {
	var ways []*g.Node
	for n := len(low); n <= len(high); n++ {
		from, to := low, high
		if n > len(low) {
			from = "1" + strings.Repeat("0", n-1)
		}
		if n < len(high) {
			to = strings.Repeat("9", n)
		}
		ways = append(ways, sameLength(from, to))
	}
	return g.Any(ways...)
}

// sameLength are the digit strings from low to high, which have the same length.
func sameLength(low, high string) *g.Node {
	n := len(low)
	switch {
	case n == 0:
		return g.Seq()
	case low == strings.Repeat("0", n) && high == strings.Repeat("9", n):
		return digits(n, n)
	case low[0] == high[0]:
		return g.Seq(g.Text(low[:1]), sameLength(low[1:], high[1:]))
	}
	ways := []*g.Node{
		g.Seq(g.Text(low[:1]), sameLength(low[1:], strings.Repeat("9", n-1))),
		g.Seq(g.Text(high[:1]), sameLength(strings.Repeat("0", n-1), high[1:])),
	}
	if low[0]+1 < high[0] {
		ways = append(ways, g.Seq(g.Range(low[0]+1, high[0]-1), digits(n-1, n-1)))
	}
	return g.Any(ways...)
}

func (c *compiler) number(o *object, a at) (*g.Node, error) {
	b, err := c.numberBounds(o, a)
	if err != nil {
		return nil, err
	}
	if _, ok := o.get("multipleOf"); ok {
		if m, err := c.multiple(o, a); err != nil || m >= 1 {
			if err != nil {
				return nil, err
			}
			return c.integer(o, a) // multiples of a whole number are whole
		}
	}
	if b == (bounds{}) {
		return anyNumber(), nil
	}
	return c.numberBetween(b, a)
}

// numberBetween are the whole numbers within bounds, and those whose whole part
// leaves room for any fraction. Where there are none, numbers of a fixed count
// of decimals.
func (c *compiler) numberBetween(b bounds, a at) (*g.Node, error) {
	var ways []*g.Node
	low, high := b.integers()
	if low.Cmp(high) <= 0 {
		ways = append(ways, integersBetween(low, high))
	}
	one := big.NewInt(1)
	if up := new(big.Int).Sub(high, one); up.Sign() >= 0 && maxInt(low, new(big.Int)).Cmp(up) <= 0 {
		ways = append(ways, g.Seq(naturalsBetween(maxInt(low, new(big.Int)).String(), up.String()), fraction()))
	}
	if down := new(big.Int).Sub(new(big.Int).Neg(low), one); down.Sign() >= 0 { // -down.fff is above low
		least := maxInt(new(big.Int).Neg(high), new(big.Int))
		if least.Cmp(down) <= 0 {
			ways = append(ways, g.Seq(g.Text("-"), naturalsBetween(least.String(), down.String()), fraction()))
		}
	}
	for decimals := 1; len(ways) < 2 && decimals <= 6; decimals++ {
		if n := b.decimals(decimals); n != nil {
			ways = append(ways, n)
		}
		if n := b.mirrored().decimals(decimals); n != nil {
			ways = append(ways, g.Seq(g.Text("-"), n))
		}
	}
	if len(ways) == 0 {
		return nil, a.errorf("no number with at most 6 decimals is within the bounds")
	}
	return g.Any(ways...), nil
}

// mirrored are the bounds of a number's negative.
func (b bounds) mirrored() bounds {
	m := bounds{lowOutside: b.highOutside, highOutside: b.lowOutside}
	if b.high != nil {
		m.low = new(big.Rat).Neg(b.high)
	}
	if b.low != nil {
		m.high = new(big.Rat).Neg(b.low)
	}
	return m
}

// decimals are the positive numbers within bounds that have n decimals, or nil.
func (b bounds) decimals(n int) *g.Node {
	scale := new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil))
	scaled := b
	if b.low != nil {
		scaled.low = new(big.Rat).Mul(b.low, scale)
	}
	if b.high != nil {
		scaled.high = new(big.Rat).Mul(b.high, scale)
	}
	low, high := scaled.integers()
	low = maxInt(low, new(big.Int))
	unit := new(big.Int).Set(scale.Num())
	whole := new(big.Int).Div(low, unit)
	high = new(big.Int).Neg(maxInt(new(big.Int).Neg(high), new(big.Int).Neg(new(big.Int).Sub(new(big.Int).Mul(new(big.Int).Add(whole, big.NewInt(1)), unit), big.NewInt(1)))))
	if low.Cmp(high) > 0 { // only decimals of one whole part
		return nil
	}
	pad := func(i *big.Int) string {
		s := new(big.Int).Mod(i, unit).String()
		return strings.Repeat("0", n-len(s)) + s
	}
	return g.Seq(g.Text(whole.String()+"."), sameLength(pad(low), pad(high)))
}
