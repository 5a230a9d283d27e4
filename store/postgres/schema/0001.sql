-- oldest 1
-- Times are Unix milliseconds of the server's clock. States are package store's numbers. The name
-- of the schema stands as stint, and is replaced by Options.Schema.
--
-- The tables are those of the SQLite store (store/sqlite/schema/0001.sql), but for processes,
-- groups, and what only one file needs. Names and keys are ordered by their bytes, as in Go.

CREATE TABLE stint.meta (
  key   text PRIMARY KEY,
  value bytea NOT NULL
);

-- n changes with what processes remember: lanes that are deleted, pauses, workers, crons, triggers,
-- filters. limits is set before the first run has limits: until then claims need not look at limiters.
CREATE TABLE stint.epoch (
  n      bigint NOT NULL,
  limits boolean NOT NULL
);
INSERT INTO stint.epoch VALUES (0, false);

-- A lane is one task in one queue. Runs refer to lanes, so that a row is small and a claim looks
-- only at lanes whose task it can run and whose queue is open.
CREATE TABLE stint.lanes (
  id      bigint PRIMARY KEY,
  queue   text COLLATE "C" NOT NULL CHECK (queue <> ''),
  task    text COLLATE "C" NOT NULL CHECK (task <> ''),
  -- Runs that were executing in two or more deaths of a process wait in lanes of their own: one
  -- such run executes at a time.
  suspect boolean NOT NULL DEFAULT false,
  route   text NOT NULL DEFAULT '', -- which workers may have its runs: JSON; '' any
  UNIQUE (queue, task, suspect, route)
);

-- What the app, or a server on it, keeps here: it belongs to no run.
CREATE TABLE stint.settings (
  key   text COLLATE "C" PRIMARY KEY CHECK (key <> ''),
  value bytea NOT NULL
);

CREATE TABLE stint.queues (
  name   text COLLATE "C" PRIMARY KEY CHECK (name <> ''),
  paused boolean NOT NULL DEFAULT false
);

-- Programs that have the database open, or died with it. A process is alive while its connection
-- holds the advisory lock of its number, or its beat is young: see process.go.
CREATE TABLE stint.processes (
  number  bigint PRIMARY KEY CHECK (number BETWEEN 0 AND 1023), -- the low bits of the keys that it gives
  name    text NOT NULL UNIQUE,     -- random, for each opening
  host    text NOT NULL,
  pid     bigint NOT NULL,
  version integer NOT NULL,         -- of the tables that it knows
  locks   boolean NOT NULL,         -- it holds the lock: no pooler gives it another connection each time
  beat_at timestamptz NOT NULL,     -- about once a second
  awaits  boolean NOT NULL DEFAULT true -- it is to be told of the ends, chunks and entries of runs (notify.go)
);

-- The last commits of processes: what a lost connection did not say is found out here (commit.go).
CREATE TABLE stint.groups (
  process text NOT NULL,
  n       bigint NOT NULL,
  at      timestamptz NOT NULL DEFAULT now(),
  moved   bigint NOT NULL DEFAULT 0, -- by how much the keys of its new runs were moved up
  PRIMARY KEY (process, n)
);

CREATE TABLE stint.workers (
  id         bigint PRIMARY KEY,
  name       text NOT NULL,
  process    text NOT NULL,      -- a name in stint.processes
  pid        bigint NOT NULL,
  host       text NOT NULL,
  slots      bigint NOT NULL,
  queues     text NOT NULL,      -- JSON array; [] means every queue
  labels     text NOT NULL,      -- JSON object
  tasks      text NOT NULL DEFAULT 'null', -- JSON array of what it can work; null: any task
  build      text NOT NULL,
  started_at bigint NOT NULL,
  ended_at   bigint,
  paused     boolean NOT NULL DEFAULT false
);
CREATE INDEX workers_process ON stint.workers (process);
CREATE INDEX workers_alive ON stint.workers (process) WHERE ended_at IS NULL;

-- What the columns of a run may be. A CHECK would be prepared anew by each statement that writes a row, which costs 3 us
-- of the 50 that it takes to insert one; a domain is tested only where its column is written. How the columns of a row go
-- together is tested when it is read (tables.go).
CREATE DOMAIN stint.run_key AS bigint CHECK (VALUE > 0);
CREATE DOMAIN stint.run_attempt AS integer CHECK (VALUE >= 0);
CREATE DOMAIN stint.run_state AS smallint CHECK (VALUE BETWEEN 2 AND 10);
CREATE DOMAIN stint.run_priority AS smallint CHECK (VALUE BETWEEN -128 AND 127);

