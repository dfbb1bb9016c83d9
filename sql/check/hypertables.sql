-- Of every hypertable and continuous aggregate (by its view): whether the session may read it, how it is scanned, foreign
-- keys that no index serves, how many rows compression has put into one batch, and what ANALYZE has found of the columns
-- that it segments by. One pass over the chunks; statistics of columns only of the 20 newest ones of each table.
WITH root AS MATERIALIZED (
    SELECT ht.id, c.oid, coalesce(ca.user_view_schema, ht.schema_name) AS schema_name,
        coalesce(ca.user_view_name, ht.table_name) AS relation_name, cs.segmentby
    FROM _timescaledb_catalog.hypertable ht
    JOIN pg_namespace n ON n.nspname = ht.schema_name
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = ht.table_name
    LEFT JOIN _timescaledb_catalog.continuous_agg ca ON ca.mat_hypertable_id = ht.id
    LEFT JOIN _timescaledb_catalog.compression_settings cs ON cs.relid = c.oid
    WHERE ht.compression_state <> 2
), chunk AS MATERIALIZED (
    SELECT r.id, i.inhrelid AS oid
    FROM root r
    JOIN pg_inherits i ON i.inhparent = r.oid
), scan AS (
    SELECT
        c.id,
        sum(pg_stat_get_numscans(c.oid))::bigint AS sequential_scans,
        sum(pg_stat_get_tuples_returned(c.oid))::bigint AS sequential_rows,
        sum((
            SELECT coalesce(sum(pg_stat_get_numscans(i.indexrelid)), 0) FROM pg_index i WHERE i.indrelid = c.oid
        ))::bigint AS index_scans
    FROM chunk c
    GROUP BY c.id
), batch AS (
    -- What older settings made is not held against those of today. Up to 2.18 the settings of a chunk stand with the
    -- relation of its compressed data, and cannot be told: there all chunks count.
    SELECT ch.hypertable_id AS id, count(*) AS chunks,
        sum(s.numrows_pre_compression)::bigint AS rows, sum(s.numrows_post_compression)::bigint AS batches
    FROM _timescaledb_catalog.compression_chunk_size s
    JOIN _timescaledb_catalog.chunk ch ON ch.id = s.chunk_id
    JOIN root r ON r.id = ch.hypertable_id
    LEFT JOIN _timescaledb_catalog.compression_settings cs ON cs.relid = coalesce(
        (to_jsonb(ch) ->> 'relid')::regclass,
        to_regclass(format('%I.%I', to_jsonb(ch) ->> 'schema_name', to_jsonb(ch) ->> 'table_name'))
    )
    WHERE cs.relid IS NULL OR r.segmentby IS NULL OR cs.segmentby = r.segmentby
    GROUP BY ch.hypertable_id
), sampled AS (
    SELECT k.id, k.oid, k.reltuples
    FROM (
        SELECT c.id, c.oid, p.reltuples, row_number() OVER (PARTITION BY c.id ORDER BY c.oid DESC) AS place
        FROM chunk c
        JOIN pg_class p ON p.oid = c.oid
        WHERE p.reltuples > 0
    ) k
    WHERE k.place <= 20
), sample AS MATERIALIZED (
    SELECT s.id, s.oid, s.reltuples::bigint AS rows, jsonb_object_agg(
        st.attname,
        jsonb_build_object(
            'distinct', CASE WHEN st.n_distinct < 0 THEN -st.n_distinct * s.reltuples ELSE st.n_distinct END::bigint,
            -- Which value it is where there is one: to be compared, and not to be shown.
            'only', CASE WHEN st.n_distinct = 1 AND st.null_frac = 0 THEN md5(st.most_common_vals::text) END
        )
    ) AS columns
    FROM sampled s
    JOIN root r ON r.id = s.id
    JOIN pg_class p ON p.oid = s.oid
    JOIN pg_namespace n ON n.oid = p.relnamespace
    -- OFFSET keeps the view in its place, where it is read by index, chunk by chunk; joined it would be read whole each time.
    CROSS JOIN LATERAL (
        SELECT x.attname, x.n_distinct, x.null_frac, x.most_common_vals
        FROM pg_stats x
        WHERE x.schemaname = n.nspname AND x.tablename = p.relname AND NOT x.inherited
        OFFSET 0
    ) st
    WHERE st.attname = ANY (r.segmentby)
    GROUP BY s.id, s.oid, s.reltuples
)
SELECT jsonb_build_object(
    'schema', r.schema_name,
    'name', r.relation_name,
    'readable', has_table_privilege(r.oid, 'SELECT'),
    'sequential_scans', coalesce(scan.sequential_scans, 0),
    'sequential_rows', coalesce(scan.sequential_rows, 0),
    'index_scans', coalesce(scan.index_scans, 0),
    'compressed_rows', coalesce(batch.rows, 0),
    'batches', coalesce(batch.batches, 0),
    'samples', (
        SELECT coalesce(jsonb_agg(jsonb_build_object('rows', s.rows, 'columns', s.columns) ORDER BY s.oid DESC), '[]')
        FROM sample s
        WHERE s.id = r.id
    ),
    'foreign_keys', (
        SELECT coalesce(
            jsonb_agg(
                jsonb_build_object(
                    'name', con.conname,
                    'columns', (
                        SELECT jsonb_agg(a.attname ORDER BY k.ord)
                        FROM unnest(con.conkey) WITH ORDINALITY k (attnum, ord)
                        JOIN pg_attribute a ON a.attrelid = con.conrelid AND a.attnum = k.attnum
                    ),
                    'references', format('%I.%I', fn.nspname, f.relname)
                ) ORDER BY con.conname
            ),
            '[]'
        )
        FROM pg_constraint con
        JOIN pg_class f ON f.oid = con.confrelid
        JOIN pg_namespace fn ON fn.oid = f.relnamespace
        WHERE con.conrelid = r.oid AND con.contype = 'f'
        -- An index serves whose first columns are these, in any order. An int2vector counts from 0.
        AND NOT EXISTS (
            SELECT FROM pg_index i
            WHERE i.indrelid = r.oid AND i.indisvalid AND i.indpred IS NULL AND i.indnkeyatts >= cardinality(con.conkey)
            AND (i.indkey::int2[])[0:cardinality(con.conkey) - 1] @> con.conkey
        )
    )
)
FROM root r
LEFT JOIN scan ON scan.id = r.id
LEFT JOIN batch ON batch.id = r.id
