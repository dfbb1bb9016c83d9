//! A way to a database that counts bytes, and can be slow or closed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::AbortHandle,
};

use crate::support::Result;

pub struct Relay {
    port: u16,
    bytes: [Arc<AtomicU64>; 2],
    state: watch::Sender<State>,
    accepting: AbortHandle,
}

/// How the relay is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Open,
    /// What the server says comes so much later.
    Slow(Duration),
    /// No connection stays or is taken.
    Down,
}

impl Relay {
    pub async fn to(server: String) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let bytes = [Arc::<AtomicU64>::default(), Arc::default()];
        let (state, is) = watch::channel(State::Open);
        let counters = bytes.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, [up, down], is) = (server.clone(), counters.clone(), is.clone());
                // An error is a connection that broke, which both sides notice by themselves.
                tokio::spawn(async move {
                    let server = TcpStream::connect(server).await?;
                    client.set_nodelay(true)?;
                    server.set_nodelay(true)?;
                    let ((from_client, to_client), (from_server, to_server)) =
                        (client.into_split(), server.into_split());
                    let mut closed = is.clone();
                    tokio::select! {
                        result = copy(from_client, to_server, &up, None) => result,
                        result = copy(from_server, to_client, &down, Some(is)) => result,
                        _ = closed.wait_for(|state| *state == State::Down) => Ok(()),
                    }
                });
            }
        });
        Ok(Self { port, bytes, state, accepting: accepting.abort_handle() })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn set(&self, state: State) {
        self.state.send_replace(state);
    }

    /// Bytes to the server and from it.
    pub fn bytes(&self) -> [u64; 2] {
        [0, 1].map(|n| self.bytes[n].load(Ordering::Relaxed))
    }
}

async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    count: &AtomicU64,
    state: Option<watch::Receiver<State>>,
) -> Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        if let Some(State::Slow(pause)) = state.as_ref().map(|state| *state.borrow()) {
            tokio::time::sleep(pause).await;
        }
        count.fetch_add(read as u64, Ordering::Relaxed);
        to.write_all(&buffer[..read]).await?;
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
