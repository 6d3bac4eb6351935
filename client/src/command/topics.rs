//! `kafka-topics` (`TopicCommand.java`).

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use wire::Uuid;
use wire::error::ErrorCode;

use super::java::{DEFAULT_ROOM, described_order, hash_of_text, hash_order};
use super::options::{Help, Options};
use super::session::{Console, Exception, Ran, Session, Stop, got, result_of};
use super::topic_filter::{TopicFilter, is_internal};
use crate::admin::{
    ConfigEntry, ConfigResource, NewPartitions, NewTopic, PAGE, PartitionDescription, Reassignment,
    TopicDescription, TopicListing, TopicOptions,
};
use crate::error::ClientError;
use crate::event::TopicPartition;

const ABOUT: &str = "This tool helps to create, delete, describe, or change a topic.";

const ALTER_CONFIGS: &str = " (To alter topic configurations, the kafka-configs tool can be used.)";

const OPTIONS: Help = Help(include_str!("help/kafka-topics.txt"));

const ACTIONS: [&str; 5] = ["alter", "create", "describe", "list", "delete"];

/// The filters of partitions; with one of them, no topic's line is printed.
const REPORTS: [&str; 4] = [
    "under-replicated-partitions",
    "under-min-isr-partitions",
    "at-min-isr-partitions",
    "unavailable-partitions",
];

pub(super) fn run(s: &mut Session<'_>) -> Ran {
    let options = Options::parse(OPTIONS, s.arguments())?;
    if options.is_empty() {
        return Err(s.usage(OPTIONS, "Create, delete, describe, or change a topic."));
    }
    s.help_or_version(&options, OPTIONS, ABOUT)?;
    check_action(s, &options)?;
    check_options(s, &options)?;
    let settings = s.settings(options.value("command-config")?)?;
    s.connect(options.required("bootstrap-server")?, settings)?;
    let ran = if options.has("create") {
        create(s, &options)
    } else if options.has("alter") {
        alter(s, &options)
    } else if options.has("list") {
        list(s, &options)
    } else if options.has("describe") {
        describe(s, &options)
    } else {
        delete(s, &options)
    };
    ran.map_err(|stop| match stop {
        Stop::Thrown(exception) => failed(s, exception),
        other => other,
    })
}

/// How a failure is told: an execution's by what caused it.
fn failed(s: &mut Session<'_>, exception: Exception) -> Stop {
    let is_execution = exception.class == "java.util.concurrent.ExecutionException";
    let exception = match exception.cause {
        Some(cause) if is_execution => *cause,
        cause => Exception { cause, ..exception },
    };
    s.line(format!("Error while executing topic command : {}", exception.message_text()));
    s.log_error(&exception.stack_trace(), "org.apache.kafka.tools.TopicCommand", None);
    Stop::Exit(1)
}

// --- options

fn check_action(s: &mut Session<'_>, options: &Options) -> Ran {
    if ACTIONS.iter().filter(|action| options.has(action)).count() == 1 {
        return Ok(());
    }
    let text = "Command must include exactly one action: --list, --describe, --create, --alter or --delete";
    Err(s.usage(OPTIONS, text))
}

fn check_options(s: &mut Session<'_>, options: &Options) -> Ran {
    if options.has("delete-config") {
        s.complain(
            "delete-config option is no longer supported and deprecated since version 4.0. The config will be fully \
             removed in future releases.",
        );
    }
    if !options.has("bootstrap-server") {
        return Err(Exception::illegal_argument("--bootstrap-server must be specified").into());
    }
    if options.has("describe") && options.has("if-exists") {
        match (options.has("topic"), options.has("topic-id")) {
            (false, false) => {
                return Err(s.usage(OPTIONS, "--topic or --topic-id is required to describe a topic"));
            }
            (true, true) => s.line(
                "Only topic id will be used when both --topic and --topic-id are specified and topicId is not \
                 Uuid.ZERO_UUID",
            ),
            _ => {}
        }
    }
    if !options.has("list") && !options.has("describe") {
        s.check(OPTIONS, options.missing(&["topic"]))?;
    }
    if options.has("alter") {
        if options.has("config") {
            let text = format!(
                "Option combination \"[[bootstrap-server], [config]]\" can't be used with option \"[alter]\"\
                 {ALTER_CONFIGS}"
            );
            return Err(s.usage(OPTIONS, &text));
        }
        s.check(OPTIONS, options.missing(&["partitions"]))?;
    }
    check_combinations(s, options)
}

