//! Clients of the Kubernetes API.

use hyper_timeout::TimeoutConnector;
use hyper_util::{
    client::legacy::{Builder, connect::HttpConnector},
    rt::TokioExecutor,
};
use kube::{
    Client, Config,
    client::{ClientBuilder, ConfigExt, retry::RetryPolicy},
};
use tower::{BoxError, ServiceBuilder, retry::RetryLayer};

/// A client that sends what it has to send at once. That of [`Client::try_from`] leaves Nagle's algorithm on
/// (<https://github.com/kube-rs/kube/issues/2056>): on a new connection the first request waits 40 ms, until the server's
/// delayed acknowledgement of the handshake, and so does the end of each request that takes several segments.
///
/// # Errors
/// As those of [`Client::try_from`]: of certificates and credentials that cannot be used, and of a proxy.
pub fn connect(config: Config) -> kube::Result<Client> {
    if config.proxy_url.is_some() {
        // Says which proxies it takes.
        return Client::try_from(config);
    }
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let mut connector = TimeoutConnector::new(config.rustls_https_connector_with_connector(tcp)?);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout);
    connector.set_write_timeout(config.write_timeout);
    connector.set_reset_reader_on_write(config.reset_reader_on_write);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.default_retry.then(|| RetryLayer::new(RetryPolicy::server_retry())))
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(Builder::new(TokioExecutor::new()).build(connector));
    Ok(ClientBuilder::new(service, config.default_namespace).build())
}
