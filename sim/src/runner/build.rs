//! From a scenario to a world: hosts, nodes with their configuration, clients.

use std::collections::BTreeMap;
use std::sync::Arc;

use broker_core::config::NodeConfig;
use broker_core::node::NewCluster;
use broker_core::raft::{ReplicaKey, VoterNode, VoterSet};
use client::command::CommandSpec;
use client::workload::{
    AdminClient, AdminSpec, Assignment, Commit, ConsumerClient, ConsumerSpec, From as ClientFrom, Names,
    ProducerClient, ProducerSpec, Rate, ReaderClient, ReaderSpec, TransactionalClient, TransactionalSpec,
};
use client::{Process, TopicPartition};
use rand_core::SeedableRng;
use wire::Uuid;
use wire::drive::{Endpoint, Nanos};

use super::hostile::frames::Attack;
use super::hostile::{Hostile, HostileSpec};
use crate::mutants;
use crate::scenario::{
    BOOTSTRAP_SERVERS, Client, ClientKind, DurationRange, From, LinkSettings, NodeDef, Scenario,
};
use crate::world::chance::derive;
use crate::world::{
    Between, ClientMaker, DiskSpec, LinkSpec, MachineMaker, Make, NodeSetup, ProcSpec, World, WorldSpec,
};

/// The port of every broker listener.
pub const BROKER_PORT: u16 = 9092;
/// The port of every controller listener.
pub const CONTROLLER_PORT: u16 = 9093;
/// Where commands and the final reader run.
pub const LAB: &str = "lab";
pub use crate::scenario::LOG_DIR;

/// A world with the scenario's nodes, formatted and not yet started, and the lab host.
pub fn world(scenario: &Scenario, seed: u64) -> Result<World, String> {
    let cost = &scenario.cluster.host;
    let mut spec = WorldSpec {
        seed,
        link: link_spec(&scenario.cluster.network, LinkSpec::default()),
        disk: DiskSpec::default(),
    };
    spec.disk.fsync = between(cost.fsync);
    #[cfg(feature = "nondeterministic")]
    {
        // What must never be done, so that the meta-test can show that it notices.
        let drawn = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0u8);
        spec.link.latency.high = Nanos(spec.link.latency.high.0 + drawn % 1_000_000);
    }
    let mut world = World::new(spec);
    let cluster = NewCluster { id: cluster_id(seed).to_text(), voters: None };
    let voters = first_voters(scenario, seed);
    for node in &scenario.cluster.nodes {
        let mut config =
            NodeConfig::parse(&node_config(scenario, node)).map_err(|e| format!("{}: {e}", node.name))?;
        config.mutants = mutants::of_nodes(&scenario.cluster.mutants);
        // Only voters are told who the voters are; the others find them (`--no-initial-controllers`).
        let cluster = NewCluster { voters: voters.clone().filter(|_| node.voter), ..cluster.clone() };
        let mut proc = ProcSpec::node(&node.name, NodeSetup { config: Arc::new(config), cluster });
        proc.start = between(cost.start);
        proc.cost.request = Nanos(cost.request.0);
        proc.cost.kib = Nanos(cost.per_kib.0);
        world.add_host(&node.name);
        let id = world.add_proc(proc);
        world.format(id).map_err(|e| format!("{}: {e}", node.name))?;
    }
    world.add_host(LAB);
    Ok(world)
}

/// The cluster's id is part of what the seed decides.
fn cluster_id(seed: u64) -> Uuid {
    let mut chance = derive(seed, "cluster id");
    let mut bytes = [0; 16];
    for half in bytes.chunks_exact_mut(8) {
        half.copy_from_slice(&chance.below(u64::MAX).to_be_bytes());
    }
    Uuid::from_random(bytes)
}

