//! Whether the scheduler keeps up with a job.

use std::time::Duration;

use jiff::Timestamp;

use crate::catalog::statistics::JobStatistics;

/// How long a job that is on the schedule (`scheduled`) should have started ago, as of `at`. Zero when it is not due, not on
/// the schedule, or running: TimescaleDB plans the next start when a run ends.
pub fn overdue(scheduled: bool, statistics: &JobStatistics, at: Timestamp) -> Duration {
    match statistics.next_start {
        Some(next) if scheduled => Duration::try_from(at.duration_since(next)).unwrap_or_default(),
        _ => Duration::ZERO,
    }
}

/// Whether the scheduler has passed a job by that it should have started, as of `at`: after a burst of new jobs it may never
/// plan some of them. One whose first start lies ahead is none.
pub fn never_started(scheduled: bool, statistics: &JobStatistics, at: Timestamp) -> bool {
    let began = statistics.runs > 0 || statistics.last_start.is_some();
    scheduled && !began && statistics.next_start.is_none_or(|next| next < at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn planned(next: &str) -> JobStatistics {
        JobStatistics { next_start: Some(at(next)), ..JobStatistics::default() }
    }

    #[test]
    fn a_job_is_overdue_from_its_next_start_on() {
        let job = planned("2026-01-01T00:00:00Z");
        assert_eq!(overdue(true, &job, at("2026-01-01T00:01:30Z")), Duration::from_secs(90));
        assert_eq!(overdue(true, &job, at("2025-12-31T23:59:00Z")), Duration::ZERO);
        assert_eq!(overdue(false, &job, at("2026-01-01T00:01:30Z")), Duration::ZERO);
        assert_eq!(overdue(true, &JobStatistics::default(), at("2026-01-01T00:01:30Z")), Duration::ZERO);
    }

    #[test]
    fn a_job_whose_first_start_lies_ahead_is_not_passed_by() {
        let now = at("2026-01-01T00:00:00Z");
        assert!(never_started(true, &JobStatistics::default(), now));
        assert!(never_started(true, &planned("2025-12-31T00:00:00Z"), now));
        assert!(!never_started(true, &planned("2026-01-02T00:00:00Z"), now));
        assert!(!never_started(false, &JobStatistics::default(), now));
        let running = JobStatistics { last_start: Some(now), ..JobStatistics::default() };
        assert!(!never_started(true, &running, now));
        let ran = JobStatistics { runs: 1, ..JobStatistics::default() };
        assert!(!never_started(true, &ran, now));
    }
}
