//! `kafka-leader-election` (`LeaderElectionCommand.java`).

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use wire::error::ErrorCode;

use super::java::{DEFAULT_ROOM, hash_of_partition, hash_order};
use super::json::Json;
use super::options::{Help, Options, cannot_parse};
use super::session::{Console, Exception, Ran, Session, Stop, result_of};
use crate::admin::ElectionType;
use crate::error::ClientError;
use crate::event::TopicPartition;

const ABOUT: &str = "This tool attempts to elect a new leader for a set of topic partitions. The type of elections \
                     supported are preferred replicas and unclean replicas.";

const OPTIONS: Help = Help(include_str!("help/kafka-leader-election.txt"));

fn failed(text: impl Into<String>) -> Exception {
    Exception::new("org.apache.kafka.tools.AdminCommandFailedException", text)
}

fn bad_data(text: impl Into<String>) -> Exception {
    Exception::new("org.apache.kafka.tools.AdminOperationException", text)
}

pub(super) fn run(s: &mut Session<'_>) -> Ran {
    let options = Options::parse(OPTIONS, s.arguments())?;
    s.help_or_version(&options, OPTIONS, ABOUT)?;
    check_required(&options)?;
    s.check(OPTIONS, options.conflict("admin.config", &["command-config"]))?;
    check_partitions(&options)?;
    let kind = election_type(&options)?;
    let partitions = match (options.value("path-to-json-file")?, options.value("topic")?) {
        (Some(path), _) => Some(partitions_of_file(s, path)?),
        (None, Some(topic)) => {
            Some(vec![TopicPartition::new(topic, options.number("partition")?.unwrap_or_default())])
        }
        (None, None) => None,
    };
    if options.has("admin.config") {
        s.line(
            "Option --admin.config has been deprecated and will be removed in a future version. Use --command-config \
             instead.",
        );
    }
    let config = options.value("admin.config")?.or(options.value("command-config")?);
    let mut settings = s.settings(config)?;
    for (name, value) in [("default.api.timeout.ms", "30000"), ("request.timeout.ms", "15000")] {
        settings.entry(name.into()).or_insert_with(|| value.into());
    }
    s.connect(options.required("bootstrap-server")?, settings)?;
    let asked = s.ask(|admin, now| admin.elect_leaders(now, kind, partitions))?;
    match result_of!(asked, Partitions) {
        Ok(results) => tell(s, kind, results),
        Err(error) => Err(call_failed(s, error)),
    }
}

// --- options

fn check_required(options: &Options) -> Result<(), Exception> {
    let missing: Vec<&str> =
        ["bootstrap-server", "election-type"].into_iter().filter(|name| !options.has(name)).collect();
    match missing.is_empty() {
        true => Ok(()),
        false => Err(failed(format!("Missing required option(s): {}", missing.join(", ")))),
    }
}

fn check_partitions(options: &Options) -> Result<(), Exception> {
    const EXCLUSIVE: [&str; 3] = ["topic", "all-topic-partitions", "path-to-json-file"];
    if EXCLUSIVE.iter().filter(|name| options.has(name)).count() != 1 {
        let names = EXCLUSIVE.join(", ");
        return Err(failed(format!("One and only one of the following options is required: {names}")));
    }
    match (options.has("topic"), options.has("partition")) {
        (true, false) => Err(failed("Missing required option(s): partition")),
        (false, true) => Err(failed("Option partition is only allowed if topic is used")),
        _ => Ok(()),
    }
}

fn election_type(options: &Options) -> Result<ElectionType, Exception> {
    let text = options.required("election-type")?;
    match text.to_ascii_lowercase().as_str() {
        "preferred" => Ok(ElectionType::Preferred),
        "unclean" => Ok(ElectionType::Unclean),
        _ => {
            let why = format!("Value [{text}] is not one of [[PREFERRED,UNCLEAN]]");
            let cause = Some(Box::new(Exception::new("joptsimple.ValueConversionException", why)));
            Err(Exception { cause, ..cannot_parse(text, "election-type") })
        }
    }
}

