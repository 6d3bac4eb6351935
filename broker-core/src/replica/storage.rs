//! The log directories: loading, creating and deleting logs, checkpoints, failures, and the orderly end.
//!
//! Follows Kafka's `LogManager` and the checkpoints of `ReplicaManager`. The clean-shutdown mark of a directory is
//! written only after everything before it is durable: all logs, then the checkpoints.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use wire::drive::{Instant, Now};
use wire::{Codecs, Uuid};

use super::ReplicaManager;
use super::partition::{Partition, PartitionIx};
use super::session::TopicRef;
use crate::config::{Dynamic, NodeConfig};
use crate::ctx::Ctx;
use crate::disk::{Disk, DiskError, Ticket};
use crate::event::{Event, TopicPartition};
use crate::io::{Output, Outputs};
use crate::log::{LoadState, Log, LogDir, LogError, PartitionDirKind, Synced};
use crate::metadata::{MetadataImage, PartitionRegistration, TopicImage, directory};

/// How far a log directory is on its way to a clean shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    /// Its logs and the high watermark checkpoint are being made durable.
    Closing,
    /// Recovery points and log starts are being written.
    Checkpointing,
    /// The mark is being written.
    Marking,
    Clean,
}

/// One of `log.dirs`.
#[derive(Clone, Debug)]
pub(super) struct Dir {
    path: String,
    id: Uuid,
    /// Absent while it is offline.
    log_dir: Option<LogDir>,
    stage: Stage,
    /// Durability requests under way.
    pending: usize,
    /// The set of logs in it changed since the high watermark checkpoint was written.
    high_watermarks_stale: bool,
    /// `cleaner-offset-checkpoint` as last written by this process.
    cleaned: Vec<(Arc<str>, i32, i64)>,
}

/// A log that was found on the disk and that the metadata has not yet spoken of.
#[derive(Clone, Debug)]
struct Loaded {
    log: Log,
    topic_id: Option<Uuid>,
    dir: usize,
}

/// A log on its way out.
#[derive(Clone, Debug)]
enum Dead {
    Log(Box<Log>),
    Path(String),
}

/// For what a durability request was made.
#[derive(Clone, Debug)]
enum Purpose {
    Log(PartitionIx),
    /// A log that the metadata has not yet spoken of.
    Loaded(Arc<str>, i32),
    /// A partition's `partition.metadata`.
    Creation(PartitionIx),
    Other,
}

/// The log directories and what is in motion in them.
#[derive(Clone, Debug, Default)]
pub(super) struct Storage {
    dirs: Vec<Dir>,
    loaded: BTreeMap<(Arc<str>, i32), Loaded>,
    tickets: BTreeMap<Ticket, (usize, Purpose)>,
    dead: BTreeMap<(Instant, u64), (usize, Dead)>,
    deaths: u64,
    /// Ids of directories that failed, until the node has taken them.
    failed: Vec<Uuid>,
}

impl Storage {
    /// When something that was deleted is to be removed.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.dead.first_key_value().map(|((at, _), _)| *at)
    }
}

impl ReplicaManager {
    /// Loads every log of the directories that could be opened.
    pub(super) fn load(
        &mut self,
        config: &NodeConfig,
        dirs: Vec<LogDir>,
        now: Now,
        disk: &mut dyn Disk,
        codecs: &dyn Codecs,
        out: &mut Outputs,
    ) {
        for path in &config.log_dirs {
            let log_dir = dirs.iter().find(|d| d.path == *path).cloned();
            let id = log_dir.as_ref().and_then(LogDir::directory_id).unwrap_or(Uuid::ZERO);
            let at = self.storage.dirs.len();
            let removed = log_dir.as_ref().and_then(|d| d.mark_removed);
            self.storage.dirs.push(Dir {
                path: path.clone(),
                id,
                log_dir,
                stage: Stage::Open,
                pending: 0,
                high_watermarks_stale: true,
                cleaned: Vec::new(),
            });
            if let Some(ticket) = removed {
                self.register(at, ticket, Purpose::Other);
            }
            if let Err(error) = self.load_dir(at, config, now, disk, codecs, out) {
                let dir = &mut self.storage.dirs[at];
                dir.log_dir = None;
                self.storage.failed.push(dir.id);
                out.event(|| Event::LogDirOffline { dir: path.clone(), why: alloc::format!("{error}") });
            }
        }
    }

