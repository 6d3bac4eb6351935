//! The connections of a node: requests in, in order and one at a time; requests out, with their outcomes.
//!
//! Inbound connections follow `SocketServer`: while a request of a connection is being handled the connection is
//! muted, later frames wait in a short queue, and the driver is told to pause when that queue is full or when answers
//! jam. Outbound connections follow `NetworkClient`: made when first needed, one per peer and [`ConnClass`], kept, with
//! correlation ids, request time-outs and a growing reconnect backoff.
//!
//! No work here is proportional to the number of connections, except when a timer is due. The deadline is a lower bound:
//! it may fire early, never late.

mod call;
mod inbound;
mod outbound;
mod throttle;
mod token;

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::hash::{BuildHasherDefault, Hasher};

use hashbrown::HashMap;
use wire::drive::{ConnError, ConnId, Endpoint, Instant, Nanos, Now};
use wire::frame::{encode_response, encode_response_at};
use wire::messages::EnvelopeResponse;
use wire::{ApiKey, Message, Request, Rope};

pub use call::{
    AlterPartitionCall, Call, CallOutcome, ConnClass, FetchCall, Peer, RaftCall, TransactionCall, VerifyCall,
};
pub use token::{EnvelopeToken, RequestToken};

use crate::config::NodeConfig;
use crate::event::Event;
use crate::io::{Listener, Output, Outputs};
use crate::quota::clients::ClientQuotas;
use inbound::Inbound;
use outbound::Channel;

/// A fixed hasher for connection ids, which are counted up: a multiplication spreads them.
#[derive(Clone, Copy, Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &b in bytes {
            self.write_u64(u64::from(b));
        }
    }
    fn write_u64(&mut self, n: u64) {
        self.0 = (self.0 ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }
}

/// A connection's state, by its id. Never iterated in hash order: the slots are.
#[derive(Clone, Default)]
struct Conns {
    index: HashMap<ConnId, u32, BuildHasherDefault<IdHasher>>,
    slots: Vec<Option<(ConnId, Conn)>>,
    free: Vec<u32>,
}

/// One connection.
#[derive(Clone)]
enum Conn {
    /// Somebody connected to this node.
    In(Inbound),
    /// This node connected to a peer.
    Out(Peer, ConnClass),
}

impl Conns {
    fn insert(&mut self, id: ConnId, conn: Conn) {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.slots.push(None);
                self.slots.len() as u32 - 1
            }
        };
        self.slots[slot as usize] = Some((id, conn));
        let before = self.index.insert(id, slot);
        assert!(before.is_none(), "connection {} is opened twice", id.0);
    }

    fn remove(&mut self, id: ConnId) -> Option<Conn> {
        let slot = self.index.remove(&id)?;
        self.free.push(slot);
        self.slots[slot as usize].take().map(|(_, conn)| conn)
    }

    #[inline]
    fn get_mut(&mut self, id: ConnId) -> Option<&mut Conn> {
        let slot = *self.index.get(&id)?;
        self.slots[slot as usize].as_mut().map(|(_, conn)| conn)
    }

    #[inline]
    fn inbound(&mut self, id: ConnId) -> Option<&mut Inbound> {
        match self.get_mut(id)? {
            Conn::In(inbound) => Some(inbound),
            Conn::Out(..) => None,
        }
    }
}

/// What a frame turned out to be.
pub enum Arrived {
    /// A request to handle now.
    Request {
        /// Where it came from.
        conn: ConnId,
        /// The listener of that connection.
        listener: Listener,
        /// Header and body.
        frame: Rope,
    },
    /// The answer to a request of this node.
    Answer(Call, CallOutcome),
    /// Nothing to do now: it waits its turn, or its connection is gone.
    Nothing,
}

