-- How many entries the audit log was ever given, counted beside its chain and never taken from it: a log that was emptied, its
-- end with it, is by itself as good as a new one.
INSERT INTO last_number (name, last) SELECT 'audit', COALESCE(max(entries), 0) FROM audit_head;
