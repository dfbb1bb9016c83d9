//! Watches, passes, reports. The database is the reconcile key: kube's scheduler is the per-database worker, serial per
//! database, parallel across databases.

mod apply;
mod attached;
mod conclude;
mod detached;
mod fleet;
mod jobs;
mod memo;
mod monitoring_schema;
mod pass;
mod readings;
mod reconcile;
mod report;
pub mod scope;
mod state;
mod stores;
mod watches;
mod written;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{Stream, StreamExt};
use kube::{
    Client,
    runtime::{
        Config,
        controller::{Controller, Error},
        reflector::ObjectRef,
        watcher,
    },
};
use tokio::sync::{mpsc, watch};

use crate::{
    api::{
        CompressionPolicy, ContinuousAggregate, Hypertable, RetentionPolicy, TimescaleDatabase,
        timescale_database::Defaults, types::TargetKind,
    },
    desired::{PolicyTarget, TargetId},
    error::{Failure, chain},
    memory::{self, Bursts},
    metrics::Metrics,
    monitoring::{Board, DatabaseKey},
    status::{Observed, Outcome, Selection, Summary, summarize_selected},
};
use attached::Member;
use fleet::{Fleet, Objects};
use report::{Note, Reporter, Voice};
use scope::Scope;
use state::State;
use stores::{Stores, database_ref};

/// Changes that come in a burst (`kubectl apply -f` of a folder) make one pass.
const DEBOUNCE: Duration = Duration::from_millis(10);
/// How long running passes may take to end after the signal to stop.
const DRAIN: Duration = Duration::from_secs(20);
/// Pause before databases that could not be reported on are looked at again.
const DETACHED_RETRY: Duration = Duration::from_secs(5);

/// Whether the operator is alive and ready, for its probes.
#[derive(Debug, Default)]
pub struct Health {
    synced: AtomicBool,
    beat: Mutex<Option<Instant>>,
}

impl Health {
    /// Every store has been filled: the operator sees the cluster.
    pub fn is_ready(&self) -> bool {
        self.synced.load(Ordering::Relaxed)
    }

    /// The loop that drives everything turned within the last minute. Before it started there is nothing to hold against it.
    pub fn is_alive(&self) -> bool {
        self.beat.lock().unwrap_or_else(PoisonError::into_inner).is_none_or(|at| at.elapsed() < Duration::from_mins(1))
    }

    fn beat(&self) {
        *self.beat.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
}

/// What every pass shares.
pub(crate) struct Context {
    stores: Stores,
    reporter: Reporter,
    metrics: Metrics,
    board: Board,
    states: Mutex<HashMap<ObjectRef<TimescaleDatabase>, Arc<tokio::sync::Mutex<State>>>>,
    wake: mpsc::UnboundedSender<ObjectRef<TimescaleDatabase>>,
    filled: watch::Receiver<bool>,
    leading: watch::Receiver<bool>,
    defaults: Defaults,
    /// Held while somebody is told that he has no database: two at once would both take it for news.
    detached: tokio::sync::Mutex<()>,
}

impl Context {
    /// Takes note of what became of a policy that selects targets in this database; returns what became of it in all its
    /// databases, once each has been looked at, and what is worth an event: targets that it has lost.
    fn selected(
        &self,
        member: &Member,
        database: &DatabaseKey,
        outcomes: Vec<Outcome>,
    ) -> Option<(Selection, Vec<Note>)> {
        let (key, fleet) = (member.key(), &self.stores.fleet);
        if member.is_deleting() && !member.has_finalizer() {
            fleet.forget(&key);
        }
        let outcomes = fleet.note(&key, &member.uid(), database, outcomes, &member.databases(&self.stores))?;
        if member.is_deleting() {
            return Some((Selection { outcomes, gone: Vec::new() }, Vec::new()));
        }
        let targets: Objects = outcomes.iter().map(|outcome| outcome.target.id_and_object()).collect();
        let (before, was_gone) = fleet.targets(&key).unwrap_or_else(|| member.recorded());
        let (mut gone, mut notes) = (Objects::new(), Vec::new());
        let before = before.into_iter().map(|target| (target, false));
        for ((id, object), was_gone) in before.chain(was_gone.into_iter().map(|target| (target, true))) {
            let why = match targets.get(&id) {
                Some(now) if *now == object => continue,
                Some(now) => format!("is {}.{} now", now.schema, now.table),
                None if self.stores.is_there(&id, &key.1) => "is not selected any more".to_owned(),
                None => {
                    gone.insert(id.clone(), object.clone());
                    if was_gone {
                        continue;
                    }
                    "is deleted".to_owned()
                }
            };
            notes.push(member.lost(&id, &object, &why));
        }
        fleet.remember(&key, targets, gone.clone());
        let gone = gone.into_iter().map(|(id, object)| attached::gone(id, object)).collect();
        Some((Selection { outcomes, gone }, notes))
    }

