//! Requests that a broker passes on to the active controller in an Envelope (KIP-590), and topics that it asks the
//! controller to make because a client asked for their metadata.
//!
//! Follows `ForwardingManager` and `AutoTopicCreationManager`: an Envelope that meets a controller that is no longer
//! active, or none at all, is sent again until its time is up; then the client is told REQUEST_TIMED_OUT.

use alloc::borrow::Cow;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use bytes::Bytes;
use wire::drive::{Instant, Nanos};
use wire::error::ErrorCode;
use wire::frame::{ResponseHeader, encode_request};
use wire::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use wire::messages::{CreateTopicsRequest, EnvelopeRequest, EnvelopeResponse};
use wire::{ApiKey, Message, Reader, Rope};

use super::refusal::refuse;
use crate::ctx::Ctx;
use crate::lifecycle::{Attempt, Next};
use crate::metadata::MetadataImage;
use crate::net::{Call, CallOutcome, Peer, RequestToken};

/// How long a request may be on its way (`NodeToControllerChannelManager` named "forwarding").
const RETRY_TIMEOUT: Nanos = Nanos::from_secs(60);
/// The principal of a client that did not authenticate: `User:ANONYMOUS`, as `DefaultKafkaPrincipalBuilder` writes it.
const ANONYMOUS: &[u8] = b"\x00\x00\x05User\x0aANONYMOUS\x00\x00";
/// The version of CreateTopics in which topics are made automatically.
const CREATE_TOPICS_VERSION: i16 = 7;

/// A topic of a coordinator, made when it is needed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InternalTopic {
    /// `__consumer_offsets`.
    Offsets,
    /// `__transaction_state`.
    Transactions,
}

impl InternalTopic {
    /// Its name, and what its settings begin with.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            InternalTopic::Offsets => (crate::coordinator::GROUP_TOPIC, "offsets.topic"),
            InternalTopic::Transactions => (crate::coordinator::TRANSACTION_TOPIC, "transaction.state.log"),
        }
    }

    /// Its `compression.type`: the coordinators compress themselves, or not at all.
    fn compression(self) -> &'static str {
        match self {
            InternalTopic::Offsets => "producer",
            InternalTopic::Transactions => "uncompressed",
        }
    }
}

/// What is kept of a forwarded request until its answer comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForwardCall {
    id: u64,
}

#[derive(Clone)]
enum Origin {
    /// A client, which waits for the answer.
    Client(RequestToken),
    /// The broker itself, for these topics.
    AutoCreation(Vec<String>),
}

#[derive(Clone)]
struct Pending {
    origin: Origin,
    /// The request, header included.
    data: Bytes,
    /// The client's address.
    host: [u8; 4],
    attempt: Attempt,
}

/// The requests of this broker's clients that are on their way to the controller.
#[derive(Clone, Default)]
pub struct Forwarder {
    pending: BTreeMap<u64, Pending>,
    creating: BTreeSet<String>,
    next_id: u64,
    /// Not later than the next attempt that is due.
    due: Option<Instant>,
}

impl Forwarder {
    /// Passes on a client's request: `frame` is its header and body.
    pub fn forward(&mut self, ctx: &mut Ctx<'_>, token: RequestToken, frame: &Rope) {
        let host = ctx.net.peer_address(token.conn).and_then(ipv4).unwrap_or([127, 0, 0, 1]);
        self.begin(ctx, Origin::Client(token), frame.to_bytes(), host);
    }

