//! Frames that no honest client sends, made from the tables of Kafka's messages.
//!
//! The tables are interpreted: every API and version that is known is covered, those of tomorrow too. What a frame may do
//! to a cluster that believes it is bounded: only requests that read, or that write to names of its own, are made whole;
//! everything else comes damaged.

use bytes::{BufMut, BytesMut};
use wire::ApiKey;
use wire::schema::{Field, Schema, Type};

use crate::world::chance::Chance;

/// What is wrong with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attack {
    /// Bytes without meaning.
    Garbage,
    /// Its announced size is negative, or larger than what a broker takes.
    Huge,
    /// More is announced than ever comes.
    Unfinished,
    /// It ends in the middle of a field.
    Truncated,
    /// An API or a version that nobody serves, or that nobody serves any more.
    OldVersion,
    /// A list that is longer than its frame.
    Counts,
    /// A few of its bits are wrong.
    Damaged,
    /// Well formed, from a client that knows a cluster of long ago: leaders, epochs, sessions, members of the past.
    Stale,
    /// Well formed, and as large as a broker takes in one piece.
    Large,
}

/// All of them.
pub const ATTACKS: [Attack; 9] = [
    Attack::Garbage,
    Attack::Huge,
    Attack::Unfinished,
    Attack::Truncated,
    Attack::OldVersion,
    Attack::Counts,
    Attack::Damaged,
    Attack::Stale,
    Attack::Large,
];

/// Requests that may arrive whole: they read, or write what nobody else looks at.
const HARMLESS: [ApiKey; 24] = [
    ApiKey::Produce,
    ApiKey::Fetch,
    ApiKey::ListOffsets,
    ApiKey::Metadata,
    ApiKey::OffsetCommit,
    ApiKey::OffsetFetch,
    ApiKey::FindCoordinator,
    ApiKey::JoinGroup,
    ApiKey::Heartbeat,
    ApiKey::LeaveGroup,
    ApiKey::SyncGroup,
    ApiKey::DescribeGroups,
    ApiKey::ListGroups,
    ApiKey::ApiVersions,
    ApiKey::OffsetForLeaderEpoch,
    ApiKey::EndTxn,
    ApiKey::TxnOffsetCommit,
    ApiKey::DescribeConfigs,
    ApiKey::DescribeLogDirs,
    ApiKey::DescribeCluster,
    ApiKey::DescribeProducers,
    ApiKey::ListTransactions,
    ApiKey::ConsumerGroupHeartbeat,
    ApiKey::ConsumerGroupDescribe,
];

/// A large frame's size, in bytes.
const LARGE: usize = 512 * 1024;

/// How deep lists in lists are filled.
const DEPTH: u32 = 4;

/// Makes frames.
#[derive(Clone, Debug)]
pub struct Frames {
    chance: Chance,
    /// Names of topics that there are.
    topics: Vec<String>,
    correlation: i32,
}

impl Frames {
    /// From this stream of chance.
    pub fn new(chance: Chance, topics: Vec<String>) -> Frames {
        Frames { chance, topics, correlation: 0 }
    }

