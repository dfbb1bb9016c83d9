-- Every continuous aggregate. The fingerprint is of the stored rule of its direct view: reading that takes no lock,
-- which deparsing the query would (on every relation in it).
SELECT jsonb_build_object(
    'schema', ca.user_view_schema,
    'name', ca.user_view_name,
    'id', ca.mat_hypertable_id,
    'source_id', ca.raw_hypertable_id,
    'materialized_only', ca.materialized_only,
    'fingerprint', md5(r.ev_action::text),
    'comment', obj_description(uv.oid, 'pg_class'),
    'bucket', CASE
        WHEN to_jsonb(bf) ->> 'bucket_width' ~ '^[0-9]+$' THEN to_jsonb((to_jsonb(bf) ->> 'bucket_width')::bigint)
        ELSE to_jsonb((to_jsonb(bf) ->> 'bucket_width')::interval::text)
    END
)
FROM _timescaledb_catalog.continuous_agg ca
JOIN pg_namespace un ON un.nspname = ca.user_view_schema
JOIN pg_class uv ON uv.relnamespace = un.oid AND uv.relname = ca.user_view_name
JOIN pg_namespace n ON n.nspname = ca.direct_view_schema
JOIN pg_class v ON v.relnamespace = n.oid AND v.relname = ca.direct_view_name
JOIN pg_rewrite r ON r.ev_class = v.oid
LEFT JOIN _timescaledb_catalog.continuous_aggs_bucket_function bf ON bf.mat_hypertable_id = ca.mat_hypertable_id
