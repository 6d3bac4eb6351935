//! What is known of a run: folded from everything that happened, event by event.
//!
//! It feeds the checkers, the clients' history and statistics, the timeline, and the picture of the cluster as it is
//! committed in the metadata log. It never changes the world.

mod cluster;
mod findings;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use broker_core::event::{Event, PartitionState};
use broker_core::metadata::MetadataImage;
use client::event::TransactionEnd;
use client::{ClientEvent, Fate, Made, Polled, ResetReason};
use reports::{TimelineEntry, Tone};

use super::coverage::Coverage;
use super::export::Export;
use super::groups::{Coordinated, Processing};
use super::narrator;
use super::stats::ClientStats;
use crate::checkers::Subject;
use crate::checkers::groups::Groups;
use crate::checkers::history::{FinalRead, History, Message, PartitionIndex};
use crate::checkers::incarnations::Incarnations;
use crate::checkers::positions::Positions;
use crate::checkers::promise::Promise;
use crate::checkers::quorum::Quorum;
use crate::checkers::replicas::Replicas;
use crate::checkers::replicas::replication_quorum_superset::LeaderIsr;
use crate::checkers::transactions::{Fate as TransactionFate, Reader, Transactions};
use crate::explain::record::Recording;
use crate::scenario::{Client, ClientKind, Scenario};
use crate::world::{Happened, ProcEvent, ProcId, SimTime, What, World};

/// Something that a checker found, with how often.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The checker.
    pub name: &'static str,
    /// What it is about.
    pub subject: Subject,
    /// Why the configuration did not rule it out; absent: it did.
    pub excuse: Option<&'static str>,
    /// It is allowed to whom it happened, whatever is promised to others.
    pub allowed: bool,
    /// When the first of them was found.
    pub at: SimTime,
    /// The first of them in words.
    pub text: String,
    /// How many.
    pub count: u64,
}

/// A process, and who it is in the scenario.
#[derive(Clone, Debug)]
struct Known {
    name: Arc<str>,
    role: Role,
}

#[derive(Clone, Copy, Debug)]
enum Role {
    Node(i32),
    Client(ClientRole),
    /// The reader at the end.
    Reader,
    Other,
}

/// The places of a client's process among the clients that are known.
#[derive(Clone, Copy, Debug)]
struct ClientRole {
    /// The process's own.
    own: usize,
    /// The client's of which it is an instance; the same if it is the only one.
    of: usize,
    /// Its index among the producers.
    producer: Option<u32>,
    /// It writes in transactions.
    transactional: bool,
    /// It reads committed transactions only.
    reads_committed: bool,
}

/// What is known of a client of the scenario, or of one of its processes.
#[derive(Clone, Debug)]
struct ClientView {
    name: String,
    stats: ClientStats,
    /// How many messages it has made, and in how many transactions.
    made: u64,
    transactions: u64,
    /// What its group gave it.
    owned: BTreeSet<PartitionIndex>,
}

/// What a process wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Console {
    /// To standard output.
    pub stdout: String,
    /// To standard error.
    pub stderr: String,
}

/// Partitions of a coordinators' topic that changed at one instant for one reason, and their line in the timeline.
#[derive(Clone, Debug)]
struct InternalChanges {
    at: SimTime,
    topic: String,
    reason: &'static str,
    count: u32,
    line: usize,
}

