//! Scenario files: reading, checking, and the types that a run works with.
//!
//! [`load`] reads a file; what is wrong with it is told with file, line, column, what stands there, what was expected
//! and the nearest known word, before anything runs. [`Scenario::variant`] gives the sheet with a variant applied.

mod build;
pub mod chaos;
pub mod command;
pub mod expect;
pub mod format;
pub mod nearest;
mod settings;
pub mod shape;
mod swarm;
pub mod tree;
pub mod units;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use chaos::{Chaos, ChaosKind, Keep};
pub use swarm::Swarm;
pub use tree::Problem;
use tree::Tree;
pub use units::{Duration, DurationRange};

use crate::mutants::Mutant;
pub use crate::runner::hostile::frames::Attack;
pub use crate::world::{After, Direction, FaultKind, Rot, Unsynced};

/// A scenario file that was read and checked, before a variant is chosen.
#[derive(Clone, Debug)]
pub struct Sheet {
    /// The file's name without `.json`.
    pub name: String,
    /// Where it was read from, as the user wrote it.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
    root: Tree,
    /// The names of its variants, in order.
    pub variants: Vec<String>,
}

/// One scenario, with a variant applied, that can be run.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// The file's name without `.json`.
    pub name: String,
    /// The variant's name.
    pub variant: Option<String>,
    /// One line that says what happens.
    pub title: String,
    /// The question that it answers; the variant's own, if it has one.
    pub about: Option<String>,
    /// The lab sheet, paper or bug that it comes from.
    pub from: Option<String>,
    /// Brokers and controllers.
    pub cluster: Cluster,
    /// Topics that exist at 0.0 s.
    pub topics: Vec<Topic>,
    /// Clients, in the order of the file.
    pub clients: Vec<Client>,
    /// What happens, in order; steps of other variants are left out.
    pub steps: Vec<Step>,
    /// The end.
    pub finally: Finally,
    /// Domain events that some of many runs should reach.
    pub sometimes: Vec<String>,
    /// Longest virtual time of a run.
    pub limit: Duration,
    /// Near misses and the like, for people.
    pub warnings: Vec<String>,
    /// What each seed draws for itself.
    pub swarm: Option<Arc<Swarm>>,
    /// What a seed drew: places of the file, and values.
    pub drawn: Vec<(String, String)>,
}

/// Brokers and controllers.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// In order of their ids.
    pub nodes: Vec<NodeDef>,
    /// Settings of every node.
    pub config: BTreeMap<String, String>,
    /// The links at the start.
    pub network: LinkSettings,
    /// What work costs.
    pub host: HostCost,
    /// Bugs that are switched on.
    pub mutants: Vec<Mutant>,
}

impl Cluster {
    /// The ids of the brokers, in order.
    pub fn brokers(&self) -> Vec<i32> {
        self.nodes.iter().filter(|n| n.broker).map(|n| n.id).collect()
    }

    /// The log directories of a node, that of its metadata log included, as its configuration has them.
    pub fn log_dirs(&self, node: &NodeDef) -> Vec<String> {
        let setting = |key: &str| node.config.get(key).or_else(|| self.config.get(key)).cloned();
        let dirs = setting("log.dirs").unwrap_or_else(|| LOG_DIR.to_owned());
        let mut dirs: Vec<String> = dirs.split(',').map(|d| d.trim().to_owned()).collect();
        dirs.extend(setting("metadata.log.dir").filter(|m| !dirs.iter().any(|d| same_dir(d, m))));
        dirs
    }

    /// The ids of the controllers, in order.
    pub fn controllers(&self) -> Vec<i32> {
        self.nodes.iter().filter(|n| n.controller).map(|n| n.id).collect()
    }
}

/// The log directory of every node, unless `log.dirs` says otherwise.
pub const LOG_DIR: &str = "/var/lib/kafka/data";

/// Whether two paths name the same directory.
pub(crate) fn same_dir(a: &str, b: &str) -> bool {
    a.trim_matches('/') == b.trim_matches('/')
}

