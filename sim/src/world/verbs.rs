//! What a scenario does to the world.
//!
//! Starting, killing, pausing and resuming go through the runtime and are methods of [`Stage`](super::Stage); what they
//! do to the world is here.

use broker_core::node::NewCluster;
use bytes::Bytes;

use super::agenda::Kind;
use super::chance::derive;
use super::digest::ItemKind;
use super::disk::{DiskFault, FaultKind, Rot, Unsynced};
use super::happened::{ProcEvent, What};
use super::link::LinkSpec;
use super::net::{Arrival, Leaving};
use super::process::{Item, Make, ProcId, ProcState};
use super::{SimTime, World};

/// Why a verb was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerbError {
    /// What runs cannot be started.
    #[error("{0} is running already")]
    Runs(String),
    /// What is down can neither be killed, stopped nor paused.
    #[error("{name} is {state}")]
    NotRunning {
        /// The process.
        name: String,
        /// What it is doing.
        state: ProcState,
    },
    /// Only a paused process can be resumed.
    #[error("{0} is not paused")]
    NotPaused(String),
    /// Only the disk of a process that is down can be replaced.
    #[error("{0} is running: only a node that is down can get another disk")]
    NotDown(String),
    /// The disk of a node could not be formatted.
    #[error("{0}")]
    Format(String),
    /// Nobody took a snapshot of that name.
    #[error("there is no snapshot \"{0}\" yet")]
    NoSnapshot(String),
    /// No such file on the disk.
    #[error("{0}")]
    Disk(#[from] broker_core::disk::DiskError),
}

/// Which way of a cut or a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Direction {
    /// Both ways.
    #[default]
    Both,
    /// What the first set sends to the second.
    Forth,
    /// What the second set sends to the first.
    Back,
}

impl World {
    fn verb(&mut self, proc: u32, text: &str) {
        self.digest.text(ItemKind::Verb, self.now, proc, 0, text);
    }

    pub(super) fn may_start(&self, proc: ProcId) -> Result<(), VerbError> {
        if self.procs[proc.0 as usize].lives() {
            return Err(VerbError::Runs(self.name(proc).to_string()));
        }
        Ok(())
    }

    pub(super) fn must_run(&self, proc: ProcId) -> Result<(), VerbError> {
        if !self.procs[proc.0 as usize].lives() {
            return Err(VerbError::NotRunning { name: self.name(proc).to_string(), state: self.state(proc) });
        }
        Ok(())
    }

    /// A new process begins: the host is on, and the process will run after its start time.
    pub(super) fn begin(&mut self, id: ProcId) {
        self.verb(id.0, "start");
        let proc = &mut self.procs[id.0 as usize];
        proc.clear(ProcState::Starting);
        proc.incarnation += 1;
        proc.exit_code = None;
        proc.out.events_wanted = self.events_wanted;
        proc.client_out.events_wanted = self.events_wanted;
        let (incarnation, host, range) = (proc.incarnation, proc.host, proc.spec.start);
        let takes = derive(self.spec.seed, &format!("start/{}/{incarnation}", proc.name)).between(range);
        self.net.set_host_on(host, true);
        self.agenda.push(self.now + takes, Kind::Boot, id.0, incarnation);
        self.happens(Some(id), What::Proc(ProcEvent::Started { incarnation }));
    }

    /// The runtime executed a process.
    pub(super) fn executed(&mut self, id: ProcId) {
        let proc = &mut self.procs[id.0 as usize];
        proc.executed = proc.incarnation;
    }

    /// The runtime says that a process is no more.
    pub(super) fn reset(&mut self, id: ProcId, how: Leaving) {
        if self.procs[id.0 as usize].lives() {
            self.gone(id.0, ProcState::Down, how);
        }
    }

    pub(super) fn kill_verb(&mut self, id: ProcId) {
        self.verb(id.0, "kill");
    }

    pub(super) fn killed(&mut self, id: ProcId) {
        self.happens(Some(id), What::Proc(ProcEvent::Killed));
    }

    pub(super) fn paused(&mut self, id: ProcId) {
        self.verb(id.0, "pause");
        self.procs[id.0 as usize].paused = true;
        self.happens(Some(id), What::Proc(ProcEvent::Paused));
    }

