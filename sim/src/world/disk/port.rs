//! The disk of a host as one process uses it while it handles one input.

use broker_core::disk::{Disk, DiskError, FileId, Ticket};
use bytes::Bytes;
use wire::Rope;
use wire::drive::Nanos;

use super::super::agenda::{Agenda, Kind};
use super::super::chunks::ChunkStore;
use super::super::digest::{Digest, ItemKind};
use super::super::time::{Between, SimTime};
use super::fault::Does;
use super::file::File;
use super::{Body, Change, Dir, Handle, InodeId, Pending, SimDisk, Syncing};

/// Borrows what a disk operation touches. Counts in `cost` what the operations take beyond none.
pub struct DiskPort<'a> {
    /// The disk.
    pub disk: &'a mut SimDisk,
    /// The bytes of all disks.
    pub chunks: &'a mut ChunkStore,
    /// Where the ends of syncs go.
    pub agenda: &'a mut Agenda,
    /// Every operation is digested.
    pub digest: &'a mut Digest,
    /// The time of the input.
    pub now: SimTime,
    /// The disk's host.
    pub host: u32,
    /// Who works.
    pub proc: u32,
    /// Its incarnation.
    pub incarnation: u32,
    /// What the operations cost.
    pub cost: Nanos,
}

impl DiskPort<'_> {
    #[inline]
    fn begin(&mut self, kind: ItemKind, a: u64, len: u64) {
        self.digest.item(kind, self.now, self.proc, a, len);
        self.disk.settle(self.chunks, self.now);
    }

    fn begin_path(&mut self, kind: ItemKind, a: u64, path: &str) {
        self.digest.text(kind, self.now, self.proc, a, path);
        self.disk.settle(self.chunks, self.now);
    }

    /// Meets the faults that lie on a path.
    fn strike(&mut self, path: &str, does: Does) -> Result<(), DiskError> {
        if self.disk.faults.is_empty() {
            return Ok(());
        }
        let longer = self.disk.strike(self.agenda, self.now, self.host, path, does)?;
        self.cost = Nanos(self.cost.0 + longer.0);
        Ok(())
    }

    /// The same for a sync, during which the process does not wait: the sync itself takes longer.
    fn strike_sync(&mut self, path: &str) -> Result<Nanos, DiskError> {
        if self.disk.faults.is_empty() {
            return Ok(Nanos::ZERO);
        }
        self.disk.strike(self.agenda, self.now, self.host, path, Does::Sync)
    }

    #[inline]
    fn strike_file(&mut self, file: FileId, does: Does) -> Result<(), DiskError> {
        if self.disk.faults.is_empty() {
            return Ok(());
        }
        let path = self.handle(file).path.clone();
        self.strike(&path, does)
    }

    #[inline]
    fn handle(&self, file: FileId) -> &Handle {
        let handle = &self.disk.handles[file.0 as u32 as usize];
        assert!(handle.generation == (file.0 >> 32) as u32 && handle.inode.is_some(), "{file:?} is not open");
        handle
    }

    #[inline]
    fn inode(&self, file: FileId) -> InodeId {
        self.handle(file).inode.expect("an open file has an inode")
    }

    #[inline]
    fn file(&mut self, inode: InodeId) -> &mut File {
        match &mut self.disk.inodes[inode as usize].body {
            Body::File(file) => file,
            _ => panic!("an open file is a file"),
        }
    }

    /// A sync of `path` begins; `result` is what came of the faults on it, with how much longer it takes.
    fn start_sync(&mut self, path: &str, pending: Pending, result: Result<Nanos, DiskError>) -> Ticket {
        self.disk.next_ticket += 1;
        let ticket = self.disk.next_ticket;
        for inode in pending.inodes() {
            self.disk.retain(inode);
        }
        if let Pending::File(inode) = pending {
            self.file(inode).begin_flush(ticket);
        }
        let takes = self.disk.sync_chance.between(self.disk.spec.fsync);
        let takes = Nanos(takes.0 + result.map_or(0, |longer| longer.0));
        let lies = !self.disk.faults.is_empty() && self.disk.lies_about(path);
        let result = result.map(|_| ());
        let Between { low, .. } = self.disk.spec.fsync;
        assert!(takes >= low, "a sync takes its time");
        let (proc, incarnation) = (self.proc, self.incarnation);
        self.disk.syncing.insert(ticket, Syncing { proc, incarnation, pending, result, lies });
        self.agenda.push(self.now + takes, Kind::SyncDone, self.host, ticket);
        Ticket(u64::from(ticket))
    }

    fn has_room(&self, more: u64) -> bool {
        self.disk.spec.capacity.is_none_or(|capacity| self.disk.used + more <= capacity)
    }

    fn range(&mut self, file: FileId, offset: u64, len: u64) -> Result<InodeId, DiskError> {
        self.strike_file(file, Does::Read)?;
        let inode = self.inode(file);
        let size = self.file(inode).len();
        if offset.checked_add(len).is_none_or(|end| end > size) { Err(DiskError::Eof) } else { Ok(inode) }
    }
}

