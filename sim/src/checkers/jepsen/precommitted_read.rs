//! `precommitted-read`: an operation polled a value that it had sent itself. In Kafka nobody sees what a transaction
//! writes before it is committed, its own consumer included.

use std::collections::BTreeSet;

use super::Case;
use super::analysis::{Analysis, polls, sends};

/// Every operation that did so, once for each key.
pub fn find(analysis: &Analysis<'_>) -> Vec<Case> {
    let mut cases = Vec::new();
    for (at, op) in analysis.completions() {
        let polled = polls(op);
        for (key, pairs) in sends(op) {
            let sent: BTreeSet<i64> = pairs.iter().map(|(_, value)| *value).collect();
            let own = polled.get(&key).into_iter().flatten().find(|(_, value)| sent.contains(value));
            if let Some((_, value)) = own {
                let text = format!("One operation sent the value {value} to key {key} and polled it.");
                cases.push(Case::new(text, vec![at]));
            }
        }
    }
    cases
}
