-- no-transaction
-- Read backwards: an index of Aurora DSQL has no DESC.
CREATE INDEX ASYNC IF NOT EXISTS events_by_time ON events ("timestamp", id);
