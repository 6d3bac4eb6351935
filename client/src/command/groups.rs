//! `kafka-groups` (`GroupsCommand.java`): groups of all kinds.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::consumer_groups::capitalized;
use super::java::{DEFAULT_ROOM, hash_of_text, hash_order};
use super::options::{Opt, Options, flag, value};
use super::session::{Console, Exception, Ran, Session, Stop, got, result_of};

const ABOUT: &str = "This tool helps to list groups of all types.";

const OPTIONS: &[Opt] = &[
    value("bootstrap-server", "String: server to connect to", "REQUIRED: The Kafka server to connect to."),
    value(
        "command-config",
        "String: command config property file",
        "Property file containing configs to be passed to Admin Client.",
    ),
    flag(
        "consumer",
        "Filter the groups to show all kinds of consumer groups, including classic and simple consumer \
                      groups. This matches group type 'consumer', and group type 'classic' where the protocol type is \
                      'consumer' or empty.",
    ),
    value(
        "group-type",
        "String: type",
        "Filter the groups based on group type. Valid types are: 'classic', 'consumer', \
                                         'share' and 'streams'.",
    ),
    flag("list", "List the groups."),
    value("protocol", "String: protocol", "Filter the groups based on protocol type."),
    flag("share", "Filter the groups to show share groups."),
    flag("streams", "Filter the groups to show streams groups."),
];

const TYPES: [&str; 4] = ["classic", "consumer", "share", "streams"];

pub(super) fn run(s: &mut Session<'_>) -> Ran {
    let options = match Options::parse(OPTIONS, s.arguments()) {
        Ok(options) => options,
        Err(error) => return Err(s.usage(OPTIONS, error.message_text())),
    };
    s.help_or_version(&options, OPTIONS, ABOUT)?;
    check(s, &options)?;
    list(s, &options).map_err(|stop| match stop {
        Stop::Thrown(exception) => {
            s.complain(format!("Error: {}", exception.message_text()));
            Stop::Exit(1)
        }
        other => other,
    })
}

fn check(s: &mut Session<'_>, options: &Options) -> Ran {
    if !options.has("list") {
        return Err(s.usage(OPTIONS, "Command must include exactly one action: --list."));
    }
    s.check(OPTIONS, options.missing(&["bootstrap-server"]))?;
    s.check(OPTIONS, options.conflict("consumer", &["group-type", "protocol", "share", "streams"]))?;
    s.check(OPTIONS, options.conflict("share", &["consumer", "group-type", "protocol", "streams"]))?;
    s.check(OPTIONS, options.conflict("streams", &["consumer", "group-type", "protocol", "share"]))?;
    match options.value("group-type")? {
        Some(kind) if !TYPES.iter().any(|known| known.eq_ignore_ascii_case(kind)) => {
            Err(s.usage(OPTIONS, "--group-type must be a valid group type."))
        }
        _ => Ok(()),
    }
}

fn list(s: &mut Session<'_>, options: &Options) -> Ran {
    let settings = s.settings(options.value("command-config")?)?;
    s.connect(options.required("bootstrap-server")?, settings)?;
    let asked = s.ask(|admin, now| admin.list_groups(now, &[], &[]))?;
    let kind = match options.value("group-type")? {
        Some(kind) => Some(kind.to_ascii_lowercase()),
        None if options.has("share") => Some("share".into()),
        None if options.has("streams") => Some("streams".into()),
        None => None,
    };
    let protocol = options.value("protocol")?;
    let wanted = |group: &crate::admin::GroupListing| {
        let is_consumer = group.kind.eq_ignore_ascii_case("consumer")
            || group.kind.eq_ignore_ascii_case("classic")
                && ["", "consumer"].contains(&group.protocol.as_str());
        kind.as_ref().is_none_or(|kind| kind.eq_ignore_ascii_case(&group.kind))
            && protocol.is_none_or(|protocol| protocol == group.protocol)
            && (!options.has("consumer") || is_consumer)
    };
    let listed = got(result_of!(asked, Groups))
        .map_err(|e| e.cause.map_or_else(|| Exception::illegal_argument(""), |c| *c))?;
    let groups = hash_order(DEFAULT_ROOM, listed.into_iter().filter(wanted), |g| hash_of_text(&g.id));
    let width = groups.iter().map(|g| g.id.chars().count()).max().unwrap_or(0).max(15);
    let mut lines: Vec<String> = Vec::new();
    lines.push(format!("{:<width$} {:<22} {:<22}", "GROUP", "TYPE", "PROTOCOL").to_string());
    lines.extend(
        groups.iter().map(|g| format!("{:<width$} {:<22} {:<22} ", g.id, capitalized(&g.kind), g.protocol)),
    );
    lines.into_iter().for_each(|line| s.line(line));
    Ok(())
}
