-- What time it is, how large the database is, and what the server says of its memory. A setting that nobody made is the
-- default of PostgreSQL and says nothing of the machine.
SELECT jsonb_build_object(
    'now', now(),
    'database_bytes', CASE
        WHEN has_database_privilege(current_database(), 'CONNECT') OR pg_has_role('pg_read_all_stats', 'USAGE')
        THEN pg_database_size(current_database())
    END,
    'shared_buffers', (
        SELECT jsonb_build_object('bytes', pg_size_bytes(current_setting(s.name)), 'is_set', s.source <> 'default')
        FROM pg_settings s
        WHERE s.name = 'shared_buffers'
    ),
    'effective_cache_size', (
        SELECT jsonb_build_object('bytes', pg_size_bytes(current_setting(s.name)), 'is_set', s.source <> 'default')
        FROM pg_settings s
        WHERE s.name = 'effective_cache_size'
    )
)
