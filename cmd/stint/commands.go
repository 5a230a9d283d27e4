package main

import (
	"context"

	"github.com/urfave/cli/v3"
)

// A command is a subcommand of stint that works on a database.
type command struct {
	name     string
	args     string // after the database
	what     string // what it does
	flags    func(*options) []cli.Flag
	run      func(context.Context, *session) error
	unopened bool // run opens what it needs by itself
}

// Groups of commands, as the help lists them.
const (
	ofRuns     = "Runs"
	ofWork     = "Tasks, events and limits"
	ofDatabase = "The database"
	ofApp      = "A new app"
)

// groups names the group of each command that is not ofRuns.
var groups = map[string]string{
	"enqueue": ofWork, "publish": ofWork, "cron": ofWork, "queues": ofWork, "workers": ofWork, "pause": ofWork, "resume": ofWork,
	"events": ofWork, "tasks": ofWork, "limits": ofWork, "rate": ofWork, "top": ofDatabase, "stats": ofDatabase,
	"doctor": ofDatabase, "backup": ofDatabase, "migrate": ofDatabase, "move": ofDatabase,
	"export": ofDatabase, "import": ofDatabase, "ui": ofDatabase,
}

// commands are those that work on a database.
var commands = []command{
	{"runs", "", "list runs, newest first or, with -oldest, oldest first", runFlags, listRuns, false},
	{"run", "ID", "show a run: what it waits for, its tasks, its timeline", nil, showRun, false},
	{"cancel", "[ID...]", "cancel runs, by ID or by filter", bulkFlags, cancelRuns, false},
	{"replay", "[ID...]", "run ended or blocked runs again, by ID or by filter; those that succeeded only by ID or with -state succeeded",
		bulkFlags, replayRuns, false},
	{"delete", "[ID...]", "delete ended runs, by ID or by filter", bulkFlags, deleteRuns, false},
	{"move-queue", "QUEUE [ID...]", "move runs that wait to another queue, by ID or by filter; their retries and replays stay there",
		bulkFlags, moveQueue, false},
	{"errors", "[mute|resolve|unmute ID]", "list the errors of failed runs, the last seen first; mute or resolve one, or undo that",
		errorFlags, listErrors, false},
	{"restart", "ID [STEP]", "run an ended or blocked run again, from the first step of a name on", restartFlags, restart, false},
	{"fork", "ID STEP", "start a new run with what another recorded before the first step of a name", nil, fork, false},
	{"reschedule", "ID TIME", "move a scheduled run to another time, like 2026-01-31T12:00:00Z, or 90m or 7d from now", nil,
		reschedule, false},
	{"tail", "[ID]", "print runs as they change, or the log of one run, until interrupted", tailFlags, tail, false},
	{"logs", "[ID]", "print what all runs have logged, or one run; of a workflow, what its tasks have", logFlags, showLogs, false},
	{"stream", "ID", "print what a run has streamed", followFlags, showStream, false},
	{"journal", "ID", "print the journal of a durable function", nil, showJournal, false},
	{"enqueue", "TASK [JSON]", "start a task", enqueueFlags, enqueue, false},
	{"publish", "KEY [JSON]", "publish an event", publishFlags, publish, false},
	{"events", "", "list events, newest first", eventFlags, listEvents, false},
	{"tasks", "", "list tasks and workflows: those defined as data, and the names of others", nil, listTasks, false},
	{"cron", "[pause|resume|trigger|delete NAME]", "list crons, or act on one", nil, cron, false},
	{"queues", "", "list queues", nil, listQueues, false},
	{"workers", "", "list living workers", nil, listWorkers, false},
	{"pause", "QUEUE", "pause a queue: none of its runs start", forceFlags, pauseQueue, false},
	{"resume", "QUEUE", "resume a queue", forceFlags, resumeQueue, false},
	{"limits", "[pause|resume LIMIT KEY]", "list the keys of concurrency limits in use, or pause or resume one", forceFlags, limits, false},
	{"rate", "[set|pause|resume KEY [RATE BURST]]", "list rate limits, or set, pause or resume one; a rate is like 10/s, 600/m or inf", nil,
		rates, false},
	{"top", "", "show live what a database does; q ends it, space holds it", topFlags, top, false},
	{"stats", "", "print statistics by minute or hour, oldest first", statsFlags, showStats, false},
	{"doctor", "", "look for damage; the exit status is 1 if there is any", nil, doctor, false},
	{"backup", "PATH", "write a copy of a file to a new one, also while programs use it", nil, backup, true},
	{"migrate", "", "make or update the tables of a PostgreSQL database, for programs whose role may not", migrateFlags, migrate, true},
	{"move", "TO", "move a file into a PostgreSQL database, also while programs work, or such a database into a new file", moveFlags, move,
		true},
	{"export", "[ID]", "print all that the database has as JSON, an object a line; with an ID, a journal as ReplayJournal reads it", nil,
		export, false},
	{"import", "FILE", "make a new database of what export printed; FILE may be -", importFlags, importFile, true},
	{"ui", "", "serve the web page of a database, for this machine only", uiFlags, serveUI, false},
}

// onlyReads reports whether a command changes nothing. The database is then opened read-only: no cron
// fires, nothing is recovered, and no permission to write is needed.
func (c *command) onlyReads(o *options, args []string) bool {
	switch c.name {
	case "runs", "run", "tail", "logs", "stream", "journal", "export", "events", "tasks",
		"queues", "workers", "top", "stats", "doctor", "backup":
		return true
	case "cron", "limits", "rate", "errors":
		return len(args) == 0
	}
	return o.readOnly || o.dryRun
}

// onlyText reports whether a command has no answer in JSON.
func (c *command) onlyText() bool { return c.name == "ui" || c.name == "top" }

// group returns the group of a command.
func (c *command) group() string {
	if g := groups[c.name]; g != "" {
		return g
	}
	return ofRuns
}
