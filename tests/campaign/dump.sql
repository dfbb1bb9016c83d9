-- What TimescaleDB and PostgreSQL say of one schema, read through the views that are made for people, not as the operator
-- reads it. Intervals are microseconds. Left out: what no resource can say (ids of jobs and hypertables, next_start).
WITH relations AS (
    SELECT h.hypertable_schema AS schema, h.hypertable_name AS name, h.hypertable_schema AS view_schema,
        h.hypertable_name AS view, NULL::jsonb AS aggregate
    FROM timescaledb_information.hypertables h
    WHERE h.hypertable_schema = $1
    UNION ALL
    SELECT a.materialization_hypertable_schema, a.materialization_hypertable_name, a.view_schema, a.view_name,
        jsonb_build_object('definition', a.view_definition, 'materialized_only', a.materialized_only)
    FROM timescaledb_information.continuous_aggregates a
    WHERE a.view_schema = $1
),
columns AS (
    SELECT r.*, format('%I.%I', r.schema, r.name)::regclass AS oid,
        (SELECT h.id FROM _timescaledb_catalog.hypertable h WHERE h.schema_name = r.schema AND h.table_name = r.name) AS id
    FROM relations r
)
SELECT coalesce(jsonb_object_agg(r.view, jsonb_build_object(
    'aggregate', r.aggregate,
    'comment', obj_description(format('%I.%I', r.view_schema, r.view)::regclass, 'pg_class'),
    'rows', (xpath('/row/c/text()', query_to_xml(format('SELECT count(*) AS c FROM %I.%I', r.schema, r.name), false, true, '')))[1]::text::bigint,
    'chunks', (
        SELECT count(*) FROM timescaledb_information.chunks c
        WHERE c.hypertable_schema = r.schema AND c.hypertable_name = r.name
    ),
    'dimensions', (
        SELECT jsonb_object_agg(d.column_name, jsonb_strip_nulls(jsonb_build_object(
            'type', d.dimension_type,
            'interval', coalesce(campaign.micros(d.time_interval), d.integer_interval),
            'partitions', d.num_partitions,
            'now', d.integer_now_func)))
        FROM timescaledb_information.dimensions d
        WHERE d.hypertable_schema = r.schema AND d.hypertable_name = r.name
    ),
    'merge', (
        SELECT d.compress_interval_length FROM _timescaledb_catalog.dimension d
        WHERE d.hypertable_id = r.id AND d.num_slices IS NULL
    ),
    'skipping', (
        SELECT coalesce(jsonb_agg(s.column_name ORDER BY s.column_name), '[]') FROM _timescaledb_catalog.chunk_column_stats s
        WHERE s.hypertable_id = r.id AND coalesce(s.chunk_id, 0) = 0
    ),
    'tablespaces', (
        SELECT coalesce(jsonb_agg(s.tablespace_name ORDER BY s.tablespace_name), '[]') FROM _timescaledb_catalog.tablespace s
        WHERE s.hypertable_id = r.id
    ),
    'columnstore', (
        SELECT jsonb_build_object('segment', nullif(s.segmentby, ''), 'order', nullif(s.orderby, ''), 'sparse', to_jsonb(s) -> 'index')
        FROM timescaledb_information.hypertable_compression_settings s
        WHERE s.hypertable = r.oid
    ),
    'jobs', (
        SELECT coalesce(jsonb_object_agg(replace(j.proc_name, 'policy_', ''), jsonb_build_object(
            'interval', campaign.micros(j.schedule_interval),
            'runtime', campaign.micros(j.max_runtime),
            'retries', j.max_retries,
            'retry', campaign.micros(j.retry_period),
            'scheduled', j.scheduled,
            'fixed', j.fixed_schedule,
            'start', CASE WHEN j.fixed_schedule THEN extract(epoch FROM j.initial_start)::bigint END,
            'timezone', CASE WHEN j.fixed_schedule THEN to_jsonb(b) ->> 'timezone' END,
            'config', (
                SELECT jsonb_object_agg(c.key, CASE
                    WHEN jsonb_typeof(c.value) = 'string' AND c.key ~ '(after|before|offset)$'
                    THEN to_jsonb(campaign.micros((c.value #>> '{}')::interval))
                    ELSE c.value
                END)
                FROM jsonb_each(j.config) c WHERE c.key NOT IN ('hypertable_id', 'mat_hypertable_id')
            ))), '{}')
        FROM timescaledb_information.jobs j
        JOIN _timescaledb_config.bgw_job b ON b.id = j.job_id
        WHERE (j.hypertable_schema, j.hypertable_name) IN ((r.schema, r.name), (r.view_schema, r.view))
    ),
    'indexes', (
        SELECT coalesce(jsonb_object_agg(i.relname, jsonb_build_object(
            'definition', pg_get_indexdef(x.indexrelid), 'valid', x.indisvalid,
            'comment', obj_description(x.indexrelid, 'pg_class'))), '{}')
        FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
        WHERE x.indrelid = r.oid
    )
)), '{}')
FROM columns r
