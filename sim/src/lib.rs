//! The simulated world, scenarios, checkers, and the `highwater` binary.
//!
//! [`world`] is a seeded world in virtual time: hosts, processes, links, disks and clocks, driven inside one madsim
//! runtime.

#[cfg(not(madsim))]
compile_error!(
    "Highwater's simulator needs `--cfg madsim`: .cargo/config.toml sets it, but RUSTFLAGS in the environment replaces that file's setting; unset RUSTFLAGS or add `--cfg madsim` to it"
);

#[cfg(madsim)]
pub mod checkers;
#[cfg(madsim)]
pub mod cli;
#[cfg(madsim)]
pub mod edn;
#[cfg(madsim)]
pub mod explain;
#[cfg(madsim)]
pub mod mutants;
#[cfg(madsim)]
pub mod runner;
#[cfg(madsim)]
pub mod scenario;
#[cfg(madsim)]
pub mod shrink;
#[cfg(madsim)]
pub mod sweep;
#[cfg(madsim)]
pub mod tools;
#[cfg(madsim)]
pub mod world;
