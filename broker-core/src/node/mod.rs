//! One Kafka node: the parts of this crate put together.
//!
//! A [`Node`] has one role or both. It owns its connections, its replica of the metadata log and the image of what is
//! committed there; a broker has its replicas and its life in the cluster; a controller has the controller's state. Each
//! input goes to the part that it concerns; then what the quorum has to tell is drained until nothing is left, so that a
//! call of [`Node::handle`] ends with every consequence of its input in the outputs.
//!
//! The parts of a node that has both roles know nothing of each other: its broker talks to its controller over
//! connections like any other.

mod dispatch;
mod open;
mod quorum;
mod stop;

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use wire::Codecs;
use wire::drive::{ConnId, Instant, Now};

use crate::api::forward::Forwarder;
use crate::config::{ListenerSpec, NodeConfig};
use crate::controller::Controller;
use crate::coordinator::{GroupCoordinator, Parts, TransactionCoordinator};
use crate::ctx::{Ctx, Rng};
use crate::disk::{Disk, DiskError, Ticket};
use crate::event::Event;
use crate::io::{Input, Listener, Output, Outputs};
use crate::lifecycle::{BrokerLifecycle, BrokerState, ControllerRegistrar, Progress};
use crate::metadata::{ImageDelta, MetadataImage};
use crate::net::{Arrived, Call, CallOutcome, Net};
use crate::producer_ids::ProducerIds;
use crate::raft::Raft;
use crate::replica::ReplicaManager;

pub use open::{FormatError, NewCluster, OpenError};
use stop::Stopping;

/// What a node's timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TimerReason {
    /// The node has just been opened, and tells what it found.
    Start,
    /// A request to a peer times out, a backoff ends, or a connection idles.
    Connections,
    /// The quorum: elections, fetches, resignation.
    Quorum,
    /// The active controller: sessions, elections, the record that keeps offsets moving.
    Controller,
    /// Registration, heartbeats, shutdown.
    Lifecycle,
    /// A request to the controller is sent again: a client's, or one for producer ids.
    Forwarding,
    /// Replicas: purgatories, fetchers, checkpoints, retention.
    Replicas,
    /// Coordinators: members, groups and transactions that time out, markers that are sent again.
    Coordinators,
}

/// Where a node stands, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodeState {
    /// It recovers, registers, catches up.
    Starting,
    /// It serves.
    Running,
    /// It runs, but the controllers take it for dead.
    Fenced,
    /// It leaves in an orderly way.
    Stopping,
}

/// The parts of a broker.
#[derive(Clone)]
struct Broker {
    lifecycle: BrokerLifecycle,
    replicas: ReplicaManager,
    forwarder: Forwarder,
    producer_ids: ProducerIds,
    transactions: TransactionCoordinator,
    groups: GroupCoordinator,
    /// Whether the replicas follow the image: from the moment at which it holds this broker's own registration.
    follows_metadata: bool,
    /// Whether clients and brokers may come in: from the moment at which it is unfenced first.
    open: bool,
}

/// The parts of a controller.
#[derive(Clone)]
struct ControllerRole {
    controller: Controller,
    registrar: ControllerRegistrar,
}

/// What of a node the [`Ctx`] does not hold.
#[derive(Clone)]
struct Core {
    cluster_id: Arc<str>,
    raft: Raft,
    /// What is committed, as far as this node knows.
    image: MetadataImage,
    /// What of it the other parts have not heard yet.
    delta: ImageDelta,
    /// The epoch of the last record applied.
    image_epoch: i32,
    broker: Option<Broker>,
    controller: Option<ControllerRole>,
    stopping: Option<Stopping>,
    /// What opening found, until the first call tells it.
    news: Vec<Event>,
    start_at: Option<Instant>,
    halted: bool,
}

/// One Kafka node. See [`crate::io`] for how it is driven.
#[derive(Clone)]
pub struct Node {
    config: Arc<NodeConfig>,
    codecs: Arc<dyn Codecs>,
    rng: Rng,
    net: Net,
    core: Core,
    /// Asked for more often than it changes: the driver looks at it before and after each input.
    deadline: Option<(Instant, TimerReason)>,
}

