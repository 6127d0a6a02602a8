-- Durable jobs: what is to be done, in which lane, by which node, and what became of it.

-- The hub processes that share this database. `beat` grows while one lives; who sees it stand still for a whole lease
-- takes its work over. A row's id is never used again.
CREATE TABLE node (
  id {{id}},
  name TEXT NOT NULL,                -- the same after a restart
  version TEXT NOT NULL DEFAULT '',  -- of the program
  state TEXT NOT NULL CHECK (state IN ('running', 'stopped', 'dead')),
  beat {{int}} NOT NULL DEFAULT 0,
  started_us {{int}} NOT NULL,
  beat_us {{int}} NOT NULL           -- of the last beat or of the end; shown, decides nothing
){{strict}};

-- Who does what only one node may do. `term` grows whenever the holder changes.
CREATE TABLE leader (
  name TEXT NOT NULL PRIMARY KEY,
  term {{int}} NOT NULL,
  node_id {{int}} NOT NULL           -- 0: nobody
){{strict}};

-- What is limited, paused and broken together. A job names its lane, so that a lane that is closed costs nothing
-- however many jobs wait in it.
CREATE TABLE job_lane (
  id {{id}},
  connection_id {{int}} NOT NULL,    -- 0: none
  flow TEXT NOT NULL,
  kind TEXT NOT NULL,
  UNIQUE (connection_id, flow, kind)
){{strict}};

-- What people paused.
CREATE TABLE job_pause (
  what TEXT NOT NULL CHECK (what IN ('connection', 'flow', 'kind')),
  name TEXT NOT NULL,                -- of a connection: its id
  reason TEXT NOT NULL,
  paused_by TEXT NOT NULL,
  since_us {{int}} NOT NULL,
  PRIMARY KEY (what, name)
){{strict}};

-- A connection whose remote does not answer. No row: closed, all is well.
CREATE TABLE breaker (
  connection_id {{int}} NOT NULL PRIMARY KEY,
  state {{int}} NOT NULL CHECK (state BETWEEN 0 AND 3), -- 0 closed, 1 open, 2 one job probes, 3 until a person acts
  failures {{int}} NOT NULL,         -- in a row
  since_us {{int}} NOT NULL,
  until_us {{int}} NOT NULL,         -- of open: then one job may probe
  code TEXT NOT NULL,
  message TEXT NOT NULL,
  probe_job {{int}} NOT NULL DEFAULT 0,
  probe_node {{int}} NOT NULL DEFAULT 0
){{strict}};

CREATE TABLE job (
  id {{id}},                         -- never used again: the newest row is never deleted
  lane_id {{int}} NOT NULL,
  -- 0 available, 1 scheduled, 2 running, 3 retryable, 4 completed, 5 cancelled, 6 discarded (a dead letter)
  state {{int}} NOT NULL CHECK (state BETWEEN 0 AND 6),
  -- 0 none; 1 waits for an earlier job of its order key; 2 runs only alone, for it was there when the process died
  -- again and again; 3 a dead letter that let its order key go
  hold {{int}} NOT NULL CHECK (hold BETWEEN 0 AND 3),
  priority {{int}} NOT NULL,
  attempt {{int}} NOT NULL DEFAULT 0,
  interruptions {{int}} NOT NULL DEFAULT 0,
  in_doubt {{int}} NOT NULL DEFAULT 0,
  again {{int}} NOT NULL DEFAULT 0,  -- 1: its payload was replaced while it ran; not done yet when that ends
  folded {{int}} NOT NULL DEFAULT 0, -- how many others were folded into it
  fence {{int}} NOT NULL DEFAULT 0,  -- grows with every claim and whenever it is taken away from who runs it
  node_id {{int}} NOT NULL DEFAULT 0,
  run_at_us {{int}} NOT NULL,        -- of scheduled and retryable: not before
  enqueued_us {{int}} NOT NULL,
  started_us {{int}},                -- of the last attempt
  finished_us {{int}},
  payload_version {{int}} NOT NULL,
  unique_scope {{int}} NOT NULL,     -- 0 while it waits, 1 until it is finished
  order_key TEXT NOT NULL,
  unique_key TEXT NOT NULL,
  cause TEXT NOT NULL,
  payload {{bytes}} NOT NULL,
  result TEXT NOT NULL DEFAULT '',
  error_kind TEXT NOT NULL DEFAULT '', -- of the last failure, as the two below
  error_code TEXT NOT NULL DEFAULT '',
  error_message TEXT NOT NULL DEFAULT '',
  fingerprint TEXT NOT NULL DEFAULT '' -- of a dead letter: the same for all of one kind of error
){{strict_churning}};
-- Few and partial: a job that is done is in none of them.
CREATE INDEX job_ready ON job (lane_id, priority, id) WHERE state = 0 AND hold = 0;
CREATE INDEX job_alone ON job (lane_id, id) WHERE state = 0 AND hold = 2;
CREATE INDEX job_behind ON job (order_key, id, lane_id) WHERE hold = 1;
CREATE INDEX job_due ON job (run_at_us, lane_id) WHERE state IN (1, 3) AND hold <> 1;
CREATE INDEX job_running ON job (node_id, lane_id) WHERE state = 2;
CREATE INDEX job_dead ON job (fingerprint, id, lane_id) WHERE state = 6;

-- How many jobs of an order key are not finished. Whoever enqueues or finishes one of them holds this row, which makes
-- them take turns.
CREATE TABLE order_queue (
  key TEXT NOT NULL PRIMARY KEY,
  unfinished {{int}} NOT NULL
){{without_rowid_churning}};

CREATE TABLE job_unique (
  key TEXT NOT NULL PRIMARY KEY,
  job_id {{int}} NOT NULL
){{without_rowid_churning}};

-- What happened to a job besides being done at the first attempt.
CREATE TABLE job_history (
  id {{id}},
  job_id {{int}} NOT NULL,
  at_us {{int}} NOT NULL,
  what TEXT NOT NULL,                -- `retry`, `outage`, `snooze`, `dead`, `interrupted`, `timeout`, `edited`, …
  attempt {{int}} NOT NULL,
  code TEXT NOT NULL,
  message TEXT NOT NULL,
  who TEXT NOT NULL                  -- a node or a person
){{strict}};
CREATE INDEX job_history_job ON job_history (job_id, id);

-- How many jobs ended, for good: the jobs themselves are deleted some day. Split in slots, so that nodes do not wait
-- for each other.
CREATE TABLE job_tally (
  lane_id {{int}} NOT NULL,
  slot {{int}} NOT NULL,
  done {{int}} NOT NULL,
  cancelled {{int}} NOT NULL,
  PRIMARY KEY (lane_id, slot)
){{without_rowid_churning}};
