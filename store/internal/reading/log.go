package reading

import (
	"errors"
	"strings"
	"time"

	"github.com/stint-dev/stint/internal/clock"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/lifecycle"
	"github.com/stint-dev/stint/store/internal/workflow"
)

// A logPlace is the place of a line in the index of lines by time.
type logPlace struct{ at, run, seq int64 }

// logBounds returns the places between which a filter's lines lie.
func (r *Reader) logBounds(f *store.LogFilter, after store.LogPlace) (from, to logPlace) {
	from, to = logPlace{-never, -1, -1}, logPlace{never, -1, -1}
	if !f.Since.IsZero() {
		from.at = clock.Millis(f.Since)
	}
	if !f.Until.IsZero() {
		to.at = clock.Millis(f.Until)
	}
	if after == (store.LogPlace{}) {
		return from, to
	}
	key, _ := r.IDs.Key(after.Run)
	place := logPlace{clock.Millis(after.At), key, after.Seq}
	if f.Oldest {
		return place, to
	}
	return from, place
}

const (
	// logsBetween are the lines between two places.
	logsBetween = ` FROM stint_logs g WHERE (g.at, g.run, g.seq) > (?, ?, ?) AND (g.at, g.run, g.seq) < (?, ?, ?)`
	// ofRuns joins the run and the lane of each line. SQLite reads the lines first, for which CROSS JOIN stands.
	ofRuns = ` CROSS JOIN stint_runs r CROSS JOIN stint_lanes l WHERE r.id = g.run AND l.id = r.lane`
)

func between(from, to logPlace) []any {
	return []any{from.at, from.run, from.seq, to.at, to.run, to.seq}
}

// logWhere returns the conditions of a filter on lines with ofRuns, but for its time and its run.
func (r *Reader) logWhere(q Querier, f *store.LogFilter) (string, []any, error) {
	var b strings.Builder
	var args []any
	if f.Tasks != nil {
		nodes, err := r.nodesOf(q, f.Tasks)
		if err != nil {
			return "", nil, err
		}
		b.WriteString(" AND (" + in("l.task", marks(len(f.Tasks))) + " OR " + in("r.node", nodes) + ")")
		args = append(args, anys(f.Tasks)...)
	}
	if f.Level != nil {
		b.WriteString(" AND g.level >= ?")
		args = append(args, *f.Level)
	}
	return b.String(), args, nil
}

// logLines reads a store.LogList.
func (r *Reader) logLines(q Querier, f store.LogFilter, after store.LogPlace, limit int) (
	lines []store.RunLog, next store.LogPlace, err error) {
	from, to := r.logBounds(&f, after)
	order := " ORDER BY g.at DESC, g.run DESC, g.seq DESC LIMIT ?"
	if f.Oldest {
		order = " ORDER BY g.at, g.run, g.seq LIMIT ?"
	}
	var last *logPlace // the last of those that are looked at; nil: all are
	if f.Scan > 0 && (f.Tasks != nil || f.Level != nil) {
		if last, err = scanLogs(q, from, to, order, f.Scan); err != nil {
			return nil, next, err
		}
		switch {
		case last == nil:
		case f.Oldest:
			to = logPlace{last.at, last.run, last.seq + 1}
		default:
			from = logPlace{last.at, last.run, last.seq - 1}
		}
	}
	where, more, err := r.logWhere(q, &f)
	if err != nil {
		return nil, next, err
	}
	args := append(between(from, to), more...)
	if f.Run != (store.ID{}) {
		where, args = where+" AND g.run = ?", append(args, r.logRun(&f))
	}
	type row struct {
		store.RunLog
		logPlace
		node *int64
	}
	rows, others, err := page(q, limit, func(r *row) []any {
		return []any{&r.at, &r.run, &r.seq, &r.Level, &r.Attempt, &r.Message, &r.Attrs, &r.Task, &r.node}
	}, func(r *row) int { return r.Size() }, "SELECT g.at, g.run, g.seq, g.level, g.attempt, g.message, g.attrs, l.task, r.node"+
		strings.Replace(logsBetween, " WHERE", ofRuns+" AND", 1)+where+order,
		append(args, limit+1)...)
	if err != nil {
		return nil, next, err
	}
	for i := range rows {
		l := &rows[i]
		if l.Task, err = r.taskOf(q, l.Task, l.node); err != nil {
			return nil, next, err
		}
		l.ID, l.At, l.Seq = r.IDs.ID(l.run), millis(l.at), l.seq
		lines = append(lines, l.RunLog)
	}
	if others {
		last = &rows[len(rows)-1].logPlace
	}
	if last != nil {
		next = store.LogPlace{At: millis(last.at), Run: r.IDs.ID(last.run), Seq: last.seq}
	}
	return lines, next, nil
}

// scanLogs returns the place of line n between two places; nil: there are not more.
func scanLogs(q Querier, from, to logPlace, order string, n int) (*logPlace, error) {
	var last logPlace
	found, err := one(q, "SELECT g.at, g.run, g.seq"+logsBetween+order+" OFFSET ?", append(between(from, to), 1, n-1),
		&last.at, &last.run, &last.seq)
	if !found {
		return nil, err
	}
	return &last, err
}

// taskOf returns the name of a run's task, given that of its lane.
func (r *Reader) taskOf(q Querier, lane string, node *int64) (string, error) {
	if node == nil {
		return lane, nil
	}
	g, err := r.graph(q, *node>>lifecycle.NodeBits)
	if errors.Is(err, ErrDamaged) {
		return lane, nil
	}
	if place := workflow.Place(*node); err == nil && place <= g.Success() {
		return g.TaskName(place), nil
	}
	return lane, err
}

// logCounts reads a store.LogCountList.
func (r *Reader) logCounts(q Querier, f store.LogFilter, span time.Duration, limit int) ([]store.LogCount, error) {
	from, to := r.logBounds(&f, store.LogPlace{})
	newest, args := "SELECT g.at, g.run, g.level"+logsBetween, between(from, to)
	if f.Run != (store.ID{}) {
		newest, args = newest+" AND g.run = ?", append(args, r.logRun(&f))
	}
	where, more, err := r.logWhere(q, &f)
	if err != nil {
		return nil, err
	}
	tables := " WHERE true"
	if f.Tasks != nil {
		tables = ofRuns
	}
	type row struct {
		store.LogCount
		at int64
	}
	args = append(append([]any{span.Milliseconds()}, args...), limit)
	rows, err := All(q, func(r *row) []any { return []any{&r.at, &r.Level, &r.Lines} },
		"SELECT g.at / ?, CASE WHEN g.level >= 8 THEN 8 WHEN g.level >= 4 THEN 4 WHEN g.level >= 0 THEN 0 ELSE -4 END, count(*) FROM ("+
			newest+" ORDER BY g.at DESC, g.run DESC, g.seq DESC LIMIT ?) g"+tables+where+" GROUP BY 1, 2 ORDER BY 1, 2",
		append(args, more...)...)
	all := make([]store.LogCount, len(rows))
	for i, r := range rows {
		all[i] = r.LogCount
		all[i].At = millis(r.at * span.Milliseconds())
	}
	return all, err
}

// logRun returns the key of a filter's run; one that is unknown is 0, no run.
func (r *Reader) logRun(f *store.LogFilter) int64 {
	key, _ := r.IDs.Key(f.Run)
	return key
}
