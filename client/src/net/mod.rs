//! Connections to brokers, requests over them, and the refresh of metadata (`NetworkClient.java`).
//!
//! One connection per broker, made when it is first needed. A connection begins with ApiVersions at version 4, or
//! what the broker says it has; each request then takes the latest version that both sides know. A request that is
//! not answered within its time-out closes the connection, as Java's client does, and everything that is in flight
//! on it comes back as timed out. A broker that cannot be reached is left alone for `reconnect.backoff.ms` to
//! `reconnect.backoff.max.ms`, and a connection that is not made within `socket.connection.setup.timeout.ms` is
//! given up.
//!
//! A broker that answers with a time to wait is sent nothing until that is over (KIP-219).
//!
//! What an owner sends carries a call of type `C`, which comes back exactly once in [`NetworkClient::next_done`].
//! After each input the owner takes these, sends what it now can, and stores [`NetworkClient::next_deadline`].

mod node;
#[cfg(test)]
mod tests;
mod throttle;

use alloc::collections::VecDeque;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use wire::drive::{ConnError, ConnId, Endpoint, Instant, Nanos};
use wire::error::ErrorCode;
use wire::frame::{decode_response, encode_request};
use wire::messages::api_versions_request::ApiVersionsRequest;
use wire::messages::describe_cluster_request::DescribeClusterRequest;
use wire::messages::describe_cluster_response::DescribeClusterResponse;
use wire::messages::metadata_request::MetadataRequest;
use wire::messages::metadata_response::{MetadataResponse, MetadataResponseBroker};
use wire::{ApiKey, DecodeError, Reader, Request, Rope, VersionRange};

use crate::Rng;
use crate::backoff::{Backoff, below};
use crate::event::ClientEvent;
use crate::io::{Input, Output, Outputs};
use crate::metadata::{Metadata, MetadataSettings};
use node::{InFlight, Kind, Node, State};
use throttle::throttle_time;

/// The client software that ApiVersions names.
const SOFTWARE: (&str, &str) = ("apache-kafka-java", "4.3.1");

/// How connections are made and kept.
#[derive(Clone, Debug)]
pub struct NetSettings {
    /// `client.id`.
    pub client_id: Arc<str>,
    /// `request.timeout.ms`.
    pub request_timeout: Nanos,
    /// `reconnect.backoff.ms`, `reconnect.backoff.max.ms`.
    pub reconnect_backoff: Backoff,
    /// `socket.connection.setup.timeout.ms`, `socket.connection.setup.timeout.max.ms`.
    pub setup_timeout: Backoff,
    /// `connections.max.idle.ms`.
    pub max_idle: Nanos,
    /// Requests in flight on one connection.
    pub max_in_flight: usize,
    /// `metadata.recovery.strategy` is `rebootstrap`.
    pub rebootstrap: bool,
}

/// The kind of nodes that controllers are, in DescribeCluster.
pub(crate) const CONTROLLERS: i8 = 2;

/// What is told of controllers, as the cache takes it of brokers.
fn as_metadata<'a>(response: &'a DescribeClusterResponse<'_>) -> MetadataResponse<'a> {
    let node = |b: &'a wire::messages::describe_cluster_response::DescribeClusterBroker<'_>| {
        MetadataResponseBroker {
            node_id: b.broker_id,
            host: b.host.as_ref().into(),
            port: b.port,
            rack: b.rack.as_deref().map(Into::into),
        }
    };
    MetadataResponse {
        brokers: response.brokers.iter().map(node).collect(),
        cluster_id: Some(response.cluster_id.as_ref().into()),
        controller_id: response.controller_id,
        ..MetadataResponse::default()
    }
}

/// How a request ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The frame of its response, header included.
    Answered(Rope),
    /// No answer is expected, and the request left.
    Sent,
    /// The connection broke, or was never made, after the request was handed over.
    Disconnected,
    /// The connection was closed because some request on it was not answered in time.
    TimedOut,
}

/// A request that ended.
#[derive(Clone, Debug)]
pub struct Done<C> {
    /// What the owner gave with it.
    pub call: C,
    /// The broker.
    pub node: i32,
    /// The API.
    pub key: ApiKey,
    /// The version in which it was sent.
    pub version: i16,
    /// Its correlation id.
    pub correlation: i32,
    /// How it ended.
    pub outcome: Outcome,
}

