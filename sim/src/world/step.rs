//! The world's loop: what is due is handed to the process that it concerns, and what that wants is carried out.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use broker_core::config::NodeConfig;
use broker_core::disk::Ticket;
use broker_core::io::Output;
use broker_core::node::{NewCluster, Node};
use client::Output as ClientOutput;
use codecs::StdCodecs;
use wire::drive::{ConnId, Nanos, Now};

use super::agenda::Kind;
use super::chance::derive_seed;
use super::digest::ItemKind;
use super::disk::{DiskPort, Unsynced};
use super::happened::{Happened, ProcEvent, What};
use super::net::{Arrival, Leaving, Listening};
use super::process::{Boot, ClientBoot, Item, Make, ProcId, ProcState, Slot};
use super::runtime::panic_text;
use super::time::SimTime;
use super::{STEPS_AN_INSTANT, World};

/// What a step was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A process handled something, or what it had done took effect.
    Ran(ProcId),
    /// Nothing that a process hears of.
    Inside,
    /// An alarm that was asked for.
    Alarm(u32),
}

/// Why a world does not go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorldError {
    /// No progress: too many steps at one instant.
    #[error("no progress at {at}: {STEPS_AN_INSTANT} steps at one instant, the last of them:\n  {}", last.join("\n  "))]
    Livelock {
        /// When.
        at: SimTime,
        /// The last ten events.
        last: Vec<String>,
    },
    /// A process stopped on an assertion.
    #[error("{name} stopped on an assertion at {at}: {text}")]
    Assertion {
        /// When.
        at: SimTime,
        /// The process.
        proc: ProcId,
        /// Its name.
        name: String,
        /// What the assertion says, and where it stands.
        text: String,
    },
}

/// A node checks after each input what that input touched; after so many inputs of the world it checks everything.
const FULL_CHECK_EVERY: u64 = 4096;

/// Steps before the bound from which the last events are kept.
const LAST_EVENTS: u32 = 200;

