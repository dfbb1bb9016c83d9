-- The monitoring views. Each is a thin view over a function, for two reasons. TimescaleDB drops and creates its catalog
-- anew when the extension is updated, and could not if views depended on it; the text of a function is no dependency. And a
-- function runs with the rights of whoever reads the view, on every version of PostgreSQL, where a view reads tables with
-- those of its owner.
--
-- The functions return records, whose columns the views name, so that a function can be replaced whatever its columns are.
-- Names that begin with an underscore are for the views. Columns that came or went between versions of TimescaleDB are read
-- through to_jsonb, so that one text serves all. Bytes are bytes on disk, with indexes; shares are percent.

-- The text as an interval, or null where it is none: the config of a job is anybody's to alter.
CREATE OR REPLACE FUNCTION _interval(value text) RETURNS interval
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
AS $$
BEGIN
    RETURN value::interval;
EXCEPTION WHEN invalid_datetime_format OR datetime_field_overflow OR interval_field_overflow THEN
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION _bigint(value text) RETURNS bigint
LANGUAGE sql IMMUTABLE SET search_path FROM CURRENT
AS $$
    SELECT CASE
        -- A bigint has up to 19 digits, and not every number of 19 digits is one.
        WHEN value ~ '^-?[0-9]{1,19}$' THEN CASE
            WHEN value::numeric BETWEEN -9223372036854775808 AND 9223372036854775807 THEN value::bigint
        END
    END
$$;

-- What the integer_now function of a hypertable returns; null with a warning where it fails, or may not be called.
CREATE OR REPLACE FUNCTION _integer_now(function_schema name, function_name name) RETURNS bigint
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
AS $$
DECLARE
    result bigint;
BEGIN
    IF function_name IS NOT NULL THEN
        EXECUTE format('SELECT %I.%I()', function_schema, function_name) INTO result;
    END IF;
    RETURN result;
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'integer_now function %.%: %', quote_ident(function_schema), quote_ident(function_name), SQLERRM;
    RETURN NULL;
END $$;

-- A time, as ranges of chunks are told, as text of the type of the column.
CREATE OR REPLACE FUNCTION _time_text(value timestamptz, time_type oid) RETURNS text
LANGUAGE sql STABLE SET search_path FROM CURRENT
AS $$
    SELECT CASE
        WHEN time_type IN ('timestamp'::regtype, 'date'::regtype) THEN (value AT TIME ZONE 'UTC')::text
        ELSE value::text
    END
$$;

-- Whether the hypertable holds rows at or after `first` (null: any) and up to `until`. Null where that may not be read, or
-- cannot be asked.
CREATE OR REPLACE FUNCTION _holds_rows(relation oid, time_column name, time_type oid, first text, until text) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
AS $$
DECLARE
    result boolean;
BEGIN
    IF NOT has_table_privilege(relation, 'SELECT') OR until IS NULL OR time_type NOT IN (
        'int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'timestamptz'::regtype, 'timestamp'::regtype, 'date'::regtype
    ) THEN
        RETURN NULL;
    END IF;
    EXECUTE format(
        'SELECT EXISTS (SELECT FROM %1$s WHERE %2$I <= %3$L::%4$s AND %2$I >= %5$s)', relation::regclass, time_column, until,
        time_type::regtype, coalesce(quote_literal(first) || '::' || time_type::regtype, quote_ident(time_column))
    ) INTO result;
    RETURN result;
END $$;

