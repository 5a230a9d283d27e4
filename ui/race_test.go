//go:build race

package ui_test

// With the race detector, append allocates twice as much when it grows a slice.
const raced = 1
