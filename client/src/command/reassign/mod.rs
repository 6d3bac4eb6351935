//! `kafka-reassign-partitions` (`ReassignPartitionsCommand.java`): other replicas for partitions.
//!
//! All log directories of a simulated broker but one cannot be chosen: a directory that is named has to be the one in
//! which the replica lies.

mod options;
mod plan;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use wire::error::ErrorCode;

use self::options::{ABOUT, OPTIONS};
use self::plan::{Assignment, Candidate, Dirs, Wanted, failed, ids};
use super::java::{DEFAULT_ROOM, hash_of_text, hash_order};
use super::options::Options;
use super::session::{Console, Exception, Ran, Session, Stop, got, result_of};
use crate::admin::{AlterConfig, AlterOp, ConfigResource, NodeInfo, Reassignment, TopicDescription};
use crate::error::ClientError;
use crate::event::TopicPartition;

const LEADER_RATE: &str = "leader.replication.throttled.rate";
const FOLLOWER_RATE: &str = "follower.replication.throttled.rate";
const DIR_RATE: &str = "replica.alter.log.dirs.io.max.bytes.per.second";
const LEADER_REPLICAS: &str = "leader.replication.throttled.replicas";
const FOLLOWER_REPLICAS: &str = "follower.replication.throttled.replicas";

const EXISTING: &str = "Cannot execute because there is an existing partition assignment.  Use --additional to override \
                        this and create a new partition assignment in addition to the existing one. The --additional \
                        flag can also be used to change the throttle by resubmitting the current reassignment.";

const VERIFY_PERIODICALLY: &str = "Warning: You must run --verify periodically, until the reassignment completes, to \
                                   ensure the throttle is removed.";

const TERSE: &str = "org.apache.kafka.tools.TerseException";

fn terse(text: impl Into<String>) -> Exception {
    Exception::new(TERSE, text)
}

pub(super) fn run(s: &mut Session<'_>) -> Ran {
    let options = Options::parse(OPTIONS, s.arguments())?;
    s.help_or_version(&options, OPTIONS, ABOUT)?;
    let action = match options::action(&options) {
        Ok(action) => action,
        Err(reason) => return Err(s.usage(OPTIONS, &reason)),
    };
    act(s, &options, action).map_err(|stop| match stop {
        Stop::Thrown(exception) if exception.class == TERSE => {
            s.line(exception.message_text());
            Stop::Exit(1)
        }
        Stop::Thrown(exception) => {
            s.line(format!("Error: {}", exception.message_text()));
            s.line(exception.stack_trace());
            Stop::Exit(1)
        }
        other => other,
    })
}

fn act(s: &mut Session<'_>, options: &Options, action: &str) -> Ran {
    let settings = s.settings(options.value("command-config")?)?;
    if options.has("bootstrap-controller") {
        return Err(terse("--bootstrap-controller is not supported: use --bootstrap-server.").into());
    }
    s.connect(options.required("bootstrap-server")?, settings)?;
    let wanted = |s: &Session<'_>| Wanted::read(&s.file(options.required("reassignment-json-file")?)?);
    let keep = options.has("preserve-throttles");
    match action {
        "verify" => {
            let wanted = wanted(s)?;
            verify(s, &wanted, keep)
        }
        "generate" => generate(s, options),
        "execute" => {
            let wanted = wanted(s)?;
            execute(s, &wanted, options)
        }
        "cancel" => {
            let wanted = wanted(s)?;
            cancel(s, &wanted, keep)
        }
        _ => list(s),
    }
}

// --- what there is

type Reassignments = BTreeMap<TopicPartition, Reassignment>;

fn ongoing(s: &mut Session<'_>, partitions: Option<Vec<TopicPartition>>) -> Ran<Reassignments> {
    let asked = s.ask(|admin, now| admin.list_partition_reassignments(now, partitions))?;
    Ok(got(result_of!(asked, Reassignments))?)
}

fn nodes(s: &mut Session<'_>) -> Ran<Vec<NodeInfo>> {
    let asked = s.ask(|admin, now| admin.describe_cluster(now, false))?;
    Ok(got(result_of!(asked, Cluster))?.nodes)
}

fn described(
    s: &mut Session<'_>,
    topics: BTreeSet<String>,
) -> Ran<BTreeMap<String, Result<TopicDescription, ClientError>>> {
    let topics: Vec<String> = topics.into_iter().collect();
    let asked = s.ask(|admin, now| admin.describe_topics(now, &topics))?;
    Ok(result_of!(asked, TopicDescriptions))
}

