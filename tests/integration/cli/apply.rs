//! `apply`: what `plan` shows, done.

use super::{argument, example, plan::METRIC, run, run_with};
use crate::support::{Result, timescaledb::TimescaleDb};

const TABLE: &str = "CREATE TABLE public.metric (ts timestamptz NOT NULL, device int NOT NULL, value float8)";

#[tokio::test]
async fn a_factory_and_an_analyzer_are_brought_to_what_their_manifests_say() -> Result<()> {
    for (name, schema, resources) in
        [("ms5", "ms5/schema.sql", 29), ("time-series-analyzer/policies.yaml", "time-series-analyzer/schema.sql", 2)]
    {
        let database = TimescaleDb::start().await?;
        let client = database.connect().await?;
        client.batch_execute(&std::fs::read_to_string(example(schema))?).await?;
        drop(client);
        let (url, path) = (database.url(), example(name));
        let files = argument(&path)?;
        let applied = run(&["apply", "-f", files], &url).await?.with_code(0);
        assert!(applied.stdout.contains("was looked at again and is in sync."), "{}", applied.stdout);
        assert!(applied.stderr.contains("done [1/"), "{}", applied.stderr);
        let plan = run(&["plan", "-f", files], &url).await?.with_code(0);
        assert!(plan.stdout.contains(&format!("nothing to do for {resources} resources")), "{}", plan.stdout);
        let again = run(&["apply", "-f", files], &url).await?.with_code(0);
        assert!(again.stdout.contains("0 steps done"), "{}", again.stdout);
        database.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_would_lose_rows_is_done_only_with_the_approval_of_that_very_plan() -> Result<()> {
    let database = TimescaleDb::start().await?;
    let client = database.connect().await?;
    client.batch_execute(TABLE).await?;
    client
        .batch_execute(
            "INSERT INTO public.metric SELECT now() - n * interval '1 day', n, n FROM generate_series(0, 99) n",
        )
        .await?;
    let url = database.url();
    run_with(&["apply", "-f", "-"], Some(&url), METRIC).await?.with_code(0);
    let tighter = METRIC.replace("dropAfter: 90 days", "dropAfter: 10 days");
    let held = run_with(&["apply", "-f", "-"], Some(&url), &tighter).await?.with_code(2);
    assert!(held.stdout.contains("ApprovalRequired") && held.stdout.contains("deletes data"), "{}", held.stdout);
    let (_, rest) = held.stdout.rsplit_once("--approve ").ok_or("no digest is named")?;
    let digest = rest.split_whitespace().next().ok_or("no digest is named")?;

    let stale = run_with(&["apply", "-f", "-", "--approve", "000000000000"], Some(&url), &tighter).await?.with_code(2);
    assert!(stale.stdout.contains("is for another plan"), "{}", stale.stdout);
    run_with(&["plan", "-f", "-"], Some(&url), METRIC).await?.with_code(0);

    run_with(&["apply", "-f", "-", "--approve", digest], Some(&url), &tighter).await?.with_code(0);
    run_with(&["plan", "-f", "-"], Some(&url), &tighter).await?.with_code(0);
    // A manifest that is taken away takes nothing with it, which is said.
    let (kept, _) = tighter.rsplit_once("---").ok_or("there are several documents")?;
    let left = run_with(&["plan", "-f", "-"], Some(&url), kept).await?.with_code(0);
    assert!(left.stdout.contains("public.metric has a retention policy (job "), "{}", left.stdout);
    drop(client);
    database.stop().await
}

#[tokio::test]
async fn a_role_that_may_not_is_told_so_before_anything_is_done() -> Result<()> {
    let database = TimescaleDb::start().await?;
    let client = database.connect().await?;
    client.batch_execute(TABLE).await?;
    let reader = format!("reader_{:016x}", fastrand::u64(..));
    database.run_script("role-observe.sql", &[("role", &reader), ("schema", "public")]).await?;
    let refused = run_with(&["apply", "-f", "-"], Some(&database.url_as(&reader)), METRIC).await?.with_code(1);
    assert!(
        refused.stderr.contains("the role lacks privileges:") && refused.stderr.contains("Nothing was changed."),
        "{}",
        refused.stderr
    );
    assert!(refused.stderr.contains("public.metric belongs to"), "{}", refused.stderr);
    assert_eq!(client.query("SELECT FROM timescaledb_information.hypertables", &[]).await?.len(), 0);
    client.batch_execute(&format!("DROP OWNED BY {reader}; DROP ROLE {reader}")).await?;
    drop(client);
    database.stop().await
}

#[tokio::test]
async fn what_fails_or_is_refused_is_said_and_the_rest_is_done() -> Result<()> {
    let database = TimescaleDb::start().await?;
    let client = database.connect().await?;
    client
        .batch_execute(&format!("{TABLE}; CREATE TABLE public.event (id int PRIMARY KEY, ts timestamptz NOT NULL)"))
        .await?;
    let event = "---\napiVersion: timescaledb-policy.io/v1alpha1\nkind: Hypertable\nmetadata: {name: event}\nspec: {databaseRef: {name: plant}, schema: public, table: event, timeColumn: ts}\n";
    let both = format!("{METRIC}{event}");
    let url = database.url();
    let applied = run_with(&["apply", "-f", "-"], Some(&url), &both).await?.with_code(2);
    assert!(
        applied.stdout.contains("Hypertable/event: IncompatibleIndex") && applied.stdout.contains("event_pkey"),
        "{}",
        applied.stdout
    );
    run_with(&["plan", "-f", "-"], Some(&url), METRIC).await?.with_code(0);

    let observed = "---\napiVersion: timescaledb-policy.io/v1alpha1\nkind: TimescaleDatabase\nmetadata: {name: plant}\nspec: {connection: {secretRef: {name: plant}}, mode: Observe}\n";
    let looser = METRIC.replace("90 days", "95 days") + observed;
    let shown = run_with(&["plan", "-f", "-"], Some(&url), &looser).await?.with_code(2);
    assert!(shown.stdout.contains("90 days") && shown.stdout.contains("mode is Observe"), "{}", shown.stdout);
    let refused = run_with(&["apply", "-f", "-"], Some(&url), &looser).await?.with_code(1);
    assert!(refused.stderr.contains("mode: Observe"), "{}", refused.stderr);
    drop(client);
    database.stop().await
}
