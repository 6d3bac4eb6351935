//! `kafka-metadata-quorum` (`MetadataQuorumCommand.java`).

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use wire::Uuid;
use wire::drive::Endpoint;

use super::arguments::{Arg, Arguments, Parser, Unread, arg, misused, switch};
use super::java::{properties, table};
use super::session::{Console, Exception, Ran, Session, Stop, got, result_of};
use crate::admin::{QuorumInfo, QuorumReplica};
use crate::config::Settings;

const CONNECTION: [&str; 2] = ["--bootstrap-server", "--bootstrap-controller"];

const TOOL: Parser = Parser {
    name: "",
    args: &[
        arg("--bootstrap-server", None),
        arg("--bootstrap-controller", None),
        arg("--command-config", None),
    ],
    one_of: &CONNECTION,
    usage: "kafka-metadata-quorum [-h] [--command-config COMMAND_CONFIG]
                             (--bootstrap-server BOOTSTRAP_SERVER |
                             --bootstrap-controller BOOTSTRAP_CONTROLLER)
                             {describe,add-controller,remove-controller}
                             ...",
};

const DESCRIBE: &[Arg] = &[switch("--status"), switch("--replication"), switch("--human-readable")];

const COMMANDS: &[Parser] = &[
    Parser {
        name: "describe",
        args: DESCRIBE,
        one_of: &[],
        usage: "kafka-metadata-quorum (--bootstrap-server BOOTSTRAP_SERVER |
                             --bootstrap-controller BOOTSTRAP_CONTROLLER)
                             describe [-h] [--status] [--replication]
                             [--human-readable]",
    },
    Parser {
        name: "add-controller",
        args: &[switch("--dry-run")],
        one_of: &[],
        usage: "kafka-metadata-quorum (--bootstrap-server BOOTSTRAP_SERVER |
                             --bootstrap-controller BOOTSTRAP_CONTROLLER)
                             add-controller [-h] [--dry-run]",
    },
    Parser {
        name: "remove-controller",
        args: &[
            arg("--controller-id", Some("-i")),
            arg("--controller-directory-id", Some("-d")),
            switch("--dry-run"),
        ],
        one_of: &[],
        usage: "kafka-metadata-quorum (--bootstrap-server BOOTSTRAP_SERVER |
                             --bootstrap-controller BOOTSTRAP_CONTROLLER)
                             remove-controller [-h]
                             --controller-id CONTROLLER_ID
                             --controller-directory-id CONTROLLER_DIRECTORY_ID
                             [--dry-run]",
    },
];

/// What the tool says without a stack trace.
fn terse(s: &mut Session<'_>, text: &str) -> Stop {
    s.complain(text);
    Stop::Exit(1)
}

pub(super) fn run(s: &mut Session<'_>) -> Ran {
    let words = s.arguments();
    let arguments = match Arguments::parse("kafka-metadata-quorum", &TOOL, COMMANDS, words) {
        Ok(arguments) => arguments,
        Err(unread) => return Err(s.unread(unread)),
    };
    let controllers = arguments.has("--bootstrap-controller");
    let connection = if controllers { "--bootstrap-controller" } else { "--bootstrap-server" };
    let bootstrap = arguments.value(connection).unwrap_or_default();
    let config = arguments.value("--command-config");
    if let Some(path) = config.filter(|path| s.file(path).is_err()) {
        return Err(terse(s, &format!("Properties file {path} does not exists!")));
    }
    let settings = s.settings(config)?;
    s.connect_to(controllers, bootstrap, settings.clone())?;
    let dry_run = arguments.has("--dry-run");
    match arguments.command {
        "add-controller" if config.is_none() => {
            let text = "You must supply the configuration file of the controller you are adding when using \
                        add-controller.";
            return Err(terse(s, text));
        }
        "add-controller" => return add_controller(s, &settings, dry_run),
        "remove-controller" => return remove_controller(s, &arguments, dry_run),
        _ => {}
    }
    let human_readable = arguments.has("--human-readable");
    match (arguments.has("--status"), arguments.has("--replication")) {
        (true, true) => {
            let text = "Only one of --status or --replication should be specified with describe sub-command";
            Err(terse(s, text))
        }
        (false, true) => replication(s, human_readable),
        (true, false) if human_readable => {
            Err(terse(s, "The option --human-readable is only supported along with --replication"))
        }
        (true, false) => status(s),
        (false, false) => {
            Err(terse(s, "One of --status or --replication must be specified with describe sub-command"))
        }
    }
}

