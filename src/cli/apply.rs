//! `apply`: what `plan` shows, done, without Kubernetes: from a laptop, a pipeline, a compose file.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{
    Outcome, connection, interrupted,
    manifests::Place,
    output::{self, BAD, FAINT, GOOD, NOTICE, STRONG, styled},
    plan::{
        Planned,
        document::{Database, State},
        look, text,
    },
    workspace::{self, Subject, Workspace},
};
use crate::{
    api::{
        status::Reason,
        timescale_database::Mode,
        types::{Interval, Relation},
    },
    catalog::{Answers, Catalog},
    db::{Session, privileges::Lack},
    desired::{ClaimId, Intent, PlanDigest, Target},
    error::{self, Class, Failure},
    plan::{
        self,
        monitoring_schema::{self, Decision},
        step::{Action, Hazard, Step},
    },
    sql::quote_ident,
};

/// Options of `apply`.
#[derive(Debug, Args)]
pub struct Options {
    /// What is wanted of which database.
    #[command(flatten)]
    pub workspace: workspace::Options,
    /// Digest of a plan that may lose data, as `plan` shows it; can be given several times. It approves exactly that plan.
    #[arg(long, value_name = "DIGEST", value_parser = digest)]
    pub approve: Vec<PlanDigest>,
}

fn digest(text: &str) -> Result<PlanDigest, String> {
    let is_digest = text.len() == 12 && text.chars().all(|c| c.is_ascii_hexdigit());
    if is_digest {
        Ok(PlanDigest(text.to_owned()))
    } else {
        Err("a digest is 12 hexadecimal digits, as plan shows it".to_owned())
    }
}

/// Rounds of looking and doing: what depends on what the round before made needs one more.
const MAX_ROUNDS: usize = 10;
/// Attempts at a step that meets a lock, or another passing trouble.
const ATTEMPTS: u32 = 5;
/// How long a statement that was cancelled may take to end.
const CANCELLED_WITHIN: Duration = Duration::from_secs(10);
/// The longest pause between two attempts.
const LONGEST_PAUSE: Interval = Interval::from_seconds(10);

/// Brings databases to what the manifests say. [`Outcome::Differs`] when something is left: held for an approval, or blocked.
///
/// # Errors
/// When the manifests have problems, a database cannot be used, or a step failed. What was done until then stays, and is said.
pub async fn run(options: Options) -> Result<Outcome, Failure> {
    let Options { workspace, approve } = options;
    let Workspace { subjects, places, notes } = workspace::gather(workspace).await?;
    for note in &notes {
        anstream::eprintln!("{}", styled(FAINT, format!("note: {note}")));
    }
    let mut outcome = Outcome::Clean;
    for subject in &subjects {
        let session = connection::connect(&subject.endpoint).await?;
        session.lock().await.map_err(locked)?;
        let (canceller, stopping) = (session.canceller(), AtomicBool::new(false));
        let mut application = Application {
            session,
            subject,
            places: &places,
            approvals: &approve,
            stopping: &stopping,
            done: 0,
            failures: BTreeMap::new(),
        };
        let ended = {
            let running = application.run();
            tokio::pin!(running);
            tokio::select! {
                ended = &mut running => ended,
                () = interrupted() => {
                    stopping.store(true, Ordering::Relaxed);
                    canceller.cancel(&subject.endpoint).await?;
                    tokio::time::timeout(CANCELLED_WITHIN, &mut running).await.unwrap_or_else(|_| {
                        Err(stopped("the server goes on with the statement under way until it can end it, and then rolls it back; pg_stat_activity shows it"))
                    })
                }
            }
        };
        match ended {
            Ok(Outcome::Clean) => {}
            Ok(Outcome::Differs) => outcome = Outcome::Differs,
            Err(failure) if application.done == 0 => {
                return Err(Failure { message: format!("{}\nNothing was changed.", failure.message), ..failure });
            }
            Err(failure) => {
                let done = steps_text(application.done);
                let message =
                    format!("{}\nDone before that, and kept: {done}. Run apply again to go on.", failure.message);
                return Err(Failure { message, ..failure });
            }
        }
    }
    Ok(outcome)
}

struct Application<'a> {
    session: Session,
    subject: &'a Subject,
    places: &'a BTreeMap<(String, String, String), Place>,
    approvals: &'a [PlanDigest],
    /// The process was told to end: the step under way is the last.
    stopping: &'a AtomicBool,
    /// Steps carried out.
    done: usize,
    failures: BTreeMap<ClaimId, Failure>,
}

