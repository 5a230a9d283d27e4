// Package check has the bounds of what one call may be given, and the errors of what is
// over them.
package check

import (
	"fmt"
	"net/http"
	"unicode/utf8"
)

// What one call may be given: the guide's section "Limits" lists them. Each is an error of the
// call, before anything is stored or asked for. Names are bounded by MaxName, payloads by
// WithMaxPayload, and texts that come from failures are cut (maxErrorText and others).
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

	MaxWholeEntries = 100_000   // rows of a list that is returned as a whole, such as a journal
	MaxWholeBytes   = 256 << 20 // bytes of that, and of a journal's document
	MaxWaits        = 100       // of what a run waits for that is named
)

// Count refuses a list that is too long.
func Count(what string, n, most int) error {
	if n > most {
		return fmt.Errorf("%d %s: want at most %d", n, what, most)
	}
	return nil
}

// Names refuses a list that is too long, or has something in it that is no name.
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

// Size refuses a text that is too long.
func Size(what string, n, most int) error {
	if n > most {
		return fmt.Errorf("%s of %d bytes: want at most %d", what, n, most)
	}
	return nil
}

// Metadata refuses metadata that is too large, and keys and values that JSON cannot hold:
// they would come back as others.
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

// MetadataSize is the number of bytes of keys and values.
func MetadataSize(m map[string]string) (n int) {
	for k, v := range m {
		n += len(k) + len(v)
	}
	return n
}

// Headers refuses headers that are too large.
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

// A Whole counts what a call returns as a whole, and the bytes of that.
type Whole struct{ n, bytes int }

// Add refuses what is too much to be held in memory.
func (w *Whole) Add(bytes int) error {
	w.n, w.bytes = w.n+1, w.bytes+bytes
	if w.n > MaxWholeEntries || w.bytes > MaxWholeBytes {
		return fmt.Errorf("more than %d, or %d MiB", MaxWholeEntries, MaxWholeBytes>>20)
	}
	return nil
}

// A CallSize adds up what one call makes.
type CallSize int

// Add refuses what is too much for one call.
func (s *CallSize) Add(bytes int) error {
	if *s += CallSize(bytes); *s > MaxCallBytes {
		return fmt.Errorf("more than %d bytes of payloads in one call: make several", MaxCallBytes)
	}
	return nil
}

// Name refuses a name that is empty, too long or not UTF-8.
func Name(what, name string) error {
	if name == "" {
		return fmt.Errorf("empty %s", what)
	}
	return Text(what, name)
}

// Text is Name for what may be empty. Names are shown, exported as figures and
// compared: bytes that are no text would be replaced on the way.
func Text(what, text string) error {
	if err := Size(what, len(text), MaxName); err != nil {
		return err
	}
	if !utf8.ValidString(text) {
		return fmt.Errorf("%s: want UTF-8", what) // a key may be made of an input
	}
	return nil
}

const MaxName = 255 // bytes of a task, queue or worker name, and of a key
