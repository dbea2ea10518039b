-- no-transaction
CREATE INDEX CONCURRENTLY IF NOT EXISTS notes_text ON notes (text);
