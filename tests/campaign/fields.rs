//! What is tried of each property. `every_property_is_tried` holds this against the schemas.

use serde_json::{Value, json};

use super::operation::{Edit, Effect, Look, Operation, Probe, by_schema};
use super::scene::HOURLY;
use super::schema::Property;

/// What leaving a property out must do.
#[derive(Clone, Debug)]
pub enum LeftOut {
    /// It is not managed: what it said stays in the catalog.
    Kept,
    /// As this effect says.
    So(Effect),
}

/// One property with its generators.
pub struct Field {
    pub kind: &'static str,
    pub path: &'static str,
    scene: &'static str,
    object: &'static str,
    concrete: String,
    look: String,
    with: Vec<Edit>,
    cases: Vec<(&'static str, Vec<Edit>, Effect, bool)>,
    pub left_out: Option<LeftOut>,
    /// Why no valid value is tried as a change of this property.
    pub exempt: Option<&'static str>,
}

const HOUR: i64 = 3_600_000_000;
const DAY: i64 = 24 * HOUR;

fn field(kind: &'static str, path: &'static str, scene: &'static str, object: &'static str, look: &str) -> Field {
    Field {
        kind,
        path,
        scene,
        object,
        concrete: path.replace("[]", "[0]"),
        look: look.to_owned(),
        with: Vec::new(),
        cases: Vec::new(),
        left_out: None,
        exempt: None,
    }
}

fn some(path: &str, value: Value) -> Edit {
    (path.to_owned(), Some(value))
}

fn none(path: &str) -> Edit {
    (path.to_owned(), None)
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

impl Field {
    /// Set along with every change of this property.
    fn with(mut self, edits: Vec<Edit>) -> Self {
        self.with = edits;
        self
    }

    fn case(mut self, sort: &'static str, value: Value, effect: Effect) -> Self {
        let edits = [self.with.clone(), vec![some(&self.concrete, value)]].concat();
        self.cases.push((sort, edits, effect, false));
        self
    }

    fn edits(mut self, sort: &'static str, edits: Vec<Edit>, effect: Effect) -> Self {
        self.cases.push((sort, [self.with.clone(), edits].concat(), effect, false));
        self
    }

    /// A value, and what the catalog says of it where this property shows.
    fn takes(self, sort: &'static str, value: Value, seen: Value) -> Self {
        let seen = Effect::Seen(vec![(self.look.clone(), Look::Is(seen))]);
        self.case(sort, value, seen)
    }

    fn shows(self, sort: &'static str, value: Value, part: &str) -> Self {
        let seen = Effect::Seen(vec![(self.look.clone(), Look::Has(part.to_owned()))]);
        self.case(sort, value, seen)
    }

    fn refused(self, value: Value, reason: &'static str, named: &[&str]) -> Self {
        self.case("invalid", value, Effect::Refused(reason, words(named)))
    }

    fn inadmissible(self, value: Value, named: &[&str]) -> Self {
        self.case("invalid", value, Effect::Admission(words(named)))
    }

    fn either(self, value: Value, named: &[&str]) -> Self {
        self.case("value", value, Effect::Either(words(named)))
    }

    fn kept(mut self) -> Self {
        self.left_out = Some(LeftOut::Kept);
        self
    }

    fn required(mut self) -> Self {
        let name = self.path.rsplit('.').next().unwrap_or_default().trim_end_matches("[]");
        self.left_out = Some(LeftOut::So(Effect::Admission(words(&[name]))));
        self
    }

    fn gone(mut self, effect: Effect) -> Self {
        self.left_out = Some(LeftOut::So(effect));
        self
    }

    fn exempt(mut self, reason: &'static str) -> Self {
        self.exempt = Some(reason);
        self
    }

    /// It says which object is meant.
    fn immutable(self, other: Value) -> Self {
        let name = self.path.rsplit('.').nth(usize::from(self.path.contains('.'))).unwrap_or_default();
        let named = Effect::Admission(words(&[name]));
        self.case("invalid", other, named).exempt("immutable: the object of the database is named by it")
    }

    fn beside(self, sort: &'static str, beside: Beside<'_>) -> Self {
        let Beside { kind, name, spec, before, after, reason, named, looks } = beside;
        let object = json!({"kind": kind, "metadata": {"name": name}, "spec": spec});
        let looks = looks.iter().map(|(place, look)| ((*place).to_owned(), look.clone())).collect();
        let probe = Probe::Beside {
            object,
            before: before.to_owned(),
            after: after.to_owned(),
            reason,
            words: words(named),
            looks,
        };
        self.edits(sort, Vec::new(), Effect::Probe(probe))
    }

    fn operation(&self, sort: &'static str, edits: Vec<Edit>, effect: Effect, keeps: bool) -> Operation {
        let loses = self.scene == "history" && self.path == "onQueryChange";
        Operation {
            scene: self.scene,
            kind: self.kind,
            object: self.object,
            field: self.path.to_owned(),
            sort,
            edits,
            effect,
            keeps,
            loses,
            approve: true,
            container: false,
        }
    }

    /// All operations on this property.
    pub fn operations(&self, property: &Property) -> Vec<Operation> {
        let mut all: Vec<_> = self
            .cases
            .iter()
            .map(|(sort, edits, effect, keeps)| self.operation(sort, edits.clone(), effect.clone(), *keeps))
            .collect();
        let waiting = all.iter().filter(|operation| matches!(operation.effect, Effect::Approval(_)));
        let taken_back =
            waiting.map(|operation| Operation { sort: "approval taken back", approve: false, ..operation.clone() });
        let taken_back: Vec<_> = taken_back.collect();
        all.extend(taken_back);
        let name = property.name().to_owned();
        for (sort, value) in by_schema(property) {
            let edits = [self.with.clone(), vec![some(&self.concrete, value)]].concat();
            all.push(self.operation(sort, edits, Effect::Admission(vec![name.clone()]), false));
        }
        if !property.leaf {
            all.iter_mut().for_each(|operation| operation.container = true);
        }
        let (effect, keeps) = match &self.left_out {
            None => return all,
            Some(LeftOut::Kept) => (Effect::Same, true),
            Some(LeftOut::So(effect)) => (effect.clone(), false),
        };
        let edits = [self.with.clone(), vec![none(&self.concrete)]].concat();
        let container = !property.leaf;
        all.push(Operation { container, ..self.operation("removal", edits, effect.clone(), keeps) });
        // Null is left out where the schema says nullable, and becomes the default where there is one.
        let takes_null = property.schema["nullable"] == true || property.schema.get("default").is_some();
        let (effect, keeps) = if takes_null && !property.is_item() { (effect, keeps) } else { (Effect::NoNull, false) };
        let edits = [self.with.clone(), vec![some(&self.concrete, Value::Null)]].concat();
        let (effect, keeps) = if property.schema.get("enum").is_some() && property.schema["nullable"] == true {
            (Effect::NoNull, false)
        } else {
            (effect, keeps)
        };
        all.push(Operation { container, ..self.operation("null", edits, effect, keeps) });
        all
    }
}

struct Beside<'a> {
    kind: &'a str,
    name: &'a str,
    spec: Value,
    before: &'a str,
    after: &'a str,
    reason: &'static str,
    named: &'a [&'a str],
    looks: &'a [(&'a str, Look)],
}

/// An interval in all its spellings, where it shows as microseconds.
fn intervals(field: Field) -> Field {
    field
        .takes("spelling", json!("25 days"), json!(25 * DAY))
        .takes("spelling", json!("P25D"), json!(25 * DAY))
        .takes("spelling", json!("600:00:00"), json!(25 * DAY))
        .takes("spelling", json!("1 mon"), json!(30 * DAY))
        .takes("value", json!("3 weeks 12 hours"), json!(21 * DAY + 12 * HOUR))
        .takes("value", json!("P3W"), json!(21 * DAY))
        .takes("minimum", json!("8w"), json!(56 * DAY))
        .takes("maximum", json!(format!("26 days{}", " ".repeat(93))), json!(26 * DAY))
}

/// Texts that look like intervals and are none.
fn not_intervals(mut field: Field, reason: &'static str) -> Field {
    let name = field.path.rsplit('.').next().unwrap_or_default().to_owned();
    let name = name.as_str();
    for text in ["25", "7 lightyears", "99999999999 years", "P", "1:75", "1.5 months"] {
        // "P" is too short, and no digit follows it; a number has no unit.
        field = if text == "P" || text == "25" {
            field.inadmissible(json!(text), &[name])
        } else {
            field.refused(json!(text), reason, &[name])
        };
    }
    field
}