/// What is known of a run.
#[derive(Clone)]
pub struct Observer {
    /// By the process's number.
    roles: Vec<Option<Known>>,
    producers: Vec<String>,
    /// Committed states by topic and partition.
    pub partitions: BTreeMap<(String, i32), PartitionState>,
    /// How often one of them changed.
    pub partition_changes: u64,
    /// The clients and their processes, by name.
    clients: Vec<ClientView>,
    /// What each process wrote.
    pub consoles: BTreeMap<ProcId, Console>,
    /// Events of nodes since the last step that changed something: name and partition.
    pub node_events: BTreeMap<String, BTreeSet<(&'static str, Option<String>)>>,
    history: History,
    positions: Positions,
    transactions: Transactions,
    final_reads: BTreeMap<(String, i32), FinalRead>,
    replicas: Replicas,
    incarnations: Incarnations,
    /// The nodes' processes, by id.
    nodes: BTreeMap<i32, ProcId>,
    quorum: Quorum,
    /// What groups own and commit.
    pub groups: Groups,
    /// The groups and transactional ids of the scenario: whose coordinators are told.
    coordinated: Coordinated,
    /// What the configuration and the faults so far promise.
    pub promise: Promise,
    /// What consumers do with what they read.
    pub processing: Processing,
    /// What was found.
    pub findings: Vec<Finding>,
    /// What was reached.
    pub coverage: Coverage,
    /// What a class is told.
    pub timeline: Vec<TimelineEntry>,
    internal: Vec<InternalChanges>,
    /// Where 0.0 s is.
    pub origin: SimTime,
    told: bool,
    /// The warnings of each client since the last step that changed something: one that comes again and again is told
    /// once.
    warned: BTreeSet<(String, String)>,
    /// How many transactions each transactional id has committed.
    commits: BTreeMap<Arc<str>, u32>,
    /// What is being heard; its memory is used again.
    happened: Vec<Happened>,
    /// The clients' history for other checkers, if it is asked for.
    export: Option<Box<Export>>,
    /// What is kept for explanations, in a run that repeats one which found something.
    recordings: Vec<Recording>,
    /// Nothing is checked: what the rest of a run costs.
    unchecked: bool,
}

/// Groups in which processes of the scenario have one `group.instance.id`.
fn groups_with_twins(scenario: &Scenario) -> BTreeSet<&str> {
    let mut known = BTreeSet::new();
    let mut twins = BTreeSet::new();
    for client in &scenario.clients {
        let group = match &client.kind {
            ClientKind::Consumer { group: Some(group), .. } => group.as_str(),
            ClientKind::Transactional { group, .. } => group.as_str(),
            _ => continue,
        };
        let Some(instance) = client.config.get("group.instance.id") else { continue };
        if client.instances > 1 || !known.insert((group, instance)) {
            twins.insert(group);
        }
    }
    twins
}

/// Beside a hostile client only the groups of the other clients are judged.
fn judged_groups(scenario: &Scenario) -> Groups {
    let mut groups = Groups::default();
    if scenario.clients.iter().any(|client| matches!(client.kind, ClientKind::Hostile { .. })) {
        groups.judge_only(scenario.clients.iter().filter_map(|client| match &client.kind {
            ClientKind::Consumer { group, .. } => group.as_deref().map(Arc::from),
            ClientKind::Transactional { group, .. } => Some(Arc::from(group.as_str())),
            _ => None,
        }));
    }
    groups_with_twins(scenario).into_iter().for_each(|group| groups.shared_instance(group));
    groups
}

/// So many commits of a transactional id are lines of the timeline.
const COMMITS_TOLD: u32 = 200;

/// The longest text of the timeline, in characters: a hostile client has names of many KiB.
const LONGEST_TEXT: usize = 400;

fn shortened(mut text: String) -> String {
    if let Some((cut, _)) = text.char_indices().nth(LONGEST_TEXT) {
        text.truncate(cut);
        text.push('…');
    }
    text
}

impl Observer {
    /// Of a scenario that has not begun.
    pub fn new(scenario: &Scenario) -> Observer {
        let mut promise = Promise::default();
        settings(&mut promise, scenario);
        let mut names = BTreeSet::new();
        for client in &scenario.clients {
            if let ClientKind::Producer { topic, .. } = &client.kind {
                let setting = |key: &str, default: &'static str| {
                    client.config.get(key).map_or(default, String::as_str).to_owned()
                };
                let acks = setting("acks", "all");
                let idempotent =
                    setting("enable.idempotence", "true") == "true" && matches!(acks.as_str(), "all" | "-1");
                promise.producer(topic, &acks, idempotent);
                let delivery = setting("delivery.timeout.ms", "120000").parse();
                promise.delivery_timeout(topic, delivery.unwrap_or(120_000));
            }
            if let ClientKind::Transactional { from, to, group, .. } = &client.kind {
                promise.transactional(to, from, group);
            }
            names.insert(client.name.clone());
            names.extend(client.processes());
        }
        let mut history = History::default();
        for (number, keys) in super::build::producer_keys(scenario).into_iter().enumerate() {
            history.keys(number as u32, keys);
        }
        let (made, transactions) = (0, 0);
        let clients = names.into_iter().map(|name| ClientView {
            name,
            stats: ClientStats::default(),
            made,
            transactions,
            owned: BTreeSet::new(),
        });
        Observer {
            roles: Vec::new(),
            producers: super::build::producer_names(scenario),
            partitions: BTreeMap::new(),
            partition_changes: 0,
            clients: clients.collect(),
            consoles: BTreeMap::new(),
            node_events: BTreeMap::new(),
            history,
            positions: Positions::default(),
            transactions: Transactions::of(scenario.clients.iter().filter_map(|c| match &c.kind {
                ClientKind::Transactional { to, .. } => Some(to.to_string()),
                _ => None,
            })),
            final_reads: BTreeMap::new(),
            replicas: Replicas::default(),
            incarnations: Incarnations::default(),
            nodes: BTreeMap::new(),
            quorum: Quorum::default(),
            groups: judged_groups(scenario),
            coordinated: Coordinated::of(scenario),
            promise,
            processing: Processing::default(),
            findings: Vec::new(),
            coverage: Coverage::default(),
            timeline: Vec::new(),
            internal: Vec::new(),
            origin: SimTime::ZERO,
            told: false,
            warned: BTreeSet::new(),
            commits: BTreeMap::new(),
            happened: Vec::new(),
            export: None,
            recordings: Vec::new(),
            unchecked: false,
        }
    }

