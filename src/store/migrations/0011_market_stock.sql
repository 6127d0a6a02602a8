-- What a marketplace is to have of a product: since when that is known, when it took it, and why it did not.

-- Since when something waits to be told; `dirty_us` is when it was last said that something may have changed.
ALTER TABLE market_product ADD COLUMN dirty_since_us {{int}};
-- 1: something was sent whose outcome is not known, or the marketplace has something else than it took: all is sent again.
ALTER TABLE market_product ADD COLUMN in_doubt {{int}} NOT NULL DEFAULT 0;
-- When the change in Odoo was noticed that led to what it took last, and when it took that.
ALTER TABLE market_product ADD COLUMN price_noticed_us {{int}};
ALTER TABLE market_product ADD COLUMN price_accepted_us {{int}};
ALTER TABLE market_product ADD COLUMN stock_noticed_us {{int}};
ALTER TABLE market_product ADD COLUMN stock_accepted_us {{int}};
-- Why the marketplace does not have what Odoo has; empty code: it does, or that is on its way.
ALTER TABLE market_product ADD COLUMN send_error_code TEXT NOT NULL DEFAULT '';
ALTER TABLE market_product ADD COLUMN send_error TEXT NOT NULL DEFAULT '';
ALTER TABLE market_product ADD COLUMN send_error_us {{int}};
-- Said of it when it was looked at last, such as that it is archived.
ALTER TABLE market_product ADD COLUMN send_note TEXT NOT NULL DEFAULT '';
CREATE INDEX market_product_error ON market_product (connection_id, id) WHERE send_error_code <> '';