/// The connections of a node.
#[derive(Clone)]
pub struct Net {
    conns: Conns,
    /// Inbound connections that may be read from again and have a frame waiting.
    ready: VecDeque<ConnId>,
    channels: BTreeMap<(Peer, ConnClass), Channel>,
    endpoints: BTreeMap<Peer, Endpoint>,
    outcomes: VecDeque<(Call, CallOutcome)>,
    active_controller: Option<i32>,
    node_id: i32,
    max_idle: Option<Nanos>,
    setup_timeout: Nanos,
    setup_timeout_max: Nanos,
    /// Not later than the next time-out of a call or the end of a backoff.
    calls_due: Option<Instant>,
    /// Not later than the next connection that has idled too long.
    idle_due: Option<Instant>,
    quotas: ClientQuotas,
    /// Inbound connections that are answered and stay muted, and until when.
    throttled: BTreeSet<(Instant, ConnId)>,
}

impl Net {
    /// No connections yet; the voters' endpoints are known from the configuration.
    pub fn new(config: &NodeConfig) -> Net {
        let voters = config.quorum.voters.iter().map(|v| (v.id, &v.endpoint));
        // A controller that leads asks itself, too, and where the voters are in the log nobody says where that is.
        let own = config.controller_listener().map(|own| (config.node_id, &own.endpoint));
        Net {
            conns: Conns::default(),
            ready: VecDeque::new(),
            channels: BTreeMap::new(),
            endpoints: own
                .into_iter()
                .chain(voters)
                .map(|(id, at)| (Peer::Controller(id), at.clone()))
                .collect(),
            outcomes: VecDeque::new(),
            active_controller: None,
            node_id: config.node_id,
            max_idle: config.connections_max_idle,
            setup_timeout: config.connection_setup_timeout,
            setup_timeout_max: config.connection_setup_timeout_max,
            calls_due: None,
            idle_due: None,
            quotas: ClientQuotas::new(config),
            throttled: BTreeSet::new(),
        }
    }

    /// Where a peer is to be found from now on; a standing connection to it stays.
    pub fn set_endpoint(&mut self, peer: Peer, endpoint: Endpoint) {
        self.endpoints.insert(peer, endpoint);
    }

    /// A peer is gone for good: a call to it fails.
    pub fn remove_endpoint(&mut self, peer: Peer) {
        self.endpoints.remove(&peer);
    }

    /// Where a peer is to be found.
    pub fn endpoint(&self, peer: Peer) -> Option<&Endpoint> {
        self.endpoints.get(&peer)
    }

    /// The active controller as far as this node's quorum state knows: where requests for it go.
    pub fn active_controller(&self) -> Option<Peer> {
        self.active_controller.map(Peer::Controller)
    }

    /// The quorum has another leader, or none that is known.
    pub fn set_active_controller(&mut self, leader: Option<i32>) {
        self.active_controller = leader;
    }

    // --- requests from others

    /// Answers a request: the response is encoded at once (inside an EnvelopeResponse when the request came in an
    /// Envelope) and the next request of the connection may be handled. Nothing happens if the connection is gone.
    pub fn respond<'r, M: Message<'r>>(&mut self, out: &mut Outputs, token: RequestToken, response: &M) {
        if self.conns.inbound(token.conn).is_none() {
            return;
        }
        let frame = encode_response(token.key, token.version, token.correlation_id, response);
        let frame = frame.unwrap_or_else(|e| panic!("the answer to {} v{}: {e}", token.key, token.version));
        match token.envelope {
            None => self.answered(out, token, Some(frame)),
            Some(envelope) => {
                let data = frame.slice(4, frame.len() - 4).to_bytes();
                let wrapped = EnvelopeResponse { response_data: Some((&data[..]).into()), error_code: 0 };
                self.respond_envelope(out, token, envelope, &wrapped);
            }
        }
    }

    /// Answers a request with a body of another version than its own: ApiVersions does, and nothing else.
    pub fn respond_at<'r, M: Message<'r>>(
        &mut self,
        out: &mut Outputs,
        token: RequestToken,
        body_version: i16,
        response: &M,
    ) {
        let frame =
            encode_response_at(token.key, token.version, body_version, token.correlation_id, response);
        let frame = frame.unwrap_or_else(|e| panic!("the answer to {} v{}: {e}", token.key, body_version));
        self.answered(out, token, Some(frame));
    }

