-- What a person has decided about a shop that is another one's contact, too, and about an order whose lines differ.

-- The change under way: 1: other shops may be that contact as well.
ALTER TABLE market_customer ADD COLUMN intent_shared {{int}} NOT NULL DEFAULT 0;
CREATE INDEX market_customer_partner ON market_customer (odoo_connection_id, odoo_partner_id) WHERE odoo_partner_id > 0;
-- The version of which Odoo's order is left as it is, but for what its state does there.
ALTER TABLE market_order ADD COLUMN settled_version {{int}} NOT NULL DEFAULT 0;
