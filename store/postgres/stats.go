package postgres

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/limits"
)

// Changed implements store.Health.
func (s *Store) Changed(ctx context.Context, after uint64) (uint64, error) {
	if err := s.askForEnds(ctx); err != nil && !unavailable(err) { // else the server's return is a change
		return 0, err
	}
	return s.commits.Changed(ctx, after, s.isClosed)
}

// Facts implements store.Health.
func (s *Store) Facts(ctx context.Context) (f store.Facts, err error) {
	f.Durability = "full"
	if s.settings.Normal {
		f.Durability = "normal"
	}
	v := &store.Server{Database: s.settings.pool.Database, Schema: s.settings.Schema, Listens: !s.settings.polls(),
		Skew: s.clock.skew().Round(time.Millisecond)}
	f.Server = v
	err = s.view(ctx, func(c *pgx.Conn) error {
		v.Address = address(c)
		var err error
		if f.Warnings, err = s.settings.idle(ctx, c); err != nil {
			return err
		}
		return c.QueryRow(ctx, s.sql(factsSQL), s.settings.Schema).Scan(&f.Schema, &f.Engine, &f.Size, &v.Connections, &v.MaxConnections,
			&v.Processes, &v.DeadRows, &v.LiveRows, &v.OldestSnapshot, &v.SnapshotOf, &v.Standbys, &v.StandbyLag)
	})
	return f, err
}

// address returns where a connection goes to: of several hosts in a URL, to one.
func address(c *pgx.Conn) string {
	to := c.Config()
	for _, other := range to.Fallbacks {
		if other.Host != to.Host || other.Port != to.Port {
			return c.PgConn().Conn().RemoteAddr().String()
		}
	}
	if strings.HasPrefix(to.Host, "/") { // a Unix socket
		return to.Host
	}
	return net.JoinHostPort(to.Host, strconv.Itoa(int(to.Port)))
}

// factsSQL reads what Facts tells. The oldest snapshot is that of a session, of a prepared transaction, or of a
// standby's queries, whose age is not known. Sessions and standbys of other roles are hidden from a role without the
// rights of pg_monitor: their columns are NULL.
const factsSQL = `
SELECT (SELECT version FROM stint.schema_version), 'PostgreSQL ' || current_setting('server_version'),
  (SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class c
    WHERE c.relnamespace = to_regnamespace($1) AND c.relkind = 'r'),
  (SELECT coalesce(sum(numbackends), 0)::bigint FROM pg_stat_database),
  current_setting('max_connections')::bigint,
  (SELECT count(*) FROM stint.processes),
  t.dead, t.live,
  coalesce(o.age, '0'), coalesce(o.whose, ''),
  r.n, r.lag
FROM (SELECT coalesce(sum(n_dead_tup), 0)::bigint AS dead, coalesce(sum(n_live_tup), 0)::bigint AS live
    FROM pg_stat_user_tables WHERE schemaname = $1) t
  CROSS JOIN (SELECT count(*) AS n, coalesce(max(CASE WHEN pg_is_in_recovery() THEN 0
    ELSE coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn), -1) END), 0)::bigint AS lag FROM pg_stat_replication) r
  LEFT JOIN (SELECT clock_timestamp() - at AS age, whose FROM (
      SELECT xact_start AS at, format('process %s of %s, role %s, %s', pid,
        coalesce(nullif(application_name, ''), 'a program without a name'), usename, state) AS whose
      FROM pg_stat_activity WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid() AND backend_type = 'client backend'
      UNION ALL SELECT prepared, format('prepared transaction %s', gid) FROM pg_prepared_xacts) a
    ORDER BY at LIMIT 1) o ON true`

