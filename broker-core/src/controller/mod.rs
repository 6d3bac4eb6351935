//! The controller (KIP-500): decides about brokers, topics, leaders and configurations, and writes its decisions to the
//! metadata log.
//!
//! Every controller of a quorum has one of these; that of the quorum's leader is active. The active one works on a state
//! of its own, to which it applies its records as it appends them, so that each decision rests on all decisions before
//! it. Nobody else sees a record before it is committed: answers wait for that, and so do the events that tell of it.
//! A controller that loses the quorum's leadership forgets its state; who waits is told NOT_CONTROLLER, and cannot know
//! whether the records live on.
//!
//! How the node drives it:
//!
//! 1. [`Controller::activate`] when this node has won an election and has applied everything up to its epoch's start;
//! 2. [`Controller::handle_request`] for each request of the APIs in [`Controller::serves`];
//! 3. [`Controller::committed`] when the high watermark has moved, [`Controller::on_timer`] when
//!    [`Controller::deadline`] is due;
//! 4. [`Controller::resign`] when another leads, or nobody.
//!
//! Inside, a module for each of Kafka's managers; all are methods on `State` that look at the state and
//! return records with an answer. [`partition_change`] and [`placement`] are pure functions.

pub mod answer;
pub mod bootstrap;
mod cluster_control;
mod configs;
mod error;
mod features;
pub mod heartbeat;
pub mod index;
mod metadata_log;
pub mod partition_change;
pub mod placement;
mod quotas;
mod reassignment;
mod replication;
mod state;
mod topics;
mod transitions;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use wire::codec::{DecodeError, Message, Reader};
use wire::drive::{Instant, Nanos};
use wire::messages::*;
use wire::records::{MetadataRecord, NoOpRecord};
use wire::{ApiKey, ErrorCode};

pub use self::answer::Answer;
pub use self::cluster_control::PRODUCER_ID_BLOCK_SIZE;
pub use self::error::ApiError;
pub use self::metadata_log::MetadataLog;
use self::state::{Env, State};
pub use self::topics::validate_topic_name;
use crate::config::{Dynamic, NodeConfig};
use crate::ctx::Ctx;
use crate::event::{ChangeReason, Event, FenceReason};
use crate::metadata::MetadataImage;
use crate::net::{Peer, RequestToken};
use crate::quota::clients::MutationQuota;
use crate::raft::{AppendError, AppendedAt};

/// How many records go into one batch of the metadata log.
const MAX_RECORDS_PER_BATCH: usize = 10_000;
/// How soon a periodic task goes on when it has more to do.
const IMMEDIATELY: Nanos = Nanos::from_millis(10);

/// What an operation comes to.
struct Outcome {
    records: Vec<MetadataRecord>,
    answer: Answer,
    /// What events give as the reason of partitions' changes.
    reason: ChangeReason,
    /// What events give as the reason if a broker is fenced.
    fence: FenceReason,
    /// Whether the process of a broker that registers anew had stopped cleanly.
    clean_shutdown: bool,
    /// A broker that is in controlled shutdown as of the last of these records.
    controlled_shutdown: Option<i32>,
    /// Its client went over a quota, and has to wait until then.
    throttled_until: Option<Instant>,
}

impl Outcome {
    fn of(records: Vec<MetadataRecord>, answer: Answer) -> Outcome {
        Outcome {
            records,
            answer,
            reason: ChangeReason::AlterPartition,
            fence: FenceReason::Requested,
            clean_shutdown: true,
            controlled_shutdown: None,
            throttled_until: None,
        }
    }
}

#[derive(Clone)]
struct Waiting {
    /// The offset that has to be committed.
    offset: i64,
    token: RequestToken,
    answer: Answer,
    throttled_until: Option<Instant>,
}

/// When periodic tasks are due. `None`: never.
#[derive(Clone, Copy)]
struct Tasks {
    fence_stale_broker: Instant,
    write_no_op: Option<Instant>,
    balance_leaders: Option<Instant>,
    elect_unclean: Instant,
}

