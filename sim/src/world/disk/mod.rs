//! The disk of one host: page cache and durable state apart.
//!
//! - What was written is in the page cache at once. A process crash keeps the page cache.
//! - A file's bytes are durable once a sync that began after them has ended, or once the kernel wrote them back: 5 to 35 s
//!   after the file became dirty. A name is durable once its directory was synced (or the file was put there by
//!   `replace`), or written back likewise. The directories above it become durable with it, as on file systems with a
//!   journal.
//! - A power loss keeps what is durable, and by chance parts of the rest: of the changes of a directory a beginning, of a
//!   file's new bytes a beginning torn at sector size, perhaps with sectors that never were written, of a truncation
//!   perhaps nothing; each file for itself.
//!
//! Bytes lie in the world's [`ChunkStore`].

mod fault;
mod file;
mod port;
mod power;
#[cfg(test)]
mod tests;

use broker_core::disk::DiskError;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use wire::drive::Nanos;

pub use fault::{After, DiskFault, FaultKind, Rot};
pub use port::DiskPort;
pub use power::Unsynced;

use super::chance::{Chance, derive};
use super::chunks::ChunkStore;
use super::time::{Between, SimTime};
use fault::Lasting;
use file::File;

/// How a disk behaves while nothing is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSpec {
    /// How long a sync takes.
    pub fsync: Between,
    /// After which time the kernel writes back what is dirty.
    pub writeback: Between,
    /// Its size in bytes; absent: without limit.
    pub capacity: Option<u64>,
}

impl Default for DiskSpec {
    fn default() -> DiskSpec {
        DiskSpec {
            fsync: Between::micros(200, 2_000),
            writeback: Between { low: Nanos::from_secs(5), high: Nanos::from_secs(35) },
            capacity: None,
        }
    }
}

/// What a disk whose syncs lie keeps from its medium is written back this much later, if it is honest by then.
const WRITEBACK_RETRY: Nanos = Nanos::from_secs(5);

type InodeId = u32;
const ROOT: InodeId = 0;

#[derive(Clone, Debug)]
enum Body {
    File(File),
    Dir(Dir),
    Free,
}

#[derive(Clone, Debug)]
struct Inode {
    /// Names, open files, and changes of directories that are not durable yet.
    refs: u32,
    body: Body,
}

/// A change of a directory. The inode that it hides is kept until the change is durable.
#[derive(Clone, Debug)]
enum Change {
    Linked { name: String, hidden: Option<InodeId> },
    Unlinked { name: String, hidden: InodeId },
    Renamed { from: String, to: String, hidden: Option<InodeId> },
}

