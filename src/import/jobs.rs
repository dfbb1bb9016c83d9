//! When the job of a policy runs, without what TimescaleDB would choose for a new one.

use std::cmp;

use super::spans::interval_text;
use crate::{
    api::types::{Interval, IntervalText, Schedule, Span},
    catalog::{Hypertable, Job, PolicyKind},
};

/// The most retries that the API takes.
const MOST_RETRIES: i32 = 1_000_000;
/// The longest name of a time zone that the API takes, in characters.
const LONGEST_ZONE: usize = 63;

/// What TimescaleDB chooses for a new job (`tsl/src/bgw_policy`, the same from 2.14 on).
struct Choice {
    /// `None`: it must be given.
    interval: Option<Interval>,
    max_runtime: Interval,
    retry_period: Interval,
}

/// Retries without end.
const MAX_RETRIES: i32 = -1;

fn choice(job: &Job, host: &Hypertable) -> Choice {
    let (hour, day) = (Interval::from_seconds(3600), Interval::from_days(1));
    let (none, five_minutes) = (Interval::from_seconds(0), Interval::from_seconds(300));
    let half_a_chunk = match host.chunk_interval() {
        Some(Span::Time(chunk)) => i64::try_from(chunk.total_micros() / 2).ok().map(Interval::from_micros),
        Some(Span::Integer(_)) | None => None,
    };
    match job.policy.kind() {
        PolicyKind::Compression => Choice {
            interval: Some(half_a_chunk.map_or(day, |half| cmp::min(half, hour.times(12)))),
            max_runtime: none,
            retry_period: hour,
        },
        PolicyKind::Retention => Choice { interval: Some(day), max_runtime: five_minutes, retry_period: five_minutes },
        PolicyKind::Refresh => Choice { interval: None, max_runtime: none, retry_period: job.schedule_interval },
        PolicyKind::Reorder => Choice {
            interval: Some(half_a_chunk.unwrap_or(day.times(4))),
            max_runtime: none,
            retry_period: five_minutes,
        },
    }
}

/// The schedule, remarks on what it cannot say, and whether the policy is paused.
pub(super) fn schedule(job: &Job, host: &Hypertable, remarks: &mut Vec<String>) -> (Schedule, bool) {
    let choice = choice(job, host);
    let mut say = |field: &str, value: Interval, chosen: Option<Interval>, least: Interval| -> Option<IntervalText> {
        if chosen == Some(value) {
            return None;
        }
        let text = interval_text(value).filter(|_| value >= least);
        if text.is_none() {
            remarks.push(format!("schedule.{field} is left out: {value} cannot be said"));
        }
        text
    };
    let (nothing, something) = (Interval::from_seconds(0), Interval::from_micros(1));
    let interval = say("interval", job.schedule_interval, choice.interval, something);
    let max_runtime = say("maxRuntime", job.max_runtime, Some(choice.max_runtime), nothing);
    let retry_period = say("retryPeriod", job.retry_period, Some(choice.retry_period), something);
    let max_retries = Some(job.max_retries).filter(|retries| *retries != MAX_RETRIES);
    if max_retries.is_some_and(|retries| !(0..=MOST_RETRIES).contains(&retries)) {
        remarks.push(format!("schedule.maxRetries is left out: {} cannot be said", job.max_retries));
    }
    let initial_start = job.initial_start.filter(|_| job.fixed_schedule).map(|start| start.to_string());
    if job.fixed_schedule && initial_start.is_none() {
        remarks.push("schedule.initialStart is left out: the start of the fixed schedule cannot be said".to_owned());
    }
    let timezone = job.timezone.clone();
    if timezone.as_ref().is_some_and(|zone| zone.is_empty() || zone.chars().count() > LONGEST_ZONE) {
        remarks.push("schedule.timezone is left out: it is too long".to_owned());
    }
    if job.gave_up {
        remarks.push(format!(
            "paused: TimescaleDB stopped scheduling job {} after its retries; see timescaledb_information.job_errors, and take this off when the cause is mended",
            job.id
        ));
    }
    let schedule = Schedule {
        interval,
        initial_start,
        timezone: timezone.filter(|zone| !zone.is_empty() && zone.chars().count() <= LONGEST_ZONE),
        max_runtime,
        max_retries: max_retries.filter(|retries| (0..=MOST_RETRIES).contains(retries)),
        retry_period,
    };
    (schedule, !job.scheduled)
}