impl Tasks {
    fn starting(now: Instant, config: &NodeConfig) -> Tasks {
        let rebalance = config.controller.auto_leader_rebalance;
        Tasks {
            fence_stale_broker: now + fence_period(config),
            write_no_op: config.metadata.max_idle_interval.map(|idle| now + idle),
            balance_leaders: rebalance.then(|| now + config.controller.leader_imbalance_check_interval),
            elect_unclean: now + config.controller.unclean_leader_election_interval,
        }
    }

    fn next(&self) -> Instant {
        let optional = [self.write_no_op, self.balance_leaders].into_iter().flatten();
        optional.fold(self.fence_stale_broker.min(self.elect_unclean), Instant::min)
    }
}

/// Sessions are looked at eight times in a session's length, so a dead broker is fenced at most an eighth late.
fn fence_period(config: &NodeConfig) -> Nanos {
    Nanos(config.controller.session_timeout.0 / 8).max(Nanos::from_millis(1))
}

#[derive(Clone)]
struct Active {
    epoch: i32,
    state: State,
    waiting: VecDeque<Waiting>,
    events: VecDeque<(i64, Event)>,
    last_appended: i64,
    last_committed: i64,
    tasks: Tasks,
}

/// The controller of one node.
#[derive(Clone)]
pub struct Controller {
    node_id: i32,
    cluster_id: Arc<str>,
    bootstrap: Arc<[MetadataRecord]>,
    active: Option<Box<Active>>,
}

impl Controller {
    /// An inactive controller. `bootstrap` are the records of the node's `bootstrap.checkpoint`.
    pub fn new(config: &NodeConfig, cluster_id: Arc<str>, bootstrap: Vec<MetadataRecord>) -> Controller {
        Controller { node_id: config.node_id, cluster_id, bootstrap: bootstrap.into(), active: None }
    }

    /// Whether this is the active controller.
    pub fn is_active(&self) -> bool {
        self.active.is_some()
    }

    /// The epoch in which this is the active controller.
    pub fn epoch(&self) -> Option<i32> {
        self.active.as_ref().map(|a| a.epoch)
    }

    /// The state that the active controller works on: ahead of the committed one. For inspection.
    pub fn image(&self) -> Option<&MetadataImage> {
        self.active.as_ref().map(|a| &a.state.image)
    }

    /// Whether requests of this API come here.
    pub fn serves(key: ApiKey) -> bool {
        matches!(
            key,
            ApiKey::BrokerRegistration
                | ApiKey::BrokerHeartbeat
                | ApiKey::ControllerRegistration
                | ApiKey::UnregisterBroker
                | ApiKey::AllocateProducerIds
                | ApiKey::AlterPartition
                | ApiKey::AssignReplicasToDirs
                | ApiKey::CreateTopics
                | ApiKey::DeleteTopics
                | ApiKey::CreatePartitions
                | ApiKey::ElectLeaders
                | ApiKey::IncrementalAlterConfigs
                | ApiKey::AlterConfigs
                | ApiKey::AlterPartitionReassignments
                | ApiKey::ListPartitionReassignments
                | ApiKey::AlterClientQuotas
                | ApiKey::UpdateFeatures
        )
    }

    /// This node leads the quorum in `epoch`. `image` holds everything below the epoch's start, all of it committed.
    /// Every broker's session begins anew; an empty log gets its bootstrap records.
    pub fn activate(
        &mut self,
        ctx: &mut Ctx<'_>,
        log: &mut impl MetadataLog,
        image: &MetadataImage,
        epoch: i32,
    ) {
        assert!(self.active.is_none(), "controller {} is active already", self.node_id);
        let (config, now) = (ctx.config, ctx.now.mono);
        let state = State::new(self.node_id, self.cluster_id.clone(), image.clone(), config, now);
        let last_appended = log.next_offset() - 1;
        self.active = Some(Box::new(Active {
            epoch,
            state,
            waiting: VecDeque::new(),
            events: VecDeque::new(),
            last_appended,
            last_committed: last_appended,
            tasks: Tasks::starting(now, config),
        }));
        ctx.event(|| Event::ControllerActivated { epoch });
        let min_isr = config.node_value(Dynamic::default(), "min.insync.replicas").unwrap_or("1");
        let records = bootstrap::activation_records(image, &self.bootstrap, min_isr);
        self.perform(ctx, log, None, Outcome::of(records, Answer::None));
    }

