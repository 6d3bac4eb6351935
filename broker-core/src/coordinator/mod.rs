//! Coordinators: state that lies in partitions of internal topics, kept by whoever leads them.

pub mod transaction;