impl<C> Done<C> {
    /// Decodes the answer, if there is one.
    pub fn decode<'a, R: Request<'a>>(&self, frame: &'a Rope) -> Result<R::Response<'a>, DecodeError> {
        decode_response::<R>(frame, self.version).map(|(_, body)| body)
    }
}

/// Why a node cannot be sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotReady {
    /// A connection is being made, is full, or will be tried again when the backoff is over.
    Waits,
    /// There is no such broker in the metadata.
    Unknown,
}

/// Connections, requests in flight, and the metadata cache.
#[derive(Clone, Debug)]
pub struct NetworkClient<C> {
    settings: NetSettings,
    /// The cache. Kept up to date by this client.
    pub metadata: Metadata,
    metadata_version: u64,
    /// A metadata request is due and waits for a broker that it can be sent to.
    metadata_waits: bool,
    nodes: Vec<Node<C>>,
    /// Whether some node is throttled.
    throttled: bool,
    next_correlation: i32,
    done: VecDeque<Done<C>>,
    rng: Rng,
}

impl<C> NetworkClient<C> {
    /// A client that knows its bootstrap servers.
    pub fn new(
        bootstrap: Vec<Endpoint>,
        settings: NetSettings,
        metadata: MetadataSettings,
        rng: Rng,
    ) -> NetworkClient<C> {
        let metadata = Metadata::new(bootstrap, metadata);
        let mut client = NetworkClient {
            settings,
            metadata_version: metadata.version(),
            metadata,
            metadata_waits: false,
            nodes: Vec::new(),
            throttled: false,
            next_correlation: 0,
            done: VecDeque::new(),
            rng,
        };
        client.take_nodes();
        client
    }

    /// The client's only randomness, for its owner.
    pub fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    /// `request.timeout.ms`.
    pub fn request_timeout(&self) -> Nanos {
        self.settings.request_timeout
    }

    /// `client.id`.
    pub fn client_id(&self) -> &Arc<str> {
        &self.settings.client_id
    }

    // --- inputs

    /// Takes what concerns connections; everything else is the owner's.
    pub fn handle(&mut self, now: Instant, input: &Input, out: &mut Outputs) {
        if self.throttled {
            self.end_throttles(now);
        }
        match input {
            Input::Connected { conn } => self.connected(now, *conn, out),
            Input::ConnectFailed { conn, why } => self.closed(now, *conn, *why, out),
            Input::Closed { conn, why } => self.closed(now, *conn, *why, out),
            Input::Frame { conn, frame } => self.frame(now, *conn, frame, out),
            Input::Timer => self.time_out(now, out),
            Input::Start | Input::Stop | Input::Stdin { .. } | Input::StdinClosed => {}
        }
    }

    /// The next request that ended.
    pub fn next_done(&mut self) -> Option<Done<C>> {
        self.done.pop_front()
    }

    /// When the client wants [`Input::Timer`], its metadata included.
    pub fn next_deadline(&self) -> Option<Instant> {
        let mut earliest = self.metadata_deadline();
        for node in &self.nodes {
            earliest = sooner(earliest, node.deadline(self.settings.max_idle));
        }
        earliest
    }

    /// The same for an owner that does not wake up because of a request's time, and only looks at it when it is awake.
    pub fn next_deadline_of_connections(&self) -> Option<Instant> {
        let mut earliest = self.metadata_deadline();
        for node in &self.nodes {
            earliest = sooner(earliest, node.deadline_of_connection(self.settings.max_idle));
        }
        earliest
    }

    fn metadata_deadline(&self) -> Option<Instant> {
        // An update that waits for a connection is woken by the connection, or by the end of a node's backoff.
        if self.metadata_waits { self.metadata.rebootstrap_at() } else { self.metadata.next_update() }
    }

    // --- sending

    /// Whether a request may be sent to the broker now; begins to connect if it may be tried.
    pub fn ready(&mut self, now: Instant, id: i32, out: &mut Outputs) -> Result<(), NotReady> {
        let max_in_flight = self.settings.max_in_flight;
        let at = self.position(id).ok_or(NotReady::Unknown)?;
        if self.nodes[at].can_send(max_in_flight) {
            return Ok(());
        }
        if self.nodes[at].can_connect(now) {
            self.connect(now, at, out);
        } else {
            self.nodes[at].wanted = true;
        }
        Err(NotReady::Waits)
    }

