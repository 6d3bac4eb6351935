//! `kafka-transactions` (`TransactionsCommand.java`): the transactions of a cluster, and the end of those that hang.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use wire::error::ErrorCode;

use super::arguments::{self, Arguments, Parser, Unread, arg, switch};
use super::java::{DEFAULT_ROOM, described_order, hash_of_partition, hash_order, table};
use super::session::{Console, Exception, Ran, Session, Stop, result_of};
use crate::admin::{AbortSpec, AdminResult, ProducerInfo, TransactionDescription, TransactionFilter};
use crate::error::ClientError;
use crate::event::TopicPartition;

const PROGRAM: &str = "kafka-transactions.sh";

const TOOL: Parser = Parser {
    name: "",
    args: &[arg("--command-config", None), arg("--bootstrap-server", None), switch("--version")],
    one_of: &[],
    usage: "kafka-transactions.sh [-h] [-v] [--command-config FILE]
                             --bootstrap-server host:port COMMAND ...",
};

const COMMANDS: &[Parser] = &[
    Parser {
        name: "list",
        args: &[arg("--duration-filter", None), arg("--transactional-id-pattern", None)],
        one_of: &[],
        usage: "kafka-transactions.sh --bootstrap-server host:port list [-h]
                             [--duration-filter DURATION_FILTER]
                             [--transactional-id-pattern TRANSACTIONAL_ID_PATTERN]",
    },
    Parser {
        name: "describe",
        args: &[arg("--transactional-id", None)],
        one_of: &[],
        usage: "kafka-transactions.sh --bootstrap-server host:port describe [-h]
                             --transactional-id TRANSACTIONAL_ID",
    },
    Parser {
        name: "describe-producers",
        args: &[arg("--broker-id", None), arg("--topic", None), arg("--partition", None)],
        one_of: &[],
        usage: "kafka-transactions.sh --bootstrap-server host:port
                             describe-producers [-h]
                             [--broker-id BROKER_ID] --topic TOPIC
                             --partition PARTITION",
    },
    Parser {
        name: "abort",
        args: &[
            arg("--topic", None),
            arg("--partition", None),
            arg("--start-offset", None),
            arg("--producer-id", None),
            arg("--producer-epoch", None),
            arg("--coordinator-epoch", None),
        ],
        one_of: &[],
        usage: "kafka-transactions.sh --bootstrap-server host:port abort [-h]
                             --topic TOPIC --partition PARTITION
                             [--start-offset START_OFFSET]
                             [--producer-id PRODUCER_ID]
                             [--producer-epoch PRODUCER_EPOCH]
                             [--coordinator-epoch COORDINATOR_EPOCH]",
    },
    Parser {
        name: "find-hanging",
        args: &[
            arg("--broker-id", None),
            arg("--max-transaction-timeout", None),
            arg("--topic", None),
            arg("--partition", None),
        ],
        one_of: &[],
        usage: "kafka-transactions.sh --bootstrap-server host:port find-hanging [-h]
                             [--broker-id BROKER_ID]
                             [--max-transaction-timeout MAX_TRANSACTION_TIMEOUT]
                             [--topic TOPIC] [--partition PARTITION]",
    },
    Parser {
        name: "forceTerminateTransaction",
        args: &[arg("--transactionalId", None)],
        one_of: &[],
        usage: "kafka-transactions.sh --bootstrap-server host:port
                             forceTerminateTransaction [-h]
                             --transactionalId TRANSACTIONALID",
    },
];

/// What must be given with each command.
const REQUIRED: [(&str, &[&str]); 6] = [
    ("list", &[]),
    ("describe", &["--transactional-id"]),
    ("describe-producers", &["--topic", "--partition"]),
    ("abort", &["--topic", "--partition"]),
    ("find-hanging", &[]),
    ("forceTerminateTransaction", &["--transactionalId"]),
];

/// The most topics or partitions of one request.
const MAX_BATCH_SIZE: usize = 500;

