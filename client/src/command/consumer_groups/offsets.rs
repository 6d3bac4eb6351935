//! `--delete-offsets`, and how topics with partitions are written.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use wire::error::ErrorCode;

use super::{MISSING, print_error};
use crate::command::java::described_order;
use crate::command::options::Options;
use crate::command::session::{Console, Exception, Ran, Session, result_of};
use crate::event::TopicPartition;

/// `topic:0,1`.
pub(super) fn parse(argument: &str) -> Result<Vec<TopicPartition>, Exception> {
    let parts: Vec<&str> = argument.split(':').collect();
    let [topic, partitions] = parts[..] else {
        let text = format!("Invalid topic arg '{argument}', expected topic name and partitions");
        return Err(Exception::illegal_argument(text));
    };
    let one = |partition: &str| {
        partition.parse().map(|number| TopicPartition::new(topic, number)).map_err(|_| {
            let text = format!("Invalid partition '{partition}' specified in topic arg '{argument}''");
            Exception::illegal_argument(text)
        })
    };
    partitions.split(',').map(one).collect()
}

/// Topics that cannot be described, and why.
type Unknown = Vec<(String, Exception)>;

/// The partitions that are named, and those of topics that are named alone; with the errors of unknown topics.
pub(super) fn partitions_of(s: &mut Session<'_>, topics: &[String]) -> Ran<(Vec<TopicPartition>, Unknown)> {
    let (named, whole): (Vec<&String>, Vec<&String>) = topics.iter().partition(|t| t.contains(':'));
    let mut partitions = Vec::new();
    for argument in named {
        partitions.extend(parse(argument)?);
    }
    let mut failed = Vec::new();
    if !whole.is_empty() {
        let names: Vec<String> = whole.into_iter().cloned().collect();
        let asked = s.ask(|admin, now| admin.describe_topics(now, &names))?;
        let mut described = result_of!(asked, TopicDescriptions);
        for name in described_order(described.keys().cloned().collect::<Vec<_>>()) {
            match described.remove(&name).expect("just listed") {
                Ok(topic) => {
                    partitions
                        .extend(topic.partitions.iter().map(|p| TopicPartition::new(&*name, p.partition)));
                }
                Err(error) => failed.push((name, error.into())),
            }
        }
    }
    Ok((partitions, failed))
}

pub(super) fn delete(s: &mut Session<'_>, options: &Options) -> Ran {
    let group = options.required("group")?.to_string();
    let topics: Vec<String> = options.values("topic").map(ToString::to_string).collect();
    let (partitions, unknown) = partitions_of(s, &topics)?;
    let asked = s.ask(|admin, now| admin.delete_group_offsets(now, &group, &partitions))?;
    let result = result_of!(asked, Partitions);
    let mut statuses: BTreeMap<String, (TopicPartition, Option<String>)> = BTreeMap::new();
    let mut put = |at: TopicPartition, error: Option<String>| {
        statuses.insert(format!("{}{}", at.topic, at.partition), (at, error));
    };
    for (topic, error) in unknown {
        let text = Exception::execution(error).message_text().to_string();
        put(TopicPartition::new(&*topic, -1), Some(text));
    }
    let mut worst = ErrorCode::NONE;
    match result {
        Err(error) => {
            worst = error.code;
            let text = Exception::from(error).text();
            partitions.into_iter().for_each(|p| put(p, Some(text.clone())));
        }
        Ok(each) => {
            for (at, told) in each {
                let error = told.err().map(|error| {
                    worst = error.code;
                    Exception::from(error).text()
                });
                put(at, error);
            }
        }
    }
    tell(s, &group, worst);
    let rows: Vec<(TopicPartition, Option<String>)> = statuses.into_values().collect();
    let width = rows.iter().map(|(at, _)| at.topic.chars().count()).max().unwrap_or(0).max(15);
    let mut text = format!("\n{:<width$} {:<10} {:<15}", "TOPIC", "PARTITION", "STATUS");
    for (at, error) in rows {
        let partition = if at.partition < 0 { MISSING.to_string() } else { at.partition.to_string() };
        let status = error.map_or_else(|| "Successful".to_string(), |error| format!("Error: {error}"));
        text.push_str(&format!("\n{:<width$} {partition:<10} {status:<15}", at.topic));
    }
    s.line(text);
    Ok(())
}

fn tell(s: &mut Session<'_>, group: &str, worst: ErrorCode) {
    let text = match worst {
        ErrorCode::NONE => {
            return s.line(format!("Request succeeded for deleting offsets from group {group}."));
        }
        ErrorCode::INVALID_GROUP_ID
        | ErrorCode::GROUP_ID_NOT_FOUND
        | ErrorCode::GROUP_AUTHORIZATION_FAILED
        | ErrorCode::NON_EMPTY_GROUP => worst.message().into(),
        ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC
        | ErrorCode::TOPIC_AUTHORIZATION_FAILED
        | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => {
            "Encountered some partition-level error, see the follow-up details.".into()
        }
        other => format!("Encountered some unknown error: {}", other.name()),
    };
    print_error(s, &text);
}
