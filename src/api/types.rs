//! The values that specs are made of: intervals, identifiers, references.
//!
//! The `…Text` and plain `String` forms are what the API server stores; they never fail to deserialize, so one bad
//! object cannot stop the watch of its kind. [`crate::desired`] parses them once into [`Interval`] and [`SqlName`].

use std::{
    cmp::Ordering,
    collections::BTreeMap,
    fmt::{self, Write as _},
    str::FromStr,
};

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const MICROS_PER_SECOND: i128 = 1_000_000;
const MICROS_PER_DAY: i128 = 86_400 * MICROS_PER_SECOND;
const DAYS_PER_MONTH: i128 = 30;

/// A PostgreSQL interval: months, days and microseconds, kept apart as PostgreSQL keeps them.
///
/// Equality and order are PostgreSQL's `interval` operators: a month counts 30 days and a day 24 hours. TimescaleDB
/// compares with the same operators before it stores a change, so a difference they do not see can never be made.
#[derive(Clone, Copy, Debug)]
pub struct Interval {
    months: i32,
    days: i32,
    micros: i64,
}

impl Interval {
    /// An interval of microseconds. Whole days of them read better as days.
    pub const fn from_micros(micros: i64) -> Self {
        const PER_DAY: i64 = 86_400_000_000;
        #[allow(clippy::cast_possible_truncation, reason = "i64::MAX microseconds are 107 million days")]
        let days = (micros / PER_DAY) as i32;
        Self { months: 0, days, micros: micros % PER_DAY }
    }

    /// An interval of whole days.
    pub const fn from_days(days: i32) -> Self {
        Self { months: 0, days, micros: 0 }
    }

    /// An interval of whole seconds.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self { months: 0, days: 0, micros: seconds * 1_000_000 }
    }

    /// The length in microseconds as PostgreSQL's comparison counts it.
    pub fn total_micros(self) -> i128 {
        (i128::from(self.months) * DAYS_PER_MONTH + i128::from(self.days)) * MICROS_PER_DAY + i128::from(self.micros)
    }

    /// Longer than nothing.
    pub fn is_positive(self) -> bool {
        self.total_micros() > 0
    }

    /// The length as a [`std::time::Duration`]; zero when negative.
    pub fn to_duration(self) -> std::time::Duration {
        std::time::Duration::from_micros(u64::try_from(self.total_micros().max(0)).unwrap_or(u64::MAX))
    }

    /// The sum, in microseconds; months and days are counted as PostgreSQL's comparison counts them.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let sum = self.total_micros() + other.total_micros();
        Self::from_micros(i64::try_from(sum).unwrap_or(i64::MAX))
    }

    /// The difference, counted likewise; nothing where the other is as long.
    #[must_use]
    pub fn less(self, other: Self) -> Self {
        let difference = (self.total_micros() - other.total_micros()).max(0);
        Self::from_micros(i64::try_from(difference).unwrap_or(i64::MAX))
    }

    /// The interval `times` times over, counted in microseconds.
    #[must_use]
    pub fn times(self, times: i32) -> Self {
        let product = self.total_micros().saturating_mul(i128::from(times));
        Self::from_micros(i64::try_from(product).unwrap_or(i64::MAX))
    }
}

impl PartialEq for Interval {
    fn eq(&self, other: &Self) -> bool {
        self.total_micros() == other.total_micros()
    }
}

impl Eq for Interval {}

