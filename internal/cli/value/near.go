package value

import "strings"

// Nearest is the known name that differs least from name, by at most two letters
// and any underscores; "" when none is near.
func Nearest(name string, known []string) string {
	best, least := "", 3
	for _, k := range known {
		if k == name {
			return name
		}
		if d := distance(strings.ReplaceAll(name, "_", ""), strings.ReplaceAll(k, "_", "")); d < least {
			best, least = k, d
		}
	}
	return best
}

// distance counts the letters to insert, drop or change on the way from a to b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			changed := before
			if a[i] != b[j] {
				changed++
			}
			before = row[j+1]
			row[j+1] = min(changed, before+1, row[j]+1)
		}
	}
	return row[len(b)]
}
