package lifecycle

import (
	"fmt"

	"github.com/stint-dev/stint/store"
)

// A Due is a scheduled run whose time has come.
type Due struct {
	Key, Node         int64
	Workflow, Limited bool
}

// QueueDue queues the runs that are due. Of those of workflows it begins the ones without limits;
// the others begin when their limits admit them.
func QueueDue(rows Rows, now int64) error {
	due, err := rows.Due(now)
	if err != nil || len(due) == 0 {
		return err
	}
	queued := make([]int64, 0, len(due))
	for _, d := range due {
		if !d.Workflow || d.Limited {
			queued = append(queued, d.Key)
		}
	}
	if err := rows.Queue(queued); err != nil {
		return err
	}
	for _, d := range due {
		if d.Workflow && !d.Limited {
			if err := rows.ForRun(d.Key, func() error { return rows.BeginWorkflow(d.Key, d.Node, now) }); err != nil {
				return err
			}
		}
	}
	return nil
}

// CancelOverdue cancels the runs that did not start in time, and the workflows that did not end in
// time.
func CancelOverdue(rows Rows, now int64) error {
	overdue, err := rows.Overdue(now)
	if err != nil {
		return err
	}
	for _, key := range overdue {
		if err := rows.ForRun(key, func() error { return cancelOverdue(rows, key, now) }); err != nil {
			return err
		}
	}
	return nil
}

func cancelOverdue(rows Rows, key, now int64) error {
	r, err := rows.Run(key)
	if err != nil || r == nil || r.StartBy == 0 { // the end of another has ended it
		return err
	}
	if r.Workflow {
		r.StartBy = 0
		if err := rows.Write(r); err != nil {
			return err
		}
		_, err := Cancel(rows, key, now, []byte(store.EndByError))
		return err
	}
	r.End(store.Canceled, now, []byte(store.StartByError))
	if err := rows.Write(r); err != nil {
		return err
	}
	if rows.Ended(key); !r.IsTask() {
		return nil
	}
	return rows.Advance(r.Parent, r.Node, store.Canceled, now)
}

// A Waiter is a run that waits for a time that has come.
type Waiter struct {
	Key   int64
	Begun bool // its handler waits; else it is a workflow's task before its start
}

// WakeWaiters queues the runs that wait for a time that has come, or decides their conditions again.
func WakeWaiters(rows Rows, now int64) error {
	waiters, err := rows.Waiters(now)
	if err != nil {
		return err
	}
	for _, w := range waiters {
		wake := reconsiderTask
		if w.Begun {
			wake = Rows.Resume
		}
		if err := rows.ForRun(w.Key, func() error { return wake(rows, w.Key, now) }); err != nil {
			return err
		}
	}
	return nil
}

// reconsiderTask decides the conditions of a workflow's task again. The error of a run that is none, because
// somebody changed its row, makes it damaged: else it would be due for ever.
func reconsiderTask(rows Rows, key, now int64) error {
	r, err := rows.Run(key)
	if err != nil {
		return err
	}
	if r != nil && r.State == store.Waiting && (r.Lease != 0 || !r.IsTask()) {
		return fmt.Errorf("it waits for a time, with lease %d and node %d, and is neither a task before its start nor one that has begun",
			r.Lease, r.Node)
	}
	return rows.Reconsider(key, now)
}