impl Node {
    /// Takes one input and puts everything that follows from it into `out`. It is total: bad bytes become an answer or a
    /// closed connection. After [`Output::Halt`] or [`Output::Stopped`] it takes nothing any more.
    pub fn handle(&mut self, now: Now, input: Input, disk: &mut dyn Disk, out: &mut Outputs) {
        let Node { config, codecs, rng, net, core, deadline } = self;
        if core.halted {
            return;
        }
        let mut ctx = Ctx { now, disk, codecs: &**codecs, out, net, rng, config };
        core.tell_news(&mut ctx);
        core.take(&mut ctx, input);
        core.settle(&mut ctx);
        core.check_after(&ctx);
        *deadline = core.deadline(ctx.net);
    }

    /// When to call [`Node::handle`] with [`Input::Timer`], and what for.
    #[inline]
    pub fn deadline(&self) -> Option<(Instant, TimerReason)> {
        self.deadline
    }

    /// The largest frame, in bytes without its size, that may come in on a listener.
    pub fn frame_limit(&self, listener: Listener) -> usize {
        match listener {
            Listener::Broker | Listener::Controller => self.config.socket_request_max_bytes.max(0) as usize,
        }
    }

    /// The listeners on which somebody may connect now. A broker opens its own once it is unfenced first, and closes it
    /// when it may leave; a controller's is open from the start.
    pub fn listeners(&self) -> impl Iterator<Item = (Listener, &ListenerSpec)> {
        let open = |listener: &ListenerSpec| {
            if listener.controller { self.core.controller_open() } else { self.core.broker_open() }
        };
        self.config.listeners.iter().filter(move |l| open(l)).map(|l| (kind(l), l))
    }

    /// Every listener of this node, open or not.
    pub fn all_listeners(&self) -> impl Iterator<Item = (Listener, &ListenerSpec)> {
        self.config.listeners.iter().map(|l| (kind(l), l))
    }

    /// Checks what must hold, everything: after a restart, now and then, and at the end. What a call touched is checked
    /// at the end of each [`Node::handle`].
    pub fn check_invariants(&self) {
        self.core.raft.check_invariants();
        if let Some(role) = &self.core.controller {
            role.controller.check_invariants();
        }
        if let Some(broker) = &self.core.broker {
            broker.replicas.check_invariants();
            broker.transactions.check_invariants();
        }
    }

    // --- looking, for people and checkers

    /// Where the node stands.
    pub fn state(&self) -> NodeState {
        if self.core.stopping.is_some() {
            return NodeState::Stopping;
        }
        match &self.core.broker {
            None => NodeState::Running,
            Some(broker) if broker.lifecycle.state() < BrokerState::Running => NodeState::Starting,
            Some(_) if self.core.image.broker(self.config.node_id).is_none_or(|b| b.fenced) => {
                NodeState::Fenced
            }
            Some(_) => NodeState::Running,
        }
    }

    /// The static configuration.
    pub fn config(&self) -> &NodeConfig {
        &self.config
    }

    /// The cluster's id.
    pub fn cluster_id(&self) -> &str {
        &self.core.cluster_id
    }

    /// What is committed, as far as this node knows.
    pub fn image(&self) -> &MetadataImage {
        &self.core.image
    }

    /// The replica of the metadata log.
    pub fn raft(&self) -> &Raft {
        &self.core.raft
    }

    /// The controller, if the node has that role.
    pub fn controller(&self) -> Option<&Controller> {
        self.core.controller.as_ref().map(|role| &role.controller)
    }

    /// Whether one of its log directories is offline: it takes it back only when it is started again.
    pub fn has_offline_log_dir(&self) -> bool {
        self.core.broker.as_ref().is_some_and(|broker| broker.replicas.has_offline_dir())
    }

    /// The replicas, if the node is a broker.
    pub fn replicas(&self) -> Option<&ReplicaManager> {
        self.core.broker.as_ref().map(|broker| &broker.replicas)
    }

    /// The transactions that it coordinates, if the node is a broker.
    pub fn transactions(&self) -> Option<&TransactionCoordinator> {
        self.core.broker.as_ref().map(|broker| &broker.transactions)
    }

