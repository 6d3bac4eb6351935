//! `kafka-consumer-groups` (`ConsumerGroupCommand.java`): listing, describing and deleting groups; `reset` and
//! `offsets` change what they have committed.

mod describe;
mod offsets;
mod options;
mod regex;
mod reset;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::java::{DEFAULT_ROOM, hash_of_text, hash_order};
use super::options::Options;
use super::session::{Console, Exception, Ran, Session, Stop, got, result_of};
use crate::admin::GroupListing;
use crate::error::ClientError;
use options::OPTIONS;

const ABOUT: &str = "This tool helps to list all consumer groups, describe a consumer group, delete consumer group info, \
                     or reset consumer group offsets.";
const ACTIONS: [&str; 6] =
    ["list", "describe", "delete", "reset-offsets", "delete-offsets", "validate-regex"];
/// Where there is nothing to show.
const MISSING: &str = "-";

pub(super) fn run(s: &mut Session<'_>) -> Ran {
    let options = Options::parse(OPTIONS, s.arguments()).and_then(|options| {
        options::check_available(&options)?;
        Ok(options)
    });
    let options = match options {
        Ok(options) => options,
        Err(error) => return Err(s.usage(OPTIONS, error.message_text())),
    };
    s.help_or_version(&options, OPTIONS, ABOUT)?;
    options::check(s, &options)?;
    if ACTIONS.iter().filter(|action| options.has(action)).count() != 1 {
        let actions: Vec<String> = ACTIONS.iter().map(|action| format!("--{action}")).collect();
        let reason = format!("Command must include exactly one action: {}", actions.join(", "));
        return Err(s.usage(OPTIONS, &reason));
    }
    if let Some(expression) = options.value("validate-regex")? {
        s.line(regex::verdict(expression));
        return Ok(());
    }
    execute(s, &options).or_else(|stop| match stop {
        Stop::Thrown(e) if e.class == ILLEGAL_ARGUMENT => Err(s.usage(OPTIONS, e.message_text())),
        Stop::Thrown(e) => {
            let text = format!("Executing consumer group command failed due to {}", e.message_text());
            print_error(s, &text);
            s.complain(e.stack_trace().trim_end());
            Ok(())
        }
        other => Err(other),
    })
}

const ILLEGAL_ARGUMENT: &str = "java.lang.IllegalArgumentException";

fn print_error(s: &mut Session<'_>, text: &str) {
    s.line(format!("\nError: {text}"));
}

fn execute(s: &mut Session<'_>, options: &Options) -> Ran {
    let mut settings = s.settings(options.value("command-config")?)?;
    // Java gives each call this time.
    let timeout: i64 = options.number("timeout")?.unwrap_or(30_000);
    settings.insert("default.api.timeout.ms".into(), timeout.to_string());
    settings.insert("request.timeout.ms".into(), timeout.min(30_000).to_string());
    s.connect(options.required("bootstrap-server")?, settings)?;
    if options.has("list") {
        list(s, options)
    } else if options.has("describe") {
        describe::run(s, options)
    } else if options.has("delete") {
        delete(s, options)
    } else if options.has("reset-offsets") {
        reset::run(s, options)
    } else {
        offsets::delete(s, options)
    }
}

/// What most of the tool's calls make of an error: an `ExecutionException` in a `RuntimeException`.
fn fetched<T>(result: Result<T, ClientError>) -> Result<T, Exception> {
    got(result).map_err(Exception::runtime)
}

/// Groups of both protocols for consumers, in the order in which Java has them.
fn listed(s: &mut Session<'_>, states: &[String], types: &[String]) -> Ran<Vec<GroupListing>> {
    let asked = s.ask(|admin, now| admin.list_groups(now, states, types))?;
    let groups = got(result_of!(asked, Groups))?;
    let consumers = groups.into_iter().filter(|g| ["", "consumer"].contains(&g.protocol.as_str()));
    Ok(hash_order(DEFAULT_ROOM, consumers, |group| hash_of_text(&group.id)))
}