impl Application<'_> {
    async fn run(&mut self) -> Result<Outcome, Failure> {
        let mut answers = Answers::new();
        let planned = self.look(&mut answers).await?;
        self.check(&planned).await?;
        let shown = self.document(&planned);
        output::print(&text::tree(&super::plan::document::Document { databases: vec![shown], notes: Vec::new() }))?;
        self.install_monitoring(&planned.catalog).await?;
        let mut planned = planned;
        for _ in 0..MAX_ROUNDS {
            let steps: Vec<_> =
                planned.plan.steps.iter().filter(|step| !self.failures.contains_key(&step.claim)).cloned().collect();
            if steps.is_empty() {
                break;
            }
            self.round(&steps, &planned.catalog).await?;
            planned = self.look(&mut answers).await?;
        }
        self.conclude(&planned)
    }

    async fn look(&self, answers: &mut Answers) -> Result<Planned, Failure> {
        look(&self.session, self.subject, self.approvals, answers).await
    }

    fn document(&self, planned: &Planned) -> Database {
        let Planned { desired, catalog, plan } = planned;
        Database::new(self.subject, &catalog.server, desired, plan, self.places)
    }

    /// What can be known to fail before anything is done.
    async fn check(&self, planned: &Planned) -> Result<(), Failure> {
        let Planned { desired, catalog, plan } = planned;
        let database = &self.subject.database;
        if database.spec.mode == Mode::Observe {
            let message = format!(
                "TimescaleDatabase {} has mode: Observe, in which nothing is changed; look with plan, or set mode: Enforce",
                self.subject.key.1
            );
            return Err(Failure::new(Class::User, Reason::DriftObserved, message));
        }
        if let Some(rejection) = plan::unusable(&catalog.server, database.spec.mode) {
            return Err(Failure::new(Class::User, rejection.reason, rejection.message));
        }
        let claims: BTreeSet<_> = plan.steps.iter().map(|step| &step.claim).collect();
        let mut relations: BTreeSet<&Relation> = BTreeSet::new();
        let mut schemas = BTreeSet::new();
        for claim in desired.claims.iter().filter(|claim| claims.contains(&claim.id)) {
            match &claim.intent {
                Intent::Ensure(Target::Hypertable(target)) => drop(relations.insert(&target.relation)),
                Intent::Ensure(Target::Aggregate(target)) => drop(relations.insert(&target.relation)),
                Intent::Ensure(Target::Compression(target)) => drop(relations.insert(&target.on.relation)),
                Intent::Ensure(Target::Retention(target)) => drop(relations.insert(&target.on.relation)),
                Intent::Release(_) => {}
            }
        }
        for step in &plan.steps {
            if let Action::CreateAggregate { relation, .. } = &step.action {
                schemas.insert(&relation.schema);
            }
        }
        let lacks = self.session.lacks(&relations.into_iter().collect::<Vec<_>>(), &schemas).await?;
        if !lacks.is_empty() {
            let lacks: Vec<_> = lacks.iter().map(lack).collect();
            let message = format!(
                "the role lacks privileges:\n  {}\nsql/role.sql makes a role that has them",
                lacks.join("\n  ")
            );
            return Err(Failure::new(Class::User, Reason::PermissionDenied, message));
        }
        let rewritten = plan.steps.iter().flat_map(|step| &step.hazards).filter_map(|hazard| match hazard {
            Hazard::RewritesData(bytes) => Some(*bytes),
            _ => None,
        });
        let rewritten: i64 = rewritten.sum();
        if rewritten > 0 {
            let bytes = plan::step::bytes_text(rewritten);
            // SQL does not tell how much is free.
            let note = format!("note: the server's disk needs about {bytes} more while rows are moved");
            anstream::eprintln!("{}", styled(FAINT, note));
        }
        Ok(())
    }

    /// Carries out the steps of one round, claim by claim. One that fails does not stop the others, save those that come
    /// after it.
    async fn round(&mut self, steps: &[Step], catalog: &Catalog) -> Result<(), Failure> {
        let Some(extension) = &catalog.server.extension else { return Ok(()) };
        for (i, step) in steps.iter().enumerate() {
            let waits = step.after.iter().any(|id| *id != step.claim && self.failures.contains_key(id));
            if waits || self.failures.contains_key(&step.claim) {
                continue;
            }
            let is_stopping = || self.stopping.load(Ordering::Relaxed);
            if is_stopping() {
                return Err(stopped("nothing was under way"));
            }
            let progress = Progress::new(i + 1, steps.len(), &step.change);
            let outcome = attempts(is_stopping, || self.session.apply(step, extension)).await;
            progress.end(outcome.as_ref().err());
            match outcome {
                Ok(()) => self.done += 1,
                Err(_) if is_stopping() => {
                    return Err(stopped(
                        "the step under way was rolled back, save for an index that was being built, which the next apply builds anew",
                    ));
                }
                // Without a connection nothing more can be done.
                Err(failure) if failure.reason == Reason::DatabaseUnreachable => return Err(failure),
                Err(failure) => drop(self.failures.insert(step.claim.clone(), failure)),
            }
        }
        Ok(())
    }

    async fn install_monitoring(&mut self, catalog: &Catalog) -> Result<(), Failure> {
        let wanted = self.subject.database.spec.monitoring_schema.as_deref();
        match monitoring_schema::decide(wanted, &catalog.server.monitoring) {
            Decision::Unwanted | Decision::Installed(_) => Ok(()),
            Decision::Refused(rejection) => Err(Failure::new(Class::User, rejection.reason, rejection.message)),
            Decision::Install(install) => {
                let progress = Progress::new(1, 1, &install.change());
                let outcome = self.session.install_monitoring(&install.schema).await;
                progress.end(outcome.as_ref().err());
                self.done += usize::from(outcome.is_ok());
                outcome
            }
        }
    }

    /// What the last look found: the only proof that the database is as it should be.
    fn conclude(&self, planned: &Planned) -> Result<Outcome, Failure> {
        if !self.failures.is_empty() {
            let failed: Vec<_> = self.failures.iter().map(|(claim, failure)| format!("{claim}: {failure}")).collect();
            let class = self.failures.values().map(|failure| failure.class).max().unwrap_or(Class::Transient);
            return Err(Failure::new(
                class,
                Reason::Retrying,
                format!("not everything was done:\n  {}", failed.join("\n  ")),
            ));
        }
        if let Some(step) = planned.plan.steps.first() {
            let message = format!("carried out, and the catalog still differs: {}; please report this", step.change);
            return Err(Failure::new(Class::Bug, Reason::NotConverging, message));
        }
        let database = self.document(planned);
        let left: Vec<_> = database
            .resources
            .iter()
            .filter(|resource| !matches!(resource.state, State::InSync | State::Overridden))
            .collect();
        let done = format!("{} done", steps_text(self.done));
        if left.is_empty() {
            let (ns, name) = &self.subject.key;
            let line = format!("{done}; {ns}/{name} was looked at again and is in sync.\n");
            output::print(&styled(GOOD, line))?;
            return Ok(Outcome::Clean);
        }
        let mut text = format!("{done}; left over:\n");
        for resource in left {
            let style = if resource.state == State::NeedsApproval { NOTICE } else { BAD };
            let why = match (&resource.digest, &resource.message) {
                (Some(digest), _) => {
                    format!("{}; --approve {digest} approves exactly this", resource.hazards.join("; "))
                }
                (None, Some(message)) => message.clone(),
                (None, None) => String::new(),
            };
            let title = styled(style, resource.title(&database.namespace));
            let _ = writeln!(text, "  {title}: {}: {why}", styled(STRONG, resource.reason));
        }
        output::print(&text)?;
        Ok(Outcome::Differs)
    }
}

