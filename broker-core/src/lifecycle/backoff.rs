//! Exponential backoff with a little chance in it (`ExponentialBackoff`).

use rand_core::Rng as _;
use wire::drive::Nanos;

use crate::ctx::Rng;

/// Waits of 100 ms, doubled with each failure, at most `max`, each ±2 %.
pub(super) fn after_failures(failures: u32, max: Nanos, rng: &mut Rng) -> Nanos {
    let initial = Nanos::from_millis(100).0;
    let term = initial.saturating_mul(1 << failures.min(30)).min(max.0.max(initial));
    // A factor between 0.98 and 1.02, in millionths.
    let factor = 980_000 + u64::from(rng.next_u32()) % 40_001;
    Nanos((u128::from(term) * u128::from(factor) / 1_000_000) as u64)
}
