//! Nodes working together: what no part shows alone.

mod consumer_groups;
mod group_frames;
mod hostile;
mod idempotence;
mod lab;
mod life;
mod quotas;
mod transaction_frames;
mod transactions;