/// The replicas of all partitions of topics.
fn placed(s: &mut Session<'_>, topics: BTreeSet<String>) -> Ran<Assignment> {
    let mut placed = Assignment::new();
    for (topic, description) in described(s, topics)? {
        let description = match description {
            Ok(description) => description,
            Err(error) if error.code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => {
                let text = format!("Topic {topic} not found.");
                return Err(Exception::execution(ClientError { message: text, ..error }).into());
            }
            Err(error) => return Err(Exception::execution(error).into()),
        };
        for partition in description.partitions {
            placed.insert(TopicPartition::new(topic.as_str(), partition.partition), partition.replicas);
        }
    }
    Ok(placed)
}

/// Where the replicas of an assignment lie, as far as their brokers are there.
fn dirs(s: &mut Session<'_>, assignment: &Assignment, nodes: &[NodeInfo]) -> Ran<Dirs> {
    let used: BTreeSet<i32> = assignment.values().flatten().copied().collect();
    let brokers: Vec<i32> = nodes.iter().map(|node| node.id).filter(|id| used.contains(id)).collect();
    let asked = s.ask(|admin, now| admin.describe_log_dirs(now, &brokers))?;
    let mut dirs = Dirs::new();
    for (broker, described) in result_of!(asked, LogDirs) {
        for dir in got(described)? {
            for (partition, _) in dir.replicas.iter().filter(|(_, replica)| !replica.future) {
                if assignment.get(partition).is_some_and(|replicas| replicas.contains(&broker)) {
                    dirs.insert((partition.clone(), broker), dir.path.clone());
                }
            }
        }
    }
    Ok(dirs)
}

// --- --list

fn list(s: &mut Session<'_>) -> Ran {
    let ongoing = ongoing(s, None)?;
    if ongoing.is_empty() {
        s.line("No partition reassignments found.");
        return Ok(());
    }
    s.line("Current partition reassignments:");
    for (partition, reassignment) in &ongoing {
        let part = |name: &str, some: &[i32]| match some.is_empty() {
            true => String::new(),
            false => format!(" {name}: {}.", ids(some)),
        };
        s.line(format!(
            "{partition}: replicas: {}.{}{}",
            ids(&reassignment.replicas),
            part("adding", &reassignment.adding),
            part("removing", &reassignment.removing)
        ));
    }
    Ok(())
}

// --- --generate

fn generate(s: &mut Session<'_>, options: &Options) -> Ran {
    let text = s.file(options.required("topics-to-move-json-file")?)?;
    let wanted = plan::brokers(options.required("broker-list")?)?;
    let topics: BTreeSet<String> = plan::topics(&text)?.into_iter().collect();
    let current = placed(s, topics.clone())?;
    let nodes = nodes(s)?;
    let aware = !options.has("disable-rack-aware");
    let mut candidates: Vec<Candidate> = Vec::new();
    for node in nodes.iter().filter(|node| wanted.contains(&node.id)) {
        candidates.push(Candidate { id: node.id, rack: node.rack.clone().filter(|_| aware) });
    }
    let racked = candidates.iter().filter(|broker| broker.rack.is_some()).count();
    if racked != 0 && racked != candidates.len() {
        return Err(Exception::new(
            "org.apache.kafka.server.common.AdminOperationException",
            "Not all brokers have rack information. Add --disable-rack-aware in command line to make replica \
             assignment without rack information.",
        )
        .into());
    }
    let proposed = proposal(s, &topics, &current, &candidates)?;
    let dirs = dirs(s, &current, &nodes)?;
    s.line(format!("Current partition replica assignment\n{}\n", plan::json(&current, &dirs)));
    s.line(format!("Proposed partition reassignment configuration\n{}", plan::json(&proposed, &Dirs::new())));
    Ok(())
}

/// Each topic begins at another broker, by chance.
fn proposal(
    s: &mut Session<'_>,
    topics: &BTreeSet<String>,
    current: &Assignment,
    candidates: &[Candidate],
) -> Result<Assignment, Exception> {
    let mut proposed = Assignment::new();
    let mut chance = s.chance();
    for topic in topics {
        let of_topic: Vec<&Vec<i32>> =
            current.iter().filter(|(partition, _)| *partition.topic == **topic).map(|(_, r)| r).collect();
        let Some(factor) = of_topic.first().map(|replicas| replicas.len()) else { continue };
        let count = candidates.len();
        if factor > count || factor == 0 {
            let text = format!(
                "The target replication factor of {factor} cannot be reached because only {count} broker(s) are \
                 registered or some brokers have all their log directories cordoned."
            );
            return Err(Exception::new(
                "org.apache.kafka.common.errors.InvalidReplicationFactorException",
                text,
            ));
        }
        let mut draw = || {
            let drawn = (chance % count as u64) as usize;
            chance = (chance / count as u64) ^ chance.rotate_left(32);
            drawn
        };
        let (start, shift) = (draw(), draw());
        let placed = plan::propose(candidates, of_topic.len(), factor, start, shift);
        for (number, replicas) in placed.into_iter().enumerate() {
            proposed.insert(TopicPartition::new(topic.as_str(), number as i32), replicas);
        }
    }
    Ok(proposed)
}

