package ui

import (
	"bytes"
	"compress/flate"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/internal/pause"
)

const (
	liveInterval  = 50 * time.Millisecond // shortest time between two updates of a page
	liveRate      = 2.0                   // updates of a page a second, where changes do not end
	liveAhead     = 4.0                   // updates that may come sooner, after a quiet time
	liveHeartbeat = 10 * time.Second      // longest time between two checks of a page, which also keep the connection open
	// quietShare is the part of one CPU that rendering may use, for all live pages and viewers
	// together; busyShare is that part while the engine is busy: while there are more than
	// busyChanges changes a second. liveBurst is the CPU time it may use at once after a quiet time.
	quietShare  = 0.25
	busyShare   = 0.03
	busyChanges = 1000
	liveBurst   = 50 * time.Millisecond
)

// live renders open pages again when the database changes. Viewers of the same page share one
// rendering.
type live struct {
	h         *handler
	mu        sync.Mutex
	pages     map[string]*livePage // by URL
	byClient  map[string]int       // open streams, by the client's address
	total     int                  // open streams
	cache     budget               // of the pages' main
	debt      time.Duration        // CPU time that rendering used and that has not been waited for
	debtAt    time.Time            // when debt was computed
	shutdowns map[*http.Server]context.Context
}

type livePage struct {
	mu        sync.Mutex
	viewers   int
	mark      uint64 // the last change that main shows
	at        time.Time
	main      []byte        // nil: the cache has no room
	recentMin time.Duration // see cost
}

func newLive(h *handler) *live {
	return &live{h: h, pages: map[string]*livePage{}, byClient: map[string]int{},
		cache: budget{max: maxCached}, shutdowns: map[*http.Server]context.Context{}}
}

// requestContext returns the request's context, which also ends when the server begins to shut
// down: Shutdown waits for open requests, and a live page never ends by itself.
func (l *live) requestContext(r *http.Request) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(r.Context())
	server, ok := r.Context().Value(http.ServerContextKey).(*http.Server)
	if !ok {
		return ctx, cancel
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shutdowns[server] == nil {
		end, shut := context.WithCancel(context.Background())
		l.shutdowns[server] = end
		server.RegisterOnShutdown(shut)
	}
	stop := context.AfterFunc(l.shutdowns[server], cancel)
	return ctx, func() { stop(); cancel() }
}

// serve streams a page's content as server-sent events named "main", one after each change. Each
// has the whole content; the browser finds what differs.
func (l *live) serve(w http.ResponseWriter, r *http.Request) {
	if !l.h.authorize(w, r, Action{Name: "view"}) {
		return
	}
	u, err := url.Parse(r.URL.Query().Get("url"))
	if err != nil || u.IsAbs() || u.Host != "" || !strings.HasPrefix(u.Path, "/") {
		l.h.writeError(w, r, http.StatusBadRequest, errors.New("url: want the path of a page"))
		return
	}
	u = remembered(r, u)
	client, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		client = r.RemoteAddr
	}
	if status, err := l.admit(client); err != nil {
		l.h.writeError(w, r, status, err)
		return
	}
	defer l.release(client)
	key := u.EscapedPath() + "?" + u.RawQuery
	page := l.enter(key)
	defer l.leave(key, page)
	ctx, stop := l.requestContext(r)
	defer stop()
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no")
	out := newSlowWriter(w)
	out.ctrl.SetWriteDeadline(time.Time{}) // the server's own deadline is for pages that end
	s := &stream{slowWriter: out}
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		s.packs = true
		out.Write([]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff")) // the header of gzip; see pack
	}
	l.follow(ctx, s, page, u)
}

// A stream sends a page's content to one viewer.
type stream struct {
	*slowWriter
	packs  bool // with gzip
	sent   [sha256.Size]byte
	credit float64 // updates that it may send at once, at the time at
	at     time.Time
}

var packers = sync.Pool{New: func() any {
	z, _ := flate.NewWriter(io.Discard, flate.BestSpeed) // the level is valid
	return z
}}

// pack writes an event. Each is compressed by itself, with a compressor that other streams use too: one for each
// stream would take 1 MiB of memory. Blocks that refer to nothing before them may follow each other.
func (s *stream) pack(event []byte) {
	if !s.packs {
		s.Write(event)
		return
	}
	z := packers.Get().(*flate.Writer)
	defer packers.Put(z)
	z.Reset(s.slowWriter)
	z.Write(event)
	z.Flush()
}

// wait returns how long to wait before the next update.
func (s *stream) wait(now time.Time) time.Duration {
	if s.at.IsZero() {
		s.credit = liveAhead
	}
	s.credit = min(s.credit+liveRate*now.Sub(s.at).Seconds(), liveAhead) - 1
	s.at = now
	return max(liveInterval, time.Duration(-s.credit/liveRate*float64(time.Second)))
}