    /// Makes sure that a selected target is still as it was seen.
    async fn confirm_target(&self, target: &TargetId, policy: &Member) -> Result<(), Failure> {
        let (_, namespace, _) = policy.key();
        match self.stores.target(target, &namespace) {
            Some(PolicyTarget::Hypertable(hypertable)) => self.reporter.confirm(&*hypertable).await,
            Some(PolicyTarget::Aggregate(aggregate)) => self.reporter.confirm(&*aggregate).await,
            Some(PolicyTarget::Recorded(..)) | None => Ok(()),
        }
    }

    /// Tells members the same: of policies that select their targets, for those in this database. Nobody gets an event of
    /// what they are all told, for there may be thousands of them.
    async fn tell(
        &self,
        members: impl Iterator<Item = &Member>,
        database: &DatabaseKey,
        resource: Option<&TimescaleDatabase>,
        summary: &Summary,
        voice: Voice,
    ) -> Result<(), Failure> {
        let members: Vec<_> = members.collect();
        let mut told = Vec::new();
        for member in members {
            if !member.is_selecting() {
                told.push((member, Some(summary.clone()), None));
                continue;
            }
            let key = member.key();
            let outcome = |target| {
                let mut outcome = member.outcome(target, Some(summary.clone()), resource, None, &BTreeMap::new());
                // The status at hand may be older than what was seen last.
                let known = self.stores.fleet.job_id(&key, &outcome.target);
                outcome.target.job_id = outcome.target.job_id.or(known);
                outcome
            };
            let outcomes = member.selected().iter().map(outcome).collect();
            if let Some((all, notes)) = self.selected(member, database, outcomes) {
                let said = if all.outcomes.is_empty() { Some(summary.clone()) } else { summarize_selected(&key, &all) };
                told.push((member, said, Some((all, notes))));
            }
        }
        let writes = told.iter().filter_map(|(member, summary, selected)| {
            let selection = selected.as_ref().map(|(selection, _)| selection);
            let notes = selected.iter().flat_map(|(_, notes)| notes).collect();
            let observed = Observed { target: member.target(), selected: selection, ..Observed::default() };
            member.settle(&self.reporter, summary.clone(), observed, notes, voice)
        });
        attached::all(writes).await
    }

    /// Lets go of a member without touching the database. A policy that selects targets in other databases too keeps its
    /// finalizer for them.
    async fn let_go(&self, member: &Member, database: &DatabaseKey, why: &str) -> Result<(), Failure> {
        if !member.is_selecting() || member.databases(&self.stores).iter().all(|other| other == database) {
            return member.orphan(&self.reporter, why).await;
        }
        if !member.is_deleting() {
            return Ok(());
        }
        let released =
            member.selected().iter().map(|target| member.outcome(target, None, None, None, &BTreeMap::new())).collect();
        match self.selected(member, database, released) {
            Some((all, _)) if all.outcomes.iter().all(|outcome| outcome.summary.is_none()) => {
                member.orphan(&self.reporter, why).await
            }
            _ => Ok(()),
        }
    }

    /// Every store has been filled once. Not kube's `wait_until_ready`, which wakes only the one who asked last: passes
    /// run in tasks of their own.
    async fn ready(&self) {
        // An error means that the operator is shutting down.
        let _ = self.filled.clone().wait_for(|filled| *filled).await;
    }

    /// The same, without waiting for it.
    fn is_filled(&self) -> bool {
        *self.filled.borrow()
    }

