//! Stage 2: the connection secret of a `TimescaleDatabase`, read by name.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{Api, Client, ResourceExt};

use crate::{
    api::{TimescaleDatabase, status::Reason},
    db::credentials::{self, Endpoint},
    error::{Class, Failure, chain},
};

/// Where to connect and as whom, read from the secrets anew in every pass: a rotated password is noticed without a watch.
///
/// # Errors
/// When a secret is missing, may not be read, or lacks something.
pub async fn endpoint(database: &TimescaleDatabase, namespace: &str, client: &Client) -> Result<Endpoint, Failure> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let connection = &database.spec.connection;
    let secret = data(&api, &connection.secret_ref.name, namespace).await?;
    let ca = match &connection.tls.ca_secret_ref {
        None => None,
        Some(reference) => {
            let value = data(&api, &reference.name, namespace).await?.remove(&reference.key);
            let missing = || {
                let message = format!("secret {} has no key {}", reference.name, reference.key);
                Failure::new(Class::User, Reason::SecretNotFound, message)
            };
            Some(value.ok_or_else(missing)?.0)
        }
    };
    let mut endpoint = credentials::endpoint(connection, &secret, ca)?;
    // So that pg_stat_activity, and an operator that finds the lock taken, can say for which resource.
    endpoint.config.application_name(format!("{} {namespace}/{}", credentials::APPLICATION_NAME, database.name_any()));
    Ok(endpoint)
}

async fn data(api: &Api<Secret>, name: &str, namespace: &str) -> Result<BTreeMap<String, ByteString>, Failure> {
    match api.get_opt(name).await {
        Ok(Some(secret)) => Ok(secret.data.unwrap_or_default()),
        Ok(None) => {
            let message =
                format!("secret {name} does not exist in namespace {namespace}; create it, or correct spec.connection");
            Err(Failure::new(Class::User, Reason::SecretNotFound, message))
        }
        Err(kube::Error::Api(status)) if status.is_forbidden() => {
            let message = format!("no permission to read secret {name} in namespace {namespace}: {}", status.message);
            Err(Failure::new(Class::User, Reason::PermissionDenied, message))
        }
        Err(error) => {
            let message = format!("reading secret {name}: {}", chain(&error));
            Err(Failure::new(Class::Transient, Reason::Retrying, message))
        }
    }
}