pub(super) fn run(s: &mut Session<'_>) -> Ran {
    if s.arguments().iter().any(|word| word == "-v" || word == "--version") {
        s.line(super::VERSION);
        return Err(Stop::Exit(0));
    }
    let read = Arguments::parse(PROGRAM, &TOOL, COMMANDS, s.arguments());
    let arguments = match read.and_then(|arguments| check(&arguments).map(|()| arguments)) {
        Ok(arguments) => arguments,
        Err(unread) => return Err(s.unread(unread)),
    };
    let config = arguments.value("--command-config");
    if let Some(path) = config.filter(|path| s.file(path).is_err()) {
        return Err(failed(s, "Failed to load admin client properties", Some(path)));
    }
    let settings = s.settings(config)?;
    s.connect(arguments.value("--bootstrap-server").expect("checked"), settings)?;
    match arguments.command {
        "list" => list(s, &arguments),
        "describe" => describe(s, arguments.value("--transactional-id").expect("checked")),
        "describe-producers" => describe_producers(s, &arguments),
        "abort" => abort(s, &arguments),
        "find-hanging" => find_hanging(s, &arguments),
        _ => force_terminate(s, arguments.value("--transactionalId").expect("checked")),
    }
}

// --- arguments

/// What argparse4j checks besides: what is required, and what has to be a number.
fn check(arguments: &Arguments) -> Result<(), Unread> {
    if !arguments.has("--bootstrap-server") {
        return Err(unread("", "argument --bootstrap-server is required"));
    }
    let required = REQUIRED.iter().find(|(name, _)| *name == arguments.command);
    for name in required.map_or(&[] as &[&str], |(_, names)| names) {
        if !arguments.has(name) {
            return Err(unread(arguments.command, &format!("argument {name} is required")));
        }
    }
    for name in ["--partition", "--broker-id", "--max-transaction-timeout", "--coordinator-epoch"] {
        number::<i32>(arguments, name, "Integer (32 bit)")?;
    }
    for name in ["--duration-filter", "--start-offset", "--producer-id"] {
        number::<i64>(arguments, name, "Long (64 bit)")?;
    }
    number::<i16>(arguments, "--producer-epoch", "Short (16 bit)")?;
    Ok(())
}

fn number<T: core::str::FromStr>(a: &Arguments, name: &str, kind: &str) -> Result<Option<T>, Unread> {
    let Some(text) = a.value(name) else { return Ok(None) };
    let wrong = || {
        unread(
            a.command,
            &format!("argument {name}: could not convert '{text}' to {kind} (For input string: \"{text}\")"),
        )
    };
    text.parse().map(Some).map_err(|_| wrong())
}

/// A number that was checked before.
fn checked<T: core::str::FromStr>(arguments: &Arguments, name: &str) -> Option<T> {
    arguments.value(name).and_then(|text| text.parse().ok())
}

fn unread(command: &str, text: &str) -> Unread {
    let usage = COMMANDS.iter().find(|known| known.name == command).map_or(TOOL.usage, |known| known.usage);
    arguments::misused(PROGRAM, usage, text)
}

/// `printErrorAndExit`, with what was caught if something was.
fn failed(s: &mut Session<'_>, text: &str, cause: Option<&str>) -> Stop {
    match cause {
        Some(cause) => s.complain(format!("{text}: {cause}. Enable debug logging for additional detail.")),
        None => s.complain(text),
    }
    Stop::Exit(1)
}

fn given<T>(s: &mut Session<'_>, text: &str, result: Result<T, ClientError>) -> Ran<T> {
    result.map_err(|error| failed(s, text, Some(&error.message)))
}

fn partition_of(arguments: &Arguments) -> TopicPartition {
    let topic = arguments.value("--topic").unwrap_or_default();
    TopicPartition::new(topic, checked(arguments, "--partition").unwrap_or_default())
}

// --- list and describe

fn list(s: &mut Session<'_>, arguments: &Arguments) -> Ran {
    let filter = TransactionFilter {
        producer_ids: Vec::new(),
        longer_than_ms: checked(arguments, "--duration-filter").unwrap_or(-1),
        pattern: arguments.value("--transactional-id-pattern").map(ToString::to_string),
    };
    let asked = s.ask(|admin, now| admin.list_transactions(now, filter))?;
    let listed = given(s, "Failed to list transactions", result_of!(asked, Transactions))?;
    let mut rows = Vec::new();
    for (coordinator, listings) in listed {
        let row = |listing: crate::admin::TransactionListing| {
            vec![listing.id, coordinator.to_string(), listing.producer_id.to_string(), listing.state]
        };
        rows.extend(listings.into_iter().map(row));
    }
    s.print(table(&["TransactionalId", "Coordinator", "ProducerId", "TransactionState"], &rows));
    Ok(())
}

