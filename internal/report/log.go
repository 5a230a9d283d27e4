package report

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/stint-dev/stint/internal/guard"
	"github.com/stint-dev/stint/internal/text"
	"github.com/stint-dev/stint/store"
)

// Bytes kept of a progress message, of a log line and of a line's attributes.
const (
	MaxProgress = 1 << 10
	MaxMessage  = 16 << 10
	MaxAttrs    = 64 << 10
)

// A LogHandler passes each record to the app's handler, and keeps it with the run.
type LogHandler struct {
	base    slog.Handler
	attrs   slog.Handler // renders a record's attributes into sink
	sink    *sink
	keep    func(r slog.Record, attrs []byte)
	guarded func(func() error) error
}

type sink struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// NewLogHandler returns a handler that calls keep with each record and its attributes as JSON, which are nil if it has
// none or they cannot be encoded. guarded calls the app's code.
func NewLogHandler(base slog.Handler, guarded func(func() error) error, keep func(r slog.Record, attrs []byte)) *LogHandler {
	s := &sink{}
	attrs := slog.NewJSONHandler(&s.buf, &slog.HandlerOptions{Level: slog.Level(-1 << 20), ReplaceAttr: dropBuiltin})
	return &LogHandler{base, attrs, s, keep, guarded}
}

// dropBuiltin drops time, level and message, which are stored separately.
func dropBuiltin(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey) {
		return slog.Attr{}
	}
	return a
}

// Enabled implements slog.Handler.
func (h *LogHandler) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelInfo || h.base.Enabled(ctx, l)
}

// Handle implements slog.Handler.
func (h *LogHandler) Handle(ctx context.Context, r slog.Record) error {
	attrs, err := h.render(ctx, r)
	h.keep(r, attrs)
	if h.base.Enabled(ctx, r.Level) {
		return errors.Join(err, h.base.Handle(ctx, r))
	}
	return err
}

// render returns a record's attributes as JSON, or nil if it has none or they cannot be
// encoded.
func (h *LogHandler) render(ctx context.Context, r slog.Record) (attrs []byte, err error) {
	h.sink.mu.Lock()
	defer h.sink.mu.Unlock()
	h.sink.buf.Reset()
	err = h.guarded(func() error { return h.attrs.Handle(ctx, r) })
	if attrs = bytes.TrimSpace(h.sink.buf.Bytes()); err != nil || string(attrs) == "{}" {
		return nil, err
	}
	return cutAttrs(bytes.Clone(attrs))
}

// NewLine returns a line of a program elsewhere as it is stored. The error names its fault.
func NewLine(l store.Log) (store.Log, error) {
	if l.Attempt < 1 {
		return l, fmt.Errorf("a line has attempt %d: want 1 or more", l.Attempt)
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(l.Attrs, &object); err != nil && len(l.Attrs) > 0 {
		return l, errors.New("a line's Attrs are not a JSON object")
	}
	l.Message = text.Cut(l.Message, MaxMessage)
	if len(object) == 0 {
		l.Attrs = nil
		return l, nil
	}
	var err error
	l.Attrs, err = cutAttrs(bytes.Clone(l.Attrs))
	return l, err
}

// cutAttrs shortens a line's attributes.
func cutAttrs(attrs []byte) ([]byte, error) {
	if len(attrs) > MaxAttrs {
		return json.Marshal(map[string]string{"cut": text.Cut(string(attrs), text.Listed)})
	}
	return attrs, nil
}

// WithAttrs implements slog.Handler.
func (h *LogHandler) WithAttrs(as []slog.Attr) slog.Handler {
	with := *h
	guard.Call(func() { with.attrs = h.attrs.WithAttrs(as) }) // it renders them
	with.base = h.base.WithAttrs(as)
	return &with
}

// WithGroup implements slog.Handler.
func (h *LogHandler) WithGroup(name string) slog.Handler {
	with := *h
	with.base, with.attrs = h.base.WithGroup(name), h.attrs.WithGroup(name)
	return &with
}