impl PartialOrd for Interval {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Interval {
    fn cmp(&self, other: &Self) -> Ordering {
        self.total_micros().cmp(&other.total_micros())
    }
}

/// Printed in PostgreSQL's words, longest unit first: `1 year 2 months 3 days 4 hours 5 minutes 6.5 seconds`.
/// PostgreSQL and [`Interval::from_str`] both read it back as the same interval.
impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        let mut push = |count: i64, unit: &str| {
            if count != 0 {
                parts.push(format!("{count} {unit}{}", if count.abs() == 1 { "" } else { "s" }));
            }
        };
        // Hours are not made days: in a schedule with a time zone the two differ when the clocks change.
        let (days, micros) = (i64::from(self.days), self.micros);
        push(i64::from(self.months / 12), "year");
        push(i64::from(self.months % 12), "month");
        push(days, "day");
        push(micros / 3_600_000_000, "hour");
        push(micros / 60_000_000 % 60, "minute");
        let seconds = micros % 60_000_000;
        if seconds % 1_000_000 == 0 {
            push(seconds / 1_000_000, "second");
        } else {
            let sign = if seconds < 0 { "-" } else { "" };
            let text = format!("{sign}{}.{:06}", (seconds / 1_000_000).abs(), (seconds % 1_000_000).abs());
            parts.push(format!("{} seconds", text.trim_end_matches('0')));
        }
        if parts.is_empty() {
            return f.write_str("0 seconds");
        }
        f.write_str(&parts.join(" "))
    }
}

/// Why a text is not an interval.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IntervalError {
    /// Nothing, or nothing but white space.
    #[error("it is empty; write for example \"7 days\"")]
    Empty,
    /// A number without a unit, which PostgreSQL would silently read as seconds.
    #[error("\"{0}\" has no unit; write for example \"{0} days\"")]
    NoUnit(String),
    /// A word that is no unit.
    #[error("\"{0}\" is not a unit of time; use years, months, weeks, days, hours, minutes or seconds")]
    UnknownUnit(String),
    /// Anything else that does not read as an interval.
    #[error(
        "\"{0}\" does not read as an interval; write for example \"7 days\", \"1 hour 30 minutes\", \"168:00:00\" or \"P7D\""
    )]
    Malformed(String),
    /// Larger than PostgreSQL can hold.
    #[error("\"{0}\" is too large for an interval")]
    TooLarge(String),
}

#[derive(Default)]
struct Sum {
    months: i128,
    days: i128,
    micros: i128,
}

/// What one unit counts, in the field of [`Interval`] it belongs to.
enum Unit {
    Micros(i128),
    Days(i128),
    Months(i128),
}

impl Sum {
    fn add(&mut self, number: &str, unit: &Unit) -> Option<()> {
        let (whole, fraction) = split_decimal(number)?;
        match *unit {
            Unit::Micros(per) => self.micros += whole * per + fraction.scaled(per),
            Unit::Days(per) => {
                self.days += whole * per;
                self.micros += fraction.scaled(per * MICROS_PER_DAY);
            }
            Unit::Months(per) => {
                self.months += whole * per + fraction.whole(per)?;
            }
        }
        Some(())
    }

    fn finish(self, text: &str) -> Result<Interval, IntervalError> {
        let too_large = |_| IntervalError::TooLarge(text.to_owned());
        Ok(Interval {
            months: i32::try_from(self.months).map_err(too_large)?,
            days: i32::try_from(self.days).map_err(too_large)?,
            micros: i64::try_from(self.micros).map_err(too_large)?,
        })
    }
}

/// The digits behind a decimal point, with the sign of the number they belong to.
struct Fraction {
    numerator: i128,
    denominator: i128,
}

impl Fraction {
    fn scaled(&self, by: i128) -> i128 {
        self.numerator * by / self.denominator
    }

    /// The scaled fraction when it comes out even.
    fn whole(&self, by: i128) -> Option<i128> {
        (self.numerator * by % self.denominator == 0).then(|| self.scaled(by))
    }
}

fn split_decimal(number: &str) -> Option<(i128, Fraction)> {
    let (sign, digits) = match number.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    // Longer numbers cannot fit an interval, and must not overflow the arithmetic either.
    if whole.len() > 18 || fraction.len() > 12 {
        return None;
    }
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let numerator: i128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let denominator = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    Some((sign * whole, Fraction { numerator: sign * numerator, denominator }))
}

