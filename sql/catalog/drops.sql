-- What retention policies on the relations $1 (schemas) and $2 (names: of hypertables or continuous aggregates) would drop
-- now, by age $3 in the measure $4: 'time' and 'created' with an interval, 'integer' with an age that is counted back from
-- what the integer_now function of the hypertable returns, as the job does. show_chunks selects as drop_chunks does. In the
-- order of the arguments. @extension@ stands for the quoted schema of TimescaleDB, which is not on the search path: it may
-- be one that others can create functions and operators in. Times that people do not mean, and not every library can read
-- (before year 1, after 9999, infinite), are cut.
SELECT jsonb_build_object(
    'chunks', found.chunks,
    'of', found.of,
    'rows', coalesce(found.rows, 0),
    'bytes', coalesce(found.bytes, 0),
    'oldest', CASE WHEN dimension.is_time AND found.oldest IS NOT NULL THEN greatest(_timescaledb_functions.to_timestamp(found.oldest), '0001-01-01 00:00:00+00') END,
    'newest', CASE WHEN dimension.is_time AND found.newest IS NOT NULL THEN least(_timescaledb_functions.to_timestamp(found.newest), '9999-12-30 00:00:00+00') END,
    'oldest_integer', CASE WHEN NOT dimension.is_time THEN found.oldest END,
    'newest_integer', CASE WHEN NOT dimension.is_time THEN found.newest END,
    'problem', CASE
        WHEN asked.measure = 'integer' AND integer.boundary IS NULL
        THEN 'no integer_now function is set, or it returns null: spec.integerNowFunction of the Hypertable names one'
    END
)
FROM (
    SELECT q.*, format('%I.%I', q.schema_name, q.relation_name)::regclass AS relation, coalesce(
        (
            SELECT h.id
            FROM _timescaledb_catalog.hypertable h
            WHERE h.schema_name = q.schema_name::name AND h.table_name = q.relation_name::name
        ),
        (
            SELECT ca.mat_hypertable_id
            FROM _timescaledb_catalog.continuous_agg ca
            WHERE ca.user_view_schema = q.schema_name::name AND ca.user_view_name = q.relation_name::name
        )
    ) AS hypertable_id
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) WITH ORDINALITY q (schema_name, relation_name, age, measure, ord)
    OFFSET 0
) asked
LEFT JOIN LATERAL (
    -- As timescaledb_information.chunks tells times from integers.
    SELECT d.id, d.column_type IN ('timestamptz'::regtype, 'timestamp'::regtype, 'date'::regtype, 'uuid'::regtype) AS is_time
    FROM _timescaledb_catalog.dimension d
    WHERE d.hypertable_id = asked.hypertable_id AND d.num_slices IS NULL
    ORDER BY d.id
    LIMIT 1
) dimension ON true
LEFT JOIN LATERAL (
    -- The dimension whose integer_now counts: an aggregate has none of its own and takes its source's, however deep.
    WITH RECURSIVE source (id, column_type, now_schema, now_name, depth) AS (
        SELECT h.id, d.column_type, d.integer_now_func_schema, d.integer_now_func, 0
        FROM _timescaledb_catalog.hypertable h
        JOIN _timescaledb_catalog.dimension d ON d.hypertable_id = h.id AND d.num_slices IS NULL
        WHERE asked.measure = 'integer' AND h.id = asked.hypertable_id
        UNION ALL
        SELECT ca.raw_hypertable_id, s.column_type, d.integer_now_func_schema, d.integer_now_func, s.depth + 1
        FROM source s
        JOIN _timescaledb_catalog.continuous_agg ca ON ca.mat_hypertable_id = s.id
        JOIN _timescaledb_catalog.dimension d ON d.hypertable_id = ca.raw_hypertable_id AND d.num_slices IS NULL
        WHERE s.now_name IS NULL
    )
    -- The function is not known before the query runs: the one way to call it that needs no function of our own. Further back
    -- than the type reaches there is nothing to drop (and the job fails, 22015); greatest would make that of a null too.
    SELECT s.column_type, CASE WHEN past.boundary < least.boundary THEN least.boundary ELSE past.boundary END AS boundary
    FROM source s
    CROSS JOIN LATERAL (
        SELECT (xpath('/row/now/text()', query_to_xml(format('SELECT %I.%I() AS now', s.now_schema, s.now_name), false, true, '')))[1]::text::numeric
            - asked.age::numeric AS boundary
        -- So that it is called once.
        OFFSET 0
    ) past
    CROSS JOIN LATERAL (
        SELECT CASE s.column_type
            WHEN 'int2'::regtype THEN -32768
            WHEN 'int4'::regtype THEN -2147483648
            ELSE -9223372036854775808
        END AS boundary
    ) least
    WHERE s.now_name IS NOT NULL
    ORDER BY s.depth
    LIMIT 1
) integer ON true
CROSS JOIN LATERAL (
    -- Each function is called once for a relation, and nothing is read of the chunks of others: the view of all chunks cannot
    -- be read in parts.
    SELECT
        count(*) AS of,
        count(old.oid) AS chunks,
        sum(@extension@.approximate_row_count(old.oid::regclass)) FILTER (WHERE old.oid IS NOT NULL)::bigint AS rows,
        sum(pg_total_relation_size(old.oid::regclass) + coalesce(pg_total_relation_size(detail.compressed_oid), 0))
            FILTER (WHERE old.oid IS NOT NULL)::bigint AS bytes,
        min(detail.range_start) FILTER (WHERE old.oid IS NOT NULL) AS oldest,
        max(detail.range_end) FILTER (WHERE old.oid IS NOT NULL) AS newest
    FROM @extension@.show_chunks(asked.relation) chunk (oid)
    LEFT JOIN (
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
        WHERE integer.column_type = 'int8'::regtype AND integer.boundary IS NOT NULL
        UNION ALL
        SELECT i.oid
        FROM @extension@.show_chunks(
            asked.relation, older_than => CASE WHEN integer.column_type = 'int4'::regtype THEN integer.boundary::int END
        ) i (oid)
        WHERE integer.column_type = 'int4'::regtype AND integer.boundary IS NOT NULL
        UNION ALL
        SELECT i.oid
        FROM @extension@.show_chunks(
            asked.relation, older_than => CASE WHEN integer.column_type = 'int2'::regtype THEN integer.boundary::smallint END
        ) i (oid)
        WHERE integer.column_type = 'int2'::regtype AND integer.boundary IS NOT NULL
        UNION ALL
        SELECT b.oid
        FROM @extension@.show_chunks(
            asked.relation, created_before => CASE WHEN asked.measure = 'created' THEN asked.age::interval END
        ) b (oid)
        WHERE asked.measure = 'created' AND asked.age IS NOT NULL
    ) old (oid) ON old.oid = chunk.oid
    LEFT JOIN (
        -- A chunk is named by its relation since 2.29, by its schema and table before; the relation of its compressed rows by
        -- compression_settings since 2.19, by a row of the catalog of its own before 2.29. OFFSET 0: worked out once for each.
        SELECT name.oid, s.range_start, s.range_end, coalesce(
            (to_jsonb(cs) ->> 'compress_relid')::regclass,
            to_regclass(quote_ident(to_jsonb(compressed) ->> 'schema_name') || '.' || quote_ident(to_jsonb(compressed) ->> 'table_name'))
        ) AS compressed_oid
        FROM _timescaledb_catalog.chunk ch
        JOIN _timescaledb_catalog.chunk_constraint cc ON cc.chunk_id = ch.id
        JOIN _timescaledb_catalog.dimension_slice s ON s.id = cc.dimension_slice_id AND s.dimension_id = dimension.id
        CROSS JOIN LATERAL (SELECT to_jsonb(ch) AS columns OFFSET 0) row
        CROSS JOIN LATERAL (
            SELECT coalesce(
                (row.columns ->> 'relid')::regclass,
                to_regclass(quote_ident(row.columns ->> 'schema_name') || '.' || quote_ident(row.columns ->> 'table_name'))
            ) AS oid
            OFFSET 0
        ) name
        LEFT JOIN _timescaledb_catalog.compression_settings cs ON cs.relid = name.oid
        LEFT JOIN _timescaledb_catalog.chunk compressed ON compressed.id = (row.columns ->> 'compressed_chunk_id')::int
        WHERE ch.hypertable_id = asked.hypertable_id AND NOT ch.osm_chunk
    ) detail ON detail.oid = chunk.oid
) found
ORDER BY asked.ord
