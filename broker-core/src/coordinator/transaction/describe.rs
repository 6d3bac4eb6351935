//! ListTransactions and DescribeTransactions (KIP-664): what this coordinator knows.

use alloc::borrow::Cow;
use alloc::vec::Vec;
use wire::error::ErrorCode;
use wire::messages::describe_transactions_response::{TopicData, TransactionState as Described};
use wire::messages::list_transactions_response::TransactionState as Listed;
use wire::messages::{
    DescribeTransactionsRequest, DescribeTransactionsResponse, ListTransactionsRequest,
    ListTransactionsResponse,
};

use super::state::Transaction;
use super::{TransactionCoordinator, TransactionState};
use crate::ctx::Ctx;
use crate::metadata::MetadataImage;
use crate::net::RequestToken;

/// Which transactions are listed.
struct Filter {
    states: Vec<TransactionState>,
    any_state: bool,
    producer_ids: Vec<i64>,
    duration_ms: i64,
    pattern: Option<regex::Regex>,
    now_ms: i64,
}

impl Filter {
    fn admits(&self, id: &str, transaction: &Transaction) -> bool {
        let its_producer =
            self.producer_ids.is_empty() || self.producer_ids.contains(&transaction.producer_id);
        let its_state = self.any_state || self.states.contains(&transaction.state);
        let its_age =
            self.duration_ms < 0 || self.now_ms.saturating_sub(transaction.start_ms) > self.duration_ms;
        let its_name = self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(id));
        its_producer && its_state && its_age && its_name
    }
}

impl TransactionCoordinator {
    /// ListTransactions (66): those of all partitions that this broker leads.
    pub fn handle_list_transactions(
        &mut self,
        ctx: &mut Ctx<'_>,
        token: RequestToken,
        request: &ListTransactionsRequest<'_>,
    ) {
        let mut response = ListTransactionsResponse::default();
        if !self.loading.is_empty() {
            response.error_code = ErrorCode::COORDINATOR_LOAD_IN_PROGRESS.0;
            return ctx.net.respond(ctx.out, token, &response);
        }
        let pattern = request.transactional_id_pattern.as_deref().filter(|pattern| !pattern.is_empty());
        // The whole id must match, as with RE2J's `matches`.
        let pattern = pattern.map(|pattern| regex::Regex::new(&alloc::format!("^(?:{pattern})$")));
        let pattern = match pattern.transpose() {
            Ok(pattern) => pattern,
            Err(_) => {
                response.error_code = ErrorCode::INVALID_REGULAR_EXPRESSION.0;
                return ctx.net.respond(ctx.out, token, &response);
            }
        };
        let mut states = Vec::new();
        for name in &request.state_filters {
            match TransactionState::from_name(name) {
                Some(state) => states.push(state),
                None => response.unknown_state_filters.push(Cow::Borrowed(name)),
            }
        }
        let filter = Filter {
            states,
            any_state: request.state_filters.is_empty(),
            producer_ids: request.producer_id_filters.clone(),
            duration_ms: if token.version >= 1 { request.duration_filter } else { -1 },
            pattern,
            now_ms: ctx.now.wall_ms,
        };
        for (id, entry) in self.shards.values().flat_map(|shard| &shard.entries) {
            if filter.admits(id, &entry.now) {
                response.transaction_states.push(Listed {
                    transactional_id: Cow::Borrowed(id),
                    producer_id: entry.now.producer_id,
                    transaction_state: Cow::Borrowed(entry.now.state.name()),
                });
            }
        }
        ctx.net.respond(ctx.out, token, &response);
    }

    /// DescribeTransactions (65).
    pub fn handle_describe_transactions(
        &mut self,
        ctx: &mut Ctx<'_>,
        image: &MetadataImage,
        token: RequestToken,
        request: &DescribeTransactionsRequest<'_>,
    ) {
        let mut response = DescribeTransactionsResponse::default();
        for id in &request.transactional_ids {
            let mut described = Described { transactional_id: Cow::Borrowed(id), ..Described::default() };
            if let Err(error) = self.describe(image, id, &mut described) {
                described.error_code = error.0;
            }
            response.transaction_states.push(described);
        }
        ctx.net.respond(ctx.out, token, &response);
    }

    fn describe(
        &mut self,
        image: &MetadataImage,
        id: &str,
        described: &mut Described<'_>,
    ) -> Result<(), ErrorCode> {
        if id.is_empty() {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        let shard = self.shard_of(image, id)?;
        let entry = shard.entries.get(id).ok_or(ErrorCode::TRANSACTIONAL_ID_NOT_FOUND)?;
        let now = &entry.now;
        described.transaction_state = Cow::Borrowed(now.state.name());
        described.transaction_timeout_ms = now.timeout_ms;
        described.transaction_start_time_ms = now.start_ms;
        described.producer_id = now.producer_id;
        described.producer_epoch = now.producer_epoch;
        for (topic, partition) in &now.partitions {
            match described.topics.last_mut().filter(|last| *last.topic == **topic) {
                Some(last) => last.partitions.push(*partition),
                None => described.topics.push(TopicData {
                    topic: Cow::Owned(alloc::string::String::from(&**topic)),
                    partitions: alloc::vec![*partition],
                }),
            }
        }
        Ok(())
    }
}