    fn load_dir(
        &mut self,
        at: usize,
        config: &NodeConfig,
        now: Now,
        disk: &mut dyn Disk,
        codecs: &dyn Codecs,
        out: &mut Outputs,
    ) -> Result<(), LogError> {
        let Some(log_dir) = self.storage.dirs[at].log_dir.clone() else {
            // It is offline since before the broker started.
            let dir = self.storage.dirs[at].path.clone();
            let why = "it could not be read when the broker started".into();
            out.event(|| Event::LogDirOffline { dir, why });
            return Ok(());
        };
        let log_config = config.log_config(Dynamic::default());
        for found in log_dir.partitions(disk)? {
            match found.kind {
                PartitionDirKind::Current => {}
                PartitionDirKind::Deleted => {
                    let due = now.mono.plus_millis(log_config.file_delete_delay_ms.max(0) as u64);
                    self.bury(at, due, Dead::Path(found.path));
                    continue;
                }
                PartitionDirKind::Future | PartitionDirKind::Stray => continue,
            }
            let state = log_dir.load_state(&found.topic, found.partition);
            let (mut log, recovered) = Log::open(&found.path, log_config.clone(), state, now, disk, codecs)?;
            log.set_cleaned_to(log_dir.cleaner_offset(&found.topic, found.partition));
            for ticket in log.take_tickets() {
                self.register(at, ticket, Purpose::Other);
            }
            let topic: Arc<str> = Arc::from(&*found.topic);
            if recovered.bytes_cut > 0 {
                out.event(|| Event::LogRecovered {
                    partition: TopicPartition { topic: topic.clone(), partition: found.partition },
                    bytes_cut: recovered.bytes_cut,
                    log_end_offset: log.log_end_offset(),
                });
            }
            tell_opened(out, &topic, found.topic_id, found.partition, &log);
            let loaded = Loaded { log, topic_id: found.topic_id, dir: at };
            self.storage.loaded.insert((topic, found.partition), loaded);
        }
        Ok(())
    }

    fn register(&mut self, dir: usize, ticket: Ticket, purpose: Purpose) {
        self.storage.dirs[dir].pending += 1;
        let before = self.storage.tickets.insert(ticket, (dir, purpose));
        assert!(before.is_none(), "a ticket is given out once");
    }

    fn bury(&mut self, dir: usize, due: Instant, dead: Dead) {
        self.storage.deaths += 1;
        self.storage.dead.insert((due, self.storage.deaths), (dir, dead));
    }

    /// Ids of log directories that failed since the last call: the controller must hear of them.
    pub fn take_failed_dirs(&mut self) -> Vec<Uuid> {
        core::mem::take(&mut self.storage.failed)
    }

    /// The metadata is complete as of now: logs that it does not give to this broker are put aside.
    pub fn metadata_caught_up(&mut self, ctx: &mut Ctx<'_>) {
        for ((topic, partition), loaded) in core::mem::take(&mut self.storage.loaded) {
            self.put_aside(ctx, &topic, partition, loaded);
        }
    }

