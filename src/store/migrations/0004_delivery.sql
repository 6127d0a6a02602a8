-- What is taken in to be delivered, what was delivered, and which record here is which one there.

-- Kinds of entities that have a rule of their own; one that is not here may not be shared.
CREATE TABLE mapping_entity (
  name TEXT NOT NULL PRIMARY KEY,
  sharing {{int}} NOT NULL CHECK (sharing IN (0, 1)) -- 1: several external ids may stand for one of ours, by a person's yes
){{strict}};
INSERT INTO mapping_entity (name, sharing) VALUES
  ('order', 0), ('order_line', 0), ('delivery', 0), ('customer', 1), ('product', 1);

-- Internal id <-> external id. An external id always means one of ours; the other way round it is one as well, but for
-- what a person has allowed to be shared.
CREATE TABLE integration_mapping (
  id {{id}},
  connection_id {{int}} NOT NULL,
  entity TEXT NOT NULL,
  internal_id TEXT NOT NULL,
  external_id TEXT NOT NULL,          -- `odoo:sale.order:42`
  shared_by TEXT NOT NULL DEFAULT '', -- who said yes; empty: nobody was asked, it is the only one
  cause TEXT NOT NULL,                -- `job 17`
  created_us {{int}} NOT NULL
){{strict}};
CREATE UNIQUE INDEX integration_mapping_external ON integration_mapping (connection_id, external_id);
CREATE UNIQUE INDEX integration_mapping_internal ON integration_mapping (connection_id, entity, internal_id)
  WHERE shared_by = '';

-- Per record of a target: what is about to be applied (written before the effect), and what was applied last.
CREATE TABLE delivery (
  connection_id {{int}} NOT NULL,
  model TEXT NOT NULL,
  record_key TEXT NOT NULL,
  intent_job {{int}},                 -- NULL: nothing is under way or in doubt
  intent_version {{int}},
  intent_digest {{bytes}},
  intent_run {{int}},                 -- its row of the sync log
  intent_us {{int}},
  version {{int}} NOT NULL DEFAULT 0, -- applied; never goes back; 0: none
  digest {{bytes}},
  external_id TEXT NOT NULL DEFAULT '',
  job_id {{int}},
  applied_us {{int}},
  PRIMARY KEY (connection_id, model, record_key)
){{without_rowid}};

-- What we wrote, so that it is known when it comes back as a change.
CREATE TABLE own_write (
  id {{id}},
  connection_id {{int}} NOT NULL,
  model TEXT NOT NULL,
  external_id {{int}},                -- NULL until it is known
  record_key TEXT NOT NULL,
  job_id {{int}} NOT NULL,
  fields TEXT NOT NULL,               -- JSON: field -> digest of its value
  written_us {{int}} NOT NULL,
  finished_us {{int}},                -- NULL: its outcome is not known yet
  seen {{int}}                        -- number of the change in which it came back
){{strict}};
CREATE UNIQUE INDEX own_write_job ON own_write (job_id, model, record_key);
CREATE INDEX own_write_record ON own_write (connection_id, model, external_id);

-- What senders handed in: acknowledged when this row is durable, together with a job for each record.
CREATE TABLE inbox (
  id {{id}},
  connection_id {{int}} NOT NULL,
  idempotency_key TEXT NOT NULL,
  digest {{bytes}} NOT NULL,          -- of the body
  sender TEXT NOT NULL,               -- the token's name
  received_us {{int}} NOT NULL,
  records {{int}} NOT NULL,
  UNIQUE (connection_id, idempotency_key)
){{strict}};
CREATE TABLE inbox_record (
  inbox_id {{int}} NOT NULL,
  position {{int}} NOT NULL,          -- in the body, from 0
  job_id {{int}} NOT NULL,
  model TEXT NOT NULL,
  record_key TEXT NOT NULL,
  version {{int}} NOT NULL,           -- 0: none was given
  outcome TEXT NOT NULL DEFAULT '',   -- empty: none yet
  external_id TEXT NOT NULL DEFAULT '',
  message TEXT NOT NULL DEFAULT '',
  finished_us {{int}},
  PRIMARY KEY (inbox_id, position)
){{without_rowid}};
