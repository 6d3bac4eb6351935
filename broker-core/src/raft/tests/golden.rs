//! The disks of Apache Kafka 4.3.1, and what the quorum writes itself, byte by byte.
