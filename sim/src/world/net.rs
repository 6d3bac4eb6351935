//! Connections over the links, as processes see TCP.
//!
//! - In order per connection; only the head of a direction's queue has a key in the agenda.
//! - Setting up costs a round trip, and longer where the link says so. A host whose resolver fails finds nobody. A host that runs refuses what no process listens for; a host that is off or cut off is
//!   silent until the time-out that Linux has (127 s), while requests are sent again after 1, 2, 4 … s.
//! - What does not arrive because of a cut, a jam or a host that is off is sent again after 200 ms, 400 ms, … 120 s, and
//!   so arrives some time after the heal, unless the sender has closed. After 924 s the sender gives up.
//! - A dead process resets its connections, in order behind what it had sent. A host that lost its power says nothing;
//!   when it is back, it resets whoever still sends to a connection that it does not know.
//! - Buffers are finite: beyond [`WINDOW`] bytes that the receiver has not taken, frames wait at the sender, who hears of
//!   it (`Sent`), and of their draining.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use broker_core::io::Listener;
use wire::Rope;
use wire::drive::{ConnError, ConnId, Endpoint, Nanos};

use super::agenda::{Agenda, Kind, Seq};
use super::link::{GIVE_UP, Links, RTO_MAX, RTO_MIN};
use super::time::SimTime;

/// What the buffers of both kernels hold together, in bytes: Kafka asks for 100 KiB on each side
/// (`socket.send.buffer.bytes`, `socket.receive.buffer.bytes`). A single larger frame still passes, alone.
pub const WINDOW: usize = 200 * 1024;

const SYN_RETRIES: u32 = 6;
const SYN_TIMEOUT: Nanos = Nanos::from_secs(1);
const RESOLVER: Nanos = Nanos::from_micros(200);

/// One end of a connection: its place in the table and which of the two. Stale once its generation has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndRef {
    packed: u32,
    generation: u32,
}

impl EndRef {
    fn conn(self) -> usize {
        (self.packed >> 1) as usize
    }

    fn side(self) -> usize {
        (self.packed & 1) as usize
    }

    fn peer(self) -> EndRef {
        EndRef { packed: self.packed ^ 1, generation: self.generation }
    }
}

/// What a connection brings to a process: `conn` is the id by which the process knows it, `end` its end of it.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "described as a whole")]
pub enum Arrival {
    /// Somebody connected. The process's connection id is bound with [`Net::bind`].
    Accepted { end: EndRef, listener: Listener, from_host: u32 },
    /// A connection that was asked for stands.
    Connected { conn: ConnId },
    /// A connection that was asked for could not be made.
    ConnectFailed { conn: ConnId, why: ConnError },
    /// A frame, without its prefix.
    Frame { conn: ConnId, end: EndRef, frame: Box<Rope> },
    /// The announcement of a frame that is too large.
    Oversized { conn: ConnId, announced: i32 },
    /// A jam drains.
    Sent { conn: ConnId, bytes_left: usize },
    /// The connection is gone.
    Closed { conn: ConnId, why: ConnError },
}

/// How a process leaves its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// It exited: what was sent is still delivered, then the peer sees an orderly close.
    Exit,
    /// It was killed: peers see a reset.
    Killed,
    /// Its host lost power: peers see nothing.
    PowerLost,
}

/// A process that listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listening {
    /// Its host.
    pub host: u32,
    /// The port.
    pub port: u16,
    /// Which of its listeners that is.
    pub listener: Listener,
    /// The largest frame that it takes.
    pub frame_limit: i32,
    /// The process.
    pub proc: u32,
    /// Its incarnation.
    pub incarnation: u32,
}

#[derive(Clone, Debug)]
enum Load {
    Hello,
    /// In a box, since it is handed on several times and a rope is large.
    Frame(Box<Rope>),
    Oversized(i32),
    Fin,
    Reset,
}

impl Load {
    fn len(&self) -> usize {
        if let Load::Frame(frame) = self { frame.len() + 4 } else { 0 }
    }
}

#[derive(Clone, Debug)]
struct Packet {
    at: SimTime,
    seq: Seq,
    load: Load,
}

#[derive(Clone, Copy, Debug)]
struct Stall {
    since: SimTime,
    timeout: Nanos,
}

