//! Applying appended records to the controller's own state, and what events tell of them.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use wire::records::{BrokerRegistrationChangeRecord, ConfigRecord, MetadataRecord};

use super::state::{PartitionTransition, State};
use super::{Active, Outcome};
use crate::event::{ChangeReason, Event, FenceReason, TopicPartition};
use crate::metadata::{LeaderRecoveryState, ResourceType};

impl Active {
    /// Applies a batch that stands at `base_offset`. The events leave when it is committed.
    pub(super) fn apply(
        &mut self,
        batch: &[MetadataRecord],
        base_offset: i64,
        outcome: &Outcome,
        events_wanted: bool,
    ) {
        for (offset, record) in (base_offset..).zip(batch) {
            let mut changed: Vec<PartitionTransition> = Vec::new();
            if events_wanted {
                let told = tell(&self.state, record, batch, outcome);
                self.events.extend(told.into_iter().map(|event| (offset, event)));
                self.state.apply(record, offset, &mut |transition| changed.push(transition));
            } else {
                self.state.apply(record, offset, &mut |_| {});
            }
            let reason = outcome.reason;
            self.events.extend(
                changed.into_iter().map(|transition| (offset, partition_changed(transition, reason))),
            );
        }
    }
}

/// What a record says besides the partitions that it changes. The state is that before it.
fn tell(
    state: &State,
    record: &MetadataRecord,
    batch: &[MetadataRecord],
    outcome: &Outcome,
) -> Option<Event> {
    match record {
        MetadataRecord::RegisterBroker(new) => {
            let before = state.image.broker(new.broker_id);
            if before.is_some_and(|b| b.incarnation_id == new.incarnation_id) {
                return None;
            }
            let (broker, broker_epoch) = (new.broker_id, new.broker_epoch);
            Some(Event::BrokerRegistered { broker, broker_epoch, clean: outcome.clean_shutdown })
        }
        MetadataRecord::BrokerRegistrationChange(change) => tell_change(state, change, outcome.fence),
        MetadataRecord::UnregisterBroker(gone) => {
            let unfenced = state.image.broker(gone.broker_id).is_some_and(|b| !b.fenced);
            unfenced.then_some(Event::BrokerFenced { broker: gone.broker_id, reason: FenceReason::Requested })
        }
        MetadataRecord::Topic(topic) => {
            let of_topic = |r: &&MetadataRecord| matches!(r, MetadataRecord::Partition(p) if p.topic_id == topic.topic_id);
            let partitions = batch.iter().filter(of_topic).count() as i32;
            Some(Event::TopicCreated { topic: (*topic.name).into(), topic_id: topic.topic_id, partitions })
        }
        MetadataRecord::RemoveTopic(gone) => {
            let topic = state.image.topics.topic(gone.topic_id)?;
            Some(Event::TopicDeleted { topic: topic.name.clone(), topic_id: gone.topic_id })
        }
        MetadataRecord::Config(config) => Some(Event::ConfigChanged {
            resource: resource(config),
            name: config.name.clone(),
            value: config.value.clone(),
        }),
        _ => None,
    }
}

/// What a change of a broker's registration says. A broker can be fenced twice, when its session expires after it has
/// said goodbye; that is told once.
fn tell_change(state: &State, change: &BrokerRegistrationChangeRecord, reason: FenceReason) -> Option<Event> {
    let broker = change.broker_id;
    let before = state.image.broker(broker)?;
    match change.fenced {
        1 if !before.fenced => Some(Event::BrokerFenced { broker, reason }),
        -1 if before.fenced => Some(Event::BrokerUnfenced { broker }),
        _ if change.in_controlled_shutdown == 1 && !before.in_controlled_shutdown => {
            Some(Event::BrokerInControlledShutdown { broker })
        }
        _ => None,
    }
}

fn partition_changed(transition: PartitionTransition, reason: ChangeReason) -> Event {
    let PartitionTransition { id, topic, before, after } = transition;
    let became_unclean = after.leader_recovery_state == LeaderRecoveryState::Recovering
        && before.as_ref().is_some_and(|b| b.leader_epoch != after.leader_epoch);
    Event::PartitionChanged {
        partition: TopicPartition { topic, partition: id.partition },
        before: before.map(|b| b.state()),
        after: after.state(),
        reason: if became_unclean { ChangeReason::UncleanElection } else { reason },
    }
}

/// `topic purchases`, `broker 1`, `broker default`.
fn resource(config: &ConfigRecord) -> String {
    let name = &config.resource_name;
    match ResourceType::from_id(config.resource_type) {
        Some(ResourceType::Topic) => format!("topic {name}"),
        Some(ResourceType::Broker) if name.is_empty() => "broker default".to_string(),
        Some(ResourceType::Broker) => format!("broker {name}"),
        Some(ResourceType::Group) => format!("group {name}"),
        Some(other) => format!("{} {name}", other.name()),
        None => name.clone(),
    }
}
