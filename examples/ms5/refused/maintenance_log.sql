-- A table that the operator must refuse to convert: its primary key holds only the id.
-- A unique index of a hypertable must hold every partitioning column, here performed_at; otherwise TimescaleDB cannot keep it unique (SQLSTATE TS103).
-- Needs the schema factory_telemetry of ../schema.sql.

CREATE TABLE factory_telemetry.maintenance_log (
    id              bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    performed_at    timestamptz NOT NULL,
    equipment_code  text        NOT NULL,
    technician      text        NOT NULL,
    work_done       text        NOT NULL
);

INSERT INTO factory_telemetry.maintenance_log (performed_at, equipment_code, technician, work_done)
SELECT date_trunc('hour', now()) - n * interval '3 days', 'L' || 1 + n % 6 || '-MIX', (ARRAY['weber', 'novak'])[1 + n % 2], 'seals checked'
FROM generate_series(0, 19) n;

-- The fix is the table owner's to make, because it changes what the key promises:
--   ALTER TABLE factory_telemetry.maintenance_log DROP CONSTRAINT maintenance_log_pkey, ADD PRIMARY KEY (id, performed_at);
