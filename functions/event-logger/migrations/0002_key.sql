-- Expand: the key of an event, which replaces id as the primary key and idempotency_key. Rows of the version before get a random one.
ALTER TABLE events ADD COLUMN key uuid;
ALTER TABLE events ALTER COLUMN key SET DEFAULT gen_random_uuid();