fn check_combinations(s: &mut Session<'_>, options: &Options) -> Ran {
    let conflicts = |option: &str, also: &[&str], allowed: &[&str]| {
        let mut others: Vec<&str> =
            ACTIONS.iter().copied().filter(|action| !allowed.contains(action)).collect();
        others.extend(also.iter().filter(|other| !allowed.contains(other)));
        options.conflict(option, &others)
    };
    let checks = [
        conflicts("config", &[], &["alter", "create"]),
        conflicts("partitions", &[], &["alter", "create"]),
        conflicts("replication-factor", &[], &["create"]),
        conflicts("replica-assignment", &[], &["alter", "create"]),
        match options.has("create") {
            true => options.conflict("replica-assignment", &["partitions", "replication-factor"]),
            false => Ok(()),
        },
        conflicts("under-replicated-partitions", &["topics-with-overrides"], &["describe"]),
        conflicts("under-min-isr-partitions", &["topics-with-overrides"], &["describe"]),
        conflicts("at-min-isr-partitions", &["topics-with-overrides"], &["describe"]),
        conflicts("unavailable-partitions", &["topics-with-overrides"], &["describe"]),
        conflicts("topics-with-overrides", &REPORTS, &["describe"]),
        conflicts("if-exists", &[], &["alter", "delete", "describe"]),
        conflicts("if-not-exists", &[], &["create"]),
        conflicts("exclude-internal", &[], &["list", "describe"]),
    ];
    checks.into_iter().try_for_each(|check| s.check(OPTIONS, check))
}

/// `1:2,2:3`: the brokers of each partition.
fn replica_assignment(options: &Options) -> Result<Vec<Vec<i32>>, Exception> {
    let Some(text) = options.value("replica-assignment")?.filter(|text| !text.is_empty()) else {
        return Ok(Vec::new());
    };
    let mut assignment: Vec<Vec<i32>> = Vec::new();
    // Java's split drops empty parts at the end.
    for (partition, brokers) in text.trim_end_matches(',').split(',').enumerate() {
        let brokers: Vec<i32> = brokers
            .trim_end_matches(':')
            .split(':')
            .map(|id| broker_id(id.trim()))
            .collect::<Result<_, _>>()?;
        let mut seen = BTreeSet::new();
        let twice: BTreeSet<i32> = brokers.iter().copied().filter(|&id| !seen.insert(id)).collect();
        if !twice.is_empty() {
            let twice: Vec<String> = twice.iter().map(ToString::to_string).collect();
            return Err(Exception::new(
                "org.apache.kafka.tools.AdminCommandFailedException",
                format!("Partition replica lists may not contain duplicate entries: {}", twice.join(",")),
            ));
        }
        assignment.push(brokers);
        if assignment[partition].len() != assignment[0].len() {
            return Err(Exception::new(
                "org.apache.kafka.tools.AdminOperationException",
                format!(
                    "Partition {partition} has different replication factor: {:?}",
                    assignment[partition]
                ),
            ));
        }
    }
    Ok(assignment)
}

fn broker_id(text: &str) -> Result<i32, Exception> {
    text.parse().map_err(|_| {
        Exception::new("java.lang.NumberFormatException", format!("For input string: \"{text}\""))
    })
}

/// `--config name=value`, as often as wanted.
fn topic_configs(options: &Options) -> Result<BTreeMap<String, String>, Exception> {
    let mut configs = BTreeMap::new();
    for config in options.values("config") {
        let parts: Vec<&str> = config.trim_end_matches('=').split('=').map(str::trim).collect();
        let [name, value] = parts[..] else {
            return Err(Exception::illegal_argument(
                "requirement failed: Invalid topic config: all configs to be added must be in the format \"key=val\".",
            ));
        };
        configs.insert(name.to_string(), value.to_string());
    }
    Ok(configs)
}

/// The tool says at once that a quota is exceeded.
const NO_RETRY: TopicOptions = TopicOptions { retry_on_quota_violation: false };

// --- actions

