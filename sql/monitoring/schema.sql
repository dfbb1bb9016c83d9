-- Where views.sql, operations.sql and version.sql are installed: the schema that the setting
-- timescaledb_policy_operator.monitoring_schema names. It is created where it is missing. One that exists must be empty or
-- hold an earlier installation, which its comment says; so no table of an application gets among the views, and none of
-- these names can take the place of something else. Everything after this runs in the schema.
DO $$
DECLARE
    schema_name text := pg_catalog.current_setting('timescaledb_policy_operator.monitoring_schema');
    -- Its own name even where a quoted one looks like another.
    found oid := (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = schema_name);
    comment text := pg_catalog.obj_description(found, 'pg_namespace');
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_extension e WHERE e.extname = 'timescaledb') THEN
        RAISE EXCEPTION 'the extension timescaledb is not in this database'
            USING ERRCODE = 'undefined_object', HINT = 'CREATE EXTENSION timescaledb';
    END IF;
    IF found IS NULL THEN
        EXECUTE pg_catalog.format('CREATE SCHEMA %I', schema_name);
    ELSIF coalesce(comment, '') !~ '^timescaledb-policy-operator: monitoring views ' AND EXISTS (
        SELECT FROM pg_catalog.pg_depend d
        WHERE d.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass AND d.refobjid = found AND d.deptype = 'n'
    ) THEN
        RAISE EXCEPTION 'schema % exists and holds something else', pg_catalog.quote_ident(schema_name)
            USING ERRCODE = 'duplicate_schema', HINT = 'Choose the name of a new or an empty schema for the monitoring views.';
    ELSIF comment ~ '^timescaledb-policy-operator: monitoring views [0-9]{1,9}' THEN
        -- The version of these files, as in version.sql.
        IF pg_catalog.substring(comment, 'views ([0-9]+)')::int > 1 THEN
            RAISE EXCEPTION 'schema % holds version % of the monitoring views; this is version 1',
                pg_catalog.quote_ident(schema_name), pg_catalog.substring(comment, 'views ([0-9]+)')
                USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Install with files of that version or a later one.';
        END IF;
    END IF;
    PERFORM pg_catalog.set_config('search_path', pg_catalog.format('%I, pg_temp', schema_name), true);
END $$;
