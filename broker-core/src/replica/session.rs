//! What a fetcher wants: fetch sessions (KIP-227), and the requests without one.
//!
//! A [`FetchSet`] is the list of partitions of one fetch session, or of one sessionless request. Kafka walks over all
//! partitions of a session with every request and once more whenever a waiting request may complete. Here a set keeps
//! a list of its *dirty* entries, those whose answer may differ from "nothing new", and partitions tell the sets that
//! watch them what changed. So a fetch costs what changed, not what the session holds.
//!
//! An entry is clean only if a read would find nothing, no error, and the high watermark and log start offset that the
//! peer already knows; for a follower also only if it is in the ISR, since each fetch of one that is not may be the one
//! that brings it back.
//!
//! The cache of sessions follows Kafka's `FetchSessionCache`: 1,000 slots, a new session takes the place of one that
//! was idle for two minutes, or, of those that are old enough, of a less valuable one (consumers before followers, few
//! partitions before many).

use alloc::sync::Arc;
use alloc::vec::Vec;
use hashbrown::HashTable;
use rand_core::Rng as _;
use wire::drive::{Instant, Nanos};
use wire::{ErrorCode, Uuid};

use super::fetch::{FetchOp, Isolation};
use super::hash::{LookupMap, hash_of};
use super::partition::PartitionIx;
use crate::ctx::Rng;

/// A position in [`FetchSets`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SetIx(pub u32);

/// A session may be evicted after it was idle, or has existed, for so long.
const MIN_EVICTION: Nanos = Nanos::from_secs(120);
/// No session.
pub(super) const INVALID_SESSION_ID: i32 = 0;
const INITIAL_EPOCH: i32 = 0;
/// Closes the session and makes no new one.
pub(super) const FINAL_EPOCH: i32 = -1;

/// The epoch that follows in a session: 0 is only ever the first.
pub(super) fn next_epoch(epoch: i32) -> i32 {
    match epoch {
        FINAL_EPOCH => FINAL_EPOCH,
        i32::MAX => 1,
        epoch => epoch + 1,
    }
}

/// How a request names a topic: by id from version 13 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TopicRef<'a> {
    Id(Uuid),
    Name(&'a str),
}

/// [`TopicRef`], kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TopicKey {
    Id(Uuid),
    Name(Arc<str>),
}

impl TopicKey {
    pub(super) fn as_ref(&self) -> TopicRef<'_> {
        match self {
            TopicKey::Id(id) => TopicRef::Id(*id),
            TopicKey::Name(name) => TopicRef::Name(name),
        }
    }
}

impl TopicRef<'_> {
    fn hash_with(&self, partition: i32) -> u64 {
        match self {
            TopicRef::Id(id) => hash_of(&(id.0, partition)),
            TopicRef::Name(name) => hash_of(&(*name, partition)),
        }
    }
}

/// What a fetcher asks of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub partition: i32,
    /// -1: not told.
    pub current_leader_epoch: i32,
    pub fetch_offset: i64,
    /// -1: not told.
    pub last_fetched_epoch: i32,
    /// Of the follower's log; -1 for consumers.
    pub log_start_offset: i64,
    pub max_bytes: i32,
}

/// One partition of a set.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub topic: TopicKey,
    pub wanted: Wanted,
    /// Where the partition is, once it was found. While this is set the partition lists the set among its watchers.
    pub at: Option<PartitionIx>,
    /// The high watermark that the peer was told, -1 for none or after an error.
    pub told_high_watermark: i64,
    /// The log start offset that the peer was told.
    pub told_log_start: i64,
    /// Bytes that were found to wait for it while its request waits.
    pub available: usize,
    /// Bytes that wait for it and that its throttle does not let go.
    pub withheld: usize,
    /// The response that is being made says something of it.
    pub gave: bool,
    dirty: bool,
    /// Partitions are read in this order; one that gave data goes to the end.
    order: u64,
}

/// Who fetches, when it is a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FollowerId {
    pub id: i32,
    pub broker_epoch: i64,
}

