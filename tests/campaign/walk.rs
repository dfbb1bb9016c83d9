//! A walk: operations one after the other over one scene, with the oracles after each.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    POLL,
    catalog::{KNOWN, comparable, differences, lost, masked},
    operation::{Effect, Look, Operation, Probe, set},
    scene::{Scene, scene},
    servers::{Cluster, Plant, Refusal, Way},
};
use crate::support::Result;

/// How long a resource may take to say something about its last change.
const PATIENCE: Duration = Duration::from_secs(40);
/// The namespace of the databases that several walks share.
pub const HOME: &str = "campaign";

type Key = (String, String);

/// What an oracle found.
#[derive(Clone, Debug)]
pub struct Alarm {
    pub walk: String,
    pub oracle: &'static str,
    pub operation: String,
    pub text: String,
}

pub struct Walk<'a> {
    pub cluster: &'a Cluster,
    /// Where it goes, and the name of the `TimescaleDatabase`.
    pub plant: Arc<Plant>,
    pub database: &'static str,
    pub scene: Scene,
    pub name: String,
    pub namespace: String,
    pub schema: String,
    pub way: Way,
    /// Specs at the start, as sent last, and with what is not managed any more but was.
    base: BTreeMap<Key, Value>,
    current: BTreeMap<Key, Value>,
    managed: BTreeMap<Key, Value>,
    labels: BTreeMap<Key, Value>,
    dump: Value,
    pub alarms: Vec<Alarm>,
    /// Alarms about what is known.
    pub known: Vec<&'static str>,
    /// Title and what came of it.
    pub done: Vec<(Operation, &'static str)>,
}

/// What a resource says of itself.
struct Said {
    ready: bool,
    reason: String,
    message: String,
    digest: Option<String>,
    settled: bool,
}

impl<'a> Walk<'a> {
    /// The scene, set up.
    pub async fn start(
        cluster: &'a Cluster,
        plant: Arc<Plant>,
        database: &'static str,
        scene_name: &'static str,
        name: &str,
        way: Way,
    ) -> Result<Self> {
        let scene = scene(scene_name);
        let mut walk = Self {
            cluster,
            plant,
            database,
            name: name.to_owned(),
            namespace: name.to_owned(),
            schema: name.replace('-', "_"),
            way,
            base: BTreeMap::new(),
            current: BTreeMap::new(),
            managed: BTreeMap::new(),
            labels: BTreeMap::new(),
            dump: Value::Null,
            alarms: Vec::new(),
            known: Vec::new(),
            done: Vec::new(),
            scene,
        };
        for (kind, name, labels, spec) in walk.scene.resources.clone() {
            let key = (kind.to_owned(), name.to_owned());
            walk.base.insert(key.clone(), walk.filled_in(&spec));
            walk.labels.insert(key, labels);
        }
        walk.current = walk.base.clone();
        walk.managed = walk.base.clone();
        walk.set_up().await?;
        if !walk.scene.filled.is_empty() {
            let statements = walk.text(walk.scene.filled);
            for statement in statements.split(';') {
                walk.plant.run(statement).await?;
            }
        }
        walk.dump = walk.look().await?;
        Ok(walk)
    }

    /// Namespaces, tables and resources, all ready.
    async fn set_up(&self) -> Result<()> {
        self.cluster.namespace(&self.namespace, &json!({})).await?;
        if self.scene.name == "database" {
            self.cluster
                .namespace(&format!("{}-guest", self.namespace), &json!({"team": "a", "stage": "test"}))
                .await?;
            let secrets = format!("/api/v1/namespaces/{}/secrets", self.namespace);
            for name in ["plant", "second"] {
                self.cluster.create(&secrets, &self.plant.secret(&self.namespace, name)?).await?;
            }
        }
        self.plant.run(&self.text(&format!("CREATE SCHEMA $SCHEMA; {}", self.scene.tables))).await?;
        for (key, spec) in &self.managed {
            if let Err(Refusal(message)) = self.cluster.send(&self.object(key, spec), self.way).await? {
                return Err(format!("{}: {}/{}: {message}", self.name, key.0, key.1).into());
            }
        }
        for key in self.managed.keys() {
            let mut said = self.says(key, |said| said.settled).await?;
            if said.reason == "ApprovalRequired" {
                self.approve(key, &said).await?;
                said = self.says(key, |said| said.ready).await?;
            }
            if !said.ready {
                // What it waits for may have come meanwhile.
                said = self.says(key, |said| said.ready).await?;
            }
            if !said.ready {
                let mut all = String::new();
                for (key, spec) in &self.managed {
                    let said = self.says_within(key, Duration::ZERO, |said| said.ready).await?;
                    if !said.ready {
                        let _ = write!(
                            all,
                            "{}/{} is not ready: {} {} ({spec}); ",
                            key.0, key.1, said.reason, said.message
                        );
                    }
                }
                return Err(format!("{}: {all}", self.name).into());
            }
        }
        Ok(())
    }

