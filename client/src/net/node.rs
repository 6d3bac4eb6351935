//! One broker's connection (`ClusterConnectionStates.java`, `InFlightRequests.java`, `NodeApiVersions.java`).

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use wire::drive::{ConnId, Endpoint, Instant, Nanos};
use wire::error::ErrorCode;
use wire::frame::ResponseHeader;
use wire::messages::api_versions_response::ApiVersionsResponse;
use wire::{ApiKey, DecodeError, Message, Reader, Rope, VersionRange};

use super::sooner;
use crate::Rng;
use crate::backoff::Backoff;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Disconnected,
    Connecting,
    CheckingVersions,
    Ready,
}

/// Whose request it is.
#[derive(Clone, Debug)]
pub(super) enum Kind<C> {
    Versions,
    Metadata,
    Call(C),
}

/// A request that was sent and not answered yet.
#[derive(Clone, Debug)]
pub(super) struct InFlight<C> {
    pub correlation: i32,
    pub key: ApiKey,
    pub version: i16,
    pub deadline: Instant,
    pub kind: Kind<C>,
}

/// What a broker's ApiVersions said.
#[derive(Clone, Debug, Default)]
pub(super) struct Versions {
    ranges: Vec<(i16, VersionRange)>,
    /// The answer itself.
    pub frame: Option<Rope>,
}

impl Versions {
    pub fn range(&self, key: ApiKey) -> Option<VersionRange> {
        let at = self.ranges.binary_search_by_key(&(key as i16), |&(key, _)| key).ok()?;
        Some(self.ranges[at].1)
    }

    /// Takes the answer. A broker that does not know the version answers with a body of version 0.
    pub fn take(&mut self, frame: &Rope, version: i16) -> Result<ErrorCode, DecodeError> {
        let mut reader = Reader::new(frame);
        ResponseHeader::decode(&mut reader, ApiKey::ApiVersions, version)?;
        let refused = reader.clone().i16()? == ErrorCode::UNSUPPORTED_VERSION.0;
        let response = ApiVersionsResponse::decode(&mut reader, if refused { 0 } else { version })?;
        reader.finish()?;
        let range = |api: &wire::messages::api_versions_response::ApiVersion| {
            (api.api_key, VersionRange { min: api.min_version, max: api.max_version })
        };
        self.ranges = response.api_keys.iter().map(range).collect();
        self.ranges.sort_by_key(|&(key, _)| key);
        self.frame = (!refused).then(|| frame.clone());
        Ok(ErrorCode(response.error_code))
    }
}

#[derive(Clone, Debug)]
pub(super) struct Node<C> {
    pub id: i32,
    pub endpoint: Endpoint,
    /// Whether the metadata names it.
    pub known: bool,
    /// It is a connection of its own to a group's coordinator, which no metadata names.
    pub pinned: bool,
    pub state: State,
    pub conn: Option<ConnId>,
    pub versions: Versions,
    pub in_flight: VecDeque<InFlight<C>>,
    pub last_attempt: Option<Instant>,
    pub last_used: Instant,
    pub setup_timeout: Nanos,
    /// Somebody waits for its backoff to end.
    pub wanted: bool,
    /// It asked to be left alone until then.
    throttled_until: Option<Instant>,
    reconnect_after: Nanos,
    failures: u32,
    setup_failures: u32,
    backoff: Backoff,
    setup: Backoff,
}

impl<C> Node<C> {
    pub fn new(id: i32, endpoint: Endpoint, (backoff, setup): (Backoff, Backoff), rng: &mut Rng) -> Node<C> {
        Node {
            id,
            endpoint,
            known: true,
            pinned: false,
            state: State::Disconnected,
            conn: None,
            versions: Versions::default(),
            in_flight: VecDeque::new(),
            last_attempt: None,
            last_used: Instant(0),
            setup_timeout: setup.after(0, rng),
            wanted: false,
            throttled_until: None,
            reconnect_after: Nanos::ZERO,
            failures: 0,
            setup_failures: 0,
            backoff,
            setup,
        }
    }