// --- --execute

fn execute(s: &mut Session<'_>, wanted: &Wanted, options: &Options) -> Ran {
    let rate = options.number::<i64>("throttle")?.unwrap_or(-1);
    let dir_rate = options.number::<i64>("replica-alter-log-dirs-throttle")?.unwrap_or(-1);
    let proposed = wanted.checked()?;
    let reassigning = ongoing(s, None)?;
    if !options.has("additional") && !reassigning.is_empty() {
        return Err(terse(EXISTING).into());
    }
    let nodes = nodes(s)?;
    let used =
        hash_order(DEFAULT_ROOM, proposed.values().flatten().copied().collect::<BTreeSet<i32>>(), |id| *id);
    if let Some(unknown) = used.iter().find(|id| !nodes.iter().any(|node| node.id == **id)) {
        return Err(failed(format!("Unknown broker id {unknown}")).into());
    }
    let current = current_of(s, &proposed)?;
    let dirs = dirs(s, &current, &nodes)?;
    s.line(format!(
        "Current partition replica assignment\n\n{}\n\nSave this to use as the --reassignment-json-file option during \
         rollback",
        plan::json(&current, &dirs)
    ));
    if rate >= 0 || dir_rate >= 0 {
        s.line(VERIFY_PERIODICALLY);
        if rate >= 0 {
            throttle(s, &plan::moves(&reassigning, &proposed, &current), rate)?;
        }
        if dir_rate >= 0 {
            let moving: BTreeSet<i32> = wanted.dirs.keys().map(|(_, broker)| *broker).collect();
            let set =
                |id: i32| (ConfigResource::broker(id), alloc::vec![set(DIR_RATE, dir_rate.to_string())]);
            alter(s, moving.into_iter().map(set).collect())?;
            s.line(format!("The replica-alter-dir throttle limit was set to {dir_rate} B/s"));
        }
    }
    start(s, &proposed, !options.has("disallow-replication-factor-change"))?;
    move_dirs(s, &wanted.dirs, &proposed, &nodes)
}

/// The replicas that the partitions have now.
fn current_of(s: &mut Session<'_>, proposed: &Assignment) -> Ran<Assignment> {
    let topics = proposed.keys().map(|partition| partition.topic.to_string()).collect();
    let mut current = placed(s, topics)?;
    current.retain(|partition, _| proposed.contains_key(partition));
    let missing: Vec<String> = proposed
        .keys()
        .filter(|partition| !current.contains_key(*partition))
        .map(ToString::to_string)
        .collect();
    if missing.is_empty() {
        return Ok(current);
    }
    let text = format!("Unable to find partition: {}", missing.join(", "));
    Err(Exception::execution(ClientError::from_code(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, Some(&text)))
        .into())
}

fn start(s: &mut Session<'_>, proposed: &Assignment, other_factor: bool) -> Ran {
    let wanted =
        proposed.iter().map(|(partition, replicas)| (partition.clone(), Some(replicas.clone()))).collect();
    let errors = reassign(s, wanted, other_factor)?;
    if !errors.is_empty() {
        return Err(terse(format!("Error reassigning partition(s):\n{}", errors.join("\n"))).into());
    }
    let plural = if proposed.len() == 1 { "" } else { "s" };
    let names: Vec<String> = proposed.keys().map(ToString::to_string).collect();
    s.line(format!("Successfully started partition reassignment{plural} for {}", names.join(",")));
    Ok(())
}

/// The partitions that were refused, each with the reason.
fn reassign(
    s: &mut Session<'_>,
    wanted: BTreeMap<TopicPartition, Option<Vec<i32>>>,
    other_factor: bool,
) -> Ran<Vec<String>> {
    let partitions: Vec<TopicPartition> = wanted.keys().cloned().collect();
    let asked = s.ask(|admin, now| admin.alter_partition_reassignments(now, wanted, other_factor))?;
    let mut results = match result_of!(asked, Partitions) {
        Ok(results) => results,
        Err(error) => partitions.into_iter().map(|partition| (partition, Err(error.clone()))).collect(),
    };
    results.retain(|_, result| result.is_err());
    let line = |(partition, result): (TopicPartition, Result<(), ClientError>)| {
        format!("{partition}: {}", result.expect_err("only failures are left").message)
    };
    Ok(results.into_iter().map(line).collect())
}

