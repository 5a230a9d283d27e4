package ui

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stint-dev/stint"
	"golang.org/x/time/rate"
)

var (
	filterParams = []string{"id", "task", "queue", "state", "metadata", "error", "parent", "top", "since", "until", "limit_name", "limit_key", "through"}
	bulkParams   = append(slices.Clone(filterParams), "all", "dry_run", "force", "paced", "cursor")
)

// operations are the API. openapi.json is made of them; see TestOpenAPI.
var operations = []operation{
	{"GET", "/api/runs", "view", "List runs, newest first", append(slices.Clone(filterParams), "limit", "cursor"), wireRuns{}, listRuns},
	{"GET", "/api/runs/{id}", "view", "A run, with its timeline and tasks", nil, wireRun{}, getRun},
	{"GET", "/api/runs/{id}/journal", "view", "What a durable function has recorded", []string{"limit", "cursor"}, wireJournal{}, getJournal},
	{"GET", "/api/runs/{id}/logs", "view", "What a handler logged", []string{"after", "limit"}, wireLogs{}, getLogs},
	{"GET", "/api/runs/{id}/stream", "view", "What a handler has streamed so far", []string{"after", "limit"}, wireStream{}, getStream},
	{"POST", "/api/runs/{id}/cancel", "runs.cancel", "Cancel a run", nil, wireCount{}, bulk("runs.cancel")},
	{"POST", "/api/runs/{id}/replay", "runs.replay", "Run an ended or blocked run again", nil, wireCount{}, bulk("runs.replay")},
	{"POST", "/api/runs/{id}/delete", "runs.delete", "Delete an ended run", nil, wireCount{}, bulk("runs.delete")},
	{"POST", "/api/runs/{id}/restart", "runs.replay", "Run an ended run again from a step on", []string{"step"}, wireDone{}, restart},
	{"POST", "/api/runs/{id}/fork", "runs.replay", "Start a new run that has what the run had recorded before a step", []string{"step"}, wireStarted{}, fork},
	{"POST", "/api/runs/{id}/reschedule", "runs.reschedule", "Move a scheduled run to another time", []string{"at"}, wireDone{}, reschedule},
	{"POST", "/api/runs.cancel", "runs.cancel", "Cancel all runs that match and have not ended", bulkParams, wireCount{}, bulk("runs.cancel")},
	{"POST", "/api/runs.replay", "runs.replay", "Run all that match again: those that failed, were canceled or are blocked, and those that succeeded if state or id asks for them", bulkParams, wireCount{}, bulk("runs.replay")},
	{"POST", "/api/runs.delete", "runs.delete", "Delete all runs that match and have ended", bulkParams, wireCount{}, bulk("runs.delete")},
	{"GET", "/api/tasks", "view", "Tasks and workflows that the program defines", nil, wireTasks{}, listTasks},
	{"POST", "/api/tasks/{task}/runs", "tasks.run", "Start a task or workflow", []string{"input", "key", "delay", "at", "priority", "metadata", "force"}, wireStarted{}, startTask},
	{"GET", "/api/queues", "view", "Queues", nil, wireQueues{}, listQueues},
	{"POST", "/api/queues/{queue}/pause", "queues.pause", "Start nothing from a queue", []string{"force"}, wireDone{}, named("queue", (*stint.Client).PauseQueue)},
	{"POST", "/api/queues/{queue}/resume", "queues.resume", "Undo a pause", []string{"force"}, wireDone{}, named("queue", (*stint.Client).ResumeQueue)},
	{"GET", "/api/workers", "view", "Workers that run", nil, wireWorkers{}, listWorkers},
	{"POST", "/api/workers/{worker}/pause", "workers.pause", "Have a worker start nothing", nil, wireDone{}, named("worker", (*stint.Client).PauseWorker)},
	{"POST", "/api/workers/{worker}/resume", "workers.resume", "Undo a pause", nil, wireDone{}, named("worker", (*stint.Client).ResumeWorker)},
	{"GET", "/api/limits", "view", "Concurrency limits in use, and rate limits", nil, wireLimits{}, listLimits},
	{"POST", "/api/limits.pause", "limits.pause", "Let no run pass a limit: of the name and key, or the rate of the key", []string{"limit_name", "limit_key"}, wireDone{}, limited((*stint.Client).PauseLimit)},
	{"POST", "/api/limits.resume", "limits.resume", "Undo a pause", []string{"limit_name", "limit_key"}, wireDone{}, limited((*stint.Client).ResumeLimit)},
	{"POST", "/api/limits/{limitkey}", "limits.set", "Set a rate limit", []string{"limit", "burst"}, wireDone{}, setLimit},
	{"GET", "/api/crons", "view", "Crons, by name", []string{"after", "limit"}, wireCrons{}, listCrons},
	{"POST", "/api/crons/{cron}/pause", "crons.pause", "Have a cron not tick", nil, wireDone{}, named("cron", (*stint.Client).PauseCron)},
	{"POST", "/api/crons/{cron}/resume", "crons.resume", "Undo a pause", nil, wireDone{}, named("cron", (*stint.Client).ResumeCron)},
	{"POST", "/api/crons/{cron}/delete", "crons.delete", "Delete a cron that no code declares", nil, wireDone{}, named("cron", (*stint.Client).DeleteCron)},
	{"POST", "/api/crons/{cron}/trigger", "crons.trigger", "Start a cron's run now", nil, wireStarted{}, triggerCron},
	{"POST", "/api/crons/{cron}/update", "crons.update", "Change a cron's spec", []string{"spec"}, wireDone{}, updateCron},
	{"GET", "/api/events", "view", "Events, newest first", []string{"key", "limit", "cursor"}, wireEvents{}, listEvents},
	{"POST", "/api/events", "events.publish", "Publish an event", []string{"key", "payload", "scope", "metadata"}, wirePublished{}, publish},
	{"GET", "/api/filters", "view", "Filters of tasks, oldest first", []string{"after", "limit"}, wireFilters{}, listFilters},
	{"POST", "/api/filters", "filters.create", "Add a filter to a task", []string{"task", "scope", "expr", "payload", "force"}, wireFilter{}, createFilter},
	{"POST", "/api/filters/{filter}/delete", "filters.delete", "Delete a filter", nil, wireDone{}, deleteFilter},
	{"GET", "/api/webhooks", "view", "What has come to handlers of webhooks since the program started", nil, wireWebhooks{}, listWebhooks},
	{"POST", "/api/filters/test", "filters.test", "Say whether an expression matches an event", []string{"expr", "key", "payload"}, wireMatch{}, testFilter},
	{"GET", "/api/alerts", "view", "Rules and sinks of alerts, and how they stand", nil, wireAlerts{}, listAlerts},
	{"POST", "/api/alerts/test", "alerts.test", "Send a test to a sink, or to all of them", []string{"sink", "all"}, wireDone{}, testAlert},
	{"GET", "/api/stats", "view", "What happened, by minute or hour", []string{"since", "span", "per_task"}, wireStats{}, listStats},
	{"GET", "/api/health", "view", "The database, and whether it can be written", nil, wireHealth{}, getHealth},
	{"POST", "/api/check", "check", "Look for damage", nil, wireCheck{}, check},
	{"POST", "/api/backup", "backup", "Write a copy of the database to a new file in the directory that the program has for it", []string{"path"}, wireDone{}, backup},
}

