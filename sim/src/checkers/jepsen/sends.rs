//! `nonmonotonic-send`: what a process sends later to a key lies behind what it sent before.

use std::collections::BTreeMap;

use super::Case;
use super::analysis::{Analysis, sends};
use super::ops::{F, Kind};

/// By key: the last operation of a process that sent to it, and the last value.
type Last = BTreeMap<i64, (usize, i64)>;

/// Every send that lies before the process's last one.
pub fn find(analysis: &Analysis<'_>) -> Vec<Case> {
    let mut processes: BTreeMap<i64, Last> = BTreeMap::new();
    let mut cases = Vec::new();
    let known = analysis.history.ops.iter().enumerate();
    for (at, op) in known.filter(|(_, op)| matches!(op.kind, Kind::Ok | Kind::Info)) {
        let last = processes.entry(op.process).or_default();
        match op.f {
            F::Assign | F::Subscribe => {
                let kept: std::collections::BTreeSet<i64> = op.keys.iter().copied().collect();
                last.retain(|key, _| kept.contains(key));
            }
            F::Send | F::Txn => {
                for (key, pairs) in sends(op) {
                    let (first, end) = (pairs[0].1, pairs[pairs.len() - 1].1);
                    let order = analysis.orders.get(&key);
                    if let (Some((before, sent)), Some(order)) = (last.get(&key), order)
                        && order.step(Some(sent), Some(&first)) < 1
                    {
                        let text = format!(
                            "Process {} sent {sent} to key {key} and later {first}, which lies before it.",
                            op.process
                        );
                        cases.push(Case::new(text, vec![*before, at]));
                    }
                    last.insert(key, (at, end));
                }
            }
            _ => {}
        }
    }
    cases
}
