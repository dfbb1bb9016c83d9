-- The server and the extension. Runs in any database, with or without TimescaleDB, as any role.
SELECT jsonb_build_object(
    'session', current_setting('timescaledb_policy_operator.session', true),
    'version_num', current_setting('server_version_num')::int,
    'extension', (
        SELECT jsonb_build_object('version', e.extversion, 'schema', n.nspname)
        FROM pg_extension e
        JOIN pg_namespace n ON n.oid = e.extnamespace
        WHERE e.extname = 'timescaledb'
    ),
    'license', current_setting('timescaledb.license', true),
    'read_only', pg_is_in_recovery() OR current_setting('default_transaction_read_only')::boolean,
    'restoring', coalesce(nullif(current_setting('timescaledb.restoring', true), '')::boolean, false)
)
