package ui

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/stint-dev/stint"
)

// A bulkAction is one that many runs take at once.
type bulkAction struct{ operation, verb, past, what, class string }

var bulkActions = []bulkAction{
	{"runs.cancel", "Cancel", "canceled", "have not ended", ""},
	{"runs.replay", "Replay", "replayed", "have ended, or are blocked", ""},
	{"runs.delete", "Delete", "deleted", "have ended", "danger"},
}

func bulkActionOf(operation string) (bulkAction, bool) {
	i := slices.IndexFunc(bulkActions, func(a bulkAction) bool { return a.operation == operation })
	if i < 0 {
		return bulkAction{}, false
	}
	return bulkActions[i], true
}

// countTo is how many runs are counted before somebody confirms, at most.
const countTo = 500

// confirmPage counts what a bulk action would touch, and asks.
func confirmPage(h *handler, ctx context.Context, arg string, q url.Values) (*view, error) {
	a, ok := bulkActionOf(q.Get("do"))
	if !ok {
		return nil, errNoPage
	}
	f, err := filterOf(q)
	if err != nil {
		return nil, err
	}
	f.Cursor, f.Limit, f.Scan = "", countTo, perQuery
	page, err := h.list(ctx, f)
	if err != nil {
		return nil, err
	}
	c := chosen(q)
	c.Del("do")
	more := only(page.Next != "", " or more")
	return &view{Title: a.verb + " runs", Still: true, Up: "/runs", Main: all(
		el("h1", a.verb+" runs?"),
		el("p", el("b", count(len(page.Runs)), more), " runs match. "+a.verb+" those of them that "+a.what+":"),
		h.runTable(page.Runs[:min(len(page.Runs), 5)]),
		h.form("", a.operation, "", h.carried(c, "", 0), row(button(a.strong(), a.verb), h.link("/runs?"+c.Encode(), attr("class", "button"), "Back"))))}, nil
}

// strong is the class of the button that does it.
func (a bulkAction) strong() string {
	if a.class != "" {
		return a.class
	}
	return "primary"
}

// carried has a form name the runs that are left to do, after how many.
func (h *handler) carried(c url.Values, cursor string, done int) node {
	fields := []any{hidden("paced", "1"), hidden("cursor", cursor), hidden("done", fmt.Sprint(done)), only(len(c) == 0, hidden("all", "true"))}
	for k, vs := range c {
		for _, v := range vs {
			fields = append(fields, hidden(k, v))
		}
	}
	return all(fields...)
}

const (
	paceEach = 500             // runs at a time
	paceFor  = time.Second / 2 // until a page says how far it is
)

// paced does a bulk action for a moment, and says where to go on: what a person sees who
// waits for a large one. It begins with the newest and goes on with older ones, so it
// leaves alone what comes meanwhile.
func (h *handler) paced(ctx context.Context, f stint.RunFilter, do bulkFunc) (wireCount, error) {
	var out wireCount
	f.Limit, f.Scan = paceEach, perQuery
	for until := time.Now().Add(paceFor); ; {
		page, err := h.c.ListRuns(ctx, f)
		if err != nil {
			return out, err
		}
		some := stint.RunFilter{}
		for _, r := range page.Runs {
			some.IDs = append(some.IDs, r.ID)
		}
		if len(some.IDs) > 0 {
			n, err := do(h.c, ctx, some)
			if out.Changed += n; err != nil {
				return out, err
			}
		}
		if out.Next = page.Next; out.Next == "" || time.Now().After(until) {
			return out, nil
		}
		f.Cursor = page.Next
	}
}

// progressPage says how far a bulk action is. The script goes on by itself; without
// scripts a button does.
func (h *handler) progressPage(a bulkAction, in url.Values, w wireCount) *view {
	c := chosen(in)
	for _, k := range []string{"paced", "done", "all"} {
		c.Del(k)
	}
	done, _ := number(in, "done", 0) // the form of the page before
	done += w.Changed
	if w.Next == "" {
		return &view{Title: a.verb + " runs", Still: true, Up: "/runs", Main: all(el("h1", "Done"),
			el("p", attr("role", "status"), el("b", count(done)), " runs were "+a.past+"."), el("p", h.link("/runs?"+c.Encode(), "To the list")))}
	}
	return &view{Title: a.verb + " runs", Still: true, Up: "/runs", Main: all(el("h1", "Going on…"),
		el("p", attr("role", "status"), el("b", count(done)), " runs were "+a.past+" so far. Leave this page to stop."), el("progress", attr("aria-label", "progress")),
		h.form("", a.operation, "", attr("data-continue"), h.carried(c, w.Next, done), button("primary", "Go on")))}
}