fn partitions_of_file(s: &Session<'_>, path: &str) -> Result<Vec<TopicPartition>, Exception> {
    let text = s.file(path).map_err(Exception::runtime)?;
    let json = Json::parse(&text).ok_or_else(|| bad_data("Replica election data is empty"))?;
    let list = json
        .get("partitions")
        .ok_or_else(|| bad_data("Replica election data is missing \"partitions\" field"))?;
    let malformed = || {
        let class = "com.fasterxml.jackson.databind.JsonMappingException";
        let text = "Expected `partitions` to be a list of objects with `topic` and `partition`";
        Exception::runtime(Exception::new(class, text))
    };
    let mut partitions = Vec::new();
    for item in list.list().ok_or_else(malformed)? {
        let topic = item.get("topic").and_then(Json::text).ok_or_else(malformed)?;
        let partition = item.get("partition").and_then(Json::integer).ok_or_else(malformed)?;
        partitions.push(TopicPartition::new(topic, partition));
    }
    let mut seen = BTreeSet::new();
    let twice: BTreeSet<&TopicPartition> =
        partitions.iter().filter(|partition| !seen.insert(*partition)).collect();
    if !twice.is_empty() {
        let twice = hash_order(DEFAULT_ROOM, twice.into_iter().cloned(), hash_of_partition);
        let text = format!("Replica election data contains duplicate partitions: [{}]", joined(&twice));
        return Err(bad_data(text));
    }
    Ok(hash_order(DEFAULT_ROOM, partitions, hash_of_partition))
}

// --- results

fn call_failed(s: &mut Session<'_>, error: ClientError) -> Stop {
    let (text, cause) = match error.code {
        ErrorCode::REQUEST_TIMED_OUT => ("Timeout waiting for election results", Some(error)),
        ErrorCode::CLUSTER_AUTHORIZATION_FAILED => {
            ("Not authorized to perform leader election", error.cause.map(|cause| *cause))
        }
        _ => return Exception::runtime(Exception::execution(error)).into(),
    };
    s.line(text);
    let cause = cause.map(|error| alloc::boxed::Box::new(error.into()));
    Exception { cause, ..failed(text) }.into()
}

fn tell(s: &mut Session<'_>, kind: ElectionType, results: crate::admin::Each<TopicPartition, ()>) -> Ran {
    let kind = match kind {
        ElectionType::Preferred => "PREFERRED",
        ElectionType::Unclean => "UNCLEAN",
    };
    // Java sorts the results into a set of each kind.
    let select = |wanted: fn(&Result<(), ClientError>) -> bool| {
        let chosen =
            results.iter().filter(|(_, result)| wanted(result)).map(|(partition, _)| partition.clone());
        hash_order(DEFAULT_ROOM, chosen, hash_of_partition)
    };
    let needless = |result: &Result<(), ClientError>| {
        result.as_ref().is_err_and(|error| error.code == ErrorCode::ELECTION_NOT_NEEDED)
    };
    let elected = select(Result::is_ok);
    let valid = select(needless);
    let unable =
        select(|result| result.as_ref().is_err_and(|error| error.code != ErrorCode::ELECTION_NOT_NEEDED));
    if !elected.is_empty() {
        let all = joined(&elected);
        s.line(format!("Successfully completed leader election ({kind}) for partitions {all}"));
    }
    if !valid.is_empty() {
        s.line(format!("Valid replica already elected for partitions {}", joined(&valid)));
    }
    if unable.is_empty() {
        return Ok(());
    }
    let mut exception = failed(format!("{} replica(s) could not be elected", unable.len()));
    for partition in unable {
        let error = results[&partition].clone().expect_err("it was not elected");
        let cause = Exception::from(error);
        s.line(format!(
            "Error completing leader election ({kind}) for partition: {partition}: {}",
            cause.text()
        ));
        exception.suppressed.push(cause);
    }
    Err(exception.into())
}

fn joined(partitions: &[TopicPartition]) -> String {
    let names: Vec<String> = partitions.iter().map(ToString::to_string).collect();
    names.join(", ")
}
