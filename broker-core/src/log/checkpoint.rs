//! Kafka's small text files: checkpoints, `meta.properties`, `partition.metadata`, the mark of a clean shutdown.
//!
//! Functions of bytes and text only; [`LogDir`](super::LogDir) and [`Log`](super::Log) read and write the files, whole,
//! through `Disk::replace`.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use wire::Uuid;

use super::epoch_cache::EpochEntry;

/// In each log's directory.
pub const LEADER_EPOCHS: &str = "leader-epoch-checkpoint";
/// In each log's directory.
pub const PARTITION_METADATA: &str = "partition.metadata";
/// In each log directory: all below is synced.
pub const RECOVERY_POINTS: &str = "recovery-point-offset-checkpoint";
/// In each log directory: high watermarks.
pub const HIGH_WATERMARKS: &str = "replication-offset-checkpoint";
/// In each log directory: log start offsets above the first segment's base.
pub const LOG_STARTS: &str = "log-start-offset-checkpoint";
/// In each log directory: how far each log was cleaned.
pub const CLEANER_OFFSETS: &str = "cleaner-offset-checkpoint";
/// In each log directory.
pub const META_PROPERTIES: &str = "meta.properties";
/// In each log directory, after a clean stop.
pub const CLEAN_SHUTDOWN: &str = ".kafka_cleanshutdown";

/// Why a checkpoint is not what Kafka writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// It is not UTF-8.
    #[error("not UTF-8")]
    Encoding,
    /// The first line is not the version 0.
    #[error("unrecognized version of the checkpoint")]
    Version,
    /// An entry is not of its form, or their number differs from the second line.
    #[error("malformed line in checkpoint")]
    Malformed,
}

impl From<CheckpointError> for String {
    fn from(error: CheckpointError) -> String {
        alloc::format!("{error}")
    }
}

/// The lines behind version and count. An empty file has none.
fn entries(bytes: &[u8]) -> Result<Vec<&str>, CheckpointError> {
    let text = core::str::from_utf8(bytes).map_err(|_| CheckpointError::Encoding)?;
    let mut lines = text.lines();
    match lines.next() {
        None => return Ok(Vec::new()),
        Some(version) if version.trim() == "0" => {}
        Some(_) => return Err(CheckpointError::Version),
    }
    let count: usize =
        lines.next().and_then(|line| line.trim().parse().ok()).ok_or(CheckpointError::Malformed)?;
    let entries: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    if entries.len() == count { Ok(entries) } else { Err(CheckpointError::Malformed) }
}

fn text(count: usize, mut each: impl FnMut(&mut String)) -> String {
    let mut text = alloc::format!("0\n{count}\n");
    each(&mut text);
    text
}

/// Parses `leader-epoch-checkpoint`.
pub fn parse_epochs(bytes: &[u8]) -> Result<Vec<EpochEntry>, CheckpointError> {
    let parse = |line: &str| {
        let (epoch, start) = line.split_once(' ')?;
        let entry = EpochEntry { epoch: epoch.parse().ok()?, start_offset: start.trim().parse().ok()? };
        (entry.epoch >= 0 && entry.start_offset >= 0).then_some(entry)
    };
    entries(bytes)?.into_iter().map(|line| parse(line).ok_or(CheckpointError::Malformed)).collect()
}

/// The text of `leader-epoch-checkpoint`.
pub fn epochs_text(epochs: &[EpochEntry]) -> String {
    text(epochs.len(), |text| {
        for entry in epochs {
            writeln!(text, "{} {}", entry.epoch, entry.start_offset).expect("writing to a string");
        }
    })
}

/// Offsets of partitions, by topic and partition.
pub type Offsets = BTreeMap<(String, i32), i64>;

/// Parses one of the checkpoints of offsets.
pub fn parse_offsets(bytes: &[u8]) -> Result<Offsets, CheckpointError> {
    let parse = |line: &str| {
        let mut words = line.split_whitespace();
        let (topic, partition, offset) =
            (words.next()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        words.next().is_none().then(|| ((String::from(topic), partition), offset))
    };
    entries(bytes)?.into_iter().map(|line| parse(line).ok_or(CheckpointError::Malformed)).collect()
}

/// The text of one of the checkpoints of offsets.
pub fn offsets_text<'a>(offsets: impl Iterator<Item = (&'a str, i32, i64)>) -> String {
    let mut lines = String::new();
    let mut count = 0;
    for (topic, partition, offset) in offsets {
        writeln!(lines, "{topic} {partition} {offset}").expect("writing to a string");
        count += 1;
    }
    text(count, |text| text.push_str(&lines))
}

/// Parses `partition.metadata`: the topic's id.
pub fn parse_partition_metadata(bytes: &[u8]) -> Result<Uuid, CheckpointError> {
    let text = core::str::from_utf8(bytes).map_err(|_| CheckpointError::Encoding)?;
    let mut lines = text.lines();
    if lines.next().and_then(|line| line.strip_prefix("version:")).map(str::trim) != Some("0") {
        return Err(CheckpointError::Version);
    }
    let id = lines.next().and_then(|line| line.strip_prefix("topic_id:")).map(str::trim);
    id.and_then(Uuid::parse).filter(|id| !id.is_zero()).ok_or(CheckpointError::Malformed)
}

