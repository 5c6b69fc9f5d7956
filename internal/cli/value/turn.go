package value

import (
	"errors"
	"math"
	"strconv"
)

// NoTurn is a turn that is not given.
const NoTurn Turn = -1

// Turn is the number of a turn, 0 being before the first. It is a flag value.
type Turn int

// String is "" when not given.
func (t *Turn) String() string {
	if *t == NoTurn {
		return ""
	}
	return strconv.Itoa(int(*t))
}

// Type names the value in help texts.
func (t *Turn) Type() string { return "int" }

// Set takes a number of a turn.
func (t *Turn) Set(text string) error {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > math.MaxInt32 {
		return errors.New("must be a whole number, 0 or more")
	}
	*t = Turn(n)
	return nil
}
