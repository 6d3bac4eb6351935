//! A producer's batch, from its first record to its outcome (`ProducerBatch.java`).

use alloc::sync::Arc;
use alloc::vec::Vec;

use smallvec::SmallVec;
use wire::batch::{Batch, BatchBuilder, BatchError, BatchOptions, increment_sequence, restamp_producer};
use wire::drive::Instant;
use wire::{Codecs, Compression, Rope};

use super::NewRecord;
use crate::event::Made;

/// With what an idempotent producer stamps a batch when it is first sent (KIP-98).
///
/// It is kept over retries: another one would make a duplicate of a batch that was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The producer id, -1 without idempotence.
    pub producer_id: i64,
    /// The producer epoch, -1 without idempotence.
    pub producer_epoch: i16,
    /// The sequence number of the first record, -1 without idempotence.
    pub base_sequence: i32,
}

impl Stamp {
    /// That of a producer without idempotence.
    pub const NONE: Stamp = Stamp { producer_id: -1, producer_epoch: -1, base_sequence: -1 };
}

/// How the records of a producer are compressed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Codec {
    pub compression: Compression,
    pub level: Option<i32>,
    /// Its batches belong to transactions.
    pub transactional: bool,
}

/// How well the records of a topic compress, in per mille (`CompressionRatioEstimator.java`).
#[derive(Clone, Copy, Debug)]
pub(super) struct Ratio(u64);

impl Ratio {
    const IMPROVING_STEP: u64 = 5;
    const DETERIORATING_STEP: u64 = 50;

    pub const START: Ratio = Ratio(1000);

    /// Learns from a batch: quickly when it compressed worse than expected, slowly when better.
    pub fn observe(&mut self, compressed: usize, plain: usize) {
        let observed = (compressed as u64).saturating_mul(1000) / (plain as u64).max(1);
        if observed > self.0 {
            self.0 = (self.0 + Ratio::DETERIORATING_STEP).max(observed);
        } else if observed < self.0 {
            self.0 = self.0.saturating_sub(Ratio::IMPROVING_STEP).max(observed);
        }
    }

    /// After a batch was too large for the broker: expect no compression, or what that batch had if it was worse.
    pub fn reset(&mut self, observed: Ratio) {
        self.0 = observed.0.max(1000);
    }

    /// Of a batch that is closed.
    pub fn of(compressed: usize, plain: usize) -> Ratio {
        Ratio((compressed as u64).saturating_mul(1000) / (plain as u64).max(1))
    }

    /// What plain bytes are expected to become, with 5 % to spare.
    pub fn estimate(self, plain: usize) -> usize {
        (plain as u64 * self.0 / 1000 * 105 / 100) as usize
    }
}

#[derive(Clone, Debug)]
enum Body {
    /// Takes records.
    Open { builder: BatchBuilder, made: Vec<Made> },
    /// As it is sent, with the stamp that is in `records`.
    Closed { records: Rope, made: Arc<[Made]>, stamp: Stamp },
}

#[derive(Clone, Debug)]
pub(super) struct ProducerBatch {
    /// Unique in its producer, in order of creation.
    pub id: u64,
    pub created: Instant,
    /// When it was last drained or enqueued again; backoff counts from here.
    pub last_attempt: Instant,
    /// How often it was sent and refused or lost.
    pub attempts: u32,
    /// Until when it waits before the next attempt.
    pub retry_at: Instant,
    /// The leader epoch known when it was last sent, -1 if never.
    pub leader_epoch: i32,
    /// Some attempt may have left it in a log.
    pub maybe_appended: bool,
    /// What it takes from `buffer.memory`.
    pub memory: usize,
    pub stamp: Stamp,
    /// How many batches of its partition were numbered before it.
    pub ordinal: u64,
    body: Body,
    /// No record is added any more.
    sealed: bool,
    /// The size that it must not exceed, `batch.size` unless its one record is larger.
    limit: usize,
    plain: usize,
}

impl ProducerBatch {
    pub fn new(id: u64, now: Instant, limit: usize, capacity: usize, records: usize) -> ProducerBatch {
        ProducerBatch {
            id,
            created: now,
            last_attempt: now,
            attempts: 0,
            retry_at: now,
            leader_epoch: -1,
            maybe_appended: false,
            memory: limit,
            stamp: Stamp::NONE,
            ordinal: 0,
            body: Body::Open {
                builder: BatchBuilder::with_capacity(capacity),
                made: Vec::with_capacity(records),
            },
            sealed: false,
            limit,
            plain: 0,
        }
    }

    /// Appends a record if there is room; else the batch is sealed. The bytes that it added.
    pub fn try_append(&mut self, codec: Codec, ratio: Ratio, record: &NewRecord<'_>) -> Option<usize> {
        let limit = self.limit;
        let Body::Open { builder, made } = &mut self.body else { return None };
        if self.sealed {
            return None;
        }
        let before = estimated(builder, codec, ratio);
        if !builder.is_empty() {
            let added = builder.size_of(record.timestamp, record.key, record.value, record.headers);
            if before >= limit || before + added > limit {
                self.sealed = true;
                return None;
            }
        }
        builder.append(record.timestamp, record.key, record.value, record.headers);
        made.push(record.made);
        Some(estimated(builder, codec, ratio).saturating_sub(if made.len() == 1 { 0 } else { before }))
    }

