package stint

import (
	"fmt"
	"net/http"
	"unicode/utf8"
)

// What one call may be given: the guide's section "Limits" lists them. Each is an error of the
// call, before anything is stored or asked for. Names are bounded by maxName, payloads by
// WithMaxPayload, and texts that come from failures are cut (maxErrorText and others).
const (
	maxMetadata  = 64 << 10  // bytes of the keys and values of metadata, together
	maxIDs       = 10_000    // IDs in a filter
	maxNames     = 1000      // tasks, queues, keys or labels in one list
	maxPairs     = 100       // pairs of metadata in a filter
	maxSearch    = 4 << 10   // bytes of a text that is searched
	maxMatch     = 4 << 10   // bytes of a value, as JSON, that events are matched by
	maxPerCall   = 1_000_000 // runs or events that one call makes
	maxCallBytes = 256 << 20 // bytes of their payloads and metadata, together
	maxHeaders   = 64 << 10  // bytes of a webhook's headers

	maxWholeEntries = 100_000   // rows of a list that is returned as a whole, such as a journal
	maxWholeBytes   = 256 << 20 // bytes of that, and of a journal's document
	maxWaits        = 100       // of what a run waits for that is named
)

// checkCount refuses a list that is too long.
func checkCount(what string, n, most int) error {
	if n > most {
		return fmt.Errorf("%d %s: want at most %d", n, what, most)
	}
	return nil
}

// checkNames refuses a list that is too long, or has something in it that is no name.
func checkNames(what string, names []string) error {
	if err := checkCount(what+"s", len(names), maxNames); err != nil {
		return err
	}
	for _, name := range names {
		if err := checkText(what, name); err != nil {
			return err
		}
	}
	return nil
}

// checkSize refuses a text that is too long.
func checkSize(what string, n, most int) error {
	if n > most {
		return fmt.Errorf("%s of %d bytes: want at most %d", what, n, most)
	}
	return nil
}

// checkMetadata refuses metadata that is too large, and keys and values that JSON cannot hold:
// they would come back as others.
func checkMetadata(m map[string]string) error {
	if err := checkSize("metadata", metadataSize(m), maxMetadata); err != nil {
		return err
	}
	for k, v := range m {
		switch {
		case len(k) > maxName:
			return checkSize("key", len(k), maxName)
		case !utf8.ValidString(k):
			return fmt.Errorf("key %q is not UTF-8: encode it, as hex or base64", k)
		case !utf8.ValidString(v):
			return fmt.Errorf("key %q: its value is not UTF-8: encode it, as hex or base64", k)
		}
	}
	return nil
}

// metadataSize is the number of bytes of keys and values.
func metadataSize(m map[string]string) (n int) {
	for k, v := range m {
		n += len(k) + len(v)
	}
	return n
}

func checkHeaders(h http.Header) error {
	size := 0
	for k, values := range h {
		size += len(k)
		for _, v := range values {
			size += len(v)
		}
	}
	return checkSize("headers", size, maxHeaders)
}

// check refuses a filter that has more in it than a query may.
func (f *RunFilter) check() error {
	for _, list := range []struct {
		what string
		n    int
		most int
	}{{"IDs", len(f.IDs), maxIDs}, {"states", len(f.States), maxNames}, {"pairs of metadata", len(f.Metadata), maxPairs}} {
		if err := checkCount(list.what, list.n, list.most); err != nil {
			return err
		}
	}
	if err := checkNames("task name", f.Tasks); err != nil {
		return err
	}
	if err := checkNames("queue name", f.Queues); err != nil {
		return err
	}
	if err := checkMetadata(f.Metadata); err != nil {
		return err
	}
	if k := f.LimitKey; k != nil {
		if err := checkLimitKey(*k); err != nil {
			return err
		}
	}
	return checkSize("Error", len(f.Error), maxSearch)
}

func checkLimitKey(k LimitKey) error {
	if err := checkText("limit name", k.Name); err != nil {
		return err
	}
	return checkText("limit key", k.Key)
}

// pageLimit returns how many rows a page has: limit, or defaultPage for 0. A limit below 0
// or above maxPage is an error.
func pageLimit(limit int) (int, error) {
	if limit == 0 {
		return defaultPage, nil
	}
	if limit < 0 || limit > maxPage {
		return 0, fmt.Errorf("limit %d: want 1 to %d", limit, maxPage)
	}
	return limit, nil
}

// A wholeList counts what a call returns as a whole, and the bytes of that.
type wholeList struct{ n, bytes int }

// add refuses what is too much to be held in memory.
func (w *wholeList) add(bytes int) error {
	w.n, w.bytes = w.n+1, w.bytes+bytes
	if w.n > maxWholeEntries || w.bytes > maxWholeBytes {
		return fmt.Errorf("more than %d, or %d MiB", maxWholeEntries, maxWholeBytes>>20)
	}
	return nil
}

// A callSize adds up what one call makes.
type callSize int

// add refuses what is too much for one call.
func (s *callSize) add(bytes int) error {
	if *s += callSize(bytes); *s > maxCallBytes {
		return fmt.Errorf("more than %d bytes of payloads in one call: make several", maxCallBytes)
	}
	return nil
}
