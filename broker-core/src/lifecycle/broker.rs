//! The life of a broker: it registers, catches up, is unfenced, sends heartbeats, and asks before it leaves.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use wire::drive::{Instant, Nanos};
use wire::error::ErrorCode;
use wire::messages::broker_registration_request::{Feature, Listener};
use wire::messages::{
    BrokerHeartbeatRequest, BrokerHeartbeatResponse, BrokerRegistrationRequest, BrokerRegistrationResponse,
};
use wire::{Message, Reader, Request, Uuid};

use super::{Attempt, LifecycleCall, Next, backoff};
use crate::config::NodeConfig;
use crate::ctx::Ctx;
use crate::event::Event;
use crate::metadata::feature;
use crate::net::{Call, CallOutcome, Peer};

/// How long an orderly shutdown waits for the controller's leave (`KafkaBroker.shutdown`).
const CONTROLLED_SHUTDOWN_TIMEOUT: Nanos = Nanos::from_secs(300);
/// PLAINTEXT, as registrations number the security protocols.
pub(super) const PLAINTEXT: i16 = 0;

/// Where a broker stands in its life (`BrokerState`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BrokerState {
    /// Registers and catches up with the cluster's metadata.
    Starting,
    /// Has caught up, opens its logs, and waits to be unfenced.
    Recovery,
    /// Serves.
    Running,
    /// Asks the controller to move its leaderships away.
    PendingControlledShutdown,
    /// Talks to the controller no more.
    ShuttingDown,
}

/// What the node must do because the broker got further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The broker is registered.
    Registered {
        /// Its broker epoch from now on.
        epoch: i64,
    },
    /// The image holds the broker's own registration: replicas may be started from it.
    CaughtUp,
    /// The broker serves.
    Unfenced,
    /// The broker may leave, or has waited long enough.
    MayStop {
        /// Whether the controller agreed.
        granted: bool,
    },
    /// The broker could not register in time: the process ends.
    NotRegistered,
    /// The controllers could not be told in time that a log directory failed: the process ends.
    DirectoryFailureUntold(Uuid),
}

/// What a broker tells of itself.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The cluster's id.
    pub cluster_id: String,
    /// This incarnation's id: drawn at each start.
    pub incarnation_id: Uuid,
    /// The ids of its log directories.
    pub directories: Vec<Uuid>,
    /// The broker epoch in the mark of a clean shutdown, if there was one.
    pub previous_broker_epoch: Option<i64>,
}

#[derive(Clone, Copy)]
struct OfflineDirectory {
    /// Whether a controller has heard of it.
    told: bool,
    /// When the broker gives up telling.
    give_up_at: Instant,
}

/// `BrokerLifecycleManager`.
#[derive(Clone)]
pub struct BrokerLifecycle {
    identity: Identity,
    state: BrokerState,
    epoch: i64,
    registered: bool,
    ever_registered: bool,
    ready_to_unfence: bool,
    shutdown_answered: bool,
    offline: BTreeMap<Uuid, OfflineDirectory>,
    /// When to communicate next.
    next_at: Option<Instant>,
    /// Whether something changed while a request was under way: the next one follows at once.
    next_at_once: bool,
    attempt: Option<(LifecycleCall, Attempt)>,
    failures: u32,
    register_by: Instant,
    stop_by: Option<Instant>,
    heartbeat_interval: Nanos,
    session_timeout: Nanos,
    request_timeout: Nanos,
}

impl BrokerLifecycle {
    /// A broker that has just started, and registers at once.
    pub fn new(config: &NodeConfig, identity: Identity, now: Instant) -> BrokerLifecycle {
        let session_timeout = config.controller.session_timeout;
        BrokerLifecycle {
            identity,
            state: BrokerState::Starting,
            epoch: -1,
            registered: false,
            ever_registered: false,
            ready_to_unfence: false,
            shutdown_answered: false,
            offline: BTreeMap::new(),
            next_at: Some(now),
            next_at_once: false,
            attempt: None,
            failures: 0,
            register_by: now + config.lifecycle.registration_timeout,
            stop_by: None,
            heartbeat_interval: config.lifecycle.heartbeat_interval,
            session_timeout,
            request_timeout: Nanos(session_timeout.0 / 2).min(config.lifecycle.controller_socket_timeout),
        }
    }

