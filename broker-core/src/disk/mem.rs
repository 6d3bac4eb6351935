//! A disk in memory, for tests: page cache and durable state apart, power loss, injected errors.
//!
//! What was written is in the page cache at once; it is durable once a sync that began after it has completed. A name
//! is durable once its directory was synced (or the file was put there by `replace`), whatever was synced in the file:
//! the strictest reading of POSIX, so that a missing sync of a directory shows. The directories above it become
//! durable with it, as they do on file systems with a journal.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use bytes::Bytes;
use wire::Rope;

use super::{Disk, DiskError, FileId, Ticket};

/// What an injected fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// `open` of a path.
    Open,
    /// `read` and `read_at`.
    Read,
    /// `append`.
    Append,
    /// `truncate`.
    Truncate,
    /// `rename`, by its old path.
    Rename,
    /// `remove`.
    Remove,
    /// `sync`, `sync_dir`, `replace`: the ticket comes back with the error.
    Sync,
}

/// An error that operations on matching paths meet.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The operation.
    pub op: Op,
    /// Paths that contain this.
    pub path_contains: String,
    /// What the caller gets.
    pub error: DiskError,
    /// So many times; then the fault is over.
    pub times: u32,
}

/// What a power loss does to bytes that were never synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsynced {
    /// They are gone.
    Lost,
    /// They had reached the medium by chance, names included.
    Kept,
    /// For each file that much of what it grew by since its last sync survives, in thousandths.
    Part(u32),
}

/// File ids and directory entries are numbers; an inode lives as long as something refers to it.
type Inode = u64;

#[derive(Clone, Debug, Default)]
struct Content {
    pieces: Vec<Bytes>,
    /// The offset behind each piece.
    ends: Vec<u64>,
}

impl Content {
    fn len(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.ends.push(self.len() + piece.len() as u64);
            self.pieces.push(piece);
        }
    }

    fn truncate(&mut self, len: u64) {
        while self.len() > len {
            let end = self.ends.pop().expect("longer than len");
            let piece = self.pieces.pop().expect("as many as ends");
            let start = end - piece.len() as u64;
            if start < len {
                self.push(piece.slice(..(len - start) as usize));
            }
        }
    }

    /// Gives `len` bytes from `offset` to `take`, piece by piece.
    fn each(
        &self,
        offset: u64,
        len: usize,
        mut take: impl FnMut(&Bytes, usize, usize),
    ) -> Result<(), DiskError> {
        if offset.checked_add(len as u64).is_none_or(|end| end > self.len()) {
            return Err(DiskError::Eof);
        }
        let mut i = self.ends.partition_point(|&end| end <= offset);
        let (mut at, mut left) = (offset, len);
        while left > 0 {
            let piece = &self.pieces[i];
            let skip = (at - (self.ends[i] - piece.len() as u64)) as usize;
            let n = left.min(piece.len() - skip);
            take(piece, skip, n);
            at += n as u64;
            left -= n;
            i += 1;
        }
        Ok(())
    }
}

#[derive(Clone, Debug)]
enum Node {
    File { cache: Content, durable: Content },
    Dir { cache: BTreeMap<String, Inode>, durable: BTreeMap<String, Inode> },
}

#[derive(Clone, Debug)]
enum Pending {
    /// A later one was sooner.
    Done,
    File {
        inode: Inode,
        content: Content,
    },
    Dir {
        inode: Inode,
        entries: BTreeMap<String, Inode>,
        above: Vec<(Inode, String, Inode)>,
    },
    Replace {
        dir: Inode,
        name: String,
        inode: Inode,
        above: Vec<(Inode, String, Inode)>,
    },
}

impl Pending {
    fn target(&self) -> Option<Inode> {
        match self {
            Pending::File { inode, .. } | Pending::Dir { inode, .. } => Some(*inode),
            Pending::Replace { dir, .. } => Some(*dir),
            Pending::Done => None,
        }
    }
}

