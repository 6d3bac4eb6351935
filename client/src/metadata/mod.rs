//! What a client knows of the cluster: brokers, topics, leaders and their epochs (`Metadata.java`).
//!
//! The cache covers the topics that the client asked for, and is refreshed every `metadata.max.age.ms` and on errors
//! that say it is stale. Leaders of an older epoch than one already seen are ignored (KIP-320), unless the topic was
//! deleted and made again. Answers may also bring the new leader themselves (KIP-951).
//!
//! This is a cache with a clock of its own for refreshes; [`crate::net`] sends the requests.

#[cfg(test)]
mod tests;

use alloc::borrow::Cow;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use regex::bytes::{Regex, RegexBuilder};
use wire::Uuid;
use wire::drive::{Endpoint, Instant, Nanos};
use wire::error::ErrorCode;
use wire::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use wire::messages::metadata_response::{MetadataResponse, MetadataResponsePartition, MetadataResponseTopic};

use crate::Rng;
use crate::backoff::Backoff;

/// The first version of Metadata requests that may ask by id.
const FIRST_WITH_IDS: i16 = 12;

/// A topic of the cache. Given out once per name and client, never used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicIndex(pub u32);

/// A broker as clients see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Its id; bootstrap servers have negative ones.
    pub id: i32,
    /// Where it listens.
    pub endpoint: Endpoint,
    /// Its rack.
    pub rack: Option<Arc<str>>,
}

/// A partition of a topic in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// The leader's id, if there is one.
    pub leader: Option<i32>,
    /// The highest leader epoch seen, -1 if none.
    pub leader_epoch: i32,
    /// The replicas' ids, in assignment order.
    pub replicas: Vec<i32>,
    /// The replicas whose brokers are away.
    pub offline: Vec<i32>,
}

/// A topic of the cache.
#[derive(Clone, Debug)]
pub struct Topic {
    /// Its name.
    pub name: Arc<str>,
    /// Its id; zero while unknown.
    pub id: Uuid,
    /// The last error that an answer gave for it.
    pub error: ErrorCode,
    /// Its partitions, by number; empty while the topic is unknown.
    pub partitions: Vec<Partition>,
    /// Whether an answer has spoken of it since it was added.
    pub answered: bool,
}

/// When metadata is asked for.
#[derive(Clone, Copy, Debug)]
pub struct MetadataSettings {
    /// `metadata.max.age.ms`.
    pub max_age: Nanos,
    /// `retry.backoff.ms`, `retry.backoff.max.ms`.
    pub retry_backoff: Backoff,
    /// `metadata.recovery.rebootstrap.trigger.ms`.
    pub rebootstrap_after: Nanos,
    /// Whether brokers may make topics that are asked for.
    pub allow_auto_create: bool,
}

/// The cache, and when to refresh it.
#[derive(Clone, Debug)]
pub struct Metadata {
    settings: MetadataSettings,
    /// The bootstrap servers are controllers, and so are the nodes that are asked for (`bootstrap.controllers`).
    of_controllers: bool,
    bootstrap: Vec<Endpoint>,
    topics: Vec<Topic>,
    by_name: BTreeMap<Arc<str>, TopicIndex>,
    by_id: BTreeMap<Uuid, TopicIndex>,
    brokers: Vec<Broker>,
    cluster_id: Option<Arc<str>>,
    controller: Option<i32>,
    version: u64,
    wanted: bool,
    in_progress: bool,
    /// The request under way was sent because of age alone.
    periodic: bool,
    last_success: Option<Instant>,
    not_before: Instant,
    failures: u32,
    no_progress: u32,
    /// Since when an update is being tried without success.
    trying_since: Option<Instant>,
    /// Whether an error told the client to ask again while a request was under way.
    added_meanwhile: bool,
    /// All topics are asked for; those whose names match are added as they appear.
    pattern: Option<TopicPattern>,
    /// Topics whose names are wanted.
    wanted_ids: BTreeSet<Uuid>,
    updates: u64,
}

