-- Times are Unix milliseconds. States are package store's numbers.

CREATE TABLE stint_meta (
  key   TEXT PRIMARY KEY,
  value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- A lane is one task in one queue. Runs refer to lanes, so that a row is small and a
-- claim looks only at lanes whose task it can run and whose queue is open.
CREATE TABLE stint_lanes (
  id     INTEGER PRIMARY KEY,
  queue  TEXT NOT NULL CHECK (queue <> ''),
  task   TEXT NOT NULL CHECK (task <> ''),
  -- A large bulk enqueue fills a lane of its own over several commits; the last one
  -- clears staged, and all its runs appear at once. It holds the filler's lock name.
  staged TEXT,
  -- Runs that were executing in two or more deaths of a process wait in lanes of
  -- their own: one such run executes at a time.
  suspect INTEGER NOT NULL DEFAULT 0 CHECK (suspect IN (0, 1)),
  -- Which workers may have its runs: JSON; '' any.
  route  TEXT NOT NULL DEFAULT '',
  -- Rises when a run comes into the lane or becomes ready in it: other processes read
  -- the lanes that have a later one than they have seen. See lanes.go.
  stamp  INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX stint_lanes_name ON stint_lanes (queue, task);
CREATE INDEX stint_lanes_stamp ON stint_lanes (stamp);

-- What the app, or a server on it, keeps here: it belongs to no run.
CREATE TABLE stint_settings (
  key   TEXT PRIMARY KEY CHECK (key <> ''),
  value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE stint_queues (
  name   TEXT PRIMARY KEY CHECK (name <> ''),
  paused INTEGER NOT NULL DEFAULT 0 CHECK (paused IN (0, 1))
) STRICT, WITHOUT ROWID;

CREATE TABLE stint_workers (
  id         INTEGER PRIMARY KEY AUTOINCREMENT,
  name       TEXT NOT NULL,
  lock       TEXT NOT NULL,      -- file that the worker's process keeps locked while it lives
  pid        INTEGER NOT NULL,
  host       TEXT NOT NULL,
  slots      INTEGER NOT NULL,
  queues     TEXT NOT NULL,      -- JSON array; [] means every queue
  labels     TEXT NOT NULL,      -- JSON object
  tasks      TEXT NOT NULL DEFAULT 'null', -- JSON array of what it can work; null: any task
  build      TEXT NOT NULL,
  started_at INTEGER NOT NULL,
  ended_at   INTEGER,
  paused     INTEGER NOT NULL DEFAULT 0 CHECK (paused IN (0, 1))
) STRICT;
CREATE INDEX stint_workers_lock ON stint_workers (lock);
CREATE INDEX stint_workers_alive ON stint_workers (lock) WHERE ended_at IS NULL;

CREATE TABLE stint_runs (
  id         INTEGER PRIMARY KEY CHECK (id > 0), -- creation time << 20 | sequence; see package keys
  lane       INTEGER NOT NULL REFERENCES stint_lanes (id),
  state      INTEGER NOT NULL CHECK (state BETWEEN 2 AND 10),
  priority   INTEGER NOT NULL CHECK (priority BETWEEN -128 AND 127),
  rank       INTEGER NOT NULL,           -- position in the lane: due time less what priority is worth
  attempt    INTEGER NOT NULL DEFAULT 0 CHECK (attempt >= 0),
  replayed      INTEGER NOT NULL DEFAULT 0, -- attempts before the last replay; of a workflow's run, 1 if it was replayed
  lease      INTEGER NOT NULL DEFAULT 0, -- executions so far; fences late writers
  crashes    INTEGER NOT NULL DEFAULT 0,
  spent      INTEGER NOT NULL DEFAULT 0, -- milliseconds of its time limit that an attempt had used when it came to wait
  turn       INTEGER NOT NULL DEFAULT 0, -- decides among equal ranks; see limits.go
  -- 1: detached, 2: a workflow's run, 4: its handler continues after a wait, 8: it began with the journal of another run
  flags      INTEGER NOT NULL DEFAULT 0,
  worker     INTEGER,                    -- of the last execution; 0: nobody's, a workflow's run
  due_at     INTEGER,                    -- NULL: on creation
  started_at INTEGER,
  ended_at   INTEGER,
  cancel_at  INTEGER,                    -- of a run that did not end at once: it ends when it has cleaned up
  start_by   INTEGER,                    -- of a workflow's run: end by
  start_in   INTEGER,                    -- start_by counts from when it is due, so long
  parent     INTEGER,
  root       INTEGER,
  node       INTEGER,                    -- graph << 20 | place in it
  key        TEXT,
  metadata   TEXT,
  input      BLOB,                       -- NULL: in stint_inputs, or the workflow run's
  output     BLOB,
  error      TEXT,
  limits     TEXT,                       -- JSON; NULL: none
  limiter    INTEGER,                    -- that a queued run waits for; 0 or less: it was not led to its limiters yet
  CHECK (state <> 4 OR worker IS NOT NULL),
  CHECK (limiter IS NULL OR limits IS NOT NULL),
  CHECK ((state >= 7) = (ended_at IS NOT NULL))
) STRICT;

-- The claim reads stint_runs_ready in order. A statement that uses a partial index
-- repeats its condition word for word, with states as literals: a bound state hides
-- the index from the planner. No condition has an IN list: SQLite builds a table for
-- one at each change of a row, which made a finish cost twice as much.
CREATE INDEX stint_runs_ready ON stint_runs (limiter, lane, rank, turn) WHERE state = 3;
CREATE INDEX stint_runs_due ON stint_runs (due_at) WHERE state = 2;
CREATE INDEX stint_runs_start_by ON stint_runs (start_by) WHERE start_by IS NOT NULL;
CREATE INDEX stint_runs_running ON stint_runs (worker) WHERE state = 4;
CREATE INDEX stint_runs_held ON stint_runs (state) WHERE state > 4 AND state < 7;
CREATE INDEX stint_runs_unsuccessful ON stint_runs (state) WHERE state > 7;
CREATE INDEX stint_runs_wake ON stint_runs (due_at) WHERE state = 5 AND due_at IS NOT NULL;
CREATE INDEX stint_runs_parent ON stint_runs (parent, node) WHERE parent IS NOT NULL;

-- A limiter is the state of one key of a concurrency limit, or of one rate limit.
CREATE TABLE stint_limiters (
  id         INTEGER PRIMARY KEY,
  rate       INTEGER NOT NULL CHECK (rate IN (0, 1)),
  name       TEXT NOT NULL, -- of the concurrency limit
  key        TEXT NOT NULL,
  max        INTEGER NOT NULL, -- of a rate: its burst
  strategy   INTEGER NOT NULL CHECK (strategy BETWEEN 0 AND 255),
  active     INTEGER NOT NULL CHECK (active >= 0), -- runs that occupy it; of a rate, units promised to runs that are ready
  -- Of a concurrency limit: admitted runs that have not started, also those that wait for a later limiter.
  admitted   INTEGER NOT NULL CHECK (admitted >= 0),
  waiting    INTEGER NOT NULL CHECK (waiting >= 0), -- runs that wait for it; not a state: they are queued
  per_second REAL NOT NULL,
  tokens     REAL NOT NULL,
  at         INTEGER NOT NULL, -- of tokens, or of the last use; microseconds
  wake_at    INTEGER,          -- when it may admit a run that waits; NULL: not by time
  explicit   INTEGER NOT NULL DEFAULT 0 CHECK (explicit IN (0, 1)), -- its settings are SetRate's, not a run's
  paused     INTEGER NOT NULL DEFAULT 0 CHECK (paused IN (0, 1)),
  set_by     INTEGER NOT NULL DEFAULT 0, -- the newest enqueue that came with settings: a run's key
  UNIQUE (rate, name, key)
) STRICT;
CREATE INDEX stint_limiters_wake ON stint_limiters (wake_at) WHERE wake_at IS NOT NULL;

-- Runs that a later run at the limiter may cancel. Those that have ended are deleted with the next.
CREATE TABLE stint_members (
  limiter INTEGER NOT NULL,
  run     INTEGER NOT NULL,
  PRIMARY KEY (limiter, run)
) STRICT, WITHOUT ROWID;

-- The state that runs with limits had before the transaction, which empties this table
-- at its end. A trigger, created with the first limits, fills it.
CREATE TABLE stint_transitions (
  run     INTEGER PRIMARY KEY,
  state   INTEGER NOT NULL,
  limiter INTEGER,
  flags   INTEGER NOT NULL,
  lease   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The worker, by name, that the tasks of a workflow's run follow.
CREATE TABLE stint_sticky (
  run    INTEGER PRIMARY KEY,
  worker TEXT NOT NULL
) STRICT;

-- The limits of the tasks of a workflow's run.
CREATE TABLE stint_task_limits (
  run    INTEGER NOT NULL,
  place  INTEGER NOT NULL,
  limits TEXT NOT NULL,
  PRIMARY KEY (run, place)
) STRICT, WITHOUT ROWID;

-- Inputs too large to be rewritten with each transition of their run.
CREATE TABLE stint_inputs (
  id   INTEGER PRIMARY KEY, -- the run's
  data BLOB NOT NULL
) STRICT;

-- What runs have done, for handlers that run again. Of a run, in the order of its calls.
CREATE TABLE stint_journal (
  run      INTEGER NOT NULL,
  scope    TEXT NOT NULL,
  seq      INTEGER NOT NULL CHECK (seq > 0),
  kind     INTEGER NOT NULL,
  name     TEXT NOT NULL, -- of an event, its key
  done     INTEGER NOT NULL CHECK (done IN (0, 1)),
  value    BLOB,
  error    TEXT,
  at       INTEGER NOT NULL,
  due_at   INTEGER,
  field    TEXT,          -- of an event: '' any, else what it must have
  match    TEXT,
  filter   TEXT,          -- '' none
  event    INTEGER,       -- that came
  attempts INTEGER NOT NULL DEFAULT 0,
  began_at INTEGER,       -- NULL: at
  tries    TEXT,          -- of a step that was tried again
  PRIMARY KEY (run, scope, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX stint_journal_events ON stint_journal (name, field, match, filter) WHERE kind = 4 AND done = 0;

-- Which runs wait for which children.
CREATE TABLE stint_awaited (
  child INTEGER NOT NULL,
  run   INTEGER NOT NULL,
  PRIMARY KEY (child, run)
) STRICT, WITHOUT ROWID;

-- The shapes of workflows. A run refers to the one that it started with.
CREATE TABLE stint_graphs (
  id    INTEGER PRIMARY KEY,
  hash  BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
  shape TEXT NOT NULL
) STRICT;

-- How the parents of a task have ended so far, where a task has several.
CREATE TABLE stint_joins (
  run   INTEGER NOT NULL, -- the workflow's
  place INTEGER NOT NULL, -- in its graph
  ended INTEGER NOT NULL,
  flags INTEGER NOT NULL, -- 1: one ran, 2: one failed, 4: one was canceled
  cause INTEGER,          -- place of a task that failed or was canceled
  PRIMARY KEY (run, place)
) STRICT, WITHOUT ROWID;

-- The attempts that a task of a workflow's run had made, where a replay makes its run anew.
CREATE TABLE stint_remade (
  run      INTEGER NOT NULL, -- the workflow's
  place    INTEGER NOT NULL, -- in its graph
  attempts INTEGER NOT NULL,
  PRIMARY KEY (run, place)
) STRICT, WITHOUT ROWID;

-- What predicates said of a task's output: a JSON array.
CREATE TABLE stint_tests (
  run     INTEGER PRIMARY KEY,
  results TEXT NOT NULL
) STRICT;

-- Events that waiting runs wait for. They are found by their key and, if they have
-- one, by a field and its value; '' means any.
CREATE TABLE stint_waits (
  run   INTEGER NOT NULL,
  leaf  INTEGER NOT NULL, -- which of the run's conditions
  key   TEXT NOT NULL,
  field TEXT NOT NULL,
  value TEXT NOT NULL,
  filter TEXT NOT NULL,   -- '' none
  event INTEGER,          -- that came
  PRIMARY KEY (run, leaf)
) STRICT, WITHOUT ROWID;
CREATE INDEX stint_waits_open ON stint_waits (key, field, value, filter) WHERE event IS NULL;

CREATE TABLE stint_events (
  id       INTEGER PRIMARY KEY, -- from the sequence of run keys
  key      TEXT NOT NULL CHECK (key <> ''),
  payload  BLOB NOT NULL,
  metadata TEXT,
  scope    TEXT,             -- NULL: none
  priority INTEGER CHECK (priority BETWEEN -128 AND 127), -- of the runs that it starts; NULL: that of their task
  delivery TEXT,             -- what was delivered twice is one event
  pending  INTEGER CHECK (pending = 1) -- from an app's transaction; it has done nothing yet
) STRICT;
CREATE INDEX stint_events_key ON stint_events (key, id);
CREATE UNIQUE INDEX stint_events_delivery ON stint_events (delivery) WHERE delivery IS NOT NULL;
CREATE INDEX stint_events_pending ON stint_events (pending, id) WHERE pending = 1;

-- The runs that events started, and those that had waited for them.
CREATE TABLE stint_event_runs (
  event INTEGER NOT NULL,
  run   INTEGER NOT NULL,
  woke  INTEGER NOT NULL CHECK (woke IN (0, 1)),
  PRIMARY KEY (event, run)
) STRICT, WITHOUT ROWID;

-- Runs that are made at times.
CREATE TABLE stint_crons (
  name     TEXT PRIMARY KEY CHECK (name <> ''),
  task     TEXT NOT NULL,
  spec     TEXT NOT NULL,
  catch_up INTEGER NOT NULL,
  declared INTEGER NOT NULL CHECK (declared IN (0, 1)), -- it stands in code
  paused   INTEGER NOT NULL DEFAULT 0 CHECK (paused IN (0, 1)),
  next_at  INTEGER,
  last_at  INTEGER,
  last_run INTEGER,
  error    TEXT,             -- why its last tick made no run
  program  TEXT NOT NULL DEFAULT '', -- that declared it
  gone_at  INTEGER,          -- when a worker of that program came that lacks it; NULL: it stands
  graph    INTEGER,
  input    BLOB NOT NULL,
  template TEXT NOT NULL,    -- JSON: the rest of the run
  CHECK (paused = 0 OR next_at IS NULL),
  CHECK (gone_at IS NULL OR next_at IS NULL)
) STRICT;
CREATE INDEX stint_crons_next ON stint_crons (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX stint_crons_task ON stint_crons (task);
CREATE INDEX stint_crons_program ON stint_crons (program, gone_at);
CREATE INDEX stint_crons_gone ON stint_crons (gone_at) WHERE gone_at IS NOT NULL;

-- Runs that are made for events.
CREATE TABLE stint_triggers (
  id       INTEGER PRIMARY KEY,
  task     TEXT NOT NULL,
  key      TEXT NOT NULL CHECK (key <> ''),
  wild     INTEGER NOT NULL CHECK (wild IN (0, 1)), -- there is a * in it
  filter   TEXT NOT NULL,    -- '' none
  program  TEXT NOT NULL DEFAULT '', -- as that of a cron, and the next
  gone_at  INTEGER,
  graph    INTEGER,
  template TEXT NOT NULL
) STRICT;
CREATE INDEX stint_triggers_key ON stint_triggers (wild, key, task);
CREATE INDEX stint_triggers_task ON stint_triggers (task);
CREATE INDEX stint_triggers_program ON stint_triggers (program, gone_at);
CREATE INDEX stint_triggers_gone ON stint_triggers (gone_at) WHERE gone_at IS NOT NULL;

-- What narrows the triggers of a task.
CREATE TABLE stint_filters (
  id      INTEGER PRIMARY KEY AUTOINCREMENT,
  task    TEXT NOT NULL,
  scope   TEXT NOT NULL,
  expr    TEXT NOT NULL,
  payload TEXT,              -- JSON, for the runs
  declared INTEGER NOT NULL DEFAULT 0 CHECK (declared IN (0, 1)) -- it is part of a definition
) STRICT;
CREATE INDEX stint_filters_task ON stint_filters (task);

-- Tasks and workflows that are defined as data. Of a task, the version with the highest number is in force.
CREATE TABLE stint_definitions (
  task    TEXT NOT NULL CHECK (task <> ''),
  version TEXT NOT NULL, -- a digest of body
  number  INTEGER NOT NULL,
  at      INTEGER NOT NULL,
  body    TEXT NOT NULL, -- JSON
  PRIMARY KEY (task, version)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX stint_definitions_number ON stint_definitions (task, number);

-- Executions that did not end their run.
CREATE TABLE stint_attempts (
  run        INTEGER NOT NULL,
  lease      INTEGER NOT NULL,
  attempt    INTEGER NOT NULL,
  worker     INTEGER,
  started_at INTEGER,
  ended_at   INTEGER NOT NULL,
  state      INTEGER NOT NULL CHECK (state BETWEEN 2 AND 10), -- what it led to
  error      TEXT,
  PRIMARY KEY (run, lease)
) STRICT, WITHOUT ROWID;

CREATE TABLE stint_keys (
  task       TEXT NOT NULL,
  key        TEXT NOT NULL,
  run        INTEGER NOT NULL,
  expires_at INTEGER, -- NULL: when the run ends
  gone       INTEGER NOT NULL DEFAULT 0 CHECK (gone IN (0, 1)), -- the run is deleted, and the key holds on
  PRIMARY KEY (task, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX stint_keys_run ON stint_keys (run);
CREATE INDEX stint_keys_gone ON stint_keys (expires_at) WHERE gone = 1;

-- The children of runs that were enqueued with a key, which is kept as long as the parent.
CREATE TABLE stint_child_keys (
  parent INTEGER NOT NULL,
  key    TEXT NOT NULL,
  run    INTEGER NOT NULL,
  PRIMARY KEY (parent, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE stint_progress (
  run     INTEGER PRIMARY KEY,
  done    INTEGER NOT NULL,
  total   INTEGER NOT NULL,
  message TEXT NOT NULL
) STRICT;

CREATE TABLE stint_logs (
  run     INTEGER NOT NULL,
  seq     INTEGER NOT NULL,
  at      INTEGER NOT NULL,
  level   INTEGER NOT NULL,
  attempt INTEGER NOT NULL,
  message TEXT NOT NULL,
  attrs   TEXT,
  PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;
-- The lines of all runs by time, with what most filters ask for.
CREATE INDEX stint_logs_at ON stint_logs (at, run, seq, level);

CREATE TABLE stint_chunks (
  run       INTEGER NOT NULL,
  seq       INTEGER NOT NULL,
  at        INTEGER NOT NULL,
  attempt   INTEGER NOT NULL,
  execution INTEGER NOT NULL,
  data      BLOB NOT NULL,
  PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;

-- What happened in each minute and each hour, as each process that had the file open
-- counted it; see stats.go. Counts of durations are INDEX:COUNT, of store.Histogram.
CREATE TABLE stint_counters (
  span      INTEGER NOT NULL CHECK (span IN (60000, 3600000)),
  queue     TEXT NOT NULL, -- with task '': all runs
  task      TEXT NOT NULL,
  at        INTEGER NOT NULL,
  process   TEXT NOT NULL,
  enqueued  INTEGER NOT NULL,
  started   INTEGER NOT NULL,
  succeeded INTEGER NOT NULL,
  failed    INTEGER NOT NULL,
  canceled  INTEGER NOT NULL,
  skipped   INTEGER NOT NULL,
  retried   INTEGER NOT NULL,
  waits     TEXT NOT NULL,
  durations TEXT NOT NULL,
  depth     INTEGER NOT NULL,
  commits   INTEGER NOT NULL,
  changes   INTEGER NOT NULL,
  syncs     TEXT NOT NULL,
  PRIMARY KEY (span, queue, task, at, process)
) STRICT, WITHOUT ROWID;

-- Samples of queues and limits, the highest figures of each minute and each hour; package sample decides of which.
CREATE TABLE stint_samples (
  span    INTEGER NOT NULL CHECK (span IN (60000, 3600000)),
  kind    INTEGER NOT NULL CHECK (kind BETWEEN 0 AND 3), -- 0: there is a sample, 1: a queue, 2: a concurrency limit, 3: a rate
  name    TEXT NOT NULL,
  at      INTEGER NOT NULL,
  waiting INTEGER NOT NULL, -- ready runs, or runs that wait for the limit
  active  INTEGER NOT NULL, -- running runs, runs that hold a share, or used units
  max     INTEGER NOT NULL,
  PRIMARY KEY (span, kind, name, at)
) STRICT, WITHOUT ROWID;

-- The errors of failed runs, in groups: those of a task whose first lines differ only in what varies. id is a digest of
-- task and text.
CREATE TABLE stint_error_groups (
  id         INTEGER PRIMARY KEY,
  task       TEXT NOT NULL,
  text       TEXT NOT NULL, -- the first line, with what varies masked
  sample     TEXT NOT NULL, -- of run
  run        INTEGER NOT NULL, -- the last one
  first_at   INTEGER NOT NULL,
  last_at    INTEGER NOT NULL,
  count      INTEGER NOT NULL,
  muted_till INTEGER,       -- NULL: not muted to a time
  muted_to   INTEGER,       -- the count to which it is muted; NULL: to none
  resolved   INTEGER        -- the count when it was resolved; NULL: it was not
) STRICT;
CREATE INDEX stint_error_groups_last ON stint_error_groups (last_at);

-- How many runs failed so in each minute and each hour.
CREATE TABLE stint_error_counts (
  span  INTEGER NOT NULL CHECK (span IN (60000, 3600000)),
  grp   INTEGER NOT NULL,
  at    INTEGER NOT NULL,
  count INTEGER NOT NULL,
  PRIMARY KEY (span, grp, at)
) STRICT, WITHOUT ROWID;

-- The group of each run, as it failed last.
CREATE TABLE stint_error_runs (
  run INTEGER PRIMARY KEY,
  grp INTEGER NOT NULL
) STRICT;
CREATE INDEX stint_error_runs_group ON stint_error_runs (grp);

-- What a person reads with the sqlite3 shell.
CREATE VIEW stint_runs_view AS
SELECT r.id, l.task, l.queue,
       CASE r.state WHEN 2 THEN 'scheduled' WHEN 3 THEN 'queued' WHEN 4 THEN 'running' WHEN 5 THEN 'waiting'
         WHEN 6 THEN 'blocked' WHEN 7 THEN 'succeeded' WHEN 8 THEN 'failed' WHEN 9 THEN 'canceled' ELSE 'skipped' END AS state,
       r.priority, r.attempt,
       datetime((r.id >> 20) / 1000, 'unixepoch') AS created,
       datetime(r.due_at / 1000, 'unixepoch') AS due,
       datetime(r.started_at / 1000, 'unixepoch') AS started,
       datetime(r.ended_at / 1000, 'unixepoch') AS ended,
       CAST(coalesce(r.input, (SELECT data FROM stint_inputs i WHERE i.id = r.id)) AS TEXT) AS input,
       CAST(r.output AS TEXT) AS output, r.error, r.metadata
FROM stint_runs r JOIN stint_lanes l ON l.id = r.lane
WHERE l.staged IS NULL;
