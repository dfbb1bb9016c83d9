//! What stands between the operator and a database, and can fail.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
};

use super::database::Database;
use crate::support::{Error, Result};

/// A way to a database that can be closed: then every connection is cut, and new ones are cut at once.
pub struct Relay {
    port: u16,
    open: watch::Sender<bool>,
    trouble: Arc<Mutex<Option<Trouble>>>,
}

/// What befalls the connection on which a text is sent next.
#[derive(Clone, Copy)]
enum Trouble {
    /// The server gets it and answers, the client hears nothing any more.
    Cut(&'static str),
    /// It waits on the way.
    Delay(&'static str, Duration),
}

impl Trouble {
    fn is_due(self, sent: &str) -> bool {
        let (Self::Cut(text) | Self::Delay(text, _)) = self;
        sent.contains(text)
    }
}

impl Relay {
    pub async fn to(database: &Database) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        Self::serve(listener, database)
    }

    fn serve(listener: TcpListener, database: &Database) -> Result<Self> {
        let relay =
            Self { port: listener.local_addr()?.port(), open: watch::Sender::new(true), trouble: Arc::default() };
        let (open, trouble) = (relay.open.subscribe(), relay.trouble.clone());
        let (host, port, _) = database.address()?;
        let server = format!("{host}:{port}");
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (mut open, trouble, server) = (open.clone(), trouble.clone(), server.clone());
                tokio::spawn(async move {
                    if *open.borrow() {
                        tokio::select! {
                            _ = forward(client, &server, &trouble) => {}
                            _ = open.wait_for(|open| !*open) => {}
                        }
                    }
                });
            }
        });
        Ok(relay)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn close(&self) {
        self.open.send_replace(false);
    }

    pub fn open(&self) {
        self.open.send_replace(true);
    }

    /// Cuts the connection on which this text is sent next: the server gets it and answers, the client hears nothing.
    pub fn cut_at(&self, text: &'static str) {
        *lock(&self.trouble) = Some(Trouble::Cut(text));
    }

    /// The next time that this text is sent it gets to the server so much later.
    pub fn delay(&self, text: &'static str, by: Duration) {
        *lock(&self.trouble) = Some(Trouble::Delay(text, by));
    }

    /// The trouble that was asked for has come.
    pub fn has_struck(&self) -> bool {
        lock(&self.trouble).is_none()
    }
}

fn lock(trouble: &Mutex<Option<Trouble>>) -> MutexGuard<'_, Option<Trouble>> {
    trouble.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn forward(client: TcpStream, server: &str, trouble: &Mutex<Option<Trouble>>) -> Result<()> {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = TcpStream::connect(server).await?.into_split();
    let cutting = watch::Sender::new(false);
    let requests = async {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let n = from_client.read(&mut buffer).await?;
            if n == 0 {
                return Ok::<(), Error>(());
            }
            let sent = String::from_utf8_lossy(&buffer[..n]);
            let due = lock(trouble).take_if(|trouble| trouble.is_due(&sent));
            match due {
                Some(Trouble::Cut(_)) => drop(cutting.send_replace(true)),
                Some(Trouble::Delay(_, by)) => tokio::time::sleep(by).await,
                None => {}
            }
            to_server.write_all(&buffer[..n]).await?;
        }
    };
    let answers = async {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let n = from_server.read(&mut buffer).await?;
            if n == 0 || *cutting.borrow() {
                return Ok::<(), Error>(());
            }
            to_client.write_all(&buffer[..n]).await?;
        }
    };
    tokio::select! { result = requests => result, result = answers => result }
}

/// A port that refuses connections until a database stands behind it. It stays reserved meanwhile.
pub struct ClosedPort(TcpSocket, u16);

impl ClosedPort {
    pub fn new() -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind("127.0.0.1:0".parse()?)?;
        let port = socket.local_addr()?.port();
        Ok(Self(socket, port))
    }

    pub fn port(&self) -> u16 {
        self.1
    }

    pub fn open(self, database: &Database) -> Result<Relay> {
        Relay::serve(self.0.listen(1024)?, database)
    }
}

/// A port that accepts connections and never says a word.
pub async fn mute_port() -> Result<(TcpListener, u16)> {
    // The kernel accepts; nobody asks it for the connections.
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    Ok((listener, port))
}

/// A port on which not even the handshake is answered: its queue of connections is full.
pub async fn deaf_port() -> Result<(Vec<TcpStream>, TcpListener, u16)> {
    let socket = TcpSocket::new_v4()?;
    socket.bind("127.0.0.1:0".parse()?)?;
    let listener = socket.listen(0)?;
    let address = listener.local_addr()?;
    let mut queue = Vec::new();
    loop {
        let connecting = TcpStream::connect(address);
        match tokio::time::timeout(std::time::Duration::from_millis(300), connecting).await {
            Ok(connected) => queue.push(connected?),
            Err(_) => return Ok((queue, listener, address.port())),
        }
    }
}
