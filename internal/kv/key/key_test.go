package key

import (
	"fmt"
	"testing"

	"mneme/internal/token"
)

// ids are n token ids that follow from a seed.
func ids(n, seed int) []token.ID {
	out := make([]token.ID, n)
	for i := range out {
		out[i] = token.ID(i*31 + seed)
	}
	return out
}

// Every field counts, and a chain is the same however it is extended.
func TestKeys(t *testing.T) {
	scope := Scope{"f", "default"}
	base := scope.Next(scope.Root(), ids(64, 1))
	for name, other := range map[string]Key{
		"tokens":      scope.Next(scope.Root(), ids(64, 2)),
		"parent":      scope.Next(base, ids(64, 1)),
		"namespace":   Scope{"f", "other"}.Next(Scope{"f", "other"}.Root(), ids(64, 1)),
		"fingerprint": Scope{"g", "default"}.Next(Scope{"g", "default"}.Root(), ids(64, 1)),
		"moved edge":  Scope{"fd", "efault"}.Next(Scope{"fd", "efault"}.Root(), ids(64, 1)),
	} {
		if other == base {
			t.Errorf("another %s gives the same key", name)
		}
	}
	whole := scope.Chain(ids(300, 1), 64)
	parts := scope.Extend(scope.Chain(ids(130, 1), 64), ids(300, 1), 64)
	if fmt.Sprint(whole) != fmt.Sprint(parts) || len(whole) != 4 {
		t.Errorf("%d keys at once, %d in parts", len(whole), len(parts))
	}
}