func listRuns(h *handler, ctx context.Context, in url.Values) (any, error) {
	f, err := h.filterOf(in)
	if err != nil {
		return nil, err
	}
	if f.Limit, err = number(in, "limit", 0); err != nil {
		return nil, err
	}
	f.Scan = perQuery
	page, err := h.list(ctx, f)
	if err != nil {
		return nil, err
	}
	out := wireRuns{Runs: []wireRun{}, Next: page.Next}
	for i := range page.Runs {
		out.Runs = append(out.Runs, h.run(&page.Runs[i]))
	}
	if n := fit(out.Runs); n < len(out.Runs) { // what WithRedact shows may be longer than what is stored
		out.Runs, out.Next = out.Runs[:n], out.Runs[n-1].ID
	}
	return out, nil
}

func getRun(h *handler, ctx context.Context, in url.Values) (any, error) {
	info, err := h.c.GetRun(ctx, in.Get("id"))
	if err != nil {
		return nil, err
	}
	h.redactRun(info)
	return h.run(info), nil
}

// bulk is an operation on the runs that match. One that names nothing must say that it
// means all. If it is paced it stops after a moment, and is to be asked again from its
// cursor on.
func bulk(name string) func(*handler, context.Context, url.Values) (any, error) {
	return func(h *handler, ctx context.Context, in url.Values) (any, error) {
		a, _ := bulkActionOf(name)
		f, err := h.selectionOf(in)
		if err != nil {
			return nil, err
		}
		if err := h.known(ctx, in, f.Tasks, f.Queues); err != nil {
			return nil, err
		}
		if len(f.IDs) == 1 {
			if _, err := h.c.GetRun(ctx, f.IDs[0]); err != nil {
				return nil, err
			}
		}
		paced, err := isTrue(in, "paced")
		if err != nil {
			return nil, err
		}
		if paced && !f.DryRun {
			return h.paced(ctx, a, f)
		}
		n, err := a.do(h.c, ctx, f)
		return wireCount{Changed: n}, err
	}
}

