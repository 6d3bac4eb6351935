//! The timeline in Kafka's words: which domain events a class is told, and how.
//!
//! Most events are not told: appends and watermarks go on all the time. What is told is who leads, who is in sync,
//! who is alive, what was cut off, and why.

use broker_core::event::{ChangeReason, Event, FenceReason, GroupAssignment, PartitionState};
use client::ClientEvent;
use client::event::TransactionEnd;
use reports::Tone;

/// A line of the timeline: what happened, and its tone. `None` for what is not told.
pub fn node_event(event: &Event) -> Option<(String, Tone)> {
    let told = |text: String, tone| Some((text, tone));
    match event {
        Event::Started { clean } => told(
            format!("started after {} shutdown", if *clean { "a clean" } else { "an unclean" }),
            Tone::Plain,
        ),
        Event::LogRecovered { partition, bytes_cut, log_end_offset } if *bytes_cut > 0 => told(
            format!("{partition}: {bytes_cut} torn bytes cut off, log end offset {log_end_offset}"),
            Tone::Bad,
        ),
        Event::ControlledShutdownStarted => told("controlled shutdown begins".to_owned(), Tone::Plain),
        Event::ControlledShutdownCompleted { granted: true } => {
            told("controlled shutdown done, leadership moved".to_owned(), Tone::Good)
        }
        Event::ControlledShutdownCompleted { granted: false } => {
            told("controlled shutdown gave up waiting".to_owned(), Tone::Bad)
        }
        Event::LogDirOffline { dir, why } => {
            told(format!("log directory {dir} is offline: {why}"), Tone::Bad)
        }
        Event::ConnectionRefused { peer, why } => {
            told(format!("closed the connection of {peer}: {why}"), Tone::Bad)
        }
        Event::ElectionWon { epoch, granting, .. } => {
            told(format!("elected quorum leader in epoch {epoch} by {}", ids(granting)), Tone::Good)
        }
        Event::LeaderResigned { epoch, why } => {
            told(format!("resigns as quorum leader of epoch {epoch}: {why}"), Tone::Bad)
        }
        Event::MetadataTruncated { from, to } => {
            told(format!("metadata log cut from {from} to {to}"), Tone::Bad)
        }
        Event::VotersChanged { voters, leads: true, .. } => {
            told(format!("the quorum's voters are {} from here on", ids(voters)), Tone::Plain)
        }
        Event::SnapshotLoaded { end_offset, .. } => {
            told(format!("loaded the metadata snapshot up to {end_offset}"), Tone::Plain)
        }
        Event::ControllerActivated { epoch } => {
            told(format!("is the active controller, epoch {epoch}"), Tone::Good)
        }
        Event::ControllerResigned { epoch } => {
            told(format!("is no longer the active controller of epoch {epoch}"), Tone::Bad)
        }
        Event::BrokerFenced { broker, reason } => {
            told(format!("broker-{broker} fenced: {}", fence_reason(*reason)), Tone::Bad)
        }
        Event::BrokerUnfenced { broker } => told(format!("broker-{broker} unfenced"), Tone::Good),
        Event::BrokerInControlledShutdown { broker } => {
            told(format!("broker-{broker} is in controlled shutdown"), Tone::Plain)
        }
        Event::TopicCreated { topic, partitions, .. } => {
            told(format!("created topic {topic} with {partitions} partitions"), Tone::Plain)
        }
        Event::TopicDeleted { topic, .. } => told(format!("deleted topic {topic}"), Tone::Plain),
        Event::PartitionChanged { partition, before: Some(before), after, reason } => {
            partition_change(&partition.to_string(), before, after, *reason)
        }
        // Those of the coordinators' topics come with the topics.
        Event::ConfigChanged { resource, .. } if resource.starts_with("topic __") => None,
        Event::ConfigChanged { resource, name, value } => {
            told(format!("{resource}: {name}={}", value.as_deref().unwrap_or("(removed)")), Tone::Plain)
        }
        Event::LogTruncated { partition, from, to, high_watermark } => {
            let below = if to < high_watermark {
                format!(", below its high watermark {high_watermark}")
            } else {
                String::new()
            };
            told(format!("{partition}: log truncated from {from} to {to}{below}"), Tone::Bad)
        }
        // Each follower meets what befell a log directory in each of its partitions; the directory's own line tells it.
        Event::FetchFailed { error, .. } if error == "KAFKA_STORAGE_ERROR" => None,
        Event::FetchFailed { partition, error } => {
            told(format!("{partition}: fetch from the leader failed: {error}"), Tone::Bad)
        }
        Event::GroupStateChanged { group, to, generation, .. } => {
            told(format!("group {group}: {to}, generation {generation}"), Tone::Plain)
        }
        Event::GroupMemberJoined { group, client_id, .. } => {
            told(format!("group {group}: {client_id} joins"), Tone::Plain)
        }
        Event::GroupMemberLeft { group, member, why } => {
            told(format!("group {group}: {} is out: {why}", member_name(member)), Tone::Bad)
        }
        Event::GroupAssigned { group, generation, members } => {
            let of = |m: &GroupAssignment| format!("{} has {}", m.client_id, partitions(&m.partitions));
            let all: Vec<String> = members.iter().map(of).collect();
            told(format!("group {group}, generation {generation}: {}", all.join("; ")), Tone::Good)
        }
        Event::GroupDeleted { group } => told(format!("deleted group {group}"), Tone::Plain),
        Event::TransactionStateChanged { transactional_id: id, to, .. } => match *to {
            "CompleteCommit" => told(format!("transaction of {id}: committed"), Tone::Good),
            "CompleteAbort" => told(format!("transaction of {id}: aborted"), Tone::Bad),
            _ => None,
        },
        Event::SegmentsDeleted { partition, count, why } if !partition.topic.starts_with("__") => {
            let segments = if *count == 1 { "segment" } else { "segments" };
            told(format!("{partition}: {count} {segments} deleted: {why}"), Tone::Plain)
        }
        Event::LogCleaned { partition, first_dirty, bytes_before, bytes_after }
            if !partition.topic.starts_with("__") =>
        {
            let text =
                format!("{partition}: compacted up to {first_dirty}, {bytes_before} bytes -> {bytes_after}");
            told(text, Tone::Plain)
        }
        Event::ClientThrottled { client_id, quota, throttle_ms } => {
            told(format!("client {client_id} exceeds its {quota}, throttled for {throttle_ms} ms"), Tone::Bad)
        }
        Event::Warning { text } => told(text.clone(), Tone::Bad),
        _ => None,
    }
}