    pub(super) fn is_paused(&self, id: ProcId) -> bool {
        self.procs[id.0 as usize].paused
    }

    /// A paused process goes on: with what came due meanwhile, at this instant.
    pub(super) fn resumed(&mut self, id: ProcId) {
        self.verb(id.0, "resume");
        let proc = &mut self.procs[id.0 as usize];
        proc.paused = false;
        let incarnation = proc.incarnation;
        self.happens(Some(id), What::Proc(ProcEvent::Resumed));
        let proc = &mut self.procs[id.0 as usize];
        if std::mem::take(&mut proc.missed_boot) {
            self.agenda.push(self.now, Kind::Boot, id.0, incarnation);
        } else if std::mem::take(&mut proc.missed_wake) || proc.busy_until.is_none() {
            proc.busy_until = Some(self.now);
            self.agenda.push(self.now, Kind::Wake, id.0, incarnation);
        }
    }

    /// SIGTERM. A process that is still starting just ends: `true`, and the runtime must be told.
    pub(super) fn ask_to_stop(&mut self, id: ProcId) -> Result<bool, VerbError> {
        self.must_run(id)?;
        self.verb(id.0, "stop");
        self.happens(Some(id), What::Proc(ProcEvent::AskedToStop));
        match self.procs[id.0 as usize].state {
            ProcState::Starting => Ok(true),
            ProcState::Stopping => Ok(false),
            _ => {
                self.procs[id.0 as usize].state = ProcState::Stopping;
                self.deliver(id.0, Item::Shutdown);
                Ok(false)
            }
        }
    }

    /// The processes that live on a host.
    pub(super) fn living_on(&self, host: u32) -> Vec<ProcId> {
        self.procs().filter(|p| self.host_of(*p) == host && self.procs[p.0 as usize].lives()).collect()
    }

    /// A host loses its power; its processes are gone already.
    pub(super) fn power_lost(&mut self, host: u32, procs: &[ProcId], unsynced: Unsynced) {
        self.verb(host, "power off");
        self.net.set_host_on(host, false);
        self.hosts[host as usize].disk.power_loss(&mut self.chunks, self.now, unsynced);
        for proc in procs {
            self.happens(Some(*proc), What::Proc(ProcEvent::PowerLost { unsynced }));
        }
    }

    /// Formats the disk of a Kafka node as `kafka-storage format` does, before its first start.
    pub fn format(&mut self, id: ProcId) -> Result<(), VerbError> {
        let Make::Node(setup) = &self.procs[id.0 as usize].spec.make else { return Ok(()) };
        let cluster = setup.cluster.clone();
        self.verb(id.0, "format");
        self.format_disk(id.0, &cluster, 0).map_err(VerbError::Format)
    }

    /// A new, empty, healthy disk for a process that is down; a Kafka node's is formatted for the same cluster and id,
    /// with new directory ids.
    pub fn wipe(&mut self, id: ProcId) -> Result<(), VerbError> {
        if self.procs[id.0 as usize].lives() {
            return Err(VerbError::NotDown(self.name(id).to_string()));
        }
        self.verb(id.0, "wipe");
        let proc = &mut self.procs[id.0 as usize];
        proc.wiped += 1;
        let (host, wiped) = (proc.host, proc.wiped);
        self.hosts[host as usize].disk.wipe(&mut self.chunks);
        if let Make::Node(setup) = &self.procs[id.0 as usize].spec.make {
            // The quorum has its voters already: the new disk learns them from it.
            let cluster = NewCluster { voters: None, ..setup.cluster.clone() };
            self.format_disk(id.0, &cluster, wiped).map_err(VerbError::Format)?;
        }
        self.happens(Some(id), What::Proc(ProcEvent::Wiped));
        Ok(())
    }

    /// How the next incarnation of a process is made.
    pub fn set_make(&mut self, id: ProcId, make: Make) {
        self.procs[id.0 as usize].spec.make = make;
    }

    /// Bytes for a process's standard input.
    pub fn stdin(&mut self, id: ProcId, bytes: Bytes) -> Result<(), VerbError> {
        self.must_run(id)?;
        self.deliver_to_started(id, Item::Stdin { bytes });
        Ok(())
    }