impl Session<'_> {
    /// What argparse4j does about a command line that it cannot read.
    pub(super) fn unread(&mut self, unread: Unread) -> Stop {
        match unread {
            Unread::Error { text, .. } => {
                self.print_both(String::new(), text);
                Stop::Exit(1)
            }
            Unread::Help(text) => {
                self.print(text);
                Stop::Exit(0)
            }
        }
    }
}

fn quorum(s: &mut Session<'_>) -> Ran<QuorumInfo> {
    let asked = s.ask(|admin, now| admin.describe_quorum(now))?;
    Ok(got(result_of!(asked, Quorum))?)
}

fn leader(quorum: &QuorumInfo) -> Result<&QuorumReplica, Exception> {
    quorum
        .voters
        .iter()
        .find(|voter| voter.id == quorum.leader)
        .ok_or_else(|| Exception::new("java.util.NoSuchElementException", "No value present"))
}

fn status(s: &mut Session<'_>) -> Ran {
    let asked = s.ask(|admin, now| admin.describe_cluster(now, false))?;
    let cluster_id = got(result_of!(asked, Cluster))?.cluster_id;
    let quorum = quorum(s)?;
    let leader = leader(&quorum)?;
    let slowest = quorum.voters.iter().min_by_key(|voter| voter.log_end_offset).unwrap_or(leader);
    let lag_ms = if slowest.id == leader.id {
        0
    } else if leader.last_caught_up_ms >= 0 && slowest.last_caught_up_ms >= 0 {
        leader.last_caught_up_ms - slowest.last_caught_up_ms
    } else {
        -1
    };
    let lines = [
        ("ClusterId", cluster_id),
        ("LeaderId", quorum.leader.to_string()),
        ("LeaderEpoch", quorum.leader_epoch.to_string()),
        ("HighWatermark", quorum.high_watermark.to_string()),
        ("MaxFollowerLag", (leader.log_end_offset - slowest.log_end_offset).to_string()),
        ("MaxFollowerLagTimeMs", lag_ms.to_string()),
        ("CurrentVoters", replicas(&quorum, &quorum.voters)),
        ("CurrentObservers", replicas(&quorum, &quorum.observers)),
    ];
    for (title, value) in lines {
        s.line(format!("{:24}{value}", format!("{title}:")));
    }
    Ok(())
}

/// `[{"id": 101, "endpoints": ["CONTROLLER://localhost:19192"]}]`
fn replicas(quorum: &QuorumInfo, replicas: &[QuorumReplica]) -> String {
    let replica = |replica: &QuorumReplica| {
        let mut fields = vec![format!("\"id\": {}", replica.id)];
        if !replica.directory_id.is_zero() {
            fields.push(format!("\"directoryId\": \"{}\"", replica.directory_id.to_text()));
        }
        let endpoints = quorum.nodes.get(&replica.id).filter(|endpoints| !endpoints.is_empty());
        if let Some(endpoints) = endpoints {
            let endpoint = endpoints.iter().map(|(name, endpoint)| format!("\"{name}://{endpoint}\""));
            fields.push(format!("\"endpoints\": [{}]", endpoint.collect::<Vec<_>>().join(", ")));
        }
        format!("{{{}}}", fields.join(", "))
    };
    format!("[{}]", replicas.iter().map(replica).collect::<Vec<_>>().join(", "))
}

