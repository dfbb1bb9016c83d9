-- What hangs on the continuous aggregate $1.$2 and would not come along when another takes its name: owner, comment, grants
-- of others than the owner; and in 'dependents', as people would name it, what refers to it by itself or cannot be taken
-- over. TimescaleDB's own internal views are left out; an aggregate on top of this one is named by the view that people
-- see. Catalogs only: no lock, no privilege needed.
SELECT jsonb_build_object(
    'owner', pg_get_userbyid(v.relowner),
    'comment', obj_description(v.oid, 'pg_class'),
    'grants', (
        SELECT coalesce(
            jsonb_agg(
                jsonb_build_object(
                    'grantee', CASE WHEN x.grantee <> 0 THEN pg_get_userbyid(x.grantee) END,
                    'privilege', x.privilege_type,
                    'grantable', x.is_grantable
                ) ORDER BY x.grantee, x.privilege_type
            ),
            '[]'
        )
        FROM aclexplode(v.relacl) x
        WHERE x.grantee <> v.relowner
    ),
    'dependents', (
        SELECT coalesce(jsonb_agg(DISTINCT o.object ORDER BY o.object), '[]')
        FROM (
            SELECT CASE
                WHEN child.user_view_name IS NOT NULL
                THEN format('continuous aggregate %I.%I', child.user_view_schema, child.user_view_name)
                -- The rule of a view stands for the view; other rules for themselves.
                WHEN rw.rulename = '_RETURN'
                THEN (SELECT i.type || ' ' || i.identity FROM pg_identify_object('pg_class'::regclass, rw.ev_class, 0) i)
                ELSE (SELECT i.type || ' ' || i.identity FROM pg_identify_object(p.classid, p.objid, 0) i)
            END AS object
            FROM pg_depend p
            LEFT JOIN pg_rewrite rw ON p.classid = 'pg_rewrite'::regclass AND rw.oid = p.objid
            LEFT JOIN pg_class rc ON rc.oid = rw.ev_class
            LEFT JOIN pg_namespace rn ON rn.oid = rc.relnamespace
            LEFT JOIN _timescaledb_catalog.continuous_agg child
                ON (child.direct_view_schema, child.direct_view_name) IN ((rn.nspname, rc.relname))
                OR (child.partial_view_schema, child.partial_view_name) IN ((rn.nspname, rc.relname))
                OR (child.user_view_schema, child.user_view_name) IN ((rn.nspname, rc.relname))
            WHERE (p.refclassid, p.refobjid) IN (
                VALUES ('pg_class'::regclass::oid, v.oid), ('pg_type'::regclass, v.reltype), ('pg_type'::regclass, t.typarray)
            )
            AND p.deptype IN ('n', 'a')
            -- Its own rules, its row type, and the array of that.
            AND rw.ev_class IS DISTINCT FROM v.oid
            AND (p.classid, p.objid) NOT IN (VALUES ('pg_type'::regclass::oid, v.reltype), ('pg_type'::regclass, t.typarray))
            UNION ALL
            SELECT 'rule ' || quote_ident(rw.rulename) FROM pg_rewrite rw WHERE rw.ev_class = v.oid AND rw.rulename <> '_RETURN'
            UNION ALL
            SELECT 'privileges on column ' || quote_ident(a.attname)
            FROM pg_attribute a
            WHERE a.attrelid = v.oid AND a.attacl IS NOT NULL AND NOT a.attisdropped
            UNION ALL
            SELECT 'comment on column ' || quote_ident(a.attname)
            FROM pg_description d
            JOIN pg_attribute a ON a.attrelid = d.objoid AND a.attnum = d.objsubid
            WHERE d.classoid = 'pg_class'::regclass AND d.objoid = v.oid AND d.objsubid > 0
            UNION ALL
            SELECT 'security label of ' || quote_ident(l.provider)
            FROM pg_seclabel l
            WHERE l.classoid = 'pg_class'::regclass AND l.objoid = v.oid
        ) o (object)
    )
)
FROM _timescaledb_catalog.continuous_agg ca
JOIN pg_namespace n ON n.nspname = ca.user_view_schema
JOIN pg_class v ON v.relnamespace = n.oid AND v.relname = ca.user_view_name
LEFT JOIN pg_type t ON t.oid = v.reltype
WHERE ca.user_view_schema = $1::text AND ca.user_view_name = $2::text
