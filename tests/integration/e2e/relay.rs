//! What stands between the operator and a database, and can fail.

use std::sync::{Arc, Mutex, PoisonError};

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
    cut_at: Arc<Mutex<Option<&'static str>>>,
}

impl Relay {
    pub async fn to(database: &Database) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        Self::serve(listener, database)
    }

    fn serve(listener: TcpListener, database: &Database) -> Result<Self> {
        let relay =
            Self { port: listener.local_addr()?.port(), open: watch::Sender::new(true), cut_at: Arc::default() };
        let (open, cut_at) = (relay.open.subscribe(), relay.cut_at.clone());
        let (host, port, _) = database.address()?;
        let server = format!("{host}:{port}");
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (mut open, cut_at, server) = (open.clone(), cut_at.clone(), server.clone());
                tokio::spawn(async move {
                    if *open.borrow() {
                        tokio::select! {
                            _ = forward(client, &server, &cut_at) => {}
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
        *self.cut_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
    }

    /// The cut that was asked for has been made.
    pub fn has_cut(&self) -> bool {
        self.cut_at.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }
}

async fn forward(client: TcpStream, server: &str, cut_at: &Mutex<Option<&'static str>>) -> Result<()> {
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
            let cut = cut_at.lock().unwrap_or_else(PoisonError::into_inner).take_if(|text| sent.contains(*text));
            if cut.is_some() {
                cutting.send_replace(true);
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
