//! `int-poll-skip` and `int-nonmonotonic-poll`: what one operation polls of a key is a piece of its log, without gaps and
//! in order. A rebalance in between that names the key excuses it.

use super::Case;
use super::analysis::{Analysis, polls, some};

/// What was skipped, and what goes back.
pub fn find(analysis: &Analysis<'_>) -> (Vec<Case>, Vec<Case>) {
    let (mut skips, mut backward) = (Vec::new(), Vec::new());
    for (at, op) in analysis.completions() {
        for (key, pairs) in polls(op) {
            let Some(order) = analysis.orders.get(&key) else { continue };
            if op.rebalanced.binary_search(&key).is_ok() {
                continue;
            }
            for pair in pairs.windows(2) {
                let (first, second) = (pair[0].1, pair[1].1);
                let step = order.step(Some(&first), Some(&second));
                if step > 1 {
                    let skipped = some(order.between(first, second));
                    let text = format!(
                        "One operation polled {first} and then {second} of key {key}, and skipped {skipped}."
                    );
                    skips.push(Case::new(text, vec![at]));
                } else if step < 1 {
                    let text = format!(
                        "One operation polled {first} and then {second} of key {key}, which {}.",
                        if step == 0 { "is the same again" } else { "lies before it" }
                    );
                    backward.push(Case::new(text, vec![at]));
                }
            }
        }
    }
    (skips, backward)
}
