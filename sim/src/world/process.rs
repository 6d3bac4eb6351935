//! Processes: what runs in the world, and what becomes of it.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use broker_core::config::NodeConfig;
use broker_core::disk::{Disk, DiskError, Ticket};
use broker_core::io::{Input, Listener, Output, Outputs};
use broker_core::node::{NewCluster, Node};
use bytes::Bytes;
use wire::Rope;
use wire::drive::{ConnError, ConnId, Instant, Nanos, Now};

use super::net::EndRef;
use super::time::{Between, SimTime};

/// A process of a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcId(pub u32);

/// What a process is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProcState {
    /// Not running: never started, killed, or exited.
    Down,
    /// Started, and not yet listening.
    Starting,
    /// Running.
    Running,
    /// Running, and asked to leave.
    Stopping,
    /// Stopped by SIGSTOP.
    Paused,
    /// It stopped itself, as Kafka's fault handlers do.
    Halted,
}

impl fmt::Display for ProcState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ProcState::Down => "down",
            ProcState::Starting => "starting",
            ProcState::Running => "running",
            ProcState::Stopping => "stopping",
            ProcState::Paused => "paused",
            ProcState::Halted => "halted",
        })
    }
}

/// What work costs a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkCost {
    /// Each frame that it takes.
    pub request: Nanos,
    /// Each KiB that it takes or sends.
    pub kib: Nanos,
}

impl WorkCost {
    /// A Kafka node: 10 µs a request and 1 µs a KiB.
    pub const NODE: WorkCost = WorkCost { request: Nanos::from_micros(10), kib: Nanos::from_micros(1) };
    /// No cost: clients.
    pub const NONE: WorkCost = WorkCost { request: Nanos::ZERO, kib: Nanos::ZERO };
}

/// From `start` to listening: a Kafka node.
pub const NODE_START: Between = Between::micros(300_000, 600_000);

/// What a new incarnation of a process is made from.
pub struct Boot<'a> {
    /// The seed of its stream of chance: one for each process and incarnation.
    pub seed: [u8; 32],
    /// 1 for the first.
    pub incarnation: u32,
    /// The time.
    pub now: Now,
    /// The disk of its host.
    pub disk: &'a mut dyn Disk,
}

/// A state machine of the test harness's own, in the place of a node. It speaks the node's language.
pub trait Machine: Send {
    /// Takes one input.
    fn handle(&mut self, now: Now, input: Input, disk: &mut dyn Disk, out: &mut Outputs);
    /// When it wants [`Input::Timer`].
    fn deadline(&self) -> Option<Instant>;
    /// Its ports.
    fn listeners(&self) -> Vec<(u16, Listener)>;
    /// The largest frame that it takes.
    fn frame_limit(&self) -> i32 {
        i32::MAX
    }
    /// A copy.
    fn box_clone(&self) -> Box<dyn Machine>;
    /// Itself, for tests that look inside.
    fn as_any(&self) -> &dyn Any;
}