-- Columns are in the order of their sizes, so that a row has no gaps. A run's row is written three times (enqueued, started,
-- ended), and each time its index by key and that by parent get an entry. Their pages keep room for these: full ones would be split
-- or cleaned to make room, and be as large in the end.
CREATE TABLE stint.runs (
  id         stint.run_key PRIMARY KEY WITH (fillfactor = 40), -- creation time << 20 | sequence << 10 | process
  lane       bigint NOT NULL,
  rank       bigint NOT NULL,            -- position in the lane: due time less what priority is worth
  turn       bigint NOT NULL DEFAULT 0,  -- decides among equal ranks
  lease      bigint NOT NULL DEFAULT 0,  -- random, of the last execution; 0: none
  spent      bigint NOT NULL DEFAULT 0,  -- milliseconds of its time limit that an attempt had used when it came to wait
  worker     bigint,                     -- of the last execution; 0: nobody's, a workflow's run
  due_at     bigint,                     -- NULL: on creation
  started_at bigint,
  ended_at   bigint,
  cancel_at  bigint,                     -- of a run that did not end at once: it ends when it has cleaned up
  start_by   bigint,                     -- of a workflow's run: end by
  start_in   bigint,                     -- start_by counts from when it is due, so long
  parent     bigint,
  root       bigint,
  node       bigint,                     -- graph << 20 | place in it
  limiter    bigint,                     -- that a queued run waits for; 0: it was not led to its limiters yet
  executions integer NOT NULL DEFAULT 0, -- so far
  attempt    stint.run_attempt NOT NULL DEFAULT 0,
  replayed   integer NOT NULL DEFAULT 0, -- attempts before the last replay; of a workflow's run, 1 if it was replayed
  crashes    integer NOT NULL DEFAULT 0,
  state      stint.run_state NOT NULL,
  priority   stint.run_priority NOT NULL,
  -- 1: detached, 2: a workflow's run, 4: its handler continues after a wait, 8: it began with the journal of another run
  flags      smallint NOT NULL DEFAULT 0,
  key        text COLLATE "C",
  metadata   text,
  limits     text,                       -- JSON; NULL: none
  input      bytea,                      -- NULL: in stint.inputs, or the workflow run's
  output     bytea,
  error      text
);

-- A statement that uses a partial index repeats its condition, with states as literals: a bound
-- state hides the index from a generic plan.
CREATE INDEX runs_ready ON stint.runs (lane, rank, turn, id) WHERE state = 3 AND limiter IS NULL;
CREATE INDEX runs_at_limiter ON stint.runs (limiter, rank, turn, id) WHERE state = 3 AND limiter IS NOT NULL;
CREATE INDEX runs_due ON stint.runs (due_at) WHERE state = 2;
CREATE INDEX runs_start_by ON stint.runs (start_by) WHERE start_by IS NOT NULL;
CREATE INDEX runs_running ON stint.runs (worker) WHERE state = 4;
CREATE INDEX runs_held ON stint.runs (state) WHERE state > 4 AND state < 7;
CREATE INDEX runs_unsuccessful ON stint.runs (state) WHERE state > 7;
CREATE INDEX runs_wake ON stint.runs (due_at) WHERE state = 5 AND due_at IS NOT NULL;
CREATE INDEX runs_parent ON stint.runs (parent, node) WITH (fillfactor = 40) WHERE parent IS NOT NULL;

-- A limiter is the state of one key of a concurrency limit, or of one rate limit.
CREATE TABLE stint.limiters (
  id         bigint PRIMARY KEY,
  rate       boolean NOT NULL,
  name       text COLLATE "C" NOT NULL, -- of the concurrency limit
  key        text COLLATE "C" NOT NULL,
  max        bigint NOT NULL, -- of a rate: its burst
  strategy   bigint NOT NULL CHECK (strategy BETWEEN 0 AND 255),
  active     bigint NOT NULL CHECK (active >= 0), -- runs that occupy it; of a rate, units promised to runs that are ready
  -- Of a concurrency limit: admitted runs that have not started, also those that wait for a later limiter.
  admitted   bigint NOT NULL CHECK (admitted >= 0),
  waiting    bigint NOT NULL CHECK (waiting >= 0), -- runs that wait for it; not a state: they are queued
  per_second double precision NOT NULL,
  tokens     double precision NOT NULL,
  at         bigint NOT NULL, -- of tokens, or of the last use; microseconds
  wake_at    bigint,          -- when it may admit a run that waits; NULL: not by time
  explicit   boolean NOT NULL DEFAULT false, -- its settings are SetRate's, not a run's
  paused     boolean NOT NULL DEFAULT false,
  set_by     bigint NOT NULL DEFAULT 0, -- the newest enqueue that came with settings: a run's key
  UNIQUE (rate, name, key)
);
CREATE INDEX limiters_wake ON stint.limiters (wake_at) WHERE wake_at IS NOT NULL;