/// PostgreSQL's unit words and abbreviations (`src/backend/utils/adt/datetime.c`, `deltatktbl`), the ones below a decade.
fn unit(word: &str) -> Option<Unit> {
    Some(match word.to_ascii_lowercase().as_str() {
        "us" | "usec" | "usecs" | "usecond" | "useconds" | "microsecond" | "microseconds" => Unit::Micros(1),
        "ms" | "msec" | "msecs" | "msecond" | "mseconds" | "millisecond" | "milliseconds" => Unit::Micros(1_000),
        "s" | "sec" | "secs" | "second" | "seconds" => Unit::Micros(MICROS_PER_SECOND),
        "m" | "min" | "mins" | "minute" | "minutes" => Unit::Micros(60 * MICROS_PER_SECOND),
        "h" | "hr" | "hrs" | "hour" | "hours" => Unit::Micros(3_600 * MICROS_PER_SECOND),
        "d" | "day" | "days" => Unit::Days(1),
        "w" | "week" | "weeks" => Unit::Days(7),
        "mon" | "mons" | "month" | "months" => Unit::Months(1),
        "y" | "yr" | "yrs" | "year" | "years" => Unit::Months(12),
        _ => return None,
    })
}

/// Reads PostgreSQL's words (`7 days`, `1 hour 30 minutes`, `1 day 02:30:00`, `168:00:00`) and ISO 8601 (`P7D`, `PT1H30M`).
/// A number without a unit is refused, because PostgreSQL would read it as seconds.
impl FromStr for Interval {
    type Err = IntervalError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let body = text.trim().trim_start_matches('@').trim();
        if body.is_empty() {
            return Err(IntervalError::Empty);
        }
        if body.len() > 200 {
            return Err(IntervalError::Malformed(format!("{}…", body.chars().take(40).collect::<String>())));
        }
        if body.starts_with(['P', 'p']) { parse_iso(body) } else { parse_words(body) }
    }
}

fn parse_iso(text: &str) -> Result<Interval, IntervalError> {
    let malformed = || IntervalError::Malformed(text.to_owned());
    let mut sum = Sum::default();
    let (mut in_time, mut parts, mut number) = (false, 0, String::new());
    for c in text.chars().skip(1) {
        match c.to_ascii_uppercase() {
            'T' if !in_time && number.is_empty() => in_time = true,
            '0'..='9' | '.' | '-' | '+' => number.push(c),
            designator => {
                let word = match (designator, in_time) {
                    ('Y', false) => "year",
                    ('M', false) => "month",
                    ('W', false) => "week",
                    ('D', false) => "day",
                    ('H', true) => "hour",
                    ('M', true) => "minute",
                    ('S', true) => "second",
                    _ => return Err(malformed()),
                };
                unit(word).and_then(|unit| sum.add(&number, &unit)).ok_or_else(malformed)?;
                number.clear();
                parts += 1;
            }
        }
    }
    if parts == 0 || !number.is_empty() {
        return Err(malformed());
    }
    sum.finish(text)
}

fn parse_words(text: &str) -> Result<Interval, IntervalError> {
    let malformed = || IntervalError::Malformed(text.to_owned());
    let mut sum = Sum::default();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !(c.is_ascii_digit() || "+-.:".contains(c))).unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        if number.is_empty() {
            return Err(malformed());
        }
        if number.contains(':') {
            add_clock(&mut sum, number).ok_or_else(malformed)?;
            rest = after.trim_start();
            continue;
        }
        let after = after.trim_start();
        let end = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        let (word, after) = after.split_at(end);
        if word.is_empty() {
            return Err(IntervalError::NoUnit(number.to_owned()));
        }
        let unit = unit(word).ok_or_else(|| IntervalError::UnknownUnit(word.to_owned()))?;
        sum.add(number, &unit).ok_or_else(malformed)?;
        rest = after.trim_start_matches([',', ' ', '\t']);
    }
    sum.finish(text)
}

