//! What is told to many is told cheaply, and once.

use super::{
    database::Database,
    eventually, manifests,
    operator::Metrics,
    relay::Relay,
    stage::{KINDS, Stage, condition},
};
use crate::support::Result;

/// A thousand resources would make a thousand events of one closed port.
#[tokio::test]
async fn an_outage_is_one_event_and_one_status_for_each_resource() -> Result<()> {
    const TABLES: usize = 40;
    let mut stage = Stage::own("outage").await?;
    stage.start_operator().await?;
    let database = Database::start().await?;
    let tables: Vec<_> = (0..TABLES).map(|n| format!("readings{n}")).collect();
    database.run(&tables.iter().map(|table| manifests::table(table)).collect::<String>()).await?;
    let of_table = |table: &String| {
        [manifests::hypertable(table, "chunkInterval: 1 day"), manifests::retention(table, "dropAfter: 1 year")]
    };
    let relay = Relay::to(&database).await?;
    stage.secret_named("plant", &database, relay.port()).await?;
    let all: Vec<_> = [manifests::database("plant", "")].into_iter().chain(tables.iter().flat_map(of_table)).collect();
    stage.apply(&all).await?;
    stage.ready(&format!("--all {}", KINDS.join(","))).await?;
    stage.operator()?.passes(2).await?;
    let resources = f64::from(u32::try_from(2 * TABLES)?);

    let all_say = async |reason: &str| {
        eventually(&format!("all say {reason}"), async || {
            let objects = stage.objects().await?;
            let said = objects.iter().filter(|object| condition(object, "Ready")["reason"] == reason).count();
            if said == objects.len() { Ok(Some(())) } else { Err(format!("{said} of {} do", objects.len()).into()) }
        })
        .await
    };
    let before = stage.operator()?.metrics().await?;
    let more = |after: &Metrics, write: &str| {
        // The database's own status says each attempt's failure in its own words.
        let of = |metrics: &Metrics| {
            let of_kind = |kind| metrics.sum("api_writes_total", &format!("kind=\"{kind}\",write=\"{write}\""));
            ["Hypertable", "RetentionPolicy"].map(of_kind).iter().sum::<f64>()
        };
        of(after) - of(&before)
    };
    let events = |after: &Metrics| {
        let label = r#"write="event""#;
        after.sum("api_writes_total", label) - before.sum("api_writes_total", label)
    };
    relay.close();
    all_say("DatabaseUnreachable").await?;
    let after = stage.operator()?.passes(2).await?;
    assert_eq!(events(&after), 1.0, "the database's own");
    assert_eq!(more(&after, "status"), resources);
    let message = stage.says("retentionpolicy/readings7", "DatabaseUnreachable").await?;
    assert!(message.contains("kubectl describe timescaledatabase -n outage plant"), "{message}");
    let cause = stage.says("timescaledatabase/plant", "DatabaseUnreachable").await?;
    assert!(cause.contains("127.0.0.1"), "{cause}");
    relay.open();
    all_say("InSync").await?;
    let after = stage.operator()?.passes(2).await?;
    assert_eq!(events(&after), 1.0);
    assert_eq!(more(&after, "status"), 2.0 * resources);

    // A secret that is gone is a person's to mend: it is said at once, and as cheaply.
    stage.kubectl("delete secret plant").await?;
    all_say("SecretNotFound").await?;
    let after = stage.operator()?.passes(2).await?;
    assert_eq!(events(&after), 2.0);
    assert_eq!(more(&after, "status"), 3.0 * resources);
    stage.secret(&database).await?;
    all_say("InSync").await?;
    stage.end().await?;
    database.end().await
}

#[tokio::test]
async fn what_is_unwise_is_an_event_once() -> Result<()> {
    let mut stage = Stage::own("unwise").await?;
    stage.start_operator().await?;
    let database = Database::start().await?;
    for table in ["readings", "a", "b"] {
        database.run(&manifests::table(table)).await?;
    }
    let labelled = |name: &str| manifests::labelled("raw", &manifests::hypertable(name, "chunkInterval: 7 days"));
    stage
        .manage(
            &database,
            &[
                manifests::hypertable("readings", "chunkInterval: 7 days"),
                manifests::retention("readings", "dropAfter: 1 day"),
                labelled("a"),
                labelled("b"),
                manifests::fleet("RetentionPolicy", "fleet", "raw", "dropAfter: 1 day"),
            ],
        )
        .await?;
    let object = "retentionpolicy/readings";
    let message = stage.says(object, "InSync").await?;
    let (_, warning) = message.split_once("Warning: ").ok_or(message.clone())?;
    assert_eq!(stage.event(object, "Unwise").await?, warning);
    let of_fleet = "retentionpolicy/fleet";
    stage.until(of_fleet, "two targets", |found| found["status"]["matchedInSync"] == 2).await?;
    let told = stage.event(of_fleet, "Unwise").await?;
    assert!(told.contains("Hypertable/a: ") && told.contains("Hypertable/b: "), "{told}");
    let listed = stage.get(of_fleet).await?["status"]["targets"][0]["message"].to_string();
    assert!(listed.contains("Warning: "), "{listed}");

    stage.operator()?.passes(4).await?;
    assert!(stage.take_operator()?.terminate().await?.success());
    stage.start_operator().await?;
    stage.operator()?.passes(3).await?;
    // Another change does not repeat what was said.
    stage.patch(object, r#"{"schedule": {"interval": "2 days"}}"#).await?;
    stage.says(object, "InSync").await?;
    assert_eq!(stage.events(object, "Unwise").await?.len(), 1);
    assert_eq!(stage.events(of_fleet, "Unwise").await?.len(), 1);
    let list = stage.kubectl("get events --field-selector reason=Unwise --no-headers").await?;
    assert!(list.lines().all(|line| line.contains("Warning")), "{list}");

    // What was mended and comes back is news.
    stage.patch(object, r#"{"dropAfter": "1 year"}"#).await?;
    stage
        .until(object, "no warning", |found| {
            !found["status"]["conditions"][0]["message"].to_string().contains("Warning")
        })
        .await?;
    stage.patch(object, r#"{"dropAfter": "1 day"}"#).await?;
    eventually("a second event", async || Ok((stage.events(object, "Unwise").await?.len() == 2).then_some(()))).await?;
    stage.end().await?;
    database.end().await
}
