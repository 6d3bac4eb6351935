//! What operators do while everything else goes wrong: commands on the lab host, in the background. They are not judged
//! by what they print: a cluster in trouble may refuse them.

use serde_json::{Value, json};
use wire::drive::Nanos;

use super::draw::{Candidate, Draw, End};
use super::keep::{Harm, furthest_raft, newest_image};
use super::keys;
use crate::runner::build::BROKER_PORT;
use crate::world::chance::Chance;

/// The topic that chaos makes, grows and deletes. It never touches the clients' topics in this way.
pub const SCRATCH: &str = "chaos-scratch";

const PREFERRED: &str = "kafka-leader-election --election-type preferred --all-topic-partitions";

/// What an operator could do at this moment.
pub fn candidates(draw: &Draw<'_>, chance: &mut Chance) -> Vec<Candidate> {
    let (deed, number) = (chance.below(9), chance.below(1 << 32));
    let brokers: Vec<String> =
        draw.player.scenario.cluster.nodes.iter().filter(|n| n.broker).map(|n| n.name.clone()).collect();
    match deed {
        0 => vec![rolling(draw.plan.order(draw.slot, &brokers))],
        1 | 2 => reassignments(draw, number),
        3 => vec![command(draw, settings(draw, number), Value::Null)],
        4 => vec![command(draw, PREFERRED.to_owned(), Value::Null)],
        _ => vec![command(draw, scratch(draw, deed, number), Value::Null)],
    }
}

fn rolling(brokers: Vec<String>) -> Candidate {
    Candidate { keys: vec![keys::ROLLING.to_owned()], rolling: brokers, ..Candidate::default() }
}

/// A step that runs a command in the background.
fn in_background(draw: &Draw<'_>, words: &str, files: Value, again: &str) -> Value {
    let brokers = draw.player.scenario.cluster.nodes.iter().filter(|n| n.broker);
    let servers: Vec<String> = brokers.map(|n| format!("{}:{BROKER_PORT}", n.name)).collect();
    let (tool, rest) = words.split_once(' ').expect("a tool with options");
    let line = format!("{tool} --bootstrap-server {} {rest}", servers.join(","));
    let name = format!("chaos-{}-{}{again}", draw.player.chaoses, draw.slot.number);
    let mut step = json!({ "command": line, "background": name });
    if !files.is_null() {
        step["files"] = files;
    }
    step
}

fn command(draw: &Draw<'_>, words: String, files: Value) -> Candidate {
    Candidate { begin: vec![in_background(draw, &words, files, "")], ..Candidate::default() }
}

/// A voter of a quorum whose voters can be changed is taken out and put back. While it is out it counts as one that is
/// down, so that nothing befalls the others.
pub fn voters(draw: &Draw<'_>, lasts: Nanos) -> Vec<Candidate> {
    let Some(raft) = furthest_raft(draw.player, draw.world).filter(|raft| raft.kraft_version() > 0) else {
        return Vec::new();
    };
    let nodes = draw.player.scenario.cluster.nodes.iter();
    let voters = nodes.filter(|n| raft.voters().node(n.id).is_some());
    let names: Vec<String> = voters.map(|n| n.name.clone()).filter(|name| draw.runs(name)).collect();
    if raft.voters().len() < 3 {
        return Vec::new();
    }
    let candidate = |name: String| {
        let out = format!(
            "kafka-metadata-quorum remove-controller --controller-id {{{name}.id}} --controller-directory-id {{{name}.directory}}"
        );
        let back = format!("kafka-metadata-quorum --command-config {name}:server.properties add-controller");
        Candidate {
            begin: vec![in_background(draw, &out, Value::Null, "")],
            end: End { steps: vec![in_background(draw, &back, Value::Null, "-back")], ..End::default() },
            harm: Harm { down: draw.id(&name).into_iter().collect(), lasts: lasts.0, ..Harm::default() },
            lasts,
            keys: vec![keys::process(&name), keys::VOTERS.to_owned()],
            ..Candidate::default()
        }
    };
    draw.plan.order(draw.slot, &names).into_iter().map(candidate).collect()
}

/// Leaders from those who may have lost what was committed.
pub fn unclean_election(draw: &Draw<'_>) -> Candidate {
    let words = "kafka-leader-election --election-type unclean --all-topic-partitions";
    command(draw, words.to_owned(), Value::Null)
}

/// A partition of a client's topic gets its replicas in another order or elsewhere. Only one that is whole, and that no
/// reassignment is moving: giving one up half-way could leave too few in sync.
fn reassignments(draw: &Draw<'_>, number: u64) -> Vec<Candidate> {
    let Some(image) = newest_image(draw.player, draw.world) else { return Vec::new() };
    let brokers = draw.player.scenario.cluster.brokers();
    let mut names: Vec<String> = Vec::new();
    for topic in &draw.player.scenario.topics {
        names.extend((0..topic.partitions).map(|p| format!("{}-{p}", topic.name)));
    }
    let mut all = Vec::new();
    for name in draw.plan.order(draw.slot, &names) {
        let (topic, partition) = name.rsplit_once('-').expect("it was made so");
        let number_of: i32 = partition.parse().expect("it was made so");
        let Some(state) = image.topics.topic_named(topic).and_then(|t| t.partitions.get(&number_of)) else {
            continue;
        };
        let whole = state.isr.len() == state.replicas.len()
            && state.adding_replicas.is_empty()
            && state.removing_replicas.is_empty();
        if !whole {
            continue;
        }
        let first = number as usize % brokers.len();
        let mut target: Vec<i32> = (0..brokers.len()).map(|i| brokers[(first + i) % brokers.len()]).collect();
        target.truncate(state.replicas.len());
        if target[..] == state.replicas[..] {
            target.rotate_left(1);
        }
        let plan = json!({ "version": 1, "partitions": [
            { "topic": topic, "partition": number_of, "replicas": target }] });
        let words = "kafka-reassign-partitions --reassignment-json-file move.json --execute".to_owned();
        all.push(command(draw, words, json!({ "move.json": plan })));
    }
    all
}

/// Settings that change how a topic is kept, not what is promised of it.
fn settings(draw: &Draw<'_>, number: u64) -> String {
    let settings = [
        "segment.bytes=1048576",
        "segment.ms=5000",
        "index.interval.bytes=256",
        "flush.messages=1",
        "flush.messages=1000",
        "max.message.bytes=2000000",
        "retention.ms=86400000",
    ];
    let topics = draw.player.scenario.topics.iter().map(|t| t.name.as_str()).chain([SCRATCH]);
    let topics: Vec<&str> = topics.collect();
    let topic = topics[number as usize % topics.len()];
    let setting = settings[(number >> 8) as usize % settings.len()];
    let how = if number >> 16 & 3 == 0 {
        format!("--delete-config {}", setting.split('=').next().unwrap_or(setting))
    } else {
        format!("--add-config {setting}")
    };
    format!("kafka-configs --alter --entity-type topics --entity-name {topic} {how}")
}

/// The scratch topic comes, grows, goes, and comes again under its name.
fn scratch(draw: &Draw<'_>, deed: u64, number: u64) -> String {
    let factor = draw.player.scenario.cluster.brokers().len().min(3);
    let (few, more) = (1 + number % 3, 4 + number % 5);
    match deed {
        5 | 6 => format!(
            "kafka-topics --create --if-not-exists --topic {SCRATCH} --partitions {few} --replication-factor {factor}"
        ),
        7 => format!("kafka-topics --alter --if-exists --topic {SCRATCH} --partitions {more}"),
        _ => format!("kafka-topics --delete --if-exists --topic {SCRATCH}"),
    }
}
