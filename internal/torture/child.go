//go:build unix

package main

import "os"

// A process of this program, or of its tests, is a child in a role if its environment
// says so.
const (
	roleVar = "STINT_TORTURE_ROLE"
	fileVar = "STINT_TORTURE_FILE"
)

var roles = map[string]func(path string) error{}

// becomeChild does what the environment asks for, and reports whether it asked.
func becomeChild() bool {
	role := os.Getenv(roleVar)
	if role == "" {
		return false
	}
	if err := roles[role](os.Getenv(fileVar)); err != nil {
		os.Stderr.WriteString(role + ": " + err.Error() + "\n")
		os.Exit(1)
	}
	return true
}
