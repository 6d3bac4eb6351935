//! `--describe`: offsets, members, or state.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::{MISSING, fetched, group_ids, print_error};
use crate::admin::{CommittedOffset, GroupDescription, MemberDescription};
use crate::command::options::Options;
use crate::command::session::{Console, Ran, Session, got, result_of};
use crate::config::Isolation;
use crate::event::TopicPartition;

pub(super) fn run(s: &mut Session<'_>, options: &Options) -> Ran {
    let ids = group_ids(s, options)?;
    let asked = s.ask(|admin, now| admin.describe_groups(now, &ids))?;
    let mut groups = BTreeMap::new();
    for (id, described) in result_of!(asked, GroupDescriptions) {
        groups.insert(id, got(described)?);
    }
    let verbose = options.has("verbose");
    if options.has("members") {
        groups.iter().for_each(|(id, group)| members(s, id, group, verbose));
    } else if options.has("state") {
        groups.iter().for_each(|(id, group)| state(s, id, group, verbose));
    } else {
        let mut all = Vec::new();
        for (id, group) in &groups {
            all.push((id, group, rows(s, id, group)?));
        }
        all.into_iter().for_each(|(id, group, rows)| offsets(s, id, group, &rows, verbose));
    }
    Ok(())
}

/// Tells what is odd about a group's state; whether there is anything to show.
fn is_shown(s: &mut Session<'_>, id: &str, state: &str, rows: usize) -> bool {
    match state {
        "Dead" => print_error(s, &format!("Consumer group '{id}' does not exist.")),
        "Empty" => s.complain(format!("\nConsumer group '{id}' has no active members.")),
        "Stable" => {}
        _ => s.complain(format!("\nWarning: Consumer group '{id}' is rebalancing.")),
    }
    state != "Dead" && rows > 0
}

// --- offsets

struct Row {
    partition: TopicPartition,
    committed: Option<CommittedOffset>,
    end: Option<i64>,
    member: Option<(String, String, String)>,
}

/// What is assigned, member by member, and then what is committed and not assigned.
fn rows(s: &mut Session<'_>, id: &str, group: &GroupDescription) -> Ran<Vec<Row>> {
    let asked = s.ask(|admin, now| admin.list_group_offsets(now, id))?;
    let committed = fetched(result_of!(asked, GroupOffsets).remove(id).expect("it was asked for"))?;
    let mut members: Vec<&MemberDescription> =
        group.members.iter().filter(|m| !m.assignment.is_empty()).collect();
    members.sort_by_key(|m| core::cmp::Reverse(m.assignment.len()));
    let mut rows = Vec::new();
    for member in &members {
        let who = (member.id.clone(), member.host.clone(), member.client_id.clone());
        rows.extend(described(s, &member.assignment, &committed, Some(&who))?);
    }
    let assigned = |p: &TopicPartition| members.iter().any(|m| m.assignment.contains(p));
    let rest: Vec<TopicPartition> = committed.keys().filter(|p| !assigned(p)).cloned().collect();
    rows.extend(described(s, &rest, &committed, None)?);
    Ok(rows)
}

fn described(
    s: &mut Session<'_>,
    partitions: &[TopicPartition],
    committed: &BTreeMap<TopicPartition, CommittedOffset>,
    member: Option<&(String, String, String)>,
) -> Ran<Vec<Row>> {
    if partitions.is_empty() {
        return Ok(Vec::new());
    }
    let leaders = leaders_of(s, partitions)?;
    let led: Vec<TopicPartition> =
        partitions.iter().filter(|at| leaders.get(*at) != Some(&None)).cloned().collect();
    let ends = log_offsets(s, &led, -1)?;
    let mut sorted = partitions.to_vec();
    sorted.sort();
    let row = |partition: TopicPartition| Row {
        committed: committed.get(&partition).copied(),
        end: ends.get(&partition).copied(),
        member: member.cloned(),
        partition,
    };
    Ok(sorted.into_iter().map(row).collect())
}

