-- What the factory looks at, on the hypertables and aggregates of this folder: psql -f dashboard.sql

\echo Current OEE per line: the last full hour, in percent
SELECT l.line_code, l.line_name,
       round(100 * avg(a.avg_availability)) AS availability,
       round(100 * avg(a.avg_performance))  AS performance,
       round(100 * avg(a.avg_quality))      AS quality,
       round(100 * avg(a.avg_oee))          AS oee,
       sum(a.good_units)                    AS good_units
FROM factory_telemetry.oee_hourly_aggregate a
JOIN factory_telemetry.production_lines l USING (line_id)
WHERE a.bucket = time_bucket('1 hour', now()) - interval '1 hour'
GROUP BY l.line_code, l.line_name
ORDER BY oee;

\echo Top energy consumers of the last 24 hours, beside the 24 hours before
SELECT equipment_code,
       round(sum(energy_kwh) FILTER (WHERE bucket >= now() - interval '24 hours')) AS kwh,
       round(sum(energy_kwh) FILTER (WHERE bucket <  now() - interval '24 hours')) AS kwh_before,
       round(max(peak_power_kw))                                                   AS peak_kw
FROM factory_telemetry.energy_hourly_aggregate
WHERE bucket >= now() - interval '48 hours'
GROUP BY equipment_code
ORDER BY kwh DESC
LIMIT 5;

\echo Open downtimes
SELECT l.line_code, d.equipment_code, d.category, d.reason, d.start_time, date_trunc('minute', now() - d.start_time) AS lasts
FROM factory_telemetry.downtime_events d
JOIN factory_telemetry.production_lines l USING (line_id)
WHERE d.end_time IS NULL AND d.start_time > now() - interval '7 days'
ORDER BY d.start_time;

\echo Active faults, the worst first
SELECT severity, equipment_code, fault_code, message, date_trunc('second', now() - ts_on) AS lasts
FROM factory_telemetry.fault_event
WHERE ts_off IS NULL AND ts_on > now() - interval '7 days'
ORDER BY severity, ts_on;

\echo Hourly trend of one metric over the last 24 hours
SELECT a.bucket, round(a.avg_value::numeric, 2) AS average, round(a.min_value::numeric, 2) AS lowest, round(a.max_value::numeric, 2) AS highest, m.unit,
       a.samples, a.bad_samples
FROM factory_telemetry.metric_hourly_aggregate a
JOIN factory_telemetry.metric_definitions m USING (metric_def_id)
WHERE m.equipment_code = 'L1-MIX' AND m.metric_name = 'temperature' AND a.bucket >= now() - interval '24 hours'
ORDER BY a.bucket;

\echo Failed quality checks per line over the last 7 days
SELECT l.line_code, sum(q.checks) AS checks, sum(q.failed_checks) AS failed, round(100 * sum(q.failed_checks) / sum(q.checks), 1) AS percent
FROM factory_telemetry.quality_daily_aggregate q
JOIN factory_telemetry.production_lines l USING (line_id)
WHERE q.bucket >= now() - interval '7 days'
GROUP BY l.line_code
ORDER BY percent DESC;

\echo Shifts that missed their plan in the last 7 days
SELECT k.kpi_date, l.line_code, s.shift_name, k.planned_units, k.produced_units, k.planned_units - k.produced_units AS missing
FROM factory_telemetry.production_kpis k
JOIN factory_telemetry.production_lines l USING (line_id)
JOIN factory_telemetry.shifts s USING (shift_id)
WHERE k.produced_units < k.planned_units AND k.kpi_date > current_date - 7
ORDER BY missing DESC
LIMIT 10;