    /// The groups that it coordinates, if the node is a broker.
    pub fn groups(&self) -> Option<&GroupCoordinator> {
        self.core.broker.as_ref().map(|broker| &broker.groups)
    }

    /// The id with which this process registers, if the node is a broker: drawn at each start.
    pub fn incarnation_id(&self) -> Option<wire::Uuid> {
        self.core.broker.as_ref().map(|broker| broker.lifecycle.identity().incarnation_id)
    }

    /// The broker epoch of its registration, if the node is a broker; -1 before it is registered.
    pub fn broker_epoch(&self) -> Option<i64> {
        self.core.broker.as_ref().map(|broker| broker.lifecycle.epoch())
    }
}

fn kind(listener: &ListenerSpec) -> Listener {
    if listener.controller { Listener::Controller } else { Listener::Broker }
}

impl Core {
    /// The soonest deadline of all parts; of equal ones, the part's that comes first.
    fn deadline(&self, net: &Net) -> Option<(Instant, TimerReason)> {
        if self.halted {
            return None;
        }
        let mut soonest = self.start_at.map(|at| (at, TimerReason::Start));
        let mut offer = |at: Option<Instant>, why| {
            if let Some(at) = at
                && soonest.is_none_or(|(soonest, _)| at < soonest)
            {
                soonest = Some((at, why));
            }
        };
        offer(net.deadline(), TimerReason::Connections);
        offer(self.raft.deadline(), TimerReason::Quorum);
        if let Some(role) = &self.controller {
            offer(role.controller.deadline(), TimerReason::Controller);
            offer(role.registrar.deadline(), TimerReason::Lifecycle);
        }
        if let Some(broker) = &self.broker {
            offer(broker.lifecycle.deadline(), TimerReason::Lifecycle);
            offer(broker.forwarder.deadline(), TimerReason::Forwarding);
            offer(broker.producer_ids.deadline(), TimerReason::Forwarding);
            offer(broker.replicas.deadline(), TimerReason::Replicas);
            offer(broker.transactions.deadline(), TimerReason::Coordinators);
            offer(broker.groups.deadline(), TimerReason::Coordinators);
        }
        soonest
    }

    /// What opening found is told with the first input.
    fn tell_news(&mut self, ctx: &mut Ctx<'_>) {
        if self.start_at.take().is_some() {
            for event in self.news.drain(..) {
                ctx.event(|| event);
            }
        }
    }

    fn broker_open(&self) -> bool {
        let stopped = self.stopping.as_ref().is_some_and(|s| !s.still_serves());
        !stopped && self.broker.as_ref().is_some_and(|b| b.open)
    }

    fn controller_open(&self) -> bool {
        self.controller.is_some() && self.stopping.as_ref().is_none_or(|s| s.controller_serves())
    }

    fn accepts(&self, listener: Listener) -> bool {
        match listener {
            Listener::Broker => self.broker_open(),
            Listener::Controller => self.controller_open(),
        }
    }

    fn take(&mut self, ctx: &mut Ctx<'_>, input: Input) {
        match input {
            Input::Frame { conn, frame } => match ctx.net.frame(ctx.now, ctx.out, conn, frame) {
                Arrived::Request { conn, listener, frame } => self.request(ctx, conn, listener, frame),
                Arrived::Answer(call, outcome) => self.outcome(ctx, call, outcome),
                Arrived::Nothing => {}
            },
            Input::Sent { conn, bytes_left } => ctx.net.sent(ctx.out, conn, bytes_left),
            Input::Timer => self.on_timer(ctx),
            Input::Synced { ticket, result } => self.synced(ctx, ticket, result),
            Input::Accepted { conn, listener, peer } => self.accepted(ctx, conn, listener, peer),
            Input::Connected { conn } => ctx.net.connected(ctx.now, ctx.out, conn),
            Input::ConnectFailed { conn, why } | Input::Closed { conn, why } => {
                ctx.net.closed(ctx.now, conn, why);
            }
            Input::Oversized { conn, announced } => self.oversized(ctx, conn, announced),
            Input::Shutdown => self.begin_stop(ctx),
        }
    }