// checks count rows that no sequence of commits and crashes can leave.
var checks = []struct{ what, query string }{
	{"keys of runs that are not there", `SELECT count(*) FROM stint.keys k WHERE NOT gone
		AND NOT EXISTS (SELECT 1 FROM stint.runs r WHERE r.id = k.run)`},
	{"tasks of workflow runs that are not there", `SELECT count(*) FROM stint.runs n WHERE n.node IS NOT NULL AND n.parent IS NOT NULL
		AND n.flags & 1 = 0 AND NOT EXISTS (SELECT 1 FROM stint.runs r WHERE r.id = n.parent)`},
	{"running workflow runs of which no task is left", `SELECT count(*) FROM stint.runs r WHERE r.state = 4 AND r.flags & 2 <> 0
		AND NOT EXISTS (SELECT 1 FROM stint.runs n WHERE n.parent = r.id AND n.node IS NOT NULL AND n.state < 7)`},
	{"tasks of a workflow that are there twice", `SELECT count(*) FROM (SELECT 1 FROM stint.runs
		WHERE node IS NOT NULL AND parent IS NOT NULL AND flags & 2 = 0 GROUP BY parent, node HAVING count(*) > 1) q`},
	{"running runs of no worker", `SELECT count(*) FROM stint.runs r WHERE r.state = 4 AND r.worker > 0
		AND NOT EXISTS (SELECT 1 FROM stint.workers w WHERE w.id = r.worker)`},
	{"crons that never tick and do not say why", `SELECT count(*) FROM stint.crons WHERE next_at IS NULL AND NOT paused AND gone_at IS NULL
		AND error IS NULL`},
	{"waits of runs that are not there", `SELECT count(*) FROM stint.waits w
		WHERE NOT EXISTS (SELECT 1 FROM stint.runs r WHERE r.id = w.run)`},
	{"journal entries of runs that are not there", `SELECT count(*) FROM stint.journal j
		WHERE NOT EXISTS (SELECT 1 FROM stint.runs r WHERE r.id = j.run)`},
}

// Check implements store.Health.
func (s *Store) Check(ctx context.Context) (problems []string, err error) {
	err = s.view(ctx, func(c *pgx.Conn) error {
		return pgx.BeginTxFunc(ctx, c, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
			problems, err = s.check(ctx, tx)
			return err
		})
	})
	return problems, err
}

func (s *Store) check(ctx context.Context, tx pgx.Tx) (problems []string, err error) {
	for _, x := range checks {
		var n int
		if err := tx.QueryRow(ctx, s.sql(x.query)).Scan(&n); err != nil {
			return nil, err
		}
		if n > 0 {
			problems = append(problems, fmt.Sprintf("%d %s", n, x.what))
		}
	}
	wrong, err := s.recount(ctx, tx)
	for _, w := range wrong {
		problems = append(problems, "limit "+w)
	}
	return problems, err
}

// recount computes the limiters' counts from the runs, and describes those that differ.
func (s *Store) recount(ctx context.Context, tx pgx.Tx) ([]string, error) {
	u := newUnit(s, s.clock.Now().UnixMilli())
	rows, err := tx.Query(ctx, s.sql("SELECT "+joined(u.runs.reads, (*column[runRow]).read)+
		" FROM stint.runs t WHERE t.limits IS NOT NULL AND t.state >= 3 AND t.state <= 5"))
	if err != nil {
		return nil, err
	}
	var all []*limits.Transition
	err = u.runs.take(rows, nil, func(key int64) {
		r := u.runs.entries[key].now
		if ls, err := store.DecodeLimits([]byte(r.limits)); err == nil {
			all = append(all, &limits.Transition{Run: key, After: r.atLimits(), Limits: ls})
		}
	})
	if err != nil {
		return nil, err
	}
	rows, err = tx.Query(ctx, s.sql("SELECT "+joined(u.limiters.reads, (*column[limiterRow]).read)+" FROM stint.limiters t ORDER BY t.id"))
	if err != nil {
		return nil, err
	}
	var limiters []*limits.Limiter
	err = u.limiters.take(rows, nil, func(n limiterName) { limiters = append(limiters, &u.limiters.entries[n].now.Limiter) })
	if err != nil {
		return nil, err
	}
	return limits.Recount(recounting{limiterRows{u}}, limiters, all)
}

// recounting are limiters that are all read.
type recounting struct{ limiterRows }

// Limiter implements limits.Rows.
func (u recounting) Limiter(l *store.Limit) (*limits.Limiter, error) {
	if e := u.limiters.entries[limiterName{l.Rate(), l.Name, l.Key}]; e != nil {
		return &e.now.Limiter, nil
	}
	r, err := u.newLimiter(limiterName{l.Rate(), l.Name, l.Key}, l)
	if err != nil {
		return nil, err
	}
	return &r.Limiter, nil
}
