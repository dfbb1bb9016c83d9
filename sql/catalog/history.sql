-- What a refresh of the aggregates $1 (schemas), $2 (names) from $3 ago on (NULL: from the beginning) would erase: the
-- buckets that are materialised whole before the oldest row of their source, where the window reaches back that far.
-- In the order of the arguments; null where there are none.
SELECT coalesce(
    CASE
        WHEN m.materialized_from + coalesce(b.width, '0') <= s.source_from
        AND (asked.start_offset IS NULL OR now() - asked.start_offset::interval < s.source_from)
        THEN jsonb_build_object('from', m.materialized_from, 'to', s.source_from)
    END,
    'null'
)
FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY asked (schema_name, view_name, start_offset, ord)
JOIN _timescaledb_catalog.continuous_agg ca
    ON ca.user_view_schema = asked.schema_name AND ca.user_view_name = asked.view_name
JOIN _timescaledb_catalog.hypertable mat ON mat.id = ca.mat_hypertable_id
JOIN _timescaledb_catalog.dimension d ON d.hypertable_id = mat.id AND d.num_slices IS NULL
JOIN _timescaledb_catalog.hypertable source ON source.id = ca.raw_hypertable_id
LEFT JOIN _timescaledb_catalog.continuous_aggs_bucket_function bf ON bf.mat_hypertable_id = mat.id
CROSS JOIN LATERAL (
    SELECT CASE
        WHEN to_jsonb(bf) ->> 'bucket_width' !~ '^[0-9]+$' THEN (to_jsonb(bf) ->> 'bucket_width')::interval
    END AS width
) b
CROSS JOIN LATERAL (
    -- The table is not known before the query runs: the one way to read it that needs no function of our own.
    SELECT (xpath(
        '/row/oldest/text()',
        query_to_xml(format('SELECT min(%I)::timestamptz AS oldest FROM %I.%I', d.column_name, mat.schema_name, mat.table_name), false, true, '')
    ))[1]::text::timestamptz AS materialized_from
) m
CROSS JOIN LATERAL (
    SELECT coalesce(min(c.range_start), now()) AS source_from
    FROM timescaledb_information.chunks c
    WHERE c.hypertable_schema = source.schema_name AND c.hypertable_name = source.table_name
) s
ORDER BY asked.ord
