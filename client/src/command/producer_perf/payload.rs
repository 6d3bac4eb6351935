//! What the records hold: letters by chance, one of a file's payloads by chance, or the record's number.
//!
//! Java's tool draws from a `SplittableRandom` with the seed 0, so that every run sends the same, and so does this one.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use regex::bytes::Regex;

use crate::command::java::pattern_syntax;
use crate::command::session::Exception;

/// `java.util.SplittableRandom`.
#[derive(Clone, Debug)]
struct SplittableRandom {
    seed: u64,
}

impl SplittableRandom {
    fn new(seed: u64) -> SplittableRandom {
        SplittableRandom { seed }
    }

    fn next_i32(&mut self) -> i32 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.seed ^ self.seed >> 33).wrapping_mul(0x62a9_d9ed_7997_05f5);
        ((z ^ z >> 28).wrapping_mul(0xcb24_d0a5_c88c_35b3) >> 32) as i32
    }

    /// `nextInt(bound)`.
    fn below(&mut self, bound: i32) -> i32 {
        let most = bound - 1;
        let drawn = self.next_i32();
        if bound & most == 0 {
            return drawn & most;
        }
        let mut positive = (drawn as u32 >> 1) as i32;
        loop {
            let rest = positive % bound;
            if positive.wrapping_add(most).wrapping_sub(rest) >= 0 {
                return rest;
            }
            positive = (self.next_i32() as u32 >> 1) as i32;
        }
    }
}

#[derive(Clone, Debug)]
enum Source {
    Size(usize),
    File(Vec<Vec<u8>>),
    Monotonic,
}

/// The records' values, one after the other.
#[derive(Clone, Debug)]
pub(super) struct Payloads {
    source: Source,
    random: SplittableRandom,
    current: Vec<u8>,
    /// The sizes of all, if they differ and are not known from the number.
    sizes: Vec<u32>,
}

impl Payloads {
    fn new(source: Source) -> Payloads {
        Payloads { source, random: SplittableRandom::new(0), current: Vec::new(), sizes: Vec::new() }
    }

    /// So many letters each.
    pub fn of_size(size: usize) -> Payloads {
        Payloads::new(Source::Size(size))
    }

    /// The record's number.
    pub fn monotonic() -> Payloads {
        Payloads::new(Source::Monotonic)
    }

    /// One of these each.
    pub fn of_file(payloads: Vec<Vec<u8>>) -> Payloads {
        Payloads::new(Source::File(payloads))
    }

    /// Makes the payload of the next record.
    pub fn next(&mut self, number: u64) {
        self.current.clear();
        match &self.source {
            Source::Size(size) => {
                let random = &mut self.random;
                self.current.extend((0..*size).map(|_| random.below(26) as u8 + b'A'));
            }
            Source::File(payloads) => {
                let at = self.random.below(payloads.len() as i32);
                self.current.extend(&payloads[at as usize]);
                self.sizes.push(self.current.len() as u32);
            }
            Source::Monotonic => self.current.extend(number.to_string().bytes()),
        }
    }

    /// The payload that was made last.
    pub fn current(&self) -> &[u8] {
        &self.current
    }

    /// How large the payload of a record is that was made.
    pub fn size_of(&self, number: u64) -> u64 {
        match &self.source {
            Source::Size(size) => *size as u64,
            Source::File(_) => u64::from(self.sizes[number as usize]),
            Source::Monotonic => u64::from(number.checked_ilog10().unwrap_or(0) + 1),
        }
    }
}

/// The parts of a text between delimiters, which are a regular expression, as `java.util.Scanner` finds them.
pub(super) fn scan(text: &str, delimiter: &str) -> Result<Vec<Vec<u8>>, Exception> {
    let regex = Regex::new(delimiter).map_err(|_| pattern_syntax(delimiter))?;
    let text = String::from(text).into_bytes();
    let (mut tokens, mut at) = (Vec::new(), 0);
    loop {
        // One delimiter is passed over, and the next one ends the token.
        if let Some(found) = regex.find_at(&text, at).filter(|found| found.start() == at) {
            at = found.end();
        }
        if at == text.len() {
            return Ok(tokens);
        }
        let found = regex.find_at(&text, at).filter(|found| !found.is_empty());
        let end = found.map_or(text.len(), |found| found.start());
        tokens.push(text[at..end].to_vec());
        at = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn files_are_taken_apart_as_java_does() {
        let parts = |text: &str, delimiter: &str| -> Vec<String> {
            let parts = scan(text, delimiter).unwrap();
            parts.into_iter().map(|part| String::from_utf8(part).unwrap()).collect()
        };
        assert_eq!(parts("one\ntwo\nthree\n", "\n"), ["one", "two", "three"]);
        assert_eq!(parts("a;b;;c", ";"), ["a", "b", "", "c"]);
        assert_eq!(parts(";a;", ";"), ["a"]);
        assert_eq!(parts("a1b22c", "[0-9]"), ["a", "b", "", "c"]);
        assert!(scan("a", "(").is_err());
    }

    /// As Apache Kafka 4.3.1's tool sent them.
    #[test]
    fn payloads_are_those_of_java() {
        let made = |mut payloads: Payloads, count: u64| -> Vec<String> {
            let mut all = vec![];
            for number in 0..count {
                payloads.next(number);
                assert_eq!(payloads.size_of(number), payloads.current().len() as u64);
                all.push(String::from_utf8(payloads.current().to_vec()).unwrap());
            }
            all
        };
        assert_eq!(made(Payloads::monotonic(), 12)[9..], ["9", "10", "11"]);
        let three = Payloads::of_file(scan("one\ntwo\nthree\n", "\n").unwrap());
        assert_eq!(made(three, 5), ["two", "two", "one", "one", "two"]);
        let four = Payloads::of_file(scan("a;b;;c", ";").unwrap());
        assert_eq!(made(four, 5), ["b", "b", "c", "", ""]);
        assert_eq!(made(Payloads::of_size(10), 2), ["YQHHNEBSEP", "DNSEIFGAMS"]);
    }
}
