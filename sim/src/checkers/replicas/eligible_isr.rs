//! `EligibleIsr`: nobody joins an ISR while it is fenced or on its way out.
//!
//! KIP-841: such a broker could be elected, or count for `min.insync.replicas`, and is about to be away. The controller
//! refuses it with INELIGIBLE_REPLICA, whatever the leader has seen of it. What a controller that died had committed
//! without a word is not known, so each controller begins without anybody being known as fenced.

use std::collections::BTreeSet;

use broker_core::event::{ChangeReason, Event, PartitionState};

/// The invariant's name.
pub const NAME: &str = "EligibleIsr";

/// The brokers that may join no ISR.
#[derive(Clone, Debug, Default)]
pub struct Ineligible(BTreeSet<i32>);

impl Ineligible {
    /// Hears what a controller said of brokers.
    pub fn hear(&mut self, event: &Event) {
        match event {
            Event::BrokerFenced { broker, .. } | Event::BrokerInControlledShutdown { broker } => {
                self.0.insert(*broker);
            }
            Event::BrokerUnfenced { broker } => {
                self.0.remove(broker);
            }
            Event::ControllerActivated { .. } => self.0.clear(),
            _ => {}
        }
    }

    /// The controller committed a state.
    pub fn changed(
        &self,
        before: &PartitionState,
        after: &PartitionState,
        reason: ChangeReason,
    ) -> Option<String> {
        let joins = |id: &&i32| !before.isr.contains(id) && self.0.contains(id);
        let follows = after.partition_epoch == before.partition_epoch + 1;
        let who =
            after.isr.iter().find(joins).filter(|_| follows && reason == ChangeReason::AlterPartition)?;
        Some(format!("broker-{who} joined the ISR {:?}. It was fenced or in controlled shutdown.", after.isr))
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::*;
    use super::*;
    use broker_core::event::FenceReason;

    fn isr(partition_epoch: i32, isr: &[i32]) -> Event {
        match state(1, 0, partition_epoch, isr) {
            Event::PartitionChanged { partition, before, after, .. } => {
                Event::PartitionChanged { partition, before, after, reason: ChangeReason::AlterPartition }
            }
            other => other,
        }
    }

    fn fenced() -> Event {
        Event::BrokerFenced { broker: 2, reason: FenceReason::SessionExpired }
    }

    #[test]
    fn fires_on_a_fenced_broker_and_on_one_that_goes() {
        assert_eq!(after(vec![(1, isr(1, &[1])), (9, fenced()), (1, isr(2, &[1, 2]))]), [NAME]);
        let goes = Event::BrokerInControlledShutdown { broker: 2 };
        assert_eq!(after(vec![(1, isr(1, &[1])), (9, goes), (1, isr(2, &[1, 2]))]), [NAME]);
    }

    #[test]
    fn is_silent_once_it_is_back_and_under_another_controller() {
        let back = Event::BrokerUnfenced { broker: 2 };
        assert_eq!(after(vec![(1, isr(1, &[1])), (9, fenced()), (9, back), (1, isr(2, &[1, 2]))]), [""; 0]);
        assert_eq!(after(vec![(1, isr(1, &[1, 2])), (9, fenced()), (1, isr(2, &[1, 2]))]), [""; 0]);
        assert_eq!(after(vec![(1, isr(1, &[1])), (9, fenced()), (1, isr(7, &[1, 2]))]), [""; 0]);
    }
}
