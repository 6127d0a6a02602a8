-- What marketplaces are told: which products have to be looked at.

-- Since when the stock or price of its product in Odoo may differ from what the marketplace was told; NULL: nothing is known
-- to have changed. Grows with each change, so that one that comes while it is looked at is not lost.
ALTER TABLE market_product ADD COLUMN dirty_us {{int}};
CREATE INDEX market_product_dirty ON market_product (connection_id, dirty_us) WHERE dirty_us IS NOT NULL;
