package postgres

import (
	"fmt"
	"strings"
)

// A column is a column of a table whose rows are R.
type column[R any] struct {
	name, kind string              // kind is its type in the database
	zero       string              // the value that stands for NULL in R, an SQL literal; "": there is no NULL
	fixed      bool                // an update does not change it
	hidden     bool                // it is written, and not read
	only       string              // an expression over t that is read, and not written
	into       func(*R) any        // where to scan it
	array      func(rows []*R) any // its values in rows
}

// col describes a column that is a field of R.
func col[R, T any](name, kind string, field func(*R) *T) column[R] {
	return column[R]{name: name, kind: kind, into: func(r *R) any { return field(r) },
		array: func(rows []*R) any { return values(rows, func(r *R) T { return *field(r) }) }}
}

// values returns a value of each row.
func values[R, T any](rows []*R, of func(*R) T) []T {
	all := make([]T, len(rows))
	for i, r := range rows {
		all[i] = of(r)
	}
	return all
}

// number describes a number, stamp one that is NULL where the field is 0, such as a time.
func number[R any](name string, field func(*R) *int64) column[R] { return col(name, "bigint", field) }
func stamp[R any](name string, field func(*R) *int64) column[R] {
	return number(name, field).orNull("0")
}

// text describes a text, optional one that is NULL where the field is empty.
func text[R any](name string, field func(*R) *string) column[R] { return col(name, "text", field) }
func optional[R any](name string, field func(*R) *string) column[R] {
	return text(name, field).orNull("''")
}

func (c column[R]) orNull(zero string) column[R] { c.zero = zero; return c }
func (c column[R]) isFixed() column[R]           { c.fixed = true; return c }
func (c column[R]) isHidden() column[R]          { c.hidden = true; return c }

// computed describes what is read by an expression.
func computed[R, T any](expression string, field func(*R) *T) column[R] {
	return column[R]{only: expression, into: func(r *R) any { return field(r) }}
}

// read is the column in a SELECT from the table t.
func (c *column[R]) read() string {
	switch {
	case c.only != "":
		return c.only
	case c.zero != "":
		return "coalesce(t." + c.name + ", " + c.zero + ")"
	}
	return "t." + c.name
}

// write is the column's value in the arrays u.
func (c *column[R]) write() string {
	if c.zero != "" {
		return "nullif(u." + c.name + ", " + c.zero + ")"
	}
	return "u." + c.name
}

// statements are those by which a set reads and writes a table, each for any number of rows: an
// array a column. The keys are the first columns.
type statements[R any] struct {
	reads, writes, changes             []column[R]
	keys                               int
	selects, inserts, updates, deletes string
	complete                           func(*R) // after a row was read; may be nil
}

// newStatements returns the statements of a table. Rows are locked by the mode, such as FOR UPDATE, in
// the order of the keys that are asked for.
//
// The planner must look up each key by the index, however small it takes the table to be: a LATERAL
// with a lock or a limit of its own is not turned into another join.
func newStatements[R any](name string, keys int, mode string, columns ...column[R]) *statements[R] {
	s := &statements[R]{keys: keys}
	for i, c := range columns {
		if !c.hidden {
			s.reads = append(s.reads, c)
		}
		if c.only == "" {
			s.writes = append(s.writes, c)
		}
		if c.only == "" && (i < keys || !c.fixed) {
			s.changes = append(s.changes, c)
		}
	}
	var same, set []string
	for i := range s.changes {
		if c := &s.changes[i]; i < keys {
			same = append(same, "t."+c.name+" = u."+c.name)
		} else {
			set = append(set, c.name+" = "+c.write())
		}
	}
	where := " WHERE " + strings.Join(same, " AND ")
	key := arraysOf(s.changes[:keys])
	s.selects = "SELECT r.* FROM " + key + " CROSS JOIN LATERAL (SELECT " +
		joined(s.reads, (*column[R]).read) + " FROM stint." + name + " t" + where + " " + mode + ") r"
	s.inserts = "INSERT INTO stint." + name + " (" + joined(s.writes, func(c *column[R]) string { return c.name }) + ") SELECT " +
		joined(s.writes, (*column[R]).write) + " FROM " + arraysOf(s.writes)
	if len(set) > 0 {
		s.updates = "UPDATE stint." + name + " t SET " + strings.Join(set, ", ") + " FROM " + arraysOf(s.changes) + where
	}
	s.deletes = "DELETE FROM stint." + name + " t USING " + key + where
	return s
}

func joined[R any](columns []column[R], f func(*column[R]) string) string {
	all := make([]string, len(columns))
	for i := range columns {
		all[i] = f(&columns[i])
	}
	return strings.Join(all, ", ")
}

// arraysOf returns the FROM item u with the values of columns.
func arraysOf[R any](columns []column[R]) string {
	arrays := make([]string, len(columns))
	for i := range columns {
		arrays[i] = fmt.Sprintf("$%d::%s[]", i+1, columns[i].kind)
	}
	return "unnest(" + strings.Join(arrays, ", ") + ") AS u (" + joined(columns, func(c *column[R]) string { return c.name }) + ")"
}

// arguments returns the arguments of a statement that has columns.
func arguments[R any](columns []column[R], rows []*R) []any {
	args := make([]any, len(columns))
	for i := range args {
		args[i] = columns[i].array(rows)
	}
	return args
}
