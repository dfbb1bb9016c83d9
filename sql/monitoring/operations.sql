-- What people do by hand. Everything runs with the rights of the caller: TimescaleDB wants the owner of the table.
--
-- The schema that the extension is in may be one in which others can create functions: its functions are called by their
-- full names, which are put into the bodies here. A procedure that commits, or that
-- calls one that does, may not have settings of its own: it sets the search path before anything else, for each transaction.
DO $install$
DECLARE
    extension text := (
        SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'timescaledb'
    );
    here text := quote_ident(current_schema());
BEGIN
    EXECUTE format('
        CREATE OR REPLACE PROCEDURE compress_eligible_chunks(hypertable regclass, max_chunks int DEFAULT NULL)
        LANGUAGE plpgsql AS %L
    ', replace(replace($body$
    DECLARE
        chunks oid[];
        chunk oid;
    BEGIN
        PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
        IF NOT EXISTS (SELECT FROM @here@._policy_chunks(hypertable)) THEN
            RAISE EXCEPTION '% has no compression policy, so no chunk is eligible', hypertable
                USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Compress chunks one by one with compress_one_chunk.';
        END IF;
        SELECT p.chunks[1:coalesce(max_chunks, cardinality(p.chunks))] INTO chunks FROM @here@._policy_chunks(hypertable) p;
        FOREACH chunk IN ARRAY coalesce(chunks, '{}') LOOP
            PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
            PERFORM @extension@.compress_chunk(chunk::pg_catalog.regclass);
            RAISE INFO 'compressed %', chunk::pg_catalog.regclass;
            COMMIT;
        END LOOP;
    END $body$, '@extension@', extension), '@here@', here));
    EXECUTE format('
        CREATE OR REPLACE FUNCTION compress_one_chunk(chunk regclass, OUT before_bytes bigint, OUT after_bytes bigint)
        LANGUAGE plpgsql SET search_path FROM CURRENT AS %L
    ', replace(replace($body$
    BEGIN
        before_bytes := _chunk_bytes(chunk);
        IF before_bytes IS NULL THEN
            RAISE EXCEPTION '% is not a chunk', chunk
                USING ERRCODE = 'wrong_object_type', HINT = 'SELECT show_chunks(...) lists the chunks of a hypertable.';
        END IF;
        PERFORM @extension@.compress_chunk(chunk, if_not_compressed => true);
        after_bytes := _chunk_bytes(chunk);
    END $body$, '@extension@', extension), '@here@', here));
    EXECUTE format('
        CREATE OR REPLACE FUNCTION decompress_one_chunk(chunk regclass, OUT before_bytes bigint, OUT after_bytes bigint)
        LANGUAGE plpgsql SET search_path FROM CURRENT AS %L
    ', replace(replace($body$
    DECLARE
        policy int;
    BEGIN
        before_bytes := _chunk_bytes(chunk);
        IF before_bytes IS NULL THEN
            RAISE EXCEPTION '% is not a chunk', chunk
                USING ERRCODE = 'wrong_object_type', HINT = 'SELECT show_chunks(...) lists the chunks of a hypertable.';
        END IF;
        PERFORM @extension@.decompress_chunk(chunk, if_compressed => true);
        after_bytes := _chunk_bytes(chunk);
        SELECT d.job_id INTO policy FROM _due('policy_compression') d JOIN _jobs('policy_compression') j ON j.job_id = d.job_id
        WHERE d.relation = chunk AND j.scheduled;
        IF FOUND THEN
            RAISE NOTICE 'compression policy % will compress % again at its next run', policy, chunk
                USING HINT = format('SELECT alter_job(%s, scheduled => false) pauses it.', policy);
        END IF;
    END $body$, '@extension@', extension), '@here@', here));
    EXECUTE format('
        CREATE OR REPLACE PROCEDURE refresh_aggregate(
            aggregate regclass, window_start text, window_end text, allow_data_loss boolean DEFAULT false
        )
        LANGUAGE plpgsql AS %L
    ', replace(replace($body$
    DECLARE
        kept_from text;
        time_type oid;
    BEGIN
        PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
        IF NOT allow_data_loss THEN
            kept_from := @here@._erased_before(aggregate, window_start);
            IF kept_from IS NOT NULL THEN
                RAISE EXCEPTION 'the rows before % are gone from what % reads: the refresh would erase what is materialized of them',
                    kept_from, aggregate
                    USING ERRCODE = 'object_not_in_prerequisite_state',
                    HINT = 'Refresh from ' || pg_catalog.quote_literal(kept_from) || ' on, or say allow_data_loss => true.';
            END IF;
        END IF;
        -- TimescaleDB takes times of the type of the column only, and no CALL in dynamic SQL.
        time_type := @here@._aggregate_time_type(aggregate);
        IF time_type = 'timestamp'::regtype THEN
            CALL @extension@.refresh_continuous_aggregate(aggregate, window_start::timestamp, window_end::timestamp);
        ELSIF time_type = 'date'::regtype THEN
            CALL @extension@.refresh_continuous_aggregate(aggregate, window_start::date, window_end::date);
        ELSIF time_type = 'int8'::regtype THEN
            CALL @extension@.refresh_continuous_aggregate(aggregate, window_start::int8, window_end::int8);
        ELSIF time_type = 'int4'::regtype THEN
            CALL @extension@.refresh_continuous_aggregate(aggregate, window_start::int4, window_end::int4);
        ELSIF time_type = 'int2'::regtype THEN
            CALL @extension@.refresh_continuous_aggregate(aggregate, window_start::int2, window_end::int2);
        ELSE
            CALL @extension@.refresh_continuous_aggregate(aggregate, window_start::timestamptz, window_end::timestamptz);
        END IF;
    END $body$, '@extension@', extension), '@here@', here));
