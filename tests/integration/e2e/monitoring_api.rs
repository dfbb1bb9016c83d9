//! The monitoring API as its callers meet it: with tokens of a real API server.

use std::path::Path;

use http::{HeaderMap, Method, Request, header};
use serde_json::{Value, json};

use super::{database::Database, eventually, manifests, operator::Operator, relay::Relay, stage::Stage};
use crate::support::{Result, api_server::ApiServer, process::Folder};

const HEALTH: &str = "/api/v1/monitoring/health";
const STATUS: &str = "/api/v1/monitoring/status/timescaledb";
const OPENAPI: &str = "/api/v1/openapi.json";
/// What only callers may read whom RBAC lets in.
const ADMIN: [&str; 6] = [
    "/api/v1/monitoring/health/database",
    "/api/v1/monitoring/health/timescaledb",
    "/api/v1/monitoring/metrics/hypertables",
    "/api/v1/monitoring/metrics/compression",
    "/api/v1/monitoring/metrics/chunks",
    "/api/v1/monitoring/configuration",
];
const ON: &[&str] = &["--monitoring-listen", "127.0.0.1:0"];

/// A caller with its own connections.
pub struct Caller(kube::Client);

pub struct Answer {
    pub status: u16,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.text).map_err(|error| format!("{error}: {}", self.text).into())
    }

    /// The body of a 200.
    fn good(&self) -> Result<Value> {
        if self.status == 200 { self.json() } else { Err(format!("{}: {}", self.status, self.text).into()) }
    }

    /// The detail of an error, in the one shape of errors.
    fn problem(&self) -> Result<String> {
        let body = self.json()?;
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json");
        assert_eq!(body["status"], self.status);
        assert_eq!(body.as_object().map(|body| body.len()), Some(4), "{body}");
        Ok(body["detail"].as_str().ok_or("no detail")?.to_owned())
    }
}

impl Caller {
    /// Of the operator's API, with this token, in clear text or trusting this authority.
    pub fn new(operator: &Operator, token: Option<&str>, authority: Option<&rcgen::Certificate>) -> Result<Self> {
        let log = operator.log();
        let line = log.iter().find(|line| line["message"] == "the monitoring API listens").ok_or("no API")?;
        let address: std::net::SocketAddr = line["listen"].as_str().unwrap_or_default().parse()?;
        let uri = match authority {
            None => format!("http://127.0.0.1:{}", address.port()),
            Some(_) => format!("https://localhost:{}", address.port()),
        };
        let mut config = kube::Config::new(uri.parse()?);
        config.default_retry = false;
        config.root_cert = authority.map(|certificate| vec![certificate.der().to_vec()]);
        config.auth_info.token = token.map(|token| token.to_owned().into());
        Ok(Self(kube::Client::try_from(config)?))
    }

    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.request(Method::GET, path).await
    }

    async fn request(&self, method: Method, path: &str) -> Result<Answer> {
        let request = Request::builder().method(method).uri(path).body(kube::client::Body::empty())?;
        let (parts, body) = self.0.send(request).await?.into_parts();
        let text = String::from_utf8(body.collect_bytes().await?.to_vec())?;
        Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, text })
    }

    /// All items of a list, page by page.
    async fn walk(&self, path: &str, limit: usize) -> Result<Vec<Value>> {
        let (mut items, mut place) = (Vec::new(), String::new());
        loop {
            let page = self.get(&format!("{path}?limit={limit}{place}")).await?.good()?;
            let of_page = page["items"].as_array().ok_or("no items")?;
            assert!(of_page.len() <= limit, "{path}: {}", of_page.len());
            items.extend(of_page.iter().cloned());
            match page["continue"].as_str() {
                Some(token) => place = format!("&continue={token}"),
                None => return Ok(items),
            }
        }
    }
}

/// The service accounts and roles of a cluster's callers, as the guide has them.
struct Callers {
    nobody: String,
    viewer: String,
    admin: String,
}