/// The partitions of one session or of one sessionless request.
#[derive(Clone, Debug)]
pub(super) struct FetchSet {
    /// [`INVALID_SESSION_ID`] while it is no cached session.
    pub session_id: i32,
    pub uses_topic_ids: bool,
    pub follower: Option<FollowerId>,
    pub isolation: Isolation,
    /// Where its consumer stands, if it said so and the broker wants to know.
    pub rack: Option<Arc<str>>,
    /// Partitions tell it of changes: always for a session, otherwise while a request waits.
    pub watching: bool,
    /// The epoch that its next request must carry.
    pub epoch: i32,
    created_at: Instant,
    last_used_at: Instant,
    /// When its latest request came.
    pub last_fetch_at: Instant,
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    len: usize,
    index: HashTable<u32>,
    dirty: Vec<u32>,
    next_order: u64,
    /// The request that waits for data.
    pub parked: Option<FetchOp>,
    /// Bytes that wait for it, over all entries.
    pub accumulated: usize,
    /// Already queued for completion.
    pub ready: bool,
}

impl FetchSet {
    fn new(now: Instant, uses_topic_ids: bool, follower: Option<FollowerId>) -> FetchSet {
        FetchSet {
            session_id: INVALID_SESSION_ID,
            uses_topic_ids,
            follower,
            isolation: Isolation::default(),
            rack: None,
            watching: false,
            epoch: INITIAL_EPOCH,
            created_at: now,
            last_used_at: now,
            last_fetch_at: now,
            entries: Vec::new(),
            free: Vec::new(),
            len: 0,
            index: HashTable::new(),
            dirty: Vec::new(),
            next_order: 0,
            parked: None,
            accumulated: 0,
            ready: false,
        }
    }

    /// The number of partitions.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn entry(&self, at: u32) -> &Entry {
        self.entries[at as usize].as_ref().expect("a live entry")
    }

    pub(super) fn entry_mut(&mut self, at: u32) -> &mut Entry {
        self.entries[at as usize].as_mut().expect("a live entry")
    }

    /// The entry at a position, if it is live.
    pub(super) fn live_entry(&self, at: u32) -> Option<&Entry> {
        self.entries[at as usize].as_ref()
    }

    /// Entries lie at positions below this.
    pub(super) fn slots(&self) -> u32 {
        self.entries.len() as u32
    }

    pub(super) fn find(&self, topic: TopicRef<'_>, partition: i32) -> Option<u32> {
        let same = |at: &u32| {
            let e = self.entry(*at);
            e.wanted.partition == partition && e.topic.as_ref() == topic
        };
        self.index.find(topic.hash_with(partition), same).copied()
    }

    /// Takes what the request says of a partition; it will be looked at.
    pub(super) fn want(&mut self, topic: TopicRef<'_>, wanted: Wanted, name: impl FnOnce() -> TopicKey) {
        if let Some(at) = self.find(topic, wanted.partition) {
            self.entry_mut(at).wanted = wanted;
            self.mark(at);
            return;
        }
        let entry = Entry {
            topic: name(),
            wanted,
            at: None,
            told_high_watermark: -1,
            told_log_start: -1,
            available: 0,
            withheld: 0,
            gave: false,
            dirty: false,
            order: self.next_order,
        };
        self.next_order += 1;
        let at = match self.free.pop() {
            Some(at) => {
                self.entries[at as usize] = Some(entry);
                at
            }
            None => {
                self.entries.push(Some(entry));
                (self.entries.len() - 1) as u32
            }
        };
        self.len += 1;
        let entries = &self.entries;
        self.index.insert_unique(topic.hash_with(wanted.partition), at, |at| {
            let e = entries[*at as usize].as_ref().expect("a live entry");
            e.topic.as_ref().hash_with(e.wanted.partition)
        });
        self.mark(at);
    }

    /// Drops a partition; returns its entry, for the watcher's sake.
    pub(super) fn forget(&mut self, topic: TopicRef<'_>, partition: i32) -> Option<(u32, Entry)> {
        let at = self.find(topic, partition)?;
        let hash = topic.hash_with(partition);
        self.index.find_entry(hash, |other| *other == at).expect("it was found").remove();
        let entry = self.entries[at as usize].take().expect("a live entry");
        self.free.push(at);
        self.len -= 1;
        if entry.dirty {
            self.dirty.retain(|d| *d != at);
        }
        Some((at, entry))
    }

    /// The entry may have something to tell. Returns whether it was clean until now.
    pub(super) fn mark(&mut self, at: u32) -> bool {
        let entry = self.entries[at as usize].as_mut().expect("a live entry");
        let was_clean = !core::mem::replace(&mut entry.dirty, true);
        if was_clean {
            self.dirty.push(at);
        }
        was_clean
    }

    /// Every entry may have something to tell.
    pub(super) fn mark_all(&mut self) {
        for at in 0..self.entries.len() as u32 {
            if self.entries[at as usize].is_some() {
                self.mark(at);
            }
        }
    }

    pub(super) fn is_dirty(&self, at: u32) -> bool {
        self.entry(at).dirty
    }

    /// The dirty entries in the session's order. They stay dirty until [`FetchSet::clean`].
    pub(super) fn dirty_in_order(&mut self, out: &mut Vec<u32>) {
        let entries = &self.entries;
        let order = |at: &u32| entries[*at as usize].as_ref().map_or(u64::MAX, |e| e.order);
        if !self.dirty.is_sorted_by_key(order) {
            self.dirty.sort_unstable_by_key(order);
        }
        out.extend_from_slice(&self.dirty);
    }

    /// Keeps an entry on the dirty list only if `still` says so.
    pub(super) fn clean(&mut self, mut still: impl FnMut(u32, &mut Entry) -> bool) {
        let FetchSet { entries, dirty, .. } = self;
        dirty.retain(|at| {
            let entry = entries[*at as usize].as_mut().expect("a live entry");
            entry.dirty = still(*at, entry);
            entry.dirty
        });
    }

    /// The entry gave data: the others come first next time.
    pub(super) fn move_to_end(&mut self, at: u32) {
        let order = self.next_order;
        self.next_order += 1;
        self.entry_mut(at).order = order;
    }

    /// Forgets what was counted while a request waited.
    pub(super) fn reset_available(&mut self) {
        self.accumulated = 0;
        for i in 0..self.dirty.len() {
            let at = self.dirty[i];
            let entry = self.entry_mut(at);
            (entry.available, entry.withheld) = (0, 0);
        }
    }
}

