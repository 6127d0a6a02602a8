-- Connections, what was captured through them, and the numbered feed of changes.
--
-- {{id}}, {{int}}, {{bytes}}, {{strict}} and {{without_rowid}} are replaced per engine. Times are UTC microseconds.

CREATE TABLE connection (
  id {{id}},
  name TEXT NOT NULL UNIQUE,
  kind TEXT NOT NULL,
  settings TEXT NOT NULL,            -- JSON, without secrets
  secret {{bytes}},                  -- sealed; its context is `connection:` and the name
  state TEXT NOT NULL CHECK (state IN ('active', 'paused', 'error')),
  reason TEXT NOT NULL DEFAULT '',   -- why it is paused or in error
  learnt TEXT NOT NULL DEFAULT '{}', -- JSON: the server's version, its number of workers
  created_us {{int}} NOT NULL,
  changed_us {{int}} NOT NULL
){{strict}};

CREATE TABLE model (
  id {{id}},
  connection_id {{int}} NOT NULL REFERENCES connection (id),
  name TEXT NOT NULL,
  asked {{int}} NOT NULL,            -- 1: named by a person; 0: one of the defaults
  state TEXT NOT NULL CHECK (state IN ('pulling', 'following', 'unavailable')),
  reason TEXT NOT NULL DEFAULT '',
  plan TEXT NOT NULL DEFAULT '{}',   -- JSON: fields read, fields left out and why
  schema_number {{int}} NOT NULL DEFAULT 0,
  pull TEXT NOT NULL DEFAULT '{}',   -- JSON: how far the full pull is
  cursor_us {{int}} NOT NULL DEFAULT 0,   -- by the server's clock: every change committed before it was looked for
  overlap_us {{int}} NOT NULL,
  swept_us {{int}} NOT NULL DEFAULT 0,    -- by our clock: end of the last complete sweep
  alarm TEXT NOT NULL DEFAULT '',
  UNIQUE (connection_id, name)
){{strict}};

CREATE TABLE schema_version (
  model_id {{int}} NOT NULL REFERENCES model (id),
  number {{int}} NOT NULL,
  digest {{bytes}} NOT NULL,
  fields TEXT NOT NULL,              -- JSON object, field name -> its attributes
  difference TEXT NOT NULL,          -- JSON: added, removed, changed since the number before
  seen_us {{int}} NOT NULL,
  PRIMARY KEY (model_id, number)
){{strict}};

-- The last number given out. One row; its lock makes the numbers appear in the order of commits on every
-- engine, so that a reader who has seen number n has seen all below it.
CREATE TABLE feed (
  id {{int}} NOT NULL PRIMARY KEY CHECK (id = 1),
  last {{int}} NOT NULL
){{strict}};
INSERT INTO feed (id, last) VALUES (1, 0);

-- Every version of every record. A record's versions are a chain through `previous`, which saves an index that
-- would cost a third of the writing.
CREATE TABLE change (
  number {{int}} NOT NULL PRIMARY KEY,
  model_id {{int}} NOT NULL,
  external_id {{int}} NOT NULL,
  version {{int}} NOT NULL,
  previous {{int}} NOT NULL,         -- number of the version before; 0: none
  kind {{int}} NOT NULL CHECK (kind BETWEEN 1 AND 5), -- 1 create, 2 change, 3 archive, 4 restore, 5 delete
  schema_number {{int}} NOT NULL,
  company_id {{int}},
  write_date_us {{int}},
  seen_us {{int}} NOT NULL,          -- by our clock
  digest {{bytes}},
  body {{bytes}}                     -- the bytes of the answer; NULL for a deletion
){{strict}};

-- The newest version of every record, deleted ones included.
CREATE TABLE snapshot (
  model_id {{int}} NOT NULL,
  external_id {{int}} NOT NULL,
  change_number {{int}} NOT NULL,
  version {{int}} NOT NULL,
  state {{int}} NOT NULL CHECK (state BETWEEN 0 AND 2), -- 0 live, 1 archived, 2 deleted
  company_id {{int}},
  write_date_us {{int}},
  read_us {{int}} NOT NULL,          -- by the server's clock, not later than the read of this body began
  digest {{bytes}},
  PRIMARY KEY (model_id, external_id)
){{without_rowid}};

-- A row per run: full pull, delta that found something, sweep, certificate.
CREATE TABLE sync_log (
  id {{id}},
  connection_id {{int}} NOT NULL,
  model TEXT NOT NULL,               -- empty: the whole connection
  kind TEXT NOT NULL,
  started_us {{int}} NOT NULL,
  finished_us {{int}} NOT NULL,
  outcome TEXT NOT NULL,
  counts TEXT NOT NULL,              -- JSON
  errors TEXT NOT NULL DEFAULT ''    -- JSON array
){{strict}};
CREATE INDEX sync_log_time ON sync_log (connection_id, started_us);

-- Content of binary fields, once by digest, and who refers to it.
CREATE TABLE blob (
  digest {{bytes}} NOT NULL PRIMARY KEY,
  size {{int}} NOT NULL,
  data {{bytes}} NOT NULL
){{strict}};
CREATE TABLE blob_ref (
  change_number {{int}} NOT NULL,
  field TEXT NOT NULL,
  digest {{bytes}} NOT NULL,
  PRIMARY KEY (change_number, field)
){{strict}};

-- Versions whose binary fields are still to be fetched: written with the version, deleted with the content's arrival.
CREATE TABLE blob_pending (
  change_number {{int}} NOT NULL PRIMARY KEY,
  model_id {{int}} NOT NULL,
  external_id {{int}} NOT NULL
){{strict}};

CREATE TABLE token (
  id {{id}},
  name TEXT NOT NULL,
  prefix TEXT NOT NULL,              -- the first characters, to tell tokens apart
  hash {{bytes}} NOT NULL UNIQUE,
  role TEXT NOT NULL CHECK (role IN ('admin', 'manager', 'user', 'viewer')),
  created_us {{int}} NOT NULL,
  expires_us {{int}},
  used_us {{int}},
  revoked_us {{int}}
){{strict}};