-- Hypertables and continuous aggregates under the names that applications use, with the table whose chunks they are
-- (`relation`), the hypertable they read if they are aggregates, and the present as their policies measure it: for times
-- without a zone that of the session, as if it were UTC, which is how ranges of chunks are told; for integers their clock,
-- an aggregate's that of its source, however deep. Those that the role may read; all for whoever may read all statistics.
CREATE OR REPLACE FUNCTION _tables()
RETURNS TABLE (
    hypertable_id int, kind text, schema_name name, table_name name, relation oid, source_id int,
    time_column name, time_type oid, by_integer boolean, chunk_interval bigint, now_time timestamptz, now_integer bigint
)
LANGUAGE sql STABLE SET search_path FROM CURRENT
AS $$
    WITH RECURSIVE dimension AS (
        SELECT DISTINCT ON (d.hypertable_id)
            d.*, d.column_type IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) AS by_integer
        FROM _timescaledb_catalog.dimension d
        ORDER BY d.hypertable_id, d.num_slices IS NOT NULL, d.id
    ), clock (hypertable_id, source_id, now_schema, now_name) AS (
        SELECT d.hypertable_id, d.hypertable_id, d.integer_now_func_schema, d.integer_now_func
        FROM dimension d
        WHERE d.by_integer
        UNION ALL
        SELECT c.hypertable_id, d.hypertable_id, d.integer_now_func_schema, d.integer_now_func
        FROM clock c
        JOIN _timescaledb_catalog.continuous_agg ca ON ca.mat_hypertable_id = c.source_id
        JOIN dimension d ON d.hypertable_id = ca.raw_hypertable_id
        WHERE c.now_name IS NULL
    )
    SELECT
        ht.id,
        CASE WHEN ca.mat_hypertable_id IS NULL THEN 'Hypertable' ELSE 'ContinuousAggregate' END,
        coalesce(ca.user_view_schema, ht.schema_name),
        coalesce(ca.user_view_name, ht.table_name),
        c.oid,
        ca.raw_hypertable_id,
        d.column_name,
        d.column_type,
        d.by_integer,
        d.interval_length,
        CASE
            WHEN d.by_integer THEN NULL
            WHEN d.column_type IN ('timestamp'::regtype, 'date'::regtype) THEN now()::timestamp AT TIME ZONE 'UTC'
            ELSE now()
        END,
        (SELECT _integer_now(k.now_schema, k.now_name) FROM clock k WHERE k.hypertable_id = ht.id AND k.now_name IS NOT NULL)
    FROM _timescaledb_catalog.hypertable ht
    JOIN pg_namespace n ON n.nspname = ht.schema_name
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = ht.table_name
    JOIN dimension d ON d.hypertable_id = ht.id
    LEFT JOIN _timescaledb_catalog.continuous_agg ca ON ca.mat_hypertable_id = ht.id
    LEFT JOIN pg_namespace vn ON vn.nspname = ca.user_view_schema
    LEFT JOIN pg_class v ON v.relnamespace = vn.oid AND v.relname = ca.user_view_name
    -- 2: the internal tables that held compressed data before 2.29.
    WHERE ht.compression_state <> 2
    AND (has_table_privilege(coalesce(v.oid, c.oid), 'SELECT') OR pg_has_role('pg_read_all_stats', 'USAGE'))
$$;

-- Every chunk, with the relation that holds its compressed data: compression_settings names it (2.19 and later), or the
-- chunk itself (before).
CREATE OR REPLACE FUNCTION _chunks()
RETURNS TABLE (
    hypertable_id int, relation oid, compressed_relation oid, compressed boolean, created timestamptz,
    range_start timestamptz, range_end timestamptz, range_start_integer bigint, range_end_integer bigint
)
LANGUAGE sql STABLE SET search_path FROM CURRENT
AS $$
    WITH named_by_chunk AS (
        SELECT
            to_jsonb(ch) ->> 'schema_name' AS schema_name,
            to_jsonb(ch) ->> 'table_name' AS table_name,
            to_regclass(format('%I.%I', to_jsonb(k) ->> 'schema_name', to_jsonb(k) ->> 'table_name')) AS relation
        FROM _timescaledb_catalog.chunk ch
        JOIN _timescaledb_catalog.chunk k ON k.id = (to_jsonb(ch) ->> 'compressed_chunk_id')::int
        WHERE NOT EXISTS (
            SELECT FROM pg_attribute a
            WHERE a.attrelid = '_timescaledb_catalog.compression_settings'::regclass AND a.attname = 'compress_relid'
        )
    )
    SELECT
        ht.id,
        c.oid,
        coalesce((to_jsonb(cs) ->> 'compress_relid')::regclass, k.relation)::oid,
        ch.is_compressed,
        ch.chunk_creation_time,
        ch.range_start,
        ch.range_end,
        ch.range_start_integer,
        ch.range_end_integer
    FROM timescaledb_information.chunks ch
    JOIN _timescaledb_catalog.hypertable ht ON ht.schema_name = ch.hypertable_schema AND ht.table_name = ch.hypertable_name
    JOIN pg_namespace n ON n.nspname = ch.chunk_schema
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = ch.chunk_name
    LEFT JOIN _timescaledb_catalog.compression_settings cs ON cs.relid = c.oid
    LEFT JOIN named_by_chunk k ON k.schema_name = ch.chunk_schema AND k.table_name = ch.chunk_name
$$;

