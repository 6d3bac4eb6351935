//! The options of `kafka-consumer-groups`, and which go together (`ConsumerGroupCommandOptions.java`).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::command::java::{DEFAULT_ROOM, hash_of_text, hash_order};
use crate::command::options::{Opt, Options, Takes, flag, value};
use crate::command::session::{Console, Exception, Ran, Session};

/// What may be changed, one at a time.
const SCENARIOS: [&str; 8] = [
    "to-offset",
    "shift-by",
    "to-datetime",
    "by-duration",
    "to-earliest",
    "to-latest",
    "to-current",
    "from-file",
];
const SCOPES: [&str; 2] = ["group", "all-groups"];
const LEVELS: [&str; 4] = ["list", "describe", "delete", "reset-offsets"];

pub(super) const OPTIONS: &[Opt] = &[
    flag("all-groups", "Apply to all consumer groups."),
    flag("all-topics", "Consider all topics assigned to a group in the `reset-offsets` process."),
    value("bootstrap-server", "String: server to connect to", "REQUIRED: The server(s) to connect to."),
    value(
        "by-duration",
        "String: duration",
        "Reset offsets to offset by duration from current timestamp. Format: 'PnDTnHnMnS'",
    ),
    value(
        "command-config",
        "String: command config property file",
        "Property file containing configs to be passed to Admin Client and Consumer.",
    ),
    flag(
        "delete",
        "Pass in groups to delete topic partition offsets and ownership information over the entire consumer group. \
         For instance --group g1 --group g2",
    ),
    flag(
        "delete-offsets",
        "Delete offsets of consumer group. Supports one consumer group at the time, and multiple topics.",
    ),
    flag(
        "describe",
        "Describe consumer group and list offset lag (number of messages not yet processed) related to given group.",
    ),
    flag(
        "dry-run",
        "Only show results without executing changes on Consumer Groups. Supported operations: reset-offsets.",
    ),
    flag("execute", "Execute operation. Supported operations: reset-offsets."),
    flag("export", "Export operation execution to a CSV file. Supported operations: reset-offsets."),
    value("from-file", "String: path to CSV file", "Reset offsets to values defined in CSV file."),
    value("group", "String: consumer group", "The consumer group we wish to act on."),
    flag("list", "List all consumer groups."),
    flag(
        "members",
        "Describe members of the group. This option may be used with '--describe' and '--bootstrap-server' options \
         only.",
    ),
    flag(
        "offsets",
        "Describe the group and list all topic partitions in the group along with their offset lag. This is the \
         default sub-action of '--describe'.",
    ),
    flag(
        "reset-offsets",
        "Reset offsets of consumer group. Supports one consumer group at the time, and instances should be inactive. \
         Has 2 execution options: --dry-run (the default) and --execute. Additionally, the --export option is used to \
         export the results to a CSV format. You must choose one of the following reset specifications: \
         --to-datetime, --by-duration, --to-earliest, --to-latest, --shift-by, --from-file, --to-current, --to-offset. \
         To define the scope use --all-topics or --topic.",
    ),
    value(
        "shift-by",
        "Long: number-of-offsets",
        "Reset offsets shifting current offset by 'n', where 'n' can be positive or negative.",
    ),
    Opt {
        name: "state",
        takes: Takes::Perhaps("String"),
        help: "When specified with '--describe', includes the state of the group. When specified with '--list', it \
               displays the state of all groups. It can also be used to list groups with specific states. Example: \
               --list --state stable,empty",
    },
    value(
        "timeout",
        "Long: timeout (ms)",
        "The timeout that can be set for some use cases. For example, it can be used when describing the group to \
         specify the maximum amount of time in milliseconds to wait before the group stabilizes. (default: 5000)",
    ),
    value(
        "to-datetime",
        "String: datetime",
        "Reset offsets to offset from datetime. Format: 'YYYY-MM-DDTHH:mm:SS.sss'",
    ),
    flag("to-current", "Reset offsets to current offset."),
    flag("to-earliest", "Reset offsets to earliest offset."),
    flag("to-latest", "Reset offsets to latest offset."),
    value("to-offset", "Long: offset", "Reset offsets to a specific offset."),
    value(
        "topic",
        "String: topic",
        "The topic whose consumer group information should be deleted or topic whose should be included in the reset \
         offset process. Partitions can be specified using this format: `topic1:0,1,2`. Reset-offsets also supports \
         multiple topic inputs.",
    ),
    Opt {
        name: "type",
        takes: Takes::Perhaps("String"),
        help: "When specified with '--list', it displays the types of all the groups. It can also be used to list \
               groups with specific types. Example: --list --type classic,consumer",
    },
    flag("verbose", "Provide additional information, if any, when describing the group."),
];

