//! Everything that matters in a node, as one closed enum.
//!
//! Checkers, reports, the terminal view and metrics read these, never log lines. Names and words are Kafka's.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use smallvec::SmallVec;
pub use wire::{TopicPartition, Uuid};

/// A batch that lies in a log, as much of it as tells whether two logs hold the same.
///
/// The CRC covers all bytes of a batch but its base offset and leader epoch, which stand here beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchMark {
    /// The offset of its first record.
    pub base_offset: i64,
    /// The offset of its last record.
    pub last_offset: i64,
    /// The leader epoch (of a partition or of the quorum) in which it was appended first.
    pub epoch: i32,
    /// Its size in bytes, header included.
    pub size: u32,
    /// Its CRC-32C.
    pub crc: u32,
    /// Who produced it; -1 for nobody in particular.
    pub producer_id: i64,
    /// The producer's epoch.
    pub producer_epoch: i16,
    /// The sequence number of its first record; -1 where it has none, as markers of transactions.
    pub sequence: i32,
}

impl From<&wire::batch::BatchHeader> for BatchMark {
    fn from(header: &wire::batch::BatchHeader) -> BatchMark {
        BatchMark {
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            epoch: header.partition_leader_epoch,
            size: header.size_in_bytes() as u32,
            crc: header.crc,
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            sequence: header.base_sequence,
        }
    }
}

/// The batches of one append: nearly always one or two.
pub type BatchMarks = SmallVec<[BatchMark; 2]>;

/// The state of a voter or observer of the quorum (KIP-595, KIP-996).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RaftRole {
    /// Knows no leader of its epoch.
    Unattached,
    /// Asks whether it would win (pre-vote).
    Prospective,
    /// Asks for votes in a new epoch.
    Candidate,
    /// Leads the epoch.
    Leader,
    /// Follows the epoch's leader.
    Follower,
    /// Gave up leadership of the epoch.
    Resigned,
}

/// Why a broker is no longer, or again, served with leadership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FenceReason {
    /// No heartbeat for `broker.session.timeout.ms`.
    SessionExpired,
    /// It asked for it, or has just registered.
    Requested,
    /// Its shutdown is complete.
    ShutDown,
}

/// Why a partition's leader, ISR or epoch changed on the controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChangeReason {
    /// The topic or partition was made.
    Created,
    /// A broker was fenced.
    BrokerFenced,
    /// A broker was unfenced.
    BrokerUnfenced,
    /// A broker shuts down in an orderly way.
    ControlledShutdown,
    /// A broker registered again (with a clean or an unclean shutdown behind it).
    BrokerRegistered,
    /// The leader asked for it with AlterPartition.
    AlterPartition,
    /// ElectLeaders, or the periodic preferred election.
    PreferredElection,
    /// ElectLeaders with type unclean, or the periodic unclean election.
    UncleanElection,
    /// A reassignment began, went on or ended.
    Reassignment,
    /// A configuration changed.
    ConfigChange,
    /// A log directory failed.
    LogDirFailure,
    /// A broker told in which of its log directories a replica lies.
    DirectoryAssigned,
}

/// The leadership and in-sync set of a partition, as committed by the controller.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionState {
    /// The leader's id, -1 for none.
    pub leader: i32,
    /// Raised with each leader change.
    pub leader_epoch: i32,
    /// Raised with each change.
    pub partition_epoch: i32,
    /// In assignment order.
    pub replicas: Vec<i32>,
    /// In sync.
    pub isr: Vec<i32>,
    /// Eligible leader replicas (KIP-966).
    pub elr: Vec<i32>,
    /// Last known eligible leader replicas.
    pub last_known_elr: Vec<i32>,
}

/// What a member of a group owns.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupAssignment {
    /// The member's id.
    pub member: Arc<str>,
    /// Its `client.id`.
    pub client_id: Arc<str>,
    /// What it owns.
    pub partitions: Vec<TopicPartition>,
}