/// A member's id without the part that nobody can remember: it begins with the `client.id`.
fn member_name(member: &str) -> &str {
    const UUID: usize = 36;
    let name = member.len().checked_sub(UUID + 1).and_then(|end| member.get(..end));
    name.filter(|name| !name.is_empty()).unwrap_or(member)
}

fn partitions<P: ToString>(all: &[P]) -> String {
    if all.is_empty() {
        "nothing".to_owned()
    } else {
        all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
}

fn fence_reason(reason: FenceReason) -> &'static str {
    match reason {
        FenceReason::SessionExpired => "its session expired",
        FenceReason::Requested => "it has just registered",
        FenceReason::ShutDown => "its shutdown is complete",
    }
}

fn change_reason(reason: ChangeReason) -> &'static str {
    match reason {
        ChangeReason::Created => "created",
        ChangeReason::BrokerFenced => "broker fenced",
        ChangeReason::BrokerUnfenced => "broker unfenced",
        ChangeReason::ControlledShutdown => "controlled shutdown",
        ChangeReason::BrokerRegistered => "broker registered again",
        ChangeReason::AlterPartition => "asked for by the leader",
        ChangeReason::PreferredElection => "preferred election",
        ChangeReason::UncleanElection => "unclean election",
        ChangeReason::Reassignment => "reassignment",
        ChangeReason::ConfigChange => "configuration changed",
        ChangeReason::LogDirFailure => "log directory failed",
        ChangeReason::DirectoryAssigned => "a log directory was assigned",
    }
}

