-- no-transaction
CREATE UNIQUE INDEX ASYNC IF NOT EXISTS notes_text ON notes (text);