    /// Where the broker stands.
    pub fn state(&self) -> BrokerState {
        self.state
    }

    /// The broker epoch of this registration; -1 before it.
    pub fn epoch(&self) -> i64 {
        self.epoch
    }

    /// What the broker tells of itself.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The replicas are started: the next heartbeat, which leaves at once, asks to be unfenced.
    pub fn set_ready_to_unfence(&mut self, now: Instant) {
        self.ready_to_unfence = true;
        self.communicate_at(now);
    }

    /// The controller shall move this broker's leaderships away. [`Progress::MayStop`] follows; at once, if the broker
    /// does not serve yet or the configuration wants no controlled shutdown.
    pub fn begin_controlled_shutdown(&mut self, ctx: &mut Ctx<'_>) -> Option<Progress> {
        match self.state {
            BrokerState::Running if ctx.config.lifecycle.controlled_shutdown_enable => {
                ctx.event(|| Event::ControlledShutdownStarted);
                self.state = BrokerState::PendingControlledShutdown;
                self.stop_by = Some(ctx.now.mono + CONTROLLED_SHUTDOWN_TIMEOUT);
                self.communicate_at(ctx.now.mono);
                None
            }
            BrokerState::PendingControlledShutdown | BrokerState::ShuttingDown => None,
            BrokerState::Starting | BrokerState::Recovery | BrokerState::Running => {
                Some(self.stop(ctx, false))
            }
        }
    }

    /// A log directory failed: the next heartbeat, which leaves at once, says so.
    pub fn directory_failed(&mut self, ctx: &Ctx<'_>, directory: Uuid) {
        let give_up_at = ctx.now.mono + ctx.config.lifecycle.log_dir_failure_timeout;
        self.offline.entry(directory).or_insert(OfflineDirectory { told: false, give_up_at });
        if self.registered {
            self.communicate_at(ctx.now.mono);
        }
    }

