-- Lanes that wait although their connection is well, and numbers that are never given out again.

-- A lane whose jobs lack something at the remote that the connection's other jobs do not need. No row: it does not.
CREATE TABLE job_lane_wait (
  lane_id {{int}} NOT NULL PRIMARY KEY,
  failures {{int}} NOT NULL,         -- in a row
  since_us {{int}} NOT NULL,
  until_us {{int}} NOT NULL,         -- then one job may find out whether it is there
  code TEXT NOT NULL,
  message TEXT NOT NULL
){{strict}};

-- The last number given out, of what is still named by it (in the audit log, in answers) when its row is gone.
CREATE TABLE last_number (
  name TEXT NOT NULL PRIMARY KEY,
  last {{int}} NOT NULL
){{strict}};
INSERT INTO last_number (name, last) SELECT 'connection', COALESCE(max(id), 0) FROM
  (SELECT id FROM connection UNION ALL SELECT connection_id FROM job_lane) AS used;

{{only_sqlite}}
-- SQLite gives the number of a deleted newest row out again, unless it is asked not to. A receipt names one for good.
CREATE TABLE inbox_numbered (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  connection_id INTEGER NOT NULL,
  idempotency_key TEXT NOT NULL,
  digest BLOB NOT NULL,
  sender TEXT NOT NULL,
  received_us INTEGER NOT NULL,
  records INTEGER NOT NULL,
  UNIQUE (connection_id, idempotency_key)
) STRICT;
INSERT INTO inbox_numbered SELECT id, connection_id, idempotency_key, digest, sender, received_us, records FROM inbox;
DROP TABLE inbox;
ALTER TABLE inbox_numbered RENAME TO inbox;
{{end_only}}