    /// This node does not lead the quorum any more.
    pub fn resign(&mut self, ctx: &mut Ctx<'_>) {
        let Some(active) = self.active.take() else { return };
        let error = not_controller(None);
        for Waiting { token, answer, .. } in active.waiting {
            refuse(ctx, token, answer, &error);
        }
        ctx.event(|| Event::ControllerResigned { epoch: active.epoch });
    }

    /// Decodes a request and does what it asks. The answer leaves when it is committed. An error means that the request
    /// cannot be read: the connection is to be closed.
    pub fn handle_request(
        &mut self,
        ctx: &mut Ctx<'_>,
        log: &mut impl MetadataLog,
        token: RequestToken,
        reader: &mut Reader<'_>,
    ) -> Result<(), DecodeError> {
        let Some(active) = &mut self.active else {
            let blank = blank(token, reader)?;
            let leader = ctx.net.active_controller().map(|peer| match peer {
                Peer::Broker(id) | Peer::Controller(id) => id,
            });
            refuse(ctx, token, blank, &not_controller(leader));
            return Ok(());
        };
        let mut env = Env {
            now: ctx.now,
            config: ctx.config,
            rng: &mut *ctx.rng,
            next_offset: log.next_offset(),
            mutations: ctx.net.mutation_quota(ctx.now.mono, token),
        };
        let mut outcome = process(&mut active.state, &mut env, token, reader)?;
        if let Some(violation) = env.mutations.violation() {
            ctx.net.tell_violation(ctx.out, token, &violation);
            outcome.throttled_until = Some(ctx.now.mono + violation.throttle);
        }
        self.perform(ctx, log, Some(token), outcome);
        Ok(())
    }

    /// The quorum has a batch of its own in the log up to here: its voters changed.
    pub fn quorum_appended(&mut self, up_to: i64) {
        if let Some(active) = &mut self.active {
            active.last_appended = active.last_appended.max(up_to);
        }
    }

    /// Everything up to this offset, it included, is committed: what waited for it leaves.
    pub fn committed(&mut self, ctx: &mut Ctx<'_>, up_to: i64) {
        let Some(active) = &mut self.active else { return };
        active.last_committed = active.last_committed.max(up_to);
        while active.events.front().is_some_and(|(offset, _)| *offset <= up_to) {
            let (_, event) = active.events.pop_front().expect("it was just there");
            ctx.event(|| event);
        }
        while active.waiting.front().is_some_and(|w| w.offset <= up_to) {
            let waiting = active.waiting.pop_front().expect("it was just there");
            send(ctx, waiting.token, waiting.answer, waiting.throttled_until);
        }
    }