// follow sends a page's content after each change, until ctx ends or the client reads too slowly.
func (l *live) follow(ctx context.Context, out *stream, page *livePage, u *url.URL) {
	var mark uint64
	for asOf := time.Now(); ; {
		n, err := l.waitForChange(ctx, mark)
		if err != nil {
			return
		}
		share, now := quietShare, time.Now()
		if mark > 0 && float64(n-mark) > busyChanges*now.Sub(asOf).Seconds() {
			share = busyShare
		}
		main, err := l.render(ctx, page, u, n, n == mark, share)
		mark, asOf = n, now
		if err != nil {
			return
		}
		changed, ok := l.send(out, main)
		wait := liveInterval
		if changed {
			wait = out.wait(time.Now())
		}
		if !ok || !pause.For(ctx, wait) {
			return
		}
	}
}

// send sends the page's content if it differs from what was sent last. ok is false if the
// stream must end; the browser then opens another.
func (l *live) send(out *stream, main []byte) (changed, ok bool) {
	sum := sha256.Sum256(main)
	if changed = sum != out.sent; !changed {
		out.pack([]byte(":\n\n"))
		return false, out.flush() == nil
	}
	if !l.h.sendBudget.reserve(len(main)) {
		return true, false
	}
	defer l.h.sendBudget.release(len(main))
	var event bytes.Buffer
	writeEvent(&event, "main", main)
	out.pack(event.Bytes())
	out.sent = sum
	return true, out.flush() == nil
}

// admit counts a stream of a client, or returns why the client may open no more.
func (l *live) admit(client string) (status int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.total >= maxStreams {
		return http.StatusServiceUnavailable, fmt.Errorf("%d live pages are open, and no more can be", maxStreams)
	}
	if l.byClient[client] >= maxStreamsPerClient {
		return http.StatusTooManyRequests, fmt.Errorf("%d live pages are open at %s: close some", maxStreamsPerClient, client)
	}
	l.total++
	l.byClient[client]++
	return 0, nil
}

func (l *live) release(client string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	if l.byClient[client]--; l.byClient[client] == 0 {
		delete(l.byClient, client)
	}
}

// waitForChange waits for a change, at most liveHeartbeat: pages also show times that pass.
func (l *live) waitForChange(ctx context.Context, after uint64) (uint64, error) {
	beat, cancel := context.WithTimeout(ctx, liveHeartbeat)
	defer cancel()
	n, err := l.h.c.Changed(beat, after)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return after, nil
	}
	return n, err
}

func (l *live) enter(key string) *livePage {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.pages[key]
	if p == nil {
		p = &livePage{}
		l.pages[key] = p
	}
	p.viewers++
	return p
}

func (l *live) leave(key string, p *livePage) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.viewers--; p.viewers == 0 {
		delete(l.pages, key)
		l.cache.release(len(p.main))
	}
}

// render returns the content of a page as of the change mark, or a later one. passed means that
// nothing has changed, but that times on the page have passed. share is the part of a CPU that
// this may use.
func (l *live) render(ctx context.Context, p *livePage, u *url.URL, mark uint64, passed bool, share float64) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.main != nil && p.mark >= mark && !(passed && time.Since(p.at) > liveHeartbeat/2) {
		return p.main, nil
	}
	if !pause.For(ctx, l.delay(share)) {
		return nil, ctx.Err()
	}
	began := time.Now()
	main, err := l.h.renderMain(ctx, u)
	l.charge(p.cost(time.Since(began)))
	if errors.Is(err, stint.ErrClosed) || main == nil || ctx.Err() != nil {
		return nil, err
	}
	p.mark, p.at = mark, began
	l.cache.release(len(p.main))
	if p.main = main; !l.cache.reserve(len(main)) {
		p.main = nil
	}
	return main, nil
}

// cost estimates a render's CPU time as the page's recent minimum: wall time is inflated on a
// busy machine.
func (p *livePage) cost(took time.Duration) time.Duration {
	if p.recentMin == 0 || took < p.recentMin {
		p.recentMin = took
	} else {
		p.recentMin += min(p.recentMin/8, took-p.recentMin)
	}
	return p.recentMin
}

// delay returns how long to wait before the next rendering, to stay within share.
func (l *live) delay(share float64) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.debt = max(l.debt-time.Duration(share*float64(now.Sub(l.debtAt))), 0)
	l.debtAt = now
	return time.Duration(float64(max(l.debt-liveBurst, 0)) / share)
}

func (l *live) charge(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.debt += d
}

// writeEvent writes a server-sent event. data may have several lines.
func writeEvent(w io.Writer, name string, data []byte) {
	fmt.Fprintf(w, "event: %s\n", name)
	for line := range bytes.SplitSeq(data, []byte("\n")) {
		w.Write([]byte("data: "))
		w.Write(bytes.ReplaceAll(line, []byte("\r"), []byte("&#13;"))) // it would end the line
		w.Write([]byte("\n"))
	}
	w.Write([]byte("\n"))
}
