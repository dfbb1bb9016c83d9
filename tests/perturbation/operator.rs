//! The operator's process, which the proxies kill.

use std::{
    path::PathBuf,
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde_json::Value;

use crate::support::{
    Result,
    process::{Folder, Guarded},
};

/// One operator, through all its starts.
pub struct Operator {
    folder: Folder,
    state: Mutex<Process>,
}

#[derive(Default)]
struct Process {
    running: Option<Guarded>,
    /// Where the logs of all starts are.
    logs: Vec<PathBuf>,
}

/// When to kill the operator, counted in what one of the proxies counts.
#[derive(Clone, Copy, Debug, Default)]
pub enum Crash {
    #[default]
    Never,
    /// Once, right after this one; the first is 1.
    After(usize),
    /// Again and again, each time after so many more.
    Every(usize),
}

impl Crash {
    /// Whether it is time, now that so many have been counted.
    pub fn is_due(self, counted: usize) -> bool {
        match self {
            Self::Never => false,
            Self::After(n) => counted == n,
            Self::Every(n) => counted.is_multiple_of(n),
        }
    }
}

impl Operator {
    pub fn new() -> Result<Self> {
        Ok(Self { folder: Folder::new("operator")?, state: Mutex::default() })
    }

    /// Starts the binary as whoever the kubeconfig says.
    pub fn start(&self, kubeconfig: &str) -> Result<()> {
        let mut state = self.state();
        let name = format!("operator-{}", state.logs.len());
        let file = self.folder.path().join(format!("{name}.kubeconfig"));
        std::fs::write(&file, kubeconfig)?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_timescaledb-policy-operator"));
        command
            .args(["run", "--listen", "127.0.0.1:0", "--log-format", "json", "--log", "info"])
            .env("KUBECONFIG", file);
        let process = Guarded::start(&name, &command, self.folder.path())?;
        state.logs.push(process.log_path().to_owned());
        state.running = Some(process);
        Ok(())
    }

    /// As a crash ends it: SIGKILL.
    pub fn kill(&self) {
        if let Some(mut process) = self.state().running.take() {
            process.kill();
        }
    }

    /// It was not killed; an error when it ended by itself.
    pub fn runs(&self) -> Result<bool> {
        let mut state = self.state();
        let Some(process) = &mut state.running else { return Ok(false) };
        process.check()?;
        Ok(true)
    }

    pub fn starts(&self) -> usize {
        self.state().logs.len()
    }

    /// The lines of all its logs.
    pub fn log(&self) -> Vec<String> {
        let logs = self.state().logs.clone();
        let texts = logs.iter().map(|log| std::fs::read(log).unwrap_or_default());
        texts.flat_map(|text| String::from_utf8_lossy(&text).lines().map(str::to_owned).collect::<Vec<_>>()).collect()
    }

    /// What in its logs no perturbation excuses: a panic, or a defect that it found itself.
    pub fn blunders(&self) -> Vec<String> {
        let is_blunder = |line: &String| {
            let parsed: Value = serde_json::from_str(line).unwrap_or_default();
            let defect = ["NotConverging", "InternalError"].iter().any(|reason| parsed["reason"] == *reason);
            defect || line.contains("panicked at") || parsed["class"] == "bug"
        };
        self.log().into_iter().filter(is_blunder).collect()
    }

    fn state(&self) -> MutexGuard<'_, Process> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