fn create(s: &mut Session<'_>, options: &Options) -> Ran {
    let name = options.required("topic")?;
    let partitions = options.number::<i32>("partitions")?;
    let replication_factor = options.number::<i32>("replication-factor")?;
    let assignment = replica_assignment(options)?;
    let configs = topic_configs(options)?;
    if name.contains(['.', '_']) {
        s.line(
            "WARNING: Due to limitations in metric names, topics with a period ('.') or underscore ('_') could \
             collide. To avoid issues it is best to use either, but not both.",
        );
    }
    if replication_factor.is_some_and(|factor| !(1..=i32::from(i16::MAX)).contains(&factor)) {
        let text = "The replication factor must be between 1 and 32767 inclusive";
        return Err(Exception::illegal_argument(text).into());
    }
    if partitions.is_some_and(|partitions| partitions < 1) {
        return Err(Exception::illegal_argument("The partitions must be greater than 0").into());
    }
    let topic = NewTopic {
        name: name.to_string(),
        partitions,
        replication_factor: replication_factor.map(|factor| factor as i16),
        assignment,
        configs,
    };
    let asked = s.ask(|admin, now| admin.create_topics(now, vec![topic], false, NO_RETRY))?;
    for result in result_of!(asked, Created).into_values() {
        match result {
            Ok(_) => s.line(format!("Created topic {name}.")),
            Err(error) if error.code == ErrorCode::TOPIC_ALREADY_EXISTS && options.has("if-not-exists") => {}
            Err(error) => return Err(refused_setting(error).into()),
        }
    }
    Ok(())
}

/// Java's tool looks at values before it asks, and finds the same fault under another name.
fn refused_setting(error: ClientError) -> Exception {
    let is_value = error.code == ErrorCode::INVALID_CONFIG && error.message.starts_with("Invalid value ");
    let refusal = Exception::from(error);
    match is_value {
        true => Exception { class: "org.apache.kafka.common.config.ConfigException", ..refusal },
        false => refusal,
    }
}

fn list(s: &mut Session<'_>, options: &Options) -> Ran {
    let names = topic_names(s, options)?;
    s.line(names.join("\n"));
    Ok(())
}

fn alter(s: &mut Session<'_>, options: &Options) -> Ran {
    let count = options.number::<i32>("partitions")?.unwrap_or_default();
    let assignment = replica_assignment(options)?;
    let names = existing_topics(s, options)?;
    if names.is_empty() {
        return Ok(());
    }
    let asked = s.ask(|admin, now| admin.describe_topics(now, &names))?;
    let described = result_of!(asked, TopicDescriptions);
    let mut wanted: BTreeMap<String, NewPartitions> = BTreeMap::new();
    for (name, topic) in described {
        let assignment = if assignment.is_empty() {
            None
        } else {
            let known = got(topic).map_err(Exception::runtime)?.partitions.len();
            Some(assignment.iter().skip(known).cloned().collect())
        };
        wanted.insert(name, NewPartitions { count, assignment });
    }
    let asked = s.ask(|admin, now| admin.create_partitions(now, wanted, NO_RETRY))?;
    result_of!(asked, Done).into_values().try_for_each(got)?;
    Ok(())
}

fn delete(s: &mut Session<'_>, options: &Options) -> Ran {
    let names = existing_topics(s, options)?;
    let asked = s.ask(|admin, now| admin.delete_topics(now, &names, NO_RETRY))?;
    result_of!(asked, Done).into_values().try_for_each(got)?;
    Ok(())
}

/// All topics that the cluster tells of, by name.
fn listings(s: &mut Session<'_>, options: &Options) -> Ran<Vec<TopicListing>> {
    let internal = !options.has("exclude-internal");
    let asked = s.ask(|admin, now| admin.list_topics(now, internal))?;
    Ok(got(result_of!(asked, Topics))?)
}

/// The names that the options select, sorted.
fn topic_names(s: &mut Session<'_>, options: &Options) -> Ran<Vec<String>> {
    let exclude = options.has("exclude-internal");
    let names = listings(s, options)?.into_iter().map(|topic| topic.name);
    let filter = options.value("topic")?.map(TopicFilter::new).transpose()?;
    Ok(match filter {
        Some(filter) => names.filter(|name| filter.allows(name, exclude)).collect(),
        None => names.filter(|name| !(exclude && is_internal(name))).collect(),
    })
}

/// The same; a topic that is named must be there.
fn existing_topics(s: &mut Session<'_>, options: &Options) -> Ran<Vec<String>> {
    let names = topic_names(s, options)?;
    let asked = options.value("topic")?.filter(|topic| !topic.is_empty());
    match asked {
        Some(topic) if names.is_empty() && !options.has("if-exists") => {
            let text = format!("Topic '{topic}' does not exist as expected");
            Err(Exception::illegal_argument(text).into())
        }
        _ => Ok(names),
    }
}

// --- describe

