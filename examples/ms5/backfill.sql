-- Fills the aggregates with the history that was in the tables before the refresh policies began, once. Without it, buckets older than a
-- policy's startOffset stop showing as soon as the policy has run: what lies before the newest materialised bucket is read from the aggregate only.
-- Each window ends inside the policy's own and starts inside the retention of the source table: never refresh over dropped rows.
-- Each statement needs a transaction of its own: psql -f backfill.sql, and not with --single-transaction.

CALL refresh_continuous_aggregate('factory_telemetry.oee_hourly_aggregate',     now() - interval '30 days',  now() - interval '2 days');
CALL refresh_continuous_aggregate('factory_telemetry.oee_daily_aggregate',      now() - interval '30 days',  now() - interval '2 days');
CALL refresh_continuous_aggregate('factory_telemetry.metric_hourly_aggregate',  now() - interval '30 days',  now() - interval '2 days');
CALL refresh_continuous_aggregate('factory_telemetry.metric_daily_aggregate',   now() - interval '30 days',  now() - interval '2 days');
CALL refresh_continuous_aggregate('factory_telemetry.energy_hourly_aggregate',  now() - interval '30 days',  now() - interval '2 days');
CALL refresh_continuous_aggregate('factory_telemetry.energy_daily_aggregate',   now() - interval '30 days',  now() - interval '2 days');
CALL refresh_continuous_aggregate('factory_telemetry.downtime_daily_aggregate', now() - interval '180 days', now() - interval '2 days');
CALL refresh_continuous_aggregate('factory_telemetry.quality_daily_aggregate',  now() - interval '180 days', now() - interval '2 days');
