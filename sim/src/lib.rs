//! Highwater: sim.
pub mod scenario;