/// A domain fact. The driver knows which node it came from and when.
#[derive(Clone, Debug, PartialEq, Eq, strum::IntoStaticStr, strum::VariantNames)]
pub enum Event {
    // --- the node
    /// The node read its disk and listens.
    Started {
        /// Whether the log directories had clean-shutdown marks.
        clean: bool,
    },
    /// A segment's tail did not pass validation and was cut when the log was opened.
    LogRecovered {
        /// The log.
        partition: TopicPartition,
        /// Bytes removed.
        bytes_cut: u64,
        /// The log end offset after it.
        log_end_offset: i64,
    },
    /// A log was opened: one that lay on the disk when the node started, or a new one.
    LogOpened {
        /// The log.
        partition: TopicPartition,
        /// Of which of the topics that had this name one after the other, if its directory says so.
        topic_id: Option<Uuid>,
        /// The first offset that may be read.
        log_start_offset: i64,
        /// The log end offset, after recovery.
        log_end_offset: i64,
        /// Its leader epochs with the offsets at which they start, ascending.
        epochs: Vec<(i32, i64)>,
    },
    /// Everything below an offset is durable, as far as the node knows: its recovery point moved on.
    LogFlushed {
        /// The log.
        partition: TopicPartition,
        /// The recovery point.
        up_to: i64,
    },
    /// Controlled shutdown began.
    ControlledShutdownStarted,
    /// Controlled shutdown ended: all leadership is moved, or the time was up.
    ControlledShutdownCompleted {
        /// Whether the controller said that the broker may go.
        granted: bool,
    },
    /// A connection was closed because of what came over it.
    ConnectionRefused {
        /// The peer.
        peer: String,
        /// In words.
        why: String,
    },
    /// A log directory failed and is offline.
    LogDirOffline {
        /// Its path.
        dir: String,
        /// In words.
        why: String,
    },

    // --- the quorum
    /// The raft state machine changed its state.
    RaftRoleChanged {
        /// The new role.
        role: RaftRole,
        /// The epoch.
        epoch: i32,
        /// The leader, if known.
        leader: Option<i32>,
    },
    /// This node won the epoch's election.
    ElectionWon {
        /// The epoch.
        epoch: i32,
        /// Who voted for it, itself included.
        granting: Vec<i32>,
        /// The log end offset at which the epoch starts.
        start_offset: i64,
    },
    /// This node granted its vote.
    VoteGranted {
        /// The epoch.
        epoch: i32,
        /// To whom.
        candidate: i32,
        /// Whether it was only a pre-vote.
        pre_vote: bool,
    },
    /// The quorum leader resigned because a majority stopped fetching (check-quorum), or on shutdown.
    LeaderResigned {
        /// The epoch.
        epoch: i32,
        /// In words.
        why: String,
    },
    /// The metadata log's high watermark moved on.
    MetadataCommitted {
        /// The new high watermark.
        high_watermark: i64,
    },
    /// Batches were appended to this node's metadata log.
    MetadataAppended {
        /// What was appended, for checkers that compare nodes.
        batches: BatchMarks,
    },
    /// The metadata log's tail was cut.
    MetadataTruncated {
        /// The log end offset before.
        from: i64,
        /// The log end offset after.
        to: i64,
    },
    /// The voters of the quorum, as this node's metadata log has them, are others than before.
    VotersChanged {
        /// Where the log says so; -1 if a snapshot does with which the disk was formatted, or the configuration.
        offset: i64,
        /// Their ids, ascending.
        voters: Vec<i32>,
        /// Whether this node leads the quorum, and so wrote it itself.
        leads: bool,
    },
    /// A snapshot of the metadata was written.
    SnapshotWritten {
        /// It contains all below this offset.
        end_offset: i64,
        /// The epoch of its last record.
        epoch: i32,
    },
    /// A snapshot of the metadata was loaded.
    SnapshotLoaded {
        /// It contains all below this offset.
        end_offset: i64,
        /// The epoch of its last record.
        epoch: i32,
    },

    // --- the controller
    /// This node is the active controller.
    ControllerActivated {
        /// Its epoch.
        epoch: i32,
    },
    /// This node is no longer the active controller.
    ControllerResigned {
        /// The epoch in which it was.
        epoch: i32,
    },
    /// A broker registered.
    BrokerRegistered {
        /// The broker.
        broker: i32,
        /// Its new epoch: the offset of the registration record.
        broker_epoch: i64,
        /// Whether the shutdown before it was clean.
        clean: bool,
    },
    /// A broker was fenced.
    BrokerFenced {
        /// The broker.
        broker: i32,
        /// Why.
        reason: FenceReason,
    },
    /// A broker was unfenced.
    BrokerUnfenced {
        /// The broker.
        broker: i32,
    },
    /// A broker's controlled shutdown was accepted.
    BrokerInControlledShutdown {
        /// The broker.
        broker: i32,
    },
    /// A topic was made.
    TopicCreated {
        /// Its name.
        topic: Arc<str>,
        /// Its id.
        topic_id: Uuid,
        /// How many partitions it has.
        partitions: i32,
    },
    /// A topic was deleted.
    TopicDeleted {
        /// Its name.
        topic: Arc<str>,
        /// Its id.
        topic_id: Uuid,
    },
    /// A partition's leader, ISR, ELR or replicas changed, and the change is committed.
    PartitionChanged {
        /// The partition.
        partition: TopicPartition,
        /// Before; absent when it is new.
        before: Option<PartitionState>,
        /// After.
        after: PartitionState,
        /// Why.
        reason: ChangeReason,
    },
    /// A dynamic configuration was set (`Some`) or removed.
    ConfigChanged {
        /// `topic purchases`, `broker 1`, `broker default`.
        resource: String,
        /// The setting.
        name: String,
        /// The new value.
        value: Option<String>,
    },

