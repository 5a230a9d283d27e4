package guard

import (
	"context"
	"log/slog"
)

// LogHandler returns a handler that calls h, and survives its panics. A record at which h, or
// a method of a value in it, panics is lost: there is nowhere to report that.
func LogHandler(h slog.Handler) slog.Handler { return logHandler{h} }

type logHandler struct{ app slog.Handler }

func (h logHandler) Enabled(ctx context.Context, l slog.Level) (enabled bool) {
	Call(func() { enabled = h.app.Enabled(ctx, l) })
	return enabled
}

func (h logHandler) Handle(ctx context.Context, r slog.Record) (err error) {
	if p := Call(func() { err = h.app.Handle(ctx, r) }); p != nil {
		return p
	}
	return err
}

func (h logHandler) WithAttrs(as []slog.Attr) slog.Handler {
	with := h.app
	Call(func() { with = h.app.WithAttrs(as) })
	return logHandler{with}
}

func (h logHandler) WithGroup(name string) slog.Handler {
	with := h.app
	Call(func() { with = h.app.WithGroup(name) })
	return logHandler{with}
}