    /// What concerns findings is kept from now on.
    pub fn keep_recordings(&mut self, recordings: Vec<Recording>) {
        self.recordings = recordings;
    }

    /// What was kept.
    pub fn take_recordings(&mut self) -> Vec<Recording> {
        std::mem::take(&mut self.recordings)
    }

    /// From now on nothing is checked. Only a benchmark wants that.
    pub fn check_nothing(&mut self) {
        self.unchecked = true;
    }

    /// From now on the clients' history is kept, to be written as a file.
    pub fn keep_history(&mut self, export: Export) {
        self.export = Some(Box::new(export));
    }

    /// The clients' history as EDN, if it was kept.
    pub fn take_history(&mut self) -> Option<String> {
        self.export.take().map(|export| export.into_edn(self.origin.0))
    }

    fn know(&mut self, proc: ProcId, name: &str, role: Role) {
        let at = proc.0 as usize;
        if self.roles.len() <= at {
            self.roles.resize(at + 1, None);
        }
        self.roles[at] = Some(Known { name: name.into(), role });
    }

    /// A node's process.
    pub fn node(&mut self, proc: ProcId, name: &str, id: i32) {
        self.nodes.insert(id, proc);
        self.know(proc, name, Role::Node(id));
    }

    /// A client's process.
    pub fn client(&mut self, proc: ProcId, name: &str, client: &Client) {
        let producer = self.producers.iter().position(|p| p == name).map(|i| i as u32);
        let place = |name| self.client_place(name).expect("a client of this scenario");
        let transactional = matches!(client.kind, ClientKind::Transactional { .. });
        let isolation = client.config.get("isolation.level");
        let role = ClientRole {
            own: place(name),
            of: place(&client.name),
            producer,
            transactional,
            reads_committed: transactional || isolation.is_some_and(|level| level == "read_committed"),
        };
        let group = match &client.kind {
            ClientKind::Consumer { group, .. } => group.as_deref(),
            ClientKind::Transactional { group, .. } => Some(group.as_str()),
            _ => None,
        };
        self.processing.worker(role.own, group);
        if let Some(export) = &mut self.export {
            export.client(role.own, name, client);
        }
        self.know(proc, name, Role::Client(role));
    }

    /// The reader at the end.
    pub fn reader(&mut self, proc: ProcId) {
        self.know(proc, "final-reader", Role::Reader);
    }

    /// A process of a command.
    pub fn command(&mut self, proc: ProcId, name: &str) {
        self.know(proc, name, Role::Other);
    }

    fn client_place(&self, name: &str) -> Option<usize> {
        self.clients.binary_search_by(|c| c.name.as_str().cmp(name)).ok()
    }

    /// The counts of a client, or of one of its processes.
    pub fn stats(&self, name: &str) -> Option<&ClientStats> {
        self.client_place(name).map(|at| &self.clients[at].stats)
    }

    /// How many messages a producer's process has made.
    pub fn made(&self, process: &str) -> u64 {
        self.client_place(process).map_or(0, |at| self.clients[at].made)
    }

    /// How many transactions a process has begun.
    pub fn transactions(&self, process: &str) -> u64 {
        self.client_place(process).map_or(0, |at| self.clients[at].transactions)
    }

    /// Whether a group gave a partition to a consumer's process.
    pub fn owns(&self, process: &str, topic: &str, partition: i32) -> bool {
        let known = self.client_place(process).zip(self.history.find(topic, partition));
        known.is_some_and(|(at, place)| self.clients[at].owned.contains(&place))
    }