/// The voters with which a dynamic quorum is formatted (`--initial-controllers`); none where the configuration names
/// them.
fn first_voters(scenario: &Scenario, seed: u64) -> Option<VoterSet> {
    if !scenario.cluster.config.contains_key(BOOTSTRAP_SERVERS) {
        return None;
    }
    let voter = |node: &NodeDef| {
        let mut chance = derive(seed, &format!("voter/{}", node.name));
        let mut draw = || {
            let mut bytes = [0; 16];
            for half in bytes.chunks_exact_mut(8) {
                half.copy_from_slice(&chance.below(u64::MAX).to_be_bytes());
            }
            Uuid::from_random(bytes)
        };
        // As Kafka's: a command line takes an id that begins with a dash for an option.
        let mut directory_id = draw();
        while directory_id.to_text().starts_with('-') {
            directory_id = draw();
        }
        VoterNode {
            key: ReplicaKey::new(node.id, directory_id),
            listeners: vec![("CONTROLLER".into(), Endpoint::new(node.name.as_str(), CONTROLLER_PORT))],
            supported_kraft_versions: (0, 1),
        }
    };
    let nodes = scenario.cluster.nodes.iter().filter(|node| node.voter);
    Some(VoterSet::new(nodes.map(voter).collect()))
}

/// A range as the world takes it.
pub fn between(range: DurationRange) -> Between {
    Between { low: Nanos(range.low.0), high: Nanos(range.high.0) }
}

/// A link's settings on top of what it was.
pub fn link_spec(settings: &LinkSettings, mut spec: LinkSpec) -> LinkSpec {
    if let Some(latency) = settings.latency {
        spec.latency = between(latency);
    }
    if let Some(bandwidth) = settings.bandwidth {
        spec.bandwidth = Some(bandwidth);
    }
    if let Some(loss) = settings.loss {
        spec.loss_ppm = (loss * 1e6).round() as u32;
    }
    if let Some((share, latency)) = settings.tail {
        spec.tail = Some(((share * 1e6).round() as u32, between(latency)));
    }
    if let Some(connect) = settings.connect {
        spec.connect = Some(between(connect));
    }
    spec
}

/// What the node's `server.properties` would hold.
pub fn node_config(scenario: &Scenario, node: &NodeDef) -> BTreeMap<String, String> {
    let cluster = &scenario.cluster;
    let voters: Vec<String> = cluster
        .nodes
        .iter()
        .filter(|n| n.controller)
        .map(|n| format!("{}@{}:{CONTROLLER_PORT}", n.id, n.name))
        .collect();
    let (mut roles, mut listeners) = (Vec::new(), Vec::new());
    if node.broker {
        roles.push("broker");
        listeners.push(format!("PLAINTEXT://{}:{BROKER_PORT}", node.name));
    }
    if node.controller {
        roles.push("controller");
        listeners.push(format!("CONTROLLER://{}:{CONTROLLER_PORT}", node.name));
    }
    let internal = cluster.brokers().len().min(3).to_string();
    let mut config: BTreeMap<String, String> = [
        ("node.id", node.id.to_string()),
        ("process.roles", roles.join(",")),
        ("listeners", listeners.join(",")),
        ("controller.listener.names", "CONTROLLER".to_owned()),
        ("listener.security.protocol.map", "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT".to_owned()),
        ("controller.quorum.voters", voters.join(",")),
        ("log.dirs", LOG_DIR.to_owned()),
        ("auto.create.topics.enable", "false".to_owned()),
        ("offsets.topic.replication.factor", internal.clone()),
        ("transaction.state.log.replication.factor", internal.clone()),
        ("transaction.state.log.min.isr", internal.parse::<i32>().map_or(1, |n| n.min(2)).to_string()),
    ]
    .map(|(k, v)| (k.to_owned(), v))
    .into();
    if let Some(rack) = &node.rack {
        config.insert("broker.rack".to_owned(), rack.clone());
    }
    for (key, value) in cluster.config.iter().chain(&node.config) {
        config.insert(key.clone(), value.clone());
    }
    if config.contains_key(BOOTSTRAP_SERVERS) {
        config.remove("controller.quorum.voters");
    }
    config
}

/// Every broker's endpoint, in the order of their ids.
pub fn bootstrap(scenario: &Scenario) -> Vec<Endpoint> {
    scenario
        .cluster
        .nodes
        .iter()
        .filter(|n| n.broker)
        .map(|n| Endpoint::new(n.name.as_str(), BROKER_PORT))
        .collect()
}

