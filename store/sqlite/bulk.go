package sqlite

import "strings"

// A rowKind is a kind of row of stint_runs that is inserted often: the head of the statement, and the values
// of all columns after the key.
type rowKind struct {
	cols  int
	texts [len(bulkSizes)]string
}

// bulkSizes are the numbers of rows that an INSERT of a bulk may have.
var bulkSizes = [...]int{perInsert, 8, 1}

// newRowKind returns the statements. One for many rows has only the first row's key, which is higher than all others;
// SQLite counts on from there, which saves it a search a row.
func newRowKind(head, values string) *rowKind {
	k := &rowKind{cols: strings.Count(values, "?")}
	for i, n := range bulkSizes {
		k.texts[i] = head + "(?," + values + ")" + strings.Repeat(",(NULL,"+values+")", n-1)
	}
	return k
}

// A bulk collects rows with consecutive keys.
type bulk struct {
	kind *rowKind
	rows int
	next int64 // required key of the next row
	args []any // room for the first key, then the rows' values
}

func (b *bulk) add(u *unit, key int64, values ...any) error {
	if key != b.next {
		if err := b.flush(u); err != nil {
			return err
		}
	}
	if b.args == nil {
		b.args = make([]any, 1, 1+b.kind.cols)
	}
	b.rows, b.next = b.rows+1, key+1
	b.args = append(b.args, values...)
	if b.rows < perInsert {
		return nil
	}
	return b.flush(u)
}

// flush inserts the collected rows.
func (b *bulk) flush(u *unit) error {
	args := b.args
	for i, n := range bulkSizes {
		for ; b.rows >= n; b.rows -= n {
			args[0] = b.next - int64(b.rows) // replaces an argument that was used
			if err := u.exec(b.kind.texts[i], args[:1+n*b.kind.cols]...); err != nil {
				return err
			}
			args = args[n*b.kind.cols:]
		}
	}
	b.args = b.args[:min(1, len(b.args))]
	return nil
}

// insertAll executes statements, each for bulkSizes rows, until all arguments are used.
func (t *txn) insertAll(texts *[len(bulkSizes)]string, columns int, args []any) error {
	for i, rows := range bulkSizes {
		for n := columns * rows; len(args) >= n; args = args[n:] {
			if err := t.exec(texts[i], args[:n]...); err != nil {
				return err
			}
		}
	}
	return nil
}
