-- What a refresh of the aggregates $1 (schemas), $2 (names) from $3 ago on (NULL: from the beginning) would erase: the
-- buckets that are materialised whole before the oldest row of their source, where the window reaches any of them.
-- In the order of the arguments; null where there are none, and for aggregates by integers, whose windows are none of ours.
-- Times before year 1 and after 9999, which not every library can read, are cut.
WITH kept AS MATERIALIZED (
    -- Once for all: the view cannot be read in parts.
    SELECT c.hypertable_schema, c.hypertable_name, min(c.range_start) AS since
    FROM timescaledb_information.chunks c
    GROUP BY c.hypertable_schema, c.hypertable_name
)
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
JOIN _timescaledb_catalog.hypertable source ON source.id = ca.raw_hypertable_id
LEFT JOIN _timescaledb_catalog.continuous_aggs_bucket_function bf ON bf.mat_hypertable_id = mat.id
CROSS JOIN LATERAL (
    SELECT CASE
        WHEN to_jsonb(bf) ->> 'bucket_width' !~ '^[0-9]+$' THEN (to_jsonb(bf) ->> 'bucket_width')::interval
    END AS width
) b
LEFT JOIN kept ON kept.hypertable_schema = source.schema_name AND kept.hypertable_name = source.table_name
CROSS JOIN LATERAL (
    SELECT coalesce(kept.since, now()) AS source_from
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