/// What one end sends to the other.
#[derive(Clone, Debug, Default)]
struct Pipe {
    /// On its way, in order.
    queue: VecDeque<Packet>,
    /// Whether the head of `queue` has a key in the agenda.
    armed: bool,
    last_arrival: SimTime,
    /// Nothing gets through; a retransmission is in the agenda.
    stall: Option<Stall>,
    /// On its way, or with the receiver but not yet taken, in bytes.
    outstanding: usize,
    /// Taken by the receiver, whose acknowledgement did not get through, in bytes.
    unacknowledged: usize,
    ack_stall: Option<Stall>,
    drain_armed: bool,
    /// What did not fit the window.
    backlog: VecDeque<Load>,
    backlog_bytes: usize,
    /// Bytes that are not yet a whole frame: only senders that are no Kafka processes leave any.
    partial: Rope,
    /// The receiver gave up reading after an oversized frame.
    broken: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The acceptor, until the connection reaches its process; the initiator, until it stands.
    Opening,
    Open,
    Gone,
}

#[derive(Clone, Debug)]
struct End {
    proc: u32,
    incarnation: u32,
    host: u32,
    conn: ConnId,
    state: State,
    listener: Listener,
    frame_limit: i32,
    /// The process takes no frames now; they are kept in `held`.
    paused: bool,
    held: VecDeque<Load>,
}

#[derive(Clone, Debug)]
struct Conn {
    generation: u32,
    ends: [End; 2],
    pipes: [Pipe; 2],
    port: u16,
    attempt: u32,
    reset_back: bool,
}

/// Hosts, links and connections.
#[derive(Clone, Debug)]
pub struct Net {
    /// The links.
    pub links: Links,
    hosts: Vec<Arc<str>>,
    host_on: Vec<bool>,
    /// Names that cannot be resolved: (by whom, whose).
    unresolved: BTreeSet<(u32, u32)>,
    listening: Vec<Listening>,
    conns: Vec<Conn>,
    free: Vec<u32>,
    /// For each process: its connections by id, sorted, since ids only grow.
    by_proc: Vec<Vec<(ConnId, u32)>>,
}

impl Net {
    /// No hosts yet.
    pub fn new(links: Links) -> Net {
        Net {
            links,
            hosts: Vec::new(),
            host_on: Vec::new(),
            unresolved: BTreeSet::new(),
            listening: Vec::new(),
            conns: Vec::new(),
            free: Vec::new(),
            by_proc: Vec::new(),
        }
    }

    /// Adds a host that is on.
    pub fn add_host(&mut self, name: &str) {
        self.links.add_host(name);
        self.hosts.push(name.into());
        self.host_on.push(true);
    }

    /// Adds a process.
    pub fn add_proc(&mut self) {
        self.by_proc.push(Vec::new());
    }

    /// Whether a host is on.
    pub fn host_is_on(&self, host: u32) -> bool {
        self.host_on[host as usize]
    }

    /// Turns a host on or off. What its processes leave behind is told by [`Net::process_left`].
    pub fn set_host_on(&mut self, host: u32, on: bool) {
        self.host_on[host as usize] = on;
    }

    /// From now on a host can (or cannot) find another by its name. Connections that stand do not mind.
    pub fn set_resolved(&mut self, at: u32, of: u32, resolved: bool) {
        if resolved {
            self.unresolved.remove(&(at, of));
        } else {
            self.unresolved.insert((at, of));
        }
    }

    /// Every name can be resolved by everybody.
    pub fn resolve_all(&mut self) {
        self.unresolved.clear();
    }

    /// A process listens from now on.
    pub fn listen(&mut self, listening: Listening) {
        self.listening.push(listening);
    }

    /// A process listens no more. Its connections stay.
    pub fn stop_listening(&mut self, proc: u32) {
        self.listening.retain(|l| l.proc != proc);
    }

    /// How many connections exist, in any state.
    pub fn connections(&self) -> usize {
        self.conns.len() - self.free.len()
    }

