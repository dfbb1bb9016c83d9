-- Every policy job with the part of its config that resources speak of. Intervals are cast, because their text follows
-- the IntervalStyle of whoever made the policy; what is not one (a config is anybody's to alter) is null, like a key that
-- is missing. As the jobs do, the type of the time column decides how an age is read, not that of the JSON value.
-- 'unreadable' names the keys that hold neither, or of which it is not known which one counts. TimescaleDB takes a job
-- off the schedule itself once it has failed max_retries times in a row. Ids below 1000 are TimescaleDB's own jobs. Times
-- that not every library can read (infinite, before year 1, after 9999) are null.
SELECT jsonb_build_object(
    'id', j.id,
    'hypertable_id', j.hypertable_id,
    'config_hypertable_id', (
        SELECT CASE WHEN k.id ~ '^[0-9]{1,9}$' THEN k.id::int END
        FROM (
            SELECT j.config ->> CASE j.proc_name
                WHEN 'policy_refresh_continuous_aggregate' THEN 'mat_hypertable_id' ELSE 'hypertable_id'
            END
        ) k (id)
    ),
    'owner', pg_get_userbyid(j.owner),
    'unreadable', v.unreadable,
    'policy', CASE j.proc_name
        WHEN 'policy_compression' THEN jsonb_build_object('compression', jsonb_build_object('after', v.after))
        WHEN 'policy_retention' THEN jsonb_build_object('retention', jsonb_build_object('after', v.after))
        WHEN 'policy_reorder' THEN jsonb_build_object('reorder', jsonb_build_object('index', j.config ->> 'index_name'))
        ELSE jsonb_build_object('refresh', jsonb_build_object(
            'start_offset', v.start_offset,
            'end_offset', v.end_offset,
            'include_tiered_data', v.include_tiered_data,
            'buckets_per_batch', v.buckets_per_batch,
            'max_batches_per_execution', v.max_batches_per_execution,
            'refresh_newest_first', v.refresh_newest_first
        ))
    END,
    'schedule_interval', j.schedule_interval::text,
    'max_runtime', j.max_runtime::text,
    'max_retries', j.max_retries,
    'retry_period', j.retry_period::text,
    'scheduled', j.scheduled,
    'gave_up', NOT j.scheduled AND j.max_retries > 0 AND coalesce(s.consecutive_failures, 0) >= j.max_retries,
    'fixed_schedule', j.fixed_schedule,
    'initial_start', CASE WHEN j.initial_start BETWEEN readable.first AND readable.last THEN j.initial_start END,
    'timezone', j.timezone,
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
CROSS JOIN LATERAL (
    SELECT coalesce((
        SELECT d.column_type IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
        FROM _timescaledb_catalog.dimension d
        WHERE d.hypertable_id = j.hypertable_id
        ORDER BY d.num_slices IS NOT NULL, d.id
        LIMIT 1
    ), false) AS by_integer
) d
CROSS JOIN LATERAL (
    -- One pass over the keys. A lag is a number or the text of an interval; an age, which names its measure, wraps it.
    SELECT
        jsonb_object_agg(x.key, x.lag) AS lags,
        jsonb_object_agg(x.key, x.flag) AS flags,
        jsonb_object_agg(x.key, x.number) AS numbers,
        -- An offset that is null is unbounded: one that cannot be read must not be taken for it.
        jsonb_agg(x.key ORDER BY x.key) FILTER (
            WHERE x.value IS NOT NULL AND CASE
                WHEN x.key IN ('include_tiered_data', 'refresh_newest_first') THEN x.flag IS NULL
                WHEN x.key IN ('buckets_per_batch', 'max_batches_per_execution') THEN x.number IS NULL
                ELSE x.lag IS NULL
            END
        ) AS unreadable
    FROM (
        SELECT
            e.key,
            e.value,
            CASE
                WHEN d.by_integer AND e.key IN ('compress_after', 'drop_after', 'start_offset', 'end_offset') THEN CASE
                    -- A bigint has up to 19 digits, and not every number of 19 digits is one.
                    WHEN e.value ~ '^-?[0-9]{1,19}$' THEN CASE
                        WHEN e.value::numeric BETWEEN -9223372036854775808 AND 9223372036854775807
                        THEN to_jsonb(e.value::bigint)
                    END
                END
                -- The four styles of the server and what people write: postgres and postgres_verbose, iso_8601, sql_standard,
                -- seconds. No number is long enough to overflow: one that cannot be read would fail the whole query.
                WHEN e.value ~* '^(@ *)?(?=[-+0-9])([-+]?[0-9]{1,7} *(y|yrs?|years?)( +|$))?([-+]?[0-9]{1,7} *mon(s|ths?)?( +|$))?([-+]?[0-9]{1,7} *w(eeks?)?( +|$))?([-+]?[0-9]{1,7} *d(ays?)?( +|$))?([-+]?[0-9]{1,7}:[0-5][0-9](:[0-5][0-9]([.][0-9]{0,6})?)?( +|$)|([-+]?[0-9]{1,7} *(h|hrs?|hours?)( +|$))?([-+]?[0-9]{1,7} *(m|mins?|minutes?)( +|$))?([-+]?[0-9]{1,7}([.][0-9]{0,6})? *(s|secs?|seconds?)( +|$))?)(ago)?$'
                OR e.value ~ '^P(?=[-+0-9T])([-+]?[0-9]{1,7}Y)?([-+]?[0-9]{1,7}M)?([-+]?[0-9]{1,7}W)?([-+]?[0-9]{1,7}D)?(T(?=[-+0-9])([-+]?[0-9]{1,7}H)?([-+]?[0-9]{1,7}M)?([-+]?[0-9]{1,7}([.][0-9]{0,6})?S)?)?$'
                OR e.value ~ '^(?=[-+0-9])([-+]?[0-9]{1,7}-([0-9]|1[01]))?(( |^)[-+]?[0-9]{1,7} [-+]?[0-9]{1,7}:[0-5][0-9](:[0-5][0-9]([.][0-9]{0,6})?)?)?$'
                OR e.value ~ '^(@ )?[-+]?[0-9]{1,7}$'
                THEN to_jsonb(e.value::interval::text)
            END AS lag,
            CASE WHEN lower(e.value) IN ('true', 't', 'false', 'f') THEN e.value::bool END AS flag,
            CASE WHEN e.value ~ '^-?[0-9]{1,9}$' THEN e.value::int END AS number
        FROM jsonb_each_text(CASE WHEN jsonb_typeof(j.config) = 'object' THEN j.config END) e
        WHERE e.key IN (
            'compress_after', 'compress_created_before', 'drop_after', 'drop_created_before', 'start_offset', 'end_offset',
            'include_tiered_data', 'buckets_per_batch', 'max_batches_per_execution', 'refresh_newest_first'
        )
    ) x
) t
CROSS JOIN LATERAL (
    SELECT
        CASE
            WHEN a.both_drop THEN NULL
            WHEN jsonb_typeof(a.older_than) <> 'null' THEN jsonb_build_object('older_than', a.older_than)
            WHEN jsonb_typeof(a.created_before) = 'string' THEN jsonb_build_object('created_before', a.created_before)
        END AS after,
        CASE
            WHEN a.both_drop THEN coalesce(t.unreadable, '[]') || '["drop_created_before"]'
            ELSE coalesce(t.unreadable, '[]')
        END AS unreadable,
        t.lags -> 'start_offset' AS start_offset,
        t.lags -> 'end_offset' AS end_offset,
        t.flags -> 'include_tiered_data' AS include_tiered_data,
        t.numbers -> 'buckets_per_batch' AS buckets_per_batch,
        t.numbers -> 'max_batches_per_execution' AS max_batches_per_execution,
        t.flags -> 'refresh_newest_first' AS refresh_newest_first
    FROM (
        SELECT
            t.lags -> CASE j.proc_name WHEN 'policy_compression' THEN 'compress_after' ELSE 'drop_after' END AS older_than,
            t.lags -> CASE j.proc_name WHEN 'policy_compression' THEN 'compress_created_before' ELSE 'drop_created_before' END AS created_before,
            -- A compression job goes by compress_after if there are both; which a retention job goes by changed in 2.26.3.
            j.proc_name = 'policy_retention' AND j.config ->> 'drop_after' IS NOT NULL
                AND j.config ->> 'drop_created_before' IS NOT NULL AS both_drop
    ) a
) v
WHERE j.id >= 1000
AND j.hypertable_id IS NOT NULL
AND j.proc_schema = '_timescaledb_functions'
AND j.proc_name IN ('policy_compression', 'policy_retention', 'policy_refresh_continuous_aggregate', 'policy_reorder')
ORDER BY j.id
