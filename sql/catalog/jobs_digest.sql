-- A digest of all that jobs.sql reads: of the rows as they are, which takes a fraction of the time that reading them takes.
-- What that reads must be in it, or a change is not seen.
SELECT md5(ARRAY[
    (
        SELECT string_agg(concat_ws('|', j::text, pg_get_userbyid(j.owner), s.statistics), E'\n' ORDER BY j.id)
        FROM _timescaledb_config.bgw_job j
        LEFT JOIN (SELECT s.job_id, s::text AS statistics FROM _timescaledb_internal.bgw_job_stat s) s ON s.job_id = j.id
        WHERE j.id >= 1000 AND j.hypertable_id IS NOT NULL AND j.proc_schema = '_timescaledb_functions'
    ),
    (
        -- The types of time columns.
        SELECT string_agg(concat_ws('|', d.id, d.hypertable_id, d.column_type::oid, d.num_slices), E'\n' ORDER BY d.id)
        FROM _timescaledb_catalog.dimension d
    )
]::text)
