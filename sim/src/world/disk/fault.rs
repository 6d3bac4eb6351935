//! What can be wrong with a disk, and how it strikes.
//!
//! A fault lies on paths (a log directory, a partition's files, or everything) and lasts until it is taken away. It may
//! begin later: after a time, or after so many bytes were written where it lies. Each kind draws from a stream of chance
//! of its own, so that taking one fault away leaves the draws of all others as they were.

use std::fmt;

use broker_core::disk::DiskError;
use wire::drive::Nanos;

use super::super::agenda::{Agenda, Kind};
use super::super::chunks::ChunkStore;
use super::super::time::{Between, SimTime};
use super::{Body, InodeId, ROOT, SimDisk};

/// What is wrong with a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// Nothing more can be written: no space is left.
    Full,
    /// Reads fail.
    ReadError,
    /// Writes fail.
    WriteError,
    /// Syncs fail.
    SyncError,
    /// Syncs say that they are done, and nothing becomes durable; neither does the kernel's write-back.
    LyingSync,
    /// Each operation takes so much longer, and so does each sync.
    Slow(Between),
    /// Everything fails: the directory is gone.
    Offline,
    /// So many bits flip, once.
    BitFlip(u32, Rot),
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |nanos: Nanos| nanos.0 as f64 / 1e6;
        match self {
            FaultKind::Full => f.write_str("no space is left"),
            FaultKind::ReadError => f.write_str("reads fail"),
            FaultKind::WriteError => f.write_str("writes fail"),
            FaultKind::SyncError => f.write_str("syncs fail"),
            FaultKind::LyingSync => f.write_str("syncs lie: nothing becomes durable"),
            FaultKind::Slow(Between { low, high }) if low == high => {
                write!(f, "every operation takes {} ms longer", ms(*low))
            }
            FaultKind::Slow(Between { low, high }) => {
                write!(f, "every operation takes {} to {} ms longer", ms(*low), ms(*high))
            }
            FaultKind::Offline => f.write_str("the disk is gone"),
            FaultKind::BitFlip(1, rot) => write!(f, "a bit flips {rot}"),
            FaultKind::BitFlip(bits, rot) => write!(f, "{bits} bits flip {rot}"),
        }
    }
}

/// Where a bit flips.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Rot {
    /// On the medium, and the page was read from it again since: everybody sees it.
    #[default]
    Both,
    /// On the medium: the page cache hides it until the power is lost.
    Medium,
    /// In the page cache: a power loss brings the good bytes back, where they were durable.
    Cache,
}

impl fmt::Display for Rot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Rot::Both => "on the disk and in the page cache",
            Rot::Medium => "on the disk, below the page cache",
            Rot::Cache => "in the page cache",
        })
    }
}

/// When a fault begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum After {
    /// At once.
    #[default]
    Now,
    /// When so many more bytes were written where it lies.
    Bytes(u64),
    /// After a time.
    Time(Nanos),
}

/// A fault that lasts until it is taken away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskFault {
    /// What is wrong.
    pub kind: FaultKind,
    /// Where: paths, and all below them; everything if there are none.
    pub under: Vec<String>,
    /// When it begins.
    pub after: After,
}

impl fmt::Display for DiskFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        for (at, path) in self.under.iter().enumerate() {
            write!(f, "{} /{path}", if at == 0 { " under" } else { "," })?;
        }
        match self.after {
            After::Now => Ok(()),
            After::Bytes(bytes) => write!(f, ", after {bytes} more bytes"),
            After::Time(time) => write!(f, ", in {} s", time.0 as f64 / 1e9),
        }
    }
}

/// A fault as the disk keeps it.
#[derive(Clone, Debug)]
pub(super) struct Lasting {
    id: u32,
    pub fault: DiskFault,
    begun: bool,
    bytes_left: u64,
}