    /// Asks for a connection. The answer is an [`Arrival`].
    pub fn connect(
        &mut self,
        agenda: &mut Agenda,
        now: SimTime,
        (proc, incarnation, host): (u32, u32, u32),
        id: ConnId,
        to: &Endpoint,
    ) {
        let target = self.hosts.iter().position(|name| **name == *to.host);
        let target = target.filter(|of| !self.unresolved.contains(&(host, *of as u32)));
        let end = |proc, host, conn| End {
            proc,
            incarnation,
            host,
            conn,
            state: State::Opening,
            listener: Listener::Broker,
            frame_limit: i32::MAX,
            paused: false,
            held: VecDeque::new(),
        };
        let ends = [end(proc, host, id), end(u32::MAX, target.map_or(u32::MAX, |t| t as u32), ConnId(0))];
        let initiator = self.insert(ends, to.port);
        let conns = &mut self.by_proc[proc as usize];
        // The id was taken when the process asked; it may have accepted others while it was busy.
        let place = conns.binary_search_by_key(&id, |(id, _)| *id).expect_err("a connection id is used once");
        conns.insert(place, (id, initiator.packed));
        match target {
            Some(_) => self.send_syn(agenda, now, initiator),
            None => {
                agenda.push(now + RESOLVER, Kind::SynRefused, initiator.packed, initiator.generation);
            }
        }
    }

    fn insert(&mut self, ends: [End; 2], port: u16) -> EndRef {
        let conn =
            Conn { generation: 0, ends, pipes: Default::default(), port, attempt: 0, reset_back: false };
        let (at, generation) = match self.free.pop() {
            Some(at) => {
                let generation = self.conns[at as usize].generation;
                self.conns[at as usize] = Conn { generation, ..conn };
                (at, generation)
            }
            None => {
                self.conns.push(conn);
                (self.conns.len() as u32 - 1, 0)
            }
        };
        assert!(at < u32::MAX >> 1, "too many connections");
        EndRef { packed: at << 1, generation }
    }

    fn send_syn(&mut self, agenda: &mut Agenda, now: SimTime, initiator: EndRef) {
        let conn = &self.conns[initiator.conn()];
        let (from, to) = (conn.ends[0].host, conn.ends[1].host);
        let retry = Nanos(SYN_TIMEOUT.0 << conn.attempt);
        let arrives = self.links.transit(now, from, to, 64) + self.links.connect_takes(from, to);
        agenda.push(arrives, Kind::Syn, initiator.packed, initiator.generation);
        agenda.push(now + retry, Kind::SynRetry, initiator.packed, initiator.generation);
    }

    /// Hands a frame, prefix included, to the network. `Some`: it did not fit; so many bytes wait.
    #[inline]
    pub fn send(
        &mut self,
        agenda: &mut Agenda,
        now: SimTime,
        proc: u32,
        id: ConnId,
        mut frame: Rope,
    ) -> Option<usize> {
        let end = self.find(proc, id)?;
        let conn = &mut self.conns[end.conn()];
        let side = end.side();
        let limit = conn.ends[1 - side].frame_limit;
        let pipe = &mut conn.pipes[side];
        let mut prefix = [0; 4];
        if frame.len() >= 4 && pipe.partial.is_empty() {
            frame.copy_to(0, &mut prefix);
            let size = i32::from_be_bytes(prefix);
            if size >= 0 && size as usize == frame.len() - 4 && size <= limit && !pipe.broken {
                frame.advance(4);
                return self.offer(agenda, now, end, Load::Frame(Box::new(frame)));
            }
        }
        self.send_stream(agenda, now, end, frame)
    }

    /// The way for bytes that are not exactly one frame: puts frames together as a receiver would.
    fn send_stream(&mut self, agenda: &mut Agenda, now: SimTime, end: EndRef, bytes: Rope) -> Option<usize> {
        let mut left = None;
        self.conns[end.conn()].pipes[end.side()].partial.append(bytes);
        loop {
            let conn = &mut self.conns[end.conn()];
            let limit = conn.ends[1 - end.side()].frame_limit;
            let pipe = &mut conn.pipes[end.side()];
            if pipe.broken {
                pipe.partial = Rope::new();
                return left;
            }
            if pipe.partial.len() < 4 {
                return left;
            }
            let mut prefix = [0; 4];
            pipe.partial.copy_to(0, &mut prefix);
            let size = i32::from_be_bytes(prefix);
            if size < 0 || size > limit {
                pipe.broken = true;
                left = self.offer(agenda, now, end, Load::Oversized(size)).or(left);
                continue;
            }
            if pipe.partial.len() - 4 < size as usize {
                return left;
            }
            let frame = pipe.partial.slice(4, size as usize);
            pipe.partial.advance(4 + size as usize);
            left = self.offer(agenda, now, end, Load::Frame(Box::new(frame))).or(left);
        }
    }

