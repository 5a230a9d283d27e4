// Package text bounds the size of texts that come from the app, such as errors, log lines and
// stacks, and so of rows and pages.
package text

import (
	"fmt"
	"unicode/utf8"
)

// Listed is the maximum size of an error in lists and logs, in bytes.
const Listed = 1 << 10

// Cut returns s if it has at most size bytes. Else it returns the beginning of s, cut between
// two characters, with a mark at its end that says how long s was: "… [cut: 8388608 bytes]".
// The result has at most size bytes, the mark included; a size too small for the mark gives
// the beginning of s alone.
func Cut(s string, size int) string {
	size = max(size, 0)
	if len(s) <= size {
		return s
	}
	mark := fmt.Sprintf("… [cut: %d bytes]", len(s))
	if len(mark) > size {
		mark = ""
	}
	return s[:boundary(s, size-len(mark))] + mark
}

// boundary returns the largest index of s, at most n, that is between two characters. Where
// s is not UTF-8 there is none, and it returns n.
func boundary(s string, n int) int {
	for i := n; i >= 0 && n-i < utf8.UTFMax; i-- {
		if utf8.RuneStart(s[i]) {
			return i
		}
	}
	return n
}
