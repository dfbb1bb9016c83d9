//! Resources as people write them: the fields in the order of their documentation, without those that say what the CRD's
//! default says anyway.

use std::fmt;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{JSONSchemaProps, JSONSchemaPropsOrArray};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, SeqAccess, Visitor},
    ser::{SerializeMap, SerializeSeq},
};
use serde_saphyr::{FlowMap, FlowSeq, LitStr};

/// The widest line of a comment.
const WIDTH: usize = 120;

/// Any value, with the fields of objects in their order.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Tree {
    Null,
    Bool(bool),
    Integer(i64),
    Text(String),
    List(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

impl Tree {
    /// The value as it serializes.
    pub(super) fn of<T: Serialize>(value: &T) -> Result<Self, String> {
        let text = serde_json::to_string(value).map_err(|e| e.to_string())?;
        serde_json::from_str(&text).map_err(|e| e.to_string())
    }

    /// The value without nulls and without what the schema's defaults say.
    pub(super) fn without_defaults(self, schema: &JSONSchemaProps) -> Self {
        match self {
            Self::Object(fields) => {
                let kept = fields.into_iter().filter_map(|(name, value)| {
                    if value == Self::Null {
                        return None;
                    }
                    let Some(schema) = schema.properties.as_ref().and_then(|known| known.get(&name)) else {
                        return Some((name, value));
                    };
                    let default = schema.default.as_ref().and_then(|default| Self::of(&default.0).ok());
                    if default.is_some_and(|default| default.sorted() == value.clone().sorted()) {
                        return None;
                    }
                    Some((name, value.without_defaults(schema)))
                });
                Self::Object(kept.collect())
            }
            Self::List(items) => match &schema.items {
                Some(JSONSchemaPropsOrArray::Schema(schema)) => {
                    Self::List(items.into_iter().map(|item| item.without_defaults(schema)).collect())
                }
                _ => Self::List(items),
            },
            other => other,
        }
    }

    /// The same with the fields of objects in the order of their names.
    fn sorted(self) -> Self {
        match self {
            Self::Object(fields) => {
                let mut fields: Vec<_> = fields.into_iter().map(|(name, value)| (name, value.sorted())).collect();
                fields.sort_by(|(a, _), (b, _)| a.cmp(b));
                Self::Object(fields)
            }
            Self::List(items) => Self::List(items.into_iter().map(Self::sorted).collect()),
            other => other,
        }
    }

    /// The field of an object.
    pub(super) fn field_mut(&mut self, wanted: &str) -> Option<&mut Self> {
        match self {
            Self::Object(fields) => fields.iter_mut().find(|(name, _)| name == wanted).map(|(_, value)| value),
            _ => None,
        }
    }

    /// Takes the field out of an object.
    pub(super) fn remove(&mut self, unwanted: &str) {
        if let Self::Object(fields) = self {
            fields.retain(|(name, _)| name != unwanted);
        }
    }

    /// One line holds it well: no objects of objects, no text with line breaks.
    fn is_small(&self) -> bool {
        match self {
            Self::Object(fields) => fields.iter().all(|(_, value)| match value {
                Self::List(items) => items.iter().all(Self::is_scalar),
                other => other.is_scalar(),
            }),
            Self::List(items) => items.iter().all(Self::is_scalar),
            other => other.is_scalar(),
        }
    }

    fn is_scalar(&self) -> bool {
        match self {
            Self::Text(text) => !text.contains('\n'),
            Self::Null | Self::Bool(_) | Self::Integer(_) => true,
            Self::List(_) | Self::Object(_) => false,
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Tree;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value of a resource")
            }
            fn visit_unit<E>(self) -> Result<Tree, E> {
                Ok(Tree::Null)
            }
            fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
                Ok(Tree::Bool(value))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
                Ok(Tree::Integer(value))
            }
            fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Tree, E> {
                i64::try_from(value).map(Tree::Integer).map_err(E::custom)
            }
            fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
                Ok(Tree::Text(value.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Tree::List(list))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Tree, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = entries.next_entry()? {
                    fields.push(field);
                }
                Ok(Tree::Object(fields))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// A small object in a list stands on one line, as does a list of scalars; a text with line breaks stands as a block.
impl Serialize for Tree {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Integer(value) => serializer.serialize_i64(*value),
            Self::Text(text) if text.contains('\n') && stands_as_block(text) => LitStr(text).serialize(serializer),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(items) if items.iter().all(Self::is_scalar) => FlowSeq(items).serialize(serializer),
            Self::List(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    match item {
                        Self::Object(fields) if item.is_small() => list.serialize_element(&FlowMap(OneLine(fields)))?,
                        other => list.serialize_element(other)?,
                    }
                }
                list.end()
            }
            Self::Object(fields) => Fields(fields).serialize(serializer),
        }
    }
}