impl Callers {
    async fn create(stage: &Stage) -> Result<Self> {
        let page = include_str!("../../../docs/guide/monitoring.md");
        let blocks = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
        let roles: Vec<_> = blocks.filter(|block| block.contains("kind: ClusterRole\n")).collect();
        assert_eq!(roles.len(), 1, "the guide has the roles once");
        stage.kubectl_with(&["apply", "-f", "-"], roles[0]).await?;
        for name in ["nobody", "monitoring-viewer", "monitoring-admin"] {
            stage.kubectl(&format!("create serviceaccount {name}")).await?;
            if name != "nobody" {
                let account = format!("{}:{name}", stage.namespace());
                let binding = format!("{}-{name}", stage.namespace());
                let role = format!("--clusterrole={name} --serviceaccount={account}");
                stage.kubectl(&format!("create clusterrolebinding {binding} {role}")).await?;
            }
        }
        let token = async |name: &str| {
            Ok::<_, crate::support::Error>(stage.kubectl(&format!("create token {name}")).await?.trim().to_owned())
        };
        Ok(Self {
            nobody: token("nobody").await?,
            viewer: token("monitoring-viewer").await?,
            admin: token("monitoring-admin").await?,
        })
    }
}

/// The lines of the audit log about this path.
fn audit(operator: &Operator, path: &str) -> Vec<Value> {
    let of_path = |line: &Value| line["target"] == "audit" && line["path"] == path;
    operator.log().into_iter().filter(of_path).collect()
}

#[tokio::test]
async fn who_may_read_what_is_decided_by_kubernetes_and_leaves_a_line() -> Result<()> {
    let mut stage = Stage::own("readers").await?;
    stage.start_operator_with(ON).await?;
    let callers = Callers::create(&stage).await?;
    let operator = stage.operator()?;
    let anonymous = Caller::new(operator, None, None)?;
    let [nobody, viewer, admin] =
        [&callers.nobody, &callers.viewer, &callers.admin].map(|token| Caller::new(operator, Some(token), None));
    let (nobody, viewer, admin) = (nobody?, viewer?, admin?);
    let stranger = Caller::new(operator, Some("not-a-token"), None)?;

    eventually("the API is ready", async || Ok((anonymous.get(HEALTH).await?.status == 200).then_some(()))).await?;
    for path in [HEALTH, OPENAPI] {
        for caller in [&anonymous, &stranger, &nobody, &viewer, &admin] {
            assert_eq!(caller.get(path).await?.status, 200, "{path}");
        }
    }
    for path in ADMIN.into_iter().chain([STATUS]) {
        for caller in [&anonymous, &stranger] {
            let answer = caller.get(path).await?;
            assert_eq!(answer.status, 401, "{path}");
            assert!(answer.headers[header::WWW_AUTHENTICATE].to_str()?.starts_with("Bearer "));
            answer.problem()?;
        }
        for caller in [&nobody, &viewer] {
            let answer = caller.get(path).await?;
            if path == STATUS {
                assert_eq!(answer.status, 200, "{path}: {}", answer.text);
            } else {
                assert_eq!(answer.status, 403, "{path}: {}", answer.text);
                let url = path.replace("/api/v1", "/timescaledb-policy.io");
                assert!(answer.problem()?.contains(&url), "{}", answer.text);
            }
        }
        let answer = admin.get(path).await?;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        assert_eq!(answer.headers[header::CACHE_CONTROL], "no-store");
        let head = admin.request(Method::HEAD, path).await?;
        assert_eq!((head.status, head.text.as_str()), (200, ""), "{path}");
    }

    // Who, what, result; and nobody's token.
    let missing = admin.get(&format!("{}?database=readers/missing", ADMIN[0])).await?;
    assert_eq!(missing.status, 404);
    assert!(missing.problem()?.contains("readers/missing"));
    let account = |name: &str| format!("system:serviceaccount:readers:{name}");
    let said: Vec<_> = audit(operator, ADMIN[0]).iter().map(|line| json!([line["user"], line["code"]])).collect();
    let admin_name = account("monitoring-admin");
    let expected = [
        json!([null, 401]),
        json!([null, 401]),
        json!([account("nobody"), 403]),
        json!([account("monitoring-viewer"), 403]),
        json!([admin_name, 200]),
        json!([admin_name, 200]),
        json!([admin_name, 404]),
    ];
    assert_eq!(said, expected);
    assert_eq!(audit(operator, ADMIN[0])[6]["database"], "readers/missing");
    assert_eq!(audit(operator, ADMIN[0])[6]["client"], "127.0.0.1");
    let log = operator.log().iter().map(Value::to_string).collect::<String>();
    for token in [&callers.nobody, &callers.viewer, &callers.admin, "not-a-token"] {
        assert!(!log.contains(token), "a token is in the log");
    }

    // What is taken away is gone when the answer of Kubernetes is forgotten, and a token with its account.
    stage.kubectl("delete clusterrolebinding readers-monitoring-admin").await?;
    eventually("forbidden", async || Ok((admin.get(ADMIN[0]).await?.status == 403).then_some(()))).await?;
    stage.kubectl("delete serviceaccount nobody").await?;
    eventually("unknown", async || Ok((nobody.get(STATUS).await?.status == 401).then_some(()))).await?;
    stage.end().await
}

