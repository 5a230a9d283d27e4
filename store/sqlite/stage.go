package sqlite

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/limits"
	"github.com/stint-dev/stint/store/internal/ready"
)

// perStage is the number of runs of a large bulk in a commit: about 10 ms of the writer.
const perStage = 2000

// enqueueStaged enqueues a large bulk in several commits, so that other changes need not wait for all of it:
// its runs go into lanes of their own that no claim and no list reads, and one last commit opens these lanes.
// It is still all or nothing: if the call fails, or the process dies, the staged lanes are deleted
// (recover.go).
func (s *Store) enqueueStaged(ctx context.Context, now time.Time, runs []store.NewRun) ([]store.Enqueued, error) {
	staged := map[ready.Name]int64{}
	var token string
	for i := range runs {
		staged[ready.Name{Queue: runs[i].Queue, Task: runs[i].Task, Route: runs[i].Route.Text()}] = 0
	}
	err := s.do(ctx, func(u *unit) error {
		token = s.presence.name + ":" + strconv.FormatInt(u.nextKey(now.UnixMilli()), 10)
		for n := range staged {
			id, err := u.lanes.newLane(n, &token)
			if err != nil {
				return err
			}
			staged[n] = id
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := make([]store.Enqueued, 0, len(runs))
	for rest := runs; err == nil && len(rest) > 0; {
		part := rest[:min(len(rest), perStage)]
		var got []store.Enqueued
		err = s.do(ctx, func(u *unit) (err error) {
			got, err = u.runs.enqueue(now.UnixMilli(), part, staged)
			return err
		})
		out, rest = append(out, got...), rest[len(part):]
	}
	if err == nil {
		err = s.do(ctx, func(u *unit) error {
			if err := u.limiters.useLast(runs, out); err != nil {
				return err
			}
			return u.lanes.unstage(staged)
		})
	}
	if err != nil {
		s.sweep(context.WithoutCancel(ctx), token) // if this fails, Recover does it
		return nil, err
	}
	return out, nil
}

// useLast gives the rate limits of a bulk the settings of its last run: its runs come to them in several
// commits.
func (lm *limiters) useLast(runs []store.NewRun, out []store.Enqueued) error {
	done := map[string]bool{}
	for i := len(runs) - 1; i >= 0; i-- {
		if out[i].Existing || ceilMillis(runs[i].RunAt) > lm.now && !runs[i].RunAt.IsZero() {
			continue // it comes to its limits when it is due
		}
		for j := range runs[i].Limits {
			l := &runs[i].Limits[j]
			if !l.Rate() || l.Burst == 0 || done[l.Key] {
				continue
			}
			done[l.Key] = true
			key, _ := lm.s.ids.Key(out[i].ID)
			if _, err := limits.Use(limiterRows{lm.unit}, l, key); err != nil {
				return err
			}
		}
	}
	return nil
}

func (ls *lanes) unstage(staged map[ready.Name]int64) error {
	for _, id := range staged {
		if err := ls.exec("UPDATE stint_lanes SET staged = NULL WHERE id = ?", id); err != nil {
			return err
		}
	}
	ls.limiters.unadmitted = true
	ls.timers.lookAgain()
	return nil
}

// sweep deletes what a failed bulk has staged, a part in each commit. The token has the owner's name, and the
// key from which on the runs are.
func (s *Store) sweep(ctx context.Context, token string) error {
	_, from, _ := strings.Cut(token, ":")
	first, err := strconv.ParseInt(from, 10, 64)
	if err != nil {
		return fmt.Errorf("staged lane has a bad token %q: %w", token, err)
	}
	for n := 1; n > 0; {
		err := s.do(ctx, func(u *unit) error {
			keys, err := column[int64](u, `SELECT id FROM stint_runs
				WHERE id >= ? AND +lane IN (SELECT id FROM stint_lanes WHERE staged = ?) ORDER BY id LIMIT ?`, first, token, perStage)
			if err != nil {
				return err
			}
			if n = len(keys); n == 0 {
				return u.exec("DELETE FROM stint_lanes WHERE staged = ?", token)
			}
			for _, k := range keys {
				if err := u.runs.Delete(k); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
