-- Requests and answers in full, secrets masked: only while somebody has asked for it, for those who look for a fault.
CREATE TABLE trace (
  id {{id}},
  connection_id {{int}} NOT NULL,
  at_us {{int}} NOT NULL,
  took_us {{int}} NOT NULL,
  method TEXT NOT NULL,
  target TEXT NOT NULL,
  status {{int}} NOT NULL,            -- 0: no answer
  error TEXT NOT NULL DEFAULT '',     -- why there is none
  request TEXT NOT NULL DEFAULT '',   -- body
  response TEXT NOT NULL DEFAULT '',
  request_bytes {{int}} NOT NULL,     -- of the whole body: what is kept may be shorter
  response_bytes {{int}} NOT NULL
){{strict}};
CREATE INDEX trace_connection ON trace (connection_id, id);