/// `hh:mm` or `hh:mm:ss[.ffffff]`, as PostgreSQL prints the time part of an interval.
fn add_clock(sum: &mut Sum, text: &str) -> Option<()> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let mut parts = digits.split(':');
    let (hours, minutes) = (parts.next()?, parts.next()?);
    let seconds = parts.next().unwrap_or("0");
    let below_sixty = |s: &str| s.split('.').next().and_then(|w| w.parse::<u32>().ok()).is_some_and(|v| v < 60);
    if parts.next().is_some() || hours.contains('.') || minutes.contains('.') {
        return None;
    }
    if !below_sixty(minutes) || !below_sixty(seconds) {
        return None;
    }
    sum.add(&format!("{sign}{hours}"), &Unit::Micros(3_600 * MICROS_PER_SECOND))?;
    sum.add(&format!("{sign}{minutes}"), &Unit::Micros(60 * MICROS_PER_SECOND))?;
    sum.add(&format!("{sign}{seconds}"), &Unit::Micros(MICROS_PER_SECOND))
}

impl Serialize for Interval {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Interval {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What an interval looks like, as far as a regular expression can say.
const INTERVAL_PATTERN: &str = r"^([Pp][0-9YyMmWwDdTtHhSs.]+|[0-9][0-9. ]*[:A-Za-z][ A-Za-z0-9.:,]*)$";

/// An interval as written in a resource, not parsed yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub struct IntervalText(
    /// PostgreSQL's words (`7 days`, `1 hour 30 minutes`) or ISO 8601 (`P7D`).
    #[schemars(
        length(min = 2, max = 100),
        regex(pattern = INTERVAL_PATTERN)
    )]
    pub String,
);

impl From<&str> for IntervalText {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// A length of time, or a number of units of an integer time column: what a chunk spans, how old rows get, how far a
/// refresh reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Span {
    /// Of a `smallint`, `integer` or `bigint` column, in its own units.
    Integer(i64),
    /// Of a `timestamptz`, `timestamp` or `date` column.
    Time(Interval),
}

impl Span {
    /// The interval, where it is one.
    pub const fn time(self) -> Option<Interval> {
        match self {
            Self::Time(interval) => Some(interval),
            Self::Integer(_) => None,
        }
    }

    /// Longer than nothing.
    pub fn is_positive(self) -> bool {
        match self {
            Self::Time(interval) => interval.is_positive(),
            Self::Integer(units) => units > 0,
        }
    }

    /// The sum. Spans of two measures have none: then the first stands.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        match (self, other) {
            (Self::Time(a), Self::Time(b)) => Self::Time(a.plus(b)),
            (Self::Integer(a), Self::Integer(b)) => Self::Integer(a.saturating_add(b)),
            _ => self,
        }
    }

    /// The span `times` times over.
    #[must_use]
    pub fn times(self, times: i32) -> Self {
        match self {
            Self::Time(interval) => Self::Time(interval.times(times)),
            Self::Integer(units) => Self::Integer(units.saturating_mul(i64::from(times))),
        }
    }

    /// Nothing, in the same measure.
    #[must_use]
    pub const fn zero(self) -> Self {
        match self {
            Self::Time(_) => Self::Time(Interval::from_seconds(0)),
            Self::Integer(_) => Self::Integer(0),
        }
    }
}

/// Spans of two measures cannot be compared.
impl PartialOrd for Span {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Time(a), Self::Time(b)) => a.partial_cmp(b),
            (Self::Integer(a), Self::Integer(b)) => a.partial_cmp(b),
            _ => None,
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(interval) => interval.fmt(f),
            Self::Integer(units) => units.fmt(f),
        }
    }
}

impl From<Interval> for Span {
    fn from(interval: Interval) -> Self {
        Self::Time(interval)
    }
}

/// A span as written in a resource, not parsed yet: a text is an interval, a number counts units of an integer column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SpanText {
    /// Units of an integer time column.
    Integer(i64),
    /// PostgreSQL's words (`7 days`, `1 hour 30 minutes`) or ISO 8601 (`P7D`).
    Interval(String),
}

