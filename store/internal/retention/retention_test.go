package retention_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/retention"
)

// rows implements retention.Rows in memory.
type rows struct {
	deleted  []int64
	others   []int64 // runs that are there and not looked at
	replayed int64
	err      error
}

func (r *rows) DeleteEnded(run int64) (bool, error) {
	if run == r.replayed || r.err != nil {
		return false, r.err
	}
	r.deleted = append(r.deleted, run)
	return true, nil
}

func (r *rows) Exists(run int64) (bool, error) { return slices.Contains(r.others, run), r.err }

var at = func(ms int64) time.Time { return time.UnixMilli(ms) }

func TestPass(t *testing.T) {
	runs := []retention.Run{
		{Key: 1, Lane: 1, State: store.Succeeded, Ended: 999},
		{Key: 2, Lane: 2, State: store.Succeeded, Ended: 1000},
		{Key: 3, Lane: 3, State: store.Failed, Ended: 999},
		{Key: 4, Lane: 4, State: store.Failed, Ended: 499},
		{Key: 5, Lane: 5, State: store.Canceled, Ended: 1},
		{Key: 6, Lane: 5, State: store.Running},
		{Key: 7, Lane: 7, State: store.Succeeded, Ended: 1, Task: true},
		{Key: 8, Lane: 8, State: store.Skipped, Ended: 1},
		{Key: 9, Lane: 9, State: store.Blocked, Ended: 1},
		{Key: 10, Lane: 10, State: store.Succeeded},                        // changed by hand
		{Key: 12, Lane: 12, State: store.Succeeded, Ended: 1, Parent: 100}, // which may read its output again
		{Key: 13, Lane: 13, State: store.Succeeded, Ended: 1, Parent: 101}, // which was deleted
	}
	p := retention.NewPass(at(1000), at(500))
	r := &rows{replayed: 8, others: []int64{100}}
	n, err := p.Delete(r, runs)
	if want := []int64{1, 4, 5, 13}; err != nil || n != 4 || !slices.Equal(r.deleted, want) {
		t.Errorf("deletes %v (%d, %v), want %v", r.deleted, n, err, want)
	}
	if got, want := p.Unused([]int64{1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12, 13}), []int64{1, 4, 11, 13}; !slices.Equal(got, want) {
		t.Errorf("lanes %v are unused, want %v", got, want)
	}
	r.err = errors.New("disk full")
	if _, err := p.Delete(r, runs); !errors.Is(err, r.err) {
		t.Errorf("error %v", err)
	}
}

func TestCutoffs(t *testing.T) {
	for _, c := range []struct{ done, failed, created, gone int64 }{{1000, 500, 1000, 500}, {500, 1000, 1000, 500}, {7, 7, 7, 7}} {
		p := retention.NewPass(at(c.done), at(c.failed))
		if !p.CreatedBefore().Equal(at(c.created)) || !p.GoneBefore().Equal(at(c.gone)) || !p.EventsBefore().Equal(at(c.done)) {
			t.Errorf("%+v: runs created before %v, what is gone before %v, events before %v", c, p.CreatedBefore(), p.GoneBefore(), p.EventsBefore())
		}
	}
}
