//! How often a producer and a consumer allocate over their life, by the number of records: `cargo bench -p
//! highwater-client --bench allocations`. Nothing here is timed; `tests/allocations.rs` fails if a record costs one.

extern crate alloc;

#[path = "../tests/counted/mod.rs"]
mod counted;

// What the scripted cluster of the crate's tests knows as its own crate.
use client::{Rng, backoff, event, io};
use counted::{Life, consume, produce};

const RECORDS: [u64; 3] = [1, 100, 10_000];

/// The life of a client with so many records.
type Count = fn(u64) -> Life;

fn main() {
    let [a, b, c] = RECORDS;
    println!(
        "{:<46} {a:>7} {b:>7} {c:>7}  each further record  each further batch or poll",
        "from its start, so many records"
    );
    let ways: [(&str, Count); 4] = [
        ("producer, one batch", |n| produce(n, "1000000")),
        ("producer, batch.size=16384", |n| produce(n, "16384")),
        ("consumer, one poll", |n| consume(n, "10000")),
        ("consumer, max.poll.records=500", |n| consume(n, "500")),
    ];
    for (name, way) in ways {
        let [one, some, many] = RECORDS.map(way);
        let more = many.allocations as f64 - some.allocations as f64;
        let slope = more / (RECORDS[2] - RECORDS[1]) as f64;
        let parts = many.parts - some.parts;
        let of_part = if parts == 0 { String::from("-") } else { format!("{:.1}", more / parts as f64) };
        println!(
            "{name:<46} {:>7} {:>7} {:>7} {slope:>20.4} {of_part:>27}",
            one.allocations, some.allocations, many.allocations
        );
    }
}
