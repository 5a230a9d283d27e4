package stint

import (
	"context"
	"errors"
	"log/slog"

	"github.com/stint-dev/stint/internal/guard"
	"github.com/stint-dev/stint/internal/text"
)

// logger is the app's logger. It may be called where a panic would end the process.
func (c *Client) logger() *slog.Logger {
	l := c.cfg.logger
	if l == nil {
		l = slog.Default()
	}
	return slog.New(safeHandler{l.Handler()})
}

// WithoutErrorText keeps the texts of errors that the app's code returned out of the
// client's logger and out of spans: they say what kind of failure it was ("error", "panic",
// "timeout", "canceled"), and the text is in the database alone, with the run. Without it a
// text is logged, cut at 1 KiB.
func WithoutErrorText() ClientOption {
	return clientOption(func(c *clientConfig) error {
		c.noErrorText = true
		return nil
	})
}

// logText is what the log says of an error of the app's; nil: nothing.
func (c *Client) logText(err error) string {
	switch {
	case err == nil:
		return ""
	case c.cfg.noErrorText:
		return failureKind(vet(err))
	}
	return text.Cut(vet(err).Error(), maxListedText)
}

// spanError is an error of the app's as spans have it, of which they show the type too.
func (c *Client) spanError(err error) error {
	if seen := vet(err); !c.cfg.noErrorText && len(seen.Error()) <= maxListedText {
		return original(seen)
	}
	return errors.New(c.logText(err))
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
