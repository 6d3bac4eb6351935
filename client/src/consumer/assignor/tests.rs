//! Tables from what Kafka documents, and properties over random groups.
