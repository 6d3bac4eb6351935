//! What a run found, as data, and how it is shown: to people in a terminal, to machines as JSON.
//!
//! The simulator fills a [`RunReport`]; everything here only reads it. [`json::document`] prints the document that
//! `highwater run --json` promises, [`terminal::render`] the page of 80 columns that a class is shown. [`ci`] is what a CI
//! system is told, which [`junit`], [`github`] and [`sarif`] write in its forms.

pub mod ci;
pub mod coverage;
pub mod github;
pub mod json;
pub mod junit;
pub mod sarif;
pub mod terminal;

use std::collections::BTreeMap;

/// How a run ended. An expectation that failed comes before a violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Everything held.
    Pass,
    /// An expectation did not hold.
    Expectation,
    /// Something was found that `finally` does not allow.
    Violation,
    /// The cluster did not converge, or the run exceeded its limit.
    Liveness,
    /// The run did not repeat itself.
    Nondeterministic,
    /// A node stopped on an assertion.
    Crash,
}

impl Verdict {
    /// All of them, in the order of their exit codes.
    pub const ALL: [Verdict; 6] = [
        Verdict::Pass,
        Verdict::Expectation,
        Verdict::Violation,
        Verdict::Liveness,
        Verdict::Nondeterministic,
        Verdict::Crash,
    ];

    /// The word in the JSON document.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Expectation => "expectation",
            Verdict::Violation => "violation",
            Verdict::Liveness => "liveness",
            Verdict::Nondeterministic => "nondeterministic",
            Verdict::Crash => "crash",
        }
    }

    /// The exit status that goes with it.
    pub fn exit_code(self) -> u8 {
        match self {
            Verdict::Pass => 0,
            Verdict::Expectation => 1,
            Verdict::Violation => 3,
            Verdict::Liveness => 4,
            Verdict::Nondeterministic => 5,
            Verdict::Crash => 6,
        }
    }
}

/// All that is told of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct RunReport {
    /// The file's name without `.json`.
    pub scenario: String,
    /// The variant.
    pub variant: Option<String>,
    /// The scenario's title.
    pub title: String,
    /// The question that it answers.
    pub about: Option<String>,
    /// The seed.
    pub seed: u64,
    /// `b3…`
    pub digest: String,
    /// How it ended.
    pub verdict: Verdict,
    /// Why, where the verdict is not `pass` and no violation says it: one sentence or a few lines.
    pub why: Option<String>,
    /// Virtual time of the run.
    pub virtual_seconds: f64,
    /// Real time of the run.
    pub wall_seconds: f64,
    /// Things that happened.
    pub events: u64,
    /// Frames delivered.
    pub frames: u64,
    /// Bytes in them.
    pub frame_bytes: u64,
    /// The steps, in order.
    pub steps: Vec<StepReport>,
    /// What the checkers found.
    pub violations: Vec<ViolationReport>,
    /// By client name.
    pub clients: BTreeMap<String, ClientReport>,
    /// By name, as far as a coordinator knew them at the end.
    pub groups: BTreeMap<String, GroupReport>,
    /// Every effective option, by name.
    pub options: BTreeMap<String, String>,
    /// What happened, for people.
    pub timeline: Vec<TimelineEntry>,
    /// How the partitions stand at the end.
    pub partitions: Vec<PartitionReport>,
    /// What the run reached.
    pub coverage: coverage::Coverage,
    /// Near misses in the file and the like.
    pub warnings: Vec<String>,
    /// One line that reproduces the run.
    pub reproduce: String,
    /// What chaos did, in order.
    pub schedule: Vec<ScheduledStep>,
}

/// A step that chaos drew, as it would stand in a scenario file.
#[derive(Clone, Debug, PartialEq)]
pub struct ScheduledStep {
    /// The place in the file's list of the `chaos` step that drew it.
    pub chaos: usize,
    /// When, in virtual seconds since that step began; exact to the nanosecond.
    pub at_seconds: f64,
    /// The step.
    pub step: serde_json::Value,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct StepReport {
    /// Its place in the file.
    pub index: usize,
    /// Its verb.
    pub verb: String,
    /// When it ended, in virtual seconds.
    pub at_seconds: f64,
    /// Whether it held; `None` if it was not run.
    pub held: Option<bool>,
    /// What was found, or why it did not hold.
    pub detail: String,
    /// A command's output.
    pub output: Option<CommandOutput>,
    /// Its line in the file.
    pub line: usize,
    /// In words, for the timeline.
    pub text: String,
    /// The note for the class.
    pub note: Option<String>,
    /// The heading above it.
    pub section: Option<String>,
}

/// What a command printed.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct CommandOutput {
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Exit status; absent while it runs on in the background.
    pub exit: Option<i32>,
}

