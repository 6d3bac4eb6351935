//! The options of `kafka-consumer-groups`, and which go together (`ConsumerGroupCommandOptions.java`).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::command::java::{DEFAULT_ROOM, hash_of_text, hash_order};
use crate::command::options::{Help, Options};
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

pub(super) const OPTIONS: Help = Help(include_str!("../help/kafka-consumer-groups.txt"));

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
    if !options.has("validate-regex") {
        s.check(OPTIONS, options.missing(&["bootstrap-server"]))?;
    }
    let checked = check_describe(options).and_then(|()| check_deletions(options));
    s.check(OPTIONS, checked)?;
    if options.has("reset-offsets") {
        let (dry, real) = (options.has("dry-run"), options.has("execute"));
        if !dry && !real {
            s.complain(
                "WARN: No action will be performed as the --execute option is missing. In version 5.0, this \
                 command will require either --dry-run or --execute to be specified. You should add the --dry-run \
                 option explicitly if you are scripting this command and want to keep the current default behavior \
                 without prompting.",
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
