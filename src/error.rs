//! Errors are classed once; the class decides the requeue, the condition, the metric label and the exit code.

use std::time::Duration;

use crate::api::{status::Reason, types::Interval};

/// Who can do something about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// It passes by itself: tried again with growing, jittered pauses.
    Transient,
    /// A person has to change something: looked at again when that changes, and at every resync.
    User,
    /// A defect of this operator.
    Bug,
}

impl Class {
    /// All classes, for metrics that show zero before the first error.
    pub const ALL: [Self; 3] = [Self::Transient, Self::User, Self::Bug];

    /// The metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::User => "user",
            Self::Bug => "bug",
        }
    }
}

/// Something that went wrong, with its cause and remedy in the message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Who can do something about it.
    pub class: Class,
    /// The reason shown.
    pub reason: Reason,
    /// What happened, to what, and what to do.
    pub message: String,
}

impl Failure {
    /// A failure of this class and reason.
    pub fn new(class: Class, reason: Reason, message: impl Into<String>) -> Self {
        Self { class, reason, message: message.into() }
    }
}

/// An error with all its causes, joined by colons. Causes that the text of their parent repeats are left out.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// The first pause after a transient failure.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The pause before the next attempt. `failures` counts the failures in a row (at least 1), `resync` is the longest
/// pause, `jitter` a random number in [0, 1).
///
/// Transient: doubled with every failure up to the resync interval, half of it random, so that many databases that
/// failed together do not come back together. Otherwise: the resync interval, jittered by a tenth.
pub fn pause(class: Class, failures: u32, resync: Interval, jitter: f64) -> Duration {
    let longest = resync.to_duration().max(FIRST_PAUSE);
    match class {
        Class::Transient => {
            let doubled = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16));
            doubled.min(longest).mul_f64(jitter.clamp(0.0, 1.0).mul_add(0.5, 0.5))
        }
        Class::User | Class::Bug => resync_pause(resync, jitter),
    }
}

/// The pause until the next look at a database that needs nothing: the resync interval, less up to a tenth.
pub fn resync_pause(resync: Interval, jitter: f64) -> Duration {
    resync.to_duration().mul_f64(jitter.clamp(0.0, 1.0).mul_add(-0.1, 1.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RESYNC: Interval = Interval::from_seconds(30);

    #[test]
    fn transient_pauses_grow_up_to_the_resync_interval() {
        let pauses: Vec<_> = (1..10).map(|n| pause(Class::Transient, n, RESYNC, 1.0)).collect();
        assert_eq!(pauses[0], FIRST_PAUSE);
        assert!(pauses.is_sorted());
        assert_eq!(pauses[8], Duration::from_secs(30));
    }

    proptest! {
        #[test]
        fn no_pause_is_longer_than_a_resync_or_shorter_than_half_the_first(failures in 0..1000u32, jitter in 0.0..1.0f64) {
            for class in Class::ALL {
                let pause = pause(class, failures, RESYNC, jitter);
                prop_assert!(pause <= Duration::from_secs(30));
                prop_assert!(pause >= FIRST_PAUSE / 2);
            }
        }
    }
}
