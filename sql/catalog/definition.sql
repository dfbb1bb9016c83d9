-- How the server reads the temporary view `wanted_definition`, and the query that the aggregate $1.$2 was created with
-- (its direct view), deparsed under the same search path so that they can be compared as text; and what the view reads.
SELECT jsonb_build_object(
    'wanted', pg_get_viewdef(v.oid),
    'live', (
        SELECT pg_get_viewdef(d.oid)
        FROM _timescaledb_catalog.continuous_agg ca
        JOIN pg_namespace n ON n.nspname = ca.direct_view_schema
        JOIN pg_class d ON d.relnamespace = n.oid AND d.relname = ca.direct_view_name
        WHERE ca.user_view_schema = $1::text AND ca.user_view_name = $2::text
    ),
    'sources', (
        SELECT coalesce(jsonb_agg(DISTINCT jsonb_build_object('schema', n.nspname, 'name', s.relname)), '[]')
        FROM pg_rewrite r
        JOIN pg_depend p ON p.classid = 'pg_rewrite'::regclass AND p.objid = r.oid AND p.refclassid = 'pg_class'::regclass
        JOIN pg_class s ON s.oid = p.refobjid AND s.oid <> v.oid
        JOIN pg_namespace n ON n.oid = s.relnamespace
        WHERE r.ev_class = v.oid
    )
)
FROM pg_class v
WHERE v.relnamespace = pg_my_temp_schema() AND v.relname = 'wanted_definition'
