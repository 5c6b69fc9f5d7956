package cli

import (
	"io"
	"log/slog"
	"os"

	"golang.org/x/term"
)

// newLogger writes JSON lines into a pipe or a file and text on a terminal,
// unless a format is asked for.
func newLogger(w io.Writer, format string) *slog.Logger {
	if format == "json" || format == "auto" && !terminal(w) {
		return slog.New(slog.NewJSONHandler(w, nil))
	}
	return slog.New(slog.NewTextHandler(w, nil))
}

// terminal says whether somebody watches.
func terminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