/// Where this is in `cluster.config`, the voters are in the metadata log (KIP-853).
pub const BOOTSTRAP_SERVERS: &str = "controller.quorum.bootstrap.servers";

/// One node.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeDef {
    /// Role and id: `broker-1`, `controller-101`.
    pub name: String,
    /// `node.id`
    pub id: i32,
    /// Has the broker role.
    pub broker: bool,
    /// Has the controller role.
    pub controller: bool,
    /// `broker.rack`
    pub rack: Option<String>,
    /// Has the controller role and votes when the cluster begins.
    pub voter: bool,
    /// Settings of this node.
    pub config: BTreeMap<String, String>,
}

/// A link's settings; what is absent stays as it is.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct LinkSettings {
    /// Each way.
    pub latency: Option<DurationRange>,
    /// Bytes per second.
    pub bandwidth: Option<u64>,
    /// Share of packets that are retransmitted.
    pub loss: Option<f64>,
    /// A share of messages with another latency.
    pub tail: Option<(f64, DurationRange)>,
    /// How much longer new connections take to stand.
    pub connect: Option<DurationRange>,
}

/// What work costs a node and its disk.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HostCost {
    /// A request.
    pub request: Duration,
    /// Each KiB of a request.
    pub per_kib: Duration,
    /// A flush.
    pub fsync: DurationRange,
    /// From start to listening.
    pub start: DurationRange,
}

/// A topic that exists at 0.0 s.
#[derive(Clone, Debug, PartialEq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// How many partitions.
    pub partitions: i32,
    /// Replicas of each.
    pub replication_factor: i16,
    /// Replicas of each partition, if the file says which.
    pub assignment: Option<Vec<Vec<i32>>>,
    /// Topic settings.
    pub config: BTreeMap<String, String>,
}

/// A client.
#[derive(Clone, Debug, PartialEq)]
pub struct Client {
    /// Its name; values are `NAME-0`, …
    pub name: String,
    /// Client settings.
    pub config: BTreeMap<String, String>,
    /// Whether a step starts it.
    pub later: bool,
    /// That many processes.
    pub instances: u32,
    /// `client.rack`
    pub rack: Option<String>,
    /// What it does.
    pub kind: ClientKind,
}

impl Client {
    /// The names of its processes: its own, or `NAME.1`, `NAME.2`, … if it has several.
    pub fn processes(&self) -> Vec<String> {
        if self.instances == 1 {
            vec![self.name.clone()]
        } else {
            (1..=self.instances).map(|i| format!("{}.{i}", self.name)).collect()
        }
    }
}

impl Scenario {
    /// The topics that the clients of a group read.
    pub fn topics_of_group(&self, group: &str) -> BTreeSet<String> {
        let mut topics = BTreeSet::new();
        for client in &self.clients {
            match &client.kind {
                ClientKind::Consumer { topics: read, group: Some(of), .. } if of == group => {
                    topics.extend(read.iter().cloned());
                }
                ClientKind::Transactional { from, group: of, .. } if of == group => {
                    topics.insert(from.clone());
                }
                _ => {}
            }
        }
        topics
    }
}

/// What a client does.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientKind {
    /// Sends.
    Producer {
        /// Where.
        topic: String,
        /// Messages per second.
        rate: f64,
        /// So many, then it flushes and idles.
        count: Option<u64>,
        /// Distinct keys; 0: none.
        keys: u64,
        /// Bytes of a value.
        size: u32,
        /// Always this partition.
        partition: Option<i32>,
    },
    /// Reads.
    Consumer {
        /// With a group.
        topics: Vec<String>,
        /// The group.
        group: Option<String>,
        /// Assigned partitions.
        partitions: Vec<(String, i32)>,
        /// Where an assigned consumer begins.
        from: From,
        /// Time per record.
        processing: Duration,
        /// When offsets are committed.
        commit: Commit,
    },
    /// Consumes, transforms, produces.
    Transactional {
        /// Reads this topic.
        from: String,
        /// Writes this topic.
        to: String,
        /// Its group.
        group: String,
        /// Records in a transaction.
        transaction_size: u32,
        /// Every so-manieth is aborted; 0: none.
        abort_every: u32,
        /// Time per record.
        processing: Duration,
    },
    /// Runs a command again and again.
    Admin {
        /// The pause.
        every: DurationRange,
        /// The command line.
        command: String,
        /// The same, split.
        words: Vec<String>,
    },
    /// Sends what no honest client sends.
    Hostile {
        /// Frames per second.
        rate: f64,
        /// So many, then it is quiet.
        count: Option<u64>,
        /// The nodes to which it speaks.
        targets: Vec<String>,
        /// What it sends; everything if empty.
        sends: Vec<Attack>,
    },
}