    /// Asks the controller to make topics that a client asked for and that are not being made already.
    pub fn create_topics(&mut self, ctx: &mut Ctx<'_>, names: &[Cow<'_, str>]) {
        let mut new: Vec<String> = names.iter().map(|n| n.to_string()).collect();
        new.retain(|name| self.creating.insert(name.clone()));
        if new.is_empty() {
            return;
        }
        let topic = |name: &String| CreatableTopic {
            name: Cow::Owned(name.clone()),
            num_partitions: ctx.config.controller.num_partitions,
            replication_factor: ctx.config.controller.default_replication_factor,
            ..CreatableTopic::default()
        };
        let topics = new.iter().map(topic).collect();
        self.create(ctx, new.clone(), topics);
    }

    /// Asks the controller to make a coordinator's topic, unless it is there or being made, or there are too few
    /// brokers for its replicas.
    pub fn create_internal_topic(&mut self, ctx: &mut Ctx<'_>, image: &MetadataImage, topic: InternalTopic) {
        let (name, prefix) = topic.names();
        let number = |key: &str| ctx.config.static_number(&alloc::format!("{prefix}.{key}"));
        let replication_factor = number("replication.factor");
        let alive = image.brokers.values().filter(|b| !b.fenced && !b.in_controlled_shutdown).count();
        if image.topics.topic_named(name).is_some() || replication_factor > alive as i64 {
            return;
        }
        if !self.creating.insert(name.to_string()) {
            return;
        }
        let config = |name: &'static str, value: String| CreatableTopicConfig {
            name: Cow::Borrowed(name),
            value: Some(Cow::Owned(value)),
        };
        let mut configs = alloc::vec![
            config("cleanup.policy", "compact".into()),
            config("compression.type", topic.compression().into()),
            config("segment.bytes", number("segment.bytes").to_string()),
        ];
        if topic == InternalTopic::Transactions {
            configs.push(config("min.insync.replicas", number("min.isr").to_string()));
            configs.push(config("unclean.leader.election.enable", "false".into()));
        }
        let created = CreatableTopic {
            name: Cow::Borrowed(name),
            num_partitions: number("num.partitions") as i32,
            replication_factor: replication_factor as i16,
            configs,
            ..CreatableTopic::default()
        };
        self.create(ctx, alloc::vec![name.to_string()], alloc::vec![created]);
    }

    fn create(&mut self, ctx: &mut Ctx<'_>, names: Vec<String>, topics: Vec<CreatableTopic<'_>>) {
        let request = CreateTopicsRequest {
            topics,
            timeout_ms: ctx.config.lifecycle.request_timeout.as_millis() as i32,
            ..CreateTopicsRequest::default()
        };
        let client_id = ctx.config.node_id.to_string();
        let frame = encode_request(CREATE_TOPICS_VERSION, 0, Some(&client_id), &request);
        let frame = frame.expect("topic names fit into a request");
        // Without the size: an Envelope says how long its request is.
        let data = frame.slice(4, frame.len() - 4).to_bytes();
        self.begin(ctx, Origin::AutoCreation(names), data, [127, 0, 0, 1]);
    }

    fn begin(&mut self, ctx: &mut Ctx<'_>, origin: Origin, data: Bytes, host: [u8; 4]) {
        let id = self.next_id;
        self.next_id += 1;
        self.pending.insert(id, Pending { origin, data, host, attempt: Attempt::new(ctx.now.mono) });
        self.pursue(ctx, id);
    }

    /// Sends a request if it is its time.
    fn pursue(&mut self, ctx: &mut Ctx<'_>, id: u64) {
        let now = ctx.now.mono;
        let Some(pending) = self.pending.get_mut(&id) else { return };
        if let Some(at) = pending.attempt.due()
            && at <= now
        {
            match pending.attempt.next(now, ctx.net, Some(RETRY_TIMEOUT)) {
                Next::Send(peer) => send(ctx, id, pending, peer),
                Next::Expired => return self.end(ctx, id, Err(ErrorCode::REQUEST_TIMED_OUT)),
                Next::Wait => {}
            }
        }
        let due = pending.attempt.due();
        self.arm(due);
    }

    fn arm(&mut self, due: Option<Instant>) {
        self.due = match (self.due, due) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }

    /// What became of an Envelope.
    pub fn handle_outcome(&mut self, ctx: &mut Ctx<'_>, call: ForwardCall, outcome: CallOutcome) {
        let Some(pending) = self.pending.get_mut(&call.id) else { return };
        let CallOutcome::Answered { body, version } = outcome else {
            pending.attempt.failed(ctx.now.mono);
            return self.pursue(ctx, call.id);
        };
        let Ok(response) = EnvelopeResponse::decode(&mut Reader::new(&body), version) else {
            return self.end(ctx, call.id, Err(ErrorCode::UNKNOWN_SERVER_ERROR));
        };
        match ErrorCode(response.error_code) {
            ErrorCode::NONE => {
                let data = response.response_data.map(|data| Bytes::copy_from_slice(&data));
                self.end(ctx, call.id, data.ok_or(ErrorCode::UNKNOWN_SERVER_ERROR));
            }
            ErrorCode::NOT_CONTROLLER => {
                pending.attempt.not_controller(ctx.now.mono);
                let due = pending.attempt.due();
                self.arm(due);
            }
            _ => self.end(ctx, call.id, Err(ErrorCode::UNKNOWN_SERVER_ERROR)),
        }
    }

    /// The client hears the controller's answer, or why there is none.
    fn end(&mut self, ctx: &mut Ctx<'_>, id: u64, result: Result<Bytes, ErrorCode>) {
        let Some(pending) = self.pending.remove(&id) else { return };
        match (pending.origin, result) {
            (Origin::Client(token), Ok(response)) => {
                // What the controller tells a client to wait, this broker makes it wait (`sendForwardedResponse`).
                if let Some(throttle) = throttle_of(token, &response) {
                    ctx.net.throttle(token, ctx.now.mono + throttle);
                }
                ctx.net.respond_bytes(ctx.out, token, Rope::from(response));
            }
            (Origin::Client(token), Err(error)) => refuse(ctx, token, &pending.data, error),
            (Origin::AutoCreation(names), _) => {
                for name in &names {
                    self.creating.remove(name);
                }
            }
        }
    }

    /// Not later than the next time to call [`Forwarder::on_timer`].
    #[inline]
    pub fn deadline(&self) -> Option<Instant> {
        self.due
    }

    /// Tries again what is due.
    pub fn on_timer(&mut self, ctx: &mut Ctx<'_>) {
        if self.due.is_none_or(|due| due > ctx.now.mono) {
            return;
        }
        self.due = None;
        let ids: Vec<u64> = self.pending.keys().copied().collect();
        for id in ids {
            self.pursue(ctx, id);
        }
    }
}

