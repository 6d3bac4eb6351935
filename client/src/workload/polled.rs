//! Making the values of messages, and recognising them again.

use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;
use wire::batch::Record;
use wire::drive::{Instant, Nanos};

use super::Names;
use crate::event::{ClientEvent, MessageId, Polled, PolledRecord, TopicPartition};
use crate::io::Outputs;

/// Fills what is missing to the wanted size.
const PADDING: u8 = b' ';

/// Writes the value of a message: `NAME-N`, padded.
pub(super) fn write_value(out: &mut Vec<u8>, name: &str, number: u64, size: usize) {
    out.clear();
    out.extend_from_slice(name.as_bytes());
    out.push(b'-');
    push_decimal(out, number);
    if out.len() < size {
        out.resize(size, PADDING);
    }
}

/// Appends a number's digits.
pub(super) fn push_decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// The message that a value is, if its form is `NAME-N` with one of the names.
pub fn message_of(names: &Names, value: &[u8], likely: u32) -> Option<MessageId> {
    let of = |client: u32| {
        let name = names.0.get(client as usize)?;
        let rest = value.strip_prefix(name.as_bytes())?.strip_prefix(b"-")?;
        parse_number(rest).map(|number| MessageId { client, number })
    };
    // Consumers mostly read one producer's messages, one after the other.
    of(likely).or_else(|| (0..names.0.len() as u32).find_map(of))
}

fn parse_number(text: &[u8]) -> Option<u32> {
    let mut number: u32 = 0;
    let mut digits = 0;
    for &byte in text {
        if !byte.is_ascii_digit() {
            break;
        }
        number = number.checked_mul(10)?.checked_add((byte - b'0') as u32)?;
        digits += 1;
    }
    // To the end, whatever is found: without a way out of the loop it takes many bytes at a time.
    let padded = text[digits..].iter().fold(true, |padded, &byte| padded & (byte == PADDING));
    (digits > 0 && padded).then_some(number)
}

/// Gathers what a poll returns into events.
#[derive(Clone, Debug, Default)]
pub(super) struct Collector {
    names: Names,
    likely: u32,
    polls: u64,
    parts: Vec<(TopicPartition, Vec<PolledRecord>, Vec<Bytes>)>,
}

impl Collector {
    pub fn new(names: Names) -> Collector {
        Collector { names, ..Collector::default() }
    }

    /// Takes a record. Those of one partition come together.
    pub fn take(&mut self, partition: &TopicPartition, record: &Record<'_>) {
        let same = |last: &TopicPartition| {
            last.partition == partition.partition && Arc::ptr_eq(&last.topic, &partition.topic)
        };
        if !self.parts.last().is_some_and(|(last, _, _)| same(last)) {
            self.parts.push((partition.clone(), Vec::new(), Vec::new()));
        }
        let (_, records, foreign) = self.parts.last_mut().expect("just pushed");
        let value = record.value.unwrap_or_default();
        let message = match message_of(&self.names, value, self.likely) {
            Some(message) => {
                self.likely = message.client;
                message
            }
            None => {
                foreign.push(Bytes::copy_from_slice(value));
                MessageId { client: MessageId::FOREIGN, number: foreign.len() as u32 - 1 }
            }
        };
        records.push(PolledRecord { offset: record.offset, message });
    }

    /// Tells what the poll returned. When the application has processed all of it.
    pub fn tell(&mut self, now: Instant, per_record: Nanos, out: &mut Outputs) -> Instant {
        self.polls += 1;
        let mut from = now;
        for (partition, records, foreign) in self.parts.drain(..) {
            let until = from + Nanos(per_record.0.saturating_mul(records.len() as u64));
            out.event(|| {
                let (poll, processing_from) = (self.polls, from);
                ClientEvent::Polled(Polled { partition, poll, records, foreign, processing_from, per_record })
            });
            from = until;
        }
        from
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn a_value_is_recognised_by_the_client_that_made_it() {
        let names = Names::new(vec!["shop".into(), "shop.1".into(), "shop-1".into()]);
        let mut value = Vec::new();
        for (client, name) in names.0.iter().enumerate() {
            for number in [0, 7, 4_294_967_295] {
                write_value(&mut value, name, number, 24);
                assert_eq!(value.len(), 24);
                let message = MessageId { client: client as u32, number: number as u32 };
                for likely in 0..4 {
                    assert_eq!(message_of(&names, &value, likely), Some(message), "{name} {number}");
                }
            }
        }
        for foreign in ["shop-", "shop-x", "shop-1x", "shop", "", "shop-4294967296", "bar-1"] {
            assert_eq!(message_of(&names, foreign.as_bytes(), 0), None, "{foreign}");
        }
    }
}