/// Where an assigned consumer begins.
#[derive(Clone, Debug, PartialEq)]
pub enum From {
    /// As `auto.offset.reset` says.
    Reset,
    /// At the log start.
    Beginning,
    /// At the end.
    End,
    /// At these offsets, by partition; others as `auto.offset.reset` says.
    Offsets(BTreeMap<(String, i32), i64>),
}

/// When offsets are committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commit {
    /// Every auto.commit.interval.ms.
    Auto,
    /// Before a poll's records are processed.
    Before,
    /// After they are.
    After,
    /// Never.
    None,
}

/// A step.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Its place in the file's list, counted from 0, before variants leave any out.
    pub index: usize,
    /// Its line in the file.
    pub line: usize,
    /// What it does.
    pub verb: Verb,
    /// Shown to the class.
    pub note: Option<String>,
    /// A heading.
    pub section: Option<String>,
    /// A name in reports.
    pub label: Option<String>,
    /// Keeps the node that it resolved.
    pub keep_as: Option<String>,
    /// A loss excuses nothing if enough others hold what is lost.
    pub covered: bool,
}

/// Somebody whom a step names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// A node, a client, an instance, a name kept with `as`, `brokers`, `controllers`, `lab`, `rest`.
    Name(String),
    /// The leader of a partition.
    LeaderOf(String, i32),
    /// The first replica in assignment order that does not lead.
    FollowerOf(String, i32),
    /// The coordinator of a group or a transactional id.
    CoordinatorOf(String),
    /// The active controller.
    ActiveController,
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Who::Name(name) => f.write_str(name),
            Who::LeaderOf(t, p) => write!(f, "the leader of {t}-{p}"),
            Who::FollowerOf(t, p) => write!(f, "a follower of {t}-{p}"),
            Who::CoordinatorOf(g) => write!(f, "the coordinator of {g}"),
            Who::ActiveController => f.write_str("the active controller"),
        }
    }
}

/// What a step does.
#[derive(Clone, Debug, PartialEq)]
pub enum Verb {
    /// Let virtual time pass.
    Wait(DurationRange),
    /// Run a kafka-* command.
    Command(Box<Command>),
    /// kill -9
    Kill(Vec<Who>),
    /// SIGTERM; whether the step ends only when it has ended.
    Stop(Vec<Who>, bool),
    /// The page cache is lost.
    PowerOff(Vec<Who>, Unsynced),
    /// SIGSTOP
    Pause(Vec<Who>),
    /// SIGCONT
    Resume(Vec<Who>),
    /// A new process.
    Start(Vec<Who>),
    /// A new, empty disk.
    Wipe(Who),
    /// What a node's disk holds now is kept under a name.
    Snapshot(Snapshot),
    /// A disk with what one held before.
    Restore(Restore),
    /// A cut.
    Cut(Cut),
    /// The end of a cut.
    Heal(Heal),
    /// Connections between two sets break.
    Reset(Cut),
    /// A link's settings.
    Link(Link),
    /// Name resolution.
    Names(NamesFault),
    /// A disk fault.
    Disk(DiskFault),
    /// A wall clock.
    Clock(Clock),
    /// Random faults.
    Chaos(Box<Chaos>),
    /// What must hold.
    Expect(Box<Expect>),
    /// Steps again and again.
    Repeat(Repeat),
}