    fn home(&self) -> &str {
        if self.scene.name == "database" { &self.namespace } else { HOME }
    }

    fn text(&self, text: &str) -> String {
        let mut text =
            text.replace("$SCHEMA", &self.schema).replace("$DATABASE", self.database).replace("$HOME", self.home());
        if let Ok(server) = self.plant.server() {
            let dbname = server.dbname();
            text = text
                .replace("\"$PORT\"", &server.port().to_string())
                .replace("$ADDRESS", server.host())
                .replace("$DB", dbname);
            let long = format!("{}_{}", "i".repeat(62 - self.schema.len()), self.schema);
            text = text
                .replace("$LONG", &long)
                .replace("$FAST", &format!("fast_{dbname}"))
                .replace("$SLOW", &format!("slow_{dbname}"));
        }
        text
    }

    fn filled_in(&self, value: &Value) -> Value {
        serde_json::from_str(&self.text(&value.to_string())).unwrap_or(Value::Null)
    }

    fn object(&self, (kind, name): &Key, spec: &Value) -> Value {
        let labels = self.labels.get(&(kind.clone(), name.clone())).cloned().unwrap_or(json!({}));
        let namespace = if name == "guest" { format!("{}-guest", self.namespace) } else { self.namespace.clone() };
        json!({
            "apiVersion": "timescaledb-policy.io/v1alpha1", "kind": kind,
            "metadata": {"name": name, "namespace": namespace, "labels": labels}, "spec": spec,
        })
    }

    /// With the schema's name, but with the names of tablespaces as the dump has them.
    fn unfilled_tablespaces(&self, value: &Value) -> Value {
        serde_json::from_str(&value.to_string().replace("$SCHEMA", &self.schema)).unwrap_or(Value::Null)
    }

    async fn look(&self) -> Result<Value> {
        let dump = self.plant.dump(&self.schema).await?;
        let mut masks = vec![(format!("{}/", self.namespace), "NS/".to_owned())];
        if let Ok(server) = self.plant.server() {
            let dbname = server.dbname();
            masks.extend([(format!("fast_{dbname}"), "$FAST".into()), (format!("slow_{dbname}"), "$SLOW".into())]);
        }
        Ok(masked(&dump, &masks))
    }

    /// Waits until the resource says so about its last generation, and gives what it says at last.
    async fn says(&self, key: &Key, so: impl Fn(&Said) -> bool) -> Result<Said> {
        self.says_within(key, PATIENCE, so).await
    }

