//! Segments and metadata snapshots.

use alloc::format;
use alloc::string::String;
use core::fmt::Write;
use wire::Rope;
use wire::batch::{Batch, BatchError, BatchHeader, Batches, ControlRecordType, Record, TimestampType};
use wire::codec::Reader;
use wire::schema::SCHEMAS;
use wire::schema::json;

use super::{Fatal, Tool, base_offset, note};

/// A batch is never decompressed to more than this.
const DECOMPRESSED_LIMIT: usize = 100 << 20;

impl Tool<'_> {
    pub(super) fn dump_log(&mut self, path: &str, name: &str) -> Result<(), Fatal> {
        if name.ends_with(".log") {
            let start = base_offset(name)?;
            self.line(&format!("Log starting offset: {start}"));
        } else if name == "bootstrap.checkpoint" {
            self.line("KRaft bootstrap snapshot");
        } else {
            let (offset, epoch) = snapshot_id(name)
                .ok_or_else(|| Fatal("java.util.NoSuchElementException: No value present".into()))?;
            self.line(&format!("Snapshot end offset: {offset}, epoch: {epoch}"));
        }
        let whole = self.open(path)?;
        let content = Rope::from(whole.slice(..whole.len().min(self.options.max_bytes)));
        let mut position = 0;
        // So that a segment that does not begin at 0 is told as well, as Kafka 4.3 does.
        let mut last_offset = -1;
        let mut batches = Batches::new(&content);
        for batch in &mut batches {
            let batch = batch.map_err(|error| not_a_batch(error, &whole[position..], path))?;
            self.print_batch(&batch, position);
            if self.options.deep_iteration {
                self.print_records(path, &batch, &mut last_offset)?;
            }
            position += batch.bytes.len();
        }
        let trailing = batches.trailing();
        if trailing > 0 && self.options.max_bytes == i32::MAX as usize {
            self.line(&format!("Found {trailing} invalid bytes at the end of {name}"));
        }
        Ok(())
    }

    fn print_batch(&mut self, batch: &Batch, position: usize) {
        let h = &batch.header;
        let horizon = match h.delete_horizon() {
            Some(at) => format!("OptionalLong[{at}]"),
            None => "OptionalLong.empty".into(),
        };
        let codec = h.compression().map_or("unknown", |codec| codec.name());
        self.line(&format!(
            "baseOffset: {} lastOffset: {} count: {} baseSequence: {} lastSequence: {} producerId: {} producerEpoch: {} \
             partitionLeaderEpoch: {} isTransactional: {} isControl: {} deleteHorizonMs: {horizon} position: {position} \
             {}: {} size: {} magic: {} compresscodec: {codec} crc: {} isvalid: {}",
            h.base_offset,
            h.last_offset(),
            h.record_count,
            h.base_sequence,
            h.last_sequence(),
            h.producer_id,
            h.producer_epoch,
            h.partition_leader_epoch,
            h.is_transactional(),
            h.is_control(),
            h.timestamp_type().name(),
            h.max_timestamp,
            h.size_in_bytes(),
            h.magic,
            h.crc,
            batch.check_crc(self.codecs).is_ok()
        ));
    }

    fn print_records(&mut self, path: &str, batch: &Batch, last_offset: &mut i64) -> Result<(), Fatal> {
        let records =
            batch.records(self.codecs, DECOMPRESSED_LIMIT).map_err(|error| unreadable(error, path))?;
        for record in &records {
            let record = record.map_err(|error| unreadable(error, path))?;
            if record.offset != *last_offset + 1 {
                note(&mut self.findings.non_consecutive, path, (*last_offset, record.offset));
            }
            *last_offset = record.offset;
            let line = self.record_text(&batch.header, &record);
            self.line(&line);
        }
        Ok(())
    }

    fn record_text(&self, header: &BatchHeader, record: &Record<'_>) -> String {
        let mut line = String::new();
        let mut prefix = "| ";
        if !self.options.skip_record_metadata {
            metadata_text(&mut line, header.timestamp_type(), record);
            prefix = " ";
            if header.is_control() {
                line.push_str(&control_text(record));
            }
        }
        if self.options.print_data_log && !header.is_control() {
            let text = self.options.decoder.text(record);
            if let Some(key) = text.key {
                let _ = write!(line, "{prefix}key: {key}");
            }
            if let Some(payload) = text.payload {
                let _ = write!(line, " payload: {payload}");
            }
        }
        line
    }
}

