package value

import "time"

// Clip keeps one long name from widening every row of a table.
func Clip(name string) string {
	const most = 40
	if len(name) <= most {
		return name
	}
	return name[:most-1] + "…"
}

// Time writes an instant for a reader, in UTC.
func Time(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }
