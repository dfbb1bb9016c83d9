-- What the chunks of every hypertable hold, also of those behind continuous aggregates, added up for chunks of the same
-- range of time (space partitions). $1 are the ids of hypertables to leave all others out; empty: all. One row for each
-- hypertable with chunks; it looks at every chunk of them.
--
-- Compressed data is a relation of its own: another chunk (compressed_chunk_id, before 2.29), and what
-- compression_settings.compress_relid names (2.19 and later). Chunks that were dropped and whose row was kept (before 2.26)
-- have no ranges.
WITH dimension AS MATERIALIZED (
    SELECT DISTINCT ON (d.hypertable_id) d.hypertable_id, d.id,
        d.column_type IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) AS is_integer,
        d.partitioning_func IS NULL AS is_plain
    FROM _timescaledb_catalog.dimension d
    JOIN _timescaledb_catalog.hypertable ht ON ht.id = d.hypertable_id AND ht.compression_state <> 2
    WHERE d.num_slices IS NULL AND (cardinality($1::int[]) = 0 OR d.hypertable_id = ANY ($1::int[]))
    ORDER BY d.hypertable_id, d.id
), named AS MATERIALIZED (
    -- The catalog names chunks by schema and table before 2.29, by relid since.
    SELECT ch.id, coalesce((to_jsonb(ch) ->> 'relid')::regclass::oid, c.oid) AS oid,
        (to_jsonb(ch) ->> 'compressed_chunk_id')::int AS compressed_id
    FROM _timescaledb_catalog.chunk ch
    LEFT JOIN pg_namespace n ON n.nspname = to_jsonb(ch) ->> 'schema_name'
    LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = to_jsonb(ch) ->> 'table_name'
), locked AS MATERIALIZED (
    SELECT l.relation AS oid
    FROM pg_locks l
    WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND l.pid <> pg_backend_pid()
    AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
), chunk AS (
    SELECT ch.hypertable_id, s.range_start, s.range_end, ch.creation_time,
        ch.status & 1 = 1 AS is_compressed,
        own.total_bytes + coalesce(compressed.total_bytes, 0) AS bytes,
        own.total_bytes, own.index_bytes, own.rows, own.inserted, own.updated, own.deleted,
        size.before_bytes, size.before_index_bytes, size.after_bytes, size.rows AS compressed_rows
    FROM _timescaledb_catalog.chunk ch
    JOIN dimension d ON d.hypertable_id = ch.hypertable_id
    JOIN _timescaledb_catalog.chunk_constraint cc ON cc.chunk_id = ch.id
    JOIN _timescaledb_catalog.dimension_slice s ON s.id = cc.dimension_slice_id AND s.dimension_id = d.id
    JOIN named ON named.id = ch.id
    LEFT JOIN named companion ON companion.id = named.compressed_id
    LEFT JOIN _timescaledb_catalog.compression_settings cs ON cs.relid = named.oid
    LEFT JOIN (
        SELECT z.chunk_id,
            sum(z.uncompressed_heap_size + z.uncompressed_index_size + z.uncompressed_toast_size)::bigint AS before_bytes,
            sum(z.uncompressed_index_size)::bigint AS before_index_bytes,
            sum(z.compressed_heap_size + z.compressed_index_size + z.compressed_toast_size)::bigint AS after_bytes,
            sum(z.numrows_pre_compression)::bigint AS rows
        FROM _timescaledb_catalog.compression_chunk_size z
        GROUP BY z.chunk_id
    ) size ON size.chunk_id = ch.id
    -- The exact size takes a lock, and would wait for whoever has a chunk for itself or is about to: then the estimate of
    -- the last VACUUM or ANALYZE stands in for it.
    CROSS JOIN LATERAL (
        SELECT
            CASE
                WHEN c.oid IN (SELECT oid FROM locked) THEN c.relpages::bigint * current_setting('block_size')::bigint
                ELSE pg_total_relation_size(c.oid)
            END AS total_bytes,
            CASE WHEN c.oid IN (SELECT oid FROM locked) THEN 0 ELSE pg_indexes_size(c.oid) END AS index_bytes,
            greatest(c.reltuples::bigint, pg_stat_get_live_tuples(c.oid), 0) AS rows,
            pg_stat_get_tuples_inserted(c.oid) AS inserted,
            pg_stat_get_tuples_updated(c.oid) AS updated,
            pg_stat_get_tuples_deleted(c.oid) AS deleted
        FROM pg_class c
        WHERE c.oid = named.oid
    ) own
    LEFT JOIN LATERAL (
        SELECT CASE
            WHEN c.oid IN (SELECT oid FROM locked) THEN c.relpages::bigint * current_setting('block_size')::bigint
            ELSE pg_total_relation_size(c.oid)
        END AS total_bytes
        FROM pg_class c
        WHERE c.oid = coalesce((to_jsonb(cs) ->> 'compress_relid')::regclass::oid, companion.oid)
    ) compressed ON true
    WHERE NOT ch.osm_chunk
)
SELECT jsonb_build_object(
    'id', slice.hypertable_id,
    'is_integer', bool_or(d.is_integer),
    'slices', jsonb_agg(
        jsonb_build_object(
            'start', slice.range_start,
            'end', slice.range_end,
            'created', slice.created,
            'chunks', slice.chunks,
            'compressed_chunks', slice.compressed_chunks,
            'bytes', slice.bytes,
            'uncompressed_bytes', slice.uncompressed_bytes,
            'uncompressed_index_bytes', slice.uncompressed_index_bytes,
            'before_bytes', slice.before_bytes,
            'after_bytes', slice.after_bytes,
            'rows', slice.rows,
            'inserted_rows', slice.inserted_rows,
            'changed_rows', slice.changed_rows
        ) ORDER BY slice.range_start
    )
)
FROM (
    SELECT hypertable_id, range_start, range_end,
        min(creation_time) AS created,
        count(*) AS chunks,
        count(*) FILTER (WHERE is_compressed) AS compressed_chunks,
        sum(bytes)::bigint AS bytes,
        sum(CASE WHEN is_compressed THEN coalesce(before_bytes, bytes) ELSE total_bytes END)::bigint AS uncompressed_bytes,
        sum(CASE WHEN is_compressed THEN coalesce(before_index_bytes, 0) ELSE index_bytes END)::bigint AS uncompressed_index_bytes,
        coalesce(sum(before_bytes) FILTER (WHERE is_compressed), 0)::bigint AS before_bytes,
        coalesce(sum(after_bytes) FILTER (WHERE is_compressed), 0)::bigint AS after_bytes,
        sum(CASE WHEN is_compressed THEN coalesce(compressed_rows, rows) ELSE rows END)::bigint AS rows,
        sum(inserted)::bigint AS inserted_rows,
        -- Compression may delete what it has compressed.
        sum(updated + CASE WHEN is_compressed THEN 0 ELSE deleted END)::bigint AS changed_rows
    FROM chunk
    GROUP BY hypertable_id, range_start, range_end
) slice
JOIN dimension d ON d.hypertable_id = slice.hypertable_id
WHERE d.is_plain
GROUP BY slice.hypertable_id
