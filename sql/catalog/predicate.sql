-- How the server prints the predicate of the temporary index `wanted_predicate_index`.
SELECT to_jsonb(pg_get_expr(i.indpred, i.indrelid, true))
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid
WHERE c.relnamespace = pg_my_temp_schema() AND c.relname = 'wanted_predicate_index'