    /// Virtual time of the scenario, in seconds.
    pub fn seconds(&self, at: SimTime) -> f64 {
        (at.0 as f64 - self.origin.0 as f64) / 1e9
    }

    /// The features that the cluster has now.
    pub fn features(&mut self, image: &MetadataImage) {
        let features = &image.features;
        self.promise.features(features.elr_enabled(), features.level("transaction.version"));
        self.replicas.eligible_leader_replicas(features.elr_enabled());
    }

    /// From now on the timeline is kept.
    pub fn begin(&mut self, origin: SimTime) {
        self.origin = origin;
        self.told = true;
    }

    /// A line of the timeline.
    pub fn tell(&mut self, at: SimTime, who: &str, text: String, tone: Tone) {
        if self.told {
            self.timeline.push(TimelineEntry {
                at_seconds: self.seconds(at),
                who: shortened(who.to_owned()),
                text: if matches!(tone, Tone::Plain | Tone::Bad) { shortened(text) } else { text },
                tone,
            });
        }
    }

    /// A program that copies for a day commits a transaction each second: the first ones are told.
    fn tell_unless_routine(&mut self, at: SimTime, who: &str, event: &Event, mut text: String, tone: Tone) {
        if let Event::TransactionStateChanged { transactional_id, to: "CompleteCommit", .. } = event {
            let commits = self.commits.entry(transactional_id.clone()).or_default();
            *commits += 1;
            match (*commits).cmp(&COMMITS_TOLD) {
                Ordering::Less => {}
                Ordering::Equal => text.push_str("; later commits of it are not told here"),
                Ordering::Greater => return,
            }
        }
        self.tell(at, who, text, tone);
    }

    /// A coordinators' topic has many partitions that change together: they are one line of the timeline.
    fn tell_internal(&mut self, at: SimTime, who: &str, topic: &str, reason: &'static str) {
        if !self.told {
            return;
        }
        let text = |count: u32| {
            let partitions = if count == 1 { "partition" } else { "partitions" };
            format!("{topic}: {count} {partitions} changed ({reason})")
        };
        self.internal.retain(|known| known.at == at);
        let known = self.internal.iter_mut().find(|known| known.topic == topic && known.reason == reason);
        if let Some(known) = known {
            known.count += 1;
            self.timeline[known.line].text = text(known.count);
            return;
        }
        let line = self.timeline.len();
        self.internal.push(InternalChanges { at, topic: topic.to_owned(), reason, count: 1, line });
        self.tell(at, who, text(1), Tone::Plain);
    }

    /// From here on a warning that was told before is news again.
    pub fn forget_warnings(&mut self) {
        self.warned.clear();
    }

    /// Takes what happened, up to now. Whether anything did.
    pub fn observe(&mut self, world: &mut World) -> bool {
        let any = self.hear_all(world);
        self.pass_to(world.now());
        any
    }

    /// What is processed by now counts.
    fn pass_to(&mut self, now: SimTime) {
        let (clients, roles) = (&mut self.clients, &self.roles);
        self.processing.pass_to(now.0, |place, count| {
            clients[place].stats.processed += count;
            let of = roles.iter().flatten().find_map(|known| match known.role {
                Role::Client(role) if role.own == place => Some(role.of),
                _ => None,
            });
            if let Some(of) = of.filter(|of| *of != place) {
                clients[of].stats.processed += count;
            }
        });
    }

    /// The place of a partition in the history, if it has one.
    pub fn place(&self, topic: &str, partition: i32) -> Option<PartitionIndex> {
        self.history.find(topic, partition)
    }

    fn hear_all(&mut self, world: &mut World) -> bool {
        let mut happened = std::mem::take(&mut self.happened);
        world.swap_happened(&mut happened);
        for one in &happened {
            self.hear(world, one);
        }
        if self.replicas.has_touched() {
            self.compare_isrs(world);
        }
        let any = !happened.is_empty();
        self.happened = happened;
        any
    }

    /// What leaders take to be in sync is asked of them once all that happened is heard.
    fn compare_isrs(&mut self, world: &World) {
        let nodes = &self.nodes;
        self.replicas.compare(|broker, at| {
            let view = world.node(*nodes.get(&broker)?)?.replicas()?.partition(&at.topic, at.partition)?;
            let isr = view.isr_state?;
            let mut maximal: Vec<i32> = view.followers.iter().map(|f| f.id).chain([broker]).collect();
            maximal.retain(|id| isr.maximal_contains(*id));
            Some(LeaderIsr {
                leader_epoch: view.leader_epoch,
                committed: isr.committed.to_vec(),
                maximal,
                pending: isr.pending.is_some(),
                min_isr: view.effective_min_isr,
            })
        });
        self.take_breaches(world.now());
    }