/// The fields of a schedule.
fn schedule(
    kind: &'static str,
    scene: &'static str,
    object: &'static str,
    prefix: &'static str,
    job: &str,
) -> Vec<Field> {
    // Leaked: a handful of paths for a test.
    let path = |name: &str| -> &'static str { Box::leak(format!("{prefix}schedule.{name}").into_boxed_str()) };
    let of = |name: &str, key: &str| field(kind, path(name), scene, object, &format!("{job}/{key}"));
    let start = || some(path("initialStart"), json!("2026-01-01T02:00:00Z"));
    let interval = of("interval", "interval")
        .takes("value", json!("2 hours"), json!(2 * HOUR))
        .takes("spelling", json!("PT30M"), json!(HOUR / 2))
        .takes("spelling", json!("00:45:00"), json!(45 * 60_000_000_i64))
        .takes("value", json!("1 month"), json!(30 * DAY))
        .takes("value", json!("1 day 02:30:00"), json!(DAY + 150 * 60_000_000_i64))
        .takes("minimum", json!("1h"), json!(HOUR))
        .takes("maximum", json!(format!("1 day{}", " ".repeat(95))), json!(DAY))
        .refused(json!("0 seconds"), "InvalidSpec", &["schedule.interval"])
        .edits(
            "value",
            vec![start(), some(path("interval"), json!("1 mon 2 days"))],
            Effect::Either(words(&["interval"])),
        );
    let interval = not_intervals(interval, "InvalidSpec");
    let interval = if prefix == "refreshPolicy." {
        interval.gone(Effect::Refused("InvalidSpec", words(&["refreshPolicy.schedule.interval"])))
    } else {
        interval.kept()
    };
    let initial_start = of("initialStart", "start")
        .takes("value", json!("2026-01-01T02:00:00Z"), json!(1_767_232_800))
        .takes("spelling", json!("2026-03-01T02:00:00+01:00"), json!(1_772_326_800))
        .takes("value", json!("2030-01-01T00:00:00Z"), json!(1_893_456_000))
        .takes("value", json!("1999-12-31T23:59:59Z"), json!(946_684_799))
        .refused(json!("yesterday"), "InvalidSpec", &["initialStart"])
        .refused(json!("2026-13-01T00:00:00Z"), "InvalidSpec", &["initialStart"])
        .refused(json!(""), "InvalidSpec", &["initialStart"])
        .kept();
    let timezone = of("timezone", "timezone")
        .with(vec![start()])
        .takes("value", json!("Europe/Berlin"), json!("Europe/Berlin"))
        .takes("value", json!("America/New_York"), json!("America/New_York"))
        .takes("value", json!("UTC"), json!("UTC"))
        .refused(json!("Mars/Olympus"), "InvalidSpec", &["imezone"])
        .refused(json!("'; SELECT 1; --"), "InvalidSpec", &["imezone"])
        .kept();
    let max_runtime = of("maxRuntime", "runtime")
        .takes("value", json!("1 hour"), json!(HOUR))
        .takes("spelling", json!("PT90S"), json!(90_000_000))
        .takes("minimum", json!("0 seconds"), json!(0))
        .takes("value", json!("3 days"), json!(3 * DAY))
        .kept();
    let max_retries = of("maxRetries", "retries")
        .takes("minimum", json!(-1), json!(-1))
        .takes("value", json!(0), json!(0))
        .takes("value", json!(5), json!(5))
        .takes("maximum", json!(1_000_000), json!(1_000_000))
        .kept();
    let retry_period = of("retryPeriod", "retry")
        .takes("value", json!("5 minutes"), json!(300_000_000))
        .takes("spelling", json!("PT1H30M"), json!(HOUR * 3 / 2))
        .refused(json!("0 seconds"), "InvalidSpec", &["retryPeriod"])
        .kept();
    vec![
        interval,
        initial_start,
        timezone,
        not_intervals(max_runtime, "InvalidSpec"),
        max_retries,
        not_intervals(retry_period, "InvalidSpec"),
    ]
}

/// An index of a hypertable or an aggregate: the one at the head of the list.
fn indexes(
    kind: &'static str,
    scene: &'static str,
    object: &'static str,
    relation: &str,
    time: &str,
    other: &str,
) -> Vec<Field> {
    let index = if kind == "Hypertable" { "readings_sensor_ts" } else { "hourly_sensor_$SCHEMA" };
    let look = format!("/{relation}/indexes/{index}/definition");
    let of = |path: &'static str| field(kind, path, scene, object, &look);
    let bare = || {
        vec![
            none("indexes[0].include"),
            none("indexes[0].where"),
            some("indexes[0].columns", json!([{"name": "sensor"}])),
        ]
    };
    let named = |name: String| {
        vec![
            (format!("/{relation}/indexes/{index}"), Look::Gone),
            (format!("/{relation}/indexes/{name}/definition"), Look::Has("INDEX".into())),
            (format!("/{relation}/indexes/{name}/comment"), Look::Has("timescaledb-policy-operator".into())),
        ]
    };
    // Indexes of aggregates are all in one schema, TimescaleDB's own: their names are for one walk each.
    let own = if kind == "Hypertable" { "" } else { "_$SCHEMA" };
    let long = if kind == "Hypertable" { "i".repeat(63) } else { "$LONG".to_owned() };
    let mut method = of("indexes[].method")
        .with(bare())
        .shows("default", json!("Btree"), "USING btree (sensor)")
        .shows("value", json!("Hash"), "USING hash (sensor)")
        .shows("value", json!("Brin"), "USING brin (sensor)")
        .refused(json!("Gin"), "InvalidSpec", &[index])
        .refused(json!("Gist"), "InvalidSpec", &[index])
        .refused(json!("Spgist"), "InvalidSpec", &[index])
        .gone(Effect::Seen(vec![(look.clone(), Look::Has("USING btree (sensor)".into()))]));
    if kind == "Hypertable" {
        for (name, column, am) in [("Gin", "tags", "gin"), ("Gist", "place", "gist"), ("Spgist", "place", "spgist")] {
            let edits =
                vec![some("indexes[0].columns", json!([{"name": column}])), some("indexes[0].method", json!(name))];
            let seen = Effect::Seen(vec![(look.clone(), Look::Has(format!("USING {am} ({column})")))]);
            method = method.edits("value", edits, seen);
        }
    }
    let mut unique = of("indexes[].unique").takes_default(&look).edits(
        "invalid",
        vec![some("indexes[0].method", json!("Hash")), some("indexes[0].unique", json!(true))],
        Effect::Admission(words(&["unique", "method", "order", "include"])),
    );
    unique = if kind == "Hypertable" {
        let all = json!([{"name": "ts"}, {"name": "line"}, {"name": "sensor"}]);
        let edits = vec![some("indexes[0].columns", all), some("indexes[0].unique", json!(true))];
        let seen = Effect::Seen(vec![(look.clone(), Look::Has("UNIQUE INDEX".into()))]);
        let twice = vec![
            some("indexes[0].columns", json!([{"name": "ts"}, {"name": "sensor"}])),
            some("indexes[0].unique", json!(true)),
        ];
        unique.edits("value", edits, seen).edits(
            "invalid",
            twice,
            Effect::Refused("IncompatibleIndex", words(&[index, "line"])),
        )
    } else {
        unique.refused(json!(true), "InvalidSpec", &[index, "unique"])
    };
    vec![
        of("indexes[].name")
            .case("value", json!(format!("other_index{own}")), Effect::Seen(named(format!("other_index{own}"))))
            .case("value", json!(format!("Odd \"name\"{own}")), Effect::Seen(named(format!("Odd \"name\"{own}"))))
            .case("minimum", json!(format!("i{own}")), Effect::Seen(named(format!("i{own}"))))
            .case("maximum", json!(long), Effect::Seen(named(long.clone())))
            .refused(json!("é".repeat(40)), "InvalidSpec", &["indexes[0].name"])
            .required(),
        method,
        unique.gone(Effect::Seen(vec![(look.clone(), Look::Lacks("UNIQUE".into()))])),
        of("indexes[].columns")
            .shows("value", json!([{"name": other}]), &format!("({other})"))
            .shows(
                "value",
                json!([{"name": time, "order": "Desc"}, {"name": other}]),
                &format!("({time} DESC, {other})"),
            )
            .required(),
        of("indexes[].columns[].name")
            .shows("value", json!(other), &format!("({other}, {time} DESC)"))
            .refused(json!("nosuch"), "InvalidSpec", &["nosuch"])
            .refused(json!("Sensor"), "InvalidSpec", &["Sensor"])
            .refused(json!("sensor\"; --"), "InvalidSpec", &["sensor"])
            .refused(json!("é".repeat(40)), "InvalidSpec", &["indexes[0].columns[0].name"])
            .required(),
        of("indexes[].columns[].order")
            .shows("value", json!("Desc"), &format!("(sensor DESC, {time} DESC)"))
            .shows("default", json!("Asc"), &format!("(sensor, {time} DESC)"))
            .gone(Effect::Seen(vec![(look.clone(), Look::Has(format!("(sensor, {time} DESC)")))])),
        of("indexes[].columns[].nulls")
            .shows("value", json!("First"), &format!("(sensor NULLS FIRST, {time} DESC)"))
            .shows("value", json!("Last"), &format!("(sensor, {time} DESC)"))
            .gone(Effect::Seen(vec![(look.clone(), Look::Has(format!("(sensor, {time} DESC)")))])),
        of("indexes[].include")
            .edits(
                "empty",
                vec![some("indexes[0].include", json!([]))],
                Effect::Seen(vec![(look.clone(), Look::Lacks("INCLUDE".into()))]),
            )
            .gone(Effect::Seen(vec![(look.clone(), Look::Lacks("INCLUDE".into()))])),
        of("indexes[].include[]")
            .shows("value", json!(other), &format!("INCLUDE ({other})"))
            .refused(json!("nosuch"), "InvalidSpec", &["nosuch"])
            .gone(Effect::Seen(vec![(look.clone(), Look::Lacks("INCLUDE".into()))])),
    ]
}

impl Field {
    fn takes_default(self, look: &str) -> Self {
        let seen = Effect::Seen(vec![(look.to_owned(), Look::Lacks("UNIQUE".into()))]);
        self.case("default", json!(false), seen)
    }
}

