-- The name of the database, the jobs that are none of the policies that resources speak of, and of those that are the keys
-- of their config that no resource speaks of. What configs of other jobs hold is not read. Ids below 1000 are TimescaleDB's
-- own jobs.
WITH job AS (
    SELECT j.*, (
        j.hypertable_id IS NOT NULL AND j.proc_schema = '_timescaledb_functions'
        AND j.proc_name IN ('policy_compression', 'policy_retention', 'policy_refresh_continuous_aggregate', 'policy_reorder')
    ) AS is_policy
    FROM _timescaledb_config.bgw_job j
    WHERE j.id >= 1000
)
SELECT jsonb_build_object(
    'database', current_database(),
    'jobs', (
        SELECT coalesce(
            jsonb_agg(
                jsonb_build_object(
                    'id', job.id,
                    'hypertable_id', job.hypertable_id,
                    'procedure', format('%I.%I', job.proc_schema, job.proc_name),
                    'schedule_interval', job.schedule_interval::text
                ) ORDER BY job.id
            ),
            '[]'
        )
        FROM job
        WHERE NOT job.is_policy
    ),
    'config_keys', (
        SELECT coalesce(jsonb_object_agg(other.id, other.keys), '{}')
        FROM (
            SELECT job.id, jsonb_agg(k.key ORDER BY k.key) AS keys
            FROM job
            CROSS JOIN LATERAL jsonb_object_keys(CASE WHEN jsonb_typeof(job.config) = 'object' THEN job.config ELSE '{}' END) k (key)
            WHERE job.is_policy
            AND k.key NOT IN (
                'hypertable_id', 'mat_hypertable_id', 'index_name', 'compress_after', 'compress_created_before', 'drop_after',
                'drop_created_before', 'start_offset', 'end_offset', 'include_tiered_data', 'buckets_per_batch',
                'max_batches_per_execution', 'refresh_newest_first'
            )
            GROUP BY job.id
        ) other
    )
)