    /// Renames a log's directory to `TOPIC-PARTITION.UUID-stray`: it is no longer of this broker, but nobody said that
    /// it may be deleted.
    fn put_aside(&mut self, ctx: &mut Ctx<'_>, topic: &Arc<str>, partition: i32, loaded: Loaded) {
        let unique = random_uuid(ctx);
        let hex: String = unique.0.iter().map(|byte| alloc::format!("{byte:02x}")).collect();
        let to = alloc::format!("{}.{hex}-stray", loaded.log.dir());
        let text = alloc::format!("{topic}-{partition} is not of this broker and is now {to}");
        if let Err(error) = ctx.disk.rename(loaded.log.dir(), &to) {
            self.log_dir_failed(ctx, loaded.dir, &alloc::format!("{}: {error}", loaded.log.dir()));
            return;
        }
        let ticket = ctx.disk.sync_dir(&self.storage.dirs[loaded.dir].path);
        self.register(loaded.dir, ticket, Purpose::Other);
        ctx.out.event(|| Event::Warning { text });
    }

    // --- creating and deleting

    /// This broker's replica of a partition: the one it has, the one on its disk, or a new one. `None` if its log
    /// directory is offline.
    pub(super) fn replica(
        &mut self,
        ctx: &mut Ctx<'_>,
        image: &MetadataImage,
        topic: &Arc<TopicImage>,
        index: i32,
        registration: &PartitionRegistration,
    ) -> Option<PartitionIx> {
        if let Some(ix) = self.table.find(TopicRef::Id(topic.id), index) {
            return self.table.get(ix).log.is_some().then_some(ix);
        }
        let (log, dir, new) = match self.storage.loaded.remove(&(topic.name.clone(), index)) {
            Some(found) if found.topic_id.is_none_or(|id| id == topic.id) => {
                (found.log, found.dir, found.topic_id.is_none())
            }
            other => {
                // The topic was deleted and made anew while this broker was away.
                if let Some(old) = other {
                    self.put_aside(ctx, &topic.name, index, old);
                }
                let dir = self.dir_for(registration)?;
                (self.create_log(ctx, image, topic, index, dir)?, dir, true)
            }
        };
        let path = String::from(log.dir());
        let ix = self.table.insert(Partition::new(topic.name.clone(), topic.id, index, dir, log));
        self.storage.dirs[dir].high_watermarks_stale = true;
        if new {
            self.table.get_mut(ix).creating = true;
            let ticket = LogDir::write_partition_metadata(ctx.disk, &path, topic.id);
            self.register(dir, ticket, Purpose::Creation(ix));
        }
        self.configure(ctx, image, ix);
        self.after_log_change(ix);
        Some(ix)
    }

    /// The directory that the registration names, or the one with the fewest logs.
    fn dir_for(&self, registration: &PartitionRegistration) -> Option<usize> {
        let assigned = registration.directory_of(self.node_id).unwrap_or(directory::UNASSIGNED);
        let online = || self.storage.dirs.iter().enumerate().filter(|(_, d)| d.log_dir.is_some());
        if !directory::is_reserved(assigned)
            && let Some((at, _)) = online().find(|(_, d)| d.id == assigned)
        {
            return Some(at);
        }
        let any_offline = self.storage.dirs.iter().any(|d| d.log_dir.is_none());
        if any_offline && assigned != directory::UNASSIGNED {
            // It may lie in the directory that is offline.
            return None;
        }
        let logs = |at: usize| self.table.iter().filter(|(_, p)| p.dir == at).count();
        online().min_by_key(|(at, _)| logs(*at)).map(|(at, _)| at)
    }

    fn create_log(
        &mut self,
        ctx: &mut Ctx<'_>,
        image: &MetadataImage,
        topic: &Arc<TopicImage>,
        index: i32,
        dir: usize,
    ) -> Option<Log> {
        let path = alloc::format!("{}/{}-{index}", self.storage.dirs[dir].path, topic.name);
        let config = ctx.config.log_config(Dynamic::of_topic(&image.configs, self.node_id, &topic.name));
        match Log::open(&path, config, LoadState::NEW, ctx.now, ctx.disk, ctx.codecs) {
            Ok((log, _)) => {
                tell_opened(ctx.out, &topic.name, Some(topic.id), index, &log);
                Some(log)
            }
            Err(error) => {
                self.log_dir_failed(ctx, dir, &alloc::format!("{error}"));
                None
            }
        }
    }

