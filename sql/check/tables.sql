-- Ordinary tables with at least $1 rows that have a column of time: what speaks for rows that come in the order of time and
-- stay as they are. Not those of the system, of extensions, of TimescaleDB, partitions, and tables that others inherit from.
WITH candidate AS MATERIALIZED (
    SELECT c.oid, n.nspname, c.relname, c.relpages,
        CASE WHEN c.reltuples > 0 THEN c.reltuples::bigint ELSE pg_stat_get_live_tuples(c.oid) END AS rows
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND NOT c.relispartition
    AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^(pg_toast|pg_temp|_timescaledb_)'
    AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid)
    AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid)
    AND NOT EXISTS (
        SELECT FROM _timescaledb_catalog.hypertable ht WHERE ht.schema_name = n.nspname AND ht.table_name = c.relname
    )
    AND NOT EXISTS (
        SELECT FROM pg_depend d
        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
    )
), locked AS MATERIALIZED (
    -- The exact size takes a lock, which whoever changes the table holds.
    SELECT l.relation AS oid
    FROM pg_locks l
    WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND l.pid <> pg_backend_pid()
    AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
)
SELECT jsonb_build_object(
    'schema', c.nspname,
    'name', c.relname,
    'readable', has_table_privilege(c.oid, 'SELECT'),
    'rows', c.rows,
    'bytes', CASE
        WHEN c.oid IN (SELECT oid FROM locked) THEN c.relpages::bigint * current_setting('block_size')::bigint
        ELSE pg_total_relation_size(c.oid)
    END,
    'inserted', pg_stat_get_tuples_inserted(c.oid),
    'updated', pg_stat_get_tuples_updated(c.oid),
    'deleted', pg_stat_get_tuples_deleted(c.oid),
    'time_columns', columns.found
)
FROM candidate c
JOIN LATERAL (
    SELECT jsonb_agg(
        jsonb_build_object('column', a.attname, 'not_null', a.attnotnull, 'correlation', st.correlation) ORDER BY a.attnum
    ) AS found
    FROM pg_attribute a
    LEFT JOIN LATERAL (
        -- OFFSET keeps the view in its place, where it is read by index; joined it would be read whole for each table.
        SELECT x.correlation
        FROM pg_stats x
        WHERE x.schemaname = c.nspname AND x.tablename = c.relname AND x.attname = a.attname AND NOT x.inherited
        OFFSET 0
    ) st ON true
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    AND a.atttypid IN ('timestamptz'::regtype, 'timestamp'::regtype, 'date'::regtype)
) columns ON columns.found IS NOT NULL
WHERE c.rows >= $1::bigint
