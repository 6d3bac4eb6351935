//! Which syncs are under way, and how far the log is durable when they have come back.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use smallvec::SmallVec;
use wire::drive::{Instant, Now};

use super::{Log, Synced};
use crate::disk::{Disk, DiskError, Ticket};

/// One flush: when its tickets and those of all flushes before it are back, the log is durable up to `up_to`.
#[derive(Clone, Debug)]
struct Flush {
    up_to: i64,
    tickets: SmallVec<[Ticket; 4]>,
}

/// The tickets of one log.
#[derive(Clone, Debug, Default)]
pub(super) struct Flusher {
    under_way: VecDeque<Flush>,
    /// Of replaced checkpoints of assigned epochs.
    epochs: SmallVec<[Ticket; 2]>,
    /// That move nothing when they come back, but may fail.
    others: Vec<Ticket>,
    /// Not yet handed out.
    issued: Vec<Ticket>,
    /// The name of the log's directory itself is not known to be durable.
    dir_dirty: bool,
    /// A name in the log's directory is not known to be durable.
    pub names_dirty: bool,
    pub last_flush: Instant,
    /// A sync has failed.
    failed: bool,
}

impl Flusher {
    /// Of a log that was just opened.
    pub fn new(now: Instant, dir_created: bool, names_dirty: bool) -> Flusher {
        Flusher { dir_dirty: dir_created, names_dirty, last_flush: now, ..Flusher::default() }
    }

    pub fn epoch(&mut self, ticket: Ticket) {
        self.issued.push(ticket);
        self.epochs.push(ticket);
    }

    pub fn other(&mut self, ticket: Ticket) {
        self.issued.push(ticket);
        self.others.push(ticket);
    }

    pub fn epochs_durable(&self) -> bool {
        self.epochs.is_empty()
    }

    pub fn idle(&self) -> bool {
        self.under_way.is_empty() && self.epochs.is_empty() && self.others.is_empty()
    }

    pub fn take_issued(&mut self) -> Vec<Ticket> {
        core::mem::take(&mut self.issued)
    }

    /// What was cut is not made durable by a flush that began before.
    pub fn truncated(&mut self, end: i64) {
        for flush in &mut self.under_way {
            flush.up_to = flush.up_to.min(end);
        }
    }

    /// The end of the last flush under way.
    fn covered(&self) -> Option<i64> {
        self.under_way.back().map(|flush| flush.up_to)
    }

    fn synced(&mut self, ticket: Ticket, result: Result<(), DiskError>, recovery_point: &mut i64) -> Synced {
        let mut mine = false;
        let mut remove = |list: &mut dyn FnMut(Ticket) -> bool| mine |= list(ticket);
        remove(&mut |t| take(&mut self.epochs, t));
        remove(&mut |t| match self.others.iter().position(|&other| other == t) {
            Some(i) => {
                self.others.swap_remove(i);
                true
            }
            None => false,
        });
        for flush in &mut self.under_way {
            remove(&mut |t| take(&mut flush.tickets, t));
        }
        if !mine {
            return Synced::NotMine;
        }
        if let Err(error) = result {
            // The page cache and the medium disagree for good: nothing is taken to be durable any more.
            self.failed = true;
            return Synced::Failed(error);
        }
        if self.settle(recovery_point) {
            Synced::Flushed { recovery_point: *recovery_point }
        } else {
            Synced::Waiting
        }
    }

    /// Takes the flushes that are complete, oldest first. Whether the recovery point moved.
    fn settle(&mut self, recovery_point: &mut i64) -> bool {
        let before = *recovery_point;
        while !self.failed && self.under_way.front().is_some_and(|first| first.tickets.is_empty()) {
            let flush = self.under_way.pop_front().expect("there is a first");
            *recovery_point = before.max(flush.up_to);
        }
        *recovery_point > before
    }
}

fn take<const N: usize>(list: &mut SmallVec<[Ticket; N]>, ticket: Ticket) -> bool {
    match list.iter().position(|&t| t == ticket) {
        Some(i) => {
            list.swap_remove(i);
            true
        }
        None => false,
    }
}

impl Log {
    /// Begins to make everything below the log end durable. Tickets come out of [`Log::take_tickets`].
    pub fn flush(&mut self, now: Now, disk: &mut dyn Disk) {
        self.flush_up_to(now, disk, self.next_offset, self.segments.len());
    }

    /// Syncs the first `segments` segments, which hold everything below `up_to`.
    pub(super) fn flush_up_to(&mut self, now: Now, disk: &mut dyn Disk, up_to: i64, segments: usize) {
        self.flusher.last_flush = now.mono;
        if up_to <= self.recovery_point || self.flusher.covered().is_some_and(|end| end >= up_to) {
            return;
        }
        self.sync_segments(disk, up_to, segments);
    }

    pub(super) fn sync_segments(&mut self, disk: &mut dyn Disk, up_to: i64, segments: usize) {
        // Records whose epoch is in the checkpoint only by an unfinished write are not durable before it is.
        let mut flush = Flush { up_to, tickets: self.flusher.epochs.iter().copied().collect() };
        let Flusher { issued, names_dirty, dir_dirty, .. } = &mut self.flusher;
        let mut issue = |ticket| {
            issued.push(ticket);
            flush.tickets.push(ticket);
        };
        // The segment before the recovery point too: it may have been cut just there.
        let first = self.segments[..segments].partition_point(|s| s.base < self.recovery_point);
        for segment in &mut self.segments[first.saturating_sub(1)..segments] {
            segment.sync(disk, &mut issue);
        }
        if core::mem::take(names_dirty) {
            issue(disk.sync_dir(&self.dir));
        }
        if core::mem::take(dir_dirty) {
            issue(disk.sync_dir(self.dir.rsplit_once('/').map_or("", |(parent, _)| parent)));
        }
        self.flusher.under_way.push_back(flush);
        // Nothing was dirty: then there is nothing to wait for but the flushes before it.
        self.flusher.settle(&mut self.recovery_point);
    }

    /// Whether `flush.messages` or `flush.ms` ask for a flush now. Kafka looks at `flush.ms` every
    /// `log.flush.scheduler.interval.ms` only.
    pub fn flush_needed(&self, now: Now) -> bool {
        let unflushed = self.next_offset - self.recovery_point.max(self.flusher.covered().unwrap_or(0));
        if unflushed <= 0 {
            return false;
        }
        let waited = now.mono.since(self.flusher.last_flush).as_millis();
        unflushed >= self.config.flush_messages
            || i64::try_from(waited).unwrap_or(i64::MAX) >= self.config.flush_ms
    }

    /// Whether a flush is under way that will make everything below `offset` durable.
    pub fn flush_covers(&self, offset: i64) -> bool {
        self.flusher.covered().is_some_and(|end| end >= offset)
    }

    /// The tickets that this log has asked for since the last call.
    pub fn take_tickets(&mut self) -> Vec<Ticket> {
        self.flusher.take_issued()
    }

    /// A ticket of [`Log::take_tickets`] came back.
    pub fn synced(&mut self, ticket: Ticket, result: Result<(), DiskError>) -> Synced {
        if let Some(cleaning) = &mut self.cleaning {
            cleaning.synced(ticket);
        }
        self.flusher.synced(ticket, result, &mut self.recovery_point)
    }

    /// Whether a sync is under way, of the log or of its epochs.
    pub fn flushing(&self) -> bool {
        !self.flusher.idle()
    }
}