impl World {
    /// Every node that runs checks everything: for the end of a run.
    pub fn check_nodes(&mut self) -> Result<(), WorldError> {
        for p in 0..self.procs.len() {
            let Slot::Node(node) = &self.procs[p].slot else { continue };
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| node.check_invariants())) {
                self.assertion(p as u32, &panic_text(&*panic));
            }
        }
        self.failure.clone().map_or(Ok(()), Err)
    }

    /// Takes the next thing that happens. `None`: nothing will ever happen by itself.
    pub fn step(&mut self) -> Result<Option<Step>, WorldError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let Some(key) = self.agenda.pop() else { return Ok(None) };
        self.move_to(key.at());
        self.tick();
        let step = match key.kind() {
            Kind::Wake => self.wake(key.a, key.b),
            Kind::Timer => self.timer(key.a, key.b),
            Kind::Boot => self.boot(key.a, key.b),
            Kind::SyncDone => self.sync_done(key.a, key.b),
            Kind::FaultBegins => {
                self.fault_begins(key.a, key.b);
                Step::Inside
            }
            Kind::Alarm => Step::Alarm(key.a),
            kind => match self.net.due(&mut self.agenda, self.now, kind, key.a, key.b) {
                Some((proc, incarnation, arrival)) => self.arrived(proc, incarnation, arrival),
                None => Step::Inside,
            },
        };
        match &self.failure {
            Some(failure) => Err(failure.clone()),
            None => Ok(Some(step)),
        }
    }

    /// Moves the world's clock.
    pub(super) fn move_to(&mut self, at: SimTime) {
        assert!(at >= self.now, "time does not go back");
        if at > self.now {
            self.now = at;
            if self.steps_here + LAST_EVENTS > STEPS_AN_INSTANT {
                self.digest.keep_recent(false);
            }
            self.steps_here = 0;
        }
    }

    /// Counts what happens at one instant.
    #[inline]
    fn tick(&mut self) {
        self.steps_here += 1;
        if self.steps_here + LAST_EVENTS > STEPS_AN_INSTANT {
            self.maybe_livelock();
        }
    }

    #[cold]
    fn maybe_livelock(&mut self) {
        if self.steps_here + LAST_EVENTS == STEPS_AN_INSTANT + 1 {
            self.digest.keep_recent(true);
        }
        if self.steps_here >= STEPS_AN_INSTANT && self.failure.is_none() {
            let line = |item: &super::digest::Item| {
                item.line(self.procs.get(item.proc as usize).map_or("-", |proc| &proc.name))
            };
            let last = self.digest.recent().iter().map(line).collect();
            self.failure = Some(WorldError::Livelock { at: self.now, last });
        }
    }

    fn arrived(&mut self, p: u32, incarnation: u32, arrival: Arrival) -> Step {
        let proc = &mut self.procs[p as usize];
        if proc.incarnation != incarnation || !proc.lives() {
            return Step::Inside;
        }
        let item = match arrival {
            Arrival::Accepted { end, listener, from_host } => {
                let conn = proc.next_conn();
                self.net.bind(end, conn);
                let peer = self.hosts[from_host as usize].address.clone();
                Item::Accepted { conn, listener, peer }
            }
            Arrival::Connected { conn } => Item::Connected { conn },
            Arrival::ConnectFailed { conn, why } => Item::ConnectFailed { conn, why },
            Arrival::Frame { conn, end, frame } => Item::Frame { conn, end, frame },
            Arrival::Oversized { conn, announced } => Item::Oversized { conn, announced },
            Arrival::Sent { conn, bytes_left } => Item::Sent { conn, bytes_left },
            Arrival::Closed { conn, why } => Item::Closed { conn, why },
        };
        self.deliver(p, item);
        Step::Ran(ProcId(p))
    }

    /// Gives a process something: now if it is free, else it waits.
    #[inline]
    pub(super) fn deliver(&mut self, p: u32, item: Item) {
        let proc = &mut self.procs[p as usize];
        if !proc.is_free() || !proc.inbox.is_empty() {
            proc.inbox.push_back(item);
            return;
        }
        self.take(p, item);
        self.take_waiting(p);
    }

    /// Lets a process take what waits, until it is busy.
    fn take_waiting(&mut self, p: u32) {
        while self.failure.is_none() {
            let proc = &mut self.procs[p as usize];
            if !proc.is_free() {
                return;
            }
            let Some(item) = proc.inbox.pop_front() else { return };
            self.tick();
            self.take(p, item);
        }
    }

    /// A process takes one input.
    fn take(&mut self, p: u32, item: Item) {
        let at = self.now;
        let mut bytes = 0;
        let mut request = false;
        let item = match item {
            Item::Frame { conn, end, frame } => {
                let Some(frame) = self.net.hold_back(end, frame) else { return };
                bytes = frame.len();
                request = true;
                self.net.taken(&mut self.agenda, at, end, bytes);
                self.counts.frames += 1;
                self.counts.frame_bytes += bytes as u64;
                self.digest.item(ItemKind::FrameTaken, at, p, conn.0, bytes as u64);
                Item::Frame { conn, end, frame }
            }
            Item::Timer => {
                let proc = &mut self.procs[p as usize];
                proc.timer_waits = false;
                // It may have been handled by what came before it.
                if proc.slot.deadline().is_none_or(|deadline| deadline > at.mono()) {
                    self.arm_timer(p);
                    return;
                }
                self.digest.item(ItemKind::Timer, at, p, 0, 0);
                Item::Timer
            }
            other => {
                self.digest_input(p, &other);
                other
            }
        };
        self.counts.events += 1;
        let Some(disk_cost) = self.handle(p, item) else { return };
        self.spend(p, request, bytes, disk_cost);
    }

    fn digest_input(&mut self, p: u32, item: &Item) {
        let (kind, a, len) = match item {
            Item::Accepted { conn, .. } => (ItemKind::Accepted, conn.0, 0),
            Item::Connected { conn } => (ItemKind::Connected, conn.0, 0),
            Item::ConnectFailed { conn, why } => (ItemKind::ConnectFailed, conn.0, *why as u64),
            Item::Oversized { conn, announced } => (ItemKind::Oversized, conn.0, *announced as u64),
            Item::Sent { conn, bytes_left } => (ItemKind::Sent, conn.0, *bytes_left as u64),
            Item::Closed { conn, why } => (ItemKind::Closed, conn.0, *why as u64),
            Item::Synced { ticket, result } => (ItemKind::DiskSynced, ticket.0, u64::from(result.is_err())),
            Item::Stdin { bytes } => {
                self.digest.bytes(ItemKind::Stdin, self.now, p, 0, std::slice::from_ref(bytes));
                return;
            }
            Item::Start => (ItemKind::Verb, 1, 0),
            Item::Shutdown => (ItemKind::Verb, 2, 0),
            Item::StdinClosed => (ItemKind::Stdin, 1, 0),
            Item::Frame { .. } | Item::Timer => unreachable!("digested where they are taken"),
        };
        self.digest.item(kind, self.now, p, a, len);
    }

    /// Calls the state machine in the slot. `None`: it is no more.
    #[inline]
    fn handle(&mut self, p: u32, item: Item) -> Option<Nanos> {
        let World { procs, hosts, chunks, agenda, digest, now, .. } = self;
        let proc = &mut procs[p as usize];
        let host = &mut hosts[proc.host as usize];
        let clocks = host.clock.now(*now);
        let mut disk = DiskPort {
            disk: &mut host.disk,
            chunks,
            agenda,
            digest,
            now: *now,
            host: proc.host,
            proc: p,
            incarnation: proc.incarnation,
            cost: Nanos::ZERO,
        };
        let (slot, out, client_out) = (&mut proc.slot, &mut proc.out, &mut proc.client_out);
        let full_check = self.counts.events.is_multiple_of(FULL_CHECK_EVERY);
        let handled = catch_unwind(AssertUnwindSafe(|| match slot {
            Slot::Empty => {}
            Slot::Node(node) => {
                if let Some(input) = item.for_node() {
                    node.handle(clocks, input, &mut disk, out);
                }
                if full_check {
                    node.check_invariants();
                }
            }
            Slot::Client(process) => {
                if let Some(input) = item.for_client() {
                    process.handle(clocks, input, &StdCodecs, client_out);
                }
            }
            Slot::Machine(machine) => {
                if let Some(input) = item.for_node() {
                    machine.handle(clocks, input, &mut disk, out);
                }
            }
        }));
        let cost = disk.cost;
        if let Err(panic) = handled {
            self.assertion(p, &panic_text(&*panic));
            return None;
        }
        Some(cost)
    }

    fn assertion(&mut self, p: u32, text: &str) {
        let (at, proc, name) = (self.now, ProcId(p), self.procs[p as usize].name.to_string());
        self.failure = Some(WorldError::Assertion { at, proc, name, text: text.to_owned() });
    }

    /// The process is busy for what its input and its outputs cost; then the outputs leave.
    #[inline]
    fn spend(&mut self, p: u32, request: bool, taken: usize, disk_cost: Nanos) {
        let proc = &mut self.procs[p as usize];
        let cost = proc.spec.cost;
        let mut nanos = disk_cost.0;
        if request {
            nanos += cost.request.0;
        }
        if cost.kib != Nanos::ZERO {
            nanos += (taken + proc.bytes_to_send()) as u64 * cost.kib.0 / 1024;
        }
        if nanos == 0 {
            self.carry_out(p);
            self.arm_timer(p);
            return;
        }
        let until = self.now + Nanos(nanos);
        (proc.busy_until, proc.stalled) = (Some(until), disk_cost);
        self.agenda.push(until, Kind::Wake, p, proc.incarnation);
    }

    /// A process is no longer busy.
    fn wake(&mut self, p: u32, incarnation: u32) -> Step {
        let proc = &mut self.procs[p as usize];
        if proc.incarnation != incarnation || proc.busy_until != Some(self.now) {
            return Step::Inside;
        }
        if proc.paused {
            proc.missed_wake = true;
            return Step::Inside;
        }
        self.free(p);
        Step::Ran(ProcId(p))
    }

    /// What a process did takes effect, and it takes what waits.
    pub(super) fn free(&mut self, p: u32) {
        self.procs[p as usize].busy_until = None;
        self.carry_out(p);
        self.arm_timer(p);
        self.take_waiting(p);
    }

    /// Puts a process's deadline into the agenda, if nothing earlier is there.
    #[inline]
    fn arm_timer(&mut self, p: u32) {
        let proc = &mut self.procs[p as usize];
        if proc.timer_waits {
            return;
        }
        let Some(deadline) = proc.slot.deadline() else { return };
        let at = SimTime(deadline.0).max(self.now);
        if proc.timers.last().is_none_or(|soonest| at < *soonest) {
            proc.timers.push(at);
            self.agenda.push(at, Kind::Timer, p, proc.incarnation);
        }
    }

    fn timer(&mut self, p: u32, incarnation: u32) -> Step {
        let proc = &mut self.procs[p as usize];
        if proc.incarnation != incarnation || proc.timers.is_empty() {
            return Step::Inside;
        }
        let due = proc.timers.pop();
        assert_eq!(due, Some(self.now), "timers come soonest first");
        if proc.timer_waits {
            return Step::Inside;
        }
        if proc.slot.deadline().is_none_or(|deadline| deadline > self.now.mono()) {
            self.arm_timer(p);
            return Step::Inside;
        }
        proc.timer_waits = true;
        self.deliver(p, Item::Timer);
        Step::Ran(ProcId(p))
    }

    fn sync_done(&mut self, host: u32, ticket: u32) -> Step {
        let disk = &mut self.hosts[host as usize].disk;
        let Some(synced) = disk.sync_done(&mut self.chunks, self.now, ticket) else { return Step::Inside };
        let proc = &self.procs[synced.proc as usize];
        if proc.incarnation != synced.incarnation || !proc.lives() {
            return Step::Inside;
        }
        let item = Item::Synced { ticket: Ticket(u64::from(ticket)), result: synced.result };
        self.deliver(synced.proc, item);
        Step::Ran(ProcId(synced.proc))
    }

    /// A started process runs, and listens.
    pub(super) fn boot(&mut self, p: u32, incarnation: u32) -> Step {
        let proc = &mut self.procs[p as usize];
        if proc.incarnation != incarnation || proc.state != ProcState::Starting {
            return Step::Inside;
        }
        if proc.paused {
            proc.missed_boot = true;
            return Step::Inside;
        }
        assert_eq!(proc.executed, incarnation, "the runtime executed the process before it runs");
        proc.state = ProcState::Running;
        match self.open(p) {
            Some(Ok(slot)) => self.procs[p as usize].slot = slot,
            Some(Err(why)) => {
                self.digest.text(ItemKind::Exit, self.now, p, 2, &why);
                self.end_process(p, ProcState::Halted, Leaving::Exit);
                self.happens(Some(ProcId(p)), What::Proc(ProcEvent::OpenFailed { why }));
                return Step::Ran(ProcId(p));
            }
            None => return Step::Ran(ProcId(p)),
        }
        self.tell_ports(p);
        self.happens(Some(ProcId(p)), What::Proc(ProcEvent::Running));
        if matches!(self.procs[p as usize].slot, Slot::Client(_)) {
            // Before what came for its standard input meanwhile.
            self.procs[p as usize].inbox.push_front(Item::Start);
        }
        self.free(p);
        Step::Ran(ProcId(p))
    }

    /// A node opens and closes its listeners while it runs; connections that stand stay.
    fn tell_ports(&mut self, p: u32) {
        let proc = &mut self.procs[p as usize];
        proc.ports_mark = proc.slot.ports_mark();
        let (host, incarnation) = (proc.host, proc.incarnation);
        self.net.stop_listening(p);
        for (port, listener, frame_limit) in self.procs[p as usize].slot.listeners() {
            self.net.listen(Listening { host, port, listener, frame_limit, proc: p, incarnation });
        }
    }

    /// Makes the state machine of a new incarnation. `None`: it stopped on an assertion.
    fn open(&mut self, p: u32) -> Option<Result<Slot, String>> {
        let World { procs, hosts, chunks, agenda, digest, now, spec, .. } = self;
        let proc = &mut procs[p as usize];
        let host = &mut hosts[proc.host as usize];
        let clocks: Now = host.clock.now(*now);
        let seed = derive_seed(spec.seed, &format!("process/{}/{}", proc.name, proc.incarnation));
        let mut disk = DiskPort {
            disk: &mut host.disk,
            chunks,
            agenda,
            digest,
            now: *now,
            host: proc.host,
            proc: p,
            incarnation: proc.incarnation,
            cost: Nanos::ZERO,
        };
        let incarnation = proc.incarnation;
        let make = proc.spec.make.clone();
        let made = catch_unwind(AssertUnwindSafe(|| match &make {
            Make::Node(setup) => {
                let config = NodeConfig::clone(&setup.config);
                match Node::open(config, seed, clocks, Arc::new(StdCodecs), &mut disk) {
                    Ok(node) => {
                        node.check_invariants();
                        Ok(Slot::Node(Box::new(node)))
                    }
                    Err(error) => Err(error.to_string()),
                }
            }
            Make::Client(make) => {
                Ok(Slot::Client(Box::new(make(ClientBoot { seed, incarnation, now: clocks })?)))
            }
            Make::Machine(make) => {
                Ok(Slot::Machine(make(Boot { seed, incarnation, now: clocks, disk: &mut disk })))
            }
        }));
        match made {
            Ok(made) => Some(made),
            Err(panic) => {
                self.assertion(p, &panic_text(&*panic));
                None
            }
        }
    }

    /// Formats the disk of a Kafka node, durably, with directory ids of its own.
    pub(super) fn format_disk(&mut self, p: u32, cluster: &NewCluster, times: u32) -> Result<(), String> {
        let World { procs, hosts, chunks, agenda, digest, now, spec, .. } = self;
        let proc = &mut procs[p as usize];
        let Make::Node(setup) = &proc.spec.make else { return Ok(()) };
        let host = &mut hosts[proc.host as usize];
        let clocks = host.clock.now(*now);
        let mut disk = DiskPort {
            disk: &mut host.disk,
            chunks,
            agenda,
            digest,
            now: *now,
            host: proc.host,
            proc: p,
            incarnation: proc.incarnation,
            cost: Nanos::ZERO,
        };
        let seed = derive_seed(spec.seed, &format!("format/{}/{times}", proc.name));
        Node::format(&setup.config, cluster, seed, clocks, &StdCodecs, &mut disk)
            .map_err(|e| e.to_string())?;
        // The tool that formats waits until all of it is on the medium.
        host.disk.power_loss(chunks, *now, Unsynced::Kept);
        Ok(())
    }

    /// Carries out what a client wants, in order.
    fn carry_out_client(&mut self, p: u32) {
        let mut items = std::mem::take(&mut self.procs[p as usize].client_out.items);
        let id = Some(ProcId(p));
        for output in &mut items {
            // An output is large, and a frame is most of what there is: only that is taken out.
            if let ClientOutput::Send { conn, frame } = output {
                self.send(p, *conn, std::mem::take(frame));
                continue;
            }
            match std::mem::replace(output, ClientOutput::Exit { code: 0 }) {
                ClientOutput::Send { .. } => unreachable!("it was sent"),
                ClientOutput::Event(event) => self.happens(id, What::Client(event)),
                ClientOutput::Connect { conn, to } => self.connect(p, conn, &to),
                ClientOutput::Close { conn } => {
                    self.digest.item(ItemKind::Close, self.now, p, conn.0, 0);
                    self.close(p, conn);
                }
                ClientOutput::Stdout(text) => {
                    self.digest.text(ItemKind::Stdout, self.now, p, 1, &text);
                    self.happened.push(Happened { at: self.now, proc: id, what: What::Stdout(text) });
                }
                ClientOutput::Stderr(text) => {
                    self.digest.text(ItemKind::Stdout, self.now, p, 2, &text);
                    self.happened.push(Happened { at: self.now, proc: id, what: What::Stderr(text) });
                }
                ClientOutput::Exit { code } => {
                    self.exit(p, code);
                    break;
                }
            }
        }
        items.clear();
        self.procs[p as usize].client_out.items = items;
    }

    /// Carries out what a process wants, in order.
    fn carry_out(&mut self, p: u32) {
        match &self.procs[p as usize].slot {
            Slot::Client(_) => return self.carry_out_client(p),
            slot if slot.ports_mark() != self.procs[p as usize].ports_mark => self.tell_ports(p),
            _ => {}
        }
        let mut items = std::mem::take(&mut self.procs[p as usize].out.items);
        for output in &mut items {
            if let Output::Send { conn, frame } = output {
                self.send(p, *conn, std::mem::take(frame));
                continue;
            }
            match std::mem::replace(output, Output::Stopped) {
                Output::Send { .. } => unreachable!("it was sent"),
                Output::Event(event) => self.happens(Some(ProcId(p)), What::Node(event)),
                Output::Connect { conn, to } => self.connect(p, conn, &to),
                Output::Close { conn, why } => {
                    self.digest.text(ItemKind::Close, self.now, p, conn.0, &why);
                    self.close(p, conn);
                }
                Output::Pause { conn } => self.net.pause(p, conn),
                Output::Resume { conn } => self.resume_conn(p, conn),
                Output::Halt { why } => {
                    self.digest.text(ItemKind::Exit, self.now, p, 1, &why);
                    self.end_process(p, ProcState::Halted, Leaving::Killed);
                    self.happens(Some(ProcId(p)), What::Proc(ProcEvent::Halted { why }));
                    break;
                }
                Output::Stopped => {
                    self.exit(p, 0);
                    break;
                }
            }
        }
        // Its memory is used again.
        items.clear();
        self.procs[p as usize].out.items = items;
    }

    #[inline]
    fn send(&mut self, p: u32, conn: ConnId, frame: wire::Rope) {
        self.digest.bytes(ItemKind::FrameSent, self.now, p, conn.0, frame.pieces());
        if let Some(bytes_left) = self.net.send(&mut self.agenda, self.now, p, conn, frame) {
            self.procs[p as usize].inbox.push_back(Item::Sent { conn, bytes_left });
        }
    }

    fn connect(&mut self, p: u32, conn: ConnId, to: &wire::drive::Endpoint) {
        self.digest.text(ItemKind::Connect, self.now, p, conn.0, &to.host);
        let proc = &self.procs[p as usize];
        let from = (p, proc.incarnation, proc.host);
        self.net.connect(&mut self.agenda, self.now, from, conn, to);
    }

    fn close(&mut self, p: u32, conn: ConnId) {
        self.procs[p as usize].inbox.retain(|item| item.conn() != Some(conn));
        self.net.close(&mut self.agenda, self.now, p, conn);
    }

    fn resume_conn(&mut self, p: u32, conn: ConnId) {
        let inbox = &mut self.procs[p as usize].inbox;
        // What was held back came before what waits of this connection; others do not mind.
        let mut held = Vec::new();
        self.net.resume(p, conn, |arrival| {
            held.push(match arrival {
                Arrival::Frame { conn, end, frame } => Item::Frame { conn, end, frame },
                Arrival::Oversized { conn, announced } => Item::Oversized { conn, announced },
                Arrival::Closed { conn, why } => Item::Closed { conn, why },
                other => unreachable!("{other:?} is never held back"),
            });
        });
        for item in held.into_iter().rev() {
            inbox.push_front(item);
        }
    }

    fn exit(&mut self, p: u32, code: i32) {
        self.digest.item(ItemKind::Exit, self.now, p, 0, code as u64);
        self.procs[p as usize].exit_code = Some(code);
        self.end_process(p, ProcState::Down, Leaving::Exit);
        self.happens(Some(ProcId(p)), What::Proc(ProcEvent::Exited { code }));
    }

    /// A process ended by itself; the runtime will be told.
    fn end_process(&mut self, p: u32, state: ProcState, how: Leaving) {
        self.ended.push(ProcId(p));
        self.gone(p, state, how);
    }

    /// A process is no more.
    pub(super) fn gone(&mut self, p: u32, state: ProcState, how: Leaving) {
        self.tell_of_the_last_step(p);
        let proc = &mut self.procs[p as usize];
        proc.clear(state);
        self.net.process_left(&mut self.agenda, self.now, p, how);
        if proc.owns_disk() {
            self.hosts[proc.host as usize].disk.process_gone(&mut self.chunks);
        }
    }

    /// A process dies within a step: its messages are never sent, but what it did is done, and on its disk.
    fn tell_of_the_last_step(&mut self, p: u32) {
        for output in std::mem::take(&mut self.procs[p as usize].out.items) {
            if let Output::Event(event) = output {
                self.happens(Some(ProcId(p)), What::Node(event));
            }
        }
    }
}
