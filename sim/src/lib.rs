//! Highwater: sim.
