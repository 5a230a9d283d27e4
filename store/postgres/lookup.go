package postgres

import (
	"github.com/jackc/pgx/v5"
)

// A lookup holds the answers to a question that a group has asked of the database, such as the filters of a
// task. They are not changed by the group, or its changes are laid over them by who asks.
type lookup[K comparable, V any] struct {
	text  string
	args  func(K) []any
	scan  func(pgx.CollectableRow) (V, error)
	known map[K][]V
	asked map[K]struct{}
	keeps bool // what is known holds for groups to come, until forget
}

// maxKept is the number of answers that are kept.
const maxKept = 10_000

// kept makes answers hold for as long as the epoch does.
func (l *lookup[K, V]) kept() *lookup[K, V] {
	l.keeps = true
	return l
}

func (l *lookup[K, V]) forget() { l.known = emptied(l.known) }

func newLookup[K comparable, V any](text string, args func(K) []any, scan func(pgx.CollectableRow) (V, error)) *lookup[K, V] {
	return &lookup[K, V]{text: text, args: args, scan: scan, known: map[K][]V{}, asked: map[K]struct{}{}}
}

// lookupOne is newLookup for a question about one value, and answers of one column.
func lookupOne[K comparable, V any](text string) *lookup[K, V] {
	return newLookup(text, func(k K) []any { return []any{k} }, pgx.RowTo[V])
}

// get returns the answer; errMiss: it is asked for.
func (l *lookup[K, V]) get(k K) ([]V, error) {
	v, ok := l.known[k]
	if !ok {
		l.asked[k] = struct{}{}
		return nil, errMiss
	}
	return v, nil
}

func (l *lookup[K, V]) fetch(s *settings, b *pgx.Batch) bool {
	some := len(l.asked) > 0
	for k := range l.asked {
		b.Queue(s.sql(l.text), l.args(k)...).Query(func(rows pgx.Rows) error {
			all, err := pgx.CollectRows(rows, l.scan)
			l.known[k] = all
			return err
		})
	}
	clear(l.asked)
	return some
}

func (l *lookup[K, V]) flush(*settings, *pgx.Batch) {}
func (l *lookup[K, V]) reset()                      {}
func (l *lookup[K, V]) settle() {
	if !l.keeps {
		clear(l.known)
	}
}

func (l *lookup[K, V]) renew() {
	l.asked = emptied(l.asked)
	if !l.keeps || len(l.known) > maxKept {
		l.forget()
	}
}

// ask asks for an answer, unless it is known.
func (l *lookup[K, V]) ask(k K) {
	if _, known := l.known[k]; !known {
		l.asked[k] = struct{}{}
	}
}
