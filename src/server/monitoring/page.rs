//! Lists in parts: `limit` and `continue`, as the Kubernetes API has them.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

/// Items of one answer where the caller says nothing.
pub const DEFAULT_LIMIT: usize = 100;
/// Items of one answer at most.
pub const MAX_LIMIT: usize = 500;

/// A place in a list: after this item. It names an item and no position, so what comes and goes between two answers moves
/// nothing: whatever is there all the time is listed exactly once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// Namespace of the database.
    pub namespace: String,
    /// Name of the database.
    pub database: String,
    /// The item within the database.
    pub item: Vec<String>,
}

impl Place {
    /// The text that a caller sends back.
    pub fn token(&self) -> String {
        // A struct of strings always has a JSON text.
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    /// The place that a text means, if this made it.
    pub fn of_token(token: &str) -> Option<Self> {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token).ok()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_survives_the_way_to_the_caller_and_back() {
        let place = Place {
            namespace: "plant".to_owned(),
            database: "a".to_owned(),
            item: vec!["Schema \"x\"".to_owned(), "täble&limit=1".to_owned()],
        };
        assert_eq!(Place::of_token(&place.token()), Some(place.clone()));
        assert!(place.token().chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)), "it needs no escaping");
        for bad in ["", "x", "bm90IGpzb24", "e30"] {
            assert_eq!(Place::of_token(bad), None, "{bad}");
        }
    }
}
