-- Chunks, sizes, ages and backlogs of every hypertable that applications see, continuous aggregates by their views. The
-- expensive read: it looks at every chunk, so it runs at its own interval and nothing is decided by it.
--
-- $1 to $4 are the policies in force: hypertable ids, kinds ('compression', 'retention'), measures ('time', 'integer',
-- 'created') and ages, as the observation has read them. What time it is for integers is in the setting
-- timescaledb_policy_operator.integer_now (see integer_now.sql). Counted as the jobs select, by the ranges in the catalog.
-- Compressed data is a relation of its own: a child of the internal hypertable (before 2.29), and what
-- compression_settings.compress_relid names (2.19 and later). Chunks that were dropped and whose row was kept (before 2.26)
-- have no ranges. Times that not every library can read (infinite, before year 1, after 9999) are null.
WITH dimension AS MATERIALIZED (
    SELECT DISTINCT ON (d.hypertable_id) d.hypertable_id, d.id, d.column_type,
        d.column_type IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) AS is_integer,
        d.partitioning_func IS NULL AS is_plain
    FROM _timescaledb_catalog.dimension d
    WHERE d.num_slices IS NULL
    ORDER BY d.hypertable_id, d.id
), boundary AS MATERIALIZED (
    SELECT q.hypertable_id,
        max(b.below) FILTER (WHERE q.kind = 'compression') AS compress_below,
        max(b.created) FILTER (WHERE q.kind = 'compression') AS compress_created,
        max(b.below) FILTER (WHERE q.kind = 'retention') AS drop_below,
        max(b.created) FILTER (WHERE q.kind = 'retention') AS drop_created
    FROM unnest($1::int[], $2::text[], $3::text[], $4::text[]) q (hypertable_id, kind, measure, age)
    JOIN dimension d ON d.hypertable_id = q.hypertable_id
    CROSS JOIN LATERAL (
        SELECT
            -- Further back than any row, but not before the beginning of time.
            now() - greatest(least(CASE WHEN q.measure <> 'integer' THEN q.age::interval END, '4000 years'), '-4000 years') AS time,
            (nullif(current_setting('timescaledb_policy_operator.integer_now', true), '')::jsonb ->> q.hypertable_id::text)::numeric AS integer
    ) t
    CROSS JOIN LATERAL (
        SELECT
            CASE
                WHEN NOT d.is_plain THEN NULL
                WHEN q.measure = 'integer' AND d.is_integer AND t.integer IS NOT NULL
                THEN least(greatest(t.integer - q.age::numeric, -9223372036854775808), 9223372036854775807)::bigint
                WHEN q.measure = 'time' AND NOT d.is_integer
                THEN (1000000 * extract(
                    epoch FROM CASE d.column_type WHEN 'date'::regtype THEN t.time::date::timestamptz ELSE t.time END
                ))::bigint
            END AS below,
            CASE WHEN q.measure = 'created' THEN t.time END AS created
    ) b
    GROUP BY q.hypertable_id
), chunk AS (
    SELECT ch.hypertable_id,
        count(*) AS chunks,
        count(*) FILTER (WHERE ch.status & 1 = 1) AS compressed,
        min(s.range_start) AS oldest,
        max(s.range_end) AS newest,
        -- Frozen chunks (4) are left alone.
        count(*) FILTER (
            WHERE ch.status & 5 = 0 AND (s.range_end <= b.compress_below OR ch.creation_time < b.compress_created)
        ) AS to_compress,
        count(*) FILTER (WHERE s.range_end <= b.drop_below OR ch.creation_time < b.drop_created) AS to_drop
    FROM _timescaledb_catalog.chunk ch
    JOIN dimension d ON d.hypertable_id = ch.hypertable_id
    JOIN _timescaledb_catalog.chunk_constraint cc ON cc.chunk_id = ch.id
    JOIN _timescaledb_catalog.dimension_slice s ON s.id = cc.dimension_slice_id AND s.dimension_id = d.id
    LEFT JOIN boundary b ON b.hypertable_id = ch.hypertable_id
    WHERE NOT ch.osm_chunk
    GROUP BY ch.hypertable_id
), child AS MATERIALIZED (
    SELECT coalesce(compressed.of, ht.id) AS hypertable_id, i.inhrelid AS oid
    FROM _timescaledb_catalog.hypertable ht
    LEFT JOIN (
        SELECT h.id AS of, (to_jsonb(h) ->> 'compressed_hypertable_id')::int AS id FROM _timescaledb_catalog.hypertable h
    ) compressed ON compressed.id = ht.id
    JOIN pg_namespace n ON n.nspname = ht.schema_name
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = ht.table_name
    JOIN pg_inherits i ON i.inhparent = c.oid
), relation AS (
    SELECT hypertable_id, oid FROM child
    UNION
    SELECT child.hypertable_id, (to_jsonb(cs) ->> 'compress_relid')::regclass::oid
    FROM child
    JOIN _timescaledb_catalog.compression_settings cs ON cs.relid = child.oid
    WHERE to_jsonb(cs) ->> 'compress_relid' IS NOT NULL
), locked AS MATERIALIZED (
    SELECT l.relation AS oid
    FROM pg_locks l
    WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND l.pid <> pg_backend_pid()
    AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
), size AS (
    -- The exact size takes a lock, and would wait for whoever has a chunk for itself or is about to: then the estimate of
    -- the last VACUUM or ANALYZE stands in for it.
    SELECT r.hypertable_id,
        sum(CASE
            WHEN r.oid IN (SELECT oid FROM locked) THEN c.relpages::bigint * current_setting('block_size')::bigint
            ELSE pg_total_relation_size(r.oid)
        END)::bigint AS bytes
    FROM relation r
    JOIN pg_class c ON c.oid = r.oid
    GROUP BY r.hypertable_id
), compression AS (
    SELECT ch.hypertable_id,
        sum(s.uncompressed_heap_size + s.uncompressed_index_size + s.uncompressed_toast_size)::bigint AS before_bytes,
        sum(s.compressed_heap_size + s.compressed_index_size + s.compressed_toast_size)::bigint AS after_bytes
    FROM _timescaledb_catalog.compression_chunk_size s
    JOIN _timescaledb_catalog.chunk ch ON ch.id = s.chunk_id
    GROUP BY ch.hypertable_id
), invalidation AS (
    -- What was never materialised is a range without a beginning or an end. That without an end begins where refreshes have
    -- got to, the least bigint before the first.
    SELECT l.materialization_id AS hypertable_id,
        count(*) FILTER (
            WHERE l.lowest_modified_value > -9223372036854775808 AND l.greatest_modified_value < 9223372036854775807
        ) AS ranges,
        min(l.lowest_modified_value) FILTER (WHERE l.greatest_modified_value = 9223372036854775807) AS refreshed_to
    FROM _timescaledb_catalog.continuous_aggs_materialization_invalidation_log l
    GROUP BY l.materialization_id
), source_invalidation AS (
    -- What the next refresh of any aggregate on the table takes over into the log of each.
    SELECT l.hypertable_id, count(*) AS ranges
    FROM _timescaledb_catalog.continuous_aggs_hypertable_invalidation_log l
    GROUP BY l.hypertable_id
)
SELECT jsonb_build_object(
    'schema', coalesce(ca.user_view_schema, ht.schema_name),
    'name', coalesce(ca.user_view_name, ht.table_name),
    'chunks', coalesce(chunk.chunks, 0),
    'compressed_chunks', coalesce(chunk.compressed, 0),
    'bytes', coalesce(size.bytes, 0),
    'before_compression_bytes', coalesce(compression.before_bytes, 0),
    'after_compression_bytes', coalesce(compression.after_bytes, 0),
    'oldest', time.oldest,
    'newest', time.newest,
    'chunks_to_compress', CASE
        WHEN b.compress_below IS NOT NULL OR b.compress_created IS NOT NULL THEN coalesce(chunk.to_compress, 0)
    END,
    'chunks_to_drop', CASE
        WHEN b.drop_below IS NOT NULL OR b.drop_created IS NOT NULL THEN coalesce(chunk.to_drop, 0)
    END,
    'watermark', time.watermark,
    'refreshed_to', time.refreshed_to,
    'invalidations', CASE
        WHEN ca.mat_hypertable_id IS NOT NULL THEN coalesce(invalidation.ranges, 0) + coalesce(source.ranges, 0)
    END
)
FROM _timescaledb_catalog.hypertable ht
LEFT JOIN _timescaledb_catalog.continuous_agg ca ON ca.mat_hypertable_id = ht.id
LEFT JOIN _timescaledb_catalog.continuous_aggs_watermark w ON w.mat_hypertable_id = ht.id
LEFT JOIN dimension d ON d.hypertable_id = ht.id
LEFT JOIN boundary b ON b.hypertable_id = ht.id
LEFT JOIN chunk ON chunk.hypertable_id = ht.id
LEFT JOIN size ON size.hypertable_id = ht.id
LEFT JOIN compression ON compression.hypertable_id = ht.id
LEFT JOIN invalidation ON invalidation.hypertable_id = ht.id
LEFT JOIN source_invalidation source ON source.hypertable_id = ca.raw_hypertable_id
CROSS JOIN LATERAL (
    SELECT
        max(e.at) FILTER (WHERE e.what = 'oldest') AS oldest,
        max(e.at) FILTER (WHERE e.what = 'newest') AS newest,
        max(e.at) FILTER (WHERE e.what = 'watermark') AS watermark,
        max(e.at) FILTER (WHERE e.what = 'refreshed_to') AS refreshed_to
    FROM (
        SELECT v.what, 'epoch'::timestamptz + v.micros * interval '1 microsecond' AS at
        FROM (
            VALUES ('oldest', chunk.oldest), ('newest', chunk.newest), ('watermark', w.watermark),
                ('refreshed_to', invalidation.refreshed_to)
        ) v (what, micros)
        WHERE NOT d.is_integer AND d.is_plain AND v.micros BETWEEN -62135596800000000 AND 253402041599000000
    ) e
) time
WHERE ht.compression_state <> 2
