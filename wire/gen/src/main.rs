//! Generates the messages of `wire` from its schema tables.
fn main() {}