fn describe(s: &mut Session<'_>, options: &Options) -> Ran {
    let limit = options.number::<i32>("partition-size-limit-per-response")?.unwrap_or(PAGE);
    let id = match options.value("topic-id")? {
        Some(text) => Some(parse_topic_id(text)?).filter(|id| !id.is_zero()),
        None => None,
    };
    let names = match id {
        Some(id) => topics_of_id(s, options, id)?,
        None => existing_topics(s, options)?,
    };
    let asked = s.ask(|admin, now| admin.describe_topics_by_pages(now, &names, limit))?;
    let mut described = BTreeMap::new();
    for (name, topic) in result_of!(asked, TopicDescriptions) {
        let mut topic = got(topic)?;
        if id.is_some() {
            // Topics are described by id through Metadata, which knows no eligible leader replicas.
            topic.partitions.iter_mut().for_each(|p| (p.elr, p.last_known_elr) = (None, None));
        }
        described.insert(name, topic);
    }
    let order = described_order(described.keys().cloned());

    let resources: Vec<ConfigResource> = order.iter().map(ConfigResource::topic).collect();
    let configs_asked = s.begin(|admin, now| admin.describe_configs(now, &resources, false, false));
    let asked = s.ask(|admin, now| admin.describe_cluster(now, false))?;
    let live: Vec<i32> = got(result_of!(asked, Cluster))?.nodes.iter().map(|node| node.id).collect();
    let partitions = described
        .values()
        .flat_map(|topic| topic.partitions.iter().map(|p| TopicPartition::new(&*topic.name, p.partition)));
    let reassignments = reassignments(s, partitions.collect())?;
    let mut configs = result_of!(s.wait(configs_asked)?, Configs);

    let report = Report::new(options, live, reassignments);
    for (name, resource) in order.iter().zip(&resources) {
        let config = got(configs.remove(resource).expect("every resource has a result"))?;
        report.print(s, &described[name], &config)?;
    }
    Ok(())
}

fn parse_topic_id(text: &str) -> Result<Uuid, Exception> {
    /// 16 bytes in base64, padded.
    const LONGEST: usize = 24;
    Uuid::parse(text).ok_or_else(|| {
        Exception::illegal_argument(match text.char_indices().nth(LONGEST) {
            Some((end, _)) => {
                let prefix = &text[..end];
                format!("Input string with prefix `{prefix}` is too long to be decoded as a base64 UUID")
            }
            None => format!(
                "Input string `{text}` decoded as {} bytes, which is not equal to the expected 16 bytes of a \
                 base64-encoded UUID",
                text.trim_end_matches('=').len() * 3 / 4
            ),
        })
    })
}

fn topics_of_id(s: &mut Session<'_>, options: &Options, id: Uuid) -> Ran<Vec<String>> {
    let found = listings(s, options)?.into_iter().find(|topic| topic.id == id);
    match found {
        Some(topic) => Ok(vec![topic.name]),
        None if options.has("if-exists") => Ok(Vec::new()),
        None => {
            let text = format!("TopicId '{}' does not exist as expected", id.to_text());
            Err(Exception::illegal_argument(text).into())
        }
    }
}

/// The reassignments under way. A cluster that cannot tell has none.
fn reassignments(
    s: &mut Session<'_>,
    partitions: Vec<TopicPartition>,
) -> Ran<BTreeMap<TopicPartition, Reassignment>> {
    let asked = s.ask(|admin, now| admin.list_partition_reassignments(now, Some(partitions)))?;
    match result_of!(asked, Reassignments) {
        Ok(ongoing) => Ok(ongoing),
        Err(error)
            if matches!(
                error.code,
                ErrorCode::UNSUPPORTED_VERSION | ErrorCode::CLUSTER_AUTHORIZATION_FAILED
            ) =>
        {
            Ok(BTreeMap::new())
        }
        Err(error) => Err(Exception::runtime(Exception::execution(error)).into()),
    }
}

/// What is printed of topics and partitions.
struct Report<'a> {
    options: &'a Options,
    live: Vec<i32>,
    reassignments: BTreeMap<TopicPartition, Reassignment>,
    filtered: bool,
}