    /// A process's standard input is at its end.
    pub fn close_stdin(&mut self, id: ProcId) -> Result<(), VerbError> {
        self.must_run(id)?;
        self.deliver_to_started(id, Item::StdinClosed);
        Ok(())
    }

    /// What comes before the process runs waits for it.
    fn deliver_to_started(&mut self, id: ProcId, item: Item) {
        let proc = &mut self.procs[id.0 as usize];
        if proc.state == ProcState::Starting {
            proc.inbox.push_back(item);
        } else {
            self.deliver(id.0, item);
        }
    }

    /// Each ordered pair of hosts between two sets.
    fn pairs(a: &[u32], b: &[u32], direction: Direction) -> Vec<(u32, u32)> {
        let mut pairs = Vec::new();
        for &x in a {
            for &y in b.iter().filter(|&&y| y != x) {
                if direction != Direction::Back {
                    pairs.push((x, y));
                }
                if direction != Direction::Forth {
                    pairs.push((y, x));
                }
            }
        }
        pairs
    }

    fn names(&self, hosts: &[u32]) -> String {
        hosts.iter().map(|h| &*self.hosts[*h as usize].name).collect::<Vec<_>>().join(", ")
    }

    fn link_happens(&mut self, verb: &str, a: &[u32], b: &[u32], direction: Direction) {
        let way = match direction {
            Direction::Both => "and",
            Direction::Forth => "to",
            Direction::Back => "from",
        };
        let text = format!("{verb}: {} {way} {}", self.names(a), self.names(b));
        self.verb(u32::MAX, &text);
        self.happens(None, What::Link(text));
    }

    /// Nothing is delivered from now on; nothing is reset, unless `reset` says so.
    pub fn cut(&mut self, a: &[u32], b: &[u32], direction: Direction, reset: bool) {
        self.link_happens(if reset { "cut with reset" } else { "cut" }, a, b, direction);
        for (from, to) in Self::pairs(a, b, direction) {
            self.net.links.at(from, to).cut = true;
        }
        if reset {
            self.reset_connections(a, b);
        }
    }

    /// Connections are accepted, but their data is not delivered.
    pub fn jam(&mut self, a: &[u32], b: &[u32], direction: Direction) {
        self.link_happens("jam", a, b, direction);
        for (from, to) in Self::pairs(a, b, direction) {
            self.net.links.at(from, to).jam = true;
        }
    }

    /// Breaks all connections between two sets of hosts at once; new ones can be made.
    pub fn break_connections(&mut self, a: &[u32], b: &[u32]) {
        self.link_happens("reset", a, b, Direction::Both);
        self.reset_connections(a, b);
    }

    /// Breaks all connections between two sets of hosts at once.
    pub fn reset_connections(&mut self, a: &[u32], b: &[u32]) {
        let mut heard = Vec::new();
        let mut between: Vec<(u32, u32)> = Vec::new();
        for (x, y) in Self::pairs(a, b, Direction::Forth) {
            if !between.contains(&(y, x)) {
                between.push((x, y));
            }
        }
        for (x, y) in between {
            self.net
                .reset_between(x, y, |proc, incarnation, arrival| heard.push((proc, incarnation, arrival)));
        }
        for (p, incarnation, arrival) in heard {
            let item = match arrival {
                Arrival::Closed { conn, why } => Item::Closed { conn, why },
                Arrival::ConnectFailed { conn, why } => Item::ConnectFailed { conn, why },
                other => unreachable!("a reset does not bring {other:?}"),
            };
            let proc = &self.procs[p as usize];
            if proc.incarnation == incarnation && proc.lives() {
                self.deliver(p, item);
            }
        }
    }

    /// Ends cuts and jams.
    pub fn heal(&mut self, a: &[u32], b: &[u32], direction: Direction) {
        self.link_happens("heal", a, b, direction);
        for (from, to) in Self::pairs(a, b, direction) {
            let link = self.net.links.at(from, to);
            link.cut = false;
            link.jam = false;
        }
    }

