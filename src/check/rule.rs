//! What is looked for: a closed list, each with its severity and why it matters.

use std::fmt;

use serde::{Serialize, Serializer};

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; nothing is wrong.
    Info,
    /// It costs space, time or freshness, or will.
    Warning,
    /// Something does not work, or data is being lost.
    Critical,
}

impl Severity {
    /// From worst to least.
    pub const ALL: [Self; 3] = [Self::Critical, Self::Warning, Self::Info];

    /// As reports have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

macro_rules! rules {
    ($($name:ident $id:literal $severity:ident $summary:literal $why:literal)+) => {
        /// A rule. Its id is stable: people skip rules by it, and code scanning tells findings apart by it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Rule {
            $(#[doc = $summary] $name,)+
        }

        impl Rule {
            /// All rules, in the order in which findings of one severity are told.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The id, in kebab case.
            pub const fn id(self) -> &'static str {
                match self { $(Self::$name => $id,)+ }
            }

            /// How much a finding matters, where the finding itself does not say otherwise.
            pub const fn severity(self) -> Severity {
                match self { $(Self::$name => Severity::$severity,)+ }
            }

            /// What is found, in a line.
            pub const fn summary(self) -> &'static str {
                match self { $(Self::$name => $summary,)+ }
            }

            /// Why that matters.
            pub const fn why(self) -> &'static str {
                match self { $(Self::$name => $why,)+ }
            }
        }
    };
}