impl<'a> Report<'a> {
    fn new(
        options: &'a Options,
        live: Vec<i32>,
        reassignments: BTreeMap<TopicPartition, Reassignment>,
    ) -> Report<'a> {
        let filtered = REPORTS.iter().any(|report| options.has(report));
        Report { options, live, reassignments, filtered }
    }

    fn print(&self, s: &mut Session<'_>, topic: &TopicDescription, config: &[ConfigEntry]) -> Ran {
        let overridden: Vec<&ConfigEntry> = in_java_order(config);
        if !self.filtered && (!self.options.has("topics-with-overrides") || !overridden.is_empty()) {
            let configs: Vec<String> = overridden
                .iter()
                .map(|entry| format!("{}={}", entry.name, entry.value.as_deref().unwrap_or("null")))
                .collect();
            s.line(self.topic_line(topic, &configs.join(",")));
        }
        if self.options.has("topics-with-overrides") {
            return Ok(());
        }
        let mut partitions: Vec<&PartitionDescription> = topic.partitions.iter().collect();
        partitions.sort_by_key(|partition| partition.partition);
        for partition in partitions {
            let key = TopicPartition::new(&*topic.name, partition.partition);
            let reassignment = self.reassignments.get(&key);
            if !self.filtered || self.selects(partition, reassignment, config)? {
                s.line(partition_line(&topic.name, partition, reassignment));
            }
        }
        Ok(())
    }

    fn topic_line(&self, topic: &TopicDescription, configs: &str) -> String {
        let first = topic.partitions.iter().min_by_key(|partition| partition.partition);
        let factor = first.map_or(0, |partition| {
            let key = TopicPartition::new(&*topic.name, partition.partition);
            replication_factor(partition, self.reassignments.get(&key))
        });
        let id =
            if topic.id.is_zero() { String::new() } else { format!("\tTopicId: {}", topic.id.to_text()) };
        format!(
            "Topic: {}{id}\tPartitionCount: {}\tReplicationFactor: {factor}\tConfigs: {configs}",
            topic.name,
            topic.partitions.len()
        )
    }

    fn selects(
        &self,
        partition: &PartitionDescription,
        reassignment: Option<&Reassignment>,
        config: &[ConfigEntry],
    ) -> Result<bool, Exception> {
        let in_sync = partition.isr.len();
        let wanted = |report: &str| self.options.has(report);
        if wanted("under-replicated-partitions") && replication_factor(partition, reassignment) > in_sync {
            return Ok(true);
        }
        let alive = partition.leader.is_some_and(|leader| self.live.contains(&leader));
        if wanted("unavailable-partitions") && !alive {
            return Ok(true);
        }
        if !wanted("under-min-isr-partitions") && !wanted("at-min-isr-partitions") {
            return Ok(false);
        }
        let min = min_in_sync(config)?;
        let under = partition.leader.is_none() || in_sync < min;
        Ok(wanted("under-min-isr-partitions") && under || wanted("at-min-isr-partitions") && in_sync == min)
    }
}

/// What is set, in the order of Java's map of a topic's settings.
fn in_java_order(config: &[ConfigEntry]) -> Vec<&ConfigEntry> {
    const DEFAULT: i8 = 5;
    let all = hash_order(DEFAULT_ROOM, config, |entry| hash_of_text(&entry.name));
    all.into_iter().filter(|entry| entry.source != DEFAULT).collect()
}

fn min_in_sync(config: &[ConfigEntry]) -> Result<usize, Exception> {
    let entry = config.iter().find(|entry| entry.name == "min.insync.replicas");
    let value = entry.and_then(|entry| entry.value.as_deref());
    value.and_then(|value| value.parse().ok()).ok_or_else(|| {
        let text = format!("Cannot parse {}", value.unwrap_or("null"));
        Exception::new("java.lang.NumberFormatException", text)
    })
}

/// The replicas without those that a reassignment adds.
fn replication_factor(partition: &PartitionDescription, reassignment: Option<&Reassignment>) -> usize {
    let moves = |reassignment: &&Reassignment| {
        let changing = |id| reassignment.adding.contains(id) || reassignment.removing.contains(id);
        partition.replicas.iter().any(changing)
    };
    match reassignment.filter(moves) {
        Some(reassignment) => reassignment.replicas.len().saturating_sub(reassignment.adding.len()),
        None => partition.replicas.len(),
    }
}

fn partition_line(
    topic: &str,
    partition: &PartitionDescription,
    reassignment: Option<&Reassignment>,
) -> String {
    let leader = partition.leader.map_or("none".to_string(), |leader| leader.to_string());
    let mut line = format!(
        "\tTopic: {topic}\tPartition: {}\tLeader: {leader}\tReplicas: {}\tIsr: {}",
        partition.partition,
        ids(&partition.replicas),
        ids(&partition.isr)
    );
    if let Some(reassignment) = reassignment {
        line.push_str(&format!(
            "\tAdding Replicas: {}\tRemoving Replicas: {}",
            ids(&reassignment.adding),
            ids(&reassignment.removing)
        ));
    }
    for (title, replicas) in [("Elr", &partition.elr), ("LastKnownElr", &partition.last_known_elr)] {
        let replicas = replicas.as_ref().map_or("N/A".to_string(), |replicas| ids(replicas));
        line.push_str(&format!("\t{title}: {replicas}"));
    }
    line
}

fn ids(all: &[i32]) -> String {
    let all: Vec<String> = all.iter().map(ToString::to_string).collect();
    all.join(",")
}