func restart(h *handler, ctx context.Context, in url.Values) (any, error) {
	step, err := need(in, "step")
	if err != nil {
		return nil, err
	}
	return wireDone{true}, h.c.RestartFrom(ctx, in.Get("id"), step)
}

func fork(h *handler, ctx context.Context, in url.Values) (any, error) {
	step, err := need(in, "step")
	if err != nil {
		return nil, err
	}
	id, err := h.c.Fork(ctx, in.Get("id"), step)
	return wireStarted{id, false}, err
}

func reschedule(h *handler, ctx context.Context, in url.Values) (any, error) {
	text, err := need(in, "at")
	if err != nil {
		return nil, err
	}
	at, err := timeOf(text)
	if err != nil {
		return nil, err
	}
	return wireDone{true}, h.c.Reschedule(ctx, in.Get("id"), at)
}

func listTasks(h *handler, ctx context.Context, in url.Values) (any, error) {
	out := wireTasks{Tasks: []wireTask{}}
	known := map[string]bool{}
	for _, d := range h.c.ListTasks() {
		t := wireTask{Name: d.Name, Workflow: d.Workflow, Handler: d.Handler, Queue: d.Queue, Retries: d.Retries, TimeoutMS: ms(d.Timeout), Crons: d.Crons, Events: d.Events, Input: d.Input}
		for _, n := range d.Tasks {
			t.Tasks = append(t.Tasks, wireNode{n.Name, n.Parents})
		}
		out.Tasks, known[d.Name] = append(out.Tasks, t), true
	}
	names, err := h.taskNames(ctx)
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		if !known[n] {
			out.Tasks = append(out.Tasks, wireTask{Name: n})
		}
	}
	return out, nil
}

func startTask(h *handler, ctx context.Context, in url.Values) (any, error) {
	input, err := need(in, "input")
	if err != nil {
		return nil, err
	}
	var opts []stint.RunOption
	if key := in.Get("key"); key != "" {
		opts = append(opts, stint.WithIdempotencyKey(key, 24*time.Hour))
	}
	if text := in.Get("delay"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			return nil, fmt.Errorf("delay: %w", err)
		}
		opts = append(opts, stint.WithDelay(d))
	}
	if at, err := timeOf(in.Get("at")); err != nil {
		return nil, err
	} else if !at.IsZero() {
		opts = append(opts, stint.WithRunAt(at))
	}
	if in.Get("priority") != "" {
		p, err := number(in, "priority", 0)
		if err != nil {
			return nil, err
		}
		opts = append(opts, stint.WithPriority(p))
	}
	f, err := h.filterOf(url.Values{"metadata": in["metadata"]})
	if err != nil {
		return nil, err
	}
	if f.Metadata != nil {
		opts = append(opts, stint.WithMetadata(f.Metadata))
	}
	if err := h.known(ctx, in, in["task"], nil); err != nil {
		return nil, err
	}
	run, err := h.c.EnqueueJSON(ctx, in.Get("task"), json.RawMessage(input), opts...)
	if err != nil {
		return nil, err
	}
	return wireStarted{run.ID(), run.Existing()}, nil
}

