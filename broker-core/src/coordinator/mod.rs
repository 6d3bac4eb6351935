//! The coordinators of a broker: of consumer groups, and of transactions.
//!
//! Each keeps its state in a topic of the cluster, `__consumer_offsets` and `__transaction_state`, and answers for the
//! groups or transactional ids whose partition this broker leads. What they have in common is in [`runtime`];
//! [`find`] tells clients where their coordinator is, and has the topics made.

pub mod find;
pub mod group;
pub mod runtime;
pub mod transaction;

pub use group::GroupCoordinator;
pub use runtime::{Parts, Runtime, Shard, ShardCx};
pub use transaction::TransactionCoordinator;

use crate::metadata::MetadataImage;

/// The topic of the group coordinator.
pub const GROUP_TOPIC: &str = "__consumer_offsets";
/// The topic of the transaction coordinator.
pub const TRANSACTION_TOPIC: &str = "__transaction_state";

/// The partition of a coordinator's topic whose leader coordinates an id (a group, a transactional id), if the topic is
/// there: the absolute value of Java's hash of the id, modulo their number (`Utils.abs`, where the absolute value of the
/// smallest integer is 0).
pub fn coordinator_partition(image: &MetadataImage, topic: &str, id: &str) -> Option<i32> {
    let partitions = image.topics.topic_named(topic)?.partitions.len() as i32;
    (partitions > 0).then(|| partition_for(id, partitions))
}

/// The same of a topic of so many partitions.
pub fn partition_for(id: &str, partitions: i32) -> i32 {
    let hash = id.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    hash.checked_abs().unwrap_or(0) % partitions
}

#[cfg(test)]
mod tests {
    use super::partition_for;

    #[test]
    fn an_id_belongs_where_java_puts_it() {
        // `Math.abs("billing".hashCode()) % 50` and the like, as Java computes them.
        for (id, partitions, partition) in [("", 50, 0), ("a", 50, 47), ("polygenelubricants", 50, 0)] {
            assert_eq!(partition_for(id, partitions), partition, "{id}");
        }
    }
}
