//! `RecoveryKeepsPromised`: a log that is opened after its process died has everything that was appended to it, at the
//! same place and of the same leader epochs.
//!
//! Kafka acknowledges from the page cache, and its promise for `kill -9` is that nothing is lost: recovery
//! (`LogLoader.java`) may cut what is torn, and a process that dies between two inputs tears nothing. Nor may the first
//! offset have moved on. For what is below the recovery point a power loss changes nothing: see `synced.rs`.

use super::Opened;
use crate::checkers::replicas::state::Replica;

/// The invariant's name.
pub const NAME: &str = "RecoveryKeepsPromised";

/// A log was opened again whose page cache had survived; `log_start` is the highest that anybody was told, and what lies
/// below `cleaned` may have lost epochs.
pub fn opened(before: &Replica, log_start: i64, cleaned: i64, found: &Opened<'_>) -> Option<String> {
    let Opened { node, .. } = *found;
    if found.log_end < before.log_end {
        return Some(format!(
            "broker-{node}'s log ended at {} when its process died, and ends at {} after it was started again. The page cache had survived.",
            before.log_end, found.log_end
        ));
    }
    if found.log_start > log_start {
        return Some(format!(
            "broker-{node}'s log begins at {} after it was started again. Nobody had deleted what lies between {log_start} and there.",
            found.log_start
        ));
    }
    let from = log_start.max(cleaned).max(found.log_start);
    let (offset, epoch, has) = found.wrong_epoch(&before.epochs, from, before.log_end)?;
    Some(format!(
        "broker-{node} had appended offset {offset} with leader epoch {epoch}. After it was started again its leader epochs say {} for it.",
        has.map_or("nothing".to_owned(), |has| has.to_string())
    ))
}

#[cfg(test)]
mod tests {
    use crate::checkers::replicas::story::*;

    fn killed(event: broker_core::event::Event) -> Vec<&'static str> {
        let mut replicas = told(&replicated());
        replicas.process_gone(2);
        replicas.hear(2, &event);
        names(&mut replicas)
    }

    #[test]
    fn fires_on_a_log_that_is_shorter_after_a_kill() {
        assert!(killed(opened(9, &[(0, 0)])).contains(&"RecoveryKeepsPromised"));
    }

    #[test]
    fn fires_on_leader_epochs_that_were_forgotten_and_on_a_log_start_that_moved() {
        assert_eq!(killed(opened(10, &[])), ["RecoveryKeepsPromised"]);
        assert_eq!(killed(opened_from(3, 10, &[(0, 3)])), ["RecoveryKeepsPromised"]);
    }

    #[test]
    fn fires_on_a_log_that_is_not_there_any_more() {
        let mut replicas = told(&replicated());
        replicas.process_gone(2);
        replicas.hear(2, &started());
        assert!(names(&mut replicas).contains(&"RecoveryKeepsPromised"));
    }

    #[test]
    fn is_silent_on_a_log_that_an_older_disk_did_not_have() {
        let mut replicas = told(&replicated());
        replicas.process_gone(2);
        replicas.disk_replaced(2);
        replicas.hear(2, &started());
        replicas.process_gone(2);
        replicas.hear(2, &started());
        assert!(!names(&mut replicas).contains(&"RecoveryKeepsPromised"));
    }

    #[test]
    fn is_silent_on_a_log_as_it_was() {
        assert_eq!(killed(opened(10, &[(0, 0)])), [""; 0]);
    }
}
