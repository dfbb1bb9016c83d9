-- The queries of the views $1 (oids), in their order, as the server prints them: readable, and with every bracket. The
-- search path is that of the extension, so that its functions stand without their schema; therefore every name of
-- this query has one, or takes exactly the types of its arguments.
SELECT pg_catalog.jsonb_build_array(
    pg_catalog.pg_get_viewdef(v.oid, true),
    pg_catalog.pg_get_viewdef(v.oid)
)
FROM pg_catalog.unnest($1::pg_catalog.oid[]) WITH ORDINALITY v (oid, ord)
ORDER BY v.ord
