//! `--reset-offsets`, in all its ways.

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::describe::{leaders_of, log_offsets};
use super::offsets::partitions_of;
use super::options::{OPTIONS, scenarios};
use super::{fetched, group_ids, print_error};
use crate::command::java::{DEFAULT_ROOM, hash_of_partition, hash_order, log_time, wall_ms_of};
use crate::command::options::Options;
use crate::command::session::{Console, Exception, Ran, Session, Stop, result_of};
use crate::event::TopicPartition;

type Offsets = BTreeMap<TopicPartition, i64>;

const EARLIEST: i64 = -2;
const LATEST: i64 = -1;

pub(super) fn run(s: &mut Session<'_>, options: &Options) -> Ran {
    let groups = group_ids(s, options)?;
    let asked = s.ask(|admin, now| admin.describe_groups(now, &groups))?;
    let mut plan: Vec<(String, Offsets)> = Vec::new();
    for (group, described) in result_of!(asked, GroupDescriptions) {
        let state = match described {
            Ok(group) => group.state,
            // A group that nobody knows has offsets from now on.
            Err(error) if error.code == wire::error::ErrorCode::GROUP_ID_NOT_FOUND => "Dead".into(),
            Err(error) => return Err(Exception::runtime(Exception::execution(error)).into()),
        };
        if !matches!(state.as_str(), "Empty" | "Dead") {
            print_error(
                s,
                &format!(
                    "Assignments can only be reset if the group '{group}' is inactive, but the current state is {state}."
                ),
            );
            plan.push((group, Offsets::new()));
            continue;
        }
        let partitions = scope(s, options, &group)?;
        let offsets = prepared(s, options, &group, partitions)?;
        if options.has("execute") && !options.has("dry-run") {
            let asked = s.ask(|admin, now| admin.alter_group_offsets(now, &group, offsets.clone()))?;
            for told in result_of!(asked, Partitions).map_err(Exception::from)?.into_values() {
                told.map_err(Exception::from)?;
            }
        }
        plan.push((group, offsets));
    }
    match options.has("export") {
        true => export(s, options, &plan),
        false => print(s, &plan),
    }
    Ok(())
}

/// In the order of Java's hash maps.
fn ordered(offsets: &Offsets) -> Vec<(&TopicPartition, i64)> {
    let all = offsets.iter().map(|(at, offset)| (at, *offset));
    hash_order(DEFAULT_ROOM, all, |(at, _)| hash_of_partition(at))
}

fn print(s: &mut Session<'_>, plan: &[(String, Offsets)]) {
    let wide = |texts: &mut dyn Iterator<Item = usize>| texts.max().unwrap_or(0).max(15);
    let a = wide(&mut plan.iter().map(|(group, _)| group.chars().count()));
    let b = wide(&mut plan.iter().flat_map(|(_, offsets)| offsets.keys()).map(|at| at.topic.chars().count()));
    let mut text = String::new();
    if !plan.is_empty() {
        text = format!("\n{:<a$} {:<b$} {:<10} {}", "GROUP", "TOPIC", "PARTITION", "NEW-OFFSET");
    }
    for (group, offsets) in plan {
        for (at, offset) in ordered(offsets) {
            text.push_str(&format!("\n{group:<a$} {:<b$} {:<10} {offset}", at.topic, at.partition));
        }
    }
    s.line(text);
}

fn export(s: &mut Session<'_>, options: &Options, plan: &[(String, Offsets)]) {
    let single = options.values("group").count() == 1;
    let mut text = String::new();
    for (group, offsets) in plan {
        for (at, offset) in ordered(offsets) {
            let group = if single { String::new() } else { format!("{},", cell(group)) };
            text.push_str(&format!("{group}{},{},{offset}\n", cell(&at.topic), at.partition));
        }
    }
    s.line(text);
}

/// A text in a file of comma separated values: in quotes if it is long or has a sign that may mean something, as
/// Jackson writes it.
fn cell(text: &str) -> Cow<'_, str> {
    const ASKS_NO_FURTHER: usize = 24;
    match text.len() > ASKS_NO_FURTHER || text.chars().any(|c| c <= ',') {
        true => Cow::Owned(format!("\"{}\"", text.replace('"', "\"\""))),
        false => Cow::Borrowed(text),
    }
}

// --- which partitions

fn scope(s: &mut Session<'_>, options: &Options, group: &str) -> Ran<Vec<TopicPartition>> {
    if options.has("all-topics") {
        return Ok(committed(s, group)?.into_keys().collect());
    }
    if options.has("topic") {
        let topics: Vec<String> = options.values("topic").map(ToString::to_string).collect();
        let (partitions, unknown) = partitions_of(s, &topics)?;
        return match unknown.into_iter().next() {
            None => Ok(partitions),
            Some((_, error)) => Err(error.into()),
        };
    }
    if options.has("from-file") {
        return Ok(Vec::new());
    }
    Err(s.usage(OPTIONS, "One of the reset scopes should be defined: --all-topics, --topic."))
}