/// The names of all producer processes, in the order of the file: what values are recognised by.
pub fn producer_names(scenario: &Scenario) -> Vec<String> {
    let produces = |c: &&Client| matches!(c.kind, ClientKind::Producer { .. });
    scenario.clients.iter().filter(produces).flat_map(Client::processes).collect()
}

/// How many keys each producer's messages have, in the same order; 0: none.
pub fn producer_keys(scenario: &Scenario) -> Vec<u64> {
    let keys = |c: &Client| match c.kind {
        ClientKind::Producer { keys, .. } => vec![keys; c.processes().len()],
        _ => Vec::new(),
    };
    scenario.clients.iter().flat_map(keys).collect()
}

fn names(scenario: &Scenario) -> Names {
    Names::new(producer_names(scenario).iter().map(|n| Arc::from(n.as_str())).collect())
}

/// How the next incarnation of a client's process is made; `first` are the numbers of its first message and transaction.
pub fn client_make(scenario: &Scenario, client: &Client, process: &str, first: (u64, u64)) -> Make {
    match &client.kind {
        ClientKind::Hostile { rate, count, targets, sends } => {
            Make::Machine(hostile_maker(scenario, *rate, *count, targets, sends))
        }
        _ => Make::Client(client_maker(scenario, client, process, first)),
    }
}

fn hostile_maker(
    scenario: &Scenario,
    rate: f64,
    count: Option<u64>,
    targets: &[String],
    sends: &[Attack],
) -> MachineMaker {
    let nodes = scenario.cluster.nodes.iter().filter(|n| targets.contains(&n.name));
    let endpoint =
        |n: &NodeDef| Endpoint::new(n.name.as_str(), if n.broker { BROKER_PORT } else { CONTROLLER_PORT });
    let spec = HostileSpec {
        targets: nodes.map(endpoint).collect(),
        every: Nanos((1e9 / rate.max(1e-3)) as u64),
        count,
        attacks: sends.to_vec(),
        topics: scenario.topics.iter().map(|t| t.name.clone()).collect(),
    };
    Arc::new(move |boot| Box::new(Hostile::new(spec.clone(), &boot)))
}

fn client_maker(scenario: &Scenario, client: &Client, process: &str, first: (u64, u64)) -> ClientMaker {
    let name: Arc<str> = process.into();
    let bootstrap = match client.config.get("bootstrap.servers") {
        Some(list) => list.split(',').filter_map(endpoint).collect(),
        None => bootstrap(scenario),
    };
    let mut config = client.config.clone();
    config.remove("bootstrap.servers");
    if let Some(rack) = &client.rack {
        config.insert("client.rack".to_owned(), rack.clone());
    }
    match &client.kind {
        ClientKind::Producer { topic, rate, count, keys, size, partition } => {
            let spec = ProducerSpec {
                name,
                bootstrap,
                topic: topic.as_str().into(),
                rate: exact_rate(*rate),
                count: *count,
                keys: (*keys).min(u64::from(u32::MAX)) as u32,
                size: *size as usize,
                partition: *partition,
                first_message: first.0,
                config,
                mutants: mutants::of_clients(&scenario.cluster.mutants),
            };
            Arc::new(move |boot| {
                let made = ProducerClient::new(spec.clone(), client::Rng::from_seed(boot.seed));
                Ok(Process::Producer(Box::new(made.map_err(|e| e.to_string())?)))
            })
        }
        ClientKind::Consumer { topics, group, partitions, from, processing, commit } => {
            let tp = |(t, p): &(String, i32)| TopicPartition::new(t.as_str(), *p);
            let from = match from {
                From::Reset => ClientFrom::Reset,
                From::Beginning => ClientFrom::Beginning,
                From::End => ClientFrom::End,
                From::Offsets(offsets) => {
                    ClientFrom::Offsets(offsets.iter().map(|(at, o)| (tp(at), *o)).collect())
                }
            };
            let spec = ConsumerSpec {
                name,
                bootstrap,
                assignment: match group {
                    Some(group) if !topics.is_empty() => Assignment::Group {
                        topics: topics.iter().map(|t| t.as_str().into()).collect(),
                        group: group.as_str().into(),
                    },
                    _ => Assignment::Partitions(partitions.iter().map(tp).collect()),
                },
                from,
                processing: Nanos(processing.0),
                commit: commit_of(*commit, group.is_some()),
                names: names(scenario),
                config,
                mutants: mutants::of_clients(&scenario.cluster.mutants),
            };
            Arc::new(move |boot| {
                let made = ConsumerClient::new(spec.clone(), client::Rng::from_seed(boot.seed));
                Ok(Process::Consumer(Box::new(made.map_err(|e| e.to_string())?)))
            })
        }
        ClientKind::Hostile { .. } => unreachable!("it is no client process"),
        ClientKind::Admin { every, words, .. } => {
            let command = CommandSpec { words: words.clone(), files: BTreeMap::new(), config };
            let spec = AdminSpec { name, command, every: (Nanos(every.low.0), Nanos(every.high.0)) };
            Arc::new(move |boot| {
                Ok(Process::Admin(Box::new(AdminClient::new(
                    spec.clone(),
                    client::Rng::from_seed(boot.seed),
                ))))
            })
        }
        ClientKind::Transactional { from, to, group, transaction_size, abort_every, processing } => {
            let spec = TransactionalSpec {
                name,
                bootstrap,
                from: from.as_str().into(),
                to: to.as_str().into(),
                group: group.as_str().into(),
                transaction_size: *transaction_size,
                abort_every: *abort_every,
                processing: Nanos(processing.0),
                first,
                names: names(scenario),
                config,
                mutants: mutants::of_clients(&scenario.cluster.mutants),
            };
            Arc::new(move |boot| {
                let made = TransactionalClient::new(spec.clone(), client::Rng::from_seed(boot.seed));
                Ok(Process::Transactional(Box::new(made.map_err(|e| e.to_string())?)))
            })
        }
    }
}