-- Runs that a later run at the limiter may cancel. Those that have ended are deleted with the next.
CREATE TABLE stint.members (
  limiter bigint NOT NULL,
  run     bigint NOT NULL,
  PRIMARY KEY (limiter, run)
);

-- The worker, by name, that the tasks of a workflow's run follow.
CREATE TABLE stint.sticky (
  run    bigint PRIMARY KEY,
  worker text NOT NULL
);

-- The limits of the tasks of a workflow's run.
CREATE TABLE stint.task_limits (
  run    bigint NOT NULL,
  place  bigint NOT NULL,
  limits text NOT NULL,
  PRIMARY KEY (run, place)
);

-- Inputs too large to be rewritten with each transition of their run.
CREATE TABLE stint.inputs (
  id   bigint PRIMARY KEY, -- the run's
  data bytea NOT NULL
);

-- What runs have done, for handlers that run again. Of a run, in the order of its calls.
CREATE TABLE stint.journal (
  run      bigint NOT NULL,
  scope    text COLLATE "C" NOT NULL,
  seq      bigint NOT NULL CHECK (seq > 0),
  kind     bigint NOT NULL,
  name     text COLLATE "C" NOT NULL, -- of an event, its key
  done     boolean NOT NULL,
  value    bytea,
  error    text,
  at       bigint NOT NULL,
  due_at   bigint,
  field    text,          -- of an event: '' any, else what it must have
  match    text,
  filter   text,          -- '' none
  event    bigint,       -- that came
  attempts bigint NOT NULL DEFAULT 0,
  began_at bigint,       -- NULL: at
  tries    text,         -- of a step that was tried again
  PRIMARY KEY (run, scope, seq)
);
CREATE INDEX journal_events ON stint.journal (name, field, match, filter) WHERE kind = 4 AND NOT done;

-- Which runs wait for which children.
CREATE TABLE stint.awaited (
  child bigint NOT NULL,
  run   bigint NOT NULL,
  PRIMARY KEY (child, run)
);

-- The shapes of workflows. A run refers to the one that it started with.
CREATE TABLE stint.graphs (
  id    bigint PRIMARY KEY GENERATED BY DEFAULT AS IDENTITY,
  hash  bytea NOT NULL UNIQUE CHECK (length(hash) = 32),
  shape text NOT NULL
);

-- How the parents of a task have ended so far, where a task has several.
CREATE TABLE stint.joins (
  run   bigint NOT NULL, -- the workflow's
  place bigint NOT NULL, -- in its graph
  ended bigint NOT NULL,
  flags bigint NOT NULL, -- 1: one ran, 2: one failed, 4: one was canceled
  cause bigint,          -- place of a task that failed or was canceled
  PRIMARY KEY (run, place)
);

-- The attempts that a task of a workflow's run had made, where a replay makes its run anew.
CREATE TABLE stint.remade (
  run      bigint NOT NULL, -- the workflow's
  place    bigint NOT NULL, -- in its graph
  attempts bigint NOT NULL,
  PRIMARY KEY (run, place)
);

-- What predicates said of a task's output: a JSON array.
CREATE TABLE stint.tests (
  run     bigint PRIMARY KEY,
  results text NOT NULL
);

-- Events that waiting runs wait for. They are found by their key and, if they have
-- one, by a field and its value; '' means any.
CREATE TABLE stint.waits (
  run   bigint NOT NULL,
  leaf  bigint NOT NULL, -- which of the run's conditions
  key   text COLLATE "C" NOT NULL,
  field text NOT NULL,
  value text NOT NULL,
  filter text NOT NULL,   -- '' none
  event bigint,          -- that came
  PRIMARY KEY (run, leaf)
);
CREATE INDEX waits_open ON stint.waits (key, field, value, filter) WHERE event IS NULL;

