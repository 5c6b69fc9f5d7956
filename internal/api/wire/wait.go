package wire

import (
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"mneme/internal/api/fields"
	"mneme/internal/engine"
)

const (
	predictedHeader = "X-Predicted-TTFT-Ms"
	maxFirstHeader  = "X-Max-TTFT-Ms"
)

// Predicts has the answer say when its first token is expected.
func (x *Exchange) Predicts(first time.Duration) {
	x.Header().Set(predictedHeader, strconv.FormatInt(milliseconds(first), 10))
}

func milliseconds(d time.Duration) int64 {
	return int64(max(1, d.Round(time.Millisecond)/time.Millisecond))
}

// MaxFirst is within what time the client wants the first token, else nothing; 0
// when it does not say.
func (x *Exchange) MaxFirst() (time.Duration, error) {
	text := x.Request.Header.Get(maxFirstHeader)
	if text == "" {
		return 0, nil
	}
	ms, err := strconv.ParseInt(text, 10, 64)
	if err != nil || ms < 1 || ms > math.MaxInt32 {
		return 0, Invalid(maxFirstHeader, "%s must be a whole number of milliseconds from 1 to %d, not %q", maxFirstHeader, math.MaxInt32, fields.Clip(text))
	}
	return time.Duration(ms) * time.Millisecond, nil
}

// waitCodes are why a turn is not taken now.
var waitCodes = map[error]string{
	engine.ErrQueueFull:      "queue_full",
	engine.ErrAgentQueueFull: "agent_queue_full",
	engine.ErrTooLate:        "deadline",
}

// busyRefusal is err as a turn that is not taken now, or nil when it is not that.
// The answer says when it may be.
func (x *Exchange) busyRefusal(err error) *Error {
	var busy *engine.BusyError
	if !errors.As(err, &busy) {
		return nil
	}
	if busy.Predicted > 0 {
		x.Predicts(busy.Predicted)
	}
	return &Error{Status: http.StatusTooManyRequests, Message: busy.Error(), Code: waitCodes[busy.Why], Retry: busy.Retry}
}