    fn accepted(&mut self, ctx: &mut Ctx<'_>, conn: ConnId, listener: Listener, peer: String) {
        if self.accepts(listener) {
            ctx.net.accepted(ctx.now, conn, listener, peer);
        } else {
            ctx.out.items.push(Output::Close { conn, why: "the listener is not open".into() });
        }
    }

    fn oversized(&mut self, ctx: &mut Ctx<'_>, conn: ConnId, announced: i32) {
        let limit = ctx.config.socket_request_max_bytes;
        let why = match announced {
            ..0 => alloc::format!("Invalid receive (size = {announced})"),
            _ => alloc::format!("Invalid receive (size = {announced} larger than {limit})"),
        };
        ctx.net.close(ctx.out, conn, why);
    }

    fn on_timer(&mut self, ctx: &mut Ctx<'_>) {
        let now = ctx.now.mono;
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if due(ctx.net.deadline()) {
            ctx.net.on_timer(ctx.now, ctx.out);
        }
        if due(self.raft.deadline()) {
            self.raft.on_timer(ctx);
        }
        if let Some(role) = &mut self.controller {
            if due(role.controller.deadline()) {
                role.controller.on_timer(ctx, &mut self.raft);
            }
            if due(role.registrar.deadline()) {
                role.registrar.on_timer(ctx);
            }
        }
        let offset = self.image.offset;
        let Some(broker) = &mut self.broker else { return };
        if due(broker.forwarder.deadline()) {
            broker.forwarder.on_timer(ctx);
        }
        if due(broker.producer_ids.deadline()) {
            broker.producer_ids.on_timer(ctx, broker.lifecycle.epoch());
        }
        if due(broker.replicas.deadline()) {
            broker.replicas.on_timer(ctx, &self.image);
        }
        if due(broker.transactions.deadline()) {
            broker.transactions.on_timer(ctx, &mut broker.replicas, &self.image);
        }
        if due(broker.groups.deadline()) {
            let Broker { groups, replicas, .. } = broker;
            groups.on_timer(&mut Parts { ctx, image: &self.image, replicas });
        }
        if due(broker.lifecycle.deadline()) {
            let progress = broker.lifecycle.on_timer(ctx, offset);
            self.progress(ctx, progress);
        }
    }

    fn synced(&mut self, ctx: &mut Ctx<'_>, ticket: Ticket, result: Result<(), DiskError>) {
        if self.raft.synced(ctx, ticket, result) {
            return;
        }
        if let Some(broker) = &mut self.broker {
            broker.replicas.synced(ctx, &self.image, ticket, result);
        }
    }

    /// What became of a request of this node.
    fn outcome(&mut self, ctx: &mut Ctx<'_>, call: Call, outcome: CallOutcome) {
        use crate::lifecycle::LifecycleCall;
        let offset = self.image.offset;
        match (call, &mut self.broker, &mut self.controller) {
            (Call::Raft(call), _, _) => self.raft.handle_outcome(ctx, call, outcome),
            (Call::Fetcher(call), Some(broker), _) => {
                broker.replicas.handle_fetch_outcome(ctx, &self.image, call, outcome);
            }
            (Call::AlterPartition(call), Some(broker), _) => {
                broker.replicas.handle_alter_partition_outcome(ctx, &self.image, call, outcome);
            }
            (Call::Forward(call), Some(broker), _) => broker.forwarder.handle_outcome(ctx, call, outcome),
            (Call::Verify(call), Some(broker), _) => {
                broker.replicas.handle_verify_outcome(ctx, &self.image, call, outcome);
            }
            (Call::Transaction(call), Some(broker), _) => {
                let Broker { transactions, replicas, .. } = broker;
                transactions.handle_outcome(ctx, replicas, &self.image, call, outcome);
            }
            (Call::AllocateProducerIds, Some(broker), _) => {
                broker.producer_ids.handle_outcome(ctx, broker.lifecycle.epoch(), outcome);
            }
            (Call::Lifecycle(LifecycleCall::RegisterController), _, Some(role)) => {
                role.registrar.handle_outcome(ctx, outcome);
            }
            (Call::Lifecycle(call), Some(broker), _) => {
                let progress = broker.lifecycle.handle_outcome(ctx, call, outcome, offset);
                self.progress(ctx, progress);
            }
            (call, ..) => unreachable!("{call:?} was sent by a role that this node does not have"),
        }
    }