fn all_ids(s: &mut Session<'_>) -> Ran<Vec<String>> {
    let groups = listed(s, &[], &[]).map_err(|stop| match stop {
        Stop::Thrown(execution) => Stop::Thrown(Exception::runtime(execution)),
        other => other,
    })?;
    Ok(groups.into_iter().map(|group| group.id).collect())
}

fn group_ids(s: &mut Session<'_>, options: &Options) -> Ran<Vec<String>> {
    if options.has("all-groups") {
        return all_ids(s);
    }
    Ok(options.values("group").map(ToString::to_string).collect())
}

// --- list

const STATES: [&str; 7] =
    ["PreparingRebalance", "CompletingRebalance", "Stable", "Dead", "Empty", "Assigning", "Reconciling"];
const TYPES: [&str; 2] = ["Classic", "Consumer"];

fn list(s: &mut Session<'_>, options: &Options) -> Ran {
    let (by_type, by_state) = (options.has("type"), options.has("state"));
    if !by_type && !by_state {
        all_ids(s)?.into_iter().for_each(|id| s.line(id));
        return Ok(());
    }
    let types = words(options.value("type")?, &TYPES, "types")?;
    let states = words(options.value("state")?, &STATES, "state")?;
    let groups = listed(s, &states, &types)?;
    let width = groups.iter().map(|g| g.id.chars().count().max(15)).max().unwrap_or(15) + 10;
    let mut rows = Vec::from([("GROUP".to_string(), "TYPE".to_string(), "STATE".to_string())]);
    rows.extend(groups.into_iter().map(|g| (g.id, capitalized(&g.kind), g.state)));
    for (group, kind, state) in rows {
        let mut line = format!("{group:<width$}");
        if by_type {
            line.push_str(&format!(" {kind:<20}"));
        }
        if by_state {
            line.push_str(&format!(" {state:<20}"));
        }
        s.line(line);
    }
    Ok(())
}

/// `Classic`, whatever a broker calls it.
pub(super) fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(chars).collect()
}

/// A comma separated list of known words, however they are written.
fn words(given: Option<&str>, known: &[&str], what: &str) -> Result<Vec<String>, Exception> {
    let Some(given) = given.filter(|text| !text.is_empty()) else { return Ok(Vec::new()) };
    let find = |word: &str| known.iter().find(|known| known.eq_ignore_ascii_case(word.trim()));
    let all: Option<Vec<String>> = given.split(',').map(|word| find(word).map(ToString::to_string)).collect();
    all.ok_or_else(|| {
        let text = format!("Invalid {what} list '{given}'. Valid {what}s are: {}", known.join(", "));
        Exception::illegal_argument(text.replace("typess", "types"))
    })
}

// --- delete

fn quoted(groups: &[String]) -> String {
    let all: Vec<String> = groups.iter().map(|group| format!("'{group}'")).collect();
    all.join(", ")
}

fn delete(s: &mut Session<'_>, options: &Options) -> Ran {
    let groups = group_ids(s, options)?;
    let asked = s.ask(|admin, now| admin.delete_groups(now, &groups))?;
    let mut results = result_of!(asked, Done);
    let (mut deleted, mut failed) = (Vec::new(), Vec::new());
    for group in hash_order(DEFAULT_ROOM, results.keys().cloned().collect::<Vec<_>>(), |g| hash_of_text(g)) {
        match results.remove(&group).expect("just listed") {
            Ok(()) => deleted.push(group),
            Err(error) => failed.push((group, Exception::from(error))),
        }
    }
    if failed.is_empty() {
        let text = format!("Deletion of requested consumer groups ({}) was successful.", quoted(&deleted));
        s.line(text);
        return Ok(());
    }
    print_error(s, "Deletion of some consumer groups failed:");
    for (group, error) in failed {
        s.line(format!("* Group '{group}' could not be deleted due to: {}", error.text()));
    }
    if !deleted.is_empty() {
        s.line(format!("\nThese consumer groups were deleted successfully: {}", quoted(&deleted)));
    }
    Ok(())
}
