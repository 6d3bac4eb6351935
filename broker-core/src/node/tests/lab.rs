//! A few nodes on disks in memory, links of one fixed latency, and one clock: just enough of a world to see nodes work
//! together. Everything happens in (time, order made) order, so that a run is a function of what the test does.

use alloc::collections::{BTreeMap, BTreeSet, BinaryHeap};
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use alloc::{format, vec};
use core::cmp::Reverse;

use wire::drive::{ConnError, ConnId, Endpoint, Instant, Nanos, Now};
use wire::frame::{ResponseHeader, encode_request};
use wire::{Message, Reader, Request, Rope, Uuid};

use crate::config::NodeConfig;
use crate::event::Event;
use crate::io::{Input, Listener, Output, Outputs};
use crate::node::{NewCluster, Node, NodeState};
use crate::raft::{ReplicaKey, VoterNode, VoterSet};
use crate::testing::{MemDisk, Unsynced};

/// One way through the network.
const LATENCY: Nanos = Nanos::from_micros(500);
/// From a sync's request to its end.
const SYNC: Nanos = Nanos::from_millis(1);
/// The wall clock when the lab begins.
const EPOCH_MS: i64 = 1_795_209_600_000;
/// The client's name on the network.
const CLIENT: &str = "client";

/// One end of a connection.
type End = (String, ConnId);

struct Host {
    config: NodeConfig,
    disk: MemDisk,
    node: Option<Node>,
    out: Outputs,
    incarnation: u64,
    /// The earliest timer in the heap.
    armed: Option<u64>,
}

enum What {
    Input(String, u64, Input),
    Timer(String, u64),
    Connect { from: End, to: String, port: u16 },
    ToClient(ConnId, Rope),
    ClientClosed(ConnId),
}

/// The lab.
pub struct Lab {
    /// The first voters, if they are in the log.
    voters: Option<VoterSet>,
    now: u64,
    made: u64,
    heap: BinaryHeap<Reverse<(u64, u64)>>,
    todo: BTreeMap<u64, What>,
    hosts: BTreeMap<String, Host>,
    /// Connections: each end by its host's name, and the other.
    pub links: BTreeMap<End, End>,
    paused: BTreeMap<End, Vec<Rope>>,
    /// Steps taken at this instant.
    here: u32,
    cut: BTreeSet<String>,
    client_conns: u64,
    answers: BTreeMap<ConnId, Vec<Rope>>,
    closed: BTreeSet<ConnId>,
    /// What happened: milliseconds, node, event.
    pub events: Vec<(u64, String, Event)>,
    /// Halts, in words.
    pub halts: Vec<(String, String)>,
    /// Nodes whose orderly stop has ended.
    pub stopped: Vec<String>,
    /// A running hash of all outputs of all nodes.
    pub digest: u64,
    /// Frames delivered to nodes.
    pub frames: u64,
    /// Who is to die, and when.
    doomed: Option<(u64, String)>,
}

impl Lab {
    /// Brokers 1..=brokers and controllers 101..; `combined` makes the brokers controllers, too.
    pub fn new(brokers: i32, controllers: i32, extra: &[(&str, &str)]) -> Lab {
        let mut lab = Lab::empty();
        let voters: Vec<String> =
            (101..101 + controllers).map(|id| format!("{id}@controller-{id}:9093")).collect();
        for id in 101..101 + controllers {
            let listeners = format!("CONTROLLER://controller-{id}:9093");
            lab.add(&format!("controller-{id}"), id, "controller", &listeners, &voters.join(","), extra);
        }
        for id in 1..=brokers {
            let listeners = format!("PLAINTEXT://broker-{id}:9092");
            lab.add(&format!("broker-{id}"), id, "broker", &listeners, &voters.join(","), extra);
        }
        lab
    }

