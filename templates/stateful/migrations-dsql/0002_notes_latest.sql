-- no-transaction
-- Read backwards: an index of Aurora DSQL has no DESC.
CREATE INDEX ASYNC IF NOT EXISTS notes_latest ON notes (saved_at, title);