impl Pending {
    pub(super) fn inodes(&self) -> Vec<InodeId> {
        match self {
            Pending::File(inode) => vec![*inode],
            Pending::Dirs(dirs, _) => dirs.clone(),
            Pending::Nothing => Vec::new(),
        }
    }
}

impl Disk for DiskPort<'_> {
    fn open(&mut self, path: &str, create: bool) -> Result<FileId, DiskError> {
        self.begin_path(ItemKind::DiskOpen, u64::from(create), path);
        self.strike(path, Does::Read)?;
        let (dir, name) = self.disk.parent(path)?;
        let inode = match self.disk.dir(dir).entries.get(name).copied() {
            Some(inode) if self.disk.is_dir(inode) => return Err(DiskError::Exists),
            Some(inode) => inode,
            None if create => {
                self.strike(path, Does::Write(0))?;
                let inode = self.disk.alloc(Body::File(File::default()));
                self.disk.link(self.now, dir, name, inode);
                inode
            }
            None => return Err(DiskError::NotFound),
        };
        self.disk.retain(inode);
        let at = match self.disk.free_handles.pop() {
            Some(at) => at as usize,
            None => {
                self.disk.handles.push(Handle { generation: 0, inode: None, path: "".into() });
                self.disk.handles.len() - 1
            }
        };
        let handle = &mut self.disk.handles[at];
        (handle.inode, handle.path) = (Some(inode), path.into());
        Ok(FileId(u64::from(handle.generation) << 32 | at as u64))
    }

    fn close(&mut self, file: FileId) {
        self.begin(ItemKind::DiskClose, file.0, 0);
        let inode = self.inode(file);
        let at = file.0 as u32;
        let handle = &mut self.disk.handles[at as usize];
        handle.inode = None;
        handle.generation += 1;
        self.disk.free_handles.push(at);
        self.disk.release(self.chunks, inode);
    }

    fn mkdir(&mut self, path: &str) -> Result<(), DiskError> {
        self.begin_path(ItemKind::DiskMkdir, 0, path);
        let there = self.disk.lookup(path).is_some_and(|dir| self.disk.is_dir(dir));
        self.strike(path, if there { Does::Read } else { Does::Write(0) })?;
        let mut at = super::ROOT;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            at = match self.disk.dir(at).entries.get(name).copied() {
                Some(next) if self.disk.is_dir(next) => next,
                Some(_) => return Err(DiskError::Exists),
                None => {
                    let next = self.disk.alloc(Body::Dir(Dir::default()));
                    self.disk.link(self.now, at, name, next);
                    next
                }
            };
        }
        Ok(())
    }

    fn list(&mut self, path: &str) -> Result<Vec<String>, DiskError> {
        self.begin_path(ItemKind::DiskList, 0, path);
        self.strike(path, Does::Read)?;
        let inode = self.disk.lookup(path).ok_or(DiskError::NotFound)?;
        match &self.disk.inodes[inode as usize].body {
            Body::Dir(dir) => Ok(dir.entries.keys().cloned().collect()),
            _ => Err(DiskError::NotFound),
        }
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        self.begin_path(ItemKind::DiskRename, 0, from);
        self.digest.text(ItemKind::DiskRename, self.now, self.proc, 1, to);
        self.strike(from, Does::Write(0))?;
        let (from_dir, from_name) = self.disk.parent(from)?;
        let (to_dir, to_name) = self.disk.parent(to)?;
        let inode = *self.disk.dir(from_dir).entries.get(from_name).ok_or(DiskError::NotFound)?;
        if (from_dir, from_name) == (to_dir, to_name) {
            return Ok(());
        }
        let over = self.disk.dir(to_dir).entries.get(to_name).copied();
        if over.is_some_and(|over| self.disk.is_dir(over) || self.disk.is_dir(inode)) {
            return Err(DiskError::Exists);
        }
        self.disk.dir(from_dir).entries.remove(from_name);
        if from_dir == to_dir {
            let hidden = self.disk.dir(to_dir).entries.insert(to_name.to_owned(), inode);
            let (from, to) = (from_name.to_owned(), to_name.to_owned());
            self.disk.change(self.now, to_dir, Change::Renamed { from, to, hidden });
        } else {
            // Two directories: the old name's reference hides in its change, the new name takes one of its own.
            self.disk.retain(inode);
            self.disk.link(self.now, to_dir, to_name, inode);
            let change = Change::Unlinked { name: from_name.to_owned(), hidden: inode };
            self.disk.change(self.now, from_dir, change);
        }
        Ok(())
    }

    fn remove(&mut self, path: &str) -> Result<(), DiskError> {
        self.begin_path(ItemKind::DiskRemove, 0, path);
        self.strike(path, Does::Free)?;
        let (dir, name) = self.disk.parent(path)?;
        let hidden = self.disk.dir(dir).entries.remove(name).ok_or(DiskError::NotFound)?;
        self.disk.change(self.now, dir, Change::Unlinked { name: name.to_owned(), hidden });
        Ok(())
    }

    fn len(&mut self, file: FileId) -> Result<u64, DiskError> {
        self.begin(ItemKind::DiskLen, file.0, 0);
        self.strike_file(file, Does::Read)?;
        let inode = self.inode(file);
        Ok(self.file(inode).len())
    }

    fn read(&mut self, file: FileId, offset: u64, len: usize, out: &mut Rope) -> Result<(), DiskError> {
        self.begin(ItemKind::DiskRead, offset << 16 | (file.0 & 0xffff), len as u64);
        let inode = self.range(file, offset, len as u64)?;
        let Body::File(file) = &self.disk.inodes[inode as usize].body else {
            unreachable!("an open file is one")
        };
        file.read(self.chunks, offset, len as u64, out);
        Ok(())
    }

    fn read_at(&mut self, file: FileId, offset: u64, out: &mut [u8]) -> Result<(), DiskError> {
        self.begin(ItemKind::DiskRead, offset << 16 | (file.0 & 0xffff), out.len() as u64);
        let inode = self.range(file, offset, out.len() as u64)?;
        let Body::File(file) = &self.disk.inodes[inode as usize].body else {
            unreachable!("an open file is one")
        };
        file.copy(self.chunks, offset, out);
        Ok(())
    }

    fn append(&mut self, file: FileId, pieces: &[Bytes]) -> Result<(), DiskError> {
        self.digest.bytes(ItemKind::DiskAppend, self.now, self.proc, file.0, pieces);
        self.disk.settle(self.chunks, self.now);
        let len: u64 = pieces.iter().map(|p| p.len() as u64).sum();
        self.strike_file(file, Does::Write(len))?;
        if !self.has_room(len) {
            return Err(DiskError::Full);
        }
        let inode = self.inode(file);
        let Body::File(file) = &mut self.disk.inodes[inode as usize].body else {
            unreachable!("an open file is one")
        };
        for piece in pieces {
            file.append(self.chunks, piece);
        }
        self.disk.used += len;
        self.disk.dirtied(self.now, inode);
        Ok(())
    }

    fn truncate(&mut self, file: FileId, len: u64) -> Result<(), DiskError> {
        self.begin(ItemKind::DiskTruncate, file.0, len);
        self.strike_file(file, Does::Free)?;
        let inode = self.inode(file);
        let Body::File(file) = &mut self.disk.inodes[inode as usize].body else {
            unreachable!("an open file is one")
        };
        let before = file.len();
        file.truncate(self.chunks, len);
        self.disk.used -= before - file.len();
        self.disk.dirtied(self.now, inode);
        Ok(())
    }

    fn replace(&mut self, path: &str, content: Bytes) -> Ticket {
        self.begin_path(ItemKind::DiskReplace, content.len() as u64, path);
        self.digest.bytes(ItemKind::DiskReplace, self.now, self.proc, 0, std::slice::from_ref(&content));
        let len = content.len() as u64;
        let mut may = self.strike(path, Does::Write(len)).and_then(|()| self.strike_sync(path));
        if !self.has_room(len) {
            may = may.and(Err(DiskError::Full));
        }
        let place = may.and_then(|longer| Ok((longer, self.disk.parent(path)?)));
        match place {
            Err(error) => self.start_sync(path, Pending::Nothing, Err(error)),
            Ok((longer, (dir, name))) => {
                // Its bytes are on the medium before its name is: with the name comes the whole content.
                let file = File::with(self.chunks, content);
                let inode = self.disk.alloc(Body::File(file));
                self.disk.used += len;
                self.disk.link(self.now, dir, name, inode);
                let up_to = self.disk.next_change;
                self.start_sync(path, Pending::Dirs(self.disk.dirs_above(path), up_to), Ok(longer))
            }
        }
    }

    fn sync(&mut self, file: FileId) -> Ticket {
        self.begin(ItemKind::DiskSync, file.0, 0);
        // Only faults ask for its path.
        let path = if self.disk.faults.is_empty() { "".into() } else { self.handle(file).path.clone() };
        let result = self.strike_sync(&path);
        let inode = self.inode(file);
        self.start_sync(&path, Pending::File(inode), result)
    }

    fn sync_dir(&mut self, path: &str) -> Ticket {
        self.begin_path(ItemKind::DiskSyncDir, 0, path);
        let result = self.strike_sync(path);
        let mut dirs = self.disk.dirs_above(path);
        match self.disk.lookup(path) {
            Some(dir) if self.disk.is_dir(dir) => {
                if dir != super::ROOT {
                    dirs.push(dir);
                }
                let up_to = self.disk.next_change;
                self.start_sync(path, Pending::Dirs(dirs, up_to), result)
            }
            _ => self.start_sync(path, Pending::Nothing, Err(DiskError::NotFound)),
        }
    }

    fn exists(&mut self, path: &str) -> bool {
        self.begin_path(ItemKind::DiskLen, 0, path);
        !self.disk.is_gone(path) && self.disk.lookup(path).is_some()
    }
}
