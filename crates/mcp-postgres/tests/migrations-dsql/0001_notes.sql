-- no-transaction
CREATE TABLE IF NOT EXISTS notes (
    id bigint GENERATED ALWAYS AS IDENTITY (CACHE 65536) PRIMARY KEY,
    text text NOT NULL,
    CONSTRAINT notes_text_length CHECK (char_length(text) < 10)
);
