//! The anomalies of Jepsen's Kafka workload, found in a history of operations.
//!
//! A [`History`] is what clients asked for and what they were told: a file that this simulator wrote, or Jepsen, or
//! anybody else. What is looked for, and under which name, is what the checker in `jepsen.tests.kafka` looks for, with
//! Elle's cycles; [`NAMES`] has them. Like it, this only knows what clients saw: an anomaly here needs no excuse by what
//! happened in the cluster.
//!
//! [`judge`] builds an [`Analysis`] (who wrote and who read each value, and the order of values that the offsets tell) and
//! hands it to one function for each kind of anomaly. Offsets, values and keys are numbers of 64 bits; no work and no
//! memory is in proportion to them, but to the operations only.

mod aborted_read;
mod analysis;
mod cycles;
mod duplicate;
mod graph;
mod inconsistent_offsets;
mod inner_polls;
mod inner_sends;
mod lost_write;
mod ops;
mod polls;
mod precommitted_read;
mod sends;
mod unseen;

use std::collections::{BTreeMap, BTreeSet};

pub use analysis::Analysis;
pub use ops::{F, History, Kind, Mop, Op};

/// Each anomaly that can be found, and what it is.
pub const NAMES: &[(&str, &str)] = &[
    ("G0", "writes of two operations depend on each other in a circle"),
    ("G0-realtime", "offsets order writes against the order in which they took place"),
    ("G1a", "a value was polled whose send had failed"),
    ("G1c", "operations wrote and read each other's values in a circle"),
    ("G1c-realtime", "operations wrote and read each other's values in a circle that leads back in time"),
    ("duplicate", "a value stands at several offsets"),
    ("empty-transaction-graph", "no operation depends on another, so nothing was judged"),
    ("inconsistent-offsets", "one offset held several values"),
    ("int-nonmonotonic-poll", "one operation polled a key's values against their order"),
    ("int-nonmonotonic-send", "one operation's sends to a key lie in another order"),
    ("int-poll-skip", "one operation polled a key and left values out"),
    ("int-send-skip", "between one operation's sends to a key lie values of others"),
    ("lost-write", "a value that was acknowledged is missing in what was polled up to a later one"),
    ("nonmonotonic-poll", "a process polled what it had polled before, or what lies before it"),
    ("nonmonotonic-send", "a process's sends to a key lie in another order"),
    ("poll-skip", "a process polled a key and went on behind values that it had not polled"),
    ("precommitted-read", "an operation polled what it had sent itself"),
    ("unseen", "a value that was acknowledged was never polled"),
];

/// How clients came to their partitions, in the history as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubVia {
    /// Nobody takes a partition away from a client.
    Assign,
    /// A group hands partitions out; between two polls it may have taken one away.
    Subscribe,
}

/// How a history is judged.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `:sub-via`. `None`: each process as it last asked for its partitions itself.
    pub sub_via: Option<SubVia>,
    /// `:ww-deps`: whether offsets also order writes. `None`: it is judged once without and once with them.
    pub ww_deps: Option<bool>,
    /// What is allowed besides what always is.
    pub allow: BTreeSet<String>,
    /// Nothing is allowed.
    pub strict: bool,
}

/// One case of an anomaly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// What happened, in words.
    pub text: String,
    /// The operations that show it: places in [`History::ops`].
    pub ops: Vec<usize>,
    /// It was found in what a group's consumer polled.
    subscribed: bool,
}

impl Case {
    fn new(text: String, ops: Vec<usize>) -> Case {
        Case { text, ops, subscribed: false }
    }
}

/// An anomaly that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// One of [`NAMES`].
    pub name: &'static str,
    /// Why it is allowed; absent: it is not.
    pub allowed: Option<&'static str>,
    /// Every case of it, in the order of the history.
    pub cases: Vec<Case>,
}