impl Verb {
    /// The word in the file.
    pub fn word(&self) -> &'static str {
        match self {
            Verb::Wait(_) => "wait",
            Verb::Command(_) => "command",
            Verb::Kill(_) => "kill",
            Verb::Stop(..) => "stop",
            Verb::PowerOff(..) => "power_off",
            Verb::Pause(_) => "pause",
            Verb::Resume(_) => "resume",
            Verb::Start(_) => "start",
            Verb::Wipe(_) => "wipe",
            Verb::Snapshot(_) => "snapshot",
            Verb::Restore(_) => "restore",
            Verb::Reset(_) => "reset",
            Verb::Names(_) => "names",
            Verb::Cut(_) => "cut",
            Verb::Heal(_) => "heal",
            Verb::Link(_) => "link",
            Verb::Disk(_) => "disk",
            Verb::Clock(_) => "clock",
            Verb::Chaos(_) => "chaos",
            Verb::Expect(_) => "expect",
            Verb::Repeat(_) => "repeat",
        }
    }
}

/// A kafka-* command line.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// As it stands in the file.
    pub line: String,
    /// Split as a POSIX shell does, a leading path, `.sh` and `docker compose exec NODE` taken off.
    pub words: Vec<String>,
    /// In this order in standard output.
    pub prints: Vec<Pattern>,
    /// In this order in standard error.
    pub prints_error: Vec<Pattern>,
    /// Must not appear.
    pub lacks: Vec<Pattern>,
    /// The exit status.
    pub exit: i32,
    /// Standard input.
    pub stdin: Option<String>,
    /// Files beside it.
    pub files: BTreeMap<String, String>,
    /// Longest virtual time.
    pub timeout: Duration,
    /// Runs on under this name.
    pub background: Option<String>,
}

/// A text to look for.
#[derive(Clone, Debug)]
pub enum Pattern {
    /// As it stands.
    Text(String),
    /// A regular expression, and its source.
    Regex(regex::Regex),
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        match (self, other) {
            (Pattern::Text(a), Pattern::Text(b)) => a == b,
            (Pattern::Regex(a), Pattern::Regex(b)) => a.as_str() == b.as_str(),
            _ => false,
        }
    }
}

impl Pattern {
    /// The first match at or after `from`: where it ends.
    pub fn find(&self, text: &str, from: usize) -> Option<usize> {
        match self {
            Pattern::Text(t) => text[from..].find(t.as_str()).map(|i| from + i + t.len()),
            Pattern::Regex(r) => r.find_at(text, from).map(|m| m.end()),
        }
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Pattern::Text(t) => write!(f, "\"{t}\""),
            Pattern::Regex(r) => write!(f, "/{r}/"),
        }
    }
}

/// A cut.
#[derive(Clone, Debug, PartialEq)]
pub struct Cut {
    /// The first set.
    pub a: Vec<Who>,
    /// The second set.
    pub b: Vec<Who>,
    /// Which way.
    pub direction: Direction,
    /// Breaks connections at once.
    pub reset: bool,
    /// Connections are accepted, and nothing is delivered on them.
    pub jam: bool,
}

/// The end of cuts, or of all faults.
#[derive(Clone, Debug, PartialEq)]
pub enum Heal {
    /// All cuts.
    All,
    /// All network, disk and clock faults.
    Everything,
    /// One cut.
    Between(Cut),
}

/// A change of links.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// One end.
    pub from: Vec<Who>,
    /// The other.
    pub to: Vec<Who>,
    /// Which way.
    pub direction: Direction,
    /// The new settings; absent for "as the cluster began".
    pub settings: Option<LinkSettings>,
}

/// A disk fault.
#[derive(Clone, Debug, PartialEq)]
pub struct DiskFault {
    /// Whose disk.
    pub node: Who,
    /// What is wrong with it; absent: nothing any more.
    pub fault: Option<FaultKind>,
    /// Only this log directory.
    pub dir: Option<String>,
    /// Only this partition's files.
    pub partition: Option<(String, i32)>,
    /// When it begins.
    pub after: After,
}