impl Change {
    fn hidden(&self) -> Option<InodeId> {
        match self {
            Change::Linked { hidden, .. } | Change::Renamed { hidden, .. } => *hidden,
            Change::Unlinked { hidden, .. } => Some(*hidden),
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Dir {
    entries: BTreeMap<String, InodeId>,
    /// Not durable yet, in order.
    changes: Vec<(u64, Change)>,
    writeback_at: Option<SimTime>,
}

#[derive(Clone, Debug)]
struct Handle {
    generation: u32,
    inode: Option<InodeId>,
    path: Box<str>,
}

/// What a ticket stands for.
#[derive(Clone, Debug)]
enum Pending {
    File(InodeId),
    /// The changes of these directories up to a number.
    Dirs(Vec<InodeId>, u64),
    Nothing,
}

/// A sync or replace under way.
#[derive(Clone, Debug)]
struct Syncing {
    proc: u32,
    incarnation: u32,
    pending: Pending,
    result: Result<(), DiskError>,
    /// It says that it is done, and did nothing.
    lies: bool,
}

/// The disk of one host.
#[derive(Clone, Debug)]
pub struct SimDisk {
    spec: DiskSpec,
    inodes: Vec<Inode>,
    free_inodes: Vec<InodeId>,
    handles: Vec<Handle>,
    free_handles: Vec<u32>,
    syncing: BTreeMap<u32, Syncing>,
    next_ticket: u32,
    next_change: u64,
    /// What the kernel will write back, soonest first.
    writeback: BTreeSet<(SimTime, InodeId)>,
    faults: Vec<Lasting>,
    next_fault: u32,
    /// Whether a fault ever was that its syncs lie.
    has_lied: bool,
    used: u64,
    sync_chance: Chance,
    writeback_chance: Chance,
    power_chance: Chance,
    slow_chance: Chance,
    flip_chance: Chance,
}

/// What a sync's end means for a process.
#[derive(Clone, Copy, Debug)]
pub struct Synced {
    /// Who asked.
    pub proc: u32,
    /// Its incarnation then.
    pub incarnation: u32,
    /// How it ended.
    pub result: Result<(), DiskError>,
}

impl SimDisk {
    /// An empty disk; `host` names its streams of chance.
    pub fn new(seed: u64, host: &str, spec: DiskSpec) -> SimDisk {
        SimDisk {
            spec,
            inodes: vec![Inode { refs: 1, body: Body::Dir(Dir::default()) }],
            free_inodes: Vec::new(),
            handles: Vec::new(),
            free_handles: Vec::new(),
            syncing: BTreeMap::new(),
            next_ticket: 0,
            next_change: 0,
            writeback: BTreeSet::new(),
            faults: Vec::new(),
            next_fault: 0,
            has_lied: false,
            used: 0,
            sync_chance: derive(seed, &format!("disk/{host}/sync")),
            writeback_chance: derive(seed, &format!("disk/{host}/writeback")),
            power_chance: derive(seed, &format!("disk/{host}/power")),
            slow_chance: derive(seed, &format!("disk/{host}/slow")),
            flip_chance: derive(seed, &format!("disk/{host}/bit_flip")),
        }
    }

    /// An empty, healthy disk in the place of this one. Its streams of chance go on.
    pub fn wipe(&mut self, chunks: &mut ChunkStore) {
        for inode in std::mem::take(&mut self.inodes) {
            if let Body::File(file) = inode.body {
                file.free(chunks);
            }
        }
        self.inodes.push(Inode { refs: 1, body: Body::Dir(Dir::default()) });
        self.free_inodes.clear();
        self.close_all_handles_of_a_dead_disk();
        self.syncing.clear();
        self.writeback.clear();
        self.faults.clear();
        self.used = 0;
    }

    fn close_all_handles_of_a_dead_disk(&mut self) {
        for (at, handle) in self.handles.iter_mut().enumerate() {
            if handle.inode.take().is_some() {
                handle.generation += 1;
                self.free_handles.push(at as u32);
            }
        }
    }

    /// The process is gone: its open files are closed. Syncs under way still end.
    pub fn process_gone(&mut self, chunks: &mut ChunkStore) {
        for at in 0..self.handles.len() {
            if let Some(inode) = self.handles[at].inode.take() {
                self.handles[at].generation += 1;
                self.free_handles.push(at as u32);
                self.release(chunks, inode);
            }
        }
    }

    /// Bytes of all files together.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// A sync ended. `None`: it was forgotten (power loss).
    pub fn sync_done(&mut self, chunks: &mut ChunkStore, now: SimTime, ticket: u32) -> Option<Synced> {
        self.settle(chunks, now);
        let Syncing { proc, incarnation, pending, result, lies } = self.syncing.remove(&ticket)?;
        let durable = result.is_ok() && !lies;
        match pending {
            Pending::File(inode) => {
                if let Body::File(file) = &mut self.inodes[inode as usize].body {
                    file.end_flush(chunks, ticket, durable);
                    self.cleaned(inode);
                }
                self.release(chunks, inode);
            }
            Pending::Dirs(dirs, up_to) => {
                for dir in dirs {
                    if durable {
                        self.changes_durable(chunks, dir, up_to);
                    }
                    self.release(chunks, dir);
                }
            }
            Pending::Nothing => {}
        }
        Some(Synced { proc, incarnation, result })
    }

    /// Writes back what is due.
    #[inline]
    fn settle(&mut self, chunks: &mut ChunkStore, now: SimTime) {
        while self.writeback.first().is_some_and(|(at, _)| *at <= now) {
            let (at, inode) = self.writeback.pop_first().expect("it has a first");
            if self.keeps_from_medium(inode) {
                self.write_back_at(inode, at + WRITEBACK_RETRY);
                continue;
            }
            match &mut self.inodes[inode as usize].body {
                Body::File(file) => file.write_back(chunks),
                Body::Dir(dir) => {
                    dir.writeback_at = None;
                    self.changes_durable(chunks, inode, u64::MAX);
                }
                Body::Free => unreachable!("a freed inode is not written back"),
            }
        }
    }

    /// The kernel tries again later.
    fn write_back_at(&mut self, inode: InodeId, at: SimTime) {
        match &mut self.inodes[inode as usize].body {
            Body::File(file) => file.writeback_at = Some(at),
            Body::Dir(dir) => dir.writeback_at = Some(at),
            Body::Free => unreachable!("a freed inode is not written back"),
        }
        self.writeback.insert((at, inode));
    }

    /// Something of an inode is dirty: the kernel will write it back.
    #[inline]
    fn dirtied(&mut self, now: SimTime, inode: InodeId) {
        let writeback_at = match &mut self.inodes[inode as usize].body {
            Body::File(file) => &mut file.writeback_at,
            Body::Dir(dir) => &mut dir.writeback_at,
            Body::Free => unreachable!("a freed inode is not written"),
        };
        if writeback_at.is_none() {
            let at = now + self.writeback_chance.between(self.spec.writeback);
            *writeback_at = Some(at);
            self.writeback.insert((at, inode));
        }
    }

    /// An inode may have become clean: then there is nothing to write back.
    fn cleaned(&mut self, inode: InodeId) {
        let (dirty, writeback_at) = match &mut self.inodes[inode as usize].body {
            Body::File(file) => (file.is_dirty(), &mut file.writeback_at),
            Body::Dir(dir) => (!dir.changes.is_empty(), &mut dir.writeback_at),
            Body::Free => return,
        };
        if !dirty && let Some(at) = writeback_at.take() {
            self.writeback.remove(&(at, inode));
        }
    }

    fn changes_durable(&mut self, chunks: &mut ChunkStore, dir: InodeId, up_to: u64) {
        let Body::Dir(body) = &mut self.inodes[dir as usize].body else { return };
        let durable = body.changes.partition_point(|(number, _)| *number <= up_to);
        let hidden: Vec<InodeId> =
            body.changes.drain(..durable).filter_map(|(_, change)| change.hidden()).collect();
        for inode in hidden {
            self.release(chunks, inode);
        }
        self.cleaned(dir);
    }

    fn alloc(&mut self, body: Body) -> InodeId {
        let inode = Inode { refs: 1, body };
        match self.free_inodes.pop() {
            Some(at) => {
                self.inodes[at as usize] = inode;
                at
            }
            None => {
                self.inodes.push(inode);
                self.inodes.len() as InodeId - 1
            }
        }
    }

    fn retain(&mut self, inode: InodeId) {
        self.inodes[inode as usize].refs += 1;
    }

    fn release(&mut self, chunks: &mut ChunkStore, id: InodeId) {
        let inode = &mut self.inodes[id as usize];
        assert!(inode.refs > 0, "an inode is released once for each reference");
        inode.refs -= 1;
        if inode.refs > 0 {
            return;
        }
        match std::mem::replace(&mut inode.body, Body::Free) {
            Body::File(file) => {
                self.used -= file.len();
                if let Some(at) = file.writeback_at {
                    self.writeback.remove(&(at, id));
                }
                file.free(chunks);
            }
            Body::Dir(dir) => {
                if let Some(at) = dir.writeback_at {
                    self.writeback.remove(&(at, id));
                }
                let hidden = dir.changes.iter().filter_map(|(_, change)| change.hidden());
                for child in dir.entries.values().copied().chain(hidden) {
                    self.release(chunks, child);
                }
            }
            Body::Free => unreachable!("it had a reference"),
        }
        self.free_inodes.push(id);
    }

    fn dir(&mut self, id: InodeId) -> &mut Dir {
        match &mut self.inodes[id as usize].body {
            Body::Dir(dir) => dir,
            _ => panic!("inode {id} is no directory"),
        }
    }

    fn is_dir(&self, id: InodeId) -> bool {
        matches!(self.inodes[id as usize].body, Body::Dir(_))
    }

    fn lookup(&self, path: &str) -> Option<InodeId> {
        let mut at = ROOT;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let Body::Dir(dir) = &self.inodes[at as usize].body else { return None };
            at = *dir.entries.get(name)?;
        }
        Some(at)
    }

    /// The directory of a path, and the last name in it.
    fn parent<'p>(&self, path: &'p str) -> Result<(InodeId, &'p str), DiskError> {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        let inode = self.lookup(dir).ok_or(DiskError::NotFound)?;
        if self.is_dir(inode) { Ok((inode, name)) } else { Err(DiskError::NotFound) }
    }

    /// The directories on the way to a path, without what its last name stands for.
    fn dirs_above(&self, path: &str) -> Vec<InodeId> {
        let mut dirs = vec![ROOT];
        let Some((above, _)) = path.rsplit_once('/') else { return dirs };
        for name in above.split('/').filter(|name| !name.is_empty()) {
            let Body::Dir(dir) = &self.inodes[dirs[dirs.len() - 1] as usize].body else { break };
            let Some(&next) = dir.entries.get(name) else { break };
            dirs.push(next);
        }
        dirs
    }

    fn change(&mut self, now: SimTime, dir: InodeId, change: Change) {
        self.next_change += 1;
        let number = self.next_change;
        self.dir(dir).changes.push((number, change));
        self.dirtied(now, dir);
    }

    /// Puts an inode (whose reference the name takes over) under a name.
    fn link(&mut self, now: SimTime, dir: InodeId, name: &str, inode: InodeId) {
        let hidden = self.dir(dir).entries.insert(name.to_owned(), inode);
        self.change(now, dir, Change::Linked { name: name.to_owned(), hidden });
    }

    // --- looking, for checkers and reports: the page cache as it is

    /// The paths of all files, sorted.
    pub fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.walk(ROOT, "", &mut |path, body| {
            if matches!(body, Body::File(_)) {
                found.push(path.to_owned());
            }
        });
        found
    }

