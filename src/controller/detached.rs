//! Resources that lead to no database: their `TimescaleDatabase`, or the target of a policy, does not exist.

use kube::runtime::reflector::ObjectRef;

use super::{
    Context,
    attached::{Member, members},
    report::Voice,
    stores::NO_DATABASE,
};
use crate::{
    api::{TimescaleDatabase, status::Reason},
    error::Failure,
    monitoring::DatabaseKey,
    status::Summary,
};

/// Tells the resources of a database that does not exist so, and lets go of those that are being deleted.
pub async fn look_after(database: &ObjectRef<TimescaleDatabase>, context: &Context) -> Result<(), Failure> {
    let namespace = database.namespace.as_deref().unwrap_or_default();
    if context.stores.databases.get(database).is_some() {
        return Ok(());
    }
    if database.name == NO_DATABASE {
        return untargeted(namespace, context).await;
    }
    context.forget_ref(database);
    let attached = context.stores.attached(&database.name, namespace);
    let message = format!(
        "TimescaleDatabase {} does not exist in namespace {namespace}; create it (the database itself is left as it is until then)",
        database.name
    );
    let members: Vec<_> = members(&attached, &database.name, namespace).into_values().collect();
    let key = (namespace.to_owned(), database.name.clone());
    orphan(&members, &key, &message, context).await?;
    let summary = Summary::new(Reason::DatabaseNotFound, message);
    let staying = members.iter().filter(|member| !member.is_deleting());
    context.tell(staying, &key, None, &summary, Voice::Quiet).await
}

/// Policies that lead to no target.
async fn untargeted(namespace: &str, context: &Context) -> Result<(), Failure> {
    let compression = context.stores.untargeted(&context.stores.compression, namespace);
    let retention = context.stores.untargeted(&context.stores.retention, namespace);
    let members: Vec<_> =
        compression.into_iter().map(Member::from).chain(retention.into_iter().map(Member::from)).collect();
    let (selecting, naming): (Vec<_>, Vec<_>) = members.into_iter().partition(Member::is_selecting);
    let named =
        "the resource named by spec.targetRef does not exist in this namespace; create it, or delete this policy";
    let selected = "no resource in this namespace has the labels that spec.targetSelector selects; label the Hypertables or ContinuousAggregates that the policy is for";
    let key = (namespace.to_owned(), NO_DATABASE.to_owned());
    for (members, message) in [(naming, named), (selecting, selected)] {
        orphan(&members, &key, message, context).await?;
        let summary = Summary::new(Reason::TargetNotFound, message);
        let staying = members.iter().filter(|member| !member.is_deleting());
        context.tell(staying, &key, None, &summary, Voice::Loud).await?;
    }
    Ok(())
}

/// Lets go of those that are being deleted.
async fn orphan(members: &[Member], database: &DatabaseKey, why: &str, context: &Context) -> Result<(), Failure> {
    for member in members.iter().filter(|member| member.is_deleting() && member.has_finalizer()) {
        context.let_go(member, database, why).await?;
    }
    Ok(())
}
