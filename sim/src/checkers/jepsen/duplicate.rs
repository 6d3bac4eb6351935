//! `duplicate`: a value stands at several offsets of its key.

use std::collections::BTreeMap;

use super::Case;
use super::analysis::{Analysis, some};

/// Every value that stands at several offsets.
pub fn find(analysis: &Analysis<'_>) -> Vec<Case> {
    let mut cases = Vec::new();
    for (key, order) in &analysis.orders {
        let mut offsets: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        for (offset, values) in &order.log {
            values.iter().for_each(|value| offsets.entry(*value).or_default().push(*offset));
        }
        for (value, offsets) in offsets.into_iter().filter(|(_, offsets)| offsets.len() > 1) {
            let text = format!("The value {value} stands in key {key} at the offsets {}.", some(&offsets));
            let message = (*key, value);
            let mut ops: Vec<usize> = analysis.writer.get(&message).copied().into_iter().collect();
            ops.extend(analysis.readers.get(&message).into_iter().flatten().take(4));
            ops.sort_unstable();
            ops.dedup();
            cases.push(Case::new(text, ops));
        }
    }
    cases
}
