//! `poll-skip` and `nonmonotonic-poll`: a process goes on where its last poll of a key ended, neither behind values that
//! it did not poll nor before the one that it polled last.
//!
//! Where a process is, is what its last successful poll of the key told. What failed or is in doubt is compared, and
//! leaves the position as it was: the same consumer must do it again. An assignment without the key forgets it.

use std::collections::BTreeMap;

use super::Case;
use super::analysis::{Analysis, polls, some};
use super::ops::{F, Kind, Op};

/// A process's consumer.
#[derive(Default)]
struct Consumer {
    /// By key: the last operation that polled it, and the last value it got.
    last: BTreeMap<i64, (usize, Option<i64>)>,
    /// It takes what a group gives it.
    subscribed: bool,
}

/// What was skipped, and what goes back.
pub fn find(analysis: &Analysis<'_>) -> (Vec<Case>, Vec<Case>) {
    let mut consumers: BTreeMap<i64, Consumer> = BTreeMap::new();
    let (mut skips, mut backward) = (Vec::new(), Vec::new());
    for (at, op) in analysis.history.ops.iter().enumerate() {
        let consumer = consumers.entry(op.process).or_default();
        match op.f {
            F::Assign | F::Subscribe => consumer.takes(op),
            F::Poll | F::Txn if op.kind != Kind::Invoke => {
                consumer.polls(analysis, at, op, &mut skips, &mut backward);
            }
            _ => {}
        }
    }
    (skips, backward)
}

impl Consumer {
    fn takes(&mut self, op: &Op) {
        if matches!(op.kind, Kind::Ok | Kind::Info) {
            let kept: std::collections::BTreeSet<i64> = op.keys.iter().copied().collect();
            self.last.retain(|key, _| kept.contains(key));
            self.subscribed = op.f == F::Subscribe;
        }
    }

    fn polls(
        &mut self,
        analysis: &Analysis<'_>,
        at: usize,
        op: &Op,
        skips: &mut Vec<Case>,
        backward: &mut Vec<Case>,
    ) {
        for (key, pairs) in polls(op) {
            let first = pairs.first().map(|(_, value)| value);
            if let (Some((before, Some(last))), Some(first), Some(order)) =
                (self.last.get(&key), first, analysis.orders.get(&key))
            {
                let step = order.step(Some(last), Some(first));
                let process = op.process;
                let case = |text| Case { text, ops: vec![*before, at], subscribed: self.subscribed };
                if step > 1 {
                    let skipped = some(order.between(*last, *first));
                    skips.push(case(format!(
                        "Process {process} polled {last} of key {key} last, then {first}, and skipped {skipped}."
                    )));
                } else if step < 1 {
                    backward.push(case(format!(
                        "Process {process} polled {last} of key {key} last, then {first}, which {}.",
                        if step == 0 { "is the same again" } else { "lies before it" }
                    )));
                }
            }
            if op.kind == Kind::Ok {
                self.last.insert(key, (at, pairs.last().map(|(_, value)| *value)));
            }
        }
    }
}
