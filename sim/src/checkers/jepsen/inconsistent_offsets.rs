//! `inconsistent-offsets`: one offset of a key held several values, as acknowledgements and polls tell.

use super::analysis::{Analysis, some};
use super::{Case, analysis};

/// Every offset that held several values.
pub fn find(analysis: &Analysis<'_>) -> Vec<Case> {
    let mut cases = Vec::new();
    for (key, order) in &analysis.orders {
        for (offset, values) in order.log.iter().filter(|(_, values)| values.len() > 1) {
            let text = format!("Offset {offset} of key {key} held the values {}.", some(values));
            cases.push(Case::new(text, tellers(analysis, *key, *offset, values)));
        }
    }
    cases
}

/// The first operations that told of each value at this offset.
fn tellers(analysis: &Analysis<'_>, key: i64, offset: i64, values: &[i64]) -> Vec<usize> {
    let mut tellers: Vec<usize> = values
        .iter()
        .filter_map(|value| {
            let message = (key, *value);
            let told = (Some(offset), *value);
            let wrote = analysis.writer.get(&message).copied().filter(|at| {
                analysis::sends(&analysis.history.ops[*at]).get(&key).is_some_and(|all| all.contains(&told))
            });
            let read = analysis.readers.get(&message).into_iter().flatten().copied().find(|at| {
                analysis::polls(&analysis.history.ops[*at]).get(&key).is_some_and(|all| all.contains(&told))
            });
            wrote.or(read)
        })
        .collect();
    tellers.sort_unstable();
    tellers.dedup();
    tellers
}
