//go:build unix && !linux

package sqlite

// identify returns the file at a path. It follows no symbolic link.
func identify(path string) (fileID, error) { return identifyByStat(path) }