fn describe(s: &mut Session<'_>, id: &str) -> Ran {
    let asked = s.ask(|admin, now| admin.describe_transactions(now, &[id.to_string()]))?;
    let result = result_of!(asked, TransactionDescriptions).remove(id).expect("it was asked for");
    let described =
        given(s, &format!("Failed to describe transaction state of transactional-id `{id}`"), result)?;
    let none = || "None".to_string();
    let now_ms = s.now.wall_ms;
    let partitions =
        hash_order(DEFAULT_ROOM, described.partitions, hash_of_partition).into_iter().map(|p| p.to_string());
    let row = vec![
        described.coordinator.to_string(),
        id.to_string(),
        described.producer_id.to_string(),
        described.producer_epoch.to_string(),
        described.state,
        described.timeout_ms.to_string(),
        described.started_ms.map_or_else(none, |started| started.to_string()),
        described.started_ms.map_or_else(none, |started| (now_ms - started).to_string()),
        partitions.collect::<Vec<_>>().join(","),
    ];
    let header = [
        "CoordinatorId",
        "TransactionalId",
        "ProducerId",
        "ProducerEpoch",
        "TransactionState",
        "TransactionTimeoutMs",
        "CurrentTransactionStartTimeMs",
        "TransactionDurationMs",
        "TopicPartitions",
    ];
    s.print(table(&header, &[row]));
    Ok(())
}

fn describe_producers(s: &mut Session<'_>, arguments: &Arguments) -> Ran {
    let (partition, broker) = (partition_of(arguments), checked(arguments, "--broker-id"));
    let asked = s.ask(|admin, now| admin.describe_producers(now, vec![partition.clone()], broker))?;
    let result = result_of!(asked, Producers).remove(&partition).expect("it was asked for");
    let clause = broker.map_or_else(|| "leader".to_string(), |id| format!("broker {id}"));
    let text = format!("Failed to describe producers for partition {partition} on {clause}");
    let producers = given(s, &text, result)?;
    let row = |producer: ProducerInfo| {
        vec![
            producer.id.to_string(),
            producer.epoch.to_string(),
            producer.coordinator_epoch.unwrap_or(-1).to_string(),
            producer.last_sequence.to_string(),
            producer.last_timestamp.to_string(),
            producer.transaction_start.map_or_else(|| "None".to_string(), |start| start.to_string()),
        ]
    };
    let header = [
        "ProducerId",
        "ProducerEpoch",
        "LatestCoordinatorEpoch",
        "LastSequence",
        "LastTimestamp",
        "CurrentTransactionStartOffset",
    ];
    let rows: Vec<Vec<String>> = producers.into_iter().map(row).collect();
    s.print(table(&header, &rows));
    Ok(())
}

// --- abort

fn abort(s: &mut Session<'_>, arguments: &Arguments) -> Ran {
    let partition = partition_of(arguments);
    let start: Option<i64> = checked(arguments, "--start-offset");
    let producer: Option<i64> = checked(arguments, "--producer-id");
    let spec = match (start, producer) {
        (Some(start), _) => open_at(s, partition, start)?,
        (None, Some(producer_id)) => {
            let missing = |name: &str| format!("Missing required argument {name}");
            let Some(producer_epoch) = checked(arguments, "--producer-epoch") else {
                return Err(failed(s, &missing("--producer-epoch"), None));
            };
            let Some(epoch) = checked::<i32>(arguments, "--coordinator-epoch") else {
                return Err(failed(s, &missing("--coordinator-epoch"), None));
            };
            // A producer whose first transaction hangs has met no coordinator: 0 is below every epoch.
            AbortSpec { partition, producer_id, producer_epoch, coordinator_epoch: epoch.max(0) }
        }
        (None, None) => {
            let text = "The transaction to abort must be identified either with --start-offset (for brokers on 3.0 or \
                        above) or with --producer-id, --producer-epoch, and --coordinator-epoch (for older brokers)";
            return Err(failed(s, text, None));
        }
    };
    let asked = s.ask(|admin, now| admin.abort_transaction(now, spec.clone()))?;
    let text = format!("Failed to abort transaction {spec}");
    let each = given(s, &text, result_of!(asked, Partitions))?;
    each.into_values().try_for_each(|result| given(s, &text, result))
}