    fn hear(&mut self, world: &World, happened: &Happened) {
        let Happened { at, proc, what } = happened;
        let known = proc.and_then(|p| Some((p, self.roles.get(p.0 as usize)?.clone()?)));
        let Some((proc, Known { name, role })) = known else {
            // What the network does is told by the step that does it.
            return;
        };
        if !self.recordings.is_empty() {
            let node = if let Role::Node(id) = role { Some(id) } else { None };
            self.recordings.iter_mut().for_each(|recording| recording.hear(*at, &name, node, what));
        }
        match (what, role) {
            (What::Node(event), Role::Node(id)) => self.node_event(world, *at, proc, &name, id, event),
            (What::Client(event), Role::Client(role)) => self.client_event(*at, &name, role, event),
            (What::Client(event), Role::Reader) => self.reader_event(*at, event),
            (What::Client(ClientEvent::BatchAcked { partition, .. }), Role::Other) => {
                self.promise.written_by_hand(&partition.topic);
            }
            (What::Stdout(text), _) => self.consoles.entry(proc).or_default().stdout.push_str(text),
            (What::Stderr(text), _) => self.consoles.entry(proc).or_default().stderr.push_str(text),
            (What::Proc(event), role) => self.proc_event(world, *at, &name, role, event),
            (What::BitFlipped(text), role) => {
                if let Role::Node(id) = role {
                    self.promise.bit_flipped(id);
                    self.replicas.rotten(id);
                    self.quorum.disk_lost(id);
                }
                self.tell(*at, &name, text.clone(), Tone::Bad);
            }
            (What::Disk(text), _) => self.tell(*at, &name, text.clone(), Tone::Bad),
            (What::Clock(text), _) => self.tell(*at, &name, text.clone(), Tone::Plain),
            _ => {}
        }
    }

    fn proc_event(&mut self, world: &World, at: SimTime, name: &str, role: Role, event: &ProcEvent) {
        if !matches!(role, Role::Reader | Role::Other) {
            self.coverage.process(name, event);
        }
        if let Role::Node(id) = role {
            self.replicas.process_event(id, event);
            match event {
                ProcEvent::Running => self.quorum.process_started(id),
                ProcEvent::Killed | ProcEvent::Exited { .. } | ProcEvent::Halted { .. } => {
                    self.replicas.process_gone(id)
                }
                ProcEvent::PowerLost { .. } => {
                    self.replicas.process_gone(id);
                    self.replicas.disk_lost(id, false);
                    self.quorum.disk_lost(id);
                    let host = self.nodes.get(&id).map(|proc| world.host_of(*proc));
                    self.promise.power_lost(id, host.is_some_and(|host| world.has_lied(host)));
                }
                ProcEvent::Wiped => {
                    self.replicas.disk_lost(id, true);
                    self.quorum.wiped(id);
                    self.promise.wiped(id);
                }
                ProcEvent::Restored { .. } => {
                    self.replicas.disk_replaced(id);
                    self.quorum.wiped(id);
                    self.promise.stale_disk(id);
                }
                _ => {}
            }
        }
        if let Role::Client(role) = role
            && matches!(event, ProcEvent::Killed | ProcEvent::Exited { .. } | ProcEvent::PowerLost { .. })
        {
            if let Some(export) = &mut self.export {
                export.gone(at.0, role.own);
            }
            self.transactions.ended(role.own, TransactionFate::Open);
            // What was done until then was done.
            self.pass_to(at);
            self.processing.gone(role.own);
            self.groups.gone(role.own);
            self.positions.gone(role.own);
            self.clients[role.own].owned.clear();
        }
        if let (Role::Client(role), ProcEvent::Started { .. }, Some(export)) = (role, event, &mut self.export)
        {
            export.started(at.0, role.own);
        }
        let tone = match event {
            ProcEvent::Killed
            | ProcEvent::Halted { .. }
            | ProcEvent::PowerLost { .. }
            | ProcEvent::OpenFailed { .. } => Tone::Bad,
            ProcEvent::Started { .. } => return,
            _ => Tone::Plain,
        };
        if !matches!(role, Role::Reader | Role::Other) {
            self.tell(at, name, event.to_string(), tone);
        }
    }