    /// This instance acts. One that stands by looks at everything once it comes to lead.
    fn is_leading(&self) -> bool {
        *self.leading.borrow()
    }

    fn state(&self, database: &TimescaleDatabase) -> Arc<tokio::sync::Mutex<State>> {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        states.entry(ObjectRef::from_obj(database)).or_default().clone()
    }

    fn forget(&self, database: &TimescaleDatabase) {
        self.forget_ref(&ObjectRef::from_obj(database));
    }

    /// Closes the connections to a database that is not looked after any more.
    fn forget_ref(&self, database: &ObjectRef<TimescaleDatabase>) {
        let namespace = database.namespace.as_deref().unwrap_or_default();
        self.board.forget(&(namespace.to_owned(), database.name.clone()));
        self.states.lock().unwrap_or_else(PoisonError::into_inner).remove(database);
    }

    /// Calls for another pass over the database.
    fn waker(&self, database: &TimescaleDatabase) -> impl FnOnce() + Send + 'static {
        let (wake, database) = (self.wake.clone(), ObjectRef::from_obj(database));
        move || {
            // Nobody listens any more only when the operator is stopping.
            let _ = wake.send(database);
        }
    }
}

/// How the controller runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Databases that are looked after at the same time.
    pub concurrency: u16,
    /// Name of this instance in events.
    pub instance: String,
    /// What it looks after.
    pub scope: Scope,
    /// Where neither a resource nor its database says anything.
    pub defaults: Defaults,
}

