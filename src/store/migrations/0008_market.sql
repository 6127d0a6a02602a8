-- Orders of marketplaces, the products that they offer, and how far each connection has been read.

-- An order, from its first sight on. Its versions, byte for byte, are the records of the connection's model `order`, whose
-- ids are those given here.
CREATE TABLE market_order (
  id {{id}},
  connection_id {{int}} NOT NULL,     -- the marketplace
  external_id TEXT NOT NULL,          -- its own id
  number TEXT NOT NULL DEFAULT '',
  customer TEXT NOT NULL DEFAULT '',
  customer_key TEXT NOT NULL DEFAULT '',
  status TEXT NOT NULL DEFAULT '',    -- the marketplace's word
  market_state TEXT NOT NULL DEFAULT '', -- what it means
  delivered_by TEXT NOT NULL DEFAULT '',
  payment TEXT NOT NULL DEFAULT '',
  total TEXT NOT NULL DEFAULT '',     -- decimal
  currency TEXT NOT NULL DEFAULT '',
  ordered_us {{int}},
  seen_us {{int}} NOT NULL,           -- first
  changed_us {{int}} NOT NULL,        -- when the newest version came
  version {{int}} NOT NULL DEFAULT 0, -- the newest that is stored; 0: none yet
  -- What is delivered to Odoo: grows with every new version, every cause that was mended and every retry. Begins with the
  -- seconds since 2020, so that it is ahead of what Odoo holds even after this database was restored from a backup.
  revision {{int}} NOT NULL DEFAULT 0,
  applied_revision {{int}} NOT NULL DEFAULT 0,
  done_version {{int}} NOT NULL DEFAULT 0, -- the version that was dealt with last: imported, or found to need nothing
  applied_state TEXT NOT NULL DEFAULT '',  -- the marketplace's state that was applied last
  applied_body {{bytes}},             -- digest of the values and lines that were applied last
  edited {{int}} NOT NULL DEFAULT 0,  -- 1: the shop was changing it, so what comes now is newer whatever its state
  state TEXT NOT NULL CHECK (state IN ('new', 'held', 'imported', 'cancelled', 'ignored')),
  hold_code TEXT NOT NULL DEFAULT '',
  hold_message TEXT NOT NULL DEFAULT '',
  hold_us {{int}},                    -- since when
  hold_tries {{int}} NOT NULL DEFAULT 0,
  hold_next_us {{int}},               -- when it is tried again by itself
  odoo_connection_id {{int}} NOT NULL DEFAULT 0,
  odoo_id {{int}} NOT NULL DEFAULT 0,
  odoo_name TEXT NOT NULL DEFAULT '',
  odoo_state TEXT NOT NULL DEFAULT '',
  odoo_total TEXT NOT NULL DEFAULT '',
  odoo_facts TEXT NOT NULL DEFAULT '', -- JSON
  imported_us {{int}},
  ack TEXT NOT NULL CHECK (ack IN ('no', 'due', 'sent')),
  ack_tries {{int}} NOT NULL DEFAULT 0,
  acked_us {{int}},
  sync_status TEXT NOT NULL DEFAULT 'not_synced' CHECK (sync_status IN ('not_synced', 'syncing', 'synced', 'error')),
  sync_message TEXT NOT NULL DEFAULT '',
  synced_us {{int}},
  derived_status TEXT NOT NULL DEFAULT '',  -- what the marketplace should be told
  accepted_status TEXT NOT NULL DEFAULT '', -- what it was told last, and took
  needs_otp {{int}} NOT NULL DEFAULT 0,
  flag TEXT NOT NULL DEFAULT '',      -- what a person should know of
  flag_message TEXT NOT NULL DEFAULT '',
  UNIQUE (connection_id, external_id)
){{strict}};
CREATE INDEX market_order_seen ON market_order (connection_id, seen_us, id);
CREATE INDEX market_order_state ON market_order (connection_id, state, id);
CREATE INDEX market_order_sync ON market_order (connection_id, sync_status, id);
CREATE INDEX market_order_number ON market_order (number);
CREATE INDEX market_order_odoo ON market_order (odoo_connection_id, odoo_id);
CREATE INDEX market_order_again ON market_order (hold_next_us) WHERE state = 'held';
CREATE INDEX market_order_ack ON market_order (connection_id) WHERE ack = 'due';
CREATE INDEX market_order_flag ON market_order (connection_id) WHERE flag <> '';

-- What happened to an order, for the people who ask: a line each.
CREATE TABLE market_event (
  id {{id}},
  order_id {{int}} NOT NULL,
  at_us {{int}} NOT NULL,
  what TEXT NOT NULL,                 -- `version`, `held`, `imported`, `recorded`, `acknowledged`, `retry`, …
  message TEXT NOT NULL,
  job_id {{int}} NOT NULL DEFAULT 0   -- 0: none
){{strict}};
CREATE INDEX market_event_order ON market_event (order_id, id);

-- Something that a marketplace offers of this supplier, and which product of Odoo it is.
CREATE TABLE market_product (
  id {{id}},
  connection_id {{int}} NOT NULL,     -- the marketplace
  external_id TEXT NOT NULL,          -- its own id
  internal_code TEXT NOT NULL DEFAULT '',
  base_id TEXT NOT NULL DEFAULT '',
  name TEXT NOT NULL DEFAULT '',
  unit TEXT NOT NULL DEFAULT '',
  unit_count TEXT NOT NULL DEFAULT '',
  factor TEXT NOT NULL DEFAULT '1',   -- decimal: Odoo's units in one of the marketplace's
  odoo_product_id {{int}} NOT NULL DEFAULT 0,
  how TEXT NOT NULL DEFAULT '',       -- what found it: a rule, or `person:` and who linked it
  state TEXT NOT NULL CHECK (state IN ('proposed', 'linked', 'ignored')),
  price_now TEXT NOT NULL DEFAULT '', -- as the marketplace has it, when it was read last
  stock_now TEXT NOT NULL DEFAULT '',
  published TEXT NOT NULL DEFAULT '', -- `true`, `false`, or empty: it did not say
  read_us {{int}},
  price_sent TEXT NOT NULL DEFAULT '', -- what it took last
  stock_sent TEXT NOT NULL DEFAULT '',
  flags_sent TEXT NOT NULL DEFAULT '',
  sent_us {{int}},
  flags TEXT NOT NULL DEFAULT '{}',   -- JSON: what is to be sent beside stock and price: is_published, min_order, max_order
  seen_us {{int}} NOT NULL,
  changed_us {{int}} NOT NULL,
  UNIQUE (connection_id, external_id)
){{strict}};
CREATE INDEX market_product_odoo ON market_product (connection_id, odoo_product_id);
CREATE INDEX market_product_state ON market_product (connection_id, state, id);

-- How far something has been read: what is asked for next.
CREATE TABLE market_cursor (
  connection_id {{int}} NOT NULL,
  name TEXT NOT NULL,
  value TEXT NOT NULL,
  changed_us {{int}} NOT NULL,
  PRIMARY KEY (connection_id, name)
){{without_rowid}};