/// The transaction that is open from this offset on.
fn open_at(s: &mut Session<'_>, partition: TopicPartition, start: i64) -> Ran<AbortSpec> {
    let asked = s.ask(|admin, now| admin.describe_producers(now, vec![partition.clone()], None))?;
    let result = result_of!(asked, Producers).remove(&partition).expect("it was asked for");
    let text = format!("Failed to validate producer state for partition {partition}");
    let producers = given(s, &text, result)?;
    let Some(found) = producers.iter().find(|producer| producer.transaction_start == Some(start)) else {
        let text = format!(
            "Could not find any open transactions starting at offset {start} on partition {partition}"
        );
        return Err(failed(s, &text, None));
    };
    Ok(AbortSpec {
        partition,
        producer_id: found.id,
        producer_epoch: found.epoch as i16,
        coordinator_epoch: found.coordinator_epoch.unwrap_or(0),
    })
}

fn force_terminate(s: &mut Session<'_>, id: &str) -> Ran {
    let asked = s.ask(|admin, now| admin.force_terminate_transaction(now, id))?;
    let result = result_of!(asked, Done).remove(id).expect("it was asked for");
    given(s, &format!("Failed to force terminate transactionalId `{id}`"), result)
}

// --- find-hanging

/// A transaction that a partition knows.
#[derive(Clone, Debug)]
struct OpenTransaction {
    partition: TopicPartition,
    producer: ProducerInfo,
}

fn find_hanging(s: &mut Session<'_>, arguments: &Arguments) -> Ran {
    let (topic, broker) = (arguments.value("--topic"), checked::<i32>(arguments, "--broker-id"));
    let partition = checked::<i32>(arguments, "--partition");
    if topic.is_none() && broker.is_none() {
        let text = "The `find-hanging` command requires either --topic or --broker-id to limit the scope of the search";
        return Err(failed(s, text, None));
    }
    if partition.is_some() && topic.is_none() {
        return Err(failed(s, "The --partition argument requires --topic to be provided", None));
    }
    let limit_ms = 60_000 * i64::from(checked::<i32>(arguments, "--max-transaction-timeout").unwrap_or(15));
    let partitions = match (topic, partition) {
        (Some(topic), Some(number)) => vec![TopicPartition::new(topic, number)],
        (Some(topic), None) => partitions_of(s, vec![topic.to_string()], broker)?,
        (None, _) => {
            let asked = s.ask(|admin, now| admin.list_topics(now, false))?;
            let topics = given(s, "Failed to list topics", result_of!(asked, Topics))?;
            partitions_of(s, topics.into_iter().map(|topic| topic.name).collect(), broker)?
        }
    };
    let candidates = open_for_long(s, partitions, broker, limit_ms)?;
    let hanging = if candidates.is_empty() { candidates } else { hanging_of(s, candidates)? };
    print_hanging(s, hanging);
    Ok(())
}

/// The partitions of topics, or those of them that a broker has a replica of.
fn partitions_of(s: &mut Session<'_>, topics: Vec<String>, broker: Option<i32>) -> Ran<Vec<TopicPartition>> {
    let mut partitions = Vec::new();
    for batch in topics.chunks(MAX_BATCH_SIZE) {
        let asked = s.ask(|admin, now| admin.describe_topics(now, batch))?;
        let mut described = result_of!(asked, TopicDescriptions);
        let text = format!("Failed to describe {} topics", batch.len());
        for name in described_order(described.keys().cloned().collect::<Vec<_>>()) {
            let topic = given(s, &text, described.remove(&name).expect("just listed"))?;
            let has = topic.partitions.iter().filter(|p| broker.is_none_or(|id| p.replicas.contains(&id)));
            partitions.extend(has.map(|p| TopicPartition::new(name.as_str(), p.partition)));
        }
    }
    Ok(partitions)
}

