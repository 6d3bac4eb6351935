//! `lost-write`: what was acknowledged lies before what was polled, and was never polled itself.
//!
//! Nobody can demand that what was just sent was polled already. But if the last value that was polled of a key is known,
//! everything that lies before it must have been polled by somebody. Where values stand at several offsets, how far was
//! polled counts from the first place of each value, and a value is demanded from its last place on: so no choice between
//! them can make up a loss.

use std::collections::BTreeMap;

use super::Case;
use super::analysis::{Analysis, Order};

/// Every value that should have been polled and was not.
pub fn find(analysis: &Analysis<'_>) -> Vec<Case> {
    let mut cases = Vec::new();
    for (key, order) in &analysis.orders {
        let Some((bound, bound_value)) = furthest(analysis, *key, order) else { continue };
        let mut demanded: BTreeMap<i64, usize> = BTreeMap::new();
        for (place, values) in order.log.values().enumerate() {
            demanded.extend(values.iter().map(|value| (*value, place)));
        }
        for (value, _) in demanded.into_iter().filter(|(_, last)| *last <= bound) {
            let message = (*key, value);
            if analysis.read.contains(&message) {
                continue;
            }
            // An order also has what failed or is in doubt.
            let writer = analysis.writer.get(&message).copied();
            let Some(writer) = writer.filter(|at| analysis.took_place(&analysis.history.ops[*at])) else {
                continue;
            };
            let reader = analysis.readers.get(&(*key, bound_value)).and_then(|readers| readers.first());
            let text = format!(
                "The value {value} of key {key} was written, and is missing in what was polled, although {bound_value}, which lies behind it, was polled."
            );
            let ops = std::iter::once(writer).chain(reader.copied()).collect();
            cases.push(Case::new(text, ops));
        }
    }
    cases
}

/// How far a key was polled, and the value there.
fn furthest(analysis: &Analysis<'_>, key: i64, order: &Order) -> Option<(usize, i64)> {
    let mut first: BTreeMap<i64, usize> = BTreeMap::new();
    for (place, values) in order.log.values().enumerate() {
        for value in values {
            first.entry(*value).or_insert(place);
        }
    }
    let read = first.into_iter().filter(|(value, _)| analysis.read.contains(&(key, *value)));
    read.map(|(value, place)| (place, value)).max()
}
