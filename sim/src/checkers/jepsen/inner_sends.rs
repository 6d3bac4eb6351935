//! `int-send-skip` and `int-nonmonotonic-send`: what one operation sends to a key lies in that order. That others' values
//! lie between is usual in Kafka, and always allowed.

use super::Case;
use super::analysis::{Analysis, sends, some};

/// Where something lies between, and what goes back.
pub fn find(analysis: &Analysis<'_>) -> (Vec<Case>, Vec<Case>) {
    let (mut skips, mut backward) = (Vec::new(), Vec::new());
    for (at, op) in analysis.completions() {
        for (key, pairs) in sends(op) {
            let Some(order) = analysis.orders.get(&key) else { continue };
            for pair in pairs.windows(2) {
                let (first, second) = (pair[0].1, pair[1].1);
                let step = order.step(Some(&first), Some(&second));
                if step > 1 {
                    let between = some(order.between(first, second));
                    let text = format!(
                        "One operation sent {first} and then {second} to key {key}. Between them lies {between}."
                    );
                    skips.push(Case::new(text, vec![at]));
                } else if step < 1 {
                    let text = format!(
                        "One operation sent {first} and then {second} to key {key}, and {second} lies before {first}."
                    );
                    backward.push(Case::new(text, vec![at]));
                }
            }
        }
    }
    (skips, backward)
}