fn send(ctx: &mut Ctx<'_>, id: u64, pending: &Pending, to: Peer) {
    let request = EnvelopeRequest {
        request_data: Cow::Borrowed(&pending.data),
        request_principal: Some(Cow::Borrowed(ANONYMOUS)),
        client_host_address: Cow::Borrowed(&pending.host),
    };
    let timeout = ctx.config.lifecycle.controller_socket_timeout.min(RETRY_TIMEOUT);
    let call = Call::Forward(ForwardCall { id });
    ctx.net.call(ctx.now, ctx.out, to, &request, 0, timeout, call);
}

/// The time to wait in a response of the controller: those with a quota of its have it first, if the version has it.
fn throttle_of(token: RequestToken, response: &[u8]) -> Option<Nanos> {
    let since = match token.key {
        ApiKey::CreateTopics => 2,
        ApiKey::DeleteTopics => 1,
        ApiKey::CreatePartitions => 0,
        _ => return None,
    };
    if token.version < since {
        return None;
    }
    let mut reader = Reader::from_slice(response);
    ResponseHeader::decode(&mut reader, token.key, token.version).ok()?;
    let ms = u64::try_from(reader.i32().ok()?).ok()?;
    (ms > 0).then(|| Nanos::from_millis(ms))
}

/// The four bytes of `10.0.0.7`.
fn ipv4(text: &str) -> Option<[u8; 4]> {
    let mut parts = text.split('.').map(|part| part.parse::<u8>().ok());
    let mut next = || parts.next().flatten();
    let address = [next()?, next()?, next()?, next()?];
    parts.next().is_none().then_some(address)
}