    /// Ends all cuts and jams.
    pub fn heal_cuts(&mut self) {
        let all: Vec<u32> = self.hosts().collect();
        self.verb(u32::MAX, "heal all cuts");
        for (from, to) in Self::pairs(&all, &all, Direction::Forth) {
            let link = self.net.links.at(from, to);
            link.cut = false;
            link.jam = false;
        }
        self.happens(None, What::Link("heal: all cuts".into()));
    }

    /// Ends all network, disk and clock faults.
    pub fn heal_everything(&mut self) {
        self.verb(u32::MAX, "heal everything");
        self.net.links.heal_all();
        self.net.resolve_all();
        for host in &mut self.hosts {
            host.disk.end_faults(&[]);
            host.clock.heal();
        }
        (0..self.hosts.len()).for_each(|host| self.end_stalls(host as u32));
        self.happens(None, What::Link("heal: everything".into()));
    }

    /// From now on hosts can, or cannot, find others by their names. Connections that stand do not mind.
    pub fn set_resolved(&mut self, at: &[u32], of: &[u32], resolved: bool) {
        let verb = if resolved { "names are found" } else { "names are not found" };
        self.link_happens(verb, at, of, Direction::Forth);
        for (at, of) in Self::pairs(at, of, Direction::Forth) {
            self.net.set_resolved(at, of, resolved);
        }
    }

    /// Changes links from now on; `None` gives them their starting behaviour back.
    pub fn set_link(&mut self, a: &[u32], b: &[u32], direction: Direction, spec: Option<LinkSpec>) {
        self.link_happens(&format!("link {spec:?}"), a, b, direction);
        for (from, to) in Self::pairs(a, b, direction) {
            self.net.links.set(from, to, spec);
        }
    }

    /// Something is wrong with a disk, from now on or from when the fault says.
    pub fn disk_fault(&mut self, host: u32, fault: DiskFault) {
        let text = format!("{}: {fault}", self.hosts[host as usize].name);
        self.verb(host, &text);
        let id = self.hosts[host as usize].disk.add_fault(&mut self.agenda, self.now, host, fault);
        self.happens(None, What::Disk(text));
        self.flip_now(host, id);
    }

    /// A fault that was to come later begins.
    pub(super) fn fault_begins(&mut self, host: u32, id: u32) {
        let Some(fault) = self.hosts[host as usize].disk.fault_begins(id) else { return };
        self.verb(host, &format!("{fault}"));
        if !matches!(fault.kind, FaultKind::BitFlip(..)) {
            self.happens(self.disk_owner(host), What::Disk(format!("the disk fails: {fault}")));
        }
        self.flip_now(host, id);
    }

    /// A fault that has begun and is over at once: bits flip, at places that the seed draws.
    fn flip_now(&mut self, host: u32, id: u32) {
        let Some(fault) = self.hosts[host as usize].disk.begun(id) else { return };
        let FaultKind::BitFlip(bits, rot) = fault.kind else { return };
        self.hosts[host as usize].disk.end_fault(id);
        for _ in 0..bits {
            let drawn = self.hosts[host as usize].disk.draw_bit(&fault.under, rot);
            match drawn {
                Some((path, offset, bit)) => self
                    .flip_bit(host, &path, offset, bit, rot)
                    .expect("the place that was drawn lies within a file"),
                None => self.happens(
                    self.disk_owner(host),
                    What::Disk("no bit flips: there is not a byte there".to_owned()),
                ),
            }
        }
    }

    /// The process that uses a host's disk.
    fn disk_owner(&self, host: u32) -> Option<ProcId> {
        self.procs().find(|p| self.host_of(*p) == host && self.procs[p.0 as usize].owns_disk())
    }

    /// A disk is healthy again; with paths, what lies on these only.
    pub fn heal_disk(&mut self, host: u32, under: &[String]) {
        self.verb(host, "heal disk");
        self.hosts[host as usize].disk.end_faults(under);
        self.end_stalls(host);
        self.happens(None, What::Disk(format!("{}: healthy", self.hosts[host as usize].name)));
    }

