-- How often each index of a hypertable or continuous aggregate is used and how large it is, summed over the chunks. A
-- hypertable's index has a twin on each chunk. Nothing in the catalog of every version ties them together: they have the
-- same definition, and where two of one table have the same too, a name that ends as the hypertable's does.
-- A definition with a predicate and an exact size take locks: tables that somebody has for themselves, or is about to, are
-- left out whole.
WITH locked AS MATERIALIZED (
    SELECT l.relation AS oid
    FROM pg_locks l
    WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND l.pid <> pg_backend_pid()
    AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
), root AS MATERIALIZED (
    SELECT ht.id, c.oid, coalesce(ca.user_view_schema, ht.schema_name) AS schema_name,
        coalesce(ca.user_view_name, ht.table_name) AS relation_name
    FROM _timescaledb_catalog.hypertable ht
    JOIN pg_namespace n ON n.nspname = ht.schema_name
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = ht.table_name
    LEFT JOIN _timescaledb_catalog.continuous_agg ca ON ca.mat_hypertable_id = ht.id
    WHERE ht.compression_state <> 2 AND c.oid NOT IN (SELECT oid FROM locked)
    AND NOT EXISTS (
        SELECT FROM pg_inherits i
        LEFT JOIN pg_index x ON x.indrelid = i.inhrelid
        WHERE i.inhparent = c.oid AND (i.inhrelid IN (SELECT oid FROM locked) OR x.indexrelid IN (SELECT oid FROM locked))
    )
), index AS MATERIALIZED (
    SELECT x.id, x.is_root, i.indexrelid, ic.relname,
        i.indisunique::text || substring(pg_get_indexdef(i.indexrelid) FROM ' USING .*$') AS definition
    FROM (
        SELECT id, oid, true AS is_root FROM root
        UNION ALL
        SELECT r.id, h.inhrelid, false FROM root r JOIN pg_inherits h ON h.inhparent = r.oid
    ) x
    JOIN pg_index i ON i.indrelid = x.oid
    JOIN pg_class ic ON ic.oid = i.indexrelid
), twin AS (
    SELECT DISTINCT ON (c.indexrelid) r.indexrelid AS root, c.indexrelid
    FROM index c
    JOIN index r ON r.id = c.id AND r.is_root AND r.definition = c.definition
    WHERE NOT c.is_root
    ORDER BY c.indexrelid, (right(c.relname, length(r.relname)) = r.relname) DESC, r.relname
), used AS (
    SELECT root, sum(pg_stat_get_numscans(indexrelid))::bigint AS scans, sum(pg_relation_size(indexrelid))::bigint AS bytes
    FROM twin
    GROUP BY root
)
SELECT jsonb_build_object(
    'schema', r.schema_name,
    'name', r.relation_name,
    'index', i.relname,
    'scans', coalesce(u.scans, 0),
    'bytes', coalesce(u.bytes, 0)
)
FROM index i
JOIN root r ON r.id = i.id
LEFT JOIN used u ON u.root = i.indexrelid
WHERE i.is_root
