-- Removes what install.sql, or the operator, installed in the schema, and the schema where nothing else is left in it:
--
--   psql "$PGURL" -v schema=monitoring -f sql/monitoring/uninstall.sql
--
-- What others built on the views is not dropped: while it exists this fails, and names it. Leave `monitoringSchema` out of
-- the TimescaleDatabase first, or the operator installs the views again.
\set ON_ERROR_STOP on
BEGIN;
SET LOCAL lock_timeout = '5s';
SET LOCAL search_path = pg_catalog, pg_temp;
SELECT set_config('timescaledb_policy_operator.monitoring_schema', :'schema', true) \g /dev/null
DO $$
DECLARE
    schema_name text := current_setting('timescaledb_policy_operator.monitoring_schema');
    found oid := (SELECT n.oid FROM pg_namespace n WHERE n.nspname = schema_name);
    ours record;
BEGIN
    IF starts_with(obj_description(found, 'pg_namespace'), 'timescaledb-policy-operator: monitoring views ') IS NOT TRUE THEN
        RAISE EXCEPTION 'the monitoring views are not installed in schema %', quote_ident(schema_name)
            USING ERRCODE = 'undefined_object';
    END IF;
    FOR ours IN
        SELECT 'DROP VIEW ' || string_agg(format('%I.%I', schema_name, c.relname), ', ') AS command
        FROM pg_class c
        WHERE c.relnamespace = found AND c.relkind = 'v'
        AND starts_with(obj_description(c.oid, 'pg_class'), 'timescaledb-policy-operator: ')
        HAVING count(*) > 0
        UNION ALL
        SELECT 'DROP ROUTINE ' || string_agg(p.oid::regprocedure::text, ', ')
        FROM pg_proc p
        WHERE p.pronamespace = found
        AND starts_with(obj_description(p.oid, 'pg_proc'), 'timescaledb-policy-operator: ')
        HAVING count(*) > 0
    LOOP
        BEGIN
            EXECUTE ours.command;
        EXCEPTION WHEN dependent_objects_still_exist THEN
            DECLARE
                dependents text;
            BEGIN
                GET STACKED DIAGNOSTICS dependents = PG_EXCEPTION_DETAIL;
                RAISE EXCEPTION 'others have built on the monitoring views in schema %', quote_ident(schema_name)
                    USING ERRCODE = 'dependent_objects_still_exist', DETAIL = dependents, HINT = 'Drop or change what is named first.';
            END;
        END;
    END LOOP;
    IF EXISTS (
        SELECT FROM pg_depend d
        WHERE d.refclassid = 'pg_namespace'::regclass AND d.refobjid = found AND d.deptype = 'n'
    ) THEN
        EXECUTE format('COMMENT ON SCHEMA %I IS NULL', schema_name);
        RAISE NOTICE 'schema % stays: it holds something else', quote_ident(schema_name);
    ELSE
        EXECUTE format('DROP SCHEMA %I', schema_name);
    END IF;
END $$;
COMMIT;