    /// Whether a request may be sent to the broker now.
    pub fn is_ready(&self, id: i32) -> bool {
        self.position(id).is_some_and(|at| self.nodes[at].can_send(self.settings.max_in_flight))
    }

    /// Whether the broker could not be reached and is left alone for a while.
    pub fn is_unavailable(&self, now: Instant, id: i32) -> bool {
        self.position(id).is_none_or(|at| self.nodes[at].is_blacked_out(now))
    }

    /// The requests in flight to a broker.
    pub fn in_flight(&self, id: i32) -> usize {
        self.position(id).map_or(0, |at| self.nodes[at].in_flight.len())
    }

    /// The requests in flight to all brokers.
    pub fn in_flight_total(&self) -> usize {
        self.nodes.iter().map(|node| node.in_flight.len()).sum()
    }

    /// The latest version, at most `latest`, of an API that both the broker and this crate know.
    pub fn version(&self, id: i32, key: ApiKey, latest: i16) -> Option<i16> {
        let node = &self.nodes[self.position(id)?];
        let ours = key.info().stable()?;
        let ours = VersionRange { min: ours.min, max: ours.max.min(latest) };
        Some(node.versions.range(key)?.intersect(ours)?.max)
    }

    /// The versions of an API that the broker advertised.
    pub fn broker_versions(&self, id: i32, key: ApiKey) -> Option<VersionRange> {
        self.nodes[self.position(id)?].versions.range(key)
    }

    /// The ApiVersions answer of a broker that is ready, for who asks about features.
    pub fn api_versions_of(&self, id: i32) -> Option<&Rope> {
        self.nodes[self.position(id)?].versions.frame.as_ref()
    }

    /// Sends a request to a broker that is ready. `call` comes back when it ended.
    pub fn send<'r, R: Request<'r>>(
        &mut self,
        now: Instant,
        id: i32,
        request: &R,
        options: SendOptions,
        call: C,
        out: &mut Outputs,
    ) {
        let at = self.position(id).expect("a node that is ready is known");
        assert!(self.nodes[at].can_send(self.settings.max_in_flight), "send to a node that is not ready");
        let version = options.version;
        if options.answered {
            let deadline = now + options.timeout.unwrap_or(self.settings.request_timeout);
            self.transmit(now, at, request, version, (deadline, Kind::Call(call)), out);
        } else {
            let correlation = self.transmit_frame(now, at, request, version, out);
            let (node, key, outcome) = (id, R::KEY, Outcome::Sent);
            self.done.push_back(Done { call, node, key, version, correlation, outcome });
        }
    }

    /// Closes the connection to a broker, for example because of an answer that makes no sense. Requests in flight
    /// on it end as disconnected.
    pub fn disconnect(&mut self, now: Instant, id: i32, out: &mut Outputs) {
        if let Some(at) = self.position(id) {
            self.drop_connection(now, at, false, out);
        }
    }

    /// Keeps a connection of its own to a broker, under the id `id`, which is no broker's: where a consumer's group has
    /// its coordinator, commits and heartbeats do not wait behind a Fetch.
    pub fn pin(&mut self, now: Instant, id: i32, endpoint: Endpoint, out: &mut Outputs) {
        match self.nodes.binary_search_by_key(&id, |node| node.id) {
            Ok(at) if self.nodes[at].endpoint == endpoint => {}
            Ok(at) => {
                self.drop_connection(now, at, false, out);
                self.nodes[at].endpoint = endpoint;
            }
            Err(at) => {
                let backoffs = (self.settings.reconnect_backoff, self.settings.setup_timeout);
                let mut node = Node::new(id, endpoint, backoffs, &mut self.rng);
                (node.known, node.pinned) = (false, true);
                self.nodes.insert(at, node);
            }
        }
    }

    /// Closes all connections; nothing comes back any more.
    pub fn close(&mut self, out: &mut Outputs) {
        for node in &mut self.nodes {
            if let Some(conn) = node.conn.take() {
                out.items.push(Output::Close { conn });
            }
        }
        self.nodes.clear();
        self.done.clear();
    }