    /// Tells the broker that passed this request on in an Envelope that the Envelope failed: with NOT_CONTROLLER it
    /// looks for the active controller and tries again. False, and nothing done, if there is no Envelope.
    pub fn refuse_envelope(&mut self, out: &mut Outputs, token: RequestToken, error_code: i16) -> bool {
        let Some(envelope) = token.envelope else { return false };
        let refused = EnvelopeResponse { response_data: None, error_code };
        self.respond_envelope(out, token, envelope, &refused);
        true
    }

    fn respond_envelope(
        &mut self,
        out: &mut Outputs,
        token: RequestToken,
        envelope: EnvelopeToken,
        response: &EnvelopeResponse<'_>,
    ) {
        let frame = encode_response(ApiKey::Envelope, envelope.version, envelope.correlation_id, response);
        self.answered(out, token, Some(frame.expect("an EnvelopeResponse has no limits but the frame's")));
    }

    /// Answers a request with bytes that are a response already, header included: a forwarded one that came back.
    pub fn respond_bytes(&mut self, out: &mut Outputs, token: RequestToken, response: Rope) {
        assert!(token.envelope.is_none(), "a forwarded request is not forwarded again");
        let mut frame = Rope::from(bytes::Bytes::copy_from_slice(&(response.len() as u32).to_be_bytes()));
        frame.append(response);
        self.answered(out, token, Some(frame));
    }

    /// A request that has no answer (acks=0) is done.
    pub fn respond_nothing(&mut self, out: &mut Outputs, token: RequestToken) {
        self.answered(out, token, None);
    }

    #[inline]
    fn answered(&mut self, out: &mut Outputs, token: RequestToken, frame: Option<Rope>) {
        let Some(inbound) = self.conns.inbound(token.conn) else { return };
        if let Some(frame) = frame {
            out.items.push(Output::Send { conn: token.conn, frame });
        }
        if let Some(until) = inbound.throttled_until() {
            self.throttled.insert((until, token.conn));
        } else if inbound.unmute() {
            self.ready.push_back(token.conn);
        }
    }

    /// Whether the connection of a request still stands.
    pub fn is_open(&self, token: &RequestToken) -> bool {
        self.conns.index.contains_key(&token.conn)
    }

    /// The address of the peer of an inbound connection, as Kafka prints it.
    pub fn peer_address(&mut self, conn: ConnId) -> Option<&str> {
        self.conns.inbound(conn).map(|inbound| inbound.peer())
    }

    /// Closes a connection because of what came over it.
    pub fn close(&mut self, out: &mut Outputs, conn: ConnId, why: impl Into<String>) {
        let Some(state) = self.conns.remove(conn) else { return };
        let why = why.into();
        let peer = match &state {
            Conn::In(inbound) => String::from(inbound.peer()),
            Conn::Out(peer, _) => self.endpoints.get(peer).map(|e| alloc::format!("{e}")).unwrap_or_default(),
        };
        out.items.push(Output::Close { conn, why: why.clone() });
        out.event(|| Event::ConnectionRefused { peer, why });
    }

    // --- what the driver says

    /// Somebody connected.
    pub fn accepted(&mut self, now: Now, conn: ConnId, listener: Listener, peer: String) {
        self.conns.insert(conn, Conn::In(Inbound::new(listener, peer, now.mono)));
        self.arm_idle(now.mono);
    }

    /// A frame arrived.
    #[inline]
    pub fn frame(&mut self, now: Now, out: &mut Outputs, conn: ConnId, frame: Rope) -> Arrived {
        match self.conns.get_mut(conn) {
            Some(Conn::In(inbound)) => {
                let listener = inbound.listener();
                match inbound.arrived(now.mono, conn, frame, out) {
                    Some(frame) => Arrived::Request { conn, listener, frame },
                    None => Arrived::Nothing,
                }
            }
            Some(&mut Conn::Out(peer, class)) => self.answer(now, out, conn, (peer, class), frame),
            None => Arrived::Nothing,
        }
    }

