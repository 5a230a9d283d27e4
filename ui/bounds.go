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

// What requests cost at most, whatever payloads the file holds. A client lists no more than
// 8 MiB at a time; these bound what is made of that, and who may wait for it.
const (
	maxQuery    = 64 << 10  // bytes of a URL's query
	maxValues   = 20_000    // values in a form, or in a field of an object
	maxFields   = 100       // fields of an object
	maxAnswer   = 16 << 20  // bytes of a list in an answer of the API, unless one row alone has more
	maxPage     = 4 << 20   // bytes of a page
	maxSending  = 64 << 20  // bytes that are being sent at one time, to all
	maxCached   = 32 << 20  // bytes of live pages that are kept for several viewers
	maxWorking  = 4         // pages and answers that are made at one time
	perWrite    = 256 << 10 // bytes that must be taken within writeFor
	writeFor    = 10 * time.Second
	workFor     = 10 * time.Second // how long a request waits for its turn
	maxStreams  = 1000             // live pages that are open, of all
	perClient   = 100              // and of one address
	retryAfter  = "2"              // seconds
	listShown   = 200              // rows of a list that has no pages
	linksShown  = 20               // runs in one cell
	keysShown   = 10               // of metadata in one cell
	logsBytes   = 256 << 10        // of the log lines on a run's page
	streamShown = 64 << 10         // bytes of a run's stream on its page
)

// A budget is a number of bytes that several share.
type budget struct {
	mu        sync.Mutex
	used, max int
}

// reserve reports whether n more are within the budget, which has them until give.
func (b *budget) reserve(n int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used > 0 && b.used+n > b.max { // one alone passes, whatever its size
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

// acquireSlot waits until fewer than maxWorking pages and answers are being made. The function that
// it returns ends the turn.
func (h *handler) acquireSlot(ctx context.Context) (done func(), err error) {
	t := time.NewTimer(workFor)
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

// send writes an answer, to a reader who may be slow or not read at all.
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

// A slowWriter gives the reader writeFor to take each perWrite bytes.
type slowWriter struct {
	w    io.Writer
	out  *http.ResponseController
	left int // bytes until the next deadline
}

func newSlowWriter(w http.ResponseWriter) *slowWriter {
	return &slowWriter{w: w, out: http.NewResponseController(w)}
}

// Write implements io.Writer.
func (s *slowWriter) Write(p []byte) (n int, err error) {
	for len(p) > 0 && err == nil {
		if s.left <= 0 {
			s.out.SetWriteDeadline(time.Now().Add(writeFor)) // not all writers have one
			s.left = perWrite
		}
		var wrote int
		wrote, err = s.w.Write(p[:min(len(p), s.left)])
		n, p, s.left = n+wrote, p[wrote:], s.left-wrote
	}
	return n, err
}

// flush sends what was written, and leaves no deadline for the time in which nothing is.
func (s *slowWriter) flush() error {
	err := s.out.Flush()
	s.out.SetWriteDeadline(time.Time{})
	s.left = 0
	return err
}

var errPageTooLarge = fmt.Errorf("this page would have more than %s: ask for less with a filter, or use the API, whose lists have cursors", formatBytes(maxPage))

// A pageBuffer takes maxPage bytes.
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

// encode is a value as JSON, which stays as long as it was stored: no < becomes \u003c.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return b.Bytes(), err
}

// counter counts what is written to it.
type counter int

// Write implements io.Writer.
func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// fitAnswer returns how many of the rows an answer has room for, one at least.
func fitAnswer[T any](rows []T) int {
	var n counter
	e := json.NewEncoder(&n)
	e.SetEscapeHTML(false)
	for i := range rows {
		e.Encode(&rows[i]) // an error comes again where the answer is made
		if n > maxAnswer && i > 0 {
			return i
		}
	}
	return len(rows)
}

// otherRows links to the other parts of a list that a page shows in parts, by a field of its
// query: to the first part, if this is not it, and to the next, if there is one.
func (h *handler) otherRows(path, field, from, next string) node {
	if from+next == "" {
		return nil
	}
	return row(when(from != "", h.link(path, attr("class", "button"), "First part")),
		when(next != "", h.link(path+"?"+url.Values{field: {next}}.Encode(), attr("class", "button"), attr("rel", "next"), "Next part")))
}

// eachShown is each for a table whose list may be long: it shows the first listShown rows, and
// says how many more there are.
func eachShown[T any](list []T, f func(T) node) node {
	if len(list) <= listShown {
		return each(list, f)
	}
	more := fmt.Sprintf("and %s more, which the API lists", formatNumber(len(list)-listShown))
	return group(each(list[:listShown], f), el("tr", el("td.dim", attr("colspan", "20"), more)))
}