fn replication(s: &mut Session<'_>, human_readable: bool) -> Ran {
    let quorum = quorum(s)?;
    let leader = leader(&quorum)?;
    let followers = quorum.voters.iter().filter(|voter| voter.id != quorum.leader);
    let all = [(leader, "Leader")]
        .into_iter()
        .chain(followers.map(|voter| (voter, "Follower")))
        .chain(quorum.observers.iter().map(|observer| (observer, "Observer")));
    let mut rows = Vec::new();
    for (replica, status) in all {
        let time = |ms: i64, what: &str| match ms {
            ..0 => Ok("-1".to_string()),
            _ if human_readable => ago(s.now.wall_ms, ms, what),
            _ => Ok(ms.to_string()),
        };
        rows.push(vec![
            replica.id.to_string(),
            replica.directory_id.to_text(),
            replica.log_end_offset.to_string(),
            (leader.log_end_offset - replica.log_end_offset).to_string(),
            time(replica.last_fetch_ms, "last fetch")?,
            time(replica.last_caught_up_ms, "last caught up")?,
            status.to_string(),
        ]);
    }
    let header = [
        "NodeId",
        "DirectoryId",
        "LogEndOffset",
        "Lag",
        "LastFetchTimestamp",
        "LastCaughtUpTimestamp",
        "Status",
    ];
    s.print(table(&header, &rows));
    Ok(())
}

// --- changes of the voters

/// Adds the controller that has this `server.properties`: its directory's id is read from the disk on which the tool
/// runs, which is the new controller's.
fn add_controller(s: &mut Session<'_>, properties: &Settings, dry_run: bool) -> Ran {
    let id = controller_id(properties).map_err(|why| terse(s, &why))?;
    let dir = metadata_directory(properties).map_err(|why| terse(s, &why))?;
    let directory_id = directory_id(s, &dir).map_err(|why| terse(s, &why))?;
    let listeners = controller_listeners(properties).map_err(|why| terse(s, &why))?;
    if !dry_run {
        let told = listeners.clone();
        let asked = s.ask(|admin, now| admin.add_raft_voter(now, id, directory_id, told))?;
        got(result_of!(asked, Unregistered))?;
    }
    let shown: Vec<String> = listeners.iter().map(|(name, at)| format!("{name}://{at}")).collect();
    let done = if dry_run { "DRY RUN of adding" } else { "Added" };
    let (directory, endpoints) = (directory_id.to_text(), shown.join(", "));
    s.line(format!("{done} controller {id} with directory id {directory} and endpoints: {endpoints}"));
    Ok(())
}

fn controller_id(properties: &Settings) -> Result<i32, String> {
    let known = "Is this a valid controller configuration file?";
    let Some(text) = properties.get("node.id") else {
        return Err(format!("node.id not found in configuration file. {known}"));
    };
    let id: i32 = text.trim().parse().map_err(|_| format!("For input string: \"{text}\""))?;
    if id < 0 {
        return Err(format!("node.id was negative in configuration file. {known}"));
    }
    if !properties.get("process.roles").is_some_and(|roles| roles.contains("controller")) {
        return Err(format!("process.roles did not contain 'controller' in configuration file. {known}"));
    }
    Ok(id)
}

fn metadata_directory(properties: &Settings) -> Result<String, String> {
    if let Some(dir) = properties.get("metadata.log.dir") {
        return Ok(dir.clone());
    }
    let first = properties.get("log.dirs").and_then(|dirs| dirs.trim().split(',').next());
    first.map(str::to_string).ok_or_else(|| {
        "Neither metadata.log.dir nor log.dirs were found. Is this a valid controller configuration file?"
            .to_string()
    })
}

fn directory_id(s: &Session<'_>, dir: &str) -> Result<Uuid, String> {
    let unread = || format!("Unable to read meta.properties from {dir}");
    let file = s.file(&format!("{dir}/meta.properties")).map_err(|_| unread())?;
    let id = properties(&file).get("directory.id").and_then(|text| Uuid::parse(text));
    id.ok_or_else(|| format!("No directory id found in {dir}"))
}

