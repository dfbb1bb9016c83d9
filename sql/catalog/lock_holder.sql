-- Who holds the advisory lock $1 of this database.
SELECT format('%s (process %s%s)', coalesce(nullif(a.application_name, ''), 'a session'), l.pid, ', from ' || host(a.client_addr))
FROM pg_locks l
LEFT JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
AND (l.classid::bigint << 32) | l.objid::bigint = $1
LIMIT 1
