//! The number of allocations for a Produce or a Fetch does not depend on the number of records, and that for a commit of
//! offsets not on the number of partitions. They are counted by thread, with every event told; see `counted`.

extern crate alloc;

mod counted;

// What the lab of the node's tests knows as its own crate.
use broker_core::{config, event, io, node, raft, testing};
use counted::{Cluster, KINDS, OffsetsWay, PARTITIONS, Spent};
use wire::Compression;

/// What growing by doubling may add from the smaller request to the larger one, which is a hundred times, or ten times,
/// as large: buffers in which records are compressed or decompressed, and vectors with an element for each partition.
const DOUBLING: u64 = 24;
/// What may be added in bytes where nothing is copied.
const BYTES: u64 = 512;

/// A request of so many partitions, and what it costs.
type Count = fn(&mut Cluster, i32) -> OffsetsWay;

#[test]
fn no_record_costs_an_allocation_on_its_way() {
    let mut cluster = Cluster::new();
    for kind in &KINDS {
        let (few, many) = (cluster.batch(kind, 100), cluster.batch(kind, 10_000));
        let plain = kind.compression == Compression::None && kind.topic != "pressed";
        let steps = [
            ("produce", few.produce, many.produce),
            ("follower", few.follower, many.follower),
            ("commit", few.commit, many.commit),
            ("consume", few.consume, many.consume),
        ];
        for (step, few, many) in steps {
            let more = if plain || step != "produce" { 2 } else { DOUBLING };
            let words = format!("{}, {step}: {few:?} for 100, {many:?} for 10,000", kind.name);
            assert!(few.count > 0 && many.count <= few.count + more, "{words}");
            // No byte of a record is copied, but to compress or decompress it.
            assert!(more > 2 || many.bytes <= few.bytes + BYTES, "{words}");
        }
    }
}

#[test]
fn no_partition_of_a_commit_costs_an_allocation() {
    let mut cluster = Cluster::new();
    let ways: [(&str, Count); 3] = [
        ("OffsetCommit", |cluster, n| cluster.offset_commit(n, "")),
        ("TxnOffsetCommit", Cluster::txn_commit),
        ("OffsetFetch", Cluster::offset_fetch),
    ];
    let more = |few: Spent, many: Spent| many.count.saturating_sub(few.count);
    for (name, way) in ways {
        let (few, many) = (way(&mut cluster, PARTITIONS / 10), way(&mut cluster, PARTITIONS));
        let words = format!("{name}: {few:?} for {}, {many:?} for {PARTITIONS}", PARTITIONS / 10);
        assert!(few.request.count > 0 && more(few.request, many.request) <= DOUBLING, "{words}");
        assert!(more(few.commit, many.commit) <= DOUBLING, "{words}");
    }
    // What a client says beside an offset is kept: the text as it came, as it is read back, and as it stays.
    let few = cluster.offset_commit(PARTITIONS / 10, "from the nightly job").request;
    let many = cluster.offset_commit(PARTITIONS, "from the nightly job").request;
    let partitions = (PARTITIONS - PARTITIONS / 10) as u64;
    assert!(more(few, many) <= 3 * partitions + DOUBLING, "{few:?} {many:?}");
}
