package reading

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stint-dev/stint/internal/clock"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/count"
)

// errorGroups reads a store.ErrorGroupList.
func (r *Reader) errorGroups(q Querier, x *store.ErrorQuery, limit int, now time.Time) (all []store.ErrorGroup, more bool, err error) {
	type row struct {
		store.ErrorGroup
		run, first, last int64
		muted            *int64
		to, resolved     *int64
	}
	where, args := r.errorGroupsWhere(x)
	rows, more, err := page(q, limit, func(g *row) []any {
		return []any{&g.Group, &g.Task, &g.Text, &g.Sample, &g.run, &g.first, &g.last, &g.Count, &g.muted, &g.to, &g.resolved}
	}, func(g *row) int { return g.Size() },
		"SELECT id, task, text, sample, run, first_at, last_at, count, muted_till, muted_to, resolved FROM stint_error_groups WHERE "+
			where+" ORDER BY last_at DESC, id DESC LIMIT ?", append(args, limit+1)...)
	if err != nil {
		return nil, false, err
	}
	for i := range rows {
		g := &rows[i]
		g.Run, g.First, g.Last, g.MutedTill = r.IDs.ID(g.run), millis(g.first), millis(g.last), optionalTime(g.muted)
		if g.to != nil {
			g.MutedTo = *g.to
		}
		if g.resolved != nil {
			g.Resolved = *g.resolved
		}
		all = append(all, g.ErrorGroup)
	}
	if x.Span != 0 && len(all) > 0 {
		err = r.errorCounts(q, all, x, now)
	}
	return all, more, err
}

func (r *Reader) errorGroupsWhere(x *store.ErrorQuery) (where string, args []any) {
	conds := []string{"last_at >= ?", "first_at < ?"}
	args = []any{int64(0), int64(never)}
	if !x.Since.IsZero() {
		args[0] = clock.Millis(x.Since)
	}
	if !x.Until.IsZero() {
		args[1] = clock.Millis(x.Until)
	}
	if x.IDs != nil {
		conds, args = append(conds, "id "+r.OfKeys), append(args, r.Keys(x.IDs))
	}
	if x.Tasks != nil {
		conds, args = append(conds, in("task", marks(len(x.Tasks)))), append(args, anys(x.Tasks)...)
	}
	if x.Text != "" { // of MaxErrorGroups at most
		conds = append(conds, "("+r.TextHas("task")+" OR "+r.TextHas("text")+" OR "+r.TextHas("sample")+")")
		args = append(args, x.Text, x.Text, x.Text)
	}
	if !x.After.Last.IsZero() {
		conds, args = append(conds, "(last_at, id) < (?, ?)"), append(args, clock.Millis(x.After.Last), x.After.ID)
	}
	return strings.Join(conds, " AND "), args
}

// errorCounts reads the counts of groups.
func (r *Reader) errorCounts(q Querier, all []store.ErrorGroup, x *store.ErrorQuery, now time.Time) error {
	span := x.Span.Milliseconds()
	if !slices.Contains(count.Lengths[:], span) {
		return fmt.Errorf("counts of %v: want a minute or an hour", x.Span)
	}
	from, until := count.KeptFrom(span, now), int64(never)
	if !x.Since.IsZero() {
		since := clock.Millis(x.Since)
		from = max(from, since-since%span)
	}
	if !x.Until.IsZero() {
		until = clock.Millis(x.Until)
	}
	at := map[int64]int{}
	var ids []int64
	for i := range all {
		at[all[i].Group] = i
		ids = append(ids, all[i].Group)
	}
	type row struct{ group, at, n int64 }
	rows, err := All(q, func(c *row) []any { return []any{&c.group, &c.at, &c.n} },
		"SELECT grp, at, count FROM stint_error_counts WHERE span = ? AND grp "+r.OfKeys+" AND at >= ? AND at < ? ORDER BY at",
		span, r.Keys(ids), from, until)
	for _, c := range rows {
		g := &all[at[c.group]]
		g.Counts = append(g.Counts, store.ErrorCount{At: millis(c.at), N: c.n})
	}
	return err
}
