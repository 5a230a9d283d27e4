package imports

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	_ "modernc.org/sqlite" // River on a file
)

// riverDefault is River's highest priority and its default; lower ones have higher numbers.
const riverDefault = 1

// A river reads the table river_job, which has the same columns on PostgreSQL and SQLite.
type river struct {
	db    *sql.DB   // a SQLite file; or
	conn  *pgx.Conn // a server's database
	query string
}

// riverSQL reads the jobs that have not ended. Times are milliseconds.
const riverSQL = `SELECT id, kind, queue, state, %[2]s, priority, attempt, max_attempts, %[3]s, %[4]s,
  %[5]s FROM %[1]sriver_job WHERE state NOT IN ('cancelled', 'completed', 'discarded')
  ORDER BY scheduled_at, id`

// OpenRiver opens a River database: a URL of PostgreSQL, with the schema of River's tables if it is not in the search path, or
// the path of a SQLite file.
func OpenRiver(ctx context.Context, source, schema string) (Source, error) {
	prefix := ""
	if schema != "" {
		prefix = pgx.Identifier{schema}.Sanitize() + "."
	}
	if strings.Contains(source, "://") {
		conn, err := pgx.Connect(ctx, source)
		if err != nil {
			return nil, fmt.Errorf("river: %w", err)
		}
		millis := func(column string) string { return "(extract(epoch FROM " + column + ") * 1000)::bigint" }
		return &river{conn: conn, query: fmt.Sprintf(riverSQL, prefix, "args::text", "metadata::text", "to_json(tags)::text",
			millis("scheduled_at")+", "+millis("created_at"))}, nil
	}
	if _, err := os.Stat(source); err != nil { // the driver would make it
		return nil, fmt.Errorf("river: %w", err)
	}
	db, err := sql.Open("sqlite", "file:"+strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(source)+
		"?mode=ro&_pragma=busy_timeout(10000)")
	if err != nil {
		return nil, fmt.Errorf("river: %w", err)
	}
	millis := func(column string) string {
		return "CAST(round(unixepoch(" + column + ", 'subsec') * 1000) AS INTEGER)"
	}
	return &river{db: db, query: fmt.Sprintf(riverSQL, prefix, "json(args)", "json(metadata)", "json(tags)",
		millis("scheduled_at")+", "+millis("created_at"))}, nil
}

func (r *river) Close() error {
	if r.db != nil {
		return r.db.Close()
	}
	return r.conn.Close(context.Background())
}

// Jobs implements Source.
func (r *river) Jobs(ctx context.Context, f func(Job) error) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("river: %w", err)
		}
	}()
	if r.db != nil {
		rows, err := r.db.QueryContext(ctx, r.query)
		if err != nil {
			return err
		}
		defer rows.Close()
		return eachRiver(rows, f)
	}
	rows, err := r.conn.Query(ctx, r.query)
	if err != nil {
		return err
	}
	defer rows.Close()
	return eachRiver(rows, f)
}

// eachRiver calls f with each job.
func eachRiver(rows interface {
	Next() bool
	Scan(...any) error
	Err() error
}, f func(Job) error,
) error {
	for rows.Next() {
		var id, due, created int64
		var priority, attempt, most int
		var args, metadata, tags string
		j := Job{Metadata: map[string]string{}}
		err := rows.Scan(&id, &j.Kind, &j.Queue, &j.State, &args, &priority, &attempt, &most, &metadata, &tags, &due, &created)
		if err != nil {
			return err
		}
		j.ID, j.Key, j.Payload = fmt.Sprint("river ", id), fmt.Sprintf("river:%d:%d", id, created), []byte(args)
		j.Priority, j.Ready = stintPriority(priority), time.UnixMilli(due)
		if err := riverMetadata(j.Metadata, metadata, tags); err != nil {
			return fmt.Errorf("job %d: %w", id, err)
		}
		if attempt > 0 {
			j.Metadata["attempts"] = fmt.Sprintf("%d of %d", attempt, most)
		}
		if j.State == "pending" {
			j.Problem = `they wait for something that only River knows: let it work them, or leave them out by {"skip": true}`
		}
		if err := f(j); err != nil {
			return err
		}
	}
	return rows.Err()
}

// stintPriority returns stint's default priority for River's, and lower ones for its lower ones.
func stintPriority(river int) int { return stintDefault + riverDefault - river }

const stintDefault = 2 // stint.PriorityDefault

// riverMetadata adds the metadata and the tags of a job. What River keeps there for itself is left out.
func riverMetadata(to map[string]string, metadata, tags string) error {
	var values map[string]json.RawMessage
	if err := json.Unmarshal([]byte(metadata), &values); err != nil {
		return fmt.Errorf("metadata: %w", err)
	}
	for k, v := range values {
		if strings.HasPrefix(k, "river:") {
			continue
		}
		var text string
		if json.Unmarshal(v, &text) != nil {
			text = string(v)
		}
		to[k] = text
	}
	var names []string
	if err := json.Unmarshal([]byte(tags), &names); err != nil {
		return fmt.Errorf("tags: %w", err)
	}
	for _, n := range names {
		to["tag:"+n] = "true"
	}
	return nil
}
