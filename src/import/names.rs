//! What resources are called, and which tables are meant.

use std::{collections::BTreeMap, fmt::Write as _, str::FromStr};

use sha2::{Digest, Sha256};

use crate::{api::types::Relation, resources};

/// Bytes of the digest that tells names apart that look alike to Kubernetes.
const SHORT_DIGEST: usize = 4;

/// What a name in the database becomes.
struct Conform {
    name: String,
    /// Nothing was lost: no other name becomes the same.
    whole: bool,
}

/// `metric_hist` becomes `metric-hist`. Whatever else Kubernetes does not take is lost: capitals, other characters, dashes
/// at the ends; a dash too, because an underscore becomes one.
fn conform(text: &str) -> Conform {
    let name = resources::conform(text);
    let plain = text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    Conform { whole: plain && name.len() == text.len(), name }
}

fn digest(relation: &Relation, bytes: usize) -> String {
    // No name holds a NUL.
    let whole = Sha256::digest(format!("{}\0{}", relation.schema, relation.name));
    whole.iter().take(bytes).fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A name as Kubernetes takes it (DNS-1123), for one without a meaning of its own.
pub(super) fn plain(text: &str) -> String {
    let name = conform(text).name;
    if name.is_empty() { "timescaledb".to_owned() } else { name }
}

/// The names of the resources about these relations: valid (a DNS-1123 subdomain), different, and each dependent on its own
/// relation alone, so that another table renames nothing. The schema is part of it, before a dot that no other part can
/// hold, unless it is `public` or `alone`: the only one that is imported. What cannot be kept is told apart by a digest.
pub(super) fn names<'a>(
    relations: impl IntoIterator<Item = &'a Relation>,
    alone: Option<&str>,
) -> BTreeMap<&'a Relation, String> {
    let mut names = BTreeMap::new();
    let mut taken: BTreeMap<String, &Relation> = BTreeMap::new();
    let mut lossy = Vec::new();
    for relation in relations {
        let schema = relation.schema.as_str();
        let schema = (schema != "public" && alone != Some(schema)).then(|| conform(schema));
        let table = conform(relation.name.as_str());
        let parts: Vec<_> = schema.iter().chain([&table]).collect();
        if parts.iter().all(|part| part.whole) {
            let name = parts.iter().map(|part| part.name.as_str()).collect::<Vec<_>>().join(".");
            taken.insert(name.clone(), relation);
            names.insert(relation, name);
        } else {
            let kept = parts.iter().map(|part| part.name.as_str()).filter(|name| !name.is_empty());
            lossy.push((relation, kept.collect::<Vec<_>>().join(".")));
        }
    }
    for (relation, kept) in lossy {
        let with = |bytes| {
            let digest = digest(relation, bytes);
            if kept.is_empty() { format!("x-{digest}") } else { format!("{kept}-{digest}") }
        };
        let mut name = with(SHORT_DIGEST);
        if taken.contains_key(&name) {
            name = with(32);
        }
        taken.insert(name.clone(), relation);
        names.insert(relation, name);
    }
    names
}

/// Whether Kubernetes' rules have changed more of the name than its underscores.
pub(super) fn is_telling(relation: &Relation) -> bool {
    conform(relation.name.as_str()).whole && conform(relation.schema.as_str()).whole
}

/// A pattern of names, as a shell has it: `*` is any text, `?` any one character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Vec<char>);

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err("it is empty; write for example metric_*".to_owned());
        }
        Ok(Self(text.chars().collect()))
    }
}

impl Pattern {
    /// Whether all of the name is as the pattern says.
    pub fn matches(&self, name: &str) -> bool {
        let name: Vec<char> = name.chars().collect();
        // The set of places in the pattern that the name so far leads to.
        let mut at = self.skip_stars(vec![true]);
        for c in name {
            let mut next = vec![false; self.0.len() + 1];
            for (place, _) in at.iter().enumerate().filter(|(_, here)| **here) {
                match self.0.get(place) {
                    Some('*') => next[place] = true,
                    Some('?') => next[place + 1] = true,
                    Some(wanted) if *wanted == c => next[place + 1] = true,
                    _ => {}
                }
            }
            at = self.skip_stars(next);
        }
        at[self.0.len()]
    }

