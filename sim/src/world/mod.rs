//! The simulated world: hosts, processes, links, disks and clocks in virtual time.
//!
//! - One [`Agenda`] holds everything that will happen; [`World::step`] takes the next thing and lets the
//!   process that it concerns handle it. A run is a function of what was built, the seed and the verbs; its
//!   [digest] says so.
//! - The world is a value: a clone is a copy that can be run on by itself, with the digest that the original would have.
//! - [`run`] drives a world inside one madsim runtime on a fresh thread. Each process is a madsim node there; kill, start
//!   and pause are the runtime's own, and one plug-in hears of them (see [`runtime`]).
//! - Work takes time: a process is busy for what its input cost it; its outputs leave, and it takes the next input, at
//!   that instant.

pub mod agenda;
pub mod chance;
pub mod chunks;
pub mod clock;
pub mod digest;
pub mod disk;
pub mod happened;
pub mod link;
pub mod net;
pub mod process;
pub mod runtime;
mod step;
#[cfg(test)]
mod tests;
pub mod time;
mod verbs;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use broker_core::node::Node;
use wire::drive::Now;

pub use digest::DigestTrail;
pub use disk::{After, DiskFault, DiskImage, DiskSpec, FaultKind, Rot, SimDisk, Unsynced};
pub use happened::{Happened, ProcEvent, What};
pub use link::LinkSpec;
pub use process::{
    Boot, ClientBoot, ClientMaker, Machine, MachineMaker, Make, NODE_START, NodeSetup, ProcId, ProcSpec,
    ProcState, WorkCost,
};
pub use runtime::{Crash, Stage, run};
pub use step::{Step, WorldError};
pub use time::{Between, SimTime};
pub use verbs::{Direction, VerbError};

use agenda::{Agenda, Kind};
use chunks::ChunkStore;
use clock::Clock;
use digest::Digest;
use link::Links;
use net::Net;
use process::Proc;

/// How many steps may happen at one instant before the world says that it makes no progress.
pub const STEPS_AN_INSTANT: u32 = 100_000;

/// What a world is made from.
#[derive(Clone, Debug, Default)]
pub struct WorldSpec {
    /// From which every stream of chance is derived.
    pub seed: u64,
    /// How links behave at the beginning.
    pub link: LinkSpec,
    /// How disks behave at the beginning.
    pub disk: DiskSpec,
}

/// Counts, for reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Inputs taken by processes.
    pub events: u64,
    /// Frames taken by processes.
    pub frames: u64,
    /// Their bytes, without prefixes.
    pub frame_bytes: u64,
}

#[derive(Clone)]
struct Host {
    name: Arc<str>,
    /// As Kafka prints it.
    address: String,
    clock: Clock,
    disk: SimDisk,
}

/// The simulated world.
#[derive(Clone)]
pub struct World {
    spec: WorldSpec,
    now: SimTime,
    agenda: Agenda,
    hosts: Vec<Host>,
    procs: Vec<Proc>,
    by_name: BTreeMap<Arc<str>, ProcId>,
    net: Net,
    chunks: ChunkStore,
    digest: Digest,
    happened: Vec<Happened>,
    events_wanted: bool,
    counts: Counts,
    steps_here: u32,
    next_alarm: u32,
    /// What disks held at some moment, by the name that it was given.
    snapshots: BTreeMap<String, Arc<DiskImage>>,
    /// Processes that ended by themselves, of which the runtime does not know yet.
    ended: Vec<ProcId>,
    failure: Option<WorldError>,
}

impl World {
    /// An empty world at time zero.
    pub fn new(spec: WorldSpec) -> World {
        let net = Net::new(Links::new(spec.seed, spec.link));
        World {
            spec,
            now: SimTime::ZERO,
            agenda: Agenda::default(),
            hosts: Vec::new(),
            procs: Vec::new(),
            by_name: BTreeMap::new(),
            net,
            chunks: ChunkStore::default(),
            digest: Digest::default(),
            happened: Vec::new(),
            events_wanted: true,
            counts: Counts::default(),
            steps_here: 0,
            next_alarm: 0,
            snapshots: BTreeMap::new(),
            ended: Vec::new(),
            failure: None,
        }
    }

    /// The host of that name; made if there is none.
    pub fn add_host(&mut self, name: &str) -> u32 {
        if let Some(host) = self.host(name) {
            return host;
        }
        let host = self.hosts.len() as u32;
        self.net.add_host(name);
        self.hosts.push(Host {
            name: name.into(),
            address: format!("10.0.{}.{}", host / 250, host % 250 + 1),
            clock: Clock::default(),
            disk: SimDisk::new(self.spec.seed, name, self.spec.disk),
        });
        host
    }

    /// Adds a process, and its host if that is new. It does not run yet. Names are unique.
    pub fn add_proc(&mut self, spec: ProcSpec) -> ProcId {
        let host = self.add_host(&spec.host);
        let id = ProcId(self.procs.len() as u32);
        self.net.add_proc();
        let proc = Proc::new(spec, host);
        let other = self.by_name.insert(proc.name.clone(), id);
        assert!(other.is_none(), "two processes are named {}", proc.name);
        self.procs.push(proc);
        id
    }