fn predicates(kind: &'static str, scene: &'static str, object: &'static str, look: &str, column: &str) -> Field {
    let mut of = field(kind, "indexes[].where", scene, object, look)
        .shows("value", json!(format!("{column} > 1 AND sensor < 5")), "sensor < 5")
        .shows("value", json!(format!("{column} > 2 -- a comment")), &format!("({column} > "))
        .shows("value", json!(format!("({column} IS NOT NULL)")), "IS NOT NULL")
        .shows("minimum", json!(format!("{column}>3")), "> ")
        .shows("maximum", json!(format!("{column} > 5{}", " ".repeat(4096 - 4 - column.len()))), "> ")
        .gone(Effect::Seen(vec![(look.to_owned(), Look::Lacks("WHERE".into()))]));
    for text in [
        "nosuch > 1",
        "sensor",
        "sensor + 1",
        "sensor > 1); SELECT (1",
        "random() > 0.5",
        "$SCHEMA.guess() > 0",
        "count(*) > 1",
        "EXISTS (SELECT 1)",
        "sensor >",
        "sensor = 'x'",
        " ",
        "sensor > 1; SELECT 1",
    ] {
        of = of.refused(json!(text), "InvalidSpec", &["where"]);
    }
    of
}

fn targets(
    kind: &'static str,
    after: (&'static str, &'static str),
    job: &'static str,
    look: &'static str,
) -> Vec<Field> {
    let (name, value) = after;
    let other = |target: Value| json!({"targetRef": target, name: value});
    let at = |region: &str| format!("/{region}/jobs/{job}/config/{look}");
    let with = |sort: &'static str, f: Field, path: &str, value: Value, regions: &[&str]| {
        let places = regions.iter().map(|region| (at(region), Look::There)).collect();
        f.edits(sort, vec![some(path, value)], Effect::Seen(places))
    };
    let f = |path: &'static str| field(kind, path, "fleet", "fleet", "");
    let s = |path: &'static str| field(kind, path, "table", "readings", "");
    let nobody = || Effect::Refused("TargetNotFound", words(&["targetSelector"]));
    let kinds = f("targetSelector.kind")
        .case("invalid", json!("ContinuousAggregate"), Effect::Refused("TargetNotFound", words(&["targetSelector"])))
        .case("value", json!("Hypertable"), Effect::Seen(vec![(at("north"), Look::There)]))
        .required();
    let labels = f("targetSelector.matchLabels");
    let labels = with("value", labels, "targetSelector.matchLabels", json!({"region": "north"}), &["north"]);
    let labels = with("empty", labels, "targetSelector.matchLabels", json!({}), &["north", "south"])
        .edits("invalid", vec![some("targetSelector.matchLabels", json!({"fleet": "no"}))], nobody())
        .gone(Effect::Seen(vec![(at("north"), Look::There), (at("south"), Look::There)]));
    let expressions = f("targetSelector.matchExpressions");
    let expressions =
        with("empty", expressions, "targetSelector.matchExpressions", json!([]), &["north", "south", "east"])
            .gone(Effect::Seen(vec![(at("north"), Look::There), (at("east"), Look::There)]));
    let key = f("targetSelector.matchExpressions[].key");
    let key = with(
        "minimum",
        key,
        "targetSelector.matchExpressions[0]",
        json!({"key": "f", "operator": "DoesNotExist"}),
        &["east"],
    )
    .case("invalid", json!("nosuch"), nobody())
    .case("maximum", json!("k".repeat(316)), nobody())
    .required();
    let mut operator = f("targetSelector.matchExpressions[].operator");
    for (name, values, regions) in [
        ("NotIn", json!(["north"]), &["south", "east"][..]),
        ("In", json!(["east"]), &["east"]),
        ("Exists", json!([]), &["north", "south", "east"]),
    ] {
        let requirement = json!({"key": "region", "operator": name, "values": values});
        operator = with("value", operator, "targetSelector.matchExpressions[0]", requirement, regions);
    }
    let values = f("targetSelector.matchExpressions[].values[]");
    let values = with("value", values, "targetSelector.matchExpressions[0].values[0]", json!("east"), &["east"])
        .case("value", json!(""), Effect::Same)
        .case("maximum", json!("v".repeat(63)), Effect::Same);
    vec![
        s("targetRef")
            .edits("invalid", vec![none("targetRef")], Effect::Admission(words(&["targetRef"])))
            .edits(
                "invalid",
                vec![some("targetSelector", json!({"kind": "Hypertable"}))],
                Effect::Admission(words(&["targetSelector"])),
            )
            .exempt("immutable: its parts are tried"),
        s("targetRef.kind").immutable(json!("ContinuousAggregate")).required(),
        s("targetRef.name")
            .immutable(json!("per-day"))
            .beside(
                "invalid",
                Beside {
                    kind,
                    name: "lost",
                    spec: other(json!({"kind": "Hypertable", "name": "nosuch"})),
                    before: "",
                    after: "",
                    reason: "TargetNotFound",
                    named: &["targetRef"],
                    looks: &[],
                },
            )
            .beside(
                "invalid",
                Beside {
                    kind,
                    name: "second",
                    spec: other(json!({"kind": "Hypertable", "name": "readings"})),
                    before: "",
                    after: "",
                    reason: "Conflicted",
                    named: &["readings"],
                    looks: &[],
                },
            )
            .required(),
        f("targetSelector").exempt("its parts are tried"),
        kinds,
        labels,
        expressions,
        key,
        operator.required(),
        values.gone(Effect::Seen(vec![(at("south"), Look::There)])),
        f("targetSelector.matchExpressions[].values")
            .gone(Effect::Admission(words(&["values"])))
            .exempt("its items are tried"),
    ]
}

/// A policy's own fields that compression and retention share.
fn policy(kind: &'static str, job: &'static str) -> Vec<Field> {
    let scheduled: String = format!("/readings/jobs/{job}/scheduled");
    let place = format!("/readings/jobs/{job}");
    let deletion = |stays| Effect::Probe(Probe::Deletion { place: place.clone(), stays });
    let mut all = vec![
        field(kind, "paused", "table", "readings", &scheduled)
            .takes("value", json!(true), json!(false))
            .takes("default", json!(false), json!(true))
            .gone(Effect::Seen(vec![(scheduled.clone(), Look::Is(json!(true)))])),
        field(kind, "deletionPolicy", "table", "readings", "")
            .case("default", json!("Delete"), deletion(false))
            .case("value", json!("Retain"), deletion(true))
            .gone(deletion(false)),
        field(kind, "schedule", "table", "readings", "")
            .case("empty", json!({}), Effect::Same)
            .exempt("its parts are tried")
            .keeping(),
    ];
    all.extend(schedule(kind, "table", "readings", "", &format!("/readings/jobs/{job}")));
    all
}

impl Field {
    /// The last case leaves out what then is not managed.
    fn keeping(mut self) -> Self {
        if let Some(case) = self.cases.last_mut() {
            case.3 = true;
        }
        self.left_out = Some(LeftOut::Kept);
        self
    }
}

