//! What resources say about themselves: conditions, and the closed set of reasons.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::types::TargetKind;

/// The condition types this operator sets. `Reconciling` and `Stalled` follow kstatus: present only while true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConditionType {
    /// The summary: the live catalog says what the resource says.
    Ready,
    /// Work is under way or will be tried again without anybody's help.
    Reconciling,
    /// A person must act before anything changes.
    Stalled,
    /// `Observe` mode only: the live catalog differs from the resource.
    Drifted,
    /// The job does what it is there for; only where there is one. `Unknown` while that cannot be said: it has not run yet,
    /// or is paused. `Ready` does not depend on it.
    JobHealthy,
}

impl ConditionType {
    /// The `type` of the condition.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
            Self::Drifted => "Drifted",
            Self::JobHealthy => "JobHealthy",
        }
    }
}

/// What a reason means for whoever waits, in kstatus' terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing to do: `Ready=True`.
    Current,
    /// Work goes on or is retried: `Ready=False`, `Reconciling=True`.
    InProgress,
    /// A person must act: `Ready=False`, `Stalled=True`.
    Failed,
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident: $standing:ident,)+) => {
        /// Every reason this operator gives, in conditions and in events.
        ///
        /// The name is the `reason` users see and the heading of its entry in `docs/troubleshooting.md`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Reason {
            /// All reasons, in the order they are documented.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The `reason` of a condition or an event.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            /// What the reason means for whoever waits.
            pub const fn standing(self) -> Standing {
                match self { $(Self::$name => Standing::$standing,)+ }
            }

            /// What the reason means, in one line.
            pub const fn description(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc,)+).trim_ascii_start(),)+ }
            }
        }
    };
}

reasons! {
    /// The live catalog says what the resource says.
    InSync: Current,
    /// Event only: a change of the resource was carried out.
    Applied: Current,
    /// Event only: the database had drifted from the resource and was put right.
    DriftCorrected: Current,
    /// Event only: the policy of a deleted resource was removed from the database.
    Released: Current,
    /// Event only: a resource let go of its database object without touching it.
    Orphaned: Current,
    /// Event only: something is carried out although it is unwise.
    Unwise: Current,
    /// In `status.targets` only: a policy that names the target goes before this one, which selects it.
    Overridden: Current,
    /// `JobHealthy` only: the last run of the job ended well.
    JobSucceeded: Current,
    /// `JobHealthy` only: the first run of the job is under way.
    JobRunning: Current,
    /// `JobHealthy` only: the job has not run yet, and is not late.
    JobNotStarted: Current,
    /// `JobHealthy` only: the job is off the schedule, as its resource says or by hand.
    JobPaused: Current,
    /// Event only: TimescaleDB was made to look at a job again that it did not start.
    JobNudged: Current,
    /// A long statement (moving rows into a hypertable, building an index) is running.
    InProgress: InProgress,
    /// The resource this one depends on is not ready.
    TargetNotReady: InProgress,
    /// A statement did not get its lock in time; it is tried again, never queued in front of the application.
    LockTimeout: InProgress,
    /// A step failed for a cause that passes; it is tried again with growing pauses.
    Retrying: InProgress,
    /// The database does not answer.
    DatabaseUnreachable: InProgress,
    /// Another session holds this operator's advisory lock on the database.
    DatabaseLocked: InProgress,
    /// The server is a standby or read-only: nothing is attempted until it is not.
    ReadOnly: InProgress,
    /// A `TimescaleDatabase` is being deleted while resources attached to it still hold policies.
    InUse: InProgress,
    /// `Observe` mode: the database differs from the resource and is left as it is.
    DriftObserved: Failed,
    /// The change would lose data beyond the guard and waits for the approval of its plan.
    ApprovalRequired: Failed,
    /// An older resource claims the same database object.
    Conflicted: Failed,
    /// The resource that `targetRef` names does not exist.
    TargetNotFound: Failed,
    /// The `TimescaleDatabase` is in another namespace and does not let this one in.
    NotAllowed: Failed,
    /// The `TimescaleDatabase` that the resource names does not exist.
    DatabaseNotFound: Failed,
    /// The connection secret, or a key in it, does not exist.
    SecretNotFound: Failed,
    /// The server refused the credentials.
    AuthenticationFailed: Failed,
    /// The server's certificate is not one that `spec.connection.tls` trusts.
    CertificateInvalid: Failed,
    /// A pooler in transaction mode stands between the operator and the server.
    TransactionPooling: Failed,
    /// The table does not exist, or is not a plain table.
    TableNotFound: Failed,
    /// The table holds rows and `migrateData` is not set.
    TableNotEmpty: Failed,
    /// A unique index or primary key lacks a partitioning column, so TimescaleDB refuses the table.
    IncompatibleIndex: Failed,
    /// The database role lacks a privilege.
    PermissionDenied: Failed,
    /// The extension `timescaledb` is not installed in the database.
    ExtensionMissing: Failed,
    /// The extension `timescaledb` is installed, and the server does not load its library.
    ExtensionNotLoaded: Failed,
    /// The feature needs TimescaleDB's community edition, the server runs the Apache edition.
    LicenseRequired: Failed,
    /// The PostgreSQL or TimescaleDB version is not supported.
    UnsupportedVersion: Failed,
    /// The resource says something that cannot be done as it stands.
    InvalidSpec: Failed,
    /// The policy would lose data or could never work together with what else is in force.
    UnsafePolicy: Failed,
    /// The query of a continuous aggregate differs from the one it was created with.
    QueryChanged: Failed,
    /// TimescaleDB stopped scheduling the job after its retries were used up.
    JobFailed: Failed,
    /// `JobHealthy` only: the last run of the job ended with an error; TimescaleDB tries again.
    JobFailing: Failed,
    /// `JobHealthy` only: runs of the job were cut off: its worker crashed, or the server went down.
    JobCrashed: Failed,
    /// `JobHealthy` only: the time of the next run is long past, and the job does not run.
    JobOverdue: Failed,
    /// `JobHealthy` only: the job should have run for the first time by now, and has not.
    JobNeverStarted: Failed,
    /// The steps were carried out and the catalog still differs: a bug, please report it.
    NotConverging: Failed,
    /// Something that should not happen; please report it.
    InternalError: Failed,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What would be done and is not, and why: in `Observe` mode, or while an approval is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PendingPlan {
    /// Approve exactly this plan: `kubectl annotate <kind> <name> timescaledb-policy.io/approve=<digest>`. Absent when no approval is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// What the plan would cost: what would be lost, rewritten or locked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hazards: Vec<String>,
    /// The SQL that would run, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub statements: Vec<String>,
}

/// The database object that a policy was last resolved to. Used to remove the policy after its target resource is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetStatus {
    /// Name of the `TimescaleDatabase`.
    pub database: String,
    /// Its namespace, where that is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_namespace: Option<String>,
    /// Schema of the hypertable or the continuous aggregate.
    pub schema: String,
    /// Name of the hypertable or the continuous aggregate.
    pub table: String,
}