END $install$;

-- Bytes of a chunk with its indexes and its compressed data; null where it is not a chunk.
CREATE OR REPLACE FUNCTION _chunk_bytes(chunk regclass) RETURNS bigint
LANGUAGE sql STABLE SET search_path FROM CURRENT
AS $$
    SELECT pg_total_relation_size(c.relation) + coalesce(pg_total_relation_size(c.compressed_relation), 0)
    FROM _chunks() c
    WHERE c.relation = chunk
$$;

-- The chunks that the compression policy of the table is to compress now, oldest first; no row without a policy.
CREATE OR REPLACE FUNCTION _policy_chunks(hypertable regclass) RETURNS TABLE (chunks oid[])
LANGUAGE sql STABLE SET search_path FROM CURRENT
AS $$
    SELECT array_agg(d.relation ORDER BY d.range_end, d.range_end_integer) FILTER (WHERE NOT d.compressed)
    FROM _jobs('policy_compression') j
    JOIN _tables() t ON t.hypertable_id = j.hypertable_id AND to_regclass(format('%I.%I', t.schema_name, t.table_name)) = hypertable
    LEFT JOIN _due('policy_compression') d ON d.job_id = j.job_id
    GROUP BY j.job_id
$$;

-- The type of the time column of an aggregate.
CREATE OR REPLACE FUNCTION _aggregate_time_type(aggregate regclass) RETURNS oid
LANGUAGE sql STABLE SET search_path FROM CURRENT
AS $$
    SELECT t.time_type
    FROM _tables() t
    WHERE t.kind = 'ContinuousAggregate' AND to_regclass(format('%I.%I', t.schema_name, t.table_name)) = aggregate
$$;

-- Where what an aggregate reads begins, if a refresh from `window_start` on (null: the beginning) would erase buckets before
-- that; null where it erases none. For integers the text of a number.
CREATE OR REPLACE FUNCTION _erased_before(aggregate regclass, window_start text) RETURNS text
LANGUAGE sql STABLE SET search_path FROM CURRENT
AS $$
    SELECT CASE WHEN t.by_integer THEN source.oldest_integer::text ELSE _time_text(source.oldest, t.time_type) END
    FROM _tables() t
    JOIN _buckets() b ON b.hypertable_id = t.hypertable_id
    CROSS JOIN LATERAL (
        -- With no chunk left everything is gone.
        SELECT
            CASE WHEN NOT t.by_integer THEN coalesce(min(c.range_start), t.now_time) END AS oldest,
            CASE WHEN t.by_integer THEN coalesce(min(c.range_start_integer), t.now_integer, 0) END AS oldest_integer
        FROM _chunks() c
        WHERE c.hypertable_id = t.source_id
    ) source
    WHERE t.kind = 'ContinuousAggregate' AND to_regclass(format('%I.%I', t.schema_name, t.table_name)) = aggregate
    AND _holds_rows(
        t.relation, t.time_column, t.time_type, window_start,
        CASE
            WHEN t.by_integer THEN (source.oldest_integer - b.width_integer)::text
            ELSE _time_text(source.oldest - b.width, t.time_type)
        END
    )
$$;

COMMENT ON PROCEDURE compress_eligible_chunks(regclass, int) IS
    'timescaledb-policy-operator: Compresses what the compression policy is to compress, and commits after each chunk.';
COMMENT ON FUNCTION compress_one_chunk(regclass) IS
    'timescaledb-policy-operator: Compresses one chunk; returns its size before and after.';
COMMENT ON FUNCTION decompress_one_chunk(regclass) IS
    'timescaledb-policy-operator: Decompresses one chunk; returns its size before and after.';
COMMENT ON PROCEDURE refresh_aggregate(regclass, text, text, boolean) IS
    'timescaledb-policy-operator: Refreshes an aggregate over a range, unless that would erase what is gone from its source.';
