//! `kafka-cluster` (`ClusterTool.java`).

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;

use wire::error::ErrorCode;

use super::arguments::{self, Arg, Arguments, Parser, arg, switch};
use super::session::{Console, Exception, Ran, Session, Stop, got, result_of};

const TOOL: Parser = Parser {
    name: "",
    args: &[],
    one_of: &[],
    usage: "kafka-cluster [-h] {cluster-id,unregister,list-endpoints} ...",
};

const SERVER: Arg = arg("--bootstrap-server", Some("-b"));
const CONTROLLER: Arg = arg("--bootstrap-controller", Some("-C"));
const COMMAND_CONFIG: Arg = arg("--command-config", None);
/// What `--command-config` was called before 4.2.
const CONFIG: Arg = arg("--config", Some("-c"));

const ONE_OF: &[&str] = &["--bootstrap-server", "--bootstrap-controller"];

const COMMANDS: &[Parser] = &[
    Parser {
        name: "cluster-id",
        args: &[SERVER, CONTROLLER, COMMAND_CONFIG, CONFIG],
        one_of: ONE_OF,
        usage: "kafka-cluster cluster-id [-h] [--config CONFIG]
                     [--command-config COMMAND_CONFIG]
                     (--bootstrap-server BOOTSTRAP_SERVER |
                     --bootstrap-controller BOOTSTRAP_CONTROLLER)",
    },
    Parser {
        name: "unregister",
        args: &[SERVER, CONTROLLER, COMMAND_CONFIG, CONFIG, arg("--id", Some("-i"))],
        one_of: ONE_OF,
        usage: "kafka-cluster unregister [-h] [--config CONFIG]
                     [--command-config COMMAND_CONFIG] --id ID
                     (--bootstrap-server BOOTSTRAP_SERVER |
                     --bootstrap-controller BOOTSTRAP_CONTROLLER)",
    },
    Parser {
        name: "list-endpoints",
        args: &[SERVER, CONTROLLER, COMMAND_CONFIG, CONFIG, switch("--include-fenced-brokers")],
        one_of: ONE_OF,
        usage: "kafka-cluster list-endpoints [-h] [--config CONFIG]
                     [--command-config COMMAND_CONFIG]
                     [--include-fenced-brokers]
                     (--bootstrap-server BOOTSTRAP_SERVER |
                     --bootstrap-controller BOOTSTRAP_CONTROLLER)",
    },
];

pub(super) fn run(s: &mut Session<'_>) -> Ran {
    let arguments = match Arguments::parse("kafka-cluster", &TOOL, COMMANDS, s.arguments()) {
        Ok(arguments) => arguments,
        Err(unread) => return Err(s.unread(unread)),
    };
    let broker = match (arguments.command, arguments.value("--id")) {
        ("unregister", None) => return Err(misused(s, "argument --id/-i is required")),
        ("unregister", Some(text)) => match text.parse::<i32>() {
            Ok(id) => id,
            Err(_) => {
                let text = format!(
                    "argument --id/-i: could not convert '{text}' to Integer (For input string: \"{text}\")"
                );
                return Err(misused(s, &text));
            }
        },
        _ => -1,
    };
    let settings = s.settings(arguments.value("--command-config").or(arguments.value("--config")))?;
    let Some(bootstrap) = arguments.value("--bootstrap-server") else {
        s.complain("--bootstrap-controller is not supported: use --bootstrap-server.");
        return Err(Stop::Exit(1));
    };
    s.connect(bootstrap, settings)?;
    match arguments.command {
        "cluster-id" => cluster_id(s),
        "unregister" => unregister(s, broker),
        _ => list_endpoints(s, arguments.has("--include-fenced-brokers")),
    }
}

fn misused(s: &mut Session<'_>, text: &str) -> Stop {
    let usage = COMMANDS[1].usage;
    s.unread(arguments::misused("kafka-cluster", usage, text))
}

fn cluster_id(s: &mut Session<'_>) -> Ran {
    let asked = s.ask(|admin, now| admin.describe_cluster(now, false))?;
    let cluster = got(result_of!(asked, Cluster))?;
    s.line(format!("Cluster ID: {}", cluster.cluster_id));
    Ok(())
}

fn unregister(s: &mut Session<'_>, broker: i32) -> Ran {
    let asked = s.ask(|admin, now| admin.unregister_broker(now, broker))?;
    match result_of!(asked, Unregistered) {
        Ok(()) => s.line(format!("Broker {broker} is no longer registered.")),
        Err(error) if error.code == ErrorCode::UNSUPPORTED_VERSION => {
            s.line("The target cluster does not support the broker unregistration API.");
        }
        Err(error) => {
            let text = format!(
                "[AdminClient clientId=adminclient-1] Unregister broker request for broker ID {broker} failed: {}",
                error.message
            );
            s.log_error(&text, "org.apache.kafka.clients.admin.KafkaAdminClient", None);
            return Err(Exception::execution(error).into());
        }
    }
    Ok(())
}

fn list_endpoints(s: &mut Session<'_>, fenced: bool) -> Ran {
    let asked = s.ask(|admin, now| admin.describe_cluster(now, fenced))?;
    let nodes = got(result_of!(asked, Cluster))?.nodes;
    let host_width = nodes.iter().map(|node| node.endpoint.host.chars().count()).max().unwrap_or(100);
    let rack_width =
        nodes.iter().filter_map(|node| node.rack.as_ref()).map(|rack| rack.chars().count()).max();
    let rack_width = rack_width.unwrap_or(10);
    let mut rows = vec![["ID", "HOST", "PORT", "RACK", "STATE"].map(String::from)];
    rows.extend(nodes.iter().map(|node| {
        let state = if node.fenced { "fenced" } else { "unfenced" };
        [
            node.id.to_string(),
            node.endpoint.host.to_string(),
            node.endpoint.port.to_string(),
            node.rack.clone().unwrap_or_else(|| "null".into()),
            state.into(),
        ]
    }));
    for (i, [id, host, port, rack, state]) in rows.into_iter().enumerate() {
        let kind = if i == 0 { "ENDPOINT_TYPE" } else { "broker" };
        s.line(format!("{id:10} {host:host_width$} {port:10} {rack:rack_width$} {state:10} {kind:15}"));
    }
    Ok(())
}