    async fn says_within(&self, key: &Key, patience: Duration, so: impl Fn(&Said) -> bool) -> Result<Said> {
        let deadline = Instant::now() + patience;
        let object = self.object(key, &Value::Null);
        loop {
            let found = self.cluster.find(&object).await?.unwrap_or_default();
            let condition = |type_: &str| {
                let conditions = found["status"]["conditions"].as_array();
                conditions.and_then(|all| all.iter().find(|c| c["type"] == type_)).cloned().unwrap_or_default()
            };
            let ready = condition("Ready");
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let seen = found["status"]["observedGeneration"] == found["metadata"]["generation"];
            let is_ready = seen && ready["status"] == "True";
            let said = Said {
                ready: is_ready,
                reason: text(&ready["reason"]),
                message: text(&ready["message"]),
                digest: found["status"]["plan"]["digest"].as_str().map(str::to_owned),
                settled: is_ready || seen && condition("Stalled")["status"] == "True",
            };
            if seen && so(&said) || Instant::now() > deadline {
                return Ok(said);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn approve(&self, key: &Key, said: &Said) -> Result<()> {
        let digest = said.digest.as_ref().map_or(Value::Null, |digest| json!(digest));
        self.cluster.annotate(&self.object(key, &Value::Null), &digest).await
    }

    fn alarm(&mut self, oracle: &'static str, operation: &Operation, text: impl Into<String>) {
        let alarm = Alarm {
            walk: format!("{} ({:?})", self.name, self.way),
            oracle,
            operation: operation.title(),
            text: text.into(),
        };
        if let Some((.., bug)) =
            KNOWN.iter().find(|(of, part, _)| alarm.operation.contains(of) && alarm.text.contains(part))
        {
            self.known.push(bug);
            return;
        }
        eprintln!("ALARM {} {}: {}\n      {}", alarm.oracle, alarm.walk, alarm.operation, alarm.text);
        self.alarms.push(alarm);
    }

    /// Carries out one operation. `false`: the walk cannot go on.
    pub async fn step(&mut self, operation: &Operation) -> Result<bool> {
        let key: Key = (operation.kind.to_owned(), operation.object.to_owned());
        let alarms = self.alarms.len();
        if !self.prepared(operation, &key).await? {
            return Ok(false);
        }
        let (was, was_managed) = (self.current[&key].clone(), self.managed[&key].clone());
        let (spec, managed) = self.changed(operation, &key);
        let reset = operation.edits.len() > 1;
        let (mut back, outcome) = match &operation.effect {
            Effect::Admission(named) => (false, self.inadmissible(operation, &key, &spec, named).await?),
            Effect::NoNull => {
                let name = operation.field.rsplit('.').next().unwrap_or_default().trim_end_matches("[]").to_owned();
                match self.cluster.send(&self.object(&key, &spec), self.way).await? {
                    Err(Refusal(message)) => {
                        if !message.contains(&name) {
                            self.alarm("error", operation, format!("the refusal does not name {name}: {message}"));
                        }
                        self.unchanged("rollback", operation).await?;
                        (false, "refused at admission")
                    }
                    Ok(_) if self.way == Way::Kubectl => (true, "left out by kubectl"),
                    Ok(_) => (true, "left out by the API server"),
                }
            }
            effect => match self.cluster.send(&self.object(&key, &spec), self.way).await? {
                // RULES: nothing is null for server-side apply.
                Err(Refusal(message))
                    if self.way == Way::Apply
                        && (operation.sort == "null" || message.contains("Invalid value: \"null\"")) =>
                {
                    self.unchanged("rollback", operation).await?;
                    (false, "refused at admission")
                }
                Err(Refusal(message)) => {
                    self.alarm("consistency", operation, format!("refused at admission: {message}"));
                    (false, "alarm")
                }
                Ok(_) => {
                    self.current.insert(key.clone(), spec);
                    (true, self.effect(operation, &key, effect, reset).await?)
                }
            },
        };
        if outcome == "taken" && !self.goes_back(operation) {
            self.managed.insert(key.clone(), managed);
            back = false;
        }
        let mut sound = true;
        if back {
            sound = self.put_back(operation, &key, was, was_managed).await?;
        }
        self.quiet(operation).await?;
        self.done.push((operation.clone(), if self.alarms.len() > alarms { "alarm" } else { outcome }));
        Ok(sound)
    }

    /// Whether what it changed is put back at once, because what comes next needs it.
    fn goes_back(&self, operation: &Operation) -> bool {
        let stays = matches!(operation.effect, Effect::Seen(_) | Effect::Same);
        let field = operation.field.as_str();
        let narrow = ["chunkInterval", "reorder.index", "query", "onQueryChange"].contains(&field)
            && operation.scene != "integer";
        let restless =
            narrow || field.ends_with("paused") || field.starts_with("connection") || operation.scene == "fleet";
        // What is left out is not managed: putting it back to nothing would leave it.
        let container = operation.container && field != "tablespaces";
        !stays || restless || container
    }

    /// Lists that the change reaches into are put back to where they started.
    async fn prepared(&mut self, operation: &Operation, key: &Key) -> Result<bool> {
        let (mut spec, mut managed) = (self.current[key].clone(), self.managed[key].clone());
        let base = &self.base[key];
        for (path, _) in operation.edits.iter().filter(|(path, _)| path.contains('[')) {
            let top = path.split(['.', '[']).next().unwrap_or_default();
            for spec in [&mut spec, &mut managed] {
                set(spec, top, base.get(top).cloned());
            }
        }
        if spec != self.current[key] {
            if let Err(Refusal(message)) = self.cluster.send(&self.object(key, &spec), self.way).await? {
                self.alarm("rollback", operation, format!("the list of the start is refused: {message}"));
                return Ok(false);
            }
            let said = self.says(key, |said| said.ready).await?;
            if !said.ready {
                self.alarm(
                    "rollback",
                    operation,
                    format!("not ready with the list of the start: {}: {}", said.reason, said.message),
                );
                return Ok(false);
            }
            self.current.insert(key.clone(), spec);
            self.quiet(operation).await?;
        }
        self.managed.insert(key.clone(), managed);
        Ok(true)
    }

    /// The spec with the change, and the one with what is still managed.
    fn changed(&self, operation: &Operation, key: &Key) -> (Value, Value) {
        let (mut spec, mut managed) = (self.current[key].clone(), self.managed[key].clone());
        for (path, value) in &operation.edits {
            let value = value.as_ref().map(|value| self.filled_in(value));
            set(&mut spec, path, value.clone());
            let value = value.filter(|value| !value.is_null());
            if !operation.keeps || !path.starts_with(operation.field.split('[').next().unwrap_or_default()) {
                set(&mut managed, path, value);
            }
        }
        (spec, managed)
    }

    async fn inadmissible(
        &mut self,
        operation: &Operation,
        key: &Key,
        spec: &Value,
        named: &[String],
    ) -> Result<&'static str> {
        match self.cluster.send(&self.object(key, spec), self.way).await? {
            Err(Refusal(message)) => {
                let nothing = self.way == Way::Apply && message.contains("Invalid value: \"null\"");
                if !nothing && !named.iter().any(|name| message.contains(name.as_str())) {
                    self.alarm("error", operation, format!("the refusal names none of {named:?}: {message}"));
                }
            }
            Ok(_) => {
                self.alarm("error", operation, "the API server takes it");
                let was = self.current[key].clone();
                let managed = self.managed[key].clone();
                self.put_back(operation, key, was, managed).await?;
                return Ok("alarm");
            }
        }
        self.unchanged("rollback", operation).await?;
        Ok("refused at admission")
    }

    async fn effect(&mut self, operation: &Operation, key: &Key, effect: &Effect, reset: bool) -> Result<&'static str> {
        match effect {
            Effect::Admission(_) | Effect::NoNull => Ok("refused at admission"),
            Effect::Seen(looks) => {
                let said = self.says(key, |said| said.settled).await?;
                if !said.ready {
                    self.alarm("consistency", operation, format!("{}: {}", said.reason, said.message));
                    return Ok("alarm");
                }
                self.seen(operation, looks).await?;
                Ok("taken")
            }
            Effect::Same => {
                let said = self.says(key, |said| said.settled).await?;
                if !said.ready {
                    self.alarm("consistency", operation, format!("{}: {}", said.reason, said.message));
                    return Ok("alarm");
                }
                if reset {
                    self.seen(operation, &[]).await?;
                } else {
                    self.unchanged("consistency", operation).await?;
                }
                Ok("taken")
            }
            Effect::Either(named) => {
                let said = self.says(key, |said| said.settled).await?;
                if said.ready {
                    self.seen(operation, &[]).await?;
                    return Ok("taken");
                }
                self.named(operation, &said, "", named);
                self.unchanged("rollback", operation).await?;
                Ok("refused")
            }
            Effect::Refused(reason, named) => {
                let said = self.says(key, |said| said.settled).await?;
                if said.ready {
                    let after = self.look().await?;
                    let text = differences(&self.dump, &after).join("; ");
                    self.alarm("error", operation, format!("taken, it should be refused as {reason}; changed: {text}"));
                    return Ok("alarm");
                }
                self.named(operation, &said, reason, named);
                self.unchanged("rollback", operation).await?;
                Ok("refused")
            }
            Effect::Waits(reason, named) => {
                let reason = *reason;
                let said = self.says(key, |said| !said.ready && (reason.is_empty() || said.reason == reason)).await?;
                if said.ready {
                    self.alarm("error", operation, format!("ready, it should say {reason}"));
                    return Ok("alarm");
                }
                self.named(operation, &said, reason, named);
                self.unchanged("rollback", operation).await?;
                Ok("refused")
            }
            Effect::Approval(looks) => self.approval(operation, key, looks).await,
            Effect::Probe(probe) => self.probe(operation, key, probe).await,
        }
    }

    async fn approval(&mut self, operation: &Operation, key: &Key, looks: &[(String, Look)]) -> Result<&'static str> {
        let said = self.says(key, |said| said.settled).await?;
        if said.reason != "ApprovalRequired" {
            self.alarm(
                "error",
                operation,
                format!("it should wait for an approval: {}: {}", said.reason, said.message),
            );
            return Ok("alarm");
        }
        self.unchanged("rollback", operation).await?;
        if !operation.approve {
            return Ok("waited, taken back");
        }
        // One that is for another plan changes nothing.
        self.cluster.annotate(&self.object(key, &Value::Null), &json!("000000000000")).await?;
        let stale = self.says(key, |said| said.message.contains("000000000000")).await?;
        if !stale.message.contains("000000000000") {
            self.alarm("error", operation, format!("a stale approval is not named: {}", stale.message));
        }
        self.unchanged("rollback", operation).await?;
        self.approve(key, &said).await?;
        let said = self.says(key, |said| said.ready).await?;
        if !said.ready {
            self.alarm(
                "consistency",
                operation,
                format!("not ready though approved: {}: {}", said.reason, said.message),
            );
            return Ok("alarm");
        }
        self.seen(operation, looks).await?;
        self.cluster.annotate(&self.object(key, &Value::Null), &Value::Null).await?;
        Ok("approved")
    }

