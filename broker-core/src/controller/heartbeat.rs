//! The sessions of brokers, as the active controller keeps them: who was heard when, how far each has read the
//! metadata log, and what a heartbeat asks for and gets.
//!
//! Nothing of this is in the metadata log. A new active controller starts every unfenced broker's session anew, so
//! that nobody is fenced for the time in which there was no controller. Follows `BrokerHeartbeatManager` and
//! `BrokerHeartbeatTracker`.

use alloc::collections::{BTreeMap, BTreeSet};
use wire::drive::{Instant, Nanos};

/// What a broker is in the eyes of the active controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokerControlState {
    /// Leads nothing, is in no ISR.
    Fenced,
    /// Serves.
    Unfenced,
    /// Hands over what it leads, then it may go.
    ControlledShutdown,
    /// May go now.
    ShutdownNow,
}

/// What a heartbeat says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// The last offset of the metadata log that the broker has replayed.
    pub metadata_offset: i64,
    /// Whether it wants to be (or stay) fenced.
    pub want_fence: bool,
    /// Whether it wants to shut down.
    pub want_shut_down: bool,
}

#[derive(Clone, Copy, Debug)]
struct BrokerState {
    fenced: bool,
    metadata_offset: i64,
    /// The metadata offset that all active brokers must reach before this one may go, once it is in controlled
    /// shutdown.
    controlled_shutdown_offset: Option<i64>,
}

impl BrokerState {
    fn is_active(&self) -> bool {
        !self.fenced && self.controlled_shutdown_offset.is_none()
    }

    fn control_state(&self) -> BrokerControlState {
        match self {
            BrokerState { controlled_shutdown_offset: Some(_), .. } => BrokerControlState::ControlledShutdown,
            BrokerState { fenced: true, .. } => BrokerControlState::Fenced,
            _ => BrokerControlState::Unfenced,
        }
    }
}

/// The sessions of all registered brokers.
#[derive(Clone, Debug)]
pub struct HeartbeatManager {
    session_timeout: Nanos,
    brokers: BTreeMap<i32, BrokerState>,
    /// When each broker, in which epoch, was heard last.
    contacts: BTreeMap<(i32, i64), Instant>,
    /// The metadata offsets of active brokers, lowest first.
    active: BTreeSet<(i64, i32)>,
}

impl HeartbeatManager {
    /// No broker yet.
    pub fn new(session_timeout: Nanos) -> HeartbeatManager {
        HeartbeatManager {
            session_timeout,
            brokers: BTreeMap::new(),
            contacts: BTreeMap::new(),
            active: BTreeSet::new(),
        }
    }

    /// Notes that a broker was heard.
    pub fn touch_session(&mut self, broker: i32, epoch: i64, now: Instant) {
        self.contacts.insert((broker, epoch), now);
    }

    /// Ends the session of one incarnation of a broker.
    pub fn remove_session(&mut self, broker: i32, epoch: i64) {
        self.contacts.remove(&(broker, epoch));
    }

    /// Whether this incarnation was heard within the session timeout.
    pub fn has_valid_session(&self, broker: i32, epoch: i64, now: Instant) -> bool {
        self.contacts.get(&(broker, epoch)).is_some_and(|&at| !self.is_expired(at, now))
    }

    /// Ends one session that has expired, if there is one, and says whose it was. One at a time, so that the effect of
    /// each fencing is in place before the next.
    pub fn remove_one_expired(&mut self, now: Instant) -> Option<(i32, i64)> {
        let expired = self.contacts.iter().find(|(_, at)| self.is_expired(**at, now));
        let whose = *expired?.0;
        self.contacts.remove(&whose);
        Some(whose)
    }

    fn is_expired(&self, heard: Instant, now: Instant) -> bool {
        heard + self.session_timeout < now
    }

    /// A registration, or a change of one, was applied.
    pub fn register(&mut self, broker: i32, fenced: bool) {
        let metadata_offset = self.brokers.get(&broker).map_or(-1, |b| b.metadata_offset);
        self.touch(broker, fenced, metadata_offset);
    }

    /// A heartbeat was answered.
    pub fn touch(&mut self, broker: i32, fenced: bool, metadata_offset: i64) {
        self.deactivate(broker);
        let state = self.brokers.entry(broker).or_insert(BrokerState {
            fenced,
            metadata_offset,
            controlled_shutdown_offset: None,
        });
        state.fenced = fenced;
        state.metadata_offset = metadata_offset;
        if fenced {
            state.controlled_shutdown_offset = None;
        }
        if state.is_active() {
            self.active.insert((metadata_offset, broker));
        }
    }

    /// A broker was fenced.
    pub fn fence(&mut self, broker: i32) {
        self.deactivate(broker);
        if let Some(state) = self.brokers.get_mut(&broker) {
            state.fenced = true;
            state.controlled_shutdown_offset = None;
        }
    }

    /// A broker is no longer registered, or registers anew.
    pub fn remove(&mut self, broker: i32) {
        self.deactivate(broker);
        self.brokers.remove(&broker);
    }

    fn deactivate(&mut self, broker: i32) {
        if let Some(state) = self.brokers.get(&broker) {
            self.active.remove(&(state.metadata_offset, broker));
        }
    }

