//! One request at a time to each peer, with a pause after a failure (`RequestManager`).
//!
//! A follower may have only one Fetch under way to anybody: two answers could make it append one offset twice. So
//! answers are taken only if they belong to the request that is still wanted; a state change forgets them all.

use alloc::vec::Vec;
use rand_core::Rng as _;
use wire::drive::{Instant, Nanos};

use crate::ctx::Rng;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Connection {
    Ready,
    Awaiting { call: u64 },
    BackingOff { until: Instant },
}

/// Requests under way and pauses, by peer.
#[derive(Clone, Debug)]
pub(super) struct RequestManager {
    peers: Vec<(i32, Connection)>,
    next_call: u64,
    retry_backoff: Nanos,
}

impl RequestManager {
    pub(super) fn new(retry_backoff: Nanos) -> RequestManager {
        RequestManager { peers: Vec::new(), next_call: 0, retry_backoff }
    }

    /// Whether a request may be sent to the peer now.
    pub(super) fn is_ready(&self, peer: i32, now: Instant) -> bool {
        match self.connection(peer) {
            Connection::Ready => true,
            Connection::Awaiting { .. } => false,
            Connection::BackingOff { until } => now >= until,
        }
    }

    /// Whether the peer failed a moment ago.
    pub(super) fn is_backing_off(&self, peer: i32, now: Instant) -> bool {
        matches!(self.connection(peer), Connection::BackingOff { until } if now < until)
    }

    /// Whether any request waits for its answer.
    pub(super) fn has_in_flight(&self) -> bool {
        self.peers.iter().any(|(_, connection)| matches!(connection, Connection::Awaiting { .. }))
    }

    /// A peer of these to which a request may be sent, found from a random start; none while one is under way.
    pub(super) fn find_ready(&self, peers: &[i32], now: Instant, rng: &mut Rng) -> Option<i32> {
        if peers.is_empty() || self.has_in_flight() {
            return None;
        }
        let start = rng.next_u32() as usize % peers.len();
        (0..peers.len()).map(|i| peers[(start + i) % peers.len()]).find(|&peer| self.is_ready(peer, now))
    }

    /// A request leaves; returns the id that its answer must bear.
    pub(super) fn sent(&mut self, peer: i32) -> u64 {
        self.next_call += 1;
        let call = self.next_call;
        *self.connection_mut(peer) = Connection::Awaiting { call };
        call
    }

    /// Whether the answer to `call` is still wanted.
    pub(super) fn is_expected(&self, peer: i32, call: u64) -> bool {
        self.connection(peer) == Connection::Awaiting { call }
    }

    /// The answer came: the peer is ready, or pauses for `retry.backoff` when it was of no use.
    pub(super) fn answered(&mut self, peer: i32, call: u64, useful: bool, now: Instant) {
        if !self.is_expected(peer, call) {
            return; // the handler changed state, which forgot all requests
        }
        *self.connection_mut(peer) = if useful {
            Connection::Ready
        } else {
            Connection::BackingOff { until: now + self.retry_backoff }
        };
    }

    /// Forgets all: answers still to come are not wanted any more.
    pub(super) fn reset_all(&mut self) {
        self.peers.clear();
    }

    /// When the next pause ends.
    pub(super) fn next_ready(&self, now: Instant) -> Option<Instant> {
        self.peers
            .iter()
            .filter_map(|(_, connection)| match connection {
                Connection::BackingOff { until } if *until > now => Some(*until),
                _ => None,
            })
            .min()
    }

    fn connection(&self, peer: i32) -> Connection {
        self.peers.iter().find(|(id, _)| *id == peer).map_or(Connection::Ready, |(_, connection)| *connection)
    }

    fn connection_mut(&mut self, peer: i32) -> &mut Connection {
        let index = match self.peers.iter().position(|(id, _)| *id == peer) {
            Some(index) => index,
            None => {
                self.peers.push((peer, Connection::Ready));
                self.peers.len() - 1
            }
        };
        &mut self.peers[index].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::SeedableRng;

    fn ms(ms: u64) -> Instant {
        Instant::default().plus_millis(ms)
    }

    #[test]
    fn one_request_at_a_time_and_a_pause_after_failure() {
        let mut requests = RequestManager::new(Nanos::from_millis(20));
        let mut rng = Rng::seed_from_u64(1);
        assert!(requests.is_ready(2, ms(0)));
        let call = requests.sent(2);
        assert!(!requests.is_ready(2, ms(0)) && requests.is_ready(3, ms(0)));
        assert_eq!(requests.find_ready(&[2, 3], ms(0), &mut rng), None, "one is under way");
        requests.answered(2, call + 1, true, ms(1));
        assert!(requests.is_expected(2, call), "an answer to another call changes nothing");
        requests.answered(2, call, false, ms(10));
        assert!(requests.is_backing_off(2, ms(29)) && !requests.is_backing_off(2, ms(30)));
        assert_eq!(requests.next_ready(ms(10)), Some(ms(30)));
        assert_eq!(requests.find_ready(&[2, 3], ms(10), &mut rng), Some(3));
        assert_eq!(requests.find_ready(&[2], ms(10), &mut rng), None);
        assert_eq!(requests.find_ready(&[2], ms(30), &mut rng), Some(2));
        let stale = requests.sent(2);
        requests.reset_all();
        assert!(!requests.is_expected(2, stale) && requests.is_ready(2, ms(30)));
    }
}
