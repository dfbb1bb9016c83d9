-- What retention policies on the relations $1 (schemas) and $2 (names: of hypertables or continuous aggregates) would drop
-- now, by age $3 in the measure $4: 'time' and 'created' with an interval, 'integer' with an age that is counted back from
-- what the integer_now function of the hypertable returns, as the job does. show_chunks selects as drop_chunks does. In the
-- order of the arguments. @extension@ stands for the quoted schema of TimescaleDB, which is not on the search path: it may
-- be one that others can create functions and operators in. Times that people do not mean, and not every library can read
-- (before year 1, after 9999, infinite), are cut.
SELECT jsonb_build_object(
    'chunks', count(chunk.oid) FILTER (WHERE old.chunk IS NOT NULL),
    'of', count(chunk.oid),
    'rows', coalesce(sum(@extension@.approximate_row_count(chunk.oid::regclass)) FILTER (WHERE old.chunk IS NOT NULL), 0)::bigint,
    'bytes', coalesce(sum(size.total_bytes) FILTER (WHERE old.chunk IS NOT NULL), 0)::bigint,
    'oldest', min(greatest(info.range_start, '0001-01-01 00:00:00+00')) FILTER (WHERE old.chunk IS NOT NULL AND info.range_start IS NOT NULL),
    'newest', max(least(info.range_end, '9999-12-30 00:00:00+00')) FILTER (WHERE old.chunk IS NOT NULL AND info.range_end IS NOT NULL),
    'oldest_integer', min(info.range_start_integer) FILTER (WHERE old.chunk IS NOT NULL),
    'newest_integer', max(info.range_end_integer) FILTER (WHERE old.chunk IS NOT NULL),
    'problem', CASE
        WHEN asked.measure = 'integer' AND NOT bool_or(integer.boundary IS NOT NULL)
        THEN 'no integer_now function is set, or it returns null'
    END
)
FROM (
    SELECT q.*, format('%I.%I', q.schema_name, q.relation_name)::regclass AS relation
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) WITH ORDINALITY q (schema_name, relation_name, age, measure, ord)
) asked
LEFT JOIN LATERAL (
    -- The dimension whose integer_now counts: an aggregate has none of its own and takes its source's, however deep.
    WITH RECURSIVE source (id, column_type, now_schema, now_name, depth) AS (
        SELECT h.id, d.column_type, d.integer_now_func_schema, d.integer_now_func, 0
        FROM _timescaledb_catalog.hypertable h
        JOIN _timescaledb_catalog.dimension d ON d.hypertable_id = h.id AND d.num_slices IS NULL
        LEFT JOIN _timescaledb_catalog.continuous_agg ca ON ca.mat_hypertable_id = h.id
        WHERE asked.measure = 'integer'
        AND (coalesce(ca.user_view_schema, h.schema_name), coalesce(ca.user_view_name, h.table_name)) = (asked.schema_name, asked.relation_name)
        UNION ALL
        SELECT ca.raw_hypertable_id, s.column_type, d.integer_now_func_schema, d.integer_now_func, s.depth + 1
        FROM source s
        JOIN _timescaledb_catalog.continuous_agg ca ON ca.mat_hypertable_id = s.id
        JOIN _timescaledb_catalog.dimension d ON d.hypertable_id = ca.raw_hypertable_id AND d.num_slices IS NULL
        WHERE s.now_name IS NULL
    )
    -- The function is not known before the query runs: the one way to call it that needs no function of our own.
    SELECT s.column_type, greatest(
        (xpath('/row/now/text()', query_to_xml(format('SELECT %I.%I() AS now', s.now_schema, s.now_name), false, true, '')))[1]::text::numeric
            - asked.age::numeric,
        -- Further back than the type reaches there is nothing to drop (and the job fails, 22015).
        CASE s.column_type
            WHEN 'int2'::regtype THEN -32768
            WHEN 'int4'::regtype THEN -2147483648
            ELSE -9223372036854775808
        END
    ) AS boundary
    FROM source s
    WHERE s.now_name IS NOT NULL
    ORDER BY s.depth
    LIMIT 1
) integer ON true
LEFT JOIN LATERAL @extension@.show_chunks(asked.relation) AS chunk (oid) ON true
LEFT JOIN LATERAL (
    -- It takes an integer only of the type of the column. The guards are in the arguments: without a value show_chunks returns every chunk, which the condition then refuses.
    SELECT t.oid
    FROM @extension@.show_chunks(
        asked.relation, older_than => CASE WHEN asked.measure = 'time' THEN asked.age::interval END
    ) t (oid)
    WHERE asked.measure = 'time' AND asked.age IS NOT NULL
    UNION ALL
    SELECT i.oid
    FROM @extension@.show_chunks(
        asked.relation, older_than => CASE WHEN integer.column_type = 'int8'::regtype THEN integer.boundary::bigint END
    ) i (oid)
    WHERE integer.column_type = 'int8'::regtype
    UNION ALL
    SELECT i.oid
    FROM @extension@.show_chunks(
        asked.relation, older_than => CASE WHEN integer.column_type = 'int4'::regtype THEN integer.boundary::int END
    ) i (oid)
    WHERE integer.column_type = 'int4'::regtype
    UNION ALL
    SELECT i.oid
    FROM @extension@.show_chunks(
        asked.relation, older_than => CASE WHEN integer.column_type = 'int2'::regtype THEN integer.boundary::smallint END
    ) i (oid)
    WHERE integer.column_type = 'int2'::regtype
    UNION ALL
    SELECT b.oid
    FROM @extension@.show_chunks(
        asked.relation, created_before => CASE WHEN asked.measure = 'created' THEN asked.age::interval END
    ) b (oid)
    WHERE asked.measure = 'created' AND asked.age IS NOT NULL
) AS old (chunk) ON old.chunk = chunk.oid
LEFT JOIN pg_class c ON c.oid = chunk.oid
LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN timescaledb_information.chunks info ON info.chunk_schema = n.nspname AND info.chunk_name = c.relname
LEFT JOIN LATERAL @extension@.chunks_detailed_size(asked.relation) size ON size.chunk_schema = n.nspname AND size.chunk_name = c.relname
GROUP BY asked.ord, asked.measure
ORDER BY asked.ord
