-- What the benchmark fills in place of the three largest tables of examples/ms5/data.sql, denser than there: with the same
-- functions, in the same session. @per_day@ is replaced by the values of one metric in a day.

-- A hundred metrics in all.
INSERT INTO factory_telemetry.metric_definitions
SELECT m, equipment_code, 'channel_' || m, 'bar', 1 + m % 17
FROM generate_series(25, 100) m
JOIN (SELECT row_number() OVER (ORDER BY equipment_code) - 1 AS place, equipment_code FROM factory_telemetry.equipment) e
    ON e.place = m % 24;

-- The last day, and a day of a week before.
INSERT INTO factory_telemetry.metric_hist (ts, metric_def_id, equipment_code, value, quality)
SELECT t, m.metric_def_id, m.equipment_code,
       m.setpoint * round(256 * (0.80 + 0.15 * load + 0.03 * sin(n * 3600.0::double precision / @per_day@ + m.metric_def_id)
                                      + 0.01 * pg_temp.noise(n, m.metric_def_id))) / 256,
       CASE WHEN pg_temp.noise(n, 100 + m.metric_def_id) < 0.002 THEN 0 ELSE 192 END
FROM (SELECT n, t, pg_temp.load(t) AS load
      FROM (SELECT n, date_trunc('minute', now()) - n * interval '1 day' / @per_day@ AS t
            FROM generate_series(0, 9 * @per_day@ - 1) n
            WHERE n < @per_day@ OR n >= 8 * @per_day@) times
      OFFSET 0) s,
     factory_telemetry.metric_definitions m;

-- 14 days, every minute.
INSERT INTO factory_telemetry.oee_calculations
SELECT t, line_id, equipment_code, a, p, q, a * p * q, floor(units * q), units
FROM (SELECT t, e.line_id, e.equipment_code,
             round((0.98 - 0.20 * pg_temp.noise(n, hashtext(e.equipment_code)) ^ 3)::numeric, 3)::double precision AS a,
             round((0.95 - 0.15 * pg_temp.noise(n, 1 + hashtext(e.equipment_code)) - 0.02 * e.line_id)::numeric, 3)::double precision AS p,
             round((0.998 - 0.04 * pg_temp.noise(n, 2 + hashtext(e.equipment_code)) ^ 2)::numeric, 3)::double precision AS q,
             (60 * load)::integer AS units
      FROM (SELECT n, t, pg_temp.load(t) AS load
            FROM (SELECT n, date_trunc('minute', now()) - n * interval '1 minute' AS t FROM generate_series(0, 14 * 1440 - 1) n) times
            OFFSET 0) times,
           factory_telemetry.equipment e) s;

-- 14 days, every minute.
INSERT INTO factory_telemetry.energy_consumption
SELECT t, equipment_code, line_id, kw / 60, kw, pf
FROM (SELECT t, e.equipment_code, e.line_id,
             round((e.rated_power_kw * (0.15 + 0.75 * load + 0.10 * pg_temp.noise(n, hashtext(e.equipment_code))))::numeric, 1)::double precision AS kw,
             round((0.99 - 0.12 * pg_temp.noise(n, 1 + hashtext(e.equipment_code)) ^ 2)::numeric, 2)::double precision AS pf
      FROM (SELECT n, t, pg_temp.load(t) AS load
            FROM (SELECT n, date_trunc('minute', now()) - n * interval '1 minute' AS t FROM generate_series(0, 14 * 1440 - 1) n) times
            OFFSET 0) times,
           factory_telemetry.equipment e) s;
