//! Tests of the data plane: the rules by tables, sessions by themselves, and replica managers in a small cluster.

mod clients;
mod cluster;
mod failover;
mod rules;
mod sessions;
mod storage;
mod throttle;
