-- A role for `mode: Observe` in one database: it reads, and can change nothing. As a superuser, or whoever may create roles
-- and grant on the schema, in the database, once for each schema:
--
--   psql "$PGURL" -v role=factory_observer -v password=change-me -v schema=factory_telemetry -f sql/role-observe.sql
--
-- The catalog is open to everybody. SELECT is for the tables with an index predicate, which the server reads on an empty
-- copy, and for what continuous aggregates read. Tables that are created later need it too: run it again, or let their
-- owner ALTER DEFAULT PRIVILEGES.
\set ON_ERROR_STOP on
BEGIN;
SELECT set_config('role_sql.role', :'role', true) \g /dev/null
DO $$
DECLARE
    role text := current_setting('role_sql.role');
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = role) THEN
        EXECUTE format('CREATE ROLE %I LOGIN', role);
    END IF;
END $$;
ALTER ROLE :"role" LOGIN PASSWORD :'password';
GRANT CONNECT, TEMPORARY ON DATABASE :"DBNAME" TO :"role";
GRANT USAGE ON SCHEMA :"schema" TO :"role";
GRANT SELECT ON ALL TABLES IN SCHEMA :"schema" TO :"role";
COMMIT;
