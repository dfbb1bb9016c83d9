-- Columns, planner statistics and indexes of every hypertable, also of those behind continuous aggregates. $1 are the ids of
-- hypertables to leave all others out; empty: all.
--
-- Statistics are those of a chunk, because rows per segment are counted within a chunk, and because nothing analyses a
-- hypertable's root by itself: of its newest eight chunks that were analysed the one with most rows, otherwise those of the
-- root with all it holds. pg_stats shows the columns that the role may read.
WITH hypertable AS MATERIALIZED (
    SELECT ht.id, c.oid,
        (SELECT d.column_name FROM _timescaledb_catalog.dimension d WHERE d.hypertable_id = ht.id AND d.num_slices IS NULL ORDER BY d.id LIMIT 1) AS time_column
    FROM _timescaledb_catalog.hypertable ht
    JOIN pg_namespace n ON n.nspname = ht.schema_name
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = ht.table_name
    WHERE ht.compression_state <> 2 AND (cardinality($1::int[]) = 0 OR ht.id = ANY ($1::int[]))
), analysed AS MATERIALIZED (
    -- Chunks are numbered as they are made; the newest are those with the highest oids, save after a wrap-around.
    SELECT h.id, newest.oid, newest.relname, newest.nspname, newest.rows
    FROM hypertable h
    CROSS JOIN LATERAL (
        SELECT few.oid, few.relname, few.nspname, few.rows
        FROM (
            SELECT c.oid, c.relname, n.nspname, c.reltuples::bigint AS rows
            FROM pg_inherits i
            JOIN pg_class c ON c.oid = i.inhrelid
            JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE i.inhparent = h.oid AND c.reltuples > 0
            ORDER BY i.inhrelid DESC
            LIMIT 8
        ) few
        ORDER BY few.rows DESC
        LIMIT 1
    ) newest
), statistics AS MATERIALIZED (
    SELECT a.id, st.attname, a.rows, st.n_distinct, st.null_frac, st.correlation
    FROM analysed a
    JOIN pg_stats st ON st.schemaname = a.nspname AND st.tablename = a.relname AND NOT st.inherited
    UNION ALL
    SELECT h.id, st.attname, c.reltuples::bigint, st.n_distinct, st.null_frac, st.correlation
    FROM hypertable h
    JOIN pg_class c ON c.oid = h.oid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_stats st ON st.schemaname = n.nspname AND st.tablename = c.relname AND st.inherited
    WHERE c.reltuples > 0 AND NOT EXISTS (SELECT FROM analysed a WHERE a.id = h.id)
)
SELECT jsonb_build_object(
    'id', h.id,
    'time_column', h.time_column,
    'readable', has_any_column_privilege(h.oid, 'SELECT'),
    'columns', (
        SELECT coalesce(jsonb_agg(
            jsonb_build_object(
                'name', a.attname,
                'type', format_type(a.atttypid, NULL),
                'can_segment', ty.typcategory IN ('N', 'S', 'B', 'E', 'U', 'I')
                    AND a.atttypid NOT IN ('float4'::regtype, 'float8'::regtype, 'json'::regtype, 'jsonb'::regtype, 'bytea'::regtype, 'xml'::regtype),
                'statistics', CASE WHEN st.rows > 0 THEN jsonb_build_object(
                    'rows', st.rows,
                    -- Negative: that share of the rows.
                    'distinct', CASE WHEN st.n_distinct < 0 THEN -st.n_distinct * st.rows ELSE st.n_distinct END,
                    'null_share', st.null_frac,
                    'correlation', st.correlation
                ) END
            ) ORDER BY a.attnum
        ), '[]')
        FROM pg_attribute a
        JOIN pg_type ty ON ty.oid = a.atttypid
        LEFT JOIN statistics st ON st.id = h.id AND st.attname = a.attname
        WHERE a.attrelid = h.oid AND a.attnum > 0 AND NOT a.attisdropped
    ),
    'indexes', (
        SELECT coalesce(jsonb_agg(
            jsonb_build_object(
                'name', ic.relname,
                'unique', i.indisunique,
                'partial', i.indpred IS NOT NULL,
                -- An expression is null.
                'columns', (
                    SELECT jsonb_agg(a.attname ORDER BY k)
                    FROM generate_series(0, i.indnkeyatts - 1) k
                    LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k] AND a.attnum <> 0
                )
            ) ORDER BY ic.relname
        ), '[]')
        FROM pg_index i
        JOIN pg_class ic ON ic.oid = i.indexrelid
        JOIN pg_am am ON am.oid = ic.relam AND am.amname = 'btree'
        WHERE i.indrelid = h.oid AND i.indisvalid
    )
)
FROM hypertable h
