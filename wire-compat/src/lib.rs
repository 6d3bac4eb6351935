//! Differential tests of `wire` against other implementations of Kafka's protocol: see `tests` and `benches`.