/// The session part of a Fetch request.
#[derive(Clone, Copy, Debug)]
pub(super) struct SessionRequest {
    pub session_id: i32,
    pub session_epoch: i32,
    pub uses_topic_ids: bool,
    pub follower: Option<FollowerId>,
}

impl SessionRequest {
    pub(super) fn is_full(&self) -> bool {
        matches!(self.session_epoch, INITIAL_EPOCH | FINAL_EPOCH)
    }
}

/// What a request turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begun {
    /// A request on its own; its set ends with its answer.
    Sessionless(SetIx),
    /// A request that may become a session when it is answered.
    Full(SetIx),
    /// The next request of a session.
    Incremental(SetIx),
    /// The whole request is answered with this.
    Refused(ErrorCode),
}

/// All sets: the cached sessions, and the sessionless requests while they are handled or wait.
#[derive(Clone, Debug)]
pub(super) struct FetchSets {
    sets: Vec<Option<FetchSet>>,
    free: Vec<u32>,
    by_session: LookupMap<i32, SetIx>,
    max_sessions: usize,
}

impl FetchSets {
    pub(super) fn new(max_sessions: usize) -> FetchSets {
        FetchSets { sets: Vec::new(), free: Vec::new(), by_session: LookupMap::default(), max_sessions }
    }

    pub(super) fn get(&self, at: SetIx) -> &FetchSet {
        self.sets[at.0 as usize].as_ref().expect("a live set")
    }

    pub(super) fn get_mut(&mut self, at: SetIx) -> &mut FetchSet {
        self.sets[at.0 as usize].as_mut().expect("a live set")
    }

    /// All live sets, by position.
    pub(super) fn iter(&self) -> impl Iterator<Item = (SetIx, &FetchSet)> {
        self.sets.iter().enumerate().filter_map(|(at, s)| Some((SetIx(at as u32), s.as_ref()?)))
    }

