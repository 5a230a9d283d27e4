package ui

import (
	"context"
	"net/url"
	"strconv"
	"time"

	"github.com/stint-dev/stint"
)

// countFor is how long one request counts. A list is not counted while it is rendered: its script asks for the parts, one
// after the other, and without scripts a link does.
const countFor = 100 * time.Millisecond

// count counts the runs that match from a cursor on, in parts, for countFor.
func (h *handler) count(ctx context.Context, f stint.RunFilter) (sum stint.RunCount, err error) {
	f.Scan = scanLimit
	for until := time.Now().Add(countFor); ; {
		part, err := h.c.CountMatching(ctx, f)
		if err != nil {
			return sum, err
		}
		sum.Runs, sum.Next = sum.Runs+part.Runs, part.Next
		if f.Cursor = part.Next; part.Next == "" || time.Now().After(until) {
			return sum, nil
		}
	}
}

func countRuns(h *handler, ctx context.Context, in url.Values) (any, error) {
	f, err := h.filterOf(in)
	if err != nil {
		return nil, err
	}
	n, err := h.count(ctx, f)
	return wireMatches(n), err
}

// matching returns how many runs match: the number if the first page has all, else a link that counts them.
func (h *handler) matching(c url.Values, page *stint.RunPage, first bool) node {
	if first && page.Next == "" {
		return el("p", attr("id", "count"), counted(int64(len(page.Runs)), "run", "runs"))
	}
	q := filterOnly(c).Encode()
	return el("p", attr("id", "count"), attr("data-keep"), attr("data-count", h.base+"/api/runs.count?"+q),
		h.link("/count?"+q, "Count them all"))
}

// filterOnly returns the fields of a query that are those of a filter.
func filterOnly(q url.Values) url.Values {
	f := url.Values{}
	for _, name := range filterParams {
		if vs, ok := q[name]; ok {
			f[name] = vs
		}
	}
	return f
}

// countPage counts all runs that match, a part each time that it is shown.
func countPage(h *handler, ctx context.Context, arg string, q url.Values) (*view, error) {
	f, err := h.filterOf(q)
	if err != nil {
		return nil, err
	}
	n, err := h.count(ctx, f)
	if err != nil {
		return nil, err
	}
	before, err := intParam(q, "counted", 0)
	if err != nil {
		return nil, err
	}
	runs := formatNumber(before + n.Runs)
	list := filterOnly(q)
	what := group(el("b", runs), " match: ", userText(describeFilter(f)), ".")
	var more node
	if n.Next != "" {
		next := filterOnly(q)
		next.Set("cursor", n.Next)
		next.Set("counted", strconv.Itoa(before+n.Runs))
		what = group(el("b", runs), " match so far, of the newest: ", userText(describeFilter(f)), ".")
		more = h.link("/count?"+next.Encode(), attr("class", "btn primary"), attr("rel", "next"), "Count on")
	}
	return &view{Title: "Count runs", Still: true, Up: "/runs", Main: group(el("h1", "Count runs"), el("p", attr("role", "status"), what),
		row(more, h.link("/runs?"+list.Encode(), attr("class", "btn"), "To the list")))}, nil
}