-- Policy jobs with what the scheduler remembers of them, and a health word with its reason. The age that a policy goes by,
-- or a window's offsets, are read as the jobs read them: by the type of the time column.
CREATE OR REPLACE FUNCTION _jobs(policy text)
RETURNS TABLE (
    job_id int, hypertable_id int, config jsonb, schedule_interval interval, scheduled boolean,
    last_success timestamptz, next_start timestamptz, runs bigint, failures bigint, consecutive_failures int,
    health text, reason text
)
LANGUAGE sql STABLE SET search_path FROM CURRENT
AS $$
    SELECT
        j.id, j.hypertable_id, j.config, j.schedule_interval, j.scheduled, t.last_success, t.next_start,
        coalesce(s.total_runs, 0), coalesce(s.total_failures, 0), coalesce(s.consecutive_failures, 0), h.found[1], h.found[2]
    FROM _timescaledb_config.bgw_job j
    LEFT JOIN _timescaledb_internal.bgw_job_stat s ON s.job_id = j.id
    CROSS JOIN LATERAL (
        SELECT
            nullif(s.last_successful_finish, '-infinity') AS last_success,
            nullif(s.next_start, '-infinity') AS next_start,
            -- A run that goes on has no next start, and counts as crashed until it ends.
            s.last_start > s.last_finish AND s.next_start = '-infinity' AS running
    ) t
    CROSS JOIN LATERAL (
        SELECT CASE
            WHEN NOT j.scheduled AND j.max_retries > 0 AND coalesce(s.consecutive_failures, 0) >= j.max_retries
            THEN ARRAY['critical', format('TimescaleDB gave up after %s failures in a row', s.consecutive_failures)]
            WHEN s.consecutive_failures > 2
            THEN ARRAY['critical', format('failed %s times in a row', s.consecutive_failures)]
            WHEN s.consecutive_crashes > 2 AND NOT t.running
            THEN ARRAY['critical', format('crashed %s times in a row', s.consecutive_crashes)]
            WHEN j.scheduled AND t.next_start < now() - greatest(j.schedule_interval, '5 minutes')
            THEN ARRAY['critical', format('was due at %s and has not started', t.next_start)]
            WHEN NOT j.scheduled
            THEN ARRAY['warning', 'paused']
            WHEN s.consecutive_failures > 0
            THEN ARRAY['warning', 'the last run failed']
            WHEN s.consecutive_crashes > 0 AND NOT t.running
            THEN ARRAY['warning', 'the last run crashed']
            WHEN t.next_start < now() - interval '5 minutes'
            THEN ARRAY['warning', format('was due at %s and has not started', t.next_start)]
            WHEN t.running AND s.last_start < now() - interval '1 day'
            THEN ARRAY['warning', format('a run began at %s and has not ended', s.last_start)]
            WHEN t.next_start IS NULL AND NOT coalesce(t.running, false)
            THEN ARRAY['warning', 'has never started']
            ELSE ARRAY['healthy', NULL]
        END
    ) h (found)
    WHERE j.id >= 1000
    AND j.hypertable_id IS NOT NULL
    AND j.proc_schema = '_timescaledb_functions'
    AND j.proc_name = policy
$$;

-- The chunks that each compression (`policy_compression`) or retention policy (`policy_retention`) is to work on now: a
-- chunk is old enough when its whole range is, as TimescaleDB has it. Not by what a paused policy will do, but by its age.
CREATE OR REPLACE FUNCTION _due(policy text)
RETURNS TABLE (
    job_id int, relation oid, compressed_relation oid, compressed boolean,
    range_start timestamptz, range_end timestamptz, range_start_integer bigint, range_end_integer bigint, due_since interval
)
LANGUAGE sql STABLE SET search_path FROM CURRENT
AS $$
    SELECT
        p.job_id, c.relation, c.compressed_relation, c.compressed,
        c.range_start, c.range_end, c.range_start_integer, c.range_end_integer,
        CASE
            WHEN p.older_than IS NULL THEN now() - (c.created + _interval(p.created_before))
            WHEN NOT p.by_integer THEN p.now_time - (c.range_end + _interval(p.older_than))
        END
    FROM (
        SELECT
            j.job_id, t.hypertable_id, t.by_integer, t.now_time, t.now_integer,
            j.config ->> CASE policy WHEN 'policy_compression' THEN 'compress_after' ELSE 'drop_after' END AS older_than,
            j.config ->> CASE policy WHEN 'policy_compression' THEN 'compress_created_before' ELSE 'drop_created_before' END
                AS created_before
        FROM _jobs(policy) j
        JOIN _tables() t ON t.hypertable_id = j.hypertable_id
    ) p
    JOIN _chunks() c ON c.hypertable_id = p.hypertable_id
    WHERE CASE
        WHEN p.older_than IS NULL THEN c.created < now() - _interval(p.created_before)
        WHEN p.by_integer THEN c.range_end_integer <= p.now_integer::numeric - _bigint(p.older_than)
        ELSE c.range_end <= p.now_time - _interval(p.older_than)
    END
$$;

-- The buckets of aggregates. Before 2.15 or so the aggregate itself has the width, as a number where it is fixed.
CREATE OR REPLACE FUNCTION _buckets() RETURNS TABLE (hypertable_id int, width interval, width_integer bigint)
LANGUAGE sql STABLE SET search_path FROM CURRENT
AS $$
    SELECT
        t.hypertable_id,
        CASE
            WHEN t.by_integer THEN NULL
            WHEN x.width ~ '^[0-9]+$' THEN x.width::bigint * interval '1 microsecond'
            ELSE x.width::interval
        END,
        CASE WHEN t.by_integer THEN x.width::bigint END
    FROM _tables() t
    JOIN _timescaledb_catalog.continuous_agg ca ON ca.mat_hypertable_id = t.hypertable_id
    LEFT JOIN _timescaledb_catalog.continuous_aggs_bucket_function bf ON bf.mat_hypertable_id = t.hypertable_id
    CROSS JOIN LATERAL (SELECT coalesce(to_jsonb(bf) ->> 'bucket_width', to_jsonb(ca) ->> 'bucket_width')) x (width)
