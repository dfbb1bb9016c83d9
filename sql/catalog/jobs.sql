-- Every policy job with the part of its config that resources speak of. Intervals are cast, because their text follows
-- the IntervalStyle of whoever made the policy. TimescaleDB takes a job off the schedule itself once it has failed
-- max_retries times in a row. Ids below 1000 are TimescaleDB's own jobs.
SELECT jsonb_build_object(
    'id', j.id,
    'hypertable_id', j.hypertable_id,
    'policy', CASE j.proc_name
        WHEN 'policy_compression' THEN jsonb_build_object('compression', jsonb_build_object('compress_after', v.after))
        WHEN 'policy_retention' THEN jsonb_build_object('retention', jsonb_build_object('drop_after', v.after))
        ELSE jsonb_build_object('refresh', jsonb_build_object('start_offset', v.start_offset, 'end_offset', v.end_offset))
    END,
    'schedule_interval', j.schedule_interval::text,
    'max_runtime', j.max_runtime::text,
    'max_retries', j.max_retries,
    'retry_period', j.retry_period::text,
    'scheduled', j.scheduled,
    'gave_up', NOT j.scheduled AND j.max_retries > 0 AND coalesce(s.consecutive_failures, 0) >= j.max_retries,
    'fixed_schedule', j.fixed_schedule,
    'initial_start', j.initial_start,
    'timezone', j.timezone
)
FROM _timescaledb_config.bgw_job j
LEFT JOIN _timescaledb_internal.bgw_job_stat s ON s.job_id = j.id
CROSS JOIN LATERAL (
    SELECT
        max(x.value #>> '{}') FILTER (WHERE x.key IN ('compress_after', 'drop_after')),
        max(x.value #>> '{}') FILTER (WHERE x.key = 'start_offset'),
        max(x.value #>> '{}') FILTER (WHERE x.key = 'end_offset')
    FROM jsonb_each(j.config) x
    WHERE jsonb_typeof(x.value) = 'string'
) t (after, start_offset, end_offset)
CROSS JOIN LATERAL (
    SELECT t.after::interval::text, t.start_offset::interval::text, t.end_offset::interval::text
) v (after, start_offset, end_offset)
WHERE j.id >= 1000
AND j.hypertable_id IS NOT NULL
AND j.proc_schema = '_timescaledb_functions'
AND j.proc_name IN ('policy_compression', 'policy_retention', 'policy_refresh_continuous_aggregate')
ORDER BY j.id
