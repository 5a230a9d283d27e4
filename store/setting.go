package store

import "context"

// A Setting is a value that belongs to no run.
type Setting struct {
	Key   string
	Value []byte
}

// Size returns the bytes that count for MaxPageBytes.
func (s *Setting) Size() int { return len(s.Key) + len(s.Value) }

// Settings keeps values that belong to no run.
type Settings interface {
	// SetSetting stores a setting, replacing one with its key; one whose Value is nil is deleted. With
	// ifMissing a stored one stays as it is. It returns the value that is stored then.
	SetSetting(ctx context.Context, s Setting, ifMissing bool) (value []byte, err error)
	// Settings lists up to limit settings whose keys begin with prefix, in the order of their keys' bytes,
	// after the given one, limited as Crons. more reports whether there are others.
	Settings(ctx context.Context, prefix, after string, limit int) (settings []Setting, more bool, err error)
}
