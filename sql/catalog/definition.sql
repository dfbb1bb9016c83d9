-- For each aggregate, schemas in $1 and names in $2, in their order: how the server reads the temporary view
-- `wanted_definition_N` of the Nth, and the query that the aggregate was created with (its direct view), deparsed under the
-- same search path so that they can be compared as text; what the view reads; and the volatile functions it calls:
-- TimescaleDB takes them, but a bucket then depends on when it was refreshed.
SELECT jsonb_build_object(
    'wanted', pg_get_viewdef(v.oid),
    'live', (
        SELECT pg_get_viewdef(d.oid)
        FROM _timescaledb_catalog.continuous_agg ca
        JOIN pg_namespace n ON n.nspname = ca.direct_view_schema
        JOIN pg_class d ON d.relnamespace = n.oid AND d.relname = ca.direct_view_name
        WHERE ca.user_view_schema = asked.schema AND ca.user_view_name = asked.name
    ),
    'sources', (
        SELECT coalesce(jsonb_agg(DISTINCT jsonb_build_object('schema', n.nspname, 'name', s.relname)), '[]')
        FROM pg_rewrite r
        JOIN pg_depend p ON p.classid = 'pg_rewrite'::regclass AND p.objid = r.oid AND p.refclassid = 'pg_class'::regclass
        JOIN pg_class s ON s.oid = p.refobjid AND s.oid <> v.oid
        JOIN pg_namespace n ON n.oid = s.relnamespace
        WHERE r.ev_class = v.oid
    ),
    -- pg_depend names no built-in functions (random), so they are read from the stored rule tree. There, inside a
    -- string constant or a name, every space and bracket is escaped, so no text of a query can look like a field;
    -- an operator that has not been looked up yet stands as `:opfuncid 0` beside its `:opno`. `nextval` has a node of
    -- its own only for identity columns, which a view does not have. Values of types are not looked into: what their
    -- input and output functions do is at most STABLE.
    'volatile', (
        SELECT coalesce(jsonb_agg(f.name ORDER BY f.name), '[]')
        FROM (
            SELECT DISTINCT quote_ident(n.nspname) || '.' || quote_ident(p.proname) AS name
            FROM pg_rewrite r
            CROSS JOIN LATERAL regexp_matches(
                r.ev_action::text,
                ':(funcid|opfuncid|hashfuncid|negfuncid|aggfnoid|winfnoid|opno|elemfuncid|resultfunc|tsmhandler) ([0-9]+)',
                'g'
            ) AS field (found)
            LEFT JOIN pg_operator o ON field.found[1] = 'opno' AND o.oid = field.found[2]::oid
            LEFT JOIN pg_aggregate a ON field.found[1] IN ('aggfnoid', 'winfnoid') AND a.aggfnoid = field.found[2]::oid
            -- An aggregate is itself always called immutable; what it runs for each row is what counts.
            CROSS JOIN LATERAL unnest(ARRAY[
                CASE WHEN field.found[1] = 'opno' THEN o.oprcode::oid ELSE field.found[2]::oid END,
                a.aggtransfn::oid, a.aggfinalfn::oid, a.aggcombinefn::oid, a.aggserialfn::oid, a.aggdeserialfn::oid,
                a.aggmtransfn::oid, a.aggminvtransfn::oid, a.aggmfinalfn::oid
            ]) AS called (id)
            JOIN pg_proc p ON p.oid = called.id AND p.provolatile = 'v'
            JOIN pg_namespace n ON n.oid = p.pronamespace
            WHERE r.ev_class = v.oid
        ) f
    )
)
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS asked (schema, name, nr)
JOIN pg_class v ON v.relnamespace = pg_my_temp_schema() AND v.relname = 'wanted_definition_' || asked.nr
ORDER BY asked.nr
