package sqlite

import "strings"

// A rowKind is a row of stint_runs that is inserted often: a head, and the values of
// all columns after the key.
type rowKind struct {
	cols      int
	one, some string // a row, and perInsert rows
}

// newRowKind makes the statements. One for many rows names the key of the first alone;
// SQLite counts on from there (AUTOINCREMENT), which saves it a search a row.
func newRowKind(head, values string) rowKind {
	return rowKind{
		cols: strings.Count(values, "?"),
		one:  head + "(?," + values + ")",
		some: head + "(?," + values + ")" + strings.Repeat(",(NULL,"+values+")", perInsert-1),
	}
}

// A bulk gathers rows whose keys follow one another.
type bulk struct {
	kind rowKind
	rows int
	next int64 // key that the next row must have
	args []any // place for the first key, then the rows'
}

func newBulk(k rowKind) bulk { return bulk{kind: k, args: make([]any, 1, 1+k.cols*perInsert)} }

func (b *bulk) add(t *txn, key int64, values ...any) error {
	if key != b.next {
		if err := b.flush(t); err != nil {
			return err
		}
	}
	b.rows, b.next = b.rows+1, key+1
	b.args = append(b.args, values...)
	if b.rows < perInsert {
		return nil
	}
	b.args[0] = b.next - perInsert
	err := t.exec(b.kind.some, b.args...)
	b.clear()
	return err
}

// flush inserts what has gathered, row by row.
func (b *bulk) flush(t *txn) error {
	key := b.next - int64(b.rows)
	row := make([]any, 1+b.kind.cols)
	for a := b.args[min(1, len(b.args)):]; len(a) > 0; a = a[b.kind.cols:] {
		row[0] = key
		copy(row[1:], a)
		if err := t.exec(b.kind.one, row...); err != nil {
			return err
		}
		key++
	}
	b.clear()
	return nil
}

func (b *bulk) clear() { b.rows, b.args = 0, b.args[:min(1, len(b.args))] }