fn hypertable() -> Vec<Field> {
    const KIND: &str = "Hypertable";
    let f = |path: &'static str, look: &str| field(KIND, path, "table", "readings", look);
    let n = |path: &'static str, look: &str| field(KIND, path, "integer", "counts", look);
    let long = "t".repeat(63);
    let on = |table: &str, time: &str| {
        json!({"databaseRef": {"name": "$DATABASE", "namespace": "$HOME"},
        "schema": "$SCHEMA", "table": table, "timeColumn": time})
    };
    let beside = |spec: Value,
                  before: &'static str,
                  after: &'static str,
                  reason: &'static str,
                  named: &'static [&'static str]| Beside {
        kind: KIND,
        name: "beside",
        spec,
        before,
        after,
        reason,
        named,
        looks: &[],
    };
    let with = |mut spec: Value, key: &str, value: Value| {
        spec[key] = value;
        spec
    };
    const OTHER: &str = "CREATE TABLE $SCHEMA.other (ts timestamptz NOT NULL, day date NOT NULL, local timestamp NOT NULL, n smallint NOT NULL, word text, number numeric)";
    const FILLED: &str = "CREATE TABLE $SCHEMA.other (ts timestamptz NOT NULL); INSERT INTO $SCHEMA.other SELECT now()";
    const GONE: &str = "DROP TABLE $SCHEMA.other";
    let chunk = "/readings/dimensions/ts/interval";
    let mut time_column = f("timeColumn", "").immutable(json!("value")).required();
    for (column, more) in [("day", Value::Null), ("local", Value::Null), ("n", json!(100))] {
        let mut spec = on("other", column);
        if !more.is_null() {
            spec["chunkInterval"] = more;
        }
        time_column = time_column.beside("value", beside(spec, OTHER, GONE, "InSync", &[]));
    }
    for (column, words) in [
        ("nosuch", &["timeColumn", "nosuch"][..]),
        ("word", &["timeColumn", "text"]),
        ("number", &["timeColumn", "numeric"]),
    ] {
        time_column = time_column.beside(
            "invalid",
            Beside {
                kind: KIND,
                name: "beside",
                spec: on("other", column),
                before: OTHER,
                after: GONE,
                reason: "InvalidSpec",
                named: words,
                looks: &[],
            },
        );
    }
    time_column =
        time_column.beside("invalid", beside(on("other", "n"), OTHER, GONE, "InvalidSpec", &["chunkInterval"]));
    let mut all = vec![
        f("databaseRef", "").exempt("immutable: its parts are tried").gone(Effect::Admission(words(&["databaseRef"]))),
        f("databaseRef.name", "").immutable(json!("other")).required().beside(
            "invalid",
            beside(
                with(on("readings", "ts"), "databaseRef", json!({"name": "nosuch"})),
                "",
                "",
                "DatabaseNotFound",
                &["nosuch"],
            ),
        ),
        f("databaseRef.namespace", "")
            .immutable(json!("other"))
            .gone(Effect::Admission(words(&["databaseRef"])))
            .beside(
                "invalid",
                beside(
                    with(
                        on("readings", "ts"),
                        "databaseRef",
                        json!({"name": "$DATABASE",
                "namespace": "nosuch"}),
                    ),
                    "",
                    "",
                    "DatabaseNotFound",
                    &["nosuch"],
                ),
            ),
        f("schema", "")
            .immutable(json!("public"))
            .gone(Effect::Admission(words(&["schema"])))
            .beside(
                "invalid",
                beside(with(on("readings", "ts"), "schema", json!("nosuch")), "", "", "TableNotFound", &["nosuch"]),
            )
            .beside(
                "invalid",
                beside(with(on("readings", "ts"), "schema", json!("é".repeat(40))), "", "", "InvalidSpec", &["schema"]),
            ),
        f("table", "")
            .immutable(json!("events"))
            .required()
            .beside("invalid", beside(on("nosuch", "ts"), "", "", "TableNotFound", &["nosuch"]))
            .beside("invalid", beside(on("per_day", "bucket"), "", "", "InvalidSpec", &["per_day"]))
            .beside("invalid", beside(on("readings", "ts"), "", "", "Conflicted", &["readings"]))
            .beside("invalid", beside(on(&"é".repeat(40), "ts"), "", "", "InvalidSpec", &["table"]))
            .beside(
                "maximum",
                Beside {
                    kind: KIND,
                    name: "beside",
                    spec: on(&long, "ts"),
                    before: Box::leak(format!("CREATE TABLE $SCHEMA.{long} (ts timestamptz)").into_boxed_str()),
                    after: Box::leak(format!("DROP TABLE $SCHEMA.{long}").into_boxed_str()),
                    reason: "InSync",
                    named: &[],
                    looks: &[(Box::leak(format!("/{long}/dimensions/ts").into_boxed_str()), Look::There)],
                },
            )
            .beside(
                "value",
                Beside {
                    kind: KIND,
                    name: "beside",
                    spec: on("Odd \"table\"; --", "ts"),
                    before: "CREATE TABLE $SCHEMA.\"Odd \"\"table\"\"; --\" (ts timestamptz)",
                    after: "DROP TABLE $SCHEMA.\"Odd \"\"table\"\"; --\"",
                    reason: "InSync",
                    named: &[],
                    looks: &[],
                },
            ),
        time_column,
        not_intervals(intervals(f("chunkInterval", chunk)), "InvalidSpec")
            .takes("value", json!("6 hours"), json!(6 * HOUR))
            .refused(json!(604_800_000), "InvalidSpec", &["chunkInterval"])
            .refused(json!("0 days"), "InvalidSpec", &["chunkInterval"])
            .kept(),
        // Ten times as much is the chunk interval of an aggregate over it, and must be a bigint too.
        n("chunkInterval", "/counts/dimensions/t/interval")
            .takes("value", json!(2000), json!(2000))
            .takes("minimum", json!(1), json!(1))
            .takes("maximum", json!(900_000_000_000_000_000_i64), json!(900_000_000_000_000_000_i64))
            .refused(json!("7 days"), "InvalidSpec", &["chunkInterval"])
            .refused(json!(0), "InvalidSpec", &["chunkInterval"])
            .kept(),
        n("integerNowFunction", "/counts/dimensions/t/now")
            .takes("value", json!("$SCHEMA.later_of_counts"), json!("later_of_counts"))
            .takes("value", json!("$SCHEMA.\"later_of_counts\""), json!("later_of_counts"))
            .refused(json!("$SCHEMA.nosuch"), "InvalidSpec", &["nosuch"])
            .refused(json!("now_of_counts"), "InvalidSpec", &["integerNowFunction"])
            .refused(json!("a.b.c"), "InvalidSpec", &["integerNowFunction"])
            .refused(json!("$SCHEMA.text_of_counts"), "InvalidSpec", &["text_of_counts"])
            .kept(),
        f("integerNowFunction", "").refused(json!("$SCHEMA.is_good"), "InvalidSpec", &["integerNowFunction"]),
        f("spacePartitions", "")
            .edits("empty", vec![some("spacePartitions", json!([]))], Effect::Same)
            .keeping()
            .refused(json!([{"column": "sensor", "partitions": 2}]), "InvalidSpec", &["spacePartitions", "line"])
            .exempt("its parts are tried"),
        f("spacePartitions[].column", "")
            .refused(json!("nosuch"), "InvalidSpec", &["spacePartitions"])
            .inadmissible(json!("ts"), &["spacePartitions"])
            .required()
            .beside(
                "value",
                Beside {
                    kind: KIND,
                    name: "beside",
                    spec: with(
                        on("other", "ts"),
                        "spacePartitions",
                        json!([{"column": "word",
                    "partitions": 3}]),
                    ),
                    before: OTHER,
                    after: GONE,
                    reason: "InSync",
                    named: &[],
                    looks: &[("/other/dimensions/word/partitions", Look::Is(json!(3)))],
                },
            )
            .beside(
                "invalid",
                beside(
                    with(
                        on("other", "ts"),
                        "spacePartitions",
                        json!([{"column": "nosuch",
                "partitions": 3}]),
                    ),
                    OTHER,
                    GONE,
                    "InvalidSpec",
                    &["spacePartitions", "nosuch"],
                ),
            ),
        f("spacePartitions[].partitions", "/readings/dimensions/line/partitions")
            .takes("value", json!(4), json!(4))
            .takes("minimum", json!(1), json!(1))
            .takes("maximum", json!(32767), json!(32767))
            .required(),
        f("migrateData", "")
            .case("value", json!(true), Effect::Same)
            .case("default", json!(false), Effect::Same)
            .gone(Effect::Same)
            .beside("invalid", beside(on("other", "ts"), FILLED, GONE, "TableNotEmpty", &["migrateData"]))
            .beside(
                "value",
                Beside {
                    kind: KIND,
                    name: "beside",
                    spec: with(on("other", "ts"), "migrateData", json!(true)),
                    before: FILLED,
                    after: GONE,
                    reason: "InSync",
                    named: &[],
                    looks: &[("/other/rows", Look::Is(json!(1))), ("/other/chunks", Look::Is(json!(1)))],
                },
            ),
        f("chunkSkipping", "/readings/skipping")
            .takes("empty", json!([]), json!([]))
            .takes("value", json!(["sensor", "line"]), json!(["line", "sensor"]))
            .refused(json!(["note"]), "InvalidSpec", &["note"])
            .inadmissible(json!(["line", "line"]), &["chunkSkipping"])
            .kept(),
        f("chunkSkipping[]", "/readings/skipping")
            .takes("value", json!("line"), json!(["line"]))
            .refused(json!("nosuch"), "InvalidSpec", &["nosuch"])
            .refused(json!("é".repeat(40)), "InvalidSpec", &["chunkSkipping[0]"]),
        f("tablespaces", "/readings/tablespaces")
            .takes("value", json!(["$FAST", "$SLOW"]), json!(["$FAST", "$SLOW"]))
            .takes("empty", json!([]), json!([]))
            .inadmissible(json!(["a", "a"]), &["tablespaces"])
            .kept(),
        f("tablespaces[]", "/readings/tablespaces")
            .takes("value", json!("$FAST"), json!(["$FAST"]))
            .refused(json!("nosuch"), "InvalidSpec", &["nosuch"])
            .refused(json!("é".repeat(40)), "InvalidSpec", &["tablespaces[0]"]),
        f("indexes", "")
            .edits(
                "empty",
                vec![some("indexes", json!([]))],
                Effect::Seen(vec![("/readings/indexes/readings_sensor_ts".into(), Look::Gone)]),
            )
            .with_reorder()
            .edits(
                "invalid",
                vec![some(
                    "indexes",
                    json!([{"name": "twice", "columns": [{"name": "sensor"}]},
                {"name": "twice", "columns": [{"name": "line"}]}]),
                )],
                Effect::Admission(words(&["indexes"])),
            )
            .exempt("its parts are tried"),
        f("reorder", "").kept().exempt("its parts are tried"),
        f("reorder.index", "/readings/jobs/reorder/config/index_name")
            .case("value", json!("readings_again"), Effect::Refused("", words(&["readings_again"])))
            .edits(
                "value",
                vec![
                    some("indexes[2]", json!({"name": "readings_more", "columns": [{"name": "ts"}]})),
                    some("reorder.index", json!("readings_more")),
                ],
                Effect::Seen(vec![(
                    "/readings/jobs/reorder/config/index_name".into(),
                    Look::Is(json!("readings_more")),
                )]),
            )
            .edits(
                "value",
                vec![
                    some("indexes[0].name", json!("readings_sensor_ts")),
                    some("reorder.index", json!("readings_line")),
                ],
                Effect::Seen(vec![(
                    "/readings/jobs/reorder/config/index_name".into(),
                    Look::Is(json!("readings_line")),
                )]),
            )
            .refused(json!("é".repeat(40)), "InvalidSpec", &["reorder.index"])
            .required(),
        f("reorder.paused", "/readings/jobs/reorder/scheduled")
            .takes("value", json!(true), json!(false))
            .takes("default", json!(false), json!(true))
            .gone(Effect::Seen(vec![("/readings/jobs/reorder/scheduled".into(), Look::Is(json!(true)))])),
        f("reorder.schedule", "").case("empty", json!({}), Effect::Same).keeping().exempt("its parts are tried"),
    ];
    all.extend(schedule(KIND, "table", "readings", "reorder.", "/readings/jobs/reorder"));
    all.extend(indexes(KIND, "table", "readings", "readings", "ts", "line"));
    all.push(predicates(KIND, "table", "readings", "/readings/indexes/readings_sensor_ts/definition", "value").shows(
        "value",
        json!("is_good(value)"),
        "is_good(value)",
    ));
    all
}