    /// When [`Controller::on_timer`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.active.as_ref().map(|a| a.tasks.next())
    }

    /// Does what is due: fences a broker whose session expired, balances leaders, elects uncleanly where that is
    /// allowed, writes the record that keeps brokers' offsets moving.
    pub fn on_timer(&mut self, ctx: &mut Ctx<'_>, log: &mut impl MetadataLog) {
        let (now, config) = (ctx.now.mono, ctx.config);
        self.run_task(ctx, log, |active, env| {
            if active.tasks.fence_stale_broker > now {
                return None;
            }
            let fenced = active.state.fence_one_stale_broker(env);
            // One at a time, but the next one soon.
            let pause = if fenced.is_some() { IMMEDIATELY } else { fence_period(config) };
            active.tasks.fence_stale_broker = now + pause;
            fenced
        });
        self.run_task(ctx, log, |active, env| {
            active.tasks.balance_leaders.filter(|due| *due <= now)?;
            let (outcome, more) = active.state.balance_leaders(env);
            let pause = if more { IMMEDIATELY } else { config.controller.leader_imbalance_check_interval };
            active.tasks.balance_leaders = Some(now + pause);
            Some(outcome)
        });
        self.run_task(ctx, log, |active, env| {
            if active.tasks.elect_unclean > now {
                return None;
            }
            let (outcome, more) = active.state.elect_unclean_leaders(env);
            let pause = if more { IMMEDIATELY } else { config.controller.unclean_leader_election_interval };
            active.tasks.elect_unclean = now + pause;
            Some(outcome)
        });
        self.run_task(ctx, log, |active, _| {
            active.tasks.write_no_op.filter(|due| *due <= now)?;
            active.tasks.write_no_op = config.metadata.max_idle_interval.map(|idle| now + idle);
            Some(Outcome::of(alloc::vec![NoOpRecord::default().into()], Answer::None))
        });
    }

    fn run_task(
        &mut self,
        ctx: &mut Ctx<'_>,
        log: &mut impl MetadataLog,
        task: impl FnOnce(&mut Active, &mut Env<'_>) -> Option<Outcome>,
    ) {
        let Some(active) = &mut self.active else { return };
        let mut env = Env {
            now: ctx.now,
            config: ctx.config,
            rng: &mut *ctx.rng,
            next_offset: log.next_offset(),
            mutations: MutationQuota::UNBOUNDED,
        };
        if let Some(outcome) = task(active, &mut env) {
            self.perform(ctx, log, None, outcome);
        }
    }

    /// Appends an operation's records and lets its answer wait for them. An operation without records has read what
    /// others wrote before it, so its answer waits for that.
    fn perform(
        &mut self,
        ctx: &mut Ctx<'_>,
        log: &mut impl MetadataLog,
        token: Option<RequestToken>,
        outcome: Outcome,
    ) {
        let active = self.active.as_mut().expect("only an active controller performs operations");
        for batch in outcome.records.chunks(MAX_RECORDS_PER_BATCH) {
            let expected = log.next_offset();
            let AppendedAt { base_offset, last_offset } = match log.append(ctx, batch) {
                Ok(at) => at,
                Err(error) => return self.append_failed(ctx, token, outcome.answer, error),
            };
            assert_eq!(base_offset, expected, "records are appended where the log said they would be");
            assert_eq!(last_offset, base_offset + batch.len() as i64 - 1, "each record has an offset");
            active.apply(batch, base_offset, &outcome, ctx.out.events_wanted);
            active.last_appended = last_offset;
        }
        if let Some(broker) = outcome.controlled_shutdown {
            active.state.heartbeats.enter_controlled_shutdown(broker, active.last_appended);
        }
        let Some(token) = token else { return };
        let Outcome { answer, throttled_until, .. } = outcome;
        if active.last_appended <= active.last_committed {
            send(ctx, token, answer, throttled_until);
        } else {
            active.waiting.push_back(Waiting {
                offset: active.last_appended,
                token,
                answer,
                throttled_until,
            });
        }
    }

    fn append_failed(
        &mut self,
        ctx: &mut Ctx<'_>,
        token: Option<RequestToken>,
        answer: Answer,
        error: AppendError,
    ) {
        match (error, token) {
            // One user asked for more than a batch can hold: nothing of it was written.
            (AppendError::TooLarge { .. }, Some(token)) => {
                let error = ApiError::bare(ErrorCode::UNKNOWN_SERVER_ERROR);
                answer.failed(&error).send(ctx.net, ctx.out, token);
            }
            (AppendError::TooLarge { size, limit }, None) => {
                panic!("the controller's own records of {size} bytes exceed a batch of {limit}")
            }
            (AppendError::NotLeader, token) => {
                if let Some(token) = token {
                    refuse(ctx, token, answer, &not_controller(None));
                }
                self.resign(ctx);
            }
        }
    }

    /// Checks what must hold. Looks at everything: for restarts, now and then, and the end.
    pub fn check_invariants(&self) {
        let Some(active) = &self.active else { return };
        active.state.check_invariants();
        assert!(active.last_committed <= active.last_appended, "nothing is committed that was not appended");
        let offsets = active.waiting.iter().map(|w| w.offset);
        assert!(offsets.is_sorted(), "answers wait in the order of their offsets");
    }
}