impl JsonSchema for SpanText {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SpanText".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "x-kubernetes-int-or-string": true,
            "minLength": 2,
            "maxLength": 100,
            "minimum": 0,
            // What an i64 holds, less what the API server's float64 rounds away.
            "maximum": 9_000_000_000_000_000_000_i64,
            "pattern": INTERVAL_PATTERN,
        })
    }
}

impl From<&str> for SpanText {
    fn from(text: &str) -> Self {
        Self::Interval(text.to_owned())
    }
}

impl fmt::Display for SpanText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(units) => units.fmt(f),
            Self::Interval(text) => text.fmt(f),
        }
    }
}

/// The largest identifier PostgreSQL keeps whole, in bytes (`NAMEDATALEN` - 1).
pub const MAX_NAME_BYTES: usize = 63;

/// One SQL identifier as PostgreSQL stores it: unquoted, case kept, 1 to 63 bytes, no NUL.
///
/// It is quoted wherever it becomes SQL text ([`crate::sql`]); nothing else in the crate writes it into a statement.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct SqlName(String);

/// Why a text is not an identifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SqlNameError {
    /// The empty string.
    #[error("an identifier must not be empty")]
    Empty,
    /// PostgreSQL would cut it off silently.
    #[error("the identifier \"{0}\" has {1} bytes, PostgreSQL keeps 63; shorten it")]
    TooLong(String, usize),
    /// NUL cannot be sent to PostgreSQL.
    #[error("an identifier must not hold a NUL character")]
    Nul,
}

impl SqlName {
    /// A name of ASCII letters, digits and underscores for an object that only this operator makes.
    pub fn generated(prefix: &str, digest: &[u8]) -> Self {
        let mut name = prefix.to_owned();
        for byte in digest.iter().take(8) {
            // Writing to a String cannot fail.
            let _ = write!(name, "{byte:02x}");
        }
        Self(name)
    }

    /// The identifier, not quoted.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SqlName {
    type Err = SqlNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "" => Err(SqlNameError::Empty),
            t if t.contains('\0') => Err(SqlNameError::Nul),
            t if t.len() > MAX_NAME_BYTES => Err(SqlNameError::TooLong(t.to_owned(), t.len())),
            t => Ok(Self(t.to_owned())),
        }
    }
}

impl fmt::Display for SqlName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for SqlName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A schema-qualified relation: a table, a hypertable or a continuous aggregate's view.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Relation {
    /// The schema.
    pub schema: SqlName,
    /// The name within the schema.
    pub name: SqlName,
}

/// For messages to people: `schema.name`, each part quoted only where a reader could not tell the parts apart.
impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |name: &SqlName| {
            let plain = name.0.chars().all(|c| c == '_' || c.is_ascii_lowercase() || c.is_ascii_digit());
            if plain { name.0.clone() } else { format!("\"{}\"", name.0.replace('"', "\"\"")) }
        };
        write!(f, "{}.{}", part(&self.schema), part(&self.name))
    }
}

/// Serialized as two strings, so that it can be the key of a map in a scenario file: `schema.name`, quoted as displayed.
impl Serialize for Relation {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for Relation {
    type Err = String;

    /// Reads what [`Relation`] displays.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = vec![String::new()];
        let mut chars = text.chars().peekable();
        let mut quoted = false;
        while let Some(c) = chars.next() {
            let part = parts.last_mut().ok_or("no part")?;
            match c {
                '"' if quoted && chars.peek() == Some(&'"') => {
                    chars.next();
                    part.push('"');
                }
                '"' => quoted = !quoted,
                '.' if !quoted => parts.push(String::new()),
                c => part.push(c),
            }
        }
        let [schema, name] = parts.as_slice() else {
            return Err(format!("\"{text}\" is not schema.name"));
        };
        let parse = |s: &String| s.parse().map_err(|e: SqlNameError| e.to_string());
        Ok(Self { schema: parse(schema)?, name: parse(name)? })
    }
}