impl Field {
    /// The index that the reorder policy goes by stays in the list: the last case without it is refused.
    fn with_reorder(mut self) -> Self {
        if let Some(case) = self.cases.last_mut() {
            case.1 = vec![some(
                "indexes",
                json!([{"name": "readings_line", "columns": [{"name": "line"}, {"name": "ts"}]}]),
            )];
        }
        self
    }
}

fn compression() -> Vec<Field> {
    const KIND: &str = "CompressionPolicy";
    let f = |path: &'static str, look: &str| field(KIND, path, "table", "readings", look);
    let a = |path: &'static str, look: &str| field(KIND, path, "aggregate", "hourly", look);
    let n = |path: &'static str, look: &str| field(KIND, path, "integer", "counts", look);
    let after = "/readings/jobs/compression/config/compress_after";
    let segment = "/readings/columnstore/segment";
    let order = "/readings/columnstore/order";
    let sparse = "/readings/columnstore/sparse";
    // What may stand beside it is as at the start.
    let settings = || {
        vec![
            some("segmentBy", json!(["sensor"])),
            some("orderBy", json!([{"column": "value"}, {"column": "ts", "order": "Desc"}])),
            some("sparseIndexes", json!([{"kind": "Bloom", "columns": ["note"]}])),
        ]
    };
    let mut all = vec![
        not_intervals(intervals(f("compressAfter", after).with(vec![none("compressCreatedBefore")])), "InvalidSpec")
            .refused(json!(7), "InvalidSpec", &["compressAfter"])
            .refused(json!("0 days"), "InvalidSpec", &["compressAfter"])
            .gone(Effect::Refused("InvalidSpec", words(&["compressAfter", "defaults"]))),
        n("compressAfter", "/counts/jobs/compression/config/compress_after")
            .takes("value", json!(3000), json!(3000))
            .takes("minimum", json!(1), json!(1))
            .takes("maximum", json!(9_000_000_000_000_000_000_i64), json!(9_000_000_000_000_000_000_i64))
            .refused(json!("7 days"), "InvalidSpec", &["compressAfter"])
            .refused(json!(0), "InvalidSpec", &["compressAfter"]),
        a("compressAfter", "/hourly/jobs/compression/config/compress_after")
            .takes("value", json!("40 days"), json!(40 * DAY))
            .either(json!("2 days"), &["compress"])
            .refused(json!(7), "InvalidSpec", &["compressAfter"]),
        not_intervals(
            f("compressCreatedBefore", "/readings/jobs/compression/config/compress_created_before")
                .with(vec![none("compressAfter")]),
            "InvalidSpec",
        )
        .takes("value", json!("14 days"), json!(14 * DAY))
        .takes("spelling", json!("P1M"), json!(30 * DAY))
        .edits(
            "invalid",
            vec![some("compressAfter", json!("7 days")), some("compressCreatedBefore", json!("7 days"))],
            Effect::Admission(words(&["compressCreatedBefore"])),
        )
        .gone(Effect::Refused("InvalidSpec", words(&["compressCreatedBefore"]))),
        a("compressCreatedBefore", "").edits(
            "invalid",
            vec![none("compressAfter"), some("compressCreatedBefore", json!("7 days"))],
            Effect::Refused("InvalidSpec", words(&["compressCreatedBefore"])),
        ),
        f("segmentBy", segment)
            .with(settings())
            .takes("empty", json!([]), Value::Null)
            .takes("value", json!(["sensor", "line"]), json!("sensor,line"))
            .inadmissible(json!(["line", "line"]), &["segmentBy"])
            .inadmissible(json!(["value"]), &["orderBy"])
            .kept(),
        f("segmentBy[]", segment)
            .with(settings())
            .takes("value", json!("line"), json!("line"))
            .refused(json!("nosuch"), "InvalidSpec", &["nosuch"])
            .refused(json!("Sensor"), "InvalidSpec", &["Sensor"])
            .refused(json!("é".repeat(40)), "InvalidSpec", &["segmentBy[0]"])
            .required_item(),
        a("segmentBy", "/hourly/columnstore/segment")
            .takes("empty", json!([]), Value::Null)
            .takes("value", json!(["sensor"]), json!("sensor"))
            .refused(json!(["nosuch"]), "InvalidSpec", &["nosuch"]),
        f("orderBy", order)
            .with(settings())
            .takes("value", json!([{"column": "line"}]), json!("line,ts DESC"))
            .inadmissible(json!([{"column": "line"}, {"column": "line"}]), &["orderBy"])
            .kept(),
        f("orderBy[].column", order)
            .with(settings())
            .takes("value", json!("quality"), json!("quality,ts DESC"))
            .refused(json!("nosuch"), "InvalidSpec", &["nosuch"])
            .refused(json!("place"), "InvalidSpec", &["place"])
            .inadmissible(json!("sensor"), &["orderBy"])
            .refused(json!("é".repeat(40)), "InvalidSpec", &["orderBy[0].column"])
            .required(),
        f("orderBy[].order", order)
            .with(settings())
            .takes("value", json!("Desc"), json!("value DESC,ts DESC"))
            .takes("default", json!("Asc"), json!("value,ts DESC"))
            .gone(Effect::Seen(vec![(order.into(), Look::Is(json!("value,ts DESC")))])),
        f("orderBy[].nulls", order)
            .with(settings())
            .shows("value", json!("First"), "value NULLS FIRST")
            .takes("value", json!("Last"), json!("value,ts DESC"))
            .gone(Effect::Seen(vec![(order.into(), Look::Is(json!("value,ts DESC")))])),
        f("mergeInterval", "/readings/merge")
            .takes("value", json!("56 days"), json!(56 * DAY))
            .takes("spelling", json!("P12W"), json!(84 * DAY))
            .edits(
                "minimum",
                vec![some("mergeInterval", json!("0 seconds"))],
                Effect::Seen(vec![("/readings/merge".into(), Look::Is(Value::Null))]),
            )
            .either(json!("15 days"), &["mergeInterval"])
            .refused(json!(1000), "InvalidSpec", &["mergeInterval"])
            .refused(json!("7 lightyears"), "InvalidSpec", &["mergeInterval"])
            .kept(),
        n("mergeInterval", "/counts/merge")
            .takes("value", json!(4000), json!(4000))
            .edits(
                "minimum",
                vec![some("mergeInterval", json!(0))],
                Effect::Seen(vec![("/counts/merge".into(), Look::Is(Value::Null))]),
            )
            .refused(json!("7 days"), "InvalidSpec", &["mergeInterval"])
            .kept(),
        f("sparseIndexes", sparse)
            .with(settings())
            .edits(
                "empty",
                vec![some("sparseIndexes", json!([]))],
                Effect::Seen(vec![(sparse.into(), Look::Lacks("note".into()))]),
            )
            .shows("value", json!([{"kind": "MinMax", "columns": ["quality"]}]), "quality")
            .kept(),
        a("sparseIndexes", "").refused(json!([{"kind": "Bloom", "columns": ["n"]}]), "InvalidSpec", &["sparseIndexes"]),
        f("sparseIndexes[].kind", sparse)
            .with(settings())
            .edits(
                "value",
                vec![some("sparseIndexes", json!([{"kind": "MinMax", "columns": ["quality"]}]))],
                Effect::Seen(vec![(sparse.into(), Look::Has("minmax".into()))]),
            )
            .edits(
                "value",
                vec![some("sparseIndexes", json!([{"kind": "Bloom", "columns": ["line"]}]))],
                Effect::Seen(vec![(sparse.into(), Look::Has("bloom".into()))]),
            )
            .edits(
                "value",
                vec![some("sparseIndexes", json!([{"kind": "FirstLast", "columns": ["value"]}]))],
                Effect::Either(words(&["sparseIndexes", "FirstLast"])),
            )
            .required(),
        f("sparseIndexes[].columns", sparse)
            .with(settings())
            .either(json!(["note", "line"]), &["sparseIndexes"])
            .edits(
                "invalid",
                vec![
                    some("sparseIndexes[0].kind", json!("MinMax")),
                    some("sparseIndexes[0].columns", json!(["note", "line"])),
                ],
                Effect::Admission(words(&["columns"])),
            )
            .required(),
        f("sparseIndexes[].columns[]", sparse)
            .with(settings())
            .shows("value", json!("line"), "line")
            .refused(json!("nosuch"), "InvalidSpec", &["nosuch"])
            .refused(json!("é".repeat(40)), "InvalidSpec", &["sparseIndexes[0].columns[0]"]),
    ];
    all.extend(policy(KIND, "compression"));
    all.extend(targets(KIND, ("compressAfter", "20 days"), "compression", "compress_after"));
    all
}

impl Field {
    fn required_item(self) -> Self {
        self.gone(Effect::Seen(vec![("/readings/columnstore/segment".into(), Look::Is(Value::Null))]))
    }
}

