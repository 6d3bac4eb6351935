//! `kafka-groups` (`GroupsCommand.java`): groups of all kinds.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::consumer_groups::capitalized;
use super::java::{DEFAULT_ROOM, hash_of_text, hash_order};
use super::options::{Help, Options};
use super::session::{Console, Exception, Ran, Session, Stop, got, result_of};

const ABOUT: &str = "This tool helps to list groups of all types.";

const OPTIONS: Help = Help(include_str!("help/kafka-groups.txt"));

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
            let text = "--group-type must be a valid group type.";
            let exception = Exception::illegal_argument(text);
            s.print_exception(&exception);
            Err(Stop::Exit(1))
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
    let widths = groups.iter().flat_map(|g| [&g.id, &g.kind, &g.protocol]).map(|cell| cell.chars().count());
    let width = widths.max().unwrap_or(0).max(20);
    let mut lines: Vec<String> = Vec::new();
    lines.push(format!("{:<width$} {:<width$} {:<width$}", "GROUP", "TYPE", "PROTOCOL"));
    lines.extend(
        groups
            .iter()
            .map(|g| format!("{:<width$} {:<width$} {:<width$} ", g.id, capitalized(&g.kind), g.protocol)),
    );
    lines.into_iter().for_each(|line| s.line(line));
    Ok(())
}
