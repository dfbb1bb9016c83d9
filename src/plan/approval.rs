//! What an approval is for: exactly one plan.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use crate::desired::PlanDigest;

/// The digest of these texts, in this order: the statements of a plan and the facts that it was decided on. Another
/// statement or another fact is another plan, and an approval of this one is stale.
pub(super) fn digest<'a>(texts: impl IntoIterator<Item = &'a str>) -> PlanDigest {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update(text.as_bytes());
        hash.update([0]);
    }
    let mut digest = String::new();
    for byte in hash.finalize().iter().take(6) {
        // Writing to a String cannot fail.
        let _ = write!(digest, "{byte:02x}");
    }
    PlanDigest(digest)
}

/// An approval that was given and is not for the plan of this digest.
pub(super) fn stale(approvals: &[PlanDigest], digest: &PlanDigest) -> Option<PlanDigest> {
    approvals.iter().find(|approval| *approval != digest).cloned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(texts: &[String]) -> PlanDigest {
        digest(texts.iter().map(String::as_str))
    }

    proptest! {
        #[test]
        fn only_the_same_texts_have_the_same_digest(a in proptest::collection::vec("[ab]{0,2}", 0..4), b in proptest::collection::vec("[ab]{0,2}", 0..4)) {
            prop_assert_eq!(of(&a) == of(&b), a == b);
            prop_assert!(of(&a).0.len() == 12 && of(&a).0.chars().all(|c| c.is_ascii_hexdigit()));
        }

        #[test]
        fn an_approval_of_another_plan_is_stale(a in "[a-c]", b in "[a-c]") {
            let (a, b) = (PlanDigest(a), PlanDigest(b));
            prop_assert_eq!(stale(std::slice::from_ref(&a), &b), (a != b).then_some(a));
        }
    }
}