/// What a history shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// By name, what is not allowed first.
    pub found: Vec<Found>,
    /// Polls of values that no operation sent: the polling operation, key and value. A history with such cannot be judged
    /// as a whole.
    pub unknown: Vec<(usize, i64, i64)>,
}

impl Verdict {
    /// Whether nothing was found but what is allowed.
    pub fn is_valid(&self) -> bool {
        self.found.iter().all(|found| found.allowed.is_some())
    }
}

/// Judges a history.
pub fn judge(history: &History, options: &Options) -> Verdict {
    let analysis = Analysis::new(history);
    let mut cases: BTreeMap<&'static str, Vec<Case>> = BTreeMap::new();
    let mut add = |name, new: Vec<Case>| cases.entry(name).or_default().extend(new);
    add("inconsistent-offsets", inconsistent_offsets::find(&analysis));
    add("duplicate", duplicate::find(&analysis));
    add("lost-write", lost_write::find(&analysis));
    add("unseen", unseen::find(&analysis));
    add("G1a", aborted_read::find(&analysis));
    add("precommitted-read", precommitted_read::find(&analysis));
    let (skips, backward) = polls::find(&analysis);
    add("poll-skip", skips);
    add("nonmonotonic-poll", backward);
    let (skips, backward) = inner_polls::find(&analysis);
    add("int-poll-skip", skips);
    add("int-nonmonotonic-poll", backward);
    add("nonmonotonic-send", sends::find(&analysis));
    let (skips, backward) = inner_sends::find(&analysis);
    add("int-send-skip", skips);
    add("int-nonmonotonic-send", backward);

    let mut found = Vec::new();
    for (name, cases) in cases {
        let (subscribed, own): (Vec<Case>, Vec<Case>) = match options.sub_via {
            Some(SubVia::Subscribe) => (cases, Vec::new()),
            Some(SubVia::Assign) => (Vec::new(), cases),
            None => cases.into_iter().partition(|case| case.subscribed),
        };
        note(&mut found, options, name, allowed(name, false), own);
        note(&mut found, options, name, allowed(name, true), subscribed);
    }
    if options.ww_deps != Some(true) {
        for (name, cases) in cycles::find(&analysis, false) {
            note(&mut found, options, name, allowed(name, false), cases);
        }
    }
    if options.ww_deps != Some(false) {
        for (name, cases) in cycles::find(&analysis, true) {
            // What is there without the order of writes was told above.
            let known = options.ww_deps.is_none() && found.iter().any(|f: &Found| f.name == name);
            if !known {
                note(&mut found, options, name, allowed(name, false).or(allowed_with_writes(name)), cases);
            }
        }
    }
    found.sort_by_key(|found| (found.allowed.is_some(), found.name));
    Verdict { found, unknown: analysis.unknown }
}

fn note(
    found: &mut Vec<Found>,
    options: &Options,
    name: &'static str,
    allowed: Option<&'static str>,
    mut cases: Vec<Case>,
) {
    if cases.is_empty() {
        return;
    }
    let allowed = match options {
        _ if options.allow.contains(name) => Some("it was asked to allow it"),
        _ if options.strict => None,
        _ => allowed,
    };
    cases.sort_by(|a, b| a.ops.cmp(&b.ops));
    found.push(Found { name, allowed, cases });
}

/// Why Kafka allows an anomaly, if it does.
fn allowed(name: &str, subscribed: bool) -> Option<&'static str> {
    match name {
        "int-send-skip" => Some("records of several transactions lie among each other in a partition"),
        "G0" | "G0-realtime" => Some("transactions do not isolate writes from each other"),
        "poll-skip" | "nonmonotonic-poll" if subscribed => {
            Some("a group may have moved the partition between the two polls")
        }
        _ => None,
    }
}

/// Why a cycle is allowed if the order of writes takes part in it.
fn allowed_with_writes(name: &str) -> Option<&'static str> {
    matches!(name, "G1c" | "G1c-realtime").then_some("transactions do not isolate writes from each other")
}
