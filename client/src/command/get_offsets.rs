//! `kafka-get-offsets` (`GetOffsetShell.java`).

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::java::described_order;
use super::options::{Help, Options};
use super::session::{Console, Exception, Ran, Session, Stop, got, result_of};
use super::topic_filter::TopicFilter;
use crate::config::Isolation;
use crate::event::TopicPartition;

const ABOUT: &str = "An interactive shell for getting topic-partition offsets.";

const OPTIONS: Help = Help(include_str!("help/kafka-get-offsets.txt"));

pub(super) fn run(s: &mut Session<'_>) -> Ran {
    execute(s).map_err(|stop| match stop {
        Stop::Thrown(exception) => {
            s.complain(format!("Error occurred: {}", exception.message_text()));
            if exception.class != TERSE {
                s.complain(exception.stack_trace());
            }
            Stop::Exit(1)
        }
        other => other,
    })
}

/// An exception that is told without its stack trace.
const TERSE: &str = "org.apache.kafka.tools.TerseException";

fn terse(text: impl Into<String>) -> Exception {
    Exception::new(TERSE, text)
}

fn execute(s: &mut Session<'_>) -> Ran {
    let options = match Options::parse(OPTIONS, s.arguments()) {
        Ok(options) => options,
        Err(error) => return Err(terse(error.message_text()).into()),
    };
    s.help_or_version(&options, OPTIONS, ABOUT)?;
    s.check(OPTIONS, options.missing(&["bootstrap-server"]))?;
    let bootstrap = options.required("bootstrap-server")?;
    s.check(OPTIONS, check_bootstrap(bootstrap))?;
    if options.has("topic-partitions") && (options.has("topic") || options.has("partitions")) {
        return Err(terse("--topic-partitions cannot be used with --topic or --partitions").into());
    }
    let timestamp = timestamp(options.value("time")?.unwrap_or("latest"))?;
    let filters = filters(&options)?;
    let settings = s.settings(options.value("command-config")?)?;
    s.connect(bootstrap, settings)?;

    let partitions = matching(s, &filters, !options.has("exclude-internal-topics"))?;
    if partitions.is_empty() {
        return Err(terse("Could not match any topic-partitions with the specified filters").into());
    }
    let wanted: BTreeMap<TopicPartition, i64> =
        partitions.iter().map(|partition| (partition.clone(), timestamp)).collect();
    let asked = s.ask(|admin, now| admin.list_offsets(now, wanted, Isolation::ReadUncommitted))?;
    let mut found = result_of!(asked, Offsets);
    // As text, so that t-10 comes before t-2.
    let mut lines: BTreeMap<String, String> = BTreeMap::new();
    for partition in partitions {
        match found.remove(&partition).expect("every partition has a result") {
            Ok(info) if info.offset >= 0 => {
                let line = format!("{}:{}:{}", partition.topic, partition.partition, info.offset);
                lines.insert(partition.to_string(), line);
            }
            Ok(_) => {}
            Err(error) => {
                let why = Exception::from(error).text();
                s.complain(format!(
                    "Skip getting offsets for topic-partition {partition} due to error: {why}"
                ));
            }
        }
    }
    lines.into_values().for_each(|line| s.line(line));
    Ok(())
}

/// `ToolsUtils.validateBootstrapServer`.
pub(super) fn check_bootstrap(text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        return Err("Error while validating the bootstrap address\n".into());
    }
    match text.split(',').all(|url| super::session::endpoint(url).is_some()) {
        true => Ok(()),
        false => Err("Please provide valid host:port like host1:9091,host2:9092\n".into()),
    }
}

fn timestamp(text: &str) -> Result<i64, Exception> {
    match text {
        "latest" => Ok(-1),
        "earliest" => Ok(-2),
        "max-timestamp" => Ok(-3),
        "earliest-local" => Ok(-4),
        "latest-tiered" => Ok(-5),
        "earliest-pending-upload" => Ok(-6),
        _ => text.parse().map_err(|_| {
            terse(format!(
                "Malformed time argument {text}. Please use -1 or latest / -2 or earliest / -3 or max-timestamp / -4 \
                 or earliest-local / -5 or latest-tiered / -6 or earliest-pending-upload, or a specified long format \
                 timestamp"
            ))
        }),
    }
}

