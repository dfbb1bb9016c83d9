-- Every hypertable: those behind continuous aggregates too, but not the internal ones that held compressed data before
-- 2.29 (compression_state 2). Indexes only of the tables and continuous aggregates named by $1 (schemas) and $2 (names),
-- and, of any hypertable, those whose comment or name says that this operator made them. Columns that came or went between
-- versions are read through to_jsonb, and the table that 2.16 brought through query_to_xml, so that one text serves all.
WITH skipping AS MATERIALIZED (
    -- Chunk skipping is enabled for the columns of the rows of no chunk (0 before 2.18 or so, now NULL). As JSON, which
    -- escapes what XML cannot hold.
    SELECT s.columns
    FROM (
        SELECT CASE WHEN to_regclass('_timescaledb_catalog.chunk_column_stats') IS NOT NULL THEN query_to_xml(
            'SELECT jsonb_object_agg(hypertable_id, columns) AS stats FROM (
                SELECT hypertable_id, jsonb_agg(column_name ORDER BY column_name) AS columns
                FROM _timescaledb_catalog.chunk_column_stats WHERE coalesce(chunk_id, 0) = 0 GROUP BY hypertable_id
            ) s',
            false, true, ''
        ) END AS document
    ) x
    CROSS JOIN LATERAL (
        SELECT (SELECT t.stats::jsonb FROM xmltable('/row' PASSING x.document COLUMNS stats text PATH 'stats') t) AS columns
    ) s
),
marked AS MATERIALIZED (
    SELECT objoid
    FROM pg_description
    WHERE classoid = 'pg_class'::regclass AND objsubid = 0 AND starts_with(description, 'timescaledb-policy-operator: ')
    UNION ALL
    -- All names with this beginning, as the index has them: every chunk has a row there.
    SELECT oid FROM pg_class WHERE relname >= 'tsdbop_building_' AND relname < 'tsdbop_building`' AND relkind IN ('i', 'I')
)
SELECT jsonb_build_object(
    'schema', ht.schema_name,
    'name', ht.table_name,
    'id', ht.id,
    'owner', pg_get_userbyid(c.relowner),
    'dimensions', d.dimensions,
    'integer_now', d.time -> 'integer_now',
    'merge_interval', d.time -> 'merge_interval',
    'columnstore', CASE
        WHEN ht.compression_state = 1 OR (to_jsonb(ht) ->> 'status')::int & 4 = 4 AND cs.relid IS NOT NULL
        THEN jsonb_build_object('segment_by', cs.segmentby, 'order_by', cs.order_by, 'sparse_indexes', cs.sparse_indexes)
    END,
    'tablespaces', (
        SELECT coalesce(jsonb_agg(t.tablespace_name ORDER BY t.id), '[]')
        FROM _timescaledb_catalog.tablespace t
        WHERE t.hypertable_id = ht.id
    ),
    'chunk_skipping', coalesce((SELECT s.columns -> ht.id::text FROM skipping s), '[]'),
    'indexes', coalesce(ix.indexes, '{}')
)
FROM _timescaledb_catalog.hypertable ht
JOIN pg_namespace n ON n.nspname = ht.schema_name
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = ht.table_name
LEFT JOIN _timescaledb_catalog.continuous_agg ca ON ca.mat_hypertable_id = ht.id
JOIN LATERAL (
    SELECT
        jsonb_agg(
            jsonb_build_object(
                'column', dim.column_name,
                'type', format_type(dim.column_type, NULL),
                'partitioning', CASE
                    WHEN dim.num_slices IS NOT NULL THEN jsonb_build_object('hash', dim.num_slices)
                    WHEN t.is_integer THEN jsonb_build_object('integer_range', dim.interval_length)
                    ELSE jsonb_build_object(
                        'range', dim.interval_length / 86400000000 || ' days ' || dim.interval_length % 86400000000 || ' microseconds'
                    )
                END
            ) ORDER BY dim.num_slices IS NOT NULL, dim.id
        ) AS dimensions,
        -- The first of them: the time dimension.
        (jsonb_agg(
            jsonb_build_object(
                'integer_now', CASE
                    WHEN dim.integer_now_func IS NOT NULL
                    THEN to_jsonb(format('%I.%I', dim.integer_now_func_schema, dim.integer_now_func))
                END,
                'merge_interval', CASE
                    WHEN t.is_integer THEN to_jsonb(dim.compress_interval_length)
                    ELSE to_jsonb(
                        dim.compress_interval_length / 86400000000 || ' days '
                        || dim.compress_interval_length % 86400000000 || ' microseconds'
                    )
                END
            ) ORDER BY dim.num_slices IS NOT NULL, dim.id
        )) -> 0 AS time
    FROM _timescaledb_catalog.dimension dim
    CROSS JOIN LATERAL (
        SELECT dim.column_type IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) AS is_integer
    ) t
    WHERE dim.hypertable_id = ht.id
) d ON true
LEFT JOIN LATERAL (
    SELECT s.relid, s.segmentby, (
        SELECT jsonb_agg(
            jsonb_build_object('column', o.col, 'descending', o.descending, 'nulls_first', o.nulls_first) ORDER BY o.ord
        )
        FROM unnest(s.orderby, s.orderby_desc, s.orderby_nullsfirst) WITH ORDINALITY o (col, descending, nulls_first, ord)
    ) AS order_by, (
        -- An entry without a type, {"source": "config"}, is an explicit none: compress_index = ''.
        SELECT coalesce(
            jsonb_agg(
                jsonb_build_object(
                    'kind', CASE e.entry ->> 'type' WHEN 'bloom' THEN 'Bloom' WHEN 'minmax' THEN 'MinMax' ELSE 'FirstLast' END,
                    'columns', CASE jsonb_typeof(e.entry -> 'column')
                        WHEN 'array' THEN e.entry -> 'column'
                        ELSE jsonb_build_array(e.entry -> 'column')
                    END
                ) ORDER BY e.ord
            ) FILTER (WHERE e.entry ? 'type'),
            CASE WHEN count(*) > 0 THEN '[]'::jsonb END
        )
        FROM jsonb_array_elements(
            CASE WHEN jsonb_typeof(to_jsonb(s) -> 'index') = 'array' THEN to_jsonb(s) -> 'index' END
        ) WITH ORDINALITY e (entry, ord)
        WHERE e.entry ->> 'source' = 'config'
    ) AS sparse_indexes
    FROM _timescaledb_catalog.compression_settings s
    WHERE s.relid = c.oid
) cs ON true
LEFT JOIN LATERAL (
    SELECT jsonb_object_agg(
        ic.relname,
        jsonb_build_object(
            'method', am.amname,
            'columns', (
                SELECT jsonb_agg(
                    jsonb_build_object(
                        'column', coalesce(a.attname, pg_get_indexdef(i.indexrelid, k + 1, true)),
                        'descending', i.indoption[k] & 1 = 1,
                        'nulls_first', i.indoption[k] & 2 = 2,
                        -- The default of the type or, for types without one of their own, of the type it is read as.
                        'opclass', CASE
                            WHEN NOT (opc.opcdefault AND (
                                opc.opcintype = y.type
                                OR NOT EXISTS (
                                    SELECT FROM pg_opclass o
                                    WHERE o.opcmethod = opc.opcmethod AND o.opcdefault AND o.opcintype = y.type
                                )
                            ))
                            THEN opc.opcname
                        END,
                        -- The collation of an expression is not stored: any but the database's own is told.
                        'collation', CASE
                            WHEN i.indcollation[k] <> 0 AND i.indcollation[k] <> coalesce(a.attcollation, 'pg_catalog."default"'::regcollation)
                            THEN (SELECT co.collname FROM pg_collation co WHERE co.oid = i.indcollation[k])
                        END
                    ) ORDER BY k
                )
                FROM generate_series(0, i.indnkeyatts - 1) k
                JOIN pg_opclass opc ON opc.oid = i.indclass[k]
                JOIN pg_attribute ia ON ia.attrelid = i.indexrelid AND ia.attnum = k + 1
                LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k] AND a.attnum <> 0
                CROSS JOIN LATERAL (
                    SELECT CASE WHEN ty.typtype = 'd' THEN ty.typbasetype ELSE ty.oid END AS type
                    FROM pg_type ty
                    WHERE ty.oid = coalesce(a.atttypid, ia.atttypid)
                ) y
            ),
            'include', (
                SELECT coalesce(jsonb_agg(a.attname ORDER BY k), '[]')
                FROM generate_series(i.indnkeyatts, i.indnatts - 1) k
                JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k]
            ),
            'predicate', pg_get_expr(i.indpred, i.indrelid, true),
            'unique', i.indisunique OR i.indisexclusion,
            'valid', i.indisvalid,
            'comment', obj_description(i.indexrelid, 'pg_class'),
            -- Through pg_depend: pg_constraint has no index on conindid. Its own constraint, or a foreign key to it.
            'constraint', EXISTS (
                SELECT FROM pg_depend p
                WHERE p.classid = 'pg_class'::regclass AND p.objid = i.indexrelid AND p.objsubid = 0
                AND p.refclassid = 'pg_constraint'::regclass
            ) OR EXISTS (
                SELECT FROM pg_depend p
                WHERE p.refclassid = 'pg_class'::regclass AND p.refobjid = i.indexrelid
                AND p.classid = 'pg_constraint'::regclass
            )
        )
    ) AS indexes
    FROM pg_index i
    JOIN pg_class ic ON ic.oid = i.indexrelid
    JOIN pg_am am ON am.oid = ic.relam
    WHERE i.indrelid = c.oid
    AND (
        (ht.schema_name::text, ht.table_name::text) IN (SELECT * FROM unnest($1::text[], $2::text[]))
        OR (ca.user_view_schema::text, ca.user_view_name::text) IN (SELECT * FROM unnest($1::text[], $2::text[]))
        OR i.indexrelid IN (SELECT objoid FROM marked)
    )
) ix ON true
WHERE ht.compression_state <> 2