fn committed(s: &mut Session<'_>, group: &str) -> Ran<Offsets> {
    let asked = s.ask(|admin, now| admin.list_group_offsets(now, group))?;
    let all = result_of!(asked, GroupOffsets).remove(group).expect("it was asked for");
    Ok(fetched(all)?.into_iter().map(|(at, told)| (at, told.offset)).collect())
}

/// All must exist, and have a leader.
fn check_partitions(s: &mut Session<'_>, partitions: &[TopicPartition]) -> Ran {
    let leaders = leaders_of(s, partitions)?;
    let among = |wanted: fn(Option<&Option<i32>>) -> bool| -> String {
        let all = partitions.iter().filter(|at| wanted(leaders.get(*at))).map(ToString::to_string);
        all.collect::<Vec<_>>().join(",")
    };
    let missing = among(|leader| leader.is_none());
    if !missing.is_empty() {
        let class = "org.apache.kafka.common.errors.UnknownTopicOrPartitionException";
        return Err(Exception::new(class, format!("The partitions \"{missing}\" do not exist")).into());
    }
    let leaderless = among(|leader| leader == Some(&None));
    if !leaderless.is_empty() {
        let class = "org.apache.kafka.common.errors.LeaderNotAvailableException";
        return Err(Exception::new(class, format!("The partitions \"{leaderless}\" have no leader")).into());
    }
    Ok(())
}

// --- which offsets

fn prepared(
    s: &mut Session<'_>,
    options: &Options,
    group: &str,
    partitions: Vec<TopicPartition>,
) -> Ran<Offsets> {
    check_partitions(s, &partitions)?;
    if let Some(offset) = options.number::<i64>("to-offset")? {
        return in_range(s, partitions.into_iter().map(|at| (at, offset)).collect());
    }
    if options.has("to-earliest") {
        return log_offsets(s, &partitions, EARLIEST);
    }
    if options.has("to-latest") {
        return log_offsets(s, &partitions, LATEST);
    }
    if let Some(shift) = options.number::<i64>("shift-by")? {
        let known = committed(s, group)?;
        let shifted = |at: TopicPartition| match known.get(&at) {
            Some(offset) => Ok((at, offset + shift)),
            None => Err(Exception::illegal_argument(format!(
                "Cannot shift offset for partition {at} since there is no current committed offset"
            ))),
        };
        let wanted: Result<Offsets, Exception> = partitions.into_iter().map(shifted).collect();
        return in_range(s, wanted?);
    }
    if let Some(text) = options.value("to-datetime")? {
        let timestamp = wall_ms_of(text).ok_or_else(|| {
            let reason = match text.contains('T') {
                true => format!("Unparseable date: \"{text}\""),
                false => {
                    "Error parsing timestamp. It does not contain a 'T' according to ISO8601 format".into()
                }
            };
            Exception::runtime(Exception::new("java.text.ParseException", reason))
        })?;
        return at_time(s, &partitions, timestamp);
    }
    if let Some(text) = options.value("by-duration")? {
        let ago = duration_ms(text).ok_or_else(|| {
            Exception::new(
                "java.time.format.DateTimeParseException",
                "Text cannot be parsed to a Duration".to_string(),
            )
        })?;
        let timestamp = s.started_ms() - ago;
        return at_time(s, &partitions, timestamp);
    }
    if let Some(path) = options.value("from-file")? {
        let mut plan = plan_of_file(&s.file(path)?, options)?;
        return match plan.remove(group) {
            Some(offsets) => in_range(s, offsets),
            None => {
                print_error(s, &format!("No reset plan for group {group} found"));
                Ok(Offsets::new())
            }
        };
    }
    if options.has("to-current") {
        return to_current(s, group, partitions);
    }
    let reason =
        format!("Option '[reset-offsets]' requires one of the following scenarios: [{}]", scenarios());
    Err(s.usage(OPTIONS, &reason))
}

fn to_current(s: &mut Session<'_>, group: &str, partitions: Vec<TopicPartition>) -> Ran<Offsets> {
    let known = committed(s, group)?;
    let (with, without): (Vec<_>, Vec<_>) = partitions.into_iter().partition(|at| known.contains_key(at));
    let mut offsets = log_offsets(s, &without, LATEST)?;
    offsets.extend(with.into_iter().map(|at| {
        let offset = known[&at];
        (at, offset)
    }));
    Ok(offsets)
}

/// The first offset whose record is not older; the end where there is none.
fn at_time(s: &mut Session<'_>, partitions: &[TopicPartition], timestamp: i64) -> Ran<Offsets> {
    let mut offsets = log_offsets(s, partitions, timestamp)?;
    let none: Vec<TopicPartition> =
        ordered(&offsets).into_iter().filter(|(_, offset)| *offset < 0).map(|(at, _)| at.clone()).collect();
    for at in &none {
        s.line(format!(
            "\nWarn: Partition {} from topic {} is empty. Falling back to latest known offset.",
            at.partition, at.topic
        ));
    }
    offsets.extend(log_offsets(s, &none, LATEST)?);
    Ok(offsets)
}