    #[inline]
    fn offer(&mut self, agenda: &mut Agenda, now: SimTime, end: EndRef, load: Load) -> Option<usize> {
        let pipe = &mut self.conns[end.conn()].pipes[end.side()];
        let len = load.len();
        if pipe.backlog.is_empty() && (pipe.outstanding == 0 || pipe.outstanding + len <= WINDOW) {
            self.transmit(agenda, now, end, load);
            return None;
        }
        pipe.backlog_bytes += len;
        pipe.backlog.push_back(load);
        Some(pipe.backlog_bytes)
    }

    #[inline]
    fn transmit(&mut self, agenda: &mut Agenda, now: SimTime, end: EndRef, load: Load) {
        let conn = &mut self.conns[end.conn()];
        let side = end.side();
        let (from, to) = (conn.ends[side].host, conn.ends[1 - side].host);
        let pipe = &mut conn.pipes[side];
        let len = load.len();
        pipe.outstanding += len;
        let at = self.links.transit(now, from, to, len).max(pipe.last_arrival);
        pipe.last_arrival = at;
        let seq = agenda.take_seq();
        pipe.queue.push_back(Packet { at, seq, load });
        if !pipe.armed && pipe.stall.is_none() {
            pipe.armed = true;
            agenda.push_with(at, seq, Kind::Arrive, end.packed, end.generation);
        }
    }

    fn arm(&mut self, agenda: &mut Agenda, now: SimTime, end: EndRef) {
        let pipe = &mut self.conns[end.conn()].pipes[end.side()];
        if pipe.armed || pipe.stall.is_some() {
            return;
        }
        if let Some(head) = pipe.queue.front() {
            pipe.armed = true;
            agenda.push_with(head.at.max(now), head.seq, Kind::Arrive, end.packed, end.generation);
        }
    }

    /// Closes a connection after what was sent. What a cut holds back is dropped.
    pub fn close(&mut self, agenda: &mut Agenda, now: SimTime, proc: u32, id: ConnId) {
        let Some(end) = self.find(proc, id) else { return };
        self.unlist(end);
        self.leave(agenda, now, end, Leaving::Exit);
    }

    /// A process is gone: so are its listeners and its ends of all connections.
    pub fn process_left(&mut self, agenda: &mut Agenda, now: SimTime, proc: u32, how: Leaving) {
        self.stop_listening(proc);
        for (_, packed) in std::mem::take(&mut self.by_proc[proc as usize]) {
            let generation = self.conns[(packed >> 1) as usize].generation;
            self.leave(agenda, now, EndRef { packed, generation }, how);
        }
    }

    fn leave(&mut self, agenda: &mut Agenda, now: SimTime, end: EndRef, how: Leaving) {
        let conn = &mut self.conns[end.conn()];
        let side = end.side();
        let was = conn.ends[side].state;
        conn.ends[side].state = State::Gone;
        conn.ends[side].held.clear();
        let never_stood = was == State::Opening && side == 0;
        if never_stood || conn.ends[1 - side].state == State::Gone {
            self.release(end);
            return;
        }
        let pipe = &mut conn.pipes[side];
        if pipe.stall.is_some() {
            pipe.queue.clear();
        }
        if how != Leaving::Exit || pipe.stall.is_some() {
            pipe.backlog.clear();
            pipe.backlog_bytes = 0;
        }
        if pipe.stall.is_some() {
            return;
        }
        match how {
            Leaving::Exit if !pipe.backlog.is_empty() => pipe.backlog.push_back(Load::Fin),
            Leaving::Exit => self.transmit(agenda, now, end, Load::Fin),
            Leaving::Killed => self.transmit(agenda, now, end, Load::Reset),
            Leaving::PowerLost => {}
        }
    }

    fn release(&mut self, end: EndRef) {
        let conn = &mut self.conns[end.conn()];
        assert!(conn.generation == end.generation, "a connection is released once");
        conn.generation += 1;
        conn.pipes = Default::default();
        conn.ends.iter_mut().for_each(|e| e.held = VecDeque::new());
        self.free.push(end.conn() as u32);
    }

    #[inline]
    fn find(&self, proc: u32, id: ConnId) -> Option<EndRef> {
        let conns = &self.by_proc[proc as usize];
        let at = conns.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        let packed = conns[at].1;
        Some(EndRef { packed, generation: self.conns[(packed >> 1) as usize].generation })
    }

