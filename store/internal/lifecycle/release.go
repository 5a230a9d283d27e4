package lifecycle

import (
	"slices"
	"time"

	"github.com/stint-dev/stint/store"
)

// suspectDelay doubles with each crash: 0, 1 s, 2 s, 4 s.
const suspectDelay = time.Second / 2

// WorkerRows are the runs of a transaction, and its workers.
type WorkerRows interface {
	Rows
	// WorkersOf returns the workers of a process that live, or that have runs.
	WorkersOf(process string) ([]int64, error)
	// EndWorker ends a worker: it lives no more.
	EndWorker(worker, now int64) error
}

// ReleaseProcess releases the runs of all workers of a process that has left, or has died, and ends them.
func ReleaseProcess(rows WorkerRows, process string, now int64, crashed bool) (total store.Recovered, err error) {
	workers, err := rows.WorkersOf(process)
	if err != nil {
		return total, err
	}
	for _, w := range workers {
		rec, err := ReleaseWorker(rows, w, now, crashed)
		if err != nil {
			return total, err
		}
		total.Requeued += rec.Requeued
		total.Blocked = append(total.Blocked, rec.Blocked...)
	}
	return total, nil
}

// ReleaseWorker releases the runs of a worker that has left, and ends it.
func ReleaseWorker(rows WorkerRows, worker, now int64, crashed bool) (store.Recovered, error) {
	rec, err := release(rows, worker, now, crashed)
	if err == nil {
		err = rows.EndWorker(worker, now)
	}
	return rec, err
}

// release queues the runs of a worker that has left. After a crash they are queued behind all
// others, from the second crash on after a growing delay; after store.MaxCrashes they are blocked.
func release(rows Rows, worker, now int64, crashed bool) (rec store.Recovered, err error) {
	runs, err := rows.RunsOf(worker)
	if err != nil {
		return rec, err
	}
	for _, r := range runs {
		if crashed {
			if err := rows.KeepAttempt(r, store.Queued, now, []byte(store.CrashError)); err != nil {
				return rec, err
			}
		}
		if r.release(crashed, now); r.State == store.Scheduled {
			rows.WakeAt(r.Due)
		}
		if err := rows.Write(r); err != nil {
			return rec, err
		}
	}
	for _, r := range runs {
		if err := rows.MoveLane(r, r.Crashes >= store.SuspectCrashes); err != nil {
			return rec, err
		}
		switch {
		case r.State.Terminal():
			rows.Ended(r.Key)
			if r.IsTask() {
				err = rows.ForRun(r.Key, func() error { return rows.Advance(r.Parent, r.Node, r.State, now) })
			}
		case r.State == store.Blocked:
			rec.Blocked = append(rec.Blocked, rows.ID(r.Key))
		default:
			rec.Requeued++
		}
		if err != nil {
			return rec, err
		}
	}
	return rec, nil
}

// release changes a run whose worker has left. Its attempt does not count, unless that ended it.
func (r *Run) release(crashed bool, now int64) {
	before := r.Crashes
	if crashed {
		r.Crashes++
	}
	quarantined := crashed && r.Crashes >= store.MaxCrashes // it may do no more than its compensations
	if r.CancelAt != 0 && !(r.Undo || r.Journal && !quarantined) {
		r.End(store.Canceled, now, r.Error)
		return
	}
	r.Attempt--
	switch {
	case quarantined:
		r.State, r.Error = store.Blocked, []byte(store.QuarantineError)
	case before > 0 && crashed:
		r.State = store.Scheduled
		r.SetDue(now + suspectDelay.Milliseconds()<<min(before, 10))
	default:
		if r.State = store.Queued; crashed {
			r.SetDue(now)
		}
	}
}

// A Blocked is a run that is Blocked.
type Blocked struct {
	Key     int64
	Begun   bool // a worker has executed it
	Crashes int64
	Build   string // of the worker that executed it last
}

// RetryBlocked is called when workers have come or gone. It queues the runs that their handlers blocked in builds without
// a living worker, if another build has one, which may know what they lacked. They keep their places. Those that
// conditions or crashes blocked stay.
func RetryBlocked(rows Rows) error {
	living, err := rows.Builds()
	if err != nil || len(living) == 0 {
		return err
	}
	blocked, err := rows.Blocked()
	if err != nil {
		return err
	}
	var retried []int64
	for _, b := range blocked {
		if b.Begun && b.Crashes < store.MaxCrashes && !slices.Contains(living, b.Build) {
			retried = append(retried, b.Key)
		}
	}
	return rows.Queue(retried)
}