    /// The whole content of a file.
    pub fn content(&self, chunks: &ChunkStore, path: &str) -> Option<Vec<u8>> {
        let Body::File(file) = &self.inodes[self.lookup(path)? as usize].body else { return None };
        Some(content_of(file, chunks))
    }

    fn walk(&self, dir: InodeId, prefix: &str, see: &mut impl FnMut(&str, &Body)) {
        let Body::Dir(body) = &self.inodes[dir as usize].body else { return };
        for (name, inode) in &body.entries {
            let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}/{name}") };
            let body = &self.inodes[*inode as usize].body;
            see(&path, body);
            if matches!(body, Body::Dir(_)) {
                self.walk(*inode, &path, see);
            }
        }
    }

    /// Writes all files and directories out below a real directory.
    pub fn keep(&self, chunks: &ChunkStore, below: &Path) -> std::io::Result<()> {
        std::fs::create_dir_all(below)?;
        let mut result = Ok(());
        self.walk(ROOT, "", &mut |path, body| {
            if result.is_err() {
                return;
            }
            result = match body {
                Body::Dir(_) => std::fs::create_dir_all(below.join(path)),
                Body::File(file) => std::fs::write(below.join(path), content_of(file, chunks)),
                Body::Free => unreachable!("a name stands for something"),
            };
        });
        result
    }

    /// Writes a whole file, durably, making its directories: for formatting a disk before the world begins.
    pub fn put(&mut self, chunks: &mut ChunkStore, path: &str, content: Bytes) -> Result<(), DiskError> {
        let (dirs, name) = path.rsplit_once('/').unwrap_or(("", path));
        let at = self.put_dir(dirs)?;
        self.used += content.len() as u64;
        let file = File::with(chunks, content);
        let inode = self.alloc(Body::File(file));
        if let Some(old) = self.dir(at).entries.insert(name.to_owned(), inode) {
            self.release(chunks, old);
        }
        Ok(())
    }

    /// Makes a directory and those above it, durably.
    fn put_dir(&mut self, path: &str) -> Result<InodeId, DiskError> {
        let mut at = ROOT;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            at = match self.dir(at).entries.get(name).copied() {
                Some(next) if self.is_dir(next) => next,
                Some(_) => return Err(DiskError::Exists),
                None => {
                    let next = self.alloc(Body::Dir(Dir::default()));
                    self.dir(at).entries.insert(name.to_owned(), next);
                    next
                }
            };
        }
        Ok(at)
    }

    /// All files and directories, as they are now.
    pub fn image(&self, chunks: &ChunkStore) -> DiskImage {
        let mut image = DiskImage::default();
        self.walk(ROOT, "", &mut |path, body| match body {
            Body::Dir(_) => image.dirs.push(path.to_owned()),
            Body::File(file) => image.files.push((path.to_owned(), content_of(file, chunks).into())),
            Body::Free => unreachable!("a name stands for something"),
        });
        image
    }

    /// The content of an image, durably, in the place of this disk's. It is healthy.
    pub fn restore(&mut self, chunks: &mut ChunkStore, image: &DiskImage) -> Result<(), DiskError> {
        self.wipe(chunks);
        for dir in &image.dirs {
            self.put_dir(dir)?;
        }
        for (path, content) in &image.files {
            self.put(chunks, path, content.clone())?;
        }
        Ok(())
    }
}

/// What a disk held at some moment.
#[derive(Clone, Debug, Default)]
pub struct DiskImage {
    dirs: Vec<String>,
    files: Vec<(String, Bytes)>,
}

fn content_of(file: &File, chunks: &ChunkStore) -> Vec<u8> {
    let mut content = vec![0; file.len() as usize];
    file.copy(chunks, 0, &mut content);
    content
}
