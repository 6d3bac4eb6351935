//! DescribeProducers: what the logs of this broker know of their producers and of open transactions (KIP-664).

use alloc::borrow::Cow;
use alloc::vec::Vec;
use wire::ErrorCode;
use wire::messages::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use wire::messages::{DescribeProducersRequest, DescribeProducersResponse};

use super::ReplicaManager;
use super::session::TopicRef;
use crate::ctx::Ctx;
use crate::log::ActiveProducer;
use crate::metadata::MetadataImage;
use crate::net::RequestToken;

impl ReplicaManager {
    /// Answers for every partition that is asked for; a follower answers for its own log.
    pub fn handle_describe_producers(
        &mut self,
        ctx: &mut Ctx<'_>,
        image: &MetadataImage,
        token: RequestToken,
        request: &DescribeProducersRequest<'_>,
    ) {
        let mut response = DescribeProducersResponse::default();
        for topic in &request.topics {
            let partitions = topic.partition_indexes.iter();
            response.topics.push(TopicResponse {
                name: Cow::Borrowed(&topic.name),
                partitions: partitions.map(|p| self.describe_producers(image, &topic.name, *p)).collect(),
            });
        }
        ctx.net.respond(ctx.out, token, &response);
    }

    fn describe_producers(
        &self,
        image: &MetadataImage,
        topic: &str,
        index: i32,
    ) -> PartitionResponse<'static> {
        let name = TopicRef::Name(topic);
        let producers = match self.table.find(name, index) {
            None => Err(super::not_hosted(image, name, index)),
            Some(ix) => match &self.table.get(ix).log {
                None => Err(ErrorCode::KAFKA_STORAGE_ERROR),
                Some(log) => Ok(log.active_producers().map(state).collect::<Vec<_>>()),
            },
        };
        let mut response = PartitionResponse { partition_index: index, ..PartitionResponse::default() };
        match producers {
            Ok(producers) => response.active_producers = producers,
            Err(error) => response.error_code = error.0,
        }
        response
    }
}

fn state(producer: ActiveProducer) -> ProducerState {
    ProducerState {
        producer_id: producer.producer_id,
        producer_epoch: i32::from(producer.producer_epoch),
        last_sequence: producer.last_sequence,
        last_timestamp: producer.last_timestamp,
        coordinator_epoch: producer.coordinator_epoch,
        current_txn_start_offset: producer.transaction_first_offset.unwrap_or(-1),
    }
}
