//! Sizes and backlogs, read beside the passes: a slow or failing reading leaves the last one in place.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::task::JoinHandle;

use crate::{
    catalog::{Catalog, Tables, statistics::Statistics},
    db::{Session, credentials::Endpoint},
    error::Failure,
    metrics::Metrics,
    monitoring::snapshot::Reading,
};

/// How long a pass waits for the sizes of a hypertable or an aggregate that it has not seen before, to show them at once.
const BRIEFLY: Duration = Duration::from_secs(1);
/// What is new is read no more often than this, and takes no more than this part of the time.
const NO_SOONER: Duration = Duration::from_secs(1);
const PART: u32 = 10;

/// What was read of one database at the statistics interval, and what is being read.
#[derive(Default)]
pub struct Readings {
    last: Option<Arc<Reading>>,
    failure: Option<Failure>,
    begun: Option<Begun>,
    running: Option<Running>,
}

/// The last reading that was begun.
struct Begun {
    at: Instant,
    took: Duration,
    /// What there was to read.
    of: Arc<Catalog>,
}

struct Running {
    task: JoinHandle<()>,
    end: Arc<Mutex<End>>,
}

impl Drop for Running {
    /// Closes the connection.
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Default)]
struct End {
    result: Option<(Duration, Result<Reading, Failure>)>,
    /// A pass is there to take it.
    is_awaited: bool,
}

/// When the next reading is to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// At the statistics interval; one is under way, or the last is young enough.
    Later,
    /// So soon, whatever the next pass is for: something is new.
    Soon(Duration),
    /// Now.
    Now {
        /// There is something that the last reading did not know.
        is_new: bool,
    },
}

impl Readings {
    /// The last reading that succeeded.
    pub fn last(&self) -> Option<&Arc<Reading>> {
        self.last.as_ref()
    }

    /// Why the last reading failed.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// Whether one is under way, on a connection of its own.
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Gives up the one under way: its connection is wanted. It is due again at once.
    pub fn give_way(&mut self) {
        if self.running.take().is_some() {
            self.begun = None;
        }
    }

    /// Takes the result of a reading that has ended. Returns why it failed, if that is news.
    pub fn take_ended(&mut self) -> Option<&Failure> {
        let (took, result) = lock(&self.running.as_ref()?.end).result.take()?;
        self.running = None;
        if let Some(begun) = &mut self.begun {
            begun.took = took;
        }
        self.failure = match result {
            Ok(reading) => {
                self.last = Some(Arc::new(reading));
                None
            }
            Err(failure) => Some(failure),
        };
        self.failure.as_ref()
    }

    /// When the next reading is to begin. One that failed is tried again at the statistics interval; something new is read
    /// sooner, but not in a loop.
    pub fn due(&self, catalog: &Catalog, every: Duration) -> Due {
        if self.is_running() {
            return Due::Later;
        }
        let Some(Begun { at, took, of }) = &self.begun else { return Due::Now { is_new: self.last.is_none() } };
        let elapsed = at.elapsed();
        let is_new = !knows(&of.hypertables, &catalog.hypertables) || !knows(&of.aggregates, &catalog.aggregates);
        if elapsed >= every {
            return Due::Now { is_new };
        }
        if !is_new || self.failure.is_some() {
            return Due::Later;
        }
        let pause = took.saturating_mul(PART).max(NO_SOONER).min(every);
        match pause.checked_sub(elapsed) {
            Some(left) if !left.is_zero() => Due::Soon(left),
            _ => Due::Now { is_new },
        }
    }