#[tokio::test]
async fn what_is_asked_wrongly_is_answered_in_one_shape() -> Result<()> {
    let mut stage = Stage::own("wrong-questions").await?;
    stage.start_operator_with(ON).await?;
    let callers = Callers::create(&stage).await?;
    let admin = Caller::new(stage.operator()?, Some(&callers.admin), None)?;
    let path = ADMIN[2];
    eventually("the API is ready", async || Ok((admin.get(path).await?.status == 200).then_some(()))).await?;

    for (query, parameter) in [
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("limit=ten", "limit"),
        ("limit=", "limit"),
        ("limit=1&limit=2", "limit"),
        ("continue=x", "continue"),
        ("database=", "database"),
        ("namespace=plant", "namespace"),
    ] {
        let answer = admin.get(&format!("{path}?{query}")).await?;
        assert_eq!(answer.status, 400, "{query}: {}", answer.text);
        assert!(answer.problem()?.contains(parameter), "{query}: {}", answer.text);
    }
    let long = admin.get(&format!("{path}?database={}", "x".repeat(600))).await?;
    assert_eq!(long.status, 400);
    for unknown in
        ["/", "/metrics", "/api/v1/monitoring", "/api/v1/monitoring/metrics/chunks/", "/api/v2/monitoring/health"]
    {
        let answer = admin.get(unknown).await?;
        assert_eq!(answer.status, 404, "{unknown}");
        answer.problem()?;
    }
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS] {
        for path in [HEALTH, OPENAPI, STATUS, path] {
            let answer = admin.request(method.clone(), path).await?;
            assert_eq!(answer.status, 405, "{method} {path}");
            assert!(answer.headers[header::ALLOW].to_str()?.contains("GET"));
            answer.problem()?;
        }
    }
    let huge = admin.get(&format!("{path}?database={}", "x".repeat(20 * 1024))).await?;
    assert_eq!(huge.status, 431);
    stage.end().await
}

