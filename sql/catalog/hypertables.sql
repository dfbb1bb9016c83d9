-- Every hypertable that applications see: not the ones behind continuous aggregates, not the internal ones that held
-- compressed data before 2.29 (compression_state 2). Indexes only of the tables named by $1 (schemas) and $2 (names).
-- Columns that came or went between versions are read through to_jsonb, so that one text serves all.
SELECT jsonb_build_object(
    'schema', ht.schema_name,
    'name', ht.table_name,
    'id', ht.id,
    'dimensions', d.dimensions,
    'columnstore', CASE
        WHEN ht.compression_state = 1 OR (to_jsonb(ht) ->> 'status')::int & 4 = 4 AND cs.relid IS NOT NULL
        THEN jsonb_build_object('segment_by', cs.segmentby, 'order_by', cs.order_by)
    END,
    'indexes', coalesce(ix.indexes, '{}')
)
FROM _timescaledb_catalog.hypertable ht
JOIN pg_namespace n ON n.nspname = ht.schema_name
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = ht.table_name
JOIN LATERAL (
    SELECT jsonb_agg(
        jsonb_build_object(
            'column', dim.column_name,
            'partitioning', CASE
                WHEN dim.num_slices IS NOT NULL THEN jsonb_build_object('hash', dim.num_slices)
                WHEN dim.column_type IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
                THEN jsonb_build_object('integer_range', dim.interval_length)
                ELSE jsonb_build_object(
                    'range', dim.interval_length / 86400000000 || ' days ' || dim.interval_length % 86400000000 || ' microseconds'
                )
            END
        ) ORDER BY dim.num_slices IS NOT NULL, dim.id
    ) AS dimensions
    FROM _timescaledb_catalog.dimension dim
    WHERE dim.hypertable_id = ht.id
) d ON true
LEFT JOIN LATERAL (
    SELECT s.relid, s.segmentby, (
        SELECT jsonb_agg(
            jsonb_build_object('column', o.col, 'descending', o.descending, 'nulls_first', o.nulls_first) ORDER BY o.ord
        )
        FROM unnest(s.orderby, s.orderby_desc, s.orderby_nullsfirst) WITH ORDINALITY o (col, descending, nulls_first, ord)
    ) AS order_by
    FROM _timescaledb_catalog.compression_settings s
    WHERE s.relid = c.oid
) cs ON true
LEFT JOIN LATERAL (
    SELECT jsonb_object_agg(
        ic.relname,
        jsonb_build_object(
            'method', am.amname,
            'columns', (
                SELECT jsonb_agg(
                    jsonb_build_object(
                        'column', coalesce(a.attname, pg_get_indexdef(i.indexrelid, k + 1, true)),
                        'descending', i.indoption[k] & 1 = 1,
                        'nulls_first', i.indoption[k] & 2 = 2
                    ) ORDER BY k
                )
                FROM generate_series(0, i.indnkeyatts - 1) k
                LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k] AND a.attnum <> 0
            ),
            'include', (
                SELECT coalesce(jsonb_agg(a.attname ORDER BY k), '[]')
                FROM generate_series(i.indnkeyatts, i.indnatts - 1) k
                JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k]
            ),
            'predicate', pg_get_expr(i.indpred, i.indrelid, true),
            'unique', i.indisunique OR i.indisexclusion,
            'valid', i.indisvalid
        )
    ) AS indexes
    FROM pg_index i
    JOIN pg_class ic ON ic.oid = i.indexrelid
    JOIN pg_am am ON am.oid = ic.relam
    WHERE i.indrelid = c.oid
    AND (ht.schema_name::text, ht.table_name::text) IN (SELECT * FROM unnest($1::text[], $2::text[]))
) ix ON true
WHERE ht.compression_state <> 2
AND NOT EXISTS (SELECT FROM _timescaledb_catalog.continuous_agg ca WHERE ca.mat_hypertable_id = ht.id)
