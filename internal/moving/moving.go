// Package moving has what a SQLite file holds of its move to another database: notes of the rows that change
// while they are copied, and at the end the mark that says where everything is, with triggers that refuse every
// write. Who moves writes them; the store of the file, which must know both, reads them.
package moving

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/stint-dev/stint/store"
)

// A Table is a table of the file, without the prefix stint_, and its primary key.
type Table struct {
	Name string
	Key  []string
}

// Tables are all tables that move. The others are stint_meta, whose secret moves, and stint_schema;
// stint_transitions is empty between transactions.
var Tables = []Table{
	{"lanes", []string{"id"}}, {"queues", []string{"name"}}, {"workers", []string{"id"}}, {"runs", []string{"id"}},
	{"limiters", []string{"id"}}, {"members", []string{"limiter", "run"}}, {"sticky", []string{"run"}},
	{"task_limits", []string{"run", "place"}}, {"inputs", []string{"id"}}, {"journal", []string{"run", "scope", "seq"}},
	{"awaited", []string{"child", "run"}}, {"graphs", []string{"id"}}, {"joins", []string{"run", "place"}},
	{"remade", []string{"run", "place"}}, {"tests", []string{"run"}}, {"waits", []string{"run", "leaf"}},
	{"events", []string{"id"}}, {"event_runs", []string{"event", "run"}}, {"crons", []string{"name"}},
	{"triggers", []string{"id"}}, {"filters", []string{"id"}}, {"definitions", []string{"task", "version"}},
	{"attempts", []string{"run", "lease"}},
	{"keys", []string{"task", "key"}}, {"progress", []string{"run"}}, {"logs", []string{"run", "seq"}},
	{"chunks", []string{"run", "seq"}}, {"settings", []string{"key"}},
	{"child_keys", []string{"parent", "key"}}, {"counters", []string{"span", "queue", "task", "at", "process"}},
	{"samples", []string{"span", "kind", "name", "at"}},
	{"error_groups", []string{"id"}}, {"error_counts", []string{"span", "grp", "at"}}, {"error_runs", []string{"run"}},
}

// Notes is the table of notes: n rises, t is a table of Tables, k1 to k5 are the key of a row that was inserted,
// changed or deleted.
const Notes = "stint_move_notes"

const (
	tokenKey = "moving" // of stint_meta: the token of a move that has begun
	markKey  = "moved"  // of stint_meta: a Mark
	fenced   = "this file has moved to "
)

// notesSQL creates the table and the triggers that fill it. A statement that changes a key notes the old one too.
var notesSQL = func() string {
	var b strings.Builder
	b.WriteString("CREATE TABLE " + Notes + " (n INTEGER PRIMARY KEY, t TEXT NOT NULL, k1 ANY, k2 ANY, k3 ANY, k4 ANY, k5 ANY) " +
		"STRICT;\n")
	for _, t := range Tables {
		into := make([]string, len(t.Key))
		for i := range into {
			into[i] = fmt.Sprintf("k%d", i+1)
		}
		for _, x := range [...]struct{ name, when, row string }{{"insert", "INSERT", "NEW"}, {"update", "UPDATE", "NEW"},
			{"delete", "DELETE", "OLD"}, {"rename", "UPDATE OF " + strings.Join(t.Key, ", "), "OLD"}} {
			fmt.Fprintf(&b, "CREATE TRIGGER stint_note_%s_%s AFTER %s ON stint_%s BEGIN ", t.Name, x.name, x.when, t.Name)
			fmt.Fprintf(&b, "INSERT INTO %s (t, %s) VALUES ('%s', %s.%s); END;\n", Notes, strings.Join(into, ", "), t.Name, x.row,
				strings.Join(t.Key, ", "+x.row+"."))
		}
	}
	return b.String()
}()

// NotesSQL returns the statements that create the table of notes and its triggers.
func NotesSQL() string { return notesSQL }