/// What an operation does, as faults see it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Does {
    Read,
    /// So many bytes.
    Write(u64),
    /// Gives space back: a file that is cut or removed.
    Free,
    Sync,
}

impl FaultKind {
    /// What an operation that it strikes ends with; `None`: it does not strike this one.
    fn error(self, does: Does) -> Option<DiskError> {
        match (self, does) {
            (FaultKind::Full, Does::Write(_)) => Some(DiskError::Full),
            (FaultKind::ReadError, Does::Read)
            | (FaultKind::WriteError, Does::Write(_) | Does::Free)
            | (FaultKind::SyncError, Does::Sync)
            | (FaultKind::Offline, _) => Some(DiskError::Io),
            _ => None,
        }
    }
}

/// Whether a path is one of these or lies below one.
fn is_under(path: &str, under: &[String]) -> bool {
    let below = |top: &String| {
        path.strip_prefix(top.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    under.is_empty() || under.iter().any(below)
}

impl SimDisk {
    /// Adds a fault. One that begins later has a key in the agenda when its time has come.
    pub fn add_fault(&mut self, agenda: &mut Agenda, now: SimTime, host: u32, fault: DiskFault) -> u32 {
        self.next_fault += 1;
        let id = self.next_fault;
        self.has_lied |= fault.kind == FaultKind::LyingSync;
        let bytes_left = if let After::Bytes(bytes) = fault.after { bytes } else { 0 };
        if let After::Time(time) = fault.after {
            agenda.push(now + time, Kind::FaultBegins, host, id);
        }
        let begun = matches!(fault.after, After::Now | After::Bytes(0));
        self.faults.push(Lasting { id, fault, begun, bytes_left });
        id
    }

    /// Whether syncs of this disk lie, or did at some time.
    pub fn has_lied(&self) -> bool {
        self.has_lied
    }

    /// A fault's time has come, or the bytes before it were written. `None`: it was taken away.
    pub fn fault_begins(&mut self, id: u32) -> Option<DiskFault> {
        let lasting = self.faults.iter_mut().find(|f| f.id == id)?;
        lasting.begun = true;
        Some(DiskFault { after: After::Now, ..lasting.fault.clone() })
    }

    /// A fault that has begun.
    pub fn begun(&self, id: u32) -> Option<DiskFault> {
        self.faults.iter().find(|f| f.id == id && f.begun).map(|f| f.fault.clone())
    }

    /// Takes a fault away.
    pub fn end_fault(&mut self, id: u32) {
        self.faults.retain(|f| f.id != id);
    }

    /// Ends the faults that lie on these paths only; all faults, if there are none.
    pub fn end_faults(&mut self, under: &[String]) {
        let ends = |path: &String| is_under(path, under);
        self.faults.retain(|f| {
            let here = !f.fault.under.is_empty() && f.fault.under.iter().all(ends);
            !(under.is_empty() || here)
        });
    }

    /// The faults that last, those that have not yet begun included.
    pub fn faults(&self) -> impl Iterator<Item = &DiskFault> {
        self.faults.iter().map(|f| &f.fault)
    }

    /// Meets the faults that lie on a path: how much longer the operation takes, or how it fails.
    pub(super) fn strike(
        &mut self,
        agenda: &mut Agenda,
        now: SimTime,
        host: u32,
        path: &str,
        does: Does,
    ) -> Result<Nanos, DiskError> {
        let mut longer = 0;
        let SimDisk { faults, slow_chance, .. } = self;
        for lasting in faults {
            let fault = &lasting.fault;
            if !is_under(path, &fault.under) {
                continue;
            }
            if !lasting.begun {
                let (Does::Write(bytes), After::Bytes(_)) = (does, fault.after) else { continue };
                if bytes < lasting.bytes_left {
                    lasting.bytes_left -= bytes;
                    continue;
                }
                lasting.begun = true;
                agenda.push(now, Kind::FaultBegins, host, lasting.id);
            }
            if let FaultKind::Slow(stall) = fault.kind {
                longer += slow_chance.between(stall).0;
            } else if let Some(error) = fault.kind.error(does) {
                return Err(error);
            }
        }
        Ok(Nanos(longer))
    }

    /// Whether a path is gone with its disk.
    pub(super) fn is_gone(&self, path: &str) -> bool {
        let gone =
            |f: &Lasting| f.begun && f.fault.kind == FaultKind::Offline && is_under(path, &f.fault.under);
        self.faults.iter().any(gone)
    }

    /// Whether a sync of a path lies.
    pub(super) fn lies_about(&self, path: &str) -> bool {
        let lies =
            |f: &Lasting| f.begun && f.fault.kind == FaultKind::LyingSync && is_under(path, &f.fault.under);
        self.faults.iter().any(lies)
    }

    /// Whether what is dirty of an inode does not reach the medium, since syncs of it lie.
    pub(super) fn keeps_from_medium(&self, inode: InodeId) -> bool {
        let lying = |f: &&Lasting| f.begun && f.fault.kind == FaultKind::LyingSync;
        self.faults
            .iter()
            .filter(lying)
            .any(|f| f.fault.under.is_empty() || f.fault.under.iter().any(|top| self.lies_below(top, inode)))
    }

    fn lies_below(&self, top: &str, inode: InodeId) -> bool {
        let Some(top) = self.lookup(top) else { return false };
        let mut found = top == inode;
        self.walk_inodes(top, &mut |id| found |= id == inode);
        found
    }

    fn walk_inodes(&self, dir: InodeId, see: &mut impl FnMut(InodeId)) {
        let Body::Dir(body) = &self.inodes[dir as usize].body else { return };
        for inode in body.entries.values() {
            see(*inode);
            self.walk_inodes(*inode, see);
        }
    }

    /// Draws a place below these paths: file, byte and bit. Every byte is as likely as any other; `None`: there is none.
    pub fn draw_bit(&mut self, under: &[String], rot: Rot) -> Option<(String, u64, u8)> {
        let mut files: Vec<(String, u64)> = Vec::new();
        self.walk(ROOT, "", &mut |path, body| {
            if let Body::File(file) = body
                && is_under(path, under)
            {
                // What never reached the medium cannot rot there.
                let len = if rot == Rot::Medium { file.durable_len() } else { file.len() };
                files.push((path.to_owned(), len));
            }
        });
        let bytes: u64 = files.iter().map(|(_, len)| len).sum();
        if bytes == 0 {
            return None;
        }
        let mut at = self.flip_chance.below(bytes);
        let bit = self.flip_chance.below(8) as u8;
        for (path, len) in files {
            if at < len {
                return Some((path, at, bit));
            }
            at -= len;
        }
        unreachable!("the place lies within all files together")
    }

    /// Flips one bit of a file; other replicas that share the chunk keep theirs.
    pub fn flip_bit(
        &mut self,
        chunks: &mut ChunkStore,
        path: &str,
        offset: u64,
        bit: u8,
        rot: Rot,
    ) -> Result<(), DiskError> {
        let inode = self.lookup(path).ok_or(DiskError::NotFound)?;
        let Body::File(file) = &mut self.inodes[inode as usize].body else { return Err(DiskError::NotFound) };
        if offset >= file.len() {
            return Err(DiskError::Eof);
        }
        file.flip(chunks, offset, 1 << (bit & 7), rot);
        Ok(())
    }

    /// The directories of that name, in order: where a partition lies.
    pub fn dirs_named(&self, name: &str) -> Vec<String> {
        let mut found = Vec::new();
        self.walk(ROOT, "", &mut |path, body| {
            let last = path.rsplit_once('/').map_or(path, |(_, last)| last);
            if matches!(body, Body::Dir(_)) && last == name {
                found.push(path.to_owned());
            }
        });
        found
    }
}