/// Decodes a request and works out what it comes to.
fn process(
    state: &mut State,
    env: &mut Env<'_>,
    token: RequestToken,
    reader: &mut Reader<'_>,
) -> Result<Outcome, DecodeError> {
    let version = token.version;
    macro_rules! decoded {
        ($request:ident) => {{
            let request = $request::decode(reader, version)?;
            reader.finish()?;
            request
        }};
    }
    Ok(match token.key {
        ApiKey::BrokerHeartbeat => state.heartbeat(env, &decoded!(BrokerHeartbeatRequest)),
        ApiKey::AlterPartition => state.alter_partition(env, &decoded!(AlterPartitionRequest), version),
        ApiKey::BrokerRegistration => {
            state.register_broker(env, &decoded!(BrokerRegistrationRequest), version)
        }
        ApiKey::ControllerRegistration => state.register_controller(&decoded!(ControllerRegistrationRequest)),
        ApiKey::UnregisterBroker => state.unregister_broker(env, &decoded!(UnregisterBrokerRequest)),
        ApiKey::AllocateProducerIds => state.allocate_producer_ids(&decoded!(AllocateProducerIdsRequest)),
        ApiKey::AssignReplicasToDirs => {
            state.assign_replicas_to_dirs(env, &decoded!(AssignReplicasToDirsRequest))
        }
        ApiKey::CreateTopics => state.create_topics(env, &decoded!(CreateTopicsRequest)),
        ApiKey::DeleteTopics => state.delete_topics(env, &decoded!(DeleteTopicsRequest), version),
        ApiKey::CreatePartitions => state.create_partitions(env, &decoded!(CreatePartitionsRequest)),
        ApiKey::ElectLeaders => state.elect_leaders(env, &decoded!(ElectLeadersRequest)),
        ApiKey::IncrementalAlterConfigs => {
            state.incremental_alter_configs(env, &decoded!(IncrementalAlterConfigsRequest))
        }
        ApiKey::AlterConfigs => state.alter_configs(env, &decoded!(AlterConfigsRequest)),
        ApiKey::AlterPartitionReassignments => {
            state.alter_partition_reassignments(env, &decoded!(AlterPartitionReassignmentsRequest))
        }
        ApiKey::ListPartitionReassignments => {
            state.list_partition_reassignments(&decoded!(ListPartitionReassignmentsRequest))
        }
        ApiKey::AlterClientQuotas => state.alter_client_quotas(&decoded!(AlterClientQuotasRequest)),
        ApiKey::UpdateFeatures => state.update_features(env, &decoded!(UpdateFeaturesRequest), version),
        other => unreachable!("the controller does not serve {other}"),
    })
}