$$;

CREATE OR REPLACE FUNCTION _chunk_statistics() RETURNS SETOF record
LANGUAGE sql STABLE SET search_path FROM CURRENT
AS $$
    SELECT
        t.schema_name::text, t.table_name::text, t.kind, t.time_column::text,
        CASE WHEN NOT t.by_integer THEN justify_hours(t.chunk_interval * interval '1 microsecond') END,
        CASE WHEN t.by_integer THEN t.chunk_interval END,
        coalesce(c.chunks, 0), coalesce(c.compressed, 0), round(100.0 * c.compressed / c.chunks, 1),
        coalesce(c.bytes, 0), c.bytes / c.chunks, c.largest,
        c.oldest, c.newest, c.oldest_integer, c.newest_integer
    FROM _tables() t
    LEFT JOIN (
        SELECT
            s.hypertable_id, count(*) AS chunks, count(*) FILTER (WHERE s.compressed) AS compressed,
            sum(s.bytes)::bigint AS bytes, max(s.bytes) AS largest,
            min(s.range_start) AS oldest, max(s.range_end) AS newest,
            min(s.range_start_integer) AS oldest_integer, max(s.range_end_integer) AS newest_integer
        FROM (
            SELECT *, pg_total_relation_size(relation) + coalesce(pg_total_relation_size(compressed_relation), 0) AS bytes
            FROM _chunks()
        ) s
        GROUP BY s.hypertable_id
    ) c ON c.hypertable_id = t.hypertable_id
$$;

CREATE OR REPLACE FUNCTION _compression_statistics() RETURNS SETOF record
LANGUAGE sql STABLE SET search_path FROM CURRENT
AS $$
    SELECT
        t.schema_name::text, t.table_name::text, t.kind,
        (SELECT string_agg(quote_ident(s.name), ', ' ORDER BY s.ord) FROM unnest(cs.segmentby) WITH ORDINALITY s (name, ord)),
        (
            SELECT string_agg(
                quote_ident(o.name) || CASE WHEN o.descending THEN ' DESC' ELSE '' END || CASE
                    WHEN o.nulls_first AND NOT o.descending THEN ' NULLS FIRST'
                    WHEN o.descending AND NOT o.nulls_first THEN ' NULLS LAST'
                    ELSE ''
                END,
                ', ' ORDER BY o.ord
            )
            FROM unnest(cs.orderby, cs.orderby_desc, cs.orderby_nullsfirst) WITH ORDINALITY o (name, descending, nulls_first, ord)
        ),
        coalesce(c.compressed, 0), coalesce(c.chunks, 0) - coalesce(c.compressed, 0),
        coalesce(z.before_bytes, 0), coalesce(z.after_bytes, 0),
        round(z.before_bytes / nullif(z.after_bytes, 0), 2),
        round(100 * (1 - z.after_bytes / nullif(z.before_bytes, 0)), 1)
    FROM _tables() t
    JOIN _timescaledb_catalog.hypertable ht ON ht.id = t.hypertable_id
    LEFT JOIN _timescaledb_catalog.compression_settings cs ON cs.relid = t.relation
    LEFT JOIN (
        SELECT hypertable_id, count(*) AS chunks, count(*) FILTER (WHERE compressed) AS compressed
        FROM _chunks()
        GROUP BY hypertable_id
    ) c ON c.hypertable_id = t.hypertable_id
    LEFT JOIN (
        SELECT
            ch.hypertable_id,
            sum(s.uncompressed_heap_size + s.uncompressed_index_size + s.uncompressed_toast_size) AS before_bytes,
            sum(s.compressed_heap_size + s.compressed_index_size + s.compressed_toast_size) AS after_bytes
        FROM _timescaledb_catalog.compression_chunk_size s
        JOIN _timescaledb_catalog.chunk ch ON ch.id = s.chunk_id
        GROUP BY ch.hypertable_id
    ) z ON z.hypertable_id = t.hypertable_id
    -- Enabled: by the state, or since 2.29 by a bit of the status.
    WHERE ht.compression_state = 1 OR (to_jsonb(ht) ->> 'status')::int & 4 = 4 AND cs.relid IS NOT NULL
$$;