/// A replica that lies where it shall lie need not be moved; another directory is not to be had.
fn move_dirs(s: &mut Session<'_>, wanted: &Dirs, proposed: &Assignment, nodes: &[NodeInfo]) -> Ran {
    if wanted.is_empty() {
        return Ok(());
    }
    let there = dirs(s, proposed, nodes)?;
    let mut by_broker: Vec<(&(TopicPartition, i32), &String)> = wanted.iter().collect();
    by_broker.sort_by_key(|((partition, broker), _)| (*broker, partition));
    for (replica, dir) in by_broker {
        let (partition, broker) = replica;
        // A replica that is still to be made lies in the only directory once it is there.
        if there.get(replica).is_some_and(|current| current != dir) {
            let text = format!("Failed to alter dir for {partition}-{broker}");
            let cause = ClientError::from_code(ErrorCode::LOG_DIR_NOT_FOUND, None);
            let exception = failed(text);
            let cause = Some(alloc::boxed::Box::new(Exception::execution(cause)));
            return Err(Exception { cause, ..exception }.into());
        }
        s.line(format!(
            "Successfully started moving log directory to {dir} for replica {partition} with broker {broker} "
        ));
    }
    Ok(())
}

// --- throttles

fn set(name: &str, value: impl Into<String>) -> AlterConfig {
    AlterConfig { name: name.into(), op: AlterOp::Set, value: Some(value.into()) }
}

fn delete(name: &str) -> AlterConfig {
    AlterConfig { name: name.into(), op: AlterOp::Delete, value: None }
}

fn alter(s: &mut Session<'_>, changes: BTreeMap<ConfigResource, Vec<AlterConfig>>) -> Ran {
    let asked = s.ask(|admin, now| admin.incremental_alter_configs(now, changes, false))?;
    for result in result_of!(asked, ConfigsAltered).into_values() {
        got(result)?;
    }
    Ok(())
}

fn throttle(s: &mut Session<'_>, moves: &BTreeMap<TopicPartition, plan::Move>, rate: i64) -> Ran {
    let topics = plan::throttled(moves).into_iter().map(|(topic, (leaders, followers))| {
        let changes = alloc::vec![set(LEADER_REPLICAS, leaders), set(FOLLOWER_REPLICAS, followers)];
        (ConfigResource::topic(topic), changes)
    });
    alter(s, topics.collect())?;
    let brokers: BTreeSet<i32> = moves
        .values()
        .flat_map(|moving| moving.sources.iter().chain(&moving.destinations))
        .copied()
        .collect();
    let rates = |id: i32| {
        let changes = [LEADER_RATE, FOLLOWER_RATE].map(|name| set(name, rate.to_string()));
        (ConfigResource::broker(id), Vec::from(changes))
    };
    alter(s, brokers.into_iter().map(rates).collect())?;
    s.line(format!("The inter-broker throttle limit was set to {rate} B/s"));
    Ok(())
}

/// All throttles go, since nobody remembers which brokers an earlier reassignment was about.
fn clear_throttles(s: &mut Session<'_>, wanted: &Wanted) -> Ran {
    let mut brokers: BTreeSet<i32> = nodes(s)?.iter().map(|node| node.id).collect();
    brokers.extend(wanted.partitions.iter().flat_map(|(_, replicas)| replicas));
    let named = hash_order(DEFAULT_ROOM, brokers.iter().copied(), |id| *id);
    let plural = |count: usize| if count == 1 { "" } else { "s" };
    s.line(format!("Clearing broker-level throttles on broker{} {}", plural(named.len()), ids(&named)));
    let rates =
        |id: i32| (ConfigResource::broker(id), Vec::from([LEADER_RATE, FOLLOWER_RATE, DIR_RATE].map(delete)));
    alter(s, brokers.into_iter().map(rates).collect())?;
    let topics: BTreeSet<String> = wanted.partitions.iter().map(|(p, _)| p.topic.to_string()).collect();
    let named = hash_order(DEFAULT_ROOM, topics.iter().cloned(), |topic| hash_of_text(topic));
    s.line(format!("Clearing topic-level throttles on topic{} {}", plural(named.len()), named.join(",")));
    let replicas = |topic: String| {
        (ConfigResource::topic(topic), Vec::from([LEADER_REPLICAS, FOLLOWER_REPLICAS].map(delete)))
    };
    alter(s, topics.into_iter().map(replicas).collect())
}