/// The files of one host in memory.
#[derive(Clone, Debug)]
pub struct MemDisk {
    nodes: BTreeMap<Inode, Node>,
    open: BTreeMap<u64, (Inode, String)>,
    next: u64,
    pending: BTreeMap<Ticket, (Pending, Result<(), DiskError>)>,
    done: VecDeque<(Ticket, Result<(), DiskError>)>,
    manual: bool,
    faults: Vec<Fault>,
    capacity: Option<u64>,
}

const ROOT: Inode = 0;

impl Default for MemDisk {
    fn default() -> MemDisk {
        MemDisk::new()
    }
}

impl MemDisk {
    /// An empty disk whose syncs complete at once: their tickets wait in [`MemDisk::take_synced`].
    pub fn new() -> MemDisk {
        let root = Node::Dir { cache: BTreeMap::new(), durable: BTreeMap::new() };
        MemDisk {
            nodes: BTreeMap::from([(ROOT, root)]),
            open: BTreeMap::new(),
            next: 1,
            pending: BTreeMap::new(),
            done: VecDeque::new(),
            manual: false,
            faults: Vec::new(),
            capacity: None,
        }
    }

    /// As [`MemDisk::new`], but syncs complete only through [`MemDisk::complete`] and [`MemDisk::complete_all`].
    pub fn manual() -> MemDisk {
        MemDisk { manual: true, ..MemDisk::new() }
    }

    /// Whether syncs wait to be completed by hand.
    pub fn set_manual(&mut self, manual: bool) {
        self.manual = manual;
    }

    /// The tickets whose syncs have ended since the last call, in order: each belongs into `Input::Synced`.
    pub fn take_synced(&mut self) -> Vec<(Ticket, Result<(), DiskError>)> {
        self.done.drain(..).collect()
    }

    /// The tickets under way, oldest first.
    pub fn pending(&self) -> Vec<Ticket> {
        self.pending.keys().copied().collect()
    }

    /// Ends one sync that is under way.
    pub fn complete(&mut self, ticket: Ticket) {
        let (pending, result) = self.pending.remove(&ticket).expect("a ticket under way");
        if result.is_ok() {
            // A later flush of the same thing covers what an earlier one is still busy with.
            let mut earlier = Vec::new();
            for (_, (other, result)) in self.pending.range_mut(..ticket) {
                if other.target() == pending.target() && result.is_ok() {
                    earlier.push(core::mem::replace(other, Pending::Done));
                }
            }
            for pending in earlier.into_iter().chain([pending]) {
                self.make_durable(pending);
            }
        }
        self.done.push_back((ticket, result));
    }

    /// Ends all syncs that are under way, in order, and returns the tickets.
    pub fn complete_all(&mut self) -> Vec<(Ticket, Result<(), DiskError>)> {
        for ticket in self.pending() {
            self.complete(ticket);
        }
        self.take_synced()
    }