/// Something that a checker found.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct ViolationReport {
    /// The checker.
    pub name: String,
    /// Whether the configuration ruled it out.
    pub promised: bool,
    /// Why it was not promised.
    pub reason: Option<String>,
    /// When it was found, in virtual seconds.
    pub at_seconds: f64,
    /// A partition, a client, the quorum.
    pub subject: String,
    /// At most five sentences: message, offset, epoch, nodes.
    pub explanation: String,
    /// How many of the same kind on the same subject this one stands for.
    pub count: u64,
    /// The decisive events and a remedy, if they were looked for.
    pub story: Option<StoryReport>,
}

/// How it came to a violation.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct StoryReport {
    /// The decisive events, in the order of time.
    pub rows: Vec<StoryRow>,
    /// What would have prevented it.
    pub remedy: Option<RemedyReport>,
}

/// A decisive event.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct StoryRow {
    /// Virtual seconds.
    pub at_seconds: f64,
    /// A node or a client.
    pub who: String,
    /// What happened.
    pub event: String,
    /// The offsets concerned; empty if there are none.
    pub offsets: String,
}

/// What would have prevented a violation.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct RemedyReport {
    /// In words.
    pub text: String,
    /// What is set to what: `topic purchases: flush.messages=1`.
    pub settings: Vec<String>,
    /// Whether the same seed with these settings is free of the violation; absent if that was not tried.
    pub helps: Option<bool>,
}

/// What a client did.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct ClientReport {
    /// Messages made.
    pub sent: u64,
    /// Acknowledged.
    pub acked: u64,
    /// Certainly not in a log.
    pub failed: u64,
    /// Perhaps in a log.
    pub indefinite: u64,
    /// Acknowledged and gone.
    pub lost: u64,
    /// Copies beyond the first.
    pub duplicated: u64,
    /// Records received.
    pub received: u64,
    /// Records whose processing was done.
    pub processed: u64,
    /// Transactions committed.
    pub committed: u64,
    /// Transactions aborted.
    pub aborted: u64,
    /// Kafka's name of the last refused attempt.
    pub last_error: Option<String>,
    /// Median, 99th percentile and highest latency of acknowledgements, in milliseconds.
    pub latency_ms: Option<[f64; 3]>,
}

/// How a consumer group stands, and what it did.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct GroupReport {
    /// Kafka's name of its state.
    pub state: String,
    /// How many members it has.
    pub members: u64,
    /// Generations since it was made.
    pub rebalances: u64,
    /// Committed offsets by partition.
    pub committed: BTreeMap<String, i64>,
    /// Records up to the high watermarks that were not committed, if the partitions' leaders could tell.
    pub lag: Option<i64>,
    /// Records processed.
    pub processed: u64,
    /// Records processed again.
    pub reprocessed: u64,
    /// Offsets committed and never processed.
    pub missed: u64,
}

/// A line of the timeline.
#[derive(Clone, Debug, PartialEq)]
pub struct TimelineEntry {
    /// Virtual seconds.
    pub at_seconds: f64,
    /// A node, a client, `step 3`.
    pub who: String,
    /// What happened.
    pub text: String,
    /// What kind of line it is.
    pub tone: Tone,
}

/// What kind of line it is: what a terminal paints differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// A step of the scenario.
    Step,
    /// A note for the class.
    Note,
    /// A heading.
    Section,
    /// A line that a command printed.
    Output,
    /// Something went on as it should.
    Plain,
    /// Something got better: a leader elected, an ISR grown.
    Good,
    /// Something got worse: fenced, shrunk, refused.
    Bad,
}

/// How a partition stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionReport {
    /// `purchases-0`
    pub partition: String,
    /// `none` is absent.
    pub leader: Option<i32>,
    /// The leader epoch.
    pub leader_epoch: i32,
    /// In assignment order.
    pub replicas: Vec<i32>,
    /// In sync.
    pub isr: Vec<i32>,
    /// Eligible leader replicas.
    pub elr: Vec<i32>,
    /// The leader's log end offset.
    pub log_end: Option<i64>,
    /// The leader's high watermark.
    pub high_watermark: Option<i64>,
}
