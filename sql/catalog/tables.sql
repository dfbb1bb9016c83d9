-- What the relations named by $1 (schemas) and $2 (names) are, and what keeps TimescaleDB from converting them
-- (create_hypertable's own checks: src/hypertable.c, ts_hypertable_create_from_info). Asked only for tables that are not
-- hypertables yet.
SELECT jsonb_build_object(
    'schema', n.nspname,
    'name', c.relname,
    'table', jsonb_build_object(
        'kind', CASE c.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned_table' WHEN 'v' THEN 'view' WHEN 'm' THEN 'view' ELSE 'other' END,
        'locked', l.locked,
        'bytes', CASE WHEN c.relkind = 'r' AND NOT l.locked THEN pg_relation_size(c.oid) ELSE 0 END,
        'columns', (
            SELECT coalesce(jsonb_object_agg(a.attname, format_type(a.atttypid, NULL)), '{}')
            FROM pg_attribute a
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        ),
        'indexes', (
            SELECT coalesce(jsonb_agg(ic.relname), '[]')
            FROM pg_index i
            JOIN pg_class ic ON ic.oid = i.indexrelid
            WHERE i.indrelid = c.oid
        ),
        'unique_indexes', (
            SELECT coalesce(jsonb_object_agg(ic.relname, (
                SELECT jsonb_agg(coalesce(a.attname, pg_get_indexdef(i.indexrelid, k + 1, true)) ORDER BY k)
                FROM generate_series(0, i.indnkeyatts - 1) k
                LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k] AND a.attnum <> 0
            )), '{}')
            FROM pg_index i
            JOIN pg_class ic ON ic.oid = i.indexrelid
            WHERE i.indrelid = c.oid AND (i.indisunique OR i.indisexclusion)
        ),
        'obstacles', (
            SELECT coalesce(jsonb_agg(o.obstacle), '[]')
            FROM (
                SELECT 'it is a temporary table' WHERE c.relpersistence = 't'
                UNION ALL
                SELECT 'it inherits from another table, or is a partition'
                WHERE EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = c.oid)
                UNION ALL
                SELECT 'another table inherits from it'
                WHERE c.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits h WHERE h.inhparent = c.oid)
                UNION ALL
                SELECT 'it has a rule; drop it with DROP RULE'
                WHERE c.relkind = 'r' AND EXISTS (SELECT FROM pg_rewrite w WHERE w.ev_class = c.oid)
                UNION ALL
                SELECT 'the trigger ' || quote_ident(t.tgname) || ' is a row trigger with a transition table; drop it'
                FROM pg_trigger t
                WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgtype & 1 = 1
                AND (t.tgnewtable IS NOT NULL OR t.tgoldtable IS NOT NULL)
                UNION ALL
                SELECT 'it holds rows and the foreign key ' || quote_ident(k.conname) || ' of ' || k.conrelid::regclass
                    || ' refers to it, so they cannot be moved; drop the foreign key first'
                FROM pg_constraint k
                -- Through pg_depend: pg_constraint has no index on confrelid, and a row for every chunk.
                WHERE k.oid IN (
                    SELECT p.objid
                    FROM pg_depend p
                    WHERE p.refclassid = 'pg_class'::regclass AND p.refobjid = c.oid AND p.classid = 'pg_constraint'::regclass
                )
                AND k.confrelid = c.oid AND k.contype = 'f' AND c.relkind = 'r' AND NOT l.locked AND pg_relation_size(c.oid) > 0
            ) o (obstacle)
        )
    )
)
FROM unnest($1::text[], $2::text[]) wanted (schema_name, relation_name)
JOIN pg_namespace n ON n.nspname = wanted.schema_name
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.relation_name
CROSS JOIN LATERAL (
    -- Reading a size takes a lock: one resource whose table is locked must not hold up the others.
    SELECT EXISTS (
        SELECT FROM pg_locks k
        WHERE k.locktype = 'relation' AND k.relation = c.oid AND k.mode = 'AccessExclusiveLock' AND k.granted
        AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND k.pid <> pg_backend_pid()
    ) AS locked
) l
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