    /// The next frame that waited for its turn, in the order in which the turns came.
    #[inline]
    pub fn next_request(&mut self, out: &mut Outputs) -> Option<(ConnId, Listener, Rope)> {
        while let Some(conn) = self.ready.pop_front() {
            let Some(inbound) = self.conns.inbound(conn) else { continue };
            let listener = inbound.listener();
            if let Some(frame) = inbound.next(conn, out) {
                return Some((conn, listener, frame));
            }
        }
        None
    }

    /// The driver passed on what it was given; `bytes_left` still wait there.
    pub fn sent(&mut self, out: &mut Outputs, conn: ConnId, bytes_left: usize) {
        if let Some(inbound) = self.conns.inbound(conn)
            && inbound.sent(conn, bytes_left, out)
        {
            self.ready.push_back(conn);
        }
    }

    /// A connection is gone.
    pub fn closed(&mut self, now: Now, conn: ConnId, why: ConnError) {
        if let Some(Conn::Out(peer, class)) = self.conns.remove(conn) {
            self.lost((peer, class), now.mono, why);
        }
    }

    /// A connection that was asked for stands.
    pub fn connected(&mut self, now: Now, out: &mut Outputs, conn: ConnId) {
        let Some(&mut Conn::Out(peer, class)) = self.conns.get_mut(conn) else { return };
        if let Some(channel) = self.channels.get_mut(&(peer, class)) {
            channel.connected(now.mono, conn, out);
        }
        self.arm_idle(now.mono);
    }

    // --- requests to others

