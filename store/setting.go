package store

// A Setting is a value that belongs to no run.
type Setting struct {
	Key   string
	Value []byte
}

// Size returns the bytes that count for MaxPageBytes.
func (s *Setting) Size() int { return len(s.Key) + len(s.Value) }