impl DiskFault {
    /// The word in the file.
    pub fn word(&self) -> &'static str {
        match self.fault {
            None => "none",
            Some(FaultKind::Full) => "full",
            Some(FaultKind::Slow(_)) => "slow",
            Some(FaultKind::ReadError) => "read_error",
            Some(FaultKind::WriteError) => "write_error",
            Some(FaultKind::SyncError) => "sync_error",
            Some(FaultKind::LyingSync) => "lying_sync",
            Some(FaultKind::BitFlip(..)) => "bit_flip",
            Some(FaultKind::Offline) => "offline",
        }
    }
}

/// What a node's disk holds now is kept under a name.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Whose disk.
    pub node: Who,
    /// The name by which it is restored.
    pub name: String,
}

/// A disk with what one held before, for a node that is down.
#[derive(Clone, Debug, PartialEq)]
pub struct Restore {
    /// Whose disk is replaced.
    pub node: Who,
    /// Which content.
    pub from: Source,
}

/// Where the content of a restored disk comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// A snapshot.
    Snapshot(String),
    /// What a node's disk holds now.
    Node(Who),
}

/// Hosts that cannot find others by their names.
#[derive(Clone, Debug, PartialEq)]
pub struct NamesFault {
    /// Who asks; everybody if empty.
    pub at: Vec<Who>,
    /// Whose names; everybody's if empty.
    pub of: Vec<Who>,
    /// Whether they are found again.
    pub resolved: bool,
}

/// A change of a wall clock.
#[derive(Clone, Debug, PartialEq)]
pub struct Clock {
    /// Whose clock.
    pub node: Who,
    /// Nanoseconds forward, negative for back.
    pub step: Option<i64>,
    /// Microseconds gained in each second.
    pub drift_ppm: Option<i64>,
    /// It is put right first.
    pub right: bool,
}

/// Steps again and again.
#[derive(Clone, Debug, PartialEq)]
pub struct Repeat {
    /// How often, if not for each of a list.
    pub times: u32,
    /// For each of these.
    pub each: Vec<Who>,
    /// Their name inside the steps.
    pub name: Option<String>,
    /// The steps.
    pub steps: Vec<Step>,
}

/// What must hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Expect {
    /// What it is about.
    pub on: Subject,
    /// The fields, in the order of the file.
    pub fields: Vec<(String, Want)>,
    /// Becomes true within this time.
    pub within: Option<Duration>,
    /// Then holds for this time.
    pub holds_for: Option<Duration>,
}

/// What an expectation is about.
#[derive(Clone, Debug, PartialEq)]
pub enum Subject {
    /// One partition.
    Partition(String, i32),
    /// All partitions of a topic.
    Topic(String),
    /// A client.
    Client(String),
    /// A group.
    Group(String),
    /// The metadata quorum.
    Quorum,
    /// A node.
    Node(Who),
    /// A checker's finding.
    Violation(Want),
}

/// What a field must be.
#[derive(Clone, Debug, PartialEq)]
pub enum Want {
    /// This number (times in milliseconds, rates per second).
    Number(f64),
    /// Between these.
    Between(Option<f64>, Option<f64>),
    /// A rate between these over a window.
    Rate {
        /// Not less.
        at_least: Option<f64>,
        /// Not more.
        at_most: Option<f64>,
        /// The window.
        over: Duration,
    },
    /// This word.
    Word(String),
    /// True or false.
    Truth(bool),
    /// One broker; `none` is the name `none`, ids are written out.
    Id(Who),
    /// Any of these brokers (`leader`).
    AnyOf(Vec<Who>),
    /// Exactly this set of brokers.
    Set(Vec<Who>),
    /// These brokers in this order.
    Ordered(Vec<Who>),
    /// All of the first, none of the second.
    HasLacks(Vec<Who>, Vec<Who>),
    /// Numbers by key: quantiles, offsets by partition; and a window for quantiles.
    Each(BTreeMap<String, Want>, Option<Duration>),
    /// Lists of partitions by member.
    Lists(BTreeMap<String, Vec<String>>),
    /// Anything but this.
    Not(Box<Want>),
}

