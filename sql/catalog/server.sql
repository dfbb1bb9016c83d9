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
    -- Another one for each CREATE EXTENSION.
    'installation', (SELECT e.oid::int8 FROM pg_extension e WHERE e.extname = 'timescaledb'),
    'license', current_setting('timescaledb.license', true),
    'read_only', pg_is_in_recovery() OR current_setting('default_transaction_read_only')::boolean,
    'restoring', coalesce(nullif(current_setting('timescaledb.restoring', true), '')::boolean, false),
    -- Where the monitoring views are installed: version and fingerprint are in the comment (sql/monitoring/version.sql).
    'monitoring', (
        SELECT coalesce(
            jsonb_agg(
                jsonb_build_object(
                    'schema', n.nspname,
                    'version', coalesce(substring(d.description FROM 'views ([0-9]{1,9}) ')::int, 0),
                    'intact', split_part(d.description, ' ', 5) = (
                        SELECT coalesce(md5(string_agg(o.definition, '|' ORDER BY o.definition COLLATE "C")), '')
                        FROM (
                            -- Through pg_depend: the catalogs have no index that begins with the schema.
                            SELECT p.proname || ' ' || md5(concat(p.prosrc, p.proconfig, p.prosecdef)) AS definition
                            FROM pg_depend m
                            JOIN pg_proc p ON p.oid = m.objid AND m.classid = 'pg_proc'::regclass
                            WHERE m.refclassid = 'pg_namespace'::regclass AND m.refobjid = n.oid
                            AND starts_with(obj_description(p.oid, 'pg_proc'), 'timescaledb-policy-operator: ')
                            UNION ALL
                            SELECT c.relname || ' ' || md5(r.ev_action::text)
                            FROM pg_depend m
                            JOIN pg_class c ON c.oid = m.objid AND m.classid = 'pg_class'::regclass
                            JOIN pg_rewrite r ON r.ev_class = c.oid
                            WHERE m.refclassid = 'pg_namespace'::regclass AND m.refobjid = n.oid
                            AND starts_with(obj_description(c.oid, 'pg_class'), 'timescaledb-policy-operator: ')
                        ) o
                    )
                ) ORDER BY n.nspname
            ),
            '[]'
        )
        FROM pg_namespace n
        JOIN pg_description d ON d.classoid = 'pg_namespace'::regclass AND d.objoid = n.oid AND d.objsubid = 0
        WHERE starts_with(d.description, 'timescaledb-policy-operator: monitoring views ')
    )
)
