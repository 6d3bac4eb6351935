//! `SyncedSurvivesPowerLoss`: what a broker has synced is there after a power loss.
//!
//! A broker's recovery point says how far its log is durable (`UnifiedLog.java`: "everything below is flushed"). What lies
//! above may be gone, in part or whole; what lies below may not, unless the disk lied, or is another one. The same holds
//! of the leader epochs of what lies below.

use super::Opened;
use crate::checkers::replicas::state::Replica;

/// The invariant's name.
pub const NAME: &str = "SyncedSurvivesPowerLoss";

/// A log was opened after its host had lost power.
pub fn opened(before: &Replica, log_start: i64, cleaned: i64, found: &Opened<'_>) -> Option<String> {
    let Opened { node, .. } = *found;
    let synced = before.flushed.min(before.log_end);
    if synced <= log_start {
        return None;
    }
    if found.log_end < synced {
        return Some(format!(
            "broker-{node} had synced everything below offset {synced}. After the power loss its log ends at {}.",
            found.log_end
        ));
    }
    let from = log_start.max(cleaned).max(found.log_start);
    let (offset, epoch, has) = found.wrong_epoch(&before.epochs, from, synced)?;
    Some(format!(
        "broker-{node} had synced offset {offset}, of leader epoch {epoch}. After the power loss its leader epochs say {} for it.",
        has.map_or("nothing".to_owned(), |has| has.to_string())
    ))
}

#[cfg(test)]
mod tests {
    use crate::checkers::replicas::story::*;

    fn power_lost(flushed: i64, found: broker_core::event::Event) -> Vec<&'static str> {
        let mut replicas = told(&replicated());
        replicas.hear(2, &synced_to(flushed));
        replicas.process_gone(2);
        replicas.disk_lost(2, false);
        replicas.hear(2, &found);
        names(&mut replicas)
    }

    #[test]
    fn fires_on_synced_records_that_are_gone() {
        assert_eq!(power_lost(8, opened(7, &[(0, 0)])), ["SyncedSurvivesPowerLoss"]);
        assert_eq!(power_lost(8, opened(8, &[])), ["SyncedSurvivesPowerLoss"]);
    }

    #[test]
    fn is_silent_on_records_that_were_never_synced() {
        assert_eq!(power_lost(8, opened(8, &[(0, 0)])), [""; 0]);
        assert_eq!(power_lost(0, opened(0, &[])), [""; 0]);
    }
}
