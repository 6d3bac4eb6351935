//! Expectations: whether one holds at this instant, and what was found instead.

use std::collections::{BTreeMap, BTreeSet};

use broker_core::event::PartitionState;

use super::stats::ClientStats;
use crate::scenario::{Expect, Subject, Want, Who};

/// What an expectation may look at.
pub trait View {
    /// Virtual time of this instant, in nanoseconds.
    fn now(&self) -> u64;
    /// The instant of the last step that changed something, in nanoseconds: no window begins before it.
    fn changed_at(&self) -> u64;
    /// The partitions of a topic, in order; empty if there is no such topic.
    fn partitions(&self, topic: &str) -> Vec<i32>;
    /// A partition as committed in the metadata log.
    fn partition(&self, topic: &str, partition: i32) -> Option<PartitionState>;
    /// Log end offset and high watermark of the present leader, if it runs.
    fn leader_log(&self, topic: &str, partition: i32) -> Option<(i64, i64)>;
    /// Whether the record bytes of all members of the ISR are equal; `None` if one cannot be looked at.
    fn same_log(&self, topic: &str, partition: i32) -> Option<bool>;
    /// What a client did; its own name or that of one instance.
    fn client(&self, name: &str) -> Option<&ClientStats>;
    /// A node's state: `running`, `down`, ….
    fn node_state(&self, name: &str) -> String;
    /// The names of the events of a node since the last step that was not an `expect`, each perhaps with a partition.
    fn node_events(&self, name: &str) -> Vec<(String, Option<String>)>;
    /// A group as its coordinator knows it; why not, if nobody can tell.
    fn group(&self, name: &str) -> Result<GroupState, String>;
    /// Leader, epoch, voters and the lag of the slowest voter.
    fn quorum(&self) -> QuorumView;
    /// What was found by now, by checkers' names.
    fn violations(&self) -> BTreeSet<String>;
    /// The ids of the nodes that somebody stands for; the id -1 is `none`. An unresolvable reference is an error text.
    fn resolve(&self, who: &Who) -> Result<Vec<i32>, String>;
    /// The names of the nodes that somebody stands for.
    fn resolve_names(&self, who: &Who) -> Result<Vec<String>, String>;
}

/// A group, and what its clients did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupState {
    /// Kafka's name of its state.
    pub state: String,
    /// How many members it has.
    pub members: usize,
    /// The partitions of each member, by its `client.id`, in order.
    pub assigned: BTreeMap<String, Vec<String>>,
    /// Generations since it was made.
    pub rebalances: i32,
    /// Committed offsets by partition.
    pub committed: BTreeMap<String, i64>,
    /// Σ high watermark − committed; `None` if a partition has no leader that could tell.
    pub lag: Option<i64>,
    /// Records processed.
    pub processed: u64,
    /// Records processed again.
    pub reprocessed: u64,
    /// Offsets that were committed and never processed.
    pub missed: u64,
}

/// The metadata quorum as far as the live controllers know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuorumView {
    /// The leader's id, if there is one.
    pub leader: Option<i32>,
    /// The highest epoch.
    pub epoch: i32,
    /// All voters.
    pub voters: Vec<i32>,
    /// Leader's log end minus the slowest voter's; absent without a leader.
    pub lag: Option<i64>,
}

/// Whether an expectation holds now; if not, what was found.
///
/// `Ok` carries what was found, too, for the report.
pub fn holds(expect: &Expect, view: &dyn View) -> Result<String, String> {
    match &expect.on {
        Subject::Partition(topic, partition) => on_partition(expect, view, topic, *partition),
        Subject::Topic(topic) => {
            let partitions = view.partitions(topic);
            if partitions.is_empty() {
                return Err(format!("there is no topic {topic}"));
            }
            let mut found = Vec::new();
            for partition in partitions {
                found.push(on_partition(expect, view, topic, partition)?);
            }
            found.dedup();
            Ok(found.join("; "))
        }
        Subject::Client(name) => on_client(expect, view, name),
        Subject::Group(name) => on_group(expect, view, name),
        Subject::Quorum => on_quorum(expect, view),
        Subject::Node(who) => on_node(expect, view, who),
        Subject::Violation(want) => {
            let found = view.violations();
            let all = || {
                if found.is_empty() {
                    "nothing was found".to_owned()
                } else {
                    format!("found: {}", join(found.iter()))
                }
            };
            let holds = match want {
                Want::Not(inner) => !matches!(&**inner, Want::Word(name) if found.contains(name)),
                Want::Word(name) => found.contains(name),
                _ => false,
            };
            if holds { Ok(all()) } else { Err(all()) }
        }
    }
}