/// No offset is set outside its log.
fn in_range(s: &mut Session<'_>, wanted: Offsets) -> Ran<Offsets> {
    let partitions: Vec<TopicPartition> = wanted.keys().cloned().collect();
    let starts = log_offsets(s, &partitions, EARLIEST)?;
    let ends = log_offsets(s, &partitions, LATEST)?;
    let mut offsets = Offsets::new();
    for (at, offset) in wanted {
        let (start, end) = (starts[&at], ends[&at]);
        let (word, bound) = match offset {
            _ if offset > end => ("higher than latest", end),
            _ if offset < start => ("lower than earliest", start),
            _ => {
                offsets.insert(at, offset);
                continue;
            }
        };
        let time = log_time(s.wall_ms());
        s.complain(format!(
            "[{time}] WARN New offset ({offset}) is {word} offset for topic partition {at}. Value will be set to {bound} \
             (org.apache.kafka.tools.OffsetsUtils)"
        ));
        offsets.insert(at, bound);
    }
    Ok(offsets)
}

// --- texts

/// `topic,partition,offset` of the only group, or `group,topic,partition,offset`.
fn plan_of_file(text: &str, options: &Options) -> Result<BTreeMap<String, Offsets>, Stop> {
    let mut plan: BTreeMap<String, Offsets> = BTreeMap::new();
    let only = options.values("group").next().filter(|_| options.values("group").count() == 1);
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let cells: Vec<&str> = line.split(',').map(|cell| cell.trim().trim_matches('"')).collect();
        let (group, topic, partition, offset) = match (&cells[..], only) {
            (&[topic, partition, offset], Some(group)) => (group, topic, partition, offset),
            (&[group, topic, partition, offset], _) => (group, topic, partition, offset),
            _ => return Err(bad_line(line)),
        };
        let (Ok(partition), Ok(offset)) = (partition.parse(), offset.parse()) else {
            return Err(bad_line(line));
        };
        plan.entry(group.into()).or_default().insert(TopicPartition::new(topic, partition), offset);
    }
    Ok(plan)
}

fn bad_line(line: &str) -> Stop {
    let cause = Exception::new(
        "com.fasterxml.jackson.databind.exc.MismatchedInputException",
        format!("Cannot read \"{line}\" as topic,partition,offset or group,topic,partition,offset"),
    );
    Exception::runtime(cause).into()
}

/// `PnDTnHnMn.nS`, in milliseconds.
fn duration_ms(text: &str) -> Option<i64> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let rest = text.strip_prefix(['P', 'p'])?;
    let (days, time) = match rest.split_once(['T', 't']) {
        Some((days, time)) => (days, Some(time)),
        None => (rest, None),
    };
    let mut ms = 0;
    let mut parts = 0;
    for (text, units) in [(Some(days), &[('D', 86_400_000i64)][..]), (time, &TIME[..])] {
        let Some(mut text) = text else { continue };
        for (unit, length) in units {
            let Some(at) = text.find([*unit, unit.to_ascii_lowercase()]) else { continue };
            ms += decimal_ms(&text[..at], *length)?;
            text = &text[at + 1..];
            parts += 1;
        }
        if !text.is_empty() {
            return None;
        }
    }
    (parts > 0).then_some(if negative { -ms } else { ms })
}

const TIME: [(char, i64); 3] = [('H', 3_600_000), ('M', 60_000), ('S', 1_000)];

/// A number of units, of which only seconds may have a fraction.
fn decimal_ms(text: &str, unit: i64) -> Option<i64> {
    match text.split_once('.') {
        Some((whole, fraction)) if unit == 1_000 && !fraction.is_empty() && fraction.len() <= 9 => {
            let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
            let digits: String = fraction.chars().chain("000".chars()).take(3).collect();
            let ms: i64 = digits.parse().ok()?;
            Some(whole.checked_mul(1_000)? + if text.starts_with('-') { -ms } else { ms })
        }
        Some(_) => None,
        None => text.parse::<i64>().ok()?.checked_mul(unit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_java() {
        let cases = [
            ("PT15M", Some(900_000)),
            ("P1DT2H3M4.5S", Some(93_784_500)),
            ("-PT1S", Some(-1_000)),
            ("P2D", Some(172_800_000)),
            ("pt-6h", Some(-21_600_000)),
            ("P", None),
            ("15M", None),
            ("PT1X", None),
            ("PT1.5M", None),
        ];
        for (text, ms) in cases {
            assert_eq!(duration_ms(text), ms, "{text}");
        }
    }
}