    /// Adds a fault.
    pub fn inject(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    /// Ends all faults.
    pub fn heal(&mut self) {
        self.faults.clear();
    }

    /// Limits the bytes of all files together: what exceeds it fails with [`DiskError::Full`].
    pub fn set_capacity(&mut self, bytes: Option<u64>) {
        self.capacity = bytes;
    }

    /// The process died (kill -9): open files and tickets are gone, the page cache stays.
    pub fn crash(&mut self) {
        self.open.clear();
        self.done.clear();
        // The kernel carries out what it was asked for, whether or not somebody waits.
        for (_, (pending, result)) in core::mem::take(&mut self.pending) {
            if result.is_ok() {
                self.make_durable(pending);
            }
        }
    }

    /// The power failed: what is durable is left, and of the rest what `unsynced` says.
    pub fn power_loss(&mut self, unsynced: Unsynced) {
        self.open.clear();
        self.done.clear();
        self.pending.clear();
        for node in self.nodes.values_mut() {
            match node {
                Node::File { cache, durable } => {
                    match unsynced {
                        Unsynced::Lost => *cache = durable.clone(),
                        Unsynced::Kept => {}
                        Unsynced::Part(thousandths) => {
                            let grown = cache.len().saturating_sub(durable.len());
                            if grown == 0 {
                                *cache = durable.clone();
                            } else {
                                cache.truncate(durable.len() + grown * u64::from(thousandths) / 1_000);
                            }
                        }
                    }
                    *durable = cache.clone();
                }
                Node::Dir { cache, durable } => {
                    if unsynced == Unsynced::Lost {
                        *cache = durable.clone();
                    }
                    *durable = cache.clone();
                }
            }
        }
        self.collect();
    }

    /// Writes a whole file, durably, making its directories: to set up a test.
    pub fn put(&mut self, path: &str, content: impl Into<Bytes>) {
        if let Some((dir, _)) = path.rsplit_once('/') {
            self.mkdir(dir).expect("directories can be made");
        }
        let mut whole = Content::default();
        whole.push(content.into());
        let inode = self.alloc(Node::File { cache: whole.clone(), durable: whole });
        let (dir, name) = self.parent(path).expect("its directory was just made");
        let above = self.above(path);
        self.entries(dir).insert(name.to_string(), inode);
        self.make_names_durable(above);
        self.durable_entries(dir).insert(name.to_string(), inode);
    }

    /// Changes a byte of a file, durably: a flipped bit on the medium.
    pub fn corrupt(&mut self, path: &str, offset: u64, mask: u8) {
        let mut content = self.read_file(path).expect("the file exists").to_vec();
        content[offset as usize] ^= mask;
        self.put(path, content);
    }

    /// All paths of files, sorted.
    pub fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.walk(ROOT, "", &mut found);
        found
    }

    fn walk(&self, dir: Inode, prefix: &str, found: &mut Vec<String>) {
        let Node::Dir { cache, .. } = &self.nodes[&dir] else { return };
        for (name, inode) in cache {
            let path = if prefix.is_empty() { name.clone() } else { alloc::format!("{prefix}/{name}") };
            match &self.nodes[inode] {
                Node::File { .. } => found.push(path),
                Node::Dir { .. } => self.walk(*inode, &path, found),
            }
        }
    }

    fn alloc(&mut self, node: Node) -> Inode {
        self.next += 1;
        self.nodes.insert(self.next, node);
        self.next
    }

    fn entries(&mut self, dir: Inode) -> &mut BTreeMap<String, Inode> {
        match self.nodes.get_mut(&dir) {
            Some(Node::Dir { cache, .. }) => cache,
            _ => panic!("inode {dir} is no directory"),
        }
    }

    fn durable_entries(&mut self, dir: Inode) -> &mut BTreeMap<String, Inode> {
        match self.nodes.get_mut(&dir) {
            Some(Node::Dir { durable, .. }) => durable,
            _ => panic!("inode {dir} is no directory"),
        }
    }

