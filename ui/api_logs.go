package ui

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"slices"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/internal/wire"
)

func listLogs(h *handler, ctx context.Context, in url.Values) (any, error) {
	f, err := logFilterOf(in)
	if err != nil {
		return nil, err
	}
	if f.Limit, err = intParam(in, "limit", 0); err != nil {
		return nil, err
	}
	if f.Oldest, err = boolParam(in, "oldest"); err != nil {
		return nil, err
	}
	page, err := h.logPage(ctx, f)
	if err != nil {
		return nil, err
	}
	out := wireLogPage{Lines: []wireLogged{}, Next: page.Next}
	for i := range page.Lines {
		out.Lines = append(out.Lines, wire.RunLineOf(&page.Lines[i]))
	}
	if n := fitAnswer(out.Lines); n < len(out.Lines) {
		out.Lines, out.Next = out.Lines[:n], page.Lines[n-1].Cursor()
	}
	return out, nil
}

// logFilterOf reads a filter of lines.
func logFilterOf(in url.Values) (f stint.LogFilter, err error) {
	f = stint.LogFilter{RunID: in.Get("run"), Text: in.Get("text"), Scan: scanLimit, Cursor: in.Get("cursor")}
	f.Tasks = slices.DeleteFunc(slices.Clone(in["task"]), func(t string) bool { return t == "" })
	if len(f.Tasks) == 0 {
		f.Tasks = nil // as a form sends it
	}
	if name := in.Get("level"); name != "" {
		var least slog.Level
		if least.UnmarshalText([]byte(name)) != nil {
			return f, fmt.Errorf("level %.64q: want DEBUG, INFO, WARN or ERROR", name)
		}
		f.Level = least
	}
	if f.Since, err = agoParam(in, "since"); err != nil {
		return f, err
	}
	f.Until, err = agoParam(in, "until")
	return f, err
}

// logPage returns a page of lines as they may be shown. With WithRedact a text is searched in what is shown, so that a search
// finds nothing hidden.
func (h *handler) logPage(ctx context.Context, f stint.LogFilter) (*stint.LogPage, error) {
	if h.redact == nil {
		return h.c.ListLogs(ctx, f)
	}
	text := f.Text
	f.Text = ""
	for looked := 0; ; {
		page, err := h.c.ListLogs(ctx, f)
		if err != nil {
			return nil, err
		}
		looked += len(page.Lines)
		for i := range page.Lines {
			l := &page.Lines[i]
			h.redactLine(l.Task, &l.LogLine)
		}
		page.Lines = slices.DeleteFunc(page.Lines, func(l stint.RunLogLine) bool { return text != "" && !l.Has(text) })
		if len(page.Lines) > 0 || page.Next == "" || looked >= scanLimit || text == "" {
			return page, nil
		}
		f.Cursor = page.Next
	}
}
