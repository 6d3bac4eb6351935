//! What a producer or a consumer allocates does not depend on the number of records, but on that of batches and polls.

extern crate alloc;

mod counted;

// What the scripted cluster of the crate's tests knows as its own crate.
use client::{Rng, backoff, event, io};
use counted::{Life, consume, produce};

/// What growing by doubling may add from 100 records to 10,000.
const DOUBLING: u64 = 48;

/// The life of a client with so many records.
type Count = fn(u64) -> Life;

#[test]
fn no_record_costs_a_client_an_allocation() {
    let ways: [(&str, Count); 2] =
        [("producer", |n| produce(n, "1000000")), ("consumer", |n| consume(n, "10000"))];
    for (name, way) in ways {
        let (few, many) = (way(100), way(10_000));
        assert_eq!((few.parts, many.parts), (1, 1), "{name}");
        assert!(
            many.allocations <= few.allocations + DOUBLING,
            "{name}: {few:?} for 100, {many:?} for 10,000"
        );
    }
}