    /// Whether it takes no further record.
    pub fn is_full(&self, codec: Codec, ratio: Ratio) -> bool {
        match &self.body {
            Body::Closed { .. } => true,
            Body::Open { builder, .. } => {
                self.sealed || !builder.is_empty() && estimated(builder, codec, ratio) >= self.limit
            }
        }
    }

    /// Its size on the wire, estimated while it is open.
    pub fn size(&self, codec: Codec, ratio: Ratio) -> usize {
        match &self.body {
            Body::Open { builder, .. } => estimated(builder, codec, ratio),
            Body::Closed { records, .. } => records.len(),
        }
    }

    /// The number of records.
    pub fn count(&self) -> usize {
        match &self.body {
            Body::Open { made, .. } => made.len(),
            Body::Closed { made, .. } => made.len(),
        }
    }

    /// Whether it has a sequence number, and with it a place among the batches of its partition.
    pub fn has_sequence(&self) -> bool {
        self.stamp != Stamp::NONE
    }

    /// The sequence number of its last record.
    pub fn last_sequence(&self) -> i32 {
        increment_sequence(self.stamp.base_sequence, self.count() as i32 - 1)
    }

    /// Whether it got another stamp since it was sent: what is answered to it now concerns the one before.
    pub fn was_renumbered(&self) -> bool {
        matches!(&self.body, Body::Closed { stamp, .. } if *stamp != self.stamp)
    }

    /// The record bytes, made on the first call, and stamped anew when the stamp has changed since.
    pub fn close(&mut self, codec: Codec, codecs: &dyn Codecs) -> Result<Rope, BatchError> {
        if let Body::Open { builder, made } = &mut self.body {
            let builder = core::mem::take(builder);
            self.plain = builder.len();
            let options = BatchOptions {
                compression: codec.compression,
                level: codec.level,
                producer_id: self.stamp.producer_id,
                producer_epoch: self.stamp.producer_epoch,
                base_sequence: self.stamp.base_sequence,
                transactional: codec.transactional,
                ..BatchOptions::default()
            };
            let made = core::mem::take(made).into();
            let records = Rope::from(builder.finish(codecs, &options)?);
            self.body = Body::Closed { records, made, stamp: self.stamp };
        }
        let Body::Closed { records, stamp, .. } = &mut self.body else { unreachable!("just closed") };
        if *stamp != self.stamp {
            let Stamp { producer_id, producer_epoch, base_sequence } = self.stamp;
            *records = restamp_producer(records, producer_id, producer_epoch, base_sequence, codecs)?;
            *stamp = self.stamp;
        }
        Ok(records.clone())
    }

    /// The bytes before and after compression, once closed.
    pub fn plain_and_compressed(&self) -> (usize, usize) {
        match &self.body {
            Body::Closed { records, .. } => (self.plain, records.len()),
            Body::Open { builder, .. } => (builder.len(), builder.len()),
        }
    }

    /// The messages.
    pub fn made(&self) -> Arc<[Made]> {
        match &self.body {
            Body::Open { made, .. } => made.as_slice().into(),
            Body::Closed { made, .. } => made.clone(),
        }
    }

    /// The records again as batches of at most `batch_size`, as if never tried, with ids from `next_id` on. Together
    /// they have the sequence numbers that it has.
    pub fn split(
        &self,
        next_id: &mut u64,
        batch_size: usize,
        codec: Codec,
        codecs: &dyn Codecs,
    ) -> Result<Vec<ProducerBatch>, BatchError> {
        let Body::Closed { records, made, .. } = &self.body else {
            unreachable!("only what was sent is split")
        };
        let records = Batch::parse(records)?.records(codecs, self.plain)?;
        let mut parts: Vec<ProducerBatch> = Vec::new();
        for (record, &made) in records.iter().zip(made.iter()) {
            let record = record?;
            let headers: SmallVec<[_; 4]> = record.headers.collect();
            let headers: SmallVec<[_; 4]> = headers.iter().map(|h| (h.key.as_ref(), h.value)).collect();
            let new = NewRecord {
                partition: None,
                timestamp: record.timestamp,
                key: record.key,
                value: record.value,
                headers: &headers,
                made,
            };
            // Whatever the compression, the parts must be small enough without it.
            let fits = parts.last_mut().and_then(|part| part.try_append(codec, Ratio::START, &new));
            if fits.is_none() {
                let limit = batch_size.max(new.size_upper_bound());
                let mut part = ProducerBatch::new(*next_id, self.created, limit, limit, 0);
                *next_id += 1;
                part.maybe_appended = self.maybe_appended;
                part.try_append(codec, Ratio::START, &new);
                parts.push(part);
            }
        }
        if self.has_sequence() {
            let mut stamp = self.stamp;
            for part in &mut parts {
                part.stamp = stamp;
                part.ordinal = self.ordinal;
                stamp.base_sequence = increment_sequence(stamp.base_sequence, part.count() as i32);
            }
        }
        Ok(parts)
    }
}

fn estimated(builder: &BatchBuilder, codec: Codec, ratio: Ratio) -> usize {
    match codec.compression {
        Compression::None => builder.len(),
        _ => ratio.estimate(builder.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compression_ratio_worsens_quickly_and_improves_slowly() {
        let mut ratio = Ratio::START;
        ratio.observe(200, 1000);
        assert_eq!(ratio.0, 995);
        for _ in 0..1000 {
            ratio.observe(200, 1000);
        }
        assert_eq!(ratio.0, 200);
        ratio.observe(210, 1000);
        assert_eq!(ratio.0, 250);
        ratio.observe(700, 1000);
        assert_eq!(ratio.0, 700);
    }
}