#[tokio::test]
async fn every_answer_is_what_the_description_says_and_holds_no_secret() -> Result<()> {
    let mut stage = Stage::own("described").await?;
    stage.start_operator_with(ON).await?;
    let database = Database::start().await?;
    database.run(&[manifests::table_of_days("readings", 12), manifests::table("other")].concat()).await?;
    let callers = Callers::create(&stage).await?;
    let admin = Caller::new(stage.operator()?, Some(&callers.admin), None)?;
    let readings = manifests::hypertable("readings", "migrateData: true");
    stage.secret(&database).await?;
    stage
        .apply(&[
            manifests::database("plant", "statisticsInterval: 1s, defaults: {chunkInterval: 2 days}"),
            readings,
            manifests::hypertable("other", "chunkInterval: 1 week"),
            manifests::compression("readings", "segmentBy: [sensor]"),
            manifests::retention("readings", "dropAfter: 1 year, schedule: {interval: 2 hours}"),
            manifests::aggregate("hourly", "readings", "1 hour", "realTime: true"),
        ])
        .await?;
    stage.ready("hypertable/readings compressionpolicy/readings continuousaggregate/hourly").await?;
    // One that is not reachable, with a password of its own.
    let password = "a-password-that-nobody-may-tell";
    let keys = [("username", "u"), ("password", password), ("host", "127.0.0.1"), ("port", "1"), ("dbname", "d")];
    stage.secret_of("nowhere", &keys).await?;
    stage.apply(&[manifests::database("nowhere", "")]).await?;
    stage.says("timescaledatabase/nowhere", "DatabaseUnreachable").await?;

    let mut all = Vec::new();
    let figures = eventually("the figures", async || {
        let answer = admin.get(&format!("{}?database=plant", ADMIN[2])).await?.good()?;
        Ok(answer["items"]
            .as_array()
            .is_some_and(|items| items.len() == 3 && items[2]["chunks"].is_i64())
            .then_some(answer))
    })
    .await?;
    let [hourly, other, of_readings] = [0, 1, 2].map(|n| &figures["items"][n]);
    assert_eq!((&hourly["table"], &hourly["kind"]), (&json!("hourly"), &json!("ContinuousAggregate")));
    assert_eq!((&other["table"], &other["chunkInterval"]), (&json!("other"), &json!("7 days")));
    assert_eq!((&of_readings["table"], &of_readings["dropAfter"]), (&json!("readings"), &json!("1 year")));
    assert_eq!(of_readings["timeColumn"], "ts");
    assert_eq!(of_readings["stale"], false);

    let description = admin.get(OPENAPI).await?.good()?;
    let paths: Vec<_> = description["paths"].as_object().ok_or("no paths")?.keys().cloned().collect();
    let mut expected: Vec<_> = ADMIN.into_iter().chain([HEALTH, STATUS, OPENAPI]).map(str::to_owned).collect();
    expected.sort();
    assert_eq!(paths, expected);
    let callers_of_all = [
        Caller::new(stage.operator()?, None, None)?,
        Caller::new(stage.operator()?, Some(&callers.nobody), None)?,
        admin,
    ];
    for path in &paths {
        for query in
            ["", "?limit=1", "?database=plant", "?database=described%2Fnowhere", "?database=missing", "?limit=0"]
        {
            for caller in &callers_of_all {
                let answer = caller.get(&format!("{path}{query}")).await?;
                check(&description, path, &answer)
                    .map_err(|error| format!("{path}{query}: {error}: {}", answer.text))?;
                all.push(answer.text);
            }
        }
    }
    let [_, _, admin] = callers_of_all;
    for text in &all {
        for secret in [password, database.password()?, &callers.admin] {
            assert!(!text.contains(secret), "{text}");
        }
    }
    // Names are for those who show a token.
    let health = admin.get(HEALTH).await?;
    assert_eq!(health.good()?["databases"]["total"], 2);
    assert!(!health.text.contains("plant") && !health.text.contains("described"), "{}", health.text);

    // Which layer a setting came from.
    let configuration = admin.walk(ADMIN[5], 100).await?;
    let setting = |kind: &str, name: &str, field: &str| {
        let of = |item: &&Value| item["resource"]["kind"] == kind && item["resource"]["name"] == name;
        let settings = configuration.iter().find(of).and_then(|item| item["settings"].as_array());
        let found = settings.and_then(|settings| settings.iter().find(|setting| setting["field"] == field));
        found.map_or(Value::Null, |setting| json!([setting["value"], setting["source"]]))
    };
    assert_eq!(setting("Hypertable", "readings", "chunkInterval"), json!(["2 days", "DatabaseDefaults"]));
    assert_eq!(setting("Hypertable", "other", "chunkInterval"), json!(["7 days", "Resource"]));
    assert_eq!(setting("CompressionPolicy", "readings", "orderBy"), json!([null, "NotManaged"]));
    assert_eq!(setting("RetentionPolicy", "readings", "paused"), json!(["false", "BuiltIn"]));
    assert_eq!(setting("TimescaleDatabase", "plant", "statisticsInterval"), json!(["1 second", "Resource"]));

    let nowhere = admin.get(&format!("{}?database=nowhere", ADMIN[0])).await?.good()?;
    assert_eq!(nowhere["items"][0]["failure"]["reason"], "DatabaseUnreachable");
    assert_eq!(nowhere["items"][0]["connections"], json!({"open": 0, "max": 3}));
    let plant = admin.get(&format!("{}?database=described/plant", ADMIN[0])).await?.good()?;
    // Sizes are read every second, on a second connection.
    let connections = &plant["items"][0]["connections"];
    assert!([1, 2].map(|open| json!({"open": open, "max": 3})).contains(connections), "{connections}");
    stage.end().await?;
    database.end().await
}