    /// The broker with the fewest requests in flight, connected ones first; begins to connect if it must.
    /// `None`: none can be sent to now.
    pub fn least_loaded(&mut self, now: Instant, out: &mut Outputs) -> Option<i32> {
        match self.choose(now) {
            Choice::Ready(at) => Some(self.nodes[at].id),
            Choice::Connecting => None,
            Choice::Nothing => {
                self.nodes.iter_mut().for_each(|node| node.wanted |= node.known);
                None
            }
            Choice::Connect(at) => {
                self.connect(now, at, out);
                None
            }
        }
    }

    /// Sends a metadata request if one is due and can be sent. To be called after the owner took what ended.
    pub fn maybe_update_metadata(&mut self, now: Instant, out: &mut Outputs) {
        self.metadata_waits = false;
        if self.metadata.next_update().is_none_or(|due| due > now) {
            return;
        }
        self.metadata.trying(now);
        if self.settings.rebootstrap && self.metadata.rebootstrap_at().is_some_and(|at| at <= now) {
            self.rebootstrap(out);
            self.metadata.trying(now);
        }
        let mut choice = self.choose(now);
        if matches!(choice, Choice::Nothing) && self.settings.rebootstrap && !self.any_ready() {
            self.rebootstrap(out);
            self.metadata.trying(now);
            choice = self.choose(now);
        }
        self.metadata_waits = !matches!(choice, Choice::Ready(_));
        match choice {
            Choice::Ready(at) => self.send_metadata_request(now, at, out),
            Choice::Connect(at) if !self.any_connecting() => self.connect(now, at, out),
            Choice::Connect(_) | Choice::Connecting => {}
            Choice::Nothing => self.nodes.iter_mut().for_each(|node| node.wanted |= node.known),
        }
    }

    fn send_metadata_request(&mut self, now: Instant, at: usize, out: &mut Outputs) {
        let id = self.nodes[at].id;
        let of_controllers = self.metadata.is_of_controllers();
        let key = if of_controllers { ApiKey::DescribeCluster } else { ApiKey::Metadata };
        // Of the kinds of nodes only DescribeCluster from version 1 on speaks (KIP-919).
        let Some(version) = self.version(id, key, i16::MAX).filter(|v| !of_controllers || *v >= 1) else {
            self.metadata.failed(now, &mut self.rng);
            return;
        };
        let deadline = now + self.settings.request_timeout;
        let correlation = self.correlation();
        let client_id = &self.settings.client_id;
        let frame = if of_controllers {
            let request =
                DescribeClusterRequest { endpoint_type: CONTROLLERS, ..DescribeClusterRequest::default() };
            encode(version, correlation, client_id, &request)
        } else {
            encode(version, correlation, client_id, &self.metadata.request(version))
        };
        let node = &mut self.nodes[at];
        node.sent(now, InFlight { correlation, key, version, deadline, kind: Kind::Metadata });
        let conn = node.conn.expect("a ready node has a connection");
        out.items.push(Output::Send { conn, frame });
        self.metadata.sent();
    }

    fn transmit<'r, R: Request<'r>>(
        &mut self,
        now: Instant,
        at: usize,
        request: &R,
        version: i16,
        (deadline, kind): (Instant, Kind<C>),
        out: &mut Outputs,
    ) {
        let correlation = self.transmit_frame(now, at, request, version, out);
        self.nodes[at].sent(now, InFlight { correlation, key: R::KEY, version, deadline, kind });
    }

    fn transmit_frame<'r, R: Request<'r>>(
        &mut self,
        now: Instant,
        at: usize,
        request: &R,
        version: i16,
        out: &mut Outputs,
    ) -> i32 {
        let correlation = self.correlation();
        let frame = encode(version, correlation, &self.settings.client_id, request);
        let node = &mut self.nodes[at];
        node.last_used = now;
        let conn = node.conn.expect("a node that is sent to has a connection");
        out.items.push(Output::Send { conn, frame });
        correlation
    }

    fn correlation(&mut self) -> i32 {
        let correlation = self.next_correlation;
        self.next_correlation = if correlation == i32::MAX { 0 } else { correlation + 1 };
        correlation
    }

    // --- choosing