    fn unlist(&mut self, end: EndRef) {
        let at = &self.conns[end.conn()].ends[end.side()];
        let conns = &mut self.by_proc[at.proc as usize];
        if let Ok(place) = conns.binary_search_by_key(&at.conn, |(id, _)| *id) {
            conns.remove(place);
        }
    }

    /// Gives an accepted connection the id by which its process knows it.
    pub fn bind(&mut self, end: EndRef, id: ConnId) {
        let at = &mut self.conns[end.conn()].ends[end.side()];
        at.conn = id;
        at.state = State::Open;
        let conns = &mut self.by_proc[at.proc as usize];
        let place = conns.binary_search_by_key(&id, |(id, _)| *id).expect_err("connection ids are new");
        conns.insert(place, (id, end.packed));
    }

    /// The process takes no frames of this connection until [`Net::resume`].
    pub fn pause(&mut self, proc: u32, id: ConnId) {
        if let Some(end) = self.find(proc, id) {
            self.conns[end.conn()].ends[end.side()].paused = true;
        }
    }

    /// A frame that reached a process, if it may take it; one whose connection was paused meanwhile is kept here.
    #[inline]
    pub fn hold_back(&mut self, end: EndRef, frame: Box<Rope>) -> Option<Box<Rope>> {
        let conn = &mut self.conns[end.conn()];
        let at = &mut conn.ends[end.side()];
        if conn.generation != end.generation || !at.paused {
            return Some(frame);
        }
        at.held.push_back(Load::Frame(frame));
        None
    }

    /// Gives back what arrived while the connection was paused, in order.
    pub fn resume(&mut self, proc: u32, id: ConnId, mut arrived: impl FnMut(Arrival)) {
        let Some(end) = self.find(proc, id) else { return };
        let at = &mut self.conns[end.conn()].ends[end.side()];
        at.paused = false;
        for load in std::mem::take(&mut at.held) {
            match load {
                Load::Frame(frame) => arrived(Arrival::Frame { conn: id, end, frame }),
                Load::Oversized(announced) => arrived(Arrival::Oversized { conn: id, announced }),
                Load::Fin => {
                    self.lost(end);
                    arrived(Arrival::Closed { conn: id, why: ConnError::Closed });
                    return;
                }
                Load::Hello | Load::Reset => unreachable!("never held"),
            }
        }
    }

    /// An end learns that its peer is gone.
    fn lost(&mut self, end: EndRef) {
        self.unlist(end);
        let conn = &mut self.conns[end.conn()];
        conn.ends[end.side()].state = State::Gone;
        if conn.ends[1 - end.side()].state == State::Gone {
            self.release(end);
        }
    }

    /// A process took a frame of so many bytes: its peer may send more.
    #[inline]
    pub fn taken(&mut self, agenda: &mut Agenda, now: SimTime, end: EndRef, len: usize) {
        let conn = &mut self.conns[end.conn()];
        if conn.generation != end.generation {
            return;
        }
        let sender = end.peer();
        let (here, there) = (conn.ends[end.side()].host, conn.ends[sender.side()].host);
        let pipe = &mut conn.pipes[sender.side()];
        let blocked = self.links.cut(here, there);
        if !blocked && pipe.ack_stall.is_none() {
            pipe.outstanding -= len + 4;
            if pipe.backlog.is_empty() || pipe.drain_armed {
                return;
            }
            pipe.drain_armed = true;
            let at = self.links.at(here, there).packet(now);
            agenda.push(at, Kind::Drain, sender.packed, sender.generation);
            return;
        }
        pipe.unacknowledged += len + 4;
        if pipe.ack_stall.is_none() {
            pipe.ack_stall = Some(Stall { since: now, timeout: RTO_MIN });
            if !pipe.drain_armed {
                pipe.drain_armed = true;
                agenda.push(now + RTO_MIN, Kind::Drain, sender.packed, sender.generation);
            }
        }
    }

