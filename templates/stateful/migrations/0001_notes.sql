CREATE TABLE notes (
    title text PRIMARY KEY,
    "text" text NOT NULL,
    saved_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX notes_latest ON notes (saved_at, title);
