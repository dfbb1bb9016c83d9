//! Resources that lead to no database: their `TimescaleDatabase`, or the target of a policy, does not exist.

use kube::runtime::reflector::ObjectRef;

use super::{
    Context,
    attached::{Member, all, members},
    stores::NO_DATABASE,
};
use crate::{
    api::{TimescaleDatabase, status::Reason},
    error::Failure,
    status::{Observed, Summary},
};

/// Tells the resources of a database that does not exist so, and lets go of those that are being deleted.
pub async fn look_after(database: &ObjectRef<TimescaleDatabase>, context: &Context) -> Result<(), Failure> {
    context.stores.ready().await;
    let namespace = database.namespace.as_deref().unwrap_or_default();
    if context.stores.databases.get(database).is_some() {
        return Ok(());
    }
    let (members, summary): (Vec<Member>, _) = if database.name == NO_DATABASE {
        let compression =
            context.stores.untargeted(&context.stores.compression, namespace).into_iter().map(Member::from);
        let retention = context.stores.untargeted(&context.stores.retention, namespace).into_iter().map(Member::from);
        let message =
            "the resource named by spec.targetRef does not exist in this namespace; create it, or delete this policy";
        (compression.chain(retention).collect(), Summary::new(Reason::TargetNotFound, message))
    } else {
        context.forget_ref(database);
        let attached = context.stores.attached(&database.name, namespace);
        let message = format!(
            "TimescaleDatabase {} does not exist in namespace {namespace}; create it (the database itself is left as it is until then)",
            database.name
        );
        (members(&attached, &database.name).into_values().collect(), Summary::new(Reason::DatabaseNotFound, message))
    };
    for member in members.iter().filter(|member| member.is_deleting() && member.has_finalizer()) {
        member.orphan(&context.reporter, &summary.message).await?;
    }
    let staying = members.iter().filter(|member| !member.is_deleting());
    let observed = |member| Observed { target: Member::target(member), ..Observed::default() };
    let writes = staying.map(|member| member.settle(&context.reporter, Some(summary.clone()), observed(member), None));
    all(writes.collect()).await
}