/// What is done after the last step, and what must hold then.
#[derive(Clone, Debug, PartialEq)]
pub struct Finally {
    /// What the checkers must find; absent: nothing promised may be broken.
    pub violations: Option<WantedViolations>,
    /// Holds after everything.
    pub expect: Vec<Expect>,
    /// How long consumers may take to catch up.
    pub within: Duration,
    /// Start, heal and repair everything first.
    pub restore: bool,
}

/// What the checkers must find.
#[derive(Clone, Debug, PartialEq)]
pub enum WantedViolations {
    /// Exactly these.
    Exactly(Vec<WantedViolation>),
    /// At least the first, none of the second.
    HasLacks(Vec<WantedViolation>, Vec<WantedViolation>),
}

/// A checker's name, perhaps on one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedViolation {
    /// The checker.
    pub name: String,
    /// The topic.
    pub topic: Option<String>,
}

/// Why a scenario cannot be run, ready to be shown.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("{path}: {why}\n  = help: `highwater scenarios` lists those that come with Highwater")]
    Unreadable {
        /// The path as the user wrote it.
        path: String,
        /// The system's words.
        why: String,
    },
    /// The text is not a scenario that can be run.
    #[error("{rendered}")]
    Refused {
        /// The problem with its place, rendered without colours.
        rendered: String,
        /// The problem itself.
        problem: Problem,
    },
}

/// Reads and checks a scenario file with all its variants.
pub fn load(path: &Path) -> Result<Sheet, LoadError> {
    let text = std::fs::read_to_string(path).map_err(|e| LoadError::Unreadable {
        path: path.display().to_string(),
        why: match e.kind() {
            std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
            std::io::ErrorKind::InvalidData => "the file is not UTF-8 text".to_owned(),
            _ => e.to_string(),
        },
    })?;
    parse(path, text)
}

/// Checks the text of a scenario file with all its variants.
pub fn parse(path: &Path, text: String) -> Result<Sheet, LoadError> {
    let name = path.file_stem().map_or_else(|| "scenario".to_owned(), |s| s.to_string_lossy().into_owned());
    let file = path.display().to_string();
    let refused =
        |problem: Problem| LoadError::Refused { rendered: problem.render(&file, &text, false), problem };
    let root = tree::parse(&text).map_err(refused)?;
    format::SCENARIO.check(&root).map_err(refused)?;
    let variants: Vec<String> =
        root.field("variants").map_or_else(Vec::new, |v| v.entries().iter().map(|e| e.key.clone()).collect());
    let sheet = Sheet { name, path: path.to_owned(), text: text.clone(), root, variants };
    sheet.build(None).map_err(refused)?;
    for variant in &sheet.variants {
        sheet.build(Some(variant)).map_err(refused)?;
    }
    Ok(sheet)
}

impl Sheet {
    /// The scenario with a variant applied; `None` for the sheet as it stands. An unknown variant is a problem.
    pub fn variant(&self, name: Option<&str>) -> Result<Scenario, LoadError> {
        self.with_overrides(name, &[])
    }

    /// The scenario with a variant applied, then changes of the form `POINTER=VALUE`; a value that is no JSON is a text.
    pub fn with_overrides(&self, variant: Option<&str>, changes: &[String]) -> Result<Scenario, LoadError> {
        let root = self.changed(variant, changes)?;
        self.finish(&root, variant).map_err(|problem| self.refused(problem))
    }

    /// The same as JSON: one sheet without variants, and without the steps of other ones.
    pub fn document(
        &self,
        variant: Option<&str>,
        changes: &[String],
    ) -> Result<serde_json::Value, LoadError> {
        let mut document = self.changed(variant, changes)?.to_json();
        let about = self.about_of(variant);
        let map = document.as_object_mut().expect("a scenario is an object");
        map.shift_remove("variants");
        if let Some(about) = about {
            map.insert("about".to_owned(), about.into());
        }
        if let Some(steps) = map.get_mut("steps") {
            keep_steps(steps, variant);
        }
        Ok(document)
    }