    // --- replicas
    /// This broker leads a partition.
    BecameLeader {
        /// The partition.
        partition: TopicPartition,
        /// The leader epoch.
        epoch: i32,
        /// The log end offset at which the epoch starts.
        start_offset: i64,
        /// Its high watermark at that moment.
        high_watermark: i64,
    },
    /// This broker follows a partition's leader.
    BecameFollower {
        /// The partition.
        partition: TopicPartition,
        /// The leader epoch.
        epoch: i32,
        /// The leader, -1 for none.
        leader: i32,
        /// Its log end offset.
        log_end_offset: i64,
    },
    /// The leader's ISR got smaller (the change is committed).
    IsrShrunk {
        /// The partition.
        partition: TopicPartition,
        /// Before.
        from: Vec<i32>,
        /// After.
        to: Vec<i32>,
    },
    /// The leader's ISR got larger (the change is committed).
    IsrExpanded {
        /// The partition.
        partition: TopicPartition,
        /// Before.
        from: Vec<i32>,
        /// After.
        to: Vec<i32>,
    },
    /// Records were appended.
    RecordsAppended {
        /// The partition.
        partition: TopicPartition,
        /// The first offset.
        base_offset: i64,
        /// The log end offset after it.
        log_end_offset: i64,
        /// The leader epoch of the last batch.
        epoch: i32,
        /// Whether as leader (else as follower).
        as_leader: bool,
        /// What was appended, for checkers that compare replicas.
        batches: BatchMarks,
    },
    /// A replica's high watermark moved on (or, on a follower, back).
    HighWatermarkAdvanced {
        /// The partition.
        partition: TopicPartition,
        /// Before.
        from: i64,
        /// After.
        to: i64,
        /// Whether this replica leads.
        as_leader: bool,
    },
    /// A replica cut its log's tail to agree with its leader.
    LogTruncated {
        /// The partition.
        partition: TopicPartition,
        /// The log end offset before.
        from: i64,
        /// The log end offset after.
        to: i64,
        /// The local high watermark before.
        high_watermark: i64,
    },
    /// The first offset of a log moved on.
    LogStartOffsetAdvanced {
        /// The partition.
        partition: TopicPartition,
        /// Before.
        from: i64,
        /// After.
        to: i64,
    },
    /// A segment was rolled.
    SegmentRolled {
        /// The partition.
        partition: TopicPartition,
        /// The base offset of the new segment.
        base_offset: i64,
    },
    /// A fetch from the leader failed; the partition waits or gives up until new metadata comes.
    FetchFailed {
        /// The partition.
        partition: TopicPartition,
        /// Kafka's name of the error.
        error: String,
    },
    /// A produce request was refused.
    ProduceRefused {
        /// The partition.
        partition: TopicPartition,
        /// Kafka's name of the error.
        error: String,
    },
    // --- coordinators
    /// This broker read a partition of `__consumer_offsets` or `__transaction_state`, and answers for what lies there.
    CoordinatorLoaded {
        /// The partition.
        partition: TopicPartition,
        /// The leader epoch: the coordinator's epoch.
        epoch: i32,
    },
    /// This broker does not answer any more for what lies in a partition of a coordinator's topic.
    CoordinatorUnloaded {
        /// The partition.
        partition: TopicPartition,
    },
    /// A group changed its state.
    GroupStateChanged {
        /// The group.
        group: Arc<str>,
        /// Kafka's name of the state before, for example `PreparingRebalance`; `None` when the group is new.
        from: Option<&'static str>,
        /// Kafka's name of the state after.
        to: &'static str,
        /// The generation (classic) or group epoch (KIP-848).
        generation: i32,
    },
    /// A member joined a group.
    GroupMemberJoined {
        /// The group.
        group: Arc<str>,
        /// Its id.
        member: Arc<str>,
        /// Its `client.id`.
        client_id: Arc<str>,
        /// Its `group.instance.id`.
        instance: Option<Arc<str>>,
    },
    /// A member left a group or was removed from it.
    GroupMemberLeft {
        /// The group.
        group: Arc<str>,
        /// Its id.
        member: Arc<str>,
        /// In Kafka's words, for example `session expired`.
        why: Arc<str>,
    },
    /// What the members of a group own in a generation (classic: its leader's assignment is committed; KIP-848: what
    /// members reported or were told to own changed).
    GroupAssigned {
        /// The group.
        group: Arc<str>,
        /// The generation or group epoch.
        generation: i32,
        /// Each member's id, `client.id` and partitions.
        members: Vec<GroupAssignment>,
    },
    /// Offsets of a group were committed.
    OffsetsCommitted {
        /// The group.
        group: Arc<str>,
        /// The offsets, each the next to be read.
        offsets: Vec<(TopicPartition, i64)>,
    },
    /// Offsets of a group were deleted or have expired.
    OffsetsRemoved {
        /// The group.
        group: Arc<str>,
        /// Of which partitions.
        partitions: Vec<TopicPartition>,
    },
    /// A group was deleted.
    GroupDeleted {
        /// The group.
        group: Arc<str>,
    },
    /// A transactional id changed its state, and the change is committed.
    TransactionStateChanged {
        /// The transactional id.
        transactional_id: Arc<str>,
        /// Its producer id.
        producer_id: i64,
        /// Its producer epoch.
        producer_epoch: i16,
        /// Kafka's name of the state before, for example `Ongoing`; `None` when the id is new.
        from: Option<&'static str>,
        /// Kafka's name of the state after.
        to: &'static str,
    },
    /// The marker that ends a transaction was appended to a partition.
    TransactionMarkerAppended {
        /// The partition.
        partition: TopicPartition,
        /// The producer id.
        producer_id: i64,
        /// The producer epoch.
        producer_epoch: i16,
        /// Whether it commits (else aborts).
        commit: bool,
        /// Its offset.
        offset: i64,
    },

