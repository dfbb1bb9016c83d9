-- What sql/catalog/hypertables.sql does not tell of the hypertables $1 (ids): partitioning functions of somebody's own, a
-- schema of their own for the chunks, and of each index its definition and what of it no resource can say. Catalogs only.
SELECT jsonb_build_object(
    'id', ht.id,
    'partitioning_functions', (
        SELECT coalesce(jsonb_object_agg(d.column_name, format('%I.%I', d.partitioning_func_schema, d.partitioning_func)), '{}')
        FROM _timescaledb_catalog.dimension d
        WHERE d.hypertable_id = ht.id AND d.partitioning_func IS NOT NULL
        AND NOT (d.num_slices IS NOT NULL AND d.partitioning_func_schema LIKE '\_timescaledb\_%' AND d.partitioning_func = 'get_partition_hash')
    ),
    'chunk_schema', nullif(ht.associated_schema_name, '_timescaledb_internal'),
    'indexes', (
        SELECT coalesce(
            jsonb_object_agg(
                ic.relname,
                jsonb_build_object(
                    'definition', pg_get_indexdef(i.indexrelid),
                    'on_expression', i.indexprs IS NOT NULL,
                    'unsaid', to_jsonb(array_remove(
                        ARRAY[
                            'WITH (' || array_to_string(ic.reloptions, ', ') || ')',
                            'TABLESPACE ' || quote_ident(ts.spcname),
                            -- PostgreSQL 15 and later.
                            CASE WHEN (to_jsonb(i) ->> 'indnullsnotdistinct')::boolean THEN 'NULLS NOT DISTINCT' END
                        ],
                        NULL
                    ))
                )
            ),
            '{}'
        )
        FROM pg_index i
        JOIN pg_class ic ON ic.oid = i.indexrelid
        LEFT JOIN pg_tablespace ts ON ts.oid = ic.reltablespace
        WHERE i.indrelid = c.oid
    )
)
FROM _timescaledb_catalog.hypertable ht
JOIN pg_namespace n ON n.nspname = ht.schema_name
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = ht.table_name
WHERE ht.id = ANY ($1::int[])