fn stopped(what: &str) -> Failure {
    Failure::new(Class::User, Reason::Retrying, format!("interrupted; {what}"))
}

/// Says what to do where an operator looks after the database.
fn locked(failure: Failure) -> Failure {
    if failure.reason != Reason::DatabaseLocked {
        return failure;
    }
    let message = failure.message.replace(", and this one waits", "");
    let message =
        format!("{message}. An operator carries out what is in its cluster: kubectl apply the manifests instead");
    Failure { message, ..failure }
}

fn steps_text(count: usize) -> String {
    format!("{count} step{}", if count == 1 { "" } else { "s" })
}

fn lack(lack: &Lack) -> String {
    let Lack { schema, relation, owner } = lack;
    let quoted = |name: &str| name.parse().map_or_else(|_| name.to_owned(), |name| quote_ident(&name));
    match relation {
        Some(relation) => format!(
            "{schema}.{relation} belongs to {owner}, and only its owner may change it: connect as {owner}, or GRANT {} to the role",
            quoted(owner)
        ),
        None => {
            format!(
                "it may not create in schema {schema}, which belongs to {owner}: GRANT CREATE ON SCHEMA {}",
                quoted(schema)
            )
        }
    }
}

/// Tries again what failed for a reason that passes: a lock that another session holds.
async fn attempts<F: Future<Output = Result<(), Failure>>>(
    is_stopping: impl Fn() -> bool,
    attempt: impl Fn() -> F,
) -> Result<(), Failure> {
    for failures in 1..ATTEMPTS {
        match attempt().await {
            Err(failure) if is_stopping() => return Err(failure),
            Err(failure) if failure.class == Class::Transient && failure.reason != Reason::DatabaseUnreachable => {
                tokio::time::sleep(error::pause(failure.class, failures, LONGEST_PAUSE, fastrand::f64())).await;
            }
            ended => return ended,
        }
    }
    attempt().await
}

/// One step, as it is shown while it runs: with the time on a terminal, a line at its end elsewhere.
struct Progress {
    bar: ProgressBar,
    line: String,
    started: std::time::Instant,
}

impl Progress {
    fn new(number: usize, of: usize, change: &str) -> Self {
        let line = format!("[{number}/{of}] {change}");
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
            bar.set_style(style);
        }
        bar.set_message(line.clone());
        bar.enable_steady_tick(Duration::from_millis(120));
        Self { bar, line, started: std::time::Instant::now() }
    }

    fn end(self, failure: Option<&Failure>) {
        let Self { bar, line, started } = self;
        bar.finish_and_clear();
        let took = format!("({:.1} s)", started.elapsed().as_secs_f64());
        match failure {
            None => anstream::eprintln!("{} {line} {}", styled(GOOD, "done"), styled(FAINT, took)),
            Some(failure) => {
                anstream::eprintln!("{} {line} {}\n    {failure}", styled(BAD, "failed"), styled(FAINT, took));
            }
        }
    }
}