/// What has been open for longer than any transaction should be.
fn open_for_long(
    s: &mut Session<'_>,
    partitions: Vec<TopicPartition>,
    broker: Option<i32>,
    limit_ms: i64,
) -> Ran<Vec<OpenTransaction>> {
    let mut found = Vec::new();
    for batch in partitions.chunks(MAX_BATCH_SIZE) {
        let asked = s.ask(|admin, now| admin.describe_producers(now, batch.to_vec(), broker))?;
        let mut each = result_of!(asked, Producers);
        let whose = broker.map_or_else(|| "Optional.empty".to_string(), |id| format!("Optional[{id}]"));
        let text = format!("Failed to describe producers for {} partitions on broker {whose}", batch.len());
        let now_ms = s.now.wall_ms;
        for partition in hash_order(DEFAULT_ROOM, batch.to_vec(), hash_of_partition) {
            let Some(result) = each.remove(&partition) else { continue };
            let late = |producer: &ProducerInfo| {
                producer.transaction_start.is_some() && now_ms - producer.last_timestamp > limit_ms
            };
            let late = given(s, &text, result)?.into_iter().filter(late);
            found.extend(late.map(|producer| OpenTransaction { partition: partition.clone(), producer }));
        }
    }
    Ok(found)
}

/// Those that no coordinator will end: it does not know the producer, or not that the partition takes part.
fn hanging_of(s: &mut Session<'_>, candidates: Vec<OpenTransaction>) -> Ran<Vec<OpenTransaction>> {
    let producers: BTreeSet<i64> = candidates.iter().map(|open| open.producer.id).collect();
    let filter = TransactionFilter {
        producer_ids: producers.iter().copied().collect(),
        ..TransactionFilter::default()
    };
    let asked = s.ask(|admin, now| admin.list_transactions(now, filter))?;
    let text = format!("Failed to list transactions for {} producers", producers.len());
    let listed = given(s, &text, result_of!(asked, Transactions))?;
    let ids: BTreeMap<i64, String> = listed
        .into_values()
        .flatten()
        .filter(|listing| producers.contains(&listing.producer_id))
        .map(|listing| (listing.producer_id, listing.id))
        .collect();
    let descriptions = described(s, ids.values().cloned().collect())?;
    let expected = |open: &OpenTransaction| {
        let description = ids.get(&open.producer.id).and_then(|id| descriptions.get(id));
        description.is_some_and(|known| known.partitions.contains(&open.partition))
    };
    let hanging = candidates.into_iter().filter(|open| !expected(open));
    // Java groups them by producer.
    let hash_of_producer = |open: &OpenTransaction| (open.producer.id ^ open.producer.id >> 32) as i32;
    let mut groups: Vec<OpenTransaction> = Vec::new();
    for open in hanging {
        let after = groups.iter().rposition(|known| known.producer.id == open.producer.id);
        groups.insert(after.map_or(groups.len(), |at| at + 1), open);
    }
    Ok(hash_order(DEFAULT_ROOM, groups, hash_of_producer))
}

fn described(s: &mut Session<'_>, ids: Vec<String>) -> Ran<BTreeMap<String, TransactionDescription>> {
    let asked = s.ask(|admin, now| admin.describe_transactions(now, &ids))?;
    let AdminResult::TransactionDescriptions(each) = asked else { unreachable!("it was asked for") };
    let mut found = BTreeMap::new();
    for (id, result) in each {
        match result {
            Ok(description) => drop(found.insert(id, description)),
            // It has expired meanwhile.
            Err(error) if error.code == ErrorCode::TRANSACTIONAL_ID_NOT_FOUND => {}
            Err(error) => {
                let cause = Exception::from(error);
                let text = format!("Failed to describe {} transactions", ids.len());
                return Err(failed(s, &text, Some(cause.message_text())));
            }
        }
    }
    Ok(found)
}

fn print_hanging(s: &mut Session<'_>, hanging: Vec<OpenTransaction>) {
    let now_ms = s.now.wall_ms;
    let row = |open: OpenTransaction| {
        vec![
            open.partition.topic.to_string(),
            open.partition.partition.to_string(),
            open.producer.id.to_string(),
            open.producer.epoch.to_string(),
            open.producer.coordinator_epoch.unwrap_or(-1).to_string(),
            open.producer.transaction_start.unwrap_or(-1).to_string(),
            open.producer.last_timestamp.to_string(),
            ((now_ms - open.producer.last_timestamp) / 60_000).to_string(),
        ]
    };
    let header = [
        "Topic",
        "Partition",
        "ProducerId",
        "ProducerEpoch",
        "CoordinatorEpoch",
        "StartOffset",
        "LastTimestamp",
        "Duration(min)",
    ];
    let rows: Vec<Vec<String>> = hanging.into_iter().map(row).collect();
    s.print(table(&header, &rows));
}
