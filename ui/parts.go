package ui

import (
	"context"
	"net/url"

	"github.com/stint-dev/stint"
)

// What a run has recorded, logged and streamed, which the API lists in parts.

func getJournal(h *handler, ctx context.Context, in url.Values) (any, error) {
	info, err := h.c.GetRun(ctx, in.Get("id"))
	if err != nil {
		return nil, err
	}
	limit, err := number(in, "limit", 0)
	if err != nil {
		return nil, err
	}
	page, err := h.c.JournalPage(ctx, info.ID, stint.JournalFilter{Limit: limit, Cursor: in.Get("cursor")})
	if err != nil {
		return nil, err
	}
	h.redactEntries(info.Task, page.Entries)
	out := wireJournal{Entries: []wireEntry{}, Next: page.Next}
	for _, e := range page.Entries {
		out.Entries = append(out.Entries, wireEntry{e.Address, e.Kind, e.Name, e.Done, e.Output, e.Error, optional(e.At), optional(e.Due), e.Attempts})
	}
	if n := fit(out.Entries); n < len(out.Entries) {
		out.Entries, out.Next = out.Entries[:n], out.Entries[n-1].Address
	}
	return out, nil
}

// part is the run whose lines or chunks are asked for: up to limit of them after one.
func (h *handler) part(ctx context.Context, in url.Values) (info *stint.RunInfo, after, limit int, err error) {
	if after, err = number(in, "after", 0); err != nil {
		return nil, 0, 0, err
	}
	if limit, err = number(in, "limit", 1000); err != nil {
		return nil, 0, 0, err
	}
	info, err = h.c.GetRun(ctx, in.Get("id"))
	return info, after, min(limit, 10_000), err
}

func getLogs(h *handler, ctx context.Context, in url.Values) (any, error) {
	info, after, limit, err := h.part(ctx, in)
	if err != nil {
		return nil, err
	}
	lines, err := h.c.Logs(ctx, info.ID, int64(after), limit)
	if err != nil {
		return nil, err
	}
	h.redactLines(info.Task, lines)
	out := wireLogs{Lines: []wireLine{}}
	for _, l := range lines {
		out.Lines = append(out.Lines, wireLine{l.Seq, l.At, l.Level.String(), l.Message, l.Attrs, l.Attempt})
	}
	out.Lines = out.Lines[:fit(out.Lines)]
	out.Next = int64(after)
	if n := len(out.Lines); n > 0 {
		out.Next = out.Lines[n-1].Seq
	}
	return out, nil
}

func getStream(h *handler, ctx context.Context, in url.Values) (any, error) {
	info, after, limit, err := h.part(ctx, in)
	if err != nil {
		return nil, err
	}
	chunks, err := h.c.StreamChunks(ctx, info.ID, int64(after), limit)
	out := wireStream{Chunks: []string{}}
	for _, c := range chunks {
		out.Chunks = append(out.Chunks, h.showText("stream", info.Task, string(c)))
	}
	out.Chunks = out.Chunks[:fit(out.Chunks)]
	out.Next = after + len(out.Chunks)
	return out, err
}
