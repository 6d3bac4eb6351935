//! `kafka-configs` (`ConfigCommand.java`): topics, brokers, the defaults of brokers, what else has settings of the same
//! kind, and the quotas of clients, users and addresses.

mod quotas;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use super::java::{DEFAULT_ROOM, hash_of_text, hash_order};
use super::options::{Help, Options};
use super::session::{Console, Exception, Ran, Session, Stop, got, result_of};
use crate::admin::{AlterConfig, AlterOp, ConfigEntry, ConfigResource};

const ABOUT: &str = "This tool helps to manipulate and describe entity config for a topic, client, user, broker, ip, \
                     client-metrics or group";

const OPTIONS: Help = Help(include_str!("help/kafka-configs.txt"));

/// The types that there are, in the order in which the tool names them.
const TYPES: [&str; 8] =
    ["topics", "clients", "users", "brokers", "ips", "client-metrics", "groups", "broker-loggers"];

/// The options that name an entity of a type.
const NAMED: [(&str, &str); 8] = [
    ("topic", "topics"),
    ("client", "clients"),
    ("user", "users"),
    ("broker", "brokers"),
    ("broker-logger", "broker-loggers"),
    ("ip", "ips"),
    ("client-metrics", "client-metrics"),
    ("group", "groups"),
];

/// The options that stand for the default of a type.
const DEFAULTS: [(&str, &str); 4] = [
    ("client-defaults", "clients"),
    ("user-defaults", "users"),
    ("broker-defaults", "brokers"),
    ("ip-defaults", "ips"),
];

pub(super) fn run(s: &mut Session<'_>) -> Ran {
    execute(s).map_err(|stop| match stop {
        Stop::Thrown(exception) => failed(s, &exception),
        other => other,
    })
}

/// What the command line's author can mend is told in one line, the rest with its stack trace.
fn failed(s: &mut Session<'_>, exception: &Exception) -> Stop {
    let own = matches!(
        exception.class,
        "java.lang.IllegalArgumentException" | "org.apache.kafka.common.errors.InvalidConfigurationException"
    );
    if own || exception.class.starts_with("joptsimple.") {
        s.complain(exception.message_text());
    } else {
        let words = s.arguments().join(" ");
        s.complain(format!("Error while executing config command with args '{words}'"));
        s.print_both(String::new(), exception.stack_trace());
    }
    Stop::Exit(1)
}

fn invalid(text: impl Into<String>) -> Exception {
    Exception::illegal_argument(text)
}

fn execute(s: &mut Session<'_>) -> Ran {
    let options = Options::parse(OPTIONS, s.arguments())?;
    s.help_or_version(&options, OPTIONS, ABOUT)?;
    if options.has("alter") == options.has("describe") {
        return Err(s.usage(OPTIONS, "Command must include exactly one action: --describe, --alter"));
    }
    s.check(OPTIONS, options.conflict("describe", &["add-config", "delete-config"]))?;
    let entity = Entity::read(&options)?;
    let settings = s.settings(options.value("command-config")?)?;
    if options.has("bootstrap-controller") {
        s.complain("--bootstrap-controller is not supported: use --bootstrap-server.");
        return Err(Stop::Exit(1));
    }
    let bootstrap = options.required("bootstrap-server")?;
    s.connect(bootstrap, settings)?;
    if quotas::have(&entity.kinds) {
        return if options.has("alter") {
            quotas::alter(s, &options, &entity)
        } else {
            quotas::describe(s, &entity)
        };
    }
    if options.has("alter") { alter(s, &options, &entity) } else { describe(s, &options, &entity) }
}

/// What the command is about.
struct Entity {
    /// `topics`, `brokers`, …
    kind: String,
    /// Empty for the default; nothing for all of the kind.
    name: Option<String>,
    /// All kinds and names: a user and a client may be given together.
    kinds: Vec<String>,
    names: Vec<String>,
}

impl Entity {
    fn read(options: &Options) -> Result<Entity, Exception> {
        let kinds = Entity::kinds(options);
        Entity::check_kinds(options, &kinds)?;
        let names = Entity::names(options)?;
        Entity::check_names(options, &kinds, &names)?;
        if options.has("alter") {
            check_changes(options)?;
            if kinds.len() != names.len() {
                return Err(invalid("An entity name must be specified for every entity type"));
            }
        }
        Ok(Entity { kind: kinds[0].clone(), name: names.first().cloned(), kinds, names })
    }

