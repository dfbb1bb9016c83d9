-- Once in each database, as the superuser.
CREATE SCHEMA campaign;
GRANT USAGE ON SCHEMA campaign TO PUBLIC;
-- As PostgreSQL's comparison of intervals counts: a month has 30 days, a day 24 hours.
CREATE FUNCTION campaign.micros(i interval) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT (((extract(year FROM i) * 12 + extract(month FROM i)) * 30 + extract(day FROM i)) * 86400000000
        + extract(hour FROM i) * 3600000000 + extract(minute FROM i) * 60000000 + extract(microsecond FROM i))::bigint
$$;
