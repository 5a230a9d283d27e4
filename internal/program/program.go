// Package program identifies the running program and its build.
package program

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
)

// Name tells this program from others, and not from its other builds.
var Name = sync.OnceValue(func() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Path != "" {
		return info.Path // of its main package
	}
	return filepath.Base(os.Args[0])
})

// Build tells this program from others, and from itself before it was built anew: a run
// that one build blocked is tried again by the next. Nothing else looks at it; above all,
// any build goes on with the runs of any other.
var Build = sync.OnceValue(func() string {
	h := sha256.New()
	if info, ok := debug.ReadBuildInfo(); ok {
		fmt.Fprintln(h, info)
	}
	if path, err := os.Executable(); err == nil {
		if f, err := os.Stat(path); err == nil {
			fmt.Fprintln(h, f.Size(), f.ModTime().UnixNano())
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
})
