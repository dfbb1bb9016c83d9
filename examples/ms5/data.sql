-- MS5 factory telemetry: made-up rows for the tables of schema.sql, relative to now().
-- The noise comes from hashing the row's own number, not from random(): every run makes the same factory,
-- shifted to the present.
-- The spans are chosen against the policies: each table reaches past its compressAfter and stays inside its dropAfter.

-- A number in [0, 1) that looks random and is the same in every run.
CREATE OR REPLACE FUNCTION pg_temp.noise(n bigint, salt bigint) RETURNS double precision LANGUAGE sql IMMUTABLE
    RETURN (hashint8extended(n, salt) & 65535) / 65536.0::double precision;

-- How busy the factory is at that time, between 0 and 1: day shifts more than nights, weekends less.
CREATE OR REPLACE FUNCTION pg_temp.load(t timestamptz) RETURNS double precision LANGUAGE sql IMMUTABLE
    RETURN (0.70 + 0.30 * sin((extract(hour FROM t AT TIME ZONE 'UTC')::double precision - 6) * pi() / 12))
         * CASE WHEN extract(isodow FROM t AT TIME ZONE 'UTC') > 5 THEN 0.6 ELSE 1.0 END;

INSERT INTO factory_telemetry.production_lines
SELECT n, 'L' || n, (ARRAY['Filling', 'Filling', 'Blister', 'Blister', 'Packaging', 'Packaging'])[n] || ' line ' || n,
       CASE WHEN n <= 4 THEN 'clean room' ELSE 'hall' END
FROM generate_series(1, 6) n;

INSERT INTO factory_telemetry.equipment
SELECT 'L' || l || '-' || (ARRAY['FEED', 'MIX', 'FILL', 'PACK'])[e], l,
       (ARRAY['feeder', 'mixer', 'filler', 'packer'])[e], (ARRAY[15, 55, 30, 22])[e] + 2 * l
FROM generate_series(1, 6) l, generate_series(1, 4) e;

INSERT INTO factory_telemetry.metric_definitions
SELECT 4 * (line_id - 1) + e, 'L' || line_id || '-' || (ARRAY['FEED', 'MIX', 'FILL', 'PACK'])[e],
       (ARRAY['belt_speed', 'temperature', 'pressure', 'vibration'])[e], (ARRAY['m/s', 'Cel', 'bar', 'mm/s'])[e],
       (ARRAY[2.0, 68.0, 6.0, 4.0])[e]
FROM factory_telemetry.production_lines, generate_series(1, 4) e;

INSERT INTO factory_telemetry.shifts VALUES
    (1, 'early', '06:00', '14:00'), (2, 'late', '14:00', '22:00'), (3, 'night', '22:00', '06:00');

-- Chunks are an hour wide here, times 4 space partitions: the last 48 hours and one day of a week before keep them few.
-- The values move in the steps of an analogue converter (a 256th of the setpoint).
INSERT INTO factory_telemetry.metric_hist (ts, metric_def_id, equipment_code, value, quality)
SELECT t, m.metric_def_id, m.equipment_code,
       m.setpoint * round(256 * (0.80 + 0.15 * pg_temp.load(t) + 0.03 * sin(n / 240.0 + m.metric_def_id)
                                      + 0.01 * pg_temp.noise(n, m.metric_def_id))) / 256,
       CASE WHEN pg_temp.noise(n, 100 + m.metric_def_id) < 0.002 THEN 0 ELSE 192 END
FROM (SELECT n, date_trunc('minute', now()) - n * interval '15 seconds' AS t
      FROM generate_series(0, 9 * 24 * 240 - 1) n
      WHERE n < 2 * 24 * 240 OR n >= 8 * 24 * 240) s,
     factory_telemetry.metric_definitions m;

-- 14 days, every 10 minutes.
INSERT INTO factory_telemetry.oee_calculations
SELECT t, line_id, equipment_code, a, p, q, a * p * q, floor(units * q), units
FROM (SELECT date_trunc('minute', now()) - n * interval '10 minutes' AS t, e.line_id, e.equipment_code,
             round((0.98 - 0.20 * pg_temp.noise(n, hashtext(e.equipment_code)) ^ 3)::numeric, 3)::double precision AS a,
             round((0.95 - 0.15 * pg_temp.noise(n, 1 + hashtext(e.equipment_code)) - 0.02 * e.line_id)::numeric, 3)::double precision AS p,
             round((0.998 - 0.04 * pg_temp.noise(n, 2 + hashtext(e.equipment_code)) ^ 2)::numeric, 3)::double precision AS q,
             (600 * pg_temp.load(date_trunc('minute', now()) - n * interval '10 minutes'))::integer AS units
      FROM generate_series(0, 14 * 144 - 1) n, factory_telemetry.equipment e) s;

-- 14 days, every 15 minutes.
INSERT INTO factory_telemetry.energy_consumption
SELECT t, equipment_code, line_id, kw / 4, kw, pf
FROM (SELECT date_trunc('minute', now()) - n * interval '15 minutes' AS t, e.equipment_code, e.line_id,
             round((e.rated_power_kw * (0.15 + 0.75 * pg_temp.load(date_trunc('minute', now()) - n * interval '15 minutes')
                    + 0.10 * pg_temp.noise(n, hashtext(e.equipment_code))))::numeric, 1)::double precision AS kw,
             round((0.99 - 0.12 * pg_temp.noise(n, 1 + hashtext(e.equipment_code)) ^ 2)::numeric, 2)::double precision AS pf
      FROM generate_series(0, 14 * 96 - 1) n, factory_telemetry.equipment e) s;