    pub fn can_send(&self, max_in_flight: usize) -> bool {
        self.state == State::Ready && self.in_flight.len() < max_in_flight && self.throttled_until.is_none()
    }

    /// Nothing is sent to it until then; a longer time that it asked for before holds.
    pub fn throttle(&mut self, until: Instant) {
        self.throttled_until = self.throttled_until.max(Some(until));
    }

    /// Whether it is still to be left alone; forgets that it was, once it is not.
    pub fn is_throttled(&mut self, now: Instant) -> bool {
        self.throttled_until = self.throttled_until.filter(|until| *until > now);
        self.throttled_until.is_some()
    }

    pub fn can_connect(&self, now: Instant) -> bool {
        self.state == State::Disconnected && !self.is_blacked_out(now)
    }

    pub fn is_blacked_out(&self, now: Instant) -> bool {
        self.state == State::Disconnected && self.reconnect_at().is_some_and(|at| at > now)
    }

    fn reconnect_at(&self) -> Option<Instant> {
        self.last_attempt.map(|at| at + self.reconnect_after)
    }

    pub fn connecting(&mut self, now: Instant, conn: ConnId) {
        self.state = State::Connecting;
        self.conn = Some(conn);
        self.last_attempt = Some(now);
        self.last_used = now;
        self.wanted = false;
    }

    pub fn is_ready(&mut self, rng: &mut Rng) {
        self.state = State::Ready;
        self.failures = 0;
        self.setup_failures = 0;
        self.setup_timeout = self.setup.after(0, rng);
    }

    pub fn sent(&mut self, now: Instant, request: InFlight<C>) {
        self.last_used = now;
        self.in_flight.push_back(request);
    }

    pub fn disconnected(&mut self, now: Instant, rng: &mut Rng) {
        if self.state == State::Connecting {
            self.setup_failures = self.setup_failures.saturating_add(1);
        } else {
            self.setup_failures = 0;
        }
        self.setup_timeout = self.setup.after(self.setup_failures, rng);
        self.state = State::Disconnected;
        self.last_attempt = Some(now);
        self.reconnect_after = self.backoff.after(self.failures, rng);
        self.failures = self.failures.saturating_add(1);
    }

    pub fn is_setup_overdue(&self, now: Instant) -> bool {
        self.state == State::Connecting && self.setup_deadline().is_some_and(|at| at <= now)
    }

    fn setup_deadline(&self) -> Option<Instant> {
        self.last_attempt.map(|at| at + self.setup_timeout)
    }

    pub fn is_request_overdue(&self, now: Instant) -> bool {
        self.in_flight.iter().any(|request| request.deadline <= now)
    }

    pub fn is_idle(&self, now: Instant, max_idle: Nanos) -> bool {
        self.conn.is_some() && self.in_flight.is_empty() && self.last_used + max_idle <= now
    }

    pub fn deadline(&self, max_idle: Nanos) -> Option<Instant> {
        sooner(self.throttled_until, self.deadline_with(max_idle, |_| true))
    }

    /// Without the deadlines of the owner's requests.
    pub fn deadline_of_connection(&self, max_idle: Nanos) -> Option<Instant> {
        let own = self.deadline_with(max_idle, |kind| !matches!(kind, Kind::Call(_)));
        sooner(self.throttled_until, own)
    }

    fn deadline_with(&self, max_idle: Nanos, counts: impl Fn(&Kind<C>) -> bool) -> Option<Instant> {
        match self.state {
            State::Disconnected if self.wanted => self.reconnect_at(),
            State::Disconnected => None,
            State::Connecting => self.setup_deadline(),
            State::CheckingVersions | State::Ready if self.in_flight.is_empty() => {
                Some(self.last_used + max_idle)
            }
            State::CheckingVersions | State::Ready => {
                let counted = self.in_flight.iter().filter(|request| counts(&request.kind));
                counted.map(|request| request.deadline).min()
            }
        }
    }
}