/// Options that joptsimple knows only beside others.
pub(super) fn check_available(options: &Options) -> Result<(), Exception> {
    let unavailable = |name: &str, with: &[&str]| options.has(name) && !with.iter().any(|w| options.has(w));
    let rules: [(&str, &[&str]); 5] = [
        ("members", &["describe"]),
        ("verbose", &["describe"]),
        ("offsets", &["describe"]),
        ("state", &["describe", "list"]),
        ("type", &["list"]),
    ];
    match rules.iter().find(|(name, with)| unavailable(name, with)) {
        None => Ok(()),
        Some((name, _)) => Err(Exception::new(
            "joptsimple.UnavailableOptionException",
            format!("Option(s) [{name}] are unavailable given other options on the command line"),
        )),
    }
}

/// Options in the order of a `HashSet`, as Java writes them.
fn set_of(names: &[&'static str]) -> String {
    let hash = |name: &&str| 31i32.wrapping_add(hash_of_text(name));
    let all: Vec<String> = hash_order(DEFAULT_ROOM, names.iter().copied(), hash)
        .into_iter()
        .map(|name| format!("[{name}]"))
        .collect();
    all.join(", ")
}

pub(super) fn check(s: &mut Session<'_>, options: &Options) -> Ran {
    s.check(OPTIONS, options.missing(&["bootstrap-server"]))?;
    let checked = check_describe(options).and_then(|()| check_deletions(options));
    s.check(OPTIONS, checked)?;
    if options.has("reset-offsets") {
        let (dry, real) = (options.has("dry-run"), options.has("execute"));
        if !dry && !real {
            s.complain(
                "WARN: No action will be performed as the --execute option is missing. In a future major release, the \
                 default behavior of this command will be to prompt the user before executing the reset rather than \
                 doing a dry run. You should add the --dry-run option explicitly if you are scripting this command and \
                 want to keep the current default behavior without prompting.",
            );
        }
        s.check(OPTIONS, check_reset(options))?;
    }
    let excluding =
        |of: &[&'static str], allowed: &[&str]| of.iter().copied().filter(|n| !allowed.contains(n)).collect();
    let others: Vec<&str> = excluding(&SCOPES, &["group"]);
    s.check(OPTIONS, options.conflict("group", &others))?;
    let others: Vec<&str> = excluding(&LEVELS, &["describe", "delete", "reset-offsets"]);
    s.check(OPTIONS, options.conflict("group", &others))?;
    let others: Vec<&str> = excluding(&LEVELS, &["delete", "reset-offsets"]);
    s.check(OPTIONS, options.conflict("topic", &others))
}

fn has_scope(options: &Options) -> bool {
    SCOPES.iter().any(|scope| options.has(scope))
}

fn check_describe(options: &Options) -> Result<(), String> {
    if !options.has("describe") {
        return Ok(());
    }
    if !has_scope(options) {
        return Err(format!("Option [describe] takes one of these options: {}", set_of(&SCOPES)));
    }
    if ["members", "offsets", "state"].iter().filter(|o| options.has(o)).count() > 1 {
        return Err(
            "Option [describe] takes at most one of these options: [members], [offsets], [state]".into()
        );
    }
    if options.values("state").next().is_some() {
        return Err("Option [describe] does not take a value for [state]".into());
    }
    Ok(())
}

fn check_deletions(options: &Options) -> Result<(), String> {
    if options.has("delete") {
        if !has_scope(options) {
            return Err(format!("Option [delete] takes one of these options: {}", set_of(&SCOPES)));
        }
        if options.has("topic") {
            return Err(
                "The consumer does not support topic-specific offset deletion from a consumer group.".into(),
            );
        }
    }
    if options.has("delete-offsets") && !(options.has("group") && options.has("topic")) {
        let takes = set_of(&["group", "topic"]);
        return Err(format!("Option [delete-offsets] takes the following options: {takes}"));
    }
    Ok(())
}

fn check_reset(options: &Options) -> Result<(), String> {
    if options.has("dry-run") && options.has("execute") {
        return Err("Option [reset-offsets] only accepts one of [execute] and [dry-run]".into());
    }
    if !has_scope(options) {
        return Err(format!("Option [reset-offsets] takes one of these options: {}", set_of(&SCOPES)));
    }
    for scenario in SCENARIOS {
        let others: Vec<&str> = SCENARIOS.iter().copied().filter(|other| *other != scenario).collect();
        options.conflict(scenario, &others)?;
    }
    Ok(())
}

/// What `--reset-offsets` needs beside it.
pub(super) fn scenarios() -> String {
    set_of(&SCENARIOS)
}