    /// Forgets what is registered for a replica that was taken out of the table.
    pub(super) fn forget_log(&mut self, now: Instant, ix: PartitionIx, partition: &Partition) {
        if let Some(due) = partition.log_timer {
            self.log_timers.remove(&(due, ix));
        }
        for (_, purpose) in self.storage.tickets.values_mut() {
            if matches!(purpose, Purpose::Log(of) | Purpose::Creation(of) if *of == ix) {
                *purpose = Purpose::Other;
            }
        }
        self.cleaning_gone(ix, now);
        self.storage.dirs[partition.dir].high_watermarks_stale = true;
    }

    /// Renames a log's directory now and removes it after `file.delete.delay.ms`.
    pub(super) fn delete_log(&mut self, ctx: &mut Ctx<'_>, partition: Partition) {
        let Some(mut log) = partition.log else { return };
        let unique = random_uuid(ctx);
        if let Err(error) = log.rename_for_delete(ctx.disk, unique) {
            return self.log_dir_failed(ctx, partition.dir, &alloc::format!("{error}"));
        }
        for ticket in log.take_tickets() {
            self.register(partition.dir, ticket, Purpose::Other);
        }
        let delay = log.config().file_delete_delay_ms.max(0) as u64;
        self.bury(partition.dir, ctx.now.mono.plus_millis(delay), Dead::Log(Box::new(log)));
    }

    /// Removes what was deleted long enough ago.
    pub(super) fn remove_dead(&mut self, ctx: &mut Ctx<'_>) {
        while let Some(entry) = self.storage.dead.first_entry()
            && entry.key().0 <= ctx.now.mono
        {
            let (dir, dead) = entry.remove();
            if self.storage.dirs[dir].log_dir.is_none() {
                continue;
            }
            let result = match dead {
                Dead::Log(log) => log.delete(ctx.disk).map_err(|e| alloc::format!("{e}")),
                Dead::Path(path) => match ctx.disk.remove(&path) {
                    Ok(()) | Err(DiskError::NotFound) => Ok(()),
                    Err(error) => Err(alloc::format!("{path}: {error}")),
                },
            };
            if let Err(why) = result {
                self.log_dir_failed(ctx, dir, &why);
            }
        }
    }

    // --- durability

    /// A log did something: its durability requests and its timer are registered.
    pub(super) fn after_log_change(&mut self, ix: PartitionIx) {
        let partition = self.table.get_mut(ix);
        let Some(log) = &mut partition.log else { return };
        let end = log.log_end_offset();
        // What an unclean start found is not flushed by anybody, and counts, as in Kafka.
        if end - log.recovery_point() >= log.config().flush_messages && log.flush_covers(end) {
            // The append has begun a flush. Kafka does both under one lock: what was appended counts for nothing before
            // it is durable.
            partition.flush_barrier = Some(end);
        }
        let due = log.deadline();
        let dir = partition.dir;
        if due != partition.log_timer {
            if let Some(old) = core::mem::replace(&mut partition.log_timer, due) {
                self.log_timers.remove(&(old, ix));
            }
            self.log_timers.extend(due.map(|due| (due, ix)));
        }
        for ticket in self.table.get_mut(ix).log_mut().take_tickets() {
            self.register(dir, ticket, Purpose::Log(ix));
        }
    }