    fn choose(&mut self, now: Instant) -> Choice {
        let known = self.nodes.iter().filter(|node| node.known).count();
        if known == 0 {
            return Choice::Nothing;
        }
        let skip = below(&mut self.rng, known as u64) as usize;
        let order = (0..self.nodes.len()).filter(|&at| self.nodes[at].known).cycle().skip(skip).take(known);
        let (mut ready, mut connecting, mut connect) = (None, false, None);
        for at in order {
            let node = &self.nodes[at];
            if node.can_send(self.settings.max_in_flight) {
                let load = node.in_flight.len();
                if ready.is_none_or(|(least, _)| load < least) {
                    ready = Some((load, at));
                }
            } else if matches!(node.state, State::Connecting | State::CheckingVersions) {
                connecting = true;
            } else if node.can_connect(now)
                && connect.is_none_or(|(last, _): (Option<Instant>, usize)| node.last_attempt < last)
            {
                connect = Some((node.last_attempt, at));
            }
        }
        match (ready, connect) {
            (Some((_, at)), _) => Choice::Ready(at),
            (None, _) if connecting => Choice::Connecting,
            (None, Some((_, at))) => Choice::Connect(at),
            (None, None) => Choice::Nothing,
        }
    }

    fn any_ready(&self) -> bool {
        self.nodes.iter().any(|node| node.known && node.state == State::Ready)
    }

    fn any_connecting(&self) -> bool {
        self.nodes.iter().any(|node| matches!(node.state, State::Connecting | State::CheckingVersions))
    }

    fn rebootstrap(&mut self, out: &mut Outputs) {
        if self.metadata.is_bootstrap() {
            return self.metadata.give_up_trying();
        }
        out.event(|| ClientEvent::Warning { text: "Rebootstrapping".into() });
        self.metadata.begin_again();
        self.take_nodes();
    }

    // --- connections

    fn position(&self, id: i32) -> Option<usize> {
        self.nodes.binary_search_by_key(&id, |node| node.id).ok()
    }

    fn with_connection(&self, conn: ConnId) -> Option<usize> {
        self.nodes.iter().position(|node| node.conn == Some(conn))
    }

    /// Takes the brokers of the metadata over. Connections to brokers that are no longer there stay until they break.
    fn take_nodes(&mut self) {
        self.metadata_version = self.metadata.version();
        for node in &mut self.nodes {
            node.known = false;
        }
        for broker in self.metadata.brokers() {
            match self.nodes.binary_search_by_key(&broker.id, |node| node.id) {
                Ok(at) => {
                    self.nodes[at].known = true;
                    self.nodes[at].endpoint = broker.endpoint.clone();
                }
                Err(at) => {
                    let backoffs = (self.settings.reconnect_backoff, self.settings.setup_timeout);
                    self.nodes
                        .insert(at, Node::new(broker.id, broker.endpoint.clone(), backoffs, &mut self.rng));
                }
            }
        }
        self.nodes.retain(|node| node.known || node.pinned || node.conn.is_some());
    }

    fn connect(&mut self, now: Instant, at: usize, out: &mut Outputs) {
        let node = &mut self.nodes[at];
        assert!(node.conn.is_none(), "one connection for each node");
        let conn = out.next_conn();
        node.connecting(now, conn);
        out.items.push(Output::Connect { conn, to: node.endpoint.clone() });
    }

    fn connected(&mut self, now: Instant, conn: ConnId, out: &mut Outputs) {
        let Some(at) = self.with_connection(conn) else { return };
        self.nodes[at].state = State::CheckingVersions;
        let latest = ApiKey::ApiVersions.info().stable().map_or(0, |range| range.max);
        self.ask_versions(now, at, latest, out);
    }

    fn ask_versions(&mut self, now: Instant, at: usize, version: i16, out: &mut Outputs) {
        let request = ApiVersionsRequest {
            client_software_name: SOFTWARE.0.into(),
            client_software_version: SOFTWARE.1.into(),
            ..ApiVersionsRequest::default()
        };
        let deadline = now + self.settings.request_timeout;
        self.transmit(now, at, &request, version, (deadline, Kind::Versions), out);
    }