-- A backlog is what was due before the run before last: with two intervals of the schedule gone by, a policy that keeps up
-- has dealt with it.
CREATE OR REPLACE FUNCTION _compression_jobs() RETURNS SETOF record
LANGUAGE sql STABLE SET search_path FROM CURRENT
AS $$
    SELECT
        j.job_id, t.schema_name::text, t.table_name::text, t.kind,
        j.config ->> 'compress_after', j.config ->> 'compress_created_before',
        j.schedule_interval, j.scheduled, j.last_success, j.next_start, j.runs, j.failures, j.consecutive_failures,
        coalesce(d.chunks, 0), coalesce(d.overdue, 0),
        CASE WHEN j.health = 'healthy' AND d.overdue > 0 THEN 'warning' ELSE j.health END,
        CASE
            WHEN j.health = 'healthy' AND d.overdue > 0
            THEN format('%s chunks should have been compressed more than two runs ago', d.overdue)
            ELSE j.reason
        END
    FROM _jobs('policy_compression') j
    JOIN _tables() t ON t.hypertable_id = j.hypertable_id
    LEFT JOIN (
        SELECT d.job_id, count(*) AS chunks, count(*) FILTER (WHERE d.due_since > 2 * j.schedule_interval) AS overdue
        FROM _due('policy_compression') d
        JOIN _jobs('policy_compression') j ON j.job_id = d.job_id
        WHERE NOT d.compressed
        GROUP BY d.job_id
    ) d ON d.job_id = j.job_id
$$;

CREATE OR REPLACE FUNCTION _retention_policies() RETURNS SETOF record
LANGUAGE sql STABLE SET search_path FROM CURRENT
AS $$
    SELECT
        j.job_id, t.schema_name::text, t.table_name::text, t.kind,
        j.config ->> 'drop_after', j.config ->> 'drop_created_before',
        j.schedule_interval, j.scheduled, j.last_success, j.next_start, j.runs, j.failures, j.consecutive_failures,
        coalesce(c.chunks, 0), coalesce(d.chunks, 0), coalesce(d.bytes, 0),
        d.oldest, d.newest, d.oldest_integer, d.newest_integer, j.health, j.reason
    FROM _jobs('policy_retention') j
    JOIN _tables() t ON t.hypertable_id = j.hypertable_id
    LEFT JOIN (
        SELECT hypertable_id, count(*) AS chunks
        FROM _chunks()
        GROUP BY hypertable_id
    ) c ON c.hypertable_id = t.hypertable_id
    LEFT JOIN (
        SELECT
            job_id, count(*) AS chunks,
            sum(pg_total_relation_size(relation) + coalesce(pg_total_relation_size(compressed_relation), 0))::bigint AS bytes,
            min(range_start) AS oldest, max(range_end) AS newest,
            min(range_start_integer) AS oldest_integer, max(range_end_integer) AS newest_integer
        FROM _due('policy_retention')
        GROUP BY job_id
    ) d ON d.job_id = j.job_id
$$;

CREATE OR REPLACE FUNCTION _data_age() RETURNS SETOF record
LANGUAGE sql STABLE SET search_path FROM CURRENT
AS $$
    SELECT
        t.schema_name::text, t.table_name::text, t.kind, b.age_from, b.age_to,
        count(*), count(*) FILTER (WHERE c.compressed),
        sum(pg_total_relation_size(c.relation) + coalesce(pg_total_relation_size(c.compressed_relation), 0))::bigint,
        min(c.range_start), max(c.range_end), min(c.range_start_integer), max(c.range_end_integer)
    FROM _tables() t
    JOIN _chunks() c ON c.hypertable_id = t.hypertable_id
    LEFT JOIN (
        VALUES
            (interval '0', interval '1 day'), ('1 day', '7 days'), ('7 days', '30 days'), ('30 days', '90 days'),
            ('90 days', '365 days'), ('365 days', NULL)
    ) b (age_from, age_to)
        ON greatest(t.now_time, c.range_end) >= c.range_end + b.age_from
        AND (b.age_to IS NULL OR greatest(t.now_time, c.range_end) < c.range_end + b.age_to)
    GROUP BY t.schema_name, t.table_name, t.kind, b.age_from, b.age_to
$$;

-- A hypertable's index has a twin on each chunk. Nothing in the catalog of every version ties them together: they have the
-- same definition, and where two of one table have the same too, a name that ends as the hypertable's does.
CREATE OR REPLACE FUNCTION _index_usage() RETURNS SETOF record
LANGUAGE sql STABLE SET search_path FROM CURRENT
AS $$
    WITH index AS (
        SELECT
            x.hypertable_id, x.root, i.indexrelid, ic.relname, i.indisunique OR i.indisexclusion AS is_unique, i.indisvalid,
            EXISTS (
                SELECT FROM pg_depend p
                WHERE p.classid = 'pg_class'::regclass AND p.objid = i.indexrelid AND p.refclassid = 'pg_constraint'::regclass
            ) AS is_constraint,
            i.indisunique::text || substring(pg_get_indexdef(i.indexrelid) FROM ' USING .*$') AS definition
        FROM (
            SELECT hypertable_id, relation, true AS root FROM _tables()
            UNION ALL
            SELECT c.hypertable_id, c.relation, false FROM _chunks() c JOIN _tables() t ON t.hypertable_id = c.hypertable_id
        ) x
        JOIN pg_index i ON i.indrelid = x.relation
        JOIN pg_class ic ON ic.oid = i.indexrelid
    ), twin AS (
        SELECT DISTINCT ON (c.indexrelid) r.indexrelid AS root, c.indexrelid
        FROM index c
        JOIN index r ON r.hypertable_id = c.hypertable_id AND r.root AND r.definition = c.definition
        WHERE NOT c.root
        ORDER BY c.indexrelid, (right(c.relname, length(r.relname)) = r.relname) DESC, r.relname
    )
    SELECT
        t.schema_name::text, t.table_name::text, t.kind, r.relname::text,
        substring(pg_get_indexdef(r.indexrelid) FROM ' USING (.*)$'), r.is_unique, r.is_constraint, r.indisvalid,
        coalesce(s.scans, 0), coalesce(s.rows_read, 0), coalesce(s.bytes, 0)
    FROM index r
    JOIN _tables() t ON t.hypertable_id = r.hypertable_id
    LEFT JOIN (
        SELECT
            root, sum(pg_stat_get_numscans(indexrelid))::bigint AS scans,
            sum(pg_stat_get_tuples_returned(indexrelid))::bigint AS rows_read, sum(pg_relation_size(indexrelid))::bigint AS bytes
        FROM twin
        GROUP BY root
    ) s ON s.root = r.indexrelid
    WHERE r.root
