-- The version of these files, in the comment of the schema, with a fingerprint of what they installed, by which a later look
-- tells whether it was changed: of the bodies and settings of the functions, and the rules of the views, that carry the
-- mark. schema.sql and src/plan/monitoring_schema.rs have the same version, sql/catalog/server.sql the same fingerprint.
CREATE OR REPLACE FUNCTION monitoring_version() RETURNS int
LANGUAGE sql IMMUTABLE SET search_path FROM CURRENT
AS 'SELECT 1';

COMMENT ON FUNCTION monitoring_version() IS 'timescaledb-policy-operator: Version of the monitoring views.';

DO $install$
DECLARE
    here oid := (SELECT n.oid FROM pg_namespace n WHERE n.nspname = current_schema());
    ours record;
    fingerprint text;
BEGIN
    -- These are for the views, and have no comment of their own.
    FOR ours IN
        SELECT p.oid::regprocedure AS signature
        FROM pg_proc p
        WHERE p.pronamespace = here
        AND p.proname IN (
            '_interval', '_bigint', '_integer_now', '_time_text', '_holds_rows', '_tables', '_chunks', '_chunk_bytes', '_jobs', '_due',
            '_buckets', '_policy_chunks', '_aggregate_time_type', '_erased_before', '_chunk_statistics', '_compression_statistics',
            '_compression_jobs', '_retention_policies', '_data_age', '_index_usage', '_missing_indexes', '_aggregate_status'
        )
    LOOP
        EXECUTE format('COMMENT ON FUNCTION %s IS %L', ours.signature, 'timescaledb-policy-operator: For the monitoring views.');
    END LOOP;
    SELECT md5(string_agg(o.definition, '|' ORDER BY o.definition COLLATE "C")) INTO fingerprint
    FROM (
        SELECT p.proname || ' ' || md5(concat(p.prosrc, p.proconfig, p.prosecdef)) AS definition
        FROM pg_proc p
        WHERE p.pronamespace = here AND starts_with(obj_description(p.oid, 'pg_proc'), 'timescaledb-policy-operator: ')
        UNION ALL
        SELECT c.relname || ' ' || md5(r.ev_action::text)
        FROM pg_class c
        JOIN pg_rewrite r ON r.ev_class = c.oid
        WHERE c.relnamespace = here AND starts_with(obj_description(c.oid, 'pg_class'), 'timescaledb-policy-operator: ')
    ) o;
    EXECUTE format('COMMENT ON SCHEMA %I IS %L', current_schema(), 'timescaledb-policy-operator: monitoring views 1 ' || fingerprint);
END $install$;