    /// A number below a bound.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.chance.below(bound)
    }

    /// A frame with this fault, prefix included.
    pub fn frame(&mut self, attack: Attack) -> BytesMut {
        match attack {
            Attack::Garbage => {
                let len = self.chance.below(2_048) as usize;
                let body = self.random(len);
                prefixed(body.len() as i32, &body)
            }
            Attack::Huge => {
                let sizes = [i32::MAX, i32::MIN, -1, 104_857_601, 1 << 30];
                let size = sizes[self.chance.below(sizes.len() as u64) as usize];
                let body = self.random(64);
                prefixed(size, &body)
            }
            Attack::Unfinished => {
                let api = self.any_version();
                let body = self.whole(api);
                let more = 1 + self.chance.below(1 << 20) as i32;
                prefixed(body.len() as i32 + more, &body)
            }
            Attack::Truncated => {
                let api = self.any_version();
                let mut body = self.whole(api);
                let keep = self.chance.below(body.len() as u64) as usize;
                body.truncate(keep);
                prefixed(body.len() as i32, &body)
            }
            Attack::OldVersion => self.old_version(),
            Attack::Counts => {
                let api = self.any_version();
                let nth = 1 + self.chance.below(3) as u32;
                let body = self.body(api, Some(nth), 0);
                prefixed(body.len() as i32, &body)
            }
            Attack::Damaged => {
                let api = self.any_version();
                let mut body = self.whole(api);
                // Past the key: what a damaged request of another API does is that API's own.
                for _ in 0..=self.chance.below(4) {
                    let at = 2 + self.chance.below(body.len() as u64 - 2) as usize;
                    body[at] ^= 1 << self.chance.below(8);
                }
                prefixed(body.len() as i32, &body)
            }
            Attack::Stale => {
                let api = self.any_version();
                let body = self.whole(api);
                prefixed(body.len() as i32, &body)
            }
            Attack::Large => {
                let api = self.any_version();
                let body = self.body(api, None, LARGE);
                prefixed(body.len() as i32, &body)
            }
        }
    }

    fn any_version(&mut self) -> (ApiKey, i16) {
        let key = HARMLESS[self.chance.below(HARMLESS.len() as u64) as usize];
        let versions = Schema::request(key).versions;
        let span = (versions.max - versions.min) as u64 + 1;
        (key, versions.min + self.chance.below(span) as i16)
    }

    fn old_version(&mut self) -> BytesMut {
        let (key, version) = self.any_version();
        let mut body = self.whole((key, version));
        if self.chance.below(2) == 0 {
            let key = self.chance.below(1 << 16) as i16;
            // An API that is known comes in a version that is not.
            body[..2].copy_from_slice(&key.to_be_bytes());
        }
        let version = match self.chance.below(3) {
            0 => -1,
            1 => i16::MAX,
            _ => Schema::request(key).versions.max + 1 + self.chance.below(50) as i16,
        };
        body[2..4].copy_from_slice(&version.to_be_bytes());
        prefixed(body.len() as i32, &body)
    }

    fn whole(&mut self, api: (ApiKey, i16)) -> BytesMut {
        self.body(api, None, 0)
    }

    /// Header and body. `lie`: the list of that number (counted from 1) says that it is longer than any frame; `large`:
    /// the first text or bytes have that many bytes.
    fn body(&mut self, (key, version): (ApiKey, i16), lie: Option<u32>, large: usize) -> BytesMut {
        let mut out = BytesMut::new();
        self.correlation = self.correlation.wrapping_add(1);
        out.put_i16(key as i16);
        out.put_i16(version);
        out.put_i32(self.correlation);
        let header = key.request_header_version(version);
        if header >= 1 {
            put_text(&mut out, "hostile", false);
        }
        if header >= 2 {
            out.put_u8(0);
        }
        let flexible = key.is_flexible(version);
        let mut writing = Writing { frames: self, out: &mut out, version, flexible, lie, large };
        writing.fields(Schema::request(key).fields, DEPTH);
        out
    }

    fn random(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.chance.below(256) as u8).collect()
    }
}

/// One body while it is written.
struct Writing<'a> {
    frames: &'a mut Frames,
    out: &'a mut BytesMut,
    version: i16,
    flexible: bool,
    lie: Option<u32>,
    large: usize,
}

