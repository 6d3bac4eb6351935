//! What the quorum writes, beside what Apache Kafka 4.3.1 wrote.

use alloc::string::ToString;
use alloc::vec::Vec;
use codecs::StdCodecs;
use wire::Uuid;
use wire::batch::{Batches, ControlRecord, control_batch};
use wire::records::MetadataRecord;

use super::super::format::{
    FormatOptions, activation_records, default_bootstrap_records, format, read_bootstrap,
};
use super::super::records::{Content, leader_change, read_batches};
use super::super::snapshot::build;
use crate::disk::Disk;
use crate::testing::MemDisk;

/// `bootstrap.checkpoint` of a controller, formatted by `kafka-storage`.
const BOOTSTRAP: &str = "\
    0000000000000000000000470000000002a80269f4002000000000000001a1fad85c87000001a1fad85c87ffffffffffffffffffffff\
    ffffff000000012a0000000800000003160000000000000000000000000000000000000001000000f10000000002690fc75700000000\
    0005000001a1fad85c96000001a1fad85c96ffffffffffffffffffffffffffff000000063a000000012e010c00116d65746164617461\
    2e76657273696f6e001e00005a000002014e010c0021656c696769626c652e6c65616465722e7265706c696361732e76657273696f6e\
    00010000340000040128010c000e67726f75702e76657273696f6e00010000340000060128010c000e73686172652e76657273696f6e\
    0001000038000008012c010c001073747265616d732e76657273696f6e000100004000000a0134010c00147472616e73616374696f6e\
    2e76657273696f6e0002000000000000000000070000003f0000000002ef115e4f002000000000000001a1fad85c96000001a1fad85c\
    96ffffffffffffffffffffffffffff000000011a00000008000000040600000000";

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |c: u8| (c as char).to_digit(16).unwrap() as u8;
    hex.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

#[test]
fn bootstrap_records_are_written_as_kafka_writes_them() {
    let kafkas = bytes(BOOTSTRAP);
    // Kafka looks at its clock once more between the header and the records.
    let (header_ms, records_ms) = (0x1a1_fad8_5c87, 0x1a1_fad8_5c96);
    let header = build(&StdCodecs, 0, header_ms, 0, None, &[]).swap_remove(0);
    let rest = build(&StdCodecs, 0, records_ms, 0, None, &default_bootstrap_records()).split_off(1);
    let ours = [&header[..], &rest.concat()].concat();
    assert_eq!(ours, kafkas);
}

#[test]
fn the_first_append_is_kafkas() {
    let records = activation_records(&default_bootstrap_records(), "1");
    let names: Vec<_> = records.iter().map(MetadataRecord::name).collect();
    let feature = "FeatureLevelRecord";
    let want = [
        "BeginTransactionRecord",
        feature,
        feature,
        feature,
        feature,
        feature,
        feature,
        "ConfigRecord",
        "EndTransactionRecord",
    ];
    assert_eq!(names, want);
    // The batch at offsets 1 to 9 of a new cluster has 330 bytes.
    let mut accumulator = super::super::accumulator::Accumulator::new(1, 1);
    let now = wire::drive::Now::default();
    accumulator.append(&records, 30, wire::drive::Nanos::ZERO, now, &StdCodecs).unwrap();
    let batch = accumulator.drain(&StdCodecs).remove(0);
    assert_eq!((batch.base_offset, batch.last_offset, batch.bytes.len()), (1, 9, 330));
}

#[test]
fn an_epoch_begins_with_kafkas_control_batch() {
    // Offset 0 of a cluster of three: 106 bytes, CRC 1835695928, as its dump says.
    let nodes: Vec<_> = [101, 102, 103].map(|id| (id, wire::drive::Endpoint::new("c", 9093))).to_vec();
    let voters = super::super::VoterSet::from_static(&"CONTROLLER".into(), &nodes);
    let record = leader_change(103, &voters, &[101, 103]);
    let batch = control_batch(&StdCodecs, 0, 1, 1_795_209_857_272, &[record]).unwrap();
    assert_eq!(batch.len(), 106);
    let header = Batches::new(&batch.into()).next().unwrap().unwrap().header;
    assert_eq!(header.crc, 1_835_695_928);
}

#[test]
fn a_formatted_directory_is_read_back() {
    let mut disk = MemDisk::new();
    let id = Uuid::parse("XjK-HutolpFD5j3xad3-Hw").unwrap();
    let voters = super::stories::voters(3);
    let options = FormatOptions {
        cluster_id: "AAAAAAAAAAAAAAAAAAAAAA".to_string(),
        node_id: 101,
        log_dirs: alloc::vec![("data".to_string(), id)],
        metadata_dir: "data".to_string(),
        voters: Some(voters),
        records: default_bootstrap_records(),
        now_ms: 1_795_209_845_999,
    };
    assert_eq!(format(&mut disk, &StdCodecs, &options).unwrap().len(), 4);
    let meta = disk.read_file("data/meta.properties").unwrap();
    let want = "#\n#Fri Nov 20 21:24:05 UTC 2026\nnode.id=101\ndirectory.id=XjK-HutolpFD5j3xad3-Hw\nversion=1\n\
                cluster.id=AAAAAAAAAAAAAAAAAAAAAA\n";
    assert_eq!(core::str::from_utf8(&meta).unwrap(), want);
    assert_eq!(read_bootstrap(&mut disk, &StdCodecs, "data").unwrap(), default_bootstrap_records());
    assert_eq!(read_bootstrap(&mut disk, &StdCodecs, "elsewhere").unwrap(), []);
    let path = "data/__cluster_metadata-0/00000000000000000000-0000000000.checkpoint";
    let snapshot = disk.read_file(path).unwrap();
    let mut control = 0;
    read_batches(&snapshot.into(), &StdCodecs, |batch| {
        if let Content::Control(records) = batch.content {
            control += records.iter().filter(|record| !matches!(record, ControlRecord::Unknown(_))).count();
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(control, 4, "header, kraft.version, voters, footer");
}