rules! {
    ExtensionMissing "extension-missing" Critical
        "TimescaleDB is not installed in the database."
        "There are no hypertables, policies or aggregates without it."
    VersionUnsupported "version-unsupported" Critical
        "PostgreSQL is older than 14, or TimescaleDB older than 2.14."
        "The operator leaves such a database alone."
    LibraryNotLoaded "library-not-loaded" Critical
        "The extension is installed, and the server does not load its library."
        "No job runs, and the first function of TimescaleDB that is called ends the session."
    Restoring "restoring" Critical
        "timescaledb.restoring is on."
        "No job runs until the restore is declared finished."
    ExtensionOutdated "extension-outdated" Info
        "The server has a newer version of TimescaleDB than the database."
        "Fixes that are installed on the server are not in force in this database."
    LicenseApache "license-apache" Warning
        "The server runs TimescaleDB's Apache edition."
        "It has hypertables only: no policies, compression or continuous aggregates."
    SchedulerNotRunning "scheduler-not-running" Critical
        "There are jobs, and no TimescaleDB scheduler runs for the database."
        "Nothing is compressed, dropped or refreshed, and no view of TimescaleDB says so."
    TooFewBackgroundWorkers "too-few-background-workers" Warning
        "timescaledb.max_background_workers leaves no worker for a job."
        "The launcher, the scheduler of each database and each running job take one; jobs wait without a word."
    TooFewWorkerProcesses "too-few-worker-processes" Warning
        "max_worker_processes is less than what TimescaleDB and parallel queries may take."
        "Jobs and parallel queries take the same slots; whoever comes late waits or runs alone. The rule is that of timescaledb-tune: 3 + timescaledb.max_background_workers + max_parallel_workers."
    RoleNotOwner "role-not-owner" Info
        "The role is no member of the role that owns hypertables."
        "TimescaleDB lets only owners change policies: an operator with this role could not manage these tables."
    RoleLacksPrivilege "role-lacks-privilege" Info
        "The role lacks a privilege that the operator needs."
        "Aggregates are created in a schema, and queries of resources are read by the server in temporary objects."
    OwnerWithoutLogin "owner-without-login" Warning
        "The owner of hypertables may not log in."
        "Jobs run as the owner of their table; without LOGIN no policy can be added and none runs."
    NoCompression "no-compression" Warning
        "A hypertable with several chunks has no compression, or no policy that compresses."
        "Compressed chunks are commonly a tenth of the size. Below 1 GiB it is told as info."
    NoRetention "no-retention" Info
        "A hypertable has no retention policy."
        "It grows for ever, which may be what is meant."
    CompressionBacklog "compression-backlog" Warning
        "Chunks are left that the compression policy should have compressed."
        "The policy does not keep up, or does not run."
    RetentionBacklog "retention-backlog" Warning
        "Chunks are left that the retention policy should have dropped."
        "The policy does not keep up, or does not run."
    SegmentByTooFine "segment-by-too-fine" Warning
        "segmentBy leaves fewer than 100 rows for one segment of a chunk."
        "Rows are compressed together only within one value of segmentBy, up to 1000 at a time; with few of them compression makes a table larger. TimescaleDB's guide asks for more than 100 rows for each value and chunk, and calls fewer than 10 poor; from 10 on it is told as info."
    SegmentBySingleValue "segment-by-single-value" Info
        "A column of segmentBy has one value only."
        "It splits nothing, and no query gains from it."
    OrderByWithoutTime "order-by-without-time" Warning
        "orderBy lacks the time column."
        "Rows of all times are packed together, so a query for a time range has to decompress every batch."
    RetentionErasesHistory "retention-erases-history" Critical
        "Rows are dropped that the refresh policy of a continuous aggregate computes again."
        "Dropping chunks invalidates their buckets, and the next refresh computes them from nothing: the history is lost."
    RefreshWindowTooSmall "refresh-window-too-small" Critical
        "The window of a refresh policy does not fit the buckets."
        "TimescaleDB checks that when a policy is added, and not when it is altered: then every run fails."
    PoliciesAtOdds "policies-at-odds" Warning
        "Policies of one table work against each other."
        "Work is done twice, or for nothing."
    JobGaveUp "job-gave-up" Critical
        "TimescaleDB has stopped scheduling a job after its retries."
        "It does not run again until somebody schedules it."
    JobNotStarted "job-not-started" Critical
        "A job is due and is not started, or has never been."
        "What it should do is not done, and TimescaleDB counts no error."
    JobFailing "job-failing" Warning
        "The last run of a job failed or was cut off."
        "What it should do is not done; TimescaleDB tries again."
    JobPaused "job-paused" Info
        "A job is paused."
        "What it should do is not done until somebody schedules it."
    AggregateNeverRefreshed "aggregate-never-refreshed" Warning
        "Nothing of a continuous aggregate is materialised, though its source has rows."
        "Queries compute all of it, or see nothing."
    AggregateWithoutRefresh "aggregate-without-refresh" Warning
        "A continuous aggregate has no refresh policy."
        "It shows what was so when somebody refreshed it last."
    AggregateBehind "aggregate-behind" Warning
        "A continuous aggregate that is not real time is behind its refresh policy."
        "Its newest buckets are missing from queries."
    TooManyChunks "too-many-chunks" Warning
        "A hypertable or continuous aggregate has more than 1000 chunks."
        "Planning a query takes time and memory for each chunk that it may touch."
    ChunksTooSmall "chunks-too-small" Info
        "More than 100 chunks hold less than 1 MiB each on average."
        "Each chunk costs planning time, catalog rows and files, however little is in it."
    ChunksTooLarge "chunks-too-large" Warning
        "The chunks of one interval are larger than the server's shared buffers."
        "Inserts then read indexes from disk. Shared buffers are commonly a quarter of the memory, which is what TimescaleDB's guide allows the newest chunks."
    IndexInvalid "index-invalid" Warning
        "An index is not valid."
        "It is kept up to date with every write, and no query uses it."
    IndexDuplicate "index-duplicate" Warning
        "Two indexes are the same."
        "Each costs writes and space for every chunk; one is enough."
    IndexRedundant "index-redundant" Info
        "The columns of an index are the first columns of another one."
        "The longer index serves the same queries."
    IndexUnused "index-unused" Info
        "An index of at least 1 MiB was not used since the server's statistics began."
        "It costs writes and space for every chunk. Standbys count their own scans."
    MissingIndex "missing-index" Info
        "A hypertable is read sequentially, and more often than by its indexes: by 100 scans and 10 for each chunk at least, of 10000 rows or more."
        "Queries read whole chunks; an index on what they filter by may serve them."
    ForeignKeyWithoutIndex "foreign-key-without-index" Info
        "No index serves a foreign key of a hypertable."
        "A row that is deleted from the other table is looked up in each chunk."
    ShouldBeHypertable "should-be-hypertable" Warning
        "A table of a million rows or 100 MiB looks like a time series."
        "Rows that come in the order of time and stay as they are can be compressed, dropped by age and aggregated as a hypertable. The sizes are those of TimescaleDB's guide."
    ConversionBlocked "conversion-blocked" Info
        "A table that looks like a time series cannot become a hypertable as it is."
        "A unique index of a hypertable must hold its time column."
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.id())
    }
}

impl std::str::FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = || Self::ALL.iter().map(|rule| rule.id()).collect::<Vec<_>>().join(", ");
        let found = Self::ALL.iter().find(|rule| rule.id() == text);
        found.copied().ok_or_else(|| format!("there is no rule {text}; there are {}", known()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_rule_has_an_id_of_its_own_that_reads_back() {
        let ids: BTreeSet<_> = Rule::ALL.iter().map(|rule| rule.id()).collect();
        assert_eq!(ids.len(), Rule::ALL.len());
        for rule in Rule::ALL {
            assert_eq!(rule.id().parse(), Ok(*rule));
            assert!(rule.id().chars().all(|c| c == '-' || c.is_ascii_lowercase()), "{rule}");
            assert!(rule.summary().ends_with('.') && rule.why().ends_with('.'), "{rule}");
        }
        assert!("no-such-rule".parse::<Rule>().unwrap_err().contains("extension-missing, "));
    }
}
