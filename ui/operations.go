package ui

import (
	"slices"

	"github.com/stint-dev/stint"
)

var (
	filterParams = []string{"id", "task", "queue", "state", "metadata", "error", "parent", "top", "flat", "event", "worker",
		"since", "until", "limit_name", "limit_key", "through"}
	bulkParams = append(slices.Clone(filterParams), "all", "dry_run", "force", "paced", "cursor")
)

// operations are the API. TestOpenAPI generates openapi.json from them.
var operations = []operation{
	{"GET", "/api/runs", "view", "List runs, newest first", append(slices.Clone(filterParams), "limit", "cursor"), wireRuns{}, listRuns},
	{"GET", "/api/runs/{id}", "view", "A run, with its timeline and tasks", nil, wireRun{}, getRun},
	{"GET", "/api/runs/{id}/journal", "view",
		"What a durable function has recorded", []string{"limit", "cursor"}, wireJournal{}, getJournal},
	{"GET", "/api/runs/{id}/logs", "view", "What a handler logged", []string{"after", "limit"}, wireLogs{}, getLogs},
	{"GET", "/api/runs/{id}/stream", "view", "What a handler has streamed so far", []string{"after", "limit"}, wireStream{}, getStream},
	{"POST", "/api/runs/{id}/cancel", "runs.cancel", "Cancel a run", nil, wireCount{}, bulk("runs.cancel")},
	{"POST", "/api/runs/{id}/replay", "runs.replay", "Run an ended or blocked run again", nil, wireCount{}, bulk("runs.replay")},
	{"POST", "/api/runs/{id}/delete", "runs.delete", "Delete an ended run", nil, wireCount{}, bulk("runs.delete")},
	{"POST", "/api/runs/{id}/restart", "runs.replay", "Run an ended run again, from a step on", []string{"step"}, wireDone{}, restart},
	{"POST", "/api/runs/{id}/fork", "runs.replay",
		"Start a new run with the journal of a run up to a step", []string{"step"}, wireStarted{}, fork},
	{"POST", "/api/runs/{id}/reschedule", "runs.reschedule",
		"Move a scheduled run to another time", []string{"at"}, wireDone{}, reschedule},
	{"POST", "/api/runs.cancel", "runs.cancel",
		"Cancel all runs that match and have not ended", bulkParams, wireCount{}, bulk("runs.cancel")},
	{"POST", "/api/runs.replay", "runs.replay",
		"Run all that match again: those that failed, were canceled or are blocked; those that succeeded only if state or id names them",
		bulkParams, wireCount{}, bulk("runs.replay")},
	{"POST", "/api/runs.delete", "runs.delete", "Delete all runs that match and have ended", bulkParams, wireCount{}, bulk("runs.delete")},
	{"GET", "/api/tasks", "view", "Tasks and workflows that the program defines or that have run", nil, wireTasks{}, listTasks},
	{"POST", "/api/tasks/{task}/runs", "tasks.run",
		"Start a task or workflow", []string{"input", "key", "delay", "at", "priority", "metadata", "force"}, wireStarted{}, startTask},
	{"GET", "/api/queues", "view", "Queues", nil, wireQueues{}, listQueues},
	{"POST", "/api/queues/{queue}/pause", "queues.pause",
		"Pause a queue: none of its runs start", []string{"force"}, wireDone{}, byName("queue", (*stint.Client).PauseQueue)},
	{"POST", "/api/queues/{queue}/resume", "queues.resume",
		"Resume after a pause", []string{"force"}, wireDone{}, byName("queue", (*stint.Client).ResumeQueue)},
	{"GET", "/api/workers", "view", "Workers that are running", nil, wireWorkers{}, listWorkers},
	{"POST", "/api/workers/{worker}/pause", "workers.pause",
		"Pause a worker: it starts no runs", nil, wireDone{}, byName("worker", (*stint.Client).PauseWorker)},
	{"POST", "/api/workers/{worker}/resume", "workers.resume",
		"Resume after a pause", nil, wireDone{}, byName("worker", (*stint.Client).ResumeWorker)},
	{"GET", "/api/limits", "view", "Concurrency limits in use, and rate limits", nil, wireLimits{}, listLimits},
	{"POST", "/api/limits.pause", "limits.pause",
		"Pause a limit, of the name and key, or the rate limit of the key: it admits no runs",
		[]string{"limit_name", "limit_key"}, wireDone{}, byLimit((*stint.Client).PauseLimit)},
	{"POST", "/api/limits.resume", "limits.resume",
		"Resume after a pause", []string{"limit_name", "limit_key"}, wireDone{}, byLimit((*stint.Client).ResumeLimit)},
	{"POST", "/api/limits/{limitkey}", "limits.set", "Set a rate limit", []string{"limit", "burst"}, wireDone{}, setLimit},
	{"GET", "/api/crons", "view", "Crons, by name", []string{"after", "limit"}, wireCrons{}, listCrons},
	{"POST", "/api/crons/{cron}/pause", "crons.pause",
		"Pause a cron: it does not tick", nil, wireDone{}, byName("cron", (*stint.Client).PauseCron)},
	{"POST", "/api/crons/{cron}/resume", "crons.resume",
		"Resume after a pause", nil, wireDone{}, byName("cron", (*stint.Client).ResumeCron)},
	{"POST", "/api/crons/{cron}/delete", "crons.delete",
		"Delete a cron that no code declares", nil, wireDone{}, byName("cron", (*stint.Client).DeleteCron)},
	{"POST", "/api/crons/{cron}/trigger", "crons.trigger", "Start a cron's run now", nil, wireStarted{}, triggerCron},
	{"POST", "/api/crons/{cron}/update", "crons.update", "Change a cron's spec", []string{"spec"}, wireDone{}, updateCron},
	{"GET", "/api/events", "view", "Events, newest first",
		[]string{"key", "id", "metadata", "since", "until", "limit", "cursor"}, wireEvents{}, listEvents},
	{"POST", "/api/events", "events.publish",
		"Publish an event", []string{"key", "payload", "scope", "metadata"}, wirePublished{}, publish},
	{"GET", "/api/filters", "view", "Filters of tasks, oldest first", []string{"after", "limit"}, wireFilters{}, listFilters},
	{"POST", "/api/filters", "filters.create",
		"Add a filter to a task", []string{"task", "scope", "expr", "payload", "force"}, wireFilter{}, createFilter},
	{"POST", "/api/filters/{filter}/delete", "filters.delete", "Delete a filter", nil, wireDone{}, deleteFilter},
	{"GET", "/api/webhooks", "view", "Webhooks, with their deliveries since the program started", nil, wireWebhooks{}, listWebhooks},
	{"POST", "/api/filters/test", "filters.test",
		"Test whether an expression matches an event", []string{"expr", "key", "payload"}, wireMatch{}, testFilter},
	{"GET", "/api/alerts", "view", "Rules of alerts, with their state, and sinks", nil, wireAlerts{}, listAlerts},
	{"POST", "/api/alerts/test", "alerts.test", "Send a test to one sink, or to all", []string{"sink", "all"}, wireDone{}, testAlert},
	{"GET", "/api/stats", "view", "Statistics by minute or hour", []string{"since", "span", "per_task"}, wireStats{}, listStats},
	{"GET", "/api/health", "view", "The database, and whether it can be written", nil, wireHealth{}, getHealth},
	{"POST", "/api/check", "check", "Look for damage", nil, wireCheck{}, check},
	{"POST", "/api/backup", "backup",
		"Write a copy of the database to a new file in the directory of ui.WithBackupDir", []string{"path"}, wireDone{}, backup},
}