/// Where the controller is: what it advertises, or else where it listens.
fn controller_listeners(properties: &Settings) -> Result<Vec<(String, Endpoint)>, String> {
    let mut known: Vec<(String, Endpoint)> = Vec::new();
    for setting in ["listeners", "advertised.listeners"] {
        let text = properties.get(setting).map_or("", String::as_str);
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let bad = || format!("Unable to parse {entry} to a broker endpoint");
            let (name, address) = entry.split_once("://").ok_or_else(bad)?;
            let (host, port) = address.rsplit_once(':').ok_or_else(bad)?;
            let host = if host.is_empty() { "localhost" } else { host };
            let at = Endpoint::new(host, port.parse().map_err(|_| bad())?);
            known.retain(|(other, _)| *other != name.to_uppercase());
            known.push((name.to_uppercase(), at));
        }
    }
    let Some(names) = properties.get("controller.listener.names") else {
        let text = "controller.listener.names was not found. Is this a valid controller configuration file?";
        return Err(text.to_string());
    };
    let wanted = names.split(',').map(|name| name.trim().to_uppercase());
    wanted
        .map(|name| {
            let found = known.iter().find(|(other, _)| *other == name).cloned();
            found.ok_or_else(|| format!("Cannot find information about controller listener name: {name}"))
        })
        .collect()
}

fn remove_controller(s: &mut Session<'_>, arguments: &Arguments, dry_run: bool) -> Ran {
    let misused =
        |s: &mut Session<'_>, text: &str| s.unread(misused("kafka-metadata-quorum", COMMANDS[2].usage, text));
    for (name, title) in [
        ("--controller-id", "--controller-id/-i"),
        ("--controller-directory-id", "--controller-directory-id/-d"),
    ] {
        if !arguments.has(name) {
            return Err(misused(s, &format!("argument {title} is required")));
        }
    }
    let text = arguments.value("--controller-id").unwrap_or_default();
    let Ok(id) = text.parse::<i32>() else {
        let why = format!("could not convert '{text}' to Integer (For input string: \"{text}\")");
        return Err(misused(s, &format!("argument --controller-id/-i: {why}")));
    };
    if id < 0 {
        return Err(terse(s, &format!("Invalid negative --controller-id: {id}")));
    }
    let text = arguments.value("--controller-directory-id").unwrap_or_default();
    let Some(directory_id) = Uuid::parse(text) else {
        let why = not_a_uuid(text);
        return Err(terse(s, &format!("Failed to parse --controller-directory-id: {why}")));
    };
    if !dry_run {
        let asked = s.ask(|admin, now| admin.remove_raft_voter(now, id, directory_id))?;
        got(result_of!(asked, Unregistered))?;
    }
    // The dry run's words end in a space of their own.
    let done = if dry_run { "DRY RUN of removing " } else { "Removed " };
    s.line(format!("{done} KRaft controller {id} with directory id {}", directory_id.to_text()));
    Ok(())
}

/// What `Uuid.fromString` says of a text that is none.
fn not_a_uuid(text: &str) -> String {
    if text.len() > 24 {
        let prefix: String = text.chars().take(24).collect();
        return format!("Input string with prefix `{prefix}` is too long to be decoded as a base64 UUID");
    }
    let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'=');
    if let Some(bad) = text.bytes().find(|b| !known(*b)) {
        return format!("Illegal base64 character {bad:x}");
    }
    format!(
        "Input string `{text}` decoded as {} bytes, which is not equal to the expected 16 bytes of a base64-encoded \
         UUID",
        text.trim_end_matches('=').len() * 3 / 4
    )
}

/// How long ago, by this host's clock.
fn ago(now_ms: i64, then_ms: i64, what: &str) -> Result<String, Exception> {
    if then_ms > 0 && then_ms <= now_ms {
        return Ok(format!("{} ms ago", now_ms - then_ms));
    }
    let text = format!(
        "Error while computing relative time, possible drift in system clock.\nCurrent timestamp is {now_ms}, {what} \
         timestamp is {then_ms}"
    );
    Err(Exception::new("org.apache.kafka.common.KafkaException", text))
}