/// The topics that a subscription by pattern wants (`SubscriptionState.matchesSubscribedPattern`).
#[derive(Clone, Debug)]
pub struct TopicPattern {
    regex: Regex,
    exclude_internal: bool,
}

impl TopicPattern {
    /// From an expression that must match whole names. Java's classes are those of ASCII.
    pub fn new(expression: &str, exclude_internal: bool) -> Option<TopicPattern> {
        let whole = alloc::format!("^(?:{expression})$");
        let regex = RegexBuilder::new(&whole).unicode(false).size_limit(1 << 20).build().ok()?;
        Some(TopicPattern { regex, exclude_internal })
    }

    /// Whether the topic is wanted.
    pub fn matches(&self, topic: &str, is_internal: bool) -> bool {
        self.regex.is_match(topic.as_bytes()) && !(self.exclude_internal && is_internal)
    }
}

impl Metadata {
    /// Knows nothing but where to begin.
    pub fn new(bootstrap: Vec<Endpoint>, settings: MetadataSettings) -> Metadata {
        let mut metadata = Metadata {
            settings,
            of_controllers: false,
            bootstrap,
            topics: Vec::new(),
            by_name: BTreeMap::new(),
            by_id: BTreeMap::new(),
            brokers: Vec::new(),
            cluster_id: None,
            controller: None,
            version: 0,
            wanted: true,
            in_progress: false,
            periodic: false,
            last_success: None,
            not_before: Instant(0),
            failures: 0,
            no_progress: 0,
            trying_since: None,
            added_meanwhile: false,
            pattern: None,
            wanted_ids: BTreeSet::new(),
            updates: 0,
        };
        metadata.begin_again();
        metadata
    }

    /// The topic's index; asks for the topic from now on, at once.
    pub fn add_topic(&mut self, name: &str) -> TopicIndex {
        if let Some(&index) = self.by_name.get(name) {
            return index;
        }
        let index = TopicIndex(self.topics.len() as u32);
        let name: Arc<str> = name.into();
        self.by_name.insert(name.clone(), index);
        self.topics.push(Topic {
            name,
            id: Uuid::ZERO,
            error: ErrorCode::NONE,
            partitions: Vec::new(),
            answered: false,
        });
        self.wanted = true;
        self.no_progress = 0;
        self.not_before = Instant(0);
        self.added_meanwhile = self.in_progress;
        index
    }

    /// Asks for all topics from now on, and adds those that match; or stops to.
    pub fn set_pattern(&mut self, pattern: Option<TopicPattern>) {
        self.pattern = pattern;
        if self.pattern.is_some() {
            self.wanted = true;
            self.added_meanwhile |= self.in_progress;
        }
    }

    /// Asks for topics of which only the ids are known, and adds them once they have names.
    pub fn want_ids(&mut self, ids: &[Uuid]) {
        for &id in ids {
            if self.wanted_ids.insert(id) {
                self.added_meanwhile |= self.in_progress;
            }
        }
        self.wanted = true;
    }

    /// Counts the answers that were taken.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// Whether nobody has asked for a refresh that has not come yet.
    pub fn is_fresh(&self) -> bool {
        !self.wanted && (self.periodic || !self.in_progress)
    }

    /// A topic.
    pub fn topic(&self, index: TopicIndex) -> &Topic {
        &self.topics[index.0 as usize]
    }

    /// All topics that were added, in the order in which they were.
    pub fn topics(&self) -> &[Topic] {
        &self.topics
    }

    /// The index of a topic that was added.
    pub fn topic_named(&self, name: &str) -> Option<TopicIndex> {
        self.by_name.get(name).copied()
    }

    /// The index of a topic by its id.
    pub fn topic_with_id(&self, id: Uuid) -> Option<TopicIndex> {
        self.by_id.get(&id).copied()
    }

