// Package build says which version of stint a program was built with.
package build

import "runtime/debug"

// Module is the path of the main module.
const Module = "github.com/stint-dev/stint"

// release is set when a release is built: -ldflags "-X github.com/stint-dev/stint/internal/build.release=v1.2.3".
var release string

// Version returns the version of the library in this program, as v1.2.3 or a pseudo-version. It is "(devel)" if the
// program was built from a folder whose version is not known, or without modules.
func Version() string {
	if release != "" {
		return release
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "(devel)"
	}
	return versionIn(info)
}

// versionIn takes the version from the program's own module or from what it requires. A replacement by a folder
// has none, whatever version is required.
func versionIn(info *debug.BuildInfo) string {
	for _, m := range append([]*debug.Module{&info.Main}, info.Deps...) {
		if m.Path != Module {
			continue
		}
		if m.Replace != nil {
			m = m.Replace
		}
		if m.Version != "" {
			return m.Version
		}
	}
	return "(devel)"
}