/// Who leads each partition of the topics of these.
pub(super) fn leaders_of(
    s: &mut Session<'_>,
    partitions: &[TopicPartition],
) -> Ran<BTreeMap<TopicPartition, Option<i32>>> {
    let names: BTreeSet<String> = partitions.iter().map(|at| at.topic.to_string()).collect();
    let mut leaders = BTreeMap::new();
    if names.is_empty() {
        return Ok(leaders);
    }
    let names: Vec<String> = names.into_iter().collect();
    let asked = s.ask(|admin, now| admin.describe_topics(now, &names))?;
    for (name, described) in result_of!(asked, TopicDescriptions) {
        let of_topic = fetched(described)?.partitions;
        leaders.extend(of_topic.iter().map(|p| (TopicPartition::new(&*name, p.partition), p.leader)));
    }
    Ok(leaders)
}

/// The offsets of partitions at a timestamp, of those that somebody leads.
pub(super) fn log_offsets(
    s: &mut Session<'_>,
    partitions: &[TopicPartition],
    timestamp: i64,
) -> Ran<BTreeMap<TopicPartition, i64>> {
    let wanted: BTreeMap<TopicPartition, i64> = partitions.iter().map(|p| (p.clone(), timestamp)).collect();
    let asked = s.ask(|admin, now| admin.list_offsets(now, wanted, Isolation::ReadUncommitted))?;
    let mut found = BTreeMap::new();
    for (partition, told) in result_of!(asked, Offsets) {
        found.insert(partition, fetched(told)?.offset);
    }
    Ok(found)
}

fn width<'a>(least: usize, cells: impl Iterator<Item = &'a str>) -> usize {
    cells.map(|cell| cell.chars().count()).max().unwrap_or(0).max(least)
}

fn or_missing(value: Option<impl ToString>) -> String {
    value.map_or_else(|| MISSING.into(), |value| value.to_string())
}

fn offsets(s: &mut Session<'_>, id: &str, group: &GroupDescription, rows: &[Row], verbose: bool) {
    if !is_shown(s, id, &group.state, rows.len()) {
        return;
    }
    let member = |row: &Row| row.member.clone().unwrap_or((MISSING.into(), MISSING.into(), MISSING.into()));
    let w = [
        width(15, [id].into_iter()),
        width(15, rows.iter().map(|row| &*row.partition.topic)),
        width(15, rows.iter().filter_map(|row| row.member.as_ref()).map(|(id, _, _)| id.as_str())),
        width(15, rows.iter().filter_map(|row| row.member.as_ref()).map(|(_, host, _)| host.as_str())),
    ];
    let line = |cells: [String; 10]| {
        let [group, topic, partition, epoch, offset, end, lag, consumer, host, client] = cells;
        let epoch = if verbose { format!(" {epoch:<15}") } else { String::new() };
        format!(
            "\n{group:<a$} {topic:<b$} {partition:<10}{epoch} {offset:<15} {end:<15} {lag:<15} {consumer:<c$} \
             {host:<d$} {client}",
            a = w[0],
            b = w[1],
            c = w[2],
            d = w[3]
        )
    };
    let header = [
        "GROUP",
        "TOPIC",
        "PARTITION",
        "LEADER-EPOCH",
        "CURRENT-OFFSET",
        "LOG-END-OFFSET",
        "LAG",
        "CONSUMER-ID",
        "HOST",
        "CLIENT-ID",
    ];
    let mut text = line(header.map(ToString::to_string));
    for row in rows {
        let offset = row.committed.map(|committed| committed.offset);
        let lag = offset.zip(row.end).map(|(offset, end)| end - offset);
        let (consumer, host, client) = member(row);
        text.push_str(&line([
            id.into(),
            row.partition.topic.to_string(),
            row.partition.partition.to_string(),
            or_missing(row.committed.and_then(|committed| committed.leader_epoch)),
            or_missing(offset),
            or_missing(row.end),
            or_missing(lag),
            consumer,
            host,
            client,
        ]));
    }
    s.line(text);
}

// --- members

/// `orders:2;purchases:0,1`.
fn assignment_text(partitions: &[TopicPartition]) -> String {
    let mut topics: BTreeMap<&str, BTreeSet<i32>> = BTreeMap::new();
    for p in partitions {
        topics.entry(&p.topic).or_default().insert(p.partition);
    }
    let topic = |(name, all): (&str, BTreeSet<i32>)| {
        let all: Vec<String> = all.iter().map(ToString::to_string).collect();
        format!("{name}:{}", all.join(","))
    };
    let texts: Vec<String> = topics.into_iter().map(topic).collect();
    if texts.is_empty() { MISSING.into() } else { texts.join(";") }
}

