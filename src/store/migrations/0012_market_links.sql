-- Which product of Odoo a marketplace's product may be, for a person to say.

-- JSON array of {"odoo_product", "name", "rules"}; empty: it was not looked for, or nothing fits.
ALTER TABLE market_product ADD COLUMN proposals TEXT NOT NULL DEFAULT '';
-- Odoo's name of the product that it is linked to, when the products were read last.
ALTER TABLE market_product ADD COLUMN odoo_name TEXT NOT NULL DEFAULT '';
