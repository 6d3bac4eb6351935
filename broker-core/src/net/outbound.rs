//! The connection of one class to one peer, and the requests on it.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;

use wire::drive::{ConnError, ConnId, Instant, Nanos};
use wire::frame::{ResponseHeader, encode_request};
use wire::{ApiKey, Reader, Request, Rope};

use super::{Call, CallOutcome, ConnClass};
use crate::io::{Output, Outputs};

/// The first wait before another attempt to connect.
const RECONNECT_BACKOFF: Nanos = Nanos::from_millis(50);
/// The longest wait between attempts of the quorum's channel. Kafka gives the channels to the controller a constant
/// backoff, since their retries are bounded otherwise.
const RECONNECT_BACKOFF_MAX: Nanos = Nanos::from_millis(500);

#[derive(Clone)]
struct Pending {
    correlation_id: i32,
    key: ApiKey,
    version: i16,
    deadline: Instant,
    call: Call,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// No connection; one is made with the next request.
    Idle,
    /// No connection until then.
    Backoff { until: Instant },
    /// Asked for, not standing yet.
    Connecting { conn: ConnId, gives_up: Instant },
    /// Standing.
    Connected { conn: ConnId },
}

#[derive(Clone)]
pub(super) struct Channel {
    class: ConnClass,
    /// How this node calls itself there.
    client_id: String,
    state: State,
    /// Attempts in a row that failed.
    failures: u32,
    /// Attempts in a row that nobody answered.
    silences: u32,
    next_correlation_id: i32,
    /// Sent, in order.
    in_flight: VecDeque<Pending>,
    /// Encoded, waiting for the connection, in order.
    waiting: VecDeque<(Pending, Rope)>,
    last_active: Instant,
}

impl Channel {
    pub(super) fn new(class: ConnClass, node_id: i32) -> Channel {
        Channel {
            class,
            client_id: match class {
                ConnClass::Raft => format!("raft-client-{node_id}"),
                ConnClass::Fetcher => format!("broker-{node_id}-fetcher-0"),
                ConnClass::Verification => format!("AddPartitionsToTxnManager-client-{node_id}"),
                ConnClass::Markers => format!("broker-{node_id}-txn-marker-sender"),
                ConnClass::AlterPartition | ConnClass::Lifecycle | ConnClass::Forwarding => {
                    format!("{node_id}")
                }
            },
            state: State::Idle,
            failures: 0,
            silences: 0,
            next_correlation_id: 0,
            in_flight: VecDeque::new(),
            waiting: VecDeque::new(),
            last_active: Instant::default(),
        }
    }

    pub(super) fn conn(&self) -> Option<ConnId> {
        match self.state {
            State::Connecting { conn, .. } | State::Connected { conn } => Some(conn),
            State::Idle | State::Backoff { .. } => None,
        }
    }

    pub(super) fn last_active(&self) -> Instant {
        self.last_active
    }

    /// Sends a request, or keeps it until the connection stands.
    pub(super) fn send<'r, R: Request<'r>>(
        &mut self,
        now: Instant,
        out: &mut Outputs,
        request: &R,
        version: i16,
        timeout: Nanos,
        call: Call,
    ) {
        let correlation_id = self.next_correlation_id;
        self.next_correlation_id = self.next_correlation_id.wrapping_add(1) & i32::MAX;
        let frame = encode_request(version, correlation_id, Some(&self.client_id), request)
            .unwrap_or_else(|e| panic!("a {} request: {e}", R::KEY));
        let pending = Pending { correlation_id, key: R::KEY, version, deadline: now + timeout, call };
        match self.state {
            State::Connected { conn } => {
                self.last_active = now;
                out.items.push(Output::Send { conn, frame });
                self.in_flight.push_back(pending);
            }
            _ => self.waiting.push_back((pending, frame)),
        }
    }

    /// Whether a connection should be asked for now.
    pub(super) fn wants_connection(&self, now: Instant) -> bool {
        let free = match self.state {
            State::Idle => true,
            State::Backoff { until } => until <= now,
            State::Connecting { .. } | State::Connected { .. } => false,
        };
        free && !self.waiting.is_empty()
    }

    /// A connection was asked for.
    pub(super) fn connecting(&mut self, now: Instant, conn: ConnId, setup: Nanos, setup_max: Nanos) {
        let patience = Nanos(setup.0.saturating_mul(1 << self.silences.min(16)).min(setup_max.0));
        self.last_active = now;
        self.state = State::Connecting { conn, gives_up: now + patience };
    }

    /// The connection stands: what waited is sent.
    pub(super) fn connected(&mut self, now: Instant, conn: ConnId, out: &mut Outputs) {
        debug_assert_eq!(self.conn(), Some(conn));
        self.state = State::Connected { conn };
        self.failures = 0;
        self.silences = 0;
        self.last_active = now;
        for (pending, frame) in self.waiting.drain(..) {
            out.items.push(Output::Send { conn, frame });
            self.in_flight.push_back(pending);
        }
    }

