//! The world inside madsim.
//!
//! A run has one madsim runtime on a fresh thread, with one task: it steps the world, after moving madsim's clock to the
//! time of what happens next. Each process is a madsim node; starting, killing and pausing it are the runtime's own, and
//! one plug-in hears of them and tells the world. What that guards against, each seen in madsim 0.2.34:
//!
//! - `restart` alone resets no plug-in: a start kills first, always.
//! - A new incarnation may boot before the old one's future is dropped: processes are told apart by incarnation, and
//!   nothing happens in any `Drop` (which might also deadlock under the executor's lock).
//! - Several plug-ins are reset in hash order: there is one.
//! - An idle extra task shifts later time stamps: there is none beside the world's, but the bodies of the madsim nodes,
//!   which wait for ever; the world's time does not come from madsim.
//! - A timer cannot be cancelled: nothing holds one.
//!
//! While a lifecycle verb goes through the runtime, the plug-in has the world; after a start, the world's task yields
//! until the process is executed. At all other times the task owns it, and no lock is taken.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::pending;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, Once};
use std::time::Duration;

use madsim::plugin::Simulator;
use madsim::runtime::{Handle, Runtime};
use madsim::task::NodeId;
use madsim::time::TimeHandle;

use super::disk::Unsynced;
use super::net::Leaving;
use super::process::ProcId;
use super::step::{Step, WorldError};
use super::time::SimTime;
use super::verbs::VerbError;
use super::{ProcState, World};

/// The harness itself stopped on an assertion (a process's own is [`WorldError::Assertion`]).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the simulator stopped on an assertion: {0}")]
pub struct Crash(pub String);

/// The one plug-in.
#[derive(Default)]
struct Plugin {
    shared: Mutex<Shared>,
}

#[derive(Default)]
struct Shared {
    /// While a lifecycle verb goes through the runtime.
    world: Option<Box<World>>,
    procs: BTreeMap<NodeId, ProcId>,
    /// The process whose madsim node is being made.
    making: Option<ProcId>,
    /// How the next process leaves.
    leaving: Option<Leaving>,
}

impl Plugin {
    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().expect("nobody panics while holding it")
    }

    fn executed(&self, proc: ProcId) {
        let mut shared = self.shared();
        shared.world.as_mut().expect("a process is executed during a verb").executed(proc);
    }
}

impl Simulator for Plugin {
    fn new(_: &madsim::rand::GlobalRng, _: &TimeHandle, _: &madsim::Config) -> Plugin {
        Plugin::default()
    }

    fn create_node(&self, id: NodeId) {
        let mut shared = self.shared();
        if let Some(proc) = shared.making.take() {
            shared.procs.insert(id, proc);
        }
    }

    fn reset_node(&self, id: NodeId) {
        let mut shared = self.shared();
        let how = shared.leaving.unwrap_or(Leaving::Killed);
        if let Some(proc) = shared.procs.get(&id).copied() {
            shared.world.as_mut().expect("a process is reset during a verb").reset(proc, how);
        }
    }
}

/// A world and the runtime that it lives in: what a run's story is told with.
pub struct Stage {
    handle: Handle,
    time: TimeHandle,
    plugin: Arc<Plugin>,
    world: Option<Box<World>>,
    nodes: Vec<Option<NodeId>>,
    /// madsim's clock.
    clock: u64,
}

/// Drives a world in a runtime of its own, on a fresh thread, and gives it back with what the story returns.
pub fn run<T, F>(world: World, story: F) -> Result<(World, T), Crash>
where
    T: Send + 'static,
    F: AsyncFnOnce(&mut Stage) -> T + Send + 'static,
{
    quiet_assertions();
    let body = move || {
        IN_WORLD.set(true);
        let told = catch_unwind(AssertUnwindSafe(|| {
            let runtime = Runtime::with_seed_and_config(world.seed(), madsim::Config::default());
            runtime.add_simulator::<Plugin>();
            runtime.block_on(async move {
                let mut stage = Stage::enter(world).await;
                let told = story(&mut stage).await;
                (*stage.world.expect("the stage has the world between verbs"), told)
            })
        }));
        told.map_err(|panic| Crash(panic_text(&*panic)))
    };
    let thread = std::thread::Builder::new().name("world".into()).stack_size(16 << 20).spawn(body);
    let thread = thread.map_err(|error| Crash(format!("no thread for the world: {error}")))?;
    thread.join().unwrap_or_else(|panic| Err(Crash(panic_text(&*panic))))
}