$$;

CREATE OR REPLACE FUNCTION _missing_indexes() RETURNS SETOF record
LANGUAGE sql STABLE SET search_path FROM CURRENT
AS $$
    WITH scan AS (
        SELECT
            c.hypertable_id,
            sum(pg_stat_get_numscans(c.relation))::bigint AS sequential,
            sum(pg_stat_get_tuples_returned(c.relation))::bigint AS rows_read,
            sum((
                SELECT coalesce(sum(pg_stat_get_numscans(i.indexrelid)), 0) FROM pg_index i WHERE i.indrelid = c.relation
            ))::bigint AS by_index
        FROM _chunks() c
        WHERE NOT c.compressed
        GROUP BY c.hypertable_id
    )
    SELECT
        t.schema_name::text, t.table_name::text, t.kind, f.reason, f.columns,
        f.sequential_scans, f.index_scans, f.rows_per_scan
    FROM _tables() t
    LEFT JOIN scan ON scan.hypertable_id = t.hypertable_id
    CROSS JOIN LATERAL (
        -- A row that is deleted from the other table is looked up in each chunk.
        SELECT 'foreign key without an index' AS reason, (
            SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY k.ord)
            FROM unnest(con.conkey) WITH ORDINALITY k (attnum, ord)
            JOIN pg_attribute a ON a.attrelid = con.conrelid AND a.attnum = k.attnum
        ) AS columns, NULL::bigint AS sequential_scans, NULL::bigint AS index_scans, NULL::bigint AS rows_per_scan
        FROM pg_constraint con
        WHERE con.conrelid = t.relation AND con.contype = 'f'
        -- An index serves whose first columns are these, in any order. An int2vector counts from 0.
        AND NOT EXISTS (
            SELECT FROM pg_index i
            WHERE i.indrelid = t.relation AND i.indisvalid AND i.indpred IS NULL AND i.indnkeyatts >= cardinality(con.conkey)
            AND (i.indkey::int2[])[0:cardinality(con.conkey) - 1] @> con.conkey
        )
        UNION ALL
        SELECT 'no index with the time column', quote_ident(t.time_column), NULL, NULL, NULL
        WHERE NOT EXISTS (
            SELECT FROM pg_index i
            JOIN pg_attribute a ON a.attrelid = t.relation AND a.attname = t.time_column
            WHERE i.indrelid = t.relation AND i.indisvalid AND i.indpred IS NULL
            AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])
        )
        UNION ALL
        SELECT 'read sequentially more often than by index', NULL, scan.sequential, scan.by_index, scan.rows_read / scan.sequential
        WHERE scan.sequential >= 100 AND scan.sequential > scan.by_index AND scan.rows_read / scan.sequential >= 10000
    ) f
$$;

