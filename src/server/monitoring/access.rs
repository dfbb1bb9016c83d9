//! Who asks, and whether they may: Kubernetes knows.

use std::{fmt::Display, sync::Arc, time::Duration};

use axum::http::{HeaderMap, StatusCode, header};
use k8s_openapi::api::{
    authentication::v1::{TokenReview, TokenReviewSpec, UserInfo},
    authorization::v1::{NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
};
use kube::{Api, Client, Resource, api::PostParams};
use moka::future::Cache;
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use super::problem::Problem;
use crate::error::chain;

/// How long an answer of Kubernetes holds: a token that is revoked, and access that is taken away, end after that.
const REMEMBERED: Duration = Duration::from_secs(10);
/// Answers remembered; which goes first when there are more depends on how often it was asked for.
const MOST: u64 = 1024;
/// Time for one review.
const REVIEW_TIME: Duration = Duration::from_secs(4);

/// A token's SHA-256: what is remembered is of no use to who finds it.
type TokenDigest = [u8; 32];

/// Lets callers through that Kubernetes knows and that may read a path.
#[derive(Clone)]
pub struct Gate {
    client: Client,
    callers: Cache<TokenDigest, Option<Caller>>,
    grants: Cache<(TokenDigest, &'static str), bool>,
}

/// Somebody that Kubernetes knows.
#[derive(Clone, Debug)]
pub struct Caller {
    user: Arc<UserInfo>,
    digest: TokenDigest,
}

impl Caller {
    /// The user name: `system:serviceaccount:<namespace>:<name>` of a service account.
    pub fn name(&self) -> &str {
        self.user.username.as_deref().unwrap_or_default()
    }
}

impl Gate {
    /// A gate that asks with this client, which may create token reviews and subject access reviews.
    pub fn new(client: Client) -> Self {
        let callers = Cache::builder().max_capacity(MOST).time_to_live(REMEMBERED).build();
        Self { client, callers, grants: Cache::builder().max_capacity(MOST).time_to_live(REMEMBERED).build() }
    }

    /// Who the bearer token is of.
    ///
    /// # Errors
    /// 401 without a token that Kubernetes knows, 503 when Kubernetes does not answer.
    pub async fn caller(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        let unauthorized = |detail| Problem::new(StatusCode::UNAUTHORIZED, detail);
        let token = bearer_token(headers)
            .ok_or_else(|| unauthorized("send a token of this cluster: Authorization: Bearer <token>"))?;
        let digest: TokenDigest = Sha256::digest(token).into();
        let known = self.callers.try_get_with(digest, self.review(token, digest)).await.map_err(|e| (*e).clone())?;
        known.ok_or_else(|| unauthorized("the cluster does not know this token; it may have expired"))
    }

    /// The caller may `get` this non-resource URL.
    ///
    /// # Errors
    /// 403 when not, 503 when Kubernetes does not answer.
    pub async fn may_get(&self, caller: &Caller, url: &'static str) -> Result<(), Problem> {
        let granted = self.grants.try_get_with((caller.digest, url), self.access(&caller.user, url));
        if granted.await.map_err(|e| (*e).clone())? {
            return Ok(());
        }
        let detail = format!(
            "{} may not get {url}; a ClusterRole with this among its nonResourceURLs lets callers in, such as monitoring-admin",
            caller.name()
        );
        Err(Problem::new(StatusCode::FORBIDDEN, detail))
    }

    async fn review(&self, token: &str, digest: TokenDigest) -> Result<Option<Caller>, Problem> {
        let spec = TokenReviewSpec { token: token.to_owned(), ..TokenReviewSpec::default() };
        let review = self.ask(TokenReview { spec, ..TokenReview::default() }).await?;
        let status = review.status.unwrap_or_default();
        let user = status.user.filter(|_| status.authenticated == Some(true));
        Ok(user.map(|user| Caller { user: Arc::new(user), digest }))
    }

    async fn access(&self, user: &UserInfo, url: &str) -> Result<bool, Problem> {
        let UserInfo { extra, groups, uid, username } = user.clone();
        let wanted = NonResourceAttributes { path: Some(url.to_owned()), verb: Some("get".to_owned()) };
        let spec = SubjectAccessReviewSpec {
            extra,
            groups,
            uid,
            user: username,
            non_resource_attributes: Some(wanted),
            resource_attributes: None,
        };
        let review = self.ask(SubjectAccessReview { spec, ..SubjectAccessReview::default() }).await?;
        Ok(review.status.is_some_and(|status| status.allowed))
    }

    /// Sends a review, and gives back what the API server made of it.
    async fn ask<K>(&self, review: K) -> Result<K, Problem>
    where
        K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Serialize + DeserializeOwned,
    {
        let (api, parameters) = (Api::<K>::all(self.client.clone()), PostParams::default());
        let asked = tokio::time::timeout(REVIEW_TIME, api.create(&parameters, &review)).await;
        let failed = |error: &dyn Display| {
            tracing::warn!(kind = %K::kind(&()), %error, "the monitoring API cannot have a review (may the operator create them?)");
            Problem::unavailable("the Kubernetes API server does not say who may read; try again")
        };
        match asked {
            Ok(Ok(reviewed)) => Ok(reviewed),
            Ok(Err(error)) => Err(failed(&chain(&error))),
            Err(elapsed) => Err(failed(&elapsed)),
        }
    }
}

/// The token of `Authorization: Bearer`. The scheme's case does not matter (RFC 9110).
fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    Some(token.trim()).filter(|token| scheme.eq_ignore_ascii_case("bearer") && !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_taken_from_a_bearer_header_only() {
        for (value, expected) in [
            ("Bearer abc", Some("abc")),
            ("bearer  abc ", Some("abc")),
            ("Basic abc", None),
            ("Bearer", None),
            ("Bearer  ", None),
            ("abc", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap_or_else(|e| panic!("{e}")));
            assert_eq!(bearer_token(&headers), expected, "{value}");
        }
        assert_eq!(bearer_token(&HeaderMap::new()), None);
    }
}
