package access

import (
	"fmt"
	"net/http"
	"time"

	"mneme/internal/api/wire"
)

// visit is one request of a key's holder. It implements wire.Account.
type visit struct {
	gate      *Gate
	key       Key
	purse     *purse // guarded by the gate's lock
	diskBytes func(namespace string) int64
}

// Name is the key's.
func (v *visit) Name() string { return v.key.Name }

// enterLocked takes one of the key's requests.
func (v *visit) enterLocked() error {
	now := v.gate.clock()
	if wait := v.purse.requests.wait(now); wait > 0 {
		return v.spent("requests", v.key.Limits.Requests, wait)
	}
	v.purse.requests.take(1, now)
	return nil
}

// MayCompute refuses a turn when the key's tokens are spent. One that has begun is
// finished; what it takes beyond them is a debt.
func (v *visit) MayCompute() error {
	v.gate.mu.Lock()
	defer v.gate.mu.Unlock()
	if wait := v.purse.tokens.wait(v.gate.clock()); wait > 0 {
		return v.spent("tokens", v.key.Limits.Tokens, wait)
	}
	return nil
}

// Spent takes tokens.
func (v *visit) Spent(tokens int) {
	v.gate.mu.Lock()
	defer v.gate.mu.Unlock()
	v.purse.tokens.take(tokens, v.gate.clock())
}

func (v *visit) spent(what string, r Rate, wait time.Duration) error {
	return &wire.Error{
		Status:  http.StatusTooManyRequests,
		Message: fmt.Sprintf("the key %s has used up its %s (%v); there are more in %v", v.key.Name, what, r, wait.Round(time.Millisecond)),
		Code:    "rate_limit_exceeded",
		Retry:   wait,
	}
}

// Weight is the key's.
func (v *visit) Weight() int { return v.key.Limits.Weight }

// MayGrow refuses more when the key's agents have more of the disk than they may.
// To wait does not help, so it is no 429.
func (v *visit) MayGrow() error {
	limit := v.key.Limits.DiskBytes
	if limit == 0 {
		return nil
	}
	if used := v.diskBytes(v.key.Name); used > limit {
		return forbidden("insufficient_quota", fmt.Sprintf("the agents of the key %s have %d bytes on disk, its quota is %d: delete some, or ask for more", v.key.Name, used, limit))
	}
	return nil
}