    /// Something that this module put into the agenda is due. `Some`: a process hears of it.
    #[inline]
    pub fn due(
        &mut self,
        agenda: &mut Agenda,
        now: SimTime,
        kind: Kind,
        a: u32,
        b: u32,
    ) -> Option<(u32, u32, Arrival)> {
        let end = EndRef { packed: a, generation: b };
        if self.conns[end.conn()].generation != b {
            return None;
        }
        match kind {
            Kind::Arrive => self.arrive(agenda, now, end),
            Kind::Syn => self.syn_arrives(agenda, now, end),
            Kind::SynAck => self.syn_ack_arrives(agenda, now, end),
            Kind::SynRefused => {
                let known = self.conns[end.conn()].ends[1].host != u32::MAX;
                self.connect_failed(end, if known { ConnError::Refused } else { ConnError::UnknownHost })
            }
            Kind::SynRetry => self.retry_syn(agenda, now, end),
            Kind::Retransmit => self.retransmit(agenda, now, end),
            Kind::Drain => self.drain(agenda, now, end),
            Kind::ResetBack => self.reset_back_arrives(end),
            Kind::Wake | Kind::Timer | Kind::Boot | Kind::SyncDone | Kind::FaultBegins | Kind::Alarm => {
                unreachable!("{kind:?} is not about a connection")
            }
        }
    }

    #[inline]
    fn arrive(&mut self, agenda: &mut Agenda, now: SimTime, sender: EndRef) -> Option<(u32, u32, Arrival)> {
        let conn = &mut self.conns[sender.conn()];
        let side = sender.side();
        let (from, to) = (conn.ends[side].host, conn.ends[1 - side].host);
        conn.pipes[side].armed = false;
        if self.links.blocked(from, to) || !self.host_on[to as usize] {
            self.stall(agenda, now, sender);
            return None;
        }
        let packet = conn.pipes[side].queue.pop_front().expect("an armed direction has a head");
        let arrival = self.received(agenda, now, sender, packet.load);
        if self.conns[sender.conn()].generation == sender.generation {
            self.arm(agenda, now, sender);
        }
        arrival
    }

    #[inline]
    fn received(
        &mut self,
        agenda: &mut Agenda,
        now: SimTime,
        sender: EndRef,
        load: Load,
    ) -> Option<(u32, u32, Arrival)> {
        let conn = &mut self.conns[sender.conn()];
        let end = sender.peer();
        let at = &mut conn.ends[end.side()];
        let (proc, incarnation, id) = (at.proc, at.incarnation, at.conn);
        let arrival = match (load, at.state) {
            (Load::Fin | Load::Reset, State::Gone) => {
                self.release(sender);
                return None;
            }
            (_, State::Gone) => {
                self.reset_back(agenda, now, sender);
                return None;
            }
            (Load::Hello, _) => return self.hello(agenda, now, sender),
            (Load::Reset, _) => {
                self.lost(end);
                Arrival::Closed { conn: id, why: ConnError::Reset }
            }
            (load, _) if at.paused => {
                at.held.push_back(load);
                return None;
            }
            (Load::Frame(frame), _) => Arrival::Frame { conn: id, end, frame },
            (Load::Oversized(announced), _) => Arrival::Oversized { conn: id, announced },
            (Load::Fin, _) => {
                self.lost(end);
                Arrival::Closed { conn: id, why: ConnError::Closed }
            }
        };
        Some((proc, incarnation, arrival))
    }

    /// A connection reaches the process that listened when it was asked for, if that still lives.
    fn hello(&mut self, agenda: &mut Agenda, now: SimTime, sender: EndRef) -> Option<(u32, u32, Arrival)> {
        let conn = &mut self.conns[sender.conn()];
        let end = sender.peer();
        let at = &mut conn.ends[end.side()];
        let lives = self
            .listening
            .iter()
            .any(|l| (l.proc, l.incarnation, l.port) == (at.proc, at.incarnation, conn.port));
        if !lives {
            at.state = State::Gone;
            self.reset_back(agenda, now, sender);
            return None;
        }
        let accepted =
            Arrival::Accepted { end, listener: at.listener, from_host: conn.ends[sender.side()].host };
        let at = &self.conns[end.conn()].ends[end.side()];
        Some((at.proc, at.incarnation, accepted))
    }

    /// A host got something for a connection that it does not know.
    fn reset_back(&mut self, agenda: &mut Agenda, now: SimTime, sender: EndRef) {
        let conn = &mut self.conns[sender.conn()];
        if conn.ends[sender.side()].state == State::Gone {
            self.release(sender);
            return;
        }
        let (here, there) = (conn.ends[1 - sender.side()].host, conn.ends[sender.side()].host);
        if conn.reset_back || self.links.cut(here, there) {
            return;
        }
        conn.reset_back = true;
        // Not before what the other end had sent.
        let at = self.links.at(here, there).packet(now).max(conn.pipes[1 - sender.side()].last_arrival);
        agenda.push(at, Kind::ResetBack, sender.packed, sender.generation);
    }

