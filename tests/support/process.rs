//! Child processes and folders that do not outlive this process, however it ends.
//!
//! A destructor does not run when a process is killed. What does happen is that the kernel closes its files: so every
//! child has a watcher, a shell that waits for the end of a pipe whose other end only this process has.

use super::Result;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Becomes the program, after leaving a watcher behind that kills it when the pipe ends without a last word.
/// The watcher is nobody's child (a background job of a shell that ended), so the program does not have to reap it.
const WATCHED: &str =
    r#"exec 3<&0; ( ( read -r _ <&3 || kill -KILL $$ ) >/dev/null 2>&1 & ); exec "$@" </dev/null 3<&-"#;

/// Waits like the watcher above, and gives the killed processes a moment to let go of their files.
const SWEEP: &str = r#"read -r _ || { sleep 1; rm -rf -- "$1"; }"#;

const POLL: Duration = Duration::from_millis(20);

/// The end of the pipe that a watcher waits for.
struct Lifeline(ChildStdin);

impl Lifeline {
    /// Tells the watcher that there is nothing left to do. Process ids are used again: it must not kill late.
    fn release(mut self) {
        let _ = self.0.write_all(b"released\n"); // it may be gone already
    }
}

/// A child process with a log file. It is killed when this is dropped, and when this process ends in any other way.
pub struct Guarded {
    name: String,
    child: Child,
    lifeline: Option<Lifeline>,
    log: PathBuf,
}

impl Guarded {
    /// Starts the command (its program, arguments, working folder and added variables; its standard streams are not
    /// kept) with its output in `<folder>/<name>.log`.
    pub fn start(name: &str, command: &Command, folder: &Path) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let output = File::create(&log)?;
        let mut watched = Command::new("sh");
        watched.arg("-c").arg(WATCHED).arg("sh").arg(command.get_program()).args(command.get_args());
        if let Some(folder) = command.get_current_dir() {
            watched.current_dir(folder);
        }
        for (variable, value) in command.get_envs() {
            match value {
                Some(value) => watched.env(variable, value),
                None => watched.env_remove(variable),
            };
        }
        let mut child = watched
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .map_err(|error| format!("cannot start {name}: {error}"))?;
        let lifeline = child.stdin.take().map(Lifeline);
        Ok(Self { name: name.into(), child, lifeline, log })
    }

    /// The process id of the program itself.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// All that it has written so far.
    pub fn log(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// An error with the end of the log when it has ended.
    pub fn check(&mut self) -> Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => Err(format!("{} ended ({status}); the end of its log:\n{}", self.name, self.tail()).into()),
        }
    }

    /// Waits for a line of the log that starts with `prefix` and gives the rest of it.
    pub async fn line(&mut self, prefix: &str, limit: Duration) -> Result<String> {
        let deadline = Instant::now() + limit;
        loop {
            let log = self.log();
            let complete = log.rfind('\n').map_or("", |end| &log[..end]);
            if let Some(rest) = complete.lines().find_map(|line| line.strip_prefix(prefix)) {
                return Ok(rest.into());
            }
            self.check()?;
            if Instant::now() > deadline {
                let (name, tail) = (&self.name, self.tail());
                return Err(format!("{name} did not say \"{prefix}\" within {limit:?}; its log:\n{tail}").into());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Sends a signal: `TERM`, `STOP`, `CONT`, …
    pub fn signal(&self, signal: &str) -> Result<()> {
        let pid = self.pid().to_string();
        let sent = Command::new("sh").args(["-c", r#"kill -s "$1" "$2""#, "sh", signal, &pid]).status()?;
        if sent.success() { Ok(()) } else { Err(format!("cannot send SIG{signal} to {}", self.name).into()) }
    }

    /// Waits for it to end by itself.
    pub async fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                return Err(format!("{} still runs after {limit:?}", self.name).into());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Kills it, as a crash would.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.release();
    }

    fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let status = self.child.try_wait()?;
        if status.is_some() {
            self.release();
        }
        Ok(status)
    }

    fn release(&mut self) {
        if let Some(lifeline) = self.lifeline.take() {
            lifeline.release();
        }
    }

    fn tail(&self) -> String {
        const LINES: usize = 20;
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A temporary folder that is removed like the processes are: always.
pub struct Folder {
    path: TempDir,
    sweeper: Child,
    lifeline: Option<Lifeline>,
}

impl Folder {
    pub fn new(name: &str) -> Result<Self> {
        let path = tempfile::Builder::new().prefix(&format!("tpo-{name}-")).tempdir()?;
        let mut sweeper = Command::new("sh");
        sweeper.args(["-c", SWEEP, "sh"]).arg(path.path());
        let mut sweeper = sweeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let lifeline = sweeper.stdin.take().map(Lifeline);
        Ok(Self { path, sweeper, lifeline })
    }

    pub fn path(&self) -> &Path {
        self.path.path()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Some(lifeline) = self.lifeline.take() {
            lifeline.release();
        }
        let _ = self.sweeper.wait();
    }
}