    /// A durability request came back. Whether it was one of the replica manager's.
    pub fn synced(
        &mut self,
        ctx: &mut Ctx<'_>,
        image: &MetadataImage,
        ticket: Ticket,
        result: Result<(), DiskError>,
    ) -> bool {
        let Some((dir, purpose)) = self.storage.tickets.remove(&ticket) else { return false };
        self.storage.dirs[dir].pending -= 1;
        if let Err(error) = result {
            self.log_dir_failed(ctx, dir, &alloc::format!("sync failed: {error}"));
        }
        match purpose {
            Purpose::Log(ix) => {
                if let Some(log) = &mut self.table.get_mut(ix).log
                    && let Synced::Flushed { recovery_point } = log.synced(ticket, result)
                {
                    self.flushed(ctx, image, ix, recovery_point);
                }
                self.cleaning_synced(ix, ctx.now.mono);
            }
            Purpose::Loaded(topic, partition) => {
                let key = (topic, partition);
                if let Some(loaded) = self.storage.loaded.get_mut(&key)
                    && let Synced::Flushed { recovery_point: up_to } = loaded.log.synced(ticket, result)
                {
                    let (topic, partition) = key;
                    let partition = TopicPartition { topic, partition };
                    ctx.out.event(|| Event::LogFlushed { partition, up_to });
                }
            }
            Purpose::Creation(ix) => self.table.get_mut(ix).creating = false,
            Purpose::Other => {}
        }
        if !self.purgatory.held.is_empty() {
            self.release_held(ctx, image);
        }
        if !self.state_waiting.is_empty() {
            self.state_durable();
        }
        self.advance_shutdown(ctx, dir);
        self.finish(ctx, image);
        true
    }

    /// All below `recovery_point` is durable.
    fn flushed(&mut self, ctx: &mut Ctx<'_>, image: &MetadataImage, ix: PartitionIx, recovery_point: i64) {
        let partition = self.table.get(ix);
        ctx.out.event(|| Event::LogFlushed { partition: partition.name(), up_to: recovery_point });
        self.after_log_change(ix);
        let partition = self.table.get_mut(ix);
        let Some(barrier) = partition.flush_barrier else { return };
        if recovery_point < barrier {
            return;
        }
        partition.flush_barrier = None;
        if partition.is_leader() {
            self.complete_flushed(ctx, image, ix);
            self.advance_high_watermark(ctx, image, ix);
        } else {
            self.follower_flushed(ix);
        }
    }

    // --- checkpoints

    /// Writes the high watermarks of each directory that has logs, changed or not: a directory to which nobody writes is
    /// seen to have failed by this, as Kafka sees it.
    pub(super) fn checkpoint_high_watermarks(&mut self, ctx: &mut Ctx<'_>) {
        for dir in 0..self.storage.dirs.len() {
            let Some(log_dir) = &self.storage.dirs[dir].log_dir else { continue };
            let logs = self.table.iter().filter(|(_, p)| p.dir == dir && p.log.is_some());
            let waiting = (self.storage.loaded.iter().filter(|(_, l)| l.dir == dir))
                .map(|((topic, partition), l)| (&**topic, *partition, l.log.high_watermark()));
            let entries = logs.map(|(_, p)| (&*p.topic, p.index, p.log().high_watermark())).chain(waiting);
            let mut entries = entries.peekable();
            // What a directory told of logs that it has no more has to go.
            if entries.peek().is_none() && !self.storage.dirs[dir].high_watermarks_stale {
                continue;
            }
            let ticket = log_dir.write_high_watermarks(ctx.disk, entries);
            self.storage.dirs[dir].high_watermarks_stale = false;
            self.register(dir, ticket, Purpose::Other);
        }
    }

    /// Writes the recovery points of one directory.
    pub(super) fn checkpoint_recovery_points(&mut self, ctx: &mut Ctx<'_>, dir: usize) {
        let Some(log_dir) = &self.storage.dirs[dir].log_dir else { return };
        let logs = self.table.iter().filter(|(_, p)| p.dir == dir && p.log.is_some());
        let waiting = (self.storage.loaded.iter().filter(|(_, l)| l.dir == dir))
            .map(|((topic, partition), l)| (&**topic, *partition, l.log.recovery_point()));
        let entries = logs.map(|(_, p)| (&*p.topic, p.index, p.log().recovery_point())).chain(waiting);
        let ticket = log_dir.write_recovery_points(ctx.disk, entries);
        self.register(dir, ticket, Purpose::Other);
    }