    /// The broker got further in its life.
    fn progress(&mut self, ctx: &mut Ctx<'_>, progress: Option<Progress>) {
        let Some(broker) = &mut self.broker else { return };
        match progress {
            None => {}
            Some(Progress::Registered { epoch }) => broker.replicas.set_broker_epoch(epoch),
            Some(Progress::CaughtUp) => {
                broker.follows_metadata = true;
                let everything = ImageDelta { everything: true, ..ImageDelta::default() };
                broker.replicas.on_metadata(ctx, &self.image, &everything);
                broker.transactions.on_metadata(ctx, &mut broker.replicas, &self.image);
                broker.replicas.metadata_caught_up(ctx);
                broker.lifecycle.set_ready_to_unfence(ctx.now.mono);
            }
            Some(Progress::Unfenced) => broker.open = true,
            Some(Progress::MayStop { .. }) => self.broker_may_stop(ctx),
            Some(Progress::NotRegistered) => {
                self.halt(
                    ctx,
                    "Shutting down because we were unable to register with the controller quorum.",
                );
            }
            Some(Progress::DirectoryFailureUntold(id)) => {
                let why = alloc::format!(
                    "Shutting down because couldn't communicate offline log dir {id} with controllers"
                );
                self.halt(ctx, why);
            }
        }
    }

    /// Drains what the quorum, the connections and the replicas have to tell, until nothing is left.
    fn settle(&mut self, ctx: &mut Ctx<'_>) {
        loop {
            let signalled = self.take_signals(ctx);
            if self.halted {
                return;
            }
            if let Some((call, outcome)) = ctx.net.next_outcome() {
                self.outcome(ctx, call, outcome);
            } else if let Some((conn, listener, frame)) = ctx.net.next_request(ctx.out) {
                self.request(ctx, conn, listener, frame);
            } else if !signalled && !self.directories_failed(ctx) && !self.coordinators_advanced(ctx) {
                break;
            }
        }
        self.go_on_stopping(ctx);
    }

    /// Coordinators carry on what is committed by now. Whether there was anything.
    fn coordinators_advanced(&mut self, ctx: &mut Ctx<'_>) -> bool {
        let Some(Broker { transactions, groups, replicas, .. }) = &mut self.broker else { return false };
        let advanced = transactions.advance(ctx, replicas, &self.image);
        groups.advance(&mut Parts { ctx, image: &self.image, replicas }) || advanced
    }

    /// Log directories that failed since the last look. Whether there were any.
    fn directories_failed(&mut self, ctx: &mut Ctx<'_>) -> bool {
        let Some(broker) = &mut self.broker else { return false };
        let failed = broker.replicas.take_failed_dirs();
        if failed.is_empty() {
            return false;
        }
        for id in failed {
            broker.lifecycle.directory_failed(ctx, id);
        }
        if broker.replicas.is_offline() {
            self.halt(ctx, "Shutdown broker because all log dirs have failed");
        }
        true
    }

    /// The node stops itself, as Kafka's fault handlers do.
    fn halt(&mut self, ctx: &mut Ctx<'_>, why: impl Into<String>) {
        if !self.halted {
            self.halted = true;
            ctx.out.items.push(Output::Halt { why: why.into() });
        }
    }

    /// The checks at the end of each call: of what concerns several parts, and costs nothing.
    fn check_after(&self, ctx: &Ctx<'_>) {
        if self.halted {
            return;
        }
        if let Some(role) = &self.controller
            && let Some(epoch) = role.controller.epoch()
        {
            assert!(
                epoch <= self.raft.epoch(),
                "the controller is active in epoch {epoch}, which is to come"
            );
            let me = ctx.config.node_id;
            assert!(ctx.net.active_controller().is_some_and(|p| p == crate::net::Peer::Controller(me)));
        }
        let committed = self.raft.high_watermark().unwrap_or(0);
        assert!(
            self.image.offset < committed.max(1) || committed == 0,
            "the image is ahead of what is committed"
        );
    }
}

#[cfg(test)]
mod tests;