    fn node_event(&mut self, world: &World, at: SimTime, proc: ProcId, name: &str, id: i32, event: &Event) {
        self.coverage.node(id, event);
        if let Some(topic) = self.incarnations.hear(id, event) {
            self.topic_gone(&topic);
        }
        let past = self.incarnations.is_past(id, event);
        if !self.unchecked && !past {
            self.replicas.hear(id, event);
            self.quorum.hear(id, event);
            match event {
                Event::OffsetsCommitted { group, offsets }
                    if self.replicas.coordinates_no_more(id, group) =>
                {
                    self.groups.committed_late(group, offsets);
                }
                _ => self.groups.hear(event),
            }
        }
        match event {
            // Nobody expects anything of the replicas of a topic that is gone.
            _ if past => {}
            Event::PartitionChanged { partition, after, .. } => {
                self.unclean(partition.topic.as_ref(), partition.partition, after);
                self.partition_changes += 1;
                self.partitions.insert((partition.topic.to_string(), partition.partition), after.clone());
            }
            Event::ConfigChanged { resource, name, value } => {
                if let Some(topic) = resource.strip_prefix("topic ") {
                    self.promise.setting(Some(topic), name, value.as_deref().unwrap_or(""), false);
                }
            }
            // What an earlier controller committed with its last breath was told by nobody.
            Event::ControllerActivated { .. } => {
                if let Some(node) = world.node(proc) {
                    self.refresh(node.image());
                    let running = self.registered_and_running(world, node.image());
                    running.into_iter().for_each(|broker| self.replicas.registered_unheard(broker));
                }
            }
            Event::MetadataCommitted { high_watermark } if !self.unchecked => {
                self.metadata_committed(world, proc, id, *high_watermark);
            }
            Event::BrokerRegistered { broker, broker_epoch, .. } if !self.unchecked => {
                if let Some(image) = world.node(proc).map(|node| node.image())
                    && image.broker(*broker).is_some_and(|known| known.epoch == *broker_epoch)
                    && self.registered_and_running(world, image).contains(broker)
                {
                    self.replicas.own_registration(*broker);
                }
            }
            Event::LogStartOffsetAdvanced { partition, to, .. } => {
                let at = self.history.partition(&partition.topic, partition.partition);
                self.history.log_start(at, *to);
                self.transactions.log_start(at, *to);
            }
            Event::LogCleaningBegan { partition, up_to: first_dirty }
            | Event::LogCleaned { partition, first_dirty, .. } => {
                let at = self.history.partition(&partition.topic, partition.partition);
                self.history.cleaned(at, *first_dirty);
            }
            Event::TransactionStateChanged { transactional_id, producer_id, .. } => {
                self.transactions.producer(transactional_id, *producer_id);
            }
            Event::TransactionMarkerAppended { partition, producer_id, commit, offset, .. }
                // One that does not know yet that it leads no more appends what its log will lose again.
                if !partition.topic.starts_with("__") && !self.replicas.was_succeeded(id, partition) =>
            {
                let at = self.history.partition(&partition.topic, partition.partition);
                self.transactions.marker(at, *producer_id, *offset, *commit);
            }
            Event::CoordinatorLoaded { partition, .. } => self.coordinator_moved(at, name, partition),
            _ => {}
        }
        if let Some((kind, partition)) = narrator::named(event) {
            self.node_events.entry(name.to_owned()).or_default().insert((kind, partition));
        }
        if let Some((topic, reason)) = narrator::internal_change(event) {
            self.tell_internal(at, name, &topic, reason);
        } else if let Some((text, tone)) = narrator::node_event(event) {
            self.tell_unless_routine(at, name, event, text, tone);
        }
        self.take_breaches(at);
    }

    // --- clients

    fn each_stats(&mut self, role: ClientRole, mut change: impl FnMut(&mut ClientStats)) {
        if role.own != role.of {
            change(&mut self.clients[role.own].stats);
        }
        change(&mut self.clients[role.of].stats);
    }

