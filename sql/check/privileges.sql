-- What the role $1 (null: the session's) may do with what TimescaleDB manages here: who owns the hypertables and continuous
-- aggregates, whether the role can act as them, whether they can log in, and whether it can create in their schemas.
WITH me AS (
    SELECT coalesce($1::text, current_user::text) AS role
), relation AS MATERIALIZED (
    SELECT c.relowner, n.oid AS schema, n.nspname
    FROM _timescaledb_catalog.hypertable ht
    LEFT JOIN _timescaledb_catalog.continuous_agg ca ON ca.mat_hypertable_id = ht.id
    JOIN pg_namespace n ON n.nspname = coalesce(ca.user_view_schema, ht.schema_name)
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = coalesce(ca.user_view_name, ht.table_name)
    WHERE ht.compression_state <> 2
)
SELECT jsonb_build_object(
    'owners', (
        SELECT coalesce(
            jsonb_agg(
                jsonb_build_object(
                    'role', r.rolname, 'member', pg_has_role(me.role, r.oid, 'MEMBER'), 'login', r.rolcanlogin,
                    'schema', o.nspname, 'relations', o.relations
                ) ORDER BY r.rolname, o.nspname
            ),
            '[]'
        )
        FROM (SELECT relowner, nspname, count(*) AS relations FROM relation GROUP BY relowner, nspname) o
        JOIN pg_roles r ON r.oid = o.relowner
    ),
    'schemas', (
        SELECT coalesce(
            jsonb_agg(
                jsonb_build_object(
                    'schema', s.nspname,
                    'create', has_schema_privilege(me.role, s.schema, 'CREATE') AND has_schema_privilege(me.role, s.schema, 'USAGE')
                ) ORDER BY s.nspname
            ),
            '[]'
        )
        FROM (SELECT DISTINCT schema, nspname FROM relation) s
    )
)
FROM me