    /// Notes up to where the others must read before a broker in controlled shutdown may go: past the records that
    /// moved its leaderships away. Set once.
    pub fn enter_controlled_shutdown(&mut self, broker: i32, offset: i64) {
        self.deactivate(broker);
        let state = self.brokers.get_mut(&broker).expect("a broker that sent a heartbeat is registered");
        assert!(!state.fenced, "fenced brokers cannot enter controlled shutdown");
        state.controlled_shutdown_offset.get_or_insert(offset);
    }

    fn lowest_active_offset(&self) -> i64 {
        self.active.first().map_or(i64::MAX, |&(offset, _)| offset)
    }

    /// What a broker is and what its heartbeat makes it. `registration_offset` is where its registration stands in the
    /// metadata log: it has to have replayed that before it is unfenced.
    pub fn next_state(
        &self,
        broker: i32,
        heartbeat: Heartbeat,
        registration_offset: i64,
        has_leaderships: bool,
    ) -> (BrokerControlState, BrokerControlState) {
        use BrokerControlState::{ControlledShutdown, Fenced, ShutdownNow, Unfenced};
        let state = self.brokers.get(&broker).expect("a broker that sent a heartbeat is registered");
        let current = state.control_state();
        let next = match current {
            Fenced if heartbeat.want_shut_down => ShutdownNow,
            Fenced if heartbeat.want_fence => Fenced,
            Fenced if heartbeat.metadata_offset >= registration_offset => Unfenced,
            Fenced => Fenced,
            Unfenced => match (heartbeat.want_fence, heartbeat.want_shut_down) {
                (true, true) => ShutdownNow,
                (true, false) => Fenced,
                (false, true) if has_leaderships => ControlledShutdown,
                (false, true) => ShutdownNow,
                (false, false) => Unfenced,
            },
            ControlledShutdown => match state.controlled_shutdown_offset {
                Some(offset) if !has_leaderships && offset <= self.lowest_active_offset() => ShutdownNow,
                _ => ControlledShutdown,
            },
            ShutdownNow => ShutdownNow,
        };
        (current, next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use BrokerControlState::{ControlledShutdown, Fenced, ShutdownNow, Unfenced};

    fn at(ms: u64) -> Instant {
        Instant(0).plus_millis(ms)
    }

    fn manager() -> HeartbeatManager {
        HeartbeatManager::new(Nanos::from_millis(9000))
    }

    fn beat(metadata_offset: i64, want_fence: bool, want_shut_down: bool) -> Heartbeat {
        Heartbeat { metadata_offset, want_fence, want_shut_down }
    }

    #[test]
    fn sessions_expire_one_at_a_time() {
        let mut m = manager();
        m.touch_session(1, 10, at(0));
        m.touch_session(2, 11, at(100));
        m.touch_session(3, 12, at(5000));
        assert_eq!(m.remove_one_expired(at(9000)), None, "the last instant still counts");
        assert_eq!(m.remove_one_expired(at(9200)), Some((1, 10)));
        assert_eq!(m.remove_one_expired(at(9200)), Some((2, 11)));
        assert_eq!(m.remove_one_expired(at(9200)), None);
        assert!(m.has_valid_session(3, 12, at(9200)));
        assert!(!m.has_valid_session(3, 13, at(9200)), "another incarnation has a session of its own");
    }

    #[test]
    fn what_a_heartbeat_makes_of_a_broker() {
        let cases = [
            // (fenced, heartbeat, leads something) -> next
            (true, beat(4, false, false), false, Fenced),
            (true, beat(5, false, false), false, Unfenced),
            (true, beat(5, true, false), false, Fenced),
            (true, beat(5, false, true), false, ShutdownNow),
            (false, beat(5, false, false), true, Unfenced),
            (false, beat(5, true, false), true, Fenced),
            (false, beat(5, true, true), true, ShutdownNow),
            (false, beat(5, false, true), true, ControlledShutdown),
            (false, beat(5, false, true), false, ShutdownNow),
        ];
        for (fenced, heartbeat, leads, expected) in cases {
            let mut m = manager();
            m.register(1, fenced);
            let (current, next) = m.next_state(1, heartbeat, 5, leads);
            assert_eq!(current, if fenced { Fenced } else { Unfenced });
            assert_eq!(next, expected, "fenced {fenced}, {heartbeat:?}, leads {leads}");
        }
    }

    #[test]
    fn controlled_shutdown_waits_for_the_others() {
        let mut m = manager();
        for broker in [1, 2, 3] {
            m.register(broker, false);
            m.touch(broker, false, 50);
        }
        m.enter_controlled_shutdown(1, 60);
        let ask = beat(61, false, true);
        assert_eq!(m.next_state(1, ask, 5, true).1, ControlledShutdown, "it still leads");
        assert_eq!(m.next_state(1, ask, 5, false).1, ControlledShutdown, "2 and 3 have not heard of it");
        m.touch(2, false, 61);
        m.touch(3, false, 59);
        m.enter_controlled_shutdown(1, 70);
        assert_eq!(m.next_state(1, ask, 5, false).1, ControlledShutdown, "3 has not");
        m.touch(3, false, 60);
        assert_eq!(m.next_state(1, ask, 5, false).1, ShutdownNow, "the offset is set once");

        // A broker that is fenced does not hold it up.
        m.touch(3, false, 10);
        assert_eq!(m.next_state(1, ask, 5, false).1, ControlledShutdown);
        m.fence(3);
        assert_eq!(m.next_state(1, ask, 5, false).1, ShutdownNow);
    }
}
