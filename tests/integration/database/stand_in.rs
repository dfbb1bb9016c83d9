//! A stand-in for a server, as far as a connection goes: the real ones cannot be made to show every certificate or to be
//! starting up when a test wants it.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::support::Result;

const SSL_REQUEST: u32 = 80_877_103;

/// What it says to whoever wants to log in.
#[derive(Clone, Copy)]
pub enum Answer {
    Welcome,
    /// A SQLSTATE and a message, as PostgreSQL refuses.
    Refusal(&'static str, &'static str),
    /// Welcome, by a pooler in transaction mode: what one statement sets, the next one does not find.
    Pooled,
    /// Something that is not PostgreSQL's.
    Gibberish,
}

pub struct StandIn {
    port: u16,
    seen: Arc<Mutex<Vec<&'static str>>>,
}

impl StandIn {
    /// Listens until the tests end. With a configuration it offers TLS.
    pub fn start(tls: Option<Arc<ServerConfig>>, answer: Answer) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that does not like what it sees goes away.
                let _ = serve(stream, tls.clone(), answer, &log);
            }
        });
        Ok(Self { port, seen })
    }

    pub fn uri(&self, host: &str) -> String {
        format!("postgresql://someone:hunter2@{host}:{}/somewhere", self.port)
    }

    /// How clients came so far: whether they logged in over TLS or in plain text.
    pub fn seen(&self) -> Vec<&'static str> {
        self.seen.lock().map(|seen| seen.clone()).unwrap_or_default()
    }
}

fn serve(
    mut stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    answer: Answer,
    log: &Mutex<Vec<&'static str>>,
) -> std::io::Result<()> {
    let saw = |what| drop(log.lock().map(|mut log| log.push(what)));
    let (code, _) = startup(&mut stream)?;
    if code != SSL_REQUEST {
        saw("plain");
        return talk(stream, answer);
    }
    let Some(tls) = tls else {
        stream.write_all(b"N")?;
        startup(&mut stream)?;
        saw("plain");
        return talk(stream, answer);
    };
    stream.write_all(b"S")?;
    let connection = ServerConnection::new(tls).map_err(std::io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    startup(&mut stream)?;
    saw("tls");
    talk(stream, answer)
}

/// The first message, which has no type.
fn startup(stream: &mut impl Read) -> std::io::Result<(u32, Vec<u8>)> {
    let mut head = [0; 8];
    stream.read_exact(&mut head)?;
    let [a, b, c, d, e, f, g, h] = head;
    let mut rest = vec![0; (u32::from_be_bytes([a, b, c, d]) as usize).saturating_sub(8)];
    stream.read_exact(&mut rest)?;
    Ok((u32::from_be_bytes([e, f, g, h]), rest))
}

/// Lets the client in and says yes to every statement that returns nothing.
fn talk(mut stream: impl Read + Write, answer: Answer) -> std::io::Result<()> {
    const READY: &[u8] = b"Z\0\0\0\x05I";
    match answer {
        Answer::Welcome | Answer::Pooled => {}
        Answer::Gibberish => return stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        Answer::Refusal(code, words) => {
            let body = format!("SFATAL\0VFATAL\0C{code}\0M{words}\0\0");
            let length = u32::try_from(body.len() + 4).map_err(std::io::Error::other)?;
            return stream.write_all(&[b"E", &length.to_be_bytes()[..], body.as_bytes()].concat());
        }
    }
    stream.write_all(&[b"R\0\0\0\x08\0\0\0\0", READY].concat())?;
    loop {
        let mut head = [0; 5];
        stream.read_exact(&mut head)?;
        let [kind, a, b, c, d] = head;
        let mut body = vec![0; (u32::from_be_bytes([a, b, c, d]) as usize).saturating_sub(4)];
        stream.read_exact(&mut body)?;
        if kind == b'Q' {
            stream.write_all(&[b"C\0\0\0\x08SET\0", READY].concat())?;
        }
        if kind == b'S' && matches!(answer, Answer::Pooled) {
            stream.write_all(&[&json_row(r#"{"session": null, "version_num": 170005}"#)?, READY].concat())?;
        }
    }
}

/// The answer to one query by the extended protocol: a row of one column of type `jsonb`.
fn json_row(json: &str) -> std::io::Result<Vec<u8>> {
    const JSONB: i32 = 3802;
    let mut answer = Vec::new();
    let mut message = |kind: u8, body: &[&[u8]]| {
        let body = body.concat();
        answer.push(kind);
        answer.extend(i32::try_from(body.len() + 4).map_err(std::io::Error::other)?.to_be_bytes());
        answer.extend(body);
        Ok::<_, std::io::Error>(())
    };
    let length = i32::try_from(json.len() + 1).map_err(std::io::Error::other)?.to_be_bytes();
    message(b'1', &[])?;
    message(b'2', &[])?;
    message(b'T', &[&[0, 1], b"jsonb\0", &[0; 6], &JSONB.to_be_bytes(), &[0xff; 6], &[0, 1]])?;
    message(b'D', &[&[0, 1], &length, &[1], json.as_bytes()])?;
    message(b'C', &[b"SELECT 1\0"])?;
    Ok(answer)
}
