package sqlite

import (
	"context"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/count"
	"github.com/stint-dev/stint/store/internal/failed"
	"github.com/stint-dev/stint/store/internal/reading"
)

// errorGroups are the groups of the errors of failed runs.
type errorGroups struct {
	*unit
	passive
	failed []failed.Run // in this transaction
}

const (
	addErrorsSQL = `
INSERT INTO stint_error_groups (id, task, text, sample, run, first_at, last_at, count) VALUES (?,?,?,?,?,?,?,?)
ON CONFLICT DO UPDATE SET sample = excluded.sample, run = excluded.run, first_at = min(first_at, excluded.first_at),
  last_at = max(last_at, excluded.last_at), count = count + excluded.count`

	addErrorCountSQL = "INSERT INTO stint_error_counts (span, grp, at, count) VALUES (?,?,?,?) " +
		"ON CONFLICT DO UPDATE SET count = count + excluded.count"

	addErrorRunsSQL = "INSERT INTO stint_error_runs (run, grp) SELECT value, ?2 FROM json_each(?1) WHERE true " +
		"ON CONFLICT DO UPDATE SET grp = excluded.grp"
)

func (es *errorGroups) flush() error {
	if len(es.failed) == 0 {
		return nil
	}
	for _, g := range failed.Groups(es.failed) {
		err := es.exec(addErrorsSQL, g.Group, g.Task, g.Text, g.Sample, g.Last, g.FirstAt, g.LastAt, g.N())
		if err != nil {
			return err
		}
		for _, c := range g.Counts {
			if err := es.exec(addErrorCountSQL, c.Length, g.Group, c.At, c.N); err != nil {
				return err
			}
		}
		if err := es.exec(addErrorRunsSQL, reading.JSONKeys(g.Runs), g.Group); err != nil {
			return err
		}
	}
	es.failed = es.failed[:0]
	return nil
}

func (es *errorGroups) rolledBack() { es.failed = es.failed[:0] }

// expireErrors deletes old counts of errors, the groups that were not seen for as long, and those that are too many.
func (s *Store) expireErrors(ctx context.Context) error {
	now := time.Now()
	for _, length := range count.Lengths {
		if err := s.expireSpans(ctx, "stint_error_counts", length, now); err != nil {
			return err
		}
	}
	unseen := "last_at < ? AND (muted_till IS NULL OR muted_till < ?) ORDER BY last_at LIMIT ?"
	if err := s.expireErrorGroups(ctx, unseen, count.KeptFrom(count.Lengths[1], now), now.UnixMilli(), perBulk); err != nil {
		return err
	}
	return s.expireErrorGroups(ctx, "true ORDER BY last_at DESC LIMIT ? OFFSET ?", perBulk, store.MaxErrorGroups)
}

// expireErrorGroups deletes the groups that meet a condition, a part in each commit.
func (s *Store) expireErrorGroups(ctx context.Context, which string, args ...any) error {
	for {
		var gone []int64
		err := s.view(ctx, func(q querier) (err error) {
			gone, err = column[int64](q, "SELECT id FROM stint_error_groups WHERE "+which, args...)
			return err
		})
		if err != nil || len(gone) == 0 {
			return err
		}
		err = s.do(ctx, func(u *unit) error {
			for _, text := range []string{
				"DELETE FROM stint_error_groups WHERE id IN (SELECT value FROM json_each(?))",
				"DELETE FROM stint_error_runs WHERE grp IN (SELECT value FROM json_each(?))",
				"DELETE FROM stint_error_counts WHERE span IN (60000, 3600000) AND grp IN (SELECT value FROM json_each(?))",
			} {
				if err := u.exec(text, reading.JSONKeys(gone)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil || len(gone) < perBulk {
			return err
		}
	}
}
