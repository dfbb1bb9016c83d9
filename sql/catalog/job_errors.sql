-- The last error of each of the jobs $1, where the role may read it: a member of the job's owner or of the owner of the
-- database. A crash has no end. Times that not every library can read (infinite) are left out with their row.
SELECT jsonb_build_object(
    'job_id', j.id,
    'at', e.at,
    'code', e.sqlerrcode,
    'message', left(e.err_message, 1000)
)
FROM unnest($1) AS j (id)
CROSS JOIN LATERAL (
    SELECT coalesce(x.finish_time, x.start_time) AS at, x.sqlerrcode, x.err_message
    FROM timescaledb_information.job_errors x
    WHERE x.job_id = j.id AND isfinite(coalesce(x.finish_time, x.start_time)) AND x.err_message IS NOT NULL
    ORDER BY x.start_time DESC
    LIMIT 1
) e