// A Conn runs statements on the file.
type Conn interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// Begin makes the file note its changes from now on, in the caller's transaction, and returns the token of the
// move: of the one that has begun, if there is one.
func Begin(ctx context.Context, c Conn) (token string, err error) {
	if token, err = Token(ctx, c); token != "" || err != nil {
		return token, err
	}
	b := make([]byte, 16)
	rand.Read(b)
	token = hex.EncodeToString(b)
	if _, err := c.ExecContext(ctx, notesSQL); err != nil {
		return "", err
	}
	_, err = c.ExecContext(ctx, "INSERT INTO stint_meta (key, value) VALUES (?, ?)", tokenKey, []byte(token))
	return token, err
}

// Token returns the token of the move that has begun; "": none has.
func Token(ctx context.Context, c Conn) (string, error) {
	var token []byte
	err := c.QueryRowContext(ctx, "SELECT value FROM stint_meta WHERE key = ?", tokenKey).Scan(&token)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return string(token), err
}

// Cancel makes the file note nothing any more, in the caller's transaction.
func Cancel(ctx context.Context, c Conn) error {
	for _, t := range Tables {
		for _, when := range []string{"insert", "update", "delete", "rename"} {
			if _, err := c.ExecContext(ctx, "DROP TRIGGER IF EXISTS stint_note_"+t.Name+"_"+when); err != nil {
				return err
			}
		}
	}
	if _, err := c.ExecContext(ctx, "DROP TABLE IF EXISTS "+Notes); err != nil {
		return err
	}
	_, err := c.ExecContext(ctx, "DELETE FROM stint_meta WHERE key = ?", tokenKey)
	return err
}

// A Mark in a file says where its contents have moved.
type Mark struct {
	To    string `json:"to"`    // a URL without its password
	Token string `json:"token"` // of the move: the target has the same
}

// Fence marks the file as moved, in the caller's transaction. From then on every write fails, with an error that
// names the target: also those of programs that do not know the mark.
func Fence(ctx context.Context, c Conn, m Mark) error {
	value, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if _, err := c.ExecContext(ctx, "INSERT INTO stint_meta (key, value) VALUES (?, ?)", markKey, value); err != nil {
		return err
	}
	text := strings.ReplaceAll("stint: "+fenced+m.To, "'", "''")
	for _, t := range Tables {
		for _, when := range []string{"INSERT", "UPDATE", "DELETE"} {
			_, err := c.ExecContext(ctx, fmt.Sprintf("CREATE TRIGGER stint_moved_%s_%s BEFORE %s ON stint_%s "+
				"BEGIN SELECT RAISE(ABORT, '%s'); END", t.Name, strings.ToLower(when), when, t.Name, text))
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// IsFenced reports whether an error is that of a write that a mark refuses.
func IsFenced(err error) bool { return err != nil && strings.Contains(err.Error(), fenced) }

// MarkSQL reads the mark.
const MarkSQL = "SELECT value FROM stint_meta WHERE key = '" + markKey + "'"

// Decode decodes a mark.
func Decode(value []byte) (*Mark, error) {
	m := &Mark{}
	if err := json.Unmarshal(value, m); err != nil {
		return nil, fmt.Errorf("the mark of the move cannot be read: %w", err)
	}
	return m, nil
}

// An Error reports a database that has moved. It is a store.ErrMoved.
type Error struct {
	From string
	Mark
	Process string // the name of the process that has the file open, as its workers have it; "": it was not opened
}

func (e *Error) Error() string {
	if strings.HasPrefix(e.To, "postgres") {
		return fmt.Sprintf("%s has moved to %s: open that, or make the store with postgres.Follow", e.From, e.To)
	}
	return fmt.Sprintf("%s has moved to %s: open that", e.From, e.To)
}

// Is makes the error a store.ErrMoved.
func (*Error) Is(target error) bool { return target == store.ErrMoved }