// --- --verify

fn verify(s: &mut Session<'_>, wanted: &Wanted, keep_throttles: bool) -> Ran {
    let reassigning = ongoing(s, None)?;
    let settled: BTreeSet<String> = (wanted.partitions.iter())
        .filter(|(partition, _)| !reassigning.contains_key(partition))
        .map(|(partition, _)| partition.topic.to_string())
        .collect();
    let topics = described(s, settled)?;
    let mut lines = BTreeMap::new();
    for (partition, target) in &wanted.partitions {
        let line = match reassigning.contains_key(partition) {
            true => format!("Reassignment of partition {partition} is still in progress."),
            false => settled_line(partition, target, &topics[&*partition.topic])?,
        };
        lines.insert(partition, line);
    }
    s.line("Status of partition reassignment:");
    lines.into_values().for_each(|line| s.line(line));
    let moving = verify_dirs(s, wanted)?;
    if reassigning.is_empty() && !moving && !keep_throttles {
        clear_throttles(s, wanted)?;
    }
    Ok(())
}

fn settled_line(
    partition: &TopicPartition,
    target: &[i32],
    topic: &Result<TopicDescription, ClientError>,
) -> Result<String, Exception> {
    let replicas = match topic {
        Ok(topic) => {
            let found = topic.partitions.iter().find(|p| p.partition == partition.partition);
            found.map(|found| found.replicas.clone()).unwrap_or_default()
        }
        Err(error) if error.code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => Vec::new(),
        Err(error) => return Err(Exception::execution(error.clone())),
    };
    Ok(match replicas == target {
        true => format!("Reassignment of partition {partition} is completed."),
        false => format!(
            "There is no active reassignment of partition {partition}, but replica set is {} rather than {}.",
            ids(&replicas),
            ids(target)
        ),
    })
}

/// Tells of replicas whose directory is named; whether any is still on its way.
fn verify_dirs(s: &mut Session<'_>, wanted: &Wanted) -> Ran<bool> {
    let mut lines = Vec::new();
    let mut missing = false;
    if !wanted.dirs.is_empty() {
        let nodes = nodes(s)?;
        let assignment: Assignment = wanted.partitions.iter().cloned().collect();
        let there = dirs(s, &assignment, &nodes)?;
        let mut by_broker: Vec<(&(TopicPartition, i32), &String)> = wanted.dirs.iter().collect();
        by_broker.sort_by_key(|((partition, broker), _)| (*broker, partition));
        for (replica, dir) in by_broker {
            let (partition, broker) = replica;
            lines.push(match there.get(replica) {
                Some(current) if current == dir => {
                    format!("Reassignment of replica {partition}-{broker} completed successfully.")
                }
                Some(current) => format!(
                    "Partition {partition} on broker {broker} is not being moved from log dir {current} to {dir}."
                ),
                None => {
                    missing = true;
                    format!(
                        "Partition {partition} is not found in any live log dir on broker {broker}. There is likely \
                         an offline log directory on the broker."
                    )
                }
            });
        }
    }
    s.line(lines.join("\n"));
    Ok(missing)
}

// --- --cancel

fn cancel(s: &mut Session<'_>, wanted: &Wanted, keep_throttles: bool) -> Ran {
    let partitions: BTreeSet<TopicPartition> = wanted.partitions.iter().map(|(p, _)| p.clone()).collect();
    let reassigning = ongoing(s, Some(partitions.into_iter().collect()))?;
    let active: Vec<TopicPartition> = reassigning.into_keys().collect();
    if active.is_empty() {
        s.line("None of the specified partition reassignments are active.");
    } else {
        let errors = reassign(s, active.iter().map(|p| (p.clone(), None)).collect(), true)?;
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        if !errors.is_empty() {
            let (plural, errors) = (plural(errors.len()), errors.join("\n"));
            return Err(
                terse(format!("Error cancelling partition reassignment{plural} for:\n{errors}")).into()
            );
        }
        let names: Vec<String> = active.iter().map(ToString::to_string).collect();
        let plural = plural(active.len());
        s.line(format!("Successfully cancelled partition reassignment{plural} for: {}", names.join(",")));
    }
    // Java has no line's end here.
    s.print("None of the specified partition moves are active.");
    if keep_throttles { Ok(()) } else { clear_throttles(s, wanted) }
}
