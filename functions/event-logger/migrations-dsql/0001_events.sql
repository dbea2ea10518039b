-- no-transaction
CREATE TABLE IF NOT EXISTS events (
    -- The first 16 bytes of a SHA-256 digest, or random: inserts do not meet at one end of the table.
    key uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    id bigint GENERATED ALWAYS AS IDENTITY (CACHE 65536),
    event_name text NOT NULL,
    "timestamp" timestamptz NOT NULL DEFAULT now(),
    -- Who logged it; empty for an anonymous caller.
    issuer text NOT NULL DEFAULT '',
    subject text NOT NULL DEFAULT '',
    email text NOT NULL DEFAULT '',
    -- As in Postgres, where the version before reads it. The next release drops it.
    idempotency_key text,
    CONSTRAINT events_name_length CHECK (char_length(event_name) BETWEEN 1 AND 500)
);
