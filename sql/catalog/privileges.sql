-- What the session's role lacks to alter relations ($1 schemas, $2 names, in pairs) and to create in schemas ($3): altering
-- needs the owner's rights.
SELECT r.schema, r.name, pg_catalog.pg_get_userbyid(c.relowner)::text AS owner
FROM unnest($1::text[], $2::text[]) AS r (schema, name)
JOIN pg_catalog.pg_namespace AS n ON n.nspname = r.schema
JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = r.name
WHERE NOT pg_catalog.pg_has_role(c.relowner, 'USAGE')
UNION ALL
SELECT s.schema, NULL, pg_catalog.pg_get_userbyid(n.nspowner)::text
FROM unnest($3::text[]) AS s (schema)
JOIN pg_catalog.pg_namespace AS n ON n.nspname = s.schema
WHERE NOT pg_catalog.has_schema_privilege(n.oid, 'CREATE')
ORDER BY 1, 2;