/// The topic and the reason, if this is a change of a partition of a coordinators' topic.
pub fn internal_change(event: &Event) -> Option<(String, &'static str)> {
    match event {
        Event::PartitionChanged { partition, before: Some(_), reason, .. }
            if partition.topic.starts_with("__") && *reason != ChangeReason::DirectoryAssigned =>
        {
            Some((partition.topic.to_string(), change_reason(*reason)))
        }
        _ => None,
    }
}

/// What changed of a partition, what did not is left out.
fn partition_change(
    name: &str,
    before: &PartitionState,
    after: &PartitionState,
    reason: ChangeReason,
) -> Option<(String, Tone)> {
    let mut parts = Vec::new();
    if before.leader != after.leader || before.leader_epoch != after.leader_epoch {
        parts.push(format!(
            "leader {} -> {} in epoch {}",
            leader(before.leader),
            leader(after.leader),
            after.leader_epoch
        ));
    }
    let mut list = |what: &str, a: &[i32], b: &[i32]| {
        let (mut x, mut y) = (a.to_vec(), b.to_vec());
        x.sort_unstable();
        y.sort_unstable();
        if x != y {
            parts.push(format!("{what} {} -> {}", ids(&x), ids(&y)));
        }
    };
    list("ISR", &before.isr, &after.isr);
    list("ELR", &before.elr, &after.elr);
    list("last known ELR", &before.last_known_elr, &after.last_known_elr);
    if before.replicas != after.replicas {
        parts.push(format!("replicas {} -> {}", ids(&before.replicas), ids(&after.replicas)));
    }
    if parts.is_empty() {
        return None;
    }
    let worse = after.leader < 0 || after.isr.len() < before.isr.len();
    Some((
        format!("{name}: {} ({})", parts.join(", "), change_reason(reason)),
        if worse { Tone::Bad } else { Tone::Good },
    ))
}

fn leader(id: i32) -> String {
    if id < 0 { "none".to_owned() } else { id.to_string() }
}

/// Ids as Kafka lists them.
pub fn ids(all: &[i32]) -> String {
    if all.is_empty() {
        "none".to_owned()
    } else {
        all.iter().map(i32::to_string).collect::<Vec<_>>().join(",")
    }
}

/// A line of the timeline for a client's event.
pub fn client_event(event: &ClientEvent) -> Option<(String, Tone)> {
    match event {
        ClientEvent::ConsumerFailed { error, message } | ClientEvent::ProducerFailed { error, message } => {
            Some((format!("failed: {error}: {message}"), Tone::Bad))
        }
        ClientEvent::PositionReset { partition, from: Some(from), to, reason } => {
            Some((format!("{partition}: position {from} -> {to} ({})", position_reason(*reason)), Tone::Bad))
        }
        ClientEvent::PartitionsLost { partitions: lost, .. } if !lost.is_empty() => {
            Some((format!("lost {}: the group went on without it", partitions(lost)), Tone::Bad))
        }
        ClientEvent::TransactionEnded { number, end: TransactionEnd::Indefinite, .. } => {
            Some((format!("transaction {number}: no answer tells whether it was committed"), Tone::Bad))
        }
        ClientEvent::CommitFailed { error, .. } => Some((format!("commit failed: {error}"), Tone::Bad)),
        ClientEvent::Warning { text } => Some((text.clone(), Tone::Bad)),
        _ => None,
    }
}

fn position_reason(reason: client::ResetReason) -> &'static str {
    match reason {
        client::ResetReason::Start => "start",
        client::ResetReason::Committed => "the committed offset",
        client::ResetReason::OutOfRange => "offset out of range",
        client::ResetReason::Truncation => "the log was truncated",
    }
}