    fn kinds(options: &Options) -> Vec<String> {
        let mut kinds: Vec<String> = options.values("entity-type").map(String::from).collect();
        let flags = NAMED.iter().chain(&DEFAULTS).filter(|(option, _)| options.has(option));
        kinds.extend(flags.map(|(_, kind)| kind.to_string()));
        kinds
    }

    fn names(options: &Options) -> Result<Vec<String>, Exception> {
        let mut names: Vec<String> = options.values("entity-name").map(String::from).collect();
        if options.has("entity-default") {
            names.push(String::new());
        }
        for (option, _) in NAMED {
            if options.has(option) {
                names.push(options.required(option)?.to_string());
            }
        }
        names.extend(DEFAULTS.iter().filter(|(option, _)| options.has(option)).map(|_| String::new()));
        Ok(names)
    }

    fn check_kinds(options: &Options, kinds: &[String]) -> Result<(), Exception> {
        let distinct: BTreeSet<&String> = kinds.iter().collect();
        if distinct.len() != kinds.len() {
            let mut seen = BTreeSet::new();
            let twice: Vec<&str> =
                kinds.iter().filter(|kind| !seen.insert(*kind)).map(String::as_str).collect();
            return Err(invalid(format!("Duplicate entity type(s) specified: {}", twice.join(","))));
        }
        if let Some(unknown) = kinds.iter().find(|kind| !TYPES.contains(&kind.as_str())) {
            return Err(invalid(format!(
                "Invalid entity type {unknown}, the entity type must be one of {} with a --bootstrap-server or \
                 --bootstrap-controller argument",
                TYPES.join(", ")
            )));
        }
        if kinds.is_empty() {
            return Err(invalid("At least one entity type must be specified"));
        }
        let pair =
            kinds.len() == 2 && ["users", "clients"].iter().all(|k| kinds.iter().any(|kind| kind == k));
        if kinds.len() > 1 && !pair {
            return Err(invalid("Only 'users' and 'clients' entity types may be specified together"));
        }
        let general = ["entity-name", "entity-type", "entity-default"].iter().any(|o| options.has(o));
        let specific = NAMED.iter().chain(&DEFAULTS).any(|(option, _)| options.has(option));
        if general && specific {
            return Err(invalid(
                "--entity-{type,name,default} should not be used in conjunction with specific entity flags",
            ));
        }
        match (options.has("bootstrap-server"), options.has("bootstrap-controller")) {
            (false, false) => Err(invalid(
                "One of the required --bootstrap-server or --bootstrap-controller arguments must be specified",
            )),
            (true, true) => {
                Err(invalid("Only one of --bootstrap-server or --bootstrap-controller can be specified"))
            }
            _ => Ok(()),
        }
    }

    fn check_names(options: &Options, kinds: &[String], names: &[String]) -> Result<(), Exception> {
        let of = |some: &[&str]| kinds.iter().any(|kind| some.contains(&kind.as_str()));
        let listed = kinds.join(",");
        let named = names.iter().any(|name| !name.is_empty());
        let default = names.iter().any(String::is_empty);
        if of(&["brokers", "broker-loggers"])
            && let Some(wrong) = names.iter().find(|name| !name.is_empty() && name.parse::<i32>().is_err())
        {
            return Err(invalid(format!(
                "The entity name for {} must be a valid integer broker id, but it is: {wrong}",
                kinds[0]
            )));
        }
        let has_defaults = of(&["users", "clients", "brokers", "ips"]);
        if options.has("describe") {
            if options.has("entity-default") && !has_defaults {
                return Err(invalid(format!(
                    "--entity-default must not be specified with --describe of {listed}"
                )));
            }
            if of(&["broker-loggers"]) && !named {
                return Err(invalid(format!("An entity name must be specified with --describe of {listed}")));
            }
            return Ok(());
        }
        match (has_defaults, named, default) {
            (true, false, false) => Err(invalid(
                "An entity-name or default entity must be specified with --alter of users, clients, brokers or ips",
            )),
            (false, false, _) => {
                Err(invalid(format!("An entity name must be specified with --alter of {listed}")))
            }
            _ => Ok(()),
        }
    }

    /// The resource, and the source of what was set for it.
    fn resource(&self, name: &str) -> (ConfigResource, Option<i8>) {
        let (kind, source) = match self.kind.as_str() {
            "topics" => (2, Some(1)),
            "brokers" if name.is_empty() => (4, Some(3)),
            "brokers" => (4, Some(2)),
            "broker-loggers" => (8, None),
            "client-metrics" => (16, Some(7)),
            _ => (32, Some(8)),
        };
        (ConfigResource { kind, name: name.into() }, source)
    }

    /// `topics` without its s.
    fn singular(&self) -> &str {
        &self.kind[..self.kind.len() - 1]
    }
}

