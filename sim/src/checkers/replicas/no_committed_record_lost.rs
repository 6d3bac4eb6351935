//! `NoCommittedRecordLost`: every committed record lies in at least one replica's log.
//!
//! `NoCommittedRecordLostGlobally` of Vanlightly/kafka-tlaplus (kraft/kip-966/kip_966_properties.tla): it finds a loss
//! also where nobody is left who could be elected. It is looked at when a log got shorter.

use super::state::Partition;

/// The invariant's name.
pub const NAME: &str = "NoCommittedRecordLost";

/// A replica's log got shorter by `what`.
pub fn shortened(partition: &mut Partition, what: &str) -> Option<String> {
    let committed = partition.committed.end;
    if committed <= partition.log_start || partition.lost_told {
        return None;
    }
    let start = partition.start();
    if partition.replicas.values().any(|r| partition.committed.is_in(r, start)) {
        return None;
    }
    partition.lost_told = true;
    let ends: Vec<String> =
        partition.replicas.iter().map(|(n, r)| format!("broker-{n} at {}", r.log_end)).collect();
    Some(format!(
        "Records below offset {committed} were committed. After {what}, no replica has them all: {}.",
        if ends.is_empty() { "there is none".to_owned() } else { ends.join(", ") }
    ))
}

#[cfg(test)]
mod tests {
    use super::super::story::*;

    #[test]
    fn fires_when_nobody_has_a_committed_record() {
        let story = vec![(1, state(1, 0, 1, &[])), (2, truncate(10, 4)), (1, truncate(10, 4))];
        assert_eq!(after(story), ["LeaderInIsr", "NoCommittedRecordLost"]);
    }

    #[test]
    fn is_silent_while_somebody_has_it() {
        assert_eq!(after(vec![(1, state(1, 0, 1, &[1])), (2, truncate(10, 4))]), [""; 0]);
    }
}