impl<'de> Deserialize<'de> for Relation {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Names the `TimescaleDatabase` that a resource lives in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseRef {
    /// Name of the `TimescaleDatabase`.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its namespace, where that is another: its `allowedNamespaces` must let this one in. Left out: the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
}

/// The kinds a policy can be attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum TargetKind {
    /// A `Hypertable` resource.
    Hypertable,
    /// A `ContinuousAggregate` resource.
    ContinuousAggregate,
}

impl TargetKind {
    /// The `kind` of the resource.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hypertable => "Hypertable",
            Self::ContinuousAggregate => "ContinuousAggregate",
        }
    }
}

/// Names the resource that a policy is for, in the same namespace (the Gateway API's policy attachment).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetRef {
    /// Kind of the target.
    pub kind: TargetKind,
    /// Name of the target resource (not of the table).
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Selects the resources that a policy is for by their labels, in the same namespace: one policy for many tables.
///
/// A policy that names a target by `targetRef` goes before one that selects it; of two that select it the older goes
/// first, and the younger says `Conflicted`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetSelector {
    /// Kind of the targets.
    pub kind: TargetKind,
    /// Labels that a target must have, with these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
    /// Conditions on the labels, all of which must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub match_expressions: Vec<LabelRequirement>,
}

impl TargetSelector {
    /// Whether an object with these labels is selected.
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        selects(&self.match_labels, &self.match_expressions, labels)
    }
}

/// Whether an object with these labels meets all conditions (Kubernetes' `metav1.LabelSelector`).
pub fn selects(
    match_labels: &BTreeMap<String, String>,
    match_expressions: &[LabelRequirement],
    labels: &BTreeMap<String, String>,
) -> bool {
    match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
        && match_expressions.iter().all(|requirement| requirement.holds(labels))
}

/// One condition on a label (Kubernetes' `metav1.LabelSelectorRequirement`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("(has(self.values) && self.values.size() > 0) == (self.operator in ['In', 'NotIn'])").message("values are needed with In and NotIn, and only then").field_path(".values"))]
#[serde(rename_all = "camelCase")]
pub struct LabelRequirement {
    /// Key of the label.
    #[schemars(length(min = 1, max = 316))]
    pub key: String,
    /// How the label's value relates to `values`.
    pub operator: LabelOperator,
    /// The values, for `In` and `NotIn`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 63)))]
    pub values: Vec<String>,
}

/// How a label's value relates to the values of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LabelOperator {
    /// The label is there and has one of the values.
    In,
    /// The label is not there, or has none of the values.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is not there.
    DoesNotExist,
}

impl LabelRequirement {
    fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            LabelOperator::In => value.is_some_and(|value| self.values.contains(value)),
            LabelOperator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
            LabelOperator::Exists => value.is_some(),
            LabelOperator::DoesNotExist => value.is_none(),
        }
    }
}

/// Direction of a column in an index or in `orderBy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Order {
    /// Ascending, PostgreSQL's default.
    #[default]
    Asc,
    /// Descending.
    Desc,
}

/// Where NULLs sort.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Nulls {
    /// Before all values: PostgreSQL's default for descending columns.
    First,
    /// After all values: PostgreSQL's default for ascending columns.
    Last,
}

/// What becomes of a policy in the database when its resource is deleted. Rows are never touched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PolicyDeletion {
    /// Remove the policy from the database.
    #[default]
    Delete,
    /// Leave the policy in the database, no longer managed.
    Retain,
}

