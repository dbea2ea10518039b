-- The lock is for emulators that start at the same time in front of one database.
SELECT pg_advisory_xact_lock(7234296131);

-- Other roles than admin need a grant for each schema, also for public (`access-control.md` and `troubleshooting.md` of TROUBLESHOOTING).
REVOKE ALL ON SCHEMA public FROM PUBLIC;

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
-- Types that a column can have, and the default precision of numeric (TYPES).
CREATE OR REPLACE PROCEDURE sys.check_types(own regclass) LANGUAGE plpgsql AS $$
DECLARE
    found record;
BEGIN
    FOR found IN SELECT a.attname AS column, a.atttypmod AS modifier, t.typname AS name, format_type(t.oid, NULL) AS shown,
            CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END AS base
        FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid WHERE a.attrelid = own AND a.attnum > 0 LOOP
        IF found.base <> ALL ('{int2, int4, int8, float4, float8, numeric, bpchar, varchar, text, date, time, timetz, timestamp,
            timestamptz, interval, bool, bytea, uuid, json, jsonb}'::regtype[]) THEN
            RAISE 'datatype % not supported', found.shown USING ERRCODE = '0A000';
        END IF;
        IF found.name = 'numeric' AND found.modifier = -1 THEN
            EXECUTE format('ALTER TABLE %s ALTER COLUMN %I TYPE numeric(18, 6)', own, found.column);
        END IF;
    END LOOP;
END $$;

-- Types that a key of an index can have (TYPES).
CREATE OR REPLACE FUNCTION sys.check_keys(own regclass, keys name[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    unsupported text := (SELECT min(format_type(atttypid, NULL)) FROM pg_attribute WHERE attrelid = own AND attname = ANY (keys)
        AND atttypid = ANY ('{timetz, interval, bytea, json, jsonb}'::regtype[]));
BEGIN
    IF unsupported IS NOT NULL THEN
        RAISE 'datatype % not supported for index keys', unsupported USING ERRCODE = '0A000';
    END IF;
END $$;

CREATE OR REPLACE FUNCTION sys.check_tables() RETURNS event_trigger LANGUAGE plpgsql AS $$
DECLARE
    own oid;
BEGIN
    FOR own IN SELECT DISTINCT objid FROM pg_event_trigger_ddl_commands() WHERE object_type = 'table' LOOP
        CALL sys.check_types(own);
        PERFORM sys.check_keys(own, ARRAY(SELECT a.attname FROM pg_index i
            JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) WHERE i.indrelid = own));
    END LOOP;
    CALL sys.add_checks();
END $$;
DROP EVENT TRIGGER IF EXISTS dsql_sizes;
DROP EVENT TRIGGER IF EXISTS dsql_tables;
CREATE EVENT TRIGGER dsql_tables ON ddl_command_end WHEN TAG IN ('CREATE TABLE', 'ALTER TABLE') EXECUTE FUNCTION sys.check_tables();
CALL sys.add_checks();

GRANT USAGE ON SCHEMA sys TO PUBLIC;
GRANT SELECT ON ALL TABLES IN SCHEMA sys TO PUBLIC;