    /// The endpoint is not known: what waits fails when the backoff that begins now ends.
    pub(super) fn unreachable(&mut self, now: Instant, outcomes: &mut VecDeque<(Call, CallOutcome)>) {
        if let State::Backoff { until } = self.state
            && until <= now
        {
            self.fail_waiting(ConnError::UnknownHost, outcomes);
            self.state = State::Idle;
            return;
        }
        self.back_off(now);
    }

    /// The connection could not be made, or broke.
    pub(super) fn lost(
        &mut self,
        now: Instant,
        why: ConnError,
        outcomes: &mut VecDeque<(Call, CallOutcome)>,
    ) {
        self.drop_all(why, outcomes);
        self.back_off(now);
    }

    /// Ends every request, sent or not, as disconnected.
    pub(super) fn drop_all(&mut self, why: ConnError, outcomes: &mut VecDeque<(Call, CallOutcome)>) {
        for pending in self.in_flight.drain(..) {
            outcomes.push_back((pending.call, CallOutcome::Disconnected(why)));
        }
        self.fail_waiting(why, outcomes);
    }

    fn fail_waiting(&mut self, why: ConnError, outcomes: &mut VecDeque<(Call, CallOutcome)>) {
        for (pending, _) in self.waiting.drain(..) {
            outcomes.push_back((pending.call, CallOutcome::Disconnected(why)));
        }
    }

    /// No connection any more, and no wait before the next.
    pub(super) fn reset(&mut self, now: Instant) {
        self.last_active = now;
        self.state = State::Idle;
    }

    fn back_off(&mut self, now: Instant) {
        let wait = match self.class {
            // The fetcher backs off by itself (replica.fetch.backoff.ms).
            ConnClass::Fetcher => Nanos::ZERO,
            ConnClass::Raft => {
                Nanos((RECONNECT_BACKOFF.0 << self.failures.min(8)).min(RECONNECT_BACKOFF_MAX.0))
            }
            ConnClass::AlterPartition
            | ConnClass::Lifecycle
            | ConnClass::Forwarding
            | ConnClass::Verification
            | ConnClass::Markers => RECONNECT_BACKOFF,
        };
        self.failures += 1;
        self.state = State::Backoff { until: now + wait };
    }

    /// A frame came: the answer to the oldest request, or why the connection must be closed.
    pub(super) fn answer(&mut self, now: Instant, frame: Rope) -> Result<(Call, CallOutcome), String> {
        self.last_active = now;
        let Some(pending) = self.in_flight.front() else {
            return Err("a response came to no request".into());
        };
        let mut reader = Reader::new(&frame);
        let header = ResponseHeader::decode(&mut reader, pending.key, pending.version)
            .map_err(|e| format!("the header of a {} response: {e}", pending.key))?;
        if header.correlation_id != pending.correlation_id {
            return Err(format!(
                "Correlation id for response ({}) does not match request ({})",
                header.correlation_id, pending.correlation_id
            ));
        }
        let start = reader.position();
        let body = frame.slice(start, frame.len() - start);
        let pending = self.in_flight.pop_front().expect("its front was just looked at");
        Ok((pending.call, CallOutcome::Answered { body, version: pending.version }))
    }

    /// Ends what has waited too long. If that was a sent request the connection goes with it, and with the connection
    /// everything else that was sent, as in Kafka: its id is returned, to be closed.
    pub(super) fn expire(
        &mut self,
        now: Instant,
        outcomes: &mut VecDeque<(Call, CallOutcome)>,
    ) -> Option<ConnId> {
        let conn = self.conn();
        let mut close = false;
        if let State::Connecting { gives_up, .. } = self.state
            && gives_up <= now
        {
            self.silences += 1;
            self.lost(now, ConnError::TimedOut, outcomes);
            close = true;
        }
        if self.in_flight.iter().any(|p| p.deadline <= now) {
            for pending in self.in_flight.drain(..) {
                let outcome = if pending.deadline <= now {
                    CallOutcome::TimedOut
                } else {
                    CallOutcome::Disconnected(ConnError::TimedOut)
                };
                outcomes.push_back((pending.call, outcome));
            }
            self.back_off(now);
            close = true;
        }
        for _ in 0..self.waiting.len() {
            let (pending, frame) = self.waiting.pop_front().expect("counted");
            if pending.deadline <= now {
                outcomes.push_back((pending.call, CallOutcome::TimedOut));
            } else {
                self.waiting.push_back((pending, frame));
            }
        }
        conn.filter(|_| close)
    }

    /// When something happens here without an input.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let in_flight = self.in_flight.iter().map(|p| p.deadline).min();
        let waiting = self.waiting.iter().map(|(p, _)| p.deadline).min();
        let state = match self.state {
            State::Backoff { until } if !self.waiting.is_empty() => Some(until),
            State::Connecting { gives_up, .. } => Some(gives_up),
            _ => None,
        };
        [in_flight, waiting, state].into_iter().flatten().min()
    }
}