/// The `transactional.id` of a client's process, if it has one: its own name unless the file gives another.
pub fn transactional_id(client: &Client, process: &str) -> Option<String> {
    let given = client.config.get("transactional.id").cloned();
    match client.kind {
        ClientKind::Transactional { .. } => Some(given.unwrap_or_else(|| process.to_owned())),
        ClientKind::Producer { .. } => given,
        _ => None,
    }
}

/// When a consumer commits; one without a group never does.
fn commit_of(commit: crate::scenario::Commit, in_group: bool) -> Commit {
    match commit {
        _ if !in_group => Commit::None,
        crate::scenario::Commit::Auto => Commit::Auto,
        crate::scenario::Commit::Before => Commit::Before,
        crate::scenario::Commit::After => Commit::After,
        crate::scenario::Commit::None => Commit::None,
    }
}

/// `host:port`, or a host alone with Kafka's port.
fn endpoint(text: &str) -> Option<Endpoint> {
    match text.trim().rsplit_once(':') {
        Some((host, port)) => Some(Endpoint::new(host, port.parse().ok()?)),
        None => Some(Endpoint::new(text.trim(), BROKER_PORT)),
    }
}

/// A rate as whole messages in whole nanoseconds, exact to a thousandth of a message a second.
fn exact_rate(per_second: f64) -> Rate {
    let messages = ((per_second * 1e3).round() as u64).max(1);
    Rate { messages, per: Nanos::from_secs(1_000) }
}

/// The reader that reads everything at the end.
pub fn reader(scenario: &Scenario, topics: &[String]) -> ProcSpec {
    let spec = ReaderSpec {
        name: "final-reader".into(),
        bootstrap: bootstrap(scenario),
        topics: topics.iter().map(|t| Arc::from(t.as_str())).collect(),
        names: names(scenario),
        config: BTreeMap::from([("isolation.level".to_owned(), "read_committed".to_owned())]),
    };
    let maker: ClientMaker = Arc::new(move |boot| {
        let made = ReaderClient::new(spec.clone(), client::Rng::from_seed(boot.seed));
        Ok(Process::Reader(Box::new(made.map_err(|e| e.to_string())?)))
    });
    ProcSpec::client("final-reader", LAB, maker)
}
