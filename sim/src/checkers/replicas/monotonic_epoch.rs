//! `MonotonicEpoch`: leader epochs and partition epochs never go back, in the controller's state and inside a log.
//!
//! What Kip101.tla, Kip279.tla and Kip320.tla of hachikuji/kafka-specification take for granted: "monotonically
//! increasing leader epochs". In a log it is rule 2 of Kafka's `LeaderEpochFileCache`.

use broker_core::event::{BatchMark, PartitionState};

use super::state::Replica;

/// The invariant's name.
pub const NAME: &str = "MonotonicEpoch";

/// The controller committed a state after another.
pub fn changed(before: &PartitionState, after: &PartitionState) -> Option<String> {
    if after.leader_epoch < before.leader_epoch {
        return Some(format!(
            "The leader epoch went back from {} to {}.",
            before.leader_epoch, after.leader_epoch
        ));
    }
    (after.partition_epoch <= before.partition_epoch).then(|| {
        format!("The partition epoch went from {} to {}.", before.partition_epoch, after.partition_epoch)
    })
}

/// A broker is about to append a batch.
pub fn appended(replica: &Replica, node: i32, mark: &BatchMark) -> Option<String> {
    let (last, _) = replica.epochs.last().filter(|(last, _)| *last > mark.epoch)?;
    Some(format!(
        "broker-{node} appended offset {} with leader epoch {} behind records of epoch {last}.",
        mark.base_offset, mark.epoch
    ))
}

#[cfg(test)]
mod tests {
    use super::super::story::*;

    #[test]
    fn fires_on_epochs_that_go_back() {
        assert_eq!(after(vec![(1, state(1, 3, 1, &[1])), (1, state(1, 2, 2, &[1]))]), ["MonotonicEpoch"]);
        assert_eq!(after(vec![(1, state(1, 3, 2, &[1])), (1, state(1, 3, 2, &[1, 2]))]), ["MonotonicEpoch"]);
        assert_eq!(after(vec![(1, append(10, 12, 3, 8)), (1, append(13, 14, 2, 8))]), ["MonotonicEpoch"]);
    }

    #[test]
    fn is_silent_on_epochs_that_go_on() {
        let story = vec![
            (1, state(1, 3, 1, &[1])),
            (1, state(1, 3, 2, &[1])),
            (1, append(10, 12, 2, 8)),
            (1, append(13, 14, 3, 8)),
        ];
        assert_eq!(after(story), [""; 0]);
    }
}
