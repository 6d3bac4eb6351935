//! `kafka-log-dirs` (`LogDirsCommand.java`): what lies in the log directories of brokers, as one line of JSON.
//!
//! The order of its fields and partitions is that of Java's hash maps.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use wire::schema::json::quote;

use super::java::{DEFAULT_ROOM, hash_of_partition, hash_of_text, hash_order};
use super::options::{Help, Options};
use super::session::{Console, Exception, Ran, Session, Stop, got, result_of};
use crate::admin::LogDirDescription;

const ABOUT: &str = "This tool helps to query log directory usage on the specified brokers.";

const OPTIONS: Help = Help(include_str!("help/kafka-log-dirs.txt"));

pub(super) fn run(s: &mut Session<'_>) -> Ran {
    let options = Options::parse(OPTIONS, s.arguments())?;
    s.help_or_version(&options, OPTIONS, ABOUT)?;
    s.check(OPTIONS, options.missing(&["bootstrap-server", "describe"]))?;
    let topics: BTreeSet<&str> = split(options.value("topic-list")?).collect();
    let settings = s.settings(options.value("command-config")?)?;
    s.connect(options.required("bootstrap-server")?, settings)?;
    let asked = s.ask(|admin, now| admin.describe_cluster(now, false))?;
    let cluster = got(result_of!(asked, Cluster))?.nodes;
    let cluster = ids_in_order(cluster.iter().map(|node| node.id));
    let mut wanted = BTreeSet::new();
    for text in split(options.value("broker-list")?) {
        let not =
            || Exception::new("java.lang.NumberFormatException", format!("For input string: \"{text}\""));
        wanted.insert(text.parse::<i32>().map_err(|_| not())?);
    }
    let unknown = ids_in_order(wanted.iter().copied().filter(|id| !cluster.contains(id)));
    if !unknown.is_empty() {
        s.complain(format!(
            "ERROR: The given brokers do not exist from --broker-list: {}. Current existent brokers: {}",
            joined(&unknown),
            joined(&cluster)
        ));
        return Err(Stop::Exit(1));
    }
    let brokers = if wanted.is_empty() { cluster } else { ids_in_order(wanted) };
    s.line("Querying brokers for log directories information");
    let asked = s.ask(|admin, now| admin.describe_log_dirs(now, &brokers))?;
    let mut described = Vec::new();
    for (broker, dirs) in result_of!(asked, LogDirs) {
        described.push((broker, got(dirs)?));
    }
    s.line(format!("Received log directory information from brokers {}", joined(&brokers)));
    let described = hash_order(DEFAULT_ROOM, described, |(broker, _)| *broker);
    let brokers: Vec<String> =
        described.iter().map(|(broker, dirs)| broker_json(*broker, dirs, &topics)).collect();
    s.line(format!("{{\"brokers\":[{}],\"version\":1}}", brokers.join(",")));
    Ok(())
}

fn split(list: Option<&str>) -> impl Iterator<Item = &str> {
    list.unwrap_or_default().split(',').filter(|part| !part.is_empty())
}

fn ids_in_order(ids: impl IntoIterator<Item = i32>) -> Vec<i32> {
    hash_order(DEFAULT_ROOM, ids, |id| *id)
}

fn joined(ids: &[i32]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn broker_json(broker: i32, dirs: &[LogDirDescription], topics: &BTreeSet<&str>) -> String {
    let dirs = hash_order(DEFAULT_ROOM, dirs, |dir| hash_of_text(&dir.path));
    let dirs: Vec<String> = dirs.into_iter().map(|dir| dir_json(dir, topics)).collect();
    format!("{{\"broker\":{broker},\"logDirs\":[{}]}}", dirs.join(","))
}

fn dir_json(dir: &LogDirDescription, topics: &BTreeSet<&str>) -> String {
    // One map of what the broker told, and another of what was asked for.
    let told = hash_order(DEFAULT_ROOM, dir.replicas.keys(), |partition| hash_of_partition(partition));
    let wanted = told.into_iter().filter(|partition| topics.is_empty() || topics.contains(&*partition.topic));
    let wanted = hash_order(DEFAULT_ROOM, wanted, |partition| hash_of_partition(partition));
    let partitions: Vec<String> = wanted
        .into_iter()
        .map(|partition| {
            let replica = &dir.replicas[partition];
            format!(
                "{{\"partition\":{},\"size\":{},\"offsetLag\":{},\"isFuture\":{}}}",
                quote(&partition.to_string()),
                replica.size,
                replica.offset_lag,
                replica.future
            )
        })
        .collect();
    let error = dir.error.as_ref().map_or("null".into(), |error| quote(error.class));
    format!("{{\"partitions\":[{}],\"error\":{error},\"logDir\":{}}}", partitions.join(","), quote(&dir.path))
}
