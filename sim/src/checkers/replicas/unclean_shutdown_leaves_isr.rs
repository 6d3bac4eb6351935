//! `UncleanShutdownLeavesIsr`: a broker that comes back after its process had not said goodbye is in no ISR and eligible
//! for no election, from its registration on.
//!
//! KIP-966: it may have lost what it had not flushed (`ReplicationControlManager.handleUncleanBrokerShutdown`). A partition
//! whose last member it was has nobody until somebody eligible is there. Without eligible leader replicas Kafka keeps the
//! last member of an ISR whatever befell it, and takes it from the other ISRs.

use broker_core::event::PartitionState;

/// The invariant's name.
pub const NAME: &str = "UncleanShutdownLeavesIsr";

/// A broker was registered after an unclean shutdown; `elr`: with eligible leader replicas.
pub fn registered(broker: i32, state: &PartitionState, elr: bool) -> Option<String> {
    let PartitionState { isr, elr: eligible, .. } = state;
    let in_isr = isr.contains(&broker) && (elr || isr.len() > 1);
    let what = if in_isr {
        format!("in the ISR {isr:?}")
    } else if eligible.contains(&broker) {
        format!("among the eligible leader replicas {eligible:?}")
    } else {
        return None;
    };
    Some(format!(
        "broker-{broker} was registered again and is still {what}. Its last process had died without a controlled shutdown."
    ))
}

#[cfg(test)]
mod tests {
    use super::super::story::*;
    use super::*;
    use crate::world::ProcEvent;
    use broker_core::event::Event;

    fn comes_back(how: ProcEvent, elr: bool, left: Event) -> Vec<&'static str> {
        let mut replicas = told(&replicated());
        replicas.eligible_leader_replicas(elr);
        replicas.process_event(2, &ProcEvent::Running);
        replicas.process_event(2, &how);
        replicas.process_event(2, &ProcEvent::Running);
        replicas.own_registration(2);
        replicas.hear(9, &left);
        replicas.compare(|_, _| None);
        names(&mut replicas)
    }

    #[test]
    fn fires_on_who_is_in_sync_or_eligible() {
        assert_eq!(comes_back(ProcEvent::Killed, true, state(1, 0, 1, &[1, 2])), [NAME]);
        assert_eq!(comes_back(ProcEvent::Killed, false, state(1, 0, 1, &[1, 2])), [NAME]);
        assert_eq!(comes_back(ProcEvent::Killed, true, state(-1, 0, 1, &[2])), [NAME]);
        assert_eq!(comes_back(ProcEvent::Killed, true, with_elr(1, 0, 1, &[1], &[2])), [NAME]);
    }

    #[test]
    fn is_silent_on_who_is_out_or_stopped_in_order() {
        assert_eq!(comes_back(ProcEvent::Killed, true, state(1, 1, 1, &[1])), [""; 0]);
        let stopped = ProcEvent::Exited { code: 0 };
        assert_eq!(comes_back(stopped, true, with_elr(1, 0, 1, &[1], &[2])), [""; 0]);
    }

    #[test]
    fn is_silent_on_the_last_one_without_eligible_leader_replicas() {
        assert_eq!(comes_back(ProcEvent::Killed, false, state(-1, 0, 1, &[2])), [""; 0]);
    }
}
