//! The log cleaner: which compacted log is cleaned next, and how fast.
//!
//! Follows Kafka's `LogCleaner` and `LogCleanerManager`: every `log.cleaner.backoff.ms` it takes the log with the largest
//! share of dirty bytes among those above `min.cleanable.dirty.ratio` or beyond `max.compaction.lag.ms`, and goes on
//! until there is none. How far a log was cleaned stands in `cleaner-offset-checkpoint` of its directory.
//!
//! It is one worker, however many `log.cleaner.threads` there are: these only divide the dedupe buffer. A step reads
//! `log.cleaner.io.buffer.size` bytes; steps are a millisecond apart, or as `log.cleaner.io.max.bytes.per.second` says.

use alloc::collections::BTreeSet;

use wire::Uuid;
use wire::drive::{Instant, Nanos};

use super::ReplicaManager;
use super::partition::PartitionIx;
use crate::config::{Dynamic, NodeConfig};
use crate::ctx::Ctx;
use crate::event::Event;
use crate::log::{Cleaned, CleaningStep, CleaningTerms, Dirtiness, LogError};
use crate::metadata::MetadataImage;

const STEP: Nanos = Nanos(1_000_000);

/// The cleaner of a broker.
#[derive(Clone, Debug, Default)]
pub(super) struct LogCleaner {
    /// When it does something; never, while a pass waits for the disk or the cleaner is off.
    pub next: Option<Instant>,
    /// Whose log is being cleaned.
    job: Option<PartitionIx>,
    /// Logs in which the cleaner met damage, by topic and partition: it leaves them alone.
    uncleanable: BTreeSet<([u8; 16], i32)>,
}

impl LogCleaner {
    pub fn new(now: Instant, config: &NodeConfig) -> LogCleaner {
        let enabled = config.node_flag(Dynamic::default(), "log.cleaner.enable");
        LogCleaner { next: enabled.then(|| now + backoff(config, Dynamic::default())), ..Default::default() }
    }
}

fn backoff(config: &NodeConfig, dynamic: Dynamic<'_>) -> Nanos {
    super::millis(config.node_number(dynamic, "log.cleaner.backoff.ms").max(1))
}

/// What the settings in force allow a pass.
fn terms(config: &NodeConfig, dynamic: Dynamic<'_>) -> CleaningTerms {
    let number = |name: &str| u64::try_from(config.node_number(dynamic, name)).unwrap_or(0);
    let dedupe_bytes = number("log.cleaner.dedupe.buffer.size") / number("log.cleaner.threads").max(1);
    let fill = config.node_millionths(dynamic, "log.cleaner.io.buffer.load.factor").clamp(0, 1_000_000);
    let step_bytes = number("log.cleaner.io.buffer.size") as usize;
    CleaningTerms { step_bytes, dedupe_bytes, fill: fill as u64 }
}

/// How long it takes to read so much.
fn pace(config: &NodeConfig, dynamic: Dynamic<'_>, bytes: usize) -> Nanos {
    let limit = config.node_millionths(dynamic, "log.cleaner.io.max.bytes.per.second");
    if limit <= 0 || limit == i64::MAX {
        return STEP;
    }
    let nanos = bytes as u128 * 1_000_000_000_000_000 / limit as u128;
    Nanos(u64::try_from(nanos).unwrap_or(u64::MAX / 2).max(STEP.0))
}

impl ReplicaManager {
    /// The cleaner's time has come.
    pub(super) fn clean(&mut self, ctx: &mut Ctx<'_>, image: &MetadataImage) {
        let now = ctx.now.mono;
        if self.cleaner.next.is_none_or(|next| next > now) {
            return;
        }
        let dynamic = Dynamic::of_broker(&image.configs, self.node_id);
        if self.cleaner.job.is_none() {
            self.cleaner.job = self.begin_cleaning(ctx, dynamic);
        }
        self.cleaner.next = match self.cleaner.job {
            Some(ix) => self.cleaning_step(ctx, dynamic, ix),
            None => Some(now + backoff(ctx.config, dynamic)),
        };
    }

    /// A sync of a log has ended: a pass that waited for it goes on.
    pub(super) fn cleaning_synced(&mut self, ix: PartitionIx, now: Instant) {
        if self.cleaner.job == Some(ix) && self.cleaner.next.is_none() {
            let waits =
                self.table.try_get(ix).and_then(|p| p.log.as_ref()).is_some_and(|l| l.cleaning_waits());
            self.cleaner.next = (!waits).then_some(now);
        }
    }