/// Makes the [`Machine`] of a new incarnation.
pub type MachineMaker = Arc<dyn Fn(Boot<'_>) -> Box<dyn Machine> + Send + Sync>;

/// What a client process of a new incarnation is made from.
#[derive(Clone, Copy, Debug)]
pub struct ClientBoot {
    /// The seed of its stream of chance: one for each process and incarnation.
    pub seed: [u8; 32],
    /// 1 for the first.
    pub incarnation: u32,
    /// The time.
    pub now: Now,
}

/// Makes the client process of a new incarnation, or says in words why it cannot.
pub type ClientMaker = Arc<dyn Fn(ClientBoot) -> Result<client::Process, String> + Send + Sync>;

/// What a Kafka node is made from.
#[derive(Clone)]
pub struct NodeSetup {
    /// Its configuration.
    pub config: Arc<NodeConfig>,
    /// What its disk is formatted with.
    pub cluster: NewCluster,
}

/// How the incarnations of a process are made.
#[derive(Clone)]
pub enum Make {
    /// A Kafka node, from what its disk holds.
    Node(NodeSetup),
    /// A client.
    Client(ClientMaker),
    /// A state machine of the test harness.
    Machine(MachineMaker),
}

/// One process of the world.
#[derive(Clone)]
pub struct ProcSpec {
    /// `broker-1`, `shop.2`.
    pub name: String,
    /// Its host's name; processes may share one.
    pub host: String,
    /// From start to running (and listening).
    pub start: Between,
    /// What work costs it.
    pub cost: WorkCost,
    /// How its incarnations are made.
    pub make: Make,
}

impl ProcSpec {
    /// A Kafka node on a host of its own name, with the usual cost of work.
    pub fn node(name: &str, setup: NodeSetup) -> ProcSpec {
        let (name, host) = (name.to_owned(), name.to_owned());
        ProcSpec { name, host, start: NODE_START, cost: WorkCost::NODE, make: Make::Node(setup) }
    }

    /// A client process, which starts at once and whose work costs nothing.
    pub fn client(name: &str, host: &str, make: ClientMaker) -> ProcSpec {
        ProcSpec::of_client(name, host, Make::Client(make))
    }

    /// The same for what takes a client's place.
    pub fn of_client(name: &str, host: &str, make: Make) -> ProcSpec {
        let (name, host) = (name.to_owned(), host.to_owned());
        let start = Between::exactly(Nanos::ZERO);
        ProcSpec { name, host, start, cost: WorkCost::NONE, make }
    }
}

/// What runs in a process.
pub(super) enum Slot {
    /// Nothing.
    Empty,
    /// A Kafka node.
    Node(Box<Node>),
    /// A client.
    Client(Box<client::Process>),
    /// A state machine of the test harness.
    Machine(Box<dyn Machine>),
}

impl Clone for Slot {
    fn clone(&self) -> Slot {
        match self {
            Slot::Empty => Slot::Empty,
            Slot::Node(node) => Slot::Node(node.clone()),
            Slot::Client(process) => Slot::Client(process.clone()),
            Slot::Machine(machine) => Slot::Machine(machine.box_clone()),
        }
    }
}

impl Slot {
    /// Its open ports, with the largest frame that each takes.
    pub(super) fn listeners(&self) -> Vec<(u16, Listener, i32)> {
        match self {
            Slot::Empty | Slot::Client(_) => Vec::new(),
            Slot::Node(node) => {
                let limit = |listener| i32::try_from(node.frame_limit(listener)).unwrap_or(i32::MAX);
                node.listeners()
                    .map(|(listener, spec)| (spec.endpoint.port, listener, limit(listener)))
                    .collect()
            }
            Slot::Machine(machine) => {
                let limit = machine.frame_limit();
                machine.listeners().into_iter().map(|(port, listener)| (port, listener, limit)).collect()
            }
        }
    }

    /// Changes whenever the open ports of a node do. Those of others never change.
    #[inline]
    pub(super) fn ports_mark(&self) -> u64 {
        match self {
            Slot::Node(node) => {
                node.listeners().fold(1, |mark, (_, spec)| mark << 16 | u64::from(spec.endpoint.port))
            }
            Slot::Empty | Slot::Client(_) | Slot::Machine(_) => 0,
        }
    }

    #[inline]
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Slot::Empty => None,
            Slot::Node(node) => node.deadline().map(|(at, _)| at),
            Slot::Client(process) => process.deadline(),
            Slot::Machine(machine) => machine.deadline(),
        }
    }
}

/// What waits to be taken by a process.
#[derive(Clone, Debug)]
pub(super) enum Item {
    Start,
    Accepted { conn: ConnId, listener: Listener, peer: String },
    Connected { conn: ConnId },
    ConnectFailed { conn: ConnId, why: ConnError },
    Frame { conn: ConnId, end: EndRef, frame: Box<Rope> },
    Oversized { conn: ConnId, announced: i32 },
    Sent { conn: ConnId, bytes_left: usize },
    Closed { conn: ConnId, why: ConnError },
    Synced { ticket: Ticket, result: Result<(), DiskError> },
    Timer,
    Shutdown,
    Stdin { bytes: Bytes },
    StdinClosed,
}

impl Item {
    /// The connection that it is about.
    pub(super) fn conn(&self) -> Option<ConnId> {
        match self {
            Item::Accepted { conn, .. }
            | Item::Connected { conn }
            | Item::ConnectFailed { conn, .. }
            | Item::Frame { conn, .. }
            | Item::Oversized { conn, .. }
            | Item::Sent { conn, .. }
            | Item::Closed { conn, .. } => Some(*conn),
            Item::Start
            | Item::Synced { .. }
            | Item::Timer
            | Item::Shutdown
            | Item::Stdin { .. }
            | Item::StdinClosed => None,
        }
    }

    /// As a client's input; `None` for what clients have no use for.
    pub(super) fn for_client(self) -> Option<client::Input> {
        Some(match self {
            Item::Start => client::Input::Start,
            Item::Connected { conn } => client::Input::Connected { conn },
            Item::ConnectFailed { conn, why } => client::Input::ConnectFailed { conn, why },
            Item::Frame { conn, frame, .. } => client::Input::Frame { conn, frame: *frame },
            Item::Closed { conn, why } => client::Input::Closed { conn, why },
            Item::Timer => client::Input::Timer,
            Item::Shutdown => client::Input::Stop,
            Item::Stdin { bytes } => client::Input::Stdin { bytes },
            Item::StdinClosed => client::Input::StdinClosed,
            // Clients listen nowhere, wait for answers rather than fill buffers, and have no disk.
            Item::Accepted { .. } | Item::Oversized { .. } | Item::Sent { .. } | Item::Synced { .. } => {
                return None;
            }
        })
    }

