//! Producer ids (KIP-98, KIP-730): InitProducerId, and the blocks of ids from which it is answered.
//!
//! A broker gets ids from the active controller a thousand at a time, as a ProducerIdsRecord, so that no two producers of
//! a cluster ever share one. It asks when the first producer comes and again when nine tenths of a block are given away;
//! a producer that comes while there is none is told COORDINATOR_LOAD_IN_PROGRESS and tries again. What is left of a
//! block is lost with the process. Follows `RPCProducerIdManager`.

use wire::drive::{Instant, Nanos};
use wire::error::ErrorCode;
use wire::messages::{
    AllocateProducerIdsRequest, AllocateProducerIdsResponse, InitProducerIdRequest, InitProducerIdResponse,
};
use wire::{Message, Reader};

use crate::ctx::Ctx;
use crate::lifecycle::{Attempt, Next};
use crate::net::{Call, CallOutcome, RequestToken};

/// How long a request for a block may be on its way.
const RETRY_TIMEOUT: Nanos = Nanos::from_secs(60);
/// How long not to ask again after the controller refused.
const RETRY_BACKOFF: Nanos = Nanos::from_millis(50);
/// The only version of AllocateProducerIds.
const VERSION: i16 = 0;
const NO_PRODUCER_ID: i64 = -1;
const NO_PRODUCER_EPOCH: i16 = -1;

/// Ids of which none but this broker gives any away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Block {
    first: i64,
    size: i64,
    claimed: i64,
}

impl Block {
    const EMPTY: Block = Block { first: 0, size: 0, claimed: 0 };

    fn of(response: &AllocateProducerIdsResponse) -> Option<Block> {
        let (first, size) = (response.producer_id_start, i64::from(response.producer_id_len));
        let whole = first >= 0 && size > 0 && first.checked_add(size).is_some();
        whole.then_some(Block { first, size, claimed: 0 })
    }

    fn claim(&mut self) -> Option<i64> {
        if self.claimed == self.size {
            return None;
        }
        let id = self.first + self.claimed;
        self.claimed += 1;
        Some(id)
    }

    /// Whether it is time to ask for the next one: once for each block.
    fn is_nearly_used_up(&self) -> bool {
        self.claimed == self.size * 9 / 10
    }
}

/// `RPCProducerIdManager`, and the part of InitProducerId that needs no transaction coordinator.
#[derive(Clone, Debug)]
pub struct ProducerIds {
    current: Block,
    next: Option<Block>,
    /// The request for the next block, while it is under way.
    attempt: Option<Attempt>,
    /// The controller refused: it is not asked before.
    not_before: Instant,
}

impl Default for ProducerIds {
    fn default() -> Self {
        ProducerIds { current: Block::EMPTY, next: None, attempt: None, not_before: Instant(0) }
    }
}

impl ProducerIds {
    /// InitProducerId (22) without a transactional id. `broker_epoch` is that of this broker's registration.
    pub fn handle_init_producer_id(&mut self, ctx: &mut Ctx<'_>, broker_epoch: i64, token: RequestToken) {
        let response = match self.generate(ctx, broker_epoch) {
            Ok(producer_id) => {
                InitProducerIdResponse { producer_id, producer_epoch: 0, ..InitProducerIdResponse::default() }
            }
            Err(error) => InitProducerIdResponse {
                error_code: error.0,
                producer_id: NO_PRODUCER_ID,
                producer_epoch: NO_PRODUCER_EPOCH,
                ..InitProducerIdResponse::default()
            },
        };
        ctx.net.respond(ctx.out, token, &response);
    }

    /// An id that was never given to anyone.
    pub(crate) fn generate(&mut self, ctx: &mut Ctx<'_>, broker_epoch: i64) -> Result<i64, ErrorCode> {
        let id = match self.current.claim() {
            Some(id) => id,
            None => {
                let Some(block) = self.next.take() else {
                    self.ask(ctx, broker_epoch);
                    return Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
                };
                self.current = block;
                self.current.claim().expect("a block has an id")
            }
        };
        if self.current.is_nearly_used_up() {
            self.ask(ctx, broker_epoch);
        }
        Ok(id)
    }

    /// Asks for the next block, unless it is here, asked for, or was just refused.
    fn ask(&mut self, ctx: &mut Ctx<'_>, broker_epoch: i64) {
        if self.next.is_some() || self.attempt.is_some() || self.not_before > ctx.now.mono {
            return;
        }
        self.attempt = Some(Attempt::new(ctx.now.mono));
        self.pursue(ctx, broker_epoch);
    }

    fn pursue(&mut self, ctx: &mut Ctx<'_>, broker_epoch: i64) {
        let now = ctx.now.mono;
        let Some(attempt) = &mut self.attempt else { return };
        if attempt.due().is_none_or(|at| at > now) {
            return;
        }
        match attempt.next(now, ctx.net, Some(RETRY_TIMEOUT)) {
            Next::Wait => {}
            // The next producer that comes makes it ask again.
            Next::Expired => self.attempt = None,
            Next::Send(peer) => {
                let request = AllocateProducerIdsRequest { broker_id: ctx.config.node_id, broker_epoch };
                let timeout = ctx.config.lifecycle.controller_socket_timeout.min(RETRY_TIMEOUT);
                let call = Call::AllocateProducerIds;
                ctx.net.call(ctx.now, ctx.out, peer, &request, VERSION, timeout, call);
            }
        }
    }

    /// The request for a block ended.
    pub fn handle_outcome(&mut self, ctx: &mut Ctx<'_>, broker_epoch: i64, outcome: CallOutcome) {
        let now = ctx.now.mono;
        let Some(attempt) = &mut self.attempt else { return };
        let CallOutcome::Answered { body, version } = outcome else {
            attempt.failed(now);
            return self.pursue(ctx, broker_epoch);
        };
        let response = AllocateProducerIdsResponse::decode(&mut Reader::new(&body), version);
        if response.as_ref().is_ok_and(|r| r.error_code == ErrorCode::NOT_CONTROLLER.0) {
            return attempt.not_controller(now);
        }
        self.attempt = None;
        let block = response.ok().filter(|r| r.error_code == ErrorCode::NONE.0).as_ref().and_then(Block::of);
        match block {
            Some(block) => self.next = Some(block),
            // This registration is not the controller's any more, or not yet.
            None => self.not_before = now + RETRY_BACKOFF,
        }
    }

    /// When [`ProducerIds::on_timer`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.attempt.as_ref().and_then(Attempt::due)
    }

    /// Asks the controller again.
    pub fn on_timer(&mut self, ctx: &mut Ctx<'_>, broker_epoch: i64) {
        self.pursue(ctx, broker_epoch);
    }
}

/// Whether a request is one that can be answered, by whomever.
pub(crate) fn check(ctx: &Ctx<'_>, request: &InitProducerIdRequest<'_>) -> Result<(), ErrorCode> {
    if (request.producer_id == NO_PRODUCER_ID) != (request.producer_epoch == NO_PRODUCER_EPOCH) {
        return Err(ErrorCode::INVALID_REQUEST);
    }
    match request.transactional_id.as_deref() {
        None => Ok(()),
        Some("") => Err(ErrorCode::INVALID_REQUEST),
        Some(_) => {
            let limit = ctx.config.max_transaction_timeout_ms;
            if !(1..=limit).contains(&request.transaction_timeout_ms) {
                return Err(ErrorCode::INVALID_TRANSACTION_TIMEOUT);
            }
            Ok(())
        }
    }
}