    /// Writes the log start offsets of one directory that its segments do not show by themselves.
    pub(super) fn checkpoint_log_starts(&mut self, ctx: &mut Ctx<'_>, dir: usize) {
        let Some(log_dir) = &self.storage.dirs[dir].log_dir else { return };
        let logs =
            self.table.iter().filter(|(_, p)| p.dir == dir).filter_map(|(_, p)| Some((p, p.log.as_ref()?)));
        let waiting = (self.storage.loaded.iter().filter(|(_, l)| l.dir == dir))
            .map(|((topic, partition), l)| (&**topic, *partition, &l.log));
        let entries = logs.map(|(p, log)| (&*p.topic, p.index, log)).chain(waiting);
        let entries = entries.filter(|(_, _, log)| log.log_start_offset() > log.first_segment_base());
        let ticket = log_dir.write_log_starts(
            ctx.disk,
            entries.map(|(topic, index, log)| (topic, index, log.log_start_offset())),
        );
        self.register(dir, ticket, Purpose::Other);
    }

    /// Writes how far the logs of one directory were cleaned, if that changed.
    pub(super) fn checkpoint_cleaned(&mut self, ctx: &mut Ctx<'_>, dir: usize) {
        let logs = self.table.iter().filter(|(_, p)| p.dir == dir);
        let logs = logs.filter_map(|(_, p)| Some((p.topic.clone(), p.index, p.log.as_ref()?.cleaned_to()?)));
        let waiting = (self.storage.loaded.iter().filter(|(_, l)| l.dir == dir))
            .filter_map(|((topic, partition), l)| Some((topic.clone(), *partition, l.log.cleaned_to()?)));
        let entries: Vec<(Arc<str>, i32, i64)> = logs.chain(waiting).collect();
        let state = &mut self.storage.dirs[dir];
        let Some(log_dir) = &state.log_dir else { return };
        if state.cleaned == entries {
            return;
        }
        let told = entries.iter().map(|(topic, index, to)| (&**topic, *index, *to));
        let ticket = log_dir.write_cleaner_offsets(ctx.disk, told);
        state.cleaned = entries;
        self.register(dir, ticket, Purpose::Other);
    }

    pub(super) fn dir_count(&self) -> usize {
        self.storage.dirs.len()
    }

    // --- time

    /// Deletes old segments by size, age and log start; what happens every `log.retention.check.interval.ms`.
    pub(super) fn retain(&mut self, ctx: &mut Ctx<'_>) {
        for ix in self.table.all() {
            // Compacted logs are the cleaner's.
            if self.table.get(ix).log.as_ref().is_some_and(|log| !log.config().compact) {
                self.retain_log(ctx, ix);
            }
        }
    }

    /// Deletes the old segments of one log.
    pub(super) fn retain_log(&mut self, ctx: &mut Ctx<'_>, ix: PartitionIx) {
        let log = self.table.get_mut(ix).log_mut();
        let from = log.log_start_offset();
        let deleted = match log.delete_old_segments(ctx.now, ctx.disk, ctx.codecs) {
            Ok(deleted) => deleted,
            Err(error) => return self.log_failed(ctx, ix, &error),
        };
        if deleted.is_empty() {
            return;
        }
        let to = log.log_start_offset();
        let partition = self.table.get(ix);
        for gone in deleted {
            let why = || Arc::from(alloc::format!("{}", gone.why));
            let count = gone.count as u32;
            ctx.out.event(|| Event::SegmentsDeleted { partition: partition.name(), count, why: why() });
        }
        if from != to {
            ctx.out.event(|| Event::LogStartOffsetAdvanced { partition: partition.name(), from, to });
            self.notify_changed(ix, false);
            self.check_low_watermark(ctx, ix);
        }
        self.after_log_change(ix);
    }

