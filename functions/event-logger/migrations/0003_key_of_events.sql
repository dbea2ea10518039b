-- no-transaction
-- The keys of events from before, in batches that commit by themselves. `event_key` in src/events.rs derives them the same way.
DO $$
DECLARE
    last bigint := (SELECT min(id) - 1 FROM events);
BEGIN
    WHILE last IS NOT NULL LOOP
        WITH batch AS (
            SELECT id FROM events WHERE id > last AND key IS NULL ORDER BY id LIMIT 5000
        ), updated AS (
            UPDATE events SET key = CASE
                WHEN idempotency_key IS NULL THEN gen_random_uuid()
                ELSE left(encode(sha256(convert_to(
                    octet_length(issuer) || ':' || issuer || octet_length(subject) || ':' || subject || idempotency_key, 'UTF8'
                )), 'hex'), 32)::uuid
            END
            FROM batch WHERE events.id = batch.id AND events.key IS NULL
        )
        SELECT max(id) INTO last FROM batch;
        COMMIT;
    END LOOP;
END $$;
