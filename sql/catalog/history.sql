-- What a refresh of the aggregates $1 (schemas), $2 (names) from $3 ago on (NULL: from the beginning) would erase: the
-- buckets that are materialised whole before the oldest row of their source, where the window reaches any of them.
-- In the order of the arguments; null where there are none, and for aggregates by integers, whose windows are none of ours.
-- Times before year 1 and after 9999, which not every library can read, are cut.
SELECT coalesce(
    CASE
        WHEN m.newest_lost >= coalesce(now() - asked.start_offset::interval, '-infinity')
        THEN jsonb_build_object(
            'from', greatest(m.oldest, '0001-01-01 00:00:00+00'),
            'to', least(s.source_from, '9999-12-30 00:00:00+00')
        )
    END,
    'null'
)
FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY asked (schema_name, view_name, start_offset, ord)
JOIN _timescaledb_catalog.continuous_agg ca
    ON ca.user_view_schema = asked.schema_name AND ca.user_view_name = asked.view_name
JOIN _timescaledb_catalog.hypertable mat ON mat.id = ca.mat_hypertable_id
JOIN _timescaledb_catalog.dimension d ON d.hypertable_id = mat.id AND d.num_slices IS NULL
JOIN _timescaledb_catalog.dimension source_dimension
    ON source_dimension.hypertable_id = ca.raw_hypertable_id AND source_dimension.num_slices IS NULL
LEFT JOIN _timescaledb_catalog.continuous_aggs_bucket_function bf ON bf.mat_hypertable_id = mat.id
CROSS JOIN LATERAL (
    SELECT CASE
        WHEN to_jsonb(bf) ->> 'bucket_width' !~ '^[0-9]+$' THEN (to_jsonb(bf) ->> 'bucket_width')::interval
    END AS width
) b
CROSS JOIN LATERAL (
    -- Not the view of all chunks, which cannot be read in parts. What is tiered lies in a chunk of its own.
    SELECT coalesce(
        (
            SELECT _timescaledb_functions.to_timestamp(s.range_start)
            FROM _timescaledb_catalog.dimension_slice s
            JOIN _timescaledb_catalog.chunk_constraint cc ON cc.dimension_slice_id = s.id
            JOIN _timescaledb_catalog.chunk ch ON ch.id = cc.chunk_id
            WHERE s.dimension_id = source_dimension.id AND NOT ch.osm_chunk
            AND source_dimension.column_type IN ('timestamptz'::regtype, 'timestamp'::regtype, 'date'::regtype, 'uuid'::regtype)
            ORDER BY s.range_start
            LIMIT 1
        ),
        now()
    ) AS source_from
) s
CROSS JOIN LATERAL (
    -- The table is not known before the query runs: the one way to read it that needs no function of our own.
    SELECT CASE
        WHEN d.column_type NOT IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
        THEN query_to_xml(
            format(
                'SELECT (SELECT min(%1$I) FROM %2$I.%3$I)::timestamptz AS oldest, (SELECT max(%1$I) FROM %2$I.%3$I WHERE %1$I <= %4$L::timestamptz)::timestamptz AS newest_lost',
                d.column_name, mat.schema_name, mat.table_name, s.source_from - coalesce(b.width, '0')
            ),
            false, true, ''
        )
    END AS document
) x
CROSS JOIN LATERAL (
    SELECT
        (xpath('/row/oldest/text()', x.document))[1]::text::timestamptz AS oldest,
        (xpath('/row/newest_lost/text()', x.document))[1]::text::timestamptz AS newest_lost
) m
ORDER BY asked.ord