fn join<T: ToString>(items: impl Iterator<Item = T>) -> String {
    items.map(|i| i.to_string()).collect::<Vec<_>>().join(", ")
}

fn on_partition(expect: &Expect, view: &dyn View, topic: &str, partition: i32) -> Result<String, String> {
    let state = view
        .partition(topic, partition)
        .ok_or_else(|| format!("there is no partition {topic}-{partition}"))?;
    let mut found = Vec::new();
    for (field, want) in &expect.fields {
        let (text, ok) = partition_field(field, want, view, topic, partition, &state)?;
        if !ok {
            return Err(format!("{topic}-{partition}: {text}"));
        }
        found.push(text);
    }
    Ok(format!("{topic}-{partition}: {}", found.join(", ")))
}

fn partition_field(
    field: &str,
    want: &Want,
    view: &dyn View,
    topic: &str,
    partition: i32,
    state: &PartitionState,
) -> Result<(String, bool), String> {
    let log = || view.leader_log(topic, partition);
    Ok(match field {
        "leader" => {
            let text =
                if state.leader < 0 { "leader none".to_owned() } else { format!("leader {}", state.leader) };
            (text, one_of(want, state.leader, view)?)
        }
        "isr" => (format!("ISR [{}]", join(state.isr.iter())), set(want, &state.isr, view)?),
        "elr" => (format!("ELR [{}]", join(state.elr.iter())), set(want, &state.elr, view)?),
        "isr_size" => (format!("ISR [{}]", join(state.isr.iter())), number(want, state.isr.len() as f64)),
        "replicas" => {
            (format!("replicas [{}]", join(state.replicas.iter())), ordered(want, &state.replicas, view)?)
        }
        "leader_epoch" => {
            (format!("leader epoch {}", state.leader_epoch), number(want, f64::from(state.leader_epoch)))
        }
        "log_end" | "high_watermark" => match log() {
            None => ("the leader does not run".to_owned(), false),
            Some((end, _)) if field == "log_end" => (format!("log end {end}"), number(want, end as f64)),
            Some((_, high)) => (format!("high watermark {high}"), number(want, high as f64)),
        },
        "same_log" => match view.same_log(topic, partition) {
            None => ("a member of the ISR cannot be looked at".to_owned(), false),
            Some(same) => (if same { "equal logs" } else { "logs differ" }.to_owned(), truth(want, same)),
        },
        other => unreachable!("{other} is checked when the scenario is read"),
    })
}

fn on_client(expect: &Expect, view: &dyn View, name: &str) -> Result<String, String> {
    let stats = view.client(name).ok_or_else(|| format!("{name} has not started"))?;
    let mut found = Vec::new();
    for (field, want) in &expect.fields {
        let (text, ok) = client_field(field, want, view, stats);
        if !ok {
            return Err(text);
        }
        found.push(text);
    }
    Ok(found.join(", "))
}

fn on_group(expect: &Expect, view: &dyn View, name: &str) -> Result<String, String> {
    let group = view.group(name)?;
    let mut found = Vec::new();
    for (field, want) in &expect.fields {
        let (text, ok) = group_field(field, want, &group);
        if !ok {
            return Err(format!("group {name}: {text}"));
        }
        found.push(text);
    }
    Ok(format!("group {name}: {}", found.join(", ")))
}

