//! What stands between the operator and a database: it knows PostgreSQL's protocol, writes down what the server carried
//! out and committed, and kills the operator before it hears of a statement.

use std::{
    collections::{HashMap, VecDeque},
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};

use super::operator::{Crash, Operator};
use crate::support::{Error, Result};

const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;

/// The functions that change something. All other functions that the operator calls read.
const WRITING_FUNCTIONS: [&str; 9] = [
    "create_hypertable(",
    "add_dimension(",
    "set_chunk_time_interval(",
    "set_number_partitions(",
    "_policy(",
    "alter_job(",
    "delete_job(",
    "drop_chunks(",
    "compress_chunk(",
];

/// A way to a database that keeps a ledger.
pub struct SqlProxy {
    port: u16,
    ledger: Arc<Mutex<Ledger>>,
    accepting: AbortHandle,
}

/// What the server has carried out.
#[derive(Default)]
struct Ledger {
    crash: Crash,
    /// Statements that write, and the beginnings and ends of their transactions: where a crash makes a difference.
    counted: Vec<String>,
    /// Statements that wrote and were committed, in the order of their commits.
    committed: Vec<String>,
}

impl SqlProxy {
    pub async fn to(server: String, operator: Arc<Operator>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let ledger = Arc::<Mutex<Ledger>>::default();
        let entries = ledger.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let connection = Connection { ledger: entries.clone(), ..Connection::default() };
                let (server, operator) = (server.clone(), operator.clone());
                // An error is a connection that broke, which both sides notice by themselves.
                tokio::spawn(async move { connection.serve(client, &server, &operator).await });
            }
        });
        Ok(Self { port, ledger, accepting: accepting.abort_handle() })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn crash(&self, crash: Crash) {
        lock(&self.ledger).crash = crash;
    }

    /// The statements where a crash makes a difference, so far.
    pub fn counted(&self) -> Vec<String> {
        lock(&self.ledger).counted.clone()
    }

    /// What was committed so far.
    pub fn committed(&self) -> Vec<String> {
        lock(&self.ledger).committed.clone()
    }
}

impl Drop for SqlProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// One connection's side of the ledger.
#[derive(Default)]
struct Connection {
    ledger: Arc<Mutex<Ledger>>,
    /// Requests that the server has yet to answer, one for each ReadyForQuery to come.
    asked: Arc<Mutex<VecDeque<String>>>,
    transaction: Transaction,
}

#[derive(Default)]
struct Transaction {
    /// Of the last ReadyForQuery: `I`dle, in a `T`ransaction, in a failed one (`E`).
    status: u8,
    read_only: bool,
    wrote: Vec<String>,
}

impl Connection {
    async fn serve(mut self, client: TcpStream, server: &str, operator: &Operator) -> Result<()> {
        client.set_nodelay(true)?;
        let server = TcpStream::connect(server).await?;
        server.set_nodelay(true)?;
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        // The first message has no type. One that asks for encryption is answered here.
        loop {
            let first = body(&mut from_client).await?;
            let code = first.get(4..8).map_or(0, |code| u32::from_be_bytes(code.try_into().unwrap_or_default()));
            if code == SSL_REQUEST || code == GSS_REQUEST {
                to_client.write_all(b"N").await?;
            } else {
                to_server.write_all(&first).await?;
                break;
            }
        }
        let (asked, gone) = (self.asked.clone(), AtomicBool::new(false));
        let requests = async {
            let mut texts = Texts::default();
            loop {
                let (kind, message) = message(&mut from_client).await?;
                if let Some(text) = texts.request(kind, &message[5..]) {
                    lock(&asked).push_back(text);
                }
                to_server.write_all(&message).await?;
            }
        };
        let answers = async {
            let (mut held, mut failed) = (Vec::new(), false);
            loop {
                let (kind, message) = message(&mut from_server).await?;
                held.extend_from_slice(&message);
                failed |= kind == b'E';
                let text = match kind {
                    b'Z' => lock(&self.asked).pop_front(),
                    // The answer is held back until all of it is there, so that the operator never hears of a half.
                    _ if !lock(&self.asked).is_empty() => continue,
                    _ => None,
                };
                if let Some(text) = text
                    && self.carried_out(text, message[5], failed)
                {
                    operator.kill();
                    // What it has asked for beyond that the server carries out all the same.
                    gone.store(true, Ordering::Relaxed);
                }
                let told = !gone.load(Ordering::Relaxed) && to_client.write_all(&held).await.is_ok();
                if !told && lock(&self.asked).is_empty() {
                    return Ok(());
                }
                held.clear();
                failed = false;
            }
        };
        let mut answers = pin!(answers);
        tokio::select! {
            result = &mut answers => return result,
            result = requests => drop::<Result<()>>(result),
        }
        // The operator is gone. What it asked for last the server carries out all the same.
        gone.store(true, Ordering::Relaxed);
        if lock(&asked).is_empty() { Ok(()) } else { answers.await }
    }