    /// A partition, if it is known.
    pub fn partition(&self, topic: TopicIndex, partition: i32) -> Option<&Partition> {
        self.topic(topic).partitions.get(usize::try_from(partition).ok()?)
    }

    /// The leader of a partition, if it has one that is known.
    pub fn leader(&self, topic: TopicIndex, partition: i32) -> Option<i32> {
        self.partition(topic, partition)?.leader
    }

    /// The brokers, by id; before the first answer the bootstrap servers.
    pub fn brokers(&self) -> &[Broker] {
        &self.brokers
    }

    /// A broker.
    pub fn broker(&self, id: i32) -> Option<&Broker> {
        self.brokers.binary_search_by_key(&id, |b| b.id).ok().map(|at| &self.brokers[at])
    }

    /// Asks for the cluster's controllers instead of its brokers, from now on.
    pub fn ask_for_controllers(&mut self) {
        self.of_controllers = true;
    }

    /// Whether it asks for the cluster's controllers instead of its brokers.
    pub fn is_of_controllers(&self) -> bool {
        self.of_controllers
    }

    /// Whether only the bootstrap servers are known.
    pub fn is_bootstrap(&self) -> bool {
        self.brokers.first().is_none_or(|b| b.id < 0)
    }

    /// The cluster's id.
    pub fn cluster_id(&self) -> Option<&Arc<str>> {
        self.cluster_id.as_ref()
    }

    /// The broker that passes for the controller: under KRaft, any live one.
    pub fn controller(&self) -> Option<i32> {
        self.controller
    }

    /// Rises with each change of what is cached.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Asks for a refresh as soon as the backoff allows.
    pub fn request_update(&mut self) {
        self.wanted = true;
    }

    /// Forgets leaders and brokers and begins at the bootstrap servers again (KIP-1102).
    pub fn begin_again(&mut self) {
        let brokers = self.bootstrap.iter().enumerate();
        // Ids ascend, as everywhere: the last server comes first.
        self.brokers = brokers
            .rev()
            .map(|(i, to)| Broker { id: -1 - i as i32, endpoint: to.clone(), rack: None })
            .collect();
        for topic in &mut self.topics {
            for partition in &mut topic.partitions {
                partition.leader = None;
            }
        }
        self.controller = None;
        self.wanted = true;
        self.trying_since = None;
        self.version += 1;
    }

    // --- refreshing

    /// When the next request is due; absent while one is under way.
    pub fn next_update(&self) -> Option<Instant> {
        if self.in_progress {
            return None;
        }
        let expires = match self.last_success {
            Some(at) if !self.wanted => at + self.settings.max_age,
            _ => Instant(0),
        };
        Some(expires.max(self.not_before))
    }

    /// When the client gives up on the brokers that it knows, if updates go on failing.
    pub fn rebootstrap_at(&self) -> Option<Instant> {
        self.trying_since.map(|since| since + self.settings.rebootstrap_after)
    }

    /// An update is due and is being tried.
    pub fn trying(&mut self, now: Instant) {
        self.trying_since.get_or_insert(now);
    }

    /// The time that updates have failed for counts anew.
    pub fn give_up_trying(&mut self) {
        self.trying_since = None;
    }

