-- What people have to be told, and how that went.

-- A problem that stands for all that are alike: raised again it is counted, not told again each time.
CREATE TABLE alert (
  fingerprint TEXT NOT NULL PRIMARY KEY,
  severity {{int}} NOT NULL CHECK (severity IN (1, 2)), -- 1 warning, 2 critical
  title TEXT NOT NULL,               -- these as they were raised last
  text TEXT NOT NULL,
  subject TEXT NOT NULL,
  link TEXT NOT NULL,
  times {{int}} NOT NULL,            -- raised in all
  untold {{int}} NOT NULL,           -- of them, how many no message has told of yet
  first_us {{int}} NOT NULL,
  last_us {{int}} NOT NULL,
  told_us {{int}} NOT NULL DEFAULT 0,  -- when the last message about it was made; 0: never
  quiet_us {{int}} NOT NULL DEFAULT 0, -- no message about it before
  muted_us {{int}} NOT NULL DEFAULT 0  -- a person wants none before
){{strict}};
CREATE INDEX alert_untold ON alert (quiet_us) WHERE untold > 0;

-- A message to people.
CREATE TABLE notification (
  id {{id}},
  uid TEXT NOT NULL,                 -- the same in every attempt, and no other hub's: receivers tell repeats by it
  kind TEXT NOT NULL CHECK (kind IN ('first', 'digest', 'summary')),
  fingerprint TEXT NOT NULL,         -- empty: a summary of several problems
  severity {{int}} NOT NULL CHECK (severity IN (1, 2)),
  title TEXT NOT NULL,
  text TEXT NOT NULL,
  subject TEXT NOT NULL,
  link TEXT NOT NULL,
  times {{int}} NOT NULL,            -- how many it tells of
  created_us {{int}} NOT NULL
){{strict}};
CREATE INDEX notification_time ON notification (created_us);
CREATE INDEX notification_alert ON notification (fingerprint, id);

-- Its way through one channel. A node that tries moves `due_us` on first, so that no other tries meanwhile.
CREATE TABLE notification_delivery (
  notification_id {{int}} NOT NULL REFERENCES notification (id),
  channel TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('waiting', 'sent', 'failed')),
  attempts {{int}} NOT NULL DEFAULT 0,
  due_us {{int}} NOT NULL,
  result TEXT NOT NULL DEFAULT '',   -- of the last attempt, in words
  done_us {{int}},
  PRIMARY KEY (notification_id, channel)
){{strict}};
CREATE INDEX notification_due ON notification_delivery (due_us) WHERE state = 'waiting';