/// The answer has a status that the description of the path knows, and the body that it says, with no field more.
fn check(description: &Value, path: &str, answer: &Answer) -> Result<()> {
    let responses = &description["paths"][path]["get"]["responses"];
    let content = responses[answer.status.to_string()]["content"].as_object().ok_or("an undocumented status")?;
    let media = answer.headers[header::CONTENT_TYPE].to_str()?;
    let schema = &content.get(media).ok_or_else(|| format!("an undocumented media type {media}"))?["schema"];
    let mut root =
        json!({"$schema": "https://json-schema.org/draft/2020-12/schema", "components": description["components"]});
    for definition in root["components"]["schemas"].as_object_mut().ok_or("no schemas")?.values_mut() {
        if definition["properties"].is_object() {
            definition["additionalProperties"] = json!(false);
        }
    }
    root.as_object_mut().ok_or("no object")?.extend(schema.as_object().ok_or("no schema")?.clone());
    let validator = jsonschema::validator_for(&root)?;
    validator.validate(&answer.json()?).map_err(|error| format!("{error} at {}", error.instance_path()).into())
}

#[tokio::test]
async fn a_database_that_is_down_gives_an_old_answer_with_its_age() -> Result<()> {
    let mut stage = Stage::own("stale-answers").await?;
    stage.start_operator_with(ON).await?;
    let database = Database::start().await?;
    database.run(&manifests::table("readings")).await?;
    let relay = Relay::to(&database).await?;
    stage.secret_named("plant", &database, relay.port()).await?;
    stage
        .apply(&[manifests::database("plant", "statisticsInterval: 1s"), manifests::hypertable("readings", "")])
        .await?;
    stage.ready("hypertable/readings").await?;
    let callers = Callers::create(&stage).await?;
    let admin = Caller::new(stage.operator()?, Some(&callers.admin), None)?;
    let items = async |path: &str| Ok::<_, crate::support::Error>(admin.get(path).await?.good()?["items"][0].clone());
    eventually("fresh figures", async || Ok((items(ADMIN[2]).await?["chunks"].is_i64()).then_some(()))).await?;

    relay.close();
    let stale =
        eventually("it is stale", async || Ok(Some(items(ADMIN[0]).await?).filter(|item| item["stale"] == true)))
            .await?;
    assert_eq!((&stale["reachable"], &stale["failure"]["reason"]), (&json!(false), &json!("DatabaseUnreachable")));
    assert_eq!(stale["connections"]["open"], 0);
    let seen = &stale["observedAt"];
    assert!(seen.is_string(), "{stale}");
    // It goes on growing older, and what was seen stays.
    let later = eventually("it grows older", async || {
        let item = items(ADMIN[0]).await?;
        Ok((item["ageSeconds"].as_i64() > stale["ageSeconds"].as_i64()).then_some(item))
    })
    .await?;
    assert_eq!(&later["observedAt"], seen);
    let status = items(STATUS).await?;
    assert_eq!((&status["hypertables"], &status["reason"]), (&json!(1), &json!("DatabaseUnreachable")));
    for path in ADMIN.into_iter().filter(|path| !path.ends_with("compression")) {
        assert_eq!(items(path).await?["stale"], true, "{path}");
    }
    let health = admin.get(HEALTH).await?.good()?;
    assert_eq!(health["databases"], json!({"total": 1, "reachable": 0, "unreachable": 1}));

    relay.open();
    eventually("it is fresh", async || Ok((items(ADMIN[0]).await?["stale"] == false).then_some(()))).await?;
    stage.end().await?;
    database.end().await
}