/// The text of `partition.metadata`.
pub fn partition_metadata_text(topic_id: Uuid) -> String {
    alloc::format!("version: 0\ntopic_id: {topic_id}")
}

/// The text of `.kafka_cleanshutdown`; -1 where no broker epoch is known (a controller).
pub fn clean_shutdown_text(broker_epoch: i64) -> String {
    alloc::format!("{{\"version\":0,\"brokerEpoch\":{broker_epoch}}}")
}

/// The broker epoch in `.kafka_cleanshutdown`. The file of 3.x is empty: the stop was clean, the epoch is unknown.
pub fn parse_clean_shutdown(bytes: &[u8]) -> Option<i64> {
    let text = core::str::from_utf8(bytes).ok()?;
    let (_, after) = text.split_once("\"brokerEpoch\"")?;
    let value = after.trim_start().strip_prefix(':')?.trim_start();
    let end = value.find(|c: char| c != '-' && !c.is_ascii_digit()).unwrap_or(value.len());
    value[..end].parse().ok()
}

/// Parses Java properties, as far as Kafka's files need it: `key=value` lines, `#` and `!` comments, escapes.
pub fn parse_properties(bytes: &[u8]) -> Result<BTreeMap<String, String>, CheckpointError> {
    let text = core::str::from_utf8(bytes).map_err(|_| CheckpointError::Encoding)?;
    let mut properties = BTreeMap::new();
    for line in text.lines().map(str::trim_start) {
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let split = line.char_indices().scan(false, |escaped, (i, c)| {
            let ends = !*escaped && matches!(c, '=' | ':' | ' ' | '\t');
            *escaped = c == '\\' && !*escaped;
            Some((i, ends))
        });
        let end = split.filter(|&(_, ends)| ends).map(|(i, _)| i).next().unwrap_or(line.len());
        let value = line[end..].trim_start();
        let value = value.strip_prefix(['=', ':']).unwrap_or(value).trim_start();
        properties.insert(unescape(&line[..end]), unescape(value));
    }
    Ok(properties)
}

fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let next = if c == '\\' { chars.next() } else { Some(c) };
        plain.extend(next);
    }
    plain
}

/// The text of `meta.properties` (version 1).
pub fn meta_properties_text(cluster_id: &str, node_id: i32, directory_id: Uuid) -> String {
    alloc::format!(
        "#\nnode.id={node_id}\ndirectory.id={directory_id}\nversion=1\ncluster.id={}\n",
        cluster_id.replace('\\', "\\\\").replace('=', "\\=").replace(':', "\\:")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec;

    #[test]
    fn epochs_round_trip_as_kafka_writes_them() {
        let golden = b"0\n2\n2 3\n5 224\n";
        let entries = parse_epochs(golden).unwrap();
        assert_eq!(entries[1], EpochEntry { epoch: 5, start_offset: 224 });
        assert_eq!(epochs_text(&entries).as_bytes(), golden);
        assert_eq!(parse_epochs(b"").unwrap(), vec![]);
        for (bad, why) in [
            (&b"1\n0\n"[..], CheckpointError::Version),
            (b"0\n", CheckpointError::Malformed),
            (b"0\n2\n1 2\n", CheckpointError::Malformed),
            (b"0\n1\n1\n", CheckpointError::Malformed),
            (b"0\n1\n-1 5\n", CheckpointError::Malformed),
            (b"0\n1\n\xff 5\n", CheckpointError::Encoding),
        ] {
            assert_eq!(parse_epochs(bad), Err(why));
        }
    }

    #[test]
    fn offsets_round_trip_as_kafka_writes_them() {
        let golden = b"0\n2\n__consumer_offsets 11 1680\npurchases 0 672\n";
        let offsets = parse_offsets(golden).unwrap();
        assert_eq!(offsets[&("purchases".to_string(), 0)], 672);
        let text =
            offsets_text(offsets.iter().map(|((topic, partition), &at)| (topic.as_str(), *partition, at)));
        assert_eq!(text.as_bytes(), golden);
        assert_eq!(parse_offsets(b"0\n1\na 0 1 2\n"), Err(CheckpointError::Malformed));
    }

    #[test]
    fn metadata_files() {
        let golden = b"version: 0\ntopic_id: A4KVwXePTNqMm_FxtPoFyw";
        let id = parse_partition_metadata(golden).unwrap();
        assert_eq!(partition_metadata_text(id).as_bytes(), golden);
        assert_eq!(parse_partition_metadata(b"version: 1\n"), Err(CheckpointError::Version));

        assert_eq!(parse_clean_shutdown(b"{\"version\":0,\"brokerEpoch\":714}"), Some(714));
        assert_eq!(parse_clean_shutdown(clean_shutdown_text(-1).as_bytes()), Some(-1));
        assert_eq!(parse_clean_shutdown(b""), None);

        let kafkas = b"#\n#Fri Nov 20 21:24:03 UTC 2026\nnode.id=1\ndirectory.id=wsvgy2wu-yYpHLVo713HPQ\nversion=1\ncluster.id=a\\=b\n";
        let properties = parse_properties(kafkas).unwrap();
        assert_eq!(properties["node.id"], "1");
        assert_eq!(properties["cluster.id"], "a=b");
        let directory = Uuid::parse(&properties["directory.id"]).unwrap();
        assert_eq!(
            parse_properties(meta_properties_text("a=b", 1, directory).as_bytes()).unwrap(),
            properties
        );
    }
}
