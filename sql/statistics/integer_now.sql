-- What time it is now for each hypertable in the setting timescaledb_policy_operator.integer_now, a JSON array of ids: an
-- object of the numbers by id takes its place. A continuous aggregate has no integer_now function of its own and takes its
-- source's, however deep. A function that fails, or that may not be called, leaves its hypertable out and no other.
--
-- The functions are anybody's, and they run with the rights of this session: in a transaction that is read only, and, where
-- the session is a superuser's, only those that belong to one.
DO $$
DECLARE
    function record;
    value bigint;
    found jsonb := '{}';
BEGIN
    FOR function IN
        WITH RECURSIVE source (of, id, depth) AS (
            SELECT wanted.id::int, wanted.id::int, 0
            FROM jsonb_array_elements_text(current_setting('timescaledb_policy_operator.integer_now')::jsonb) wanted (id)
            UNION ALL
            SELECT s.of, ca.raw_hypertable_id, s.depth + 1
            FROM source s
            JOIN _timescaledb_catalog.continuous_agg ca ON ca.mat_hypertable_id = s.id
        )
        SELECT DISTINCT ON (s.of) s.of, d.integer_now_func_schema AS schema_name, d.integer_now_func AS name
        FROM source s
        JOIN _timescaledb_catalog.dimension d ON d.hypertable_id = s.id AND d.num_slices IS NULL
        JOIN pg_namespace n ON n.nspname = d.integer_now_func_schema
        JOIN pg_proc p ON p.pronamespace = n.oid AND p.proname = d.integer_now_func AND p.pronargs = 0
        JOIN pg_roles owner ON owner.oid = p.proowner
        JOIN pg_roles me ON me.rolname = current_user
        WHERE owner.rolsuper OR NOT me.rolsuper
        ORDER BY s.of, s.depth
    LOOP
        BEGIN
            EXECUTE format('SELECT %I.%I()', function.schema_name, function.name) INTO value;
            found := found || jsonb_build_object(function.of, value);
        EXCEPTION WHEN OTHERS THEN
            NULL;
        END;
    END LOOP;
    PERFORM set_config('timescaledb_policy_operator.integer_now', found::text, false);
END $$
