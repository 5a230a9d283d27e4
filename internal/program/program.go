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

// Name returns a name of this program, which its builds share.
var Name = sync.OnceValue(func() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Path != "" {
		return info.Path // of its main package
	}
	return filepath.Base(os.Args[0])
})

// Build returns an identifier of this build of the program. A run that one build blocked is tried
// again by the next. Nothing else depends on it: any build continues the runs of any other.
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
