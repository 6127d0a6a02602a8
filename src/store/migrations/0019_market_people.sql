-- What a person has decided about a shop that is another one's contact, too, and about an order whose lines differ.

-- The change under way: 1: other shops may be that contact as well.
ALTER TABLE market_customer ADD COLUMN intent_shared {{int}} NOT NULL DEFAULT 0;
CREATE INDEX market_customer_partner ON market_customer (odoo_connection_id, odoo_partner_id) WHERE odoo_partner_id > 0;
-- The version of which Odoo's order is left as it is, but for what its state does there.
ALTER TABLE market_order ADD COLUMN settled_version {{int}} NOT NULL DEFAULT 0;
-- The customer of the version that went in last: Odoo's own may be another by now, and stays unless the shop is another.
ALTER TABLE market_order ADD COLUMN applied_customer TEXT NOT NULL DEFAULT '';
UPDATE market_order SET applied_customer = customer_key WHERE odoo_id > 0;
-- What was said of each package that it is or was sold in: `12:12 24:24`, the `unit_count` and its factor; empty: for
-- which packages `factor` was said is not known. Of any other package nobody has said what it is in Odoo.
ALTER TABLE market_product ADD COLUMN factors TEXT NOT NULL DEFAULT '';
UPDATE market_product SET factors = unit_count || ':' || factor WHERE state = 'linked' AND unit_count <> '';
-- 1: it was in Odoo already when it came in first, so that nobody here knows who did what to it.
ALTER TABLE market_order ADD COLUMN met {{int}} NOT NULL DEFAULT 0;
-- What the marketplace took last, in its own word.
ALTER TABLE market_order ADD COLUMN accepted_word TEXT NOT NULL DEFAULT '';