    fn client_event(&mut self, at: SimTime, name: &str, role: ClientRole, event: &ClientEvent) {
        if let Some(export) = &mut self.export {
            export.hear(at.0, role.own, event);
        }
        self.coverage.client(event);
        match event {
            ClientEvent::MessagesMade { first, count, .. } => {
                self.clients[role.own].made = first + u64::from(*count);
                self.each_stats(role, |s| s.sent += u64::from(*count));
            }
            ClientEvent::BatchAcked { partition, base_offset, records } if role.transactional => {
                let place = self.history.partition(&partition.topic, partition.partition);
                self.transactions.written(role.own, place, *base_offset, records.len());
            }
            ClientEvent::TransactionBegan { transactional_id, number } => {
                self.clients[role.own].transactions = number + 1;
                self.transactions.began(role.own, transactional_id, *number);
            }
            ClientEvent::TransactionEnded { end, messages, offsets, .. } => {
                if *end == TransactionEnd::Committed {
                    self.groups.transaction_committed(role.own, offsets);
                }
                self.transaction_ended(at, role, *end, messages.len() as u64);
            }
            ClientEvent::BatchAcked { partition, base_offset, records } => {
                self.each_stats(role, |s| {
                    s.ack(at.0, records.len() as u64);
                    for made in records.iter() {
                        s.latency(at.0, at.0.saturating_sub(made.at.0));
                    }
                });
                if let Some(producer) = role.producer {
                    let place = self.history.partition(&partition.topic, partition.partition);
                    self.acked(place, *base_offset, producer, records);
                    self.positions.acked(role.own, place, *base_offset, records, &self.history);
                }
            }
            ClientEvent::BatchFailed { error, fate, records, .. } => {
                let (count, error) = (records.len() as u64, *error);
                self.each_stats(role, |s| {
                    match fate {
                        Fate::Failed => s.failed += count,
                        Fate::Indefinite => s.indefinite += count,
                    }
                    s.last_error = Some(error);
                });
            }
            ClientEvent::BatchRetried { error, .. } => {
                let error = *error;
                self.each_stats(role, |s| s.last_error = Some(error));
            }
            ClientEvent::Polled(polled) => self.polled(at, role, polled),
            ClientEvent::GroupJoined { group, generation, .. } => {
                self.groups.joined(role.own, group, *generation);
            }
            ClientEvent::PartitionsAssigned { group, owned, .. } => {
                self.groups.owns(role.own, group, owned);
                let places = owned.iter().map(|p| self.history.partition(&p.topic, p.partition)).collect();
                self.clients[role.own].owned = places;
            }
            ClientEvent::PositionReset { partition, reason, .. } => {
                let place = self.history.partition(&partition.topic, partition.partition);
                match reason {
                    ResetReason::Start | ResetReason::Committed => self.positions.set(role.own, place),
                    ResetReason::OutOfRange => {
                        self.groups.set_back(partition);
                        self.promise.out_of_range(&partition.topic);
                    }
                    ResetReason::Truncation => self.groups.set_back(partition),
                }
            }
            ClientEvent::PartitionsRevoked { group, partitions }
            | ClientEvent::PartitionsLost { group, partitions } => {
                self.groups.gives_up(role.own, group, partitions);
                for p in partitions {
                    let place = self.history.partition(&p.topic, p.partition);
                    self.clients[role.own].owned.remove(&place);
                }
            }
            _ => {}
        }
        if let Some((text, tone)) = narrator::client_event(event)
            && self.warned.insert((name.to_owned(), text.clone()))
        {
            self.tell(at, name, text, tone);
        }
        self.take_anomalies(at);
        self.take_breaches(at);
    }

    fn transaction_ended(&mut self, at: SimTime, role: ClientRole, end: TransactionEnd, messages: u64) {
        let fate = match end {
            TransactionEnd::Committed => TransactionFate::Committed,
            TransactionEnd::Aborted => TransactionFate::Aborted,
            TransactionEnd::Indefinite => TransactionFate::Open,
        };
        self.transactions.ended(role.own, fate);
        self.positions.transaction_ended(role.own, fate == TransactionFate::Committed);
        self.each_stats(role, |s| match end {
            TransactionEnd::Committed => {
                s.committed += 1;
                s.ack(at.0, messages);
            }
            TransactionEnd::Aborted => s.aborted += 1,
            TransactionEnd::Indefinite => s.indefinite += messages,
        });
    }

    fn acked(&mut self, at: PartitionIndex, base: i64, producer: u32, records: &Arc<[Made]>) {
        for (i, made) in records.iter().enumerate() {
            let offset = if base < 0 { -1 } else { base + i as i64 };
            if self.unchecked {
                return;
            }
            self.history.acked(at, offset, Message { client: producer, number: made.number as u32 });
        }
    }

