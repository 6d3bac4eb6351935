//! The `kafka-*` commands.

pub mod dump_log;