    /// The catalog says what it must, and all resources are ready.
    async fn seen(&mut self, operation: &Operation, looks: &[(String, Look)]) -> Result<()> {
        let after = self.look().await?;
        for (place, look) in looks {
            let place = self.text(place);
            let look = match look {
                Look::Is(value) => &Look::Is(self.unfilled_tablespaces(value)),
                look => look,
            };
            if !look.holds(after.pointer(&place)) {
                let found = after.pointer(&place).cloned().unwrap_or_default();
                self.alarm("consistency", operation, format!("Ready, but {place} is {found}, not {look:?}"));
            }
        }
        self.safe(operation, &after);
        self.dump = after;
        Ok(())
    }

    fn safe(&mut self, operation: &Operation, after: &Value) {
        let rebuilt = ["query", "onQueryChange", "deletionPolicy"].contains(&operation.field.as_str());
        for text in lost(&self.dump.clone(), after, !rebuilt) {
            self.alarm("user safety", operation, text);
        }
    }

    async fn unchanged(&mut self, oracle: &'static str, operation: &Operation) -> Result<()> {
        let after = self.look().await?;
        let differences = differences(&self.dump, &after);
        if !differences.is_empty() {
            self.alarm(oracle, operation, format!("the catalog has changed: {}", differences.join("; ")));
            self.safe(operation, &after);
            self.dump = after;
        }
        Ok(())
    }