    /// A replica is gone, or its log is: so is the pass over it.
    pub(super) fn cleaning_gone(&mut self, ix: PartitionIx, now: Instant) {
        if self.cleaner.job == Some(ix) {
            self.cleaner.job = None;
            self.cleaner.next = Some(now);
        }
    }

    /// Deletes old segments of compacted logs, and begins a pass over the one that needs it most.
    fn begin_cleaning(&mut self, ctx: &mut Ctx<'_>, dynamic: Dynamic<'_>) -> Option<PartitionIx> {
        (0..self.dir_count()).for_each(|dir| self.checkpoint_cleaned(ctx, dir));
        let mut filthiest: Option<(PartitionIx, Dirtiness)> = None;
        for ix in self.table.all() {
            let partition = self.table.get(ix);
            let id = (partition.topic_id.0, partition.index);
            if !partition.log.as_ref().is_some_and(|log| log.config().compact) {
                continue;
            }
            self.retain_log(ctx, ix);
            let Some(log) = &mut self.table.get_mut(ix).log else { continue };
            if self.cleaner.uncleanable.contains(&id) {
                continue;
            }
            match log.dirtiness(ctx.now.wall_ms, ctx.disk) {
                Ok(Some(dirt)) if dirt.due => {
                    if filthiest.is_none_or(|(_, most)| dirt.ratio > most.ratio) {
                        filthiest = Some((ix, dirt));
                    }
                }
                Ok(_) => {}
                Err(error) => self.cleaning_failed(ctx, ix, &error),
            }
        }
        let (ix, dirt) = filthiest?;
        let partition = self.table.get_mut(ix);
        ctx.out.event(|| Event::LogCleaningBegan { partition: partition.name(), up_to: dirt.end });
        partition.log_mut().begin_cleaning(ctx.now.wall_ms, &dirt, terms(ctx.config, dynamic));
        Some(ix)
    }

    /// One step, and when the next one is.
    fn cleaning_step(&mut self, ctx: &mut Ctx<'_>, dynamic: Dynamic<'_>, ix: PartitionIx) -> Option<Instant> {
        let now = ctx.now.mono;
        let log = self.table.try_get_mut(ix).and_then(|partition| partition.log.as_mut());
        let step = match log {
            Some(log) => log.clean_step(ctx.now, ctx.disk, ctx.codecs),
            None => Ok(CleaningStep::Ended),
        };
        match step {
            Ok(CleaningStep::Worked(bytes)) => {
                self.after_log_change(ix);
                Some(now + pace(ctx.config, dynamic, bytes))
            }
            Ok(CleaningStep::Waiting) => {
                self.after_log_change(ix);
                None
            }
            Ok(CleaningStep::Done(cleaned)) => {
                self.cleaner.job = None;
                self.cleaning_done(ctx, ix, cleaned);
                Some(now + STEP)
            }
            Ok(CleaningStep::Ended) => {
                self.cleaner.job = None;
                Some(now + backoff(ctx.config, dynamic))
            }
            Err(error) => {
                self.cleaner.job = None;
                self.cleaning_failed(ctx, ix, &error);
                Some(now + STEP)
            }
        }
    }

    fn cleaning_done(&mut self, ctx: &mut Ctx<'_>, ix: PartitionIx, cleaned: Cleaned) {
        self.after_log_change(ix);
        let partition = self.table.get(ix);
        let dir = partition.dir;
        let Cleaned { first_dirty, bytes_before, bytes_after } = cleaned;
        ctx.out.event(|| Event::LogCleaned {
            partition: partition.name(),
            first_dirty,
            bytes_before,
            bytes_after,
        });
        self.checkpoint_cleaned(ctx, dir);
    }

    /// A disk that fails takes the log directory offline; a log that is damaged is left alone from now on.
    fn cleaning_failed(&mut self, ctx: &mut Ctx<'_>, ix: PartitionIx, error: &LogError) {
        if let LogError::Disk { .. } = error {
            return self.log_failed(ctx, ix, error);
        }
        let partition = self.table.get(ix);
        let Uuid(id) = partition.topic_id;
        self.cleaner.uncleanable.insert((id, partition.index));
        let name = partition.name();
        ctx.out.event(|| Event::Warning {
            text: alloc::format!(
                "Unexpected exception thrown when cleaning log {}-{}. Marking its partition as uncleanable: {error}",
                name.topic,
                name.partition
            ),
        });
        self.after_log_change(ix);
    }
}
