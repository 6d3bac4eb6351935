//! `ConsistentRead`: what a consumer has read stays where it was read: every later leader has the same records there.
//!
//! `ConsistentReadProperty` of Vanlightly/kafka-tlaplus (kraft/kip-966/kip_966_properties.tla). Consumers may read below
//! the high watermark only, so this follows from `LeaderCompleteness`, unless somebody shows them more.

use super::state::Partition;

/// The invariant's name.
pub const NAME: &str = "ConsistentRead";

/// A consumer has read the records below `to`.
pub fn read(partition: &mut Partition, to: i64) -> Option<String> {
    if to <= partition.read.end {
        return None;
    }
    if to <= partition.committed.end {
        // It may have been answered long ago: the leader may have died since, and lost its disk.
        partition.read.follow(&partition.committed, to);
        return None;
    }
    let (epoch, leader) = partition.newest()?;
    let replica = partition.replicas.get(&leader)?;
    if replica.log_end < to {
        let end = replica.log_end;
        // Told once.
        partition.read.set(replica, end);
        return Some(format!(
            "A consumer has read the records below offset {to}. The log of the leader, broker-{leader} in epoch {epoch}, ends at {end}."
        ));
    }
    partition.read.set(replica, to);
    None
}

/// A broker became leader; its epoch is noted already.
pub fn became_leader(partition: &mut Partition, node: i32, epoch: i32) -> Option<String> {
    let newest = partition.newest().is_none_or(|(newest, _)| newest <= epoch);
    let replica = partition.replicas.get(&node)?;
    let start = partition.log_start.max(partition.cleaned.min(partition.read.end));
    if !newest || partition.read.is_in(replica, start) {
        return None;
    }
    let (read, end) = (partition.read.end, replica.log_end);
    partition.read.set(replica, read.min(end));
    Some(format!(
        "A consumer has read the records below offset {read}. broker-{node}, the leader in epoch {epoch}, does not have them all: its log ends at {end}."
    ))
}

#[cfg(test)]
mod tests {
    use super::super::story::*;

    fn story(reads: i64) -> Vec<&'static str> {
        let mut replicas = told(&replicated());
        replicas.hear(1, &append(10, 12, 0, 8));
        replicas.read(&tp(), reads);
        for (node, event) in [(1, state(2, 1, 1, &[2])), (2, lead(1, 10, 10)), (2, append(10, 14, 1, 9))] {
            replicas.hear(node, &event);
        }
        names(&mut replicas)
    }

    #[test]
    fn what_was_committed_is_read_although_the_leader_has_lost_it_since() {
        let story = |to: i64| {
            let mut replicas = told(&replicated());
            replicas.process_gone(1);
            replicas.disk_replaced(1);
            replicas.hear(1, &opened(4, &[(0, 0)]));
            replicas.take();
            replicas.read(&tp(), to);
            names(&mut replicas)
        };
        assert_eq!(story(10), [""; 0]);
        assert_eq!(story(11), ["ConsistentRead"]);
    }

    #[test]
    fn fires_when_a_later_leader_lacks_what_was_read() {
        assert_eq!(story(13), ["ConsistentRead"]);
    }

    #[test]
    fn is_silent_when_only_what_is_committed_was_read() {
        assert_eq!(story(10), [""; 0]);
    }

    #[test]
    fn fires_on_a_read_that_the_leader_does_not_have() {
        let mut replicas = told(&replicated());
        replicas.read(&tp(), 11);
        assert_eq!(names(&mut replicas), ["ConsistentRead"]);
    }
}