fn metadata_text(line: &mut String, timestamp_type: TimestampType, record: &Record<'_>) {
    let size = |bytes: Option<&[u8]>| bytes.map_or(-1, |bytes| bytes.len() as i64);
    let _ = write!(
        line,
        "| offset: {} {}: {} keySize: {} valueSize: {} sequence: {} headerKeys: [",
        record.offset,
        timestamp_type.name(),
        record.timestamp,
        size(record.key),
        size(record.value),
        record.sequence
    );
    for (i, header) in record.headers.enumerate() {
        let _ = write!(line, "{}{}", if i > 0 { "," } else { "" }, header.key);
    }
    line.push(']');
}

/// What a control record says: the marker of a transaction, or a message of the quorum as JSON.
fn control_text(record: &Record<'_>) -> String {
    let (key, value) = (record.key.unwrap_or_default(), record.value.unwrap_or_default());
    let kind = ControlRecordType::parse_key(key).unwrap_or(ControlRecordType::Unknown(-1));
    let (label, message) = match kind {
        ControlRecordType::Abort | ControlRecordType::Commit => {
            let name = if kind == ControlRecordType::Abort { "ABORT" } else { "COMMIT" };
            let epoch =
                value.get(2..6).map_or(-1, |four| i32::from_be_bytes(four.try_into().expect("four bytes")));
            return format!(" endTxnMarker: {name} coordinatorEpoch: {epoch}");
        }
        ControlRecordType::LeaderChange => ("LeaderChange:", "LeaderChangeMessage"),
        ControlRecordType::SnapshotHeader => ("SnapshotHeader", "SnapshotHeaderRecord"),
        ControlRecordType::SnapshotFooter => ("SnapshotFooter", "SnapshotFooterRecord"),
        ControlRecordType::KRaftVersion => ("KRaftVersion", "KRaftVersionRecord"),
        ControlRecordType::KRaftVoters => ("KRaftVoters", "VotersRecord"),
        ControlRecordType::Unknown(id) => return format!(" controlType: UNKNOWN({id})"),
    };
    let schema = SCHEMAS.iter().find(|s| s.name == message).expect("a schema of this project");
    let mut reader = Reader::from_slice(value);
    let version = reader.clone().i16().unwrap_or(-1).min(schema.versions.max);
    match json::write(schema, version, &mut reader, &mut |_, _| None) {
        Ok(json) => format!(" {label} {json}"),
        Err(error) => format!(" {label} {error}"),
    }
}

/// `00000000000000000120-0000000003.checkpoint` → 120, 3.
fn snapshot_id(name: &str) -> Option<(i64, i32)> {
    let (offset, epoch) = name.strip_suffix(".checkpoint")?.split_once('-')?;
    Some((offset.parse().ok()?, epoch.parse().ok()?))
}

/// Kafka looks at the size first: what is preallocated and was never written has none.
fn not_a_batch(error: BatchError, rest: &[u8], path: &str) -> Fatal {
    let size = rest.get(8..12).map(|four| i32::from_be_bytes(four.try_into().expect("four bytes")));
    match size.filter(|&size| size < 14) {
        Some(size) => Fatal(format!(
            "{CORRUPT}: Found record size {size} smaller than minimum record overhead (14) in file {path}."
        )),
        None => unreadable(error, path),
    }
}

const CORRUPT: &str = "org.apache.kafka.common.errors.CorruptRecordException";

pub(super) fn unreadable(error: BatchError, path: &str) -> Fatal {
    Fatal(format!("{CORRUPT}: {error} in file {path}."))
}