/// When and how TimescaleDB's scheduler runs a policy's job. What is left out is not managed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Schedule {
    /// Time between runs (`schedule_interval`). Left out: TimescaleDB chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<IntervalText>,
    /// First run, RFC 3339. Given: runs are aligned to it (`fixed_schedule`); left out: the next run starts one interval after the last one ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub initial_start: Option<String>,
    /// Time zone for the alignment of fixed schedules across daylight saving, for example `Europe/Berlin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub timezone: Option<String>,
    /// A run that takes longer is stopped (`max_runtime`); `0 seconds` means no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_runtime: Option<IntervalText>,
    /// Retries of a failed run (`max_retries`); -1 means without end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1, max = 1_000_000))]
    pub max_retries: Option<i32>,
    /// Time between retries (`retry_period`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_period: Option<IntervalText>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Interval {
        text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn intervals_are_read_in_every_spelling_of_a_week() {
        for text in [
            "7 days",
            "7d",
            "1 week",
            "168 hours",
            "168:00:00",
            "P7D",
            "p7d",
            "PT168H",
            "@ 7 days",
            "7 days 00:00",
            " 7  days ",
        ] {
            assert_eq!(parse(text), Interval::from_days(7), "{text}");
        }
    }

    #[test]
    fn what_postgres_prints_is_read_back() {
        assert_eq!(parse("1 mon 7 days 03:30:00"), parse("P1M7DT3H30M"));
        assert_eq!(parse("1 year 2 mons"), parse("14 months"));
        assert_eq!(parse("2400:00:00"), parse("100 days"));
        assert_eq!(parse("-00:00:01.5"), parse("-1.5 seconds"));
        assert_eq!(parse("1 day -01:00:00"), parse("23 hours"));
    }

    #[test]
    fn a_month_counts_thirty_days_as_in_postgres() {
        assert_eq!(parse("1 month"), parse("30 days"));
        assert!(parse("1 year") < parse("365 days"));
    }

    #[test]
    fn fractions_spill_into_smaller_units() {
        assert_eq!(parse("1.5 days"), parse("36 hours"));
        assert_eq!(parse("0.5 years"), parse("6 months"));
        assert_eq!(parse("1.5 hours"), parse("90 minutes"));
    }

    #[test]
    fn bad_intervals_say_what_is_wrong() {
        let error = |t: &str| t.parse::<Interval>().expect_err(t);
        assert_eq!(error("  "), IntervalError::Empty);
        assert_eq!(error("7"), IntervalError::NoUnit("7".into()));
        assert_eq!(error("7 dayz"), IntervalError::UnknownUnit("dayz".into()));
        assert_eq!(error("1.5 months"), IntervalError::Malformed("1.5 months".into()));
        for text in ["days", "P", "PT", "P7", "P7X", "PTT1H", "1:2:3:4", "1:75", "7 days ago", "--1 day", "1..5 h"] {
            error(text);
        }
        assert_eq!(error("99999999999999 days"), IntervalError::TooLarge("99999999999999 days".into()));
        error("99999999999999999999999999999999999999999999999999 days");
    }

    #[test]
    fn relations_are_read_back_from_what_is_displayed() {
        for (schema, name) in [("public", "t"), ("a.b", "c\"d"), ("Ümlaut", "Weird Name"), ("\"", ".")] {
            let relation = Relation { schema: schema.parse().unwrap(), name: name.parse().unwrap() };
            assert_eq!(relation.to_string().parse::<Relation>().unwrap(), relation);
        }
    }

    #[test]
    fn names_are_counted_in_bytes() {
        assert!("x".repeat(63).parse::<SqlName>().is_ok());
        assert!("x".repeat(64).parse::<SqlName>().is_err());
        assert!("é".repeat(32).parse::<SqlName>().is_err());
        assert_eq!("a\0b".parse::<SqlName>(), Err(SqlNameError::Nul));
        assert_eq!("".parse::<SqlName>(), Err(SqlNameError::Empty));
    }

    proptest! {
        #[test]
        fn what_is_displayed_is_read_back(months in -1200..1200i32, days in -10_000..10_000i32, micros in -10_000_000_000_000..10_000_000_000_000i64) {
            let interval = Interval { months, days, micros };
            prop_assert_eq!(parse(&interval.to_string()), interval);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,40}") {
            let _ = text.parse::<Interval>();
            let _ = text.parse::<Relation>();
        }

        #[test]
        fn no_text_of_interval_letters_makes_the_parser_panic(text in "[-+0-9.:PTYMWDHSdaysmonths ]{0,60}") {
            let _ = text.parse::<Interval>();
        }
    }
}
