//! How often a broker allocates for a request, by the number of records or partitions in it: `cargo bench -p
//! highwater-broker-core --bench allocations`. Nothing here is timed; `tests/allocations.rs` fails if a record costs one.
//!
//! Everything that `Node::handle` allocates counts, all events included. The median of five requests is shown, so that
//! what grows by doubling now and then is left out; what an answer needs is in it.

extern crate alloc;

#[path = "../tests/counted/mod.rs"]
mod counted;

// What the lab of the node's tests knows as its own crate.
use broker_core::{config, event, io, node, raft, testing};
use counted::{Cluster, KINDS, OffsetsWay, PARTITIONS, Spent, Way};

const RECORDS: [i32; 3] = [1, 100, 10_000];
const OFFSETS: [i32; 3] = [1, 100, PARTITIONS];

/// A request of so many partitions, and what it costs.
type Count = fn(&mut Cluster, i32) -> OffsetsWay;

fn main() {
    let mut cluster = Cluster::new();
    heading("batch of so many records", RECORDS, "record");
    for kind in &KINDS {
        println!("{}", kind.name);
        let ways = RECORDS.map(|n| cluster.batch(kind, n));
        let row = |what: &str, of: fn(&Way) -> Spent| row(what, RECORDS, ways.each_ref().map(of));
        row("  leader: Produce, append, Fetch answered", |way| way.produce);
        row("  follower: append, next Fetch", |way| way.follower);
        row("  leader: commit, Produce answered", |way| way.commit);
        row("  leader: Fetch of a consumer", |way| way.consume);
    }
    println!();
    heading("request of so many partitions", OFFSETS, "partition");
    let ways: [(&str, Count); 4] = [
        ("OffsetCommit", |cluster, n| cluster.offset_commit(n, "")),
        ("OffsetCommit, a text with each offset", |cluster, n| cluster.offset_commit(n, "a text")),
        ("TxnOffsetCommit", Cluster::txn_commit),
        ("OffsetFetch", Cluster::offset_fetch),
    ];
    for (name, way) in ways {
        let ways = OFFSETS.map(|n| way(&mut cluster, n));
        row(&format!("{name}: taken"), OFFSETS, ways.map(|way| way.request));
        if ways[0].commit.count > 0 {
            row(&format!("{name}: committed"), OFFSETS, ways.map(|way| way.commit));
        }
    }
}

fn heading(what: &str, sizes: [i32; 3], one: &str) {
    let [a, b, c] = sizes;
    println!("{what:<46} {a:>7} {b:>7} {c:>7}  each further {one}   KiB");
}

/// Allocations by size, what each further record or partition adds to them, and the bytes of the last.
fn row(what: &str, sizes: [i32; 3], spent: [Spent; 3]) {
    let [a, b, c] = spent.map(|spent| spent.count);
    let slope = (c as f64 - b as f64) / f64::from(sizes[2] - sizes[1]);
    let kib = spent[2].bytes as f64 / 1024.0;
    println!("{what:<46} {a:>7} {b:>7} {c:>7} {slope:>20.4} {kib:>9.1}");
}