/// The answer to a request with nothing in it but what it names, to be told that it failed.
fn blank(token: RequestToken, reader: &mut Reader<'_>) -> Result<Answer, DecodeError> {
    use answer::owned;
    let version = token.version;
    macro_rules! decoded {
        ($request:ident) => {{
            let request = $request::decode(reader, version)?;
            reader.finish()?;
            request
        }};
    }
    macro_rules! empty {
        ($request:ident, $answer:ident) => {{
            let $request { .. } = decoded!($request);
            Answer::$answer(Default::default())
        }};
    }
    macro_rules! named {
        ($request:ident, $items:ident, $item:pat => $answer:expr) => {
            decoded!($request).$items.iter().map(|$item| $answer).collect()
        };
    }
    Ok(match token.key {
        ApiKey::BrokerRegistration => empty!(BrokerRegistrationRequest, BrokerRegistration),
        ApiKey::BrokerHeartbeat => empty!(BrokerHeartbeatRequest, BrokerHeartbeat),
        ApiKey::ControllerRegistration => empty!(ControllerRegistrationRequest, ControllerRegistration),
        ApiKey::UnregisterBroker => empty!(UnregisterBrokerRequest, UnregisterBroker),
        ApiKey::AllocateProducerIds => empty!(AllocateProducerIdsRequest, AllocateProducerIds),
        ApiKey::AlterPartition => empty!(AlterPartitionRequest, AlterPartition),
        ApiKey::AssignReplicasToDirs => empty!(AssignReplicasToDirsRequest, AssignReplicasToDirs),
        ApiKey::ElectLeaders => empty!(ElectLeadersRequest, ElectLeaders),
        ApiKey::AlterPartitionReassignments => {
            empty!(AlterPartitionReassignmentsRequest, AlterPartitionReassignments)
        }
        ApiKey::ListPartitionReassignments => {
            empty!(ListPartitionReassignmentsRequest, ListPartitionReassignments)
        }
        ApiKey::AlterClientQuotas => {
            let entries = named!(AlterClientQuotasRequest, entries, entry => quotas::blank_entry(entry));
            Answer::AlterClientQuotas(AlterClientQuotasResponse { entries, ..Default::default() })
        }
        ApiKey::UpdateFeatures => empty!(UpdateFeaturesRequest, UpdateFeatures),
        ApiKey::CreateTopics => {
            let topics = named!(CreateTopicsRequest, topics, t => create_topics_response::CreatableTopicResult {
                name: owned(&t.name),
                ..Default::default()
            });
            Answer::CreateTopics(CreateTopicsResponse { topics, ..Default::default() })
        }
        ApiKey::DeleteTopics => {
            let request = decoded!(DeleteTopicsRequest);
            let names = request.topic_names.iter().map(|name| (Some(owned(name)), wire::Uuid::ZERO));
            let either = request.topics.iter().map(|t| (t.name.as_deref().map(owned), t.topic_id));
            let result = |(name, topic_id)| delete_topics_response::DeletableTopicResult {
                name,
                topic_id,
                ..Default::default()
            };
            let responses = names.chain(either).map(result).collect();
            Answer::DeleteTopics(DeleteTopicsResponse { responses, ..Default::default() })
        }
        ApiKey::CreatePartitions => {
            let results = named!(CreatePartitionsRequest, topics, t =>
            create_partitions_response::CreatePartitionsTopicResult {
                name: owned(&t.name),
                ..Default::default()
            });
            Answer::CreatePartitions(CreatePartitionsResponse { results, ..Default::default() })
        }
        ApiKey::IncrementalAlterConfigs => {
            let responses = named!(IncrementalAlterConfigsRequest, resources, r =>
            incremental_alter_configs_response::AlterConfigsResourceResponse {
                resource_type: r.resource_type,
                resource_name: owned(&r.resource_name),
                ..Default::default()
            });
            Answer::IncrementalAlterConfigs(IncrementalAlterConfigsResponse {
                responses,
                ..Default::default()
            })
        }
        ApiKey::AlterConfigs => {
            let responses = named!(AlterConfigsRequest, resources, r =>
            alter_configs_response::AlterConfigsResourceResponse {
                resource_type: r.resource_type,
                resource_name: owned(&r.resource_name),
                ..Default::default()
            });
            Answer::AlterConfigs(AlterConfigsResponse { responses, ..Default::default() })
        }
        other => unreachable!("the controller does not serve {other}"),
    })
}

/// Sends an answer. A client that has to wait hears for how long from now on; one whose broker passed the request on is
/// made to wait by its broker.
fn send(ctx: &mut Ctx<'_>, token: RequestToken, mut answer: Answer, throttled_until: Option<Instant>) {
    if let Some(until) = throttled_until.filter(|until| *until > ctx.now.mono) {
        answer.set_throttle_time(until.since(ctx.now.mono).as_millis() as i32);
        if token.envelope.is_none() {
            ctx.net.throttle(token, until);
        }
    }
    answer.send(ctx.net, ctx.out, token);
}

/// Tells who asked that it failed. A broker that passed the request on in an Envelope is told so itself: it looks for
/// the active controller and tries again.
fn refuse(ctx: &mut Ctx<'_>, token: RequestToken, answer: Answer, error: &ApiError) {
    if !ctx.net.refuse_envelope(ctx.out, token, error.code.0) {
        answer.failed(error).send(ctx.net, ctx.out, token);
    }
}

fn not_controller(leader: Option<i32>) -> ApiError {
    let text = match leader {
        Some(id) => format!("The active controller appears to be node {id}."),
        None => "No controller appears to be active.".into(),
    };
    ApiError::new(ErrorCode::NOT_CONTROLLER, text)
}

#[cfg(test)]
mod tests;
