-- no-transaction
CREATE TABLE IF NOT EXISTS notes (
    title text PRIMARY KEY,
    "text" text NOT NULL,
    saved_at timestamptz NOT NULL DEFAULT now()
);
