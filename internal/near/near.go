// Package near finds known names that are similar to a mistyped one.
package near

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

const most = 5 // names that are listed

// Names returns up to 5 of the known names that are similar to name, most similar first. At most
// a third of its characters, but at least one, may be inserted, deleted, replaced or swapped with
// a neighbour; or one name is a prefix of the other. Case is ignored.
func Names(name string, known []string) []string {
	type found struct {
		name     string
		distance int
	}
	var all []found
	want := []rune(strings.ToLower(name))
	bound := max((len(want)+1)/3, 1)
	for _, k := range known {
		low := strings.ToLower(k)
		if n := utf8.RuneCountInString(low) - len(want); n <= bound && n >= -bound {
			if d := distance(want, []rune(low)); d <= bound {
				all = append(all, found{k, d})
				continue
			}
		}
		if len(want) > 2 && (strings.HasPrefix(low, string(want)) || len(low) > 2 && strings.HasPrefix(string(want), low)) {
			all = append(all, found{k, bound + 1})
		}
	}
	slices.SortFunc(all, func(a, b found) int { return cmp.Or(a.distance-b.distance, strings.Compare(a.name, b.name)) })
	names := make([]string, 0, most)
	for _, f := range all[:min(len(all), most)] {
		names = append(names, f.name)
	}
	return names
}

// Meant returns a question that lists the similar names, or "" if there are none.
func Meant(name string, known []string) string {
	names := Names(name, known)
	for i, n := range names {
		names[i] = strconv.Quote(n)
	}
	if len(names) == 0 {
		return ""
	}
	return ": did you mean " + strings.Join(names, " or ") + "?"
}

// distance returns how many characters must be inserted, deleted, replaced, or swapped with the
// next to turn a into b: the optimal string alignment, https://doi.org/10.1145/363958.363994.
func distance(a, b []rune) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range a {
		row[0] = i + 1
		for j := range b {
			replaced := last[j]
			if a[i] != b[j] {
				replaced++
			}
			row[j+1] = min(replaced, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