-- How far an aggregate lags: behind what its refresh policy should have done by now, which is to have materialised what is
-- older than the end of its window, one bucket and one interval of the schedule, and not older than the window. 0 where
-- the source holds nothing to materialise since. Of several policies the one that reaches nearest to the present counts.
CREATE OR REPLACE FUNCTION _aggregate_status() RETURNS SETOF record
LANGUAGE sql STABLE SET search_path FROM CURRENT
AS $$
    WITH chunk AS MATERIALIZED (
        SELECT hypertable_id, min(range_start) AS oldest, min(range_start_integer) AS oldest_integer
        FROM _chunks()
        GROUP BY hypertable_id
    ), aggregate AS (
        SELECT
            t.*, ca.materialized_only, source.schema_name AS source_schema, source.table_name AS source_table,
            source_dimension.column_name AS source_column, source_dimension.column_type AS source_type, s.oid AS source_relation,
            b.width, b.width_integer, chunk.oldest AS source_oldest, chunk.oldest_integer AS source_oldest_integer,
            -- The least value of the type: nothing is materialised yet.
            CASE WHEN w.watermark > CASE
                WHEN t.time_type = 'int2'::regtype THEN -32768
                WHEN t.time_type = 'int4'::regtype THEN -2147483648
                WHEN t.by_integer THEN -9223372036854775808
                ELSE -210866803200000000
            END THEN w.watermark END AS watermark,
            (
                SELECT count(*)
                FROM _timescaledb_catalog.continuous_aggs_materialization_invalidation_log l
                WHERE l.materialization_id = t.hypertable_id
            ) AS invalidations
        FROM _tables() t
        JOIN _timescaledb_catalog.continuous_agg ca ON ca.mat_hypertable_id = t.hypertable_id
        JOIN _timescaledb_catalog.hypertable raw ON raw.id = t.source_id
        JOIN pg_namespace sn ON sn.nspname = raw.schema_name
        JOIN pg_class s ON s.relnamespace = sn.oid AND s.relname = raw.table_name
        CROSS JOIN LATERAL (
            SELECT d.column_name, d.column_type
            FROM _timescaledb_catalog.dimension d
            WHERE d.hypertable_id = raw.id
            ORDER BY d.num_slices IS NOT NULL, d.id
            LIMIT 1
        ) source_dimension
        CROSS JOIN LATERAL (
            SELECT
                coalesce(parent.user_view_schema, raw.schema_name) AS schema_name,
                coalesce(parent.user_view_name, raw.table_name) AS table_name
            FROM (SELECT) one
            LEFT JOIN _timescaledb_catalog.continuous_agg parent ON parent.mat_hypertable_id = raw.id
        ) source
        LEFT JOIN chunk ON chunk.hypertable_id = raw.id
        LEFT JOIN _timescaledb_catalog.continuous_aggs_watermark w ON w.mat_hypertable_id = t.hypertable_id
        JOIN _buckets() b ON b.hypertable_id = t.hypertable_id
    ), job AS (
        SELECT DISTINCT ON (j.hypertable_id) j.*
        FROM _jobs('policy_refresh_continuous_aggregate') j
        JOIN aggregate a ON a.hypertable_id = j.hypertable_id
        ORDER BY
            j.hypertable_id,
            CASE WHEN NOT a.by_integer THEN _interval(j.config ->> 'end_offset') END NULLS FIRST,
            CASE WHEN a.by_integer THEN _bigint(j.config ->> 'end_offset') END NULLS FIRST,
            j.job_id
    )
    SELECT
        a.schema_name::text, a.table_name::text, a.source_schema::text, a.source_table::text, a.width, a.width_integer,
        NOT a.materialized_only, j.job_id, j.config ->> 'start_offset', j.config ->> 'end_offset', j.schedule_interval, j.scheduled,
        j.last_success, j.next_start,
        CASE WHEN NOT a.by_integer THEN _timescaledb_functions.to_timestamp(a.watermark) END,
        CASE WHEN a.by_integer THEN a.watermark END,
        CASE WHEN NOT a.by_integer THEN CASE behind.found
            WHEN false THEN interval '0'
            WHEN true THEN due.by_time - due.from_time
        END END,
        CASE WHEN a.by_integer THEN CASE behind.found
            WHEN false THEN 0
            WHEN true THEN due.by_integer - due.from_integer
        END END,
        a.invalidations,
        CASE
            WHEN j.job_id IS NULL THEN 'warning'
            WHEN j.health = 'healthy' AND behind.found THEN 'warning'
            ELSE j.health
        END,
        CASE
            WHEN j.job_id IS NULL THEN 'has no refresh policy'
            WHEN j.health = 'healthy' AND behind.found THEN 'is behind its schedule'
            ELSE j.reason
        END
    FROM aggregate a
    LEFT JOIN job j ON j.hypertable_id = a.hypertable_id
    CROSS JOIN LATERAL (
        SELECT
            CASE WHEN j.job_id IS NOT NULL THEN
                a.now_time - coalesce(_interval(CASE WHEN NOT a.by_integer THEN j.config ->> 'end_offset' END), '0') - a.width
                    - j.schedule_interval
            END AS by_time,
            -- The schedule has no measure in units of the column.
            CASE WHEN j.job_id IS NOT NULL THEN
                a.now_integer - coalesce(_bigint(j.config ->> 'end_offset'), 0) - a.width_integer
            END AS by_integer,
            CASE WHEN NOT a.by_integer THEN greatest(
                coalesce(_timescaledb_functions.to_timestamp(a.watermark), a.source_oldest),
                a.now_time - _interval(j.config ->> 'start_offset')
            ) END AS from_time,
            CASE WHEN a.by_integer THEN greatest(
                coalesce(a.watermark, a.source_oldest_integer), a.now_integer - _bigint(j.config ->> 'start_offset')
            ) END AS from_integer
    ) due
    CROSS JOIN LATERAL (
        SELECT CASE
            WHEN due.by_time <= due.from_time OR due.by_integer <= due.from_integer THEN false
            ELSE _holds_rows(
                a.source_relation, a.source_column, a.source_type,
                CASE WHEN a.by_integer THEN due.from_integer::text ELSE _time_text(due.from_time, a.source_type) END,
                CASE WHEN a.by_integer THEN due.by_integer::text ELSE _time_text(due.by_time, a.source_type) END
            )
        END AS found
    ) behind
