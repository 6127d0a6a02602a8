-- The code that a shop gave, sealed as the secrets of connections are; NULL: there is none. What stands in `otp` as text, as it
-- was kept before, is sealed by the hub when it starts.
ALTER TABLE market_order ADD COLUMN otp_sealed {{bytes}};
-- Counts the codes that were given, so that a code that was used is known when it was sealed anew meanwhile.
ALTER TABLE market_order ADD COLUMN otp_number {{int}} NOT NULL DEFAULT 0;
CREATE INDEX market_order_otp ON market_order (id) WHERE otp_sealed IS NOT NULL;
CREATE INDEX market_order_otp_text ON market_order (id) WHERE otp <> '';
