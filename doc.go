// Package stint runs durable background tasks, workflows and durable functions for Go, inside
// your process and on one SQLite file: no server, no broker, no container. With package
// store/postgres the same program works on a PostgreSQL database.
//
// # Three ideas
//
// Your functions stay yours. A handler is any func(context.Context, In) (Out, error). It calls
// functions of this package with that context to report progress, to log or to ask for its
// attempt. Outside of a run these calls do nothing, or just do their work (Step calls its
// function, Sleep sleeps), so a handler can be tested without an engine.
//
// There is one kind of task. NewTask names a function. Enqueue stores a call of it, Run stores
// one and waits for the result, and Schedule stores one for later. A workflow is a graph of
// tasks that runs as one: NewWorkflow, AddTask. Crons (WithCron) and events (WithEvents,
// Publish) start runs too.
//
// The same call works everywhere. task.Run(ctx, in) in a web handler enqueues a run and waits
// for it. The same line inside a task runs a child.
//
// # Durable functions
//
// A handler that calls Step, Sleep, WaitForEvent and the like is a durable function. Each such
// call is recorded in the run's journal. After a crash, a restart or a wait the handler runs
// again from the top, and the recorded calls return what was recorded. The code between them
// runs again, so put effects into steps.
//
// # The life of a run
//
//	enqueue -> [scheduled] -> queued -> running -> succeeded | failed | canceled
//	                             ^         |
//	                             +---------+ retry, snooze, shutdown, crash
//	                             |         |
//	                             +-waiting-+ a sleep, an event, a child
//
// Each arrow is one commit. A run is blocked if only a person can make it go on, and
// RunInfo.Blocked says why. A task of a workflow is skipped if a condition says so.
//
// # What always holds
//
//   - Acknowledged is durable: at DurabilityFull, a call that returned nil survives
//     kill -9 and a power cut.
//   - At least once, recorded once: an attempt may run again after a crash; its outcome
//     is recorded exactly once, and a late writer is refused.
//   - A run that has ended does not change, except by an explicit replay.
//   - Nothing starts before its time.
//   - First in, first out within equal priority.
//   - Cost grows with work, not with history: a claim costs the same with a million
//     rows pending or finished as with none.
//   - Bad input is an error at the call. A row that cannot be decoded fails its run
//     and delays nothing else.
//   - Close leaves no goroutine, lock or half-written file behind.
//
// # Concurrency
//
// All methods of Client, Task, Run and Worker may be called concurrently. Any number of
// clients, in any number of processes on one machine, may have one file open and share its
// work. Network file systems are not supported: SQLite's locks do not work there.
package stint

import "github.com/stint-dev/stint/webhook"

// Former names of strategies.
const (
	// Deprecated: use StrategyQueue.
	Queue = StrategyQueue
	// Deprecated: use StrategyGroupRoundRobin.
	GroupRoundRobin = StrategyGroupRoundRobin
	// Deprecated: use StrategyCancelInProgress.
	CancelInProgress = StrategyCancelInProgress
	// Deprecated: use StrategyCancelNewest.
	CancelNewest = StrategyCancelNewest
)

// Deprecated: use ProgressInfo.
type Progressed = ProgressInfo

// Deprecated: use webhook.Verifier.
type WebhookVerifier = webhook.Verifier

// Deprecated: use webhook.Tolerance.
const WebhookTolerance = webhook.Tolerance

// Deprecated: use webhook.GitHubSignature.
func GitHubSignature(secret string) WebhookVerifier { return webhook.GitHubSignature(secret) }

// Deprecated: use webhook.StripeSignature.
func StripeSignature(secret string) WebhookVerifier { return webhook.StripeSignature(secret) }

// Deprecated: use webhook.SlackSignature.
func SlackSignature(secret string) WebhookVerifier { return webhook.SlackSignature(secret) }

// Deprecated: use webhook.BasicAuth.
func BasicAuth(user, password string) WebhookVerifier { return webhook.BasicAuth(user, password) }

// Deprecated: use webhook.APIKey.
func APIKey(header, key string) WebhookVerifier { return webhook.APIKey(header, key) }
