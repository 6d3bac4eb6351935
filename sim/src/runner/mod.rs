//! Runs a scenario: its steps, its expectations, its end.

pub mod stats;