    fn lookup(&self, path: &str) -> Option<Inode> {
        let mut at = ROOT;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let Node::Dir { cache, .. } = &self.nodes[&at] else { return None };
            at = *cache.get(name)?;
        }
        Some(at)
    }

    /// The directory of a path, and the last name in it.
    fn parent<'p>(&self, path: &'p str) -> Result<(Inode, &'p str), DiskError> {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        let inode = self.lookup(dir).ok_or(DiskError::NotFound)?;
        match self.nodes[&inode] {
            Node::Dir { .. } => Ok((inode, name)),
            Node::File { .. } => Err(DiskError::NotFound),
        }
    }

    /// The names of the directories on the way to `path`, without its last name.
    fn above(&self, path: &str) -> Vec<(Inode, String, Inode)> {
        let mut steps = Vec::new();
        let mut at = ROOT;
        let Some((dirs, _)) = path.rsplit_once('/') else { return steps };
        for name in dirs.split('/') {
            let Node::Dir { cache, .. } = &self.nodes[&at] else { break };
            let Some(&next) = cache.get(name) else { break };
            steps.push((at, name.to_string(), next));
            at = next;
        }
        steps
    }

    fn make_names_durable(&mut self, above: Vec<(Inode, String, Inode)>) {
        for (dir, name, inode) in above {
            // Since renamed or removed: then the rename is what a later sync of the directory makes durable.
            if self.nodes.contains_key(&dir) && self.entries(dir).get(&name) == Some(&inode) {
                self.durable_entries(dir).insert(name, inode);
            }
        }
    }

    fn make_durable(&mut self, pending: Pending) {
        match pending {
            Pending::Done => {}
            Pending::File { inode, content } => {
                if let Some(Node::File { durable, .. }) = self.nodes.get_mut(&inode) {
                    *durable = content;
                }
            }
            Pending::Dir { inode, entries, above } => {
                self.make_names_durable(above);
                if let Some(Node::Dir { durable, .. }) = self.nodes.get_mut(&inode) {
                    *durable = entries;
                }
            }
            Pending::Replace { dir, name, inode, above } => {
                self.make_names_durable(above);
                if let Some(Node::Dir { durable, .. }) = self.nodes.get_mut(&dir) {
                    durable.insert(name, inode);
                }
            }
        }
    }

    fn begin(&mut self, pending: Pending, path: &str) -> Ticket {
        self.next += 1;
        let ticket = Ticket(self.next);
        let result = self.strike(Op::Sync, path);
        self.pending.insert(ticket, (pending, result));
        if !self.manual {
            self.complete(ticket);
        }
        ticket
    }

    /// Meets the first fault that matches.
    fn strike(&mut self, op: Op, path: &str) -> Result<(), DiskError> {
        let hit =
            self.faults.iter_mut().find(|f| f.op == op && f.times > 0 && path.contains(&f.path_contains));
        match hit {
            Some(fault) => {
                fault.times -= 1;
                Err(fault.error)
            }
            None => Ok(()),
        }
    }

    fn file(&self, file: FileId) -> &(Inode, String) {
        self.open.get(&file.0).expect("an open file of this process")
    }

    fn content(&mut self, file: FileId) -> &mut Content {
        let inode = self.file(file).0;
        match self.nodes.get_mut(&inode) {
            Some(Node::File { cache, .. }) => cache,
            _ => panic!("an open file is a file"),
        }
    }

    /// Frees what no name, durable or not, and no open file refers to: for those who measure memory.
    pub fn collect(&mut self) {
        let mut reached = BTreeMap::new();
        let mut todo: Vec<Inode> = self.open.values().map(|(inode, _)| *inode).collect();
        todo.push(ROOT);
        while let Some(inode) = todo.pop() {
            if reached.insert(inode, ()).is_none()
                && let Some(Node::Dir { cache, durable }) = self.nodes.get(&inode)
            {
                todo.extend(cache.values().chain(durable.values()));
            }
        }
        self.nodes.retain(|inode, _| reached.contains_key(inode));
    }
}

impl Disk for MemDisk {
    fn open(&mut self, path: &str, create: bool) -> Result<FileId, DiskError> {
        self.strike(Op::Open, path)?;
        let (dir, name) = self.parent(path)?;
        let inode = match self.entries(dir).get(name).copied() {
            Some(inode) => match self.nodes[&inode] {
                Node::File { .. } => inode,
                Node::Dir { .. } => return Err(DiskError::Exists),
            },
            None if create => {
                let inode = self.alloc(Node::File { cache: Content::default(), durable: Content::default() });
                self.entries(dir).insert(name.to_string(), inode);
                inode
            }
            None => return Err(DiskError::NotFound),
        };
        self.next += 1;
        self.open.insert(self.next, (inode, path.to_string()));
        Ok(FileId(self.next))
    }

    fn close(&mut self, file: FileId) {
        let was = self.open.remove(&file.0);
        assert!(was.is_some(), "a file is closed once");
    }

