//! What a power loss leaves on a disk.

use super::super::chunks::ChunkStore;
use super::super::time::SimTime;
use super::file::{SECTOR, Survives};
use super::{Body, Change, InodeId, SimDisk};

/// What becomes of bytes and names that were not durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Unsynced {
    /// Any part of them may have reached the medium.
    #[default]
    ByChance,
    /// All of them are gone.
    Lost,
    /// All of them had reached the medium.
    Kept,
}

impl SimDisk {
    /// The host lost its power: open files and syncs under way are gone, the page cache is what the medium has.
    pub fn power_loss(&mut self, chunks: &mut ChunkStore, now: SimTime, unsynced: Unsynced) {
        self.settle(chunks, now);
        self.process_gone(chunks);
        let tickets: Vec<u32> = self.syncing.keys().copied().collect();
        for ticket in tickets {
            let syncing = self.syncing.remove(&ticket).expect("it was listed");
            for inode in syncing.pending.inodes() {
                self.release(chunks, inode);
            }
        }
        for id in 0..self.inodes.len() as InodeId {
            self.lose_names(chunks, id, unsynced);
        }
        for id in 0..self.inodes.len() as InodeId {
            self.lose_bytes(chunks, id, unsynced);
        }
        self.writeback.clear();
    }

    /// Undoes the changes of a directory that did not reach the medium: all behind a point, since its changes reach it
    /// in their order.
    fn lose_names(&mut self, chunks: &mut ChunkStore, id: InodeId, unsynced: Unsynced) {
        let Body::Dir(dir) = &mut self.inodes[id as usize].body else { return };
        dir.writeback_at = None;
        let count = dir.changes.len();
        let kept = match unsynced {
            Unsynced::Kept => count,
            Unsynced::Lost => 0,
            Unsynced::ByChance if count == 0 => 0,
            Unsynced::ByChance => self.power_chance.below(count as u64 + 1) as usize,
        };
        let changes = std::mem::take(&mut dir.changes);
        for (number, (_, change)) in changes.into_iter().enumerate().rev() {
            if number < kept {
                if let Some(hidden) = change.hidden() {
                    self.release(chunks, hidden);
                }
            } else {
                self.undo(chunks, id, change);
            }
        }
    }

    fn undo(&mut self, chunks: &mut ChunkStore, id: InodeId, change: Change) {
        let entries = &mut self.dir(id).entries;
        match change {
            Change::Linked { name, hidden } => {
                let linked = entries.remove(&name).expect("changes are undone last to first");
                if let Some(hidden) = hidden {
                    entries.insert(name, hidden);
                }
                self.release(chunks, linked);
            }
            Change::Unlinked { name, hidden } => {
                let over = entries.insert(name, hidden);
                assert!(over.is_none(), "changes are undone last to first");
            }
            Change::Renamed { from, to, hidden } => {
                let renamed = entries.remove(&to).expect("changes are undone last to first");
                if let Some(hidden) = hidden {
                    entries.insert(to, hidden);
                }
                entries.insert(from, renamed);
            }
        }
    }

    fn lose_bytes(&mut self, chunks: &mut ChunkStore, id: InodeId, unsynced: Unsynced) {
        let Body::File(file) = &mut self.inodes[id as usize].body else { return };
        let before = file.len();
        let (start, at_risk) = (before - file.at_risk(), file.at_risk());
        let dirty = file.is_dirty();
        let chance = &mut self.power_chance;
        let survives = match unsynced {
            Unsynced::Kept => Survives::AndMore(at_risk),
            Unsynced::Lost => Survives::Durable,
            Unsynced::ByChance if !dirty => Survives::Durable,
            Unsynced::ByChance if file.has_undead_tail() && chance.below(2) == 0 => Survives::Durable,
            Unsynced::ByChance => Survives::AndMore(match chance.below(4) {
                0 => 0,
                1 => at_risk,
                _ => {
                    // The medium writes whole sectors: the end lies at the end of one, or at that of the file.
                    let first = start / SECTOR;
                    let sectors = (start + at_risk).div_ceil(SECTOR) - first;
                    let end = (first + chance.below(sectors + 1)) * SECTOR;
                    end.clamp(start, start + at_risk) - start
                }
            }),
        };
        file.after_power_loss(chunks, survives);
        if let (Unsynced::ByChance, Survives::AndMore(kept)) = (unsynced, survives)
            && kept > 0
            && chance.below(4) == 0
        {
            self.leave_holes(chunks, id, start, kept);
        }
        let Body::File(file) = &self.inodes[id as usize].body else { unreachable!("it was one") };
        self.used = self.used + file.len() - before;
    }

    /// A few sectors of what survived were never written: the file's length reached the medium before them.
    fn leave_holes(&mut self, chunks: &mut ChunkStore, id: InodeId, start: u64, kept: u64) {
        let Body::File(file) = &mut self.inodes[id as usize].body else { return };
        let (first, last) = (start / SECTOR, (start + kept - 1) / SECTOR);
        for _ in 0..=self.power_chance.below(3) {
            let sector = first + self.power_chance.below(last - first + 1);
            let from = (sector * SECTOR).max(start);
            let until = ((sector + 1) * SECTOR).min(start + kept);
            file.overwrite(chunks, from, until - from, |chunks| chunks.zeros((until - from) as u32));
        }
    }
}