    fn frame(&mut self, now: Instant, conn: ConnId, frame: &Rope, out: &mut Outputs) {
        let Some(at) = self.with_connection(conn) else { return };
        let node = &mut self.nodes[at];
        node.last_used = now;
        let correlation = Reader::new(frame).i32().ok();
        let answers_first =
            node.in_flight.front().is_some_and(|first| Some(first.correlation) == correlation);
        if !answers_first {
            let text =
                format!("Node {} answered a request that was not sent; closing the connection", node.id);
            out.event(|| ClientEvent::Warning { text });
            return self.drop_connection(now, at, false, out);
        }
        let InFlight { correlation, key, version, kind, .. } = node.in_flight.pop_front().expect("just seen");
        if let Some(time) = throttle_time(frame, key, version) {
            node.throttle(now + time);
            self.throttled = true;
        }
        match kind {
            Kind::Call(call) => {
                let outcome = Outcome::Answered(frame.clone());
                let node = self.nodes[at].id;
                self.done.push_back(Done { call, node, key, version, correlation, outcome });
            }
            Kind::Metadata => self.metadata_answered(now, at, version, frame, out),
            Kind::Versions => self.versions_answered(now, at, version, frame, out),
        }
    }

    /// Brokers that wanted to be left alone may be sent to again when their time is over.
    fn end_throttles(&mut self, now: Instant) {
        self.throttled = false;
        for node in &mut self.nodes {
            self.throttled |= node.is_throttled(now);
        }
    }

    fn metadata_answered(&mut self, now: Instant, at: usize, version: i16, frame: &Rope, out: &mut Outputs) {
        if self.metadata.is_of_controllers() {
            return self.controllers_answered(now, at, version, frame, out);
        }
        match decode_response::<MetadataRequest>(frame, version) {
            Ok((_, response)) => {
                self.metadata.answered(now, &response, &mut self.rng);
                self.sync_nodes();
            }
            Err(error) => {
                self.metadata.failed(now, &mut self.rng);
                self.undecodable(now, at, "Metadata", &error, out);
            }
        }
    }

    fn controllers_answered(
        &mut self,
        now: Instant,
        at: usize,
        version: i16,
        frame: &Rope,
        out: &mut Outputs,
    ) {
        match decode_response::<DescribeClusterRequest>(frame, version) {
            Ok((_, response)) if response.error_code == 0 => {
                self.metadata.answered(now, &as_metadata(&response), &mut self.rng);
                self.sync_nodes();
            }
            Ok((_, response)) => {
                let text = response.error_message.as_deref().unwrap_or_default();
                let text = format!("Node {} does not tell of controllers: {text}", self.nodes[at].id);
                out.event(|| ClientEvent::Warning { text });
                self.metadata.failed(now, &mut self.rng);
            }
            Err(error) => {
                self.metadata.failed(now, &mut self.rng);
                self.undecodable(now, at, "DescribeCluster", &error, out);
            }
        }
    }

    /// Takes over brokers that the owner told to the metadata.
    pub fn sync_nodes(&mut self) {
        if self.metadata_version != self.metadata.version() {
            self.take_nodes();
        }
    }

    fn versions_answered(&mut self, now: Instant, at: usize, version: i16, frame: &Rope, out: &mut Outputs) {
        match self.nodes[at].versions.take(frame, version) {
            Ok(ErrorCode::NONE) => self.nodes[at].is_ready(&mut self.rng),
            Ok(ErrorCode::UNSUPPORTED_VERSION) if version > 0 => {
                let latest = self.nodes[at].versions.range(ApiKey::ApiVersions).map_or(0, |range| range.max);
                self.ask_versions(now, at, latest.clamp(0, version - 1), out);
            }
            Ok(error) => {
                let text =
                    format!("Received error {} from node {} to ApiVersions", error.name(), self.nodes[at].id);
                out.event(|| ClientEvent::Warning { text });
                self.drop_connection(now, at, false, out);
            }
            Err(error) => self.undecodable(now, at, "ApiVersions", &error, out),
        }
    }

    /// An answer could not be decoded: the connection is closed.
    pub fn undecodable_answer(
        &mut self,
        now: Instant,
        id: i32,
        key: ApiKey,
        error: &DecodeError,
        out: &mut Outputs,
    ) {
        if let Some(at) = self.position(id) {
            self.undecodable(now, at, key.name(), error, out);
        }
    }

