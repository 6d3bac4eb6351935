//! `kafka-metadata-quorum` (`MetadataQuorumCommand.java`).

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use super::arguments::{Arg, Arguments, Parser, Unread, arg, switch};
use super::java::table;
use super::session::{Console, Exception, Ran, Session, Stop, got, result_of};
use crate::admin::{QuorumInfo, QuorumReplica};

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
    let Some(bootstrap) = arguments.value("--bootstrap-server") else {
        return Err(terse(s, "--bootstrap-controller is not supported: use --bootstrap-server."));
    };
    let config = arguments.value("--command-config");
    if let Some(path) = config.filter(|path| s.file(path).is_err()) {
        return Err(terse(s, &format!("Properties file {path} does not exists!")));
    }
    let settings = s.settings(config)?;
    if arguments.command != "describe" {
        let text =
            format!("{} is not supported: the voters of a simulated quorum are fixed.", arguments.command);
        return Err(terse(s, &text));
    }
    s.connect(bootstrap, settings)?;
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
