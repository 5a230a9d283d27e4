package ui

import (
	"context"
	"net/url"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/internal/wire"
)

func listRuns(h *handler, ctx context.Context, in url.Values) (any, error) {
	f, err := h.filterOf(in)
	if err != nil {
		return nil, err
	}
	if f.OldestFirst, err = boolParam(in, "oldest"); err != nil {
		return nil, err
	}
	if f.Limit, err = intParam(in, "limit", 0); err != nil {
		return nil, err
	}
	f.Scan = scanLimit
	page, err := h.list(ctx, f)
	if err != nil {
		return nil, err
	}
	out := wireRuns{Runs: []wireRun{}, Next: page.Next}
	for i := range page.Runs {
		out.Runs = append(out.Runs, wire.RunOf(&page.Runs[i]))
	}
	if n := fitAnswer(out.Runs); n < len(out.Runs) { // WithRedact may return more than what is stored
		out.Runs, out.Next = out.Runs[:n], out.Runs[n-1].ID
	}
	return out, nil
}

func getRun(h *handler, ctx context.Context, in url.Values) (any, error) {
	info, err := h.c.GetRun(ctx, in.Get("id"))
	if err != nil {
		return nil, err
	}
	h.redactRun(info)
	return wire.RunOf(info), nil
}

// bulk returns an operation on the runs that match a filter. A filter that selects nothing is an
// error, unless the field all is true. With paced it stops after paceFor; the caller continues
// from the cursor that it returns.
func bulk(name string) operationFunc {
	return func(h *handler, ctx context.Context, in url.Values) (any, error) {
		a, _ := bulkActionOf(name)
		f, err := h.selectionOf(in)
		if err != nil {
			return nil, err
		}
		if a, err = h.on(ctx, a, in); err != nil {
			return nil, err
		}
		if err := h.checkNames(ctx, in, f.Tasks, f.Queues); err != nil {
			return nil, err
		}
		if len(f.IDs) == 1 {
			if _, err := h.c.GetRun(ctx, f.IDs[0]); err != nil {
				return nil, err
			}
		}
		paced, err := boolParam(in, "paced")
		if err != nil {
			return nil, err
		}
		if paced && !f.DryRun {
			return h.paced(ctx, a, f)
		}
		n, err := a.do(h.c, ctx, f)
		return wireCount{Changed: n}, err
	}
}

func restart(h *handler, ctx context.Context, in url.Values) (any, error) {
	step, err := requiredParam(in, "step")
	if err != nil {
		return nil, err
	}
	return wireDone{true}, h.c.RestartFrom(ctx, in.Get("id"), step)
}

func fork(h *handler, ctx context.Context, in url.Values) (any, error) {
	step, err := requiredParam(in, "step")
	if err != nil {
		return nil, err
	}
	id, err := h.c.Fork(ctx, in.Get("id"), step)
	return wireStarted{id, false}, err
}

func reschedule(h *handler, ctx context.Context, in url.Values) (any, error) {
	if _, err := requiredParam(in, "at"); err != nil {
		return nil, err
	}
	at, err := dueParam(in, "at")
	if err != nil {
		return nil, err
	}
	return wireDone{true}, h.c.Reschedule(ctx, in.Get("id"), at)
}

// What a run has recorded, logged and streamed, which the API lists in parts.

func getJournal(h *handler, ctx context.Context, in url.Values) (any, error) {
	info, err := h.c.GetRun(ctx, in.Get("id"))
	if err != nil {
		return nil, err
	}
	limit, err := intParam(in, "limit", 0)
	if err != nil {
		return nil, err
	}
	page, err := h.c.JournalPage(ctx, info.ID, stint.JournalFilter{Limit: limit, Cursor: in.Get("cursor")})
	if err != nil {
		return nil, err
	}
	h.redactEntries(info.Task, page.Entries)
	out := wireJournal{Entries: []wireEntry{}, Next: page.Next}
	for i := range page.Entries {
		out.Entries = append(out.Entries, wire.EntryOf(&page.Entries[i]))
	}
	if n := fitAnswer(out.Entries); n < len(out.Entries) {
		out.Entries, out.Next = out.Entries[:n], out.Entries[n-1].Address
	}
	return out, nil
}

// runPart returns the run whose lines or chunks are requested: up to limit of them, after one.
func (h *handler) runPart(ctx context.Context, in url.Values) (info *stint.RunInfo, after, limit int, err error) {
	if after, err = intParam(in, "after", 0); err != nil {
		return nil, 0, 0, err
	}
	if limit, err = intParam(in, "limit", 1000); err != nil {
		return nil, 0, 0, err
	}
	info, err = h.c.GetRun(ctx, in.Get("id"))
	return info, after, min(limit, 10_000), err
}

func getLogs(h *handler, ctx context.Context, in url.Values) (any, error) {
	info, after, limit, err := h.runPart(ctx, in)
	if err != nil {
		return nil, err
	}
	lines, err := h.c.Logs(ctx, info.ID, int64(after), limit)
	if err != nil {
		return nil, err
	}
	h.redactLines(info.Task, lines)
	out := wireLogs{Lines: []wireLine{}}
	for i := range lines {
		out.Lines = append(out.Lines, wire.LineOf(&lines[i]))
	}
	out.Lines = out.Lines[:fitAnswer(out.Lines)]
	out.Next = int64(after)
	if n := len(out.Lines); n > 0 {
		out.Next = out.Lines[n-1].Seq
	}
	return out, nil
}
