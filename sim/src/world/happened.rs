//! What happened in the world, for checkers, reports and expectations.

use std::fmt;

use broker_core::event::Event;
use client::ClientEvent;

use super::disk::Unsynced;
use super::process::ProcId;
use super::time::SimTime;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Happened {
    /// When.
    pub at: SimTime,
    /// In which process; absent for what concerns none.
    pub proc: Option<ProcId>,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// A node says so.
    Node(Event),
    /// A client says so.
    Client(ClientEvent),
    /// A client writes to its standard output.
    Stdout(String),
    /// A client writes to its standard error.
    Stderr(String),
    /// To a process.
    Proc(ProcEvent),
    /// To the links.
    Link(String),
    /// To a disk.
    Disk(String),
    /// A bit of a file is no longer what was written.
    BitFlipped(String),
    /// To a clock.
    Clock(String),
}

/// What happens to processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProcEvent {
    /// A new process was started.
    Started {
        /// 1 for the first.
        incarnation: u32,
    },
    /// It runs and listens.
    Running,
    /// It could not open what its disk holds.
    OpenFailed {
        /// In words.
        why: String,
    },
    /// kill -9.
    Killed,
    /// SIGTERM.
    AskedToStop,
    /// It exited.
    Exited {
        /// Its exit status.
        code: i32,
    },
    /// It stopped itself.
    Halted {
        /// In words.
        why: String,
    },
    /// Its host lost power.
    PowerLost {
        /// What became of what was not durable.
        unsynced: Unsynced,
    },
    /// SIGSTOP.
    Paused,
    /// SIGCONT.
    Resumed,
    /// Its disk was replaced by an empty one.
    Wiped,
    /// Its disk was replaced by a copy of what a disk held before.
    Restored {
        /// Whose content.
        snapshot: String,
    },
}

impl fmt::Display for ProcEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProcEvent::Started { incarnation: 1 } => f.write_str("started"),
            ProcEvent::Started { incarnation } => write!(f, "started (incarnation {incarnation})"),
            ProcEvent::Running => f.write_str("running"),
            ProcEvent::OpenFailed { why } => write!(f, "could not start: {why}"),
            ProcEvent::Killed => f.write_str("killed"),
            ProcEvent::AskedToStop => f.write_str("asked to stop"),
            ProcEvent::Exited { code } => write!(f, "exited with {code}"),
            ProcEvent::Halted { why } => write!(f, "halted: {why}"),
            ProcEvent::PowerLost { unsynced } => f.write_str(match unsynced {
                Unsynced::ByChance => "lost power",
                Unsynced::Lost => "lost power, and all that was not synced",
                Unsynced::Kept => "lost power; what was not synced had reached the disk",
            }),
            ProcEvent::Paused => f.write_str("paused"),
            ProcEvent::Resumed => f.write_str("resumed"),
            ProcEvent::Wiped => f.write_str("wiped"),
            ProcEvent::Restored { snapshot } => write!(f, "has the disk of {snapshot}"),
        }
    }
}
