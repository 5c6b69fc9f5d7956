package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"mneme/internal/kv"
)

// A log is read by people too: durations have units, keys are hex.
func TestLogIsLegible(t *testing.T) {
	key := kv.Key{0xbe, 0xef}
	hex := "beef" + strings.Repeat("0", 60)
	for format, want := range map[string]string{
		"json": `"limit":"30s","key":"` + hex + `"}`,
		"text": "limit=30s key=" + hex,
	} {
		var b bytes.Buffer
		newLogger(&b, format).Info("stopping", "limit", 30*time.Second, "key", key)
		if !strings.HasSuffix(b.String(), want+"\n") {
			t.Errorf("%s: %s, want it to end with %s", format, &b, want)
		}
	}
}
