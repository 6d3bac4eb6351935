//! Where a client should go instead: the current leader in refusals (KIP-951).

use alloc::vec::Vec;

use super::ReplicaManager;
use super::session::TopicRef;
use crate::metadata::MetadataImage;

/// Where a broker listens.
#[derive(Clone, Copy, Debug)]
pub(super) struct NodeAddress<'a> {
    pub host: &'a str,
    pub port: u16,
    pub rack: Option<&'a str>,
}

/// The leader of a partition, as far as this broker knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct LeaderHint<'a> {
    /// -1 for none.
    pub leader: i32,
    pub leader_epoch: i32,
    pub node: Option<NodeAddress<'a>>,
}

impl<'a> LeaderHint<'a> {
    /// Keeps one hint for each leader, ascending.
    pub(super) fn add(hints: &mut Vec<LeaderHint<'a>>, hint: LeaderHint<'a>) {
        if let Err(at) = hints.binary_search_by_key(&hint.leader, |h| h.leader) {
            hints.insert(at, hint);
        }
    }
}

impl ReplicaManager {
    /// The replica knows best who leads; without a replica the metadata does.
    pub(super) fn leader_hint<'i>(
        &self,
        image: &'i MetadataImage,
        topic: TopicRef<'_>,
        partition: i32,
    ) -> LeaderHint<'i> {
        let (leader, leader_epoch) = match self.table.find(topic, partition) {
            Some(ix) => {
                let p = self.table.get(ix);
                (p.leader, p.leader_epoch)
            }
            None => match super::topic_of(image, topic).and_then(|t| t.partitions.get(&partition)) {
                Some(registration) => (registration.leader, registration.leader_epoch),
                None => (-1, -1),
            },
        };
        let node = image.broker(leader).and_then(|broker| {
            let listener = broker.listeners.first()?;
            Some(NodeAddress { host: &listener.host, port: listener.port, rack: broker.rack.as_deref() })
        });
        LeaderHint { leader, leader_epoch, node }
    }
}