impl Writing<'_> {
    fn below(&mut self, bound: u64) -> u64 {
        self.frames.chance.below(bound)
    }

    fn fields(&mut self, fields: &[Field], depth: u32) {
        for field in fields {
            if field.tag.is_none() && field.versions.contains(self.version) {
                self.value(field.name, field.ty, depth);
            }
        }
        if self.flexible {
            self.out.put_u8(0);
        }
    }

    fn value(&mut self, name: &str, ty: Type, depth: u32) {
        match ty {
            Type::Bool => {
                let truth = self.below(2) as u8;
                self.out.put_u8(truth);
            }
            Type::Int8 => {
                let n = self.number(name) as i8;
                self.out.put_i8(n);
            }
            Type::Int16 | Type::Uint16 => {
                let n = self.number(name) as i16;
                self.out.put_i16(n);
            }
            Type::Int32 | Type::Uint32 => {
                let n = self.number(name) as i32;
                self.out.put_i32(n);
            }
            Type::Int64 => {
                let n = self.number(name);
                self.out.put_i64(n);
            }
            Type::Float64 => {
                let bits = self.below(u64::MAX);
                self.out.put_u64(bits);
            }
            Type::Uuid => {
                let id = self.frames.random(16);
                self.out.put_slice(&id);
            }
            Type::String => {
                let text = self.text(name);
                put_text(self.out, &text, self.flexible);
            }
            Type::Bytes | Type::Records => {
                let len = std::mem::take(&mut self.large).max(self.below(120) as usize);
                let bytes = self.frames.random(len.min(4_096));
                let bytes: Vec<u8> =
                    bytes.iter().copied().cycle().take(if bytes.is_empty() { 0 } else { len }).collect();
                self.length(bytes.len());
                self.out.put_slice(&bytes);
            }
            Type::Struct(fields) => self.fields(fields, depth),
            Type::Array(element) => self.list(name, *element, depth),
        }
    }

    fn list(&mut self, name: &str, element: Type, depth: u32) {
        if let Some(nth) = &mut self.lie {
            *nth -= 1;
            if *nth == 0 {
                self.lie = None;
                if self.flexible {
                    put_varint(self.out, u32::MAX);
                } else {
                    self.out.put_i32(i32::MAX);
                }
                return;
            }
        }
        let count = if depth == 0 { 0 } else { self.below(3) as usize };
        if self.flexible {
            put_varint(self.out, count as u32 + 1);
        } else {
            self.out.put_i32(count as i32);
        }
        for _ in 0..count {
            self.value(name, element, depth - 1);
        }
    }

    /// Small numbers most of the time: they mean something.
    fn number(&mut self, name: &str) -> i64 {
        match self.below(8) {
            // How long an answer may wait is no threat, but it would keep the connection silent.
            _ if name.ends_with("Ms") => self.below(500) as i64,
            0 => -1,
            1 => i64::MAX,
            2 => i64::MIN,
            3 => self.below(1 << 32) as i64,
            _ => self.below(5) as i64,
        }
    }

    fn text(&mut self, name: &str) -> String {
        let large = std::mem::take(&mut self.large);
        if large > 0 {
            return "x".repeat(large.min(32_000));
        }
        let topics = &self.frames.topics;
        if matches!(name, "Topic" | "Name" | "TopicName" | "Topics" | "TopicNames") && !topics.is_empty() {
            let topics = topics.clone();
            return topics[self.below(topics.len() as u64) as usize].clone();
        }
        match self.below(4) {
            0 => String::new(),
            n => format!("hostile-{n}"),
        }
    }

    fn length(&mut self, len: usize) {
        if self.flexible {
            put_varint(self.out, len as u32 + 1);
        } else {
            self.out.put_i32(len as i32);
        }
    }
}

fn prefixed(size: i32, body: &[u8]) -> BytesMut {
    let mut frame = BytesMut::with_capacity(4 + body.len());
    frame.put_i32(size);
    frame.put_slice(body);
    frame
}

fn put_text(out: &mut BytesMut, text: &str, flexible: bool) {
    if flexible {
        put_varint(out, text.len() as u32 + 1);
    } else {
        out.put_i16(text.len() as i16);
    }
    out.put_slice(text.as_bytes());
}

fn put_varint(out: &mut BytesMut, mut n: u32) {
    while n >= 0x80 {
        out.put_u8(n as u8 | 0x80);
        n >>= 7;
    }
    out.put_u8(n as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::chance::derive;

    /// What is made whole is whole: the generator knows the formats as the decoders do.
    #[test]
    fn stale_requests_can_be_read() {
        let mut frames = Frames::new(derive(1, "test"), vec!["orders".to_owned()]);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..2_000 {
            let api = frames.any_version();
            let body = frames.whole(api);
            let rope = wire::Rope::from(body.freeze());
            let mut reader = wire::Reader::new(&rope);
            wire::frame::RequestHeader::decode(&mut reader).unwrap();
            // What was drawn need not be sensible; but it is read to its end.
            let read = wire::messages::AnyRequest::decode(api.0, api.1, &mut reader);
            if read.is_ok() && reader.finish().is_ok() {
                seen.insert(api);
            }
        }
        assert!(seen.len() > 100, "{}", seen.len());
    }
}