    /// Nodes 1..=count with both roles.
    pub fn combined(count: i32, extra: &[(&str, &str)]) -> Lab {
        let mut lab = Lab::empty();
        let voters: Vec<String> = (1..=count).map(|id| format!("{id}@broker-{id}:9093")).collect();
        for id in 1..=count {
            let listeners = format!("PLAINTEXT://broker-{id}:9092,CONTROLLER://broker-{id}:9093");
            lab.add(&format!("broker-{id}"), id, "broker,controller", &listeners, &voters.join(","), extra);
        }
        lab
    }

    /// As [`Lab::new`], but the voters are in the log (KIP-853), and nodes know only whom to ask.
    pub fn dynamic(brokers: i32, controllers: i32) -> Lab {
        Lab::growing(brokers, controllers, 0)
    }

    /// The same, with more controllers that do not vote.
    pub fn growing(brokers: i32, controllers: i32, more: i32) -> Lab {
        let mut lab = Lab::empty();
        let ids: Vec<i32> = (101..101 + controllers).collect();
        let voter = |id: &i32| VoterNode {
            key: ReplicaKey::new(*id, Uuid([*id as u8; 16])),
            listeners: vec![("CONTROLLER".into(), Endpoint::new(format!("controller-{id}"), 9093))],
            supported_kraft_versions: (0, 1),
        };
        lab.voters = Some(VoterSet::new(ids.iter().map(voter).collect()));
        let servers: Vec<String> = ids.iter().map(|id| format!("controller-{id}:9093")).collect();
        let servers = servers.join(",");
        let extra = [("controller.quorum.bootstrap.servers", &*servers)];
        for id in ids.iter().copied().chain(101 + controllers..101 + controllers + more) {
            let listeners = format!("CONTROLLER://controller-{id}:9093");
            lab.add(&format!("controller-{id}"), id, "controller", &listeners, "", &extra);
        }
        for id in 1..=brokers {
            let listeners = format!("PLAINTEXT://broker-{id}:9092");
            lab.add(&format!("broker-{id}"), id, "broker", &listeners, "", &extra);
        }
        lab
    }

    fn empty() -> Lab {
        Lab {
            voters: None,
            now: 1_000_000_000,
            made: 0,
            heap: BinaryHeap::new(),
            todo: BTreeMap::new(),
            hosts: BTreeMap::new(),
            links: BTreeMap::new(),
            paused: BTreeMap::new(),
            here: 0,
            cut: BTreeSet::new(),
            client_conns: 0,
            answers: BTreeMap::new(),
            closed: BTreeSet::new(),
            events: Vec::new(),
            halts: Vec::new(),
            stopped: Vec::new(),
            digest: 0xcbf2_9ce4_8422_2325,
            frames: 0,
            doomed: None,
        }
    }

    fn add(
        &mut self,
        name: &str,
        id: i32,
        roles: &str,
        listeners: &str,
        voters: &str,
        extra: &[(&str, &str)],
    ) {
        let dir = format!("data/{name}");
        let id_text = id.to_string();
        let mut given = vec![
            ("process.roles", roles),
            ("node.id", &id_text),
            ("listeners", listeners),
            ("controller.listener.names", "CONTROLLER"),
            ("listener.security.protocol.map", "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT"),
            ("controller.quorum.voters", voters),
            ("log.dirs", &dir),
            ("auto.create.topics.enable", "false"),
        ];
        given.extend_from_slice(extra);
        let given = given.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let config = NodeConfig::parse(&given).unwrap();
        let mut disk = MemDisk::new();
        let voters = self.voters.clone().filter(|voters| voters.node(id).is_some());
        let cluster = NewCluster { id: "4L6g3nShT-eMCtK--X86sw".into(), voters };
        Node::format(&config, &cluster, [id as u8; 32], self.time(), &codecs::StdCodecs, &mut disk).unwrap();
        disk.take_synced();
        let mut out = Outputs::new(0);
        out.events_wanted = true;
        self.hosts.insert(name.into(), Host { config, disk, node: None, out, incarnation: 0, armed: None });
    }