#[tokio::test]
async fn pages_hold_everything_exactly_once() -> Result<()> {
    const TABLES: usize = 7;
    let mut stage = Stage::own("pages").await?;
    stage.start_operator_with(ON).await?;
    let database = Database::start().await?;
    let tables: Vec<_> = (0..TABLES).map(|n| format!("readings{n}")).collect();
    database.run(&tables.iter().map(|table| manifests::table(table)).collect::<String>()).await?;
    let hypertables: Vec<_> = tables.iter().map(|table| manifests::hypertable(table, "")).collect();
    stage.secret(&database).await?;
    stage.apply(&[&[manifests::database("plant", "")], &hypertables[..]].concat()).await?;
    // Databases between and behind, with nothing seen of them.
    stage.apply(&["a", "nowhere", "z"].map(|name| manifests::database(name, ""))).await?;
    for name in ["a", "nowhere", "z"] {
        stage.says(&format!("timescaledatabase/{name}"), "SecretNotFound").await?;
    }
    let objects = tables.iter().map(|table| format!("hypertable/{table}")).collect::<Vec<_>>().join(" ");
    stage.ready(&objects).await?;
    let callers = Callers::create(&stage).await?;
    let admin = Caller::new(stage.operator()?, Some(&callers.admin), None)?;
    stage.operator()?.passes(4).await?;

    let names = |items: &[Value]| {
        let name = |item: &Value| format!("{} {} {}", item["database"], item["table"], item["resource"]);
        items.iter().map(name).collect::<Vec<_>>()
    };
    for (path, count) in [(ADMIN[2], TABLES), (ADMIN[4], TABLES), (ADMIN[5], TABLES + 4), (STATUS, 4), (ADMIN[0], 4)] {
        let whole = names(&admin.walk(path, 500).await?);
        assert_eq!(whole.len(), count, "{path}: {whole:#?}");
        assert!(whole.is_sorted(), "{path}: {whole:#?}");
        for limit in [1, 2, 3, count] {
            assert_eq!(names(&admin.walk(path, limit).await?), whole, "{path} by {limit}");
        }
    }
    // A place stays one when what it names is gone.
    let first = admin.get(&format!("{}?limit=3", ADMIN[4])).await?.good()?;
    let place = first["continue"].as_str().ok_or("there is more")?;
    database.run("DROP TABLE plant.readings2").await?;
    let rest = eventually("the rest", async || {
        let rest = admin.get(&format!("{}?continue={place}", ADMIN[4])).await?.good()?;
        let gone = names(&admin.walk(ADMIN[4], 100).await?).len() == TABLES - 1;
        Ok(gone.then_some(rest))
    })
    .await?;
    let rest: Vec<_> = rest["items"].as_array().into_iter().flatten().map(|item| item["table"].clone()).collect();
    assert_eq!(rest, ["readings3", "readings4", "readings5", "readings6"]);
    stage.end().await?;
    database.end().await
}

#[tokio::test]
async fn without_the_cluster_nobody_is_let_in() -> Result<()> {
    // No definitions: the operator cannot list what it looks after.
    let api = ApiServer::start().await?;
    let operator = Operator::start_with(api.kubeconfig_path(), "info", ON).await?;
    let admin = Caller::new(&operator, Some("admin"), None)?;
    for path in ADMIN.into_iter().chain([HEALTH, STATUS]) {
        let answer = admin.get(path).await?;
        assert_eq!(answer.status, 503, "{path}: {}", answer.text);
        assert!(answer.problem()?.contains("not listed all resources yet"), "{}", answer.text);
    }
    assert_eq!(admin.get(OPENAPI).await?.status, 200);

    // An operator that may review nothing lets nobody in, and says so to its own people.
    let mut stage = Stage::own("no-reviews").await?;
    stage.kubectl("create serviceaccount operator").await?;
    stage
        .kubectl("create clusterrole no-reviews --verb=get,list,watch,patch --resource=*.timescaledb-policy.io")
        .await?;
    stage
        .kubectl("create clusterrolebinding no-reviews --clusterrole=no-reviews --serviceaccount=no-reviews:operator")
        .await?;
    let kubeconfig = stage.api()?.service_account_kubeconfig("no-reviews", "operator").await?;
    stage.start_operator_with(ON).await?;
    let limited = Operator::start_with(&kubeconfig, "info", ON).await?;
    let answer = Caller::new(&limited, Some("admin"), None)?.get(STATUS).await?;
    assert_eq!(answer.status, 503, "{}", answer.text);
    assert!(answer.problem()?.contains("Kubernetes"), "{}", answer.text);
    assert_eq!(audit(&limited, STATUS)[0]["code"], 503);
    assert!(limited.log().iter().any(|line| line["error"].as_str().is_some_and(|e| e.contains("forbidden"))));
    drop(limited);
    stage.end().await
}