    fn undecodable(&mut self, now: Instant, at: usize, api: &str, error: &DecodeError, out: &mut Outputs) {
        let text = format!("Node {} answered {api} with what cannot be read: {error}", self.nodes[at].id);
        out.event(|| ClientEvent::Warning { text });
        self.drop_connection(now, at, false, out);
    }

    fn closed(&mut self, now: Instant, conn: ConnId, why: ConnError, out: &mut Outputs) {
        let Some(at) = self.with_connection(conn) else { return };
        let node = &mut self.nodes[at];
        node.conn = None;
        if node.state == State::Connecting {
            let text = format!(
                "Connection to node {} ({}) could not be established ({why}). Node may not be available.",
                node.id, node.endpoint
            );
            out.event(|| ClientEvent::Warning { text });
        } else if self.metadata.is_bootstrap() {
            let text = format!("Bootstrap broker {} (id: {}) disconnected", node.endpoint, node.id);
            out.event(|| ClientEvent::Warning { text });
        }
        self.disconnected(now, at, false);
    }

    /// Closes a connection from this side.
    fn drop_connection(&mut self, now: Instant, at: usize, timed_out: bool, out: &mut Outputs) {
        if let Some(conn) = self.nodes[at].conn.take() {
            out.items.push(Output::Close { conn });
            self.disconnected(now, at, timed_out);
        }
    }

    /// A connection is gone: what was in flight ends, and the metadata may be stale.
    fn disconnected(&mut self, now: Instant, at: usize, timed_out: bool) {
        let node = &mut self.nodes[at];
        node.disconnected(now, &mut self.rng);
        let mut metadata_lost = false;
        for InFlight { correlation, key, version, kind, .. } in core::mem::take(&mut node.in_flight) {
            match kind {
                Kind::Call(call) => {
                    let outcome = if timed_out { Outcome::TimedOut } else { Outcome::Disconnected };
                    self.done.push_back(Done { call, node: node.id, key, version, correlation, outcome });
                }
                Kind::Metadata => metadata_lost = true,
                Kind::Versions => {}
            }
        }
        if metadata_lost || self.metadata.next_update().is_some_and(|due| due <= now) {
            self.metadata.failed(now, &mut self.rng);
        }
        self.metadata.request_update();
    }

    fn time_out(&mut self, now: Instant, out: &mut Outputs) {
        for at in 0..self.nodes.len() {
            let node = &self.nodes[at];
            if node.is_setup_overdue(now) {
                let text = format!(
                    "Disconnecting from node {} due to socket connection setup timeout. The timeout value is {} ms.",
                    node.id,
                    node.setup_timeout.as_millis()
                );
                out.event(|| ClientEvent::Warning { text });
                self.drop_connection(now, at, true, out);
            } else if node.is_request_overdue(now) {
                let text = format!("Disconnecting from node {} due to request timeout.", node.id);
                out.event(|| ClientEvent::Warning { text });
                self.drop_connection(now, at, true, out);
            } else if node.is_idle(now, self.settings.max_idle) {
                self.drop_connection(now, at, false, out);
            }
        }
        for node in &mut self.nodes {
            // Who still wants it says so again.
            node.wanted &= node.is_blacked_out(now);
        }
    }
}

/// How a request is sent.
#[derive(Clone, Copy, Debug)]
pub struct SendOptions {
    /// Its version: one that [`NetworkClient::version`] gave.
    pub version: i16,
    /// Until when the answer must come; `request.timeout.ms` unless given.
    pub timeout: Option<Nanos>,
    /// Whether there will be an answer.
    pub answered: bool,
}

impl SendOptions {
    /// At a version, with an answer within `request.timeout.ms`.
    pub fn at(version: i16) -> SendOptions {
        SendOptions { version, timeout: None, answered: true }
    }
}

enum Choice {
    Ready(usize),
    Connecting,
    Connect(usize),
    Nothing,
}

/// The sooner of two deadlines.
pub(crate) fn sooner(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

fn encode<'r, R: Request<'r>>(version: i16, correlation: i32, client_id: &str, request: &R) -> Rope {
    encode_request(version, correlation, Some(client_id), request)
        .expect("a request is built for the version in which it is sent")
}
