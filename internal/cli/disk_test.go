package cli

import (
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mneme/internal/cli/value"
	"mneme/internal/cli/wire"
	"mneme/internal/kv"
)

// The bounds reach the store: above the budget it says so, and what would leave
// too little free is refused.
func TestDiskBoundsReachTheStore(t *testing.T) {
	s := newStage(t)
	settings := wire.Settings{
		Model: tinyModel(t), DataDir: s.home, KVFormat: kv.FormatQ4, KVMemory: value.Size{Bytes: 64 << 20}, Threads: 1,
		KVDisk: value.Size{Bytes: 1}, MinFree: value.Size{Bytes: 1},
	}
	rooms, err := wire.Open(t.Context(), settings, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer rooms.Close()
	c, err := newConversation(s.World, rooms.Engine, "ada", filepath.Join(s.home, "terminal.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.answer(t.Context(), "hello", make(chan os.Signal)); err != nil {
		t.Fatal(err)
	}
	if stats := rooms.Store.Stats(); stats.OverBudget != stats.SegmentBytes-1 || stats.SegmentBytes == 0 {
		t.Errorf("with a budget of one byte: %+v", stats)
	}

	p := startServe(t, settings.Model, t.TempDir(), "MNEME_MIN_FREE=100%")
	status, said := request(t, http.MethodPost, p.url()+"/v1/agents", `{"id":"ada"}`)
	if status != http.StatusInsufficientStorage || !strings.Contains(said, `"code":"no_space"`) {
		t.Errorf("on a disk that is to stay empty: %d %s", status, said)
	}
}