func listQueues(h *handler, ctx context.Context, in url.Values) (any, error) {
	all, err := h.c.ListQueues(ctx)
	if err != nil {
		return nil, err
	}
	out := wireQueues{Queues: []wireQueue{}}
	for _, q := range all {
		counts, err := h.c.QueuePriorities(ctx, q.Name)
		if err != nil {
			return nil, err
		}
		out.Queues = append(out.Queues, wireQueue{q.Name, q.Paused, q.Ready, q.Running, optional(q.Oldest), counts})
	}
	return out, nil
}

func listWorkers(h *handler, ctx context.Context, in url.Values) (any, error) {
	all, err := h.c.ListWorkers(ctx)
	out := wireWorkers{Workers: []wireWorker{}}
	for _, w := range all {
		out.Workers = append(out.Workers, wireWorker{w.Name, w.Host, w.PID, w.Started, w.Slots, w.Running, w.Paused, w.Queues, w.Labels, w.Build})
	}
	return out, err
}

func listLimits(h *handler, ctx context.Context, in url.Values) (any, error) {
	keys, err := h.c.ListConcurrency(ctx)
	if err != nil {
		return nil, err
	}
	rates, err := h.c.ListRateLimits(ctx)
	if err != nil {
		return nil, err
	}
	out := wireLimits{Concurrency: []wireKey{}, Rates: []wireRate{}}
	for _, k := range keys {
		out.Concurrency = append(out.Concurrency, wireKey{k.Name, h.showKey(stint.LimitKey{Name: k.Name, Key: k.Key}), k.Max, k.Active, k.Waiting, k.Strategy.String(), k.Paused})
	}
	for _, r := range rates {
		out.Rates = append(out.Rates, wireRate{h.showKey(stint.LimitKey{Key: r.Key}), float64(r.Limit), r.Burst, r.Tokens, r.Waiting, r.Paused})
	}
	return out, nil
}

func setLimit(h *handler, ctx context.Context, in url.Values) (any, error) {
	limit, err := strconv.ParseFloat(in.Get("limit"), 64)
	if err != nil {
		return nil, fmt.Errorf("limit: want units each second: %w", err)
	}
	burst, err := number(in, "burst", 0)
	if err != nil {
		return nil, err
	}
	return wireDone{true}, h.c.SetRateLimit(ctx, in.Get("limitkey"), rate.Limit(limit), burst)
}

func listCrons(h *handler, ctx context.Context, in url.Values) (any, error) {
	limit, err := number(in, "limit", 0)
	if err != nil {
		return nil, err
	}
	page, err := h.c.CronPage(ctx, stint.CronFilter{Limit: limit, Cursor: in.Get("after")})
	if err != nil {
		return nil, err
	}
	h.redactCrons(page.Crons)
	out := wireCrons{Crons: []wireCron{}, Next: page.Next}
	for _, c := range page.Crons {
		out.Crons = append(out.Crons, wireCron{c.Name, c.Task, c.Spec, c.Declared, c.Paused, c.Input, optional(c.Next), optional(c.Last), c.LastRunID, c.Error, c.Blocked})
	}
	if n := fit(out.Crons); n < len(out.Crons) {
		out.Crons, out.Next = out.Crons[:n], out.Crons[n-1].Name
	}
	return out, nil
}

func triggerCron(h *handler, ctx context.Context, in url.Values) (any, error) {
	id, err := h.c.TriggerCron(ctx, in.Get("cron"))
	return wireStarted{id, false}, err
}

func updateCron(h *handler, ctx context.Context, in url.Values) (any, error) {
	spec, err := need(in, "spec")
	if err != nil {
		return nil, err
	}
	return wireDone{true}, h.c.UpdateCron(ctx, in.Get("cron"), spec)
}

func listEvents(h *handler, ctx context.Context, in url.Values) (any, error) {
	limit, err := number(in, "limit", 0)
	if err != nil {
		return nil, err
	}
	page, err := h.c.ListEvents(ctx, stint.EventFilter{Key: in.Get("key"), Limit: limit, Cursor: in.Get("cursor")})
	if err != nil {
		return nil, err
	}
	h.redactEvents(page.Events)
	out := wireEvents{Events: []wireEvent{}, Next: page.Next}
	for _, e := range page.Events {
		out.Events = append(out.Events, wireEvent{e.ID, e.Key, e.Payload, e.Metadata, e.Scope, e.Published, e.Started, e.Woke})
	}
	if n := fit(out.Events); n < len(out.Events) {
		out.Events, out.Next = out.Events[:n], out.Events[n-1].ID
	}
	return out, nil
}

