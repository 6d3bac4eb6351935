//! The options of `kafka-reassign-partitions`, and which of them go with which action.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::super::options::{Opt, Options, flag, value};

pub const ABOUT: &str = "This tool helps to move topic partitions between replicas.";

pub const OPTIONS: &[Opt] = &[
    flag(
        "additional",
        "Execute this reassignment in addition to any other ongoing ones. This option can also be used to change the \
         throttle of an ongoing reassignment.",
    ),
    value(
        "bootstrap-controller",
        "String: bootstrap controller to connect to",
        "The controller to use for reassignment. By default, the tool will get the quorum controller. This option \
         supports the actions --cancel and --list.",
    ),
    value(
        "bootstrap-server",
        "String: Server(s) to use for bootstrapping",
        "the server(s) to use for bootstrapping.",
    ),
    value(
        "broker-list",
        "String: brokerlist",
        "The list of brokers to which the partitions need to be reassigned in the form \"0,1,2\". This is required if \
         --topics-to-move-json-file is used to generate reassignment configuration",
    ),
    flag("cancel", "Cancel an active reassignment."),
    value(
        "command-config",
        "String: Admin client property file",
        "Property file containing configs to be passed to Admin Client.",
    ),
    flag("disable-rack-aware", "Disable rack aware replica assignment"),
    flag(
        "disallow-replication-factor-change",
        "Denies the ability to change a partition's replication factor as part of this reassignment through adding \
         validation against it.",
    ),
    flag("execute", "Kick off the reassignment as specified by the --reassignment-json-file option."),
    flag(
        "generate",
        "Generate a candidate partition reassignment configuration. Note that this only generates a candidate \
         assignment, it does not execute it.",
    ),
    flag("list", "List all active partition reassignments."),
    flag("preserve-throttles", "Do not modify broker or topic throttles."),
    value(
        "reassignment-json-file",
        "String: manual assignment json file path",
        "The JSON file with the partition reassignment configurationThe format to use is - \n{\"partitions\":\n\t\
         [{\"topic\": \"foo\",\n\t  \"partition\": 1,\n\t  \"replicas\": [1,2,3],\n\t  \"log_dirs\": \
         [\"dir1\",\"dir2\",\"dir3\"] }],\n\"version\":1\n}\nNote that \"log_dirs\" is optional. When it is specified, \
         its length must equal the length of the replicas list. The value in this list can be either \"any\" or the \
         absolution path of the log directory on the broker. If absolute log directory path is specified, the replica \
         will be moved to the specified log directory on the broker.",
    ),
    value(
        "replica-alter-log-dirs-throttle",
        "Long: replicaAlterLogDirsThrottle",
        "The movement of replicas between log directories on the same broker will be throttled to this value \
         (bytes/sec). This option can be included with --execute when a reassignment is started, and it can be altered \
         by resubmitting the current reassignment along with the --additional flag. The throttle rate should be at \
         least 1 KB/s. (default: -1)",
    ),
    value(
        "throttle",
        "Long: throttle",
        "The movement of partitions between brokers will be throttled to this value (bytes/sec). This option can be \
         included with --execute when a reassignment is started, and it can be altered by resubmitting the current \
         reassignment along with the --additional flag. The throttle rate should be at least 1 KB/s. (default: -1)",
    ),
    value(
        "timeout",
        "Long: timeout",
        "The maximum time in ms to wait for log directory replica assignment to begin. (default: 10000)",
    ),
    value(
        "topics-to-move-json-file",
        "String: topics to reassign json file path",
        "Generate a reassignment configuration to move the partitions of the specified topics to the list of brokers \
         specified by the --broker-list option. The format to use is - \n{\"topics\":\n\t[{\"topic\": \
         \"foo\"},{\"topic\": \"foo1\"}],\n\"version\":1\n}",
    ),
    flag(
        "verify",
        "Verify if the reassignment completed as specified by the --reassignment-json-file option. If there is a \
         throttle engaged for the replicas specified, and the rebalance has completed, the throttle will be removed",
    ),
];

/// An action, what it needs, and what else may be given with it.
struct Action {
    name: &'static str,
    required: &'static [&'static str],
    permitted: &'static [&'static str],
}

/// In the order in which the tool names them.
const ACTIONS: [Action; 5] = [
    Action {
        name: "generate",
        required: &["topics-to-move-json-file", "broker-list"],
        permitted: &["disable-rack-aware"],
    },
    Action {
        name: "execute",
        required: &["reassignment-json-file"],
        permitted: &[
            "additional",
            "throttle",
            "replica-alter-log-dirs-throttle",
            "timeout",
            "disallow-replication-factor-change",
        ],
    },
    Action { name: "verify", required: &["reassignment-json-file"], permitted: &["preserve-throttles"] },
    Action {
        name: "cancel",
        required: &["reassignment-json-file"],
        permitted: &["preserve-throttles", "timeout"],
    },
    Action { name: "list", required: &[], permitted: &[] },
];

/// The one action that is asked for, or what is wrong with the command line.
pub fn action(options: &Options) -> Result<&'static str, String> {
    let given: Vec<&Action> = ACTIONS.iter().filter(|action| options.has(action.name)).collect();
    let [action] = given[..] else {
        let names: Vec<String> = ACTIONS.iter().map(|action| format!("--{}", action.name)).collect();
        return Err(format!("Command must include exactly one action: {}", names.join(", ")));
    };
    match (options.has("bootstrap-server"), options.has("bootstrap-controller")) {
        (true, true) => {
            return Err("Please don't specify both --bootstrap-server and --bootstrap-controller".into());
        }
        (false, false) => {
            return Err("Please specify either --bootstrap-server or --bootstrap-controller".into());
        }
        _ => {}
    }
    options.missing(action.required)?;
    let controller = matches!(action.name, "cancel" | "list");
    let fits = |name: &str| {
        name == action.name
            || action.required.contains(&name)
            || action.permitted.contains(&name)
            || matches!(name, "bootstrap-server" | "command-config")
            || controller && name == "bootstrap-controller"
    };
    match OPTIONS.iter().find(|option| options.has(option.name) && !fits(option.name)) {
        None => Ok(action.name),
        Some(wrong) => {
            let (wrong, action) = (wrong.name, action.name);
            Err(format!("Option \"[{wrong}]\" can't be used with action \"[{action}]\""))
        }
    }
}
