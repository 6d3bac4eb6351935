//! Highwater: sim.
pub mod checkers;
pub mod runner;
pub mod scenario;
