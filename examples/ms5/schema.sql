-- MS5 factory telemetry: plain PostgreSQL tables, as a migration tool would leave them.
-- Nothing here needs TimescaleDB: the operator turns the seven big tables into hypertables (20-hypertables.yaml).
--
-- A hypertable's primary key must hold every partitioning column: the time column and the column of the space partitions.
-- That is why the keys below are composite. refused/ shows what happens with PRIMARY KEY (id) alone.
-- Foreign keys stand only where rows are few, and only on columns that compression segments by.

CREATE SCHEMA factory_telemetry;

-- Lookup tables: small, they stay plain tables.

CREATE TABLE factory_telemetry.production_lines (
    line_id    integer PRIMARY KEY,
    line_code  text    NOT NULL UNIQUE,
    line_name  text    NOT NULL,
    area       text    NOT NULL
);

CREATE TABLE factory_telemetry.equipment (
    equipment_code  text    PRIMARY KEY,
    line_id         integer NOT NULL REFERENCES factory_telemetry.production_lines,
    equipment_type  text    NOT NULL,
    rated_power_kw  double precision NOT NULL CHECK (rated_power_kw > 0)
);

CREATE TABLE factory_telemetry.metric_definitions (
    metric_def_id   integer PRIMARY KEY,
    equipment_code  text    NOT NULL REFERENCES factory_telemetry.equipment,
    metric_name     text    NOT NULL,
    unit            text    NOT NULL,
    setpoint        double precision NOT NULL,
    UNIQUE (equipment_code, metric_name)
);

CREATE TABLE factory_telemetry.shifts (
    shift_id    smallint PRIMARY KEY,
    shift_name  text     NOT NULL,
    starts_at   time     NOT NULL,
    ends_at     time     NOT NULL
);

-- The seven tables that become hypertables.

-- Operational telemetry: what the controllers report.
CREATE TABLE factory_telemetry.metric_hist (
    ts              timestamptz NOT NULL,
    metric_def_id   integer     NOT NULL,
    equipment_code  text        NOT NULL,
    value           double precision NOT NULL,
    quality         smallint    NOT NULL DEFAULT 192,   -- OPC quality: 192 is good
    PRIMARY KEY (metric_def_id, ts)
);

-- Overall equipment effectiveness and its three factors.
CREATE TABLE factory_telemetry.oee_calculations (
    calculation_time  timestamptz NOT NULL,
    line_id           integer     NOT NULL,
    equipment_code    text        NOT NULL,
    availability      double precision NOT NULL CHECK (availability BETWEEN 0 AND 1),
    performance       double precision NOT NULL CHECK (performance BETWEEN 0 AND 1),
    quality           double precision NOT NULL CHECK (quality BETWEEN 0 AND 1),
    oee               double precision NOT NULL CHECK (oee BETWEEN 0 AND 1),
    good_units        integer     NOT NULL,
    total_units       integer     NOT NULL,
    PRIMARY KEY (line_id, equipment_code, calculation_time)
);

-- Meter readings: energy since the reading before.
CREATE TABLE factory_telemetry.energy_consumption (
    consumption_time  timestamptz NOT NULL,
    equipment_code    text        NOT NULL,
    line_id           integer     NOT NULL,
    energy_kwh        double precision NOT NULL CHECK (energy_kwh >= 0),
    power_kw          double precision NOT NULL CHECK (power_kw >= 0),
    power_factor      double precision NOT NULL CHECK (power_factor BETWEEN 0 AND 1),
    PRIMARY KEY (equipment_code, consumption_time)
);

-- One row for each line and shift.
CREATE TABLE factory_telemetry.production_kpis (
    kpi_date         date     NOT NULL,
    line_id          integer  NOT NULL REFERENCES factory_telemetry.production_lines,
    shift_id         smallint NOT NULL REFERENCES factory_telemetry.shifts,
    planned_units    integer  NOT NULL,
    produced_units   integer  NOT NULL,
    scrap_units      integer  NOT NULL,
    runtime_minutes  integer  NOT NULL,
    oee              double precision NOT NULL,
    PRIMARY KEY (line_id, shift_id, kpi_date)
);

-- Stops. A downtime without an end is open.
CREATE TABLE factory_telemetry.downtime_events (
    id              bigint      GENERATED ALWAYS AS IDENTITY,
    start_time      timestamptz NOT NULL,
    end_time        timestamptz,
    line_id         integer     NOT NULL REFERENCES factory_telemetry.production_lines,
    equipment_code  text        NOT NULL,
    category        text        NOT NULL CHECK (category IN ('breakdown', 'changeover', 'material', 'planned', 'quality')),
    reason          text        NOT NULL,
    CHECK (end_time >= start_time),
    PRIMARY KEY (id, line_id, start_time)
);

-- Quality records (FDA, ISO).
CREATE TABLE factory_telemetry.quality_checks (
    id              bigint      GENERATED ALWAYS AS IDENTITY,
    check_time      timestamptz NOT NULL,
    line_id         integer     NOT NULL REFERENCES factory_telemetry.production_lines,
    check_type      text        NOT NULL CHECK (check_type IN ('dimension', 'weight', 'seal', 'visual')),
    batch_id        text        NOT NULL,
    measured_value  double precision NOT NULL,
    lower_limit     double precision NOT NULL,
    upper_limit     double precision NOT NULL,
    result          text        NOT NULL CHECK (result IN ('pass', 'fail')),
    inspector       text        NOT NULL,
    PRIMARY KEY (id, line_id, check_time)
);

-- Faults raised by the equipment. A fault without ts_off is active.
CREATE TABLE factory_telemetry.fault_event (
    id              bigint      GENERATED ALWAYS AS IDENTITY,
    ts_on           timestamptz NOT NULL,
    ts_off          timestamptz,
    equipment_code  text        NOT NULL,
    fault_code      text        NOT NULL,
    severity        smallint    NOT NULL CHECK (severity BETWEEN 1 AND 4),   -- 1 is the worst
    message         text        NOT NULL,
    CHECK (ts_off >= ts_on),
    PRIMARY KEY (id, equipment_code, ts_on)
);
