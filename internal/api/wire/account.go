package wire

// Account is who an exchange is done for, and what they may still ask for.
type Account interface {
	Name() string      // for the log and the metrics; "" is nobody's
	MayCompute() error // refuses a turn when no tokens are left for it
	MayGrow() error    // refuses what would have agents take more of the disk
	Spent(tokens int)  // that were computed or generated
	Weight() int       // of its share where turns compete; 0 is 1
}

// anyone has no limits.
type anyone struct{}

func (anyone) Name() string      { return "" }
func (anyone) MayCompute() error { return nil }
func (anyone) MayGrow() error    { return nil }
func (anyone) Spent(int)         {}
func (anyone) Weight() int       { return 0 }

// Anyone is the account of all where nobody has one.
func Anyone() Account { return anyone{} }

// Spend enters tokens that were computed for the exchange.
func (x *Exchange) Spend(tokens int) {
	x.Account.Spent(tokens)
	if key := x.Account.Name(); key != "" {
		x.line.Meter.Spent(key, tokens)
	}
}
