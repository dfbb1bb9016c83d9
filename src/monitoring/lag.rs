//! How far a continuous aggregate is behind.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    api::types::{Interval, Span},
    catalog::{Aggregate, Job, Policy, statistics::TableStatistics},
};

/// How far the materialisation is behind what the last run of the aggregate's refresh policy had to do, as of `at`, in whole
/// buckets; zero when nothing was left to do. `own` and `source` are what was read of the aggregate and of what it reads.
///
/// The last run began no longer ago than the schedule interval and the time that a run takes, and had to get to that time
/// less the end offset, or to the end of the source. Of several policies the one that gets furthest counts.
///
/// `None` where it cannot be known: time is an integer, no policy is in force, its offset cannot be read, or what there is to
/// materialise has no bounds.
pub fn lag(
    aggregate: &Aggregate,
    jobs: &[&Job],
    own: &TableStatistics,
    source: &TableStatistics,
    at: Timestamp,
) -> Option<Duration> {
    let bucket = aggregate.bucket?.time()?;
    let reached = |job: &&Job| match &job.policy {
        Policy::Refresh { end_offset, .. }
            if job.is_in_force() && !job.unreadable.iter().any(|key| key == "end_offset") =>
        {
            let offset = match end_offset {
                None => 0,
                Some(Span::Time(offset)) => offset.total_micros(),
                Some(Span::Integer(_)) => return None,
            };
            let run = job.statistics.last_duration().map_or(0, |took| took.as_micros());
            let run = i128::try_from(run).unwrap_or(i128::MAX);
            Some(micros(at).saturating_sub(offset + job.schedule_interval.total_micros()).saturating_sub(run))
        }
        _ => None,
    };
    let due = jobs.iter().filter_map(reached).max()?;
    if source.chunks == 0 {
        return Some(Duration::ZERO);
    }
    let due = due.min(micros(source.newest?));
    let done = own.watermark.max(own.refreshed_to).or(source.oldest)?;
    // What is materialised ends with a bucket.
    let behind = (due - micros(done)).max(0);
    let width = width(bucket).max(1);
    u64::try_from(behind - behind % width).ok().map(Duration::from_micros)
}

fn micros(time: Timestamp) -> i128 {
    i128::from(time.as_microsecond())
}

