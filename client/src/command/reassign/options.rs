//! The options of `kafka-reassign-partitions`, and which of them go with which action.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::super::options::{Help, Options};

pub const ABOUT: &str = "This tool helps to move topic partitions between replicas.";

pub const OPTIONS: Help = Help(include_str!("../help/kafka-reassign-partitions.txt"));

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
    match options.names().find(|name| !fits(name)) {
        None => Ok(action.name),
        Some(wrong) => {
            let action = action.name;
            Err(format!("Option \"[{wrong}]\" can't be used with action \"[{action}]\""))
        }
    }
}
