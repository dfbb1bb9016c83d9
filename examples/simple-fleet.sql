-- The tables of simple-fleet.yaml: plain PostgreSQL tables.

CREATE TABLE public.temperatures (sensor_id integer NOT NULL, recorded_at timestamptz NOT NULL, value double precision NOT NULL);
CREATE TABLE public.pressures (sensor_id integer NOT NULL, recorded_at timestamptz NOT NULL, value double precision NOT NULL);