#[tokio::test]
async fn an_instance_that_stands_by_leaves_the_answers_to_the_leader() -> Result<()> {
    let mut stage = Stage::own("standby-answers").await?;
    let options = [ON, &["--leader-elect", "true", "--lease-namespace", "standby-answers"]].concat();
    stage.start_operator_with(&options).await?;
    let leader = Caller::new(stage.operator()?, Some("admin"), None)?;
    let health = async |caller: &Caller| caller.get(HEALTH).await?.good();
    eventually("it leads", async || Ok((health(&leader).await?["leading"] == true).then_some(()))).await?;
    let standby = Operator::start_with(stage.api()?.kubeconfig_path(), "info", &options).await?;
    let caller = Caller::new(&standby, Some("admin"), None)?;
    eventually("it stands by", async || Ok((health(&caller).await?["leading"] == false).then_some(()))).await?;
    for path in ADMIN.into_iter().chain([STATUS]) {
        let answer = caller.get(path).await?;
        assert_eq!(answer.status, 503, "{path}: {}", answer.text);
        assert!(answer.problem()?.contains("stands by"), "{}", answer.text);
        assert_eq!(leader.get(path).await?.status, 200, "{path}");
    }
    drop(standby);
    stage.end().await
}

/// A certificate for `localhost` in the folder, as a mounted secret has it.
fn write_certificate(folder: &Path) -> Result<rcgen::Certificate> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    std::fs::write(folder.join("tls.crt"), made.cert.pem())?;
    std::fs::write(folder.join("tls.key"), made.signing_key.serialize_pem())?;
    Ok(made.cert)
}

#[tokio::test]
async fn a_renewed_certificate_is_taken_over_without_a_restart() -> Result<()> {
    let folder = Folder::new("certificate")?;
    let (certificate, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
    let options = [ON, &["--tls-cert-file", &certificate, "--tls-key-file", &key]].concat();
    let first = write_certificate(folder.path())?;
    let mut stage = Stage::own("certificates").await?;
    stage.start_operator_with(&options).await?;
    let operator = stage.operator()?;
    let status = async |caller: &Caller| Ok::<_, crate::support::Error>(caller.get(HEALTH).await?.status);
    let caller = Caller::new(operator, Some("admin"), Some(&first))?;
    eventually("the API is ready", async || Ok((status(&caller).await? == 200).then_some(()))).await?;
    assert_eq!(caller.get(ADMIN[0]).await?.status, 200);
    assert!(Caller::new(operator, None, None)?.get(HEALTH).await.is_err(), "it takes no clear text");

    // A key that is not the certificate's changes nothing.
    std::fs::write(folder.path().join("tls.key"), rcgen::KeyPair::generate()?.serialize_pem())?;
    let said =
        |text: &str| operator.log().iter().any(|line| line["message"].as_str().is_some_and(|m| m.contains(text)));
    eventually("the mistake is said", async || Ok(said("the old one stays").then_some(()))).await?;
    assert_eq!(status(&Caller::new(operator, None, Some(&first))?).await?, 200);

    let second = write_certificate(folder.path())?;
    eventually("the new one", async || {
        let caller = Caller::new(operator, None, Some(&second))?;
        Ok((status(&caller).await? == 200).then_some(()))
    })
    .await?;
    assert!(Caller::new(operator, None, Some(&first))?.get(HEALTH).await.is_err(), "the old one is gone");
    stage.end().await
}