fn check_changes(options: &Options) -> Result<(), Exception> {
    match (options.has("add-config"), options.has("add-config-file"), options.has("delete-config")) {
        (true, true, _) => Err(invalid("Only one of --add-config or --add-config-file must be specified")),
        (false, false, false) => Err(invalid(
            "At least one of --add-config, --add-config-file, or --delete-config must be specified with --alter",
        )),
        _ => Ok(()),
    }
}

// --- describe

fn describe(s: &mut Session<'_>, options: &Options, entity: &Entity) -> Ran {
    let all = options.has("all");
    if let Some(name) = entity.name.as_deref().filter(|name| !name.is_empty())
        && !exists(s, entity, name)?
    {
        let kind = entity.singular();
        s.line(format!("The {kind} '{name}' doesn't exist and doesn't have dynamic config."));
        return Ok(());
    }
    for name in described(s, entity)? {
        let title = match (name.is_empty(), all) {
            (true, _) => format!("Default configs for {} in the cluster are:", entity.kind),
            (false, true) => format!("All configs for {} {name} are:", entity.singular()),
            (false, false) => format!("Dynamic configs for {} {name} are:", entity.singular()),
        };
        s.line(title);
        for entry in entries(s, entity, &name, true, all)? {
            s.line(entry_line(&entry));
        }
    }
    Ok(())
}

/// Whether there is such a thing, or at least settings for it.
fn exists(s: &mut Session<'_>, entity: &Entity, name: &str) -> Ran<bool> {
    match entity.kind.as_str() {
        "topics" => {
            validate_topic(name)?;
            let asked = s.ask(|admin, now| admin.list_topics(now, true))?;
            Ok(got(result_of!(asked, Topics))?.iter().any(|topic| topic.name == name))
        }
        "brokers" | "broker-loggers" => {
            let asked = s.ask(|admin, now| admin.describe_cluster(now, false))?;
            Ok(got(result_of!(asked, Cluster))?.nodes.iter().any(|node| node.id.to_string() == name))
        }
        "groups" => {
            let asked = s.ask(|admin, now| admin.list_groups(now, &[], &[]))?;
            let listed = got(result_of!(asked, Groups))?.iter().any(|group| group.id == name);
            Ok(listed || is_resource(s, entity, name)?)
        }
        _ => is_resource(s, entity, name),
    }
}

fn is_resource(s: &mut Session<'_>, entity: &Entity, name: &str) -> Ran<bool> {
    let kind = entity.resource("").0.kind;
    let asked = s.ask(|admin, now| admin.list_config_resources(now, &[kind]))?;
    Ok(got(result_of!(asked, ConfigResources))?.iter().any(|r| r.kind == kind && r.name == name))
}

/// The names of what is to be described.
fn described(s: &mut Session<'_>, entity: &Entity) -> Ran<Vec<String>> {
    if let Some(name) = &entity.name {
        return Ok(vec![name.clone()]);
    }
    match entity.kind.as_str() {
        "topics" => {
            let asked = s.ask(|admin, now| admin.list_topics(now, true))?;
            let names = got(result_of!(asked, Topics))?.into_iter().map(|topic| topic.name);
            Ok(hash_order(DEFAULT_ROOM, names, |name| hash_of_text(name)))
        }
        "brokers" => {
            let asked = s.ask(|admin, now| admin.describe_cluster(now, false))?;
            let nodes = got(result_of!(asked, Cluster))?.nodes;
            Ok(nodes.iter().map(|node| node.id.to_string()).chain([String::new()]).collect())
        }
        _ => {
            let kind = entity.resource("").0.kind;
            let asked = s.ask(|admin, now| admin.list_config_resources(now, &[kind]))?;
            let resources = got(result_of!(asked, ConfigResources))?;
            Ok(resources.into_iter().filter(|r| r.kind == kind).map(|r| r.name).collect())
        }
    }
}

/// The settings of one resource by name: all, or those that were set for it.
fn entries(
    s: &mut Session<'_>,
    entity: &Entity,
    name: &str,
    synonyms: bool,
    all: bool,
) -> Ran<Vec<ConfigEntry>> {
    let (resource, source) = entity.resource(name);
    let asked =
        s.ask(|admin, now| admin.describe_configs(now, core::slice::from_ref(&resource), synonyms, false))?;
    let mut entries =
        got(result_of!(asked, Configs).remove(&resource).expect("every resource has a result"))?;
    entries.retain(|entry| all || source.is_none_or(|source| entry.source == source));
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// `Topic.validate`.
fn validate_topic(name: &str) -> Result<(), Exception> {
    let why = match name {
        "." | ".." => format!("Topic name is invalid: '{name}' is not allowed"),
        _ if name.len() > 249 => {
            format!("Topic name is invalid: the length of '{name}' is longer than the max allowed length 249")
        }
        _ if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) => format!(
            "Topic name is invalid: '{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' \
             and '-'"
        ),
        _ => return Ok(()),
    };
    Err(Exception::new("org.apache.kafka.common.errors.InvalidTopicException", why))
}

