CREATE TABLE notes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    text text NOT NULL
);

CREATE INDEX notes_words ON notes USING gin (to_tsvector('simple', text));
