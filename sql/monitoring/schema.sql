-- Where views.sql, operations.sql and version.sql are installed: the schema that the setting
-- timescaledb_policy_operator.monitoring_schema names. It is created where it is missing. One that exists must be empty or
-- hold an earlier installation, which its comment says: so nothing of an application gets among the views, and nothing of
-- it is replaced. Everything after this runs in the schema.
DO $$
DECLARE
    schema_name text := current_setting('timescaledb_policy_operator.monitoring_schema');
    quoted text := quote_ident(schema_name);
    -- The version of these files, as in version.sql.
    version int := 1;
    found oid;
    owner oid;
    comment text;
    installed text;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_extension e WHERE e.extname = 'timescaledb') THEN
        RAISE EXCEPTION 'the extension timescaledb is not in this database'
            USING ERRCODE = 'undefined_object', HINT = 'CREATE EXTENSION timescaledb';
    END IF;
    SELECT n.oid, n.nspowner, obj_description(n.oid, 'pg_namespace') INTO found, owner, comment
    FROM pg_namespace n
    WHERE n.nspname = schema_name;
    installed := substring(comment FROM '^timescaledb-policy-operator: monitoring views ([0-9]{1,9}) ');
    IF found IS NULL THEN
        IF NOT has_database_privilege(current_database(), 'CREATE') THEN
            RAISE EXCEPTION 'role % may not create the schema %', quote_ident(current_user), quoted
                USING ERRCODE = 'insufficient_privilege', HINT = format(
                    'GRANT CREATE ON DATABASE %I TO %I, or create it for the role: CREATE SCHEMA %I AUTHORIZATION %I',
                    current_database(), current_user, schema_name, current_user
                );
        END IF;
        EXECUTE format('CREATE SCHEMA %I', schema_name);
    ELSIF installed IS NULL AND EXISTS (
        SELECT FROM pg_depend d
        WHERE d.refclassid = 'pg_namespace'::regclass AND d.refobjid = found AND d.deptype = 'n'
        OR d.classid = 'pg_namespace'::regclass AND d.objid = found AND d.deptype = 'e'
    ) THEN
        RAISE EXCEPTION 'schema % exists and holds something else', quoted
            USING ERRCODE = 'duplicate_schema', HINT = 'Choose the name of a new or an empty schema for the monitoring views.';
    ELSIF installed::int > version THEN
        RAISE EXCEPTION 'schema % holds version % of the monitoring views; this is version %', quoted, installed, version
            USING ERRCODE = 'feature_not_supported', HINT = 'Install with files of that version or a later one.';
    ELSIF NOT pg_has_role(owner, 'USAGE') THEN
        RAISE EXCEPTION 'schema % belongs to %', quoted, pg_get_userbyid(owner)
            USING ERRCODE = 'insufficient_privilege', HINT = format('GRANT %I TO %I', pg_get_userbyid(owner), current_user);
    END IF;
    PERFORM set_config('search_path', format('%I, pg_temp', schema_name), true);
END $$;