fn retention() -> Vec<Field> {
    const KIND: &str = "RetentionPolicy";
    let f = |path: &'static str, look: &str| field(KIND, path, "table", "readings", look);
    let after = "/readings/jobs/retention/config/drop_after";
    let running = || vec![none("dropCreatedBefore"), some("paused", json!(false))];
    let mut all = vec![
        not_intervals(f("dropAfter", after).with(running()), "InvalidSpec")
            .takes("value", json!("70 days"), json!(70 * DAY))
            .takes("spelling", json!("P20W"), json!(140 * DAY))
            .takes("spelling", json!("2400:00:00"), json!(100 * DAY))
            .takes("spelling", json!("1 year 2 mons"), json!(420 * DAY))
            .takes("minimum", json!("9y"), json!(9 * 360 * DAY))
            .takes("maximum", json!(format!("80 days{}", " ".repeat(93))), json!(80 * DAY))
            .refused(json!("2 days"), "UnsafePolicy", &["per_day", "dropAfter"])
            .refused(json!("5 days"), "UnsafePolicy", &["per_day", "dropAfter"])
            .refused(json!(7), "InvalidSpec", &["dropAfter"])
            .refused(json!("0 days"), "InvalidSpec", &["dropAfter"])
            .case("approval", json!("25 days"), Effect::Approval(vec![(after.into(), Look::Is(json!(25 * DAY)))]))
            .case("approval", json!("P4W"), Effect::Approval(vec![(after.into(), Look::Is(json!(28 * DAY)))]))
            .case("approval", json!("720:00:00"), Effect::Approval(vec![(after.into(), Look::Is(json!(30 * DAY)))]))
            .gone(Effect::Refused("InvalidSpec", words(&["dropAfter", "defaults"]))),
        field(KIND, "dropAfter", "integer", "counts", "/counts/jobs/retention/config/drop_after")
            .takes("value", json!(40_000), json!(40_000))
            .takes("maximum", json!(9_000_000_000_000_000_000_i64), json!(9_000_000_000_000_000_000_i64))
            .refused(json!(500), "UnsafePolicy", &["tally", "dropAfter"])
            .refused(json!(1000), "UnsafePolicy", &["tally", "dropAfter"])
            .refused(json!(0), "InvalidSpec", &["dropAfter"])
            .refused(json!("90 days"), "InvalidSpec", &["dropAfter"])
            .case(
                "approval",
                json!(2500),
                Effect::Approval(vec![("/counts/jobs/retention/config/drop_after".into(), Look::Is(json!(2500)))]),
            ),
        field(KIND, "dropAfter", "aggregate", "hourly", "/hourly/jobs/retention/config/drop_after")
            .takes("value", json!("100 days"), json!(100 * DAY))
            .refused(json!(7), "InvalidSpec", &["dropAfter"]),
        not_intervals(
            f("dropCreatedBefore", "").with(vec![none("dropAfter"), some("paused", json!(false))]),
            "InvalidSpec",
        )
        .either(json!("90 days"), &["dropCreatedBefore"])
        .refused(json!("12 days"), "", &["dropCreatedBefore"])
        .edits(
            "invalid",
            vec![some("dropAfter", json!("70 days")), some("dropCreatedBefore", json!("70 days"))],
            Effect::Admission(words(&["dropCreatedBefore"])),
        )
        .gone(Effect::Refused("InvalidSpec", words(&["dropCreatedBefore"]))),
    ];
    all.extend(policy(KIND, "retention"));
    all.extend(targets(KIND, ("dropAfter", "90 days"), "retention", "drop_after"));
    all
}