    /// A process is busy at once for all that one input did to its disk. Where the disk stalls no more, what is left of
    /// that goes as fast as ever.
    fn end_stalls(&mut self, host: u32) {
        let slow = |fault: &DiskFault| matches!(fault.kind, FaultKind::Slow(_));
        if self.hosts[host as usize].disk.faults().any(slow) {
            return;
        }
        for (p, proc) in self.procs.iter_mut().enumerate().filter(|(_, proc)| proc.host == host) {
            let Some(until) = proc.busy_until else { continue };
            let stalled = std::mem::take(&mut proc.stalled);
            let sooner = SimTime(until.0.saturating_sub(stalled.0)).max(self.now);
            if sooner < until {
                proc.busy_until = Some(sooner);
                self.agenda.push(sooner, Kind::Wake, p as u32, proc.incarnation);
            }
        }
    }

    /// Flips one bit of a file.
    pub fn flip_bit(
        &mut self,
        host: u32,
        path: &str,
        offset: u64,
        bit: u8,
        rot: Rot,
    ) -> Result<(), VerbError> {
        let text = format!("bit {bit} of byte {offset} of /{path} flips {rot}");
        self.verb(host, &text);
        self.hosts[host as usize].disk.flip_bit(&mut self.chunks, path, offset, bit, rot)?;
        self.happens(self.disk_owner(host), What::BitFlipped(text));
        Ok(())
    }

    /// Keeps what a host's disk holds now under a name.
    pub fn snapshot(&mut self, host: u32, name: &str) {
        self.verb(host, &format!("snapshot {name}"));
        let image = self.hosts[host as usize].disk.image(&self.chunks);
        self.snapshots.insert(name.to_owned(), std::sync::Arc::new(image));
    }

    /// Whether a snapshot of that name was taken.
    pub fn has_snapshot(&self, name: &str) -> bool {
        self.snapshots.contains_key(name)
    }

    /// A healthy disk with what a snapshot holds, for a process that is down. Nothing in it is changed: whose disk it
    /// was is for the node to find out.
    pub fn restore(&mut self, id: ProcId, snapshot: &str) -> Result<(), VerbError> {
        if self.procs[id.0 as usize].lives() {
            return Err(VerbError::NotDown(self.name(id).to_string()));
        }
        let image = self.snapshots.get(snapshot).cloned();
        let image = image.ok_or_else(|| VerbError::NoSnapshot(snapshot.to_owned()))?;
        self.verb(id.0, &format!("restore {snapshot}"));
        let host = self.procs[id.0 as usize].host;
        self.hosts[host as usize].disk.restore(&mut self.chunks, &image)?;
        self.happens(Some(id), What::Proc(ProcEvent::Restored { snapshot: snapshot.to_owned() }));
        Ok(())
    }

    /// Writes a whole file, durably, making its directories: for formatting a disk.
    pub fn put_file(&mut self, host: u32, path: &str, content: Bytes) -> Result<(), VerbError> {
        self.digest.bytes(
            ItemKind::DiskReplace,
            self.now,
            u32::MAX,
            u64::from(host),
            std::slice::from_ref(&content),
        );
        self.hosts[host as usize].disk.put(&mut self.chunks, path, content)?;
        Ok(())
    }

    /// Steps a host's wall clock.
    pub fn step_clock(&mut self, host: u32, nanos: i64) {
        let text =
            format!("{}: the wall clock steps by {} ms", self.hosts[host as usize].name, nanos / 1_000_000);
        self.verb(host, &text);
        self.hosts[host as usize].clock.step(self.now, nanos);
        self.happens(None, What::Clock(text));
    }

    /// Lets a host's wall clock run too fast or slow.
    pub fn drift_clock(&mut self, host: u32, ppm: i64) {
        let text = format!("{}: the wall clock drifts by {ppm} ppm", self.hosts[host as usize].name);
        self.verb(host, &text);
        self.hosts[host as usize].clock.drift(self.now, ppm);
        self.happens(None, What::Clock(text));
    }

    /// Puts a host's wall clock right.
    pub fn heal_clock(&mut self, host: u32) {
        let text = format!("{}: the wall clock is put right", self.hosts[host as usize].name);
        self.verb(host, &text);
        self.hosts[host as usize].clock.heal();
        self.happens(None, What::Clock(text));
    }

    /// Lets virtual time stand at `at`, when nothing happens before it.
    pub(super) fn idle_until(&mut self, at: SimTime) {
        assert!(self.next_at().is_none_or(|next| next > at), "nothing is passed over");
        self.move_to(at);
    }
}