fn entry_line(entry: &ConfigEntry) -> String {
    let or_null = |value: &Option<String>| value.clone().unwrap_or_else(|| "null".into());
    let synonyms: Vec<String> = entry
        .synonyms
        .iter()
        .map(|(name, value, source)| format!("{}:{name}={}", source_name(*source), or_null(value)))
        .collect();
    format!(
        "  {}={} sensitive={} synonyms={{{}}}",
        entry.name,
        or_null(&entry.value),
        entry.sensitive,
        synonyms.join(", ")
    )
}

fn source_name(source: i8) -> &'static str {
    match source {
        1 => "DYNAMIC_TOPIC_CONFIG",
        2 => "DYNAMIC_BROKER_CONFIG",
        3 => "DYNAMIC_DEFAULT_BROKER_CONFIG",
        4 => "STATIC_BROKER_CONFIG",
        5 => "DEFAULT_CONFIG",
        6 => "DYNAMIC_BROKER_LOGGER_CONFIG",
        7 => "DYNAMIC_CLIENT_METRICS_CONFIG",
        8 => "DYNAMIC_GROUP_CONFIG",
        _ => "UNKNOWN",
    }
}

// --- alter

fn alter(s: &mut Session<'_>, options: &Options, entity: &Entity) -> Ran {
    let added = added_configs(s, options)?;
    let removed = removed_configs(options);
    let name = entity.name.clone().unwrap_or_default();
    let sets =
        added.into_iter().map(|(name, value)| AlterConfig { name, op: AlterOp::Set, value: Some(value) });
    let deletes =
        removed.into_iter().map(|name| AlterConfig { name, op: AlterOp::Delete, value: Some(String::new()) });
    let changes = BTreeMap::from([(entity.resource(&name).0, deletes.chain(sets).collect())]);
    let asked = s.ask(|admin, now| admin.incremental_alter_configs(now, changes, false))?;
    result_of!(asked, ConfigsAltered).into_values().try_for_each(got)?;
    updated(s, entity);
    Ok(())
}

fn updated(s: &mut Session<'_>, entity: &Entity) {
    s.line(match entity.name.as_deref().unwrap_or_default() {
        "" => format!("Completed updating default config for {} in the cluster.", entity.kind),
        name => format!("Completed updating config for {} {name}.", entity.singular()),
    });
}

fn removed_configs(options: &Options) -> Vec<String> {
    let names = options.values("delete-config").flat_map(|names| names.split(','));
    names.map(|name| name.trim().to_string()).collect()
}

fn added_configs(s: &Session<'_>, options: &Options) -> Result<BTreeMap<String, String>, Exception> {
    let mut added = s.settings(options.value("add-config-file")?)?;
    for config in options.value("add-config")?.map(outside_brackets).unwrap_or_default() {
        let Some((name, value)) = config.split_once('=').filter(|(_, value)| !has_bare_equals(value)) else {
            return Err(invalid(
                "requirement failed: Invalid entity config: all configs to be added must be in the format \"key=val\" or  \
                 \"key=[val1,val2]\" to group values which contain commas.",
            ));
        };
        let value = value.replace(['[', ']'], "");
        added.insert(name.trim().to_string(), value.trim().to_string());
    }
    let legal =
        |name: &&String| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    match added.keys().find(|name| !legal(name)) {
        Some(wrong) => Err(invalid(format!("Invalid character found for config key: {wrong}"))),
        None => Ok(added),
    }
}

/// The parts between the commas that are not within brackets.
fn outside_brackets(text: &str) -> Vec<&str> {
    let mut depth = 0;
    text.split(|c: char| {
        match c {
            '[' => depth += 1,
            ']' => depth -= 1,
            _ => {}
        }
        c == ',' && depth <= 0
    })
    .collect()
}

/// Whether there is an equals sign that is not within brackets.
fn has_bare_equals(value: &str) -> bool {
    let outside = value.split('[').next().unwrap_or_default();
    let after = value.rsplit(']').next().filter(|_| value.contains(']')).unwrap_or_default();
    outside.contains('=') || after.contains('=')
}
