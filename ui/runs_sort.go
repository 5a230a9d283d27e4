package ui

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/stint-dev/stint"
)

// sortedRuns is how many of the newest runs that match are sorted by what has no index. Of those the list shows maxRows.
const sortedRuns = 1000

// sortOf returns the column that a query sorts by, nil for the newest first, and whether the lowest come first.
func sortOf(q url.Values) (by *runColumn, ascending bool) {
	name, ascending := q.Get("sort"), true
	if rest, ok := strings.CutPrefix(name, "-"); ok {
		name, ascending = rest, false
	}
	i := slices.IndexFunc(runColumns, func(c runColumn) bool { return c.key == name && c.by != nil })
	if i < 0 {
		return nil, false
	}
	return &runColumns[i], ascending
}

// oldestFirst is the field sort of a list by ID from the oldest run on, which has pages as the usual one.
const oldestFirst = "created"

// listSorted returns the newest runs that match, sorted, and a sentence that says which runs those are. Runs that have no
// value, such as no start, come last.
func (h *handler) listSorted(ctx context.Context, f stint.RunFilter, by *runColumn, ascending bool) (*stint.RunPage, node, error) {
	f.Limit, f.Cursor, f.Brief = sortedRuns, "", true
	page, err := h.c.ListRuns(ctx, f)
	if err != nil {
		return nil, nil, err
	}
	n := len(page.Runs)
	slices.SortStableFunc(page.Runs, func(a, b stint.RunInfo) int {
		x, y := by.by(&a), by.by(&b)
		if (x < 0) != (y < 0) {
			return cmp.Compare(y, x)
		}
		if ascending {
			return cmp.Compare(x, y)
		}
		return cmp.Compare(y, x)
	})
	if page.Runs, err = h.readAgain(ctx, page.Runs[:min(n, maxRows)]); err != nil {
		return nil, nil, err
	}
	what := "All " + counted(int64(n), "run", "runs") + " that match"
	if page.Next != "" {
		what = fmt.Sprintf("The newest %s that match", counted(int64(n), "run", "runs"))
	}
	what += ", by “" + by.title + "”"
	if n > maxRows {
		what += fmt.Sprintf(": the first %d", maxRows)
	}
	if page.Next != "" {
		what += ". To sort older ones too, narrow the time or the query"
	}
	page.Next = ""
	return page, el("p.dim", attr("id", "sorted"), what+"."), nil
}

// readAgain returns runs of a brief list with all that they have, in their order. One that was deleted meanwhile is left out.
func (h *handler) readAgain(ctx context.Context, runs []stint.RunInfo) ([]stint.RunInfo, error) {
	at := map[string]int{}
	f := stint.RunFilter{Limit: sortedRuns}
	for i := range runs {
		at[runs[i].ID] = i
		f.IDs = append(f.IDs, runs[i].ID)
	}
	whole := make([]stint.RunInfo, len(runs))
	for more := len(runs) > 0; more; more = f.Cursor != "" { // a page may end early: inputs may be large
		page, err := h.list(ctx, f)
		if errors.Is(err, stint.ErrNotFound) {
			break
		}
		if err != nil {
			return nil, err
		}
		for _, r := range page.Runs {
			whole[at[r.ID]] = r
		}
		f.Cursor = page.Next
	}
	return slices.DeleteFunc(whole, func(r stint.RunInfo) bool { return r.ID == "" }), nil
}

// sortHead returns the heading of a column: a link that sorts by it, where that is possible.
func (h *handler) sortHead(c url.Values, col *runColumn) node {
	if col.class == "" { // the one that is as wide as its place
		return el("th", col.title)
	}
	class := "th." + col.class + ".opt"
	if col.by == nil {
		return el(class, userText(col.title))
	}
	by, ascending := sortOf(c)
	is := by != nil && by.key == col.key
	to := filterQuery(c)
	if to.Set("sort", "-"+col.key); is && !ascending {
		to.Set("sort", col.key)
	}
	order := ""
	if is {
		order = map[bool]string{true: "ascending", false: "descending"}[ascending]
	}
	return el(class+".num", when(is, attr("aria-sort", order)), el("a", attr("href", "?"+to.Encode()), attr("title", "Sort by this"),
		col.title, when(is, map[bool]string{true: " ↑", false: " ↓"}[ascending])))
}