    // --- looking

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.spec.seed
    }

    /// The present moment.
    pub fn now(&self) -> SimTime {
        self.now
    }

    /// Both clocks of a host, now.
    pub fn clocks(&self, host: u32) -> Now {
        self.hosts[host as usize].clock.now(self.now)
    }

    /// How far a host's wall clock is ahead of the true time, in nanoseconds.
    pub fn clock_ahead(&self, host: u32) -> i64 {
        self.hosts[host as usize].clock.ahead(self.now)
    }

    /// When the next thing happens (perhaps nothing visible).
    pub fn next_at(&self) -> Option<SimTime> {
        self.agenda.peek().map(|key| key.at())
    }

    /// A process by its name.
    pub fn proc(&self, name: &str) -> Option<ProcId> {
        self.by_name.get(name).copied()
    }

    /// All processes, in the order in which they were added.
    pub fn procs(&self) -> impl Iterator<Item = ProcId> + use<> {
        (0..self.procs.len() as u32).map(ProcId)
    }

    /// A process's name.
    pub fn name(&self, proc: ProcId) -> &Arc<str> {
        &self.procs[proc.0 as usize].name
    }

    /// Whether syncs of a host's disk lie, or did at some time.
    pub fn has_lied(&self, host: u32) -> bool {
        self.hosts[host as usize].disk.has_lied()
    }

    /// A process's host.
    pub fn host_of(&self, proc: ProcId) -> u32 {
        self.procs[proc.0 as usize].host
    }

    /// A host by its name.
    pub fn host(&self, name: &str) -> Option<u32> {
        self.hosts.iter().position(|host| *host.name == *name).map(|at| at as u32)
    }

    /// All hosts, in the order in which they were added.
    pub fn hosts(&self) -> impl Iterator<Item = u32> + use<> {
        0..self.hosts.len() as u32
    }

    /// A host's name.
    pub fn host_name(&self, host: u32) -> &Arc<str> {
        &self.hosts[host as usize].name
    }

    /// What a process is doing.
    pub fn state(&self, proc: ProcId) -> ProcState {
        let proc = &self.procs[proc.0 as usize];
        if proc.paused { ProcState::Paused } else { proc.state }
    }

    /// The number of a process's present (or last) incarnation; 0 before the first.
    pub fn incarnation(&self, proc: ProcId) -> u32 {
        self.procs[proc.0 as usize].incarnation
    }

    /// The exit status of a process that exited by itself.
    pub fn exit_code(&self, proc: ProcId) -> Option<i32> {
        self.procs[proc.0 as usize].exit_code
    }

    /// A Kafka node, if it runs.
    pub fn node(&self, proc: ProcId) -> Option<&Node> {
        match &self.procs[proc.0 as usize].slot {
            process::Slot::Node(node) => Some(node),
            _ => None,
        }
    }

    /// A client, if it runs.
    pub fn client(&self, proc: ProcId) -> Option<&client::Process> {
        match &self.procs[proc.0 as usize].slot {
            process::Slot::Client(process) => Some(process),
            _ => None,
        }
    }

    /// A test harness's state machine, if it runs.
    pub fn machine<M: 'static>(&self, proc: ProcId) -> Option<&M> {
        match &self.procs[proc.0 as usize].slot {
            process::Slot::Machine(machine) => machine.as_any().downcast_ref(),
            _ => None,
        }
    }

    /// A host's disk.
    pub fn disk(&self, host: u32) -> &SimDisk {
        &self.hosts[host as usize].disk
    }

    /// The whole content of a file, as the page cache has it.
    pub fn file(&self, host: u32, path: &str) -> Option<Vec<u8>> {
        self.hosts[host as usize].disk.content(&self.chunks, path)
    }

    /// The paths of all files of a host, sorted.
    pub fn files(&self, host: u32) -> Vec<String> {
        self.hosts[host as usize].disk.files()
    }

    /// Writes a host's files out below a real directory.
    pub fn keep_disk(&self, host: u32, below: &Path) -> std::io::Result<()> {
        self.hosts[host as usize].disk.keep(&self.chunks, below)
    }

    /// Bytes that the disks of all hosts hold together, those shared between replicas once.
    pub fn disk_bytes_held(&self) -> usize {
        self.chunks.bytes_held()
    }

    /// Links, cuts and jams.
    pub fn links(&self) -> &Links {
        &self.net.links
    }

    /// How many connections exist, in any state.
    pub fn connections(&self) -> usize {
        self.net.connections()
    }

    /// Counts, for reports.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The digest if the run ended here, with the running values.
    pub fn digest(&self) -> DigestTrail {
        self.digest.trail()
    }

    /// Keeps a line for each thing digested from now on: for finding the first event in which two runs differ.
    pub fn start_trace(&mut self) {
        self.digest.start_trace();
    }

    /// The lines kept since the last call.
    pub fn take_trace(&mut self) -> Vec<digest::Item> {
        self.digest.take_trace()
    }

    /// Whether events are made at all. Without listeners, making one costs a branch.
    pub fn set_events_wanted(&mut self, wanted: bool) {
        self.events_wanted = wanted;
        for proc in &mut self.procs {
            proc.out.events_wanted = wanted;
            proc.client_out.events_wanted = wanted;
        }
    }

    /// What happened since the last call, in order.
    pub fn take_happened(&mut self) -> Vec<Happened> {
        std::mem::take(&mut self.happened)
    }

    /// What happened since the last call takes the place of what `happened` holds, whose memory is used again.
    pub fn swap_happened(&mut self, happened: &mut Vec<Happened>) {
        happened.clear();
        std::mem::swap(&mut self.happened, happened);
    }

    /// Asks for [`Step::Alarm`] at a moment, after all that was made for it before. Returns its token.
    pub fn alarm(&mut self, at: SimTime) -> u32 {
        assert!(at >= self.now, "an alarm lies ahead");
        self.next_alarm += 1;
        self.agenda.push(at, Kind::Alarm, self.next_alarm, 0);
        self.next_alarm
    }

    fn happens(&mut self, proc: Option<ProcId>, what: What) {
        if self.events_wanted {
            self.happened.push(Happened { at: self.now, proc, what });
        }
    }
}
