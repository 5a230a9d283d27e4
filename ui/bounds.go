package ui

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// These bound what requests cost, whatever payloads the file holds. A client lists at most
// 8 MiB at a time; answers and pages made of that are larger, and many may be in flight.
const (
	maxQuery            = 64 << 10  // bytes of a URL's query
	maxValues           = 20_000    // values in a form, or in a field of an object
	maxFields           = 100       // fields of an object
	maxAnswer           = 16 << 20  // bytes of a list in an answer of the API; one row may have more
	maxPage             = 4 << 20   // bytes of a page
	maxUnsent           = 64 << 20  // bytes that are being sent at one time, to all clients clients
	maxCached           = 32 << 20  // bytes of live pages that are cached for several viewers
	maxRendering        = 4         // pages and answers that are rendered at one time
	writeChunk          = 256 << 10 // bytes that a client must read within writeTimeout
	writeTimeout        = 10 * time.Second
	slotTimeout         = 10 * time.Second // how long a request waits to be rendered
	maxStreams          = 1000             // open live pages
	maxStreamsPerClient = 100              // open live pages of one address
	retryAfter          = "2"              // seconds
	maxRows             = 200              // rows of a list without pages
	maxLinks            = 20               // links to runs in one cell
	maxKeys             = 10               // keys of metadata in one cell
	maxLogBytes         = 256 << 10        // bytes of log lines on a run's page
	maxStreamBytes      = 64 << 10         // bytes of a run's stream on its page
)

// A budget is a number of bytes that several requests share.
type budget struct {
	mu        sync.Mutex
	used, max int
}

// reserve takes n bytes until release, or returns false if the budget has too few left.
func (b *budget) reserve(n int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used > 0 && b.used+n > b.max { // a single one may be of any size
		return false
	}
	b.used += n
	return true
}

func (b *budget) release(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
}

var errOverloaded = errors.New("too much is asked for at once: try again in a moment")

// acquireSlot waits until fewer than maxRendering pages and answers are being rendered. The
// caller must call release when it has rendered its own.
func (h *handler) acquireSlot(ctx context.Context) (release func(), err error) {
	t := time.NewTimer(slotTimeout)
	defer t.Stop()
	select {
	case h.slots <- struct{}{}:
		return func() { <-h.slots }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-t.C:
		return nil, errOverloaded
	}
}

// send writes an answer to a client that may read slowly or not at all.
func (h *handler) send(w http.ResponseWriter, status int, kind string, body []byte) {
	if !h.sendBudget.reserve(len(body)) {
		w.Header().Set("Retry-After", retryAfter)
		http.Error(w, "stint: "+errOverloaded.Error(), http.StatusServiceUnavailable)
		return
	}
	defer h.sendBudget.release(len(body))
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(status)
	newSlowWriter(w).Write(body)
}

// A slowWriter gives the client writeTimeout to read each writeChunk bytes.
type slowWriter struct {
	w             io.Writer
	ctrl          *http.ResponseController
	untilDeadline int // bytes until the next deadline
}

func newSlowWriter(w http.ResponseWriter) *slowWriter {
	return &slowWriter{w: w, ctrl: http.NewResponseController(w)}
}

// Write implements io.Writer.
func (s *slowWriter) Write(p []byte) (n int, err error) {
	for len(p) > 0 && err == nil {
		if s.untilDeadline <= 0 {
			s.ctrl.SetWriteDeadline(time.Now().Add(writeTimeout)) // an error means that w supports none
			s.untilDeadline = writeChunk
		}
		var wrote int
		wrote, err = s.w.Write(p[:min(len(p), s.untilDeadline)])
		n, p, s.untilDeadline = n+wrote, p[wrote:], s.untilDeadline-wrote
	}
	return n, err
}

// flush sends what was written, and clears the deadline until the next write.
func (s *slowWriter) flush() error {
	err := s.ctrl.Flush()
	s.ctrl.SetWriteDeadline(time.Time{})
	s.untilDeadline = 0
	return err
}

var errPageTooLarge = fmt.Errorf("this page would have more than %s: ask for less with a filter, "+
	"or use the API, whose lists have cursors", formatBytes(maxPage))

// A pageBuffer refuses more than maxPage bytes.
type pageBuffer struct{ bytes.Buffer }

// Write implements io.Writer.
func (b *pageBuffer) Write(p []byte) (int, error) {
	if b.Len()+len(p) > maxPage {
		return 0, errPageTooLarge
	}
	return b.Buffer.Write(p)
}

// WriteString implements io.StringWriter.
func (b *pageBuffer) WriteString(s string) (int, error) {
	if b.Len()+len(s) > maxPage {
		return 0, errPageTooLarge
	}
	return b.Buffer.WriteString(s)
}

// encode returns a value as JSON. It does not make payloads longer: < stays <, not \u003c.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return b.Bytes(), err
}

// A counter counts the bytes written to it.
type counter int

// Write implements io.Writer.
func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// fitAnswer returns how many of the rows an answer has room for, at least one.
func fitAnswer[T any](rows []T) int {
	var n counter
	e := json.NewEncoder(&n)
	e.SetEscapeHTML(false)
	for i := range rows {
		e.Encode(&rows[i]) // an error occurs again where the answer is encoded
		if n > maxAnswer && i > 0 {
			return i
		}
	}
	return len(rows)
}

// moreRowsLinks returns links to the first and the next part of a list. field is the query's
// field with the cursor, from the cursor of this part, next that of the next; "" for none.
func (h *handler) moreRowsLinks(path, field, from, next string) node {
	if from+next == "" {
		return nil
	}
	nextPath := path + "?" + url.Values{field: {next}}.Encode()
	return row(when(from != "", h.link(path, attr("class", "btn"), "First part")),
		when(next != "", h.link(nextPath, attr("class", "btn"), attr("rel", "next"), "Next part")))
}

// eachShown is each for a table whose list may be long: it shows the first maxRows rows, and
// how many more there are.
func eachShown[T any](list []T, f func(T) node) node {
	if len(list) <= maxRows {
		return each(list, f)
	}
	more := fmt.Sprintf("and %s more, which the API lists", formatNumber(len(list)-maxRows))
	return group(each(list[:maxRows], f), el("tr", el("td.dim", attr("colspan", "20"), more)))
}
