//! Sweeps: one scenario over many seeds, all its variants and a matrix of options, on several cores or machines.
//!
//! [`plan`] says which runs there are and numbers them; [`pool`] makes them, so many at once, and hands them over in
//! the order of their numbers; [`mod@line`] is what is kept of one, a line of JSON; [`fold`] adds lines up without keeping
//! them; [`merge`] reads the lines of parts that others ran; [`show`] prints what came of it.
//!
//! **The digest of a sweep** is a sum. Each run gives the BLAKE3 hash of its variant, its options, its seed and its own
//! digest, and the hashes are added as four 64-bit little-endian words each, carries dropped. So it is the same in
//! whatever order and on however many machines the runs are made, and the digests of parts add up to that of the whole.

pub mod fold;
pub mod line;
pub mod merge;
pub mod plan;
pub mod pool;
pub mod show;
