//! `G1a`: a poll that succeeded returned a value whose send had certainly failed.

use super::Case;
use super::analysis::{Analysis, polls};
use super::ops::Kind;

/// Every such read.
pub fn find(analysis: &Analysis<'_>) -> Vec<Case> {
    let mut cases = Vec::new();
    for (at, op) in analysis.completions().filter(|(_, op)| op.kind == Kind::Ok) {
        for (key, pairs) in polls(op) {
            for (_, value) in pairs {
                let writer = analysis.writer.get(&(key, value)).copied();
                let failed = writer.filter(|writer| analysis.history.ops[*writer].kind == Kind::Fail);
                if let Some(writer) = failed {
                    let text = format!(
                        "The value {value} of key {key} was polled, and the operation that sent it had failed."
                    );
                    cases.push(Case::new(text, vec![writer, at]));
                }
            }
        }
    }
    cases
}
