-- What was done, by whom and with what outcome: a chain that is only ever appended to.

-- `hash` is the SHA-256 of the entry's canonical text, which begins with the hash of the entry before
-- (docs/reference/audit.md). Numbered from 1 without a gap. There is no index besides: it would be paid for with every
-- delivery, and reading the log is rare.
CREATE TABLE audit (
  number {{int}} NOT NULL PRIMARY KEY,
  at_us {{int}} NOT NULL,            -- by the database's clock
  actor TEXT NOT NULL,
  action TEXT NOT NULL,
  subject TEXT NOT NULL,
  why TEXT NOT NULL,
  outcome TEXT NOT NULL,
  state_before TEXT NOT NULL,        -- JSON, or empty
  state_after TEXT NOT NULL,
  hash {{bytes}} NOT NULL
){{strict}};

-- The end of the chain: without it nobody would miss the newest entries. One row; its lock makes the chain one line.
CREATE TABLE audit_head (
  id {{int}} NOT NULL PRIMARY KEY CHECK (id = 1),
  entries {{int}} NOT NULL,
  hash {{bytes}},                    -- of the last entry; NULL: there is none yet
  verified_us {{int}} NOT NULL DEFAULT 0 -- when the chain was last looked through by itself
){{strict}};
INSERT INTO audit_head (id, entries) VALUES (1, 0);

-- Operations under way, written before they begin: one that is cut off by the hub's death still gets its entry.
CREATE TABLE audit_pending (
  id {{id}},
  at_us {{int}} NOT NULL,
  actor TEXT NOT NULL,
  action TEXT NOT NULL,
  subject TEXT NOT NULL,
  why TEXT NOT NULL,
  state_after TEXT NOT NULL
){{strict}};