fn group_field(field: &str, want: &Want, group: &GroupState) -> (String, bool) {
    let count = |n: u64| (format!("{field} {n}"), number(want, n as f64));
    match field {
        "state" => word(want, &group.state, "state"),
        "members" => count(group.members as u64),
        "rebalances" => count(group.rebalances.max(0) as u64),
        "processed" => count(group.processed),
        "reprocessed" => count(group.reprocessed),
        "missed" => count(group.missed),
        "lag" => match group.lag {
            None => ("lag: a partition has no leader that could tell".to_owned(), false),
            Some(lag) => (format!("lag {lag}"), number(want, lag as f64)),
        },
        "committed" => match want {
            Want::Each(each, _) => {
                let text = join(group.committed.iter().map(|(p, o)| format!("{p} {o}")));
                let holds = |(partition, want): (&String, &Want)| {
                    group.committed.get(partition).is_some_and(|offset| number(want, *offset as f64))
                };
                (format!("committed {text}"), each.iter().all(holds))
            }
            _ => {
                let sum: i64 = group.committed.values().sum();
                (format!("committed {sum}"), number(want, sum as f64))
            }
        },
        "assigned" => {
            let of = |(member, all): (&String, &Vec<String>)| format!("{member}: [{}]", join(all.iter()));
            (format!("assigned {}", join(group.assigned.iter().map(of))), assigned(want, &group.assigned))
        }
        other => unreachable!("{other} is checked when the scenario is read"),
    }
}

fn assigned(want: &Want, found: &BTreeMap<String, Vec<String>>) -> bool {
    match want {
        Want::Lists(lists) => {
            lists.iter().all(|(name, all)| found.get(name).map_or(&[][..], Vec::as_slice) == all.as_slice())
        }
        Want::Not(inner) => !assigned(inner, found),
        _ => false,
    }
}

fn client_field(field: &str, want: &Want, view: &dyn View, stats: &ClientStats) -> (String, bool) {
    let count = |n: u64| (format!("{field} {n}"), number(want, n as f64));
    match field {
        "sent" => count(stats.sent),
        "acked" => count(stats.acked),
        "failed" => count(stats.failed),
        "indefinite" => count(stats.indefinite),
        "received" => count(stats.received),
        "processed" => count(stats.processed),
        "lost" => count(stats.lost),
        "duplicated" => count(stats.duplicated),
        "committed" => count(stats.committed),
        "aborted" => count(stats.aborted),
        "acked_rate" => rate(field, want, view, |over| stats.acked_rate(view.now(), over)),
        "received_rate" => rate(field, want, view, |over| stats.received_rate(view.now(), over)),
        "latency" => latency(want, view, stats),
        "last_error" => word(want, stats.last_error.unwrap_or("none"), "last error"),
        other => unreachable!("{other} is checked when the scenario is read"),
    }
}

/// A rate over a window that must not reach back behind the last change.
fn rate(field: &str, want: &Want, view: &dyn View, measure: impl Fn(u64) -> f64) -> (String, bool) {
    let (inner, negated) = match want {
        Want::Not(inner) => (&**inner, true),
        other => (other, false),
    };
    let Want::Rate { at_least, at_most, over } = inner else {
        return (format!("{field} needs bounds"), false);
    };
    if view.now().saturating_sub(view.changed_at()) < over.0 {
        return (format!("{field}: the window of {over} is not over"), false);
    }
    let measured = measure(over.0);
    let holds = at_least.is_none_or(|low| measured >= low) && at_most.is_none_or(|high| measured <= high);
    (format!("{field} {measured:.1}/s over {over}"), holds != negated)
}

fn latency(want: &Want, view: &dyn View, stats: &ClientStats) -> (String, bool) {
    let Want::Each(each, over) = want else { return ("latency needs p50, p99 or max".to_owned(), false) };
    let window = over.map(|over| (view.now(), over.0));
    let mut found = Vec::new();
    let mut holds = true;
    for (name, want) in each {
        let quantile = match name.as_str() {
            "p50" => 0.5,
            "p99" => 0.99,
            _ => 1.0,
        };
        match stats.quantile_ms(quantile, window) {
            Some(ms) => {
                found.push(format!("{name} {ms:.1} ms"));
                holds &= number(want, ms);
            }
            None => {
                found.push("no acknowledgement".to_owned());
                holds = false;
            }
        }
    }
    (format!("latency {}", found.join(", ")), holds)
}

