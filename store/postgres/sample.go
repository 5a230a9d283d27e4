package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stint-dev/stint/internal/sample"
	"github.com/stint-dev/stint/store/internal/count"
	"github.com/stint-dev/stint/store/internal/reading"
)

// sampling stores samples of queues and limits; package sample decides which, and when.
type sampling struct{ *Store }

var _ sample.Source = sampling{}

// Time implements sample.Source.
func (s sampling) Time() time.Time { return s.clock.Now() }

// Sampled implements sample.Source.
func (s sampling) Sampled(ctx context.Context, minute time.Time) (there bool, err error) {
	err = s.reads(ctx, func(_ *reading.Reader, q reading.Querier) error {
		there, err = reading.Sampled(q, minute)
		return err
	})
	return there, err
}

// putSamplesSQL locks rows in the order of their keys: other processes may store a sample of the same minute.
const putSamplesSQL = `
INSERT INTO stint.samples AS s (span, kind, name, at, waiting, active, max)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])
  AS x (span, kind, name, at, waiting, active, max) ORDER BY span, kind, name COLLATE "C"
ON CONFLICT (span, kind, name, at) DO UPDATE SET waiting = greatest(s.waiting, excluded.waiting),
  active = greatest(s.active, excluded.active), max = greatest(s.max, excluded.max)`

// Put implements sample.Source.
func (s sampling) Put(ctx context.Context, minute time.Time, ofMinute, ofHour []sample.Row) error {
	var numbers [6][]int64
	var names []string
	at := minute.UnixMilli()
	for i, rows := range [...][]sample.Row{ofMinute, ofHour} {
		length := count.Lengths[i]
		for _, r := range rows {
			names = append(names, r.Name)
			for j, n := range [...]int64{length, int64(r.Kind), at - at%length, int64(r.Waiting), int64(r.Active), int64(r.Max)} {
				numbers[j] = append(numbers[j], n)
			}
		}
	}
	return s.view(ctx, func(c *pgx.Conn) error {
		_, err := c.Exec(ctx, s.sql(putSamplesSQL), numbers[0], numbers[1], names, numbers[2], numbers[3], numbers[4], numbers[5])
		return err
	})
}

// oldSpans returns the statements that delete the old rows of a table whose rows are of minutes and hours.
func oldSpans(table string, now time.Time) (all []expiry) {
	for _, length := range count.Lengths {
		all = append(all, expiry{"DELETE FROM stint." + table + " WHERE ctid = ANY (ARRAY(SELECT ctid FROM stint." + table +
			" WHERE span = $1 AND at < $2 LIMIT $3))", []any{length, count.KeptFrom(length, now)}})
	}
	return all
}
