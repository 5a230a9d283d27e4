package sqlite

import (
	"context"
	"time"

	"github.com/stint-dev/stint/internal/sample"
	"github.com/stint-dev/stint/store/internal/count"
	"github.com/stint-dev/stint/store/internal/reading"
)

// sampling stores samples of queues and limits; package sample decides which, and when.
type sampling struct{ *Store }

var _ sample.Source = sampling{}

// Time implements sample.Source.
func (s sampling) Time() time.Time { return time.Now() }

// Sampled implements sample.Source.
func (s sampling) Sampled(ctx context.Context, minute time.Time) (there bool, err error) {
	err = s.view(ctx, func(q querier) error {
		there, err = reading.Sampled(q, minute)
		return err
	})
	return there, err
}

const putSampleSQL = `
INSERT INTO stint_samples (span, kind, name, at, waiting, active, max) VALUES (?,?,?,?,?,?,?)
ON CONFLICT DO UPDATE SET waiting = max(waiting, excluded.waiting), active = max(active, excluded.active), max = max(max, excluded.max)`

// Put implements sample.Source.
func (s sampling) Put(ctx context.Context, minute time.Time, ofMinute, ofHour []sample.Row) error {
	return s.do(ctx, func(u *unit) error {
		u.counters.sampled = true
		at := minute.UnixMilli()
		for i, rows := range [...][]sample.Row{ofMinute, ofHour} {
			length := count.Lengths[i]
			for _, r := range rows {
				if err := u.exec(putSampleSQL, length, int64(r.Kind), r.Name, at-at%length, r.Waiting, r.Active, r.Max); err != nil {
					return err
				}
			}
		}
		return nil
	})
}
