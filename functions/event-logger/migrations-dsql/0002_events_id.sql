-- no-transaction
CREATE UNIQUE INDEX ASYNC IF NOT EXISTS events_id ON events (id);