impl Stage {
    /// Makes madsim nodes for what already runs in a world that was cloned.
    async fn enter(world: World) -> Stage {
        let mut stage = Stage {
            handle: Handle::current(),
            time: TimeHandle::current(),
            plugin: madsim::plugin::simulator::<Plugin>(),
            nodes: Vec::new(),
            world: Some(Box::new(world)),
            clock: 0,
        };
        for proc in stage.world().procs() {
            if stage.world().must_run(proc).is_err() {
                continue;
            }
            stage.lend();
            stage.make_node(proc);
            for _ in 0..2 {
                madsim::task::yield_now().await;
            }
            stage.take_back();
            if stage.world().is_paused(proc) {
                let node = stage.node(proc);
                stage.handle.pause(node);
            }
        }
        stage.sync_clock();
        stage
    }

    /// The world.
    pub fn world(&self) -> &World {
        self.world.as_ref().expect("the stage has the world between verbs")
    }

    /// The world, for verbs that do not go through the runtime.
    pub fn world_mut(&mut self) -> &mut World {
        self.world.as_mut().expect("the stage has the world between verbs")
    }

    /// Takes the next thing that happens. `None`: nothing will ever happen by itself.
    #[inline]
    pub fn step(&mut self) -> Result<Option<Step>, WorldError> {
        let Some(at) = self.world().next_at() else { return Ok(None) };
        self.move_clock(at);
        let step = self.world_mut().step();
        if !self.world().ended.is_empty() {
            self.bury();
        }
        step
    }

    /// Lets time pass until `at`, with all that happens up to and at that instant.
    pub fn run_until(&mut self, at: SimTime) -> Result<(), WorldError> {
        while self.world().next_at().is_some_and(|next| next <= at) {
            self.step()?;
        }
        self.move_clock(at);
        self.world_mut().idle_until(at);
        Ok(())
    }

    /// Starts a process.
    pub async fn start(&mut self, proc: ProcId) -> Result<(), VerbError> {
        self.world().may_start(proc)?;
        if self.nodes.get(proc.0 as usize).copied().flatten().is_some() {
            self.kill_node(proc, Leaving::Killed);
        }
        self.world_mut().begin(proc);
        let incarnation = self.world().incarnation(proc);
        self.lend();
        match self.nodes.get(proc.0 as usize).copied().flatten() {
            Some(node) => self.handle.restart(node),
            None => self.make_node(proc),
        }
        while self
            .plugin
            .shared()
            .world
            .as_ref()
            .is_some_and(|w| w.procs[proc.0 as usize].executed != incarnation)
        {
            madsim::task::yield_now().await;
        }
        self.take_back();
        self.sync_clock();
        Ok(())
    }

    /// kill -9.
    pub async fn kill(&mut self, proc: ProcId) -> Result<(), VerbError> {
        self.world().must_run(proc)?;
        self.world_mut().kill_verb(proc);
        self.kill_node(proc, Leaving::Killed);
        self.world_mut().killed(proc);
        Ok(())
    }

    /// SIGTERM: an orderly shutdown begins. It has ended when the process is down.
    pub async fn stop(&mut self, proc: ProcId) -> Result<(), VerbError> {
        if self.world_mut().ask_to_stop(proc)? {
            self.kill_node(proc, Leaving::Exit);
        }
        if !self.world().ended.is_empty() {
            self.bury();
        }
        Ok(())
    }

