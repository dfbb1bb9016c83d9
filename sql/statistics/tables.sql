-- Chunks and sizes of every hypertable that applications see. The expensive read: it takes a short lock on every chunk,
-- so it runs at its own interval and nothing is decided by it. Compressed data is a relation of its own, known from
-- compression_settings.compress_relid (2.19 and later) or from the chunk it belongs to (before).
WITH chunk AS (
    SELECT ht.id AS hypertable_id, i.inhrelid AS oid
    FROM _timescaledb_catalog.hypertable ht
    JOIN pg_namespace n ON n.nspname = ht.schema_name
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = ht.table_name
    JOIN pg_inherits i ON i.inhparent = c.oid
    WHERE ht.compression_state <> 2
), compressed AS (
    SELECT chunk.hypertable_id, (to_jsonb(cs) ->> 'compress_relid')::regclass::oid AS oid
    FROM chunk
    JOIN _timescaledb_catalog.compression_settings cs ON cs.relid = chunk.oid
    WHERE to_jsonb(cs) ->> 'compress_relid' IS NOT NULL
), size AS (
    SELECT hypertable_id, sum(pg_total_relation_size(oid))::bigint AS bytes
    FROM (SELECT * FROM chunk UNION ALL SELECT * FROM compressed) relation
    GROUP BY hypertable_id
), compression AS (
    SELECT ch.hypertable_id, count(*) AS chunks,
        sum(s.uncompressed_heap_size + s.uncompressed_index_size + s.uncompressed_toast_size)::bigint AS before_bytes,
        sum(s.compressed_heap_size + s.compressed_index_size + s.compressed_toast_size)::bigint AS after_bytes
    FROM _timescaledb_catalog.compression_chunk_size s
    JOIN _timescaledb_catalog.chunk ch ON ch.id = s.chunk_id
    GROUP BY ch.hypertable_id
), chunks AS (
    SELECT hypertable_id, count(*) AS chunks FROM chunk GROUP BY hypertable_id
)
SELECT jsonb_build_object(
    'schema', ht.schema_name,
    'name', ht.table_name,
    'chunks', coalesce(chunks.chunks, 0),
    'compressed_chunks', coalesce(compression.chunks, 0),
    'bytes', coalesce(size.bytes, 0),
    'before_compression_bytes', coalesce(compression.before_bytes, 0),
    'after_compression_bytes', coalesce(compression.after_bytes, 0)
)
FROM _timescaledb_catalog.hypertable ht
LEFT JOIN chunks ON chunks.hypertable_id = ht.id
LEFT JOIN size ON size.hypertable_id = ht.id
LEFT JOIN compression ON compression.hypertable_id = ht.id
WHERE ht.compression_state <> 2
AND NOT EXISTS (SELECT FROM _timescaledb_catalog.continuous_agg ca WHERE ca.mat_hypertable_id = ht.id)