    fn refused(&self, problem: Problem) -> LoadError {
        let rendered = problem.render(&self.path.display().to_string(), &self.text, false);
        LoadError::Refused { rendered, problem }
    }

    fn changed(&self, variant: Option<&str>, changes: &[String]) -> Result<Tree, LoadError> {
        if let Some(name) = variant
            && !self.variants.iter().any(|v| v == name)
        {
            let known: Vec<&str> = self.variants.iter().map(String::as_str).collect();
            let help = match nearest::suggestion(name, &known) {
                Some(help) => help,
                None => "this scenario has no variants".to_owned(),
            };
            return Err(LoadError::Unreadable {
                path: self.path.display().to_string(),
                why: format!("there is no variant \"{name}\"; {help}"),
            });
        }
        let mut root = self.applied(variant).map_err(|problem| self.refused(problem))?;
        for change in changes {
            let refuse = |why: String| LoadError::Unreadable { path: format!("--set {change}"), why };
            let (pointer, value) = change.split_once('=').ok_or_else(|| {
                refuse("expected POINTER=VALUE, such as /topics/0/config/min.insync.replicas=1".to_owned())
            })?;
            let mut value =
                tree::parse(value).unwrap_or(Tree { span: 0..0, kind: tree::Kind::Text(value.to_owned()) });
            value.forget_place();
            root.set(pointer, 0..0, value).map_err(|problem| refuse(problem.text))?;
            // What is set is not drawn.
            root.remove_entry("swarm", pointer);
        }
        if !changes.is_empty() {
            format::SCENARIO.check(&root).map_err(|problem| self.refused(problem))?;
        }
        Ok(root)
    }

    fn applied(&self, variant: Option<&str>) -> Result<Tree, Problem> {
        let mut root = self.root.clone();
        if let Some(name) = variant {
            let entry = self.root.field("variants").and_then(|v| v.field(name)).expect("a known variant");
            for change in entry.field("set").map_or(&[][..], |s| s.entries()) {
                root.set(&change.key, change.key_span.clone(), change.value.clone())?;
            }
            if let Some(finally) = entry.field("finally") {
                root.set("/finally", finally.span.clone(), finally.clone())?;
            }
            format::SCENARIO.check(&root)?;
        }
        Ok(root)
    }

    fn about_of(&self, variant: Option<&str>) -> Option<String> {
        let entry = self.root.field("variants").and_then(|v| v.field(variant?))?;
        entry.field("about").and_then(|a| a.text()).map(str::to_owned)
    }

    fn finish(&self, root: &Tree, variant: Option<&str>) -> Result<Scenario, Problem> {
        let mut scenario = build::scenario(root, &self.name, &self.text, variant, &self.variants)?;
        if let Some(about) = self.about_of(variant) {
            scenario.about = Some(about);
        }
        scenario.swarm = swarm::swarm(root, &scenario, &self.text, &self.variants)?;
        Ok(scenario)
    }

    fn build(&self, variant: Option<&str>) -> Result<Scenario, Problem> {
        self.finish(&self.applied(variant)?, variant)
    }
}

/// Leaves out the steps that other variants have, and what says so.
fn keep_steps(steps: &mut serde_json::Value, variant: Option<&str>) {
    let Some(list) = steps.as_array_mut() else { return };
    list.retain_mut(|step| {
        let Some(step) = step.as_object_mut() else { return true };
        let names = |value: Option<serde_json::Value>| {
            let value = value.filter(|v| v.as_array().is_none_or(|list| !list.is_empty()))?;
            let named = |v: &serde_json::Value| v.as_str().is_some_and(|v| Some(v) == variant);
            Some(value.as_array().map_or_else(|| named(&value), |list| list.iter().any(named)))
        };
        let only = names(step.shift_remove("only"));
        let not_in = names(step.shift_remove("not_in"));
        if let Some(inner) = step.get_mut("steps") {
            keep_steps(inner, variant);
        }
        only.unwrap_or(true) && !not_in.unwrap_or(false)
    });
}
