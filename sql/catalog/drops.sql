-- What retention policies with the ages $3 on the hypertables $1 (schemas) and $2 (names) would drop now: show_chunks
-- selects as drop_chunks does. In the order of the arguments. @extension@ stands for the quoted schema of TimescaleDB, which
-- is not on the search path: it may be one that others can create functions and operators in. Times that people do not
-- mean, and not every library can read (before year 1, after 9999, infinite), are cut.
SELECT jsonb_build_object(
    'chunks', count(chunk.oid) FILTER (WHERE old.chunk IS NOT NULL),
    'of', count(chunk.oid),
    'rows', coalesce(sum(@extension@.approximate_row_count(chunk.oid::regclass)) FILTER (WHERE old.chunk IS NOT NULL), 0)::bigint,
    'bytes', coalesce(sum(size.total_bytes) FILTER (WHERE old.chunk IS NOT NULL), 0)::bigint,
    'oldest', min(greatest(info.range_start, '0001-01-01 00:00:00+00')) FILTER (WHERE old.chunk IS NOT NULL),
    'newest', max(least(info.range_end, '9999-12-30 00:00:00+00')) FILTER (WHERE old.chunk IS NOT NULL)
)
FROM (
    SELECT q.*, format('%I.%I', q.schema_name, q.relation_name)::regclass AS relation
    FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY q (schema_name, relation_name, older_than, ord)
) asked
LEFT JOIN LATERAL @extension@.show_chunks(asked.relation) AS chunk (oid) ON true
LEFT JOIN LATERAL @extension@.show_chunks(asked.relation, older_than => asked.older_than::interval) AS old (chunk) ON old.chunk = chunk.oid
LEFT JOIN pg_class c ON c.oid = chunk.oid
LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN timescaledb_information.chunks info ON info.chunk_schema = n.nspname AND info.chunk_name = c.relname
LEFT JOIN LATERAL @extension@.chunks_detailed_size(asked.relation) size ON size.chunk_schema = n.nspname AND size.chunk_name = c.relname
GROUP BY asked.ord
ORDER BY asked.ord