    /// The number of cached sessions.
    pub(super) fn sessions(&self) -> usize {
        self.by_session.len()
    }

    /// Which session a request names, if that session must end or change hands before the request is looked at.
    pub(super) fn session(&self, id: i32) -> Option<SetIx> {
        if id == INVALID_SESSION_ID { None } else { self.by_session.get(&id).copied() }
    }

    /// Finds or makes the set of a request. The caller has removed the session that a full request names.
    pub(super) fn begin(&mut self, now: Instant, request: &SessionRequest) -> Begun {
        if request.is_full() {
            let set = self.add(FetchSet::new(now, request.uses_topic_ids, request.follower));
            return match request.session_epoch {
                FINAL_EPOCH => Begun::Sessionless(set),
                _ => Begun::Full(set),
            };
        }
        let Some(at) = self.session(request.session_id) else {
            return Begun::Refused(ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
        };
        let set = self.get_mut(at);
        if set.epoch != request.session_epoch {
            return Begun::Refused(ErrorCode::INVALID_FETCH_SESSION_EPOCH);
        }
        if set.uses_topic_ids != request.uses_topic_ids {
            return Begun::Refused(ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR);
        }
        set.last_used_at = now;
        set.epoch = next_epoch(set.epoch);
        Begun::Incremental(at)
    }

    /// Makes a session of a full request's set, if the cache has or can make room.
    ///
    /// The session that had to go for it is returned too: it may have a request waiting and is still watched.
    pub(super) fn try_cache(&mut self, at: SetIx, now: Instant, rng: &mut Rng) -> (bool, Option<SetIx>) {
        let (privileged, size) = (self.get(at).follower.is_some(), self.get(at).len());
        let mut evicted = None;
        if self.by_session.len() >= self.max_sessions {
            evicted = self.evictable_for(privileged, size, now);
            match evicted {
                None => return (false, None),
                Some(gone) => self.uncache(gone),
            }
        }
        let id = loop {
            let id = (rng.next_u32() >> 1) as i32;
            if id != INVALID_SESSION_ID && !self.by_session.contains_key(&id) {
                break id;
            }
        };
        self.by_session.insert(id, at);
        let set = self.get_mut(at);
        set.session_id = id;
        set.epoch = next_epoch(INITIAL_EPOCH);
        (set.created_at, set.last_used_at) = (now, now);
        (true, evicted)
    }

    fn evictable_for(&self, privileged: bool, size: usize, now: Instant) -> Option<SetIx> {
        let sessions = || self.iter().filter(|(_, s)| s.session_id != INVALID_SESSION_ID);
        let (oldest, set) = sessions().min_by_key(|(_, s)| (s.last_used_at, s.session_id))?;
        if now.since(set.last_used_at) > MIN_EVICTION {
            return Some(oldest);
        }
        let (at, key) = sessions()
            .filter(|(_, s)| {
                (privileged && s.follower.is_none()) || s.last_used_at.since(s.created_at) > MIN_EVICTION
            })
            .map(|(at, s)| (at, (s.follower.is_some(), s.len(), s.session_id)))
            .min_by_key(|(_, key)| *key)?;
        ((privileged, size, 0) >= key).then_some(at)
    }

    /// Ends a session's life in the cache; its set stays until [`FetchSets::remove`].
    pub(super) fn uncache(&mut self, at: SetIx) {
        let id = core::mem::replace(&mut self.get_mut(at).session_id, INVALID_SESSION_ID);
        if id != INVALID_SESSION_ID {
            self.by_session.remove(&id);
        }
    }

    fn add(&mut self, set: FetchSet) -> SetIx {
        match self.free.pop() {
            Some(at) => {
                self.sets[at as usize] = Some(set);
                SetIx(at)
            }
            None => {
                self.sets.push(Some(set));
                SetIx((self.sets.len() - 1) as u32)
            }
        }
    }

    /// Drops a set that nobody watches for any more.
    pub(super) fn remove(&mut self, at: SetIx) -> FetchSet {
        self.uncache(at);
        self.free.push(at.0);
        self.sets[at.0 as usize].take().expect("a live set")
    }
}
