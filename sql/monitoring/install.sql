-- The monitoring views and functions, in a schema of your choice. In the database, as a role that may create the schema
-- (CREATE on the database), or that owns it, empty:
--
--   psql "$PGURL" -v schema=monitoring -f sql/monitoring/install.sql
--
-- Run it again to upgrade, or to put back what was changed. One transaction: it installs everything or nothing. What others
-- built on the views stays; where a view cannot be replaced under it, the installation fails and names it.
--
-- Nobody but the owner can read the views until you say so:
--
--   GRANT USAGE ON SCHEMA monitoring TO grafana;
--   GRANT SELECT ON ALL TABLES IN SCHEMA monitoring TO grafana;
--
-- They show a role the tables that it may read; a member of pg_monitor sees all of them. docs/guide/sql-views.md says more.
\set ON_ERROR_STOP on
BEGIN;
SET LOCAL lock_timeout = '5s';
SET LOCAL search_path = pg_catalog, pg_temp;
SELECT set_config('timescaledb_policy_operator.monitoring_schema', :'schema', true) \g /dev/null
\ir schema.sql
\ir views.sql
\ir operations.sql
\ir version.sql
COMMIT;