fn members(s: &mut Session<'_>, id: &str, group: &GroupDescription, verbose: bool) {
    is_shown(s, id, &group.state, group.members.len());
    let all = &group.members;
    let target = |m: &MemberDescription| m.target.as_deref().map_or_else(|| MISSING.into(), assignment_text);
    let instances = all.iter().any(|m| m.instance.is_some());
    let w = [
        width(15, all.iter().map(|_| id)),
        width(15, all.iter().map(|m| m.id.as_str())),
        width(17, all.iter().filter_map(|m| m.instance.as_deref())),
        width(15, all.iter().map(|m| m.host.as_str())),
        width(15, all.iter().map(|m| m.client_id.as_str())),
        width(
            20,
            all.iter().map(|m| assignment_text(&m.assignment)).collect::<Vec<_>>().iter().map(|t| t.as_str()),
        ),
        width(20, all.iter().map(target).collect::<Vec<_>>().iter().map(|t| t.as_str())),
    ];
    let line = |cells: [String; 10]| {
        let [group, member, instance, host, client, count, epoch, current, target_epoch, target] = cells;
        let instance = if instances { format!(" {instance:<i$}", i = w[2]) } else { String::new() };
        let mut text = format!(
            "{group:<a$} {member:<b$}{instance} {host:<c$} {client:<d$} {count:<15} ",
            a = w[0],
            b = w[1],
            c = w[3],
            d = w[4]
        );
        if verbose {
            text.push_str(&format!(
                "{epoch:<15} {current:<e$} {target_epoch:<15} {target:<f$}",
                e = w[5],
                f = w[6]
            ));
        }
        text
    };
    let header = [
        "GROUP",
        "CONSUMER-ID",
        "GROUP-INSTANCE-ID",
        "HOST",
        "CLIENT-ID",
        "#PARTITIONS",
        "CURRENT-EPOCH",
        "CURRENT-ASSIGNMENT",
        "TARGET-EPOCH",
        "TARGET-ASSIGNMENT",
    ];
    s.line(format!("\n{}", line(header.map(ToString::to_string))));
    for m in all {
        s.line(line([
            id.into(),
            m.id.clone(),
            m.instance.clone().unwrap_or_default(),
            m.host.clone(),
            m.client_id.clone(),
            m.assignment.len().to_string(),
            or_missing(m.epoch),
            assignment_text(&m.assignment),
            or_missing(m.epoch.and(group.target_epoch)),
            target(m),
        ]));
    }
}

// --- state

fn state(s: &mut Session<'_>, id: &str, group: &GroupDescription, verbose: bool) {
    if !is_shown(s, id, &group.state, 1) {
        return;
    }
    let endpoint = &group.coordinator.endpoint;
    let coordinator = format!("{}:{}  ({})", endpoint.host, endpoint.port, group.coordinator.id);
    let assignor = if group.assignor.is_empty() { MISSING } else { &group.assignor };
    let w = [width(15, [id].into_iter()), width(25, [coordinator.as_str()].into_iter())];
    let line = |cells: [&str; 7]| {
        let [group, coordinator, assignor, state, epoch, target, members] = cells;
        let epochs = if verbose { format!(" {epoch:<15} {target:<25}") } else { String::new() };
        format!(
            "\n{group:<a$} {coordinator:<b$} {assignor:<20} {state:<20}{epochs} {members}",
            a = w[0],
            b = w[1]
        )
    };
    let header = [
        "GROUP",
        "COORDINATOR (ID)",
        "ASSIGNMENT-STRATEGY",
        "STATE",
        "GROUP-EPOCH",
        "TARGET-ASSIGNMENT-EPOCH",
        "#MEMBERS",
    ];
    let (epoch, target) = (or_missing(group.epoch), or_missing(group.target_epoch));
    let members = group.members.len().to_string();
    let row = line([id, &coordinator, assignor, &group.state, &epoch, &target, &members]);
    s.line(format!("{}{row}", line(header)));
}
