-- The database as a whole. The names of TimescaleDB's workers can be seen by every role; which kind of process has such a
-- name only by their owner and with pg_read_all_stats, so without it whoever calls a connection so is counted too. The
-- launcher, the scheduler of every database and every running job take one of timescaledb.max_background_workers. None of
-- them runs on a standby.
SELECT jsonb_build_object(
    'bytes', CASE
        WHEN has_database_privilege(current_database(), 'CONNECT') OR pg_has_role('pg_read_all_stats', 'USAGE')
        THEN pg_database_size(current_database())
    END,
    'blocks_hit', coalesce(statistics.blks_hit, 0),
    'blocks_read', coalesce(statistics.blks_read, 0),
    'workers_limit', current_setting('timescaledb.max_background_workers', true)::bigint,
    'workers_running', CASE WHEN NOT pg_is_in_recovery() THEN workers.running END,
    'scheduler', CASE WHEN NOT pg_is_in_recovery() THEN workers.scheduler END
)
FROM (
    SELECT count(*) AS running,
        coalesce(
            bool_or(a.application_name = 'TimescaleDB Background Worker Scheduler' AND a.datname = current_database()), false
        ) AS scheduler
    FROM pg_stat_activity a
    WHERE a.application_name ~ '^TimescaleDB Background Worker (Launcher|Scheduler)$| \[[0-9]+\]$'
    AND a.backend_type IS DISTINCT FROM 'client backend'
) workers
LEFT JOIN pg_stat_database statistics ON statistics.datname = current_database()