/// The partitions of the topics that the filters let through.
fn matching(s: &mut Session<'_>, filters: &[Filter], internal: bool) -> Ran<Vec<TopicPartition>> {
    let asked = s.ask(|admin, now| admin.list_topics(now, internal))?;
    let topics = got(result_of!(asked, Topics))?.into_iter().map(|topic| topic.name);
    let names: Vec<String> =
        topics.filter(|name| filters.iter().any(|filter| filter.topic.allows(name, false))).collect();
    let asked = s.ask(|admin, now| admin.describe_topics(now, &names))?;
    let mut described = result_of!(asked, TopicDescriptions);
    let mut partitions = Vec::new();
    for name in described_order(described.keys().cloned().collect::<Vec<_>>()) {
        let topic = got(described.remove(&name).expect("just listed"))?;
        for partition in topic.partitions {
            let wanted = |filter: &Filter| {
                filter.topic.allows(&name, false) && filter.partitions.allow(partition.partition)
            };
            if filters.iter().any(wanted) {
                partitions.push(TopicPartition::new(&*name, partition.partition));
            }
        }
    }
    Ok(partitions)
}

struct Filter {
    topic: TopicFilter,
    partitions: Partitions,
}

enum Partitions {
    All,
    Some(Vec<i32>),
    Range { from: i32, to: i32 },
}

impl Partitions {
    fn allow(&self, partition: i32) -> bool {
        match self {
            Partitions::All => true,
            Partitions::Some(some) => some.contains(&partition),
            Partitions::Range { from, to } => (*from..*to).contains(&partition),
        }
    }
}

fn filters(options: &Options) -> Result<Vec<Filter>, Exception> {
    if let Some(rules) = options.value("topic-partitions")? {
        return rules.split(',').map(rule).collect();
    }
    let partitions = match options.value("partitions")?.filter(|text| !text.is_empty()) {
        None => Partitions::All,
        Some(text) => {
            let ids: Result<Vec<i32>, _> = text.split(',').map(str::parse).collect();
            Partitions::Some(ids.map_err(|_| {
                terse(format!(
                    "--partitions expects a comma separated list of numeric partition ids, but received: {text}"
                ))
            })?)
        }
    };
    let topic = TopicFilter::new(options.value("topic")?.unwrap_or(".*"))?;
    Ok([Filter { topic, partitions }].into())
}

/// `TOPIC`, `TOPIC:1`, `TOPIC:1-`, `TOPIC:1-3`, `:-3` …
fn rule(text: &str) -> Result<Filter, Exception> {
    let invalid = || Exception::runtime(terse(format!("Invalid rule specification: {text}")));
    let number = |text: &str, otherwise: i32| match text {
        "" => Ok(otherwise),
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().map_err(|_| invalid()),
        _ => Err(invalid()),
    };
    let (topic, partitions) = text.split_once(':').unwrap_or((text, ""));
    let partitions = match partitions.split_once('-') {
        None if partitions.is_empty() => Partitions::All,
        None => Partitions::Some([number(partitions, 0)?].into()),
        Some((from, to)) => Partitions::Range { from: number(from, 0)?, to: number(to, i32::MAX)? },
    };
    let topic = TopicFilter::new(if topic.is_empty() { ".*" } else { topic })?;
    Ok(Filter { topic, partitions })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_select_topics_and_partitions() {
        let cases = [
            ("t", "t", 7, true),
            ("t", "u", 7, false),
            (":1", "any", 1, true),
            (":1", "any", 2, false),
            ("t.*:1-3", "t2", 2, true),
            ("t.*:1-3", "t2", 3, false),
            ("t:-3", "t", 0, true),
            ("t:2-", "t", 1, false),
        ];
        for (text, topic, partition, allowed) in cases {
            let filter = rule(text).ok().unwrap();
            let allows = filter.topic.allows(topic, false) && filter.partitions.allow(partition);
            assert_eq!(allows, allowed, "{text} {topic}-{partition}");
        }
        for wrong in ["t:x", "t:1:2", "t:1-2-3"] {
            assert!(rule(wrong).is_err(), "{wrong}");
        }
    }
}