    /// Sends a request to a peer over the connection of the call's class, which is made if need be. Its owner hears of
    /// its outcome exactly once. Several may be under way; they are answered in order.
    #[allow(
        clippy::too_many_arguments,
        reason = "one call of the core's busiest interface, each argument distinct"
    )]
    pub fn call<'r, R: Request<'r>>(
        &mut self,
        now: Now,
        out: &mut Outputs,
        to: Peer,
        request: &R,
        version: i16,
        timeout: Nanos,
        call: Call,
    ) {
        let key = (to, call.class());
        let node_id = self.node_id;
        let channel = self.channels.entry(key).or_insert_with(|| Channel::new(key.1, node_id));
        channel.send(now.mono, out, request, version, timeout, call);
        let due = channel.next_due();
        self.connect_if_wanted(now.mono, out, key);
        self.arm_calls(due);
    }

    /// Closes the connection of a class to a peer; calls under way on it end as disconnected.
    pub fn disconnect(&mut self, now: Now, out: &mut Outputs, to: Peer, class: ConnClass) {
        let Some(channel) = self.channels.get_mut(&(to, class)) else { return };
        let conn = channel.conn();
        channel.drop_all(ConnError::Closed, &mut self.outcomes);
        channel.reset(now.mono);
        if let Some(conn) = conn {
            self.conns.remove(conn);
            out.items.push(Output::Close { conn, why: "no longer needed".into() });
        }
    }

    /// The outcomes of calls that ended without an answer, in order.
    pub fn next_outcome(&mut self) -> Option<(Call, CallOutcome)> {
        self.outcomes.pop_front()
    }

    fn answer(
        &mut self,
        now: Now,
        out: &mut Outputs,
        conn: ConnId,
        key: (Peer, ConnClass),
        frame: Rope,
    ) -> Arrived {
        let channel = self.channels.get_mut(&key).expect("a connection to a peer belongs to a channel");
        match channel.answer(now.mono, frame) {
            Ok((call, outcome)) => Arrived::Answer(call, outcome),
            Err(why) => {
                self.close(out, conn, why);
                self.lost(key, now.mono, ConnError::Closed);
                Arrived::Nothing
            }
        }
    }

    fn lost(&mut self, key: (Peer, ConnClass), now: Instant, why: ConnError) {
        let channel = self.channels.get_mut(&key).expect("a connection to a peer belongs to a channel");
        channel.lost(now, why, &mut self.outcomes);
        let due = channel.next_due();
        self.arm_calls(due);
    }

    fn connect_if_wanted(&mut self, now: Instant, out: &mut Outputs, key: (Peer, ConnClass)) {
        let channel = self.channels.get_mut(&key).expect("only asked of channels that exist");
        if !channel.wants_connection(now) {
            return;
        }
        match self.endpoints.get(&key.0) {
            Some(endpoint) => {
                let conn = out.next_conn();
                out.items.push(Output::Connect { conn, to: endpoint.clone() });
                channel.connecting(now, conn, self.setup_timeout, self.setup_timeout_max);
                self.conns.insert(conn, Conn::Out(key.0, key.1));
            }
            // Nobody knows where it is. Failing at once would let an owner that tries again at once spin, so the calls
            // fail when the backoff ends, unless the endpoint becomes known by then.
            None => channel.unreachable(now, &mut self.outcomes),
        }
        let due = channel.next_due();
        self.arm_calls(due);
    }

    // --- time

    /// Not later than the next thing to do without an input.
    #[inline]
    pub fn deadline(&self) -> Option<Instant> {
        let due = match (self.calls_due, self.idle_due) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        match self.throttled.first() {
            Some(&(until, _)) => Some(due.map_or(until, |due| due.min(until))),
            None => due,
        }
    }

    /// Ends calls whose time is up, reconnects after backoffs, closes connections that idle, and takes requests again
    /// from clients that have waited for as long as their quota wanted.
    pub fn on_timer(&mut self, now: Now, out: &mut Outputs) {
        self.end_throttles(now.mono);
        if self.calls_due.is_some_and(|due| due <= now.mono) {
            self.expire_calls(now.mono, out);
        }
        if self.idle_due.is_some_and(|due| due <= now.mono) {
            self.close_idle(now.mono, out);
        }
    }

    fn expire_calls(&mut self, now: Instant, out: &mut Outputs) {
        self.calls_due = None;
        let keys: Vec<_> = self.channels.keys().copied().collect();
        for key in keys {
            let channel = self.channels.get_mut(&key).expect("just listed");
            if let Some(conn) = channel.expire(now, &mut self.outcomes) {
                self.conns.remove(conn);
                out.items.push(Output::Close { conn, why: "a request timed out".into() });
            }
            self.connect_if_wanted(now, out, key);
            let due = self.channels.get(&key).and_then(Channel::next_due);
            self.arm_calls(due);
        }
    }

    fn close_idle(&mut self, now: Instant, out: &mut Outputs) {
        self.idle_due = None;
        let Some(max_idle) = self.max_idle else { return };
        let mut idle = Vec::new();
        let mut next: Option<Instant> = None;
        for (id, conn) in self.conns.slots.iter().flatten() {
            let last_active = match conn {
                Conn::In(inbound) => inbound.last_active(),
                Conn::Out(peer, class @ (ConnClass::Raft | ConnClass::Fetcher)) => {
                    self.channels.get(&(*peer, *class)).map(Channel::last_active)
                }
                // Those to the controller may idle (`Selector.NO_IDLE_TIMEOUT_MS`).
                Conn::Out(..) => None,
            };
            let Some(last_active) = last_active else { continue };
            let ends = last_active + max_idle;
            if ends <= now {
                idle.push(*id);
            } else {
                next = Some(next.map_or(ends, |n| n.min(ends)));
            }
        }
        for id in idle {
            if let Some(Conn::Out(peer, class)) = self.conns.remove(id)
                && let Some(channel) = self.channels.get_mut(&(peer, class))
            {
                channel.reset(now);
            }
            out.items.push(Output::Close { conn: id, why: "idle for connections.max.idle.ms".into() });
        }
        self.idle_due = match next {
            None if !self.conns.index.is_empty() => Some(now + max_idle),
            next => next,
        };
    }

    fn arm_calls(&mut self, due: Option<Instant>) {
        self.calls_due = match (self.calls_due, due) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }

    fn arm_idle(&mut self, now: Instant) {
        if let (None, Some(max_idle)) = (self.idle_due, self.max_idle) {
            self.idle_due = Some(now + max_idle);
        }
    }
}

#[cfg(test)]
mod tests;
