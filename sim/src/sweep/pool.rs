//! Makes the runs of a plan, so many at once, and hands them over in the order of their numbers.
//!
//! Whoever is far ahead of the slowest waits, so that what is finished and cannot be handed over yet stays small. What
//! a sweep does with its runs thus depends on their order alone, not on how many ran at once.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex, Once};
use std::time::Duration;

use super::line::Line;
use super::plan::Plan;
use crate::runner::stopwatch;

/// So many runs may be ahead of the slowest.
const AHEAD: u64 = 256;
/// How often it is looked whether somebody wants to stop.
const LOOK: Duration = Duration::from_millis(50);

/// Why a sweep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All runs were made.
    Done,
    /// Whoever took the runs wanted no more.
    Enough,
    /// The time was up.
    OutOfTime,
    /// ^C.
    Interrupted,
}

static STOP: AtomicBool = AtomicBool::new(false);

/// From now on ^C asks to stop; a second one ends the process.
pub fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let heard = || {
            if STOP.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
        };
        // Somebody else's handler in this process stays: then nobody is interrupted here.
        let _ = ctrlc::set_handler(heard);
    });
}

/// Whether somebody asked to stop.
pub fn interrupted() -> bool {
    STOP.load(Ordering::SeqCst)
}

/// What the threads share.
#[derive(Default)]
struct Shared {
    next: AtomicU64,
    handed: Mutex<u64>,
    moved: Condvar,
    enough: AtomicBool,
}

impl Shared {
    /// The number of the next run, once it is not too far ahead.
    fn take(&self, all: u64) -> Option<u64> {
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        let mut handed = self.handed.lock().expect("nobody panics while holding it");
        while number >= *handed + AHEAD && !self.enough.load(Ordering::SeqCst) {
            handed = self.moved.wait(handed).expect("nobody panics while holding it");
        }
        (number < all && !self.enough.load(Ordering::SeqCst)).then_some(number)
    }

    fn handed(&self, count: u64) {
        *self.handed.lock().expect("nobody panics while holding it") = count;
        self.moved.notify_all();
    }

    fn enough(&self) {
        self.enough.store(true, Ordering::SeqCst);
        self.moved.notify_all();
    }
}

/// Makes the runs with so many threads (0: as many as there are cores), within so many seconds. `each` takes them in
/// order; after ^C it also takes those that are finished behind a gap. An error is a world that cannot be built.
pub fn run(
    plan: &Arc<Plan>,
    jobs: usize,
    budget: Option<f64>,
    mut each: impl FnMut(Line) -> ControlFlow<()>,
) -> Result<Ended, String> {
    listen();
    let pool =
        rayon::ThreadPoolBuilder::new().num_threads(jobs).build().map_err(|e| format!("error: {e}"))?;
    let (shared, (send, finished)) = (Arc::new(Shared::default()), mpsc::channel());
    let (theirs, work) = (shared.clone(), plan.clone());
    // The threads are left alone after ^C: what they have begun is not waited for.
    pool.spawn_broadcast(move |_| {
        while let Some(number) = theirs.take(work.len()) {
            if send.send((number, work.run(number))).is_err() {
                return;
            }
        }
    });
    let taken = stopwatch();
    let (mut waiting, mut handed, mut late) = (BTreeMap::new(), 0, false);
    loop {
        match finished.recv_timeout(LOOK) {
            Ok((number, line)) => drop(waiting.insert(number, line)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                for line in waiting.into_values().flatten() {
                    let _ = each(line);
                }
                return Ok(if late && handed < plan.len() { Ended::OutOfTime } else { Ended::Done });
            }
        }
        while let Some(line) = waiting.remove(&handed) {
            handed += 1;
            let line = line.inspect_err(|_| shared.enough())?;
            if each(line).is_break() {
                shared.enough();
                return Ok(Ended::Enough);
            }
        }
        shared.handed(handed);
        if interrupted() {
            shared.enough();
            for line in waiting.into_values().flatten() {
                let _ = each(line);
            }
            return Ok(Ended::Interrupted);
        }
        if !late && budget.is_some_and(|budget| taken() >= budget) {
            late = true;
            shared.enough();
        }
    }
}
