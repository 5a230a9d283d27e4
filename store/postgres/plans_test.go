package postgres

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
)

// A statementLog notes the statements that are sent.
type statementLog struct {
	tripCounter
	mu    sync.Mutex
	texts map[string]bool
}

func (l *statementLog) TraceQueryStart(ctx context.Context, conn *pgx.Conn, d pgx.TraceQueryStartData) context.Context {
	l.note(d.SQL)
	return ctx
}

func (l *statementLog) TraceBatchStart(ctx context.Context, conn *pgx.Conn, d pgx.TraceBatchStartData) context.Context {
	for _, q := range d.Batch.QueuedQueries {
		l.note(q.SQL)
	}
	return ctx
}

func (l *statementLog) note(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.texts[text] = true
}

// crowdSQL fills the tables as a backlog and a history do.
const crowdSQL = `
INSERT INTO stint.runs (id, lane, rank, state, priority, lease, worker, started_at, ended_at, due_at, input)
SELECT (1700000000000 + g) << 20, g % 50, 1700000000000 + g, s, 2, CASE WHEN s >= 4 THEN g ELSE 0 END, CASE WHEN s >= 4 THEN g % 7 END,
  1, CASE WHEN s >= 7 THEN 1 END, CASE WHEN s = 2 THEN 4000000000000 END, ''
FROM generate_series(1, 30000) AS g CROSS JOIN LATERAL (SELECT (ARRAY[2, 3, 3, 4, 5, 7, 7, 7, 8])[1 + g % 9]::smallint AS s) x;
INSERT INTO stint.journal (run, scope, seq, kind, name, done, at) SELECT g, '', 1, 1, 's', true, 1 FROM generate_series(1, 30000) AS g;
INSERT INTO stint.awaited (child, run) SELECT g, g + 1 FROM generate_series(1, 5000) AS g;
INSERT INTO stint.limiters (id, rate, name, key, max, strategy, active, admitted, waiting, per_second, tokens, at)
SELECT g, false, 'crowd', g::text, 1, 0, 0, 0, 0, 0, 0, 1 FROM generate_series(1, 5000) AS g;
INSERT INTO stint.keys (task, key, run) SELECT 'crowd', g::text, g FROM generate_series(1, 5000) AS g;
INSERT INTO stint.events (id, key, payload) SELECT g, 'crowd' || g, '' FROM generate_series(1, 5000) AS g;
INSERT INTO stint.definitions (task, version, number, at, body) SELECT 'crowd' || g, 'v', 1, 1, '{}' FROM generate_series(1, 5000) AS g;
INSERT INTO stint.filters (task, scope, expr, declared) SELECT 'crowd' || g, 's', 'true', true FROM generate_series(1, 5000) AS g;
ANALYZE`

// No statement of a group reads a table from its start, or sorts one: each row is found by an index, in its order,
// however many there are, whatever the statistics say.
func TestPlans(t *testing.T) {
	set := noTables(t)
	log := &statementLog{texts: map[string]bool{}}
	set.pool.Tracer = log
	s, err := open(t.Context(), set)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for _, c := range tripsCases {
			c.prepare(&tripsTest{T: t, s: s, ctx: t.Context(), graph: twoTasks(t)})()
		}
	}
	s.sweeper.sweep(t.Context())
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	set.pool.Tracer = nil
	conn := dial(t, set)
	explainAll(t, conn, "empty", log.texts)
	if _, err := conn.Exec(t.Context(), qualify(crowdSQL, set.Schema)); err != nil {
		t.Fatal(err)
	}
	explainAll(t, dial(t, set), "crowded", log.texts) // whose plans are new
}

var (
	parameter = regexp.MustCompile(`\$(\d+)`)
	// small are tables of a row, or of a few that are read once an epoch. sorted are statements that sort what they
	// have found by an index: a run's children, the workers of a process, the triggers of an event, the crons of a task.
	small  = regexp.MustCompile(`Seq Scan on (epoch|meta|schema_version|queues)\b`)
	sorted = regexp.MustCompile(`SELECT DISTINCT|t\.(parent|process|name) = u\.i|\.triggers WHERE|crons t WHERE t\.task = u\.i|\.workers WHERE ended_at IS NULL`)
)

// explainAll explains the generic plans of statements.
func explainAll(t *testing.T, conn *pgx.Conn, tables string, texts map[string]bool) {
	t.Helper()
	n := 0
	for text := range texts {
		if !strings.Contains(text, "FROM") && !strings.Contains(text, "INSERT") && !strings.Contains(text, "UPDATE") ||
			strings.Contains(strings.ReplaceAll(text, "pg_advisory", ""), "pg_") || strings.Contains(text, "CREATE") || strings.Contains(text, "nextval") {
			continue
		}
		n++
		most := 0
		for _, m := range parameter.FindAllStringSubmatch(text, -1) {
			i, _ := strconv.Atoi(m[1])
			most = max(most, i)
		}
		name := fmt.Sprint("plan", n)
		execute := "EXPLAIN (COSTS OFF) EXECUTE " + name
		if most > 0 {
			execute += "(" + strings.Join(slices.Repeat([]string{"NULL"}, most), ", ") + ")"
		}
		if _, err := conn.Exec(t.Context(), "PREPARE "+name+" AS "+text, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Errorf("%v\n%s", err, text)
			continue
		}
		rows, err := conn.Query(t.Context(), execute, pgx.QueryExecModeSimpleProtocol)
		if err != nil {
			t.Fatal(err)
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range lines {
			scans := strings.Contains(line, "Seq Scan") && !small.MatchString(line)
			sorts := strings.Contains(line, "Sort") && !strings.Contains(line, "Sort Key") && !sorted.MatchString(text)
			if scans || sorts || strings.Contains(line, "Hash Join") || strings.Contains(line, "Merge Join") {
				t.Errorf("%s tables: %s\n%s\n%s", tables, strings.TrimSpace(line), text, strings.Join(lines, "\n"))
				break
			}
		}
	}
	if n < 30 {
		t.Errorf("%d statements, want all of a group's", n)
	}
}