    // --- retention
    /// Segments were deleted.
    SegmentsDeleted {
        /// The partition.
        partition: TopicPartition,
        /// How many.
        count: u32,
        /// In Kafka's words, for example `retention time 60000ms breach`.
        why: Arc<str>,
    },
    /// A pass of the cleaner begins: from now on segments below `up_to` may be replaced by cleaned ones, one after the other.
    LogCleaningBegan {
        /// The partition.
        partition: TopicPartition,
        /// The end of what may be cleaned.
        up_to: i64,
    },
    /// A log was compacted.
    LogCleaned {
        /// The partition.
        partition: TopicPartition,
        /// The first offset that is dirty from now on.
        first_dirty: i64,
        /// Bytes before.
        bytes_before: u64,
        /// Bytes after.
        bytes_after: u64,
    },
    /// A client went over a quota and was told to wait, for the first time since it has that quota.
    ClientThrottled {
        /// Its `client.id`.
        client_id: Arc<str>,
        /// The quota, for example `producer_byte_rate`.
        quota: &'static str,
        /// How long it has to wait.
        throttle_ms: u64,
    },
    /// Anything that Kafka logs as a warning or an error and that no other event says.
    Warning {
        /// In words.
        text: String,
    },
}

impl Event {
    /// The replica or partition that a broker speaks of; what controllers commit of one is not meant.
    pub fn replica(&self) -> Option<&TopicPartition> {
        match self {
            Event::LogRecovered { partition, .. }
            | Event::LogOpened { partition, .. }
            | Event::LogFlushed { partition, .. }
            | Event::BecameLeader { partition, .. }
            | Event::BecameFollower { partition, .. }
            | Event::IsrShrunk { partition, .. }
            | Event::IsrExpanded { partition, .. }
            | Event::RecordsAppended { partition, .. }
            | Event::HighWatermarkAdvanced { partition, .. }
            | Event::LogTruncated { partition, .. }
            | Event::LogStartOffsetAdvanced { partition, .. }
            | Event::SegmentRolled { partition, .. }
            | Event::FetchFailed { partition, .. }
            | Event::ProduceRefused { partition, .. }
            | Event::TransactionMarkerAppended { partition, .. }
            | Event::SegmentsDeleted { partition, .. }
            | Event::LogCleaningBegan { partition, .. }
            | Event::LogCleaned { partition, .. } => Some(partition),
            _ => None,
        }
    }
}