    /// The lab's time.
    pub fn time(&self) -> Now {
        Now { mono: Instant(self.now), wall_ms: EPOCH_MS + (self.now / 1_000_000) as i64 }
    }

    /// Milliseconds since the lab began.
    pub fn ms(&self) -> u64 {
        self.now / 1_000_000 - 1_000
    }

    /// Kills a node when so many microseconds have passed, whatever happens then.
    pub fn doom(&mut self, name: &str, after_us: u64) {
        self.doomed = Some((self.now + after_us * 1_000, name.into()));
    }

    /// Nobody is to die any more.
    pub fn spare(&mut self) {
        self.doomed = None;
    }

    fn at(&mut self, after: Nanos, what: What) {
        self.made += 1;
        self.heap.push(Reverse((self.now + after.0, self.made)));
        self.todo.insert(self.made, what);
    }

    // --- verbs

    /// Starts every node.
    pub fn start_all(&mut self) {
        for name in self.hosts.keys().cloned().collect::<Vec<_>>() {
            self.start(&name);
        }
    }

    /// Starts a process.
    pub fn start(&mut self, name: &str) {
        let now = self.time();
        let host = self.hosts.get_mut(name).unwrap();
        assert!(host.node.is_none(), "{name} runs");
        host.incarnation += 1;
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&host.incarnation.to_le_bytes());
        seed[8..12].copy_from_slice(&host.config.node_id.to_le_bytes());
        let node = Node::open(host.config.clone(), seed, now, Arc::new(codecs::StdCodecs), &mut host.disk);
        host.node = Some(node.unwrap_or_else(|e| panic!("{name}: {e}")));
        host.armed = None;
        self.after(name);
    }

    /// kill -9.
    pub fn kill(&mut self, name: &str) {
        self.gone(name, ConnError::Reset);
        self.hosts.get_mut(name).unwrap().disk.crash();
    }

    /// The power fails: what was not synced is lost.
    pub fn power_off(&mut self, name: &str) {
        self.gone(name, ConnError::TimedOut);
        self.hosts.get_mut(name).unwrap().disk.power_loss(Unsynced::Lost);
    }

    /// SIGTERM.
    pub fn stop(&mut self, name: &str) {
        self.give(name, Input::Shutdown);
    }

    /// Nothing reaches the host any more, nor leaves it; connections stand.
    pub fn cut(&mut self, name: &str) {
        self.cut.insert(name.into());
    }

    pub fn heal(&mut self, name: &str) {
        self.cut.remove(name);
    }

    /// A process is gone: its connections break.
    fn gone(&mut self, name: &str, why: ConnError) {
        let host = self.hosts.get_mut(name).unwrap();
        host.node = None;
        host.out.items.clear();
        let ends: Vec<(End, End)> =
            self.links.iter().filter(|(a, _)| a.0 == name).map(|(a, b)| (a.clone(), b.clone())).collect();
        for (mine, theirs) in ends {
            self.links.remove(&mine);
            self.links.remove(&theirs);
            self.tell_closed(theirs, why);
        }
    }

    fn tell_closed(&mut self, end: End, why: ConnError) {
        if end.0 == CLIENT {
            self.at(LATENCY, What::ClientClosed(end.1));
        } else {
            let incarnation = self.hosts[&end.0].incarnation;
            self.at(LATENCY, What::Input(end.0, incarnation, Input::Closed { conn: end.1, why }));
        }
    }

    // --- looking

    pub fn node(&self, name: &str) -> &Node {
        self.hosts[name].node.as_ref().unwrap_or_else(|| panic!("{name} is down"))
    }

    pub fn disk(&mut self, name: &str) -> &mut MemDisk {
        &mut self.hosts.get_mut(name).unwrap().disk
    }

    pub fn is_up(&self, name: &str) -> bool {
        self.hosts[name].node.is_some()
    }

    /// Whether every process that is up serves.
    pub fn all_running(&self) -> bool {
        self.hosts.values().filter_map(|h| h.node.as_ref()).all(|n| n.state() == NodeState::Running)
    }

    /// The active controller's name.
    pub fn active_controller(&self) -> Option<String> {
        let active =
            |h: &Host| h.node.as_ref().is_some_and(|n| n.controller().is_some_and(|c| c.is_active()));
        self.hosts.iter().find(|(_, h)| active(h)).map(|(name, _)| name.clone())
    }

    /// When an event of a kind was seen first since `from` (milliseconds), and where.
    pub fn first(&self, from: u64, is: impl Fn(&Event) -> bool) -> Option<(u64, &str)> {
        self.events.iter().find(|(ms, _, e)| *ms >= from && is(e)).map(|(ms, name, _)| (*ms, &**name))
    }

    pub fn check_invariants(&self) {
        self.hosts.values().filter_map(|h| h.node.as_ref()).for_each(Node::check_invariants);
    }

    // --- time

    /// Runs for so many milliseconds.
    pub fn run(&mut self, ms: u64) {
        let until = self.now + ms * 1_000_000;
        while self.step(until) {}
        self.now = until;
    }

    /// Runs until something holds; panics after `limit` milliseconds, with the last events.
    pub fn run_until(&mut self, limit: u64, what: &str, holds: impl Fn(&Lab) -> bool) {
        let until = self.now + limit * 1_000_000;
        while !holds(self) {
            if !self.step(until) {
                let last: Vec<String> =
                    self.events.iter().rev().take(30).rev().map(|e| format!("{e:?}")).collect();
                panic!("{limit} ms passed without: {what}\n{}\nhalts {:?}", last.join("\n"), self.halts);
            }
        }
    }

    /// Does the next thing, if it comes before `until`.
    fn step(&mut self, until: u64) -> bool {
        let Some(&Reverse((at, made))) = self.heap.peek() else { return false };
        if at > until {
            return false;
        }
        if let Some((doom, name)) = self.doomed.take_if(|(doom, _)| *doom <= at) {
            self.now = self.now.max(doom);
            self.kill(&name);
            return true;
        }
        self.heap.pop();
        self.here = if at > self.now { 0 } else { self.here + 1 };
        self.now = self.now.max(at);
        let what = self.todo.remove(&made).unwrap();
        assert!(self.here < 20_000, "nothing but this instant: {} {}", self.ms(), describe(&what, self));
        match what {
            What::Input(name, incarnation, input) => {
                if self.hosts[&name].incarnation == incarnation && self.is_up(&name) {
                    self.input(&name, input);
                }
            }
            What::Timer(name, incarnation) => self.timer(&name, incarnation, at),
            What::Connect { from, to, port } => self.connect(from, &to, port),
            What::ToClient(conn, frame) => self.answers.entry(conn).or_default().push(frame),
            What::ClientClosed(conn) => {
                self.closed.insert(conn);
            }
        }
        true
    }

    fn input(&mut self, name: &str, input: Input) {
        if let Input::Frame { conn, frame } = &input {
            if self.cut.contains(name) {
                return;
            }
            self.frames += 1;
            if let Some(held) = self.paused.get_mut(&(name.into(), *conn)) {
                held.push(frame.clone());
                return;
            }
        }
        self.give(name, input);
    }

    /// Hands an input to a node, now.
    pub fn give(&mut self, name: &str, input: Input) {
        let now = self.time();
        let host = self.hosts.get_mut(name).unwrap();
        let Some(node) = &mut host.node else { return };
        node.handle(now, input, &mut host.disk, &mut host.out);
        self.after(name);
    }

    fn timer(&mut self, name: &str, incarnation: u64, at: u64) {
        let host = self.hosts.get_mut(name).unwrap();
        if host.incarnation != incarnation || host.armed != Some(at) {
            return;
        }
        host.armed = None;
        let due = host.node.as_ref().and_then(Node::deadline);
        match due {
            Some((due, _)) if due.0 <= self.now => self.give(name, Input::Timer),
            _ => self.arm(name),
        }
    }

    fn arm(&mut self, name: &str) {
        let host = self.hosts.get_mut(name).unwrap();
        let Some((due, _)) = host.node.as_ref().and_then(Node::deadline) else { return };
        let due = due.0.max(self.now);
        if host.armed.is_none_or(|armed| due < armed) {
            host.armed = Some(due);
            let incarnation = host.incarnation;
            let after = Nanos(due - self.now);
            self.at(after, What::Timer(name.into(), incarnation));
        }
    }

    /// Carries out what a node put out.
    fn after(&mut self, name: &str) {
        let host = self.hosts.get_mut(name).unwrap();
        let incarnation = host.incarnation;
        let items = core::mem::take(&mut host.out.items);
        let synced = host.disk.take_synced();
        for item in items {
            self.hash(name, &item);
            self.output(name, incarnation, item);
        }
        for (ticket, result) in synced {
            self.at(SYNC, What::Input(name.into(), incarnation, Input::Synced { ticket, result }));
        }
        self.arm(name);
    }

    fn hash(&mut self, name: &str, item: &Output) {
        let text = match item {
            Output::Send { conn, frame } => format!("{name} {} {conn:?} {:?}", self.now, frame.to_bytes()),
            other => format!("{name} {} {other:?}", self.now),
        };
        for b in text.bytes() {
            self.digest = (self.digest ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn output(&mut self, name: &str, incarnation: u64, item: Output) {
        let end = |conn: ConnId| -> End { (name.to_string(), conn) };
        match item {
            Output::Connect { conn, to } => {
                self.at(LATENCY, What::Connect { from: end(conn), to: to.host.to_string(), port: to.port });
            }
            Output::Send { conn, frame } => {
                let Some((to, peer)) = self.links.get(&end(conn)).cloned() else { return };
                if self.cut.contains(name) {
                    return;
                }
                let frame = frame.slice(4, frame.len() - 4);
                if to == CLIENT {
                    self.at(LATENCY, What::ToClient(peer, frame));
                } else {
                    let incarnation = self.hosts[&to].incarnation;
                    self.at(LATENCY, What::Input(to, incarnation, Input::Frame { conn: peer, frame }));
                }
            }
            Output::Pause { conn } => {
                self.paused.entry(end(conn)).or_default();
            }
            Output::Resume { conn } => {
                for frame in self.paused.remove(&end(conn)).unwrap_or_default() {
                    self.at(Nanos::ZERO, What::Input(name.into(), incarnation, Input::Frame { conn, frame }));
                }
            }
            Output::Close { conn, .. } => {
                if let Some(peer) = self.links.remove(&end(conn)) {
                    self.links.remove(&peer);
                    self.tell_closed(peer, ConnError::Closed);
                }
            }
            Output::Event(event) => self.events.push((self.ms(), name.into(), event)),
            Output::Halt { why } => {
                self.halts.push((name.into(), why));
                self.gone(name, ConnError::Reset);
            }
            Output::Stopped => {
                self.stopped.push(name.into());
                self.gone(name, ConnError::Closed);
            }
        }
    }

    fn connect(&mut self, from: End, to: &str, port: u16) {
        if self.cut.contains(to) || self.cut.contains(&from.0) {
            return; // nobody answers
        }
        let listener =
            self.hosts.get(to).and_then(|h| h.node.as_ref()).and_then(|node| {
                node.listeners().find(|(_, l)| l.endpoint.port == port).map(|(kind, _)| kind)
            });
        let incarnation = self.hosts.get(&from.0).map_or(0, |h| h.incarnation);
        let Some(listener) = listener else {
            let why = ConnError::Refused;
            let input = Input::ConnectFailed { conn: from.1, why };
            self.at(LATENCY, What::Input(from.0, incarnation, input));
            return;
        };
        let conn = self.accept(to, listener, from.clone());
        self.links.insert((to.into(), conn), from.clone());
        self.links.insert(from.clone(), (to.into(), conn));
        self.at(LATENCY, What::Input(from.0, incarnation, Input::Connected { conn: from.1 }));
    }

    fn accept(&mut self, to: &str, listener: Listener, _from: End) -> ConnId {
        let conn = self.hosts.get_mut(to).unwrap().out.next_conn();
        self.give(to, Input::Accepted { conn, listener, peer: "10.0.0.7".into() });
        conn
    }

    // --- a client

    /// Connects to a listener of a node.
    pub fn dial(&mut self, to: &str, listener: Listener) -> Client {
        self.client_conns += 1;
        let mine = ConnId(self.client_conns);
        let theirs = self.accept(to, listener, (CLIENT.into(), mine));
        self.links.insert((to.into(), theirs), (CLIENT.into(), mine));
        self.links.insert((CLIENT.into(), mine), (to.into(), theirs));
        Client { conn: mine, to: to.into(), theirs, next_id: 0 }
    }

    /// Sends a request and does not wait.
    pub fn send<'a, R: Request<'a>>(&mut self, client: &mut Client, version: i16, request: &R) -> i32 {
        let id = client.next_id;
        client.next_id += 1;
        let frame = encode_request(version, id, Some("test"), request).unwrap();
        self.send_raw(client, frame.slice(4, frame.len() - 4));
        id
    }

    /// Sends any bytes as a frame.
    pub fn send_raw(&mut self, client: &Client, frame: Rope) {
        let incarnation = self.hosts[&client.to].incarnation;
        let input = Input::Frame { conn: client.theirs, frame };
        self.at(LATENCY, What::Input(client.to.clone(), incarnation, input));
    }

    /// The next answer on a connection, within `limit` milliseconds.
    pub fn answer(&mut self, client: &Client, limit: u64) -> Option<Rope> {
        let until = self.now + limit * 1_000_000;
        loop {
            if let Some(answers) = self.answers.get_mut(&client.conn)
                && !answers.is_empty()
            {
                return Some(answers.remove(0));
            }
            if self.closed.contains(&client.conn) || !self.step(until) {
                return None;
            }
        }
    }

    /// Whether the node closed the connection.
    pub fn is_closed(&self, client: &Client) -> bool {
        self.closed.contains(&client.conn)
    }

    /// Asks, waits, and looks at the answer.
    pub fn ask<'a, R: Request<'a>, T>(
        &mut self,
        client: &mut Client,
        version: i16,
        request: &R,
        look: impl FnOnce(R::Response<'_>) -> T,
    ) -> T {
        let id = self.send(client, version, request);
        let frame = self.answer(client, 60_000).unwrap_or_else(|| panic!("{} has no answer", R::NAME));
        let mut reader = Reader::new(&frame);
        let header = ResponseHeader::decode(&mut reader, R::KEY, version).unwrap();
        assert_eq!(header.correlation_id, id);
        let body = R::Response::decode(&mut reader, version).unwrap();
        reader.finish().unwrap();
        look(body)
    }
}

/// A step in words, with why its node has a timer, for a livelock's report.
fn describe(what: &What, lab: &Lab) -> String {
    match what {
        What::Input(name, _, input) => format!("{name} {input:?}"),
        What::Timer(name, _) => {
            let due = lab.hosts[name].node.as_ref().and_then(Node::deadline);
            let raft = lab.node(name).raft();
            format!("{name} timer {due:?}, {:?} in epoch {}", raft.role(), raft.epoch())
        }
        What::Connect { from, to, port } => format!("{from:?} connects to {to}:{port}"),
        What::ToClient(..) | What::ClientClosed(_) => "the client".into(),
    }
}

/// A client's connection.
pub struct Client {
    conn: ConnId,
    to: String,
    theirs: ConnId,
    next_id: i32,
}

impl Client {
    /// The connection as its node knows it.
    pub fn at_node(&self) -> ConnId {
        self.theirs
    }
}
