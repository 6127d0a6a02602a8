-- What waits for the code that a shop has.
CREATE INDEX market_order_code ON market_order (connection_id, id) WHERE sync_code IN ('otp', 'otp_refused');
