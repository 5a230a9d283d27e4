//go:build race

package ui_test

// Built with the race detector, a program allocates twice what append makes a slice larger by.
const raced = 1
