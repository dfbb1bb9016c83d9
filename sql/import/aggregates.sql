-- Of every continuous aggregate: its direct view, whose query it was made with, and the columns that rows are grouped by.
-- Those are read from the stored rule: an output column with a ressortgroupref is one of GROUP BY, because TimescaleDB takes
-- neither ORDER BY nor DISTINCT nor subqueries. In a name every character that could end it is escaped.
SELECT jsonb_build_object(
    'schema', ca.user_view_schema,
    'name', ca.user_view_name,
    'view', v.oid::bigint,
    'grouped_by', (
        SELECT coalesce(jsonb_agg(regexp_replace(field.found[1], '\\(.)', '\1', 'g')), '[]')
        FROM regexp_matches(r.ev_action::text, ':resname ((?:[^\\ ]|\\.)+) :ressortgroupref [1-9]', 'g') AS field (found)
    )
)
FROM _timescaledb_catalog.continuous_agg ca
JOIN pg_namespace n ON n.nspname = ca.direct_view_schema
JOIN pg_class v ON v.relnamespace = n.oid AND v.relname = ca.direct_view_name
JOIN pg_rewrite r ON r.ev_class = v.oid