$$;

-- A view is replaced where it is, and keeps its grants and what others built on it. One whose columns cannot be replaced is
-- dropped and created again, unless something is built on it.
DO $install$
DECLARE
    wanted record;
    dependents text;
BEGIN
    FOR wanted IN SELECT * FROM (VALUES
        ('chunk_statistics', $$
            schema_name text, table_name text, kind text, time_column text, chunk_interval interval, chunk_interval_integer bigint,
            chunks bigint, compressed_chunks bigint, compressed_percent numeric,
            total_bytes bigint, average_chunk_bytes bigint, largest_chunk_bytes bigint,
            oldest timestamptz, newest timestamptz, oldest_integer bigint, newest_integer bigint
        $$, 'Chunks of each hypertable and continuous aggregate: count, compressed share, sizes, range.'),
        ('compression_statistics', $$
            schema_name text, table_name text, kind text, segment_by text, order_by text,
            compressed_chunks bigint, uncompressed_chunks bigint,
            before_bytes numeric, after_bytes numeric, ratio numeric, saved_percent numeric
        $$, 'What compression saves, for each table that has it enabled.'),
        ('compression_jobs', $$
            job_id int, schema_name text, table_name text, kind text, compress_after text, compress_created_before text,
            schedule_interval interval, scheduled boolean, last_success timestamptz, next_start timestamptz,
            runs bigint, failures bigint, consecutive_failures int,
            chunks_to_compress bigint, chunks_overdue bigint, health text, reason text
        $$, 'Compression policies, their backlog and their health.'),
        ('retention_policies', $$
            job_id int, schema_name text, table_name text, kind text, drop_after text, drop_created_before text,
            schedule_interval interval, scheduled boolean, last_success timestamptz, next_start timestamptz,
            runs bigint, failures bigint, consecutive_failures int,
            chunks bigint, eligible_chunks bigint, eligible_bytes bigint, eligible_from timestamptz, eligible_to timestamptz,
            eligible_from_integer bigint, eligible_to_integer bigint, health text, reason text
        $$, 'Retention policies, what they would drop now, and their health.'),
        ('data_age', $$
            schema_name text, table_name text, kind text, age_from interval, age_to interval,
            chunks bigint, compressed_chunks bigint, bytes bigint,
            oldest timestamptz, newest timestamptz, oldest_integer bigint, newest_integer bigint
        $$, 'Chunks of each table by the age of their newest row that is possible.'),
        ('index_usage', $$
            schema_name text, table_name text, kind text, index_name text, definition text,
            is_unique boolean, is_constraint boolean, is_valid boolean, scans bigint, rows_read bigint, bytes bigint
        $$, 'Indexes of each table, summed up over its chunks, since the statistics were reset.'),
        ('missing_indexes', $$
            schema_name text, table_name text, kind text, reason text, columns text,
            sequential_scans bigint, index_scans bigint, rows_per_scan bigint
        $$, 'Where an index may be missing. Rules of thumb: look at the queries before you create one.'),
        ('aggregate_status', $$
            schema_name text, view_name text, source_schema text, source_name text, bucket interval, bucket_integer bigint,
            real_time boolean, job_id int, start_offset text, end_offset text, schedule_interval interval, scheduled boolean,
            last_success timestamptz, next_start timestamptz, materialized_to timestamptz, materialized_to_integer bigint,
            lag interval, lag_integer bigint, invalidations bigint, health text, reason text
        $$, 'Continuous aggregates: up to where they are materialized, how far they lag, and their health.')
    ) v (name, columns, comment)
    LOOP
        DECLARE
            query text := format('SELECT * FROM %I() AS t (%s)', '_' || wanted.name, wanted.columns);
        BEGIN
            EXECUTE format('CREATE OR REPLACE VIEW %I AS %s', wanted.name, query);
        EXCEPTION WHEN invalid_table_definition THEN
            BEGIN
                EXECUTE format('DROP VIEW %I', wanted.name);
            EXCEPTION WHEN dependent_objects_still_exist THEN
                GET STACKED DIAGNOSTICS dependents = PG_EXCEPTION_DETAIL;
                RAISE EXCEPTION 'the view %.% has other columns now and cannot be replaced, because others have built on it',
                    quote_ident(current_schema()), wanted.name
                    USING ERRCODE = 'dependent_objects_still_exist', DETAIL = dependents, HINT = 'Drop or change what is named first.';
            END;
            EXECUTE format('CREATE VIEW %I AS %s', wanted.name, query);
        END;
        EXECUTE format('COMMENT ON VIEW %I IS %L', wanted.name, 'timescaledb-policy-operator: ' || wanted.comment);
    END LOOP;
END $install$;