/// The width of a bucket in microseconds, of buckets of months the longest it can be: an interval counts a month as 30 days.
fn width(bucket: Interval) -> i128 {
    const MONTH: i128 = 30 * 86_400_000_000;
    let width = bucket.total_micros();
    width + if width < MONTH { 0 } else { width / 30 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::statistics::JobStatistics;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn aggregate(bucket: &str) -> Aggregate {
        let aggregate = serde_json::json!({"id": 2, "source_id": 1, "materialized_only": true, "fingerprint": "", "bucket": bucket});
        serde_json::from_value(aggregate).unwrap()
    }

    fn job(end_offset: &serde_json::Value) -> Job {
        let job = serde_json::json!({
            "id": 1000, "hypertable_id": 2, "policy": {"refresh": {"start_offset": null, "end_offset": end_offset}},
            "schedule_interval": "1 hour", "max_runtime": "00:00:00", "max_retries": -1, "retry_period": "1 hour",
        });
        serde_json::from_value(job).unwrap()
    }

    fn source(oldest: &str, newest: &str) -> TableStatistics {
        TableStatistics { chunks: 1, oldest: Some(at(oldest)), newest: Some(at(newest)), ..TableStatistics::default() }
    }

    fn up_to(watermark: &str) -> TableStatistics {
        TableStatistics { watermark: Some(at(watermark)), ..TableStatistics::default() }
    }

    const HOUR: Duration = Duration::from_hours(1);

    /// The lag at 12:30 of an hourly aggregate that is refreshed every hour up to an hour ago: the run before had to get to
    /// 10:30, and that is whole buckets up to 10:00.
    fn hourly(own: &TableStatistics, source: &TableStatistics) -> Option<Duration> {
        lag(&aggregate("1 hour"), &[&job(&"1 hour".into())], own, source, at("2026-03-01T12:30:00Z"))
    }

    #[test]
    fn the_lag_counts_whole_buckets_that_the_last_run_had_to_do() {
        let source = source("2026-01-01T00:00:00Z", "2026-03-08T00:00:00Z");
        for (watermark, hours) in [("12:00", 0), ("10:00", 0), ("09:00", 1), ("04:00", 6)] {
            let own = up_to(&format!("2026-03-01T{watermark}:00Z"));
            assert_eq!(hourly(&own, &source), Some(HOUR * hours), "materialised up to {watermark}");
        }
    }

    #[test]
    fn nothing_is_missing_after_the_end_of_the_source() {
        let source = source("2026-01-01T00:00:00Z", "2026-02-28T00:00:00Z");
        assert_eq!(hourly(&up_to("2026-02-28T00:00:00Z"), &source), Some(Duration::ZERO));
        assert_eq!(hourly(&up_to("2026-02-27T22:00:00Z"), &source), Some(HOUR * 2));
        assert_eq!(hourly(&TableStatistics::default(), &TableStatistics::default()), Some(Duration::ZERO), "no chunks");
    }

    #[test]
    fn what_was_refreshed_without_rows_in_it_is_done() {
        let source = source("2026-01-01T00:00:00Z", "2026-03-08T00:00:00Z");
        let own = TableStatistics { refreshed_to: Some(at("2026-03-01T11:00:00Z")), ..up_to("2026-02-01T00:00:00Z") };
        assert_eq!(hourly(&own, &source), Some(Duration::ZERO));
    }

    #[test]
    fn an_aggregate_that_was_never_refreshed_is_behind_by_all_of_its_source() {
        let source = source("2026-03-01T00:00:00Z", "2026-03-08T00:00:00Z");
        assert_eq!(hourly(&TableStatistics::default(), &source), Some(HOUR * 10));
    }

    #[test]
    fn the_lag_allows_for_the_time_that_a_run_takes() {
        let source = source("2026-01-01T00:00:00Z", "2026-03-08T00:00:00Z");
        let mut slow = job(&"1 hour".into());
        slow.statistics = JobStatistics {
            last_start: Some(at("2026-03-01T11:00:00Z")),
            last_finish: Some(at("2026-03-01T11:45:00Z")),
            ..JobStatistics::default()
        };
        let now = at("2026-03-01T12:30:00Z");
        let lag = lag(&aggregate("1 hour"), &[&slow], &up_to("2026-03-01T09:00:00Z"), &source, now);
        assert_eq!(lag, Some(Duration::ZERO));
    }

    #[test]
    fn of_several_policies_the_one_that_gets_furthest_counts() {
        let source = source("2026-01-01T00:00:00Z", "2026-03-08T00:00:00Z");
        let (near, far) = (job(&"1 hour".into()), job(&"30 days".into()));
        let now = at("2026-03-01T12:30:00Z");
        let own = up_to("2026-03-01T09:00:00Z");
        assert_eq!(lag(&aggregate("1 hour"), &[&far, &near], &own, &source, now), Some(HOUR));
        assert_eq!(lag(&aggregate("1 hour"), &[&far], &own, &source, now), Some(Duration::ZERO));
    }

    #[test]
    fn a_month_is_as_long_as_it_can_be() {
        let source = source("2025-01-01T00:00:00Z", "2026-06-01T00:00:00Z");
        let policy = job(&serde_json::Value::Null);
        let of = |now| lag(&aggregate("1 mon"), &[&policy], &up_to("2026-01-01T00:00:00Z"), &source, at(now));
        assert_eq!(of("2026-02-01T00:30:00Z"), Some(Duration::ZERO));
        assert_eq!(of("2026-02-02T00:00:00Z"), Some(HOUR * 24 * 31));
    }

    #[test]
    fn the_lag_is_absent_where_it_cannot_be_known() {
        let source = source("2026-01-01T00:00:00Z", "2026-03-08T00:00:00Z");
        let (own, now) = (up_to("2026-01-01T00:00:00Z"), at("2026-03-01T12:30:00Z"));
        let hourly = aggregate("1 hour");
        assert_eq!(lag(&hourly, &[], &own, &source, now), None, "no policy");
        let paused = Job { scheduled: false, ..job(&"1 hour".into()) };
        assert_eq!(lag(&hourly, &[&paused], &own, &source, now), None, "a paused policy");
        let unreadable = Job { unreadable: vec!["end_offset".to_owned()], ..job(&serde_json::Value::Null) };
        assert_eq!(lag(&hourly, &[&unreadable], &own, &source, now), None, "an unreadable policy");
        let integer = Aggregate { bucket: Some(Span::Integer(10)), ..hourly.clone() };
        assert_eq!(lag(&integer, &[&job(&5.into())], &own, &source, now), None, "integer time");
        let endless = TableStatistics { newest: None, ..source };
        assert_eq!(lag(&hourly, &[&job(&"1 hour".into())], &own, &endless, now), None, "a chunk without an end");
        let gave_up = Job { scheduled: false, gave_up: true, ..job(&"1 hour".into()) };
        let source = TableStatistics { newest: Some(now), ..endless };
        assert!(lag(&hourly, &[&gave_up], &own, &source, now).is_some(), "a policy that TimescaleDB has given up");
    }
}