    /// The request for all topics that were added, at a version of the API.
    pub fn request(&self, version: i16) -> MetadataRequest<'_> {
        let mut topics = Vec::with_capacity(self.topics.len());
        for topic in &self.topics {
            topics
                .push(MetadataRequestTopic { topic_id: Uuid::ZERO, name: Some(Cow::Borrowed(&*topic.name)) });
        }
        if version >= FIRST_WITH_IDS {
            let by_id = |&topic_id: &Uuid| MetadataRequestTopic { topic_id, name: None };
            topics.extend(self.wanted_ids.iter().map(by_id));
        }
        MetadataRequest {
            topics: Some(topics).filter(|_| self.pattern.is_none()),
            allow_auto_topic_creation: self.settings.allow_auto_create || version < 4,
            ..MetadataRequest::default()
        }
    }

    /// A request left.
    pub fn sent(&mut self) {
        assert!(!self.in_progress, "one metadata request at a time");
        self.in_progress = true;
        self.periodic = !self.wanted;
        self.added_meanwhile = false;
    }

    /// The request failed, or a connection broke while it was due.
    pub fn failed(&mut self, now: Instant, rng: &mut Rng) {
        self.in_progress = false;
        self.not_before = now + self.settings.retry_backoff.after(self.failures, rng);
        self.failures = self.failures.saturating_add(1);
    }

    /// Takes an answer.
    pub fn answered(&mut self, now: Instant, response: &MetadataResponse<'_>, rng: &mut Rng) {
        if response.brokers.is_empty() {
            // A broker that is starting up says so.
            return self.failed(now, rng);
        }
        self.in_progress = false;
        self.updates += 1;
        self.failures = 0;
        self.trying_since = None;
        self.wanted = self.added_meanwhile;
        let mut changed = self.take_brokers(response);
        for topic in &response.topics {
            self.add_matching(topic);
            changed |= self.take_topic(topic);
        }
        if self.pattern.is_some() {
            changed |= self.lose_unnamed(response);
        }
        if changed {
            self.version += 1;
            self.no_progress = 0;
            self.not_before = now + self.settings.retry_backoff.after(0, rng);
        } else {
            self.not_before = now + self.settings.retry_backoff.after(self.no_progress, rng);
            // Refreshes by age are no sign of a lack of progress.
            self.no_progress = if self.periodic { 0 } else { self.no_progress.saturating_add(1) };
        }
        if self.added_meanwhile {
            self.not_before = Instant(0);
        }
        self.last_success = Some(now);
    }

    /// Takes the leader that a Produce or Fetch answer told (KIP-951). Whether it was news.
    pub fn leader_told(&mut self, topic: TopicIndex, partition: i32, leader: i32, epoch: i32) -> bool {
        let known = self.broker(leader).is_some();
        let topic = &mut self.topics[topic.0 as usize];
        let Some(partition) = usize::try_from(partition).ok().and_then(|p| topic.partitions.get_mut(p))
        else {
            return false;
        };
        if leader < 0 || epoch <= partition.leader_epoch || !known {
            return false;
        }
        partition.leader = Some(leader);
        partition.leader_epoch = epoch;
        self.version += 1;
        true
    }

    /// Takes the endpoint of a broker that an answer told beside a new leader.
    pub fn broker_told(&mut self, broker: Broker) {
        match self.brokers.binary_search_by_key(&broker.id, |b| b.id) {
            Ok(at) => self.brokers[at] = broker,
            Err(at) => self.brokers.insert(at, broker),
        }
        self.version += 1;
    }

    fn take_brokers(&mut self, response: &MetadataResponse<'_>) -> bool {
        let mut brokers: Vec<Broker> = response
            .brokers
            .iter()
            .map(|b| Broker {
                id: b.node_id,
                endpoint: Endpoint::new(b.host.as_ref(), b.port as u16),
                rack: b.rack.as_deref().map(Arc::from),
            })
            .collect();
        brokers.sort_by_key(|b| b.id);
        brokers.dedup_by_key(|b| b.id);
        let changed = brokers != self.brokers;
        self.brokers = brokers;
        self.cluster_id = response.cluster_id.as_deref().map(Arc::from);
        self.controller = (response.controller_id >= 0).then_some(response.controller_id);
        changed
    }

    /// Adds a topic that the pattern wants, or that was wanted by its id.
    fn add_matching(&mut self, told: &MetadataResponseTopic<'_>) {
        let Some(name) = told.name.as_deref().filter(|_| ErrorCode(told.error_code) == ErrorCode::NONE)
        else {
            // What has been deleted will not be named any more.
            self.wanted_ids.remove(&told.topic_id);
            return;
        };
        let by_id = self.wanted_ids.remove(&told.topic_id);
        let matches = self.pattern.as_ref().is_some_and(|p| p.matches(name, told.is_internal));
        if (by_id || matches) && !self.by_name.contains_key(name) {
            let (wanted, meanwhile) = (self.wanted, self.added_meanwhile);
            self.add_topic(name);
            // This very answer is what it would be asked for.
            (self.wanted, self.added_meanwhile) = (wanted, meanwhile);
        }
    }

    /// An answer about all topics says of those that it does not name that they are not there.
    fn lose_unnamed(&mut self, response: &MetadataResponse<'_>) -> bool {
        let mut named: Vec<&str> = response.topics.iter().filter_map(|topic| topic.name.as_deref()).collect();
        named.sort_unstable();
        let mut changed = false;
        for topic in &mut self.topics {
            if named.binary_search(&&*topic.name).is_err() {
                changed |= !topic.answered || topic.error != ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
                topic.answered = true;
                topic.error = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
                for partition in &mut topic.partitions {
                    partition.leader = None;
                }
            }
        }
        changed
    }

    fn take_topic(&mut self, told: &MetadataResponseTopic<'_>) -> bool {
        let Some(&index) = told.name.as_deref().and_then(|name| self.by_name.get(name)) else {
            return false;
        };
        let topic = &mut self.topics[index.0 as usize];
        let first = !core::mem::replace(&mut topic.answered, true);
        let error = ErrorCode(told.error_code);
        let error_changed = topic.error != error;
        topic.error = error;
        if error != ErrorCode::NONE {
            self.wanted |= error.refreshes_metadata();
            let known = !topic.partitions.is_empty();
            // The topic is gone; its leader epochs are remembered with its id, in case the answer was stale.
            for partition in &mut topic.partitions {
                partition.leader = None;
            }
            return first || error_changed || known && error == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
        }
        let mut changed = first || error_changed;
        if topic.id != told.topic_id {
            if !topic.id.is_zero() {
                self.by_id.remove(&topic.id);
                topic.partitions.clear();
            }
            topic.id = told.topic_id;
            changed = true;
        }
        if !told.topic_id.is_zero() {
            self.by_id.insert(told.topic_id, index);
        }
        for partition in &told.partitions {
            // A leader whose broker is not there is none that anybody could talk to.
            let is_known = self.brokers.binary_search_by_key(&partition.leader_id, |b| b.id).is_ok();
            let leader = Some(partition.leader_id).filter(|_| is_known);
            let count = told.partitions.len();
            let (news, stale) = take_partition(&mut topic.partitions, partition, leader, count);
            changed |= news;
            self.wanted |= stale;
        }
        changed
    }
}