    /// When [`BrokerLifecycle::on_timer`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        if self.state == BrokerState::ShuttingDown {
            return None;
        }
        let communication = match &self.attempt {
            Some((_, attempt)) => attempt.due(),
            None => self.next_at,
        };
        let registration = (!self.ever_registered).then_some(self.register_by);
        let untold = self.offline.values().filter(|d| !d.told).map(|d| d.give_up_at).min();
        [communication, registration, self.stop_by, untold].into_iter().flatten().min()
    }

    /// Communicates, and gives up what took too long. `metadata_offset` is that of the last record applied.
    pub fn on_timer(&mut self, ctx: &mut Ctx<'_>, metadata_offset: i64) -> Option<Progress> {
        if self.state == BrokerState::ShuttingDown {
            return None;
        }
        let now = ctx.now.mono;
        if !self.ever_registered && self.register_by <= now {
            return Some(Progress::NotRegistered);
        }
        if self.stop_by.is_some_and(|at| at <= now) {
            return Some(self.stop(ctx, false));
        }
        if let Some((id, _)) = self.offline.iter().find(|(_, d)| !d.told && d.give_up_at <= now) {
            return Some(Progress::DirectoryFailureUntold(*id));
        }
        if self.attempt.is_none() && self.next_at.is_some_and(|at| at <= now) {
            self.next_at = None;
            let call = if self.registered { LifecycleCall::Heartbeat } else { LifecycleCall::Register };
            self.attempt = Some((call, Attempt::new(now)));
        }
        self.pursue(ctx, metadata_offset);
        None
    }

    /// Sends the request under way, if it is its time.
    fn pursue(&mut self, ctx: &mut Ctx<'_>, metadata_offset: i64) {
        let now = ctx.now.mono;
        let Some((call, attempt)) = &mut self.attempt else { return };
        if attempt.due().is_none_or(|at| at > now) {
            return;
        }
        let call = *call;
        match attempt.next(now, ctx.net, Some(Nanos(self.session_timeout.0 / 2))) {
            Next::Wait => {}
            Next::Expired => {
                self.attempt = None;
                self.communicate_after_failure(ctx);
            }
            Next::Send(peer) if call == LifecycleCall::Heartbeat => {
                self.send_heartbeat(ctx, peer, metadata_offset)
            }
            Next::Send(peer) => self.send_registration(ctx, peer),
        }
    }

    fn send_registration(&self, ctx: &mut Ctx<'_>, to: Peer) {
        let config = ctx.config;
        let listeners = config.advertised.iter().filter(|l| !l.controller).map(|l| Listener {
            name: l.name.as_str().into(),
            host: (&*l.endpoint.host).into(),
            port: l.endpoint.port,
            security_protocol: PLAINTEXT,
        });
        let features = feature::SUPPORTED.iter().map(|(name, range)| Feature {
            name: (*name).into(),
            min_supported_version: range.min,
            max_supported_version: range.max,
        });
        let mut log_dirs = self.identity.directories.clone();
        log_dirs.sort();
        let request = BrokerRegistrationRequest {
            broker_id: config.node_id,
            cluster_id: self.identity.cluster_id.as_str().into(),
            incarnation_id: self.identity.incarnation_id,
            listeners: listeners.collect(),
            features: features.collect(),
            rack: config.rack.as_deref().map(Into::into),
            log_dirs,
            previous_broker_epoch: self.identity.previous_broker_epoch.unwrap_or(-1),
            ..BrokerRegistrationRequest::default()
        };
        self.send(ctx, to, &request, LifecycleCall::Register);
    }

    fn send_heartbeat(&self, ctx: &mut Ctx<'_>, to: Peer, metadata_offset: i64) {
        let request = BrokerHeartbeatRequest {
            broker_id: ctx.config.node_id,
            broker_epoch: self.epoch,
            current_metadata_offset: metadata_offset,
            want_fence: !self.ready_to_unfence,
            want_shut_down: self.state == BrokerState::PendingControlledShutdown,
            offline_log_dirs: self.offline.keys().copied().collect(),
            ..BrokerHeartbeatRequest::default()
        };
        self.send(ctx, to, &request, LifecycleCall::Heartbeat);
    }

    fn send<'r, R: Request<'r>>(&self, ctx: &mut Ctx<'_>, to: Peer, request: &R, call: LifecycleCall) {
        let version = latest::<R>();
        let call = Call::Lifecycle(call);
        ctx.net.call(ctx.now, ctx.out, to, request, version, self.request_timeout, call);
    }

    /// A request of this broker ended.
    pub fn handle_outcome(
        &mut self,
        ctx: &mut Ctx<'_>,
        call: LifecycleCall,
        outcome: CallOutcome,
        metadata_offset: i64,
    ) -> Option<Progress> {
        let now = ctx.now.mono;
        let expected = self.attempt.as_mut().filter(|(of, _)| *of == call);
        let (_, attempt) = expected?;
        let CallOutcome::Answered { body, version } = outcome else {
            attempt.failed(now);
            self.pursue(ctx, metadata_offset);
            return None;
        };
        let mut reader = Reader::new(&body);
        let answer = match call {
            LifecycleCall::Register => {
                BrokerRegistrationResponse::decode(&mut reader, version).map(Answer::Registration)
            }
            _ => BrokerHeartbeatResponse::decode(&mut reader, version).map(Answer::Heartbeat),
        };
        let Ok(answer) = answer else {
            self.attempt = None;
            self.communicate_after_failure(ctx);
            return None;
        };
        if answer.error() == ErrorCode::NOT_CONTROLLER {
            attempt.not_controller(now);
            return None;
        }
        self.attempt = None;
        if answer.error().is_error() {
            self.communicate_after_failure(ctx);
            return None;
        }
        self.failures = 0;
        match answer {
            Answer::Registration(response) => {
                self.epoch = response.broker_epoch;
                self.registered = true;
                self.ever_registered = true;
                self.communicate_at(now);
                Some(Progress::Registered { epoch: self.epoch })
            }
            Answer::Heartbeat(response) => self.heartbeat_answered(ctx, &response),
        }
    }

    fn heartbeat_answered(
        &mut self,
        ctx: &mut Ctx<'_>,
        response: &BrokerHeartbeatResponse,
    ) -> Option<Progress> {
        let now = ctx.now.mono;
        for directory in self.offline.values_mut() {
            directory.told = true;
        }
        match self.state {
            BrokerState::Starting => {
                // Where nothing has to be recovered, this lets a broker start a bit quicker.
                self.communicate_after(now, Nanos::from_millis(10));
                if !response.is_caught_up {
                    return None;
                }
                self.state = BrokerState::Recovery;
                Some(Progress::CaughtUp)
            }
            BrokerState::Recovery => {
                self.communicate_after(now, self.heartbeat_interval);
                if response.is_fenced {
                    return None;
                }
                self.state = BrokerState::Running;
                Some(Progress::Unfenced)
            }
            BrokerState::Running => {
                self.communicate_after(now, self.heartbeat_interval);
                None
            }
            BrokerState::PendingControlledShutdown if response.should_shut_down => Some(self.stop(ctx, true)),
            BrokerState::PendingControlledShutdown => {
                // The first answer is followed a bit sooner, for when the leaderships move quickly.
                let first = !core::mem::replace(&mut self.shutdown_answered, true);
                let wait = if first { Nanos::from_millis(50) } else { self.heartbeat_interval };
                self.communicate_after(now, wait);
                None
            }
            BrokerState::ShuttingDown => None,
        }
    }

    /// No more communication with the controller.
    fn stop(&mut self, ctx: &mut Ctx<'_>, granted: bool) -> Progress {
        if self.state == BrokerState::PendingControlledShutdown {
            ctx.event(|| Event::ControlledShutdownCompleted { granted });
        }
        self.state = BrokerState::ShuttingDown;
        self.attempt = None;
        self.next_at = None;
        self.stop_by = None;
        Progress::MayStop { granted }
    }

    fn communicate_at(&mut self, now: Instant) {
        if self.attempt.is_some() {
            self.next_at_once = true;
        } else {
            self.next_at = Some(now);
        }
    }

    fn communicate_after(&mut self, now: Instant, wait: Nanos) {
        let at_once = core::mem::take(&mut self.next_at_once);
        self.next_at = Some(if at_once { now } else { now + wait });
    }

    fn communicate_after_failure(&mut self, ctx: &mut Ctx<'_>) {
        let wait = backoff::after_failures(self.failures, self.session_timeout, ctx.rng);
        self.failures += 1;
        // Never at once after a failure.
        self.next_at_once = false;
        self.communicate_after(ctx.now.mono, wait);
    }
}

enum Answer {
    Registration(BrokerRegistrationResponse),
    Heartbeat(BrokerHeartbeatResponse),
}

impl Answer {
    fn error(&self) -> ErrorCode {
        ErrorCode(match self {
            Answer::Registration(r) => r.error_code,
            Answer::Heartbeat(r) => r.error_code,
        })
    }
}

/// The latest stable version of a request.
pub(super) fn latest<'r, R: Request<'r>>() -> i16 {
    R::KEY.info().stable().map_or(R::MAX_VERSION, |range| range.max)
}