    /// Flushes the logs that `flush.ms` asks to flush; what happens every `log.flush.scheduler.interval.ms`.
    pub(super) fn flush_by_time(&mut self, ctx: &mut Ctx<'_>) {
        for ix in self.table.all() {
            let Some(log) = &mut self.table.get_mut(ix).log else { continue };
            if log.flush_needed(ctx.now) {
                log.flush(ctx.now, ctx.disk);
                self.after_log_change(ix);
            }
        }
    }

    /// Forgets producers that were silent for too long; what happens every `producer.id.expiration.check.interval.ms`.
    pub(super) fn expire_producers(&mut self, ctx: &Ctx<'_>, image: &MetadataImage) {
        let dynamic = Dynamic::of_broker(&image.configs, self.node_id);
        let expiration_ms = ctx.config.node_number(dynamic, "producer.id.expiration.ms");
        for ix in self.table.all() {
            if let Some(log) = &mut self.table.get_mut(ix).log {
                log.expire_producers(ctx.now.wall_ms, expiration_ms);
            }
        }
    }

    /// Logs' own timers: files to remove.
    pub(super) fn log_timers_due(&mut self, ctx: &mut Ctx<'_>) {
        while let Some(&(due, ix)) = self.log_timers.first()
            && due <= ctx.now.mono
        {
            self.log_timers.pop_first();
            let partition = self.table.get_mut(ix);
            partition.log_timer = None;
            let Some(log) = &mut partition.log else { continue };
            if let Err(error) = log.on_timer(ctx.now, ctx.disk) {
                self.log_failed(ctx, ix, &error);
            }
            self.after_log_change(ix);
        }
    }

    // --- failure

    pub(super) fn log_failed(&mut self, ctx: &mut Ctx<'_>, ix: PartitionIx, error: &LogError) {
        let dir = self.table.get(ix).dir;
        self.log_dir_failed(ctx, dir, &alloc::format!("{error}"));
    }

    /// A log directory failed: its replicas are offline until the broker starts again. Without any directory, or
    /// without that of the metadata log, the broker halts.
    pub(super) fn log_dir_failed(&mut self, ctx: &mut Ctx<'_>, at: usize, why: &str) {
        let dir = &mut self.storage.dirs[at];
        if dir.log_dir.take().is_none() {
            return;
        }
        let (path, id) = (dir.path.clone(), dir.id);
        self.storage.failed.push(id);
        self.storage.loaded.retain(|_, l| l.dir != at);
        ctx.out.event(|| Event::LogDirOffline { dir: path.clone(), why: why.into() });
        for ix in self.table.all() {
            if self.table.get(ix).dir != at {
                continue;
            }
            self.stop_fetching(ix);
            let partition = self.table.get_mut(ix);
            partition.log = None;
            partition.leading = None;
            partition.flush_barrier = None;
            if let Some(due) = partition.log_timer.take() {
                self.log_timers.remove(&(due, ix));
            }
            self.cleaning_gone(ix, ctx.now.mono);
            self.offline.push(ix);
        }
        if self.storage.dirs.iter().all(|d| d.log_dir.is_none()) {
            let why = alloc::format!("Shutdown broker because all log dirs have failed: {path}: {why}");
            ctx.out.items.push(Output::Halt { why });
        } else if path == ctx.config.metadata.dir {
            let why = alloc::format!("Shutdown broker because the metadata log dir {path} has failed: {why}");
            ctx.out.items.push(Output::Halt { why });
        }
    }

    // --- the end

    /// Begins the orderly end: fetchers stop, logs are flushed, checkpoints and at last the marks of a clean shutdown
    /// are written, each when what comes before it is durable. [`ReplicaManager::is_shut_down`] says when it is over.
    pub fn shutdown(&mut self, ctx: &mut Ctx<'_>) {
        if core::mem::replace(&mut self.stopping, true) {
            return;
        }
        self.stop_fetchers(ctx);
        self.checkpoint_high_watermarks(ctx);
        for ix in self.table.all() {
            let Some(log) = &mut self.table.get_mut(ix).log else { continue };
            if let Err(error) = log.close(ctx.now, ctx.disk, ctx.codecs) {
                self.log_failed(ctx, ix, &error);
            }
            self.after_log_change(ix);
        }
        self.close_loaded(ctx);
        for dir in 0..self.storage.dirs.len() {
            self.storage.dirs[dir].stage = Stage::Closing;
            self.advance_shutdown(ctx, dir);
        }
    }

