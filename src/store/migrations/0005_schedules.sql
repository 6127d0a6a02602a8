-- Schedules, and what became of each of their ticks.

CREATE TABLE schedule (
  id {{id}},
  name TEXT NOT NULL UNIQUE,
  declared TEXT NOT NULL DEFAULT '', -- of a built-in one: JSON of what the program declared; empty: a person made it
  cron TEXT NOT NULL,                -- empty: by interval
  zone TEXT NOT NULL,                -- of the expression
  interval_us {{int}} NOT NULL,
  jitter_us {{int}} NOT NULL,
  kind TEXT NOT NULL,                -- of the job
  flow TEXT NOT NULL,
  connection_id {{int}} NOT NULL,    -- 0: none
  payload {{bytes}} NOT NULL,
  payload_version {{int}} NOT NULL,
  priority {{int}} NOT NULL,
  catch_up TEXT NOT NULL CHECK (catch_up IN ('skip', 'once', 'all')),
  catch_up_max {{int}} NOT NULL,
  overlap TEXT NOT NULL CHECK (overlap IN ('skip', 'queue', 'allow')),
  state TEXT NOT NULL CHECK (state IN ('active', 'paused', 'error')),
  reason TEXT NOT NULL DEFAULT '',   -- why it is paused or in error
  anchor_us {{int}} NOT NULL,        -- from which intervals are counted
  next_us {{int}},                   -- the next tick; NULL: there is none any more
  due_us {{int}},                    -- the same with its jitter
  seen_us {{int}} NOT NULL,          -- up to here every tick was dealt with; a clock before it went back
  version {{int}} NOT NULL,          -- grows with every change of the row: who changes it names the one that he read
  last_us {{int}},                   -- the newest row of schedule_tick: tick, outcome, job
  last_outcome TEXT NOT NULL DEFAULT '',
  last_job_id {{int}} NOT NULL DEFAULT 0,
  created_us {{int}} NOT NULL,
  changed_us {{int}} NOT NULL
){{strict}};
CREATE INDEX schedule_due ON schedule (due_us) WHERE state = 'active';

-- A row per tick, written in the transaction that enqueues its job: its key is why no tick comes twice.
CREATE TABLE schedule_tick (
  schedule_id {{int}} NOT NULL REFERENCES schedule (id),
  tick_us {{int}} NOT NULL,
  manual {{int}} NOT NULL,           -- 1: a person asked for it, at this time
  at_us {{int}} NOT NULL,            -- when it was dealt with
  outcome TEXT NOT NULL CHECK (outcome IN ('enqueued', 'folded', 'overlap', 'missed')),
  job_id {{int}} NOT NULL,           -- that was enqueued, or that was in the way; 0: none
  missed {{int}} NOT NULL,           -- earlier ticks that were passed over with this one
  cause TEXT NOT NULL,               -- who asked, or empty
  PRIMARY KEY (schedule_id, tick_us, manual)
){{without_rowid}};
