-- A digest of all that hypertables.sql and aggregates.sql read, with the same parameters: of the rows as they are, which
-- takes a fraction of the time that putting them together takes. What those read must be in it, or a change is not seen.
SELECT md5(ARRAY[
    (
        SELECT string_agg(concat_ws('|', ht::text, c.oid, pg_get_userbyid(c.relowner), s.settings), E'\n' ORDER BY ht.id)
        FROM _timescaledb_catalog.hypertable ht
        JOIN pg_namespace n ON n.nspname = ht.schema_name
        JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = ht.table_name
        LEFT JOIN (SELECT cs.relid, cs::text AS settings FROM _timescaledb_catalog.compression_settings cs) s ON s.relid = c.oid
        WHERE ht.compression_state <> 2
    ),
    (
        SELECT string_agg(concat_ws('|', d::text, format_type(d.column_type, NULL)), E'\n' ORDER BY d.id)
        FROM _timescaledb_catalog.dimension d
    ),
    (SELECT string_agg(t::text, E'\n' ORDER BY t.id) FROM _timescaledb_catalog.tablespace t),
    CASE WHEN to_regclass('_timescaledb_catalog.chunk_column_stats') IS NOT NULL THEN query_to_xml(
        'SELECT md5(string_agg(concat_ws(''|'', hypertable_id, column_name), chr(10) ORDER BY hypertable_id, column_name)) AS stats
        FROM _timescaledb_catalog.chunk_column_stats WHERE coalesce(chunk_id, 0) = 0',
        true, true, ''
    )::text END,
    (
        SELECT string_agg(
            concat_ws('|', ca::text, bf::text, md5(r.ev_action::text), obj_description(uv.oid, 'pg_class')), E'\n' ORDER BY ca.mat_hypertable_id
        )
        FROM _timescaledb_catalog.continuous_agg ca
        JOIN pg_namespace un ON un.nspname = ca.user_view_schema
        JOIN pg_class uv ON uv.relnamespace = un.oid AND uv.relname = ca.user_view_name
        JOIN pg_namespace n ON n.nspname = ca.direct_view_schema
        JOIN pg_class v ON v.relnamespace = n.oid AND v.relname = ca.direct_view_name
        JOIN pg_rewrite r ON r.ev_class = v.oid
        LEFT JOIN _timescaledb_catalog.continuous_aggs_bucket_function bf ON bf.mat_hypertable_id = ca.mat_hypertable_id
    ),
    (
        -- Not by pg_get_indexdef, which takes a lock on the table.
        SELECT string_agg(
            concat_ws(
                '|', ic.relname, ic.relam, i::text, obj_description(i.indexrelid, 'pg_class'), k.constraints, k.attributes, k.opclasses, k.collations
            ),
            E'\n' ORDER BY i.indexrelid
        )
        FROM (
            SELECT i.indexrelid
            FROM (
                SELECT ht.schema_name, ht.table_name
                FROM unnest($1::text[], $2::text[]) named (schema_name, table_name)
                JOIN _timescaledb_catalog.hypertable ht
                    ON ht.schema_name = named.schema_name AND ht.table_name = named.table_name
                UNION ALL
                SELECT ht.schema_name, ht.table_name
                FROM unnest($1::text[], $2::text[]) named (schema_name, table_name)
                JOIN _timescaledb_catalog.continuous_agg ca
                    ON ca.user_view_schema = named.schema_name AND ca.user_view_name = named.table_name
                JOIN _timescaledb_catalog.hypertable ht ON ht.id = ca.mat_hypertable_id
            ) h
            JOIN pg_namespace n ON n.nspname = h.schema_name
            JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = h.table_name
            JOIN pg_index i ON i.indrelid = c.oid
            UNION
            SELECT objoid
            FROM pg_description
            WHERE classoid = 'pg_class'::regclass AND objsubid = 0 AND starts_with(description, 'timescaledb-policy-operator: ')
            UNION
            SELECT oid FROM pg_class WHERE relname >= 'tsdbop_building_' AND relname < 'tsdbop_building`' AND relkind IN ('i', 'I')
        ) x
        JOIN pg_index i ON i.indexrelid = x.indexrelid
        JOIN pg_class ic ON ic.oid = i.indexrelid
        CROSS JOIN LATERAL (
            SELECT EXISTS (
                SELECT FROM pg_depend p
                WHERE p.classid = 'pg_class'::regclass AND p.objid = i.indexrelid AND p.objsubid = 0
                AND p.refclassid = 'pg_constraint'::regclass
            ) OR EXISTS (
                SELECT FROM pg_depend p
                WHERE p.refclassid = 'pg_class'::regclass AND p.refobjid = i.indexrelid
                AND p.classid = 'pg_constraint'::regclass
            ) AS constraints,
            (
                SELECT string_agg(concat_ws(' ', a.attname, a.atttypid, a.attcollation), ',' ORDER BY a.attrelid, a.attnum)
                FROM pg_attribute a
                WHERE a.attrelid IN (i.indrelid, i.indexrelid) AND a.attnum > 0 AND NOT a.attisdropped
            ) AS attributes,
            (
                SELECT string_agg(concat_ws(' ', o.oid, o.opcname, o.opcdefault), ',' ORDER BY o.oid)
                FROM pg_opclass o
                WHERE o.oid = ANY (i.indclass)
            ) AS opclasses,
            (SELECT string_agg(c.collname, ',' ORDER BY c.oid) FROM pg_collation c WHERE c.oid = ANY (i.indcollation)) AS collations
        ) k
    )
]::text)