fn aggregate() -> Vec<Field> {
    const KIND: &str = "ContinuousAggregate";
    let f = |path: &'static str, look: &str| field(KIND, path, "aggregate", "hourly", look);
    let h = |path: &'static str, look: &str| field(KIND, path, "history", "hourly", look);
    let n = |path: &'static str, look: &str| field(KIND, path, "integer", "tally", look);
    let job = "/hourly/jobs/refresh_continuous_aggregate";
    let at = |key: &str| format!("{job}/config/{key}");
    let base = || {
        json!({"databaseRef": {"name": "$DATABASE", "namespace": "$HOME"}, "schema": "$SCHEMA",
        "name": "beside", "query": HOURLY, "deletionPolicy": "Delete"})
    };
    let with = |key: &str, value: Value| {
        let mut spec = base();
        spec[key] = value;
        spec
    };

    let beside = |spec: Value, reason: &'static str, named: &'static [&'static str]| {
        let after = "";
        Beside { kind: KIND, name: "beside", spec, before: "", after, reason, named, looks: &[] }
    };
    let definition = "/hourly/aggregate/definition";
    let rebuilt = |text: &str| text.replace("avg(value) AS average", "max(value) AS highest, min(value) AS lowest");
    let refuse = || vec![some("onQueryChange", json!("Refuse"))];
    let spelled = "select  time_bucket(INTERVAL '60 minutes', ts) as bucket, sensor, avg(value) as average, count(*) as n\n  from $SCHEMA.events group by time_bucket('1 hour', ts), sensor";
    let mut query = f("query", definition)
        .with(refuse())
        .case("spelling", json!(format!("{HOURLY};")), Effect::Same)
        .case("spelling", json!(format!("{HOURLY} -- the end")), Effect::Same)
        .case("spelling", json!(spelled), Effect::Same)
        .case("spelling", json!(HOURLY.replace("$SCHEMA.events", "events")), Effect::Same)
        .case("maximum", json!(format!("{HOURLY}{}", " ".repeat(1000))), Effect::Same)
        .refused(json!(rebuilt(HOURLY)), "QueryChanged", &["max(", "average"])
        .required();
    for text in [
        format!("{HOURLY}; SELECT 1"),
        format!("{HOURLY}; DROP TABLE $SCHEMA.events"),
        HOURLY.replace("avg(value)", "avg(nosuch)"),
        HOURLY.replace("events", "nosuch"),
        HOURLY.replace("avg(value)", "avg(value + random())"),
        HOURLY.replace("avg(value)", "avg(value + $SCHEMA.guess())"),
        "DELETE FROM $SCHEMA.events".to_owned(),
        "nonsense".to_owned(),
        "SELECT FROM".to_owned(),
        "WITH gone AS (DELETE FROM $SCHEMA.events RETURNING 1) SELECT * FROM gone".to_owned(),
        " ".to_owned(),
    ] {
        query = query.refused(json!(text), "", &["query"]);
    }
    // Not a query that can be continuous: only a new aggregate, or a rebuild, finds that out.
    for text in ["SELECT ts, value FROM $SCHEMA.events", "SELECT sensor, count(*) AS n FROM $SCHEMA.events GROUP BY 1"]
    {
        query = query
            .edits(
                "invalid",
                vec![some("query", json!(text)), some("onQueryChange", json!("Rebuild"))],
                Effect::Refused("", words(&["query"])),
            )
            .beside(
                "invalid",
                Beside {
                    kind: KIND,
                    name: "beside",
                    spec: with("query", json!(text)),
                    before: "",
                    after: "",
                    reason: "InvalidSpec",
                    named: &["query"],
                    looks: &[],
                },
            );
    }
    let rebuild = |text: String, part: &str| {
        let edits = vec![some("query", json!(text)), some("onQueryChange", json!("Rebuild"))];
        (edits, Effect::Seen(vec![(definition.to_owned(), Look::Has(part.to_owned()))]))
    };
    let (change, changed) = rebuild(rebuilt(HOURLY), "max(");
    let (wider, widened) = rebuild(HOURLY.replace("1 hour", "6 hours"), "06:00:00");
    let lossy = |part: &str| Effect::Approval(vec![(definition.to_owned(), Look::Has(part.to_owned()))]);
    let mut all = vec![
        f("databaseRef", "").exempt("immutable: its parts are tried").gone(Effect::Admission(words(&["databaseRef"]))),
        f("databaseRef.name", "")
            .immutable(json!("other"))
            .required()
            .beside("invalid", beside(with("databaseRef", json!({"name": "nosuch"})), "DatabaseNotFound", &["nosuch"])),
        f("databaseRef.namespace", "").immutable(json!("other")).gone(Effect::Admission(words(&["databaseRef"]))),
        f("schema", "")
            .immutable(json!("public"))
            .gone(Effect::Admission(words(&["schema"])))
            .beside("invalid", beside(with("schema", json!("nosuch")), "", &["nosuch"])),
        f("name", "")
            .immutable(json!("daily"))
            .required()
            .beside("invalid", beside(with("name", json!("events")), "InvalidSpec", &["events"]))
            .beside("invalid", beside(with("name", json!("é".repeat(40))), "InvalidSpec", &["name"]))
            .beside(
                "maximum",
                Beside {
                    kind: KIND,
                    name: "beside",
                    spec: with("name", json!("v".repeat(63))),
                    before: "",
                    after: "",
                    reason: "InSync",
                    named: &[],
                    looks: &[],
                },
            ),
        query,
        f("onQueryChange", definition)
            .edits("value", change.clone(), changed)
            .edits("value", wider, widened)
            .edits(
                "default",
                vec![some("query", json!(HOURLY)), some("onQueryChange", json!("Refuse"))],
                Effect::Either(words(&["query"])),
            )
            .gone(Effect::Either(words(&["query"]))),
        h("onQueryChange", definition).edits("approval", change, lossy("max(")),
        f("realTime", "/hourly/aggregate/materialized_only")
            .takes("value", json!(false), json!(true))
            .takes("value", json!(true), json!(false))
            .kept(),
        f("createGroupIndexes", "")
            .immutable(json!(true))
            .gone(Effect::Admission(words(&["createGroupIndexes"])))
            .beside(
                "value",
                Beside {
                    kind: KIND,
                    name: "beside",
                    spec: with("createGroupIndexes", json!(true)),
                    before: "",
                    after: "",
                    reason: "InSync",
                    named: &[],
                    looks: &[("/beside/indexes", Look::Has("sensor".into()))],
                },
            )
            .beside(
                "value",
                Beside {
                    kind: KIND,
                    name: "beside",
                    spec: with("createGroupIndexes", json!(false)),
                    before: "",
                    after: "",
                    reason: "InSync",
                    named: &[],
                    looks: &[("/beside/indexes", Look::Lacks("sensor".into()))],
                },
            ),
        not_intervals(intervals(f("chunkInterval", "/hourly/dimensions/bucket/interval")), "InvalidSpec")
            .refused(json!(1000), "InvalidSpec", &["chunkInterval"])
            .refused(json!("0 days"), "InvalidSpec", &["chunkInterval"])
            .kept(),
        n("chunkInterval", "/tally/dimensions/bucket/interval")
            .takes("value", json!(7000), json!(7000))
            .refused(json!("1 day"), "InvalidSpec", &["chunkInterval"])
            .kept(),
        f("indexes", "")
            .edits(
                "empty",
                vec![some("indexes", json!([]))],
                Effect::Seen(vec![("/hourly/indexes/hourly_sensor_$SCHEMA".into(), Look::Gone)]),
            )
            .gone(Effect::Seen(vec![("/hourly/indexes/hourly_sensor_$SCHEMA".into(), Look::Gone)])),
        f("refreshPolicy", "").kept().exempt("its parts are tried"),
        not_intervals(
            f("refreshPolicy.startOffset", &at("start_offset"))
                .with(vec![some("refreshPolicy.endOffset", json!("1 hour"))]),
            "InvalidSpec",
        )
        .takes("value", json!("15 days"), json!(15 * DAY))
        .takes("spelling", json!("P2W"), json!(14 * DAY))
        .takes("spelling", json!("288:00:00"), json!(12 * DAY))
        .takes("minimum", json!("9d"), json!(9 * DAY))
        .refused(json!("1 hour"), "", &["startOffset"])
        .refused(json!("2 hours"), "UnsafePolicy", &["startOffset"])
        .refused(json!(1000), "", &["startOffset"])
        .either(json!("45 days"), &["startOffset"])
        .gone(Effect::Seen(vec![(at("start_offset"), Look::Gone)])),
        h("refreshPolicy.startOffset", &at("start_offset"))
            .takes("value", json!("15 days"), json!(15 * DAY))
            .case("approval", json!("60 days"), Effect::Approval(vec![(at("start_offset"), Look::Is(json!(60 * DAY)))]))
            .edits(
                "approval",
                vec![none("refreshPolicy.startOffset")],
                Effect::Approval(vec![(at("start_offset"), Look::Gone)]),
            ),
        n("refreshPolicy.startOffset", "/tally/jobs/refresh_continuous_aggregate/config/start_offset")
            .takes("value", json!(2000), json!(2000))
            .edits(
                "invalid",
                vec![some("refreshPolicy.startOffset", json!(150)), some("refreshPolicy.endOffset", json!(100))],
                Effect::Refused("UnsafePolicy", words(&["startOffset"])),
            )
            .refused(json!(60_000), "UnsafePolicy", &["startOffset"])
            .refused(json!("7 days"), "", &["startOffset"])
            .gone(Effect::Refused("UnsafePolicy", words(&["startOffset"]))),
        field(
            KIND,
            "refreshPolicy.startOffset",
            "table",
            "per-day",
            "/per_day/jobs/refresh_continuous_aggregate/config/start_offset",
        )
        .takes("value", json!("6 days"), json!(6 * DAY))
        .refused(json!("10 years"), "UnsafePolicy", &["startOffset", "readings"])
        .refused(json!("36 hours"), "UnsafePolicy", &["startOffset"])
        .gone(Effect::Refused("UnsafePolicy", words(&["startOffset", "readings"]))),
        not_intervals(
            f("refreshPolicy.endOffset", &at("end_offset"))
                .with(vec![some("refreshPolicy.startOffset", json!("10 days"))]),
            "InvalidSpec",
        )
        .takes("value", json!("2 hours"), json!(2 * HOUR))
        .takes("spelling", json!("PT90M"), json!(HOUR * 3 / 2))
        .takes("minimum", json!("0 seconds"), json!(0))
        .refused(json!("20 days"), "InvalidSpec", &["endOffset"])
        .refused(json!(100), "", &["endOffset"])
        .gone(Effect::Seen(vec![(at("end_offset"), Look::Gone)])),
        n("refreshPolicy.endOffset", "/tally/jobs/refresh_continuous_aggregate/config/end_offset")
            .takes("value", json!(200), json!(200))
            .takes("minimum", json!(0), json!(0))
            .refused(json!("1 hour"), "", &["endOffset"]),
        f("refreshPolicy.includeTieredData", &at("include_tiered_data"))
            .takes("value", json!(false), json!(false))
            .takes("value", json!(true), json!(true))
            .kept(),
        f("refreshPolicy.bucketsPerBatch", &at("buckets_per_batch"))
            .takes("minimum", json!(0), json!(0))
            .takes("value", json!(7), json!(7))
            .takes("maximum", json!(1_000_000), json!(1_000_000))
            .kept(),
        f("refreshPolicy.maxBatchesPerExecution", &at("max_batches_per_execution"))
            .takes("minimum", json!(0), json!(0))
            .takes("value", json!(3), json!(3))
            .takes("maximum", json!(1_000_000), json!(1_000_000))
            .kept(),
        f("refreshPolicy.refreshNewestFirst", &at("refresh_newest_first"))
            .takes("value", json!(false), json!(false))
            .takes("value", json!(true), json!(true))
            .kept(),
        f("refreshPolicy.paused", &format!("{job}/scheduled"))
            .takes("value", json!(true), json!(false))
            .takes("default", json!(false), json!(true))
            .gone(Effect::Seen(vec![(format!("{job}/scheduled"), Look::Is(json!(true)))])),
        f("refreshPolicy.schedule", "").gone(Effect::Admission(words(&["schedule"]))).exempt("its parts are tried"),
        field(KIND, "deletionPolicy", "aggregate", "spare", "")
            .case("value", json!("Delete"), Effect::Probe(Probe::Deletion { place: "/spare".into(), stays: false }))
            .case("default", json!("Retain"), Effect::Probe(Probe::Deletion { place: "/spare".into(), stays: true }))
            .gone(Effect::Probe(Probe::Deletion { place: "/spare".into(), stays: true })),
    ];
    all.extend(schedule(KIND, "aggregate", "hourly", "refreshPolicy.", job));
    all.extend(indexes(KIND, "aggregate", "hourly", "hourly", "bucket", "average"));
    all.push(predicates(KIND, "aggregate", "hourly", "/hourly/indexes/hourly_sensor_$SCHEMA/definition", "n"));
    all
}

