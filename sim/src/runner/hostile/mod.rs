//! A client that misbehaves: it sends what no honest client sends, and never does what it should.
//!
//! It speaks to brokers over connections of its own, a bounded number of them, at a regular rate. What it sends comes from
//! its own stream of chance; it closes connections at any moment, leaves answers unread, and asks again and again. A node
//! must neither stop nor jam for it: whatever it gets is an error in Kafka's words or a closed connection.

pub mod frames;

use std::any::Any;
use std::collections::BTreeMap;

use broker_core::disk::Disk;
use broker_core::io::{Input, Listener, Output, Outputs};
use wire::Rope;
use wire::drive::{ConnId, Endpoint, Instant, Nanos, Now};

use crate::world::chance::Chance;
use crate::world::{Boot, Machine};
use frames::{ATTACKS, Attack, Frames};

/// Connections that it keeps at once.
const CONNECTIONS: usize = 6;
/// Frames that it sends at most without reading an answer.
const BURST: u64 = 20;

/// What it does.
#[derive(Clone, Debug)]
pub struct HostileSpec {
    /// To whom it speaks.
    pub targets: Vec<Endpoint>,
    /// The pause between two frames.
    pub every: Nanos,
    /// So many, then it is quiet; absent: without end.
    pub count: Option<u64>,
    /// What it sends; everything if empty.
    pub attacks: Vec<Attack>,
    /// Names of topics that there are.
    pub topics: Vec<String>,
}

/// What became of it, for tests and reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames by what was wrong with them.
    pub sent: BTreeMap<Attack, u64>,
    /// Answers.
    pub answered: u64,
    /// Connections that brokers closed.
    pub closed: u64,
    /// Connections that could not be made.
    pub refused: u64,
}

/// The client.
#[derive(Clone)]
pub struct Hostile {
    spec: HostileSpec,
    frames: Frames,
    next_at: Instant,
    left: u64,
    /// Whether they stand.
    conns: BTreeMap<ConnId, bool>,
    /// What became of it.
    pub counts: Counts,
}

impl Hostile {
    /// A new incarnation.
    pub fn new(spec: HostileSpec, boot: &Boot<'_>) -> Hostile {
        let frames = Frames::new(Chance::from_seed(boot.seed), spec.topics.clone());
        Hostile {
            frames,
            next_at: boot.now.mono,
            left: spec.count.unwrap_or(u64::MAX),
            conns: BTreeMap::new(),
            counts: Counts::default(),
            spec,
        }
    }

    fn act(&mut self, now: Now, out: &mut Outputs) {
        self.next_at = Instant(now.mono.0 + self.spec.every.0);
        let standing: Vec<ConnId> = self.conns.iter().filter(|(_, up)| **up).map(|(conn, _)| *conn).collect();
        if self.conns.len() < CONNECTIONS && (standing.is_empty() || self.frames.below(3) == 0) {
            self.connect(out);
        }
        if standing.is_empty() {
            return;
        }
        let conn = standing[self.frames.below(standing.len() as u64) as usize];
        let times = if self.frames.below(10) == 0 { 1 + self.frames.below(BURST) } else { 1 };
        for _ in 0..times.min(self.left) {
            self.attack(conn, out);
        }
        // Sometimes it is gone before it can be answered.
        if self.frames.below(8) == 0 {
            self.conns.remove(&conn);
            out.items.push(Output::Close { conn, why: "had enough".to_owned() });
        }
    }

    fn connect(&mut self, out: &mut Outputs) {
        let to = self.spec.targets[self.frames.below(self.spec.targets.len() as u64) as usize].clone();
        let conn = out.next_conn();
        self.conns.insert(conn, false);
        out.items.push(Output::Connect { conn, to });
    }

    fn attack(&mut self, conn: ConnId, out: &mut Outputs) {
        let kinds: &[Attack] = if self.spec.attacks.is_empty() { &ATTACKS } else { &self.spec.attacks };
        let attack = kinds[self.frames.below(kinds.len() as u64) as usize];
        let frame = self.frames.frame(attack);
        self.left -= 1;
        *self.counts.sent.entry(attack).or_default() += 1;
        out.items.push(Output::Send { conn, frame: Rope::from(frame.freeze()) });
    }
}

impl Machine for Hostile {
    fn handle(&mut self, now: Now, input: Input, _: &mut dyn Disk, out: &mut Outputs) {
        match input {
            Input::Timer if self.left > 0 && now.mono >= self.next_at => self.act(now, out),
            Input::Connected { conn } => {
                if let Some(up) = self.conns.get_mut(&conn) {
                    *up = true;
                }
            }
            Input::ConnectFailed { conn, .. } => {
                self.conns.remove(&conn);
                self.counts.refused += 1;
            }
            Input::Closed { conn, .. } => {
                self.conns.remove(&conn);
                self.counts.closed += 1;
            }
            Input::Frame { .. } => self.counts.answered += 1,
            Input::Shutdown => out.items.push(Output::Stopped),
            _ => {}
        }
    }

    fn deadline(&self) -> Option<Instant> {
        (self.left > 0).then_some(self.next_at)
    }

    fn listeners(&self) -> Vec<(u16, Listener)> {
        Vec::new()
    }

    fn box_clone(&self) -> Box<dyn Machine> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