/// The fields of an object.
struct Fields<'a>(&'a [(String, Tree)]);

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// The fields of a small object. What says again within it that a list stands on one line is taken by the library for the
/// next list after it.
struct OneLine<'a>(&'a [(String, Tree)]);

impl Serialize for OneLine<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in self.0 {
            match value {
                Tree::List(items) => map.serialize_entry(name, items)?,
                other => map.serialize_entry(name, other)?,
            }
        }
        map.end()
    }
}

/// A block keeps neither control characters nor, by all readers, other line breaks than `\n`.
fn stands_as_block(text: &str) -> bool {
    let odd = |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}');
    let body = text.strip_suffix('\n').unwrap_or(text);
    !text.contains(odd) && !text.starts_with([' ', '\n']) && !body.ends_with(['\n', ' ']) && !text.contains(" \n")
}

/// The value as one YAML document, with a line break at its end.
pub(super) fn document(value: &Tree) -> Result<String, String> {
    let options = serde_saphyr::ser_options! {
        folded_wrap_chars: usize::MAX,
        prefer_block_scalars: false,
    };
    serde_saphyr::to_string_with_options(value, options).map_err(|e| e.to_string())
}

/// The text as lines of a comment. What would end a line of YAML, or be seen by nobody, is escaped.
pub(super) fn comment(text: &str) -> String {
    let mut lines = String::new();
    for paragraph in text.lines() {
        let safe: String = paragraph.chars().flat_map(visible).collect();
        let mut line = String::from("#");
        for word in safe.split(' ') {
            if line.len() > 1 && line.chars().count() + 1 + word.chars().count() > WIDTH {
                lines.push_str(line.trim_end());
                lines.push_str("\n#");
                line.clear();
            }
            line.push(' ');
            line.push_str(word);
        }
        lines.push_str(line.trim_end());
        lines.push('\n');
    }
    lines
}

fn visible(c: char) -> Vec<char> {
    if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') {
        c.escape_unicode().collect()
    } else {
        vec![c]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text() -> impl Strategy<Value = String> {
        prop_oneof!["[ -~]{0,12}", "\\PC{0,8}", "[a-z'\"\n :#-]{0,20}", any::<String>()]
    }

    fn tree() -> impl Strategy<Value = Tree> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Tree::Bool),
            any::<i64>().prop_map(Tree::Integer),
            text().prop_map(Tree::Text)
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            let fields = proptest::collection::btree_map("[a-z]{1,8}", inner.clone(), 0..4);
            prop_oneof![
                proptest::collection::vec(inner, 0..4).prop_map(Tree::List),
                fields.prop_map(|fields| Tree::Object(fields.into_iter().collect())),
            ]
        })
    }

    #[test]
    fn a_list_on_one_line_ends_with_it() {
        let object = |name: &str, value| Tree::Object(vec![(name.to_owned(), value)]);
        let text = Tree::List(vec![Tree::Text("a\n".to_owned())]);
        let small = Tree::List(vec![object("a", Tree::List(Vec::new()))]);
        let tree = Tree::Object(vec![("small".to_owned(), small), ("text".to_owned(), text)]);
        let written = document(&tree).unwrap();
        assert_eq!(serde_saphyr::from_str::<Tree>(&written).unwrap(), tree, "{written}");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(fields in proptest::collection::btree_map("[a-z]{1,8}", tree(), 1..5)) {
            let tree = Tree::Object(fields.into_iter().collect());
            let written = document(&tree).unwrap();
            let read: Tree = serde_saphyr::from_str(&written).map_err(|e| TestCaseError::fail(format!("{e}\n{written}")))?;
            prop_assert_eq!(&read, &tree, "{}", written);
        }

        #[test]
        fn a_comment_is_nothing_but_comment(text in text()) {
            for line in comment(&text).lines() {
                prop_assert!(line.starts_with('#') && !line.contains(char::is_control), "{line:?}");
            }
            let read: serde_json::Value = serde_saphyr::from_str(&format!("{}a: 1\n", comment(&text))).unwrap();
            prop_assert_eq!(read, serde_json::json!({"a": 1}));
        }
    }
}
