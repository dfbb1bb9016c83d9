-- The server as far as a database depends on it: workers, memory, the age of what it counts. $1 is the role whose privileges
-- are judged; null: the session's. Runs in any database, with or without TimescaleDB, as any role.
SELECT jsonb_build_object(
    'now', now(),
    'database', current_database(),
    'role', me.role,
    'in_recovery', pg_is_in_recovery(),
    'available_version', (SELECT e.default_version FROM pg_available_extensions e WHERE e.name = 'timescaledb'),
    'max_worker_processes', current_setting('max_worker_processes')::bigint,
    'max_parallel_workers', current_setting('max_parallel_workers')::bigint,
    'shared_buffers', pg_size_bytes(current_setting('shared_buffers')),
    -- Every role sees the names of TimescaleDB's workers, and which database they are in.
    'schedulers', (
        SELECT count(DISTINCT a.datid)
        FROM pg_stat_activity a
        WHERE a.application_name = 'TimescaleDB Background Worker Scheduler'
    ),
    -- Counters survive a restart that is no crash, and without a reset they say nothing of their age: they are at least as
    -- old as the server's start. A server without a postmaster has none, which is the beginning of PostgreSQL's time.
    'counted_since', coalesce(
        (SELECT s.stats_reset FROM pg_stat_database s WHERE s.datname = current_database()),
        nullif(pg_postmaster_start_time(), '2000-01-01 00:00:00+00')
    ),
    'can_connect', has_database_privilege(me.role, current_database(), 'CONNECT'),
    'can_make_temporary', has_database_privilege(me.role, current_database(), 'TEMPORARY')
)
FROM (SELECT coalesce($1::text, current_user::text) AS role) me