    /// SIGSTOP.
    pub async fn pause(&mut self, proc: ProcId) -> Result<(), VerbError> {
        self.world().must_run(proc)?;
        if self.world().is_paused(proc) {
            let name = self.world().name(proc).to_string();
            return Err(VerbError::NotRunning { name, state: ProcState::Paused });
        }
        let node = self.node(proc);
        self.handle.pause(node);
        self.world_mut().paused(proc);
        Ok(())
    }

    /// SIGCONT.
    pub async fn resume(&mut self, proc: ProcId) -> Result<(), VerbError> {
        if !self.world().is_paused(proc) {
            return Err(VerbError::NotPaused(self.world().name(proc).to_string()));
        }
        let node = self.node(proc);
        self.handle.resume(node);
        self.world_mut().resumed(proc);
        Ok(())
    }

    /// A host loses its power, with all its processes.
    pub async fn power_off(&mut self, host: u32, unsynced: Unsynced) -> Result<(), VerbError> {
        let living = self.world().living_on(host);
        if living.is_empty() {
            let name = self.world().host_name(host).to_string();
            return Err(VerbError::NotRunning { name, state: ProcState::Down });
        }
        for proc in &living {
            self.kill_node(*proc, Leaving::PowerLost);
        }
        self.world_mut().power_lost(host, &living, unsynced);
        Ok(())
    }

    fn move_clock(&mut self, at: SimTime) {
        if at.0 > self.clock {
            self.time.advance(Duration::from_nanos(at.0 - self.clock));
            self.clock = at.0;
        }
    }

    /// The executor moves its clock a little each time it polls a task; the world's own time does not depend on that.
    fn sync_clock(&mut self) {
        self.clock = self.time.elapsed().as_nanos() as u64;
    }

    fn node(&self, proc: ProcId) -> NodeId {
        self.nodes[proc.0 as usize].expect("a process that runs has a node")
    }

    fn make_node(&mut self, proc: ProcId) {
        self.plugin.shared().making = Some(proc);
        let plugin = self.plugin.clone();
        let name = self.plugin.shared().world.as_ref().expect("it is lent").name(proc).to_string();
        let node = self
            .handle
            .create_node()
            .name(name)
            .init(move || {
                let plugin = plugin.clone();
                async move {
                    plugin.executed(proc);
                    pending::<()>().await;
                }
            })
            .build();
        let at = proc.0 as usize;
        if self.nodes.len() <= at {
            self.nodes.resize(at + 1, None);
        }
        self.nodes[at] = Some(node.id());
    }

    /// Kills a process's madsim node; the plug-in tells the world.
    fn kill_node(&mut self, proc: ProcId, how: Leaving) {
        let node = self.node(proc);
        self.plugin.shared().leaving = Some(how);
        self.lend();
        self.handle.kill(node);
        self.take_back();
    }

    /// Tells the runtime of processes that ended by themselves.
    #[cold]
    fn bury(&mut self) {
        for proc in std::mem::take(&mut self.world_mut().ended) {
            // It may have been started again by now only through a verb, which tells the runtime itself.
            if !self.world().procs[proc.0 as usize].lives() {
                self.kill_node(proc, Leaving::Exit);
            }
        }
    }

    fn lend(&mut self) {
        self.plugin.shared().world = self.world.take();
    }

    fn take_back(&mut self) {
        self.world = self.plugin.shared().world.take();
    }
}

thread_local! {
    static IN_WORLD: Cell<bool> = const { Cell::new(false) };
    static WHERE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Assertions inside a world become part of its report instead of going to standard error.
fn quiet_assertions() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if IN_WORLD.get() {
                WHERE.set(info.location().map(|at| format!("{}:{}", at.file(), at.line())));
            } else {
                before(info);
            }
        }));
    });
}

/// What an assertion says, and where it stands.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (None, Some(text)) => text.clone(),
        (None, None) => "a panic without words".to_owned(),
    };
    match WHERE.take() {
        Some(at) => format!("{text} ({at})"),
        None => text,
    }
}
