//! Checkers: what must hold of replicas and controllers after every step, and of the clients' history at the end.

pub mod history;
