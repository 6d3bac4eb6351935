//! `kafka-delete-records` (`DeleteRecordsCommand.java`): deletes what lies before given offsets.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::java::{DEFAULT_ROOM, hash_of_partition, hash_order};
use super::json::Json;
use super::options::{Help, Options};
use super::session::{Console, Exception, Ran, Session, result_of};
use crate::event::TopicPartition;

const ABOUT: &str = "This tool helps to delete records of the given partitions down to the specified offset.";

const OPTIONS: Help = Help(include_str!("help/kafka-delete-records.txt"));

pub(super) fn run(s: &mut Session<'_>) -> Ran {
    let options = Options::parse(OPTIONS, s.arguments())?;
    s.help_or_version(&options, OPTIONS, ABOUT)?;
    s.check(OPTIONS, options.missing(&["bootstrap-server", "offset-json-file"]))?;
    let settings = s.settings(options.value("command-config")?)?;
    s.connect(options.required("bootstrap-server")?, settings)?;
    let offsets = offsets(&s.file(options.required("offset-json-file")?)?)?;
    let order = hash_order(DEFAULT_ROOM, offsets.keys().cloned(), hash_of_partition);
    s.line("Executing records delete operation");
    let asked = s.ask(|admin, now| admin.delete_records(now, offsets))?;
    s.line("Records delete operation completed:");
    let mut results = result_of!(asked, LowWatermarks);
    for partition in order {
        match results.remove(&partition).expect("every partition has a result") {
            Ok(low) => s.line(format!("partition: {partition}\tlow_watermark: {low}")),
            Err(error) => {
                let why = Exception::execution(error);
                s.line(format!("partition: {partition}\terror: {}", why.message_text()));
            }
        }
    }
    Ok(())
}

pub(super) fn bad_data(text: impl Into<String>) -> Exception {
    Exception::new("org.apache.kafka.tools.AdminOperationException", text)
}

/// What Jackson throws when the shape is not what was expected.
pub(super) fn malformed(text: impl Into<String>) -> Exception {
    Exception::new("com.fasterxml.jackson.databind.JsonMappingException", text)
}

/// A field that has to be there.
pub(super) fn field<'a>(object: &'a Json, name: &str) -> Result<&'a Json, Exception> {
    object.get(name).ok_or_else(|| malformed(format!("No such field exists: `{name}`")))
}

/// The version that a file says it has, which must be the only one that there is.
pub(super) fn check_version(json: &Json) -> Result<(), Exception> {
    match json.get("version").map_or(Some(1), Json::integer) {
        Some(1) => Ok(()),
        Some(other) => Err(bad_data(format!("Not supported version field value {other}"))),
        None => Err(malformed("Expected `Integer` value")),
    }
}

fn offsets(text: &str) -> Result<BTreeMap<TopicPartition, i64>, Exception> {
    let json = Json::parse(text).ok_or_else(|| bad_data("The input string is not a valid JSON"))?;
    check_version(&json)?;
    let list = json.get("partitions").ok_or_else(|| bad_data("Missing partitions field"))?;
    let mut offsets = BTreeMap::new();
    let mut twice: Vec<TopicPartition> = Vec::new();
    for item in list.list().ok_or_else(|| malformed("Expected JSON array"))? {
        let topic = field(item, "topic")?.text().ok_or_else(|| malformed("Expected `String` value"))?;
        let number = field(item, "partition")?.integer();
        let number = number.ok_or_else(|| malformed("Expected `Integer` value"))?;
        let offset = field(item, "offset")?.long().ok_or_else(|| malformed("Expected `Long` value"))?;
        let partition = TopicPartition::new(topic, number);
        if offsets.insert(partition.clone(), offset).is_some() && !twice.contains(&partition) {
            twice.push(partition);
        }
    }
    if twice.is_empty() {
        return Ok(offsets);
    }
    let twice = hash_order(DEFAULT_ROOM, twice, hash_of_partition);
    let twice: Vec<String> = twice.iter().map(ToString::to_string).collect();
    Err(Exception::new(
        "org.apache.kafka.tools.AdminCommandFailedException",
        format!("Offset json file contains duplicate topic partitions: {}", twice.join(",")),
    ))
}
