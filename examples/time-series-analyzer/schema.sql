-- Time series analyzer: plain PostgreSQL tables, as a migration leaves them. One of them becomes a hypertable (policies.yaml).
CREATE TABLE time_series_metadata (
    id          bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    name        text NOT NULL,
    uploaded_at timestamptz NOT NULL DEFAULT now()
);

-- The time column is in the key: a unique index of a hypertable must hold it.
CREATE TABLE time_series_data_points (
    id             bigint GENERATED ALWAYS AS IDENTITY,
    time_series_id bigint NOT NULL REFERENCES time_series_metadata ON DELETE CASCADE,
    "timestamp"    timestamptz NOT NULL,
    column_name    text NOT NULL,
    value          double precision,
    PRIMARY KEY (id, "timestamp")
);