    /// The refusal has this reason, and names what is wrong.
    fn named(&mut self, operation: &Operation, said: &Said, reason: &str, named: &[String]) {
        let text = format!("{}: {}", said.reason, said.message);
        if !said.settled && !matches!(operation.effect, Effect::Waits(..)) {
            self.alarm("error", operation, format!("not refused, but for ever on its way: {text}"));
        }
        if !reason.is_empty() && said.reason != reason {
            self.alarm("error", operation, format!("the reason is not {reason}: {text}"));
        }
        if ["NotConverging", "InternalError"].contains(&said.reason.as_str()) {
            self.alarm("error", operation, text.clone());
        }
        let named: Vec<_> = named.iter().map(|name| self.text(name)).collect();
        let missing = |name: &&String| !name.split('|').any(|name| said.message.contains(name));
        for name in named.iter().filter(missing) {
            self.alarm("error", operation, format!("the message does not name {name}: {text}"));
        }
    }

    /// Puts the spec back as it was: the rollback oracle.
    async fn put_back(&mut self, operation: &Operation, key: &Key, was: Value, managed: Value) -> Result<bool> {
        let changes_query = operation.edits.iter().any(|(path, _)| path == "query");
        let mut specs = vec![was.clone()];
        if changes_query && self.dump.pointer("/hourly/aggregate/definition").is_some() {
            let mut rebuild = was.clone();
            set(&mut rebuild, "onQueryChange", Some(json!("Rebuild")));
            specs.insert(0, rebuild);
        }
        // What was left out and is not managed has to be said once more where the change set it.
        let loud =
            matches!(operation.effect, Effect::Seen(_) | Effect::Approval(_) | Effect::Either(_)) && managed != was;
        if loud {
            let mut spec = managed.clone();
            if changes_query {
                set(&mut spec, "onQueryChange", Some(json!("Rebuild")));
            }
            specs.insert(0, spec);
        }
        for spec in specs {
            if let Err(Refusal(message)) = self.cluster.send(&self.object(key, &spec), self.way).await? {
                self.alarm("rollback", operation, format!("the spec of before is refused: {message}"));
                return Ok(false);
            }
            let mut said = self.says(key, |said| said.settled).await?;
            if said.reason == "ApprovalRequired" {
                self.approve(key, &said).await?;
                said = self.says(key, |said| said.ready).await?;
                self.cluster.annotate(&self.object(key, &Value::Null), &Value::Null).await?;
            }
            if !said.ready {
                said = self.says(key, |said| said.ready).await?;
            }
            if !said.ready {
                self.alarm(
                    "rollback",
                    operation,
                    format!("not ready after it was put back: {}: {}", said.reason, said.message),
                );
                return Ok(false);
            }
        }
        self.current.insert(key.clone(), was);
        if let Effect::Probe(Probe::Deletion { stays: false, .. }) = operation.effect {
            let current = self.current[key].clone();
            self.managed.insert(key.clone(), current);
        } else {
            self.managed.insert(key.clone(), managed);
        }
        if let Some(text) = self.all_ready().await? {
            self.alarm("rollback", operation, format!("after it was put back: {text}"));
            return Ok(false);
        }
        Ok(true)
    }