/// The name of an event that an expectation may ask for, and its partition. Appends and watermarks are too many to keep.
pub fn named(event: &Event) -> Option<(&'static str, Option<String>)> {
    let at = |p: &broker_core::event::TopicPartition| Some(p.to_string());
    Some(match event {
        Event::Started { .. } => ("Started", None),
        Event::LogRecovered { partition, .. } => ("LogRecovered", at(partition)),
        Event::ControlledShutdownStarted => ("ControlledShutdownStarted", None),
        Event::ControlledShutdownCompleted { .. } => ("ControlledShutdownCompleted", None),
        Event::ConnectionRefused { .. } => ("ConnectionRefused", None),
        Event::LogDirOffline { .. } => ("LogDirOffline", None),
        Event::RaftRoleChanged { .. } => ("RaftRoleChanged", None),
        Event::ElectionWon { .. } => ("ElectionWon", None),
        Event::VoteGranted { .. } => ("VoteGranted", None),
        Event::LeaderResigned { .. } => ("LeaderResigned", None),
        Event::MetadataTruncated { .. } => ("MetadataTruncated", None),
        Event::VotersChanged { .. } => ("VotersChanged", None),
        Event::SnapshotWritten { .. } => ("SnapshotWritten", None),
        Event::SnapshotLoaded { .. } => ("SnapshotLoaded", None),
        Event::ControllerActivated { .. } => ("ControllerActivated", None),
        Event::ControllerResigned { .. } => ("ControllerResigned", None),
        Event::BrokerRegistered { .. } => ("BrokerRegistered", None),
        Event::BrokerFenced { .. } => ("BrokerFenced", None),
        Event::BrokerUnfenced { .. } => ("BrokerUnfenced", None),
        Event::BrokerInControlledShutdown { .. } => ("BrokerInControlledShutdown", None),
        Event::TopicCreated { .. } => ("TopicCreated", None),
        Event::TopicDeleted { .. } => ("TopicDeleted", None),
        Event::PartitionChanged { partition, .. } => ("PartitionChanged", at(partition)),
        Event::ConfigChanged { .. } => ("ConfigChanged", None),
        Event::BecameLeader { partition, .. } => ("BecameLeader", at(partition)),
        Event::BecameFollower { partition, .. } => ("BecameFollower", at(partition)),
        Event::IsrShrunk { partition, .. } => ("IsrShrunk", at(partition)),
        Event::IsrExpanded { partition, .. } => ("IsrExpanded", at(partition)),
        Event::LogTruncated { partition, .. } => ("LogTruncated", at(partition)),
        Event::LogStartOffsetAdvanced { partition, .. } => ("LogStartOffsetAdvanced", at(partition)),
        Event::SegmentRolled { partition, .. } => ("SegmentRolled", at(partition)),
        Event::FetchFailed { partition, .. } => ("FetchFailed", at(partition)),
        Event::ProduceRefused { partition, .. } => ("ProduceRefused", at(partition)),
        Event::ClientThrottled { .. } => ("ClientThrottled", None),
        Event::Warning { .. } => ("Warning", None),
        Event::CoordinatorLoaded { partition, .. } => ("CoordinatorLoaded", at(partition)),
        Event::CoordinatorUnloaded { partition } => ("CoordinatorUnloaded", at(partition)),
        Event::GroupStateChanged { .. } => ("GroupStateChanged", None),
        Event::GroupMemberJoined { .. } => ("GroupMemberJoined", None),
        Event::GroupMemberLeft { .. } => ("GroupMemberLeft", None),
        Event::GroupAssigned { .. } => ("GroupAssigned", None),
        Event::OffsetsRemoved { .. } => ("OffsetsRemoved", None),
        Event::GroupDeleted { .. } => ("GroupDeleted", None),
        Event::TransactionStateChanged { .. } => ("TransactionStateChanged", None),
        Event::TransactionMarkerAppended { partition, .. } => ("TransactionMarkerAppended", at(partition)),
        Event::SegmentsDeleted { partition, .. } => ("SegmentsDeleted", at(partition)),
        Event::LogCleaningBegan { partition, .. } => ("LogCleaningBegan", at(partition)),
        Event::LogCleaned { partition, .. } => ("LogCleaned", at(partition)),
        Event::MetadataAppended { .. }
        | Event::OffsetsCommitted { .. }
        | Event::MetadataCommitted { .. }
        | Event::RecordsAppended { .. }
        | Event::LogOpened { .. }
        | Event::LogFlushed { .. }
        | Event::HighWatermarkAdvanced { .. } => return None,
    })
}
