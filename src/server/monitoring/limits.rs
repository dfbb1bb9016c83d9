//! How much of the operator its callers may have.

use std::{io, net::SocketAddr, time::Duration};

use axum_server::{Handle, accept::Accept};
use hyper_util::{
    rt::{TokioExecutor, TokioTimer},
    server::conn::auto::Builder,
};

/// Connections at once; one more is closed at once.
const CONNECTIONS: usize = 256;
/// Requests that are worked on at once; one more is answered with 503.
pub const REQUESTS: usize = 64;
/// Time for one request, with what Kubernetes takes to review its token.
pub const REQUEST_TIME: Duration = Duration::from_secs(10);
/// Time for the head of a request, which is also how long a connection may be idle.
const HEAD_TIME: Duration = Duration::from_secs(15);
/// Size of the head of a request: the URI, which holds no more than a filter and a place to go on from, and the headers with
/// a token, which takes 1 to 2 KiB.
const HEAD_BYTES: usize = 16 * 1024;
const HEADERS: usize = 64;

/// Sets the limits of one connection. Bodies have none: nothing reads them.
pub fn of_connection(builder: &mut Builder<TokioExecutor>) {
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_headers(HEADERS)
        .max_buf_size(HEAD_BYTES);
}

/// Accepts no more than [`CONNECTIONS`] at once.
#[derive(Clone, Debug)]
pub struct Bounded(Handle<SocketAddr>);

impl Bounded {
    /// Bounds the server with this handle.
    pub const fn new(handle: Handle<SocketAddr>) -> Self {
        Self(handle)
    }
}

impl<I, S> Accept<I, S> for Bounded {
    type Stream = I;
    type Service = S;
    type Future = std::future::Ready<io::Result<(I, S)>>;

    fn accept(&self, stream: I, service: S) -> Self::Future {
        let room = self.0.connection_count() <= CONNECTIONS;
        std::future::ready(if room { Ok((stream, service)) } else { Err(io::ErrorKind::ConnectionRefused.into()) })
    }
}