    /// All resources are ready: else the first that is not.
    async fn all_ready(&self) -> Result<Option<String>> {
        for key in self.current.keys() {
            let said = self.says(key, |said| said.ready).await?;
            if !said.ready {
                return Ok(Some(format!("{}/{}: {}: {}", key.0, key.1, said.reason, said.message)));
            }
        }
        Ok(None)
    }

    /// After each operation: all resources are ready, the catalog is as it was seen, the operator is well.
    async fn quiet(&mut self, operation: &Operation) -> Result<()> {
        if let Some(text) = self.all_ready().await? {
            self.alarm("consistency", operation, format!("not all are ready: {text}"));
        }
        let after = self.look().await?;
        self.safe(operation, &after);
        self.dump = after;
        for text in self.cluster.trouble().await? {
            self.alarm("error", operation, text);
        }
        Ok(())
    }

    async fn probe(&mut self, operation: &Operation, key: &Key, probe: &Probe) -> Result<&'static str> {
        if !operation.edits.is_empty() {
            let said = self.says(key, |said| said.settled).await?;
            if !said.ready {
                self.alarm("consistency", operation, format!("{}: {}", said.reason, said.message));
                return Ok("alarm");
            }
        }
        match probe {
            Probe::Deletion { place, stays } => self.delete_and_create(operation, key, place, *stays).await?,
            Probe::Beside { object, before, after, reason, words, looks } => {
                if !before.is_empty() {
                    self.plant.run(&self.text(before)).await?;
                }
                let object = self.filled_in(object);
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let beside: Key = (text(&object["kind"]), text(&object["metadata"]["name"]));
                let object = self.object(&beside, &object["spec"]);
                match self.cluster.send(&object, Way::Apply).await? {
                    Err(Refusal(message)) => self.alarm("error", operation, format!("refused at admission: {message}")),
                    Ok(_) => {
                        let said = if *reason == "InSync" {
                            self.says(&beside, |said| said.settled && (said.ready || said.reason != "TableNotFound"))
                                .await?
                        } else {
                            self.says(&beside, |said| said.settled).await?
                        };
                        if *reason == "InSync" && !said.ready {
                            self.alarm("consistency", operation, format!("{}: {}", said.reason, said.message));
                        } else {
                            self.named_beside(operation, &said, reason, words);
                        }
                        let now = self.look().await?;
                        for (place, look) in looks {
                            if !look.holds(now.pointer(place)) {
                                let found = now.pointer(place).cloned().unwrap_or_default();
                                self.alarm("consistency", operation, format!("{place} is {found}, not {look:?}"));
                            }
                        }
                    }
                }
                self.cluster.delete(&object).await?;
                if !after.is_empty() {
                    // A pass under way may still know the resource, and would create anew what is dropped now.
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    self.plant.run(&self.text(after)).await?;
                }
                self.unchanged("rollback", operation).await?;
            }
            Probe::Others(others) => {
                for (other, reason) in others {
                    if let Some(other) = other.strip_prefix("delete ") {
                        let (kind, name) = other.split_once('/').unwrap_or_default();
                        let other: Key = (kind.to_owned(), name.to_owned());
                        self.delete_and_create(operation, &other, "/plain/jobs/compression", *reason == "stays")
                            .await?;
                        continue;
                    }
                    let (kind, name) = other.split_once('/').unwrap_or_default();
                    let other: Key = (kind.to_owned(), name.to_owned());
                    let said = self.says(&other, |said| said.reason == *reason).await?;
                    if said.reason != *reason {
                        let text =
                            format!("{}/{} does not say {reason}: {}: {}", other.0, other.1, said.reason, said.message);
                        self.alarm("consistency", operation, text);
                    }
                }
            }
            Probe::Observing => {
                let old: Key = ("Hypertable".into(), "old".into());
                let mut spec = self.current[&old].clone();
                set(&mut spec, "chunkInterval", Some(json!("9 days")));
                let _ = self.cluster.send(&self.object(&old, &spec), self.way).await?;
                let said = self.says(&old, |said| said.settled).await?;
                self.named_beside(operation, &said, "DriftObserved", &["9 days".into()]);
                self.unchanged("consistency", operation).await?;
                let spec = self.current[&old].clone();
                let _ = self.cluster.send(&self.object(&old, &spec), self.way).await?;
                self.says(&old, |said| said.ready).await?;
            }
            Probe::Resync { quick } => {
                self.says(key, |said| said.settled).await?;
                let mut attempts = 0;
                // A pass may come for another reason, or because its time was near.
                while self.corrected(*quick).await? != *quick {
                    attempts += 1;
                    if *quick || attempts == 3 {
                        let text = format!(
                            "a difference is {}",
                            if *quick { "not put right" } else { "put right at once, again and again" }
                        );
                        self.alarm("consistency", operation, text);
                        break;
                    }
                }
            }
            Probe::Statistics => {
                let old: Key = ("Hypertable".into(), "old".into());
                let object = self.object(&old, &Value::Null);
                let insert = "INSERT INTO $SCHEMA.old SELECT max(ts) + interval '30 days' FROM $SCHEMA.old";
                self.plant.run(&self.text(insert)).await?;
                let now = self.look().await?;
                let begun = Instant::now();
                while begun.elapsed() < Duration::from_secs(20) {
                    if self.cluster.find(&object).await?.unwrap_or_default()["status"]["chunks"] == now["old"]["chunks"]
                    {
                        self.dump = now;
                        return Ok("seen");
                    }
                    tokio::time::sleep(POLL).await;
                }
                self.alarm("consistency", operation, "status.chunks does not follow");
                self.dump = now;
            }
        }
        Ok("seen")
    }

    /// Whether a difference is put right soon.
    async fn corrected(&self, quick: bool) -> Result<bool> {
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.plant.run(&self.text("SELECT public.set_chunk_time_interval('$SCHEMA.old', interval '11 days')")).await?;
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(if quick { 15 } else { 3 }) {
            if differences(&self.dump, &self.look().await?).is_empty() {
                return Ok(true);
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(false)
    }

    fn named_beside(&mut self, operation: &Operation, said: &Said, reason: &str, words: &[String]) {
        let text = format!("{}: {}", said.reason, said.message);
        if !reason.is_empty() && said.reason != reason || reason.is_empty() && said.ready {
            self.alarm("error", operation, format!("the reason is not {reason}: {text}"));
        }
        for word in words.iter().filter(|word| !said.message.contains(word.as_str())) {
            self.alarm("error", operation, format!("the message does not name {word}: {text}"));
        }
    }

    async fn delete_and_create(&mut self, operation: &Operation, key: &Key, place: &str, stays: bool) -> Result<()> {
        let object = self.object(key, &self.current[key]);
        self.cluster.delete(&object).await?;
        let now = self.look().await?;
        if now.pointer(place).is_some() != stays {
            self.alarm(
                "consistency",
                operation,
                format!("{place} {} after the deletion", if stays { "is gone" } else { "is there" }),
            );
        }
        if let Err(Refusal(message)) = self.cluster.send(&object, self.way).await? {
            self.alarm("rollback", operation, format!("it cannot be created anew: {message}"));
        }
        let said = self.says(key, |said| said.ready).await?;
        if !said.ready {
            self.alarm(
                "rollback",
                operation,
                format!("not ready when created anew: {}: {}", said.reason, said.message),
            );
        }
        self.dump = self.look().await?;
        Ok(())
    }

    /// The end of the walk: a fresh database with what is managed now says the same.
    pub async fn compare_with_fresh(
        &mut self,
        mirror: &Arc<Plant>,
        mirror_database: &'static str,
        last: &Operation,
    ) -> Result<()> {
        let own = self.scene.name == "database";
        let mut fresh = Walk {
            cluster: self.cluster,
            plant: if own { Arc::clone(&self.plant) } else { Arc::clone(mirror) },
            database: if own { self.database } else { mirror_database },
            scene: scene(self.scene.name),
            name: format!("fresh-{}", self.name),
            namespace: format!("fresh-{}", self.name),
            schema: self.schema.clone(),
            way: Way::Apply,
            base: BTreeMap::new(),
            current: BTreeMap::new(),
            managed: BTreeMap::new(),
            labels: self.labels.clone(),
            dump: Value::Null,
            alarms: Vec::new(),
            known: Vec::new(),
            done: Vec::new(),
        };
        if self.scene.name == "fleet" {
            // RULES: what is not selected any more keeps its policy. So all are selected at the end.
            for kind in ["CompressionPolicy", "RetentionPolicy"] {
                let key: Key = (kind.into(), "fleet".into());
                let mut spec = self.current[&key].clone();
                set(&mut spec, "targetSelector", Some(json!({"kind": "Hypertable", "matchLabels": {"fleet": "yes"}})));
                self.cluster.send(&self.object(&key, &spec), self.way).await?.map_err(|refusal| refusal.0)?;
                self.says(&key, |said| said.ready).await?;
                self.managed.insert(key, spec);
            }
        }
        let walked = self.look().await?;
        // The same specs, for the other database.
        let text = |value: &Value| {
            let mut text = value.to_string();
            if let (Ok(one), Ok(other)) = (self.plant.server(), fresh.plant.server()) {
                text = text.replace(one.dbname(), other.dbname());
            }
            text
        };
        for (key, spec) in &self.managed {
            let mut spec: Value = serde_json::from_str(&text(spec))?;
            if key.0 == "Hypertable" {
                // RULES: what only matters for the conversion.
                spec["migrateData"] = json!(true);
            }
            if spec.get("databaseRef").is_some() {
                spec["databaseRef"] = json!({"name": fresh.database, "namespace": fresh.home()});
            }
            fresh.managed.insert(key.clone(), spec);
        }
        if own {
            // One database has one TimescaleDatabase.
            let orphan = self.object(&("TimescaleDatabase".into(), "plant".into()), &Value::Null);
            let mut spec = self.current[&("TimescaleDatabase".to_owned(), "plant".to_owned())].clone();
            set(&mut spec, "deletionPolicy", Some(json!("Orphan")));
            let _ =
                self.cluster.send(&self.object(&("TimescaleDatabase".into(), "plant".into()), &spec), self.way).await?;
            self.cluster.delete(&orphan).await?;
            self.plant.run(&self.text("DROP SCHEMA $SCHEMA CASCADE")).await?;
        }
        match fresh.set_up().await {
            Ok(()) => {
                let wanted = fresh.look().await?;
                let differences = differences(&comparable(&wanted), &comparable(&walked));
                if !differences.is_empty() {
                    let text = format!("a fresh database -> the walk: {}", differences.join("; "));
                    self.alarm("fresh database", last, text);
                }
            }
            Err(error) => self.alarm("fresh database", last, format!("cannot be made: {error}")),
        }
        // Nothing looks after it any more.
        for (key, spec) in &fresh.managed {
            if key.0 != "TimescaleDatabase" {
                self.cluster.delete(&fresh.object(key, spec)).await?;
            }
        }
        let drop = self.text("DROP SCHEMA $SCHEMA CASCADE");
        fresh.plant.run(&drop).await
    }

    /// Lets go of everything.
    pub async fn end(&self) -> Result<()> {
        for key in self.current.keys().filter(|key| key.0 != "TimescaleDatabase") {
            self.cluster.delete(&self.object(key, &Value::Null)).await?;
        }
        if self.scene.name != "database" {
            self.plant.run(&self.text("DROP SCHEMA $SCHEMA CASCADE")).await?;
        }
        Ok(())
    }
}
