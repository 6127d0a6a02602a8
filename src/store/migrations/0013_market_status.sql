-- What marketplaces are told of orders, beside what 0008 keeps of it.

-- When the pull began that brought the newest version, and when what was accepted was sent: the later one of the two says
-- how the marketplace has the order.
ALTER TABLE market_order ADD COLUMN read_us {{int}};
ALTER TABLE market_order ADD COLUMN accepted_us {{int}};
-- Since when `derived_status` is what it is.
ALTER TABLE market_order ADD COLUMN derived_us {{int}};
-- Why nothing is told, in a word; empty: something is, or there is nothing to tell.
ALTER TABLE market_order ADD COLUMN sync_code TEXT NOT NULL DEFAULT '';
-- The code that a person gave for `delivered`, until it has been used.
ALTER TABLE market_order ADD COLUMN otp TEXT NOT NULL DEFAULT '';
-- How often the marketplace listed the order as if it had not been told.
ALTER TABLE market_order ADD COLUMN status_tries {{int}} NOT NULL DEFAULT 0;
-- 1: the order in Odoo is to be written how the marketplace was told of it; `marked` is what was written last.
ALTER TABLE market_order ADD COLUMN mark_due {{int}} NOT NULL DEFAULT 0;
ALTER TABLE market_order ADD COLUMN marked TEXT NOT NULL DEFAULT '';
CREATE INDEX market_order_mark ON market_order (id) WHERE mark_due = 1;
CREATE INDEX market_order_derived ON market_order (connection_id, derived_us) WHERE sync_status = 'syncing';
