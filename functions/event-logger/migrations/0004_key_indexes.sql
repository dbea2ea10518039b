-- On a large table create these three indexes beforehand with CONCURRENTLY, which a migration cannot.
CREATE UNIQUE INDEX IF NOT EXISTS events_key ON events (key);
CREATE UNIQUE INDEX IF NOT EXISTS events_id ON events (id);
CREATE INDEX IF NOT EXISTS events_by_time ON events ("timestamp", id);
ALTER TABLE events DROP CONSTRAINT events_pkey, ADD CONSTRAINT events_pkey PRIMARY KEY USING INDEX events_key;
DROP INDEX events_latest;