fn database() -> Vec<Field> {
    const KIND: &str = "TimescaleDatabase";
    let f = |path: &'static str| field(KIND, path, "database", "plant", "");
    let ready = || Effect::Same;
    let guest = |reason: &'static str| Effect::Probe(Probe::Others(vec![("Hypertable/guest".into(), reason)]));
    let plain = |reason: &'static str| Effect::Probe(Probe::Others(vec![("CompressionPolicy/plain".into(), reason)]));
    let dropping = |reason: &'static str, named: &'static [&'static str]| Beside {
        kind: "RetentionPolicy",
        name: "old",
        spec: json!({"targetRef": {"kind": "Hypertable", "name": "old"}, "dropAfter": "30 days"}),
        before: "",
        after: "",
        reason,
        named,
        looks: &[],
    };
    let old = |edits: Vec<Edit>, beside: Beside<'_>| {
        let Beside { kind, name, spec, reason, named, .. } = beside;
        let object = json!({"kind": kind, "metadata": {"name": name}, "spec": spec});
        let probe = Probe::Beside {
            object,
            before: String::new(),
            after: String::new(),
            reason,
            words: words(named),
            looks: Vec::new(),
        };
        (edits, Effect::Probe(probe))
    };
    let percent = |value: Value| vec![some("guards.maxImmediateDropPercent", value)];
    let (none_at_all, refused) = old(percent(json!(0)), dropping("ApprovalRequired", &["chunks"]));
    let (all_of_it, granted) = old(percent(json!(100)), dropping("InSync", &[]));
    let (quarter, waiting) =
        old(vec![none("guards.maxImmediateDropPercent")], dropping("ApprovalRequired", &["chunks"]));
    let period = |f: Field| {
        let name = f.path;
        f.refused(json!("0.5 seconds"), "InvalidSpec", &[name])
            .refused(json!("2 days"), "InvalidSpec", &[name])
            .refused(json!("0 seconds"), "InvalidSpec", &[name])
    };
    let tls = |mode: &str| vec![some("connection.tls", json!({"mode": mode}))];
    let authority = |key: Value| vec![some("connection.tls", json!({"mode": "VerifyFull", "caSecretRef": key}))];
    let expression = |value: Value| vec![some("allowedNamespaces.selector.matchExpressions", json!([value]))];
    vec![
        f("connection").gone(Effect::Admission(words(&["connection"]))).exempt("its parts are tried"),
        f("connection.secretRef").gone(Effect::Admission(words(&["secretRef"]))).exempt("its parts are tried"),
        f("connection.secretRef.name")
            .case("value", json!("second"), ready())
            .refused(json!("nosuch"), "SecretNotFound", &["nosuch"])
            .case("maximum", json!("s".repeat(253)), Effect::Refused("SecretNotFound", words(&["ssss"])))
            .required(),
        f("connection.host")
            .case("value", json!("localhost"), ready())
            .case(
                "invalid",
                json!("no.such.host.invalid"),
                Effect::Waits("DatabaseUnreachable", words(&["no.such.host.invalid"])),
            )
            .case("invalid", json!("two words"), Effect::Waits("", words(&["two words"])))
            .gone(Effect::Same),
        f("connection.port")
            .case("minimum", json!(1), Effect::Waits("DatabaseUnreachable", words(&["1"])))
            .case("maximum", json!(65535), Effect::Waits("DatabaseUnreachable", words(&["65535"])))
            .gone(Effect::Same),
        f("connection.database")
            .case("invalid", json!("nosuch"), Effect::Waits("", words(&["nosuch"])))
            .case("maximum", json!("d".repeat(63)), Effect::Waits("", words(&["dddd"])))
            .gone(Effect::Same),
        f("connection.tls").gone(Effect::Same).exempt("its parts are tried"),
        f("connection.tls.mode")
            .edits("value", tls("Disable"), ready())
            .edits("default", tls("Prefer"), ready())
            .edits("value", tls("Require"), Effect::Either(words(&["TLS"])))
            .edits("value", tls("VerifyCA"), Effect::Either(words(&["ertificate|TLS"])))
            .edits("value", tls("VerifyFull"), Effect::Either(words(&["ertificate|TLS"])))
            .gone(Effect::Same),
        f("connection.tls.caSecretRef").exempt("its parts are tried"),
        f("connection.tls.caSecretRef.name")
            .exempt("a valid one needs a server with TLS: tests/integration/e2e/connections.rs")
            .edits(
                "invalid",
                authority(json!({"name": "nosuch"})),
                Effect::Refused("SecretNotFound", words(&["nosuch"])),
            )
            .edits(
                "invalid",
                vec![some("connection.tls", json!({"mode": "VerifyFull", "caSecretRef": {"key": "ca.crt"}}))],
                Effect::Admission(words(&["name"])),
            ),
        f("connection.tls.caSecretRef.key")
            .exempt("a valid one needs a server with TLS: tests/integration/e2e/connections.rs")
            .edits(
                "invalid",
                authority(json!({"name": "plant", "key": "nosuch.crt"})),
                Effect::Refused("SecretNotFound", words(&["nosuch.crt"])),
            )
            .edits(
                "default",
                authority(json!({"name": "plant"})),
                Effect::Refused("SecretNotFound", words(&["ca.crt"])),
            )
            .edits(
                "invalid",
                authority(json!({"name": "plant", "key": "username"})),
                Effect::Refused("", words(&["caSecretRef"])),
            ),
        f("mode")
            .case("value", json!("Observe"), Effect::Probe(Probe::Observing))
            .case("default", json!("Enforce"), ready())
            .gone(ready()),
        period(not_intervals(f("resyncInterval"), "InvalidSpec"))
            .case("minimum", json!("1s"), Effect::Probe(Probe::Resync { quick: true }))
            .case("maximum", json!("1 day"), Effect::Probe(Probe::Resync { quick: false }))
            .case("spelling", json!("PT1S"), Effect::Probe(Probe::Resync { quick: true }))
            .gone(Effect::Probe(Probe::Resync { quick: false })),
        period(not_intervals(f("statisticsInterval"), "InvalidSpec"))
            .case("minimum", json!("1 second"), Effect::Probe(Probe::Statistics))
            .case("maximum", json!("24:00:00"), ready())
            .gone(ready()),
        f("maxConnections").case("minimum", json!(2), ready()).case("maximum", json!(100), ready()).gone(ready()),
        f("defaults").gone(plain("InvalidSpec")).exempt("its parts are tried"),
        field(KIND, "defaults.chunkInterval", "database", "plant", "/plain/dimensions/ts/interval")
            .case(
                "invalid",
                json!("7 lightyears"),
                Effect::Probe(Probe::Others(vec![("Hypertable/plain".into(), "InvalidSpec")])),
            )
            .takes("value", json!("5 days"), json!(5 * DAY))
            .takes("spelling", json!("P6D"), json!(6 * DAY))
            .case("value", json!(1000), Effect::Same)
            .kept(),
        field(KIND, "defaults.compressAfter", "database", "plant", "/plain/jobs/compression/config/compress_after")
            .takes("value", json!("30 days"), json!(30 * DAY))
            .takes("spelling", json!("P5W"), json!(35 * DAY))
            .case("invalid", json!("7 lightyears"), plain("InvalidSpec"))
            .case("invalid", json!(1000), plain("InvalidSpec"))
            .gone(plain("InvalidSpec")),
        field(KIND, "defaults.dropAfter", "database", "plant", "/plain/jobs/retention/config/drop_after")
            .takes("value", json!("100 days"), json!(100 * DAY))
            .takes("spelling", json!("P1Y"), json!(360 * DAY))
            .case(
                "invalid",
                json!("7 lightyears"),
                Effect::Probe(Probe::Others(vec![("RetentionPolicy/plain".into(), "InvalidSpec")])),
            )
            .gone(Effect::Probe(Probe::Others(vec![("RetentionPolicy/plain".into(), "InvalidSpec")]))),
        f("allowedNamespaces").gone(guest("NotAllowed")).exempt("its parts are tried"),
        f("allowedNamespaces.from")
            .edits("value", vec![some("allowedNamespaces", json!({"from": "All"}))], guest("InSync"))
            .edits("default", vec![some("allowedNamespaces", json!({"from": "Same"}))], guest("NotAllowed"))
            .case("invalid", json!("All"), Effect::Admission(words(&["selector"])))
            .gone(Effect::Admission(words(&["selector"]))),
        f("allowedNamespaces.selector").gone(Effect::Admission(words(&["selector"]))).exempt("its parts are tried"),
        f("allowedNamespaces.selector.matchLabels")
            .edits(
                "value",
                vec![some("allowedNamespaces.selector.matchLabels", json!({"team": "b"}))],
                guest("NotAllowed"),
            )
            .edits("empty", vec![some("allowedNamespaces.selector.matchLabels", json!({}))], guest("InSync"))
            .gone(guest("InSync")),
        f("allowedNamespaces.selector.matchExpressions")
            .edits("empty", vec![some("allowedNamespaces.selector.matchExpressions", json!([]))], guest("InSync"))
            .gone(guest("InSync")),
        f("allowedNamespaces.selector.matchExpressions[].key")
            .edits(
                "value",
                expression(json!({"key": "nosuch", "operator": "In", "values": ["test"]})),
                guest("NotAllowed"),
            )
            .required(),
        f("allowedNamespaces.selector.matchExpressions[].operator")
            .edits(
                "value",
                expression(json!({"key": "stage", "operator": "NotIn", "values": ["test"]})),
                guest("NotAllowed"),
            )
            .edits("value", expression(json!({"key": "stage", "operator": "Exists"})), guest("InSync"))
            .edits("value", expression(json!({"key": "stage", "operator": "DoesNotExist"})), guest("NotAllowed"))
            .required(),
        f("allowedNamespaces.selector.matchExpressions[].values").edits(
            "empty",
            expression(json!({"key": "stage", "operator": "In", "values": []})),
            Effect::Admission(words(&["values"])),
        ),
        f("allowedNamespaces.selector.matchExpressions[].values[]").edits(
            "value",
            expression(json!({"key": "stage", "operator": "In", "values": ["prod"]})),
            guest("NotAllowed"),
        ),
        f("guards").gone(Effect::Same).exempt("its parts are tried"),
        f("guards.maxImmediateDropPercent")
            .edits("minimum", none_at_all, refused)
            .edits("maximum", all_of_it, granted)
            .edits("removal", quarter, waiting)
            .gone(Effect::Same),
        f("monitoringSchema").exempt("what it installs is no policy: tests/integration/e2e/monitoring.rs"),
        f("healthThresholds")
            .exempt("changes a word in status and nothing in the database: src/monitoring/table_health.rs"),
        f("healthThresholds.minCompressedPercent")
            .exempt("changes a word in status and nothing in the database: src/monitoring/table_health.rs"),
        f("healthThresholds.maxChunks")
            .exempt("changes a word in status and nothing in the database: src/monitoring/table_health.rs"),
        f("healthThresholds.maxChunksToDrop")
            .exempt("changes a word in status and nothing in the database: src/monitoring/table_health.rs"),
        f("deletionPolicy")
            .case(
                "value",
                json!("Orphan"),
                Effect::Probe(Probe::Others(vec![("delete CompressionPolicy/plain".into(), "stays")])),
            )
            .case(
                "default",
                json!("Delete"),
                Effect::Probe(Probe::Others(vec![("delete CompressionPolicy/plain".into(), "gone")])),
            )
            .gone(Effect::Same),
    ]
}

/// All properties with their generators.
pub fn fields() -> Vec<Field> {
    let mut all = Vec::new();
    all.extend(hypertable());
    all.extend(compression());
    all.extend(retention());
    all.extend(aggregate());
    all.extend(database());
    all
}

impl Field {
    /// Whether a valid value is tried.
    pub fn has_valid_value(&self) -> bool {
        self.cases.iter().any(|(_, _, effect, _)| !matches!(effect, Effect::Admission(_) | Effect::Refused(..)))
    }
}
