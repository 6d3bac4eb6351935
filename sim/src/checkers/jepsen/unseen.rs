//! `unseen`: what was acknowledged was never polled, up to the end of the history.
//!
//! A history that ends with a reader of everything shows by this what nobody can read any more. One that just stops shows
//! what nobody had read yet.

use super::Case;
use super::analysis::{Analysis, sends};
use super::ops::Kind;

/// Every acknowledged value that no poll returned.
pub fn find(analysis: &Analysis<'_>) -> Vec<Case> {
    let mut cases = Vec::new();
    for (at, op) in analysis.completions().filter(|(_, op)| op.kind == Kind::Ok) {
        for (key, pairs) in sends(op) {
            for (offset, value) in pairs.into_iter().filter(|(_, v)| !analysis.read.contains(&(key, *v))) {
                let place = offset.map_or(String::new(), |offset| format!(" at offset {offset}"));
                let text = format!(
                    "The value {value} was acknowledged{place} in key {key}, and no poll ever returned it."
                );
                cases.push(Case::new(text, vec![at]));
            }
        }
    }
    cases
}