    fn reset_back_arrives(&mut self, end: EndRef) -> Option<(u32, u32, Arrival)> {
        let conn = &mut self.conns[end.conn()];
        conn.reset_back = false;
        let (here, there) = (conn.ends[1 - end.side()].host, conn.ends[end.side()].host);
        if self.links.cut(here, there) || conn.ends[end.side()].state == State::Gone {
            return None;
        }
        self.broken(end, ConnError::Reset)
    }

    /// An end that was open hears that its connection is gone.
    fn broken(&mut self, end: EndRef, why: ConnError) -> Option<(u32, u32, Arrival)> {
        let at = &mut self.conns[end.conn()].ends[end.side()];
        at.held.clear();
        let (proc, incarnation, conn) = (at.proc, at.incarnation, at.conn);
        self.lost(end);
        Some((proc, incarnation, Arrival::Closed { conn, why }))
    }

    fn syn_arrives(&mut self, agenda: &mut Agenda, now: SimTime, end: EndRef) -> Option<(u32, u32, Arrival)> {
        let conn = &mut self.conns[end.conn()];
        let (from, to) = (conn.ends[0].host, conn.ends[1].host);
        if conn.ends[0].state != State::Opening || self.links.cut(from, to) || !self.host_on[to as usize] {
            return None;
        }
        let listening = self.listening.iter().find(|l| (l.host, l.port) == (to, conn.port)).copied();
        let back = self.links.transit(now, to, from, 64);
        if self.links.cut(to, from) {
            return None;
        }
        let kind = match listening {
            None => Kind::SynRefused,
            Some(l) => {
                let at = &mut conn.ends[1];
                (at.proc, at.incarnation) = (l.proc, l.incarnation);
                (at.listener, at.frame_limit) = (l.listener, l.frame_limit);
                Kind::SynAck
            }
        };
        agenda.push(back, kind, end.packed, end.generation);
        None
    }

    fn syn_ack_arrives(
        &mut self,
        agenda: &mut Agenda,
        now: SimTime,
        end: EndRef,
    ) -> Option<(u32, u32, Arrival)> {
        let at = &mut self.conns[end.conn()].ends[0];
        if at.state != State::Opening {
            return None;
        }
        at.state = State::Open;
        let (proc, incarnation, conn) = (at.proc, at.incarnation, at.conn);
        self.transmit(agenda, now, end, Load::Hello);
        Some((proc, incarnation, Arrival::Connected { conn }))
    }

    fn connect_failed(&mut self, end: EndRef, why: ConnError) -> Option<(u32, u32, Arrival)> {
        let at = &self.conns[end.conn()].ends[0];
        if at.state != State::Opening {
            return None;
        }
        let (proc, incarnation, conn) = (at.proc, at.incarnation, at.conn);
        self.unlist(end);
        self.release(end);
        Some((proc, incarnation, Arrival::ConnectFailed { conn, why }))
    }

    fn retry_syn(&mut self, agenda: &mut Agenda, now: SimTime, end: EndRef) -> Option<(u32, u32, Arrival)> {
        let conn = &mut self.conns[end.conn()];
        if conn.ends[0].state != State::Opening {
            return None;
        }
        if conn.attempt == SYN_RETRIES {
            return self.connect_failed(end, ConnError::TimedOut);
        }
        conn.attempt += 1;
        self.send_syn(agenda, now, end);
        None
    }

    /// Nothing gets through: what cannot be sent again is gone, the rest waits for its timer.
    fn stall(&mut self, agenda: &mut Agenda, now: SimTime, sender: EndRef) {
        let conn = &mut self.conns[sender.conn()];
        let side = sender.side();
        let (sender_gone, receiver_gone) =
            (conn.ends[side].state == State::Gone, conn.ends[1 - side].state == State::Gone);
        let pipe = &mut conn.pipes[side];
        if sender_gone {
            pipe.queue.clear();
            pipe.backlog.clear();
            pipe.backlog_bytes = 0;
            if receiver_gone {
                self.release(sender);
            }
            return;
        }
        pipe.stall = Some(Stall { since: now, timeout: RTO_MIN });
        agenda.push(now + RTO_MIN, Kind::Retransmit, sender.packed, sender.generation);
    }

