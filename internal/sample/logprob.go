package sample

import (
	"math"

	"mneme/internal/token"
)

// Logprobs returns the log-softmax of the raw logits at id, and its n greatest
// values. Tokens without a usable logit are no alternatives.
func Logprobs(logits []float32, id token.ID, n int) (float64, []Alternative) {
	norm := logSumExp(logits)
	top := greatest(logits, n)
	for i, t := range top {
		top[i].Logprob = logit(logits[t.ID]) - norm
	}
	return logit(logits[id]) - norm, top
}

// logit is l as a finite float64 or minus infinity.
func logit(l float32) float64 {
	if l != l {
		return math.Inf(-1)
	}
	return finite(float64(l))
}

// logSumExp adds up in order of id.
func logSumExp(logits []float32) float64 {
	best := logit(logits[likeliest(logits)])
	sum := 0.0
	for _, l := range logits {
		sum += math.Exp(logit(l) - best)
	}
	return best + math.Log(sum)
}

// greatest returns the n greatest logits in order; Logprob is not filled in.
func greatest(logits []float32, n int) []Alternative {
	top := make([]Alternative, 0, n+1)
	for id, l := range logits {
		full := len(top) == n
		if !(l > float32(math.Inf(-1))) || full && (n == 0 || l <= logits[top[n-1].ID]) {
			continue
		}
		at := len(top)
		for at > 0 && logits[top[at-1].ID] < l {
			at--
		}
		top = append(top, Alternative{})
		copy(top[at+1:], top[at:])
		top[at].ID = token.ID(id)
		top = top[:min(len(top), n)]
	}
	return top
}