/// What TimescaleDB's scheduler says of a job. While the health of the job stays the same, this is written at most once per
/// `statisticsInterval`, so that a job that runs every minute is not a write every minute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobStatus {
    /// `job_id` in `timescaledb_information.jobs`.
    pub id: i32,
    /// When a run last ended well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success: Option<Time>,
    /// When it runs next. Absent while it runs, and while no run is planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_run: Option<Time>,
    /// What the last run ended with, where that was an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<JobErrorStatus>,
    /// Runs that ended with an error since the last that ended well.
    pub consecutive_failures: i64,
    /// When this was seen.
    pub observed_at: Time,
}

/// The error that the last run of a job ended with, from `timescaledb_information.job_errors`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobErrorStatus {
    /// When the run ended.
    pub time: Time,
    /// SQLSTATE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Message of the server, at most 1000 characters.
    pub message: String,
}

/// Health in a word, by the thresholds of the `TimescaleDatabase` and the jobs of the table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HealthStatus {
    /// `healthy`, `warning` or `critical`.
    pub word: HealthWord,
    /// Why it is not healthy: the value found, the threshold, and what to do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
}

/// Health in a word, from best to worst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HealthWord {
    /// No threshold is crossed and no job needs anybody.
    #[default]
    Healthy,
    /// Look at it in working hours.
    Warning,
    /// Look at it now.
    Critical,
}

impl HealthWord {
    /// As status, API and labels have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// One target that a `targetSelector` selects, and what became of the policy on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SelectedTarget {
    /// Kind of the target.
    pub kind: TargetKind,
    /// Name of the target resource.
    pub name: String,
    /// The database object.
    #[serde(flatten)]
    pub object: TargetStatus,
    /// Why the policy on it is as it is; `InSync` when the live catalog says what the resource says.
    pub reason: String,
    /// More, where it is not in sync.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The age in force for it: this resource's, or the `TimescaleDatabase`'s default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// The job in `timescaledb_information.jobs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<i32>,
}

impl SelectedTarget {
    /// Its resource is gone; listed to say where the policy still is.
    pub fn is_gone(&self) -> bool {
        self.reason == Reason::TargetNotFound.as_str()
    }
}

/// The value of a condition, by type.
pub fn condition(conditions: &[Condition], type_: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|c| c.type_ == type_.as_str())
}
