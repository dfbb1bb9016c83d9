-- What the integer_now functions have said (sql/statistics/integer_now.sql), by hypertable id.
SELECT coalesce(nullif(current_setting('timescaledb_policy_operator.integer_now', true), '')::jsonb, '{}')