    fn retransmit(
        &mut self,
        agenda: &mut Agenda,
        now: SimTime,
        sender: EndRef,
    ) -> Option<(u32, u32, Arrival)> {
        let conn = &mut self.conns[sender.conn()];
        let side = sender.side();
        let (from, to) = (conn.ends[side].host, conn.ends[1 - side].host);
        let pipe = &mut conn.pipes[side];
        let stall = pipe.stall?;
        if conn.ends[side].state == State::Gone {
            pipe.stall = None;
            return None;
        }
        if now.since(stall.since) >= GIVE_UP {
            return self.broken(sender, ConnError::TimedOut);
        }
        if self.links.blocked(from, to) || !self.host_on[to as usize] {
            let timeout = Nanos((stall.timeout.0 * 2).min(RTO_MAX.0));
            pipe.stall = Some(Stall { timeout, ..stall });
            agenda.push(now + timeout, Kind::Retransmit, sender.packed, sender.generation);
            return None;
        }
        pipe.stall = None;
        if let Some(head) = pipe.queue.front_mut() {
            head.at = self.links.at(from, to).packet(now);
            pipe.last_arrival = pipe.last_arrival.max(head.at);
        }
        self.arm(agenda, now, sender);
        None
    }

    /// Acknowledgements came back, or are tried again.
    fn drain(&mut self, agenda: &mut Agenda, now: SimTime, sender: EndRef) -> Option<(u32, u32, Arrival)> {
        let conn = &mut self.conns[sender.conn()];
        let side = sender.side();
        let (here, there) = (conn.ends[1 - side].host, conn.ends[side].host);
        let pipe = &mut conn.pipes[side];
        pipe.drain_armed = false;
        if let Some(stall) = pipe.ack_stall {
            if self.links.cut(here, there) {
                if conn.ends[side].state == State::Gone {
                    return None;
                }
                if now.since(stall.since) >= GIVE_UP {
                    return self.broken(sender, ConnError::TimedOut);
                }
                let timeout = Nanos((stall.timeout.0 * 2).min(RTO_MAX.0));
                pipe.ack_stall = Some(Stall { timeout, ..stall });
                pipe.drain_armed = true;
                agenda.push(now + timeout, Kind::Drain, sender.packed, sender.generation);
                return None;
            }
            pipe.ack_stall = None;
            pipe.outstanding -= std::mem::take(&mut pipe.unacknowledged);
        }
        let mut moved = false;
        loop {
            let pipe = &mut self.conns[sender.conn()].pipes[side];
            let Some(next) = pipe.backlog.front() else { break };
            let len = next.len();
            if pipe.outstanding > 0 && pipe.outstanding + len > WINDOW {
                break;
            }
            pipe.backlog_bytes -= len;
            let next = pipe.backlog.pop_front().expect("it has a front");
            self.transmit(agenda, now, sender, next);
            moved = true;
        }
        let conn = &self.conns[sender.conn()];
        let at = &conn.ends[side];
        if !moved || at.state != State::Open {
            return None;
        }
        let bytes_left = conn.pipes[side].backlog_bytes;
        Some((at.proc, at.incarnation, Arrival::Sent { conn: at.conn, bytes_left }))
    }

    /// Breaks all connections between two hosts at once. Both ends hear of it now.
    pub fn reset_between(&mut self, a: u32, b: u32, mut heard: impl FnMut(u32, u32, Arrival)) {
        for at in 0..self.conns.len() as u32 {
            let generation = self.conns[at as usize].generation;
            let hosts = [0, 1].map(|side| self.conns[at as usize].ends[side].host);
            if (hosts != [a, b] && hosts != [b, a]) || self.free.contains(&at) {
                continue;
            }
            for side in 0..2 {
                let end = EndRef { packed: at << 1 | side, generation };
                if self.conns[at as usize].generation != generation {
                    break;
                }
                match self.conns[at as usize].ends[end.side()].state {
                    State::Open => {
                        if let Some((proc, incarnation, arrival)) = self.broken(end, ConnError::Reset) {
                            heard(proc, incarnation, arrival);
                        }
                    }
                    State::Opening if side == 0 => {
                        if let Some((proc, incarnation, arrival)) = self.connect_failed(end, ConnError::Reset)
                        {
                            heard(proc, incarnation, arrival);
                        }
                    }
                    State::Opening => {
                        self.conns[at as usize].ends[1].state = State::Gone;
                        if self.conns[at as usize].ends[0].state == State::Gone {
                            self.release(end);
                        }
                    }
                    State::Gone => {}
                }
            }
        }
    }
}