CREATE TABLE stint.events (
  id       bigint PRIMARY KEY, -- from the sequence of run keys
  key      text COLLATE "C" NOT NULL CHECK (key <> ''),
  payload  bytea NOT NULL,
  metadata text,
  scope    text,             -- NULL: none
  priority smallint CHECK (priority BETWEEN -128 AND 127), -- of the runs that it starts; NULL: that of their task
  delivery text,             -- what was delivered twice is one event
  pending  boolean NOT NULL DEFAULT false -- from an app's transaction; it has done nothing yet
);
CREATE INDEX events_key ON stint.events (key, id);
CREATE UNIQUE INDEX events_delivery ON stint.events (delivery) WHERE delivery IS NOT NULL;
CREATE INDEX events_pending ON stint.events (id) WHERE pending;

-- The runs that events started, and those that had waited for them.
CREATE TABLE stint.event_runs (
  event bigint NOT NULL,
  run   bigint NOT NULL,
  woke  boolean NOT NULL,
  PRIMARY KEY (event, run)
);

-- Runs that are made at times.
CREATE TABLE stint.crons (
  name     text COLLATE "C" PRIMARY KEY CHECK (name <> ''),
  task     text COLLATE "C" NOT NULL,
  spec     text NOT NULL,
  catch_up bigint NOT NULL,
  declared boolean NOT NULL, -- it stands in code
  paused   boolean NOT NULL DEFAULT false,
  next_at  bigint,
  last_at  bigint,
  last_run bigint,
  error    text,             -- why its last tick made no run
  program  text NOT NULL DEFAULT '', -- that declared it
  gone_at  bigint,          -- when a worker of that program came that lacks it; NULL: it stands
  graph    bigint,
  input    bytea NOT NULL,
  template text NOT NULL,    -- JSON: the rest of the run
  CHECK (NOT paused OR next_at IS NULL),
  CHECK (gone_at IS NULL OR next_at IS NULL)
);
CREATE INDEX crons_next ON stint.crons (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX crons_task ON stint.crons (task);
CREATE INDEX crons_program ON stint.crons (program, gone_at);
CREATE INDEX crons_gone ON stint.crons (gone_at) WHERE gone_at IS NOT NULL;

-- Runs that are made for events.
CREATE TABLE stint.triggers (
  id       bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
  task     text COLLATE "C" NOT NULL,
  key      text COLLATE "C" NOT NULL CHECK (key <> ''),
  wild     boolean NOT NULL, -- there is a * in it
  filter   text NOT NULL,    -- '' none
  program  text NOT NULL DEFAULT '', -- as that of a cron, and the next
  gone_at  bigint,
  graph    bigint,
  template text NOT NULL
);
CREATE INDEX triggers_key ON stint.triggers (wild, key, task);
CREATE INDEX triggers_task ON stint.triggers (task);
CREATE INDEX triggers_program ON stint.triggers (program, gone_at);
CREATE INDEX triggers_gone ON stint.triggers (gone_at) WHERE gone_at IS NOT NULL;

-- What narrows the triggers of a task.
CREATE TABLE stint.filters (
  id      bigint PRIMARY KEY GENERATED BY DEFAULT AS IDENTITY,
  task    text COLLATE "C" NOT NULL,
  scope   text NOT NULL,
  expr    text NOT NULL,
  payload text,              -- JSON, for the runs
  declared boolean NOT NULL DEFAULT false -- it is part of a definition
);
CREATE INDEX filters_task ON stint.filters (task);

-- Tasks and workflows that are defined as data. Of a task, the version with the highest number is in force.
CREATE TABLE stint.definitions (
  task    text COLLATE "C" NOT NULL CHECK (task <> ''),
  version text COLLATE "C" NOT NULL, -- a digest of body
  number  bigint NOT NULL,
  at      bigint NOT NULL,
  body    text NOT NULL, -- JSON
  PRIMARY KEY (task, version)
);
CREATE UNIQUE INDEX definitions_number ON stint.definitions (task, number);

-- Executions that did not end their run.
CREATE TABLE stint.attempts (
  run        bigint NOT NULL,
  n          bigint NOT NULL, -- of the run's executions
  attempt    bigint NOT NULL,
  worker     bigint,
  started_at bigint,
  ended_at   bigint NOT NULL,
  state      bigint NOT NULL CHECK (state BETWEEN 2 AND 10), -- what it led to
  error      text,
  PRIMARY KEY (run, n)
);

CREATE TABLE stint.keys (
  task       text COLLATE "C" NOT NULL,
  key        text COLLATE "C" NOT NULL,
  run        bigint NOT NULL,
  expires_at bigint, -- NULL: when the run ends
  gone       boolean NOT NULL DEFAULT false, -- the run is deleted, and the key holds on
  PRIMARY KEY (task, key)
);
CREATE INDEX keys_run ON stint.keys (run);
CREATE INDEX keys_gone ON stint.keys (expires_at) WHERE gone;

-- The children of runs that were enqueued with a key, which is kept as long as the parent.
CREATE TABLE stint.child_keys (
  parent bigint NOT NULL,
  key    text COLLATE "C" NOT NULL,
  run    bigint NOT NULL,
  PRIMARY KEY (parent, key)
);

CREATE TABLE stint.progress (
  run     bigint PRIMARY KEY,
  done    bigint NOT NULL,
  total   bigint NOT NULL,
  message text NOT NULL
);

CREATE TABLE stint.logs (
  run     bigint NOT NULL,
  seq     bigint NOT NULL,
  at      bigint NOT NULL,
  level   bigint NOT NULL,
  attempt bigint NOT NULL,
  message text NOT NULL,
  attrs   text,
  PRIMARY KEY (run, seq)
);
-- The lines of all runs by time, with what most filters ask for.
CREATE INDEX logs_at ON stint.logs (at, run, seq) INCLUDE (level);

CREATE TABLE stint.chunks (
  run       bigint NOT NULL,
  seq       bigint NOT NULL,
  at        bigint NOT NULL,
  attempt   bigint NOT NULL,
  execution bigint NOT NULL,
  data      bytea NOT NULL,
  PRIMARY KEY (run, seq)
);

-- What happened in each minute and each hour, as each process that had the file open
-- counted it; see stats.go. Counts of durations are INDEX:COUNT, of store.Histogram.
CREATE TABLE stint.counters (
  span      bigint NOT NULL CHECK (span IN (60000, 3600000)),
  queue     text COLLATE "C" NOT NULL, -- with task '': all runs
  task      text COLLATE "C" NOT NULL,
  at        bigint NOT NULL,
  process   text NOT NULL,
  enqueued  bigint NOT NULL,
  started   bigint NOT NULL,
  succeeded bigint NOT NULL,
  failed    bigint NOT NULL,
  canceled  bigint NOT NULL,
  skipped   bigint NOT NULL,
  retried   bigint NOT NULL,
  waits     text NOT NULL,
  durations text NOT NULL,
  depth     bigint NOT NULL,
  commits   bigint NOT NULL,
  changes   bigint NOT NULL,
  syncs     text NOT NULL,
  PRIMARY KEY (span, queue, task, at, process)
);

-- Samples of queues and limits, the highest figures of each minute and each hour; package sample decides of which.
CREATE TABLE stint.samples (
  span    bigint NOT NULL CHECK (span IN (60000, 3600000)),
  kind    bigint NOT NULL CHECK (kind BETWEEN 0 AND 3), -- 0: there is a sample, 1: a queue, 2: a concurrency limit, 3: a rate
  name    text COLLATE "C" NOT NULL,
  at      bigint NOT NULL,
  waiting bigint NOT NULL, -- ready runs, or runs that wait for the limit
  active  bigint NOT NULL, -- running runs, runs that hold a share, or used units
  max     bigint NOT NULL,
  PRIMARY KEY (span, kind, name, at)
);

-- The errors of failed runs, in groups: those of a task whose first lines differ only in what varies. id is a digest of
-- task and text.
CREATE TABLE stint.error_groups (
  id         bigint PRIMARY KEY,
  task       text NOT NULL,
  text       text NOT NULL, -- the first line, with what varies masked
  sample     text NOT NULL, -- of run
  run        bigint NOT NULL, -- the last one
  first_at   bigint NOT NULL,
  last_at    bigint NOT NULL,
  count      bigint NOT NULL,
  muted_till bigint,       -- NULL: not muted to a time
  muted_to   bigint,       -- the count to which it is muted; NULL: to none
  resolved   bigint        -- the count when it was resolved; NULL: it was not
);
CREATE INDEX error_groups_last ON stint.error_groups (last_at, id);

-- How many runs failed so in each minute and each hour.
CREATE TABLE stint.error_counts (
  span  bigint NOT NULL CHECK (span IN (60000, 3600000)),
  grp   bigint NOT NULL,
  at    bigint NOT NULL,
  count bigint NOT NULL,
  PRIMARY KEY (span, grp, at)
);

-- The group of each run, as it failed last.
CREATE TABLE stint.error_runs (
  run bigint PRIMARY KEY,
  grp bigint NOT NULL
);
CREATE INDEX error_runs_group ON stint.error_runs (grp, run);