    /// As a node's input; `None` for what nodes have no use for.
    pub(super) fn for_node(self) -> Option<Input> {
        Some(match self {
            Item::Accepted { conn, listener, peer } => Input::Accepted { conn, listener, peer },
            Item::Connected { conn } => Input::Connected { conn },
            Item::ConnectFailed { conn, why } => Input::ConnectFailed { conn, why },
            Item::Frame { conn, frame, .. } => Input::Frame { conn, frame: *frame },
            Item::Oversized { conn, announced } => Input::Oversized { conn, announced },
            Item::Sent { conn, bytes_left } => Input::Sent { conn, bytes_left },
            Item::Closed { conn, why } => Input::Closed { conn, why },
            Item::Synced { ticket, result } => Input::Synced { ticket, result },
            Item::Timer => Input::Timer,
            Item::Shutdown => Input::Shutdown,
            Item::Start | Item::Stdin { .. } | Item::StdinClosed => return None,
        })
    }
}

/// One process as the world keeps it.
#[derive(Clone)]
pub(super) struct Proc {
    pub name: Arc<str>,
    pub host: u32,
    pub spec: ProcSpec,
    pub state: ProcState,
    pub paused: bool,
    pub incarnation: u32,
    /// The incarnation that the runtime has executed.
    pub executed: u32,
    pub slot: Slot,
    pub out: Outputs,
    pub client_out: client::Outputs,
    /// [`Slot::ports_mark`] when its ports were last told to the network.
    pub ports_mark: u64,
    pub inbox: VecDeque<Item>,
    /// Its outputs leave, and it takes the next input, at this instant.
    pub busy_until: Option<SimTime>,
    /// How much of that its disk's stalls have made.
    pub stalled: Nanos,
    /// What came due while it was paused.
    pub missed_wake: bool,
    pub missed_boot: bool,
    /// When its timer is in the agenda, soonest last: a deadline that moves on leaves its key behind, to be looked at
    /// again when that is due, so that a far deadline has one key however often a near one comes before it.
    pub timers: Vec<SimTime>,
    pub timer_waits: bool,
    pub exit_code: Option<i32>,
    /// How many times its disk was wiped.
    pub wiped: u32,
}

impl Proc {
    pub fn new(spec: ProcSpec, host: u32) -> Proc {
        Proc {
            name: spec.name.as_str().into(),
            host,
            spec,
            state: ProcState::Down,
            paused: false,
            incarnation: 0,
            executed: 0,
            slot: Slot::Empty,
            out: Outputs::new(0),
            client_out: client::Outputs::new(0),
            ports_mark: 0,
            inbox: VecDeque::new(),
            busy_until: None,
            stalled: Nanos::ZERO,
            missed_wake: false,
            missed_boot: false,
            timers: Vec::new(),
            timer_waits: false,
            exit_code: None,
            wiped: 0,
        }
    }

    /// Whether there is a process at all.
    pub fn lives(&self) -> bool {
        matches!(self.state, ProcState::Starting | ProcState::Running | ProcState::Stopping)
    }

    /// Whether it takes an input now.
    #[inline]
    pub fn is_free(&self) -> bool {
        self.busy_until.is_none() && !self.paused
    }

    /// A connection id that was never used.
    pub fn next_conn(&mut self) -> ConnId {
        self.out.next_conn()
    }

    /// Bytes of the frames that it wants sent.
    #[inline]
    pub fn bytes_to_send(&self) -> usize {
        let len = |output: &Output| if let Output::Send { frame, .. } = output { frame.len() } else { 0 };
        self.out.items.iter().map(len).sum()
    }

    /// Whether it is the process that uses its host's disk.
    pub fn owns_disk(&self) -> bool {
        match self.spec.make {
            Make::Node(_) | Make::Machine(_) => true,
            Make::Client(_) => false,
        }
    }

    /// Forgets all that dies with the process.
    pub fn clear(&mut self, state: ProcState) {
        self.state = state;
        self.paused = false;
        self.slot = Slot::Empty;
        self.out.items.clear();
        self.client_out.items.clear();
        self.ports_mark = 0;
        self.inbox.clear();
        self.busy_until = None;
        self.missed_wake = false;
        self.missed_boot = false;
        self.timers.clear();
        self.timer_waits = false;
    }
}