/// Runs until told to stop: watches every kind and looks after every database.
///
/// # Errors
/// None: without an API server it goes on trying, without a database it serves all others.
pub async fn run(
    client: Client,
    settings: Settings,
    metrics: Metrics,
    board: Board,
    health: Arc<Health>,
    leading: watch::Receiver<bool>,
    mut stop: watch::Receiver<bool>,
) {
    let Settings { concurrency, instance, scope, defaults } = settings;
    let (databases, database_changes) = watches::watch::<TimescaleDatabase>(&client, &scope);
    let (hypertables, hypertable_changes) = watches::watch::<Hypertable>(&client, &scope);
    let (aggregates, aggregate_changes) = watches::watch::<ContinuousAggregate>(&client, &scope);
    let (compression, compression_changes) = watches::watch::<CompressionPolicy>(&client, &scope);
    let (retention, retention_changes) = watches::watch::<RetentionPolicy>(&client, &scope);
    let (namespaces, namespace_changes) = watches::watch_namespaces(&client, &scope);
    let stores = Stores {
        databases: databases.clone(),
        hypertables,
        aggregates,
        compression,
        retention,
        namespaces,
        fleet: Arc::new(Fleet::default()),
        scope: Arc::new(scope),
    };

    let (wake, woken) = mpsc::unbounded_channel();
    let (filled, is_filled) = watch::channel(false);
    let context = Arc::new(Context {
        stores: stores.clone(),
        reporter: Reporter::new(client, metrics.clone(), instance, stores.clone()),
        metrics,
        board,
        states: Mutex::default(),
        wake: wake.clone(),
        filled: is_filled,
        leading: leading.clone(),
        defaults,
        detached: tokio::sync::Mutex::default(),
    });

    let (targets_hypertable, targets_aggregate) = (stores.clone(), stores.clone());
    let (policies_compression, policies_retention) = (stores.clone(), stores.clone());
    let databases_by_namespace = stores.clone();
    let mut stopping = stop.clone();
    let controller = Controller::for_stream(logged("TimescaleDatabase", database_changes), databases)
        .with_config(Config::default().concurrency(concurrency).debounce(DEBOUNCE))
        .watches_stream(logged("Hypertable", hypertable_changes), move |h| {
            targets_hypertable.databases_touched_by_target(TargetKind::Hypertable, &h.spec.database_ref, &h)
        })
        .watches_stream(logged("ContinuousAggregate", aggregate_changes), move |a| {
            targets_aggregate.databases_touched_by_target(TargetKind::ContinuousAggregate, &a.spec.database_ref, &a)
        })
        .watches_stream(logged("CompressionPolicy", compression_changes), move |p| {
            policies_compression.databases_touched_by(&p)
        })
        .watches_stream(logged("RetentionPolicy", retention_changes), move |p| {
            policies_retention.databases_touched_by(&p)
        })
        .watches_stream(logged("Namespace", namespace_changes), move |_| databases_by_namespace.databases_that_select())
        .reconcile_on(receiver_stream(woken))
        .graceful_shutdown_on(async move { stopped(&mut stopping).await })
        .run(reconcile::reconcile, |_, never, _| match *never {}, context.clone());

    let outcomes = controller.for_each_concurrent(4, |outcome| {
        let (context, wake) = (context.clone(), wake.clone());
        async move {
            match outcome {
                Ok(_) => {}
                // Who waited here for the lists would keep them from being read. They are looked after when all are full.
                Err(Error::ObjectNotFound(_)) if !context.is_leading() || !context.is_filled() => {}
                Err(Error::ObjectNotFound(reference)) => {
                    let database = database_ref(&reference.name, reference.namespace.as_deref().unwrap_or_default());
                    let alone = context.detached.lock().await;
                    let looked_after = detached::look_after(&database, &context).await;
                    drop(alone);
                    if let Err(failure) = looked_after {
                        context.metrics.error(&failure);
                        tracing::warn!(%database, "{failure}");
                        tokio::spawn(async move {
                            tokio::time::sleep(DETACHED_RETRY).await;
                            let _ = wake.send(database);
                        });
                    }
                }
                Err(Error::QueueError(error)) => tracing::debug!(error = chain(&error), "watch"),
                Err(error) => tracing::error!(error = chain(&error), "controller"),
            }
        }
    });

    let ready = async {
        stores.ready().await;
        filled.send_replace(true);
        health.synced.store(true, Ordering::Relaxed);
        tracing::info!("every store is filled");
        let (mut leading, at_once) = (leading.clone(), *leading.borrow());
        if leading.wait_for(|leading| *leading).await.is_ok() {
            context.metrics.leads();
            // What has come by until now was left to the leader, where there was one; what is without a database, always.
            let was_left = |database: &_| !at_once || stores.databases.get(database).is_none();
            for database in stores.everything().into_iter().filter(was_left) {
                // Nobody listens any more only when the operator is stopping.
                let _ = wake.send(database);
            }
        }
        std::future::pending::<()>().await;
    };
    let beats = async {
        let mut interval = tokio::time::interval(Duration::from_secs(1));
        let mut bursts = Bursts::default();
        loop {
            interval.tick().await;
            health.beat();
            context.reporter.tidy();
            if bursts.is_over(context.reporter.writes(), context.metrics.is_running()) {
                tokio::task::spawn_blocking(memory::give_back);
            }
        }
    };
    // kube's runner never ends gracefully while its first list fails, so the drain has a deadline of its own.
    let deadline = async {
        stopped(&mut stop).await;
        tracing::info!("stopping: running passes end first");
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        () = outcomes => tracing::info!("all passes ended"),
        () = deadline => tracing::warn!("passes still ran after {} seconds; their connections are closed", DRAIN.as_secs()),
        () = ready => {}
        () = beats => {}
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that whoever could say stop is gone, which says the same.
    let _ = stop.wait_for(|stop| *stop).await;
}

fn receiver_stream<T: Send + 'static>(receiver: mpsc::UnboundedReceiver<T>) -> impl Stream<Item = T> + Send + 'static {
    futures::stream::unfold(receiver, async |mut receiver| receiver.recv().await.map(|item| (item, receiver)))
}

/// The changes, with the errors of the watch in the log once each: the watcher itself goes on trying.
fn logged<K: Send + 'static>(
    kind: &'static str,
    changes: impl Stream<Item = Result<K, watcher::Error>> + Send + 'static,
) -> impl Stream<Item = Result<K, watcher::Error>> + Send + 'static {
    changes.filter_map(move |change| {
        if let Err(error) = &change {
            tracing::warn!(
                kind,
                error = chain(error),
                "the watch broke off; it is taken up again (are the CRDs installed and the permissions granted?)"
            );
        }
        futures::future::ready(change.ok().map(Ok))
    })
}