func publish(h *handler, ctx context.Context, in url.Values) (any, error) {
	key, err := need(in, "key")
	if err != nil {
		return nil, err
	}
	payload := json.RawMessage(in.Get("payload"))
	if !json.Valid(payload) {
		return nil, fmt.Errorf("payload: want JSON")
	}
	var opts []stint.EventOption
	if s := in.Get("scope"); s != "" {
		opts = append(opts, stint.WithScope(s))
	}
	f, err := h.filterOf(url.Values{"metadata": in["metadata"]})
	if err != nil {
		return nil, err
	}
	if f.Metadata != nil {
		opts = append(opts, stint.WithMetadata(f.Metadata))
	}
	id, err := h.c.Publish(ctx, key, payload, opts...)
	return wirePublished{id}, err
}

func limited(do func(*stint.Client, context.Context, stint.LimitKey) error) func(*handler, context.Context, url.Values) (any, error) {
	return func(h *handler, ctx context.Context, in url.Values) (any, error) {
		k := stint.LimitKey{Name: in.Get("limit_name"), Key: in.Get("limit_key")}
		if k == (stint.LimitKey{}) {
			return nil, errors.New("limit_name or limit_key is missing")
		}
		return wireDone{true}, do(h.c, ctx, k)
	}
}

func listFilters(h *handler, ctx context.Context, in url.Values) (any, error) {
	limit, err := number(in, "limit", 0)
	if err != nil {
		return nil, err
	}
	after, err := number(in, "after", 0)
	if err != nil {
		return nil, err
	}
	page, err := h.c.FilterPage(ctx, stint.FilterQuery{Limit: limit, Cursor: strconv.Itoa(after)})
	if err != nil {
		return nil, err
	}
	out := wireFilters{Filters: []wireFilter{}}
	for _, f := range page.Filters {
		out.Filters = append(out.Filters, h.filter(f))
	}
	n := fit(out.Filters)
	if n < len(out.Filters) || page.Next != "" {
		out.Filters, out.Next = out.Filters[:n], out.Filters[n-1].ID
	}
	return out, nil
}

func createFilter(h *handler, ctx context.Context, in url.Values) (any, error) {
	f := stint.TriggerFilter{Task: in.Get("task"), Scope: in.Get("scope"), Expression: in.Get("expr")}
	payload := json.RawMessage(strings.TrimSpace(in.Get("payload")))
	if len(payload) > 0 {
		if !json.Valid(payload) {
			return nil, errors.New("payload: want JSON")
		}
		f.Payload = payload
	}
	if err := h.known(ctx, in, []string{f.Task}, nil); err != nil {
		return nil, err
	}
	id, err := h.c.CreateFilter(ctx, f)
	f.ID = id
	return h.filter(f), err
}

// filter is a filter as the API shows it.
func (h *handler) filter(f stint.TriggerFilter) wireFilter {
	payload, _ := f.Payload.(json.RawMessage)
	return wireFilter{f.ID, f.Task, h.showText("scope", f.Task, f.Scope), h.showText("expression", f.Task, f.Expression), h.show("filter", f.Task, payload)}
}

func deleteFilter(h *handler, ctx context.Context, in url.Values) (any, error) {
	id, err := number(in, "filter", 0)
	if err != nil {
		return nil, err
	}
	return wireDone{true}, h.c.DeleteFilter(ctx, int64(id))
}

func listWebhooks(h *handler, ctx context.Context, in url.Values) (any, error) {
	out := wireWebhooks{Webhooks: []wireWebhook{}}
	for _, w := range h.c.ListWebhooks() {
		out.Webhooks = append(out.Webhooks, wireWebhook{w.Name, w.Published, w.Ignored, w.Refused, optional(w.Last), w.LastEvent, h.showText("error", w.Name, w.Refusal), optional(w.RefusedAt)})
	}
	return out, nil
}

func testFilter(h *handler, ctx context.Context, in url.Values) (any, error) {
	expr, err := need(in, "expr")
	if err != nil {
		return nil, err
	}
	ok, err := stint.MatchFilter(expr, in.Get("key"), json.RawMessage(in.Get("payload")))
	return wireMatch{ok}, err
}

