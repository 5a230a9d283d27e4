package stint

import (
	"context"
	"log/slog"

	"github.com/stint-dev/stint/internal/guard"
)

// logger is the app's logger. It may be called where a panic would end the process.
func (c *Client) logger() *slog.Logger {
	l := c.cfg.logger
	if l == nil {
		l = slog.Default()
	}
	return slog.New(safeHandler{l.Handler()})
}

// A safeHandler calls a log handler of the app's. A line at which that panics, or of which
// a value does, is lost: there is nowhere to say so.
type safeHandler struct{ app slog.Handler }

func (h safeHandler) Enabled(ctx context.Context, l slog.Level) (enabled bool) {
	guard.Call(func() { enabled = h.app.Enabled(ctx, l) })
	return enabled
}

func (h safeHandler) Handle(ctx context.Context, r slog.Record) error {
	return guarded(func() error { return h.app.Handle(ctx, r) })
}

func (h safeHandler) WithAttrs(as []slog.Attr) slog.Handler {
	with := h.app
	guard.Call(func() { with = h.app.WithAttrs(as) })
	return safeHandler{with}
}

func (h safeHandler) WithGroup(name string) slog.Handler {
	with := h.app
	guard.Call(func() { with = h.app.WithGroup(name) })
	return safeHandler{with}
}
