-- The lock is for emulators that start at the same time in front of one database.
SELECT pg_advisory_xact_lock(7234296131);

-- Before Postgres 15 every role may create tables there. Aurora DSQL is compatible with Postgres 16.
REVOKE CREATE ON SCHEMA public FROM PUBLIC;

CREATE SCHEMA IF NOT EXISTS sys;
CREATE TABLE IF NOT EXISTS sys.jobs (
    job_id text PRIMARY KEY, status text NOT NULL, details text, job_type text NOT NULL, object_name text,
    start_time timestamptz NOT NULL DEFAULT now(), update_time timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE IF NOT EXISTS sys.iam_pg_role_mappings (pg_role_name text, arn text, PRIMARY KEY (pg_role_name, arn));

-- Returns the outcome: the emulator waits for the job before it forwards the call.
CREATE OR REPLACE PROCEDURE sys.wait_for_job(job text, INOUT succeeded boolean DEFAULT NULL) LANGUAGE plpgsql AS $$
BEGIN
    SELECT status = 'completed' INTO succeeded FROM sys.jobs WHERE job_id = job;
    IF NOT FOUND THEN RAISE 'job % not found', job USING ERRCODE = '42704'; END IF;
END $$;

-- The sizes of a row (QUOTAS), by the text of its values.
CREATE OR REPLACE FUNCTION sys.check_sizes() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    own jsonb := to_jsonb(NEW);
    largest bigint;
    total bigint;
BEGIN
    IF EXISTS (
        SELECT FROM pg_index i
        CROSS JOIN unnest(i.indkey::int2[]) WITH ORDINALITY AS key (attnum, position)
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = key.attnum
        WHERE i.indrelid = TG_RELID AND key.position <= i.indnkeyatts
        GROUP BY i.indexrelid
        HAVING sum(CASE WHEN a.attlen > 0 THEN a.attlen ELSE octet_length(own ->> a.attname) END) > 1024
    ) THEN
        RAISE 'key size too large' USING ERRCODE = '54000';
    END IF;
    SELECT max(octet_length(value)), sum(octet_length(value)) INTO largest, total FROM jsonb_each_text(own);
    IF largest > 1 << 20 THEN RAISE 'maximum column size exceeded' USING ERRCODE = '54000'; END IF;
    IF total > 2 << 20 THEN RAISE 'maximum row size exceeded' USING ERRCODE = '54000'; END IF;
    RETURN NEW;
END $$;

CREATE OR REPLACE PROCEDURE sys.add_checks() LANGUAGE plpgsql AS $$
DECLARE
    own oid;
BEGIN
    FOR own IN SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind = 'r' AND n.nspname !~ '^(sys|information_schema|pg_.*)$'
            AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname = 'dsql_sizes') LOOP
        EXECUTE format('CREATE TRIGGER dsql_sizes BEFORE INSERT OR UPDATE ON %s
            FOR EACH ROW EXECUTE FUNCTION sys.check_sizes()', own::regclass);
    END LOOP;
END $$;
CREATE OR REPLACE FUNCTION sys.add_checks_to_new() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
    CALL sys.add_checks();
END $$;
DROP EVENT TRIGGER IF EXISTS dsql_sizes;
CREATE EVENT TRIGGER dsql_sizes ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION sys.add_checks_to_new();
CALL sys.add_checks();

GRANT USAGE ON SCHEMA sys TO PUBLIC;
GRANT SELECT ON ALL TABLES IN SCHEMA sys TO PUBLIC;
