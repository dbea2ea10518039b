CREATE TABLE events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_name text NOT NULL,
    "timestamp" timestamptz NOT NULL DEFAULT now(),
    -- Who logged it; empty for a caller whom nobody knows, so that the keys below are theirs too.
    issuer text NOT NULL DEFAULT '',
    subject text NOT NULL DEFAULT '',
    email text NOT NULL DEFAULT '',
    -- The same call twice is one event. Null when the caller gave no key and the platform no name to the call.
    idempotency_key text,
    CONSTRAINT events_name_length CHECK (char_length(event_name) BETWEEN 1 AND 500)
);

CREATE INDEX events_latest ON events ("timestamp" DESC, id DESC);
CREATE UNIQUE INDEX events_idempotency ON events (issuer, subject, idempotency_key);