    fn polled(&mut self, at: SimTime, role: ClientRole, polled: &Polled) {
        let count = polled.records.len() as u64;
        self.each_stats(role, |s| s.read(at.0, count));
        if let Some(last) = polled.records.last()
            && !self.unchecked
        {
            self.replicas.read(&polled.partition, last.offset + 1);
        }
        let place = self.history.partition(&polled.partition.topic, polled.partition.partition);
        self.processing.begin(role.own, place, polled);
        let transactions = &self.transactions;
        // Of a record that nobody lived to hear acknowledged, who wrote it is not known.
        let unknown = !transactions.writes_to(&polled.partition.topic);
        let matters =
            |offset| !role.reads_committed || transactions.is_committed(place, offset).unwrap_or(unknown);
        if !self.unchecked {
            self.positions.polled(role.own, place, &polled.records, &self.history, matters);
        }
        for record in &polled.records {
            let reader = if role.reads_committed { Reader::Committed } else { Reader::Uncommitted };
            self.transactions.read(place, record.offset, reader);
            if record.message.client != client::MessageId::FOREIGN {
                let message = Message { client: record.message.client, number: record.message.number };
                if !self.unchecked {
                    self.history.read(place, record.offset, message);
                }
            }
        }
    }

    fn reader_event(&mut self, at: SimTime, event: &ClientEvent) {
        if let Some(export) = &mut self.export {
            export.hear_reader(at.0, event);
        }
        match event {
            ClientEvent::PositionReset { partition, to, .. } => {
                let read = self.final_read(partition);
                (read.start, read.end) = (*to, *to);
            }
            ClientEvent::Polled(polled) => {
                let place = self.history.partition(&polled.partition.topic, polled.partition.partition);
                for record in &polled.records {
                    self.transactions.read(place, record.offset, Reader::Final);
                }
                for record in polled.records.iter().filter(|r| r.message.client != client::MessageId::FOREIGN)
                {
                    let message = Message { client: record.message.client, number: record.message.number };
                    self.history.finally_read(place, record.offset, message);
                }
                if let Some(last) = polled.records.last() {
                    self.final_read(&polled.partition).end = last.offset + 1;
                }
            }
            ClientEvent::EndReached { partition, position } => {
                let read = self.final_read(partition);
                (read.end, read.complete) = (*position, true);
            }
            _ => {}
        }
    }

    fn final_read(&mut self, at: &client::TopicPartition) -> &mut FinalRead {
        let key = (at.topic.to_string(), at.partition);
        self.final_reads.entry(key).or_insert(FinalRead { start: 0, end: 0, complete: false })
    }

    /// Whether the reader has everything of a partition.
    pub fn finally_complete(&self, topic: &str, partition: i32) -> bool {
        self.final_reads.get(&(topic.to_owned(), partition)).is_some_and(|r| r.complete)
    }

    /// Judges the history by what the final reader found.
    pub fn judge(&mut self, at: SimTime) {
        let reads = std::mem::take(&mut self.final_reads);
        self.history.judge(|topic, partition| {
            let none = FinalRead { start: 0, end: 0, complete: false };
            reads.get(&(topic.to_owned(), partition)).copied().unwrap_or(none)
        });
        let history = &self.history;
        self.transactions.judge(|place| {
            let none = FinalRead { start: 0, end: 0, complete: false };
            reads.get(&history.name(place)).copied().unwrap_or(none)
        });
        self.final_reads = reads;
        self.take_anomalies(at);
        for at in 0..self.roles.len() {
            let Some(Known { role: Role::Client(role), .. }) = self.roles[at] else { continue };
            let Some(producer) = role.producer else { continue };
            let (lost, duplicated) = (self.history.lost(producer), self.history.duplicated(producer));
            self.each_stats(role, |s| {
                s.lost += lost;
                s.duplicated += duplicated;
            });
        }
    }

    /// What was not read to its high watermark was not read to its end, whatever the reader could see.
    pub fn finally_cut_short(&mut self, topic: &str, partition: i32) {
        if let Some(read) = self.final_reads.get_mut(&(topic.to_owned(), partition)) {
            read.complete = false;
        }
    }

    /// How far the final read has come in a partition.
    pub fn finally_read_to(&self, topic: &str, partition: i32) -> Option<i64> {
        self.final_reads.get(&(topic.to_owned(), partition)).map(|read| read.end)
    }
}

/// What the brokers and the declared topics are set to.
fn settings(promise: &mut Promise, scenario: &Scenario) {
    for (name, value) in &scenario.cluster.config {
        promise.setting(None, name, value, true);
    }
    for topic in &scenario.topics {
        for (name, value) in &topic.config {
            promise.setting(Some(&topic.name), name, value, true);
        }
    }
}
