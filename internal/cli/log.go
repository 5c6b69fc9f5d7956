package cli

import (
	"io"
	"log/slog"
	"os"

	"golang.org/x/term"
)

// newLogger writes JSON lines into a pipe or a file and text on a terminal,
// unless a format is asked for. Durations are text in both, as in 30s.
func newLogger(w io.Writer, format string) *slog.Logger {
	o := &slog.HandlerOptions{ReplaceAttr: legible}
	if format == "json" || format == "auto" && !terminal(w) {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// legible keeps JSON from writing a duration as a number without a unit.
func legible(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}

// terminal says whether somebody watches.
func terminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
