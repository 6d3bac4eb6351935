//! `LeaderCompleteness`: a new leader has every committed record.
//!
//! `LeaderCompletenessProperty` of Vanlightly/kafka-tlaplus (kraft/kip-966/kip_966_properties.tla), Raft's of the same
//! name. What an unclean leader lacks is lost by decision: the clients' history says what that cost.

use super::state::Partition;

/// The invariant's name.
pub const NAME: &str = "LeaderCompleteness";

/// A broker became leader; its epoch is noted already.
pub fn became_leader(partition: &mut Partition, node: i32, epoch: i32, start: i64) -> Option<String> {
    if partition.unclean_epoch == Some(epoch) && start < partition.committed.end {
        partition.committed.set(&partition.replicas[&node], start);
        return None;
    }
    let newest = partition.newest().is_none_or(|(newest, _)| newest <= epoch);
    if !newest || partition.has_committed(node) {
        return None;
    }
    let committed = partition.committed.end;
    // Told once: from here on this log is what the cluster agrees on.
    partition.committed.set(&partition.replicas[&node], committed.min(start));
    Some(format!(
        "broker-{node} became leader in epoch {epoch} with the log end offset {start}. Records below {committed} were committed before, and it does not have them all."
    ))
}

#[cfg(test)]
mod tests {
    use super::super::story::*;

    #[test]
    fn fires_on_a_leader_that_lacks_committed_records() {
        assert_eq!(
            after(vec![(2, truncate(10, 4)), (2, lead(1, 4, 4))]),
            ["LeaderCandidateCompleteness", "LeaderCompleteness"]
        );
    }

    #[test]
    fn is_silent_on_a_clean_failover() {
        let story = vec![
            (1, append(10, 12, 0, 8)),
            (1, state(2, 1, 1, &[2])),
            (2, lead(1, 10, 5)),
            (2, append(10, 19, 1, 9)),
            (2, watermark(20)),
            (1, truncate(13, 10)),
            (1, append(10, 19, 1, 9)),
        ];
        assert_eq!(after(story), [""; 0]);
    }

    #[test]
    fn is_silent_on_an_unclean_leader() {
        let story = vec![
            (1, state(1, 0, 1, &[1])),
            (2, truncate(10, 4)),
            (1, state(2, 1, 2, &[2])),
            (2, lead(1, 4, 4)),
        ];
        assert_eq!(after(story), [""; 0]);
    }

    #[test]
    fn what_retention_deleted_is_not_missed() {
        assert_eq!(after(vec![(1, log_start(0, 10)), (2, truncate(10, 4)), (2, lead(1, 10, 10))]), [""; 0]);
    }

    #[test]
    fn of_a_compacted_log_some_epochs_may_be_missing() {
        assert_eq!(after(compacted(true, 19)), [""; 0]);
        assert!(after(compacted(false, 19)).contains(&"LeaderCompleteness"));
    }
}
