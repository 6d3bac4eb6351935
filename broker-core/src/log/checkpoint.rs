//! Kafka's small text files: checkpoints, `meta.properties`, `partition.metadata`, the mark of a clean shutdown.
