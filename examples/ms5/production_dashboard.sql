-- One row for each line of the factory: how it runs, what is wrong with it, and whether the figures are up to date. On the
-- tables of this folder and the monitoring views (spec.monitoringSchema, or sql/monitoring/install.sql), here in the schema
-- monitoring: psql -f production_dashboard.sql, then SELECT * FROM factory_telemetry.production_dashboard.

CREATE OR REPLACE VIEW factory_telemetry.production_dashboard AS
SELECT l.line_code,
       l.line_name,
       oee.hour,
       oee.percent                                             AS oee_percent,
       oee.good_units,
       (SELECT count(*)
        FROM factory_telemetry.downtime_events d
        WHERE d.line_id = l.line_id AND d.end_time IS NULL AND d.start_time > now() - interval '7 days') AS open_downtimes,
       (SELECT count(*)
        FROM factory_telemetry.fault_event f
        JOIN factory_telemetry.equipment e USING (equipment_code)
        WHERE e.line_id = l.line_id AND f.ts_off IS NULL AND f.ts_on > now() - interval '7 days')        AS active_faults,
       state.health                                            AS figures,
       state.lag                                               AS figures_lag
FROM factory_telemetry.production_lines l
LEFT JOIN LATERAL (
    SELECT a.bucket AS hour, round(100 * avg(a.avg_oee)) AS percent, sum(a.good_units) AS good_units
    FROM factory_telemetry.oee_hourly_aggregate a
    WHERE a.line_id = l.line_id AND a.bucket >= now() - interval '2 hours' AND a.bucket + interval '1 hour' <= now()
    GROUP BY a.bucket
    ORDER BY a.bucket DESC
    LIMIT 1
) oee ON true
LEFT JOIN monitoring.aggregate_status state
    ON state.schema_name = 'factory_telemetry' AND state.view_name = 'oee_hourly_aggregate'
ORDER BY l.line_code;
