-- Whether the records of a key come with versions. One that was given can't be compared with one that was counted.

-- 0 nothing was said yet, 1 given by the sender, 2 none given: counted here
ALTER TABLE delivery ADD COLUMN versions {{int}} NOT NULL DEFAULT 0;