/// Whether the partition changed, and whether the answer is stale or says that there is no leader.
fn take_partition(
    partitions: &mut Vec<Partition>,
    told: &MetadataResponsePartition,
    leader: Option<i32>,
    count: usize,
) -> (bool, bool) {
    // Partitions are numbered without gaps: what lies beyond their number is no partition.
    let Some(at) = usize::try_from(told.partition_index).ok().filter(|&at| at < count.max(partitions.len()))
    else {
        return (false, false);
    };
    while partitions.len() <= at {
        partitions.push(Partition {
            leader: None,
            leader_epoch: -1,
            replicas: Vec::new(),
            offline: Vec::new(),
        });
    }
    let partition = &mut partitions[at];
    if told.leader_epoch < partition.leader_epoch {
        return (false, false);
    }
    let error = ErrorCode(told.error_code);
    let changed = partition.leader != leader
        || partition.leader_epoch != told.leader_epoch
        || partition.replicas != told.replica_nodes
        || partition.offline != told.offline_replicas;
    if changed {
        partition.leader = leader;
        partition.leader_epoch = told.leader_epoch;
        partition.replicas.clone_from(&told.replica_nodes);
        partition.offline.clone_from(&told.offline_replicas);
    }
    (changed, error.refreshes_metadata())
}