    /// A star may also be no text at all.
    fn skip_stars(&self, mut at: Vec<bool>) -> Vec<bool> {
        at.resize(self.0.len() + 1, false);
        for (place, c) in self.0.iter().enumerate() {
            if at[place] && *c == '*' {
                at[place + 1] = true;
            }
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api::types::SqlName;

    fn relation(schema: &str, name: &str) -> Relation {
        Relation { schema: schema.parse().unwrap(), name: name.parse().unwrap() }
    }

    fn name_of(schema: &str, name: &str, alone: Option<&str>) -> String {
        let relation = relation(schema, name);
        names([&relation], alone).remove(&relation).unwrap()
    }

    #[test]
    fn plain_names_keep_their_words() {
        assert_eq!(name_of("public", "metric_hist", None), "metric-hist");
        assert_eq!(name_of("factory_telemetry", "metric_hist", None), "factory-telemetry.metric-hist");
        assert_eq!(name_of("factory_telemetry", "metric_hist", Some("factory_telemetry")), "metric-hist");
    }

    #[test]
    fn what_cannot_be_kept_is_told_apart() {
        let odd = ["Readings", "readings-", "größe", "a-b", "_t", "測定", "a.b", "say \"x\"", "-"];
        let relations: Vec<_> = odd.iter().chain(&["readings", "a_b", "t"]).map(|n| relation("public", n)).collect();
        let names = names(&relations, None);
        let different: std::collections::BTreeSet<_> = names.values().collect();
        assert_eq!(different.len(), relations.len(), "{names:?}");
        assert!(names[&relations[0]].starts_with("readings-"), "{names:?}");
    }

    #[test]
    fn patterns_are_those_of_a_shell() {
        let matches = |pattern: &str, name: &str| pattern.parse::<Pattern>().unwrap().matches(name);
        assert!(matches("metric_*", "metric_hist") && !matches("metric_*", "my_metric_hist"));
        assert!(matches("*", "") && matches("**a*", "a") && matches("a*b*c", "aXbYbZc") && !matches("a*b", "abc"));
        assert!(matches("größ?", "größe") && !matches("größ?", "größ"));
        assert!("".parse::<Pattern>().is_err());
    }

    fn some_relation() -> impl Strategy<Value = Relation> {
        let part = || "[a-bA_.-]{1,3}|[^\0]{1,12}".prop_filter_map("no name", |text| text.parse::<SqlName>().ok());
        let schema = prop_oneof![Just("public".parse().unwrap()), part()];
        (schema, part()).prop_map(|(schema, name)| Relation { schema, name })
    }

    proptest! {
        #[test]
        fn names_are_valid_and_different_and_do_not_depend_on_each_other(relations in proptest::collection::btree_set(some_relation(), 1..40)) {
            let all = names(&relations, None);
            let mut seen = std::collections::BTreeSet::new();
            for (relation, name) in &all {
                let label = |l: &str| !l.is_empty() && !l.starts_with('-') && !l.ends_with('-') && l.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
                prop_assert!(name.len() <= 253 && name.split('.').all(label), "{name}");
                prop_assert!(seen.insert(name), "{name} is there twice");
                prop_assert_eq!(name, &names([*relation], None)[relation]);
            }
        }

        #[test]
        fn a_pattern_without_wildcards_is_a_name(text in "[^*?]{1,10}", other in "[^*?]{1,10}") {
            let pattern: Pattern = text.parse().unwrap();
            prop_assert!(pattern.matches(&text));
            prop_assert_eq!(pattern.matches(&other), text == other);
        }

        #[test]
        fn a_star_is_any_text(before in "[^*?]{0,5}", middle in ".{0,10}", after in "[^*?]{0,5}") {
            let pattern: Pattern = format!("{before}*{after}").parse().unwrap();
            let whole = format!("{before}{middle}{after}");
            prop_assert!(pattern.matches(&whole));
        }
    }
}
