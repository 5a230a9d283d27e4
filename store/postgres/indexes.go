package postgres

import (
	"github.com/jackc/pgx/v5"
)

// A taskIndex finds the runs of workflows' tasks by their workflow's run and node.
type taskIndex struct {
	runs  *relation[int64, runRow]
	known map[placeOf]bool // read
	asked map[placeOf]struct{}
	text  string
}

func newTaskIndex(runs *relation[int64, runRow]) *taskIndex {
	return &taskIndex{runs, map[placeOf]bool{}, map[placeOf]struct{}{},
		"SELECT r.* FROM unnest($1::bigint[], $2::bigint[]) AS u (run, node) " +
			"CROSS JOIN LATERAL (SELECT " + joined(runs.reads, (*column[runRow]).read) + " FROM stint.runs t " +
			"WHERE t.parent = u.run AND t.node = u.node FOR UPDATE) r"}
}

// get returns nil once the run of a task, if it has one, is in the set.
func (x *taskIndex) get(k placeOf) error {
	if x.known[k] {
		return nil
	}
	x.asked[k] = struct{}{}
	return errMiss
}

func (x *taskIndex) fetch(s *settings, b *pgx.Batch) bool {
	if len(x.asked) == 0 {
		return false
	}
	var runs, nodes []int64
	for k := range x.asked {
		runs, nodes = append(runs, k.run), append(nodes, k.place)
		x.known[k] = true
	}
	clear(x.asked)
	b.Queue(s.sql(x.text), runs, nodes).Query(func(rows pgx.Rows) error { return x.runs.take(rows, nil, func(int64) {}) })
	return true
}

func (x *taskIndex) flush(*settings, *pgx.Batch) {}
func (x *taskIndex) reset()                      {}
func (x *taskIndex) settle()                     { clear(x.known) }
func (x *taskIndex) renew()                      { x.known, x.asked = emptied(x.known), emptied(x.asked) }

// perWaiting is the number of runs that wait at a limiter which are read at a time.
const perWaiting = 64

// A waitingIndex reads the runs that wait at limiters, in order, some at a time.
type waitingIndex struct {
	runs  *relation[int64, runRow]
	read  map[int64]*waitingRead
	asked map[int64]struct{}
	text  string
}

// A waitingRead says how far the runs that wait at a limiter were read.
type waitingRead struct {
	last *runRow // the last one; all before it were read
	all  bool
}

func newWaitingIndex(runs *relation[int64, runRow]) *waitingIndex {
	return &waitingIndex{runs, map[int64]*waitingRead{}, map[int64]struct{}{}, "SELECT " + joined(runs.reads, (*column[runRow]).read) +
		" FROM stint.runs t WHERE t.state = 3 AND t.limiter = $1 AND (t.rank, t.turn, t.id) > ($2, $3, $4) " +
		"ORDER BY t.rank, t.turn, t.id LIMIT $5 FOR UPDATE"}
}

// covers reports whether it is known that no run which was not read comes before one at a limiter (nil:
// that none was not read). Otherwise more are asked for.
func (x *waitingIndex) covers(limiter int64, first *runRow) bool {
	if r := x.read[limiter]; r != nil && (r.all || first != nil && !r.last.before(first)) {
		return true
	}
	x.asked[limiter] = struct{}{}
	return false
}

func (x *waitingIndex) fetch(s *settings, b *pgx.Batch) bool {
	for limiter := range x.asked {
		var rank, turn, id int64 = -1 << 62, 0, 0
		if r := x.read[limiter]; r != nil {
			rank, turn, id = r.last.Rank, r.last.turn, r.last.Key
		} else {
			x.read[limiter] = &waitingRead{}
		}
		read := x.read[limiter]
		b.Queue(s.sql(x.text), limiter, rank, turn, id, perWaiting).Query(func(rows pgx.Rows) error {
			n := 0
			err := x.runs.take(rows, nil, func(key int64) {
				n++
				if e := x.runs.entries[key]; e.old != nil {
					read.last = e.old
				}
			})
			read.all = n < perWaiting
			return err
		})
	}
	some := len(x.asked) > 0
	clear(x.asked)
	return some
}

func (x *waitingIndex) flush(*settings, *pgx.Batch) {}
func (x *waitingIndex) reset()                      {}
func (x *waitingIndex) settle()                     { clear(x.read) }
func (x *waitingIndex) renew()                      { x.read, x.asked = emptied(x.read), emptied(x.asked) }
