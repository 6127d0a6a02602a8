-- Which shop of a marketplace is which customer of Odoo's, by which rule, and what a person has said about it.

CREATE TABLE market_customer (
  id {{id}},
  connection_id {{int}} NOT NULL,     -- the marketplace
  customer_key TEXT NOT NULL,         -- as market_order has it
  name TEXT NOT NULL DEFAULT '',
  odoo_connection_id {{int}} NOT NULL DEFAULT 0,
  odoo_partner_id {{int}} NOT NULL DEFAULT 0, -- 0: none yet, or none any more
  how TEXT NOT NULL DEFAULT '',       -- what found it: a rule, `created`, or `person:` and who said so; empty: not known
  relinked_us {{int}},                -- when a person said so last: what was imported before keeps the customer it has
  intent {{int}} NOT NULL DEFAULT 0,  -- 1: what follows is under way, or nobody knows whether it was done
  intent_partner_id {{int}} NOT NULL DEFAULT 0, -- 0: none
  intent_by TEXT NOT NULL DEFAULT '',
  intent_why TEXT NOT NULL DEFAULT '',
  intent_us {{int}},
  seen_us {{int}} NOT NULL,
  changed_us {{int}} NOT NULL,
  UNIQUE (connection_id, customer_key)
){{strict}};
CREATE INDEX market_order_customer ON market_order (connection_id, customer_key, id);

-- Those that are known; by which rules nobody wrote down.
INSERT INTO market_customer (connection_id, customer_key, name, odoo_connection_id, odoo_partner_id, seen_us, changed_us)
  SELECT o.connection_id, o.customer_key, MAX(o.customer), m.connection_id,
         MAX(CAST(substr(m.external_id, length('odoo:res.partner:') + 1) AS BIGINT)), MIN(o.seen_us), MAX(o.changed_us)
  FROM market_order o
  JOIN connection c ON c.id = o.connection_id
  JOIN integration_mapping m ON m.connection_id = o.odoo_connection_id AND m.entity = 'customer'
    AND m.internal_id = c.kind || '/' || c.name || '/customer/' || o.customer_key
  WHERE o.customer_key <> '' AND m.external_id LIKE 'odoo:res.partner:%' AND o.odoo_id > 0
    AND o.id = (SELECT MAX(n.id) FROM market_order n WHERE n.connection_id = o.connection_id AND n.customer_key =
                o.customer_key AND n.odoo_id > 0)
  GROUP BY o.connection_id, o.customer_key, m.connection_id;