fn on_quorum(expect: &Expect, view: &dyn View) -> Result<String, String> {
    let quorum = view.quorum();
    let mut found = Vec::new();
    for (field, want) in &expect.fields {
        let (text, ok) = match field.as_str() {
            "leader" => {
                let leader = quorum.leader.map_or("none".to_owned(), |l| l.to_string());
                (format!("leader {leader}"), one_of(want, quorum.leader.unwrap_or(-1), view)?)
            }
            "epoch" => (format!("epoch {}", quorum.epoch), number(want, f64::from(quorum.epoch))),
            "voters" => {
                (format!("voters [{}]", join(quorum.voters.iter())), set(want, &quorum.voters, view)?)
            }
            _ => match quorum.lag {
                Some(lag) => (format!("lag {lag}"), number(want, lag as f64)),
                None => ("no leader, no lag".to_owned(), false),
            },
        };
        if !ok {
            return Err(text);
        }
        found.push(text);
    }
    Ok(found.join(", "))
}

fn on_node(expect: &Expect, view: &dyn View, who: &Who) -> Result<String, String> {
    let mut found = Vec::new();
    for name in view.resolve_names(who)? {
        let field = |key: &str| expect.fields.iter().find(|(f, _)| f == key).map(|(_, want)| want);
        if let Some(want) = field("state") {
            let (text, ok) = word(want, &view.node_state(&name), &name);
            if !ok {
                return Err(text);
            }
            found.push(text);
        }
        if let Some(want) = field("event") {
            let partition =
                field("partition").and_then(|p| if let Want::Word(p) = p { Some(p.as_str()) } else { None });
            let events = view.node_events(&name);
            let seen = |event: &str| {
                events.iter().any(|(e, p)| e == event && (partition.is_none() || p.as_deref() == partition))
            };
            let holds = match want {
                Want::Word(event) => seen(event),
                Want::Not(inner) => !matches!(&**inner, Want::Word(event) if seen(event)),
                _ => false,
            };
            let names: BTreeSet<&String> = events.iter().map(|(e, _)| e).collect();
            let text = format!(
                "{name}: {}",
                if names.is_empty() { "no event".to_owned() } else { join(names.into_iter()) }
            );
            if !holds {
                return Err(text);
            }
            found.push(text);
        }
    }
    Ok(found.join(", "))
}

// --- what a want accepts

fn number(want: &Want, found: f64) -> bool {
    match want {
        Want::Number(n) => found == *n,
        Want::Between(low, high) => {
            low.is_none_or(|low| found >= low) && high.is_none_or(|high| found <= high)
        }
        Want::Not(inner) => !number(inner, found),
        _ => false,
    }
}

fn truth(want: &Want, found: bool) -> bool {
    match want {
        Want::Truth(t) => found == *t,
        Want::Not(inner) => !truth(inner, found),
        _ => false,
    }
}

fn word(want: &Want, found: &str, what: &str) -> (String, bool) {
    fn accepts(want: &Want, found: &str) -> bool {
        match want {
            Want::Word(w) => w == found,
            Want::Not(inner) => !accepts(inner, found),
            _ => false,
        }
    }
    (format!("{what} {found}"), accepts(want, found))
}

fn ids(all: &[Who], view: &dyn View) -> Result<Vec<i32>, String> {
    let mut ids = Vec::new();
    for who in all {
        ids.extend(view.resolve(who)?);
    }
    Ok(ids)
}

fn one_of(want: &Want, found: i32, view: &dyn View) -> Result<bool, String> {
    Ok(match want {
        Want::Id(who) => view.resolve(who)?.contains(&found),
        Want::AnyOf(all) => ids(all, view)?.contains(&found),
        Want::Not(inner) => !one_of(inner, found, view)?,
        _ => false,
    })
}

fn set(want: &Want, found: &[i32], view: &dyn View) -> Result<bool, String> {
    let found: BTreeSet<i32> = found.iter().copied().collect();
    Ok(match want {
        Want::Set(all) => ids(all, view)?.into_iter().collect::<BTreeSet<i32>>() == found,
        Want::HasLacks(has, lacks) => {
            ids(has, view)?.iter().all(|id| found.contains(id))
                && !ids(lacks, view)?.iter().any(|id| found.contains(id))
        }
        Want::Not(inner) => !set(inner, &found.into_iter().collect::<Vec<_>>(), view)?,
        _ => false,
    })
}

fn ordered(want: &Want, found: &[i32], view: &dyn View) -> Result<bool, String> {
    Ok(match want {
        Want::Ordered(all) => ids(all, view)? == found,
        Want::Not(inner) => !ordered(inner, found, view)?,
        _ => false,
    })
}