    fn mkdir(&mut self, path: &str) -> Result<(), DiskError> {
        let mut at = ROOT;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            at = match self.entries(at).get(name).copied() {
                Some(inode) => match self.nodes[&inode] {
                    Node::Dir { .. } => inode,
                    Node::File { .. } => return Err(DiskError::Exists),
                },
                None => {
                    let inode = self.alloc(Node::Dir { cache: BTreeMap::new(), durable: BTreeMap::new() });
                    self.entries(at).insert(name.to_string(), inode);
                    inode
                }
            };
        }
        Ok(())
    }

    fn list(&mut self, path: &str) -> Result<Vec<String>, DiskError> {
        let inode = self.lookup(path).ok_or(DiskError::NotFound)?;
        match &self.nodes[&inode] {
            Node::Dir { cache, .. } => Ok(cache.keys().cloned().collect()),
            Node::File { .. } => Err(DiskError::NotFound),
        }
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        self.strike(Op::Rename, from)?;
        let (from_dir, from_name) = self.parent(from)?;
        let (to_dir, to_name) = self.parent(to)?;
        let inode = *self.entries(from_dir).get(from_name).ok_or(DiskError::NotFound)?;
        if let Some(over) = self.entries(to_dir).get(to_name).copied()
            && over != inode
            && (matches!(self.nodes[&over], Node::Dir { .. })
                || matches!(self.nodes[&inode], Node::Dir { .. }))
        {
            return Err(DiskError::Exists);
        }
        self.entries(from_dir).remove(from_name);
        self.entries(to_dir).insert(to_name.to_string(), inode);
        Ok(())
    }

    fn remove(&mut self, path: &str) -> Result<(), DiskError> {
        self.strike(Op::Remove, path)?;
        let (dir, name) = self.parent(path)?;
        self.entries(dir).remove(name).ok_or(DiskError::NotFound)?;
        Ok(())
    }

    fn len(&mut self, file: FileId) -> Result<u64, DiskError> {
        Ok(self.content(file).len())
    }

    fn read(&mut self, file: FileId, offset: u64, len: usize, out: &mut Rope) -> Result<(), DiskError> {
        if !self.faults.is_empty() {
            let path = self.file(file).1.clone();
            self.strike(Op::Read, &path)?;
        }
        self.content(file).each(offset, len, |piece, skip, n| out.push(piece.slice(skip..skip + n)))
    }

    fn read_at(&mut self, file: FileId, offset: u64, out: &mut [u8]) -> Result<(), DiskError> {
        if !self.faults.is_empty() {
            let path = self.file(file).1.clone();
            self.strike(Op::Read, &path)?;
        }
        let mut done = 0;
        self.content(file).each(offset, out.len(), |piece, skip, n| {
            out[done..done + n].copy_from_slice(&piece[skip..skip + n]);
            done += n;
        })
    }

    fn append(&mut self, file: FileId, pieces: &[Bytes]) -> Result<(), DiskError> {
        if !self.faults.is_empty() {
            let path = self.file(file).1.clone();
            self.strike(Op::Append, &path)?;
        }
        if let Some(capacity) = self.capacity {
            let used: u64 = self
                .nodes
                .values()
                .map(|node| match node {
                    Node::File { cache, .. } => cache.len(),
                    Node::Dir { .. } => 0,
                })
                .sum();
            let more: u64 = pieces.iter().map(|p| p.len() as u64).sum();
            if used + more > capacity {
                return Err(DiskError::Full);
            }
        }
        let content = self.content(file);
        for piece in pieces {
            content.push(piece.clone());
        }
        Ok(())
    }

    fn truncate(&mut self, file: FileId, len: u64) -> Result<(), DiskError> {
        let path = self.file(file).1.clone();
        self.strike(Op::Truncate, &path)?;
        self.content(file).truncate(len);
        Ok(())
    }

    fn replace(&mut self, path: &str, content: Bytes) -> Ticket {
        let mut whole = Content::default();
        whole.push(content);
        let (dir, name) = self.parent(path).expect("replace: the directory exists");
        // Renamed only once it is synced: whenever the new name survives, so does the whole content.
        let inode = self.alloc(Node::File { cache: whole.clone(), durable: whole });
        self.entries(dir).insert(name.to_string(), inode);
        let above = self.above(path);
        self.begin(Pending::Replace { dir, name: name.to_string(), inode, above }, path)
    }

    fn sync(&mut self, file: FileId) -> Ticket {
        let content = self.content(file).clone();
        let (inode, path) = self.file(file).clone();
        self.begin(Pending::File { inode, content }, &path)
    }

    fn sync_dir(&mut self, path: &str) -> Ticket {
        let inode = self.lookup(path).expect("sync_dir: the directory exists");
        let entries = self.entries(inode).clone();
        let mut above = self.above(path);
        if let Ok((dir, name)) = self.parent(path)
            && inode != ROOT
        {
            above.push((dir, name.to_string(), inode));
        }
        self.begin(Pending::Dir { inode, entries, above }, path)
    }

    fn exists(&mut self, path: &str) -> bool {
        self.lookup(path).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(disk: &mut MemDisk, path: &str, text: &'static str) -> FileId {
        let file = disk.open(path, true).unwrap();
        disk.append(file, &[Bytes::from_static(text.as_bytes())]).unwrap();
        file
    }

    #[test]
    fn power_loss_keeps_what_was_synced() {
        let mut disk = MemDisk::manual();
        disk.mkdir("data/t-0").unwrap();
        let file = write(&mut disk, "data/t-0/a", "synced");
        disk.sync(file);
        disk.sync_dir("data/t-0");
        assert_eq!(disk.complete_all().len(), 2);
        disk.append(file, &[Bytes::from_static(b" not")]).unwrap();
        write(&mut disk, "data/t-0/b", "nameless");
        let under_way = disk.sync(file);
        assert_eq!(disk.pending(), [under_way]);
        disk.power_loss(Unsynced::Lost);
        assert_eq!(disk.files(), ["data/t-0/a"]);
        assert_eq!(disk.read_file("data/t-0/a").unwrap(), "synced");
    }

    #[test]
    fn a_synced_file_without_a_synced_name_is_lost() {
        let mut disk = MemDisk::new();
        disk.mkdir("data").unwrap();
        let file = write(&mut disk, "data/a", "x");
        disk.sync(file);
        disk.power_loss(Unsynced::Lost);
        assert!(!disk.exists("data/a"));
    }

    #[test]
    fn replace_is_all_or_nothing() {
        let mut disk = MemDisk::manual();
        disk.put("data/f", "old");
        let ticket = disk.replace("data/f", Bytes::from_static(b"new"));
        assert_eq!(disk.read_file("data/f").unwrap(), "new");
        let mut other = disk.clone();
        other.power_loss(Unsynced::Lost);
        assert_eq!(other.read_file("data/f").unwrap(), "old");
        disk.complete(ticket);
        disk.power_loss(Unsynced::Lost);
        assert_eq!(disk.read_file("data/f").unwrap(), "new");
    }

    #[test]
    fn a_crash_keeps_the_page_cache_and_faults_strike_as_often_as_told() {
        let mut disk = MemDisk::new();
        disk.mkdir("d").unwrap();
        let file = write(&mut disk, "d/a", "one");
        disk.inject(Fault { op: Op::Append, path_contains: "d/a".into(), error: DiskError::Io, times: 1 });
        assert_eq!(disk.append(file, &[Bytes::from_static(b"two")]), Err(DiskError::Io));
        disk.append(file, &[Bytes::from_static(b"two")]).unwrap();
        disk.crash();
        assert_eq!(disk.read_file("d/a").unwrap(), "onetwo");
        disk.rename("d/a", "d/b").unwrap();
        assert_eq!(disk.list("d").unwrap(), ["b"]);
        let file = disk.open("d/b", false).unwrap();
        disk.truncate(file, 4).unwrap();
        let mut two = [0; 2];
        disk.read_at(file, 2, &mut two).unwrap();
        assert_eq!(&two, b"et");
        assert_eq!(disk.read_at(file, 3, &mut two), Err(DiskError::Eof));
    }
}