-- 180 days, one row for each line and shift.
INSERT INTO factory_telemetry.production_kpis
SELECT d, line_id, shift_id, planned, produced, (produced * 0.03 * noise)::integer, 480 - (90 * noise)::integer, round((0.88 - 0.25 * noise)::numeric, 3)
FROM (SELECT (now() AT TIME ZONE 'UTC')::date - n AS d, line_id, shift_id, noise, 9000 - 500 * shift_id AS planned,
             ((9000 - 500 * shift_id) * (1.08 - 0.12 * noise))::integer AS produced
      FROM (SELECT n, l.line_id, s.shift_id, pg_temp.noise(n, 10 * l.line_id + s.shift_id) AS noise
            FROM generate_series(1, 180) n, factory_telemetry.production_lines l, factory_telemetry.shifts s) r) k;

-- 120 days, one every two hours. What would still last now is open.
INSERT INTO factory_telemetry.downtime_events (start_time, end_time, line_id, equipment_code, category, reason)
SELECT t, nullif(least(t + lasts, now()), now()), line_id, equipment_code, (ARRAY['breakdown', 'changeover', 'material', 'planned', 'quality'])[c],
       (ARRAY['motor overload', 'format change', 'feed empty', 'cleaning', 'reject rate'])[c]
FROM (SELECT date_trunc('minute', now()) - n * interval '2 hours' - round(1800 + 3600 * pg_temp.noise(n, 1)) * interval '1 second' AS t,
             round(300 + 14100 * pg_temp.noise(n, 2) ^ 2) * interval '1 second' + CASE WHEN n IN (2, 5) THEN interval '1 day' ELSE interval '0' END AS lasts,
             1 + floor(5 * pg_temp.noise(n, 3))::integer AS c, 1 + floor(24 * pg_temp.noise(n, 4))::integer AS machine
      FROM generate_series(0, 120 * 12 - 1) n) s
JOIN (SELECT row_number() OVER (ORDER BY equipment_code) AS machine, equipment_code, line_id FROM factory_telemetry.equipment) e USING (machine)
ORDER BY t;

-- 90 days, one every half hour. Out of limits is a fail.
INSERT INTO factory_telemetry.quality_checks (check_time, line_id, check_type, batch_id, measured_value, lower_limit, upper_limit, result, inspector)
SELECT t, line_id, check_type, 'B' || to_char(t AT TIME ZONE 'UTC', 'YYMMDD') || '-' || line_id, v, 9.5, 10.5,
       CASE WHEN v BETWEEN 9.5 AND 10.5 THEN 'pass' ELSE 'fail' END, (ARRAY['weber', 'rossi', 'novak', 'silva'])[1 + n % 4]
FROM (SELECT n, date_trunc('minute', now()) - n * interval '30 minutes' - round(1200 * pg_temp.noise(n, 1)) * interval '1 second' AS t,
             1 + floor(6 * pg_temp.noise(n, 2))::integer AS line_id,
             (ARRAY['dimension', 'weight', 'seal', 'visual'])[1 + floor(4 * pg_temp.noise(n, 3))::integer] AS check_type,
             round((10 + 0.25 * (pg_temp.noise(n, 4) + pg_temp.noise(n, 5) + pg_temp.noise(n, 6) + pg_temp.noise(n, 7) - 2)
                       + CASE WHEN pg_temp.noise(n, 8) < 0.06 THEN 0.6 ELSE 0 END)::numeric, 2)::double precision AS v
      FROM generate_series(0, 90 * 48 - 1) n) s
ORDER BY t;

-- 30 days, one every three minutes. What would still last now is active.
INSERT INTO factory_telemetry.fault_event (ts_on, ts_off, equipment_code, fault_code, severity, message)
SELECT t, nullif(least(t + lasts, now()), now()), equipment_code, 'F' || 100 + code, 1 + code % 4,
       (ARRAY['overtemperature', 'jam detected', 'guard open', 'low pressure', 'drive fault', 'sensor lost', 'speed deviation', 'label missing'])[1 + code]
FROM (SELECT date_trunc('minute', now()) - n * interval '3 minutes' - round(150 * pg_temp.noise(n, 1)) * interval '1 second' AS t,
             round(20 + 3000 * pg_temp.noise(n, 2) ^ 3) * interval '1 second' + CASE WHEN n IN (60, 200) THEN interval '2 days' ELSE interval '0' END AS lasts,
             floor(8 * pg_temp.noise(n, 3))::integer AS code, 1 + floor(24 * pg_temp.noise(n, 4) ^ 1.5)::integer AS machine
      FROM generate_series(0, 30 * 480 - 1) n) s
JOIN (SELECT row_number() OVER (ORDER BY equipment_code) AS machine, equipment_code FROM factory_telemetry.equipment) e USING (machine)
ORDER BY t;
