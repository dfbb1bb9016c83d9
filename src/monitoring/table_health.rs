//! Health words of hypertables and continuous aggregates.

/// How a hypertable or a continuous aggregate does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableHealth {
    /// In a word.
    pub word: HealthWord,
    /// Why it is not healthy: which threshold, the value found, what to do.
    pub reasons: Vec<String>,
}

/// Health in a word, from best to worst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum HealthWord {
    /// No threshold is crossed.
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