    /// Begins a reading beside the pass, on a connection of its own, and calls `wake` at the end. What is new may be waited
    /// for, briefly.
    pub async fn start(
        &mut self,
        endpoint: Endpoint,
        catalog: Arc<Catalog>,
        is_new: bool,
        metrics: Metrics,
        wake: impl FnOnce() + Send + 'static,
    ) {
        self.begun = Some(Begun { at: Instant::now(), took: Duration::ZERO, of: catalog.clone() });
        let end = Arc::new(Mutex::new(End { result: None, is_awaited: is_new }));
        let ended = end.clone();
        let mut task = tokio::spawn(async move {
            let started = Instant::now();
            let statistics = read(&endpoint, &catalog, &metrics).await;
            let took = started.elapsed();
            let result = statistics.map(|statistics| Reading { at: Timestamp::now(), took, statistics });
            let is_awaited = {
                let mut ended = lock(&ended);
                ended.result = Some((took, result));
                ended.is_awaited
            };
            if !is_awaited {
                wake();
            }
        });
        if is_new {
            // Whichever way it ends: the result, or none yet, is where the pass looks for it.
            let _ = tokio::time::timeout(BRIEFLY, &mut task).await;
            lock(&end).is_awaited = false;
        }
        self.running = Some(Running { task, end });
    }
}

fn knows<T>(of: &Tables<T>, tables: &Tables<T>) -> bool {
    of.is_same(tables) || tables.keys().all(|relation| of.contains_key(relation))
}

async fn read(endpoint: &Endpoint, catalog: &Catalog, metrics: &Metrics) -> Result<Statistics, Failure> {
    Session::connect(endpoint, metrics).await?.statistics(catalog).await
}

fn lock(end: &Mutex<End>) -> MutexGuard<'_, End> {
    // A panic while it was locked leaves it whole: it is only ever set and taken.
    end.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::status::Reason, catalog::Hypertable, error::Class};

    const EVERY: Duration = Duration::from_mins(5);

    fn catalog(tables: &[&str]) -> Catalog {
        let hypertables = tables.iter().map(|table| (table.parse().unwrap(), Hypertable::default())).collect();
        Catalog { hypertables, ..Catalog::default() }
    }

    /// Readings of which the last began so long ago, took so long, and knew these tables.
    fn begun(ago: Duration, took: Duration, tables: &[&str]) -> Readings {
        let at = Instant::now().checked_sub(ago).unwrap();
        Readings { begun: Some(Begun { at, took, of: Arc::new(catalog(tables)) }), ..Readings::default() }
    }

    #[test]
    fn a_reading_is_due_at_the_start_and_at_the_interval() {
        let known = catalog(&["public.a"]);
        assert_eq!(Readings::default().due(&known, EVERY), Due::Now { is_new: true });
        let young = begun(EVERY / 2, Duration::ZERO, &["public.a"]);
        assert_eq!(young.due(&known, EVERY), Due::Later);
        let old = begun(EVERY, Duration::ZERO, &["public.a"]);
        assert_eq!(old.due(&known, EVERY), Due::Now { is_new: false });
    }

    #[test]
    fn what_is_new_is_read_soon_and_no_more_than_a_tenth_of_the_time() {
        let more = catalog(&["public.a", "public.b"]);
        let cheap = begun(NO_SOONER, Duration::from_millis(1), &["public.a"]);
        assert_eq!(cheap.due(&more, EVERY), Due::Now { is_new: true });
        let dear = begun(NO_SOONER, Duration::from_secs(20), &["public.a"]);
        match dear.due(&more, EVERY) {
            Due::Soon(pause) => assert!(pause > Duration::from_secs(190) && pause < Duration::from_secs(200)),
            due => panic!("{due:?}"),
        }
        assert_eq!(dear.due(&catalog(&["public.a"]), EVERY), Due::Later, "what is gone is not new");
    }

    #[test]
    fn what_is_new_does_not_bring_forward_a_reading_that_fails() {
        let mut failing = begun(EVERY / 2, Duration::ZERO, &["public.a"]);
        failing.failure = Some(Failure::new(Class::Transient, Reason::Retrying, "slow"));
        assert_eq!(failing.due(&catalog(&["public.b"]), EVERY), Due::Later);
    }
}
