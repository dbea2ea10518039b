CREATE TABLE notes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    text text NOT NULL,
    CONSTRAINT notes_text_length CHECK (char_length(text) < 10)
);