    /// Logs of which the metadata has not spoken yet are closed as well: the mark of a clean shutdown speaks for them, too,
    /// and what recovery made of them is not durable by itself.
    fn close_loaded(&mut self, ctx: &mut Ctx<'_>) {
        let keys: Vec<(Arc<str>, i32)> = self.storage.loaded.keys().cloned().collect();
        for key in keys {
            let Some(loaded) = self.storage.loaded.get_mut(&key) else { continue };
            let dir = loaded.dir;
            if let Err(error) = loaded.log.close(ctx.now, ctx.disk, ctx.codecs) {
                self.log_dir_failed(ctx, dir, &alloc::format!("{error}"));
                continue;
            }
            for ticket in loaded.log.take_tickets() {
                self.register(dir, ticket, Purpose::Loaded(key.0.clone(), key.1));
            }
        }
    }

    fn advance_shutdown(&mut self, ctx: &mut Ctx<'_>, dir: usize) {
        while self.storage.dirs[dir].pending == 0 {
            let state = &mut self.storage.dirs[dir];
            let Some(log_dir) = &state.log_dir else { return };
            match state.stage {
                Stage::Open | Stage::Clean => return,
                Stage::Closing => {
                    state.stage = Stage::Checkpointing;
                    self.checkpoint_recovery_points(ctx, dir);
                    self.checkpoint_log_starts(ctx, dir);
                }
                Stage::Checkpointing => {
                    state.stage = Stage::Marking;
                    let ticket = log_dir.mark_clean(ctx.disk, self.broker_epoch);
                    self.register(dir, ticket, Purpose::Other);
                }
                Stage::Marking => state.stage = Stage::Clean,
            }
        }
    }

    /// Whether every directory that is online is marked clean.
    pub fn is_shut_down(&self) -> bool {
        self.stopping && self.storage.dirs.iter().all(|d| d.log_dir.is_none() || d.stage == Stage::Clean)
    }

    // --- looking

    /// Whether every log directory is offline: a broker has nothing to live for then.
    pub fn is_offline(&self) -> bool {
        self.storage.dirs.iter().all(|d| d.log_dir.is_none())
    }

    /// Whether any log directory is offline.
    pub(crate) fn has_offline_dir(&self) -> bool {
        self.storage.dirs.iter().any(|d| d.log_dir.is_none())
    }

    /// For DescribeLogDirs: path, whether it is online, and the position by which replicas name it.
    pub(super) fn log_dirs(&self) -> impl Iterator<Item = (usize, &str, bool)> {
        self.storage.dirs.iter().enumerate().map(|(at, d)| (at, &*d.path, d.log_dir.is_some()))
    }

    /// The id of a log directory; zero if it has none.
    pub(super) fn directory_id(&self, dir: usize) -> Uuid {
        self.storage.dirs[dir].id
    }
}

fn tell_opened(out: &mut Outputs, topic: &Arc<str>, topic_id: Option<Uuid>, partition: i32, log: &Log) {
    out.event(|| Event::LogOpened {
        partition: TopicPartition { topic: topic.clone(), partition },
        topic_id,
        log_start_offset: log.log_start_offset(),
        log_end_offset: log.log_end_offset(),
        epochs: log.epochs().iter().map(|entry| (entry.epoch, entry.start_offset)).collect(),
    });
}

fn random_uuid(ctx: &mut Ctx<'_>) -> Uuid {
    use rand_core::Rng as _;
    let mut bytes = [0; 16];
    ctx.rng.fill_bytes(&mut bytes);
    Uuid::from_random(bytes)
}
