-- Every job that is no policy of the kinds in sql/catalog/jobs.sql: user-defined actions, and policies of other kinds. Ids
-- below 1000 are TimescaleDB's own jobs. Times that not every library can read (infinite, before year 1, after 9999) are
-- null.
SELECT jsonb_build_object(
    'id', j.id,
    'procedure', j.proc_schema || '.' || j.proc_name,
    'schedule_interval', j.schedule_interval::text,
    'scheduled', j.scheduled,
    'statistics', jsonb_build_object(
        'last_start', CASE WHEN s.last_start BETWEEN readable.first AND readable.last THEN s.last_start END,
        'last_finish', CASE WHEN s.last_finish BETWEEN readable.first AND readable.last THEN s.last_finish END,
        'last_success', CASE WHEN s.last_successful_finish BETWEEN readable.first AND readable.last THEN s.last_successful_finish END,
        -- True before the first run.
        'last_run_succeeded', CASE WHEN s.total_runs > 0 THEN s.last_run_success END,
        'next_start', CASE WHEN s.next_start BETWEEN readable.first AND readable.last THEN s.next_start END,
        'runs', coalesce(s.total_runs, 0),
        'failures', coalesce(s.total_failures, 0),
        'crashes', coalesce(s.total_crashes, 0),
        'consecutive_failures', coalesce(s.consecutive_failures, 0),
        'consecutive_crashes', coalesce(s.consecutive_crashes, 0)
    )
)
FROM _timescaledb_config.bgw_job j
LEFT JOIN _timescaledb_internal.bgw_job_stat s ON s.job_id = j.id
CROSS JOIN (
    VALUES ('0001-01-01 00:00:00+00'::timestamptz, '9999-12-29 23:59:59+00'::timestamptz)
) readable (first, last)
WHERE j.id >= 1000
AND NOT (
    j.hypertable_id IS NOT NULL
    AND j.proc_schema = '_timescaledb_functions'
    AND j.proc_name IN ('policy_compression', 'policy_retention', 'policy_refresh_continuous_aggregate', 'policy_reorder')
)
ORDER BY j.id
