-- What a person has decided about an order that is not in Odoo.

-- When it was closed: it is not imported any more, whatever comes of it; NULL: it is not. By whom and why, in words. Its
-- `state` counts for nothing meanwhile; it is `ignored` from then on.
ALTER TABLE market_order ADD COLUMN closed_us {{int}};
ALTER TABLE market_order ADD COLUMN closed_why TEXT NOT NULL DEFAULT '';
CREATE INDEX market_order_closed ON market_order (connection_id, id) WHERE closed_us IS NOT NULL;
-- The revision with which it is made anew in Odoo if it was deleted there, once: while that is above `applied_revision`.
ALTER TABLE market_order ADD COLUMN anew_revision {{int}} NOT NULL DEFAULT 0;
-- What waits for the code that a shop has.
CREATE INDEX market_order_code ON market_order (connection_id, id) WHERE sync_code IN ('otp', 'otp_refused');
