// Package stint is durable background tasks and workflows for Go, in the host process, on one
// SQLite file: no server, no broker, no container.
//
// # Three ideas
//
// Your functions stay yours. A handler is any func(context.Context, In) (Out, error).
// What it may ask of the engine (progress, a log line, its attempt) are functions of
// this package that take that context; outside of a run each does the plain thing, so
// a handler is tested with no engine at all.
//
// There is one kind of task. NewTask names a function; Enqueue stores a call of it,
// Run stores one and waits for the result, Schedule stores one for later.
//
// A workflow is a graph of tasks that runs as one: NewWorkflow, AddTask. A run begins by
// a call, or by itself: at the ticks of a cron (WithCron), or with an event (WithEvents,
// Publish).
//
// It is the same call everywhere. task.Run(ctx, in) in a web handler enqueues and
// waits; the same line inside a task runs a child.
//
// # The life of a run
//
//	enqueue -> [scheduled] -> queued -> running -> succeeded | failed | canceled
//	                             ^         |
//	                             +---------+ retry, snooze, shutdown, crash
//
// Each arrow is one commit in the file.
//
// # What always holds
//
//   - Acknowledged is durable: at DurabilityFull, a call that returned nil survives
//     kill -9 and a power cut.
//   - At least once, recorded once: an attempt may run again after a crash; its outcome
//     is recorded exactly once, and a late writer is refused.
//   - A run that has ended stays so, save by an explicit replay.
//   - Nothing starts before its time.
//   - First in, first out within equal priority.
//   - Cost grows with work, not with history: a claim costs the same with a million
//     rows pending or finished as with none.
//   - Bad input is an error at the call. A row that cannot be decoded fails its run
//     and holds up nothing else.
//   - Close leaves no goroutine, lock or half-written file behind.
//
// # Concurrency
//
// All methods of Client, Task, Run and Worker may be called concurrently. Any number
// of clients, in any number of processes on one machine, may have one file open, and
// share its work. Network file systems are not supported: SQLite's locks do not hold
// there.
package stint
