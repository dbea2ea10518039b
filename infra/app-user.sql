-- The function's own user, which signs tokens in place of a password. `make deploy` executes this as the database's owner
-- after each deployment; it changes nothing the second time. One statement, since the Data API takes one at a time.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'app') THEN
        CREATE ROLE app LOGIN;
    END IF;
    GRANT rds_iam TO app;
    -- As the function sends them with each connection, for RDS Proxy, which rejects settings.
    ALTER ROLE app SET statement_timeout = '15s';
    ALTER ROLE app SET client_connection_check_interval = '1s';
    GRANT CONNECT ON DATABASE events TO app;
    -- Migrations are part of the function, and make its tables.
    GRANT USAGE, CREATE ON SCHEMA public TO app;
    -- Tables of the server's state (docs/state.md), which the function makes, too. It may create no schema.
    CREATE SCHEMA IF NOT EXISTS mcp;
    GRANT USAGE, CREATE ON SCHEMA mcp TO app;
END
$$
