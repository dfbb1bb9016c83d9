-- The table of simple.yaml: a plain PostgreSQL table. The primary key holds the time column, as a hypertable needs.

CREATE TABLE public.readings (
    sensor_id    integer     NOT NULL,
    recorded_at  timestamptz NOT NULL,
    value        double precision NOT NULL,
    PRIMARY KEY (sensor_id, recorded_at)
);

-- Ten sensors, 60 days, one reading each hour.
INSERT INTO public.readings
SELECT s, date_trunc('hour', now()) - h * interval '1 hour', 20 + s + round((5 * sin(h * pi() / 12))::numeric, 1)
FROM generate_series(1, 10) s, generate_series(0, 60 * 24 - 1) h;
