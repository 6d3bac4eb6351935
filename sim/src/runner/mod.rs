//! Runs a scenario: its steps, its expectations, its end.

pub mod evaluate;
pub mod narrator;
pub mod stats;
