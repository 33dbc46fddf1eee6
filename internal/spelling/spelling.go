// Package spelling finds the name that somebody meant.
//
// Call [Suggest] when a name is unknown. It compares bytes, and knows nothing
// of languages or keyboards.
package spelling

// Suggest returns the nearest of the names if it is near, in a form to be put
// behind a complaint ("; did you mean x?"), and otherwise "".
func Suggest(name string, names []string) string {
	best, distance := "", 4
	for _, n := range names {
		// Of a short name not every letter may be wrong.
		if d := edits(name, n); d < distance && d < len(n) {
			best, distance = n, d
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}

// edits counts the insertions, deletions and replacements of bytes that turn a
// into b (Levenshtein).
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