    /// Takes note of a request that the server has answered. Says whether the operator is to be killed now.
    fn carried_out(&mut self, text: String, status: u8, failed: bool) -> bool {
        let transaction = &mut self.transaction;
        let before = std::mem::replace(&mut transaction.status, status);
        if text.starts_with("BEGIN") {
            transaction.read_only = text.contains("READ ONLY");
            transaction.wrote.clear();
        }
        let ends = text.starts_with("COMMIT") || text.starts_with("ROLLBACK");
        let writes = !ends && !text.starts_with("BEGIN") && is_write(&text);
        let counts = writes || ((ends || text.starts_with("BEGIN")) && !transaction.read_only);
        let mut ledger = lock(&self.ledger);
        if writes && !failed {
            match status {
                b'T' => transaction.wrote.push(text.clone()),
                _ => ledger.committed.push(text.clone()),
            }
        }
        if ends {
            let wrote = std::mem::take(&mut transaction.wrote);
            if text.starts_with("COMMIT") && before == b'T' && !failed {
                ledger.committed.extend(wrote);
            }
            transaction.read_only = false;
        }
        if counts {
            ledger.counted.push(text);
        }
        counts && ledger.crash.is_due(ledger.counted.len())
    }
}

/// Whether the statement changes something.
fn is_write(text: &str) -> bool {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("--")).collect::<Vec<_>>().join("\n");
    let word = code.split_whitespace().next().unwrap_or_default().to_uppercase();
    match word.as_str() {
        "SELECT" | "WITH" => WRITING_FUNCTIONS.iter().any(|function| code.contains(function)),
        "SET" | "RESET" | "SHOW" | "" => false,
        _ => true,
    }
}

/// The texts of statements, as the messages of the two protocols carry them.
#[derive(Default)]
struct Texts {
    prepared: HashMap<Vec<u8>, String>,
    bound: String,
    executed: String,
}

impl Texts {
    /// The text of the request that ends with this message.
    fn request(&mut self, kind: u8, body: &[u8]) -> Option<String> {
        let words: Vec<&[u8]> = body.split(|byte| *byte == 0).collect();
        let word = |n: usize| words.get(n).copied().unwrap_or_default();
        let text = |n: usize| String::from_utf8_lossy(word(n)).trim().to_owned();
        match kind {
            b'Q' => return Some(text(0)),
            b'P' => _ = self.prepared.insert(word(0).to_vec(), text(1)),
            b'B' => self.bound = self.prepared.get(word(1)).cloned().unwrap_or_default(),
            b'E' => self.executed = self.bound.clone(),
            b'S' => return Some(std::mem::take(&mut self.executed)),
            _ => {}
        }
        None
    }
}

/// A message with its type.
async fn message(from: &mut (impl AsyncRead + Unpin)) -> Result<(u8, Vec<u8>)> {
    let kind = from.read_u8().await?;
    let mut message = vec![kind];
    message.extend(body(from).await?);
    Ok((kind, message))
}

/// A length that counts itself, and what it is the length of.
async fn body(from: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>> {
    let length = from.read_u32().await?;
    let mut message = vec![0; usize::try_from(length)?.max(4)];
    message[..4].copy_from_slice(&length.to_be_bytes());
    from.read_exact(&mut message[4..]).await.map_err(Error::from)?;
    Ok(message)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
