//go:build unix

package main

import "os"

// A process of this program, or of its tests, has the role that its environment names.
const (
	roleVar = "STINT_TORTURE_ROLE"
	fileVar = "STINT_TORTURE_FILE"
)

var roles = map[string]func(path string) error{}

// becomeChild runs the role that the environment names, and reports whether there is one.
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