func listAlerts(h *handler, ctx context.Context, in url.Values) (any, error) {
	out := wireAlerts{Rules: []wireRule{}, Sinks: []wireSink{}}
	if h.alerts == nil {
		return out, nil
	}
	all, err := h.alerts.Statuses(ctx)
	for _, s := range all {
		out.Rules = append(out.Rules, wireRule{s.Name, s.Task, s.State.String(), s.Count, s.Rate, ms(s.Window), s.Sinks, s.Firing(), optional(s.Since), optional(s.Sent)})
	}
	for _, s := range h.alerts.Sinks() {
		out.Sinks = append(out.Sinks, wireSink{s.Name, s.Kind})
	}
	return out, err
}

func testAlert(h *handler, ctx context.Context, in url.Values) (any, error) {
	if h.alerts == nil {
		return nil, fmt.Errorf("the program has no alerts: ui.WithAlerts: %w", stint.ErrNotFound)
	}
	everySink, err := isTrue(in, "all")
	if err != nil {
		return nil, err
	}
	sink := in.Get("sink")
	if (sink == "") != everySink {
		return nil, errors.New("name a sink, or say all")
	}
	return wireDone{true}, h.alerts.Test(ctx, sink)
}

func listStats(h *handler, ctx context.Context, in url.Values) (any, error) {
	f := stint.StatsFilter{PerTask: in.Get("per_task") != ""}
	var err error
	if f.Since, err = timeOf(in.Get("since")); err != nil {
		return nil, err
	}
	if f.Since.IsZero() {
		f.Since = time.Now().Add(-time.Hour)
	}
	switch in.Get("span") {
	case "hour":
		f.Span = time.Hour
	case "", "minute":
	default:
		return nil, fmt.Errorf("span %q: want minute or hour", in.Get("span"))
	}
	all, err := h.c.Stats(ctx, f)
	out := wireStats{Stats: []wireStat{}}
	for i := range all {
		s := &all[i]
		out.Stats = append(out.Stats, wireStat{s.At, s.Queue, s.Task, s.Enqueued, s.Started, s.Succeeded, s.Failed, s.Canceled, s.Skipped, s.Retried, s.Depth, s.Commits, s.Changes,
			ms(s.Wait(.5)), ms(s.Wait(.99)), ms(s.Duration(.5)), ms(s.Duration(.95)), ms(s.Commit(.5)), ms(s.Commit(.99))})
	}
	return out, err
}

func getHealth(h *handler, ctx context.Context, in url.Values) (any, error) {
	d, err := h.c.Database(ctx)
	if err != nil {
		return nil, err
	}
	out := wireHealth{OK: true, Path: d.Path, Engine: d.Engine, Schema: d.Schema, Durability: d.Durability, Size: d.Size, Free: d.Free, LogSize: d.LogSize, Checkpoint: optional(d.Checkpoint)}
	if err := h.c.Healthy(); err != nil {
		out.OK, out.Problem = false, err.Error()
	}
	return out, nil
}

func check(h *handler, ctx context.Context, in url.Values) (any, error) {
	found, err := h.c.Check(ctx)
	return wireCheck{append([]string{}, found...)}, err
}

func backup(h *handler, ctx context.Context, in url.Values) (any, error) {
	name, err := need(in, "path")
	if err != nil {
		return nil, err
	}
	if h.backupDir == "" {
		return nil, errors.New("the program names no directory for backups: ui.WithBackupDir")
	}
	if filepath.Dir(name) == filepath.Clean(h.backupDir) {
		name = filepath.Base(name)
	}
	if !backupName.MatchString(name) || besideDatabase.MatchString(name) {
		return nil, fmt.Errorf("path %q: want the name of a new file in %s: letters, digits, dots, _ and -, and not one of a database's log or lock", name, h.backupDir)
	}
	return wireDone{true}, h.c.Backup(ctx, filepath.Join(h.backupDir, name))
}

var (
	backupName     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)
	besideDatabase = regexp.MustCompile(`-(wal|shm|journal)$|-stint-`)
)

func number(in url.Values, name string, none int) (int, error) {
	text := in.Get(name)
	if text == "" {
		return none, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, fmt.Errorf("%s %q: want a whole number", name, text)
	}
	return n, nil
}
