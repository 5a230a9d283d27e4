package wire

import (
	"time"

	"github.com/stint-dev/stint"
)

// RunOf returns the answer for a run.
func RunOf(r *stint.RunInfo) Run {
	w := Run{ID: r.ID, Task: r.Task, Queue: r.Queue, State: r.State.String(), Blocked: r.Blocked, Attempt: r.Attempt,
		Priority: r.Priority, Quarantined: r.Quarantined, Canceling: r.Canceling, Executions: r.Executions,
		Input: r.Input, Output: r.Output, Error: r.Error, Stack: r.Stack, ErrorGroup: r.ErrorGroup, Metadata: r.Metadata,
		Created: r.Created, Scheduled: Optional(r.Scheduled), Started: Optional(r.Started), Finished: Optional(r.Finished),
		ParentID: r.ParentID, RootID: r.RootID, Worker: r.Worker, Key: r.Key, Workflow: r.Workflow}
	if p := r.Progress; p.Total != 0 || p.Done != 0 || p.Message != "" {
		w.Progress = &Progress{p.Done, p.Total, p.Message}
	}
	for _, e := range r.Awaits {
		w.Awaits = append(w.Awaits, Awaited(e))
	}
	for _, e := range r.Timeline {
		w.Timeline = append(w.Timeline, changeOf(&e))
	}
	for _, t := range r.Tasks {
		w.Tasks = append(w.Tasks, FlowTask{t.Name, t.Parents, t.State.String(), t.Blocked, t.RunID, t.Error})
	}
	return w
}

// EntryOf returns the answer for an entry of a journal.
func EntryOf(e *stint.JournalEntry) Entry {
	w := Entry{e.Address, e.Kind, e.Name, e.Done, e.Output, e.Error, Optional(e.Began), Optional(e.At), Optional(e.Due), e.Attempts, nil}
	for _, t := range e.Tries {
		w.Tries = append(w.Tries, Try{t.Began, t.Ended, t.Error})
	}
	return w
}

func changeOf(e *stint.TimelineEntry) Change {
	c := Change{e.At, e.State.String(), e.Attempt, e.Worker, e.Error, nil}
	for i := range e.Failed {
		c.Failed = append(c.Failed, EntryOf(&e.Failed[i]))
	}
	return c
}

// LineOf returns the answer for a line of a log.
func LineOf(l *stint.LogLine) Line {
	return Line{l.Seq, l.At, l.Level.String(), l.Message, l.Attrs, l.Attempt}
}

// RunLineOf returns the answer for a line of any run's log.
func RunLineOf(l *stint.RunLogLine) RunLine { return RunLine{l.RunID, l.Task, LineOf(&l.LogLine)} }

// ChunkOf returns the answer for a chunk of a stream, with its text as it may be shown.
func ChunkOf(c *stint.Chunk, text string) Chunk {
	return Chunk{c.Seq, c.At, c.Attempt, c.Execution, text}
}

// TaskOf returns the answer for a task that is defined.
func TaskOf(d *stint.TaskDefinition) Task {
	t := Task{Name: d.Name, Workflow: d.Workflow, Handler: d.Handler, Queue: d.Queue, Retries: d.Retries,
		TimeoutMS: MS(d.Timeout), Crons: d.Crons, Events: d.Events, Input: d.Input,
		BatchSize: d.BatchSize, Options: d.Options}
	for _, n := range d.Tasks {
		t.Tasks = append(t.Tasks, Node{n.Name, n.Parents, d.NodeOptions[n.Name]})
	}
	return t
}

// QueueOf returns the answer for a queue with its ready runs by priority.
func QueueOf(q *stint.QueueInfo, priorities map[int]int) Queue {
	return Queue{q.Name, q.Paused, q.Ready, q.Running, Optional(q.Oldest), priorities}
}

// WorkerOf returns the answer for a worker.
func WorkerOf(w *stint.WorkerInfo) Worker {
	return Worker{w.Name, w.Host, w.PID, w.Started, w.Slots, w.Running, w.Paused, w.Queues, w.Labels, w.Build}
}

// KeyOf returns the answer for a key of a concurrency limit.
func KeyOf(k *stint.ConcurrencyInfo) Key {
	return Key{k.Name, k.Key, k.Max, k.Active, k.Waiting, k.Strategy.String(), k.Paused}
}

// RateOf returns the answer for a rate limit.
func RateOf(r *stint.RateLimitInfo) Rate {
	return Rate{r.Key, float64(r.Limit), r.Burst, r.Tokens, r.Waiting, r.Paused}
}

// CronOf returns the answer for a cron.
func CronOf(c *stint.CronInfo) Cron {
	return Cron{c.Name, c.Task, c.Spec, c.Declared, c.Paused, c.Input, Optional(c.Next), Optional(c.Last), c.LastRunID, c.Error, c.Blocked}
}

// EventOf returns the answer for an event.
func EventOf(e *stint.EventInfo) Event {
	return Event{e.ID, e.Key, e.Payload, e.Metadata, e.Scope, e.Published, e.Started, e.Woke}
}

// ErrorOf returns the answer for a group of errors.
func ErrorOf(e *stint.ErrorGroup) Error {
	w := Error{e.ID, e.Task, e.Text, e.Sample, e.RunID, e.First, e.Last, e.Count, nil, e.Muted, Optional(e.MutedUntil),
		e.MutedToCount, e.Resolved, e.Regressed}
	for _, c := range e.Trend {
		w.Trend = append(w.Trend, ErrorCount{c.At, c.Count})
	}
	return w
}

// StatOf returns the answer for the statistics of a span.
func StatOf(s *stint.Stats) Stat {
	return Stat{s.At, s.Queue, s.Task, s.Limit.Name, s.Limit.Key,
		s.Enqueued, s.Started, s.Succeeded, s.Failed, s.Canceled, s.Skipped, s.Retried,
		s.Depth, s.Active, s.Max, s.Commits, s.Changes, MS(s.Wait(.5)), MS(s.Wait(.99)), MS(s.Duration(.5)), MS(s.Duration(.95)),
		MS(s.Commit(.5)), MS(s.Commit(.99))}
}

// Optional returns nil for a time that is not set.
func Optional(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// MS returns a duration in milliseconds.
func MS(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
