// Package check has the bounds of what a call may be given, and returns the errors for what
// exceeds them.
package check

import (
	"fmt"
	"net/http"
	"unicode/utf8"
)

// Bounds of what one call may be given; the guide's section "Limits" lists them. Exceeding one
// is an error of the call before anything is stored or read. WithMaxPayload bounds payloads;
// texts of failures are cut (maxErrorText and others).
const (
	MaxMetadata  = 64 << 10  // bytes of the keys and values of metadata, together
	MaxIDs       = 10_000    // IDs in a filter
	MaxNames     = 1000      // tasks, queues, keys or labels in one list
	MaxPairs     = 100       // pairs of metadata in a filter
	MaxSearch    = 4 << 10   // bytes of a text that is searched
	MaxMatch     = 4 << 10   // bytes of a value, as JSON, that events are matched by
	MaxPerCall   = 1_000_000 // runs or events that one call makes
	MaxCallBytes = 256 << 20 // bytes of their payloads and metadata, together
	MaxHeaders   = 64 << 10  // bytes of a webhook's headers

	MaxWholeEntries = 100_000   // rows of a list that is returned whole, such as a journal
	MaxWholeBytes   = 256 << 20 // its bytes, and those of an exported journal
	MaxWaits        = 100       // things a run waits for that are named
	MaxTicks        = 10_000    // ticks of a cron that one call computes
)

// Count returns an error if n is more than most.
func Count(what string, n, most int) error {
	if n > most {
		return fmt.Errorf("%d %s: want at most %d", n, what, most)
	}
	return nil
}

// Names returns an error if the list is too long or one of the names is invalid.
func Names(what string, names []string) error {
	if err := Count(what+"s", len(names), MaxNames); err != nil {
		return err
	}
	for _, name := range names {
		if err := Text(what, name); err != nil {
			return err
		}
	}
	return nil
}

// Size returns an error if n bytes are more than most.
func Size(what string, n, most int) error {
	if n > most {
		return fmt.Errorf("%s of %d bytes: want at most %d", what, n, most)
	}
	return nil
}

// Metadata returns an error if metadata is too large, or has keys or values that are not UTF-8,
// which JSON would change.
func Metadata(m map[string]string) error {
	if err := Size("metadata", MetadataSize(m), MaxMetadata); err != nil {
		return err
	}
	for k, v := range m {
		switch {
		case len(k) > MaxName:
			return Size("key", len(k), MaxName)
		case !utf8.ValidString(k):
			return fmt.Errorf("key %q is not UTF-8: encode it, as hex or base64", k)
		case !utf8.ValidString(v):
			return fmt.Errorf("key %q: its value is not UTF-8: encode it, as hex or base64", k)
		}
	}
	return nil
}

// MetadataSize returns the number of bytes of the keys and values.
func MetadataSize(m map[string]string) (n int) {
	for k, v := range m {
		n += len(k) + len(v)
	}
	return n
}

// Headers returns an error if headers are too large.
func Headers(h http.Header) error {
	size := 0
	for k, values := range h {
		size += len(k)
		for _, v := range values {
			size += len(v)
		}
	}
	return Size("headers", size, MaxHeaders)
}

// A Whole counts the rows and bytes of a list that a call returns whole.
type Whole struct{ n, bytes int }

// Add adds a row, and returns an error if the list gets too large to hold in memory.
func (w *Whole) Add(bytes int) error {
	w.n, w.bytes = w.n+1, w.bytes+bytes
	if w.n > MaxWholeEntries || w.bytes > MaxWholeBytes {
		return fmt.Errorf("more than %d, or %d MiB", MaxWholeEntries, MaxWholeBytes>>20)
	}
	return nil
}

// A CallSize counts the bytes that one call stores.
type CallSize int

// Add adds bytes, and returns an error if they get too many for one call.
func (s *CallSize) Add(bytes int) error {
	if *s += CallSize(bytes); *s > MaxCallBytes {
		return fmt.Errorf("more than %d bytes of payloads in one call: make several", MaxCallBytes)
	}
	return nil
}

// Name returns an error if name is empty, longer than MaxName or not UTF-8.
func Name(what, name string) error {
	if name == "" {
		return fmt.Errorf("empty %s", what)
	}
	return Text(what, name)
}

// Text is like Name, for text that may be empty. Bytes that are not UTF-8 would be replaced
// where names are shown, exported or compared.
func Text(what, text string) error {
	if err := Size(what, len(text), MaxName); err != nil {
		return err
	}
	if !utf8.ValidString(text) {
		return fmt.Errorf("%s: want UTF-8", what) // it is not quoted: a key may be made of an input
	}
	return nil
}

const MaxName = 255 // bytes of a task, queue or worker name, and of a key
